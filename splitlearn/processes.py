"""Processes: where they look for users' classes, who stops them, and whom they must not outlive."""

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
PATIENCE = 3.0  # seconds that a process may take to stop
PARENT = "SPLITLEARN_PARENT"  # number of the process that one started by it must not outlive
RANK = "LOCAL_RANK"

Handler = Callable[[int, FrameType | None], Any]


class Stopped(BaseException):
    """A signal has told this process to stop; no Exception, so that nothing takes it for a fault and goes on.

    Its notes say how to go on.

    Attributes:
        signum: of the signal.
        status: what the process ends with.
    """

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted" if signum == signal.SIGINT else "terminated")
        self.signum = signum
        self.status = 128 + signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` where SIGINT or SIGTERM come; whatever follows from it is `Stopped` too.

    A process that has not ended after three seconds, since something has swallowed the exception or waits for a process
    that is gone, ends nevertheless. Signals that are ignored or have a handler of their own stay as they are.
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
    """Let a process that a run has started as one of its ranks end with that run alone, and not by signals of its own.

    A terminal sends them to all processes: if the others end before the first, it fails, waiting for them.
    """
    if int(os.environ.get(RANK) or 0) and PARENT in os.environ:
        _handle(lambda signum, frame: None)
        end_with(int(os.environ[PARENT]))


def end_with(parent: int) -> None:
    """End this process as soon as its parent is gone: what is launched again must not find it still at work.

    A process that leads a group takes all of it along.

    Args:
        parent: number of the process that must live.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def find_own_classes() -> None:
    """Make classes in the working directory importable, whatever directory a parser changes to meanwhile.

    A console script does not search it. Its absolute name is searched, since parsers change to the folder of a config
    that they read.
    """
    folder = os.getcwd()
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)


def _handle(handler: Handler) -> dict[signal.Signals, signal.Handlers | Handler]:
    """Set a handler for signals that have none, in this process not in forked ones; return what was set."""
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
