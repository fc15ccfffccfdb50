"""What static tables cost on latents of another kind than those they were learnt from."""

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
    """One codec with static tables of three origins, on the same latents.

    Attributes:
        codec: label of the codec.
        levels: size of the alphabet.
        fitted_bytes: mean bytes an image with tables of other latents of the same kind.
        foreign_bytes: likewise with tables of another kind.
        seen_bytes: likewise with tables of the very latents that are coded: a bound that no use attains.
    """

    codec: str
    levels: int
    fitted_bytes: float
    foreign_bytes: float
    seen_bytes: float

    @property
    def loss_percent(self) -> float:
        """How much larger codes get by foreign tables."""
        return 100 * (self.foreign_bytes / self.fitted_bytes - 1)


def transfer_tables(
    latents: Latents, fitted: Latents, foreign: Latents, grid: Grid, codecs: Mapping[str, Codec]
) -> list[TableTransfer]:
    """Return what static tables cost elsewhere, for each codec that has any.

    Args:
        latents: what is coded, one array an image.
        fitted: other latents of the same kind, to learn tables from.
        foreign: latents of another kind, of another network say, to learn tables from.
        grid: quantizes all of them.
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
    """Return the mean size of the codes of some latents."""
    return float(np.mean([len(encode_latent(latent, grid, codec)[0]) for latent in latents]))
