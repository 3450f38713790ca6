"""The classification extension over HTTP: the likeliest classes of an output, with their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from broken_models import both_engines
from comparing import Engines
from ensemble_files import chain
from hypothesis import given
from hypothesis import strategies as st
from instances import write_files
from probing import examples
from test_http_errors import LENGTH, Answer, ask, same

from triton_stub.datatypes import DATATYPES

LABELS = b"zero\none\n\nthr\xffee\r\nfour:4\n f\xc3\xbcnf \nsix\0six\nseven"
# An output for each input that there is.
MODEL = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]
    def answer(self, request):
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(tensor.name().replace("IN", "OUT"), tensor.as_numpy())
            for tensor in request.inputs()
        ])
"""


def config(dims: str = "-1", more: str = "", *, labels: str = "labels.txt") -> str:
    return f"""
backend: "python" {more}
input {{ name: "IN" data_type: TYPE_FP32 dims: [ {dims} ] }}
output {{ name: "OUT" data_type: TYPE_FP32 dims: [ {dims} ] label_filename: "{labels}" }}
"""


def config_of_types() -> str:
    names = [(row.name, row.config_name) for row in DATATYPES]
    inputs = (
        f'input {{ name: "IN_{name}" data_type: {kind} dims: [ -1 ] optional: true }}\n'
        for name, kind in names
    )
    outputs = (
        f'output {{ name: "OUT_{name}" data_type: {kind} dims: [ -1 ] }}\n' for name, kind in names
    )
    return "".join(('backend: "python"\n', *inputs, *outputs))


def write_repository(folder: Path) -> None:
    models = {
        "labelled": config(),
        "unlabelled": config(labels=""),
        "batched": config(more="max_batch_size: 8"),
        "matrix": config("2, 3"),
        "reshaped": config("6").replace(
            "dims: [ 6 ] label", "dims: [ 6 ] reshape { shape: [ 2, 3 ] } label"
        ),
        "types": config_of_types(),
    }
    for name, text in models.items():
        write_files(folder / name, {"config.pbtxt": text, "1/model.py": MODEL})
        (folder / name / "labels.txt").write_bytes(LABELS)
    own = chain("labelled").replace(
        'output { name: "OUT"', 'output { label_filename: "own.txt" name: "OUT"'
    )
    ensembles = {
        "labels_of_its_step": (chain("labelled"), b""),
        "labels_of_no_step": (chain("labelled", "unlabelled"), b""),
        "labels_of_its_own": (own, b"null\neins\n"),
        "no_first_label_of_its_own": (own, b"\neins\n"),
        "labels_in_an_empty_file": (own, b""),
    }
    for name, (text, labels) in ensembles.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(text)
        (folder / name / "own.txt").write_bytes(labels)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("classification")
    write_repository(folder)
    with both_engines(folder) as both:
        yield both


@pytest.fixture(scope="module")
def urls(engines: Engines) -> tuple[str, str]:
    return engines.stub.http_url, engines.native.http_url


def request(
    values: Any,
    count: Any,
    *,
    model: str = "unlabelled",
    datatype: str = "FP32",
    suffix: str = "",
    **parameters: Any,
) -> tuple[str, str, bytes, dict[str, str]]:
    """A request with an array as binary data, since not every value has a form in JSON."""
    array = np.asarray(values, None if datatype == "BYTES" else _DTYPES[datatype])
    data = b"\1\0\0\0a" * array.size if datatype == "BYTES" else array.tobytes()
    document = {
        "inputs": [
            {
                "name": f"IN{suffix}",
                "datatype": datatype,
                "shape": array.shape,
                "parameters": {"binary_data_size": len(data)},
            }
        ],
        "outputs": [
            {"name": f"OUT{suffix}", "parameters": {"classification": count, **parameters}}
        ],
    }
    text = json.dumps(document).encode()
    return "POST", f"/v2/models/{model}/infer", text + data, {LENGTH: str(len(text))}


_DTYPES = {row.name: row.numpy for row in DATATYPES}


def classes(answer: Answer) -> list[str]:
    data: list[str] = json.loads(answer.document.replace("'", '"'))["outputs"][0]["data"]
    return data


VALUES: dict[str, Any] = {
    "falling": [3, 2, 1],
    "rising": [1, 2, 3],
    "mixed": [0.1, 0.7, -0.2, 0.3],
    "equal": [1, 1, 1, 1],
    "some equal": [2, 1, 2, 1, 2],
    "equal, more than 16": [1] * 40,
    "two by turns": [1, 2] * 20,
    "zeros but for one": [0] * 30 + [1] + [0] * 30,
    "like a bell": [abs(20 - number) for number in range(41)],
    "like a bell the other way": [-abs(500 - number) for number in range(1001)],
    "large": [1e30, 3.4028234e38, 123456789],
    "small": [1e-30, 1e-6, 5e-7, 4.9e-7, 0],
    "negative zero": [0.0, -0.0, 0.0],
    "infinite": [np.inf, -np.inf, 0],
    "not a number": [np.nan, 1, np.inf, 2],
    "negative not a number": [1, -np.nan, 2],
    "not numbers": [np.nan] * 3,
    "not a number, more than 16": [*range(20), np.nan, *range(20)],
    "one": [0.5],
}


@pytest.mark.rule("5.4-ranking")
@pytest.mark.parametrize("count", [1, 5, 2000])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_values(urls: tuple[str, str], values: list[float], count: int) -> None:
    answer = same(urls, *request(values, count))
    assert len(classes(answer)) == min(count, len(values))


