"""Random search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from splitlearn.sweep.distributions import Value
from splitlearn.sweep.samplers.base import Sampler, Seen
from splitlearn.sweep.space import Space


class Random(Sampler):
    """Independent random points: the search of Datta et al. 2022, Sec. III-C."""

    def draws(self, space: Space, seed: int, start: int, seen: Sequence[Seen]) -> Iterator[dict[str, Value]]:
        """Yield points that depend on seed and number alone."""
        return (space.point(seed, number) for number in count(start))
