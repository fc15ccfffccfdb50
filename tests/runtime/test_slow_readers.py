"""Clients that read slowly, or nothing: others are not delayed, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from splitlearn.codecs import CodecError
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.protocol import (
    Hello,
    Request,
    Type,
    goodbye_frame,
    number_frame,
)
from tests.runtime.edges import FINGERPRINT, RawPeer, Reverse, run, server_of


class Large(Reverse):
    """Answers with a megabyte."""

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        super().answer(payloads)
        return [{"size": np.zeros(1 << 20, np.uint8)} for _ in payloads]


def test_a_client_that_reads_slowly_gets_all_its_answers_and_delays_no_other() -> None:
    async def test() -> None:
        edge = Large()
        async with (
            server_of(edge, max_batch=4, limits=Limits(idle_s=0.5)) as server,
            RawPeer(server.port) as slow,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            slow.writer.write(Hello(bytes.fromhex(FINGERPRINT)).frame())
            slow.writer.write(b"".join(Request(n, b"x").frame() for n in range(40)))
            while not any(connection.is_slow for connection in server.connections):
                await asyncio.sleep(0.01)
            computed = sum(edge.batches)
            assert computed < 40
            assert (await client.ask(b"other")).arrays["size"].size == 1 << 20
            assert sum(edge.batches) <= computed + 1 + 4
            read = asyncio.ensure_future(slow.all_frames())
            for n in range(30):  # 40 MB take longer than the idle time
                slow.writer.write(number_frame(Type.PING, n))
                slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(0.005)
                slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(0.05)
            slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
            slow.writer.write(goodbye_frame())
            kinds = [kind for kind, _ in await read if kind != Type.PONG]
            assert kinds == [Type.WELCOME] + [Type.ANSWER] * 40
            assert not server.statistics.ended["unread_answers"]

    run(test)


def test_a_client_that_reads_nothing_is_dropped_and_its_requests_are_not_computed() -> None:
    async def test() -> None:
        edge = Large()
        async with server_of(edge, max_batch=4, limits=Limits(idle_s=0.2)) as server, RawPeer(server.port) as slow:
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            slow.writer.write(Hello(bytes.fromhex(FINGERPRINT)).frame())
            slow.writer.write(b"".join(Request(n, b"x").frame() for n in range(60)))
            while not server.statistics.ended["unread_answers"]:
                await asyncio.sleep(0.01)
            assert sum(edge.batches) < 60
            while server.batcher.held_bytes:
                server.batcher.dispatch()
                await asyncio.sleep(0.01)

    run(test)
