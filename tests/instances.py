"""Instances of models that a test writes down as text, without a server around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent

import numpy as np

from triton_stub import datatypes
from triton_stub.core.metrics import Metrics
from triton_stub.pb_utils import InferenceRequest, InferenceResponse, Tensor
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.instance import Instance, InstanceSpec

PB_UTILS = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n"


@dataclass
class Lines:
    """A log that keeps what is written to it."""

    records: list[tuple[LogLevel, str, str, int]] = field(default_factory=list)

    def write(self, level: LogLevel, message: str, file: str, line: int) -> None:
        self.records.append((level, message, file, line))

    write_early = write

    def note(self, level: LogLevel, message: str) -> None:
        self.write(level, message, "", 0)

    @property
    def messages(self) -> list[str]:
        return [message for _, message, _, _ in self.records]


@dataclass
class Surroundings:
    """A server that has nothing but a log."""

    log: Lines
    instance_name: str
    metrics: Metrics = field(default_factory=Metrics)
    ended: bool = False

    def infer(self, request, *, decoupled):
        raise NotImplementedError

    load_model = unload_model = is_model_ready = infer


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write files below ``folder``; returns the version directory ``folder/1``."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return folder / "1"


def model_class(body: str, before: str = "") -> str:
    """The text of a ``model.py`` with ``body`` in its class."""
    return f"{PB_UTILS}{dedent(before)}\nclass TritonPythonModel:\n{indent(dedent(body), '    ')}\n"


def execute(body: str, before: str = "", *, is_async: bool = False) -> str:
    """The text of a ``model.py`` with ``body`` in its ``execute``."""
    start = "async def" if is_async else "def"
    return model_class(f"{start} execute(self, requests):\n{indent(dedent(body), '    ')}", before)


def new_instance(folder: Path, files: dict[str, str] | str, log: Lines | None = None) -> Instance:
    """An instance of the model in ``files``, or of that ``1/model.py``; not loaded yet."""
    if isinstance(files, str):
        files = {"1/model.py": files}
    write_files(folder, files)
    spec = InstanceSpec(
        model_name=folder.name,
        model_version="1",
        model_file=folder / "1" / "model.py",
        model_config='{"name":"m"}',
        instance_name=f"{folder.name}_0",
    )
    return Instance(spec, Surroundings(log or Lines(), spec.instance_name))


def loaded(folder: Path, files: dict[str, str] | str, log: Lines | None = None) -> Instance:
    """The same, loaded."""
    instance = new_instance(folder, files, log)
    instance.load()
    return instance


def received(name: str, array: np.ndarray) -> Tensor:
    """An input tensor as ``execute`` gets it."""
    datatype = datatypes.from_dtype(array.dtype)
    assert datatype is not None
    return Tensor._received(name, datatype, array.shape, array)


@dataclass
class Client:
    """A client that keeps what is sent to it; None stands for the bare end."""

    decoupled: bool = False
    cancelled: bool = False
    abandoned: bool = False
    kept: bool = False
    got: list[tuple[InferenceResponse | None, bool]] = field(default_factory=list)

    def respond(self, response: InferenceResponse | None, *, final: bool) -> None:
        self.got.append((response, final))

    def keep(self) -> None:
        self.kept = True

    def is_cancelled(self) -> bool:
        return self.cancelled

    def abandon(self, sent: int, instead: str | None) -> None:
        self.abandoned = True


def request(*outputs: str, client: Client | None = None, **inputs: np.ndarray) -> InferenceRequest:
    """A request as ``execute`` gets it, which asks for ``outputs``."""
    tensors = [received(name, array) for name, array in inputs.items()]
    return InferenceRequest._received(tensors, outputs, parameters={}, channel=client or Client())
