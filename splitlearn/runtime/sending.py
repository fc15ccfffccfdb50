"""Sending many pictures to an edge server: each is answered exactly once, or reported as failed.

Whatever ends the run, the journal keeps what was answered until then, and the same command goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn.runtime.answer_files import AnswerError, plain
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.asks import Reply
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.decisions import AtRate, Decision, DeviceHalf
from splitlearn.runtime.errors import Code, LinkError, UnreachableError
from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.pictures import Picture
from splitlearn.runtime.protocol import Kind
from splitlearn.runtime.rate_control import Always, Outcome, RatePolicy
from splitlearn.runtime.sent import ANSWERED, EXITED, FAILED, Journal, Sent

_log = logging.getLogger(__name__)

T = TypeVar("T")
WINDOW = 32  # pictures on their way at once


class Prepares(Protocol):
    """A device that takes pictures of any size."""

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return a picture of the network's size."""


class Compresses(DeviceHalf, Prepares, Protocol):
    """A device: `Device` or `TorchDevice`."""

    @property
    def has_exits(self) -> bool:
        """Return whether the device can answer by itself."""


@dataclass(frozen=True)
class Pace:
    """When pictures come, and how long their answers may take.

    Attributes:
        deadline_ms: from a picture's coming to its answer; None for any time.
        interval_ms: between two pictures, as a camera gives them; None if each comes when the device is ready for it.
        most: pictures on their way at once.
    """

    deadline_ms: float | None = None
    interval_ms: float | None = None
    most: int = WINDOW


async def send_pictures(
    device: Compresses,
    client: EdgeClient,
    pictures: Iterable[Picture],
    journal: Journal,
    policy: RatePolicy | None = None,
    pace: Pace | None = None,
    tell: Callable[[Sent], None] = lambda row: None,
) -> list[Sent]:
    """Send pictures and return what became of each, in their order, without the answers: the journal has these.

    If the server takes no image files of this package, a warning says so once, and images are sent as payloads.

    Args:
        device: the device's half.
        client: connected to the edge server.
        pictures: what to send; names are unique.
        journal: keeps what is done, and knows what was done before.
        policy: decides what is done with each; by default all are sent at the best rate.
        pace: when they come, and how long answers may take; by default when the device is ready, and any time.
        tell: called with each picture's outcome.

    Raises:
        LinkError: if the server will never accept this client; what is in the journal stays.
    """
    return await _Sending(device, client, journal, policy or Always(AtRate()), pace or Pace(), tell).all(pictures)


