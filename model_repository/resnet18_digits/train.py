"""Train flaxmodels' ResNet18 on scikit-learn's handwritten digits: `python train.py`.

Writes 1/weights.safetensors for model.py beside it, in well under two minutes on two CPU cores and
from a fixed seed. JAX is imported inside functions: who only wants the images, with
`load_digits()`, needs numpy and scikit-learn.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

WEIGHTS = Path(__file__).parent / "1" / "weights.safetensors"
SEED = 0
HELD_OUT = 360  # a fifth of the 1797 images
CLASSES = 10
EPOCHS = 8
BATCH = 64
LEARNING_RATE = 2e-3
MAX_SHIFT = 3  # pixels of 32
SMOOTHING = 0.1  # of the labels: less sure of the training images, better on others
REQUIRED_ACCURACY = 0.97


def load_digits():
    """(train images, train labels), (held-out images, held-out labels), the same on every call.

    Images are float32 [n, 32, 32, 3] from 0 to 1, labels int64 [n] from 0 to 9. The 360 held-out
    images hold each digit as often as the others do, and are never trained on.
    """
    from sklearn.datasets import load_digits as bundled_digits
    from sklearn.model_selection import train_test_split

    images, labels = bundled_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    images = images.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, stratify=labels, random_state=SEED
    )
    return (train_x, train_y), (test_x, test_y)


def shifted(images, random):
    """The images, each moved by up to MAX_SHIFT pixels: few people write in the very middle."""
    border = (MAX_SHIFT, MAX_SHIFT)
    padded = np.pad(images, ((0, 0), border, border, (0, 0)))
    height, width = images.shape[1:3]
    corners = random.integers(0, 2 * MAX_SHIFT, size=(len(images), 2), endpoint=True)
    return np.stack(
        [
            image[y : y + height, x : x + width]
            for image, (y, x) in zip(padded, corners, strict=True)
        ]
    )


def small_image_conv(next_method, arguments, keywords, context):
    """Flax interceptor: a convolution whose kernel is larger than its image, as one matrix product.

    XLA's CPU compiler leaves such convolutions, the last half of this network, to plain loops that
    take ten times as long as all the rest. The result is the same.
    """
    import flax.linen as nn
    import jax.numpy as jnp

    conv = context.module
    is_small = isinstance(conv, nn.Conv) and context.method_name == "__call__"
    if not is_small or (images := arguments[0]).shape[1] >= conv.kernel_size[0]:
        return next_method(*arguments, **keywords)
    kernel = conv.get_variable("params", "kernel")
    images = jnp.pad(images, ((0, 0), *conv.padding, (0, 0)))
    (rows, columns), (down, right) = conv.kernel_size, conv.strides
    last_row, last_column = images.shape[1] - rows, images.shape[2] - columns
    patches = [
        images[:, y : y + last_row + 1 : down, x : x + last_column + 1 : right]
        for y in range(rows)
        for x in range(columns)
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def train(images, labels):
    """Variables {"params": ..., "batch_stats": ...} of a ResNet18 that has learnt the images."""
    import flax.linen as nn
    import flaxmodels
    import jax
    import jax.numpy as jnp
    import optax
    from tqdm import tqdm

    network = flaxmodels.ResNet18(output="logits", pretrained=None, num_classes=CLASSES)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, LEARNING_RATE))

    def loss_of(params, batch_stats, images, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        with nn.intercept_methods(small_image_conv):
            logits, new = network.apply(variables, images, train=True, mutable=["batch_stats"])
        targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), SMOOTHING)
        return jnp.mean(optax.softmax_cross_entropy(logits, targets)), new["batch_stats"]

    @jax.jit
    def step(params, batch_stats, state, images, labels):
        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, batch_stats), gradient = gradient_of(params, batch_stats, images, labels)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), batch_stats, state, loss

    variables = jax.jit(network.init)(jax.random.key(SEED), images[:1])
    params, batch_stats = variables["params"], variables["batch_stats"]
    state = optimizer.init(params)
    random = np.random.default_rng(SEED)
    with tqdm(total=steps, desc="training on digits", unit="batch") as progress:
        for _ in range(EPOCHS):
            # What does not fill a batch is left out: it would need a compilation of its own.
            order = random.permutation(len(images))[: steps // EPOCHS * BATCH]
            for rows in order.reshape(-1, BATCH):
                batch = shifted(images[rows], random), labels[rows]
                params, batch_stats, state, loss = step(params, batch_stats, state, *batch)
                progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
                progress.update()

    # The means and variances to serve with are nine tenths those of the latest batch, as
    # flaxmodels' BatchNorm has it: so let the latest be all images, twice.
    settle = jax.jit(lambda *variables_and_batch: loss_of(*variables_and_batch)[1])
    for _ in range(2):
        batch_stats = settle(params, batch_stats, images, labels)
    return {"params": params, "batch_stats": batch_stats}


def accuracy(variables, images, labels):
    """Share of the images whose largest logit is that of their label, as model.py computes it."""
    import flaxmodels
    import jax

    network = flaxmodels.ResNet18(output="logits", pretrained=None, num_classes=CLASSES)
    logits = jax.jit(network.apply, static_argnames="train")(variables, images, train=False)
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def save(variables, path):
    """Write the variables by their Flax names; whoever reads meanwhile finds all or nothing."""
    from flax.traverse_util import flatten_dict
    from safetensors.numpy import save

    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        fresh.write_bytes(save(arrays))  # save_file would let nobody else read it
        fresh.replace(path)


def main(arguments=None):
    """Train, print the held-out accuracy, write the weights if it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="default: %(default)s")
    output = parser.parse_args(arguments).output

    (train_images, train_labels), (test_images, test_labels) = load_digits()
    variables = train(train_images, train_labels)
    score = accuracy(variables, test_images, test_labels)
    print(f"held-out accuracy: {score:.2%} of {len(test_labels)} digits")
    if score < REQUIRED_ACCURACY:
        sys.exit(f"expected at least {REQUIRED_ACCURACY:.0%}; {output} was not written.")
    save(variables, output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
