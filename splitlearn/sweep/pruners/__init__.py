"""Pruners of a sweep: which trials go on after an epoch at which all are compared."""

from splitlearn.sweep.pruners.base import Pruner, PrunerError, Standing
from splitlearn.sweep.pruners.no_pruner import NoPruner
from splitlearn.sweep.pruners.successive_halving import SuccessiveHalving

__all__ = ["NoPruner", "Pruner", "PrunerError", "Standing", "SuccessiveHalving"]
