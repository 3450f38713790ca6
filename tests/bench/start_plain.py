"""The least that starting a ResNet takes: imports, weights, a compiled call for each batch size.

Run by ``start.py`` with the Python of the real server's environment:

    python start_plain.py ARCHITECTURE CACHE SIZE...

Says so when it is ready: its end is no part of a start.
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import flaxmodels
import jax
import jax.numpy as jnp
import numpy as np


def main() -> None:
    architecture, cache, *sizes = sys.argv[1:]
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    network = getattr(flaxmodels, architecture.replace("resnet", "ResNet"))(
        output="logits", pretrained=None
    )

    def init():
        return network.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)

    generator = np.random.default_rng(0)
    variables = jax.tree.map(
        # Their values change nothing in how long a call takes, unless they are subnormal.
        lambda leaf: generator.random(leaf.shape, np.float32) / 100,
        jax.eval_shape(init),
    )
    variables = jax.device_put(variables)
    program = jax.jit(lambda variables, images: network.apply(variables, images, train=False))
    for size in map(int, sizes):
        program(variables, np.zeros((size, 224, 224, 3), np.float32)).block_until_ready()
    print("ready", flush=True)


if __name__ == "__main__":
    main()
