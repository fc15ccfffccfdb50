"""Processes: stop signals, dependence on a parent process, and imports from the working directory."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 3.0  # largest time of a process to stop, in seconds
PARENT = "SPLITLEARN_PARENT"  # process id of the parent; a child ends with it
RANK = "LOCAL_RANK"

Handler = Callable[[int, FrameType | None], Any]


class Stopped(BaseException):
    """A signal requested this process to stop; not an Exception, so that no handler takes it for an error.

    Its notes say how to resume.

    Attributes:
        signum: number of the signal.
        status: exit status of the process.
    """

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted" if signum == signal.SIGINT else "terminated")
        self.signum = signum
        self.status = 128 + signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` on SIGINT and SIGTERM; errors that follow from it become `Stopped` too.

    The process is ended after three seconds in any case, for instance if the exception was caught or it waits for a
    process that no longer exists. Ignored signals and signals with another handler stay unchanged.
    """
    told: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        if not told:
            told.append(signum)
            last_resort = threading.Timer(PATIENCE, os._exit, (128 + signum,))
            last_resort.daemon = True
            last_resort.start()
            raise Stopped(signum)

    before = _handle(stop)
    try:
        yield
    except BaseException as error:
        if not told or isinstance(error, Stopped):
            raise
        stopped = Stopped(told[0])
        stopped.__notes__ = getattr(error, "__notes__", [])
        raise stopped from error
    else:
        if told:
            raise Stopped(told[0])
    finally:
        if not told:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def follow_first_rank() -> None:
    """In the further processes (ranks) of a run: ignore stop signals, and end when its first process ends.

    A terminal sends signals to all processes; the first process would fail if the others ended before it.
    """
    if int(os.environ.get(RANK) or 0) and PARENT in os.environ:
        _handle(lambda signum, frame: None)
        end_with(int(os.environ[PARENT]))


def end_with(parent: int) -> None:
    """End this process, and the group that it leads, as soon as the process with id `parent` has ended.

    A new launch thus never meets a running process of the previous one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def find_own_classes() -> None:
    """Make classes in the working directory importable, which a console script does not search by default.

    The absolute path is used, because parsers temporarily change to the folder of a config.
    """
    folder = os.getcwd()
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)


def _handle(handler: Handler) -> dict[signal.Signals, signal.Handlers | Handler]:
    """Set a handler for signals without one, in this process but not in forks; return the previous handlers."""
    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            handler(signum, frame)
        else:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    before: dict[signal.Signals, signal.Handlers | Handler] = {}
    if threading.current_thread() is threading.main_thread():
        for signum in STOPS:
            present = signal.getsignal(signum)
            if present is signal.SIG_DFL or present is signal.default_int_handler:
                before[signum] = present
                signal.signal(signum, handle)
    return before
