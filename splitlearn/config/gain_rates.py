"""Measurement of each rate of one trained model with many rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import Trainer

from splitlearn.models import GainModel
from splitlearn.tasks.keep_frozen import kept_types


def measured_rates(
    task: Any, data: Any, positions: Sequence[float] | None = None, prefix: str = "test/"
) -> list[dict[str, float]]:
    """Return the metrics of a test of each rate of a task's `GainModel`, with real payloads.

    Args:
        task: a trained task whose model is a `GainModel`; afterwards it has this model again.
        data: data module whose test images are measured, e.g. `HeldOutImages`.
        positions: numbers of the rates, also between two trained ones; None for all trained ones.
        prefix: of the metrics' names, in place of `test/`.
    """
    model: GainModel = task.model
    bank, found = model.bank(positions), []
    try:
        for rate in range(len(bank.rates)):
            task.model = bank.at_rate(rate)
            trainer = Trainer(
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            with kept_types(task):
                trainer.test(task, data, verbose=False)
            metrics = trainer.callback_metrics.items()
            found.append({prefix + name.removeprefix("test/"): float(value) for name, value in metrics})
    finally:
        task.model = model
    return found


def evenly_placed(rates: int, trained: int) -> list[float]:
    """Return positions of so many rates, evenly spaced from the first trained rate to the last; of one, the last."""
    last = trained - 1
    return [last * number / (rates - 1) for number in range(rates)] if rates > 1 else [last]
