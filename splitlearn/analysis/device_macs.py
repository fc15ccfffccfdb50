"""Multiply–accumulates of the device."""

from __future__ import annotations

import copy

import torch

from splitlearn.models import CutModel, count_macs


def device_macs(model: CutModel) -> int:
    """Return the multiply–accumulates of the device for one image of the example's size: head and encoders.

    They are counted on a copy, so the model is not changed.
    """
    complexity = model.complexity()
    running = copy.deepcopy(model).to("meta").float().eval()
    tensors: tuple[torch.Tensor, ...] = (torch.zeros(1, *model.net.input_shape, device="meta"),)
    macs = 0 if complexity is None else complexity.encoder_macs
    for step in running.device_steps():
        macs += count_macs(step, *tensors)
        with torch.no_grad():
            tensors = step(*tensors)
    return macs
