"""`python -m rnnstate` is the command `rnnstate`."""

import sys

from rnnstate.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
