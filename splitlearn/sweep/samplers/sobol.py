"""Quasi-random search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from optuna.distributions import FloatDistribution
from optuna.samplers import QMCSampler, RandomSampler
from optuna.trial import TrialState, create_trial

from splitlearn.sweep.distributions import Value
from splitlearn.sweep.samplers.base import Sampler, Seen, study_in_memory, without_warnings
from splitlearn.sweep.space import Space

SHARE = FloatDistribution(0.0, 1.0)


class Sobol(Sampler):
    """Points of a scrambled Sobol sequence, which fill the space more evenly than random ones.

    Two to the power of k points are the most even. The sequence is Optuna's, over the shares of all distributions:
    Optuna alone would draw the first point at random, and know no parameters that exist only with others.

    Reference:
        Bergstra & Bengio 2012, Sec. 4.
    """

    def draws(self, space: Space, seed: int, start: int, seen: Sequence[Seen]) -> Iterator[dict[str, Value]]:
        """Yield the points of the sequence from number `start` on."""
        shares = dict.fromkeys(space.parameters, SHARE)
        with without_warnings():
            sampler = QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
        study, trial = study_in_memory(RandomSampler()), create_trial(state=TrialState.RUNNING)  # neither has a say
        for number in count():
            found = sampler.sample_relative(study, trial, shares)
            if number >= start:
                yield space.at(found)
