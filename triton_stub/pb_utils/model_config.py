"""``ModelConfig``: what ``auto_complete_config`` gets, edits and returns.

Plain Python on the server too, so its accidents can be seen: texts are joined with ``+``, which
refuses a name that is no text, and keys that are not there raise KeyError. Both are kept, which is
why nothing here is an f-string. Behaviour source: python_backend
``src/resources/triton_python_backend_utils.py``.
"""

from __future__ import annotations

import json
from typing import Any

_SCHEDULERS_IN_THE_WAY = ("sequence_batching", "ensemble_scheduling")
_IN_FUNCTION = "auto-complete-config function for model '"


class ModelConfig:
    """A model's configuration, as the server prints it, while the model completes it."""

    __module__ = "triton_python_backend_utils"

    def __init__(self, model_config: str) -> None:
        self._model_config: Any = json.loads(model_config)

    def as_dict(self) -> Any:
        """The configuration itself, no copy: what is changed in it is changed."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Set the largest batch; ValueError if the configuration has a larger one."""
        if self._model_config["max_batch_size"] > max_batch_size:
            raise ValueError(
                "configuration specified max_batch_size "
                + str(self._model_config["max_batch_size"])
                + (", but in " + _IN_FUNCTION)
                + self._model_config["name"]
                + "' specified max_batch_size "
                + str(max_batch_size)
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Ask for the dynamic batcher; ValueError if the configuration has another scheduler."""
        for scheduler in _SCHEDULERS_IN_THE_WAY:
            if scheduler in self._model_config:
                raise ValueError(
                    ("Configuration specified scheduling_choice as '" + scheduler)
                    + ("', but " + _IN_FUNCTION)
                    + self._model_config["name"]
                    + "' tries to set scheduling_choice as 'dynamic_batching'"
                )
        if "dynamic_batching" not in self._model_config:
            self._model_config["dynamic_batching"] = {}

    def add_input(self, input: dict[str, Any]) -> None:  # noqa: A002 - NVIDIA's name
        """Add an input, or complete the one of that name.

        ``input`` has ``name``, ``data_type``, ``dims`` and maybe ``optional``, and becomes part of
        the configuration: no copy is made. ValueError if there is another key, if one of the three
        is missing, or if the configuration has another datatype, other dims or another
        ``optional`` for that name.
        """
        _add(self._model_config, "input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output: dict[str, Any]) -> None:
        """Add an output, or complete the one of that name: as ``add_input``, without ``optional``.

        ``output`` becomes part of the configuration: no copy is made.
        """
        _add(self._model_config, "output", output, ("name", "data_type", "dims"))

    def set_model_transaction_policy(self, transaction_policy_dict: dict[str, Any]) -> None:
        """Set ``{"decoupled": …}``; ValueError for other keys, or if it is set otherwise already.

        A ``model_transaction_policy`` in config.pbtxt sets it, to False if it says nothing else.
        """
        for key in transaction_policy_dict.keys():  # noqa: SIM118 - what has no keys is refused
            if key != "decoupled":
                raise ValueError(
                    ("model transaction property in " + _IN_FUNCTION)
                    + self._model_config["name"]
                    + "' contains property other than 'decoupled'."
                )
        if "model_transaction_policy" not in self._model_config:
            self._model_config["model_transaction_policy"] = {}
        if "decoupled" not in transaction_policy_dict.keys():  # noqa: SIM118
            return
        policy = self._model_config["model_transaction_policy"]
        decoupled = transaction_policy_dict["decoupled"]
        if "decoupled" in policy and policy["decoupled"] != decoupled:
            raise ValueError(
                "trying to change decoupled property in auto-complete-config for model '"
                + self._model_config["name"]
                + "', which is already set to '"
                + str(policy["decoupled"])
                + "'."
            )
        policy["decoupled"] = decoupled


def _add(config: Any, kind: str, entry: dict[str, Any], allowed: tuple[str, ...]) -> None:
    _check_keys(config, kind, entry, allowed)
    for current in config[kind]:
        if entry["name"] == current["name"]:
            _check_agreement(config, kind, entry, current, allowed)
            current["data_type"] = entry["data_type"]
            current["dims"] = entry["dims"]
            if "optional" in allowed and "optional" in entry:
                current["optional"] = entry["optional"]
            return
    config[kind].append(entry)


def _check_keys(config: Any, kind: str, entry: dict[str, Any], allowed: tuple[str, ...]) -> None:
    for key in entry:
        if key not in allowed:
            *first, last = allowed
            names = "', '".join(first)
            raise ValueError(
                (kind + " '")
                + entry["name"]
                + ("' in " + _IN_FUNCTION)
                + config["name"]
                + ("' contains property other than '" + names + "' and '" + last + "'.")
            )
    if "name" not in entry:
        raise ValueError(
            (kind + " in " + _IN_FUNCTION) + config["name"] + "' is missing 'name' property."
        )
    for key in ("data_type", "dims"):
        if key not in entry:
            raise ValueError(
                (kind + " '")
                + entry["name"]
                + ("' in " + _IN_FUNCTION)
                + config["name"]
                + ("' is missing '" + key + "' property.")
            )


def _check_agreement(
    config: Any, kind: str, entry: dict[str, Any], current: dict[str, Any], allowed: tuple[str, ...]
) -> None:
    if current["data_type"] != "TYPE_INVALID" and current["data_type"] != entry["data_type"]:
        raise ValueError(
            "unable to load model '"
            + config["name"]
            + "', configuration expects datatype "
            + current["data_type"]
            + (" for " + kind + " '")
            + entry["name"]
            + "', model provides "
            + entry["data_type"]
        )
    if current["dims"] and current["dims"] != entry["dims"]:
        raise ValueError(_disagreement(config, "dims", entry, current))
    if (
        "optional" in allowed
        and "optional" in current
        and "optional" in entry
        and current["optional"] != entry["optional"]
    ):
        raise ValueError(_disagreement(config, "optional", entry, current))


def _disagreement(config: Any, key: str, entry: dict[str, Any], current: dict[str, Any]) -> str:
    text: str = (
        "model '"
        + config["name"]
        + "', tensor '"
        + entry["name"]
        + ("': the model expects " + key + " ")
        + str(entry[key])
        + (" but the model configuration specifies " + key + " ")
        + str(current[key])
    )
    return text
