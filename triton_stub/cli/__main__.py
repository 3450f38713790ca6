"""``python -m triton_stub.cli``."""

import sys

from triton_stub.cli import main

if __name__ == "__main__":
    sys.exit(main())
