"""client.py against a server on a real port: what it prints, and how it fails."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import serialize_byte_tensor

import client
import triton_stub

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAWING = runpy.run_path(str(client.DIGITS / "drawing.py"))
HEIGHT, WIDTH = 8, 12  # unlike each other, so that a mix-up shows
COLOURS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "black": (0, 0, 0),
    "white": (1, 1, 1),
    "grey": (0.5, 0.5, 0.5),
    "orange": (1, 0.5, 0),
}
# A class is the likelier the nearer its colour is to the mean colour of the image.
MODEL = f"""
import numpy as np
import triton_python_backend_utils as pb_utils

COLOURS = np.array({list(COLOURS.values())}, np.float32)


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            scale = 255 if image.dtype == np.uint8 else 1
            mean = image.mean((-3, -2), dtype=np.float32) / scale
            logits = -4 * ((mean[..., None, :] - COLOURS) ** 2).sum(-1)
            output = pb_utils.Tensor("fc_out", logits.astype(np.float32))
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
"""
RAISES = """
class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("out of paint")
"""

NOISE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
with io.BytesIO() as file:
    Image.fromarray(NOISE).save(file, "png")
    NOISE_PNG = file.getvalue()
NOT_FINITE = MODEL.replace("logits.astype(np.float32)", "(logits * np.nan).astype(np.float32)")


def write_model(
    repository: Path,
    name: str,
    source: str = MODEL,
    *,
    max_batch_size: int = 4,
    data_type: str = "TYPE_FP32",
    dims: tuple[int, ...] = (HEIGHT, WIDTH, 3),
) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.py").write_text(source)
    (repository / name / "config.pbtxt").write_text(f"""
        backend: "python"
        max_batch_size: {max_batch_size}
        input [{{ name: "image" data_type: {data_type} dims: {list(dims)} }}]
        output [{{ name: "fc_out" data_type: TYPE_FP32 dims: [ {len(COLOURS)} ] }}]
        instance_group [{{ kind: KIND_CPU }}]
    """)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = tmp_path_factory.mktemp("model_repository")
    write_model(repository, "colours")
    write_model(repository, "colours_uint8", data_type="TYPE_UINT8")
    write_model(repository, "one_by_one", max_batch_size=0)
    write_model(repository, "open_size", dims=(-1, -1, 3))
    write_model(repository, "text", data_type="TYPE_STRING", dims=(1,))
    write_model(repository, "raises", RAISES)
    write_model(repository, "not_finite", NOT_FINITE)
    write_model(repository, "does_not_load", "raise ValueError('no weights')")
    with triton_stub.Server(model_repository=str(repository), exit_on_error=False) as server:
        yield server.serve(http_port=0).http_url


@pytest.fixture
def closed_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """A picture file of each colour."""
    paths = {name: str(tmp_path / f"{name}.png") for name in COLOURS}
    for name, path in paths.items():
        Image.new("RGB", (40, 30), pixel(name)).save(path)
    return paths


def pixel(name: str) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in COLOURS[name])


def probabilities(name: str) -> np.ndarray:
    """What the model should say to a picture in this colour."""
    colours = np.array(list(COLOURS.values()))
    logits = -4 * ((np.array(pixel(name)) / 255 - colours) ** 2).sum(1)
    return np.exp(logits) / np.exp(logits).sum()


def rows(printed: str) -> dict[str, list[tuple[float, int, str]]]:
    """File → (probability, class index, class name) row by row, out of what the client prints."""
    found: dict[str, list[tuple[float, int, str]]] = {}
    for line in printed.splitlines():
        if row := re.fullmatch(r" +([\d.]+)%  █* *(\d+)(?:  (.+))?", line):
            found[list(found)[-1]].append((float(row[1]) / 100, int(row[2]), row[3] or ""))
        else:
            found[line] = []
    return found


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[str]:
    """The address of a server while it runs."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that the client fails with."""
    assert client.main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"client\.py: [^\n]+\n", printed.err)
    return printed.err


