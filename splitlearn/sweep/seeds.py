"""Seeds of a sweep's points."""

from __future__ import annotations

import numpy as np

__all__ = ["seed_of_point"]

WEIGHTS = 1  # behind seed and number, so that the draws of a point's values are others


def seed_of_point(seed: int, number: int) -> int:
    """Return the seed of a point's first weights and of all that its training draws, but the order of batches.

    It depends on nothing but the sweep's seed and the point's number. As `--seed_everything` of `splitlearn fit`, it
    gives the same weights.

    Args:
        seed: seed of the sweep, 0 or more.
        number: number of the point, 0…N−1.
    """
    return int(np.random.SeedSequence([seed, number, WEIGHTS]).generate_state(1)[0])
