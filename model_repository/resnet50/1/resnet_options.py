"""What config.pbtxt tells the model: its parameters, its tensors, its batch sizes."""

import os

import numpy as np
import triton_python_backend_utils as pb_utils

DEFAULTS = {  # config.pbtxt says what each of them means
    "architecture": "resnet50",
    "weights": "imagenet",
    "cache_dir": "~/.cache",
    "compute_dtype": "float32",
    "batch_buckets": "",
    "cpu_engine": "xla",
    "cpu_threads": "",
    "memory_fraction": "0.4",
    "compilation_cache_dir": "",
}
ARCHITECTURES = {f"resnet{depth}": f"ResNet{depth}" for depth in (18, 34, 50, 101, 152)}
DTYPES = ("float32", "bfloat16")
CPU_ENGINES = ("xla", "openvino")
CPU_BATCH = 4


def mistake(found, expected, remedy):
    """Whatever is wrong ends in one sentence; no other model is served than was asked for."""
    return ValueError(f"{found}; expected {expected}; {remedy}.")


def read_options(parameters):
    """Parameters of config.pbtxt as text, with their defaults. CAPITALS are Triton's own."""
    given = {key: p["string_value"].strip() for key, p in parameters.items() if not key.isupper()}
    for key in sorted(set(given) - set(DEFAULTS)):
        raise mistake(f"unknown parameter {key!r}", " or ".join(DEFAULTS), "correct config.pbtxt")
    options = {**DEFAULTS, **given}
    is_count = options["cpu_threads"].lstrip("0").isdecimal() or not options["cpu_threads"]
    share = options["memory_fraction"]
    is_share = share.replace(".", "", 1).isdecimal() and 0 < float(share) <= 1
    for key, valid, expected in (
        ("architecture", options["architecture"] in ARCHITECTURES, " or ".join(ARCHITECTURES)),
        ("compute_dtype", options["compute_dtype"] in DTYPES, " or ".join(DTYPES)),
        ("cpu_engine", options["cpu_engine"] in CPU_ENGINES, " or ".join(CPU_ENGINES)),
        ("cpu_threads", is_count, "a number of threads, or nothing for a fair share"),
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


def read_buckets(text, largest, kind):
    """Ascending batch sizes: those asked for, else powers of two up to max_batch_size, and it.

    On a CPU up to 4: a larger batch takes about as long as its parts do, with more padding.
    """
    if largest < 1:
        raise mistake(f"max_batch_size is {largest}", "1 or more", "correct config.pbtxt")
    if not text:
        largest = min(largest, CPU_BATCH) if kind == "CPU" else largest
        return sorted({2**power for power in range(largest.bit_length())} | {largest})
    sizes = [size.strip() for size in text.split(",")]
    buckets = sorted({int(size) if size.isdecimal() else 0 for size in sizes})
    if buckets[0] < 1 or buckets[-1] > largest:
        found = f"parameter batch_buckets is {text!r}"
        expected = f"batch sizes from 1 to max_batch_size {largest}, separated by commas"
        raise mistake(found, expected, "correct config.pbtxt, or leave it out for powers of two")
    return buckets


def share_of_cores(text, groups):
    """Threads of one instance on the CPU: as asked for, else the cores divided by the instances.

    Each instance has one program at work at a time. With all cores each they would only be in each
    other's way.
    """
    instances = sum(group["count"] for group in groups if group["kind"] != "KIND_GPU")
    # Not on every system can a process be kept to some of the cores.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(text or max(1, cores // max(1, instances)))
