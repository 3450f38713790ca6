"""``auto_complete_config``: a model completes its configuration, before any instance is made.

Source: python_backend ``src/pb_stub.cc``, ``AutoCompleteModelConfig``.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from triton_stub.errors import LoadError, UnsupportedFeatureError
from triton_stub.pb_utils.model_config import ModelConfig
from triton_stub.runtime.describe import describe
from triton_stub.runtime.module import ModelModule, has
from triton_stub.runtime.services import Services

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.pb_utils.host import Host


def auto_complete(file: Path, text: str, host: Host) -> str:
    """What the model in ``file`` makes of its configuration ``text``, both as JSON.

    The model is imported in a scope of its own and in a thread of its own; no instance is made.
    Without an ``auto_complete_config`` it is only imported. LoadError, with the server's text, if
    anything goes wrong.
    """
    outcome: Future[str] = Future()

    def run() -> None:
        try:
            outcome.set_result(_completed(file, text, host))
        except BaseException as error:  # noqa: BLE001 - raised where the model is loaded
            outcome.set_exception(error)

    # A thread, for what a model leaves behind in one, such as an event loop. A daemon: one that
    # never returns must not keep the test run from ending.
    name = f"{host.instance_name} auto_complete_config"
    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome.result()


def _completed(file: Path, text: str, host: Host) -> str:
    module = ModelModule(file, Services(host))
    try:
        with module.scope.active():
            model_class = module.import_class()
            config: Any = ModelConfig(text)
            if has(model_class, "auto_complete_config"):
                config = model_class.auto_complete_config(config)
            if isinstance(config, ModelConfig):
                return json.dumps(config._model_config)
    except UnsupportedFeatureError:
        raise
    except BaseException as error:
        # SystemExit too: the process of the real server survives it and reports it.
        raise LoadError(describe(error)) from error
    raise LoadError(
        f"auto_complete_config function in model '{host.instance_name}' must return a valid "
        "pb.ModelConfig object."
    )
