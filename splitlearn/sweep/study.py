"""The trials of a sweep in a storage that several processes and machines use, and that survives any kill."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, ProgrammingError

from splitlearn.addresses import check_address, without_passwords, without_those_of
from splitlearn.discovery import public_path
from splitlearn.resource_errors import brief, shortage_in
from splitlearn.sweep.attempts import (
    BEAT,
    DRAW,
    ERROR,
    HOST,
    METRICS,
    PAUSED,
    PID,
    POINT,
    SUPERFLUOUS,
    VALUES,
    WORKER,
    attempts_in,
    by_point,
    different,
    draw_of,
    is_needed,
    kept_in,
    lives,
    losses,
    shortages,
    stopped_in,
    trial_of,
)
from splitlearn.sweep.claim import Claim
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.drawing import Drawing, Point
from splitlearn.sweep.samplers import Seen
from splitlearn.sweep.samplers.base import without_warnings
from splitlearn.sweep.space import Space
from splitlearn.sweep.storage import StudyError, open_storage
from splitlearn.sweep.trial import State, Trial

OPENINGS = 5  # how often to try to make tables that others make at the same time
ATTEMPTS = 5  # how often a trial may lose its worker in one launch
SHORTAGES = 3  # how often a trial may lack disk or memory in all launches
FORMAT = 2  # of the settings; until 1, which they did not state, all trials began with the same weights
TESTED = "tested "  # and the number of a point: an attribute of the study, since trials that have ended take none
LAUNCHED = "launched"  # attribute of the study: when the last launch was, in seconds since 1970
BRACKETS = "brackets"  # attribute of the study: how many points it had after each launch that added some
RATE, SCORE = "rate", "score"  # settings: names of the metrics that are minimised and maximised
SAMPLER = "sampler"


class Study:
    """A sweep in a storage: its points are drawn once, and each is measured once.

    A point is one set of parameters. Each point has one trial, which may need several attempts (runs). A worker is a
    process that runs trials. A launch is one call of `splitlearn sweep`, which starts workers; a sweep may be continued
    by further launches.

    If a worker is killed, its trial runs again with the same parameters, up to five attempts per launch. A trial that
    ran out of disk or memory runs again at the next launch, until this has happened three times. Trials with any other
    error are not repeated. Points are enqueued when they are drawn, all at the start unless the sampler learns from
    results. More trials can be added to a sweep later.

    Each launch opens the study, and calls `begin` once and `revive` repeatedly. Each worker calls `claim`, then `beat`
    while the trial runs, and `finish` or `fail` at its end.

    Args:
        storage: a file for the journal, made if absent, or the address of a database, `postgresql+psycopg://…`.
        name: name of the sweep; a storage may hold several.

    Raises:
        StudyError: if the storage cannot be used.
    """

    def __init__(self, storage: str, name: str) -> None:
        self.name, self._address = name, without_passwords(storage)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            check_address(storage)
        except ValueError as error:
            raise StudyError(str(error)) from None
        for attempt in reversed(range(OPENINGS)):
            try:
                self._storage = open_storage(storage)
                self._found = self._load()
                self._before = {t.number for t in self._attempts() if t.state.is_finished()} if self._found else set()
                return
            except Exception as error:  # whatever a driver raises
                if attempt and isinstance(
                    error, (IntegrityError, ProgrammingError, DuplicatedStudyError)
                ):  # another process is making the same tables
                    time.sleep(1)
                    continue
                if "://" not in storage and not isinstance(error, OSError):  # a journal that can be read, and is none
                    raise self._damaged(error) from error
                reason = without_those_of(storage, " ".join(str(error).split()))[:200]
                raise StudyError(
                    f"the storage {without_passwords(storage)} cannot be used ({type(error).__name__}: {reason}): name "
                    "a file in a folder that can be written to, or the address of a database that runs"
                ) from error

    def create(self, space: Space, trials: int, seed: int, settings: Mapping[str, Any]) -> None:
        """Draw and enqueue random points; the same as `begin` with `Drawing(space, trials, seed)`."""
        self.begin(Drawing(space, trials, seed), settings)

    def begin(self, drawing: Drawing, settings: Mapping[str, Any]) -> None:
        """Draw and enqueue the points that the storage does not hold yet, as many as can be drawn before results.

        Args:
            drawing: draws the points.
            settings: other settings that must not change between launches: `rate` and `score`, the names of the
                metrics to minimise and to maximise, and others such as the config. If an earlier version made the
                sweep, settings that it did not record are not checked.

        Raises:
            StudyError: if the storage holds a sweep of this name with another space, seed, sampler or settings.
            SpaceError: if no draw meets the space's conditions; then a new sweep is not created.
        """
        if self._found is None:
            list(drawing.ahead({}))
        self._found = optuna.create_study(
            storage=self._storage, study_name=self.name, directions=["minimize", "maximize"], load_if_exists=True
        )
        drawn = {"space": drawing.space.describe(), "seed": drawing.seed, SAMPLER: public_path(type(drawing.sampler))}
        wanted = json.loads(json.dumps({"format": FORMAT, **drawn, **settings}))
        present = self._study.user_attrs.get("settings")
        if present is None:
            self._study.set_user_attr("settings", wanted)
            with without_warnings():
                self._study.set_metric_names([settings[RATE], settings[SCORE]])
        elif not isinstance(present, dict) or present.get("format") != FORMAT:
            raise StudyError(
                f"the storage holds a sweep {self.name!r} of another version of splitlearn, whose trials began with "
                "other weights: it can be read, by splitlearn pareto, but not go on; name another --storage or --out"
            )
        elif present != (wanted := {name: value for name, value in wanted.items() if name in present}):
            raise StudyError(
                f"the storage holds a sweep {self.name!r} with another {' and '.join(different(present, wanted))}: "
                "launch it as it was begun, or name another --storage or --out"
            )
        self.trials()  # whether all are points
        for point in drawing.ahead(self._draws()):
            self._enqueue(point)
        self.note(LAUNCHED, time.time())
        ends = self.notes.get(BRACKETS, [])
        if drawing.trials > max(ends, default=0):
            self.note(BRACKETS, [*ends, drawing.trials])

    def _load(self) -> optuna.Study | None:
        """Return the study of this name in Optuna; nothing is written."""
        sampler = optuna.samplers.RandomSampler(seed=0)  # never asked: all points are drawn beforehand
        try:
            return optuna.load_study(storage=self._storage, study_name=self.name, sampler=sampler)
        except KeyError:
            return None

    @property
    def _study(self) -> optuna.Study:
        """The study in Optuna; raises StudyError if the sweep was never created."""
        if self._found is None:
            others = ", ".join(name for name in optuna.get_all_study_names(self._storage) if name != self.name)
            raise StudyError(f"the storage holds no sweep {self.name!r}: it holds {others or 'none'}")
        return self._found

    @cached_property
    def _space(self) -> Space:
        return Space.from_description(self.settings["space"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings with which the sweep was created.

        Raises:
            StudyError: if the sweep does not exist.
        """
        found: dict[str, Any] | None = self._study.user_attrs.get("settings")
        if found is None:
            raise StudyError(f"the sweep {self.name!r} is only just being created: try again")
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in (RATE, SCORE)):
            raise self._damaged(ValueError("its settings name no rate and score"))
        return found

    def trials(self) -> list[Trial]:
        """Return the trial of each point, by number: its finished attempt, or the last one if none finished."""
        found: dict[int, FrozenTrial] = {}
        try:
            for frozen in self._attempts():
                number, _ = self._point(frozen.user_attrs)
                before = found.get(number)
                if before is None or before.state is not TrialState.COMPLETE:
                    found[number] = frozen
            noted = self._study.user_attrs
            stopped = stopped_in(noted)
            trials = [
                trial_of(found[n], noted.get(f"{TESTED}{n}", {}), stopped.get(n), PAUSED in found[n].user_attrs)
                for n in sorted(found)
            ]
            for trial in (each for each in trials if each.state is State.FINISHED):
                if any(math.isnan(trial.metrics[self.settings[name]]) for name in (RATE, SCORE)):
                    raise ValueError(f"trial {trial.number} has measured NaN")
            return trials
        except StudyError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise self._damaged(error) from error

    def lacking(self) -> list[Trial]:
        """Return the trials that lacked disk or memory and that the next launch runs again."""
        short = (trial for trial in self.trials() if trial.state is State.FAILED and shortage_in(trial.error))
        points = by_point(self._attempts())
        return [trial for trial in short if shortages(points[trial.number]) < SHORTAGES]

    def _point(self, told: Mapping[str, Any]) -> tuple[int, dict[str, Value]]:
        """Return number and values of an attempt, after a check, since anybody may have written the journal.

        Raises:
            StudyError: if they are no point of the space.
        """
        number, values = told[POINT], told.get(VALUES, {})
        if type(number) is not int or number < 0 or not self._space.holds(values):
            raise self._damaged(ValueError(f"{str(values)[:80]} is no point of its space"))
        return number, dict(values)

    def _damaged(self, error: Exception) -> StudyError:
        return StudyError(
            f"the storage {self._address} is damaged ({type(error).__name__}: {brief(error)}): take a copy of it from "
            "before"
        )

    def claim(self, worker: str = "", drawing: Drawing | None = None) -> Claim | None:
        """Take a waiting trial for this process and return it; None if no trial waits and none is left to draw.

        Args:
            worker: unique name of the worker. Whoever starts workers passes the names of ended ones to
                `revive(gone=…)`, so that their trials run again.
            drawing: draws a further point when no trial waits; None if `begin` has drawn all.

        Raises:
            SpaceError: if no draw meets the space's conditions.
        """
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)) or self._draw(drawing):
            taken = self._study.ask()
            # where another worker was faster, Optuna has made a trial up; two processes may enqueue one point again
            if not is_needed(taken.number, by_point(self._attempts()).get(taken.user_attrs.get(POINT), [])):
                taken.set_user_attr(SUPERFLUOUS, True)
                self._study.tell(taken, state=TrialState.FAIL)
                continue
            number, values = self._point(taken.user_attrs)
            self._space.suggest(taken)  # records the values as Optuna's own parameters
            told = {WORKER: worker, HOST: socket.gethostname(), PID: os.getpid(), BEAT: time.time()}
            for name, value in told.items():
                taken.set_user_attr(name, value)
            return Claim(number, values, taken, losses(by_point(self._attempts())[number], self.notes.get(LAUNCHED, 0)))
        return None

    @property
    def notes(self) -> dict[str, Any]:
        """What `note` has recorded, by name."""
        return dict(self._study.user_attrs)

    def note(self, name: str, value: Any) -> None:
        """Record plain data about the whole sweep."""
        self._study.set_user_attr(name, value)

    def note_attempt(self, claim: Claim, name: str, value: Any) -> None:
        """Record plain data about an attempt at a point."""
        with suppress(UpdateFinishedTrialError):
            claim.attempt.set_user_attr(name, value)

    def noted_by_attempts(self, name: str) -> dict[int, Any]:
        """Return what the first attempt at each point that recorded something under a name recorded, by number."""
        told = [(t.user_attrs[POINT], t.user_attrs[name]) for t in self._attempts() if name in t.user_attrs]
        return dict(reversed(told))

    def pause(self, claim: Claim, epoch: int) -> None:
        """Give a trial back until a decision is made at the rung that it has reached."""
        self.note_attempt(claim, PAUSED, epoch)
        self.lose(claim)

    def stop(self, claim: Claim) -> None:
        """End a trial that a decision has stopped."""
        with suppress(UpdateFinishedTrialError):
            self._study.tell(claim.attempt, state=TrialState.PRUNED, skip_if_finished=True)

    def beat(self, claim: Claim) -> None:
        """Record that the worker still runs; call it at least every five minutes."""
        self.note_attempt(claim, BEAT, time.time())

    def finish(self, claim: Claim, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a trial.

        Args:
            claim: the trial.
            metrics: metrics by name, with at least the two of the settings `rate` and `score`.

        Raises:
            KeyError: if one of the two is absent.
            ValueError: if one of the two is NaN.
        """
        if missing := [self.settings[name] for name in (RATE, SCORE) if self.settings[name] not in metrics]:
            raise KeyError(f"the trial measured no {' and no '.join(missing)}, but {', '.join(sorted(metrics))}")
        values = [float(metrics[self.settings[name]]) for name in (RATE, SCORE)]
        if any(map(math.isnan, values)):
            raise ValueError(f"it diverged: {self.settings[RATE]} and {self.settings[SCORE]} are {values}")
        with suppress(UpdateFinishedTrialError):  # counted as dead meanwhile
            claim.attempt.set_user_attr(METRICS, {name: float(value) for name, value in metrics.items()})
            self._study.tell(claim.attempt, values, skip_if_finished=True)

    def note_test(self, number: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of a test to those of a finished trial, given by its number."""
        self.note(f"{TESTED}{number}", {name: float(value) for name, value in metrics.items()})

    def fail(self, claim: Claim, error: str) -> None:
        """Record the error of a trial; after a lack of disk or memory, the next launch runs it again."""
        with suppress(UpdateFinishedTrialError):
            claim.attempt.set_user_attr(ERROR, error)
            self._study.tell(claim.attempt, state=TrialState.FAIL, skip_if_finished=True)

    def lose(self, claim: Claim) -> None:
        """Give a trial back to be run again, as if this process had been killed."""
        with suppress(UpdateFinishedTrialError):
            self._study.tell(claim.attempt, state=TrialState.FAIL, skip_if_finished=True)

    def revive(self, gone: Collection[str] = ()) -> int:
        """Enqueue again the trials whose workers have ended, and return their number.

        A worker has ended if it ran on this machine and its process no longer exists, or if it recorded no `beat` for
        five minutes. After five attempts since this study was opened, the trial is not enqueued again. A trial that ran
        out of disk or memory in an earlier launch is enqueued too, if this has happened fewer than three times and not
        in this launch. A trial that waits at a rung is enqueued when a decision lets it go on.

        Args:
            gone: names of workers, as passed to `claim`, that are known to have ended, on any machine.
        """
        for frozen in self._attempts():
            is_gone = frozen.user_attrs.get(WORKER) in gone or not lives(frozen)
            if frozen.state is TrialState.RUNNING and is_gone:
                self._study.tell(frozen.number, state=TrialState.FAIL, skip_if_finished=True)
        kept, stopped = kept_in(self.notes), stopped_in(self.notes)
        lost = []
        for number, found in by_point(self._attempts()).items():
            rung = found[-1].user_attrs.get(PAUSED)
            waits = rung is not None and (rung, number) not in kept
            if number not in stopped and not waits and all(map(self._is_lost, found)) and self._may_try_again(found):
                lost.append(found)
        for first, *_ in lost:
            number, values = self._point(first.user_attrs)
            self._enqueue(Point(number, draw_of(first), values))
        return len(lost)

    def _is_lost(self, attempt: FrozenTrial) -> bool:
        error = attempt.user_attrs.get(ERROR)  # none if it was killed or paused
        again = error is None or (attempt.number in self._before and shortage_in(error) != "")
        return attempt.state is TrialState.FAIL and again

    def _may_try_again(self, attempts: Sequence[FrozenTrial]) -> bool:
        now = sum(attempt.number not in self._before and PAUSED not in attempt.user_attrs for attempt in attempts)
        return now < ATTEMPTS and shortages(attempts) < SHORTAGES

    def _enqueue(self, point: Point) -> None:
        told = {POINT: point.number, VALUES: point.values, DRAW: point.draw}
        self._study.enqueue_trial(dict(point.values), user_attrs=told)

    def _draw(self, drawing: Drawing | None) -> bool:
        """Draw and enqueue the next point after all results up to now; return whether there was one to draw."""
        if drawing is None:
            return False
        names = self.settings[RATE], self.settings[SCORE]
        seen = [
            Seen(trial.values, (trial.metrics[names[0]], trial.metrics[names[1]]) if trial.metrics else None)
            for trial in self.trials()
            if trial.state is not State.FAILED
        ]
        point = drawing.following(self._draws(), seen)
        if point is not None:
            self._enqueue(point)
        return point is not None

    def _draws(self) -> dict[int, int]:
        """Return the number of the draw of each point, by the point's number."""
        return {number: draw_of(first) for number, (first, *_) in by_point(self._attempts()).items()}

    def _attempts(self) -> list[FrozenTrial]:
        """Return all attempts at all points, in order."""
        return attempts_in(self._study.get_trials(deepcopy=False))
