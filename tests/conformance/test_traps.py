"""The mistakes that an imitation makes first: a case for each, by its number.

Each is shown once, in short; the files of its subject show the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, comparable, reasons, write_models
from comparing import Engines
from probing import probe, probe_sent, probe_stream
from trap_models import MODELS

from triton_stub.engines.engine import Engine
from triton_stub.errors import InferenceError


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traps")
    for name, (model, config) in MODELS.items():
        write_models(folder, {name: model}, config)
    return folder


@pytest.fixture(scope="module")
def own(repository: Path) -> Iterator[Engines]:
    """Both engines with the models of this file."""
    with both_engines(repository) as engines:
        yield engines


def trap(number: int) -> Any:
    return pytest.mark.rule(f"trap-{number:02}")


def code(*lines: str) -> Callable[[Engine], str]:
    return lambda engine: probe(engine, "\n".join(lines), **REQUEST)


IN = np.ones(1, np.float32)
REQUEST: dict[str, Any] = {
    "X": np.arange(3, dtype=np.float32),
    "S": np.array([b"a", "ü".encode()], object),
}


def told(engine: Engine, model: str) -> Any:
    """What a model of this file answers."""
    return json.loads(engine.infer(model, IN=IN)["OUT"][0])


def four(engine: Engine, model: str) -> list[Any]:
    """The answers to four requests at once, in the order of their batch."""

    def ask(_: int) -> Any:
        try:
            return engine.infer(model, IN=IN.reshape(1, 1))["OUT"].tolist()
        except InferenceError as error:
            return error.message

    with ThreadPoolExecutor(4) as pool:
        return sorted(pool.map(ask, range(4)))


@trap(1)
@pytest.mark.rule("1.1-import-from", "1.1-annotation")
@pytest.mark.parametrize("model", ["import_from", "annotation", "constant"])
def test_01_classes_are_not_there_at_import(own: Engines, repository: Path, model: str) -> None:
    reason = own.same(lambda engine: comparable(reasons(engine)[model], repository))
    assert "Error: " in reason


@trap(1)
@pytest.mark.rule("1.1-future-annotations", "1.1-c-module-import")
@pytest.mark.parametrize("model", ["future", "c_import"])
def test_01_classes_that_are_there_at_import(own: Engines, model: str) -> None:
    own.same(lambda engine: told(engine, model))


@trap(2)
@pytest.mark.rule("2.6-unknown-outputs", "2.6-missing-outputs", "2.6-wrong-outputs")
@pytest.mark.parametrize(
    "sent",
    [
        "",
        "T('NO', np.zeros(1))",
        "T('OUT', np.zeros((2, 3), np.int8))",
        "T('OUT', np.array([b'a']))",
    ],
)
def test_02_outputs_are_not_validated(engines: Engines, sent: str) -> None:
    engines.same(lambda engine: probe_sent(engine, f"sent += [{sent}]"))


@trap(2)
@pytest.mark.rule("2.6-duplicate-outputs")
def test_02_two_outputs_of_one_name(engines: Engines) -> None:
    sent = "sent += [T('OUT', np.zeros(1)), T('OUT', np.ones(1))]"
    engines.same(lambda engine: probe_sent(engine, sent))


@trap(3)
@pytest.mark.rule("2.6-pruning", "2.5-requested-names")
def test_03_pruning_changes_the_response(own: Engines) -> None:
    def names(engine: Engine) -> list[str]:
        engine.infer("pruned", IN=IN, outputs=["OUT"])
        left: list[str] = json.loads(engine.infer("pruned", IN=IN)["OUT"][0])
        return left

    assert own.same(names) == ["OUT"]


@trap(3)
@pytest.mark.parametrize("outputs", [[], ["TOLD"], ["OUT", "TOLD"]])
def test_03_requested_names_are_a_set(engines: Engines, outputs: list[str]) -> None:
    names = "names = request.requested_output_names(); type(names), sorted(names)"
    engines.same(lambda engine: probe(engine, names, outputs=outputs))


@trap(4)
def test_04_accessors(engines: Engines) -> None:
    engines.same(
        code(
            "r = R([T('x', np.zeros(1))])",
            "lists = (request.inputs, r.output_tensors, r.output_tensors()[0].shape)",
            "new = [accessor() is not accessor() for accessor in lists]",
            "new, request.parameters(), request.timeout(), hasattr(request, 'priority')",
        )
    )


@trap(5)
def test_05_an_optional_input_fills_the_count(engines: Engines) -> None:
    (error,) = engines.same(lambda engine: engine.infer("probe", X=REQUEST["X"])["TOLD"])["values"]
    assert b"'NoneType' object has no attribute 'as_numpy'" in error


@trap(6)
@pytest.mark.rule("3.4-list-of-requests")
@pytest.mark.parametrize("model", ["together", "alone"])
def test_06_batches_are_lists_of_requests(own: Engines, model: str) -> None:
    own.same(lambda engine: four(engine, model))


@trap(7)
@pytest.mark.rule("2.1-copy-is-private")
def test_07_received_arrays_are_private(engines: Engines) -> None:
    changed = "x = by_name(request, 'X'); a = x.as_numpy(); a[:] = -1; "
    engines.same(code(changed + "a is x.as_numpy(), a, np.from_dlpack(x)"))
    sent = changed + "sent.append(T.from_dlpack('OUT', x))"
    engines.same(lambda engine: probe_sent(engine, sent, **REQUEST))


@trap(8)
@pytest.mark.rule("2.1-first-save", "2.1-bytes-alias")
@pytest.mark.parametrize("model", ["buffer", "texts"])
def test_08_a_buffer_that_is_used_again(own: Engines, model: str) -> None:
    own.same(lambda engine: four(engine, model))


@trap(9)
@pytest.mark.parametrize(
    "array",
    ["np.array(['a'])", "np.array([b'a\\0'])", "np.array([1, None, np.bytes_(b'n'), 'ü'], object)"],
)
def test_09_texts(engines: Engines, array: str) -> None:
    engines.same(lambda engine: probe_sent(engine, f"sent.append(T('OUT', {array}))"))


@trap(9)
def test_09_received_texts_are_bytes(engines: Engines) -> None:
    engines.same(code("by_name(request, 'S').as_numpy()"))


@trap(10)
@pytest.mark.parametrize(
    "array",
    [
        "np.zeros(2, '>f4')", "np.ma.masked_array([1.0], [True])", "np.array([1j])",
        "np.zeros(1, 'M8[s]')", "np.zeros(1, [('a', 'f4')])", "np.array(3.0)", "np.zeros((0, 3))",
        "np.arange(6).reshape(2, 3).T", "np.arange(6)[::2]", "[1, 2]", "np.float64(1)",
    ],
)  # fmt: skip
def test_10_odd_arrays(engines: Engines, array: str) -> None:
    engines.same(lambda engine: probe_sent(engine, f"sent.append(T('OUT', {array}))"))


@trap(11)
@pytest.mark.parametrize(
    "call",
    [
        "T(name='x', array=np.zeros(1))",
        "request.set_flags(flags=1)",
        "request.set_release_flags(flags=1)",
        "T.from_dlpack(name='x', obj=T('y', np.zeros(1)))",
    ],
)
def test_11_positional_only(engines: Engines, call: str) -> None:
    assert engines.same(code(call)).startswith("builtins.TypeError: ")


@trap(12)
@pytest.mark.parametrize(
    "call",
    [
        "T('x', np.zeros(1)).triton_dtype()",
        "[name for name in dir(pb_utils.PreferredMemory) if not name.startswith('_')]",
        "E('m').x = 1",
        "pickle.dumps(R())",
        "copy.deepcopy(request)",
    ],
)
def test_12_what_objects_do_not_do(engines: Engines, call: str) -> None:
    engines.same(code(call))


@trap(13)
@pytest.mark.parametrize("call", ["raise E('m')", "E('m', 3)", "isinstance(E('m'), Exception)"])
def test_13_triton_error(engines: Engines, call: str) -> None:
    engines.same(code(call))


@trap(14)
@pytest.mark.parametrize(
    "call",
    [
        "T.from_dlpack('x', T('y', np.arange(4))).as_numpy()",
        "T('x', np.zeros(1)).from_dlpack('x', T('y', np.arange(4)))",
        "T.from_dlpack('', T('y', np.arange(4)))",
        "T.from_dlpack('x', 3)",
        "T.from_dlpack('x', T('y', np.array([b'a'])))",
        "a = np.zeros(2); t = T.from_dlpack('x', T('y', a)); a[:] = 1; t.as_numpy()",
        "a = np.zeros(2); t = T.from_dlpack('x', T('y', a)); a[:] = 1; np.from_dlpack(t)",
    ],
)
def test_14_from_dlpack(engines: Engines, call: str) -> None:
    engines.same(code(call))


@trap(15)
@pytest.mark.rule("3.2-keys", "3.2-kind", "3.2-device-id", "3.2-repository", "3.2-version")
def test_15_args(own: Engines, repository: Path) -> None:
    args = own.same(lambda engine: told(engine, "args"))
    assert len(args) == 7
    assert args["model_repository"] == str(repository / "args")


@trap(15)
@pytest.mark.rule("3.2-instance-name")
def test_15_instances_are_named_after_their_groups(own: Engines) -> None:
    def names(engine: Engine) -> list[str]:
        # Each instance is asked in its turn, sooner or later.
        seen: set[str] = set()
        while len(seen) < 3:
            with ThreadPoolExecutor(6) as pool:
                seen |= set(pool.map(lambda _: told(engine, "groups"), range(12)))
        return sorted(seen)

    own.same(names)


@trap(16)
@pytest.mark.rule("3.2-minimal", "3.2-numbers", "3.2-printed-defaults", "3.2-field-order")
def test_16_the_configuration_is_printed_alike(own: Engines) -> None:
    text = own.same(lambda engine: told(engine, "args")["model_config"])
    assert '"max_batch_size":0,' in text
    assert '"dims":[1]' in text


@trap(17)
@pytest.mark.rule("3.1.2-taken", "3.1.2-dropped", "3.1.2-args", "3.1-auto-complete-runs")
def test_17_little_of_auto_complete_survives(own: Engines) -> None:
    config = own.same(lambda engine: engine.config("completed"))
    assert config["max_batch_size"] == 4
    assert "dropped" not in config["parameters"]


@trap(17)
@pytest.mark.rule("3.1.2-return", "3.1.2-on-class")
@pytest.mark.parametrize("model", ["not_returned", "no_static_method"])
def test_17_auto_complete_must_return_its_object(
    own: Engines, repository: Path, model: str
) -> None:
    assert own.same(lambda engine: comparable(reasons(engine)[model], repository))


@trap(18)
@pytest.mark.rule("2.9-dims-tuple", "2.9-printed-optional", "2.9-max-batch-size")
@pytest.mark.parametrize(
    "call",
    [
        "add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': (-1,)})",
        "add_input({'name': 'CODE', 'data_type': 'TYPE_STRING', 'dims': [1], 'optional': True})",
        "set_max_batch_size(-1)",
        "set_max_batch_size(7)",
    ],
)
def test_18_model_config(engines: Engines, call: str) -> None:
    engines.same(code(f"m = pb_utils.ModelConfig(json.dumps(self.config)); m.{call}, m.as_dict()"))


@trap(19)
@pytest.mark.rule("3.4-not-a-list")
def test_19_a_tuple_is_no_list(own: Engines) -> None:
    # What becomes of None is in test_deviations_on_both.py.
    own.same(lambda engine: told(engine, "tuple"))


@trap(20)
@pytest.mark.rule("3.4-whole-batch", "3.4-element-type", "3.4-exception", "3.3-format")
@pytest.mark.parametrize("model", ["one_bad", "deep"])
def test_20_one_fault_fails_the_whole_batch(own: Engines, model: str) -> None:
    answers = own.same(lambda engine: four(engine, model))
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert "Failed to process the request(s)" in answers[0]


@trap(21)
@pytest.mark.rule("2.8-flags", "2.8-nothing", "2.8-final-first", "2.8-types")
@pytest.mark.parametrize("call", ["flags=2", "", "flags=1", "3", "flags=-1", "R(), 7"])
def test_21_the_checks_of_a_sender(engines: Engines, call: str) -> None:
    engines.same(code(f"request.get_response_sender().send({call})"))


@trap(21)
@pytest.mark.rule("2.8-closed")
def test_21_a_failed_execute_closes_the_sender(own: Engines) -> None:
    def twice(engine: Engine) -> Any:
        with pytest.raises(InferenceError):
            engine.infer("sender", IN=IN)
        return told(engine, "sender")

    own.same(twice)


@trap(22)
@pytest.mark.rule("2.8-order-of-sends", "2.8-errors-mid-stream")
def test_22_a_decoupled_stream(engines: Engines) -> None:
    sends = "sender.send(R([T('OUT', np.zeros(1))])); sender.send(R(error=E('no'))); 3"
    engines.same(lambda engine: probe_stream(engine, sends))


@trap(22)
@pytest.mark.rule("3.4-decoupled-return")
def test_22_a_decoupled_model_returns_none(own: Engines) -> None:
    def errors(engine: Engine) -> list[str]:
        return [getattr(answer, "message", "") for answer in engine.stream("list", IN=IN)]

    own.same(errors)


@trap(23)
@pytest.mark.rule("3.4-async-loop", "3.4-async-exception")
@pytest.mark.parametrize(
    "call",
    [
        "loop = asyncio.get_running_loop(); self.kept.setdefault('loop', loop) is loop",
        "await asyncio.sleep(0, 3)",
        "threading.current_thread() is threading.main_thread()",
    ],
)
def test_23_async_execute(engines: Engines, call: str) -> None:
    # What becomes of a decoupled one is in test_deviations_on_both.py.
    engines.same(lambda engine: probe(engine, call, model="probe_async"))


@trap(24)
@pytest.mark.rule("3.6-never-raises", "3.6-prefix", "3.6-not-ready", "3.6-callee-error")
@pytest.mark.parametrize("model", ["nothing", "probe", "probe_decoupled"])
def test_24_failed_requests_do_not_raise(engines: Engines, model: str) -> None:
    inputs = "T('CODE', np.array([b'1 + 1'], object))"
    ask = f"r = Q(inputs=[{inputs}], requested_output_names=['TOLD'], model_name='{model}').exec()"
    engines.same(
        lambda engine: probe(
            engine, f"{ask}; r.has_error() and r.error().message()", model="probe_async"
        )
    )


@trap(24)
@pytest.mark.rule("3.6-empty-final", "3.6-iterator", "3.6-iterator-end")
def test_24_an_empty_response_may_end_a_stream(engines: Engines) -> None:
    sends = "silent = True; sender.send(R([T('OUT', np.zeros(1))])); sender.send(flags=1)"
    inputs = f"T('CODE', np.array([{sends.encode()!r}], object))"
    ask = f"i = Q(inputs=[{inputs}], requested_output_names=[], model_name='probe_decoupled')"
    engines.same(code(f"{ask}.exec(decoupled=True); [len(r.output_tensors()) for r in i], next(i)"))


@trap(25)
@pytest.mark.rule("3.3-bls-in-initialize")
def test_25_bls_in_initialize(own: Engines, repository: Path) -> None:
    own.same(lambda engine: comparable(reasons(engine)["bls_in_initialize"], repository))


@trap(25)
@pytest.mark.rule("3.6-when", "3.10-background")
def test_25_bls_from_a_thread_between_batches(engines: Engines) -> None:
    inputs = "T('CODE', np.array([b'1 + 1'], object))"
    later = (
        "def later(kept, go):\n"
        "    go.wait()\n"
        f"    q = Q(inputs=[{inputs}], requested_output_names=['TOLD'], model_name='probe')\n"
        "    r = q.exec()\n"
        "    kept['answer'] = r.output_tensors()[0].as_numpy()[0]\n"
        "go = self.kept['go'] = threading.Event()\n"
        "self.kept['thread'] = threading.Thread(target=later, args=(self.kept, go))\n"
        "self.kept['thread'].start()\n"
    )

    def between(engine: Engine) -> str:
        for lines in (later, "self.kept['go'].set()", "self.kept['thread'].join(60)"):
            probe(engine, lines, model="probe_async")
        return probe(engine, "self.kept['answer']", model="probe_async")

    assert engines.same(between) == "b'2'"


@trap(26)
@pytest.mark.rule("2.8-no-state", "2.5-sender")
def test_26_the_sender_of_a_request_of_ones_own(engines: Engines) -> None:
    request = "Q(inputs=[], requested_output_names=[], model_name='m')"
    engines.same(code(f"{request}.get_response_sender().send(R())"))


@trap(28)
@pytest.mark.rule("4.6-controls")
def test_28_sequences_add_their_controls(own: Engines) -> None:
    def body(engine: Engine) -> Any:
        result = engine.infer("sequence", IN=IN, sequence_id=5, sequence_start=True)
        return json.loads(result["OUT"][0])

    assert own.same(body) == ["IN", "START"]


@trap(29)
@pytest.mark.rule("3.1-auto-complete-scope")
def test_29_globals_of_auto_complete_are_not_shared(own: Engines) -> None:
    assert own.same(lambda engine: told(engine, "globals")) is False


@trap(29)
@pytest.mark.rule("3.4-exception")
def test_29_an_exit_in_execute_is_an_error_as_any(own: Engines) -> None:
    assert "SystemExit: 3" in own.same(lambda engine: told(engine, "exits"))["error"]


@trap(30)
@pytest.mark.rule("2.11-same-family", "2.11-same-labels", "2.11-counter")
def test_30_metrics_share_their_series(engines: Engines) -> None:
    engines.same(
        code(
            "F = pb_utils.MetricFamily; f = [F('trap_a', 'd', F.COUNTER) for _ in '12']",
            "m = [family.Metric(labels={'a': 'b'}) for family in f]",
            "m[0].increment(2); m[1].increment(3)",
            "[metric.value() for metric in m]",
        )
    )


@trap(30)
@pytest.mark.rule("2.11-labels-type", "2.11-buckets-type", "2.11-missing-buckets")
@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("COUNTER", "labels=3"),
        ("HISTOGRAM", "buckets=(1.0, 2.0)"),
        ("HISTOGRAM", ""),
        ("GAUGE", "buckets=[1.0]"),
    ],
)
def test_30_metrics_that_are_refused(engines: Engines, kind: str, call: str) -> None:
    family = f"f = pb_utils.MetricFamily('trap_{kind.lower()}', 'd', pb_utils.MetricFamily.{kind})"
    engines.same(code(f"{family}; f.Metric({call})"))
