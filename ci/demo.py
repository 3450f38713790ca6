"""What `nox -s demo` runs once the digits are trained: a server on a real port, and client.py.

Options are handed on to client.py, for example `python ci/demo.py --clients 32`.
Exit code 1 when fewer than 97 % of the held-out digits are recognised.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # client.py is a script of this repository, not of the package

import client  # noqa: E402
import triton_stub  # noqa: E402


def main(options: list[str]) -> int:
    """The exit code of client.py against the embedded server; 1 when the model cannot be loaded."""
    server = triton_stub.Server(
        model_repository=str(ROOT / "model_repository"),
        model_control_mode="explicit",
        startup_models=["resnet18_digits"],
    )
    try:
        server.start()
    except triton_stub.LoadError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        endpoint = server.serve(http_port=0)
        fixed = ["--demo", "--url", endpoint.http_url, "--min-accuracy", "97"]
        return client.main([*fixed, *options])
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
