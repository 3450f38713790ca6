"""tritonserver's flags that have no effect here, and those that are refused.

A flag that only tunes the real server is taken, so that a command line may be copied from there,
and a note says that it does nothing. A flag that changes what clients or models may rely on is
refused, unless its value asks for what happens anyway.

Source: server ``src/command_line_parser.cc`` (26.08). What is not here, ``options`` has.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from triton_stub.cli import values

if TYPE_CHECKING:
    from triton_stub.cli.parser import Parser

_GPU = "there is no GPU memory here that would be managed"
_THREADS = "threads are made as they are needed"
_SAGEMAKER = "SageMaker's endpoint is not served"
_VERTEX = "Vertex AI's endpoint is not served"

# Name → why it does nothing.
NO_EFFECT = {
    "--http-thread-count": "one thread answers HTTP, whoever waits for a model does not hold it",
    "--grpc-infer-thread-count": _THREADS,
    "--grpc-infer-allocation-pool-size": "nothing is pooled",
    "--grpc-max-response-pool-size": "nothing is pooled",
    "--grpc-server-cert": "gRPC is served without TLS",
    "--grpc-server-key": "gRPC is served without TLS",
    "--grpc-root-cert": "gRPC is served without TLS",
    "--sagemaker-port": _SAGEMAKER,
    "--sagemaker-safe-port-range": _SAGEMAKER,
    "--sagemaker-thread-count": _SAGEMAKER,
    "--vertex-ai-port": _VERTEX,
    "--vertex-ai-thread-count": _VERTEX,
    "--vertex-ai-default-model": _VERTEX,
    "--allow-gpu-metrics": "metrics of GPUs are not measured",
    "--metrics-interval-ms": "metrics are read whenever somebody asks for them",
    "--rate-limit-resource": "instances do not wait for resources",
    "--pinned-memory-pool-byte-size": _GPU,
    "--cuda-memory-pool-byte-size": _GPU,
    "--cuda-virtual-address-size": _GPU,
    "--min-supported-compute-capability": "JAX and the like choose their devices themselves",
    "--model-load-gpu-limit": _GPU,
    "--enable-peer-access": _GPU,
    "--host-policy": "models run where the operating system puts them",
    "--cache-directory": "the cache 'local' is part of this program",
    "--repoagent-directory": "repository agents are not imitated",
    "--buffer-manager-thread-count": _THREADS,
    "--model-load-thread-count": _THREADS,
    "--model-load-retry-count": "a model that fails to load is not tried again",
    "--backend-config": "the Python backend's shared memory and its stubs are not needed here",
}

# Name → the value that asks for what happens anyway, what is not imitated, and what to do.
REFUSED: dict[str, tuple[bool | None, str]] = {
    "--reuse-http-port": (
        False,
        "several servers on one port are not imitated; give each a port of its own",
    ),
    "--reuse-grpc-port": (
        False,
        "several servers on one port are not imitated; give each a port of its own",
    ),
    "--http-restricted-api": (
        None,
        "endpoints cannot be restricted here; leave it out and let nobody reach the port",
    ),
    "--grpc-restricted-protocol": (
        None,
        "protocols cannot be restricted here; leave it out and let nobody reach the port",
    ),
    "--grpc-use-ssl": (False, "gRPC is served without TLS; put a proxy before it that has TLS"),
    "--grpc-use-ssl-mutual": (
        False,
        "gRPC is served without TLS; put a proxy before it that has TLS",
    ),
    "--allow-sagemaker": (False, f"{_SAGEMAKER}; use HTTP or gRPC"),
    "--allow-vertex-ai": (False, f"{_VERTEX}; use HTTP or gRPC"),
    "--model-config-name": (
        None,
        "other configurations than config.pbtxt are not read; copy configs/NAME.pbtxt to "
        "config.pbtxt",
    ),
    "--model-namespacing": (
        False,
        "models of one name in several repositories are not imitated; rename them",
    ),
}


class NoEffect(argparse.Action):
    """Takes a flag that does nothing, and notes that."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,  # noqa: ARG002
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Add the note to ``namespace.notes``."""
        flag = self.option_strings[0]
        note = f"{flag} has no effect: {NO_EFFECT[flag]}"
        if note not in namespace.notes:
            namespace.notes = [*namespace.notes, note]


class Refused(argparse.Action):
    """Refuses a flag, unless its value asks for what happens anyway."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Exit with code 2 and what to do."""
        flag = self.option_strings[0]
        harmless, why = REFUSED[flag]
        if harmless is None or values is not harmless:
            parser.error(f"{flag} is refused: {why}")


def add_flags(parser: Parser) -> None:
    """Add all of them; they are not listed in the help, one sentence is in the epilog."""
    parser.set_defaults(notes=[])
    for flag in NO_EFFECT:
        parser.add_argument(flag, action=NoEffect, help=argparse.SUPPRESS)
    for flag, (harmless, _) in REFUSED.items():
        convert = str if harmless is None else values.boolean
        parser.value(parser, flag, convert, action=Refused, help=argparse.SUPPRESS)
