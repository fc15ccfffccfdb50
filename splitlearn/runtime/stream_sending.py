"""Sending the frames of a video as a stream: each is answered exactly once, or reported as failed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.device_stream import DeviceStream, Frame
from splitlearn.runtime.errors import LinkError
from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.pictures import Picture
from splitlearn.runtime.protocol import Answer, Kind
from splitlearn.runtime.sending import Pace, Prepares, Sending, made_by
from splitlearn.runtime.sent import EXITED, FAILED, Journal, Sent


async def send_video(
    device: Prepares,
    stream: DeviceStream,
    client: EdgeClient,
    pictures: Iterable[Picture],
    journal: Journal,
    pace: Pace | None = None,
    tell: Callable[[Sent], None] = lambda row: None,
) -> list[Sent]:
    """Send the frames of a video as a stream; everything else as in `send_pictures`.

    After a lost connection, and wherever the server lacks the frame before, a key frame is sent. A run that goes on
    where another was begins with one too.

    Args:
        device: prepares the frames.
        stream: of that device, and of no other video.
        client: connected to the edge server.
        pictures: the frames, in order.
        journal: keeps what is done, and knows what was done before.
        pace: when they come, and how long answers may take; by default when the device is ready, and any time.
        tell: called with each frame's outcome.

    Raises:
        LinkError: if the server will never accept this client; what is in the journal stays.
    """
    return await _StreamSending(device, stream, client, journal, pace or Pace(), tell).all(pictures)


class _StreamSending(Sending):
    """One run of `send_video`."""

    def __init__(
        self,
        device: Prepares,
        stream: DeviceStream,
        client: EdgeClient,
        journal: Journal,
        pace: Pace,
        tell: Callable[[Sent], None],
    ) -> None:
        super().__init__(client, journal, pace, tell)
        self._device, self._stream = device, stream

    async def _take(self, picture: Picture, came: float) -> asyncio.Task[None] | None:
        """Run the device's half; return what waits for the answer if the frame is sent."""
        waited_ms = 1e3 * (time.monotonic() - came)
        row = Sent(picture.name, FAILED, wait_ms=waited_ms, kind=Kind.FRAME, seconds=picture.seconds)
        if self._left_ms(came) <= 0:
            self._keep(self._late(row))
            return None
        made, (prepare_ms, device_ms) = await asyncio.to_thread(made_by, self._device, picture, self._made)
        row = replace(row, prepare_ms=prepare_ms, device_ms=device_ms)
        if isinstance(made, str):
            self._keep(replace(row, error=made))
        elif not isinstance(made, Frame):
            self._keep(self._with_answer(replace(row, outcome=EXITED, kind=Kind.PAYLOAD), made))
        elif self._left_ms(came) <= 0:
            self._keep(replace(row, error="not sent: the device has taken longer than the deadline"))
        else:
            return asyncio.create_task(self._ask(made, replace(row, rate=self._stream.rate), came))
        return None

    def _made(self, image: NDArray[np.uint8]) -> Frame | Answer:
        found = self._stream.frame(image)
        return found.answer() if isinstance(found, ExitPrediction) else found

    async def _ask(self, frame: Frame, row: Sent, came: float) -> None:
        left_ms = self._left_ms(came)
        try:
            reply = await self._client.ask_frame(frame, deadline_ms=None if left_ms == math.inf else left_ms)
        except LinkError as error:
            self._keep(replace(row, error=self._why(error)))
        else:
            self._keep(self._answered(replace(row, bytes=reply.sent_bytes, frame=reply.frame), reply))
