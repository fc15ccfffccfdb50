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
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import Empty, SimpleQueue
from typing import NamedTuple

from splitlearn.resource_errors import brief
from splitlearn.runtime.answers import Edge
from splitlearn.runtime.errors import BuildError, Code
from splitlearn.runtime.outcomes import Outcomes, Refusal, outcomes_of
from splitlearn.runtime.streams import Batch
from splitlearn.runtime.workers import Done, Worker

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0  # before a process that has ended is started again
_LEAVE_S = 5.0
_LOOK_S = 1.0  # between looks at whether an idle process still lives
_MOST_FAILURES = 3  # attempts in a row to build an edge that was built before, if no other process lives


class EdgeProcesses:
    """Several edges in separate processes, for a server in place of an `Edge`.

    The server starts when the first edge is built, and ends if one of them cannot be built. A process that ends
    later is started again. Its batch is tried once more by another process, and refused if that process
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
    batch: Batch
    done: Done
    tries: int


class InProcesses(Worker):
    """Gives each batch to a free process; called in the event loop, with a thread for each process."""

    def __init__(self, make: Callable[[int], Edge], count: int) -> None:
        self.free = 0
        self.is_stopping = False
        self._idle: deque[_Process] = deque()
        self._again: deque[_Job] = deque()  # whose process has ended
        self._failure = ""  # why the server must end
        self._refuses = False  # no process lives, and none will
        self._first = asyncio.Event()  # a process is ready, or has failed
        self._processes = [_Process(make, number, self) for number in range(count)]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the processes; each accepts batches when its edge is built."""
        for process in self._processes:
            process.start(loop)

    async def wait_ready(self) -> None:
        """Wait until the edge of a process is built.

        Raises:
            BuildError: if the edge of a process cannot be built.
        """
        await self._first.wait()
        if self._failure:
            raise BuildError(self._failure)

    def run(self, batch: Batch, done: Done) -> None:
        """Give a batch to a free process."""
        job = _Job(batch, done, 1)
        if not self._refuses:
            self._give(job)
            return
        self.free = 0
        _refuse(job, "no process of the edge can be started")
        self.free = 1

    def stop(self) -> None:
        """End the processes after their current batches."""
        self.is_stopping = True
        for process in self._processes:
            process.jobs.put(None)

    def add_idle(self, process: _Process, jobs: SimpleQueue[_Job | None]) -> None:
        """Register a process whose edge is built, and give it a batch if one waits."""
        process.jobs, process.is_ready, process.was_ready, process.failures = jobs, True, True, 0
        self._refuses = False
        self._first.set()
        if self.is_stopping:
            jobs.put(None)
            return
        self._idle.append(process)
        self.free = len(self._idle)
        if self._again:
            self._give(self._again.popleft())
        else:
            self.on_free()

    def finish(self, process: _Process, job: _Job, outcomes: Outcomes, seconds: float) -> None:
        """Register the process of a batch as free, and pass the outcomes on."""
        self._idle.append(process)
        self.free = len(self._idle)
        if self._again:  # before requests that have come later
            self._give(self._again.popleft())
        job.done(outcomes, seconds)

    def lost(self, process: _Process, jobs: SimpleQueue[_Job | None], job: _Job | None) -> None:
        """Handle the end of a process: try its batch again, or refuse it after the second time."""
        process.is_ready = False
        if process in self._idle:
            self._idle.remove(process)
            self.free = len(self._idle)
        with contextlib.suppress(Empty):
            if (given := jobs.get_nowait()) is not None:  # after the process had ended: not the batch's fault
                self._retry(given)
        if job is not None and job.tries > 1:
            _refuse(job, "the edge's process ended twice on this batch")
        elif job is not None:
            self._retry(job._replace(tries=2))

    def not_built(self, process: _Process, sentence: str) -> None:
        """Handle an edge that could not be built: the server ends if it never could, or if no other process lives."""
        process.failures += 1
        nobody = not any(each.is_ready for each in self._processes)
        if process.was_ready and not (nobody and process.failures >= _MOST_FAILURES):
            return
        is_new, self._failure = not self._failure, self._failure or sentence
        if is_new and self._first.is_set():
            self.on_failure(sentence)
        self._first.set()
        if nobody:
            self._refuses, self.free = True, 1
            while self._again:
                _refuse(self._again.popleft(), "no process of the edge can be started")
            self.on_free()

    def _retry(self, job: _Job) -> None:
        if self._idle:
            self._give(job)
        else:
            self._again.append(job)

    def _give(self, job: _Job) -> None:
        process = self._idle.popleft()
        self.free = len(self._idle)
        process.jobs.put(job)


