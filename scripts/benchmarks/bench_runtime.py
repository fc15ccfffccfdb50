"""Time of the link itself: an edge server without a network to run, against a plain echo of the same bytes.

Round trips, one request at a time: asyncio's simplest echo server, then `EdgeServer` with an edge that answers at once,
in its event loop and in its thread, with TLS and without. The client is the same simple one for all, frames made
beforehand; `EdgeClient` comes beside it. Requests a second: several connections that each keep some requests in flight.
Batching: an edge whose batch takes the same time whatever its size, and the tail of a package, with batches of 16 and
of 1, 16 clients. Memory: the server's after the first 10,000 requests and after a million. Servers run in processes of
their own; rounds take turns. Launch on an idle machine:

    scripts/benchmarks/bench_runtime [--package DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from scripts.benchmarks.served import answer_questions, served
from splitlearn.codecs import CodecError
from splitlearn.files import write_json
from splitlearn.runtime import Answer, Device, Edge, EdgeClient, EdgeServer, OnnxEdge
from splitlearn.runtime.frames import FrameReader
from splitlearn.runtime.protocol import AnswerFrame, Hello, Request, Type, write_arrays
from splitlearn.runtime.security import client_context, server_context
from splitlearn.runtime.workers import InLoop, Worker

FINGERPRINT = "5a" * 32
ANSWER: Answer = {"top": np.arange(5, dtype=np.int64), "scores": np.zeros(5, np.float32)}
BATCH_S = 0.005  # of an edge whose batch takes the same time whatever its size


class NullEdge(Edge):
    """Answers at once, with the top five classes of nothing; in the server's thread."""

    fingerprint = FINGERPRINT

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the same for each payload."""
        return [ANSWER] * len(payloads)


class NullEdgeInLoop(NullEdge):
    """The same in the server's event loop."""

    def worker(self) -> Worker:
        """Return a worker without a thread."""
        return InLoop(self)


