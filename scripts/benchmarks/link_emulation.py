"""A slow link on loopback: a proxy in a process of its own that delays bytes as a narrow link with a long way would.

What a packet meets, in each direction:
    rate    a token bucket one packet deep: packets leave one after the other at the rate of the trace at that time.
            Each packet of up to 1,460 bytes costs 40 bytes of headers more. All connections share a direction.
    delay   half the round trip, the same for all packets.
    loss    as TCP feels it, not as a gap: a lost packet comes a retransmission time later, and all bytes behind it in
            its connection wait for it. That time is two round trips, at least 200 ms, as on Linux with no packets
            behind it; fast retransmissions, smaller windows and the bytes sent twice are left out.
Bytes come whole and in order. A direction holds up to 256 KiB, then the sender is held back.
"""

from __future__ import annotations

import asyncio
import bisect
import csv
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

from splitlearn.processes import end_with
from splitlearn.runtime.link import HEADER_BYTES, PACKET_BYTES

ROOT = Path(__file__).resolve().parents[2]
HELD_BYTES = 256 << 10
LEAST_RETRANSMISSION_S = 0.2
_READ_BYTES = 16 * PACKET_BYTES


class Trace:
    """Bandwidth over time: from each time on, a rate; the last one stays.

    Args:
        steps: seconds since the start, rising from 0, and bits a second from then on.

    Raises:
        ValueError: if times do not rise from 0, or a rate is not positive.
    """

    def __init__(self, steps: Sequence[tuple[float, float]]) -> None:
        self.steps = list(steps)
        self._times = [seconds for seconds, _ in steps]
        rising = all(a < b for a, b in pairwise(self._times))
        if not steps or self._times[0] != 0 or not rising or not all(bits > 0 for _, bits in steps):
            raise ValueError("a trace has times that rise from 0, and rates above 0")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a CSV file with the columns seconds and bits_per_second."""
        with path.open(newline="") as file:
            return cls([(float(row["seconds"]), float(row["bits_per_second"])) for row in csv.DictReader(file)])

    def crossed(self, start_s: float, size: float) -> float:
        """Return when the last of so many bytes has left, in seconds since the trace's start.

        Args:
            start_s: when the first one can leave, likewise.
            size: in bytes, headers included.
        """
        bits, number = 8 * size, max(0, bisect.bisect_right(self._times, start_s) - 1)
        while number + 1 < len(self.steps):
            end, rate = self._times[number + 1], self.steps[number][1]
            if (room := (end - start_s) * rate) >= bits:
                break
            bits, start_s, number = bits - room, end, number + 1
        return start_s + bits / self.steps[number][1]


def on_wire(size: int) -> int:
    """Return bytes with headers."""
    return size + HEADER_BYTES * max(1, -(-size // PACKET_BYTES))


class EmulatedLink:
    """A proxy before a server, as a context; the device connects to it instead.

    Args:
        host: of the server.
        port: of the server.
        trace: CSV file of the uplink's bandwidth, or bits a second for a steady one.
        round_trip_s: added to every request and its answer together.
        loss: probability of each packet's loss.
        down: bandwidth of the downlink, as a multiple of the uplink's.
        seed: of the losses.

    Attributes:
        host: to connect to, 127.0.0.1.
        port: to connect to.
        started: when the trace has begun, in seconds of `time.monotonic`, which all processes of a machine share.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        host: str,
        port: int,
        trace: Path | float,
        round_trip_s: float = 0.0,
        loss: float = 0.0,
        down: float = 10.0,
        seed: int = 0,
    ) -> None:
        self._words = [host, str(port), str(trace), *map(str, (round_trip_s, loss, down, seed))]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "scripts.benchmarks.link_emulation", str(os.getpid()), *self._words]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        told = self._process.stdout.readline().split()
        if not told:
            self.__exit__()
            raise RuntimeError("the emulated link has not started: see what it says above")
        self.port, self.started = int(told[0]), float(told[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class _Direction:
    """Packets of all connections one way, one after the other."""

    def __init__(self, trace: Trace, started: float, scale: float, delay_s: float, loss: float, seed: int) -> None:
        self._trace, self._started, self._scale = trace, started, scale
        self._delay_s, self._loss = delay_s, loss
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._held = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection's bytes, and its end."""
        pipe: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(self._deliver(pipe, writer))
        last = 0.0
        try:
            while data := await reader.read(_READ_BYTES):
                for place in range(0, len(data), PACKET_BYTES):
                    packet = data[place : place + PACKET_BYTES]
                    last = max(last, self._arrival(packet))
                    self._held += len(packet)
                    pipe.put_nowait((last, packet))
                while self._held > HELD_BYTES and not delivering.done():
                    await asyncio.sleep(0.01)
        except OSError:
            pass
        pipe.put_nowait((last, b""))
        await delivering

    def _arrival(self, packet: bytes) -> float:
        now = time.monotonic() - self._started
        self._free_at = self._trace.crossed(max(now, self._free_at), on_wire(len(packet)) / self._scale)
        lost = self._random.random() < self._loss
        return self._free_at + self._delay_s + (max(LEAST_RETRANSMISSION_S, 4 * self._delay_s) if lost else 0.0)

    async def _deliver(self, pipe: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                due, packet = await pipe.get()
                await asyncio.sleep(max(0.0, self._started + due - time.monotonic()))
                self._held -= len(packet)
                if not packet:
                    break
                writer.write(packet)
                await writer.drain()
            writer.write_eof()
        except OSError:
            pass


async def _proxy(host: str, port: int, trace: Trace, round_trip_s: float, loss: float, down: float, seed: int) -> None:
    started = time.monotonic()
    up_way = _Direction(trace, started, 1.0, round_trip_s / 2, loss, seed)
    down_way = _Direction(trace, started, down, round_trip_s / 2, loss, seed + 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(up_way.carry(reader, other_writer), down_way.carry(other_reader, writer))
        for each in (writer, other_writer):
            each.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], started, flush=True)
    async with server:
        await server.serve_forever()


def _run(words: Sequence[str]) -> None:
    parent, host, port, trace, *numbers = words
    end_with(int(parent))
    round_trip_s, loss, down = map(float, numbers[:3])
    path = Path(trace)
    steps = Trace.read(path) if path.suffix == ".csv" else Trace([(0.0, float(trace))])
    asyncio.run(_proxy(host, int(port), steps, round_trip_s, loss, down, int(numbers[3])))


if __name__ == "__main__":
    _run(sys.argv[1:])
