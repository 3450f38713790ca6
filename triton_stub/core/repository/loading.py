"""From the configuration that was polled to the one that a version of a model is loaded with.

Sources: core ``src/backend_model.cc`` (``TritonModel::Create``) and ``src/model.cc`` (``Init``);
python_backend ``src/python_be.cc`` (``ModelState``). The order of the checks is theirs.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from triton_stub import config as model_config
from triton_stub import deviations
from triton_stub.core.host import InstanceHost
from triton_stub.core.processes.process_executor import auto_complete_in_process
from triton_stub.core.repository.backends import find_code
from triton_stub.errors import ConfigError, LoadError, StatusCode, UnsupportedFeatureError
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.auto_complete import auto_complete

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.core.host import ServerHost
    from triton_stub.core.log import Log

_MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a version of a model is loaded with.

    Attributes:
        config: the ``ModelConfig`` message of the server.
        told: what the model is told in ``args["model_config"]``, as JSON.
        file_name: name of the model's code in the version's directory.
        backend: the code in its place of a backend that is written in Python, if it has one.
    """

    config: Any
    told: str
    file_name: str
    backend: Path | None = None

    @classmethod
    def of(cls, config: Any, backend: Path | None = None) -> Settings:
        """Those of a model that is told what the server has."""
        told = model_config.to_json(config)
        return cls(config, told, config.default_model_filename, backend)


def complete(directory: Path, version: int, config: Any, server: ServerHost) -> Settings:
    """Check a polled configuration, and let the model complete it unless the server is strict.

    LoadError, in the server's words, if the model does not load with it.
    """
    check_supported(config)
    config = copy.deepcopy(config)  # as it was polled it is compared with the next one
    backend = find_code(config, directory, version, server)
    model_config.check_instance_groups(config)
    _check_parameters(config, directory, server.log)
    settings = Settings.of(config, backend)
    if not server.strict_model_config:
        settings = _completed(directory, version, settings, server)
        model_config.check_polled(settings.config)
        check_supported(settings.config)
    model_config.check_tensors(settings.config)
    model_config.check_labels(settings.config, directory)
    if not settings.file_name and backend is None:
        raise LoadError("attempt to access non-existing object member 'default_model_filename'")
    return settings


def _completed(directory: Path, version: int, settings: Settings, server: ServerHost) -> Settings:
    name = settings.config.name
    host = InstanceHost(server, name, name)
    version_directory = directory / str(version)
    run = auto_complete_in_process if server.isolation == "process" else auto_complete
    returned = run(
        settings.backend or version_directory / settings.file_name,
        settings.told,
        host,
        backend_of=version_directory if settings.backend else None,
        load_timeout=server.load_timeout,
        exit_timeout=server.exit_timeout,
    )
    try:
        value = json.loads(returned, parse_constant=_refuse_constant)
        return Settings.of(model_config.completed(settings.config, returned), settings.backend)
    except ConfigError as error:
        # As the server, which ignores it, and shows the model what it made all the same.
        reason = error.message
    if not (directory / model_config.CONFIG_FILENAME).exists():
        raise LoadError(
            f"model configuration is not provided for model '{name}'", StatusCode.NOT_FOUND
        )
    server.log.note(
        LogLevel.WARNING,
        f"model '{name}': what auto_complete_config returns is no model configuration, and is "
        f"ignored as the real server ignores it: {reason}",
    )
    told = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    fields = value if isinstance(value, dict) else {}
    policy = fields.get("model_transaction_policy")
    if isinstance(policy, dict) and not isinstance(policy.get("decoupled", False), bool):
        raise LoadError(
            deviations.ODD_DECOUPLED.text(
                f"auto_complete_config sets decoupled to {policy['decoupled']!r}", "Use a bool."
            )
        )
    file_name = fields.get("default_model_filename", "")
    if not isinstance(file_name, str):
        raise LoadError("attempt to access JSON non-string as string")
    return Settings(settings.config, told, file_name, settings.backend)


def _refuse_constant(_: str) -> NoReturn:
    # NaN and the infinities, which Python writes and JSON does not know.
    raise LoadError("Failed to accept document, invalid JSON.")


def _check_parameters(config: Any, directory: Path, log: Log) -> None:
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    environment = _environment(parameters.get("EXECUTION_ENV_PATH"), directory)
    if environment is not None:
        log.note(LogLevel.INFO, f"Using Python execution env {environment}")
    forced = parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS")
    if forced == "yes":
        log.note(LogLevel.INFO, "Forcing CPU only input tensors.")
    elif forced == "no":
        log.note(
            LogLevel.INFO,
            "Input tensors can be both in CPU and GPU. FORCE_CPU_ONLY_INPUT_TENSORS is off.",
        )
    elif forced is not None:
        raise LoadError(
            # The lonely quote is the server's.
            f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {forced}'",
            StatusCode.UNSUPPORTED,
        )
    # As a text: it may be too long for a name.
    if environment and not os.path.exists(environment):  # noqa: PTH110
        raise LoadError(f"Failed to get the canonical path for {environment}.")


def _environment(path: str | None, directory: Path) -> str | None:
    """Where ``EXECUTION_ENV_PATH`` leads; None if there is none."""
    if path is None:
        return None
    path = path.replace(_MODEL_DIRECTORY, str(directory), 1)
    return os.path.normpath(path) if "/.." in path else path


def check_supported(config: Any) -> None:
    """Refuse what would run under other rules than the server's: UnsupportedFeatureError.

    See ``deviations.NOT_IMITATED``. LoadError for what the server would not survive.
    """
    ordered = (config.dynamic_batching, config.sequence_batching.oldest)
    is_ordered = any(each.preserve_ordering for each in ordered)
    if config.model_transaction_policy.decoupled and is_ordered:
        raise LoadError(
            deviations.ORDERED_STREAMS.text(
                f"model '{config.name}' is decoupled, and has preserve_ordering",
                "Remove preserve_ordering: the responses to one request are in order without it.",
            )
        )
    asked = {
        "model_repository_agents": config.HasField("model_repository_agents"),
        "TRITON_BATCH_STRATEGY_PATH": "TRITON_BATCH_STRATEGY_PATH" in config.parameters,
    }
    features = [feature for feature, is_asked in asked.items() if is_asked]
    if features:
        raise UnsupportedFeatureError(
            f"model '{config.name}' asks for {', '.join(features)}, which this release of "
            "triton_stub does not imitate: test this model with --triton-engine=native"
        )


def warn_of_ignored(config: Any, log: Log, *, rate_limited: bool = False) -> None:
    """Say what is ignored: deviations.EXECUTION_ENVIRONMENT, and deviations.RATE_LIMITS."""
    ignored = {
        "EXECUTION_ENV_PATH is ignored: the model runs in the environment of this process": (
            "EXECUTION_ENV_PATH" in config.parameters
        ),
        "rate limits are ignored: instances execute as soon as they are idle": (
            rate_limited and any(group.HasField("rate_limiter") for group in config.instance_group)
        ),
    }
    for text, is_asked in ignored.items():
        if is_asked:
            log.note(LogLevel.WARNING, f"model '{config.name}': {text}")