class SteadyEdge(NullEdge):
    """Takes the same time for a batch, whatever its size."""

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Wait, as for a device that computes, and answer."""
        time.sleep(BATCH_S)
        return super().answer(payloads)


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._transport.write(data)


async def serve_echo(pipe: Connection, tls: Path | None) -> None:
    """Serve the echo and tell its port."""
    context = None if tls is None else server_context(tls / "cert.pem", tls / "key.pem")
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=context)
    await answer_questions(pipe, server.sockets[0].getsockname()[1])


async def serve_edge(edge: Callable[[], Edge], max_batch: int, pipe: Connection, tls: Path | None) -> None:
    """Serve an edge and tell its port."""
    context = None if tls is None else server_context(tls / "cert.pem", tls / "key.pem")
    async with EdgeServer(edge(), "127.0.0.1", 0, ssl_context=context, max_batch=max_batch) as server:
        await answer_questions(pipe, server.port)


class Asker(asyncio.Protocol):
    """The simplest client: sends bytes, and counts the bytes that come back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self._missing = 0
        self._done: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Count."""
        self._missing -= len(data)
        if self._missing <= 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def ask(self, data: bytes, answer_bytes: int) -> None:
        """Send bytes, and wait for so many."""
        self._done = asyncio.get_running_loop().create_future()
        self._missing += answer_bytes
        self.transport.write(data)
        await self._done


def hello_and_welcome() -> tuple[bytes, int]:
    """Return a HELLO and the length of its WELCOME."""
    return Hello(bytes.fromhex(FINGERPRINT)).frame(), 51


async def round_trips(port: int, tls: ssl.SSLContext | None, is_edge: bool, size: int, count: int) -> list[float]:
    """Return milliseconds of round trips, one after another."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    _, asker = await loop.create_connection(Asker, "127.0.0.1", port, **options)
    request, answer_bytes = bytes(size), size
    if is_edge:
        await asker.ask(*hello_and_welcome())
        request = Request(1, bytes(size)).frame()
        answer_bytes = len(AnswerFrame(1, 0, 0, write_arrays(ANSWER)).frame())
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await asker.ask(request, answer_bytes)
        times.append(1e3 * (time.perf_counter() - start))
    asker.transport.close()
    return times[count // 10 :]


async def round_trips_of_client(port: int, tls: ssl.SSLContext | None, size: int, count: int) -> list[float]:
    """Return milliseconds of round trips of an `EdgeClient`, one after another."""
    times = []
    async with EdgeClient("127.0.0.1", port, FINGERPRINT, ssl_context=tls) as client:
        for _ in range(count):
            start = time.perf_counter()
            await client.ask(bytes(size))
            times.append(1e3 * (time.perf_counter() - start))
    return times[count // 10 :]


class Pipeline(asyncio.Protocol):
    """Keeps requests in flight on one connection until so many are answered."""

    def __init__(self, payload: bytes, count: int, in_flight: int, fingerprint: str = FINGERPRINT) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._hello = Hello(bytes.fromhex(fingerprint)).frame()
        self._request = Request(0, payload).frame()
        self._left, self._unsent, self._in_flight = count, count, in_flight
        self._reader = FrameReader(1 << 20)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Send one more request for each answer."""
        more = 0
        for kind, _ in self._reader.feed(data):
            more += self._in_flight if kind == Type.WELCOME else 1
            self._left -= kind == Type.ANSWER
        more = min(more, self._unsent)
        head, tail = self._request[:5], self._request[13:]
        frames = [head + (self._unsent - n).to_bytes(8, "little") + tail for n in range(more)]
        self._unsent -= more
        self._transport.write(b"".join(frames))
        if not self._left and not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def requests_per_second(
    port: int,
    tls: ssl.SSLContext | None,
    payload: bytes,
    count: int,
    clients: int,
    in_flight: int,
    fingerprint: str = FINGERPRINT,
) -> float:
    """Return requests a second over several connections."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    start = time.perf_counter()
    pipelines = [
        (
            await loop.create_connection(
                lambda: Pipeline(payload, count // clients, in_flight, fingerprint), "127.0.0.1", port, **options
            )
        )[1]
        for _ in range(clients)
    ]
    await asyncio.gather(*(pipeline.done for pipeline in pipelines))
    return count // clients * clients / (time.perf_counter() - start)


def make_certificate(folder: Path) -> None:
    """Write a certificate of 127.0.0.1, signed by itself."""
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=bench",
    ]
    files = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(folder / "key.pem"),
        "-out",
        str(folder / "cert.pem"),
    ]
    subprocess.run([*words, *files], check=True, capture_output=True)


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99."""
    cuts = quantiles(times, n=100)
    return {"p50_ms": median(times), "p95_ms": cuts[94], "p99_ms": cuts[98]}


def bench_round_trips(folder: Path, size: int, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return percentiles of round trips of each server, with TLS and without, of the round with the least median."""
    servers: Mapping[str, Any] = {
        "echo": serve_echo,
        "edge in the loop": partial(serve_edge, NullEdgeInLoop, 16),
        "edge in a thread": partial(serve_edge, NullEdge, 16),
    }
    found: dict[str, list[list[float]]] = {}
    for tls in (None, folder):
        context = None if tls is None else client_context(folder / "cert.pem")
        suffix = "" if tls is None else ", TLS"
        for _ in range(rounds):
            for name, serve in servers.items():
                with served(serve, tls) as server:
                    trips = partial(round_trips, server.port, context, serve is not serve_echo, size, count)
                    found.setdefault(name + suffix, []).append(asyncio.run(trips()))
                    if serve is not serve_echo:
                        trips = partial(round_trips_of_client, server.port, context, size, count)
                        found.setdefault(f"{name}, EdgeClient{suffix}", []).append(asyncio.run(trips()))
    return {name: percentiles(min(each, key=median)) for name, each in found.items()}


def bench_throughput(folder: Path, size: int, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return requests a second of each null edge, and by each second of the server's processor time."""
    rows: dict[str, dict[str, float]] = {}
    for tls in (None, folder):
        context = None if tls is None else client_context(folder / "cert.pem")
        for name, edge in (("edge in the loop", NullEdgeInLoop), ("edge in a thread", NullEdge)):
            with served(partial(serve_edge, edge, 16), tls) as server:
                for _ in range(rounds):
                    before = server.cpu_s()
                    rate = asyncio.run(requests_per_second(server.port, context, bytes(size), count, 8, 8))
                    row = {"per_second": rate, "per_cpu_second": count / (server.cpu_s() - before)}
                    key = name + ("" if tls is None else ", TLS")
                    rows[key] = max(row, rows.get(key, row), key=lambda each: each["per_second"])
    return rows


def bench_batching(edge: Callable[[], Edge], payload: bytes, fingerprint: str, rounds: int) -> dict[str, float]:
    """Return requests a second of 16 clients with one request in flight each, by the largest batch."""
    rates: dict[str, float] = {}
    for _ in range(rounds):
        for max_batch in (1, 16):
            with served(partial(serve_edge, edge, max_batch), None) as server:
                asyncio.run(requests_per_second(server.port, None, payload, 64, 16, 1, fingerprint))  # warm
                rate = asyncio.run(requests_per_second(server.port, None, payload, 1024, 16, 1, fingerprint))
                rates[str(max_batch)] = max(rate, rates.get(str(max_batch), 0.0))
    return rates


def bench_memory(size: int, count: int) -> dict[str, float]:
    """Return the server's resident MiB after the first 10,000 requests of 16 clients, and after all."""
    first = min(10_000, count // 2)
    with served(partial(serve_edge, NullEdge, 16), None) as server:
        asyncio.run(requests_per_second(server.port, None, bytes(size), first, 16, 8))
        found = {"requests": float(count), "first_mib": server.resident_mib()}
        rate = asyncio.run(requests_per_second(server.port, None, bytes(size), count - first, 16, 8))
        return found | {"last_mib": server.resident_mib(), "per_second": rate}


def payload_of(package: Path) -> tuple[bytes, str]:
    """Return a payload of a package, of noise, and its fingerprint."""
    device = Device(package)
    channels, height, width = device.package.image_shape
    made = device.compress(np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8))
    if not isinstance(made, bytes):
        raise SystemExit("the package answers noise at an exit: name one without exits")
    return made, device.package.fingerprint


def main() -> None:
    """Measure, print the tables, leave a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=5000, help="bytes of a payload; default: %(default)s")
    parser.add_argument("--count", type=int, default=5000, help="requests of a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=1_000_000, help="requests of the memory test; default: %(default)s")
    parser.add_argument("--package", type=Path, help="package whose tail is served in batches too")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_runtime/results.json"))
    options = parser.parse_args()
    sent = None if options.package is None else payload_of(options.package)
    from splitlearn.tasks import run_record  # here: servers need no Lightning

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_certificate(folder)
        trips = bench_round_trips(folder, options.size, options.count, options.rounds)
        rates = bench_throughput(folder, options.size, options.count, options.rounds)
    batching = {"steady edge": bench_batching(SteadyEdge, bytes(options.size), FINGERPRINT, options.rounds)}
    if sent is not None:
        batching["package"] = bench_batching(partial(OnnxEdge, options.package), *sent, options.rounds)
    memory = bench_memory(options.size, options.soak)
    found = {"round_trips": trips, "throughput": rates, "batching_per_second": batching, "memory": memory}
    settings = {"size": options.size, "count": options.count, "rounds": options.rounds}
    write_json(options.out, {**run_record(), "load_average": load, **settings, **found})
    table = Table(
        "server", "p50 ms", "p95 ms", "p99 ms", "of the echo's p50", title=f"round trips, {options.size} bytes"
    )
    for row, values in trips.items():
        ratio = values["p50_ms"] / trips["echo, TLS" if row.endswith("TLS") else "echo"]["p50_ms"]
        table.add_row(row, *(f"{value:.3f}" for value in values.values()), f"{ratio:.2f}")
    console = Console(width=110)
    console.print(table)
    table = Table("server", "requests a second", "for each second of the server's processor")
    for row, values in rates.items():
        table.add_row(row, *(f"{value:,.0f}" for value in values.values()))
    console.print(table)
    for name, each in batching.items():
        ratio = each["16"] / each["1"]
        print(f"{name}: {each['16']:,.0f} requests a second in batches of 16, {each['1']:,.0f} of 1; {ratio:.1f} times")
    first, last = memory["first_mib"], memory["last_mib"]
    print(f"server after 10,000 requests: {first:,.0f} MiB, after {options.soak:,}: {last:,.0f} MiB")
    print(f"{options.out} written")
