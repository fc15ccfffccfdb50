"""Samplers of a sweep's points: random, quasi-random, or guided by what has been measured."""

from splitlearn.sweep.samplers.base import Sampler, Seen
from splitlearn.sweep.samplers.parzen import TPE
from splitlearn.sweep.samplers.random import Random
from splitlearn.sweep.samplers.sobol import Sobol

__all__ = ["TPE", "Random", "Sampler", "Seen", "Sobol"]
