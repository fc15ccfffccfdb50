"""One stage of `splitlearn stages`: `splitlearn fit` in a process of its own, which ends if that command is killed."""

import os
import sys

from splitlearn.commands import main
from splitlearn.processes import PARENT, end_with

if __name__ == "__main__":
    end_with(int(os.environ[PARENT]))
    sys.argv[0] = "splitlearn"  # what records of the run tell
    sys.exit(main())
