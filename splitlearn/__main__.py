"""`python -m splitlearn`: the command line."""

import sys

if __name__ == "__main__":
    from splitlearn.commands import main

    sys.exit(main())
