"""Runs that end when they are told to."""

from __future__ import annotations

import signal
import threading
from typing import Any

from lightning import Callback, LightningModule, Trainer

from splitlearn.processes import Stopped


class StopsAtOnce(Callback):
    """Let SIGTERM end a run where it is, and with it the processes that the run has started.

    Lightning's own handler waits for the end of a batch, counts a run that was told to stop as one that has ended, and
    waits for other processes in the middle of what these do together, where it may hang.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the handler of this process when Lightning sets its own; it restores what it finds."""
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
            launcher.kill(signal.SIGKILL)
