"""Workers that run the trials of a study, and the loop that watches them."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from splitlearn.addresses import without_passwords
from splitlearn.resource_errors import described
from splitlearn.sweep.drawing import Drawing
from splitlearn.sweep.launchers import Launcher, LauncherError, Processes, Worker
from splitlearn.sweep.space import Value
from splitlearn.sweep.study import Claim, Study
from splitlearn.sweep.trial import State, Trial

BEAT_SECONDS = 30
LOOK_SECONDS = 1.0
VAIN = 3  # how many workers may end with an error while no trial ends


class TrialLost(Exception):
    """A process that a trial needs was killed; a trial that raises this error is run again."""


RunTrial: TypeAlias = Callable[[int, Mapping[str, Value]], Mapping[str, float]]
"""Function that runs a point, given its number and its values, and returns metrics by name; it can be pickled."""


def run_sweep(
    storage: str,
    name: str,
    run: RunTrial,
    workers: int,
    logs: Path,
    watch: Callable[[list[Trial]], None] = lambda trials: None,
    launcher: Launcher | None = None,
    drawing: Drawing | None = None,
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

    Raises:
        LauncherError: if three workers end with an error before any trial ends.
    """
    launcher = launcher or Processes()
    found: dict[int, tuple[str, Worker]] = {}
    gone: set[str] = set()
    ended = vain = 0
    try:
        study = Study(storage, name)
        while True:
            for number, (token, worker) in list(found.items()):
                if worker.has_ended():
                    del found[number]
                    gone.add(token)
                    error = worker.error()
                    vain += bool(error)
                    if vain == VAIN:
                        raise LauncherError(f"workers end before a trial does ({error}): {logs} may tell more")
            study.revive(gone)
            trials = study.trials()
            watch(trials)
            before, ended = ended, sum(trial.state in (State.FINISHED, State.FAILED) for trial in trials)
            vain = vain if ended == before else 0
            waiting = sum(trial.state is State.WAITING for trial in trials)
            waiting += 0 if drawing is None else max(0, drawing.trials - len(trials))
            if not waiting and not found:
                return trials
            for number in range(workers):
                if number not in found and waiting > 0:
                    token = uuid4().hex
                    log = logs / f"worker_{number}.log"
                    work = _Work(storage, name, run, log, launcher.cpus, token, drawing)
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
        while claim := study.claim(self.token, self.drawing):
            print(f"trial {claim.number}: {claim.values}")
            with _signs_of_life(study, claim):
                self._run_one(study, claim)

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
def _signs_of_life(study: Study, claim: Claim) -> Iterator[None]:
    """Call `Study.beat` for a running trial every 30 seconds, so that other machines know that it runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                study.beat(claim)
            except Exception as error:  # a storage that is away for a moment; the next beat may reach it
                print(f"no sign of life could be given: {without_passwords(str(error))}")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
