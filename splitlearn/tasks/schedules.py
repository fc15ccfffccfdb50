"""Schedules of the learning rate, checked against the run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

OptimizerCallable: TypeAlias = Callable[[Iterable[Any]], Optimizer]
"""Makes an optimizer from parameters; a config gives its class and arguments."""
LRSchedulerCallable: TypeAlias = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
"""Makes a scheduler from an optimizer; a config gives its class and arguments."""

LESS = frozenset({"loss", "bits", "bytes", "error"})
MORE = frozenset({"accuracy", "map", "miou"})


def better_mode(metric: str) -> str | None:
    """Return whether a metric such as `val/task_loss` should be small (`min`) or large (`max`); None if unknown."""
    words = set(re.findall("[a-z]+", metric.lower()))
    less, more = bool(words & LESS), bool(words & MORE)
    return None if less == more else "min" if less else "max"


def schedule(task: LightningModule, optimizer: Optimizer, make: LRSchedulerCallable, monitor: str) -> dict[str, Any]:
    """Return a scheduler in the form that Lightning expects.

    Args:
        task: task, attached to a Trainer.
        optimizer: optimizer of the learning rate.
        make: function that makes the scheduler; OneCycleLR, which steps every batch, gets the run's length unless it
            has one.
        monitor: metric that ReduceLROnPlateau watches after each validation.

    Raises:
        ValueError: if the run is longer than the scheduler, has an unknown length or no validation to watch, or the
            mode of the scheduler does not suit the metric.
    """
    makes: Callable[..., Any] = make
    try:
        scheduler = makes(optimizer)
    except ValueError as error:
        if "total_steps" not in str(error):  # which OneCycleLR without a length names
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
                f"ReduceLROnPlateau watches {monitor} in the wrong mode, {scheduler.mode}: set its mode to {right}"
            )
        every = task.trainer.check_val_every_n_epoch
        found |= {"frequency": every or 1, "strict": every is not None}  # validation by batches may begin later
    return found


class SameSchedule(Callback):
    """Refuse to resume a run for more steps than its schedule has."""

    trains_together: ClassVar[bool] = True

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare the run's length with that of the saved schedulers; raises ValueError if it is longer."""
        if trainer.state.fn == "fit":
            for state in checkpoint.get("lr_schedulers", ()):
                if "total_steps" in state:
                    _check_length(state["total_steps"], trainer)


def _length(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps):
        raise ValueError(
            "OneCycleLR needs the length of the run, and this run has no end: set trainer.max_epochs or max_steps"
        )
    return int(steps)


def _check_length(planned: int, trainer: Trainer) -> None:
    if planned < (steps := trainer.estimated_stepping_batches):
        raise ValueError(
            f"OneCycleLR was planned for {planned} steps, with a learning rate of almost 0 at the end, and this run "
            f"takes {steps}: keep max_epochs as it was, or begin a new run of the whole length"
        )


def _check_validated(trainer: Trainer, monitor: str) -> None:
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    never = every is not None and epochs is not None and -1 < epochs < every
    if never or not trainer.enable_validation:
        raise ValueError(
            f"ReduceLROnPlateau watches {monitor}, and this run has no validation to measure it: let it validate, or "
            "use another scheduler, such as CosineAnnealingLR"
        )
