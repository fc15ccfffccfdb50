"""Quantization with few levels between clipping limits: uniform, or entropy-constrained with pinned ends."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor

from splitlearn.numpy_quantizers import ClippedGrid, checked_integer
from splitlearn.quantizers.base import Quantizer, as_single, straight_through


class Clipped(Quantizer):
    """Clips values to [low, high] and rounds them to a few levels; the lowest level is `low`, the highest `high`.

    The constructor makes evenly spaced levels, equal for all channels. Calibration sets separate limits for each
    channel (`between`), or levels with any spacing (`with_levels`). Levels are buffers, saved with the weights and sent
    once; payloads contain no floats.

    Use it to quantize a trained network with few levels: `calibrate` fits the levels to its latents, without training.
    `Step` is for latents that are trained with a rate loss.

    The symbol of a value is the number of thresholds below the value. A threshold separates two neighbouring levels (by
    default halfway between them). Comparisons of float32 are exact, so equal latents give equal symbols on all
    machines.

    Args:
        low: c0, the value of the lowest level.
        high: c1, the value of the highest level.
        levels: N, 2…256; any number, not only powers of two.
        channels: 1 for the same levels for all elements, or the number of channels of the latent (its axis 1).

    Raises:
        ValueError: if a limit is not finite, `low` is above `high`, `levels` is out of range, or `channels` is below 1.

    Reference: Cohen, Choi & Bajić 2020.
    """

    floats_per_image = 0
    thresholds: Tensor
    values: Tensor

    def __init__(self, low: float = 0.0, high: float = 1.0, levels: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.levels = levels = checked_integer("levels", levels, 2, 256)
        self.channels = channels = checked_integer("channels", channels, 1, 1 << 31)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError("clipping limits must be finite, low not above high")
        limits = torch.tensor([[low], [high]], dtype=torch.float64)
        values = evenly(limits[0], limits[1], levels).repeat(channels, 1)
        self.register_buffer("values", values.float())
        self.register_buffer("thresholds", midpoints(values).float())

    @classmethod
    def between(cls, low: Tensor, high: Tensor, levels: int) -> Self:
        """Return a quantizer with evenly spaced levels between the limits `(channels,)` of each channel.

        A channel with equal limits uses one level, on that value.

        Raises:
            ValueError: if a limit is not finite, `low` is above `high`, or `levels` is out of range.
        """
        values = even_values(low.double(), high.double(), levels)
        return cls.with_levels(values, midpoints(values))

    @classmethod
    def with_levels(cls, values: Tensor, thresholds: Tensor) -> Self:
        """Return a quantizer with any spacing of levels.

        Args:
            values: the value of each symbol, `(channels, levels)`, ascending in each channel.
            thresholds: `(channels, levels − 1)`, ascending; the symbol of a value is the number of thresholds below it.

        Raises:
            ValueError: if the shapes do not match, a value is not finite, a threshold is NaN, or either is not
                ascending.
        """
        check_levels(values, thresholds)
        quantizer = cls(float(values.min()), float(values.max()), values.shape[1], len(values))
        quantizer.values.copy_(values)
        quantizer.thresholds.copy_(thresholds)
        return quantizer

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Refuse invalid levels of a file: NaN, infinite or falling ones."""
        values, thresholds = (state_dict.get(f"{prefix}{name}") for name in ("values", "thresholds"))
        if isinstance(values, Tensor) and isinstance(thresholds, Tensor):
            check_levels(values, thresholds)
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def low(self) -> float:
        """The smallest level over all channels."""
        return float(self.values.min())

    @property
    def high(self) -> float:
        """The largest level over all channels."""
        return float(self.values.max())

    @property
    def grid(self) -> ClippedGrid:  # type: ignore[override]
        """The bit-identical quantizer for numpy arrays."""
        return ClippedGrid(self.thresholds.cpu().numpy(), self.values.cpu().numpy())

    def _by_channel(self, latent: Tensor) -> Tensor:
        """Return a view or copy of a batch as `(channels, elements)`."""
        if self.channels == 1:
            return latent.reshape(1, -1)
        if latent.dim() < 2 or latent.shape[1] != self.channels:
            raise ValueError(
                f"this quantizer is calibrated for {self.channels} channels, the latent has shape {tuple(latent.shape)}"
            )
        return latent.transpose(0, 1).flatten(1)

    def _restored(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Undo `_by_channel`."""
        if self.channels == 1:
            return rows.reshape(shape)
        return rows.reshape(self.channels, shape[0], *shape[2:]).transpose(0, 1)

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return uint8 symbols shaped like `latent` and an empty `(B, 0)` tensor.

        Raises:
            ValueError: if the latent holds NaN or infinity, or its number of channels is not the quantizer's.
        """
        floats = as_single(latent)
        symbols = torch.searchsorted(self.thresholds, self._by_channel(floats).contiguous(), out_int32=True)
        return self._restored(symbols.to(torch.uint8), latent.shape).contiguous(), floats.new_zeros(len(latent), 0)

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        """Return the float32 values of `symbols`, shaped like them; `floats` is empty.

        Raises:
            ValueError: if the number of channels is not the quantizer's.
        """
        values = self.values.gather(1, self._by_channel(symbols).long())
        return self._restored(values, symbols.shape).contiguous()

    def forward(self, latent: Tensor) -> Tensor:
        """Return the quantized latent in float32, shaped like `latent`, with the gradient of the identity."""
        finite = latent.detach().float().nan_to_num(0.0)
        return straight_through(latent, self.dequantize(*self.quantize(finite)))

    def extra_repr(self) -> str:
        """Return the arguments for `repr`."""
        limits = "on meta" if self.values.is_meta else f"low={self.low:g}, high={self.high:g}"
        return f"{limits}, levels={self.levels}, channels={self.channels}"


def even_values(low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Return evenly spaced levels from `low` to `high`, float64 `(channels, levels)`.

    Raises ValueError if a limit is not finite, or `low` is above `high`.
    """
    if not bool((low.isfinite() & high.isfinite() & (low <= high)).all()):
        raise ValueError("clipping limits must be finite, low not above high")
    return evenly(low, high, levels)


def evenly(low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Return `even_values` without a check of the limits."""
    steps = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    values = low[:, None] + (high - low)[:, None] * steps
    values[:, -1] = high
    return values


def check_levels(values: Tensor, thresholds: Tensor) -> None:
    """Raise ValueError unless `Clipped.with_levels` accepts these values and thresholds."""
    if values.dim() != 2 or thresholds.shape != (len(values), values.shape[1] - 1):
        raise ValueError(f"{tuple(thresholds.shape)} thresholds do not go with {tuple(values.shape)} values")
    falling = [bool((rows[:, 1:] < rows[:, :-1]).any()) for rows in (values, thresholds)]
    if not bool(values.isfinite().all()) or bool(thresholds.isnan().any()) or any(falling):
        raise ValueError("values must be finite, and values and thresholds ascending in each channel")


def midpoints(values: Tensor) -> Tensor:
    """Return the thresholds halfway between neighbouring levels; `values` has the levels, `(channels, levels)`.

    If the last levels of a channel are equal, the thresholds between them are infinite, so that only one is used.
    """
    halfway = values[:, :-1] + values.diff(dim=1) / 2
    return halfway.masked_fill(values[:, :-1] == values[:, -1:], float("inf"))
