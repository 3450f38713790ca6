"""The GPU benchmark: its counts, limits, tables and verdict, and a short run of JAX's side."""

import itertools
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests/bench"


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def multiply_adds(blocks=(3, 4, 6, 3), size=224):
    """Of a ResNet with bottlenecks, from the shapes of its layers alone."""
    size //= 2
    total, inputs, size = size * size * 49 * 3 * 64, 64, size // 2
    for layer, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
        for block in range(count):
            before, size = size, size // 2 if layer and not block else size
            total += before * before * inputs * width
            total += size * size * 9 * width * width + size * size * width * 4 * width
            if not block:
                total += size * size * inputs * 4 * width
            inputs = 4 * width
    return total + inputs * 1000


def test_operations_are_those_of_the_layers():
    import gpu_jax
    import gpu_roofline

    batch = 16
    arrays = gpu_jax.random_variables(gpu_jax.make_network("ResNet50", "bfloat16"))
    works = gpu_roofline.network_work("ResNet50", "bfloat16", arrays, batch, 224)
    assert sum(each.operations for each in works) == 2 * batch * multiply_adds()
    names = [each.name for each in works]
    assert {name: names.count(name) for name in names} == {
        "conv_general_dilated": 53,
        "reduce_window_max": 1,
        "shortcut": 16,
        "reduce_sum": 1,
        "dot_general": 1,
    }


