"""Requests that a model sends to others and waits for: errors, parameters, outputs, moments."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from asking import bls
from broken_models import CONFIG, both_engines, comparable, reasons, write_models
from comparing import Engines
from patience import wait_until
from probing import expressions, probe
from prometheus_client.parser import text_string_to_metric_families
from test_statistics_on_both import same_counts

from triton_stub import Server
from triton_stub.engines.engine import Engine
from triton_stub.errors import InferenceError

LINES = """
# 3.6-all-outputs
seen(ask("R([T('OUT', np.zeros(2)), T('TOLD', np.ones(1, np.int8))])").exec())
# 3.6-output-order
seen(ask("R([T('TOLD', np.zeros(1)), T('OUT', np.ones(1)), T('TOLD', np.zeros(2))])").exec())
seen(ask("R([T('TOLD', np.zeros(1)), T('OUT', np.ones(1)), T('NO', np.zeros(2))])").exec())
seen(ask("R([T('TOLD', np.zeros(1)), T('OUT', np.ones(1))])", outputs=["OUT"]).exec())
seen(ask("R([T('TOLD', np.zeros(1)), T('OUT', np.ones(1))])", outputs=["OUT", "TOLD", "OUT"]).exec())
seen(ask("R([])").exec()), seen(ask("R([T('OUT', np.ones(1))])", outputs=["TOLD"]).exec())
t = ask("R([T('OUT', np.arange(3.))])").exec().output_tensors()[0]; a = t.as_numpy(); (a.flags.writeable, a.flags.owndata, a is t.as_numpy(), t.is_cpu(), t.shape())
t = ask("R([T('OUT', np.arange(3.))])").exec().output_tensors()[0]; t.as_numpy()[0] = 9; (t.as_numpy(), np.from_dlpack(t))
r = ask("R([T('OUT', np.arange(3.))])").exec(); a = r.output_tensors()[0].as_numpy(); del r; gc.collect(); a
r = ask("R([T('OUT', np.arange(3.))])").exec(); (r.output_tensors() is r.output_tensors(), r.output_tensors()[0] is r.output_tensors()[0], r.error(), r.has_error())
seen(ask("R([T('OUT', np.zeros((0, 3))), T('TOLD', np.array([], object))])").exec())
seen(ask("R([T('OUT', np.array(3.)), T('TOLD', np.array([[b'a'], [b'']], object))])").exec())
[seen(ask(f"R([T('OUT', np.array([[0, 1], [2, 1]]).astype({t!r}))])").exec()) for t in '? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 S3 O'.split()]
# 2.1-saved-once trap-08
a = np.ones(1, np.float32); t = T('X', a); q = ask("told(by_name(request, 'X').as_numpy())", tensors=[t]); first = seen(q.exec()); a[0] = 2; (first, seen(q.exec()), t.as_numpy(), np.from_dlpack(t))
a = np.ones(1, np.float32); t = T('X', a); q = ask("told(by_name(request, 'X').as_numpy())", tensors=[t], model="no"); first = seen(q.exec()); a[0] = 2; (first, np.from_dlpack(t))
# 2.1-copy-is-private trap-07
t = by_name(request, 'X'); t.as_numpy()[0] = 9; seen(ask("told(by_name(request, 'X').as_numpy())", tensors=[t]).exec())
# 2.5-inputs
seen(ask("told([(t.name(), t.as_numpy()) for t in request.inputs()][1:])", tensors=[T('S', np.array([b'abc', b'']))]).exec())
seen(ask("told(sorted((t.name(), t.shape()) for t in request.inputs()))", tensors=[T('S', np.zeros(0, object)), T('X', np.zeros(0, np.float32))]).exec())
seen(ask("told(request.requested_output_names() == {'TOLD', 'OUT'})").exec()), seen(ask("told(request.requested_output_names())", outputs=["TOLD"]).exec())
seen(ask("told((request.request_id(), request.correlation_id(), request.flags(), request.timeout(), request.parameters(), request.trace().get_context()))").exec())
seen(ask("told((request.request_id(), request.correlation_id(), request.flags(), request.timeout()))", request_id="q", correlation_id="c", flags=77, timeout=2**64-1).exec())
# 2.5-correlation-accessor
[seen(ask("told(request.correlation_id())", correlation_id=i).exec()) for i in (True, 2**64-1, "", "x", "ü" * 64)]
seen(ask("told(1)", correlation_id="ü" * 65).exec())
# 2.5-parameters
seen(ask("told(request.parameters())", parameters={"a": 1, "b": True, "c": "ü\\0x", "d": -5, "": 3, "e": "\\t\\n\\\\\\" / \\x7f \\x01 \\u2028"}).exec())
seen(ask("told(request.parameters())", parameters={"sequence_id": 1, "timeout": 3, "triton_x": 3, "priority": 3, "z": 1, "b": 2}).exec())
S = type('S', (str,), {}); I = type('I', (int,), {}); seen(ask("told(request.parameters())", parameters={S("k"): S("v"), "i": I(3)}).exec())
seen(ask("told(request.parameters())", parameters={"a": "\\ud83d\\ude00", "b": "😀"}).exec())
# 3.6-big-parameters
seen(ask("told(request.parameters())", parameters={"a": 2**63-1, "b": -2**63}).exec())
[seen(ask("told(1)", parameters={"a": n}).exec()) for n in (2**63, -2**63-1, 2**64, 2**70)]
[seen(ask("told(1)", parameters={"a": s}).exec()) for s in ("\\ud800", "x\\ud800y", "\\\\\\ud801\\ud802")]
seen(ask("told(1)", parameters={"a\\0b": 1}).exec())
# 3.6-not-ready 3.6-prefix trap-24
seen(ask("1", model="no").exec()), seen(ask("1", model="").exec()), seen(ask("1", model="no\\0x").exec())
[seen(ask("told(1)", model_version=v).exec()) for v in (1, -1, 0, 2, -2, 2**63-1)]
# 3.6-decoupled-callee 3.6-prefix
seen(ask("1", model="called_decoupled").exec())
# 3.6-duplicate-inputs 3.6-prefix
t = T('X', np.zeros(1, np.float32)); seen(ask("1", tensors=[t, t]).exec()), seen(ask("1", tensors=[t, t], request_id="me").exec())
# 3.6-validation 3.6-prefix
seen(Q(inputs=[], requested_output_names=[], model_name="called").exec())
seen(ask("1", outputs=["BAD"]).exec()), seen(ask("1", tensors=[T('NO', np.zeros(1))]).exec())
seen(ask("1", tensors=[T('X', np.zeros(1))]).exec()), seen(ask("1", tensors=[T('X', np.zeros((1, 1), np.float32))], request_id="me").exec())
seen(ask("1", tensors=[T.from_dlpack('B', by_name(request, 'X'))]).exec())
seen(ask("1", tensors=[T('X\\0y', np.zeros(1, np.int8))], request_id="a\\0b").exec())
# 3.6-prefix 3.6-validation
seen(ask("1", model="no", correlation_id="x" * 129, parameters={"a": 2**64}).exec())
seen(ask("1", correlation_id="x" * 129, parameters={"a": 2**64}).exec())
t = T('X', np.zeros(1)); seen(ask("1", parameters={"a": 2**64}, tensors=[t, t]).exec()), seen(ask("1", outputs=["BAD"], tensors=[t, t]).exec()), seen(ask("1", outputs=["BAD"], tensors=[t]).exec())
# 3.6-callee-error 3.6-never-raises trap-24
seen(ask("1 / 0").exec())
seen(ask("3").exec()), seen(ask("R(error=E('only this', E.NOT_FOUND))").exec()), seen(ask("R([T('OUT', np.ones(1))], E('m'))").exec())
r = ask("R(error=E('a\\\\0b'))").exec(); (r.output_tensors(), r.error() is r.error(), type(r.error()), r.error().message())
seen(ask("raise SystemExit(3)").exec())
seen(ask("request.get_response_sender().send(told(3), 1)").exec())
# 2.13-cpu 2.13-default
[seen(ask("told(1)", preferred_memory=pb_utils.PreferredMemory(m, 3)).exec()) for m in (pb_utils.TRITONSERVER_MEMORY_CPU, c.MemoryType(2))]
seen(ask("told(1)", preferred_memory=pb_utils.PreferredMemory(c.MemoryType(7))).exec()), seen(ask("R()", preferred_memory=pb_utils.PreferredMemory(c.MemoryType(7))).exec())
# 3.6-when
x = []; t = threading.Thread(target=lambda: x.append(seen(ask("told(1)").exec()))); t.start(); t.join(); x
from concurrent.futures import ThreadPoolExecutor; p = ThreadPoolExecutor(4); x = list(p.map(lambda n: seen(ask(f"told({n})").exec()), range(8))); p.shutdown(); x
# 3.6-scheduler
from concurrent.futures import ThreadPoolExecutor; p = ThreadPoolExecutor(3); x = list(p.map(lambda _: seen(ask("R([T('TOLD', np.full((1, 1), str(len(requests)).encode(), object))])", model="called_batched").exec()), range(3))); p.shutdown(); x
# 3.6-recursion
seen(ask("r = Q(inputs=[T('A', np.ones(1, np.float32)), T('B', np.ones(1, np.float32))], requested_output_names=[], model_name='add').exec(); told((r.has_error(), [t.as_numpy().tolist() for t in r.output_tensors()]))").exec())
"""  # noqa: E501 - a line is a case


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: bls(engine, line, X=np.arange(3, dtype=np.float32)))


@pytest.mark.rule("3.6-recursion")
def test_a_model_with_two_instances_calls_itself(engines: Engines) -> None:
    inner = "told(by_name(request, 'S').as_numpy().tolist() != [self.instance.encode()])"
    outer = (
        f"code = T('CODE', np.array([{inner!r}], object)); "
        "name = T('S', np.array([self.instance], object)); "
        "Q(inputs=[code, name], requested_output_names=['TOLD'], model_name='called_twice').exec()"
    )
    code = f"seen(ask({outer!r}, model='called_twice').exec())"
    assert "b'True'" in engines.same(lambda engine: bls(engine, code))


@pytest.mark.rule("3.6-recursion")
def test_a_request_that_execute_got_is_sent_on(engines: Engines, tmp_path: Path) -> None:
    """To the model itself, which has another instance, with all that came with it."""

    def body(engine: Engine) -> str:
        second = tmp_path / engine.name
        code = (
            f"second = os.path.exists({str(second)!r}); open({str(second)!r}, 'w').close()\n"
            "facts = (request.parameters(), request.flags(), request.correlation_id(), "
            "request.request_id(), request.timeout(), request.requested_output_names())\n"
            "told(facts) if second else request.exec()"
        )
        fields = "request_id='7', flags=3, correlation_id=9, timeout=8, parameters={'a': 1}"
        return bls(
            engine, f"seen(ask({code!r}, 'called_twice', outputs=['TOLD'], {fields}).exec())"
        )

    assert '{"a":1}' in engines.same(body)


@pytest.mark.rule("3.6-scheduler")
def test_a_request_counts_as_a_clients(engines: Engines) -> None:
    codes = ["told(1)", "1 / 0", "R(error=E('m'))"]
    counts = same_counts(
        engines,
        lambda engine: bls(engine, f"[seen(ask(code).exec()) for code in {codes}]"),
        model="called",
    )
    assert counts["success"] == 2
    assert counts["fail"] == 1


@pytest.mark.newer("25.04", "python_backend src/request_executor.cc: error_code")
@pytest.mark.rule("3.6-error-code")
@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("ask(\"R(error=E('m', E.NOT_FOUND))\")", "NOT_FOUND"),
        ("ask(\"R(error=E('m', E.CANCELLED))\")", "CANCELLED"),
        ('ask("1 / 0")', "INTERNAL"),
        ('ask("1", model="no")', "INTERNAL"),
        ('ask("1", outputs=["BAD"])', "INTERNAL"),
        ('ask("1", model="called_decoupled")', "INTERNAL"),
    ],
)
def test_the_code_of_an_error(stub: Engine, asked: str, code: str) -> None:
    assert bls(stub, f"{asked}.exec().error().code().name") == repr(code)


@pytest.mark.newer("25.02", "python_backend src/request_executor.cc: parameters_string")
@pytest.mark.rule("2.6-parameters-accessor")
@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        ("R([], parameters={'a': 1, 'b': 'ü', 'c': True})", '{"a":1,"b":"ü","c":true}'),
        ("R([])", "{}"),
        ("R(error=E('m'))", ""),
        ("1 / 0", ""),
    ],
)
def test_parameters_of_a_response(stub: Engine, asked: str, parameters: str) -> None:
    assert bls(stub, f"ask({asked!r}).exec().parameters()") == repr(parameters)
    assert bls(stub, f"next(ask({asked!r}).exec(decoupled=True)).parameters()") == repr(parameters)


@pytest.mark.deviation("gpu-memory")
@pytest.mark.rule("2.13-gpu")
def test_gpu_memory_without_a_gpu(engines: Engines) -> None:
    code = (
        "m = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU)\n"
        "r = ask(\"R([T('OUT', np.arange(3.))])\", preferred_memory=m).exec()\n"
        "r.has_error() or [(t.is_cpu(), np.from_dlpack(t)) for t in r.output_tensors()]"
    )
    assert bls(engines.native, code) == "True"
    assert bls(engines.stub, code) == "[(False, array([0., 1., 2.]))]"


@pytest.mark.deviation("early-answer")
@pytest.mark.rule("3.6-never-raises")
def test_an_answer_in_two_steps(stub: Engine) -> None:
    answer = "s = request.get_response_sender(); s.send(told(3)); s.send(flags=1)"
    told = bls(stub, f"seen(ask({answer!r}).exec())")
    assert "without the final flag: the real server gives the response to the other model" in told


# Moments

MOMENTS = """
import numpy as np
import c_python_backend_utils as c
import triton_python_backend_utils as pb_utils

def ask(model):
    T = c.Tensor
    ones = [T(name, np.ones(1, np.float32)) for name in "AB"]
    request = c.InferenceRequest(inputs=ones, requested_output_names=[], model_name=model)
    return request.exec()

class TritonPythonModel:
"""
EXECUTE = """
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.ones(1, np.float32))])]
"""
TOO_EARLY = {
    "at_import": MOMENTS.replace("class ", "ask('add')\nclass ") + EXECUTE,
    "in_auto_complete": MOMENTS
    + "    @staticmethod\n    def auto_complete_config(config):\n        ask('add')\n"
    + EXECUTE,
    "in_constructor": MOMENTS + "    def __init__(self):\n        ask('add')\n" + EXECUTE,
    "in_initialize": MOMENTS + "    def initialize(self, args):\n        ask('add')\n" + EXECUTE,
    "in_initialize_decoupled": MOMENTS.replace("exec()", "exec(decoupled=True)")
    + "    def initialize(self, args):\n        ask('add')\n"
    + EXECUTE,
}


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Engines]]:
    folder = tmp_path_factory.mktemp("early")
    write_models(folder, TOO_EARLY)
    with both_engines(folder) as engines:
        yield folder, engines


@pytest.mark.rule("3.6-when", "3.3-bls-in-initialize", "trap-25")
@pytest.mark.parametrize("moment", TOO_EARLY)
def test_too_early(early: tuple[Path, Engines], moment: str) -> None:
    folder, engines = early
    reason = engines.same(lambda engine: comparable(reasons(engine)[moment], folder))
    assert "BLS is only supported during the 'execute' function." in reason


LATE = """
import threading, time

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.ones(1, np.float32))])]

    def finalize(self):
        raise RuntimeError("in finalize: " + told(ask))

