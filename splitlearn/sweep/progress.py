"""What trials that run together tell the sweep of themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from splitlearn.resource_errors import described
from splitlearn.sweep.attempts import SECONDS
from splitlearn.sweep.claim import Claim
from splitlearn.sweep.pruners import Standing
from splitlearn.sweep.rungs import Next, Rungs
from splitlearn.sweep.study import SCORE, Study

__all__ = ["RUNG_RATE", "Progress"]

RUNG_RATE = "val/estimated_bits"  # compared at rungs: no payloads are made there


class Progress:
    """Records in a study how the trials of a group fare; each ends once: finished, failed, stopped or paused.

    Args:
        study: the sweep.
        claims: the trials of the group.
        rungs: decides which trials go on behind a rung.

    Attributes:
        has_broken: whether the storage, or the pruner, has raised an error, which is no trial's fault.
    """

    def __init__(self, study: Study, claims: Sequence[Claim], rungs: Rungs) -> None:
        self._study, self._rungs = study, rungs
        self._open = {claim.number: claim for claim in claims}
        self.has_broken = False

    @property
    def open(self) -> list[int]:
        """Numbers of the trials that have not ended."""
        return list(self._open)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Numbers of epochs after which to call `reached`."""
        return self._rungs.epochs

    def finished(self, number: int, metrics: Mapping[str, float], seconds: float | None = None) -> None:
        """Record the metrics of a trial, and the time that was spent on it alone, if known."""
        claim = self._open.pop(number)
        with self:
            if seconds is not None:
                self._study.note_attempt(claim, SECONDS, seconds)
            try:
                self._study.finish(claim, metrics)
            except (KeyError, ValueError) as error:  # not what the sweep asks for
                self._study.fail(claim, str(error.args[0]))

    def failed(self, number: int, error: Exception) -> None:
        """Record the error of a trial."""
        claim = self._open.pop(number)
        with self:
            self._study.fail(claim, described(error))

    def lost(self) -> None:
        """Give all trials that have not ended back to be run again."""
        with self:
            for claim in self._open.values():
                self._study.lose(claim)
        self._open.clear()

    def reached(self, epoch: int, metrics: Mapping[int, Mapping[str, float]]) -> dict[int, Next]:
        """Record the metrics of trials at a rung, and return what each is to do; those that do not go on have ended.

        Args:
            epoch: number of epochs that are done, one of `rungs`.
            metrics: what the validation of that epoch measured, by number.
        """
        score = self._study.settings[SCORE]
        nothing = math.nan
        standings = {n: Standing(m.get(RUNG_RATE, nothing), m.get(score, nothing)) for n, m in metrics.items()}
        with self:
            found = self._rungs.reached(epoch, [self._open[number] for number in metrics], standings)
            for number, following in found.items():
                if following is Next.STOP:
                    self._study.stop(self._open.pop(number))
                elif following is Next.PAUSE:
                    self._study.pause(self._open.pop(number), epoch)
        return found

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.has_broken = self.has_broken or error is not None
