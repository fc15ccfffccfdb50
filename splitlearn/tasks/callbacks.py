"""Callbacks of a run: memory layout of weights, reuse of freed memory, and immediate ends."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer

from splitlearn.models import fold_norms, unfold_norms
from splitlearn.processes import Stopped

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of malloc.h
MOST = 2**31 - 1


class ChannelsLast(Callback):
    """Keep convolution weights channels-last while fitting: the same training, an eighth faster on a CPU.

    Testing uses the original layout of the network. The layout decides the last bit of a sum, and payloads should be
    the same everywhere.
    """

    trains_together: ClassVar[bool] = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Convert the weights, before features are cached; activations follow them."""
        if stage == "fit":
            pl_module.to(memory_format=torch.channels_last)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert the weights back."""
        pl_module.to(memory_format=torch.contiguous_format)


class FoldedNorms(Callback):
    """Let frozen convolutions do the work of the batch norms behind them while fitting: a third less time.

    Testing runs the original network, so that payloads are the same everywhere. See `fold_norms`.
    """

    trains_together: ClassVar[bool] = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fold the norms, before features are cached."""
        if stage == "fit":
            fold_norms(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let all norms run by themselves again."""
        unfold_norms(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let all norms run by themselves again."""
        unfold_norms(pl_module)


def keep_freed_memory() -> bool:
    """Tell the C library of Linux to keep freed memory in this process; return whether it does so.

    By default, it returns large blocks to the system, and every training step pays again for the pages of all
    activations: a third of the step of a small network on a CPU. The process keeps its peak size.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(TRIM_THRESHOLD, MOST) == 1 and mallopt(MMAP_THRESHOLD, MOST) == 1


class KeepFreedMemory(Callback):
    """Call `keep_freed_memory` when training starts on a CPU."""

    trains_together: ClassVar[bool] = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Call `keep_freed_memory` if the training runs on a CPU."""
        if pl_module.device.type == "cpu":
            keep_freed_memory()


class StopsAtOnce(Callback):
    """Let SIGTERM end a run immediately, together with the processes that it has started.

    Lightning's own handler waits for the end of a batch and reports a stopped run as finished. It also waits for other
    processes in the middle of collective operations, where it may hang.
    """

    trains_together: ClassVar[bool] = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the handler of this process when Lightning sets its own; Lightning restores this one afterwards."""
        connector = trainer._signal_connector
        register = connector.register_signal_handlers

        def register_others() -> None:
            handler = signal.getsignal(signal.SIGTERM)
            register()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)

        vars(connector)["register_signal_handlers"] = register_others

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the other processes, which may be waiting for this one."""
        launcher: Any = trainer.strategy.launcher
        if isinstance(exception, Stopped) and launcher is not None:
            launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows, SIGTERM ends a process as well
