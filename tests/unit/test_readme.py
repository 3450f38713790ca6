"""The README's examples run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = ROOT / "tests" / "conformance" / "examples"

CONFIG = """
max_batch_size: 16
dynamic_batching {{ }}
input [ {{ name: "{input}" data_type: TYPE_FP32 dims: {dims} }} ]
output [ {{ name: "{output}" data_type: TYPE_FP32 dims: {out_dims} }} ]
"""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            (tensor,) = request.inputs()
            answer = np.zeros((tensor.shape()[0], {size}), np.float32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("{output}", answer)]))
        return responses
"""
TALKS_CONFIG = """
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }
"""
TALKS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        (request,) = requests
        array = request.inputs()[0].as_numpy()
        print(array.size, "numbers")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])]
"""
ADDS_UP = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.totals = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            before = 0 if request.flags() & 1 else self.totals[request.correlation_id()]
            total = self.totals[request.correlation_id()] = (
                before + request.inputs()[0].as_numpy()
            )
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)]))
        return responses
"""
STUCK = """
import time


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(1e6)
"""


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def write_model(pytester: pytest.Pytester) -> Callable[..., None]:
    """Writes a model of a given signature into a repository."""

    def write(path: str, size: int, **names: str) -> None:
        folder = pytester.path / path
        (folder / "1").mkdir(parents=True)
        (folder / "config.pbtxt").write_text(CONFIG.format(out_dims=f"[ {size} ]", **names))
        (folder / "1" / "model.py").write_text(MODEL.format(size=size, output=names["output"]))

    return write


def test_the_first_example(pytester: pytest.Pytester, write_model: Callable[..., None]) -> None:
    write_model(
        "model_repository/resnet18_digits",
        10,
        input="image",
        output="fc_out",
        dims="[ 32, 32, 3 ]",
    )
    result = pytester.runpython(pytester.makepyfile(example=blocks("python")[0]))
    assert result.stdout.str().count("[0. 0.") == 4


def test_the_in_process_api(pytester: pytest.Pytester, write_model: Callable[..., None]) -> None:
    write_model(
        "model_repository/resnet18_digits",
        10,
        input="image",
        output="fc_out",
        dims="[ 32, 32, 3 ]",
    )
    (example,) = (block for block in blocks("python") if "as tritonserver" in block)
    result = pytester.runpython(pytester.makepyfile(example=example))
    assert result.outlines == [
        "7 (4, 10)",
        "Request for unknown model: 'resnet19_digits' is not found",
    ]


def test_the_ensemble(pytester: pytest.Pytester, write_model: Callable[..., None]) -> None:
    for name in ("classify", "classify_preprocess", "classify_postprocess"):
        shutil.copytree(ROOT / "model_repository" / name, pytester.path / "model_repository" / name)
    # A network of that name, which finds all classes alike.
    tensors = {"input": "image", "output": "fc_out", "dims": "[ 224, 224, 3 ]"}
    write_model("model_repository/resnet50", 1000, **tensors)
    Image.new("RGB", (320, 240), "orange").save(pytester.path / "cat.jpg")
    (example,) = (block for block in blocks("python") if "cat.jpg" in block)
    result = pytester.runpython(pytester.makepyfile(example=example))
    assert result.outlines == ["[[b'0' b'1' b'2' b'3' b'4']] [[0.001 0.001 0.001 0.001 0.001]]"]


def test_your_own_model(pytester: pytest.Pytester, write_model: Callable[..., None]) -> None:
    write_model("models/my_model", 4, input="IN", output="OUT", dims="[ 4 ]")
    (settings,) = (block for block in blocks("toml") if "triton_repository" in block)
    pytester.makepyprojecttoml(settings)
    (tests,) = (block for block in blocks("python") if "check_outputs" in block)
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=tests.count("def test_"))


def test_an_application(pytester: pytest.Pytester, write_model: Callable[..., None]) -> None:
    write_model("models/my_model", 4, input="IN", output="OUT", dims="[ 4 ]")
    pytester.makeini("[pytest]\ntriton_repository = models")
    (tests,) = (block for block in blocks("python") if "triton.client" in block)
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=tests.count("def test_"))


def test_which_requests_go_together(
    pytester: pytest.Pytester, write_model: Callable[..., None]
) -> None:
    limit = "default_queue_policy { default_timeout_microseconds: 100000 }"
    for name, policy in {"my_model": "", "limited": limit}.items():
        write_model(f"models/{name}", 4, input="IN", output="OUT", dims="[ 4 ]")
        config = pytester.path / "models" / name / "config.pbtxt"
        config.write_text(config.read_text().replace("{ }", f"{{ {policy} }}", 1))
    (tests,) = (block for block in blocks("python") if "ManualClock" in block)
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=tests.count("def test_"))


def test_sequences_and_models_that_come_and_go(
    pytester: pytest.Pytester, write_model: Callable[..., None]
) -> None:
    for name in ("my_model", "adds_up"):
        write_model(f"models/{name}", 4, input="IN", output="OUT", dims="[ 4 ]")
    folder = pytester.path / "models" / "adds_up"
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace("dynamic_batching", "sequence_batching", 1))
    (folder / "1" / "model.py").write_text(ADDS_UP)
    pytester.makeini("[pytest]\ntriton_repository = models")
    (tests,) = (block for block in blocks("python") if "sequence_start" in block)
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=tests.count("def test_"))


def test_all_that_a_model_may_do(pytester: pytest.Pytester) -> None:
    repository = pytester.path / "model_repository"
    for name in ("add_sub", "batch_auto_complete", "bls_sync", "custom_metrics", "square_int32"):
        shutil.copytree(EXAMPLES / name, repository / name)
    (repository / "talks" / "1").mkdir(parents=True)
    (repository / "talks" / "config.pbtxt").write_text(TALKS_CONFIG)
    (repository / "talks" / "1" / "model.py").write_text(TALKS)
    (tests,) = (block for block in blocks("python") if "on_gpu" in block)
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=tests.count("def test_"))


def test_a_model_that_blocks(pytester: pytest.Pytester) -> None:
    folder = pytester.path / "model_repository" / "stuck"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(TALKS_CONFIG)
    (folder / "1" / "model.py").write_text(STUCK)
    (settings,) = (block for block in blocks("toml") if "triton_timeout" in block)
    pytester.makepyprojecttoml(re.sub(r"= \d+", "= 2", settings))
    pytester.makepyfile(
        "import numpy as np\n"
        "def test_it(triton):\n    triton.infer('stuck', IN=np.ones(1, np.float32))"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    (told,) = blocks("text")
    first, *stack = told.partition("Instance ")[0].replace("\n", " "), *told.splitlines()[-2:]
    said = re.sub(r'File ".*/stuck/', 'File "…/models/stuck/', result.stdout.str())
    for words in (first, "Instance 'stuck_0' is in execute, at", *stack):
        assert words in said
