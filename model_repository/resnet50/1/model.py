"""A JAX ResNet as a Triton Python model.

Read it from top to bottom. `initialize` does all the slow work once: options, device, weights, one
compiled program for each batch size. `execute` turns many requests into one padded batch, and its
logits back into many responses. The functions below the class are the steps of `initialize`.

Triton imports this file in a process of its own for each instance, and once more to complete the
configuration. JAX is imported inside functions because config.pbtxt decides JAX's platform and its
share of GPU memory, which JAX reads from the environment when it starts; and because the completing
process, which lives for a moment, need not pay for it.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

DEFAULTS = {  # config.pbtxt says what each of them means
    "architecture": "resnet50",
    "weights": "imagenet",
    "cache_dir": "~/.cache",
    "compute_dtype": "float32",
    "batch_buckets": "",
    "memory_fraction": "0.4",
    "compilation_cache_dir": "",
}
ARCHITECTURES = {f"resnet{depth}": f"ResNet{depth}" for depth in (18, 34, 50, 101, 152)}
DTYPES = ("float32", "bfloat16")


class TritonPythonModel:
    """One instance of the model. Triton calls its methods one at a time."""

    def initialize(self, args):
        """Load and compile everything that `execute` will need; `args` are seven strings."""
        name, config = args["model_instance_name"], json.loads(args["model_config"])
        options = read_options(config["parameters"])
        self.image_shape, self.image_dtype, classes = read_tensors(config)
        self.buckets = read_buckets(options["batch_buckets"], config["max_batch_size"])
        device = start_jax(args["model_instance_kind"], args["model_instance_device_id"], options)

        import flaxmodels
        import jax
        import jax.numpy as jnp

        started = time.perf_counter()
        network = getattr(flaxmodels, ARCHITECTURES[options["architecture"]])(
            output="logits", pretrained=None, num_classes=classes, dtype=options["compute_dtype"]
        )
        version_dir = Path(args["model_repository"], args["model_version"])
        variables = load_variables(network, self.image_shape, options, version_dir)
        self.variables = jax.device_put(variables, device)
        pb_utils.Logger.log_info(
            f"{name}: {options['architecture']} with weights {options['weights']!r} on {device} "
            f"in {time.perf_counter() - started:.2f} s"
        )

        def classify(variables, images):
            if images.dtype == jnp.uint8:  # they came as a quarter of the bytes of float32
                images = images.astype(jnp.float32) / 255
            return network.apply(variables, images, train=False).astype(jnp.float32)

        # A program is compiled for one shape: hence one for each batch size that will be run, and
        # none later. Called with another shape a compiled program raises; it never recompiles.
        self.programs = {}
        for bucket in self.buckets:
            started = time.perf_counter()
            images = jax.ShapeDtypeStruct((bucket, *self.image_shape), self.image_dtype)
            program = jax.jit(classify).lower(self.variables, images).compile()
            # The first run loads kernels and reserves memory: better now than in a request.
            program(self.variables, np.zeros(images.shape, images.dtype)).block_until_ready()
            self.programs[bucket] = program
            pb_utils.Logger.log_info(
                f"{name}: batch {bucket} compiled and run in {time.perf_counter() - started:.2f} s"
            )

    def execute(self, requests):
        """One response for each of the requests, in their order."""
        images, responses = {}, {}
        for index, request in enumerate(requests):
            try:
                images[index] = self.read_image(request)
            except (ValueError, pb_utils.TritonModelException) as error:
                # An exception that left `execute` would fail this request's neighbours too.
                error = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses[index] = pb_utils.InferenceResponse(error=error)

        logits, start = self.classify(list(images.values())), 0
        for index, image in images.items():
            rows = logits[start : start + len(image)]
            responses[index] = pb_utils.InferenceResponse([pb_utils.Tensor("fc_out", rows)])
            start += len(image)
        return [responses[index] for index in range(len(requests))]

    def read_image(self, request):
        """Images [n, height, width, 3] of one request, checked because others share their batch.

        The server has checked them against config.pbtxt, but lets an optional input be absent.
        """
        tensor = pb_utils.get_input_tensor_by_name(request, "image")
        if tensor is None:
            raise mistake("the request has no input 'image'", "one", "send it")
        image = tensor.as_numpy()
        if image.dtype != self.image_dtype or image.shape[1:] != self.image_shape or not len(image):
            raise mistake(
                f"input 'image' is {image.dtype} {list(image.shape)}",
                f"{self.image_dtype} [n, {', '.join(map(str, self.image_shape))}] and n above 0",
                "convert or resize it",
            )
        return image

    def classify(self, images):
        """Logits [rows, classes] of a list of arrays that hold so many rows together."""
        if not images:
            return []
        rows = sum(map(len, images))
        calls = split_rows(rows, self.buckets)
        batch = np.zeros((sum(calls), *self.image_shape), self.image_dtype)  # zeros are the padding
        np.concatenate(images, out=batch[:rows])
        # JAX answers a call before its work is done: all are under way before np.asarray waits.
        running, start = [], 0
        for bucket in calls:
            running.append(self.programs[bucket](self.variables, batch[start : start + bucket]))
            start += bucket
        return np.concatenate([np.asarray(logits) for logits in running])[:rows]

    def finalize(self):
        """Give the device's memory back before the model is unloaded."""
        import jax

        for array in jax.tree.leaves(self.variables):
            array.delete()  # frees the device's memory now, whoever still holds a reference
        self.variables, self.programs = None, {}


