"""``auto_complete_config``: a model completes its configuration, before any instance is made.

Source: python_backend ``src/pb_stub.cc``, ``AutoCompleteModelConfig``.
"""

from __future__ import annotations

import inspect
import json
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import LoadError
from triton_stub.pb_utils.model_config import ModelConfig
from triton_stub.runtime.activity import Activity
from triton_stub.runtime.describe import describe
from triton_stub.runtime.module import ModelModule, has
from triton_stub.runtime.services import Services

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.pb_utils.host import Host


def auto_complete(
    file: Path,
    text: str,
    host: Host,
    *,
    backend_of: Path | None = None,
    load_timeout: float | None,
    exit_timeout: float,
) -> str:
    """What the model in ``file`` makes of its configuration ``text``, both as JSON.

    The model is imported in a scope of its own and in a thread of its own; no instance is made.
    Without an ``auto_complete_config`` it is only imported. LoadError, with the server's text, if
    anything goes wrong, and if it takes more than ``load_timeout`` seconds, or if the thread then
    needs more than ``exit_timeout`` seconds to end.
    """
    outcome: Future[str] = Future()
    activity = Activity(f"Model '{host.instance_name}'")

    def run() -> None:
        try:
            outcome.set_result(completed(file, text, host, activity, backend_of=backend_of))
        except BaseException as error:  # noqa: BLE001 - raised where the model is loaded
            outcome.set_exception(error)
        activity.finish(host.log)

    # A thread, for what a model leaves behind in one, such as an event loop. A daemon: one that
    # never returns must not keep the test run from ending.
    name = f"{host.instance_name} auto_complete_config"
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        written = outcome.result(load_timeout)
    except TimeoutError:
        activity.give_up()
        raise overdue(f"{load_timeout:g} s", "load_timeout", activity.where()) from None
    thread.join(exit_timeout)
    if thread.is_alive():
        activity.give_up()
        raise overdue(
            f"{exit_timeout:g} s after auto_complete_config", "exit_timeout", activity.where()
        )
    return written


def overdue(when: str, limit: str, where: str) -> LoadError:
    """The error of a model that takes longer than a limit, ``where`` it does."""
    return LoadError(
        deviations.LOAD_LIMIT.text(
            f"the model was not loaded within {when}",
            f"Correct it, or raise {limit} if it needs longer. {where}",
        )
    )


def completed(
    file: Path,
    text: str,
    host: Host,
    activity: Activity,
    *,
    backend_of: Path | None = None,
    is_alone: bool = False,
) -> str:
    """The same in this thread, for as long as it takes; ``is_alone`` if nobody else is here."""
    module = ModelModule(file, Services(host), backend_of=backend_of, is_alone=is_alone)
    activity.begin(module)
    try:
        with module.scope.active():
            activity.method = "import"
            model_class = module.import_class()
            config: Any = ModelConfig(text)
            activity.method = "auto_complete_config"
            if has(model_class, "auto_complete_config"):
                config = model_class.auto_complete_config(config)
            if isinstance(config, ModelConfig):
                return json.dumps(config._model_config)
            if inspect.iscoroutine(config):
                config.close()  # nobody will await it
    except BaseException as error:
        # SystemExit too: the process of the real server survives it and reports it.
        raise LoadError(describe(error)) from error
    raise LoadError(
        f"auto_complete_config function in model '{host.instance_name}' must return a valid "
        "pb.ModelConfig object."
    )
