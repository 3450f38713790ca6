"""A ResNet's weights: from a file, a download or a seed to variables that can be served."""

import tempfile
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from resnet_options import mistake


def load_variables(network, image_shape, options, version_dir):
    """The network's variables as numpy arrays, folded: {"params": {...}}."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict
    from flaxmodels.resnet.ops import BatchNorm

    convolutions, norms = [], {}

    def note_order(call, args, kwargs, context):
        module, name = context.module, "/".join(context.module.path)
        if isinstance(module, nn.Conv):
            convolutions.append(name)
        elif isinstance(module, BatchNorm):
            norms[name] = convolutions[-1], module.epsilon
        return call(*args, **kwargs)

    def init():
        return network.init(jax.random.key(0), jnp.zeros((1, *image_shape)), train=False)

    with nn.intercept_methods(note_order):
        leaves = flatten_dict(jax.eval_shape(init), sep="/")  # names, shapes; nothing is computed
    shapes = {name: leaf.shape for name, leaf in sorted(leaves.items())}
    if options["weights"] == "random":
        arrays = random_arrays(shapes)
    else:
        arrays = read_arrays(network, shapes, options, version_dir)
    # BatchNorm multiplies each channel and adds to it, always by the same numbers when nothing is
    # trained. Its factor goes into the kernel of the convolution before it; what it adds remains.
    for norm, (convolution, epsilon) in norms.items():
        variance, mean = (arrays.pop(f"batch_stats/{norm}/{leaf}") for leaf in ("var", "mean"))
        factor = arrays.pop(f"params/{norm}/scale") / np.sqrt(variance + np.float32(epsilon))
        arrays[f"params/{convolution}/kernel"] = arrays[f"params/{convolution}/kernel"] * factor
        arrays[f"params/{norm}/bias"] = arrays[f"params/{norm}/bias"] - mean * factor
    # Kernels are kept in the type that convolutions compute in.
    dtype = jnp.dtype(options["compute_dtype"])
    for name in arrays:
        arrays[name] = arrays[name].astype(dtype if name.endswith("/kernel") else np.float32)
    return unflatten_dict(arrays, sep="/")


def apply_folded(network, variables, images):
    """Logits of the network whose BatchNorms only add: their factors are in the kernels."""
    import flax.linen as nn
    from flaxmodels.resnet.ops import BatchNorm

    def only_add(call, args, kwargs, context):
        if not (isinstance(context.module, BatchNorm) and context.method_name == "__call__"):
            return call(*args, **kwargs)
        return args[0] + context.module.get_variable("params", "bias").astype(args[0].dtype)

    with nn.intercept_methods(only_add):
        return network.apply(variables, images, train=False)


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
