"""The contract of a codec: symbols to bytes and back, losslessly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

MAX_LEVELS = 256


class CodecError(ValueError):
    """A payload that is damaged, truncated, too long, or was written by another codec."""


class Codec(ABC):
    """Lossless code for arrays of small integers.

    A codec holds at most static tables, fixed when it is made: `Codec()` is self-contained (whatever tables it needs ride
    in each payload), `Codec.fit(samples, levels)` carries tables out of band. Nothing about a codec changes by using it.
    """

    @abstractmethod
    def encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        """Return the bare code of `symbols`.

        Args:
            symbols: uint8 array of any shape, every value below `levels`.
            levels: size of the alphabet, 2…256.

        Raises:
            ValueError: if the array is not uint8, a symbol is not below `levels`, or `levels` is out of range.
        """

    @abstractmethod
    def decode(self, payload: bytes, shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        """Return the symbols of one bare code.

        Args:
            payload: bytes written by `encode` of an equal codec.
            shape: shape of the encoded array.
            levels: the `levels` it was encoded with.

        Raises:
            CodecError: where damage shows: truncated, trailing bytes, impossible codes.
            ValueError: if `levels` is out of range or a dimension is negative.
        """

    @classmethod
    def fit(cls, samples: Iterable[NDArray[np.uint8]], levels: int) -> Self:
        """Return a codec with static tables learnt from `samples`.

        A code without tables has nothing to learn and is returned as it is.

        Args:
            samples: symbol arrays like those to be coded.
            levels: size of the alphabet, 2…256.
        """
        return cls()

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the static tables by name: the out-of-band state that `from_tables` rebuilds; empty if self-contained."""
        return {}

    @classmethod
    def from_tables(cls, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return the codec whose `tables()` these are.

        Raises:
            ValueError: if they are not tables of this codec.
        """
        if tables:
            raise ValueError(f"{cls.__name__} takes no static tables, got {sorted(tables)}")
        return cls()
