"""Samplers: each draw depends on space, seed, number and what was seen, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest

import splitlearn.sweep
from splitlearn.discovery import concrete_classes
from splitlearn.sweep import TPE, Choice, Int, LogInt, LogUniform, Random, Sampler, Seen, Sobol, Space, Uniform
from splitlearn.sweep.distributions import Value

SPACE = Space(
    {
        "channels": LogInt(2, 64),
        "quantizer": Choice(("Step", "MinMax")),
        "step": Uniform(0.25, 4),
        "bits": Int(2, 6),
        "weight": LogUniform(0.01, 1),
    },
    {"step": {"quantizer": ("Step",)}, "bits": {"quantizer": ("MinMax",)}},
)


def drawn(sampler: Sampler, seed: int, count: int, start: int = 0) -> list[dict[str, Value]]:
    return list(islice(sampler.draws(SPACE, seed, start, []), count))


def measured(values: dict[str, Value]) -> tuple[float, float]:
    """A rate and a score that are best at a small weight, and at many channels."""
    weight, channels = float(values["weight"]), float(values["channels"])
    return channels * (1 + 4 * abs(np.log10(weight) + 1)), -1 / channels - abs(np.log10(weight) + 1)


@pytest.mark.parametrize("kind", concrete_classes(splitlearn.sweep, Sampler))
def test_draws_are_legal_and_can_be_repeated(kind: type[Sampler]) -> None:
    found = drawn(kind(), 3, 20)
    assert all(SPACE.holds(values) for values in found)
    assert {"step" in values for values in found} == {True, False}
    assert drawn(kind(), 3, 20) == found
    assert drawn(kind(), 3, 5, start=15) == found[15:]
    assert drawn(kind(), 4, 20) != found
    assert 1 <= kind().ahead(1) <= 1
    assert kind().ahead(1000) >= 10


def test_random_draws_are_the_points_of_the_space() -> None:
    assert drawn(Random(), 5, 8) == [SPACE.point(5, number) for number in range(8)]


def discrepancy(sampler: Sampler, seed: int) -> float:
    """How unevenly 32 draws of a plane are spread over its 16 quarters of quarters."""
    plane = Space({"x": Uniform(0, 1), "y": LogUniform(1, 16)})
    points = list(islice(sampler.draws(plane, seed, 0, []), 32))
    cells = [(int(4 * float(p["x"])), int(np.log2(float(p["y"])))) for p in points]
    return float(np.std([cells.count((x, y)) for x in range(4) for y in range(4)]))


def test_sobol_points_are_spread_more_evenly_than_random_ones() -> None:
    assert all(discrepancy(Sobol(), seed) == 0 < discrepancy(Random(), seed) for seed in range(3))


def test_tpe_starts_at_random_and_then_follows_results() -> None:
    sampler, seen = TPE(startup=8), list[Seen]()
    for number in range(40):
        values = next(sampler.draws(SPACE, 1, number, seen))
        if number < 8:
            assert values == SPACE.point(1, number)
        seen.append(Seen(values, measured(values)))
    first, last = (
        [abs(np.log10(float(each.values["weight"])) + 1) for each in part] for part in (seen[:8], seen[-16:])
    )
    assert np.median(last) < np.median(first) / 2  # where both rate and score are best


def test_tpe_reads_what_still_runs() -> None:
    values = [SPACE.point(0, number) for number in range(12)]
    done = [Seen(each, measured(each)) for each in values]
    one = next(TPE(4).draws(SPACE, 0, 12, done))
    assert next(TPE(4).draws(SPACE, 0, 12, done)) == one
    assert next(TPE(4).draws(SPACE, 0, 12, [*done[:6], *(Seen(each, None) for each in values[6:])])) != one
    with pytest.raises(ValueError, match="startup must be at least 1, got 0"):
        TPE(startup=0)


class Grid(Sampler):
    """Draws both quantizers in turn."""

    def draws(self, space: Space, seed: int, start: int, seen: Sequence[Seen]) -> Iterator[dict[str, Any]]:
        """Yield two points."""
        return iter([{"quantizer": "Step"}, {"quantizer": "MinMax"}][start:])


def test_a_sampler_is_one_class() -> None:
    assert [next(Grid().draws(SPACE, 0, start, []))["quantizer"] for start in (0, 1)] == ["Step", "MinMax"]
