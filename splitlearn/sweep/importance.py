"""How much each parameter of a sweep matters to what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from splitlearn.sweep.frontiers import parameters_of
from splitlearn.sweep.trial import State, Trial

FEWEST = 4  # trials from which importances can be estimated
ABSENT = "–"  # the value of a parameter that does not exist in a trial
DECADE = 10  # ratio of the ends of a range from which it is seen on a log scale


def importances(trials: Sequence[Trial], metric: str) -> dict[str, float]:
    """Return the share of a metric's variance that each parameter explains by itself or with others, largest first.

    Shares sum to 1. Parameters that had one value only are left out. A parameter that exists only with some values of
    others counts with a value of its own where it does not exist. The result is empty if the finished trials are fewer
    than four, or all measured the same.

    Args:
        trials: trials of a sweep.
        metric: name of the metric; if all its values are positive, of its logarithm.

    Reference:
        Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance" (fANOVA), in Optuna.
    """
    measured = [t for t in trials if t.state is State.FINISHED and math.isfinite(t.metrics.get(metric, math.nan))]
    results = [trial.metrics[metric] for trial in measured]
    if len(measured) < FEWEST or min(results) == max(results):
        return {}
    if min(results) > 0:
        results = [math.log(result) for result in results]
    columns = {name: [trial.values.get(name, ABSENT) for trial in measured] for name in parameters_of(measured)}
    coded = {name: _coded(values) for name, values in columns.items() if len(set(map(str, values))) > 1}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for row, result in enumerate(results):
        params = {name: values[row] for name, (values, _) in coded.items()}
        study.add_trial(create_trial(params=params, distributions={n: d for n, (_, d) in coded.items()}, value=result))
    try:
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except RuntimeError:  # no tree found any difference
        return {}
    return {str(name): float(share) for name, share in found.items()}


def _coded(values: Sequence[object]) -> tuple[list[float | str], BaseDistribution]:
    """Return values of a parameter as Optuna compares them: shares of a range with −0.5 for absent ones, or words."""
    numbers = [float(each) for each in values if isinstance(each, (int, float))]
    if len(numbers) + list(values).count(ABSENT) < len(values):
        words: list[float | str] = list(map(str, values))
        return words, CategoricalDistribution(sorted(set(map(str, words))))
    low, high = min(numbers), max(numbers)
    is_log = low > 0 and high >= DECADE * low

    def share(each: float) -> float:
        return math.log(each / low) / math.log(high / low) if is_log else (each - low) / ((high - low) or 1)

    shares = [share(float(each)) if isinstance(each, (int, float)) else -0.5 for each in values]
    return [min(each, 1.0) for each in shares], FloatDistribution(-0.5, 1.0)