def test_operations_and_bytes_of_a_small_network():
    import gpu_roofline
    import jax
    import jax.numpy as jnp

    def network(images, kernel, matrix):
        y = jax.lax.conv_general_dilated(
            images, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = jax.nn.relu(y * 3) + y  # one input has gone past something
        return jnp.mean(y, axis=(1, 2)) @ matrix

    shapes = (2, 6, 6, 4), (3, 3, 4, 8), (8, 5)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    found = list(gpu_roofline.work(jax.make_jaxpr(network)(*arrays).jaxpr))
    images, kernel, features, matrix = 2 * 36 * 4, 9 * 4 * 8, 2 * 9 * 8, 8 * 5
    assert found[0] == ("conv_general_dilated", 2 * 144 * 36, 2 * (images + kernel + features))
    assert found[1] == ("shortcut", 0, 2 * features)
    assert found[2][:2] == ("reduce_sum", 0)  # in float32, as JAX adds up bfloat16
    assert found[3] == ("dot_general", 2 * 2 * 8 * 5, 2 * (2 * 8 + matrix + 2 * 5))
    assert len(found) == 4


def test_the_roofline_is_the_slower_of_products_and_bytes():
    from gpu_roofline import Limits, Work, attainable

    works = [Work("products", 1000, 10), Work("bytes", 10, 300)]
    overlapped, in_turn = attainable(works, Limits(operations=100, bandwidth=20), batch=8)
    assert overlapped == pytest.approx(8 / 15.5)  # 310 bytes, while 1010 operations take 10.1 s
    assert in_turn == pytest.approx(8 / (10 + 15))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folding_keeps_the_logits_and_a_wrong_fold_is_not_timed(dtype):
    import gpu_jax
    import gpu_timing

    arrays = gpu_jax.random_variables(gpu_jax.make_network("ResNet18", "float32"))
    images = gpu_jax.as_floats(gpu_jax.random_images(2, 32))
    side = gpu_jax.JaxSide("ResNet18", dtype, arrays)
    exact = gpu_jax.JaxSide("ResNet18", "float32", arrays)
    reference = exact.plain_jit(images).logits()
    assert reference.shape == (2, 1000)
    way = gpu_timing.Way("JAX", "folded", "device", partial(side.folded_jit, images))
    _, found = gpu_timing.checked(way, dtype, reference)
    assert found < gpu_timing.TOLERANCE[dtype]

    name = "params/BasicBlock_3/BatchNorm_1/bias"
    folded = gpu_jax.fold(arrays)
    side.folded = side.on_device({**folded, name: folded[name] + 1})
    with pytest.raises(ValueError, match=r"expected at most .*; it is not timed"):
        gpu_timing.checked(way, dtype, reference)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_in_a_wrong_order_are_not_timed(dtype):
    import gpu_jax
    import gpu_timing

    arrays = gpu_jax.random_variables(gpu_jax.make_network("ResNet18", "float32"))
    images = gpu_jax.as_floats(gpu_jax.random_images(4, 64))
    reference = gpu_jax.JaxSide("ResNet18", "float32", arrays).plain_jit(images).logits()
    runner = gpu_jax.JaxSide("ResNet18", dtype, arrays).folded_jit(images)
    right = gpu_timing.Way("JAX", "folded", "device", lambda: runner)
    gpu_timing.checked(right, dtype, reference)
    reversed_ = gpu_timing.Runner(runner.run, lambda: runner.logits()[::-1])
    wrong = gpu_timing.Way("JAX", "folded", "device", lambda: reversed_)
    with pytest.raises(ValueError, match="it is not timed"):
        gpu_timing.checked(wrong, dtype, reference)
    # Whichever two are exchanged.
    for one, other in itertools.combinations(reference, 2):
        assert gpu_timing.difference(one, other) > 2 * max(gpu_timing.TOLERANCE.values())


def test_images_have_a_brightness_and_a_colour():
    import gpu_jax

    images = gpu_jax.random_images(3, 32)
    assert images.dtype == np.uint8
    assert np.array_equal(images, gpu_jax.random_images(3, 32))
    means = images.mean((1, 2))
    assert np.ptp(means, axis=0).min() > 10  # brighter and darker ones
    assert np.ptp(means, axis=1).min() > 10  # not grey


def test_a_compiler_starts_afresh_for_each_batch_size_and_no_more(monkeypatch):
    import gpu
    import gpu_jax
    import gpu_roofline

    made, used = [], []

    class Run(gpu.Run):
        def __init__(self):
            self.options = SimpleNamespace(
                architecture="ResNet50", batches=[1, 2, 4], detail=[4], quick=True
            )
            self.on_gpu, self.torch, self.arrays = False, True, {}
            self.result = {"limits": []}

        def torch_side(self, dtype):
            made.append(f"{dtype}, {len(made)}")
            return made[-1]

        def measure_batch(self, ours, peer, batch):
            used.append((batch, peer))

        def look_inside(self, ours, peer, batch):
            used.append((batch, peer))

        def roofline(self, *_):
            """Of no interest here."""

        write = roofline

    reached = ({"rate": 1.0}, {"rate": 1.0})
    monkeypatch.setattr(gpu_jax, "JaxSide", lambda *_: None)
    monkeypatch.setattr(gpu_roofline, "jax_limits", lambda *_: reached)
    monkeypatch.setattr(gpu_roofline, "torch_limits", lambda *_, gpu: reached)
    Run().measure("tf32")
    assert made == ["tf32, 0", "tf32, 1", "tf32, 2"]
    assert used == [(1, made[0]), (2, made[1]), (4, made[2]), (4, made[2])]


def test_ways_are_interleaved_and_those_that_fail_tell_why():
    from gpu_timing import Runner, Way, measure

    logits, called = np.arange(6, dtype=np.float32).reshape(2, 3), []

    def make(name, answer):
        return Runner(lambda calls: called.append((name, calls)), lambda: answer)

    def broken():
        raise RuntimeError("no compiler\nhere | there")

    ways = [
        Way("JAX", "a", "device", partial(make, "a", logits)),
        Way("JAX", "b", "device", broken),
        Way("JAX", "c", "device", partial(make, "c", logits + np.array([0, 0, 9]))),
        Way("JAX", "d", "device", partial(make, "d", logits[:1])),
        Way("JAX", "e", "device", partial(make, "e", logits * np.nan)),
        Way("JAX", "f", "device", partial(make, "f", logits)),
    ]
    rows = {r.name: r for r in measure(iter(ways), "tf32", logits, rounds=3, seconds=1e-5)}
    assert [name for name, row in rows.items() if row.rounds] == ["a", "f"]
    assert all(len(rows[name].rounds) == 3 and rows[name].difference == 0 for name in "af")
    assert rows["a"].images_per_second == sorted(rows["a"].rounds)[1]
    assert [name for name, _ in called[-6:]] == ["a", "f", "f", "a", "a", "f"]
    assert rows["b"].reason == "RuntimeError: no compiler here / there"
    assert "differ from the reference by 5.3 standard deviations" in rows["c"].reason
    assert "logits are (1, 3); expected (2, 3)" in rows["d"].reason
    assert "by inf" in rows["e"].reason
    assert rows["e"].as_dict()["images_per_second"] is None


def test_flags_are_read_as_xla_asks_for_them():
    from gpu_jax import GPU_FLAGS, read_flags

    flags = read_flags("--xla_gpu_autotune_level=5, xla_gpu_x=false,xla_gpu_y=CUDNN")
    assert flags == {"xla_gpu_autotune_level": 5, "xla_gpu_x": False, "xla_gpu_y": "CUDNN"}
    assert all(read_flags(each) for each in GPU_FLAGS)
    for wrong in ("xla_gpu_x", "gpu_x=1", "xla_gpu_x=", ""):
        with pytest.raises(ValueError, match="expected xla_"):
            read_flags(wrong)


def result(device="NVIDIA H200", platform="gpu", torch=1000.0, **network):
    rows = [
        {"dtype": "bfloat16", "batch": batch, "side": side, "name": name, "feed": feed}
        | {"images_per_second": value, "rounds": [value] if value else [], "reason": ""}
        for batch in (64, 256)
        for side, name, feed, value in (
            ("JAX", "jit", "device", 900.0),
            ("JAX", "folded", "device", 1200.0),
            ("JAX", "folded", "uint8, host", 9e9),
            ("PyTorch", "eager", "device", 9e9),
            ("PyTorch", "compile, reduce-overhead", "device", torch),
        )
    ]
    network = {"architecture": "ResNet50", "size": 224, **network}
    share = {"dtype": "bfloat16", "batch": 64, "jax": 1200.0, "in_turn": 4800.0}
    top = {"device": device, "platform": platform, "network": network}
    return {**top, "rows": rows, "roofline": [share]}


def test_the_verdict_is_computed_from_the_figures():
    from gpu_report import verdict, verdict_table

    first, second = verdict(result())
    assert (first["ratio"], first["reached"], first["said"]) == (1.2, True, "reached")
    assert first["ours"]["name"] == "folded"
    assert (first["roofline"], second["roofline"]) == (0.25, None)
    assert [row["said"] for row in verdict(result(torch=1300.0))] == ["missed", "missed"]
    assert [row["said"] for row in verdict(result(device="A10"))] == ["reached, on A10 instead"] * 2
    text = verdict_table([first, second])
    assert "| H200, bfloat16, batch 64: ≥ 1.0 x torch.compile | 1200.0 (folded) | 1000.0 " in text
    assert "| 1.20 x | 25% | reached |" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"platform": "cpu", "device": "2 cores"}, "not measured on a GPU: this is 2 cores"),
        ({"torch": None}, "not measured: no figure of torch.compile"),
        ({"size": 64}, "not measured: this is ResNet50 at 64 pixels"),
    ],
)
def test_without_its_figures_there_is_no_verdict(given, said):
    from gpu_report import verdict

    for row in verdict(result(**given)):
        assert (row["ratio"], row["reached"], row["said"]) == (None, None, said)


