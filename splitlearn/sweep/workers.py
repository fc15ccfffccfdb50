"""Workers that run the trials of a study, and the loop that watches them."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from splitlearn.addresses import without_passwords
from splitlearn.resource_errors import described
from splitlearn.sweep.claim import Claim
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.drawing import Drawing
from splitlearn.sweep.launchers import Launcher, LauncherError, Processes, Worker
from splitlearn.sweep.progress import Progress
from splitlearn.sweep.pruners import NoPruner, Pruner
from splitlearn.sweep.rungs import Rungs
from splitlearn.sweep.study import Study
from splitlearn.sweep.trial import State, Trial

BEAT_SECONDS = 30
LOOK_SECONDS = 1.0
VAIN = 3  # how many workers may end with an error while no trial ends


class TrialLost(Exception):
    """A process that a trial needs was killed; a trial that raises this error is run again."""


RunTrial: TypeAlias = Callable[[int, Mapping[str, Value]], Mapping[str, float]]
"""Function that runs a point, given its number and its values, and returns metrics by name; it can be pickled."""
RunTogether: TypeAlias = Callable[[Mapping[int, Mapping[str, Value]], Progress], None]
"""Function that runs several points, given their values by number, and tells how each fares; it can be pickled."""


@dataclass(frozen=True)
class Groups:
    """How workers run several trials at a time.

    Attributes:
        run: runs the trials of a group.
        size: largest number of trials of a group; a quarter of it after each worker that was killed with the trial, as
            the system does for lack of memory.
        pruner: decides at its rungs which trials go on.
        epochs: epochs of a trial.
        by: parameter whose values the pruner compares each by itself; None compares all.
    """

    run: RunTogether
    size: int = 1
    pruner: Pruner = field(default_factory=NoPruner)
    epochs: int = 1
    by: str | None = None


def run_sweep(
    storage: str,
    name: str,
    run: RunTrial,
    workers: int,
    logs: Path,
    watch: Callable[[list[Trial]], None] = lambda trials: None,
    launcher: Launcher | None = None,
    drawing: Drawing | None = None,
    groups: Groups | None = None,
) -> list[Trial]:
    """Run all waiting trials in workers; return all trials when none waits or is to be drawn, and no worker runs.

    If a worker is killed, a new one replaces it, and its trial is run again. Several launches may work on one sweep at
    the same time: each leaves the trials that others are running alone, unless their workers record no `Study.beat` for
    five minutes.

    Args:
        storage: storage of the study, which must exist (`Study.begin`).
        name: name of the study.
        run: function that runs one trial.
        workers: largest number of simultaneous workers.
        logs: folder for the workers' output, one file per worker.
        watch: function that is called every second with all trials.
        launcher: starts the workers, and is closed at the end; by default workers are processes of this machine with
            one thread each.
        drawing: draws the points that `Study.begin` could not draw before results; None if there are none.
        groups: runs several trials at a time, in place of `run`; a worker takes no more than its share of those that
            have not ended.

    Raises:
        LauncherError: if three workers end with an error before any trial ends.
    """
    launcher = launcher or Processes()
    found: dict[int, tuple[str, Worker]] = {}
    gone: set[str] = set()
    ended = vain = 0
    try:
        study = Study(storage, name)
        rungs = Rungs(study, groups.pruner, groups.epochs, groups.by) if groups else None
        while True:
            for number, (token, worker) in list(found.items()):
                if worker.has_ended():
                    del found[number]
                    gone.add(token)
                    error = worker.error()
                    vain += bool(error)
                    if vain == VAIN:
                        raise LauncherError(f"workers end before a trial does ({error}): {logs} may tell more")
            if rungs is not None:
                rungs.settle()
            study.revive(gone)
            trials = study.trials()
            watch(trials)
            before, ended = ended, sum(trial.has_ended for trial in trials)
            vain = vain if ended == before else 0
            waiting = sum(trial.state is State.WAITING for trial in trials)
            waiting += 0 if drawing is None else max(0, drawing.trials - len(trials))
            paused = any(trial.state is State.PAUSED for trial in trials)
            if not waiting and not found and not paused:
                return trials
            if paused and rungs is not None and not any(t.state in (State.WAITING, State.RUNNING) for t in trials):
                rungs.settle(given_up=True)
            for number in range(workers):
                if number not in found and waiting > 0:
                    token = uuid4().hex
                    log = logs / f"worker_{number}.log"
                    work = _Work(storage, name, run, groups, workers, log, launcher.cpus, token, drawing)
                    found[number] = token, launcher.start(number, work)
                    waiting -= 1
            time.sleep(LOOK_SECONDS)
    finally:
        launcher.close()


@dataclass(frozen=True)
class _Work:
    """Work of one worker: run trials until no trial waits."""

    storage: str
    name: str
    run: RunTrial
    groups: Groups | None
    workers: int
    log: Path
    threads: int
    token: str
    drawing: Drawing | None

    def __call__(self) -> None:
        if torch := sys.modules.get("torch"):  # imported with `run`; what imports it later reads the environment
            torch.set_num_threads(self.threads)
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                self._run_all()
            except Exception:
                traceback.print_exc()
                raise

    def _run_all(self) -> None:
        study = Study(self.storage, self.name)
        if self.groups is None:
            while claim := study.claim(self.token, self.drawing):
                print(f"trial {claim.number}: {claim.values}")
                with _signs_of_life(study, [claim]):
                    self._run_one(study, claim)
            return
        rungs = Rungs(study, self.groups.pruner, self.groups.epochs, self.groups.by)
        while claims := self._group(study, self.groups.size):
            for claim in claims:
                print(f"trial {claim.number}: {claim.values}")
            with _signs_of_life(study, claims):
                self._run_together(self.groups, Progress(study, claims, rungs), claims)

    def _group(self, study: Study, size: int) -> list[Claim]:
        """Take the trials of a group: no more than a worker's share of those that wait or run.

        Only the first of them may be drawn now, since the next draw is to see what becomes of it.
        """
        left = sum(trial.state in (State.WAITING, State.RUNNING) for trial in study.trials())
        room = max(1, min(size, -(-left // self.workers)))
        found: list[Claim] = []
        while len(found) < room and (claim := study.claim(self.token, None if found else self.drawing)):
            found.append(claim)
            room = min(room, size >> 2 * claim.losses)
        return found

    def _run_together(self, groups: Groups, progress: Progress, claims: Sequence[Claim]) -> None:
        """Run a group; errors of trials are recorded, an error of the storage ends this worker."""
        try:
            groups.run({claim.number: claim.values for claim in claims}, progress)
        except TrialLost as error:
            print(error)
        except Exception as error:
            if progress.has_broken:
                raise
            traceback.print_exc()
            for number in progress.open:
                progress.failed(number, error)
        progress.lost()

    def _run_one(self, study: Study, claim: Claim) -> None:
        """Run a trial; an error of the trial is recorded, an error of the storage ends this worker."""
        try:
            metrics = self.run(claim.number, claim.values)
        except TrialLost as error:
            print(error)
            study.lose(claim)
            return
        except Exception as error:  # the sweep goes on without it
            traceback.print_exc()
            study.fail(claim, described(error))
            return
        try:
            study.finish(claim, metrics)
        except (KeyError, ValueError) as error:  # not what the sweep asks for
            study.fail(claim, str(error.args[0]))


@contextmanager
def _signs_of_life(study: Study, claims: Sequence[Claim]) -> Iterator[None]:
    """Call `Study.beat` for running trials every 30 seconds, so that other machines know that it runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                for claim in claims:
                    study.beat(claim)
            except Exception as error:  # a storage that is away for a moment; the next beat may reach it
                print(f"no sign of life could be given: {without_passwords(str(error))}")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
