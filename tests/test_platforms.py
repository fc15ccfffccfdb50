"""Nothing that only POSIX has is needed at load; the ways of Windows do what they are for, as far as Linux shows it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from splitlearn import processes
from splitlearn.processes import Stopped
from splitlearn.runtime import event_loop

WITHOUT_POSIX = """
import builtins, importlib, os, pkgutil, signal, sys
import lightning, optuna, torch, torchvision  # other packages have ways of their own
import splitlearn

honest = builtins.__import__

def hidden(name, globals=None, *rest):
    ours = ((globals or {}).get("__name__") or "").startswith("splitlearn")
    if ours and name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
        raise ImportError(f"Windows has no {name}")
    return honest(name, globals, *rest)

builtins.__import__ = hidden
for module, names in (
    (os, "fork forkpty killpg setsid setpgid getpgrp getpgid geteuid getuid getegid getgid O_DIRECTORY O_NOFOLLOW"),
    (signal, "SIGKILL SIGHUP SIGPIPE SIGUSR1 SIGUSR2 SIGALRM pthread_sigmask setitimer alarm"),
):
    for name in names.split():
        delattr(module, name)
count = 0
for found in pkgutil.walk_packages(splitlearn.__path__, "splitlearn."):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:  # of an extra that is not installed
        if error.name is None or error.name.startswith("splitlearn"):
            raise
    count += 1
print(count)
sys.stdout.flush()
os._exit(0)  # what others do at exit needs what is gone
"""


@pytest.mark.slow
def test_every_module_loads_without_what_only_posix_has() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (processes, event_loop):
        monkeypatch.setattr(module, "WINDOWS", True)


class Kernel:
    """Process 7 runs, 8 has ended, 9 belongs to another user."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    def OpenProcess(self, access: int, inherit: bool, pid: int) -> int:
        return pid if pid in (7, 8) else 0

    def GetLastError(self) -> int:
        return 5

    def WaitForSingleObject(self, handle: int, milliseconds: int) -> int:
        return 0x102 if handle == 7 else 0

    def CloseHandle(self, handle: int) -> None:
        self.closed.append(handle)


def test_windows_is_asked_whether_a_process_exists(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(os, "kill", lambda *args: pytest.fail("on Windows this ends the process"))
    assert [processes.exists(pid) for pid in (7, 8, 9)] == [True, False, True]
    assert kernel.closed == [7, 8]


def test_windows_ends_a_process_with_all_it_has_started(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **how: called.append(command))
    processes.end_group(12)
    assert called == [["taskkill", "/F", "/T", "/PID", "12"]]


def test_windows_has_no_signals_to_hold_or_send(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask")
    with processes.interrupts_held():
        pass
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        processes.ask_to_stop(process, signal.SIGINT)
        assert process.wait(10) == -signal.SIGTERM  # what `terminate` does here


def test_a_signal_stops_an_event_loop_that_takes_no_handlers(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "add_signal_handler", lambda *args: pytest.fail("loops of Windows raise here"))
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught:
        event_loop.run_until_stopped(work())
    assert caught.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_exist_until_they_have_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.exists(process.pid)  # it has ended, though nobody has noticed it
    assert processes.exists(os.getpid())
    assert not processes.exists(2**31 - 1)
