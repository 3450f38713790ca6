"""model_repository's model.py: what it refuses to load and why, its weights, and its promises."""

import contextlib
import functools
import importlib.util
import json
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import flaxmodels
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import requests
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental.compilation_cache import compilation_cache
from safetensors.numpy import save_file

import triton_stub
from triton_stub.errors import InferenceError, LoadError
from triton_stub.pb_utils.errors import TritonError, TritonModelException
from triton_stub.pb_utils.response import InferenceResponse
from triton_stub.pb_utils.tensor import Tensor

MODEL_REPOSITORY = Path(__file__).parents[2] / "model_repository"
MODEL_PY = MODEL_REPOSITORY / "resnet50" / "1" / "model.py"
IMAGE_SHAPE, CLASSES = (24, 16, 3), 7
IMAGES = np.random.default_rng(2).integers(0, 256, (4, *IMAGE_SHAPE), np.uint8)
SCALED = IMAGES.astype(np.float32) / 255
OPTIONS = {"memory_fraction": "0.3", "compilation_cache_dir": ""}


def write(
    repository,
    *,
    image=f"TYPE_FP32 {list(IMAGE_SHAPE)}",
    fc_out=f"TYPE_FP32 {[CLASSES]}",
    input_name="image",
    output_name="fc_out",
    max_batch_size=1,
    extra="",
    **parameters,
):
    """A folder with the model and a configuration; one batch size, so one compilation."""
    folder = repository / "resnet"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    for file in MODEL_PY.parent.glob("*.py"):
        if not (folder / "1" / file.name).exists():
            (folder / "1" / file.name).symlink_to(file)
    texts = [f"max_batch_size: {max_batch_size} backend: 'python' {extra}"]
    for direction, name, tensor in (("input", input_name, image), ("output", output_name, fc_out)):
        data_type, dims = tensor.split(" ", 1)
        texts += [f"{direction} {{ name: '{name}' data_type: {data_type} dims: {dims} }}"]
    for key, value in {"architecture": "resnet18", "weights": "random", **parameters}.items():
        texts += [f"parameters {{ key: '{key}' value {{ string_value: {json.dumps(value)} }} }}"]
    (folder / "config.pbtxt").write_text("\n".join(texts), encoding="utf-8")
    return folder


@pytest.fixture
def write_model(tmp_path):
    """Writes the test's one model, again with every change that the test makes."""
    return functools.partial(write, tmp_path / "repository")


@contextlib.contextmanager
def loaded(folder):
    with triton_stub.Server(folder.parent) as server:
        yield server.model(folder.name)


def logits_of(folder, images=SCALED):
    """Logits of each image, with a model that takes one at a time."""
    with loaded(folder) as model:
        return np.concatenate([model(image=image[np.newaxis])["fc_out"] for image in images])


def sentence_of_failure(folder):
    """The one sentence with which the load ends: found; expected; what to do."""
    with pytest.raises(LoadError) as caught, triton_stub.Server(folder.parent):
        pass
    (sentence,) = re.findall(r"ValueError: (.*)\n\nAt:", str(caught.value))
    assert sentence.endswith(".")
    assert "; expected " in sentence
    return sentence


@pytest.fixture(scope="module")
def module():
    """Everything in model.py and in the files beside it, for what needs no server."""
    backend = ModuleType("triton_python_backend_utils")
    backend.Tensor, backend.InferenceResponse = Tensor, InferenceResponse
    backend.TritonError, backend.TritonModelException = TritonError, TritonModelException
    backend.get_input_tensor_by_name = lambda request, name: request.get(name)
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", backend)
        patch.setattr(sys, "dont_write_bytecode", True)  # a model's folder holds the model
        for name in ("resnet_options", "resnet_weights", "model"):
            spec = importlib.util.spec_from_file_location(name, MODEL_PY.with_name(f"{name}.py"))
            parts.append(importlib.util.module_from_spec(spec))
            patch.setitem(sys.modules, name, parts[-1])
            spec.loader.exec_module(parts[-1])
    return SimpleNamespace(**{name: value for part in parts for name, value in vars(part).items()})