def split_rows(rows, buckets):
    """Batch sizes of the calls that take so many rows: 11 rows in buckets 1, 2, 4, 8 are [8, 4]."""
    full, rest = divmod(rows, buckets[-1])
    return [buckets[-1]] * full + ([min(b for b in buckets if b >= rest)] if rest else [])


def mistake(found, expected, remedy):
    """Whatever is wrong ends in one sentence; no other model is served than was asked for."""
    return ValueError(f"{found}; expected {expected}; {remedy}.")


def read_options(parameters):
    """Parameters of config.pbtxt as text, with their defaults. CAPITALS are Triton's own."""
    given = {key: p["string_value"].strip() for key, p in parameters.items() if not key.isupper()}
    for key in sorted(set(given) - set(DEFAULTS)):
        raise mistake(f"unknown parameter {key!r}", " or ".join(DEFAULTS), "correct config.pbtxt")
    options = {**DEFAULTS, **given}
    share = options["memory_fraction"]
    is_share = share.replace(".", "", 1).isdecimal() and 0 < float(share) <= 1
    for key, valid, expected in (
        ("architecture", options["architecture"] in ARCHITECTURES, " or ".join(ARCHITECTURES)),
        ("compute_dtype", options["compute_dtype"] in DTYPES, " or ".join(DTYPES)),
        ("memory_fraction", is_share, "a number above 0 and up to 1"),
    ):
        if not valid:
            raise mistake(f"parameter {key} is {options[key]!r}", expected, "correct config.pbtxt")
    return options


def read_tensors(config):
    """Image shape, image dtype and number of classes, from the tensors of config.pbtxt."""
    absent = {"data_type": "absent", "dims": []}
    image = pb_utils.get_input_config_by_name(config, "image") or absent
    dtype = {"TYPE_FP32": np.float32, "TYPE_UINT8": np.uint8}.get(image["data_type"])
    if dtype is None or len(image["dims"]) != 3 or image["dims"][2] != 3 or min(image["dims"]) < 1:
        found = f"input 'image' is {image['data_type']} {image['dims']}"
        expected = "TYPE_FP32 or TYPE_UINT8 [height, width, 3] with sizes to compile for"
        raise mistake(found, expected, "correct config.pbtxt")
    logits = pb_utils.get_output_config_by_name(config, "fc_out") or absent
    if logits["data_type"] != "TYPE_FP32" or len(logits["dims"]) != 1 or logits["dims"][0] < 1:
        found = f"output 'fc_out' is {logits['data_type']} {logits['dims']}"
        raise mistake(found, "TYPE_FP32 [classes]", "correct config.pbtxt")
    return tuple(image["dims"]), np.dtype(dtype), logits["dims"][0]


