"""``python -m speechtok``: the command line."""

import sys

from speechtok.cli import main

if __name__ == "__main__":
    sys.exit(main())
