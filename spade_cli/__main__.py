"""`python -m spade_cli`: the same as the command `spade`."""

import sys

from spade_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
