"""Which trials a pruner stops, and which it refuses to compare."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from splitlearn.sweep import NoPruner, PrunerError, Standing, SuccessiveHalving, hypervolume
from splitlearn.sweep.pruners import Pruner
from splitlearn.sweep.rungs import check_pruner


def standings(*points: tuple[float, float]) -> dict[int, Standing]:
    return {number: Standing(*point) for number, point in enumerate(points)}


def test_the_worst_fronts_are_stopped_with_a_reason() -> None:
    front, behind = [(1.0, 0.5), (2.0, 0.7), (4.0, 0.9)], [(2.0, 0.5), (3.0, 0.6), (5.0, 0.8)]
    found = SuccessiveHalving().stopped(standings(*front, *behind))
    assert found == dict.fromkeys((3, 4, 5), "front 2 of 2; of 6 trials, 3 go on")


def test_a_front_that_does_not_fit_keeps_its_ends_and_its_spread() -> None:
    line = [(1.0, 0.1), (2.0, 0.5), (2.1, 0.51), (3.0, 0.8), (3.05, 0.801), (5.0, 1.0)]
    found = SuccessiveHalving(keep=2 / 3).stopped(standings(*line))
    assert set(found) == {2, 4}  # close to their neighbours


def test_what_is_kept_of_a_front_has_nearly_the_most_hypervolume_of_all_choices() -> None:
    rates = np.sort(np.random.default_rng(0).random(8))
    points = [(float(rate), float(np.sqrt(rate))) for rate in rates]
    stopped = SuccessiveHalving().stopped(standings(*points))
    kept = [point for number, point in enumerate(points) if number not in stopped]
    assert len(kept) == 4
    worst = max(rates), min(np.sqrt(rates))
    others = np.random.default_rng(1)
    best = max(hypervolume([points[i] for i in others.choice(8, 4, replace=False)], *worst) for _ in range(200))
    assert hypervolume(kept, *worst) >= 0.95 * best


def test_trials_without_figures_are_last_and_one_always_goes_on() -> None:
    nothing = float("nan")
    found = SuccessiveHalving().stopped(standings((nothing, 0.9), (1.0, 0.5), (2.0, 0.4), (1.0, nothing)))
    assert set(found) == {0, 3}
    for count in range(1, 6):
        for keep in (0.01, 0.5, 0.99):
            assert len(SuccessiveHalving(keep=keep).stopped(standings(*[(nothing, nothing)] * count))) < count
    assert SuccessiveHalving().stopped(standings((1.0, 0.5))) == {}


def test_order_does_not_matter_and_equal_trials_are_told_by_their_numbers() -> None:
    points = standings((1.0, 0.5), (1.0, 0.5), (1.0, 0.5), (1.0, 0.5))
    found = SuccessiveHalving().stopped(points)
    assert set(found) == {2, 3}
    assert SuccessiveHalving().stopped(dict(reversed(points.items()))) == found


def test_rungs_are_an_eighth_and_a_quarter() -> None:
    assert SuccessiveHalving().rungs(16) == (2, 4)
    assert SuccessiveHalving().rungs(3) == (1,)
    assert SuccessiveHalving(rungs=[1, 5]).rungs(6) == (1, 5)
    assert NoPruner().rungs(16) == ()


@pytest.mark.parametrize(
    ("rungs", "keep", "epochs", "message"),
    [
        (None, 0.5, 1, r"trials of 1 epochs cannot be compared after epoch 1: train for more epochs, or name"),
        ([2, 6], 0.5, 6, "cannot be compared after epoch 6"),
        ([2, 1], 0.5, 6, r"rungs are epochs from 1, ascending, e\.g\. 1,2,4; got \[2, 1\]"),
        ([], 0.5, 6, "rungs are epochs"),
        ([0], 0.5, 6, "rungs are epochs"),
        (None, 1.0, 6, "keeps a share between 0 and 1 of the trials of a rung, got 1"),
        (None, 0.0, 6, "keeps a share"),
    ],
)
def test_what_cannot_be_compared_is_told(rungs: list[int] | None, keep: float, epochs: int, message: str) -> None:
    with pytest.raises(PrunerError, match=message):
        check_pruner(SuccessiveHalving(rungs, keep), 8, epochs)


class StopsAll(Pruner):
    """Lets nothing go on."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return one."""
        return (1,)

    def stopped(self, standings: Mapping[int, Standing]) -> dict[int, str]:
        """Return all."""
        return dict.fromkeys(standings, "it is stopped")


def test_a_pruner_that_stops_all_is_refused() -> None:
    with pytest.raises(PrunerError, match="StopsAll would stop all trials after epoch 1: it must let one or more go"):
        check_pruner(StopsAll(), 8, 4)
    check_pruner(NoPruner(), 8, 1)
