"""Metrics of models: what their objects do, and what the page of metrics says of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import CONFIG, write_models
from conftest import MODELS
from mortal import MortalEngines, control, custom_metrics, touch
from probing import expressions, probe

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

_NUMBERS = itertools.count()

# Before each line: families and metrics of names that no other case has, one of each kind.
GIVEN = """
F = pb_utils.MetricFamily
f, g, h = (F(f'{kind}_N', 'd', getattr(F, kind.upper())) for kind in ('counter', 'gauge', 'histogram'))
count, gauge = f.Metric({'q': '1'}), g.Metric({'q': '1'})
histogram = h.Metric({'q': '1'}, [1, 2])
"""  # noqa: E501

LINES = """
# 1.3-metric-family
F(name='n_N', description='d', kind=F.GAUGE)
F('n_N', 'd', kind=c.MetricKind.HISTOGRAM)
F.COUNTER, F.GAUGE, F.HISTOGRAM
F('n_N', 'd', F.COUNTER).COUNTER
[name for name in dir(F) if name[0] != '_']
f.Metric({'a': '1'}), f.Metric(labels={'a': '1'}, buckets=None), h.Metric({'a': '1'}, [1])
f.Metric({'a': '1'}, None, 1)
f.Metric(label=1)
f.x = 1
copy.copy(f)
F()
F('n_N', 'd')
F('n_N', 'd', F.COUNTER, 1)
F('n_N', None, F.COUNTER)
F(3, 'd', F.COUNTER)
F(name='n_N', description='d')
F(b'n_N', b'd', F.COUNTER)
# 1.3-metric
[name for name in dir(c.Metric) if name[0] != '_']
c.Metric()
c.Metric('a')
count.increment(value=1)
count.increment(arg0=1)
count.increment()
count.increment(1, 2)
count.value(1)
count.increment(3), gauge.set(3), histogram.observe(3)
count
# 1.3-metric 2.11-numbers
count.increment('1')
count.increment(None)
count.increment(1j)
count.increment([1])
count.increment(b'1')
count.increment(10**400)
count.increment(np.float32(1)), count.increment(np.int8(1)), count.increment(np.array(2.5)), count.value()
count.increment(True), count.value(), type(count.value())
count.increment(np.zeros(2))
count.increment(type('I', (), {'__index__': lambda self: 3})()), count.value()
count.increment(type('I', (), {'__float__': lambda self: 3.5})()), count.value()
count.increment(type('I', (), {'__float__': lambda self: 1 / 0})())
count.increment(type('I', (), {'__int__': lambda self: 3})())
count.increment(type('I', (str,), {'__float__': lambda self: 3.5})('a')), count.value()
import decimal; count.increment(decimal.Decimal('1.5')), count.value()
# 1.3-metric-kind
c.MetricKind.COUNTER, c.MetricKind.GAUGE, c.MetricKind.HISTOGRAM, c.COUNTER, c.GAUGE, c.HISTOGRAM
c.MetricKind.__members__, c.MetricKind(2), int(c.GAUGE), c.MetricKind(7)
F('n_N', 'd', c.MetricKind(1)).Metric().set(2)
F('n_N', 'd', c.MetricKind(7))
F(f'counter_N', 'd', c.MetricKind(7))
# 2.11-same-family
a, b = F('n_N', 'd', F.COUNTER), F('n_N', 'e', F.COUNTER); a is b, a == b
a, b = (F('n_N', 'd', F.COUNTER).Metric for _ in 'ab'); x, y = a(), b(); x.increment(2); y.value(), x is y
# 2.11-other-kind
F('counter_N', 'd', F.GAUGE)
F('gauge_N', 'd', F.HISTOGRAM)
F('n_N', 'd', F.HISTOGRAM) and F('n_N', 'd', F.COUNTER)
# 2.11-family-name
F('', 'd', F.COUNTER)
F('bad name', 'd', F.COUNTER)
F('1a', 'd', F.COUNTER)
F('a-b', 'd', F.COUNTER)
F('__a', 'd', F.COUNTER)
F('ä', 'd', F.COUNTER)
F(':a:b_N', 'd', F.COUNTER), F('_a_N', 'd', F.COUNTER), F('A9_N', 'd', F.COUNTER)
F('n_N\\0-', 'd\\0e', F.COUNTER)
F('\\0', 'd', F.COUNTER)
F(b'\\xff', 'd', F.COUNTER)
# 2.11-kind-type
F('n_N', 'd', 0)
F('n_N', 'd', 'COUNTER')
F('n_N', 'd', None)
# 2.11-labels-type trap-30
f.Metric([])
f.Metric(3)
f.Metric('a')
f.Metric((('a', 'b'),))
import collections; f.Metric(collections.OrderedDict(a='1'))
import types; f.Metric(types.MappingProxyType({'a': '1'}))
f.Metric({'a': b'x'})
f.Metric({(1, 2): 'x'})
d = {}; d['a'] = d; f.Metric(d)
# 2.11-buckets-type trap-30
h.Metric({'a': '1'}, (1, 2))
h.Metric({'a': '1'}, range(2))
h.Metric({'a': '1'}, np.array([1., 2.]))
f.Metric({'a': '1'}, ())
h.Metric({'a': '1'}, type('L', (list,), {})([1, 2]))
# 2.11-unexpected-buckets
f.Metric({'a': '1'}, [1])
f.Metric({'a': '1'}, [])
g.Metric({'a': '1'}, ['x'])
# 2.11-missing-buckets
h.Metric({'a': '1'})
h.Metric()
# 2.11-bucket-elements
h.Metric({'a': '1'}, ['x'])
h.Metric({'a': '1'}, ['1'])
h.Metric({'a': '1'}, [1, None])
h.Metric({'a': '1'}, [1j])
h.Metric({'a': '1'}, [[1]])
h.Metric({'a': '1'}, [10**400])
h.Metric({'a': '1'}, [True, 2, 2.5, np.float32(3), np.int64(4), float('inf')])
h.Metric([], ['x'])
h.Metric({'a': 1}, ['x'])
# 2.11-bucket-order trap-30
h.Metric({'a': '1'}, [2, 1])
h.Metric({'a': '1'}, [1, 1])
h.Metric({'a': '1'}, [1, 2, 2])
h.Metric({'a': '1'}, [0.0, -0.0])
h.Metric({'bad label': '1'}, [2, 1])
h.Metric({'q': '1'}, [2, 1])
h.Metric({'a': '1'}, [float('nan'), 1])
h.Metric({'a': '1'}, [1, float('nan'), 0])
# 2.11-label-values trap-30
f.Metric({'a': 1})
f.Metric({'a': None})
f.Metric({'a': True})
f.Metric({'a': float('nan')})
f.Metric({'a': ['x']})
f.Metric({'a': {}})
f.Metric({'a': 'x', 'b': 2, 'bad label': 'y'})
f.Metric({'a': 'x', 'bad label': 'y', 'b': 2})
f.Metric({'a': '\\ud800'})
f.Metric({'b': '\\\\\\ud83d\\ude00"', 'a': '\\ud83d\\ude00\\udc00x'})
f.Metric({'a': '\\ud83d'})
f.Metric({'a': '\\udc00'})
f.Metric({'a': '\\ud83d\\ud83d'})
f.Metric({'a\\0b': 'x'})
f.Metric({'a\\0b': 'x', 'a': 'y'})
f.Metric({'a': 'x\\0y'})
f.Metric({'a': ''}), f.Metric({'a': 'é😀\\\\"\\n'})
f.Metric({True: 'x', 'true': 'y'}), f.Metric({None: 'x'})
# 2.11-label-names
f.Metric({'bad label': 'x'})
f.Metric({1: 'x'})
f.Metric({'': 'x'})
f.Metric({'__a': 'x'})
f.Metric({'a:b': 'x'})
f.Metric({'ä': 'x'})
f.Metric({'_a': 'x', 'A9_': 'y'})
h.Metric({'le': 'x'}, [1]), f.Metric({'le': 'x', 'quantile': 'y'})
# 2.11-same-labels trap-30
other = f.Metric({'q': '1'}); count.increment(2); other is count, other == count, other.value()
a, b = f.Metric({'a': '1', 'b': '2'}), f.Metric({'b': '2', 'a': '1'}); a.increment(1); b.value()
a, b = f.Metric({'a': '1'}), f.Metric({'a': '2'}); a.increment(1); b.value()
a, b = f.Metric({'a': 'x\\0y'}), f.Metric({'a': 'x'}); a.increment(1); b.value()
a, b = f.Metric(), f.Metric({}); a.increment(1); b.value()
# 2.11-no-arguments
f.Metric().value(), f.Metric(None, None).value(), g.Metric().value(), h.Metric(buckets=[])
# 2.11-counter trap-30
count.value(), count.increment(0.1), count.increment(0.2), count.value()
count.increment(-1)
count.increment(-5e-324)
count.increment(-0.0), count.increment(0), count.value()
count.increment(float('nan')), count.value()
count.increment(float('inf')), count.value()
count.increment(float('-inf'))
count.set(1)
count.observe(1)
# 2.11-gauge trap-30
gauge.set(2.5), gauge.increment(-5), gauge.value()
gauge.set(float('nan')), gauge.value(), gauge.set(float('-inf')), gauge.value(), gauge.set(-0.0), gauge.value()
gauge.increment(1e308), gauge.increment(1e308), gauge.value()
gauge.observe(1)
# 2.11-histogram trap-30
histogram.observe(1), histogram.observe(-1), histogram.observe(float('nan'))
histogram.increment(1)
histogram.increment(-1)
histogram.set(1)
histogram.value()
# 2.11-deleted-family trap-30
F('n_N', 'd', F.COUNTER).Metric({'a': 'b'}).increment(1)
del f; count.increment(1)
del g; gauge.set(1)
del h; histogram.observe(1)
del g; gauge.value()
del f; count.increment('1')
del f; count.set(1)
F = [f]; del f; count.increment(1), count.value()
"""  # noqa: E501


@pytest.fixture(scope="module")
def engines() -> Iterator[MortalEngines]:
    """Both engines with the model that runs code."""
    with MortalEngines(MODELS, ["probe"]) as both:
        yield both


def case(code: str, number: int = 0) -> str:
    """Code with names of families that no other case has."""
    return code.replace("_N", f"_{number or next(_NUMBERS)}")


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: MortalEngines, line: str) -> None:
    code = case(GIVEN + line)
    engines.same(lambda engine: probe(engine, code))


@pytest.mark.rule("2.11-deleted-family", "2.11-deleted-series")
def test_a_family_in_a_circle_goes_with_a_collection_of_garbage(engines: MortalEngines) -> None:
    code = case(GIVEN + "c = [f]; c.append(c); del c, f; gc.collect(); count.value()")
    engines.same(lambda engine: probe(engine, code))


# Before each step: three families that live until the case ends.
KEPT = """
F, k = pb_utils.MetricFamily, self.kept
for name in ('counter', 'gauge', 'histogram'):
    k.setdefault(name, k.get(name) or F(name + '_N', f'a {name}', getattr(F, name.upper())))
