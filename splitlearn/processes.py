"""Processes: stop signals, dependence on a parent process, groups, and imports from the working directory.

What POSIX and Windows do in different ways stands here alone. Windows has no groups that a signal reaches: there,
processes end with all that they have started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

WINDOWS = os.name == "nt"
# Arguments of Popen for a process in a group of its own, which signals of the terminal do not reach
OWN_GROUP = None if WINDOWS else 0
CREATION_FLAGS = 0x200 if WINDOWS else 0  # CREATE_NEW_PROCESS_GROUP
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
        while exists(parent) if WINDOWS else os.getppid() == parent:  # on Windows an orphan keeps its parent's id
            time.sleep(0.5)
        if WINDOWS or os.getpgrp() == os.getpid():
            end_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def exists(pid: int) -> bool:
    """Return whether a process of this machine has this id and has not ended."""
    if WINDOWS:
        return _exists_on_windows(pid)
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")  # a process that is dead, and not yet noticed by its parent, has a number
        return not (state.is_file() and state.read_text().rpartition(")")[2].split()[0] == "Z")
    except PermissionError:
        return True
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        return False


def _exists_on_windows(pid: int) -> bool:
    """Do as `exists` by the system's own functions: `os.kill` would end the process, or interrupt it."""
    synchronize, access_denied, still_runs = 0x100000, 5, 0x102
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    if not (handle := kernel.OpenProcess(synchronize, False, pid)):
        return bool(kernel.GetLastError() == access_denied)
    try:
        return bool(kernel.WaitForSingleObject(handle, 0) == still_runs)
    finally:
        kernel.CloseHandle(handle)


def lead_group() -> None:
    """Make this process the leader of a group of its own; signals of the terminal are for others then."""
    if WINDOWS:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        os.setpgid(0, 0)


def end_group(pid: int) -> None:
    """Kill a process and the group that it leads; on Windows, with all that it has started."""
    if WINDOWS:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True, check=False)
        return
    with suppress(ProcessLookupError, PermissionError):  # it is gone, or leads no group yet
        os.killpg(pid, signal.SIGKILL)


def ask_to_stop(process: subprocess.Popen[bytes], signum: int) -> None:
    """Send a stop signal to a process; on Windows, which has none that a process in another group notices, end it."""
    if WINDOWS:
        process.terminate()
    else:
        process.send_signal(signum)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold interrupts back; processes started meanwhile never receive any. On Windows see `lead_group`."""
    if WINDOWS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
