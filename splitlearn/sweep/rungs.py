"""Rungs of a sweep: epochs after which its trials are compared, and a pruner decides which go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np

from splitlearn.sweep.attempts import ERROR, RUNG, kept_in, stopped_in
from splitlearn.sweep.claim import Claim
from splitlearn.sweep.pruners import Pruner, PrunerError, Standing
from splitlearn.sweep.study import BRACKETS, Study
from splitlearn.sweep.trial import State, Trial

__all__ = ["Next", "Rungs", "check_pruner"]


class Next(Enum):
    """What a trial does behind a rung."""

    GO_ON = "go on"
    PAUSE = "pause"
    STOP = "stop"


class Rungs:
    """Decisions at the rungs of a sweep; they stand in its storage, where all processes find the same.

    A cohort is compared: the points of one launch, or of one that has added some, and of them those with one value of a
    parameter, where each value has its own frontier. A decision is made once all trials of a cohort have reached the
    rung, but for those that have failed or were stopped at an earlier one. Until then, a trial that has reached it is
    paused.

    Args:
        study: the sweep.
        pruner: decides.
        epochs: epochs of a trial.
        by: parameter whose values are compared each by itself; None compares all.

    Raises:
        PrunerError: if the pruner has no rungs for so many epochs.
    """

    def __init__(self, study: Study, pruner: Pruner, epochs: int, by: str | None = None) -> None:
        self.study, self.pruner, self.by = study, pruner, by
        self.epochs = pruner.rungs(epochs)

    def reached(self, epoch: int, claims: Sequence[Claim], standings: Mapping[int, Standing]) -> dict[int, Next]:
        """Record what trials have reached at a rung, and return what each is to do, by number."""
        numbers = [claim.number for claim in claims]
        for claim in claims:
            own = standings[claim.number]
            self.study.note_attempt(claim, f"{RUNG}{epoch}", [own.rate, own.score])
        self.settle()
        notes = self.study.notes
        kept, stopped = kept_in(notes), stopped_in(notes)
        late = self._decided_without(numbers, epoch)
        return {
            n: Next.STOP if n in stopped else Next.GO_ON if (epoch, n) in kept or n in late else Next.PAUSE
            for n in numbers
        }

    def settle(self, given_up: bool = False) -> None:
        """Make all decisions that can be made by now.

        Args:
            given_up: whether trials whose workers were killed will not run again, and are not waited for.

        Raises:
            PrunerError: if the pruner would stop all trials of a cohort.
        """
        if not self.epochs:
            return
        trials, told = self.study.trials(), self.study.noted_by_attempts(ERROR)
        failed = {t.number for t in trials if t.state is State.FAILED and (given_up or t.number in told)}
        cohorts = self._cohorts(trials)
        for epoch in self.epochs:
            reached = self.study.noted_by_attempts(f"{RUNG}{epoch}")
            for name, members in cohorts.items():
                if f"{RUNG}{epoch} {name}" not in self.study.notes:
                    self._decide(epoch, name, {t.number for t in members} - failed, reached)

    def _decide(self, epoch: int, name: str, numbers: set[int], reached: Mapping[int, Any]) -> None:
        compared = sorted(numbers - stopped_in(self.study.notes).keys())
        if not compared or any(number not in reached for number in compared):
            return
        stopped = self.pruner.stopped({number: Standing(*map(float, reached[number])) for number in compared})
        if kept := [number for number in compared if number not in stopped]:
            told = {"kept": kept, "stopped": {str(number): why for number, why in stopped.items()}}
            self.study.note(f"{RUNG}{epoch} {name}", told)
            return
        raise PrunerError(
            f"{type(self.pruner).__name__} would stop all {len(compared)} trials after epoch {epoch}: it must let one "
            "or more go on"
        )

    def _cohorts(self, trials: list[Trial]) -> dict[str, list[Trial]]:
        """Return the trials of each cohort whose points have all been drawn."""
        found: dict[str, list[Trial]] = {}
        for number, (start, end) in enumerate(pairwise([0, *self.study.notes.get(BRACKETS, [])])):
            members = [trial for trial in trials if start <= trial.number < end]
            if len(members) == end - start:
                for trial in members:
                    value = "" if self.by is None else f" {trial.values[self.by]}"
                    found.setdefault(f"{number}{value}", []).append(trial)
        return found

    def _decided_without(self, numbers: list[int], epoch: int) -> set[int]:
        """Return those that had failed when a decision was made, ran again since, and now pass the rung."""
        cohorts = self._cohorts(self.study.trials())
        decided = [name for name in cohorts if f"{RUNG}{epoch} {name}" in self.study.notes]
        return {trial.number for name in decided for trial in cohorts[name]} & set(numbers)


def check_pruner(pruner: Pruner, trials: int, epochs: int) -> None:
    """Try a pruner on made-up trials.

    Raises:
        PrunerError: if it has no rungs for so many epochs, or would stop all trials.
    """
    left = trials
    random = np.random.default_rng(0)
    for epoch in pruner.rungs(epochs):
        stopped = pruner.stopped({number: Standing(*random.random(2).tolist()) for number in range(left)})
        left -= len(stopped)
        if left < 1:
            raise PrunerError(
                f"{type(pruner).__name__} would stop all trials after epoch {epoch}: it must let one or more go on"
            )
