"""Sweeps that are killed, whole or a worker at a time, at random moments."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import numpy as np

from splitlearn.sweep import State, Study
from splitlearn.sweep.attempts import PID

Launch = Callable[[], subprocess.Popen[bytes]]
Clock = Callable[[int], float]


def wall(pid: int) -> float:
    """Seconds, however busy this machine is."""
    return time.monotonic()


def busy(pid: int) -> float:
    """Seconds of computing that a process and its children have done: they do as much in as many, whoever else does."""
    rows = _ps("-eo", "pid=,ppid=,cputimes=")
    return float(sum(seconds for number, parent, seconds in rows if pid in (number, parent)))


def children(pid: int) -> list[int]:
    """Numbers of the processes that a process has started."""
    return [number for number, *_ in _ps("-o", "pid=", "--ppid", str(pid))]


def kill_at_random(
    launch: Launch, study: tuple[str, str], seed: int, seconds: tuple[float, float], clock: Clock = wall
) -> int:
    """Launch a sweep again and again; kill workers of it, and then the whole, until something was killed twenty times.

    Args:
        launch: starts the sweep, and each time the same.
        study: its storage and name.
        seed: of the moments.
        seconds: the shortest and longest time between a launch and the kill of the whole.
        clock: by which they are told, given the number of the sweep's process.

    Returns:
        How often something was killed; fewer than twenty if the sweep was done before.
    """
    random, kills, launches = np.random.default_rng(seed), 0, 0
    while kills < 20:
        sweep, launches = launch(), launches + 1
        now = clock(sweep.pid)
        end, next_kill = now + random.uniform(*seconds), now + random.uniform(0, seconds[1])
        while sweep.poll() is None and (now := clock(sweep.pid)) < end:
            time.sleep(0.1)
            if now > next_kill and (found := children(sweep.pid)):
                os.kill(int(random.choice(found)), signal.SIGKILL)
                next_kill, kills = now + random.uniform(0, seconds[1] / 2), kills + 1
        if sweep.poll() is None:
            sweep.kill()
            kills += 1
        sweep.wait()
        trials = Study(*study).trials()  # none if it was killed before it made any
        if trials and all(trial.state is State.FINISHED for trial in trials):
            break
    print(f"{kills} kills in {launches} launches")
    return kills


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("what was waited for has not come about")


def running(study: Study) -> list[int]:
    """Numbers of the processes that run trials."""
    attempts = [frozen for frozen in study._attempts() if frozen.state.name == "RUNNING"]
    return [frozen.user_attrs[PID] for frozen in attempts if PID in frozen.user_attrs]  # one taken just now has none


def kill_one_after(finished: int, study: Study) -> None:
    """Kill a worker that runs a trial, once so many trials have finished."""
    wait_for(lambda: sum(t.state is State.FINISHED for t in study.trials()) >= finished and bool(running(study)))
    os.kill(running(study)[0], signal.SIGKILL)


def _ps(*options: str) -> list[list[int]]:
    found = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    return [[int(word) for word in line.split()] for line in found.stdout.splitlines()]