class Sending(ABC):
    """One run that sends many pictures: takes one after another, and keeps what came of each."""

    def __init__(self, client: EdgeClient, journal: Journal, pace: Pace, tell: Callable[[Sent], None]) -> None:
        self._client, self._journal, self._pace, self._tell = client, journal, pace, tell
        self._order: list[str] = []
        self._found: dict[str, Sent] = {}

    async def all(self, pictures: Iterable[Picture]) -> list[Sent]:
        """Send them all."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for picture, came in arrivals(self._to_do(iter(pictures)), self._pace.interval_ms):
                if (task := await self._take(picture, came)) is not None:
                    tasks.add(task)
                while len(tasks) >= self._pace.most or any(task.done() for task in tasks):
                    tasks = await _some_done(tasks)
            while tasks:
                tasks = await _some_done(tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [self._found[name] for name in self._order]

    async def _to_do(self, pictures: Iterator[Picture]) -> AsyncIterator[Picture]:
        """Yield the pictures that are not done yet; a thread fetches them, since a video is decoded on the way."""
        while (picture := await asyncio.to_thread(next, pictures, None)) is not None:
            self._order.append(picture.name)
            if (row := self._journal.done.get(picture.name)) is None:
                yield picture
            else:
                self._found[row.name] = row
                self._tell(row)

    @abstractmethod
    async def _take(self, picture: Picture, came: float) -> asyncio.Task[None] | None:
        """Do with a picture what is to be done; return what waits for the answer if it is sent."""

    def _late(self, row: Sent) -> Sent:
        """Return the row of a picture whose deadline has passed before the device was free."""
        return replace(row, error=f"not sent: it has waited {row.wait_ms:.0f} ms for the device")

    def _why(self, error: LinkError) -> str:
        """Return why a picture has failed; raise what ends the run."""
        is_gone = isinstance(error, UnreachableError) and self._pace.deadline_ms is None
        if error.is_final or is_gone:  # with deadlines, as of a camera, later pictures may be in time again
            raise error
        return str(error)

    def _answered(self, row: Sent, reply: Reply) -> Sent:
        """Return a row with the reply to it."""
        wait_ms = row.wait_ms + reply.wait_ms
        row = replace(row, outcome=ANSWERED, link_ms=reply.link_ms, wait_ms=wait_ms, edge_ms=reply.edge_ms)
        return self._with_answer(row, reply.arrays)

    def _with_answer(self, row: Sent, answer: Answer) -> Sent:
        """Return a row with its answer as it is kept; it has failed if the answer has a wrong form."""
        try:
            return replace(row, answer=plain(row.name, answer, self._journal.folder))
        except AnswerError as error:
            return replace(row, outcome=FAILED, error=str(error))

    def _left_ms(self, came: float) -> float:
        deadline_ms = self._pace.deadline_ms
        return math.inf if deadline_ms is None else deadline_ms - 1e3 * (time.monotonic() - came)

    def _keep(self, row: Sent) -> None:
        self._journal.add(row)
        self._found[row.name] = replace(row, answer={})  # answers stay in the journal: there may be millions
        self._tell(row)


class _Sending(Sending):
    """One run of `send_pictures`."""

    def __init__(
        self,
        device: Compresses,
        client: EdgeClient,
        journal: Journal,
        policy: RatePolicy,
        pace: Pace,
        tell: Callable[[Sent], None],
    ) -> None:
        super().__init__(client, journal, pace, tell)
        self._device, self._policy = device, policy
        self._turn = asyncio.Lock()  # of the device, which makes one payload at a time
        self._refused = ""  # why pictures are no longer sent

    async def _take(self, picture: Picture, came: float) -> asyncio.Task[None] | None:
        """Carry out what the policy decides; return what waits for the answer if it is sent."""
        name, waited_ms = picture.name, 1e3 * (time.monotonic() - came)
        left_ms = self._left_ms(came)
        if left_ms <= 0:
            self._keep(self._late(Sent(name, FAILED, wait_ms=waited_ms, seconds=picture.seconds)))
            return None
        async with self._turn:
            refused = self._refused  # as the policy knows it; a picture made meanwhile is refused, and sent otherwise
            decision = self._policy.decide(self._client.link, left_ms)
            made, times = await asyncio.to_thread(made_by, self._device, picture, partial(self._made, decision))
        row = Sent(name, FAILED, 0, *times, wait_ms=waited_ms, seconds=picture.seconds)
        row = replace(row, rate=decision.rate, note=decision.note, kind=decision.kind)
        if isinstance(made, bytes) and decision.kind == Kind.PICTURE and refused:
            self._keep(replace(row, error=f"not sent: {refused}"))
        elif isinstance(made, bytes) and self._left_ms(came) <= 0:
            self._keep(replace(row, error="not sent: the device has taken longer than the deadline"))
        elif isinstance(made, bytes):
            return asyncio.create_task(self._ask(made, replace(row, bytes=len(made)), picture, came))
        elif isinstance(made, Mapping):
            self._keep(self._with_answer(replace(row, outcome=EXITED, rate=None, kind=Kind.PAYLOAD), made))
        else:
            self._keep(replace(row, error=made))
        return None

    async def _ask(self, payload: bytes, row: Sent, picture: Picture, came: float) -> None:
        link, started, left_ms = self._client.link, time.monotonic(), self._left_ms(came)
        reply: Reply | None = None
        try:
            deadline_ms = None if left_ms == math.inf else left_ms
            reply = await self._client.ask(payload, deadline_ms=deadline_ms, rate=row.rate, kind=row.kind)
        except LinkError as error:
            if error.code == Code.KIND_NOT_SERVED and row.kind == Kind.PICTURE:
                await self._as_payload(picture, came, str(error))
                return
            row = replace(row, error=self._why(error))
        waited_ms = 1e3 * (time.monotonic() - started)
        device_ms = row.prepare_ms + row.device_ms
        self._policy.observe(Outcome(row.rate, len(payload), device_ms, link, waited_ms, reply, row.kind))
        self._keep(row if reply is None else self._answered(row, reply))

    def _made(self, decision: Decision, image: NDArray[np.uint8]) -> bytes | Answer:
        """Return the payload or an exit's answer."""
        found = decision.carry_out(self._device, image)
        return found.answer() if isinstance(found, ExitPrediction) else found

    async def _as_payload(self, picture: Picture, came: float, why: str) -> None:
        """Send a picture in another form that the server has refused as a file, and no more files."""
        if not self._refused:
            self._refused = why
            self._policy.leave_pictures()
            _log.warning("%s; from here on, images are sent as payloads", why)
        if (task := await self._take(picture, came)) is not None:
            await task


async def arrivals(pictures: AsyncIterator[Picture], interval_ms: float | None) -> AsyncIterator[tuple[Picture, float]]:
    """Yield pictures and the times when they came, in seconds of `time.monotonic`.

    Args:
        pictures: in their order.
        interval_ms: from one to the next, however long the caller takes; None if each comes when it is asked for.
    """
    started, number = time.monotonic(), 0
    async for picture in pictures:
        came = time.monotonic() if interval_ms is None else started + number * interval_ms / 1e3
        await asyncio.sleep(max(0.0, came - time.monotonic()))
        yield picture, came
        number += 1


async def _some_done(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait until a task is done, and return the others; raises what a task has raised."""
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return others


def made_by(
    device: Prepares, picture: Picture, act: Callable[[NDArray[np.uint8]], T]
) -> tuple[T | str, tuple[float, float]]:
    """Return what `act` makes of a prepared picture, or why it fails; and the ms of preparation and of `act`."""
    started = time.perf_counter()
    try:
        image = device.prepare(picture.read())
        prepared = time.perf_counter()
        made = act(image)
    except MemoryError as error:
        return f"too little memory for this picture: make it smaller ({error})", (0.0, 0.0)
    except (ValueError, RuntimeError) as error:  # of a damaged picture, another size, a budget, a latent
        return str(error), (0.0, 0.0)
    return made, (1e3 * (prepared - started), 1e3 * (time.perf_counter() - prepared))
