"""What a Trainer's precision may be, and networks at their weights' own, whatever a training computes with."""

from __future__ import annotations

import torch
from lightning import Trainer

CAST = ("16-true", "bf16-true", "64-true")


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context in which mixed precision is off.

    Detectors are scored in it: they compute boxes in the type of their last layers, and bfloat16 knows only every
    second pixel from 256 on.

    Args:
        device: where the network is.
    """
    return torch.autocast(device.type, enabled=False)


def check_precision(trainer: Trainer, boxes: bool = False) -> None:
    """Refuse weights of a precision that would spoil what a run is for.

    Args:
        trainer: of the run.
        boxes: whether the network computes boxes.

    Raises:
        ValueError: if float16 weights are to train, or a detector's weights are to be other than float32.
    """
    precision = str(trainer.precision)
    if boxes and precision in CAST:
        raise ValueError(
            f"a detector's weights and boxes are float32 (narrower floats round a box to two pixels or more), and not "
            f"of --trainer.precision {precision}: take 32-true, or bf16-mixed to train"
        )
    if precision == "16-true" and trainer.state.fn == "fit":
        raise ValueError(
            "weights in float16 do not train, as small gradients vanish in it and Adam divides by zero: take "
            "--trainer.precision bf16-true, bf16-mixed, or 16-mixed on a GPU"
        )
