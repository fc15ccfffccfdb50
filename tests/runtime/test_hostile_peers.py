"""Peers without manners: one sentence for them, and not one request of the others is lost."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import Code, LinkError
from splitlearn.runtime.frames import frame
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.protocol import (
    NO_ID,
    ErrorFrame,
    Hello,
    Request,
    Type,
    goodbye_frame,
    number_frame,
)
from tests.runtime.edges import FINGERPRINT, RawPeer, Reverse, check, run, server_of

HELLO = Hello(bytes.fromhex(FINGERPRINT)).frame()
GIANT = (2**32 - 1).to_bytes(4, "little")
RUBBISH: dict[str, tuple[bytes, Code]] = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Code.TOO_LARGE),
    "an empty frame": (b"\0\0\0\0", Code.BAD_FRAME),
    "a giant frame": (GIANT, Code.TOO_LARGE),
    "a HELLO of 1025 bytes": (frame(Type.HELLO, b"x" * 1024), Code.TOO_LARGE),
    "a request before HELLO": (Request(1, b"x").frame(), Code.BAD_FRAME),
    "no HELLO": (frame(Type.HELLO, b"x" * 50), Code.BAD_FRAME),
    "a short HELLO": (frame(Type.HELLO, HELLO[5:-1]), Code.BAD_FRAME),
    "a long HELLO": (frame(Type.HELLO, HELLO[5:] + b"x"), Code.BAD_FRAME),
    "another version": (frame(Type.HELLO, b"SPLT\x09\x00"), Code.OTHER_VERSION),
    "two HELLOs": (HELLO + HELLO, Code.BAD_FRAME),
    "a giant request": (HELLO + GIANT, Code.TOO_LARGE),
    "a short request": (HELLO + frame(Type.REQUEST, b"x"), Code.BAD_FRAME),
    "the id of the connection": (HELLO + Request(NO_ID, b"x").frame(), Code.BAD_FRAME),
    "an id twice": (HELLO + Request(5, b"x").frame() + Request(5, b"y").frame(), Code.DUPLICATE_ID),
    "an answer": (HELLO + frame(Type.ANSWER, b"x" * 17), Code.BAD_FRAME),
    "an unknown type": (HELLO + frame(200), Code.BAD_FRAME),
    "a short ping": (HELLO + frame(Type.PING, b"x"), Code.BAD_FRAME),
    "a long pong": (HELLO + frame(Type.PONG, b"x" * 9), Code.BAD_FRAME),
    "a long goodbye": (HELLO + frame(Type.GOODBYE, b"x"), Code.BAD_FRAME),
    "a request after goodbye": (
        HELLO + Request(0, b"").frame() + goodbye_frame() + Request(1, b"").frame(),
        Code.BAD_FRAME,
    ),
}


async def beside_a_good_client(limits: Limits, evil: Callable[[int], Awaitable[None]]) -> None:
    """Let peers do their worst while a client asks; it gets all its answers."""
    async with (
        server_of(Reverse(), limits=limits) as server,
        EdgeClient("127.0.0.1", server.port, FINGERPRINT, patience_s=20) as client,
    ):

        async def ask() -> None:
            n = 0
            while not worst.done() or n < 20:
                n += 1
                payload = n.to_bytes(8, "little")
                check(await client.ask(payload), payload)

        worst = asyncio.ensure_future(evil(server.port))
        await asyncio.gather(worst, ask())
        assert sum(server.statistics.ended.values()) > 0
        while server.statistics.connections > 1 or server.batcher.held_bytes:  # a batch may still be at the edge
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_is_told_why(name: str) -> None:
    data, code = RUBBISH[name]

    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server, RawPeer(server.port) as peer:
            peer.writer.write(data)
            frames = [body for kind, body in await peer.all_frames() if kind == Type.ERROR]
            errors = [ErrorFrame.read(body) for body in frames]
            assert [(error.id, error.code) for error in errors] == [(NO_ID, code)]
            assert errors[0].sentence
            edge.gate.set()
        assert server.batcher.held_bytes == 0

    run(test)


def test_random_bytes() -> None:
    rng = random.Random(0)

    async def evil(port: int) -> None:
        for _ in range(200):
            async with RawPeer(port) as peer:
                start = HELLO if rng.random() < 0.7 else b""
                frames = [frame(rng.randrange(10), rng.randbytes(rng.randrange(40))) for _ in range(rng.randrange(5))]
                peer.writer.write(start + b"".join(frames) + rng.randbytes(rng.randrange(40)))
                if rng.random() < 0.5:
                    peer.writer.transport.abort()

    run(lambda: beside_a_good_client(Limits(connections=20), evil))


def test_slow_and_silent_peers_are_ended() -> None:
    limits = Limits(idle_s=0.2, handshake_s=0.2)
    starts = {
        "says nothing": b"",
        "half a length": b"\x01\x00",
        "half a HELLO": HELLO[:20],
        "a HELLO and nothing": HELLO,
        "half a request": HELLO + Request(1, b"x" * 100).frame()[:50],
    }

    async def test() -> None:
        async with server_of(Reverse(), limits=limits) as server:

            async def wait(data: bytes) -> None:
                async with RawPeer(server.port) as peer:
                    peer.writer.write(data)
                    error = ErrorFrame.read((await peer.all_frames())[-1][1])
                    assert (error.id, error.code) == (NO_ID, Code.TOO_SLOW)

            async def trickle() -> None:
                async with RawPeer(server.port) as peer:
                    await peer.hello()
                    frames = asyncio.ensure_future(peer.all_frames())
                    for byte in Request(1, b"x" * 1000).frame():
                        peer.writer.write(bytes([byte]))
                        await asyncio.sleep(0.01)
                        if frames.done():
                            break
                    assert ErrorFrame.read((await frames)[-1][1]).code == Code.TOO_SLOW

            await asyncio.gather(trickle(), *map(wait, starts.values()))
            assert server.statistics.ended == {"too_slow": 6}

    run(test)


def test_a_slow_edge_is_not_the_clients_fault() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        limits = Limits(idle_s=0.1)
        async with server_of(edge, limits=limits) as server, RawPeer(server.port) as peer:
            await peer.hello(Request(1, b"x").frame())
            await edge.is_entered()
            await asyncio.sleep(0.4)
            edge.gate.set()
            assert (await peer.frame())[0] == Type.ANSWER

    run(test)


@pytest.mark.parametrize("what", ["requests", "pings"])
def test_who_reads_nothing_is_paused_and_dropped(what: str) -> None:
    """Megabytes are sent, and answers never read: the server reads no more, holds little, and drops the peer."""

    async def evil(port: int) -> None:
        async with RawPeer(port) as peer:
            cast(asyncio.Transport, peer.writer.transport).pause_reading()
            peer.writer.write(HELLO)
            number = 0
            try:
                while True:
                    batch = range(number, number + 50)
                    number += 50
                    if what == "requests":
                        peer.writer.write(b"".join(Request(n, b"x" * 50_000).frame() for n in batch))
                    else:
                        peer.writer.write(number_frame(Type.PING, 1) * 100_000)
                    await peer.writer.drain()
            except OSError:
                pass

    run(lambda: beside_a_good_client(Limits(idle_s=0.3, write_bytes=1 << 16), evil))


def test_unfinished_frames_are_bounded_together() -> None:
    async def test() -> None:
        async with server_of(Reverse(), limits=Limits(frame_bytes=100_000, held_bytes=100_000)) as server:
            async with RawPeer(server.port) as one, RawPeer(server.port) as two:
                await one.hello()
                await two.hello()
                one.writer.write(Request(1, b"x" * 80_000).frame()[:-1])
                while server.batcher.held_bytes < 80_000:
                    await asyncio.sleep(0.01)
                two.writer.write(Request(1, b"x" * 80_000).frame()[:-1])
                error = ErrorFrame.read((await two.all_frames())[-1][1])
                assert (error.id, error.code) == (NO_ID, Code.BUSY)
                one.writer.write(b"x")
                assert (await one.frame())[0] == Type.ANSWER
            while server.statistics.connections:
                await asyncio.sleep(0.01)
            assert server.batcher.held_bytes == 0

    run(test)


def test_connections_are_bounded() -> None:
    async def test() -> None:
        async with (
            server_of(Reverse(), limits=Limits(connections=2)) as server,
            RawPeer(server.port) as one,
            RawPeer(server.port) as two,
        ):
            await one.hello()
            await two.hello()
            async with RawPeer(server.port) as three:
                error = ErrorFrame.read((await three.frame())[1])
                assert (error.id, error.code) == (NO_ID, Code.BUSY)
            with pytest.raises(LinkError, match=r"within 0\.1 s"):  # why is told, unless a reset was faster
                await EdgeClient("127.0.0.1", server.port, FINGERPRINT, patience_s=0.1).connect()
            waiting = EdgeClient("127.0.0.1", server.port, FINGERPRINT)
            connecting = asyncio.ensure_future(waiting.connect())
            one.writer.close()
            await connecting
            check(await waiting.ask(b"now"), b"now")
            await waiting.close()

    run(test)


def test_peers_that_vanish_leave_nothing() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge, max_batch=2) as server:
            async with RawPeer(server.port) as peer:
                await peer.hello(*(Request(n, b"x" * 1000).frame() for n in range(10)))
                await edge.is_entered()
                linger = struct.pack("ii", 1, 0)  # a reset: an end of stream alone would still want its answers
                peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                peer.writer.transport.abort()
            while server.statistics.connections:
                await asyncio.sleep(0.01)
            edge.gate.set()
            while server.batcher.held_bytes:
                await asyncio.sleep(0.01)
        assert sum(edge.batches) <= 2  # what nobody waits for is not computed
        assert server.statistics.requests["gone", 255, "payload"] == 10 - sum(edge.batches)

    run(test)