@pytest.mark.rule("5.4-ranking")
@examples(200)
@given(
    values=st.lists(
        st.integers(0, 20).map(float) | st.sampled_from([0.0, 0.0, 1.0, np.inf, np.nan]),
        min_size=1,
        max_size=300,
    ),
    count=st.integers(1, 300),
)
def test_any_values(urls: tuple[str, str], values: list[float], count: int) -> None:
    assert same(urls, *request(values, count)).status == 200


COUNTS = [0, 1, 2, 3, 4, 2**32 - 1, 2**32, 2**32 + 1, 2**64 - 1, 2**64, -1, 1.0, "1", None, True]


@pytest.mark.rule("5.4-classes")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("binary", [False, True])
def test_counts(urls: tuple[str, str], count: Any, binary: bool) -> None:
    same(urls, *request([1, 3, 2], count, binary_data=binary))


def extremes(name: str) -> list[Any]:
    dtype = _DTYPES[name]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return [limits.min, 7, limits.max, 7, 0]
    if name in ("FP32", "FP64"):
        limits = np.finfo(dtype)
        return [limits.min, limits.tiny, limits.max, 0.1, -0.1]
    return [1, 0, 1]


@pytest.mark.rule("5.4-datatypes")
@pytest.mark.parametrize("name", [row.name for row in DATATYPES if row.name != "BYTES"])
@pytest.mark.parametrize("binary", [False, True])
def test_datatypes(urls: tuple[str, str], name: str, binary: bool) -> None:
    of = {"model": "types", "datatype": name, "suffix": f"_{name}"}
    same(urls, *request(extremes(name), 5, binary_data=binary, **of))


SHAPES: dict[str, tuple[str, Any]] = {
    "a batch of one": ("batched", [[1, 3, 2]]),
    "a batch": ("batched", [[1, 3, 2], [2, 2, 3], [0, 0, 0]]),
    "a matrix": ("matrix", [[1, 3, 2], [2, 4, 3]]),
    "reshaped": ("reshaped", [1, 3, 2, 2, 4, 3]),
}


@pytest.mark.rule("5.4-classes")
@pytest.mark.parametrize("count", [2, 9])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("model", "values"), SHAPES.values(), ids=SHAPES)
def test_shapes(urls: tuple[str, str], model: str, values: Any, count: int, binary: bool) -> None:
    """Each row of a batch has its classes; without batches a tensor is one row."""
    assert same(urls, *request(values, count, model=model, binary_data=binary)).status == 200


MODELS = (
    "labelled",
    "labels_of_its_step",
    "labels_of_no_step",
    "labels_of_its_own",
    "no_first_label_of_its_own",
    "labels_in_an_empty_file",
)


@pytest.mark.rule("5.4-labels")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("binary", [False, True])
def test_labels(urls: tuple[str, str], model: str, binary: bool) -> None:
    """Any bytes up to a zero; where a line is empty, or missing, there is no label."""
    values = [3, 1, 4, 2, 6, 5, 9, 7, 8]
    assert same(urls, *request(values, 9, model=model, binary_data=binary)).status == 200


@pytest.mark.rule("5.4-classes")
def test_in_json_although_all_is_to_be_binary(urls: tuple[str, str]) -> None:
    body = {
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [2], "data": [1, 2]}],
        "outputs": [{"name": "OUT", "parameters": {"classification": 1}}],
        "parameters": {"binary_data_output": True},
    }
    path = "/v2/models/labelled/infer"
    assert classes(same(urls, "POST", path, json.dumps(body).encode())) == ["2.000000:1:one"]


@pytest.mark.rule("5.4-client")
def test_the_official_client(engines: Engines) -> None:
    def body(engine: Any) -> Any:
        with tritonclient.http.InferenceServerClient(engine.http_url) as client:
            values = np.array([[1, 3, 2], [9, 7, 8]], np.float32)
            tensor = tritonclient.http.InferInput("IN", values.shape, "FP32")
            tensor.set_data_from_numpy(values)
            wanted = tritonclient.http.InferRequestedOutput("OUT", class_count=2)
            return client.infer("batched", [tensor], outputs=[wanted]).as_numpy("OUT")

    assert engines.same(body)["values"] == [
        [b"3.000000:1:one", b"2.000000:2"],
        [b"9.000000:0:zero", b"8.000000:2"],
    ]


@pytest.mark.rule("5.4-datatypes")
@pytest.mark.newer("25.07", "server src/classification.cc, TopkClassifications")
def test_texts(engines: Engines) -> None:
    """The real server of this suite divides by zero."""
    asked = request([b"a", b"b"], 1, model="types", datatype="BYTES", suffix="_BYTES")
    text = "class result not available for output due to unsupported type 'BYTES'"
    assert ask(engines.stub.http_url, *asked) == (400, "text/plain", repr({"error": text}), b"")


@pytest.mark.rule("5.4-classes")
@pytest.mark.newer("26.02", "server src/classification.cc, TopkClassifications")
def test_too_many_classes(engines: Engines) -> None:
    url = engines.stub.http_url
    values = np.zeros(1_000_001, np.float32)
    text = "classification output tensor too large"
    assert ask(url, *request(values, 1)).document == repr({"error": text})
    assert classes(ask(url, *request(values[1:], 1))) != []


@pytest.mark.rule("5.4-classes")
@pytest.mark.deviation("no-classes")
@pytest.mark.parametrize(
    ("model", "values"), [("unlabelled", np.zeros(0)), ("batched", np.zeros((2, 0)))]
)
def test_no_classes(engines: Engines, model: str, values: Any) -> None:
    """The real server frees memory that it has not got."""
    answer = ask(engines.stub.http_url, *request(values, 1, model=model))
    assert answer.status == 400
    assert "output 'OUT' has no elements" in answer.document
