"""Schedules of the learning rate that fit the run: known length, and something to watch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from splitlearn.tasks.monitors import better_mode

OptimizerCallable: TypeAlias = Callable[[Iterable[Any]], Optimizer]
"""Makes an optimizer of parameters; a config gives its class and arguments."""
LRSchedulerCallable: TypeAlias = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
"""Makes a scheduler of an optimizer, likewise."""


def schedule(task: LightningModule, optimizer: Optimizer, make: LRSchedulerCallable, monitor: str) -> dict[str, Any]:
    """Return a scheduler as Lightning takes it.

    Args:
        task: attached to a Trainer.
        optimizer: whose rate is set.
        make: makes the scheduler; one that sets the rate at every batch is given the run's length unless it has one.
        monitor: what ReduceLROnPlateau watches, after each validation.

    Raises:
        ValueError: if the run is longer than the scheduler, or of unknown length, or has no validation to watch, or
            watches it the wrong way round.
    """
    makes: Callable[..., Any] = make
    try:
        scheduler = makes(optimizer)
    except ValueError as error:
        if "total_steps" not in str(error):  # OneCycleLR names it where it has no length
            raise
        scheduler = makes(optimizer, total_steps=_length(task.trainer))
    if hasattr(scheduler, "total_steps"):
        _check_length(scheduler.total_steps, task.trainer)
        return {"scheduler": scheduler, "interval": "step"}
    found: dict[str, Any] = {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}
    if isinstance(scheduler, ReduceLROnPlateau):
        _check_validated(task.trainer, monitor)
        if scheduler.mode != (right := better_mode(monitor) or scheduler.mode):
            raise ValueError(
                f"ReduceLROnPlateau watches {monitor}, and takes worse for better in mode {scheduler.mode}: set its "
                f"mode to {right}"
            )
        every = task.trainer.check_val_every_n_epoch
        found |= {"frequency": every or 1, "strict": every is not None}  # by batches, the first may come later
    return found


class SameSchedule(Callback):
    """Refuse to resume a run for longer than its schedule was planned for, before anything runs."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare the run's length with that of the saved schedulers.

        Raises:
            ValueError: if it is longer.
        """
        if trainer.state.fn == "fit":
            for state in checkpoint.get("lr_schedulers", ()):
                if "total_steps" in state:
                    _check_length(state["total_steps"], trainer)


def _length(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps):
        raise ValueError(
            "OneCycleLR must know how long the run is, and this one has no end: set trainer.max_epochs or max_steps"
        )
    return int(steps)


def _check_length(planned: int, trainer: Trainer) -> None:
    if planned < (steps := trainer.estimated_stepping_batches):
        raise ValueError(
            f"OneCycleLR was planned for {planned} steps, at whose end the learning rate is next to nothing, and this "
            f"run takes {steps}: keep max_epochs as it was, or begin a new run of the whole length"
        )


def _check_validated(trainer: Trainer, monitor: str) -> None:
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    never = every is not None and epochs is not None and -1 < epochs < every
    if never or not trainer.enable_validation:
        raise ValueError(
            f"ReduceLROnPlateau watches {monitor}, which validation measures, and this run has none: let it validate, "
            "or take another scheduler, CosineAnnealingLR say"
        )
