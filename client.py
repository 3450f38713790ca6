"""Ask a Triton server what is in some pictures.

    python client.py cat.jpg dog.png --url localhost:8000 --model resnet50
    python client.py --demo

The first prints the five likeliest classes of every picture. The second sends handwritten digits
that model_repository/resnet18_digits has never seen, from several clients at once, and shows how
the server batched them.

Start reading at `Classifier`: connect, ask the server what the model takes, send tensors, receive
tensors. Needs `pip install "tritonclient[http,grpc]" pillow`, the demo scikit-learn too.
"""

import argparse
import importlib
import io
import re
import runpy
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from PIL import Image, ImageOps
from tritonclient.utils import InferenceServerException

UNCOUNTED = 5.0  # seconds until a server has counted what it has answered
DIGITS = Path(__file__).parent / "model_repository" / "resnet18_digits"
PORTS = {"http": 8000, "grpc": 8001}  # Triton's own
OPEN_SIZE = 224  # height and width where the model's config leaves them open
TIMEOUT = 60.0  # seconds that one answer may take


class ClientError(Exception):
    """What went wrong and what to do about it, in one sentence for the person at the terminal."""


class Classifier:
    """An image classifier on a Triton server: one input of images, one output of logits.

    Holds one connection. tritonclient's HTTP client belongs to the thread that made it, so a
    program with several threads makes one `Classifier` in each. Every method raises `ClientError`
    when the server or the model cannot do its part.
    """

    def __init__(self, url: str, model: str, protocol: str = "http") -> None:
        self.url, self.model, self.protocol = url, model, protocol

        # 1. Connect. Both protocols have the same calls; those of gRPC take their deadline one by
        #    one, and answer in protobuf unless asked for JSON.
        try:
            self._library = importlib.import_module(f"tritonclient.{protocol}")
        except (ImportError, RuntimeError) as error:
            what = f'"tritonclient[{protocol}]"'
            raise ClientError(f"{protocol} needs another package: pip install {what}") from error
        self._deadline: dict[str, Any] = {}
        self._json: dict[str, Any] = {}
        if protocol == "http":
            timeouts = {"connection_timeout": 10.0, "network_timeout": TIMEOUT}
            self._client = self._library.InferenceServerClient(url, **timeouts)
        else:
            self._deadline = {"client_timeout": TIMEOUT}
            self._json = {"client_timeout": TIMEOUT, "as_json": True}
            self._client = self._library.InferenceServerClient(url)
        try:
            self._greet()
            self._describe()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        try:
            server = self._client.get_server_metadata(**self._json)
        except (OSError, HTTPException, ValueError, InferenceServerException) as error:
            # ValueError: something answered, but not with Triton's JSON.
            raise ClientError(
                f"no Triton server answers over {self.protocol} at {self.url} ({_reason(error)}): "
                "start it, or correct --url or --protocol (Triton's usual ports are "
                f"{PORTS['http']} for http and {PORTS['grpc']} for grpc)"
            ) from error
        self._extensions = server.get("extensions", [])

    def _describe(self) -> None:
        # 2. Ask the server for everything that this client would otherwise have to be told.
        metadata = self._ask(self._client.get_model_metadata, self.model, **self._json)
        config = self._ask(self._client.get_model_config, self.model, **self._json)
        config = config.get("config", config)  # gRPC wraps it
        inputs, outputs = metadata.get("inputs", []), metadata.get("outputs", [])
        shape = [int(side) for side in inputs[0]["shape"]] if len(inputs) == 1 else []
        if not (
            len(shape) in (3, 4)  # the latter with a batch dimension
            and shape[-1] in (3, -1)
            and inputs[0]["datatype"] in ("FP32", "UINT8")
            and len(outputs) == 1
            and outputs[0]["datatype"] in ("FP16", "BF16", "FP32", "FP64")
        ):
            found = [f"{it['name']} {it['datatype']} {it['shape']}" for it in inputs + outputs]
            raise ClientError(
                f"model {self.model!r} is no image classifier for this client, it has "
                f"{', '.join(found)}: expected one FP32 or UINT8 input of [height, width, 3] and "
                "one output of logits"
            )
        self._input, self._output = inputs[0], outputs[0]
        self._batched = bool(shape[:-3])
        self._max_batch_size = max(1, int(config.get("max_batch_size", 0)))
        self._label_filename = config["output"][0].get("label_filename", "")
        self.height, self.width = (OPEN_SIZE if side < 0 else side for side in shape[-3:-1])

    def logits(self, images: np.ndarray) -> np.ndarray:
        """RGB [N, height, width, 3] in [0, 1] → [N, classes]; `max_batch_size` images a request."""
        starts = range(0, len(images), self._max_batch_size)
        parts = [self._infer(images[start : start + self._max_batch_size]) for start in starts]
        logits = np.concatenate(parts).astype(np.float32)
        if not np.isfinite(logits).all():
            raise ClientError(
                f"model {self.model!r} answers with numbers that are not finite: check its weights"
            )
        return logits

    def _infer(self, images: np.ndarray, class_count: int = 0) -> np.ndarray:
        # 3. One request: the input tensor, the output's name; the answer is an array again.
        if self._input["datatype"] == "UINT8":
            images = np.rint(images * 255).astype(np.uint8)
        payload = images if self._batched else images[0]
        tensor = self._library.InferInput(
            self._input["name"], list(payload.shape), self._input["datatype"]
        )
        tensor.set_data_from_numpy(payload)
        wanted = self._library.InferRequestedOutput(self._output["name"], class_count=class_count)
        response = self._ask(
            self._client.infer, self.model, [tensor], outputs=[wanted], **self._deadline
        )
        answer: np.ndarray = response.as_numpy(self._output["name"])
        return answer.reshape(len(images), -1)

    def class_names(self) -> list[str]:
        """The class names that the server knows (`label_filename` in the config); none: empty.

        They only travel with results: Triton's classification extension answers `score:index:name`
        for the best `class_count` classes, so this asks for all classes of a black image.
        """
        if not self._label_filename or "classification" not in self._extensions:
            return []
        black = np.zeros((1, self.height, self.width, 3), np.float32)
        entries = self._infer(black, class_count=self._infer(black).shape[1])[0]
        ranked = (entry.decode(errors="replace").split(":", 2) for entry in entries)
        return [name for _, _, name in sorted(ranked, key=lambda entry: int(entry[1]))]

    def statistics(self) -> tuple[int, int, Counter[int]]:
        """Since the model was loaded: images inferred, executions, executions by batch size."""
        answer = self._ask(self._client.get_inference_statistics, self.model, **self._json)
        images = executions = 0
        sizes: Counter[int] = Counter()
        for version in answer["model_stats"]:  # gRPC's JSON has strings, and leaves zeros out
            images += int(version.get("inference_count", 0))
            executions += int(version.get("execution_count", 0))
            for batch in version.get("batch_stats", []):
                sizes[int(batch["batch_size"])] += int(batch["compute_infer"].get("count", 0))
        return images, executions, sizes

    def _ask(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        try:
            return call(*arguments, **keywords)
        except InferenceServerException as error:
            raise ClientError(
                f"the server at {self.url} cannot serve model {self.model!r} ({_reason(error)}): "
                "check --model, and the server's log if the model is in its repository"
            ) from error
        except (OSError, HTTPException) as error:
            why = f"the connection to {self.url} broke ({_reason(error)})"
            raise ClientError(f"{why}: see the server's log, and try again") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- Pictures in, five classes out ------------------------------------------------------------


def load_image(path: str, height: int, width: int) -> np.ndarray:
    """The middle of a picture, the way ImageNet models are tested: float32 in [0, 1], RGB.

    "Shorter side to 256, centre crop of 224" leaves out a sixteenth on each side; so does this for
    any [height, width, 3].
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)  # else a phone's portrait lies on its side
            if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow cuts off at 255
                picture = picture.point(lambda value: value * (1 / 256)).convert("L")
            if picture.has_transparency_data:
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture.convert("RGBA"))
            picture = ImageOps.fit(
                picture.convert("RGB"), (width, height), Image.Resampling.BILINEAR, bleed=1 / 16
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClientError(f"{path} cannot be read as a picture ({_reason(error)})") from error
    return np.asarray(picture, np.float32) / 255


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities: np.ndarray = odds / odds.sum(-1, keepdims=True)
    return probabilities


def load_labels(path: Path) -> list[str]:
    """Class names, one a line."""
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ClientError(f"{path} cannot be read as a list of names ({_reason(error)})") from error


def classify(options: argparse.Namespace) -> None:
    """Print the five likeliest classes of every picture."""
    with Classifier(options.url, options.model, options.protocol) as classifier:
        images = [load_image(path, classifier.height, classifier.width) for path in options.images]
        probabilities = softmax(classifier.logits(np.stack(images)))
        names = load_labels(options.labels) if options.labels else classifier.class_names()
    for path, row in zip(options.images, probabilities, strict=True):
        print(path)
        for index in np.argsort(-row, kind="stable")[:5]:
            bar = "█" * round(20 * row[index])
            name = names[index] if index < len(names) else ""
            print(f"  {row[index]:7.2%}  {bar:<20}  {index:>4}  {name}".rstrip())


# ---- The demo: handwritten digits from many clients at once ------------------------------------


def held_out_digits() -> tuple[np.ndarray, np.ndarray]:
    """What train.py kept for this test: images [N, 32, 32, 3] in [0, 1] and labels [N]."""
    script = DIGITS / "train.py"
    try:
        _, (images, labels) = runpy.run_path(str(script))["load_digits"]()
    except (OSError, ImportError) as error:
        raise ClientError(f"the digits of {script} cannot be loaded ({_reason(error)})") from error
    return images, labels


def send_concurrently(options: argparse.Namespace, images: np.ndarray) -> tuple[np.ndarray, float]:
    """One request an image: logits [N, classes], seconds from first request to last answer."""
    clients = options.clients

    def one_client(number: int) -> tuple[float, list[np.ndarray], float]:
        with Classifier(options.url, options.model, options.protocol) as classifier:
            start = time.perf_counter()
            answers = [classifier.logits(image[np.newaxis]) for image in images[number::clients]]
            return start, answers, time.perf_counter()

    with ThreadPoolExecutor(clients) as pool:
        starts, answers, ends = zip(*pool.map(one_client, range(clients)), strict=True)
    logits = [answers[index % clients][index // clients] for index in range(len(images))]
    return np.concatenate(logits), max(ends) - min(starts)


def demo(options: argparse.Namespace) -> None:
    """Send every digit, print accuracy, speed and batching, draw the digits and what they got."""
    drawing = SimpleNamespace(**runpy.run_path(str(DIGITS / "drawing.py")))

    images, labels = held_out_digits()
    options.clients = min(options.clients, len(images))
    with Classifier(options.url, options.model, options.protocol) as classifier:
        wanted, found = (classifier.height, classifier.width), images.shape[1:3]
        if wanted != found:
            raise ClientError(
                f"model {options.model!r} takes images of {wanted}, digits are {found}"
            )
        before = classifier.statistics()
        logits, seconds = send_concurrently(options, images)
        after = classifier.statistics()
        # The server counts a little after it has answered.
        deadline = time.monotonic() + UNCOUNTED
        while after[0] - before[0] < len(images) and time.monotonic() < deadline:
            time.sleep(0.05)
            after = classifier.statistics()
    inferences, executions = after[0] - before[0], after[1] - before[1]
    sizes = after[2] - before[2]

    predictions = logits.argmax(-1)
    right = predictions == labels
    captions = [
        f"{guess}" if guess == truth else f"{guess}, is {truth}"
        for guess, truth in zip(predictions, labels, strict=True)
    ]
    order = np.argsort(softmax(logits).max(-1), kind="stable")  # the least sure first
    shown = order[np.linspace(len(order) - 1, 0, 4).astype(int)]
    rate, share = len(images) / seconds, inferences / max(1, executions)
    lines = [
        f"{right.mean():.1%} of {len(images)} held-out digits right, {np.sum(~right)} wrong",
        f"{rate:.0f} requests a second from {options.clients} {options.protocol} clients",
        f"{inferences} digits in {executions} executions, {share:.1f} at a time on average",
    ]
    drawn = drawing.on_terminal(images[shown], [captions[index] for index in shown])
    print(drawn, *lines, sep="\n\n", end="\n\n")
    for size, count in sorted(sizes.items()):
        bar = "█" * -(-40 * count // max(sizes.values()))  # at least one
        print(f"  batch of {size:>2}  {bar} {count}")

    legend = 'The least sure ones first. Red is wrong: "3, is 8" was taken for a 3.'
    picture = drawing.as_picture(
        images[order],
        [captions[index] for index in order],
        right[order].tolist(),
        [f"{options.model}: {lines[0]}", *lines[1:], legend],
    )
    try:
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        picture.save(options.picture)
    except (OSError, ValueError) as error:
        raise ClientError(
            f"the picture {options.picture} cannot be written ({_reason(error)})"
        ) from error
    print(f"\nAll of them: {options.picture}")
    if 100 * right.mean() < options.min_accuracy:
        raise ClientError(
            f"accuracy {right.mean():.1%} is below --min-accuracy {options.min_accuracy}"
        )


# ---- Command line -------------------------------------------------------------------------------


def _reason(error: Exception) -> str:
    if isinstance(error, InferenceServerException):
        text = error.message()
    else:
        text = getattr(error, "strerror", None) or next(iter(error.args), "")
    return " ".join(str(text).split()).rstrip(".") or type(error).__name__


def _address(text: str) -> str:
    address = re.sub(r"^\w+://", "", text).rstrip("/")
    match = re.fullmatch(r"(\[[^]/]+\]|[^\s:/]+):(\d+)(/\S*)?", address)
    if not match or int(match[2]) not in range(1, 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, such as localhost:8000")
    return address


def _clients(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of clients, such as 8")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: a sentence on stderr says why not. Leaves with 2 when called wrongly."""
    parser = argparse.ArgumentParser(
        prog="client.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="picture files of any kind that Pillow reads")
    add("--url", type=_address, metavar="HOST:PORT", help="default localhost:8000, grpc: 8001")
    add("--model", help="default resnet50, with --demo resnet18_digits")
    add("--protocol", choices=list(PORTS), default="http", help="default http")
    add("--labels", type=Path, metavar="FILE", help="class names, one a line; default the server's")
    add("--demo", action="store_true", help="send the held-out digits instead of pictures")
    add(
        "--clients", type=_clients, default=8, metavar="N", help="demo: at the same time; default 8"
    )
    add("--picture", type=Path, default="demo/digits.png", help="demo: default demo/digits.png")
    add("--min-accuracy", type=float, default=0, metavar="PERCENT", help="demo: fail below this")
    options = parser.parse_args(arguments)
    if options.demo == bool(options.images):
        parser.error("name picture files, or ask for --demo")
    options.url = options.url or f"localhost:{PORTS[options.protocol]}"
    options.model = options.model or ("resnet18_digits" if options.demo else "resnet50")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has block characters
    try:
        demo(options) if options.demo else classify(options)
    except ClientError as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
