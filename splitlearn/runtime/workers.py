"""Where batches are answered: in a thread beside the event loop, or in the loop itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol

from splitlearn.codecs import CodecError
from splitlearn.runtime.errors import Code
from splitlearn.runtime.protocol import write_arrays

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Edge

_log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Why a payload got no answer."""

    code: Code
    sentence: str


Outcome = bytes | Refusal  # arrays of an answer as `write_arrays` makes them, or why there are none
Done = Callable[[Sequence[Outcome], float], None]  # takes the outcomes of a batch and its seconds at the edge


def outcomes_of(edge: Edge, payloads: Sequence[bytes]) -> list[Outcome]:
    """Return what an edge makes of a batch.

    If it fails, each payload is tried alone, so that only those at fault are refused.
    """
    try:
        answers = edge.answer(payloads)
        if len(answers) != len(payloads):
            raise RuntimeError(f"{len(answers)} answers to {len(payloads)} payloads")
        return [
            Refusal(Code.DAMAGED_PAYLOAD, f"damaged payload: {answer}")
            if isinstance(answer, CodecError)
            else write_arrays(answer)
            for answer in answers
        ]
    except Exception as error:
        if len(payloads) > 1:
            return [outcome for payload in payloads for outcome in outcomes_of(edge, [payload])]
        _log.exception("the edge failed on a payload of %d bytes", len(payloads[0]))
        return [Refusal(Code.INTERNAL, f"the edge failed on this payload: {type(error).__name__}")]


class Worker(ABC):
    """Answers batches for an event loop.

    Attributes:
        free: number of batches that it can take now.
        on_free: called when it can take one more although none was done, because a process has started.
    """

    free: int
    on_free: Callable[[], None] = staticmethod(lambda: None)

    @abstractmethod
    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Get ready; called once, in the loop."""

    @abstractmethod
    def run(self, payloads: Sequence[bytes], done: Done) -> None:
        """Answer a batch and call `done` with its outcomes in the loop; only if `free` is more than 0."""

    @abstractmethod
    def stop(self) -> None:
        """Let go of threads and processes; what still runs is not waited for."""


class Backend(Protocol):
    """What a server serves: an `Edge`, or several of them in processes of their own."""

    @property
    def fingerprint(self) -> str:
        """Return the identity of the package, 64 hex digits."""

    def worker(self) -> Worker:
        """Return what answers batches."""


class InThread(Worker):
    """Calls an edge in a thread of its own, one batch at a time."""

    def __init__(self, edge: Edge) -> None:
        self.free = 1
        self._edge = edge
        self._batches: SimpleQueue[tuple[Sequence[bytes], Done] | None] = SimpleQueue()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, args=(loop,), name="edge", daemon=True).start()

    def run(self, payloads: Sequence[bytes], done: Done) -> None:
        """Hand a batch to the thread."""
        self.free = 0
        self._batches.put((payloads, done))

    def stop(self) -> None:
        """End the thread after its present batch."""
        self._batches.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while batch := self._batches.get():
            payloads, done = batch
            start = time.perf_counter()
            outcomes = outcomes_of(self._edge, payloads)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._finish, outcomes, time.perf_counter() - start, done)

    def _finish(self, outcomes: list[Outcome], seconds: float, done: Done) -> None:
        self.free = 1
        done(outcomes, seconds)


class InLoop(Worker):
    """Calls an edge in the event loop: for edges that answer a batch in less than about 0.1 ms.

    The way to a thread and back takes longer than that. All else would hold up every connection.
    """

    def __init__(self, edge: Edge) -> None:
        self.free = 1
        self._edge = edge

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: the loop runs."""

    def run(self, payloads: Sequence[bytes], done: Done) -> None:
        """Answer a batch at once."""
        start = time.perf_counter()
        self.free = 0
        outcomes = outcomes_of(self._edge, payloads)
        done(outcomes, time.perf_counter() - start)
        self.free = 1

    def stop(self) -> None:
        """Do nothing: there is no thread."""