# ---- Pictures in, five classes out ----


@pytest.mark.parametrize("model", ["colours", "colours_uint8", "one_by_one", "open_size"])
def test_the_five_likeliest_classes_are_printed_the_likeliest_first(url, pictures, model, capsys):
    assert client.main([*pictures.values(), "--url", url, "--model", model]) == 0
    found = rows(capsys.readouterr().out)
    assert list(found) == list(pictures.values())
    for name, path in pictures.items():
        expected = probabilities(name)
        values = [value for value, _, _ in found[path]]
        assert values == pytest.approx(sorted(expected, reverse=True)[:5], abs=1e-4)
        # Row by row too: which index stands beside which value (equal ones in any order).
        assert values == pytest.approx([expected[index] for _, index, _ in found[path]], abs=1e-4)
        assert found[path][0][1] == list(COLOURS).index(name)


def test_probabilities_sum_to_one_however_large_the_logits():
    logits = np.array([[0, 1000, 1001], [-1e30, 0, 0], [5, 5, 5]], np.float32)
    found = client.softmax(logits)
    assert found.sum(-1) == pytest.approx(1)
    assert found[0] == pytest.approx([0, 1 / (1 + np.e), np.e / (1 + np.e)])
    assert found[1] == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("model", "executions"), [("colours", {4: 3, 2: 1}), ("one_by_one", {1: 14})]
)
def test_more_pictures_than_a_batch_holds_are_split(url, pictures, model, executions):
    with client.Classifier(url, model) as classifier:
        before = classifier.statistics()
        assert (
            client.main([*pictures.values(), *pictures.values(), "--url", url, "--model", model])
            == 0
        )
        after = classifier.statistics()
    assert after[0] - before[0] == 14
    assert after[1] - before[1] == sum(executions.values())
    assert after[2] - before[2] == executions


def test_class_names_come_from_a_file_as_far_as_it_goes(url, pictures, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("rot\ngrün, nicht blau\n", "utf-8")
    arguments = [pictures["red"], "--url", url, "--model", "colours", "--labels", str(labels)]
    assert client.main(arguments) == 0
    names = {index: name for _, index, name in rows(capsys.readouterr().out)[pictures["red"]]}
    assert names[0] == "rot"
    assert {name for index, name in names.items() if index > 1} == {""}


def test_url_may_have_a_scheme(url, pictures):
    assert client.main([pictures["red"], "--url", f"http://{url}/", "--model", "colours"]) == 0


# ---- Pictures ----


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (Image.new("L", (40, 30), 128), (128, 128, 128)),
        (Image.new("1", (40, 30), 1), (255, 255, 255)),
        (Image.new("LA", (40, 30), (9, 255)), (9, 9, 9)),
        (Image.new("I;16", (40, 30), 0x4080), (0x40, 0x40, 0x40)),
        (Image.new("RGBA", (40, 30), (9, 99, 199, 255)), (9, 99, 199)),
        # A transparent picture is looked at on white paper.
        (Image.new("RGBA", (40, 30), (9, 99, 199, 0)), (255, 255, 255)),
        (Image.new("RGB", (40, 30), (9, 99, 199)).quantize(2), (9, 99, 199)),
    ],
    ids=["grey", "bitmap", "grey-alpha", "16-bit", "opaque", "transparent", "palette"],
)
def test_pictures_of_every_kind_become_rgb(picture, colour, tmp_path):
    picture.save(tmp_path / "picture.png")
    image = client.load_image(str(tmp_path / "picture.png"), HEIGHT, WIDTH)
    assert image.dtype == np.float32
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert (image == np.array(colour, np.float32) / 255).all()


def test_transparency_in_a_palette_is_white(tmp_path):
    Image.new("P", (40, 30)).save(tmp_path / "picture.gif", transparency=0)
    assert (client.load_image(str(tmp_path / "picture.gif"), HEIGHT, WIDTH) == 1).all()


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (40, 30), (255, 0, 255, 0)).save(tmp_path / "green.jpg", quality=100)
    image = client.load_image(str(tmp_path / "green.jpg"), HEIGHT, WIDTH)
    assert image.mean((0, 1)) == pytest.approx([0, 1, 0], abs=0.02)


