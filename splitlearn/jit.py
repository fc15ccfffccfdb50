"""Compilation of kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

P = ParamSpec("P")
R = TypeVar("R")


class KernelCache(FunctionCache):  # type: ignore[misc]  # numba has no type hints
    """Compiled kernels on disk, which are loaded without numba's compiler.

    numba's own cache first imports and registers all that its compiler knows, SciPy too where it is installed: in a
    fresh process that takes several times as long as loading the kernels. A kernel that must be compiled still has it
    all: the compiler sees to that itself.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kernel compiled for the types `sig`; None if it is not on disk."""
        rtsys.initialize(target_context)  # what kernels allocate arrays with
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def njit(kernel: Callable[P, R]) -> Callable[P, R]:
    """Return `kernel` compiled on its first call, without the global interpreter lock and with a cache on disk.

    numba has no type hints, so this typed wrapper is used for all kernels. A change of a called kernel *in another
    file* does not invalidate the cache: after editing `_bits.py`, delete `__pycache__`.
    """
    compiled = numba.njit(nogil=True)(kernel)
    try:
        compiled._cache = KernelCache(kernel)
    except RuntimeError:  # neither the package's folder nor the user's cache is writable
        warnings.warn(
            "compiled kernels cannot be kept on disk, so every process compiles them again, for seconds: "
            "set NUMBA_CACHE_DIR to a writable folder",
            stacklevel=2,
        )
    typed: Callable[P, R] = compiled
    return typed
