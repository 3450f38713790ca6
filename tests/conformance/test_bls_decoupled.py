"""Requests of a model's own with ``decoupled=True``: the iterator over their responses."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import ASK, bls
from comparing import Engines
from probing import expressions, probe_stream

from triton_stub.engines.engine import Engine

TWO = "send(told(1)); send(told(2)); send(flags=1)"
LINES = f"""
# 3.6-iterator
r = ask("told(1)").exec(decoupled=True); type(r), [seen(x) for x in r]
[seen(x) for x in ask("1 / 0").exec(True)]
[seen(x) for x in ask("1", model="no").exec(True)]
[seen(x) for x in ask("1", outputs=["BAD"], model="called_decoupled").exec(True)]
[seen(x) for x in ask("request.get_response_sender().send(told(3), 1)").exec(True)]
[seen(x) for x in ask("{TWO}", "called_decoupled").exec(True)]
[seen(x) for x in ask("send(told(1)); send(told(2), 1)", "called_decoupled").exec(True)]
[seen(x) for x in ask("send(told(1), 1)", "called_decoupled").exec(True)]
[seen(x) for x in ask("1 / 0", "called_decoupled").exec(True)]
[seen(x) for x in ask("[send(told(n)) for n in range(100)]; send(flags=1)", "called_decoupled").exec(True)][-2:]
# 3.6-empty-final trap-24
[(x.output_tensors(), x.has_error(), x.error()) for x in ask("send(flags=1)", "called_decoupled").exec(True)]
[seen(x) for x in ask("s = request.get_response_sender(); s.send(told(3)); s.send(flags=1)").exec(True)]
# 3.6-iterator-end
r = ask("told(1)").exec(True); next(r); next(r)
r = ask("{TWO}", "called_decoupled").exec(True); list(r); [next(r, None), next(r, None)]
# 3.6-iterator-again
r = ask("{TWO}", "called_decoupled").exec(True); first = list(r); again = list(r); (len(first), [x is y for x, y in zip(first, again)], [x is y for x, y in zip(first, r)])
r = ask("{TWO}", "called_decoupled").exec(True); x = next(r); rest = list(r); (len(rest), [y is x for y in r])
r = ask("told(1)").exec(True); x = next(r); (iter(r) is r, next(r) is x)
r = ask("told(1)").exec(True); i = iter(r); x = next(i); next(r)
r = ask("{TWO}", "called_decoupled").exec(True); list(r); i = iter(r); next(i); j = iter(r); len(list(j))
# 3.6-iterator-dropped
r = ask("send(told(1)); self.kept['went'] = 1; send(told(request.is_cancelled())); self.kept['on'] = 1; send(flags=1)", "called_decoupled").exec(True); next(r); del r; gc.collect(); [seen(x) for x in ask("send(told(self.kept), 1); self.kept.clear()", "called_decoupled").exec(True)]
# 3.6-not-ready 3.6-iterator
a = ask("1", model="no").exec(True); b = ask("1", model="none").exec(True); ([seen(x) for x in a], [seen(x) for x in b], [seen(x) for x in a], [seen(x) for x in b])
a = ask("1", model="no").exec(True); x = next(a); b = ask("1", model="none").exec(True); (len(list(a)), len(list(a)), len(list(b)))
a = ask("told(1)").exec(True); b = ask("1", model="no").exec(True); c = ask("told(2)").exec(True); [[seen(x) for x in i] for i in (a, b, c)]
# 3.6-when
x = []; r = ask("{TWO}", "called_decoupled").exec(True); t = threading.Thread(target=lambda: x.extend(seen(y) for y in r)); t.start(); t.join(); x
rs = [ask("{TWO}", "called_decoupled").exec(True) for _ in range(3)]; [[seen(x) for x in r] for r in rs]
"""  # noqa: E501 - a line is a case


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: bls(engine, line))


@pytest.mark.rule("3.6-iterator")
@pytest.mark.parametrize(
    "code", ["told(1)", "1 / 0", "send(told(1)); send(told(2)); send(flags=1)"]
)
def test_from_a_decoupled_model(engines: Engines, code: str) -> None:
    model = "called_decoupled" if "send" in code else "called"
    line = f"{ASK}[seen(x) for x in ask({code!r}, {model!r}).exec(True)]"
    told = engines.same(lambda engine: probe_stream(engine, line))
    assert len(told) == 1


@pytest.mark.rule("3.6-streaming")
def test_a_stream_is_produced_while_it_is_consumed(engines: Engines, tmp_path: Path) -> None:
    """The callee waits, after the first response, for what the caller does when it has it."""

    def body(engine: Engine) -> str:
        signal = str(tmp_path / engine.name)
        code = (
            "send(told('first'))\n"
            "until = time.monotonic() + 60\n"
            f"while not os.path.exists({signal!r}) and time.monotonic() < until:\n"
            "    time.sleep(0.001)\n"
            f"send(told(os.path.exists({signal!r})), 1)"
        )
        return bls(
            engine,
            f"r = ask({code!r}, 'called_decoupled').exec(True); first = seen(next(r))\n"
            f"open({signal!r}, 'w').close(); (first, [seen(x) for x in r])",
        )

    assert "b'True'" in engines.same(body)


@pytest.mark.newer("25.04", "python_backend src/infer_response.cc: id of an error")
@pytest.mark.rule("3.6-error-in-stream")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("send(told(1)); send(R(error=E('x'))); send(told(2), 1)", ["1", "x", "2"]),
        ("send(R(error=E('x'))); send(told(2)); send(flags=1)", ["x", "2", ""]),
        ("send(told(1)); send(R(error=E('x')), 1)", ["1", "x"]),
    ],
)
def test_an_error_in_a_stream(stub: Engine, code: str, told: list[str]) -> None:
    texts = (
        "[x.error().message() if x.has_error() else ''.join(t.as_numpy()[0].decode() "
        "for t in x.output_tensors()) for x in r]"
    )
    ask = f"r = ask({code!r}, 'called_decoupled').exec(True)\n"
    assert bls(stub, f"{ask}{texts}, {texts}") == repr((told, told))


@pytest.mark.newer("25.04", "python_backend src/pb_response_iterator.cc: Cancel")
@pytest.mark.rule("3.6-iterator-cancel", "2.5-is-cancelled")
def test_cancel(stub: Engine, tmp_path: Path) -> None:
    """The callee sees it, and still has to end; after the end it does nothing."""
    signal = str(tmp_path / "cancelled")
    code = (
        "send(told(request.is_cancelled()))\n"
        "until = time.monotonic() + 60\n"
        f"while not os.path.exists({signal!r}) and time.monotonic() < until:\n"
        "    time.sleep(0.001)\n"
        "send(told(request.is_cancelled()), 1)"
    )
    told = bls(
        stub,
        f"r = ask({code!r}, 'called_decoupled').exec(True); first = next(r); r.cancel()\n"
        f"open({signal!r}, 'w').close(); rest = list(r); r.cancel()\n"
        "[x.output_tensors()[0].as_numpy()[0] for x in [first, *rest]]",
    )
    assert told == "[b'False', b'True']"
    assert (
        bls(stub, "r = ask('1', model='no').exec(True); (r.cancel(), len(list(r)))") == "(None, 1)"
    )
    assert bls(stub, "c.ResponseIterator(R()).cancel()") == "None"


@pytest.mark.newer("25.02", "python_backend src/request_executor.cc: parameters_string")
@pytest.mark.rule("2.6-parameters-accessor", "3.6-empty-final")
def test_parameters_of_the_responses(stub: Engine) -> None:
    code = "send(R([], parameters={'a': 1})); send(R([])); send(flags=1)"
    told = bls(stub, f"[x.parameters() for x in ask({code!r}, 'called_decoupled').exec(True)]")
    assert told == """['{"a":1}', '{}', '']"""
