"""Workers, which answer the batches of a server: in a thread beside the event loop, or in the loop itself."""

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
from splitlearn.resource_errors import brief
from splitlearn.runtime.errors import Code, NotServedError
from splitlearn.runtime.picture_codec import OtherFormatError
from splitlearn.runtime.protocol import Answer, Kind, Request, without_checksum, write_arrays

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Edge

_log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Reason why a request got no answer."""

    code: Code
    sentence: str


DAMAGED_FILE = Refusal(
    Code.DAMAGED_PAYLOAD, "image file not taken: it has another CRC-32 than its sender says; send it again"
)
Result = bytes | Refusal  # arrays of an answer as `write_arrays` makes them, or why there are none
Act = Callable[[Sequence[bytes]], Sequence[Answer | CodecError]]  # of an edge
Done = Callable[[Sequence[Result], float], None]  # takes the outcomes of a batch and its seconds at the edge


def outcomes_of(edge: Edge, requests: Sequence[Request]) -> list[Result]:
    """Return the answers of an edge to a batch of payloads and image files, or refusals.

    If the edge fails, it gets each request separately, so that only those that cause an error are refused.
    """
    files = {n: without_checksum(r.payload) for n, r in enumerate(requests) if r.kind == Kind.PICTURE}
    found: dict[int, Result] = dict.fromkeys(files, DAMAGED_FILE)
    ways = (
        (edge.answer, "damaged payload", {n: r.payload for n, r in enumerate(requests) if r.kind == Kind.PAYLOAD}),
        (edge.answer_pictures, "image file not taken", {n: file for n, file in files.items() if file is not None}),
    )
    for answer, refused, mine in ways:
        if mine:
            found |= zip(mine, _outcomes(answer, list(mine.values()), refused), strict=True)
    return [found[n] for n in range(len(requests))]


def _outcomes(act: Act, payloads: Sequence[bytes], refused: str) -> list[Result]:
    try:
        answers = act(payloads)
        if len(answers) != len(payloads):
            raise RuntimeError(f"{len(answers)} answers to {len(payloads)} payloads")
        return [
            _refusal(answer, refused) if isinstance(answer, CodecError) else write_arrays(answer) for answer in answers
        ]
    except NotServedError as error:
        return [Refusal(Code.KIND_NOT_SERVED, str(error))] * len(payloads)
    except Exception as error:
        if len(payloads) > 1:
            return [outcome for payload in payloads for outcome in _outcomes(act, [payload], refused)]
        told = brief(error)  # one line: a peer can cause many
        _log.error("the edge failed on a payload of %d bytes: %s: %s", len(payloads[0]), type(error).__name__, told)
        return [Refusal(Code.INTERNAL, f"the edge failed on this payload: {type(error).__name__}")]


def _refusal(error: CodecError, refused: str) -> Refusal:
    if isinstance(error, OtherFormatError):
        return Refusal(Code.KIND_NOT_SERVED, f"{refused}: {error}; give server and device the same package")
    return Refusal(Code.DAMAGED_PAYLOAD, f"{refused}: {error}")


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
    def run(self, requests: Sequence[Request], done: Done) -> None:
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
        self._batches: SimpleQueue[tuple[Sequence[Request], Done] | None] = SimpleQueue()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, args=(loop,), name="edge", daemon=True).start()

    def run(self, requests: Sequence[Request], done: Done) -> None:
        """Give a batch to the thread."""
        self.free = 0
        self._batches.put((requests, done))

    def stop(self) -> None:
        """End the thread after its current batch."""
        self._batches.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while batch := self._batches.get():
            requests, done = batch
            start = time.perf_counter()
            outcomes = outcomes_of(self._edge, requests)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._finish, outcomes, time.perf_counter() - start, done)

    def _finish(self, outcomes: list[Result], seconds: float, done: Done) -> None:
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

    def run(self, requests: Sequence[Request], done: Done) -> None:
        """Answer a batch immediately."""
        start = time.perf_counter()
        self.free = 0
        outcomes = outcomes_of(self._edge, requests)
        done(outcomes, time.perf_counter() - start)
        self.free = 1

    def stop(self) -> None:
        """Do nothing, since there is no thread."""
