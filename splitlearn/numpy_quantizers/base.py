"""Base class of quantizers of numpy arrays, and checks of their arguments."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Symbols = NDArray[np.uint8]
TINY = 2.0**-126  # the smallest normal float32


class Grid(ABC):
    """Base class: quantizes the latent of one image to symbols 0…levels−1 and back, bit-exact with its torch twin.

    Attributes:
        levels: size of the alphabet, 2…256.
        floats_per_image: number of floats that `dequantize` needs for each image, in addition to its symbols.
    """

    levels: int
    floats_per_image: ClassVar[int]

    def quantize(self, latent: Floats, out: Symbols | None = None) -> tuple[Symbols, tuple[float, ...]]:
        """Return the symbols of one image and the floats that `dequantize` needs.

        Args:
            latent: float32 array of any shape.
            out: contiguous uint8 array of that shape for the result; by default a new one.

        Raises:
            ValueError: if the latent is not float32 or holds NaN or infinity, or `out` does not fit.
        """
        check_latent(latent)
        symbols = np.empty(latent.shape, np.uint8) if out is None else out
        if out is not None:
            check_output(out, np.uint8, latent.shape)
        return symbols, self._quantize(latent, symbols.reshape(-1))

    @abstractmethod
    def _quantize(self, latent: Floats, symbols: Symbols) -> tuple[float, ...]:
        """Write the symbols of `latent` to a flat array and return the floats; arguments are already checked."""

    def dequantize(self, symbols: Symbols, floats: tuple[float, ...] = (), out: Floats | None = None) -> Floats:
        """Return the float32 latent of one image.

        Args:
            symbols: uint8 array of any shape, values below `levels`.
            floats: floats that `quantize` returned.
            out: contiguous float32 array of that shape for the result; by default a new one.

        Raises:
            ValueError: if the number of floats is not `floats_per_image`, or `out` does not fit.
        """
        latent = np.empty(symbols.shape, np.float32) if out is None else out
        if out is not None:
            check_output(out, np.float32, symbols.shape)
        self.check_floats(floats)
        self._dequantize(symbols, floats, latent.reshape(-1))
        return latent

    @abstractmethod
    def _dequantize(self, symbols: Symbols, floats: tuple[float, ...], latent: Floats) -> None:
        """Write the latent of `symbols` to a flat array; arguments are already checked."""

    def check_floats(self, floats: tuple[float, ...]) -> None:
        """Raise ValueError unless the number of floats is `floats_per_image`."""
        if len(floats) != self.floats_per_image:
            raise ValueError(f"{type(self).__name__} needs {self.floats_per_image} floats per image, got {len(floats)}")

    def intervals(self, margin: float) -> tuple[Floats, Floats]:
        """Return between which values `StickyGrid` keeps each symbol, float32 `(channels, levels)` each; ends infinite.

        Args:
            margin: how far an interval reaches beyond the thresholds of its level, in distances of levels.

        Raises:
            ValueError: if levels depend on the image.
        """
        raise ValueError(
            f"levels of {type(self).__name__} differ from frame to frame, so no symbol can be kept: use a quantizer "
            "with fixed levels, such as Clipped between fixed limits"
        )

    @abstractmethod
    def empty_floats(self) -> tuple[float, ...]:
        """Return the floats for an image without elements."""


def checked_integer(name: str, value: int, least: int, most: int) -> int:
    """Return an integer of any type as a Python integer, because small numpy integers overflow in sums and products.

    Raises:
        ValueError: if it is not an integer in `least`…`most`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer in {least}…{most}, got {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{name} must be an integer in {least}…{most}, got {value}")
    return number


def check_latent(latent: Floats) -> None:
    """Raise ValueError unless `latent` is a float32 numpy array."""
    if not isinstance(latent, np.ndarray) or latent.dtype != np.float32:
        given = f"an array of {latent.dtype}" if isinstance(latent, np.ndarray) else f"a {type(latent).__name__} object"
        raise ValueError(f"the latent must be a float32 numpy array, got {given}")


def flat_latent(latent: Floats) -> Floats:
    """Return a latent as a flat, contiguous array; a view if possible."""
    return latent.reshape(-1) if latent.flags.c_contiguous else np.ascontiguousarray(latent).reshape(-1)


def check_output(out: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `out` is a writeable, contiguous array of this type and shape."""
    if out.dtype != dtype or out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out must be a writeable, contiguous {dtype.__name__} array of shape {shape}")
