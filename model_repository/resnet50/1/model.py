"""A JAX ResNet as a Triton Python model.

Read it from top to bottom. `initialize` does all the slow work once: options, device, weights, one
compiled program for each batch size. `execute` turns many requests into one padded batch, and its
logits back into many responses. The files beside this one are the steps of `initialize`:
resnet_options.py reads config.pbtxt, resnet_weights.py the weights, resnet_openvino.py is another
compiler for CPUs.

Triton imports this file in a process of its own for each instance, and once more to complete the
configuration. JAX is imported inside functions because config.pbtxt decides JAX's platform and its
share of GPU memory, which JAX reads from the environment when it starts; and because the completing
process, which lives for a moment, need not pay for it.
"""

import ctypes
import functools
import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from resnet_options import (
    ARCHITECTURES,
    mistake,
    read_buckets,
    read_options,
    read_tensors,
    share_of_cores,
)
from resnet_weights import apply_folded, load_variables

XLA_OPTIONS = {
    # By default JAX 0.10 computes sums of products in a way that leaves convolutions half as fast.
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
}

# Options of glibc's mallopt: give nothing back to the system, take nothing from it but by growing
# the one heap that all threads share.
KEEP_MEMORY = {-1: -1, -4: 0, -8: 1}  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX


class TritonPythonModel:
    """One instance of the model. Triton calls its methods one at a time."""

    def initialize(self, args):
        """Load and compile everything that `execute` will need; `args` are seven strings."""
        name, config = args["model_instance_name"], json.loads(args["model_config"])
        options = read_options(config["parameters"])
        self.image_shape, self.image_dtype, classes = read_tensors(config)
        kind, device_id = args["model_instance_kind"], args["model_instance_device_id"]
        self.buckets = read_buckets(options["batch_buckets"], config["max_batch_size"], kind)
        self.programs = {}
        threads = share_of_cores(options["cpu_threads"], config["instance_group"])
        device = start_jax(kind, device_id, threads, options)

        import flaxmodels
        import jax
        import jax.numpy as jnp

        started = time.perf_counter()
        network = getattr(flaxmodels, ARCHITECTURES[options["architecture"]])(
            output="logits", pretrained=None, num_classes=classes, dtype=options["compute_dtype"]
        )
        version_dir = Path(args["model_repository"], args["model_version"])
        variables = load_variables(network, self.image_shape, options, version_dir)
        pb_utils.Logger.log_info(
            f"{name}: {options['architecture']} with weights {options['weights']!r} for {device} "
            f"in {time.perf_counter() - started:.2f} s"
        )

        def classify(variables, images):
            if images.dtype == jnp.uint8:  # they came as a quarter of the bytes of float32
                images = images.astype(jnp.float32) / 255
            return apply_folded(network, variables, images).astype(jnp.float32)

        if options["cpu_engine"] == "openvino" and device.platform == "cpu":
            self.variables = {}  # they are constants of the program, which takes any batch
            one = jax.ShapeDtypeStruct((1, *self.image_shape), self.image_dtype)
            program = compile_with_openvino(
                functools.partial(classify, variables), one, options["compute_dtype"], threads
            )

            def compile_for(_):
                return program
        else:
            self.variables = jax.device_put(variables, device)

            def compile_for(images):
                return compile_with_xla(classify, self.variables, images, device.platform)

        # XLA compiles for one shape: hence a program for each batch size that will be run, and none
        # later. Called with another shape a compiled program raises; it never recompiles.
        for bucket in self.buckets:
            started = time.perf_counter()
            images = np.zeros((bucket, *self.image_shape), self.image_dtype)
            self.programs[bucket] = compile_for(images)
            # The first run loads kernels and reserves memory: better now than in a request. JAX
            # does not wait for its end but compiles the next program meanwhile.
            logits = self.programs[bucket](images)
            pb_utils.Logger.log_info(
                f"{name}: batch {bucket} compiled in {time.perf_counter() - started:.2f} s"
            )
        np.asarray(logits)

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
        if [rows] == calls and len(images) == 1:
            batch = images[0]
        else:
            batch = np.zeros((sum(calls), *self.image_shape), self.image_dtype)  # the padding is 0
            np.concatenate(images, out=batch[:rows])
        # JAX answers a call before its work is done: all are under way before np.asarray waits.
        running, start = [], 0
        for bucket in calls:
            running.append(self.programs[bucket](batch[start : start + bucket]))
            start += bucket
        return np.concatenate([np.asarray(logits) for logits in running])[:rows]

    def finalize(self):
        """Give the device's memory back before the model is unloaded."""
        import jax

        for array in jax.tree.leaves(self.variables):
            array.delete()  # frees the device's memory now, whoever still holds a reference
        self.variables, self.programs = None, {}


def compile_with_xla(function, variables, images, platform):
    """The program of JAX's own compiler for images of this shape."""
    import jax

    lowered = jax.jit(function).lower(variables, images)
    try:
        program = lowered.compile(compiler_options=XLA_OPTIONS.get(platform))
    except jax.errors.JaxRuntimeError:  # this version of JAX does not know them
        program = lowered.compile()
    return functools.partial(program, variables)


def compile_with_openvino(function, image, compute_dtype, threads):
    """The program of OpenVINO for any number of images such as this one."""
    try:
        import resnet_openvino

        return resnet_openvino.compile_with_openvino(function, image, compute_dtype, threads)
    except ImportError as error:
        found = f"parameter cpu_engine is 'openvino' ({error})"
        remedy = "install them, or set it to xla"
        raise mistake(found, "the packages openvino and onnx", remedy) from None


def keep_freed_memory():
    """Have this process keep what it frees for the next batch.

    In each call XLA allocates and frees what the network computes on its way to the logits. From
    the system these tens of megabytes come page by page, filled with zeros: with batches of 4 a
    ResNet50 loses a sixth of its speed to that.
    """
    is_own_process = threading.current_thread() is threading.main_thread()  # as in Triton
    if sys.platform == "linux" and is_own_process:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        for option, value in KEEP_MEMORY.items() if mallopt else ():
            mallopt(option, value)


def split_rows(rows, buckets):
    """Batch sizes of the calls that take so many rows: 11 rows in buckets 1, 2, 4, 8 are [8, 4]."""
    full, rest = divmod(rows, buckets[-1])
    return [buckets[-1]] * full + ([min(b for b in buckets if b >= rest)] if rest else [])


def start_jax(kind, device_id, threads, options):
    """The JAX device of this instance, after what must be set before JAX starts."""
    if kind == "CPU":  # else JAX takes memory of a GPU that it will not use
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ["PJRT_NPROC"] = str(threads)
        keep_freed_memory()
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