f, g, h = k['counter'], k['gauge'], k['histogram']
"""


def pages(engine: Engine, steps: list[str]) -> list[tuple[str, str]]:
    """After each step: what it told, and the page."""
    try:
        return [(probe(engine, step), custom_metrics(engine)) for step in steps]
    finally:
        probe(engine, "self.kept.clear()")


@pytest.mark.rule("2.11-page", "2.11-everywhere")
@pytest.mark.parametrize(
    "steps",
    [
        ["f", "f.Metric().increment(0.1)", "f.Metric({'b': '1', 'a': '2'}).increment(1e20)"],
        ["k['f'] = F('help_N', 'two\\nlines \\\\ \"', F.COUNTER); k['f'].Metric()"],
        ["k['f'] = F('nohelp_N', '', F.GAUGE); k['f'].Metric()"],
        ["k['f'] = F('help_N', 'd\\0e', F.GAUGE); k['f'].Metric({'a': 'x\\0y'}).set(1)"],
        [
            "k['f'] = [F('two_N', text, F.GAUGE) for text in ('first', 'second')]",
            "k['f'][1].Metric()",
        ],
        [
            "h.Metric({'a': '1'}, [0.1, 1, 2.5e10]).observe(0.1)",
            "h.Metric({'a': '1'}, [7]).observe(5)",
            "h.Metric({'le': '1'}, []).observe(3)",
        ],
        [
            "h.Metric({}, [float('-inf'), 0, float('inf')]).observe(float('inf'))",
            "h.Metric({}, [1]).observe(float('nan'))",
            "h.Metric({'b': ''}, [float('nan'), 1])",
        ],
        ["h.Metric({}, [1e-300, 1e-7, 1 / 3, 1e15, 1e16, 1e17, 123456789012345678])"],
        [
            "for v in (1 / 3, 1e15, 1e16, 1e17, 1e-4, 1e-5, 5e-324, 2**53, -1.5, 0.1 + 0.2):\n"
            "    g.Metric({'v': repr(v)}).set(v)",
            "for v in ('nan', 'inf', '-inf', '-0.0'): g.Metric({'v': v}).set(float(v))",
        ],
        [
            "f.Metric({'a': '\\\\ \" \\n é 😀 {}'})",
            "f.Metric({'A': '', '_b': ' ', 'a': '\\t'})",
            "f.Metric({True: 'x', 'true': 'y', 'a\\0b': 'z', 'a': 'a'})",
        ],
        [
            "g.Metric()",
            "f.Metric()",
            "h.Metric({}, [])",
            "k['f'] = F('another_N', 'd', F.COUNTER); k['f'].Metric()",
        ],
        [
            f"[f.Metric({{'n': str(n)}}).increment(n) for n in range({count})]; None"
            for count in (13, 14, 29, 30, 60)
        ],
        ["[f.Metric({'x' * n: 'y' * n, 'b': '1'}).increment(n) for n in range(1, 40)]; None"],
    ],
)
def test_the_page(engines: MortalEngines, steps: list[str]) -> None:
    number = next(_NUMBERS)
    steps = [case(KEPT + step, number) for step in steps]
    told = engines.same(lambda engine: pages(engine, steps))
    assert "# TYPE" in told[-1][1]


@pytest.mark.rule("2.11-deleted-series")
def test_series_go_with_their_family_and_not_with_their_metric(engines: MortalEngines) -> None:
    number = next(_NUMBERS)
    steps = [
        "k['m'] = f.Metric({'a': '1'})",
        "k['n'] = f.Metric({'a': '1'})",
        "del k['m']; k['n'].increment(2)",
        "del k['n']",
        "f.Metric({'a': '1'}).value()",
        "k['m'] = f.Metric({'a': '1'}); k['counter'] = 0; del f",
        "k['m'].value()",
        "k['counter'] = F('counter_N', '', F.COUNTER); k['counter'].Metric({'a': '1'}).value()",
    ]
    steps = [case(KEPT + step, number) for step in steps]
    told = engines.same(lambda engine: pages(engine, steps))
    assert ["# TYPE" in page for _, page in told] == [True] * 5 + [False] * 2 + [True]


@pytest.mark.rule("2.11-deleted-series", "2.11-page")
def test_the_order_after_some_series_have_gone(engines: MortalEngines) -> None:
    number = next(_NUMBERS)
    steps = [
        "k['x'] = F('counter_N', '', F.COUNTER); "
        "k['y'] = [k['x'].Metric({'n': str(n)}) for n in range(0, 30, 2)]",
        "[f.Metric({'n': str(n)}) for n in range(1, 30, 2)]; None",
        "k.pop('x'); k.pop('y'); None",
        "[f.Metric({'n': str(n)}) for n in range(100, 140)]; None",
    ]
    steps = [case(KEPT + step, number) for step in steps]
    engines.same(lambda engine: pages(engine, steps))


@pytest.mark.rule("2.11-two-families")
def test_two_objects_of_one_family(engines: MortalEngines) -> None:
    number = next(_NUMBERS)
    steps = [
        "k['x'] = F('counter_N', '', F.COUNTER); k['m'] = k['x'].Metric({'a': '1'}); "
        "f.Metric({'a': '1'}).increment(2); k['m'].value()",
        "f.Metric({'b': '1'}); k.pop('x'); None",
        "k['m'].value()",
        "f.Metric({'a': '1'}).value()",
    ]
    steps = [case(KEPT + step, number) for step in steps]
    told = engines.same(lambda engine: pages(engine, steps))
    assert ['a="1"' in page for _, page in told] == [True, False, False, True]


@pytest.mark.rule("2.11-two-families")
@pytest.mark.deviation("removed-series")
@pytest.mark.parametrize("operation", ["value()", "increment(1)"])
def test_a_metric_whose_series_was_removed(engines: MortalEngines, operation: str) -> None:
    code = case(
        "F = pb_utils.MetricFamily; f, g = (F('counter_N', '', F.COUNTER) for _ in 'ab'); "
        f"m, n = f.Metric(), g.Metric(); del f; n.{operation}"
    )
    told = probe(engines.stub, code)
    assert deviations.REMOVED_SERIES.server in told
    assert "Keep one MetricFamily object" in told


@pytest.mark.rule("2.11-errors-only-raise")
@pytest.mark.deviation("control-error")
def test_errors_in_a_row_harm_nobody(engines: MortalEngines) -> None:
    code = """
