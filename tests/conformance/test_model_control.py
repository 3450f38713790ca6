"""Models that load, unload and ask for other models; and when a model is loaded again."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import CONFIG, write_models
from conftest import MODELS
from mortal import MortalEngines, control, touch, wait_until
from probing import expressions, probe

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

IN = np.ones(1, np.float32)
# Every model writes down, in EVENTS, that it begins or ends, and runs code when it does.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

def run(code, args):
    names = {"pb": pb_utils, "args": args}
    try:
        exec(code, names)
        return names.get("told")
    except pb_utils.TritonModelException as error:
        return str(error)

def note(*words):
    with open("EVENTS", "a") as file:
        print(*words, file=file)

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.told = run(BEGIN, args)
        note("TEXT", args["model_name"], args["model_version"], "begins")

    def execute(self, requests):
        out = pb_utils.Tensor("OUT", np.array([repr(self.told).encode()], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]

    def finalize(self):
        told = run(END, self.args)
        note("TEXT", self.args["model_name"], self.args["model_version"], "ends", told)
"""


class World:
    """A repository for both engines, and what happened to its models."""

    def __init__(self, folder: Path) -> None:
        self.events = folder / "events"
        self.repository = folder / "models"
        for name in ("probe", "probe_async"):
            shutil.copytree(MODELS / name, self.repository / name)

    def add(self, name: str, *, text: str = "disk", config: str = CONFIG, versions: int = 1,
            begin: str = "", end: str = "") -> None:  # fmt: skip
        """Write a model, whose initialize and finalize run code."""
        code = self.code(text, begin, end)
        files = {f"{version}/model.py": code for version in range(1, versions + 1)}
        write_models(self.repository, {name: files}, config)

    def code(self, text: str, begin: str = "", end: str = "") -> str:
        """The text of a ``model.py``."""
        code = MODEL.replace("EVENTS", str(self.events)).replace("TEXT", text)
        return code.replace("BEGIN", repr(begin)).replace("END", repr(end))

    def happened(self, count: int) -> list[str]:
        """What happened since this was asked last, as soon as it is so much."""
        wait_until(lambda: self.events.exists() and len(self._lines()) >= count or not count)
        lines = self._lines() if self.events.exists() else []
        self.events.unlink(missing_ok=True)
        return lines

    def _lines(self) -> list[str]:
        return self.events.read_text().splitlines()


