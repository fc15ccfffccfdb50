"""Cut a network between a device and an edge server and make what crosses the cut small.

Importing this package loads nothing heavy: take what you need from its rooms, `splitlearn.models` say.
"""

__version__ = "0.1.0"
