"""Compilation of kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def njit(kernel: Callable[P, R]) -> Callable[P, R]:
    """Return `kernel` compiled on its first call, without the global interpreter lock and with a cache on disk.

    numba has no type hints, so this typed wrapper is used for all kernels. A change of a called kernel *in another
    file* does not invalidate the cache: after editing `_bits.py`, delete `__pycache__`.
    """
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError:  # neither the package's folder nor the user's cache is writable
        warnings.warn(
            "compiled kernels cannot be kept on disk, so every process compiles them again, for seconds: "
            "set NUMBA_CACHE_DIR to a writable folder",
            stacklevel=2,
        )
        compiled = numba.njit(nogil=True)(kernel)
    return compiled
