"""One stage of `splitlearn stages`: `splitlearn fit` in a process of its own, which ends if that command is killed."""

import os
import sys

from splitlearn.cli import main
from splitlearn.processes import end_with

if __name__ == "__main__":
    end_with(os.getppid())
    sys.argv[0] = "splitlearn"  # what records of the run tell
    sys.exit(main())
