"""Processes that run the trials of a study, and the one that watches them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeAlias

from splitlearn.sweep.space import Value
from splitlearn.sweep.study import Claim, State, Study, Trial

BEAT_SECONDS = 30
LOOK_SECONDS = 1.0

RunTrial: TypeAlias = Callable[[int, Mapping[str, Value]], Mapping[str, float]]
"""Runs the point of a number with its values and returns metrics; it can be pickled."""


def run_sweep(
    storage: str,
    name: str,
    run: RunTrial,
    workers: int,
    logs: Path,
    watch: Callable[[list[Trial]], None] = lambda trials: None,
) -> list[Trial]:
    """Run all waiting trials in processes of one thread each, and return all trials once none waits or runs here.

    A process that is killed is replaced and its trial run again. Trials of other machines that share the storage are
    left to them, unless they fall silent.

    Args:
        storage: of the study, which has been created.
        name: of the study.
        run: runs one trial.
        workers: how many processes.
        logs: folder for what they print, a file each.
        watch: called every second with all trials.
    """
    study = Study(storage, name)
    context = multiprocessing.get_context("spawn")
    logs.mkdir(parents=True, exist_ok=True)

    def start(number: int) -> BaseProcess:
        log = logs / f"worker_{number}.log"
        process = context.Process(target=_work, args=(storage, name, run, log, os.getpid()), daemon=True)
        process.start()
        return process

    processes: dict[int, BaseProcess] = {}
    try:
        while True:
            for number in [number for number, process in processes.items() if not process.is_alive()]:
                del processes[number]
            study.revive()
            trials = study.trials()
            watch(trials)
            waiting = sum(trial.state is State.WAITING for trial in trials)
            if not waiting and not processes:
                return trials
            for number in range(workers):
                if number not in processes and waiting > 0:
                    processes[number] = start(number)
                    waiting -= 1
            time.sleep(LOOK_SECONDS)
    finally:
        for process in processes.values():
            process.terminate()


def _work(storage: str, name: str, run: RunTrial, log: Path, parent: int) -> None:
    """Run trials until none waits."""
    if torch := sys.modules.get("torch"):  # imported with `run`; what imports it later reads the environment
        torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with log.open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        study = Study(storage, name)
        while claim := study.claim():
            print(f"trial {claim.number}: {claim.values}")
            with _signs_of_life(study, claim, parent):
                try:
                    study.finish(claim, run(claim.number, claim.values))
                except Exception as error:  # the sweep goes on without it
                    traceback.print_exc()
                    study.fail(claim, f"{type(error).__name__}: {' '.join(str(error).split())}")


@contextmanager
def _signs_of_life(study: Study, claim: Claim, parent: int) -> Iterator[None]:
    """Tell other machines that a trial is being run; end this process when its sweep has been killed."""
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(1):
            if os.getppid() != parent:
                os._exit(1)  # its next launch runs this trial again

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            study.beat(claim)

    for each in (live, beat):
        threading.Thread(target=each, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
