"""Weights and multiply–accumulates of the device and the edge server, for a network with early exits."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import cast

import torch
from torch import nn

from splitlearn.models import Bottleneck, EarlyExitModel, count_macs


@dataclass(frozen=True)
class Partition:
    """Weights and multiply–accumulates (MACs) of the device and the edge server.

    MACs are per image that takes no early exit. Weights are those of convolutions and linear layers. Biases are not
    counted, nor is batch norm, which can be folded into the convolutions. The encoders of bottlenecks count for the
    device, their decoders for the edge server.

    Attributes:
        device_weights: number of weights on the device, exits included.
        exit_weights: number of weights of the exits alone.
        edge_weights: number of weights on the edge server.
        device_macs: MACs on the device, exits included.
        exit_macs: MACs of the exits alone.
        edge_macs: MACs on the edge server.
        values: number of latent elements that cross the cut, equal to the bytes in INT8 without a codec.
    """

    device_weights: int
    exit_weights: int
    edge_weights: int
    device_macs: int
    exit_macs: int
    edge_macs: int
    values: int


def partition(model: EarlyExitModel) -> Partition:
    """Return the weights and the multiply–accumulates of the device and the edge server.

    Both are counted on a copy, so the model is not changed.

    Reference:
        Beysens et al. 2023, Table II.
    """
    running = copy.deepcopy(model).to("meta").float().eval()
    tensors: tuple[torch.Tensor, ...] = (torch.zeros(1, *model.net.input_shape, device="meta", dtype=torch.float32),)
    head_macs = exit_macs = 0
    with torch.no_grad():
        for step, classifier in zip_longest(running.steps, running.exits):
            head_macs += count_macs(step, *tensors)
            tensors = step(*tensors)
            exit_macs += 0 if classifier is None else count_macs(classifier, tensors[0])
        units = cast("list[Bottleneck]", list(running.coder.bottlenecks))
        latents = tuple(unit.encoder(tensor) for unit, tensor in zip(units, tensors, strict=True))
        encoder_macs, decoder_macs = (
            sum(count_macs(getattr(unit, part), given) for unit, given in zip(units, inputs, strict=True))
            for part, inputs in (("encoder", tensors), ("decoder", latents))
        )
    exit_weights = _weights(running.exits)
    return Partition(
        device_weights=_weights(running.steps) + exit_weights + sum(_weights(unit.encoder) for unit in units),
        exit_weights=exit_weights,
        edge_weights=_weights(running.net.tail) + sum(_weights(unit.decoder) for unit in units),
        device_macs=head_macs + exit_macs + encoder_macs,
        exit_macs=exit_macs,
        edge_macs=count_macs(running.net.tail, *tensors) + decoder_macs,
        values=sum(math.prod(latent.shape) for latent in latents),
    )


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)
