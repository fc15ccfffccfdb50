"""Precision of a Trainer: checks, and a context without mixed precision."""

from __future__ import annotations

import torch
from lightning import Trainer

CAST = ("16-true", "bf16-true", "64-true")


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context in which mixed precision is off on a device.

    Detectors need it when they are scored: they compute boxes in the type of their last layers, and bfloat16 represents
    only every second integer above 256.
    """
    return torch.autocast(device.type, enabled=False)


def check_precision(trainer: Trainer, boxes: bool = False) -> None:
    """Raise ValueError if float16 weights would train, or a detector's weights would not be float32."""
    precision = str(trainer.precision)
    if boxes and precision in CAST:
        raise ValueError(
            f"a detector needs float32 weights and boxes (narrower floats round a box to two pixels or more), and "
            f"--trainer.precision is {precision}: use 32-true, or bf16-mixed to train"
        )
    if precision == "16-true" and trainer.state.fn == "fit":
        raise ValueError(
            "weights in float16 do not train, since small gradients vanish and Adam divides by zero: use "
            "--trainer.precision bf16-true, bf16-mixed, or 16-mixed on a GPU"
        )
