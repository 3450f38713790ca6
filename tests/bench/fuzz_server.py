"""The server that is fuzzed, in a process of its own: prints its addresses, serves until EOF."""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
from pathlib import Path

from triton_stub import Server

HERE = Path(__file__).parent
CLIENT_MODELS = HERE.parent / "client_models"


def main() -> None:
    faulthandler.enable()
    folder = Path(sys.argv[1])
    shutil.copytree(HERE / "fuzz_models", folder / "models")
    for name in ("simple", "simple_identity", "simple_dyna_sequence", "densenet_onnx"):
        shutil.copytree(CLIENT_MODELS / name, folder / "models" / name)
    os.chdir(folder)  # what a setting may write to, a trace say
    with Server(
        folder / "models",
        model_control_mode="explicit",
        startup_models=["*"],
        log_error=True,
        response_timeout=20.0,
    ) as server:
        print(
            json.dumps({"http": server.http_url, "grpc": server.grpc_url}),
            flush=True,
        )
        sys.stdin.read()
        print(json.dumps({"log": len(str(server.log()))}), flush=True)


if __name__ == "__main__":
    main()
