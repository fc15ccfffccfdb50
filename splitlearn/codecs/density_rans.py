"""Range coding with tables that both sides compute from a density: a few numbers for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.rans import RANS

Array = NDArray[np.float64]

LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
TERMS = 14  # of the exponential series: the next term is below 2⁻⁵³ for |x| ≤ ln(2)/2
FARTHEST = 700.0  # beyond it, the exponential of a double is nearly zero
DENSITY = ("gain", "means", "scales", "weights")
MOST_COMPONENTS = 64


class DensityRANS(RANS):
    """`RANS` whose static tables follow from a mixture of logistics for each channel, scaled by a gain.

    P(q) = Σᵢ wᵢ · [σ((q + ½ − g·mᵢ) / (g·sᵢ)) − σ((q − ½ − g·mᵢ) / (g·sᵢ))], in the order of `Step`: 0, −1, 1, −2, …

    `tables()` holds gain, means, scales and weights, some 40 bytes for each channel with three components, instead of
    512 for 256 levels. All rates of a `GainModel` share the density and differ in the gain. The frequencies are
    computed by additions, multiplications and divisions alone, which every machine rounds alike, so that both sides
    have the same. Without a density, all is as in `RANS`.

    Args:
        per_channel: as in `RANS`; a density needs it.

    Reference:
        Ballé et al. 2018, Sec. 2 (factorized density); Duda 2013 (code).
    """

    def __init__(self, per_channel: bool = False) -> None:
        super().__init__(per_channel)
        self._density: dict[str, NDArray[np.generic]] = {}

    def with_density(
        self,
        means: NDArray[np.float32],
        scales: NDArray[np.float32],
        weights: NDArray[np.float32],
        gain: NDArray[np.floating],
        levels: int,
    ) -> Self:
        """Return a code with the tables of a density.

        Args:
            means: float32 `(channels, components)`, in units of the quantizer's step at a gain of 1.
            scales: of the same shape and unit, positive.
            weights: of the same shape, not negative; each channel's are divided by their sum.
            gain: float32 or float16 `(channels,)`, positive.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: if these are no such arrays, or `per_channel` is not set.
        """
        return self.with_tables(
            {
                "means": means,
                "scales": scales,
                "weights": weights,
                "gain": gain,
                "levels": np.array([levels - 1], np.uint8),
            }
        )

    def learnt(self, counts: NDArray[np.int64], density: Mapping[str, NDArray[np.float32]]) -> Self:
        """Return a code with the tables of a density at a gain of 1; only the number of levels is taken of `counts`."""
        gain = np.ones(len(density["means"]), np.float32)
        return self.with_density(density["means"], density["scales"], density["weights"], gain, counts.shape[1])

    def at_gain(self, gain: NDArray[np.floating]) -> Self:
        """Return the code with the tables of the same density at another gain `(channels,)`; itself without one."""
        return self.with_tables({**self._density, "gain": gain}) if self._density else self

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the arguments of `with_density` as arrays, or the tables of `RANS` if the code was fitted."""
        return {name: array.copy() for name, array in self._density.items()} or super().tables()

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return the code with this density, or with tables of `RANS`.

        Raises:
            ValueError: if these are no such arrays.
        """
        if "means" not in tables:
            return super().with_tables(tables)
        if not self.per_channel:
            raise ValueError("a density has a table for each channel: DensityRANS(per_channel=True) takes it")
        density, levels = _checked(tables)
        found = type(self)(per_channel=True)
        found._frequencies = RANS(per_channel=True).with_counts(_counts(*density, levels))._frequencies
        found._density = {name: np.array(array) for name, array in tables.items()}
        return found


def _checked(tables: Mapping[str, NDArray[np.generic]]) -> tuple[tuple[Array, Array, Array, Array], int]:
    """Return gain, means, scales and weights as float64, and the number of levels."""
    if set(tables) != {*DENSITY, "levels"} or not all(isinstance(each, np.ndarray) for each in tables.values()):
        raise ValueError(f"a density has arrays {', '.join(DENSITY)} and levels, got {sorted(tables)}")
    gain, means, scales, weights = (tables[name] for name in DENSITY)
    shape = means.shape
    kinds = {means.dtype, scales.dtype, weights.dtype}
    if kinds != {np.dtype(np.float32)} or gain.dtype not in (np.float32, np.float16):
        raise ValueError("means, scales and weights of a density are float32, its gain is float32 or float16")
    if len(shape) != 2 or not 1 <= shape[0] <= 1 << 16 or not 1 <= shape[1] <= MOST_COMPONENTS:
        raise ValueError(f"means of a density are (channels, components), got {shape}")
    if scales.shape != shape or weights.shape != shape or gain.shape != shape[:1]:
        raise ValueError(f"a density of means {shape} has scales and weights of that shape, and a gain {shape[:1]}")
    levels = tables["levels"]
    if levels.dtype != np.uint8 or levels.shape != (1,) or levels[0] < 1:
        raise ValueError("levels of a density are one uint8, the number of levels less one, 1…255")
    wide = tuple(array.astype(np.float64) for array in (gain, means, scales, weights))
    if not all(np.isfinite(array).all() for array in wide):
        raise ValueError("a density holds NaN or infinity")
    if wide[0].min() <= 0 or wide[2].min() <= 0 or wide[3].min() < 0 or _total(wide[3]).min() <= 0:
        raise ValueError("gain and scales of a density are positive, and its weights not all zero nor negative")
    return (wide[0], wide[1], wide[2], wide[3]), int(levels[0]) + 1


def _total(parts: Array) -> Array:
    """Return the sum over the last axis, added in order: `np.sum` may add in any."""
    total = parts[..., 0].copy()
    for index in range(1, parts.shape[-1]):
        total = total + parts[..., index]
    return total


def _counts(gain: Array, means: Array, scales: Array, weights: Array, levels: int) -> NDArray[np.int64]:
    """Return expected counts of symbols, `(channels, levels)`; the end levels include all beyond them."""
    integers = np.arange(-(levels // 2), (levels - 1) // 2 + 1)
    upper = (integers[:-1] + 0.5)[None, :, None]
    centre, width = (means * gain[:, None])[:, None, :], (scales * gain[:, None])[:, None, :]
    share = (weights / _total(weights)[:, None])[:, None, :]
    below = _total(share * _sigmoid((upper - centre) / width))
    ends = np.zeros((len(below), 1)), np.ones((len(below), 1))
    cells = np.maximum(np.diff(np.concatenate([ends[0], below, ends[1]], axis=1), axis=1), 0.0)
    ordered = np.empty_like(cells)
    ordered[:, np.where(integers < 0, -2 * integers - 1, 2 * integers)] = cells
    counts: NDArray[np.int64] = np.rint(ordered * (1 << 30)).astype(np.int64)
    return counts


def _sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ)."""
    small = _exponential(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _exponential(x: Array) -> Array:
    """Return eˣ for x ≤ 0, equal in every bit on all machines: libraries round theirs in their own ways."""
    x = np.maximum(x, -FARTHEST)
    power = np.rint(x * LOG2_E)
    rest = (x - power * LN2_HIGH) - power * LN2_LOW
    series = np.ones_like(rest)
    for term in range(TERMS, 0, -1):
        series = series * rest / term + 1.0
    return np.ldexp(series, power.astype(np.int32))
