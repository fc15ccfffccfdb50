"""Successive halving over two objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from splitlearn.sweep.pareto import Floats, hypervolume, pareto_frontier
from splitlearn.sweep.pruners.base import Pruner, PrunerError, Standing

MARGIN = 0.1  # of the range of the standings, by which the reference point lies behind the worst


class SuccessiveHalving(Pruner):
    """Keeps a share of the trials at each rung, half by default: those nearest to the frontier of rate and score.

    Trials are ranked by fronts: the frontier is rank 1, the frontier of the others rank 2, and so on. Whole fronts are
    kept while there is room. Of the front that does not fit, the trial that adds the least to the hypervolume is left
    out, again and again, so that what remains spreads along it; its two ends remain the longest.

    Args:
        rungs: epochs after which trials are compared, ascending; by default an eighth and a quarter of the epochs of
            a trial, rounded, so that a quarter of the trials take 0.375 of the training steps of all.
        keep: share of the trials of a rung that go on, above 0 and below 1; at least one does.

    Reference:
        Jamieson & Talwalkar 2016 (successive halving); Beume et al. 2007 (selection by hypervolume contribution).
    """

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the given epochs, or an eighth and a quarter of a trial's."""
        found = tuple(sorted({max(1, round(epochs / part)) for part in (8, 4)})) if self.given is None else self.given
        if found[-1] >= epochs:
            raise PrunerError(
                f"trials of {epochs} epochs cannot be compared after epoch {found[-1]}: train for more epochs, or name "
                "earlier --rungs"
            )
        return found

    def stopped(self, standings: Mapping[int, Standing]) -> dict[int, str]:
        """Return the trials of the worst fronts, and those of the last front that add the least hypervolume."""
        numbers = sorted(standings)
        points = np.array([[standings[n].rate, standings[n].score] for n in numbers], dtype=float)
        room = max(1, math.floor(len(numbers) * self.keep + 0.5))
        ranks = _ranks(points)
        kept: list[int] = []
        for rank in range(1, int(ranks.max()) + 1):
            front = np.flatnonzero(ranks == rank).tolist()
            kept += front if len(kept) + len(front) <= room else _spread(points, front, room - len(kept))
            if len(kept) >= room:
                break
        why = f"of {len(numbers)} trials, {len(kept)} go on"
        return {
            number: f"front {ranks[i]} of {int(ranks.max())}; {why}"
            for i, number in enumerate(numbers)
            if i not in kept
        }


def _ranks(points: Floats) -> NDArray[np.int64]:
    """Return the front of each point, from 1; points with NaN are in the last."""
    ranks = np.zeros(len(points), dtype=np.int64)
    rank = 0
    while (left := np.flatnonzero(ranks == 0)).size:
        rank += 1
        front = left[pareto_frontier(points[left])]
        ranks[front if front.size else left] = rank
    return ranks


def _spread(points: Floats, front: list[int], room: int) -> list[int]:
    """Return `room` points of a front: without those that add the least hypervolume, the latest of equal ones first."""
    finite = points[np.isfinite(points).all(1)]
    if not finite.size:
        return front[:room]
    low, high = finite.min(0), finite.max(0)
    margin = MARGIN * np.where(high > low, high - low, 1.0)
    reference = float(high[0] + margin[0]), float(low[1] - margin[1])
    kept = list(front)
    while len(kept) > room:
        whole = hypervolume(points[kept], *reference)
        adds = {i: whole - hypervolume(points[[k for k in kept if k != i]], *reference) for i in kept}
        kept.remove(min(reversed(kept), key=lambda i: adds[i]))
    return kept
