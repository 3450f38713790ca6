"""Requests that a probe sends to other models, on either engine.

    def test_an_error(engines):
        assert engines.same(lambda engine: bls(engine, "seen(ask('1 / 0').exec())"))

The code runs in a probe (see ``probing``), which also has

    ask(code, model="called", tensors=(), outputs=(), **fields)
        a request to ``models/called``, ``called_decoupled``, ``called_twice`` or
        ``called_batched``, which run that code; ``fields`` are those of ``InferenceRequest``
    seen(response)
        what there is to see of a response: ("error", text), or name, dtype, shape and values of
        its tensors
"""

from __future__ import annotations

from typing import Any

from probing import probe

from triton_stub.engines.engine import Engine

# Not the code of errors: 2.51 has one for all.
ASK = """
def ask(code, model="called", tensors=(), outputs=(), **fields):
    text = np.array([code.encode()], dtype=np.object_)
    if model == "called_batched":
        text = text[None]
    return Q(
        inputs=[T("CODE", text), *tensors],
        requested_output_names=list(outputs),
        model_name=model,
        **fields,
    )

def seen(response):
    if response.has_error():
        return "error", response.error().message()
    return [
        (tensor.name(), str(tensor.as_numpy().dtype), tensor.shape(), tensor.as_numpy().tolist())
        for tensor in response.output_tensors()
    ]

"""


def bls(engine: Engine, code: str, /, *, model: str = "probe", **request: Any) -> str:
    """Run ``code``, which sends requests, in a probe."""
    return probe(engine, ASK + code, model=model, **request)