def _refuse(job: _Job, sentence: str) -> None:
    batch = job.batch
    job.done(Outcomes([Refusal(Code.INTERNAL, sentence)] * len(batch.requests), batch.kept), 0.0)


class _Process:
    """One process, started again when it ends, and the thread that communicates with it.

    Attributes:
        jobs: batches for the process that runs now; each has its own queue.
        is_ready: whether its edge is built and it has not ended, as far as is known.
        was_ready: whether that was ever so.
        failures: how often in a row its edge could not be built.
    """

    def __init__(self, make: Callable[[int], Edge], number: int, worker: InProcesses) -> None:
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.is_ready = self.was_ready = False
        self.failures = 0
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
        jobs: SimpleQueue[_Job | None] = SimpleQueue()
        job: _Job | None = None
        is_built, reason = False, ""
        with contextlib.ExitStack() as stack:
            process: SpawnProcess | None = None
            try:
                here, there = map(stack.enter_context, context.Pipe())
                process = context.Process(target=_answer, args=(self._make, self._number, there), daemon=True)
                process.start()
                there.close()
                if reason := here.recv():
                    raise EOFError
                is_built = True
                loop.call_soon_threadsafe(self._worker.add_idle, self, jobs)
                while (job := _next_job(jobs, process)) is not None:
                    here.send(job.batch)
                    outcomes, seconds = here.recv()
                    loop.call_soon_threadsafe(self._worker.finish, self, job, outcomes, seconds)
                    job = None
            except (EOFError, OSError) as error:
                status = _status(process)
                told = reason or (str(error) if status is None else f"its process ended with status {status}")
                what = "has ended" if is_built else "could not be built"
                _log.error("edge %d %s: %s; it starts again", self._number, what, told)
                loop.call_soon_threadsafe(self._worker.lost, self, jobs, job)
                if not is_built:
                    sentence = f"edge {self._number} could not be built: {told}"
                    loop.call_soon_threadsafe(self._worker.not_built, self, sentence)
                return True
        process.join(_LEAVE_S)
        process.kill()
        return False


def _next_job(jobs: SimpleQueue[_Job | None], process: SpawnProcess) -> _Job | None:
    """Wait for the next batch; raise EOFError if the process ends before."""
    while True:
        with contextlib.suppress(Empty):
            job = jobs.get(timeout=_LOOK_S)
            if job is not None and not process.is_alive():
                jobs.put(job)  # it is not the batch's fault
                raise EOFError
            return job
        if not process.is_alive():
            raise EOFError


def _status(process: SpawnProcess | None) -> int | None:
    """Return the exit status of a process; None if it was never started."""
    if process is None or process.pid is None:
        return None
    process.join(_LEAVE_S)
    return process.exitcode


def _answer(make: Callable[[int], Edge], number: int, pipe: Connection) -> None:
    """Build an edge and answer batches until the server's process closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's process decides when to stop
    with contextlib.suppress(EOFError, OSError):
        try:
            edge = make(number)
        except Exception as error:  # of a model or a graph, which may raise anything
            pipe.send(brief(error))
            return
        pipe.send("")
        while True:
            batch = pipe.recv()
            start = time.perf_counter()
            outcomes = outcomes_of(edge, batch)
            pipe.send((outcomes, time.perf_counter() - start))