def test_a_short_run_writes_its_page(tmp_path, monkeypatch, capsys):
    import gpu

    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.1")
    monkeypatch.setitem(sys.modules, "torch", None)
    options = ["--quick", "--batches", "1", "2", "--architecture=ResNet18", "--image-size=32"]
    gpu.main([*options, "--dtypes=float32", "--xla-flags=xla_nothing=1", f"--output={tmp_path}"])
    page, found = (tmp_path / "gpu.md").read_text(), json.loads((tmp_path / "gpu.json").read_text())
    assert page in capsys.readouterr().out
    assert found["options"]["batches"] == [1, 2]
    measured = {(row["batch"], row["name"], row["feed"]) for row in found["rows"] if row["rounds"]}
    steps = {(batch, name, "device") for batch in (1, 2) for name in ("jit", "folded")}
    feeds = ("float32, host", "float32, host, overlapped", "uint8, host", "uint8, host, overlapped")
    transfers = {(1, "folded", feed) for feed in feeds}
    assert measured == steps | transfers | {(1, "folded, constants", "device")}
    assert "torch is not installed; JAX is measured alone" in page
    assert "No such compile option: 'xla_nothing'" in page
    assert "| not measured on a GPU: this is " in page
    assert found["profiles"][0]["kernels"], found["profiles"][0]["reason"]
    for row in found["roofline"]:
        assert 0 < row["in_turn"] <= row["overlapped"]
        assert row["jax"] == max(
            each["images_per_second"]
            for each in found["rows"]
            if each["batch"] == row["batch"] and each["feed"] == "device" and each["rounds"]
        )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--batches=0", "expected batches and rounds from 1"),
        ("--image-size=16", "images of 32 or more"),
        ("--xla-flags=gpu=1", "expected xla_...=value"),
    ],
)
def test_what_makes_no_sense_is_refused(option, said, tmp_path, monkeypatch, capsys):
    import gpu

    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.1")
    with pytest.raises(SystemExit) as stopped:
        gpu.main([option, f"--output={tmp_path}"])
    assert said in f"{stopped.value} {capsys.readouterr().err}"


def test_the_script_makes_an_environment_and_hands_its_options_on(tmp_path):
    (tmp_path / "ci").mkdir()
    script = tmp_path / "ci/gpu.sh"
    script.write_bytes((ROOT / "ci/gpu.sh").read_bytes())
    fake = tmp_path / "python3"
    fake.write_text(
        '#!/bin/bash\necho "$@" >> calls\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\n'
    )
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(script), "--batches", "64"], env=env, check=True, timeout=60)
    made, installed, ran = (tmp_path / "calls").read_text().splitlines()
    assert made == "-m venv .nox/gpu"
    assert installed.startswith("-m pip install --quiet jax[cuda13]>=")
    assert ran == "tests/bench/gpu.py --batches 64"
    assert (ROOT / "tests/bench/gpu.py").is_file()
