"""Search that is guided by what has been measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from optuna.samplers import RandomSampler, TPESampler

from splitlearn.sweep.distributions import Value
from splitlearn.sweep.samplers.base import Sampler, Seen, study_in_memory, without_warnings
from splitlearn.sweep.space import Space


class TPE(Sampler):
    """Points where good results are likely: Optuna's multi-objective tree-structured Parzen estimator.

    The first points are random. Each further one is drawn when a worker is free, from all results up to then; points
    that still run count as if they were bad, so that no two workers run neighbours. With one worker, a sweep that was
    interrupted draws the points that it would have drawn; with more, points depend on which results came first.

    Args:
        startup: number of random points.

    Raises:
        ValueError: if `startup` is below 1.

    Reference:
        Ozaki et al. 2022, "Multiobjective tree-structured Parzen estimator".
    """

    def __init__(self, startup: int = 10) -> None:
        if startup < 1:
            raise ValueError(f"startup must be at least 1, got {startup}")
        self.startup = startup

    def ahead(self, trials: int) -> int:
        """Return the number of random points."""
        return min(trials, self.startup)

    def draws(self, space: Space, seed: int, start: int, seen: Sequence[Seen]) -> Iterator[dict[str, Value]]:
        """Yield random points at the start, then those that the results suggest."""
        if len(seen) < self.startup:
            yield from (space.point(seed, number) for number in count(start))
        study = study_in_memory(RandomSampler(seed=0))  # asked for nothing: what was seen is repeated
        for each in seen:
            study.enqueue_trial(dict(each.values))
            trial = study.ask()
            space.suggest(trial)
            if each.result is not None:
                study.tell(trial, each.result)
        for number in count(start):  # a draw that was refused stays in the study as one that runs: away from there
            with without_warnings():
                study.sampler = TPESampler(
                    n_startup_trials=self.startup,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    seed=int(np.random.default_rng([seed, number]).integers(2**31)),
                )
            yield space.suggest(study.ask())