def test_the_picture_is_turned_as_its_camera_was(tmp_path):
    lying = Image.new("RGB", (60, 40), "red")
    lying.paste("blue", (30, 0, 60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was held upright, the right side is the bottom
    lying.save(tmp_path / "phone.png", exif=exif)
    image = client.load_image(str(tmp_path / "phone.png"), 9, 9)
    assert (image[0] == [1, 0, 0]).all()
    assert (image[-1] == [0, 0, 1]).all()


def test_of_256_pixels_the_middle_224_are_taken_untouched(tmp_path):
    (tmp_path / "noise.png").write_bytes(NOISE_PNG)
    image = client.load_image(str(tmp_path / "noise.png"), 224, 224)
    assert (image == NOISE[16:240, 16:240].astype(np.float32) / 255).all()


def test_a_wide_picture_loses_its_sides(tmp_path):
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    wide.save(tmp_path / "wide.png")
    assert (client.load_image(str(tmp_path / "wide.png"), 20, 20) == [0, 0, 1]).all()


# ---- What fails says why ----


def test_an_unreachable_server(closed_url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", closed_url)
    assert f"no Triton server answers over http at {closed_url} (Connection refused)" in said


def test_an_unreachable_grpc_server(closed_url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", closed_url, "--protocol", "grpc")
    assert f"no Triton server answers over grpc at {closed_url} (" in said


def test_grpc_on_the_http_port(url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", url, "--protocol", "grpc")
    assert f"no Triton server answers over grpc at {url} (" in said
    assert "correct --url or --protocol" in said


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 64, 0]), id="grpc"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<p/>", id="web-page"),
        pytest.param(b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\n<p/>", id="not-found"),
        pytest.param(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", id="empty"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_something_else_on_the_port(answer, pictures, capsys):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as url:
        said = fails(capsys, pictures["red"], "--url", url)
    assert f"no Triton server answers over http at {url} (" in said


def test_an_unknown_model(url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", url, "--model", "colors")
    assert "cannot serve model 'colors' (Request for unknown model: 'colors' is not found)" in said
    assert "check --model" in said


def test_a_model_that_did_not_load(url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", url, "--model", "does_not_load")
    assert "cannot serve model 'does_not_load' (" in said
    assert "'does_not_load' has no available versions" in said
    assert "the server's log" in said


def test_a_model_that_takes_no_pictures(url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", url, "--model", "text")
    assert "model 'text' is no image classifier for this client, it has image BYTES" in said
    assert "expected one FP32 or UINT8 input of [height, width, 3]" in said


def test_a_model_that_raises(url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", url, "--model", "raises")
    assert "cannot serve model 'raises' (" in said
    assert "out of paint" in said


def test_a_model_whose_logits_are_not_finite(url, pictures, capsys):
    said = fails(capsys, pictures["red"], "--url", url, "--model", "not_finite")
    assert "model 'not_finite' answers with numbers that are not finite" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"hello", "cannot identify image file"),
        (NOISE_PNG[:4000], "truncated"),
    ],
    ids=["missing", "text", "truncated"],
)
def test_a_file_that_is_no_picture(url, content, reason, tmp_path, capsys):
    path = tmp_path / "cat.png"
    if content is not None:
        path.write_bytes(content)
    said = fails(capsys, str(path), "--url", url, "--model", "colours")
    assert f"{path} cannot be read as a picture (" in said
    assert reason in said


def test_a_missing_file_of_class_names(url, pictures, tmp_path, capsys):
    path = tmp_path / "labels.txt"
    said = fails(capsys, pictures["red"], "--url", url, "--model", "colours", "--labels", str(path))
    assert f"{path} cannot be read as a list of names (No such file or directory)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name picture files, or ask for --demo"),
        (["--demo", "cat.jpg"], "name picture files, or ask for --demo"),
        (["cat.jpg", "--url", "localhost"], "'localhost' is not host:port"),
        (["cat.jpg", "--url", "localhost:http"], "'localhost:http' is not host:port"),
        (["cat.jpg", "--url", "localhost:65536"], "'localhost:65536' is not host:port"),
        (["--demo", "--clients", "0"], "'0' is not a number of clients"),
        (["cat.jpg", "--protocol", "ftp"], "'ftp'"),
    ],
)
def test_wrong_usage_exits_with_two(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        client.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def run(folder: Path, *arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, client.__file__, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        encoding=encoding,
        timeout=120,
        check=False,
    )


def test_the_program_runs_from_any_folder(url, pictures, tmp_path):
    good = run(tmp_path, "red.png", "--url", url, "--model", "colours")
    assert (good.returncode, good.stderr) == (0, "")
    assert rows(good.stdout)["red.png"][0][1] == 0
    bad = run(tmp_path, "red.png", "--url", url, "--model", "colors")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert len(bad.stderr.splitlines()) == 1


def test_a_terminal_without_block_characters_gets_numbers(url, pictures, tmp_path):
    result = run(tmp_path, "red.png", "--url", url, "--model", "colours", encoding="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{probabilities('red')[0]:.2%}" in result.stdout


# ---- A server with the classification extension, and one that breaks off ----


@contextmanager
def imitation(*answers: bytes) -> Iterator[str]:
    """A Triton with a labelled model of three classes that gives these bytes as FP32 or BYTES.

    When the answers are used up it closes the connection instead.
    """
    described = {
        "/v2": {"name": "triton", "version": "2.51.0", "extensions": ["classification"]},
        "/v2/models/animals": {
            "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}],
            "outputs": [{"name": "fc_out", "datatype": "FP32", "shape": [-1, 3]}],
        },
        "/v2/models/animals/config": {
            "max_batch_size": 8,
            "output": [{"name": "fc_out", "label_filename": "labels.txt"}],
        },
    }
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.reply(json.dumps(described[self.path]).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            header = json.loads(body[: int(self.headers["Inference-Header-Content-Length"])])
            if not left:
                self.close_connection = True
                return
            data = left.pop(0)
            classes = header["outputs"][0]["parameters"].get("classification", 0)
            output = {
                "name": "fc_out",
                "datatype": "BYTES" if classes else "FP32",
                "shape": [1, classes or 3],
                "parameters": {"binary_data_size": len(data)},
            }
            head = json.dumps({"model_name": "animals", "outputs": [output]}).encode()
            self.reply(head + data, {"Inference-Header-Content-Length": str(len(head))})

        def reply(self, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def test_class_names_come_from_the_server(pictures, capsys):
    logits = np.log(np.array([[0.2, 0.7, 0.1]], np.float32))
    # As tritonserver 2.51 answers: score:index:name, the best first; a name may have colons.
    ranked = [b"-0.356675:1:dog", b"-1.609438:0:cat: tabby", b"-2.302585:2:cow"]
    names = serialize_byte_tensor(np.array([ranked], object)).item()
    with imitation(logits.tobytes(), logits.tobytes(), names) as url:
        assert client.main([pictures["red"], "--url", url, "--model", "animals"]) == 0
    assert rows(capsys.readouterr().out)[pictures["red"]] == [
        (0.7, 1, "dog"),
        (0.2, 0, "cat: tabby"),
        (0.1, 2, "cow"),
    ]


def test_a_connection_that_breaks(pictures, capsys):
    with imitation() as url:
        said = fails(capsys, pictures["red"], "--url", url, "--model", "animals")
    assert f"the connection to {url} broke (connection closed)" in said


# ---- The demo ----


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Forty images in plain colours stand in for the digits; the last two labels are wrong."""
    labels = np.arange(40) % len(COLOURS)
    colours = np.array(list(COLOURS.values()), np.float32)
    images = np.broadcast_to(colours[labels, None, None], (40, HEIGHT, WIDTH, 3))
    labels[-2:] = (labels[-2:] + 1) % len(COLOURS)
    monkeypatch.setattr(client, "held_out_digits", lambda: (images, labels))
    return images, labels


@pytest.mark.parametrize("clients", ["1", "8", "1000"])
def test_the_demo_prints_what_it_measured(url, digits, clients, tmp_path, capsys):
    path = tmp_path / "new" / "digits.png"
    arguments = ["--demo", "--url", url, "--model", "colours", "--clients", clients]
    assert client.main([*arguments, "--picture", str(path), "--min-accuracy", "95"]) == 0
    said = capsys.readouterr().out
    assert "95.0% of 40 held-out digits right, 2 wrong" in said
    assert re.search(rf"\d+ requests a second from {min(40, int(clients))} http clients", said)
    found = re.search(r"40 digits in (\d+) executions", said)
    assert found
    sizes = re.findall(r"batch of +(\d+)  █+ (\d+)", said)
    assert sum(int(size) * int(count) for size, count in sizes) == 40
    assert sum(int(count) for _, count in sizes) == int(found[1])
    assert all(int(size) <= 4 for size, _ in sizes)
    with Image.open(path) as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 24) or []}
    assert DRAWING["WRONG_TILE"] in colours


def test_the_demo_waits_until_the_server_has_counted(url, digits, tmp_path, capsys, monkeypatch):
    statistics, asked = client.Classifier.statistics, []

    def late(classifier):
        """The first two looks after the answers find what there was before them."""
        asked.append(statistics(classifier))
        return asked[0] if len(asked) < 4 else asked[-1]

    monkeypatch.setattr(client.Classifier, "statistics", late)
    arguments = ["--demo", "--url", url, "--model", "colours"]
    assert client.main([*arguments, "--picture", str(tmp_path / "digits.png")]) == 0
    assert "40 digits in " in capsys.readouterr().out
    assert len(asked) == 4


def test_the_demo_fails_below_the_accuracy_that_is_asked_for(url, digits, tmp_path, capsys):
    arguments = ["--demo", "--url", url, "--model", "colours", "--min-accuracy", "95.1"]
    assert client.main([*arguments, "--picture", str(tmp_path / "digits.png")]) == 1
    assert "accuracy 95.0% is below --min-accuracy 95.1" in capsys.readouterr().err


def test_the_demo_needs_a_model_of_the_same_size(url, digits, capsys):
    said = fails(capsys, "--demo", "--url", url, "--model", "open_size")
    assert "model 'open_size' takes images of (224, 224), digits are (8, 12)" in said


def test_the_demo_needs_a_server(closed_url, digits, capsys):
    said = fails(capsys, "--demo", "--url", closed_url)
    assert f"no Triton server answers over http at {closed_url}" in said


def test_the_demo_says_when_its_picture_cannot_be_written(url, digits, tmp_path, capsys):
    arguments = ["--demo", "--url", url, "--model", "colours"]
    assert client.main([*arguments, "--picture", str(tmp_path / "digits.what")]) == 1
    assert "digits.what cannot be written (" in capsys.readouterr().err


def test_the_digits_are_those_that_training_held_out():
    images, labels = client.held_out_digits()
    assert images.shape == (360, 32, 32, 3)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert sorted(set(labels.tolist())) == list(range(10))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "No such file or directory"),
        ("import a_package_that_nobody_has", "No module named 'a_package_that_nobody_has'"),
    ],
)
def test_the_demo_says_why_there_are_no_digits(script, reason, monkeypatch, tmp_path, capsys):
    path = tmp_path / "digits" / "train.py"
    shutil.copytree(client.DIGITS, path.parent, ignore=shutil.ignore_patterns("train.py", "1"))
    monkeypatch.setattr(client, "DIGITS", path.parent)
    if script:
        path.write_text(script)
    said = fails(capsys, "--demo")
    assert f"the digits of {path} cannot be loaded ({reason})" in said
