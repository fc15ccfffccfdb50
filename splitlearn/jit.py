"""The one place that knows how kernels are compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def njit(kernel: Callable[P, R]) -> Callable[P, R]:
    """Return `kernel` compiled on its first call, its machine code kept on disk.

    numba ships no types, so the decorator is wrapped once here and kernels stay typed. A cached kernel is not rebuilt
    when a kernel that it calls *in another file* changes: after editing `_bits.py`, delete `__pycache__`.

    Args:
        kernel: function of numpy arrays and scalars; it holds no lock on the interpreter while it runs.
    """
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        warnings.warn(
            "compiled kernels cannot be kept on disk, so every process compiles them anew, for seconds: "
            "set NUMBA_CACHE_DIR to a folder that can be written to",
            stacklevel=2,
        )
        compiled = numba.njit(nogil=True)(kernel)
    return compiled
