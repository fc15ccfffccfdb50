"""Small edges that tests serve, and raw peers that know no manners."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from splitlearn.codecs import CodecError
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.asks import Reply
from splitlearn.runtime.frames import FrameReader
from splitlearn.runtime.protocol import Hello, Type
from splitlearn.runtime.server import EdgeServer
from splitlearn.runtime.workers import InLoop, Worker

FINGERPRINT = "ab" * 32


class Reverse(Edge):
    """Answers a payload with its bytes in reverse; b"damaged" is damaged, and b"boom" makes it fail.

    Attributes:
        batches: sizes of the batches that came.
        gate: is waited for before each batch; open unless a test closes it.
    """

    fingerprint = FINGERPRINT

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        self.entered.release()
        self.gate.wait(10)
        self.batches.append(len(payloads))
        if b"boom" in payloads:
            raise RuntimeError("the secret of the server")
        return [
            CodecError("checksum") if payload == b"damaged" else {"reversed": np.frombuffer(payload[::-1], np.uint8)}
            for payload in payloads
        ]

    async def is_entered(self) -> None:
        """Wait until another batch has come."""
        await asyncio.to_thread(self.entered.acquire, timeout=10)


class InLoopReverse(Reverse):
    """The same, in the server's event loop."""

    def worker(self) -> Worker:
        return InLoop(self)


def check(reply: Reply, payload: bytes) -> None:
    """Assert that a reply is that of a payload."""
    assert list(reply.arrays) == ["reversed"]
    assert reply.arrays["reversed"].tobytes() == payload[::-1]


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in an event loop; nothing may be left over, and no callback may have failed."""
    failures: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        await asyncio.wait_for(test(), 30)

    asyncio.run(main())
    assert not failures, failures


class RawPeer:
    """A peer that sends whatever bytes it is told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._frames: list[tuple[int, bytes]] = []
        self._frame_reader = FrameReader(1 << 30)

    async def __aenter__(self) -> RawPeer:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def hello(self, *frames: bytes) -> None:
        """Be welcomed, sending further frames behind the HELLO."""
        self.writer.write(b"".join((Hello(bytes.fromhex(FINGERPRINT)).frame(), *frames)))
        assert (await self.frame())[0] == Type.WELCOME

    async def frame(self) -> tuple[int, bytes]:
        """Return type and body of the next frame; raises EOFError at the end."""
        while not self._frames:
            data = await self.reader.read(1 << 16)
            if not data:
                raise EOFError
            self._frames += self._frame_reader.feed(data)
        return self._frames.pop(0)

    async def all_frames(self) -> list[tuple[int, bytes]]:
        """Return all frames up to the end of the stream."""
        frames = []
        with contextlib.suppress(EOFError, OSError):
            while True:
                frames.append(await self.frame())
        return frames


def server_of(edge: Edge, **arguments: Any) -> EdgeServer:
    """Return a server at a free port of loopback."""
    return EdgeServer(edge, "127.0.0.1", 0, **arguments)
