"""Networks at their weights' own precision, whatever a training computes with."""

from __future__ import annotations

import torch


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context in which mixed precision is off.

    Detectors are scored in it: they compute boxes in the type of their last layers, and bfloat16 knows only every
    second pixel from 256 on.

    Args:
        device: where the network is.
    """
    return torch.autocast(device.type, enabled=False)
