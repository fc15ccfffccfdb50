"""Compile the kernels of all codecs into numba's cache, so that processes which start together don't each do it."""

from __future__ import annotations

import numpy as np

from splitlearn import codecs
from splitlearn.codecs import RANS, Codec, pack_latents, unpack_latents
from splitlearn.discovery import concrete_classes
from splitlearn.numpy_quantizers import AffineGrid, ClippedGrid, MinMaxGrid, StepGrid

CLIPPED = ClippedGrid(np.array([[0.5, 1.5]], np.float32), np.array([[0.0, 1.0, 2.0]], np.float32))


def main() -> None:
    """Code and decode a few latents, small and large, with every codec and grid, and symbols beside a reference."""
    latents = [np.random.default_rng(0).normal(size=(4, size, size)).astype(np.float32) for size in (8, 80)]
    for codec in (*(cls() for cls in concrete_classes(codecs, Codec)), RANS(per_channel=True)):
        for grid in (MinMaxGrid(3), StepGrid(0.5, 17), AffineGrid(0.1, 3, 16), CLIPPED):
            symbols = [grid.quantize(latent)[0] for latent in latents]
            for each in (codec, codec.fitted(symbols, grid.levels)):
                unpack_latents(pack_latents(latents, grid, each), grid, each)
                for array in symbols:
                    each.decode(each.encode(array, grid.levels), array.shape, grid.levels)
            if codec.takes_reference:
                for each in (codec, codec.fitted_to_sequences([[array, array] for array in symbols], grid.levels)):
                    for array in symbols:
                        each.decode(each.encode(array, grid.levels, array), array.shape, grid.levels, array)


if __name__ == "__main__":
    main()