def read_buckets(text, largest):
    """Ascending batch sizes: those asked for, else powers of two up to max_batch_size, and it."""
    if largest < 1:
        raise mistake(f"max_batch_size is {largest}", "1 or more", "correct config.pbtxt")
    if not text:
        return sorted({2**power for power in range(largest.bit_length())} | {largest})
    sizes = [size.strip() for size in text.split(",")]
    buckets = sorted({int(size) if size.isdecimal() else 0 for size in sizes})
    if buckets[0] < 1 or buckets[-1] > largest:
        found = f"parameter batch_buckets is {text!r}"
        expected = f"batch sizes from 1 to max_batch_size {largest}, separated by commas"
        raise mistake(found, expected, "correct config.pbtxt, or leave it out for powers of two")
    return buckets


def start_jax(kind, device_id, options):
    """The JAX device of this instance, after what must be set before JAX starts."""
    if kind == "CPU":  # else JAX takes memory of a GPU that it will not use
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    else:  # else JAX takes three quarters of the GPU, and a second instance finds no room
        os.environ["XLA_CLIENT_MEM_FRACTION"] = options["memory_fraction"]
        os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # its old name; JAX refuses both
    import jax

    if options["compilation_cache_dir"]:
        folder = Path(options["compilation_cache_dir"]).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = f"parameter compilation_cache_dir is '{folder}' ({error.strerror})"
            raise mistake(found, "a folder to write to", "correct config.pbtxt") from None
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    # Never JAX's default device: several instances may share this machine, or even this process.
    try:
        return jax.devices(None if kind == "MODEL" else kind.lower())[int(device_id)]
    except (RuntimeError, IndexError) as error:
        platforms = os.getenv("JAX_PLATFORMS", "")
        found = f"JAX finds no {kind} device {device_id} with JAX_PLATFORMS={platforms!r} ({error})"
        remedy = "install jax[cuda12] for a GPU, or correct config.pbtxt"
        raise mistake(found, "the device that instance_group names", remedy) from None


def load_variables(network, image_shape, options, version_dir):
    """The network's variables as numpy arrays: {"params": {...}, "batch_stats": {...}}."""
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict

    def init():
        return network.init(jax.random.key(0), jnp.zeros((1, *image_shape)), train=False)

    leaves = flatten_dict(jax.eval_shape(init), sep="/")  # names and shapes; nothing is computed
    shapes = {name: leaf.shape for name, leaf in sorted(leaves.items())}
    if options["weights"] == "random":
        arrays = random_arrays(shapes)
    else:
        arrays = read_arrays(network, shapes, options, version_dir)
    # Kernels are kept in the type that convolutions compute in. BatchNorm's is always float32.
    dtype = jnp.dtype(options["compute_dtype"])
    for name in arrays:
        arrays[name] = arrays[name].astype(dtype if name.endswith("/kernel") else np.float32)
    return unflatten_dict(arrays, sep="/")


def random_arrays(shapes):
    """Seeded, and made by numpy: there at once, and the same on every device with every JAX."""
    generator = np.random.default_rng(0)
    arrays = {}
    for name, shape in shapes.items():
        if name.endswith("/kernel"):
            fan_in = np.prod(shape[:-1])
            arrays[name] = generator.standard_normal(shape, np.float32) / np.sqrt(
                np.float32(fan_in)
            )
        else:
            arrays[name] = np.full(shape, name.endswith(("/scale", "/var")), np.float32)
    return arrays


