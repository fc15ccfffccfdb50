"""Split a network between a device and an edge server, and compress the features at the cut.

Importing this package loads no heavy dependency; import from its subpackages, such as `splitlearn.models`.
"""

__version__ = "0.2.0"
