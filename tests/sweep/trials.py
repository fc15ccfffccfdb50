"""Trials that processes of a sweep run in tests: they must be importable by these."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from splitlearn.sweep.distributions import Value


@dataclass(frozen=True)
class Noted:
    """Notes each start in a folder; measures what the point says.

    Attributes:
        folder: a file for each start.
        seconds: how long a trial takes.
        fails: number of the point that raises an error.
        diverges: number of the point that measures NaN.
        kills: number of the point that kills its process, as often as it is run.
    """

    folder: Path
    seconds: float = 0.0
    fails: int = -1
    diverges: int = -1
    kills: int = -1

    def __call__(self, number: int, values: Mapping[str, Value]) -> Mapping[str, float]:
        """Run one."""
        (self.folder / f"{number}_{time.time_ns()}").touch()
        time.sleep(self.seconds)
        if number == self.fails:
            raise RuntimeError("no room\nfor it")
        if number == self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        score = float("nan") if number == self.diverges else 1 - 1 / float(values["x"])
        return {"rate": float(values["x"]), "score": score, "number": number}
