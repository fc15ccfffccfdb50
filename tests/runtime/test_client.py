"""The client: one reply or one error for each request, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from splitlearn.runtime.asks import Reply
from splitlearn.runtime.blocking import BlockingEdgeClient
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import Code, LinkError, ProtocolError, RefusedError, UnreachableError
from splitlearn.runtime.frames import FrameReader, frame
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.protocol import (
    NO_ID,
    AnswerFrame,
    ErrorFrame,
    Request,
    Type,
    Welcome,
    goodbye_frame,
    number_frame,
    write_arrays,
)
from splitlearn.runtime.server import EdgeServer
from tests.runtime.edges import FINGERPRINT, Reverse, check, run, server_of

WELCOME = Welcome(bytes.fromhex(FINGERPRINT), 1 << 20, 4, 60_000).frame()
ARRAYS = write_arrays({"a": np.zeros(2)})
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def fake_server(script: Script) -> AsyncIterator[int]:
    """Yield the port of a server that does as a script says with each connection."""

    scripts: list[asyncio.Task[None]] = []
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(script(reader, writer))
        scripts.append(task)
        await asyncio.wait([task])
        if task.cancelled():
            writer.transport.abort()  # what the client did not read is of no use to anyone
        else:
            assert isinstance(task.exception(), OSError | EOFError | None)
            writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in scripts:
                task.cancel()
            await asyncio.gather(*connections)  # no connection outlives its test


async def next_request(reader: asyncio.StreamReader, frames: FrameReader) -> Request:
    """Return the next request of a client; pings and its HELLO are passed over."""
    while True:
        for kind, body in frames.feed(await reader.readexactly(1)):
            if kind == Type.REQUEST:
                return Request.read(body)


def test_a_reply_tells_where_its_time_went() -> None:
    async def test() -> None:
        async with server_of(Reverse()) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            reply = await client.ask(b"abc", rate=3)
            check(reply, b"abc")
            assert min(reply.link_ms, reply.wait_ms, reply.edge_ms) >= 0
            assert reply.total_ms == reply.link_ms + reply.wait_ms + reply.edge_ms
            assert server.statistics.requests["answered", 3, "payload"] == 1
            link = client.link
            assert link.is_connected
            assert (link.sent_bytes, link.waiting, link.in_flight) == (3, 0, 0)
            assert link.round_trip_ms is not None
            assert link.least_round_trip_ms is not None
            assert 0 < link.least_round_trip_ms <= link.round_trip_ms

    run(test)


def test_the_servers_bound_of_requests_in_flight_is_kept() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with (
            server_of(edge, limits=Limits(in_flight=3)) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            asked = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(10)]
            await edge.is_entered()
            assert (client.link.in_flight, client.link.waiting) == (3, 7)
            asked[8].cancel()  # waits; is never sent
            asked[1].cancel()  # is sent; its answer is nobody's
            edge.gate.set()
            replies = await asyncio.gather(*asked, return_exceptions=True)
            for n, reply in enumerate(replies):
                if n in (1, 8):
                    assert isinstance(reply, asyncio.CancelledError)
                else:
                    assert isinstance(reply, Reply)
                    check(reply, bytes([n]))
        assert sum(edge.batches) == 9

    run(test)


def test_a_payload_beyond_the_servers_frames_fails_alone() -> None:
    async def test() -> None:
        limits = Limits(frame_bytes=1000)
        async with (
            server_of(Reverse(), limits=limits) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            largest = b"x" * (1000 - 15)
            check(await client.ask(largest), largest)
            with pytest.raises(LinkError, match="a payload of 986 bytes; the server takes 1,000 a frame"):
                await client.ask(largest + b"x")
            check(await client.ask(b"next"), b"next")

    run(test)


def test_a_server_that_is_killed_and_comes_back() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        first = server_of(edge)
        await first.start()
        port = first.port
        async with EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
            asked = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(100)]
            await edge.is_entered()
            for connection in list(first.connections):
                connection._transport.abort()
            stopped = asyncio.ensure_future(first.stop())
            edge.gate.set()
            await stopped
            assert not any(one.done() for one in asked)
            late = asyncio.ensure_future(client.ask(b"asked without a connection"))
            async with EdgeServer(Reverse(), "127.0.0.1", port):
                for n, reply in enumerate(await asyncio.gather(*asked)):
                    check(reply, bytes([n]))
                check(await late, b"asked without a connection")

    run(test)


def test_a_graceful_restart_loses_nothing() -> None:
    async def test() -> None:
        server = server_of(Reverse(), max_batch=1)
        await server.start()
        port = server.port
        async with EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
            asked = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(200)]
            for _ in range(3):
                await asyncio.sleep(0.01)
                await server.stop()
                server = EdgeServer(Reverse(), "127.0.0.1", port, max_batch=1)
                await server.start()
            for n, reply in enumerate(await asyncio.gather(*asked)):
                check(reply, bytes([n]))
        await server.stop()

    run(test)


def test_patience_ends() -> None:
    async def test() -> None:
        server = server_of(Reverse())
        await server.start()
        async with EdgeClient("127.0.0.1", server.port, FINGERPRINT, patience_s=0.2) as client:
            await server.stop()
            found = await asyncio.gather(*(client.ask(b"x") for _ in range(3)), return_exceptions=True)
            assert {type(one) for one in found} == {UnreachableError}
            assert client.link.waiting == 0
        with pytest.raises(UnreachableError, match=r"no answer from 127.0.0.1:\d+ within 0.1 s: .*Connect call failed"):
            await EdgeClient("127.0.0.1", server.port, FINGERPRINT, patience_s=0.1).connect()

    run(test)


def test_closing_fails_what_is_out() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server:
            client = EdgeClient("127.0.0.1", server.port, FINGERPRINT)
            await client.connect()
            asked = asyncio.ensure_future(client.ask(b"x"))
            await edge.is_entered()
            await client.close()
            with pytest.raises(UnreachableError, match="the client is closed"):
                await asked
            with pytest.raises(UnreachableError, match="the client is closed"):
                await client.ask(b"y")
            edge.gate.set()

    run(test)


@pytest.mark.parametrize(
    ("arguments", "fingerprint", "code", "sentence"),
    [
        ({}, "cd" * 32, Code.FOREIGN_FINGERPRINT, "the server has package abababababab…, the client cdcdcdcdcdcd…"),
        ({"token": "secret"}, FINGERPRINT, Code.WRONG_TOKEN, "a token is needed"),
    ],
)
def test_refusals_are_final(arguments: dict[str, str], fingerprint: str, code: Code, sentence: str) -> None:
    async def test() -> None:
        async with server_of(Reverse(), **arguments) as server:
            with pytest.raises(RefusedError, match=sentence) as found:
                await EdgeClient("127.0.0.1", server.port, fingerprint).connect()
            assert found.value.code == code
            assert server.statistics.ended == {code.name.lower(): 1}

    run(test)


def test_tokens() -> None:
    async def test() -> None:
        async with server_of(Reverse(), token="geheim – ß") as server:
            async with EdgeClient("127.0.0.1", server.port, FINGERPRINT, token="geheim – ß") as client:
                check(await client.ask(b"x"), b"x")
            with pytest.raises(RefusedError, match="the server knows another token"):
                await EdgeClient("127.0.0.1", server.port, FINGERPRINT, token="geheim").connect()

    run(test)


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="a fingerprint has 64 hex digits, this one 4"):
        EdgeClient("host", 1, "abab")
    with pytest.raises(ValueError, match="a token takes at most 983 bytes"):
        EdgeClient("host", 1, FINGERPRINT, token="x" * 984)


HOSTILE: dict[str, bytes] = {
    "no server of ours": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a giant frame before WELCOME": (2**32 - 1).to_bytes(4, "little"),
    "an answer before WELCOME": AnswerFrame(0, 0, 0, ARRAYS).frame(),
    "an error to a request before WELCOME": ErrorFrame(0, Code.BUSY, "busy").frame(),
    "another version": Welcome(bytes.fromhex(FINGERPRINT), 1 << 20, 4, 60_000, 9).frame(),
    "another package": Welcome(b"\xcd" * 32, 1 << 20, 4, 60_000).frame(),
    "no requests allowed": Welcome(bytes.fromhex(FINGERPRINT), 1 << 20, 0, 60_000).frame(),
    "a giant frame": WELCOME + (2**32 - 1).to_bytes(4, "little"),
    "two welcomes": WELCOME + WELCOME,
    "an unknown type": WELCOME + frame(99),
    "an answer to nothing": WELCOME + AnswerFrame(77, 0, 0, ARRAYS).frame(),
    "an error of nothing": WELCOME + ErrorFrame(77, Code.BUSY, "busy").frame(),
    "a pong to nothing": WELCOME + number_frame(Type.PONG, 77),
    "a long goodbye": WELCOME + frame(Type.GOODBYE, b"!"),
    "arrays with more than they announce": WELCOME + AnswerFrame(0, 0, 0, ARRAYS + b"\0").frame(),
    "arrays of giant sizes": WELCOME + AnswerFrame(0, 0, 0, b"\1\1a\6\2" + b"\xff" * 8).frame(),
    "a flood of pings": WELCOME + number_frame(Type.PING, 1) * 1_000_000,
    "the end of the connection": ErrorFrame(NO_ID, Code.DUPLICATE_ID, "id 1 is in flight\x1b[2J").frame(),
}


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_hostile_servers_are_given_up(behaviour: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = HOSTILE[behaviour]
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # takes few PONGs
        if data.startswith(WELCOME):
            writer.write(WELCOME)
            request = await next_request(reader, FrameReader(1 << 20))
            assert request.payload == b"x"
            writer.write(data[len(WELCOME) :])
        else:
            writer.write(data)
        await writer.drain()
        await reader.read()

    async def test() -> None:
        async with fake_server(script) as port:
            client = EdgeClient("127.0.0.1", port, FINGERPRINT)

            async def talk() -> None:
                await client.connect()
                await client.ask(b"x")

            with pytest.raises(LinkError) as found:
                await talk()
            if behaviour.startswith("arrays"):
                assert "the answer is damaged" in str(found.value)
            else:
                assert found.value.is_final
            with pytest.raises((ProtocolError, RefusedError)):
                await client.ask(b"y")
            assert "\x1b" not in str(found.value)
            await client.close()

    run(test)


def test_a_server_that_stalls_is_noticed() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(WELCOME)
        frames = FrameReader(1 << 20)
        request = await next_request(reader, frames)
        if connections == 1:
            await reader.read()  # to the end, without an answer
            return
        writer.write(AnswerFrame(request.id, 0, 0, ARRAYS).frame())
        await next_request(reader, frames)

    async def test() -> None:
        async with (
            fake_server(script) as port,
            EdgeClient("127.0.0.1", port, FINGERPRINT, ping_s=0.02, stall_s=0.1) as client,
        ):
            reply = await client.ask(b"x")
            assert reply.arrays["a"].shape == (2,)
        assert connections == 2

    run(test)


def test_requests_are_never_sent_on_after_goodbye() -> None:
    taken: list[list[bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append([])
        writer.write(WELCOME)
        frames = FrameReader(1 << 20)
        while True:
            request = await next_request(reader, frames)
            taken[-1].append(request.payload)
            if len(taken) == 1:  # goodbye, and never an end of its own accord
                writer.write(goodbye_frame() + ErrorFrame(request.id, Code.SHUTTING_DOWN, "bye").frame())
                await reader.read()
                return
            writer.write(AnswerFrame(request.id, 0, 0, ARRAYS).frame())

    async def test() -> None:
        async with fake_server(script) as port, EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
            await client.ask(b"x")
            await client.ask(b"y")
        assert taken == [[b"x"], [b"x", b"y"]]

    run(test)


def test_blocking_clients() -> None:
    async def test() -> None:
        async with server_of(Reverse()) as server:

            def talk() -> None:
                with BlockingEdgeClient(EdgeClient("127.0.0.1", server.port, FINGERPRINT)) as client:
                    check(client.ask(b"abc", deadline_ms=20_000, rate=1), b"abc")
                    for n, future in enumerate([client.submit(bytes([n])) for n in range(100)]):
                        check(future.result(), bytes([n]))
                    with pytest.raises(LinkError, match="damaged"):
                        client.ask(b"damaged")
                    assert client.link.is_connected
                with (
                    pytest.raises(RefusedError),
                    BlockingEdgeClient(EdgeClient("127.0.0.1", server.port, "cd" * 32)),
                ):
                    raise AssertionError("it must not be entered")

            await asyncio.to_thread(talk)
        gc.collect()

    run(test)


def test_clients_need_numpy_alone() -> None:
    code = "import sys; from splitlearn.runtime import BlockingEdgeClient, EdgeClient; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "splitlearn.runtime.client" in done.stdout.split()
    assert not set(done.stdout.split()) & {"torch", "lightning", "onnxruntime", "numba", "jsonargparse", "scipy"}
