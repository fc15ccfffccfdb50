"""Parameters and multiply–accumulates of layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """Cost of bottlenecks per image (Datta et al. 2022, Table III).

    Attributes:
        parameters: number of parameters of encoders and decoders.
        encoder_parameters: number of parameters on the device.
        decoder_parameters: number of parameters on the server.
        encoder_macs: multiply–accumulates on the device.
        decoder_macs: multiply–accumulates on the server.
    """

    parameters: int
    encoder_parameters: int
    decoder_parameters: int
    encoder_macs: int
    decoder_macs: int


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Return the multiply–accumulates of one call: convolutions, linear layers, matrix products and attention."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2
