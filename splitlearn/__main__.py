"""`python -m splitlearn`: the command line."""

import sys

if __name__ == "__main__":
    from splitlearn.cli import main

    sys.exit(main())
