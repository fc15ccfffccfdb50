"""A launcher without processes, for tests of what workers leave: a process imports all anew, for seconds."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable

from splitlearn.sweep import Launcher, Worker


class Here(Launcher):
    """Works in this process, at once."""

    is_closed = False

    def start(self, number: int, work: Callable[[], None]) -> Worker:
        kept = [os.dup(descriptor) for descriptor in (1, 2)]  # workers redirect what they print
        try:
            work()
            return Ended("")
        except Exception as error:
            return Ended(str(error))
        finally:
            for descriptor, before in zip((1, 2), kept, strict=True):
                os.dup2(before, descriptor)
                os.close(before)

    def close(self) -> None:
        self.is_closed = True


class Ended(Worker):
    def __init__(self, told: str) -> None:
        self.told = told

    def has_ended(self) -> bool:
        return True

    def error(self) -> str:
        return self.told


class Sent(Here):
    """Works in this process with what another process would get: the work, pickled and read again."""

    def start(self, number: int, work: Callable[[], None]) -> Worker:
        return super().start(number, pickle.loads(pickle.dumps(work)))
