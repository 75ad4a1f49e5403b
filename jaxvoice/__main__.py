"""`python -m jaxvoice` is the command `jaxvoice`."""

import sys

from jaxvoice.cli import main

if __name__ == "__main__":
    sys.exit(main())
