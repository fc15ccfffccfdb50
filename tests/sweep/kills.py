"""Sweeps that are killed, whole or a worker at a time, at random moments."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import numpy as np

from splitlearn.sweep import State, Study

Launch = Callable[[], subprocess.Popen[bytes]]


def children(pid: int) -> list[int]:
    """Numbers of the processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def kill_at_random(launch: Launch, study: tuple[str, str], seed: int, seconds: tuple[float, float]) -> int:
    """Launch a sweep again and again; kill one of its workers or the whole, twenty times or until it is done.

    Args:
        launch: starts the sweep, and each time the same.
        study: its storage and name.
        seed: of the moments.
        seconds: the shortest and longest time between a launch and the kill of the whole.

    Returns:
        How often something was killed.
    """
    random, kills = np.random.default_rng(seed), 0
    while kills < 20:
        sweep = launch()
        deadline = time.time() + float(random.uniform(*seconds))
        while time.time() < deadline and sweep.poll() is None:
            time.sleep(float(random.uniform(0.1, seconds[1] / 5)))
            if (found := children(sweep.pid)) and random.random() < 0.5:
                os.kill(int(random.choice(found)), signal.SIGKILL)
                kills += 1
        if sweep.poll() is None:
            sweep.kill()
            kills += 1
        sweep.wait()
        if all(t.state is State.FINISHED for t in Study(*study).trials()):
            break
    return kills
