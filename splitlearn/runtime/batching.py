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
from splitlearn.runtime.protocol import AnswerFrame, ErrorFrame, Request
from splitlearn.runtime.statistics import Statistics
from splitlearn.runtime.workers import Outcome, Refusal, Worker

_MOST_US = 2**32 - 1


class Asker(Protocol):
    """Sender of a request."""

    @property
    def is_gone(self) -> bool:
        """Return whether the sender no longer waits for answers."""

    def finish(self, number: int, frame: bytes) -> None:
        """Store the frame of the answer or error to the request with the id `number`."""

    def flush(self) -> None:
        """Send the stored frames."""


class _Waiting(NamedTuple):
    asker: Asker
    request: Request
    arrived: float
    expires: float


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
        self._timer: asyncio.TimerHandle | None = None

    def has_room(self) -> bool:
        """Return whether another request can wait."""
        return len(self._queue) < self._limits.queue and self.held_bytes <= self._limits.held_bytes

    def add(self, asker: Asker, request: Request) -> None:
        """Add a request to the queue; call `dispatch` afterwards."""
        now = time.monotonic()
        expires = now + request.deadline_ms / 1e3 if request.deadline_ms else float("inf")
        self.held_bytes += len(request.payload)
        self._queue.append(_Waiting(asker, request, now, expires))

    def hurry(self) -> None:
        """Dispatch all batches from now on without waiting for more requests."""
        self._max_wait_s = 0.0
        self.dispatch()

    def dispatch(self) -> None:
        """Give batches to the worker while it is free and requests wait."""
        while self._queue and self._worker.free:
            if len(self._queue) < self._max_batch and self._max_wait_s:
                due = self._queue[0].arrived + self._max_wait_s
                if time.monotonic() < due:
                    if self._timer is None:
                        self._timer = asyncio.get_running_loop().call_at(due, self._wait_is_over)
                    return
            if batch := self._take():
                self._statistics.batch_sizes.add(len(batch))
                payloads = [waiting.request.payload for waiting in batch]
                self._worker.run(payloads, partial(self._finish, batch, time.monotonic()))

    def _wait_is_over(self) -> None:
        self._timer = None
        self.dispatch()

    def _take(self) -> list[_Waiting]:
        """Return the next requests whose senders still wait and whose deadlines have not passed."""
        now, batch = time.monotonic(), list[_Waiting]()
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.asker.is_gone:
                self._let_go(waiting, "gone")
            elif now >= waiting.expires:
                self._let_go(waiting, Code.DEADLINE_PASSED.name.lower())
                sentence = f"the deadline of {waiting.request.deadline_ms} ms has passed in the queue"
                self._refuse(waiting, Refusal(Code.DEADLINE_PASSED, sentence))
                waiting.asker.flush()
            else:
                batch.append(waiting)
        return batch

    def _finish(self, batch: Sequence[_Waiting], started: float, outcomes: Sequence[Outcome], edge_s: float) -> None:
        self._statistics.edge_s.add(edge_s)
        edge_us = min(int(edge_s * 1e6), _MOST_US)
        for waiting, outcome in zip(batch, outcomes, strict=True):
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
        self._statistics.requests[outcome, waiting.request.rate] += 1
