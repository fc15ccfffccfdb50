"""Cost of static tables that are fitted to latents of another kind, such as of another network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitlearn.analysis.codec_comparison import STATIC, with_static_tables
from splitlearn.codecs import Codec, encode_latent
from splitlearn.numpy_quantizers import Grid

Latents = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class TableTransfer:
    """Sizes of the same latents after encoding by one codec, with static tables of three origins.

    Attributes:
        codec: label of the codec.
        levels: size of the alphabet.
        fitted_bytes: bytes per image with tables fitted to other latents of the same kind.
        foreign_bytes: bytes per image with tables fitted to latents of another kind.
        seen_bytes: bytes per image with tables fitted to the coded latents themselves: a lower bound.
    """

    codec: str
    levels: int
    fitted_bytes: float
    foreign_bytes: float
    seen_bytes: float

    @property
    def loss_percent(self) -> float:
        """Increase of the size by foreign tables in place of fitted ones, in per cent."""
        return 100 * (self.foreign_bytes / self.fitted_bytes - 1)


def transfer_tables(
    latents: Latents, fitted: Latents, foreign: Latents, grid: Grid, codecs: Mapping[str, Codec]
) -> list[TableTransfer]:
    """Return sizes after encoding with static tables of three origins, for each codec that has static tables.

    Args:
        latents: the latents to encode, one array per image.
        fitted: other latents of the same kind, to fit tables to.
        foreign: latents of another kind, such as of another network, to fit tables to.
        grid: quantizer of all latents.
        codecs: self-contained codecs, by label.
    """
    kinds = [with_static_tables(codecs, samples, grid) for samples in (fitted, foreign, latents)]
    labels = [label for label in kinds[0] if label.endswith(STATIC)]
    return [
        TableTransfer(
            label.removesuffix(STATIC), grid.levels, *(mean_bytes(kind[label], latents, grid) for kind in kinds)
        )
        for label in labels
    ]


def mean_bytes(codec: Codec, latents: Latents, grid: Grid) -> float:
    """Return the mean size in bytes of some latents after encoding."""
    return float(np.mean([len(encode_latent(latent, grid, codec)[0]) for latent in latents]))
