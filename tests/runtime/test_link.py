"""What a client knows of its link, and forgets with the connection."""

from __future__ import annotations

import asyncio

import pytest

from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import UnreachableError
from splitlearn.runtime.frames import FrameReader
from splitlearn.runtime.link import LinkMeter
from splitlearn.runtime.protocol import Type, number_frame, read_number
from tests.runtime.edges import FINGERPRINT, run
from tests.runtime.test_client import WELCOME, fake_server


def test_throughput_is_what_lies_beyond_a_round_trip() -> None:
    meter = LinkMeter()
    meter.add_transfer(1000, 0, 0.3)
    assert meter.link(True, 0, 0).bytes_per_second is None  # no round trip is known
    meter.add_ping(0.1)
    meter.add_transfer(1000, meter.delivered_bytes, 0.1)
    assert meter.link(True, 0, 0).bytes_per_second is None  # too short to tell
    meter.add_transfer(5000, meter.delivered_bytes, 0.6)
    assert meter.link(True, 0, 0).bytes_per_second == pytest.approx(10_000)
    before = meter.delivered_bytes  # ten at once: each is answered after those before it
    for n in range(10):
        meter.add_transfer(5000, before, 0.1 + 0.5 * (n + 1))
    assert meter.link(True, 0, 0).bytes_per_second == pytest.approx(10_000)
    for _ in range(60):
        meter.add_transfer(5000, meter.delivered_bytes, 0.1 + 0.05)
    link = meter.link(True, 0, 0)
    assert link.bytes_per_second == pytest.approx(100_000, rel=0.01)
    assert link.least_round_trip_ms == pytest.approx(100)


def test_the_least_round_trip_is_that_of_recent_pings() -> None:
    meter = LinkMeter()
    meter.add_ping(0.1)
    for _ in range(20):
        meter.add_ping(0.2)
    assert meter.link(True, 0, 0).least_round_trip_ms == pytest.approx(100)
    for _ in range(20):
        meter.add_ping(0.2)
    assert meter.link(True, 0, 0).least_round_trip_ms == pytest.approx(200)
    assert meter.link(True, 0, 0).round_trip_ms == pytest.approx(200, rel=0.01)


def test_forgetting_leaves_no_estimate() -> None:
    meter = LinkMeter()
    meter.add_ping(0.1)
    meter.add_transfer(5000, 0, 0.6)
    meter.forget()
    link = meter.link(True, 0, 0)
    assert (link.round_trip_ms, link.jitter_ms, link.least_round_trip_ms, link.bytes_per_second) == (None,) * 4
    assert meter.delivered_bytes == 5000
    meter.add_ping(0.3)
    assert meter.link(True, 0, 0).least_round_trip_ms == pytest.approx(300)


def round_trip(client: EdgeClient) -> float | None:
    return client.link.round_trip_ms


def test_a_new_connection_begins_without_estimates() -> None:
    async def test() -> None:
        count, is_seen, ended = 0, asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            writer.write(WELCOME)
            if count > 1:  # the second connection answers no PING
                try:
                    await reader.read()  # to the end
                finally:
                    ended.set()
                return
            frames, pings = FrameReader(1 << 20), list[bytes]()
            while not pings:
                found = frames.feed(await reader.readexactly(1))
                pings += [body for kind, body in found if kind == Type.PING]
            writer.write(number_frame(Type.PONG, read_number(pings[0])))
            await is_seen.wait()

        async with fake_server(answer) as port:
            async with EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
                while round_trip(client) is None:
                    await asyncio.sleep(0.01)
                is_seen.set()
                while count < 2 or not client.link.is_connected:
                    await asyncio.sleep(0.01)
                assert round_trip(client) is None
                assert client.link.least_round_trip_ms is None
            await ended.wait()

    run(test)


def test_a_client_that_never_connected_closes() -> None:
    async def test() -> None:
        client = EdgeClient("127.0.0.1", 1, FINGERPRINT)
        await client.close()
        with pytest.raises(UnreachableError, match="the client is closed"):
            await client.ask(b"x")

    run(test)