def read_arrays(network, shapes, options, version_dir):
    """Arrays of a weights file by their Flax names: this network's, all of them, nothing else."""
    weights, architecture = options["weights"], network.architecture
    path = version_dir / weights
    if weights == "imagenet":
        path = download(architecture, Path(options["cache_dir"]).expanduser())
    if path.suffix not in (".h5", ".safetensors") or not path.is_file():
        found = f"parameter weights is {weights!r}, and {path} is no weights file"
        expected = "imagenet, random, or the name of an .h5 or .safetensors file beside model.py"
        remedy = "correct config.pbtxt or put the file there"
        if (script := version_dir.parent / "train.py").is_file():
            remedy = f"make the file with `python {script}`, or correct config.pbtxt"
        raise mistake(found, expected, remedy)
    try:
        stored = read_file(path)
    except Exception as error:  # noqa: BLE001 (h5py and safetensors have no common one)
        found, remedy = f"{path} cannot be read ({error})", "delete it and get it again"
        raise mistake(found, "intact weights", remedy) from None

    names = {name: name for name in shapes}
    if path.suffix == ".h5":
        names = {name: h5_name(name, architecture) for name in shapes}
    if wrong := sorted(set(names.values()) ^ set(stored)):
        found = f"{path} and {architecture} differ in {len(wrong)} array names, as {wrong[0]!r}"
        expected = f"the {len(names)} names of {architecture} and no others"
        raise mistake(found, expected, "correct the parameter architecture or save the file anew")
    if (classes := len(stored[names["params/Dense_0/bias"]])) != network.num_classes:
        found, expected = f"{path} knows {classes} classes", f"{network.num_classes} as in 'fc_out'"
        raise mistake(found, expected, "correct the dims of 'fc_out' or use other weights")
    for name, stored_name in names.items():
        if stored[stored_name].shape != shapes[name]:
            found = f"{stored_name!r} in {path} has shape {list(stored[stored_name].shape)}"
            expected = f"{list(shapes[name])} as in {architecture}"
            raise mistake(found, expected, "save the file anew with that shape")
    return {name: stored[stored_name] for name, stored_name in names.items()}


def read_file(path):
    """All arrays of a weights file by the names that they have there."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    import h5py

    arrays = {}
    with h5py.File(path, "r") as file:
        file.visit(lambda name: arrays.update({name: file[name]}))
        return {name: item[()] for name, item in arrays.items() if isinstance(item, h5py.Dataset)}


def h5_name(name, architecture):
    """Name in flaxmodels' files of an array that Flax names otherwise.

    params/BasicBlock_2/Conv_2/kernel of ResNet18 is layer2/block0/downsample/conv/weight there: a
    convolution after a block's own two, or three, is the one of its shortcut.
    """
    from flaxmodels.resnet.resnet import LAYERS

    *blocks, module, leaf = name.split("/")[1:]
    kind, number = module.split("_")
    kind = {"Conv": "conv", "BatchNorm": "bn", "Dense": "fc"}[kind]
    leaf = "weight" if leaf == "kernel" else leaf
    if not blocks:
        return f"fc/{leaf}" if kind == "fc" else f"{kind}1/{leaf}"
    block_kind, block = blocks[0].split("_")
    starts = np.cumsum([0, *LAYERS[architecture]])
    layer = int(np.searchsorted(starts, int(block), side="right"))
    own = {"BasicBlock": 2, "Bottleneck": 3}[block_kind]
    part = f"{kind}{int(number) + 1}" if int(number) < own else f"downsample/{kind}"
    return f"layer{layer}/block{int(block) - starts[layer - 1]}/{part}/{leaf}"


def download(architecture, cache_dir):
    """Path of flaxmodels' ImageNet weights, downloaded by flaxmodels if they are not there yet.

    flaxmodels keeps an error page as if it were weights, and two instances would write to one file:
    so each downloads to a folder of its own, and only what opens as HDF5 is moved into the cache.
    """
    import flaxmodels.utils
    import h5py
    from flaxmodels.resnet.resnet import URLS

    path = cache_dir / "flaxmodels" / f"{architecture}_weights.h5"
    if not path.exists():
        pb_utils.Logger.log_info(f"downloading {URLS[architecture]} to {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                fresh = flaxmodels.utils.download(folder, URLS[architecture])
                h5py.File(fresh, "r").close()
                Path(fresh).replace(path)
        except OSError as error:  # of the network, of the disk, of HDF5
            found = f"there are no weights in {path}, and the download failed ({error})"
            remedy = f"put {URLS[architecture]} there, or set the parameter weights"
            raise mistake(found, "an internet connection or that file", remedy) from None
    return path