def told(call):
    try:
        return repr(call("late"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


@pytest.mark.rule("3.6-when", "3.5-services", "trap-25")
def test_too_late(tmp_path: Path) -> None:
    model = MOMENTS.replace("class TritonPythonModel:\n", "") + LATE
    write_models(tmp_path, {"late": model})
    lines = []
    with both_engines(tmp_path) as engines:
        pass
    for engine in engines:
        (line,) = [line for line in engine.log().splitlines() if "in finalize: " in line]
        lines.append(line.partition("in finalize: ")[2].partition("\\n")[0])
    assert lines[0] == lines[1]
    assert "BLS is only supported during the 'execute' function." in lines[0]


@pytest.mark.rule("3.6-when", "trap-25")
def test_from_a_thread_while_nothing_is_executed(engines: Engines) -> None:
    """It sends when ``execute`` is over, and keeps what comes for the next one."""
    begin = (
        "over = self.kept['over'] = threading.Event(); done = self.kept['done'] = []\n"
        "def work():\n"
        "    over.wait()\n"
        "    done.append(seen(ask('told(1)').exec()))\n"
        "thread = self.kept['thread'] = threading.Thread(target=work)\n"
        "thread.start()"
    )
    release = "threading.Timer(0.1, self.kept['over'].set).start()"
    end = "self.kept.pop('thread').join(); self.kept.pop('done')"

    def body(engine: Engine) -> str:
        bls(engine, begin)
        probe(engine, release)
        return probe(engine, end)

    assert "TOLD" in engines.same(body)


# Circles

CIRCLES = """
import numpy as np
import triton_python_backend_utils as pb_utils

NEXT = {next!r}

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            asked = pb_utils.InferenceRequest(
                inputs=request.inputs(), requested_output_names=["OUT"], model_name=NEXT
            )
            answer = {exec}
            responses.append(pb_utils.InferenceResponse(answer.output_tensors(), answer.error()))
        return responses
"""
WAIT = "asked.exec()"
STREAM = "next(asked.exec(decoupled=True))"


def circle(how: str = WAIT, **following: str) -> dict[str, str]:
    return {name: CIRCLES.format(next=model, exec=how) for name, model in following.items()}


@pytest.mark.deviation("bls-circle")
@pytest.mark.rule("3.6-cycle")
@pytest.mark.parametrize(
    ("following", "how"),
    [
        pytest.param({"a": "a"}, WAIT, id="one"),
        pytest.param({"a": "b", "b": "a"}, WAIT, id="two"),
        pytest.param({"a": "b", "b": "c", "c": "b"}, WAIT, id="three, and one before"),
        pytest.param({"a": "a"}, STREAM, id="a stream"),
    ],
)
def test_models_in_a_circle(tmp_path: Path, following: dict[str, str], how: str) -> None:
    write_models(tmp_path, circle(how, **following))

    def nobody_waits() -> bool:
        return not any(
            sample.value
            for family in text_string_to_metric_families(server.metrics())
            if family.name == "nv_inference_pending_request_count"
            for sample in family.samples
        )

    with Server(tmp_path) as server:
        for model in ("a", *following):
            with pytest.raises(
                InferenceError, match=r"waits for model .*: the real server waits for ever"
            ):
                server.model(model)(IN=np.zeros(1, np.float32))
            # Whoever finds the circle need not be the last in it to end.
            wait_until(nobody_waits)
        # Nobody is executed any more either, or this would not end.


ANSWERS = """
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        (request,) = requests
        ones = [pb_utils.Tensor(name, np.ones(1, np.float32)) for name in ("IN", "OUT")]
        answer = pb_utils.InferenceResponse(ones[1:])
        asked = pb_utils.InferenceRequest(
            inputs=ones[:1], requested_output_names=["OUT"], model_name={asked!r}
        )
        {then}
"""
# Of another model, unless another model asks for it.
OF_B = ANSWERS.format(
    asked="b",
    then="return [answer if request.inputs()[0].as_numpy() else asked.exec()]",
)
BY_SENDER = "request.get_response_sender().send(asked.exec(), 1)"
BY_A_THREAD = (
    "thread = threading.Timer(0.2, request.get_response_sender().send, [answer, 1])\n"
    "        thread.start(); asked.exec(); thread.join()"
)


@pytest.mark.deviation("bls-circle")
@pytest.mark.rule("3.6-cycle")
def test_a_circle_with_a_sender(tmp_path: Path) -> None:
    write_models(tmp_path, {"a": OF_B, "b": ANSWERS.format(asked="a", then=BY_SENDER)})
    with (
        Server(tmp_path) as server,
        pytest.raises(InferenceError, match="the real server waits for ever"),
    ):
        server.model("a")(IN=np.zeros(1, np.float32))


@pytest.mark.rule("3.6-recursion")
def test_a_thread_that_answers_breaks_the_circle(tmp_path: Path) -> None:
    """It answers the first model, which then can answer the second one."""
    write_models(tmp_path, {"a": OF_B, "b": ANSWERS.format(asked="a", then=BY_A_THREAD)})
    with both_engines(tmp_path) as engines:
        ask = partial(ask_once, model="a")
        assert engines.same(ask)["OUT"]["values"] == [1.0]


@pytest.mark.deviation("bls-circle")
@pytest.mark.rule("3.6-cycle")
def test_two_instances_that_call_each_other(tmp_path: Path) -> None:
    """Each of them could take the other's request, if it did not wait itself."""
    two = CONFIG + "instance_group { count: 2 kind: KIND_CPU }"
    write_models(tmp_path, circle(a="a"), two)
    with Server(tmp_path) as server:
        errors: list[str] = []

        def ask() -> None:
            try:
                server.model("a")(IN=np.zeros(1, np.float32))
            except Exception as error:  # noqa: BLE001
                errors.append(str(error))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 2
        assert all("the real server waits for ever" in error for error in errors)


def ask_once(engine: Engine, model: str) -> dict[str, np.ndarray]:
    return dict(engine.infer(model, IN=np.zeros(1, np.float32)))


@pytest.mark.rule("3.6-recursion")
def test_a_chain_of_models_is_no_circle(tmp_path: Path) -> None:
    """The last one answers itself; the same models are asked from several sides at once."""
    write_models(tmp_path, {**circle(a="b", b="c"), "c": MOMENTS + EXECUTE})
    with both_engines(tmp_path) as engines:
        for model in "abc":
            engines.same(
                lambda engine, model=model: dict(engine.infer(model, IN=np.zeros(1, "f4")))
            )