JSON = {
    "backend": "python",
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]}],
}
OTHER_JSON = {**JSON, "parameters": {"k": {"string_value": "v"}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    world.add("good")
    world.add("two", versions=2, config=CONFIG + "version_policy { all { } }")
    world.add("bad", begin="raise ValueError('boo')")
    world.add("garbled", config="nonsense: 1")
    (world.repository / "empty").mkdir()
    (world.repository / "empty" / "config.pbtxt").write_text(CONFIG)
    return world


@pytest.fixture(scope="module")
def engines(world: World) -> Iterator[MortalEngines]:
    """Both engines; only the model that runs code is loaded."""
    with MortalEngines(world.repository, ["probe"]) as both:
        yield both


NAMES = ("good", "two", "bad", "garbled", "empty", "new")
GIVEN = f"""
LM, UM, RM = pb_utils.load_model, pb_utils.unload_model, pb_utils.is_model_ready
J, O = {json.dumps(JSON)!r}, {json.dumps(OTHER_JSON)!r}
for name in {NAMES}: UM(name)
"""
LINES = """
# 1.2-load-model 2.12-arguments
LM('good')
LM(model_name='good', config='', files=None)
LM('good', J, None)
LM(b'good', b'')
LM('go\\0od')
LM('good\\0x')
LM()
LM(None)
LM(1)
LM('good', None)
LM('good', config=1)
LM('good', '', None, 1)
LM(name='good')
# 1.2-unload-model 2.12-arguments
UM('good'), UM(model_name='good', unload_dependents=True), UM(b'good', 1), UM('good', [])
UM('good', np.bool_(True))
UM()
UM(None)
UM('good', None)
UM('good', 'x')
UM('good', 0.0)
UM('good', unload_dependents=object())
UM('good', False, 1)
# 1.2-is-model-ready 2.12-arguments
RM('probe'), RM('probe', ''), RM(model_name='probe', model_version='1'), RM(b'probe', b'1')
RM()
RM('probe', 1)
RM('probe', None)
RM(1)
RM(name='probe')
# 2.12-unknown
LM('nope')
LM('good ')
LM('events')
LM('..good')
# 2.12-failing
LM('bad')
LM('garbled')
LM('empty')
RM('bad'), RM('bad', '1')
# 2.12-files-type
LM('good', files=[])
LM('good', files='x')
LM('good', '', (('file:1/model.py', b''),))
LM('go\\0od', files=3)
LM('good', J, {'file:1/model.py': 'x'})
LM('good', J, {'file:1/model.py': None})
LM('good', J, {'file:1/model.py': bytearray(b'x')})
LM('good', J, {'file:1/model.py': np.zeros(1)})
LM('good', J, {'file:1/model.py': memoryview(b'x')})
LM('good', J, {'file:1/model.py': c.COUNTER})
LM('good', J, {1: b'x'})
LM('good', J, {None: b'x'})
LM('good', J, {'a': b'x', 1: 'x'})
import types; LM('good', J, types.MappingProxyType({}))
# 2.12-files-config
LM('new', files={'file:1/model.py': b''})
LM('new', '', {'file:1/model.py': b''})
LM('good', '', {'1/model.py': b'x'})
LM('good', '', {'config': b'x'})
LM('good', 'x')
LM('good', '[]')
LM('good', '3')
LM('good', '{')
LM('good', '{"nonsense": 1}')
LM('good', '{"name": "other"}')
LM('new', J)
# 2.12-files
LM('new', J, {'file:1/model.py': b'raise ValueError(5)'})
LM('new', J, {'file:../x/model.py': b''})
LM('new', J, {'file:1/../../x': b''})
LM('new', J, {'file:/x/model.py': b''})
LM('new', J, {'file:model.py': b''})
LM('new', J, {'file:1': b''})
LM('new', J, {'file:1': b'', 'file:1/model.py': b''})
LM('new', J, {'file:': b''})
# 2.12-unload-unknown
UM('nope'), UM(''), UM('good'), UM('a/b'), UM('..')
# 2.12-ready-unknown
RM('nope'), RM('probe', '2'), RM('', ''), RM('good'), RM('prob\\0e'), RM('a/b'), RM('nope', '1')
# 2.12-ready-version
[RM('probe', text) for text in ('1', '1x', ' 1', '\\t\\n\\v\\f\\r 1', '+1', '01', '1.5', '1\\0', '1-')]
[RM('probe', text) for text in ('0', '-0', '0x1', '2', '9223372036854775807')]
RM('probe', 'abc')
RM('probe', ' ')
RM('probe', '-1')
RM('probe', '-9223372036854775808')
RM('probe', '-9223372036854775809')
RM('probe', '9223372036854775808')
RM('probe', '--1')
RM('probe', '+')
RM('probe', 'x1')
RM('probe', '\\xa01')
RM('probe', 'a\\0b')
RM('nope', 'abc')
# 2.12-when
LM('good'), RM('good'), RM('good', '1'), RM('good', '2'), UM('good'), RM('good')
LM('two'), RM('two'), [RM('two', v) for v in '0123'], UM('two'), RM('two', '1')
LM('new', J, {'file:7/model.py': b'class TritonPythonModel: pass'}), RM('new', '7'), RM('new', '1')
"""  # noqa: E501


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: MortalEngines, line: str) -> None:
    def told(engine: Engine) -> str:
        # Models from files that come with the call are in a folder of their own.
        return re.sub(r"  /\S*/(?=\d+/model\.py\()", "  …/", probe(engine, GIVEN + line))

    engines.same(told)
