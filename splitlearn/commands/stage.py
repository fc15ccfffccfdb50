"""One stage of `splitlearn stages`: `splitlearn fit` in a separate process, which ends with its parent."""

import os
import sys

from splitlearn.commands import main
from splitlearn.processes import PARENT, end_with

if __name__ == "__main__":
    end_with(int(os.environ[PARENT]))
    sys.argv[0] = "splitlearn"  # for records of the run
    sys.exit(main())
