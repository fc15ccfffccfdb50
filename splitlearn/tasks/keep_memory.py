"""Memory that is freed after one step is there for the next."""

from __future__ import annotations

import ctypes
import sys

from lightning import Callback, LightningModule, Trainer

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of malloc.h
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library of Linux to keep freed memory in this process; return whether it does so.

    By default it hands large blocks back to the system, and every training step pays again for the pages of all its
    activations: a third of the step of a small network on a CPU. The process stays as large as it was at its largest.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(TRIM_THRESHOLD, MOST) == 1 and mallopt(MMAP_THRESHOLD, MOST) == 1


class KeepFreedMemory(Callback):
    """Call `keep_freed_memory` when training starts on a CPU."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set it for this process."""
        if pl_module.device.type == "cpu":
            keep_freed_memory()