@pytest.fixture(scope="module")
def float32_logits(tmp_path_factory):
    """What random weights say of the images."""
    return logits_of(write(tmp_path_factory.mktemp("float32")))


@pytest.fixture
def arrays():
    """Variables of a ResNet18 by their Flax names, no two alike, with statistics of their own."""
    return random_arrays(CLASSES)


def random_arrays(classes):
    network = flaxmodels.ResNet18(pretrained=None, num_classes=classes)
    leaves = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, *IMAGE_SHAPE)), train=False)
    )
    random = np.random.default_rng(3)
    arrays = {}
    for name, leaf in flatten_dict(leaves, sep="/").items():
        spread = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if name.endswith("kernel") else 0.2
        centre = 1 if name.endswith(("scale", "var")) else 0
        arrays[name] = random.normal(centre, spread, leaf.shape).astype(np.float32)
        if name.endswith("var"):
            arrays[name] = np.abs(arrays[name])
    return arrays


def write_h5(path, arrays, module):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[module.h5_name(name, "resnet18")] = array


# What is wrong with the configuration.


@pytest.mark.parametrize(
    ("changes", "found", "expected", "remedy"),
    [
        ({"weigths": "random"}, "parameter 'weigths'", "weights", "config.pbtxt"),
        ({"architecture": "resnet20"}, "'resnet20'", "resnet18 or resnet34", "config.pbtxt"),
        ({"compute_dtype": "float16"}, "'float16'", "float32 or bfloat16", "config.pbtxt"),
        *(
            ({"memory_fraction": wrong}, f"'{wrong}'", "above 0 and up to 1", "config.pbtxt")
            for wrong in ("much", "0", "1.5", "-0.4", "nan", "inf", "0.1.2", "")
        ),
        *(
            ({"cpu_threads": wrong}, f"'{wrong}'", "a number of threads", "config.pbtxt")
            for wrong in ("all", "0", "-1", "1.5")
        ),
        ({"cpu_engine": "tvm"}, "'tvm'", "xla or openvino", "config.pbtxt"),
        *(
            (
                {"batch_buckets": wrong, "max_batch_size": 4},
                f"'{wrong}'",
                "1 to max_batch_size 4",
                "config.pbtxt",
            )
            for wrong in ("0", "1,5", "two", "1,,2", "1;2", "-1")
        ),
        ({"max_batch_size": 0}, "max_batch_size is 0", "1 or more", "config.pbtxt"),
        *(
            ({"image": wrong}, wrong, "[height, width, 3]", "config.pbtxt")
            for wrong in (
                "TYPE_FP32 [-1, -1, 3]",
                "TYPE_FP32 [24, 16]",
                "TYPE_FP32 [24, 16, 4]",
                "TYPE_FP16 [24, 16, 3]",
            )
        ),
        ({"input_name": "picture"}, "'image' is absent", "TYPE_FP32", "config.pbtxt"),
        *(
            ({"fc_out": wrong}, wrong, "TYPE_FP32 [classes]", "config.pbtxt")
            for wrong in ("TYPE_FP32 [-1]", "TYPE_FP32 [7, 1]", "TYPE_FP64 [7]")
        ),
        ({"output_name": "logits"}, "'fc_out' is absent", "TYPE_FP32", "config.pbtxt"),
        ({"weights": "none.h5"}, "none.h5 is no weights file", "imagenet, random", "put the file"),
        ({"weights": "model.py"}, "model.py is no weights file", ".safetensors", "config.pbtxt"),
        ({"weights": ""}, "is no weights file", "imagenet, random", "config.pbtxt"),
    ],
)
def test_a_mistake_in_the_configuration(write_model, changes, found, expected, remedy):
    sentence = sentence_of_failure(write_model(**changes))
    what, _, rest = sentence.partition("; expected ")
    assert found in what
    assert expected in rest.partition("; ")[0]
    assert remedy in rest.partition("; ")[2]


