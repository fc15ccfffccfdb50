"""The server: batches, bounds, deadlines, and an end that answers what it holds. Real sockets, small edges."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splitlearn.codecs import CodecError
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.asks import Reply
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import (
    BusyError,
    Code,
    DamagedPayloadError,
    DeadlineError,
    EdgeError,
    UnreachableError,
)
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.protocol import (
    AnswerFrame,
    ErrorFrame,
    Kind,
    Request,
    Type,
    goodbye_frame,
    number_frame,
    read_arrays,
    read_number,
    with_checksum,
)
from splitlearn.runtime.server import EdgeServer
from tests.runtime.edges import FINGERPRINT, InLoopReverse, RawPeer, Reverse, check, run, server_of


@pytest.mark.parametrize("edge_class", [Reverse, InLoopReverse])
def test_many_clients_get_their_own_answers(edge_class: type[Reverse]) -> None:
    async def test() -> None:
        edge = edge_class()
        async with server_of(edge, limits=Limits(in_flight=8)) as server:

            async def talk(name: int) -> None:
                async with EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
                    payloads = [bytes([name, n]) * (1 + 97 * n) for n in range(40)]
                    for reply, payload in zip(await asyncio.gather(*map(client.ask, payloads)), payloads, strict=True):
                        check(reply, payload)

            await asyncio.gather(*map(talk, range(5)))
        assert sum(edge.batches) == 200
        assert server.statistics.requests["answered", 255, "payload"] == 200
        assert sum(server.statistics.batch_sizes.counts) == len(edge.batches)
        assert server.batcher.held_bytes == 0
        assert server.statistics.connections == 0

    run(test)


def test_what_waits_is_one_batch_over_all_connections() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with (
            server_of(edge, max_batch=4) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as one,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as two,
        ):
            first = asyncio.ensure_future(one.ask(b"first"))
            await edge.is_entered()
            others = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(3) for client in (one, two)]
            while server.batcher.held_bytes < 5 + 6:
                await asyncio.sleep(0.01)
            edge.gate.set()
            await asyncio.gather(first, *others)
        assert edge.batches == [1, 4, 2]

    run(test)


def test_the_first_waits_for_more() -> None:
    async def test() -> None:
        edge = Reverse()
        async with (
            server_of(edge, max_batch=2, max_wait_ms=60_000) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            alone = asyncio.ensure_future(client.ask(b"a"))
            while not server.batcher.held_bytes:
                await asyncio.sleep(0.01)
            assert edge.batches == []
            await asyncio.gather(alone, client.ask(b"b"))
            assert edge.batches == [2]
            last = asyncio.ensure_future(client.ask(b"c"))
            while not server.batcher.held_bytes:
                await asyncio.sleep(0.01)
            await server.stop()  # waits for no more
            check(await last, b"c")
        assert edge.batches == [2, 1]

    run(test)


def test_a_short_wait_ends() -> None:
    async def test() -> None:
        async with (
            server_of(Reverse(), max_wait_ms=1) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            check(await client.ask(b"alone"), b"alone")

    run(test)


def test_one_bad_payload_spoils_no_other() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            first = asyncio.ensure_future(client.ask(b"first"))
            await edge.is_entered()
            payloads = [b"good", b"damaged", b"boom", b"fine"]
            asked = [asyncio.ensure_future(client.ask(payload)) for payload in payloads]
            await asyncio.sleep(0)
            edge.gate.set()
            found = await asyncio.gather(first, *asked, return_exceptions=True)
            check_all = {0: b"first", 1: b"good", 4: b"fine"}
            for index, payload in check_all.items():
                reply = found[index]
                assert isinstance(reply, Reply)
                check(reply, payload)
            assert type(found[2]) is DamagedPayloadError
            assert str(found[2]) == "damaged payload: checksum"
            assert type(found[3]) is EdgeError
            assert "secret" not in str(found[3])

    run(test)


def test_a_full_queue_is_busy_and_recovers() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with (
            server_of(edge, max_batch=1, limits=Limits(queue=2)) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            first = asyncio.ensure_future(client.ask(b"first"))
            await edge.is_entered()
            others = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(5)]
            while sum(one.done() for one in others) < 3:
                await asyncio.sleep(0.01)
            edge.gate.set()
            found = await asyncio.gather(first, *others, return_exceptions=True)
            assert [type(one) for one in found] == [Reply] * 3 + [BusyError] * 3
            check(await client.ask(b"again"), b"again")

    run(test)


def test_held_bytes_are_bounded() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with (
            server_of(edge, limits=Limits(frame_bytes=1000, held_bytes=1000)) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            first = asyncio.ensure_future(client.ask(b"x" * 600))
            await edge.is_entered()
            second = asyncio.ensure_future(client.ask(b"y" * 600))
            while server.batcher.held_bytes < 1200:
                await asyncio.sleep(0.01)
            with pytest.raises(BusyError):
                await client.ask(b"more")
            edge.gate.set()
            await asyncio.gather(first, second)
            check(await client.ask(b"more"), b"more")

    run(test)


def test_a_deadline_is_kept_while_the_edge_is_busy() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server, RawPeer(server.port) as peer:
            await peer.hello(Request(1, b"first").frame())
            await edge.is_entered()
            peer.writer.write(Request(2, b"late", deadline_ms=30).frame() + Request(3, b"sooner", 10).frame())
            peer.writer.write(Request(4, b"patient", 60_000).frame())
            errors = [ErrorFrame.read((await peer.frame())[1]) for _ in range(2)]  # the edge is closed still
            assert {(error.id, error.code) for error in errors} == {
                (2, Code.DEADLINE_PASSED),
                (3, Code.DEADLINE_PASSED),
            }
            edge.gate.set()
            assert [AnswerFrame.read((await peer.frame())[1]).id for _ in range(2)] == [1, 4]
        assert edge.batches == [1, 1]

    run(test)


def test_the_clients_deadline_ends_its_wait_and_nothing_else() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            with pytest.raises(DeadlineError, match="no answer within 20 ms"):
                await client.ask(b"late", deadline_ms=20)
            edge.gate.set()
            check(await client.ask(b"next", deadline_ms=20_000), b"next")  # the late answer came and was nobody's
            assert client.link.in_flight == 0

    run(test)


def test_requests_in_flight_are_bounded() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge, limits=Limits(in_flight=2)) as server, RawPeer(server.port) as peer:
            await peer.hello(*(Request(n, b"x").frame() for n in range(4)))
            for n in (2, 3):
                error = ErrorFrame.read((await peer.frame())[1])
                assert (error.id, error.code) == (n, Code.TOO_MANY_IN_FLIGHT)
            edge.gate.set()
            assert {AnswerFrame.read((await peer.frame())[1]).id for _ in range(2)} == {0, 1}

    run(test)


def test_pings_and_kinds() -> None:
    async def test() -> None:
        async with server_of(Reverse()) as server, RawPeer(server.port) as peer:
            await peer.hello(number_frame(Type.PING, 7), Request(1, with_checksum(b"JPEG"), kind=Kind.PICTURE).frame())
            kind, body = await peer.frame()
            assert (kind, read_number(body)) == (Type.PONG, 7)
            assert ErrorFrame.read((await peer.frame())[1])[:2] == (1, Code.KIND_NOT_SERVED)
            peer.writer.write(Request(2, b"", kind=77).frame())
            assert ErrorFrame.read((await peer.frame())[1])[:2] == (2, Code.KIND_NOT_SERVED)
            counts = server.statistics.requests
            assert counts == {("kind_not_served", 255, kind): 1 for kind in ("picture", "other")}

    run(test)


@pytest.mark.parametrize("goodbye", [True, False], ids=["goodbye", "half-close"])
def test_a_client_that_leaves_gets_what_is_in_flight(goodbye: bool) -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server, RawPeer(server.port) as peer:
            await peer.hello(*(Request(n, bytes([n])).frame() for n in range(3)))
            await edge.is_entered()
            if goodbye:
                peer.writer.write(goodbye_frame())
            else:
                peer.writer.write_eof()
            await asyncio.sleep(0.05)
            edge.gate.set()
            frames = await peer.all_frames()
            answers = [AnswerFrame.read(body) for kind, body in frames if kind == Type.ANSWER]
            assert [(a.id, read_arrays(a.arrays)["reversed"].tolist()) for a in answers] == [(n, [n]) for n in range(3)]

    run(test)


def test_a_graceful_stop_answers_what_is_held() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with (
            server_of(edge, max_batch=2) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT, patience_s=0.3) as client,
            RawPeer(server.port) as other,
        ):
            await other.hello()
            asked = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(5)]
            await edge.is_entered()
            while server.batcher.held_bytes < 5:
                await asyncio.sleep(0.01)
            stop = asyncio.ensure_future(server.stop())
            assert (await other.frame())[0] == Type.GOODBYE
            edge.gate.set()
            for n, reply in enumerate(await asyncio.gather(*asked)):
                check(reply, bytes([n]))
            port = server.port
            await stop
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            with pytest.raises(UnreachableError, match=r"no answer from 127.0.0.1:\d+ within 0.3 s"):
                await client.ask(b"after")
        assert sum(edge.batches) == 5

    run(test)


def test_requests_after_goodbye_are_refused() -> None:
    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with server_of(edge) as server, RawPeer(server.port) as peer:
            await peer.hello(Request(1, b"held").frame())
            await edge.is_entered()
            stop = asyncio.ensure_future(server.stop())
            assert (await peer.frame())[0] == Type.GOODBYE
            peer.writer.write(Request(2, b"too late").frame())
            assert ErrorFrame.read((await peer.frame())[1])[:2] == (2, Code.SHUTTING_DOWN)
            edge.gate.set()
            assert AnswerFrame.read((await peer.frame())[1]).id == 1
            assert await peer.all_frames() == []
            await stop

    run(test)


def test_an_address_that_cannot_be_used_is_one_sentence() -> None:
    async def test() -> None:
        async with server_of(Reverse()) as server:
            with pytest.raises(OSError, match=rf"cannot listen at 127.0.0.1, port {server.port}: another process"):
                await EdgeServer(Reverse(), "127.0.0.1", server.port).start()
        with pytest.raises(OSError, match=r"cannot listen at no.such.host.invalid, port 1: "):
            await EdgeServer(Reverse(), "no.such.host.invalid", 1).start()

    run(test)


@pytest.mark.parametrize(("name", "value"), [("frame_bytes", 0), ("queue", -1), ("in_flight", 2**32), ("idle_s", 1e-9)])
def test_limits_that_make_no_sense(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        replace(Limits(), **{name: value})


def test_a_frame_is_no_larger_than_what_is_held() -> None:
    with pytest.raises(ValueError, match="frame_bytes, 11, is more than held_bytes, 10"):
        Limits(frame_bytes=11, held_bytes=10)
    assert Limits(frame_bytes=10, held_bytes=10).frame_bytes == 10


class Complex(Reverse):
    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        return [{"z": np.zeros(1, np.complex128)} for _ in payloads]


class Forgetful(Reverse):
    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        return super().answer(payloads[1:])


@pytest.mark.parametrize(("edge_class", "name"), [(Complex, "ValueError"), (Forgetful, "RuntimeError")])
def test_answers_that_cannot_be_sent_are_errors(edge_class: type[Edge], name: str) -> None:
    async def test() -> None:
        async with server_of(edge_class()) as server, EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            with pytest.raises(EdgeError, match=f"the edge failed on this payload: {name}"):
                await client.ask(b"x")

    run(test)


def test_arguments_that_make_no_sense() -> None:
    for arguments in ({"max_batch": 0}, {"max_wait_ms": -1}, {"max_wait_ms": float("nan")}):
        with pytest.raises(ValueError, match="max_batch is at least 1 and max_wait_ms 0 or more"):
            server_of(Reverse(), **arguments)
    with pytest.raises(ValueError, match="a port is a number from 0 to 65535, not 70000"):
        EdgeServer(Reverse(), "127.0.0.1", 70_000)


def test_a_peer_that_vanishes_takes_no_answer_of_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_eof(transport: object) -> None:
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.write_eof", write_eof)

    async def test() -> None:
        edge = Reverse()
        edge.gate.clear()
        async with (
            server_of(edge) as server,
            RawPeer(server.port) as leaving,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            await leaving.hello(Request(1, b"last words").frame(), goodbye_frame())
            await edge.is_entered()
            asked = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(3)]
            edge.gate.set()
            for n, reply in enumerate(await asyncio.gather(*asked)):
                check(reply, bytes([n]))

    run(test)