n = 0
for _ in range(100):
    try:
        pb_utils.MetricFamily('', '', c.COUNTER)
    except pb_utils.TritonModelException:
        n += 1
n
"""
    assert probe(engines.stub, code) == "100"


LIFE = """
import numpy as np
import triton_python_backend_utils as pb_utils

def made():
    family = pb_utils.MetricFamily("NAME", "d", pb_utils.MetricFamily.COUNTER)
    metric = family.Metric({"a": "1"})
    metric.increment(1)
    return family, metric

class TritonPythonModel:
    def execute(self, requests):
        self.m.increment(10)
        out = pb_utils.Tensor("OUT", np.array([self.m.value()], np.float32))
        return [pb_utils.InferenceResponse([out])]
"""
INITIALIZE = """
    def initialize(self, args):
        self.f, self.m = made()
"""
LIVES = {
    "keeps": INITIALIZE,
    "many": INITIALIZE,
    "finalizes": INITIALIZE + "    def finalize(self): self.m.increment(100)",
    "reloaded": INITIALIZE + "    def finalize(self): self.m.increment(100)",
    "deletes": INITIALIZE + "    def finalize(self): del self.f",
    "finalizes_badly": INITIALIZE + "    def finalize(self): del self.f; raise ValueError",
    "forgets": "    def initialize(self, args): self.m = made()[1]",
    "late": "    def initialize(self, args): pass\n    def finalize(self): self.f = made()",
    "later": "    def initialize(self, args): pass\n    def finalize(self): made()",
    "fails": INITIALIZE + "        raise ValueError('no')",
    "global": "    def initialize(self, args):\n        global F\n        F, self.m = made()",
}
LASTING = {"keeps", "many", "finalizes", "reloaded", "late", "fails", "global"}
IN = np.ones(1, np.float32)


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalEngines]:
    """Both engines with models that count at each moment of their lives; none is loaded."""
    repository = tmp_path_factory.mktemp("lives")
    for name, body in LIVES.items():
        config = CONFIG + "instance_group { count: 2 }" if name == "many" else CONFIG
        write_models(repository, {name: (LIFE + body).replace("NAME", name)}, config)
    cached = CONFIG + "response_cache { enable: true }"
    write_models(repository, {"cached": (LIFE + INITIALIZE).replace("NAME", "cached")}, cached)
    with MortalEngines(repository, []) as both:
        yield both


def page_of(engine: Engine, name: str) -> str:
    lines = custom_metrics(engine).splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(f'{name}{{a="1"}}'))


@pytest.mark.rule("2.11-everywhere", "2.11-unloaded")
@pytest.mark.parametrize("name", sorted(LIVES.keys() - {"reloaded"}))
def test_the_life_of_a_model(lives: MortalEngines, name: str) -> None:
    def live(engine: Engine) -> list[Any]:
        told: list[Any] = []
        for _ in range(2):
            told += [control(engine, "load", name), page_of(engine, name)]
            if name in ("keeps", "many", "finalizes", "global", "deletes"):
                told += [engine.infer(name, IN=IN)["OUT"] for _ in range(2)]
                told.append(page_of(engine, name))
            told += [control(engine, "unload", name), page_of(engine, name)]
        return told

    told = lives.same(live)
    # What is not deleted stays, and goes on counting.
    assert (told[-1] != "") == (name in LASTING)


@pytest.mark.rule("2.11-unloaded")
def test_a_model_that_is_loaded_again_goes_on_counting(lives: MortalEngines) -> None:
    def live(engine: Engine) -> list[Any]:
        told = [control(engine, "load", "reloaded"), page_of(engine, "reloaded")]
        touch(lives.repository / "reloaded" / "1" / "model.py")
        told.append(control(engine, "load", "reloaded", replaces=True))
        return [*told, page_of(engine, "reloaded")]

    lives.same(live)


@pytest.mark.rule("4.16-cache-families")
def test_the_cache_of_a_model_on_a_server_without(lives: MortalEngines) -> None:
    def series(engine: Engine) -> list[str]:
        control(engine, "load", "cached")
        engine.infer("cached", IN=IN)
        return [line for line in engine.metrics().splitlines() if line.startswith("nv_cache")]

    assert len(lives.same(series)) == 4


TOO_EARLY = {
    "import": "from c_python_backend_utils import MetricFamily, COUNTER\n"
    "f = MetricFamily('x', '', COUNTER)\n",
    "constructor": "    def __init__(self):\n        made()\n",
    "complete": "    @staticmethod\n    def auto_complete_config(config):\n        made()\n",
    "ready": "    def __init__(self):\n        pb_utils.is_model_ready('m')\n",
    "load": "    def __init__(self):\n        pb_utils.load_model('m')\n",
    "unload": "    def __init__(self):\n        pb_utils.unload_model('m')\n",
}


@pytest.mark.rule("2.11-too-early")
@pytest.mark.deviation("too-early")
@pytest.mark.parametrize("moment", TOO_EARLY)
def test_before_initialize(tmp_path: Path, moment: str) -> None:
    text = TOO_EARLY[moment]
    model = text + LIFE if moment == "import" else LIFE + text
    write_models(tmp_path, {"model": model})
    with StubEngine(tmp_path, models=[], exit_on_error=False) as engine:
        error = control(engine, "load", "model")
    assert deviations.TOO_EARLY.server in error
    assert "Do it in initialize." in error
