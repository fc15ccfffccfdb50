"""Processes that end with their parent, and when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from splitlearn.processes import STOPS, Stopped, stoppable

CHILD = "import os, time; from splitlearn.processes import end_with; end_with(os.getppid()); time.sleep(60)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
print(child.pid, flush=True)
child.wait()
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(2)  # until it watches
        os.kill(child, 0)  # it lives
        parent.send_signal(signal.SIGKILL)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the child has outlived its parent")


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the handlers of this process, and keep it alive."""
    before = {signum: signal.getsignal(signum) for signum in STOPS}
    monkeypatch.setattr("splitlearn.processes.PATIENCE", 1e6)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("signum", "status", "word"), [(2, 130, "interrupted"), (15, 143, "terminated")])
def test_a_signal_stops_whatever_is_done(handlers: None, signum: int, status: int, word: str) -> None:
    with pytest.raises(Stopped, match=word) as caught, stoppable():
        signal.raise_signal(signum)
    assert caught.value.status == status
    assert not isinstance(caught.value, Exception)
    signal.raise_signal(signum)  # what comes after is not needed any more


def _stopped_and(then: BaseException | None) -> None:
    with stoppable():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Stopped:
            if then is not None:
                raise then from None


@pytest.mark.parametrize("then", [None, SystemExit(0), SystemExit(1), OSError("a log cannot be closed")])
def test_what_follows_from_a_signal_is_no_other_end(handlers: None, then: BaseException | None) -> None:
    with pytest.raises(Stopped):
        _stopped_and(then)


def test_other_ends_and_handlers_stay_what_they_are(handlers: None) -> None:
    with pytest.raises(ValueError, match="mine"), stoppable():
        raise ValueError("mine")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a process in the background
    with stoppable():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_forked_process_ends_as_it_always_did(handlers: None) -> None:
    with stoppable():
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


STUCK = """
import signal, time
from splitlearn import processes
processes.PATIENCE = 0.2
with processes.stoppable():
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:
        print("swallowed")
    time.sleep(60)
"""


def test_a_process_that_does_not_stop_is_ended() -> None:
    assert subprocess.run([sys.executable, "-c", STUCK], check=False).returncode == 143
