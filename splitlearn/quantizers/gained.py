"""Uniform quantization with a learnt gain for each channel and rate."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from splitlearn.numpy_quantizers import Grid, checked_integer
from splitlearn.numpy_quantizers.gained import GainedGrid
from splitlearn.quantizers.base import Quantizer, as_single, straight_through

LEAST, MOST = 2.0**-14, 2.0**15  # of the normal numbers of half precision


class GainedStep(Quantizer):
    """Rounds latent · gain to the nearest integer q and restores q / gain, with learnt gains for each channel and rate.

    At gains of 1 it is `Step(1.0)`, whose symbols it also has. One encoder and decoder thus serve several rates.
    `GainModel` makes and trains it. Unlike in the paper the restored values are not scaled by gains of their own: batch
    norms behind them hide their scale in training, where they drifted apart from rate to rate.

    Args:
        channels: channels of the latent, its second axis; with 1, one gain applies to all elements.
        rates: number of rates.
        levels: size of the symbol alphabet, 2…256.

    Attributes:
        rate: number of the rate in use.

    Raises:
        ValueError: if `channels` or `rates` is not positive, or `levels` is out of range.

    Reference:
        Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate adaptation", Sec. 3.
    """

    floats_per_image = 0
    step = 1.0

    def __init__(self, channels: int = 1, rates: int = 1, levels: int = 256) -> None:
        super().__init__()
        if channels < 1 or rates < 1:
            raise ValueError(f"channels and rates must be at least 1, got {channels} and {rates}")
        self.channels, self.rates, self.rate = channels, rates, 0
        self.levels = checked_integer("levels", levels, 2, 256)
        self.gains = nn.Parameter(torch.ones(rates, channels))

    @property
    def grid(self) -> Grid:  # type: ignore[override]
        """The bit-identical quantizer of numpy arrays, at the rate in use."""
        return GainedGrid(self.gain.detach().cpu().numpy().copy(), self.levels)

    @property
    def gain(self) -> Tensor:
        """Gains `(channels,)` of the rate in use; outside of training in half precision, as files keep them."""
        gain = self.gains[self.rate].clamp(LEAST, MOST)
        return gain if self.training else gain.half().float()

    @torch.no_grad()
    def at(self, position: float) -> Self:
        """Return the quantizer of one rate, whose gains are rounded to half precision, so that a file of it is small.

        Args:
            position: number of the rate; between two rates, logarithms of gains are interpolated.

        Raises:
            ValueError: if it does not lie in 0…rates − 1.
        """
        if not 0 <= position <= self.rates - 1:
            raise ValueError(f"rates lie in 0…{self.rates - 1}, got {position}")
        low = min(int(position), max(self.rates - 2, 0))
        high, share = min(low + 1, self.rates - 1), position - low
        found = type(self)(self.channels, 1, self.levels).to(self.gains.device)
        kept = self.gains.clamp(LEAST, MOST)
        between = kept[low].log().lerp(kept[high].log(), share).exp()
        gains = kept[int(position)] if position == int(position) else between  # exp(log(x)) may differ from x
        found.gains.copy_(gains.clamp(LEAST, MOST).half()[None])
        return found.requires_grad_(False).train(self.training)

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 symbols shaped like `latent` and an empty `(B, 0)` tensor."""
        q = self._rounded(as_single(latent) * self._shaped(self.gain.detach(), latent))
        symbols = (2 * q + 0.5).abs() - 0.5  # zig-zag: 2q for q ≥ 0, −2q − 1 below
        return symbols.to(torch.uint8), q.new_zeros(len(latent), 0)

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return q / gain as float32, shaped like `symbols`; `floats` is empty."""
        s = symbols.to(torch.int16)
        return ((s >> 1) ^ -(s & 1)).float() * self._shaped(1 / self.gain.detach(), symbols)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32; the gradient of rounding is the identity, that of gains exact."""
        gain = self.gain
        scaled = latent.float() * self._shaped(gain, latent)
        return straight_through(scaled, self._rounded(scaled.detach())) * self._shaped(1 / gain, latent)

    def _rounded(self, scaled: Tensor) -> Tensor:
        return torch.round(scaled).clamp(-(self.levels // 2), (self.levels - 1) // 2)

    def _shaped(self, values: Tensor, latent: Tensor) -> Tensor:
        """Return values `(channels,)` in the shape to multiply a latent `(B, channels, …)` with."""
        if self.channels > 1 and latent.shape[1] != self.channels:
            raise ValueError(f"this quantizer has gains for {self.channels} channels, the latent has {latent.shape[1]}")
        return values.view(-1, *[1] * (latent.dim() - 2)) if self.channels > 1 else values

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        return f"channels={self.channels}, rates={self.rates}, levels={self.levels}"
