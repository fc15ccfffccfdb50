"""`python -m splitlearn`: the command line."""

import sys

from splitlearn.cli import main

sys.exit(main())
