"""What a client asks for: payloads, image files and frames of streams, and the replies to them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from splitlearn.runtime.errors import Code, LinkError
from splitlearn.runtime.protocol import Kind

if TYPE_CHECKING:  # clients need no numba
    from splitlearn.runtime.device_stream import DeviceStream, Frame

MOST_REFUSALS = 5  # of a frame, because the server lacks the one before; a key frame needs none


@dataclass(frozen=True)
class Reply:
    """The answer to one payload; the times add up to what has passed since `ask`.

    Attributes:
        arrays: by name.
        link_ms: on the way to the server and back.
        wait_ms: in the queues of client and server, and without a connection.
        edge_ms: in which the server computed the batch.
        sent_bytes: size of the payload, file or frame that was answered.
        frame: "key", "delta" or "repeat" for a frame of a stream; otherwise "".
    """

    arrays: Mapping[str, NDArray[Any]]
    link_ms: float
    wait_ms: float
    edge_ms: float
    sent_bytes: int = 0
    frame: str = ""

    @property
    def total_ms(self) -> float:
        """Return the time from `ask` to the answer."""
        return self.link_ms + self.wait_ms + self.edge_ms


@dataclass(eq=False)
class Ask(ABC):
    """One request of a client, until its reply.

    Attributes:
        id: of the request.
        payload: what is sent; empty before, if it is made then.
        rate: index of the compression rate, or `NO_RATE`.
        kind: of the request.
        asked: when it was asked for, in seconds of the monotonic clock.
        expires: when its deadline passes.
        reply: future of the reply.
        sent: when it was sent.
        delivered_before: bytes of answered requests at that time.
        timers: of deadline and patience.
        is_patient: whether its patience runs.
    """

    id: int
    payload: bytes
    rate: int
    kind: Kind
    asked: float
    expires: float
    reply: asyncio.Future[Reply]
    sent: float = 0.0
    delivered_before: int = 0
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    is_patient: bool = False

    @abstractmethod
    def prepare(self) -> None:
        """Make `payload`, for it is sent now."""

    @abstractmethod
    def forget(self) -> None:
        """Note that `payload` is not sent after all."""

    @abstractmethod
    def refused(self, code: int) -> None:
        """Note that the server has refused what was sent."""

    @property
    @abstractmethod
    def can_become_key(self) -> bool:
        """Return whether to ask again, since the server lacks the frame that this one refers to."""

    @property
    def frame(self) -> str:
        """Return what kind of a frame was sent; "" if none was."""
        return ""

    def fail(self, error: LinkError) -> None:
        """Fail, unless there is a reply."""
        if not self.reply.done():
            self.reply.set_exception(error)


class PayloadAsk(Ask):
    """A payload or image file, which is what it is."""

    def prepare(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def refused(self, code: int) -> None:
        """Do nothing."""

    @property
    def can_become_key(self) -> bool:
        """Return False: no other payload may be sent."""
        return False


@dataclass(eq=False)
class FrameAsk(Ask):
    """A frame of a stream, whose payload depends on what was sent before it.

    Attributes:
        content: its symbols.
        sequence: its number when it was sent last.
        refusals: how often the server lacked the frame before.
    """

    content: Frame = field(kw_only=True)
    sequence: int = 0
    refusals: int = 0

    @property
    def stream(self) -> DeviceStream:
        """Return its stream."""
        return self.content.stream

    def prepare(self) -> None:
        """Code it beside the frame that was sent before."""
        self.sequence = self.stream.sender.sequence
        self.payload = self.stream.sender.pack(self.content.tensors)

    def forget(self) -> None:
        """Make the next frame a key frame."""
        self.stream.sender.lost(self.sequence)

    def refused(self, code: int) -> None:
        """Note that the frames behind it refer to what the server has not."""
        self.refusals += code == Code.MISSING_REFERENCE
        self.stream.sender.lost(self.sequence)

    @property
    def can_become_key(self) -> bool:
        """Return whether another try may help."""
        return self.refusals <= MOST_REFUSALS

    @property
    def frame(self) -> str:
        """Return what kind of a frame was sent."""
        return self.stream.kind(self.payload)
