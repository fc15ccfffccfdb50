"""Workers, which answer the batches of a server: in a thread beside the event loop, or in the loop itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from splitlearn.runtime.outcomes import Outcomes, outcomes_of
from splitlearn.runtime.streams import Batch

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Edge

Done = Callable[[Outcomes, float], None]  # takes the outcomes of a batch and its seconds at the edge


class Worker(ABC):
    """Base class of workers, which answer batches for an event loop.

    Attributes:
        free: number of batches that it can accept now.
        on_free: function that is called when it can accept another batch because a process has started.
        on_failure: function that is called with a sentence if the server must end.
    """

    free: int
    on_free: Callable[[], None] = staticmethod(lambda: None)
    on_failure: Callable[[str], None] = staticmethod(lambda sentence: None)

    @abstractmethod
    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start threads or processes; called once, in the loop."""

    async def wait_ready(self) -> None:
        """Wait until it can accept a batch; raise BuildError if it never will."""
        return

    @abstractmethod
    def run(self, batch: Batch, done: Done) -> None:
        """Answer a batch and call `done` with its outcomes in the loop; call it only if `free` is above 0."""

    @abstractmethod
    def stop(self) -> None:
        """End threads and processes after their current batches, without waiting for them."""


class Backend(Protocol):
    """An `Edge`, or several edges in separate processes, as a server needs them."""

    @property
    def fingerprint(self) -> str:
        """Identity of the package, 64 hex digits."""

    def worker(self) -> Worker:
        """Return the worker that answers batches."""


class InThread(Worker):
    """Worker that calls an edge in a separate thread, one batch at a time."""

    def __init__(self, edge: Edge) -> None:
        self.free = 1
        self._edge = edge
        self._batches: SimpleQueue[tuple[Batch, Done] | None] = SimpleQueue()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, args=(loop,), name="edge", daemon=True).start()

    def run(self, batch: Batch, done: Done) -> None:
        """Give a batch to the thread."""
        self.free = 0
        self._batches.put((batch, done))

    def stop(self) -> None:
        """End the thread after its current batch."""
        self._batches.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while work := self._batches.get():
            batch, done = work
            start = time.perf_counter()
            outcomes = outcomes_of(self._edge, batch)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._finish, outcomes, time.perf_counter() - start, done)

    def _finish(self, outcomes: Outcomes, seconds: float, done: Done) -> None:
        self.free = 1
        done(outcomes, seconds)


class InLoop(Worker):
    """Worker that calls an edge in the event loop, for edges that answer a batch in less than about 0.1 ms.

    Passing a batch to a thread and back takes longer than that. Slower edges would block all connections.
    """

    def __init__(self, edge: Edge) -> None:
        self.free = 1
        self._edge = edge

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing, since the loop already runs."""

    def run(self, batch: Batch, done: Done) -> None:
        """Answer a batch immediately."""
        start = time.perf_counter()
        self.free = 0
        outcomes = outcomes_of(self._edge, batch)
        done(outcomes, time.perf_counter() - start)
        self.free = 1

    def stop(self) -> None:
        """Do nothing, since there is no thread."""
