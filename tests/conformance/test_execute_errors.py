"""Models whose ``execute`` goes wrong, or is odd: the same answers from both, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, comparable, write_models
from comparing import Engines, outcome
from probing import marked

HEAD = """import numpy as np
import triton_python_backend_utils as pb_utils

def ok():
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.ones(1, np.float32))])

"""


def execute(body: str, before: str = "", start: str = "def") -> str:
    """A model with this body of ``execute``."""
    return (
        f"{HEAD}{before}\nclass TritonPythonModel:\n    {start} execute(self, requests):\n"
        f"{indent(body, ' ' * 8)}\n"
    )


def execute_async(body: str, before: str = "") -> str:
    return execute(body, before, "async def")


def answer(tensor: str) -> str:
    return execute(f"return [pb_utils.InferenceResponse([{tensor}])]")


CODES = (
    "UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED",
    "ALREADY_EXISTS", "CANCELLED",
)  # fmt: skip
MODELS = {
    "fine": execute("return [ok()]"),
    # Exceptions
    "raises": execute("raise ValueError('boom')"),
    "raises_in_helpers": {
        "1/model.py": execute("return helper.outer(lambda: 1 / 0)", "import helper\n"),
        "1/helper.py": "import other\ndef outer(f):\n    return other.inner(f)\n",
        "1/other.py": "def inner(f):\n    try:\n        return f()\n    finally:\n        x = 1\n",
    },
    "key_error": execute("{}['a']"),
    "no_message": execute("raise ValueError"),
    "nul": execute("raise ValueError('a\\0b')"),
    "letters": execute("raise ValueError('Größe \\u2603\\n\"two\"')"),
    "exits": execute("raise SystemExit(3)"),
    "interrupt": execute("raise KeyboardInterrupt"),
    "cause": execute("try: 1 / 0\nexcept ArithmeticError as e: raise OSError('outer') from e"),
    "same_again": execute("try: raise OLD\nexcept ValueError as e: raise e", "OLD = ValueError(1)"),
    "context": execute(
        "with around():\n    raise ValueError('inner')",
        "import contextlib\n@contextlib.contextmanager\ndef around():\n    try: yield\n"
        "    except ValueError as e: raise OSError('outer') from e\n",
    ),
    "thread": execute(
        "with ThreadPoolExecutor(1) as pool: pool.submit(fail).result()",
        "from concurrent.futures import ThreadPoolExecutor\ndef fail(): raise ValueError('it')\n",
    ),
    "late_import": {
        "1/model.py": execute("import helper"),
        "1/helper.py": "from other import nothing\n",
        "1/other.py": "",
    },
    "late_missing_import": execute("from . import helper"),
    "async_raises": execute_async("raise ValueError('boom')"),
    "async_raises_deep": execute_async(
        "await outer()",
        "import asyncio\nasync def inner():\n    await asyncio.sleep(0)\n    1 / 0\n"
        "async def outer():\n    await inner()\n",
    ),
    # Misuse
    "triton_error_raised": execute("raise pb_utils.TritonError('mine')"),
    "triton_model_exception": execute("raise pb_utils.TritonModelException('mine')"),
    "tensor_of_list": answer("pb_utils.Tensor('OUT', [1])"),
    "tensor_of_text": answer("pb_utils.Tensor('OUT', np.array(['a']))"),
    "tensor_without_name": answer("pb_utils.Tensor('', np.zeros(1))"),
    "no_tensor": answer("None"),
    "no_such_input": execute("pb_utils.get_input_tensor_by_name(requests[0], 'X').as_numpy()"),
    # Other than a list of responses
    "nothing_to_call": "class TritonPythonModel: pass\n",
    "nothing_callable": "class TritonPythonModel:\n    execute = 3\n",
    "not_to_be_had": "class TritonPythonModel:\n    @property\n"
    "    def execute(self): raise RuntimeError\n",
    "arity": "class TritonPythonModel:\n    def execute(self): pass\n",
    "tuple": execute("return (ok(),)"),
    "bare": execute("return ok()"),
    "dict": execute("return {}"),
    "empty": execute("return []"),
    "two": execute("return [ok(), ok()]"),
    "kind_of_list": execute("class Own(list): pass\nreturn Own([ok()])"),
    "text": execute("return ['a']"),
    "tensor": execute("return [pb_utils.Tensor('OUT', np.ones(1, np.float32))]"),
    "async_fine": execute_async("return [ok()]"),
    "async_tuple": execute_async("return (ok(),)"),
    "coroutine": execute("return later()", "async def later():\n    return [ok()]\n"),
    # Responses
    "no_tensors": execute("return [pb_utils.InferenceResponse([])]"),
    "other_names": answer(
        "*(pb_utils.Tensor(n, np.ones(1, np.float32)) for n in ('NO', 'OUT', 'OUT'))"
    ),
    "other_shape": answer("pb_utils.Tensor('OUT', np.ones((2, 3), np.int64))"),
    "no_elements": answer("pb_utils.Tensor('OUT', np.zeros((0, 3), np.float32))"),
    "strings": answer("pb_utils.Tensor('OUT', np.array(['ü', None, b'\\xff'], object))"),
    "no_strings": answer("pb_utils.Tensor('OUT', np.array([], object))"),
    "transposed": answer("pb_utils.Tensor('OUT', np.arange(6, dtype=np.int8).reshape(2, 3).T)"),
    "input_sent_back": answer("requests[0].inputs()[0]"),
    "input_changed": execute(
        "requests[0].inputs()[0].as_numpy()[:] = 7\n"
        "x = requests[0].inputs()[0].as_numpy()\n"
        "return [pb_utils.InferenceResponse([pb_utils.Tensor('OUT', x)])]"
    ),
    "error_without_text": execute(
        "return [pb_utils.InferenceResponse(error=pb_utils.TritonError(''))]"
    ),
    **{
        f"error_{code}": execute(
            "return [pb_utils.InferenceResponse([], "
            f"pb_utils.TritonError('mine', pb_utils.TritonError.{code}))]"
        )
        for code in CODES
    },
}
RULES = {
    "2.6-wrong-outputs": "other_shape no_elements transposed",
    "2.6-unknown-outputs": "other_names",
    "2.6-missing-outputs": "no_tensors",
    "2.6-none-tensor": "no_tensor",
    "2.1-copy-is-private": "input_changed",
    "2.7-model-exception": "triton_model_exception",
    "2.7-not-an-exception": "triton_error_raised",
    "2.7-status": " ".join(f"error_{code}" for code in CODES),
    "3.3-no-execute": "nothing_to_call not_to_be_had",
    "3.3-empty-message": "no_message",
    "3.3-no-context": "cause context",
    "3.3-format": "key_error raises_in_helpers nul letters thread late_import",
    "3.4-exception": "raises exits interrupt arity nothing_callable",
    "3.4-not-a-list": "tuple bare dict async_tuple",
    "3.4-length": "empty two",
    "3.4-element-type": "text tensor",
    "3.4-list-subclass": "kind_of_list",
    "3.4-async-serial": "async_fine coroutine",
    "3.4-async-exception": "async_raises async_raises_deep",
    "3.4-error-response": f"error_without_text {' '.join(f'error_{code}' for code in CODES)}",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("execute_errors")
    write_models(folder, MODELS)
    return folder


@pytest.fixture(scope="module")
def odd(repository: Path) -> Iterator[Engines]:
    with both_engines(repository) as engines:
        yield engines


@pytest.mark.parametrize("name", marked(MODELS, RULES))
def test_what_the_client_gets(odd: Engines, repository: Path, name: str) -> None:
    def infer(engine: Any) -> dict[str, np.ndarray]:
        return dict(engine.infer(name, IN=np.arange(2, dtype=np.float32)).outputs)

    for _ in range(2):  # it survives
        stub, native = (outcome(infer, engine) for engine in odd)
        for told in (stub, native):
            if "error" in told:
                told["error"] = comparable(told["error"], repository)
        assert stub == native
