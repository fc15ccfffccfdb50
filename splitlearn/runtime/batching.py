"""Batches of the requests of all connections, formed when the worker is free or after a short wait for more."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from splitlearn.runtime.errors import Code
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.outcomes import Outcomes, Refusal
from splitlearn.runtime.protocol import AnswerFrame, ErrorFrame, Kind, Request
from splitlearn.runtime.statistics import Statistics
from splitlearn.runtime.streams import Batch, ServerStream
from splitlearn.runtime.workers import Worker

_MOST_US = 2**32 - 1


class Asker(Protocol):
    """Sender of a request.

    Attributes:
        stream: whose frames it sends.
    """

    stream: ServerStream

    @property
    def is_gone(self) -> bool:
        """Return whether the sender no longer waits for answers."""

    @property
    def is_slow(self) -> bool:
        """Return whether so many answers are unread that its further requests wait."""

    def finish(self, number: int, frame: bytes) -> None:
        """Store the frame of the answer or error to the request with the id `number`."""

    def flush(self) -> None:
        """Send the stored frames."""


class _Waiting(NamedTuple):
    asker: Asker
    request: Request
    arrived: float
    expires: float

    @property
    def is_frame(self) -> bool:
        return self.request.kind == Kind.FRAME


class Batcher:
    """Queue and batches of one server; called only in the event loop.

    Attributes:
        held_bytes: bytes of payloads in the queue and in the worker, and of unfinished frames of connections.
    """

    def __init__(
        self, worker: Worker, limits: Limits, statistics: Statistics, max_batch: int, max_wait_ms: float
    ) -> None:
        self.held_bytes = 0
        self._worker = worker
        worker.on_free = self.dispatch
        self._limits = limits
        self._statistics = statistics
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1e3
        self._queue: deque[_Waiting] = deque()
        self._is_hurried = False
        self._timer: asyncio.TimerHandle | None = None
        self._soonest = float("inf")  # no deadline in the queue is earlier
        self._deadline_timer: asyncio.TimerHandle | None = None

    def has_room(self) -> bool:
        """Return whether another request can wait."""
        return len(self._queue) < self._limits.queue and self.held_bytes <= self._limits.held_bytes

    def add(self, asker: Asker, request: Request) -> None:
        """Add a request to the queue; call `dispatch` afterwards."""
        now = time.monotonic()
        expires = now + request.deadline_ms / 1e3 if request.deadline_ms else float("inf")
        self.held_bytes += len(request.payload)
        self._soonest = min(self._soonest, expires)
        self._queue.append(_Waiting(asker, request, now, expires))

    def hurry(self) -> None:
        """Dispatch all batches from now on, without waiting for more requests or for slow clients."""
        self._max_wait_s, self._is_hurried = 0.0, True
        self.dispatch()

    def dispatch(self) -> None:
        """Give batches to the worker while it is free and requests wait."""
        while self._queue and self._worker.free:
            if len(self._queue) < self._max_batch and self._max_wait_s:
                due = self._queue[0].arrived + self._max_wait_s
                if time.monotonic() < due:
                    if self._timer is None:
                        self._timer = asyncio.get_running_loop().call_at(due, self._wait_is_over)
                    break
            if not (taken := self._take()):  # all that wait are of slow clients, or of streams with frames at the edge
                break
            self._statistics.batch_sizes.add(len(taken))
            streams = list(dict.fromkeys(waiting.asker.stream for waiting in taken if waiting.is_frame))
            for stream in streams:
                stream.is_busy = True
            numbers = [streams.index(waiting.asker.stream) if waiting.is_frame else 0 for waiting in taken]
            batch = Batch([waiting.request for waiting in taken], numbers, [stream.kept for stream in streams])
            self._worker.run(batch, partial(self._finish, taken, streams, time.monotonic()))
        self._watch_deadlines()

    def _watch_deadlines(self) -> None:
        """Set the timer to the earliest deadline in the queue."""
        if not self._queue:
            self._soonest = float("inf")
        elif self._soonest < float("inf"):
            if self._deadline_timer is not None and self._deadline_timer.when() <= self._soonest:
                return
            if self._deadline_timer is not None:
                self._deadline_timer.cancel()
            self._deadline_timer = asyncio.get_running_loop().call_at(self._soonest, self._refuse_late)

    def _refuse_late(self) -> None:
        """Refuse the requests in the queue whose deadline has passed."""
        self._deadline_timer, now = None, time.monotonic()
        late = [waiting for waiting in self._queue if now >= waiting.expires]
        self._queue = deque(waiting for waiting in self._queue if now < waiting.expires)
        self._soonest = min((waiting.expires for waiting in self._queue), default=float("inf"))
        for waiting in late:
            self._refuse_as_late(waiting)
        self._watch_deadlines()

    def _wait_is_over(self) -> None:
        self._timer = None
        self.dispatch()

    def _take(self) -> list[_Waiting]:
        """Return the next requests whose senders still wait and read, and whose deadlines have not passed.

        The frames of a stream stay in their order: none is taken while those before it are at the edge.
        """
        now, batch, left = time.monotonic(), list[_Waiting](), list[_Waiting]()
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.asker.is_gone:
                self._let_go(waiting, "gone")
            elif now >= waiting.expires:
                self._refuse_as_late(waiting)
            elif self._must_wait(waiting):
                left.append(waiting)
            else:
                batch.append(waiting)
        self._queue.extendleft(reversed(left))
        return batch

    def _must_wait(self, waiting: _Waiting) -> bool:
        """Return whether the sender of a request has answers to read first, or its stream has frames at the edge."""
        asker = waiting.asker
        return (asker.is_slow and not self._is_hurried) or (waiting.is_frame and asker.stream.is_busy)

    def _refuse_as_late(self, waiting: _Waiting) -> None:
        if waiting.asker.is_gone:
            self._let_go(waiting, "gone")
            return
        self._let_go(waiting, Code.DEADLINE_PASSED.name.lower())
        sentence = f"the deadline of {waiting.request.deadline_ms} ms has passed in the queue"
        self._refuse(waiting, Refusal(Code.DEADLINE_PASSED, sentence))
        waiting.asker.flush()

    def _finish(
        self,
        batch: Sequence[_Waiting],
        streams: Sequence[ServerStream],
        started: float,
        outcomes: Outcomes,
        edge_s: float,
    ) -> None:
        for stream, kept in zip(streams, outcomes.kept, strict=True):
            stream.kept, stream.is_busy = kept, False
        self._statistics.edge_s.add(edge_s)
        edge_us = min(int(edge_s * 1e6), _MOST_US)
        for waiting, outcome in zip(batch, outcomes.results, strict=True):
            wait_s = started - waiting.arrived
            self._statistics.wait_s.add(wait_s)
            if isinstance(outcome, Refusal):
                self._let_go(waiting, outcome.code.name.lower())
                self._refuse(waiting, outcome)
            else:
                self._let_go(waiting, "answered")
                answer = AnswerFrame(waiting.request.id, min(int(wait_s * 1e6), _MOST_US), edge_us, outcome)
                waiting.asker.finish(waiting.request.id, answer.frame())
        for asker in {id(waiting.asker): waiting.asker for waiting in batch}.values():
            asker.flush()
        self.dispatch()

    def _refuse(self, waiting: _Waiting, refusal: Refusal) -> None:
        waiting.asker.finish(waiting.request.id, ErrorFrame(waiting.request.id, *refusal).frame())

    def _let_go(self, waiting: _Waiting, outcome: str) -> None:
        self.held_bytes -= len(waiting.request.payload)
        self._statistics.add_request(outcome, waiting.request.rate, waiting.request.kind)
