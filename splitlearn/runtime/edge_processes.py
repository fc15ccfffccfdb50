"""Edges in separate processes, for several GPUs or cores; the server's process handles connections and batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import NamedTuple

from splitlearn.runtime.answers import Edge
from splitlearn.runtime.errors import Code
from splitlearn.runtime.workers import Done, Outcome, Refusal, Worker, outcomes_of

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0  # before a process that has ended is started again
_LEAVE_S = 5.0


class EdgeProcesses:
    """Several edges in separate processes, for a server in place of an `Edge`.

    A process that ends is started again. Its batch is tried once more by another process, and refused if that process
    ends too, since the batch may be the cause. All processes end with the server's process.

    Args:
        make: picklable function from the number of a process, from 0, to its edge, e.g. a `functools.partial`.
        count: number of processes.
        fingerprint: identity of the package, 64 hex digits.

    Raises:
        ValueError: if `count` is not positive.
    """

    def __init__(self, make: Callable[[int], Edge], count: int, fingerprint: str) -> None:
        if count < 1:
            raise ValueError(f"there must be 1 process or more, got {count}")
        self.make, self.count, self.fingerprint = make, count, fingerprint

    def worker(self) -> Worker:
        """Return the worker that gives batches to the processes."""
        return InProcesses(self.make, self.count)


class _Job(NamedTuple):
    payloads: Sequence[bytes]
    done: Done
    tries: int


class InProcesses(Worker):
    """Gives each batch to a free process; called in the event loop, with a thread for each process."""

    def __init__(self, make: Callable[[int], Edge], count: int) -> None:
        self.free = 0
        self.is_stopping = False
        self._idle: deque[_Process] = deque()
        self._again: deque[_Job] = deque()  # whose process has ended
        self._processes = [_Process(make, number, self) for number in range(count)]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the processes; each accepts batches when its edge is built."""
        for process in self._processes:
            process.start(loop)

    def run(self, payloads: Sequence[bytes], done: Done) -> None:
        """Give a batch to a free process."""
        self._give(_Job(payloads, done, 1))

    def stop(self) -> None:
        """End the processes after their current batches."""
        self.is_stopping = True
        for process in self._processes:
            process.jobs.put(None)

    def add_idle(self, process: _Process) -> None:
        """Register a process as free, and give it a batch if one waits."""
        self._idle.append(process)
        self.free = len(self._idle)
        if self._again:
            self._give(self._again.popleft())
        else:
            self.on_free()

    def finish(self, process: _Process, job: _Job, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Pass the outcomes of a batch on, and register its process as free."""
        self._idle.append(process)
        self.free = len(self._idle)
        job.done(outcomes, seconds)

    def lost(self, job: _Job) -> None:
        """Try a batch again after its process has ended, or refuse it after the second time."""
        if job.tries > 1:
            sentence = "the edge's process ended twice on this batch"
            job.done([Refusal(Code.INTERNAL, sentence)] * len(job.payloads), 0.0)
        elif self._idle:
            self._give(job._replace(tries=2))
        else:
            self._again.append(job._replace(tries=2))

    def _give(self, job: _Job) -> None:
        process = self._idle.popleft()
        self.free = len(self._idle)
        process.jobs.put(job)


class _Process:
    """One process, and the thread that communicates with it."""

    def __init__(self, make: Callable[[int], Edge], number: int, worker: InProcesses) -> None:
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._make, self._number, self._worker = make, number, worker

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        threading.Thread(target=self._run, args=(loop,), name=f"edge {self._number}", daemon=True).start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            while self._lives(loop) and not self._worker.is_stopping:
                time.sleep(_PAUSE_S)

    def _lives(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Start a process and give it batches until it ends; return whether to start another one."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_answer, args=(self._make, self._number, there), daemon=True)
        process.start()
        there.close()
        job: _Job | None = None
        try:
            here.recv()  # the edge is built
            loop.call_soon_threadsafe(self._worker.add_idle, self)
            while job := self.jobs.get():
                here.send(job.payloads)
                outcomes, seconds = here.recv()
                loop.call_soon_threadsafe(self._worker.finish, self, job, outcomes, seconds)
        except (EOFError, OSError):
            process.join(_LEAVE_S)
            _log.error("the process of edge %d ended with status %s and starts again", self._number, process.exitcode)
            if job is not None:
                loop.call_soon_threadsafe(self._worker.lost, job)
            return True
        finally:
            here.close()
        process.join(_LEAVE_S)
        process.kill()
        return False


def _answer(make: Callable[[int], Edge], number: int, pipe: Connection) -> None:
    """Build an edge and answer batches until the server's process closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's process decides when to stop
    edge = make(number)
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            payloads = pipe.recv()
            start = time.perf_counter()
            outcomes = outcomes_of(edge, payloads)
            pipe.send((outcomes, time.perf_counter() - start))