def test_parameters_in_capitals_are_tritons(module):
    options = module.read_options({"FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "no"}})
    assert options == module.DEFAULTS


def test_compilation_cache_dir_that_cannot_be_made(write_model, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "cache"
    sentence = sentence_of_failure(write_model(compilation_cache_dir=str(folder)))
    assert str(folder) in sentence
    assert "a folder to write to; correct config.pbtxt" in sentence


@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_a_device_that_there_is_not(module, monkeypatch, kind):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "")  # only so that it is put back
    with pytest.raises(ValueError, match=f"no {kind} device 99 .*; expected .*; install jax"):
        module.start_jax(kind, "99", 1, OPTIONS)


def test_the_device_of_each_kind(module, monkeypatch):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "")  # only so that it is put back
    assert module.start_jax("CPU", "0", 1, OPTIONS) == jax.devices("cpu")[0]
    assert module.start_jax("MODEL", "0", 1, OPTIONS) == jax.devices()[0]


def test_environment_of_a_gpu_instance(module, monkeypatch):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.75")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.75")
    with contextlib.suppress(ValueError):  # where there is no GPU
        module.start_jax("GPU", "0", 1, OPTIONS)
    assert module.os.environ["XLA_CLIENT_MEM_FRACTION"] == "0.3"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in module.os.environ


