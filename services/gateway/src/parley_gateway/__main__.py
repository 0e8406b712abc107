"""Entry point of `parley-gateway` and `python -m parley_gateway`."""

import sys

from parley_gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