def test_environment_of_a_cpu_instance(module, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("PJRT_NPROC", "")
    module.start_jax("CPU", "0", 3, OPTIONS)
    assert module.os.environ["JAX_PLATFORMS"] == "cpu"
    assert module.os.environ["PJRT_NPROC"] == "3"


@pytest.mark.parametrize(
    ("text", "groups", "threads"),
    [
        ("", [], 8),
        ("", [("KIND_CPU", 1)], 8),
        ("", [("KIND_CPU", 2), ("KIND_GPU", 4), ("KIND_MODEL", 1)], 2),
        ("", [("KIND_CPU", 9)], 1),
        ("3", [("KIND_CPU", 2)], 3),
    ],
)
def test_share_of_cores(module, eight_cores, text, groups, threads):
    instances = [{"kind": kind, "count": count} for kind, count in groups]
    assert module.share_of_cores(text, instances) == threads


@pytest.fixture(autouse=True)
def memory_as_it_was(module, monkeypatch):
    """What the model does to the memory of its own process is not done to this one."""
    for option in tuple(module.KEEP_MEMORY):
        monkeypatch.delitem(module.KEEP_MEMORY, option)


KEEPING = """
import importlib.util, sys, types
import numpy as np

sys.dont_write_bytecode = True
sys.path.append(sys.argv[1].rpartition("/")[0])
sys.modules["triton_python_backend_utils"] = types.ModuleType("")
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) >> 10

def kept():
    before = resident()
    np.ones(100 << 20, np.uint8)
    return resident() - before

for keep in sys.argv[2:]:
    if keep == "yes":
        model.keep_freed_memory()
    print(kept())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to keep memory")
def test_freed_memory_is_kept():
    done = subprocess.run(
        [sys.executable, "-c", KEEPING, MODEL_PY, "no", "yes"],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    without, with_it = map(int, done.stdout.split())
    assert without < 50
    assert with_it > 90


def test_the_memory_of_a_process_of_others_is_theirs(module, monkeypatch):
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: pytest.fail("it was changed"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(module.keep_freed_memory).result()


def test_a_c_library_that_cannot_keep_memory(module, monkeypatch):
    monkeypatch.setitem(module.KEEP_MEMORY, -1, -1)
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    module.keep_freed_memory()


@pytest.fixture(params=["Linux", "another system"])
def eight_cores(request, module, monkeypatch):
    if request.param == "Linux":
        monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    else:  # where a process cannot be kept to some of the cores
        monkeypatch.delattr(module.os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(module.os, "cpu_count", lambda: 8)


def test_importing_the_model_does_not_start_jax():
    """Or it would be too late to set its platform and its share of memory."""
    program = (
        "import runpy, sys, types;"
        "sys.path.append(sys.argv[1].rpartition('/')[0]);"
        "sys.dont_write_bytecode = True;"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('');"
        "runpy.run_path(sys.argv[1]);"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, MODEL_PY], check=False).returncode == 0


# Weights.


def test_h5_and_safetensors_give_the_same_logits(write_model, arrays, module):
    save_file(arrays, write_model() / "1" / "a.safetensors")
    write_h5(write_model() / "1" / "a.h5", arrays, module)
    from_safetensors = logits_of(write_model(weights="a.safetensors"))
    from_h5 = logits_of(write_model(weights="a.h5"))
    np.testing.assert_array_equal(from_h5, from_safetensors)

    network = flaxmodels.ResNet18(output="logits", pretrained=None, num_classes=CLASSES)
    variables = unflatten_dict(arrays, sep="/")
    expected = jax.jit(network.apply, static_argnames="train")(variables, SCALED, train=False)
    np.testing.assert_allclose(from_h5, expected, rtol=1e-4, atol=1e-5)


def test_random_weights_are_the_same_every_time(write_model, float32_logits):
    np.testing.assert_array_equal(logits_of(write_model()), float32_logits)


@pytest.mark.parametrize("name", ["broken.h5", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>no such file</html>"])
def test_unreadable_weights(write_model, name, content):
    (write_model() / "1" / name).write_bytes(content)
    sentence = sentence_of_failure(write_model(weights=name))
    assert f"{name} cannot be read" in sentence
    assert "intact weights; delete it" in sentence


@pytest.mark.parametrize("name", ["half.h5", "half.safetensors"])
def test_half_a_file(write_model, arrays, module, name):
    path = write_model() / "1" / name
    if path.suffix == ".h5":
        write_h5(path, arrays, module)
    else:
        save_file(arrays, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{name} cannot be read" in sentence_of_failure(write_model(weights=name))


@pytest.mark.parametrize(
    ("change", "found", "remedy"),
    [
        (lambda arrays: arrays.pop("params/Conv_0/kernel"), "1 array names", "parameter archit"),
        # A ResNet34 has all that a ResNet18 has, and more.
        (
            lambda arrays: arrays.update({"params/BasicBlock_8/Conv_0/kernel": np.zeros(1)}),
            "'params/BasicBlock_8/Conv_0/kernel'",
            "parameter architecture",
        ),
        (
            lambda arrays: arrays.update({"params/Conv_0/kernel": np.zeros((3, 3, 3, 64))}),
            "has shape [3, 3, 3, 64]; expected [7, 7, 3, 64]",
            "save the file",
        ),
        (
            lambda arrays: arrays.update(random_arrays(CLASSES + 1)),
            "knows 8 classes; expected 7",
            "dims of 'fc_out'",
        ),
    ],
)
def test_weights_of_another_network(write_model, arrays, change, found, remedy):
    change(arrays)
    save_file(arrays, write_model() / "1" / "other.safetensors")
    sentence = sentence_of_failure(write_model(weights="other.safetensors"))
    assert found in sentence
    assert remedy in sentence


def imagenet(write_model, tmp_path):
    return write_model(
        weights="imagenet", cache_dir=str(tmp_path / "cache"), fc_out="TYPE_FP32 [1000]"
    )


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "flaxmodels").iterdir())


def test_imagenet_weights_without_internet(write_model, tmp_path, monkeypatch):
    def refuse(*_):
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sentence = sentence_of_failure(imagenet(write_model, tmp_path))
    path = tmp_path / "cache" / "flaxmodels" / "resnet18_weights.h5"
    assert f"no weights in {path}, and the download failed" in sentence
    assert "expected an internet connection or that file; put https://" in sentence
    assert cached(tmp_path) == []


class Download:
    """What requests.get returns of a file, of which perhaps not all arrives."""

    def __init__(self, content, length):
        self.content, self.headers = content, {"content-length": str(length)}

    def iter_content(self, chunk_size):
        return [self.content]


@pytest.mark.parametrize("announced", [13, 99])
def test_what_is_no_weights_file_is_not_kept(write_model, tmp_path, monkeypatch, announced):
    """An error page that arrives in full, and a file of which the end is missing."""
    monkeypatch.setattr(requests, "get", lambda *_, **__: Download(b"<html></html>", announced))
    sentence = sentence_of_failure(imagenet(write_model, tmp_path))
    assert "the download failed" in sentence
    assert cached(tmp_path) == []


def test_imagenet_weights_are_downloaded_once(write_model, tmp_path, monkeypatch, module):
    arrays = random_arrays(1000)
    write_h5(tmp_path / "served.h5", arrays, module)
    content = (tmp_path / "served.h5").read_bytes()
    urls = []

    def get(url, **_):
        urls.append(url)
        return Download(content, len(content))

    monkeypatch.setattr(requests, "get", get)
    folder = imagenet(write_model, tmp_path)
    first, second = logits_of(folder, SCALED[:1]), logits_of(folder, SCALED[:1])
    assert len(urls) == 1
    assert cached(tmp_path) == ["resnet18_weights.h5"]
    np.testing.assert_array_equal(first, second)
    assert first.shape == (1, 1000)


def test_imagenet_knows_a_thousand_classes(write_model, tmp_path, module):
    path = tmp_path / "cache" / "flaxmodels" / "resnet18_weights.h5"
    path.parent.mkdir(parents=True)
    write_h5(path, random_arrays(1000), module)
    folder = write_model(weights="imagenet", cache_dir=str(tmp_path / "cache"))
    assert "knows 1000 classes; expected 7" in sentence_of_failure(folder)


def test_broken_imagenet_weights_in_the_cache(write_model, tmp_path):
    path = tmp_path / "cache" / "flaxmodels" / "resnet18_weights.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    sentence = sentence_of_failure(imagenet(write_model, tmp_path))
    assert f"{path} cannot be read" in sentence
    assert "delete it and get it again" in sentence


# What is computed.


def test_uint8_images_are_scaled(write_model, float32_logits):
    logits = logits_of(write_model(image=f"TYPE_UINT8 {list(IMAGE_SHAPE)}"), IMAGES)
    np.testing.assert_allclose(logits, float32_logits, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close_to_float32_and_not_the_same(write_model, float32_logits):
    logits = logits_of(write_model(compute_dtype="bfloat16"))
    assert logits.dtype == np.float32
    worst = np.abs(logits - float32_logits).max() / np.abs(float32_logits).max()
    assert 1e-4 < worst < 0.05


@pytest.mark.parametrize(
    ("text", "max_batch_size", "on_gpu", "on_cpu"),
    [
        ("", 1, [1], [1]),
        ("", 3, [1, 2, 3], [1, 2, 3]),
        ("", 8, [1, 2, 4, 8], [1, 2, 4]),
        ("", 6, [1, 2, 4, 6], [1, 2, 4]),
        (" 5, 3 ,3", 9, [3, 5], [3, 5]),
    ],
)
def test_buckets(module, text, max_batch_size, on_gpu, on_cpu):
    assert module.read_buckets(text, max_batch_size, "GPU") == on_gpu
    assert module.read_buckets(text, max_batch_size, "CPU") == on_cpu


@pytest.mark.parametrize("buckets", [[1], [3], [1, 2, 4, 8], [2, 5]])
def test_rows_are_split_over_the_fewest_calls_with_the_least_padding(module, buckets):
    for rows in range(40):
        calls = module.split_rows(rows, buckets)
        assert set(calls) <= set(buckets)
        assert len(calls) == -(-rows // buckets[-1])
        smaller = [bucket for bucket in buckets if bucket < (calls or [0])[-1]]
        assert all(sum(calls[:-1]) + bucket < rows for bucket in smaller)
        assert sum(calls) >= rows


def test_one_program_is_compiled_for_each_bucket(write_model):
    folder = write_model(max_batch_size=3, batch_buckets="1,3")
    with triton_stub.Server(folder.parent) as server:
        assert re.findall(r"batch (\d+) compiled", str(server.log())) == ["1", "3"]


def test_a_request_without_image_is_refused(write_model):
    """Triton lets it pass if an optional input makes up the number."""
    extra = "input { name: 'other' data_type: TYPE_INT32 dims: [1] optional: true }"
    with (
        loaded(write_model(extra=extra)) as model,
        pytest.raises(InferenceError, match=r"the request has no input 'image'; expected one; "),
    ):
        model(other=np.zeros((1, 1), np.int32))


class OnGpu(Tensor):
    """A tensor as the server gives it when inputs may stay on the GPU."""

    def as_numpy(self):
        raise TritonModelException("Tensor is stored in GPU and cannot be converted to NumPy.")


WRONG_REQUESTS = {
    "no image": ({}, "the request has no input 'image'; expected one; send it."),
    "on the GPU": ({"image": OnGpu("image", SCALED)}, "Tensor is stored in GPU"),
    **{
        f"{array.dtype} {array.shape}": (
            {"image": Tensor("image", array)},
            f"input 'image' is {array.dtype} {list(array.shape)}; "
            "expected float32 [n, 24, 16, 3] and n above 0; convert or resize it.",
        )
        for array in (SCALED[0], SCALED[:0], SCALED[:, :5], IMAGES, SCALED.astype(np.float64))
    },
}


@pytest.mark.parametrize(("request_", "message"), WRONG_REQUESTS.values(), ids=WRONG_REQUESTS)
@pytest.mark.parametrize("neighbours", [(), (0,), (2,), (0, 2)])
def test_a_wrong_request_fails_alone(module, request_, message, neighbours):
    model = module.TritonPythonModel()
    model.image_shape, model.image_dtype, model.buckets = IMAGE_SHAPE, np.dtype(np.float32), [1, 2]
    model.programs = dict.fromkeys(model.buckets, lambda images: images.sum(axis=(1, 2)))
    model.variables = None
    requests = [{"image": Tensor("image", SCALED[:rows])} for rows in (2, 3, 1)]
    requests[1] = request_
    sent = [requests[index] for index in sorted({1, *neighbours})]

    responses = model.execute(sent)

    assert len(responses) == len(sent)
    for sent_request, response in zip(sent, responses, strict=True):
        if sent_request is request_:
            assert message in response.error().message()
            assert response.error().code() == TritonError.INVALID_ARG
        else:
            (logits,) = response.output_tensors()
            expected = sent_request["image"].as_numpy().sum(axis=(1, 2))
            np.testing.assert_array_equal(logits.as_numpy(), expected)


def test_finalize_releases_the_device_buffers(write_model):
    before = {id(array) for array in jax.live_arrays()}
    with loaded(write_model()) as model:
        model(image=SCALED[:1])
        held = [array for array in jax.live_arrays() if id(array) not in before]
        weights = sum(array.nbytes for array in held)
        assert weights > 40_000_000  # 11 million of float32
    assert all(array.is_deleted() for array in held if array.nbytes)
    assert not [array for array in jax.live_arrays() if id(array) not in before]


def test_two_instances_share_a_process(write_model, float32_logits):
    folder = write_model(extra="instance_group { count: 2 kind: KIND_CPU }")
    np.testing.assert_array_equal(logits_of(folder), float32_logits)


def test_compiled_programs_are_kept(write_model, tmp_path):
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {option: getattr(jax.config, option) for option in options}
    compilation_cache.reset_cache()
    try:
        with loaded(write_model(compilation_cache_dir=str(tmp_path / "programs"))):
            assert any((tmp_path / "programs").iterdir())
    finally:
        for option, value in before.items():
            jax.config.update(option, value)
        compilation_cache.reset_cache()
