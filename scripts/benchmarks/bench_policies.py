"""Rate controllers on links that change: deadlines met and accuracy, beside fixed rates and an oracle.

A camera gives an image of CIFAR-10's test set every 100 ms; its answer has to be there 150 ms later. The device of
ResNet-20's bank of six rates is in this process, its edge server in one of its own, and an emulated link between them
(link_emulation.py) follows a bandwidth trace. Each policy sends the same images over the same minute:
    deadline    DeadlinePolicy, which knows nothing but its own traffic
    lowest      FixedRate, the smallest payloads
    highest     FixedRate, the best rate
    oracle      OraclePolicy: it knows the trace, what is in the queue, and how long device and edge take; it takes the
                best rate that is in time for this image, and leaves an image out that is in time at no rate
A deadline is feasible if the oracle has met it in its own run. Accuracy is over the images with feasible deadlines; one
that was missed counts as wrong, or is left out in the column of those in time. Other work on the machine counts against
all policies, the oracle too.

Goal: at least 99 % of feasible deadlines met, accuracy of those in time within one point of the oracle's.
    scripts/benchmarks/bench_policies --data FOLDER           with FOLDER/test/<class>/*.jpg
With --tc the kernel emulates the link, in a network namespace; that needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.table import Table

from scripts.benchmarks.edge_process import ROOT, EdgeProcess
from scripts.benchmarks.kernel_link import KernelLink
from scripts.benchmarks.link_emulation import EmulatedLink, Trace, on_wire
from scripts.benchmarks.make_traces import FOLDER, TRACES
from splitlearn.files import write_json
from splitlearn.runtime import DeadlinePolicy, Device, EdgeClient, FixedRate, OraclePolicy, RatePolicy
from splitlearn.runtime.decisions import Decision
from splitlearn.runtime.link import Link, wire_bytes
from splitlearn.runtime.pictures import Picture, pictures_of
from splitlearn.runtime.sending import Pace, send_pictures
from splitlearn.runtime.sent import ANSWERED, Journal, Sent
from splitlearn.tasks import run_record

CONFIG = "configs/datta2022/bank_resnet20_layer3.yaml"
SIZE_MARGIN = 1.3  # of the oracle: payloads are up to so much larger than their mean
SLACK_MS = 8.0  # of the oracle, for the machine
LEAD_S = 1.0  # of the trace before the first image, for the connection and its first ping
GOAL_MET, GOAL_ACCURACY = 0.99, 0.01


@dataclass(frozen=True)
class Setting:
    """What all policies have in common.

    Attributes:
        device: the device's half.
        edge: the server's process.
        pictures: to send, decoded.
        labels: class of each picture, by its name.
        interval_ms: between two images.
        deadline_ms: of each.
        round_trip_s: of the link.
        loss: of packets.
        own_ms: time of device and edge for an image.
    """

    device: Device
    edge: EdgeProcess
    pictures: Sequence[Picture]
    labels: Mapping[str, str]
    interval_ms: float
    deadline_ms: float
    round_trip_s: float
    loss: float
    own_ms: float


class Emulated(Protocol):
    """A link that follows a trace since `started`; its far end is the edge server."""

    @property
    def host(self) -> str:
        """Return where to connect to."""

    @property
    def port(self) -> int:
        """Return its port."""

    @property
    def started(self) -> float:
        """Return when the trace has begun, in seconds of `time.monotonic`."""


class TraceOracle(OraclePolicy):
    """The oracle of an emulated link: it keeps account of what is in the link's queue."""

    def __init__(self, setting: Setting, trace: Trace, started: float) -> None:
        super().__init__(setting.device.package.rates, answer_ms=self._own_answer_ms)
        self._setting, self._trace, self._started = setting, trace, started
        self._free_at = 0.0

    def choose(self, link: Link, left_ms: float) -> Decision:
        """Decide, and count the payload to the queue."""
        decision = super().choose(link, left_ms)
        if decision.rate is not None:
            self._free_at = self._crossed_at(self.rates[decision.rate].bytes_per_image or 0.0)
        return decision

    def _own_answer_ms(self, size: float) -> float:
        waits_s = self._crossed_at(SIZE_MARGIN * size) - self._now()
        return 1e3 * (waits_s + self._setting.round_trip_s) + SLACK_MS

    def _crossed_at(self, size: float) -> float:
        ready = self._now() + self._setting.own_ms / 1e3
        return self._trace.crossed(max(ready, self._free_at), wire_bytes(size))

    def _now(self) -> float:
        return time.monotonic() - self._started


Make = Callable[[Setting, Trace, float], RatePolicy]
POLICIES: dict[str, Make] = {
    "oracle": TraceOracle,
    "deadline": lambda setting, trace, started: DeadlinePolicy(setting.device.package.rates),
    "lowest": lambda setting, trace, started: FixedRate(setting.device.package.rates, rate=0),
    "highest": lambda setting, trace, started: FixedRate(setting.device.package.rates),
}


def sent_by(make: Make, setting: Setting, trace: Path, link: Emulated) -> list[Sent]:
    """Send all pictures over a link by a policy."""
    policy = make(setting, Trace.read(trace), link.started)
    pace = Pace(setting.deadline_ms, setting.interval_ms)

    async def send(journal: Journal) -> list[Sent]:
        fingerprint = setting.device.package.fingerprint
        async with EdgeClient(link.host, link.port, fingerprint) as client:
            await asyncio.sleep(max(0.0, link.started + LEAD_S - time.monotonic()))
            return await send_pictures(setting.device, client, setting.pictures, journal, policy, pace)

    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), {}) as journal:
        rows = asyncio.run(send(journal))
        return list(journal.rows([row.name for row in rows]))


def scores(rows: Sequence[Sent], feasible: set[str], labels: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one run."""
    in_time = [row for row in rows if row.outcome == ANSWERED]
    chosen = [row for row in in_time if row.name in feasible]
    right = sum(names[row.answer["classes"][0]] == labels[row.name] for row in chosen)
    counts = {rate: sum(row.rate == rate for row in rows) for rate in sorted({row.rate for row in rows} - {None})}  # type: ignore[type-var]
    return {
        "images": len(rows),
        "in_time": len(in_time),
        "feasible": len(feasible),
        "feasible_met": len(chosen) / max(1, len(feasible)),
        "accuracy": right / max(1, len(feasible)),
        "accuracy_in_time": right / max(1, len(chosen)),
        "bytes": float(np.mean([row.bytes for row in in_time])) if in_time else 0.0,
        "p95_ms": float(np.percentile([row.total_ms for row in in_time], 95)) if in_time else 0.0,
        "not_sent": sum(not row.bytes for row in rows),
        "rates": {str(rate): count for rate, count in counts.items()},
    }


def chosen_pictures(data: Path, count: int) -> tuple[list[Picture], dict[str, str]]:
    """Return decoded test images, drawn from a fixed seed, and the class of each."""
    folder = data / "test"
    drawn = random.Random(0).sample(pictures_of(folder), count)
    labels = {picture.name: picture.name.split("/")[0] for picture in drawn}
    return [Picture(picture.name, partial(picture.read().copy)) for picture in drawn], labels


def own_ms(device: Device, pictures: Sequence[Picture]) -> float:
    """Return the time of device and edge for an image; the edge's part is small, and taken for a quarter."""
    times = []
    for picture in pictures[:50]:
        image = device.prepare(picture.read())
        start = time.perf_counter()
        device.compress(image)
        times.append(1e3 * (time.perf_counter() - start))
    return 1.25 * float(np.percentile(times, 90))


def package_at(folder: Path, data: Path) -> Path:
    """Return the bank's package; it is written if it is absent."""
    if not folder.exists():
        words = ["package", "--config", CONFIG, "--data_root", str(data.resolve()), "--out", str(folder.resolve())]
        subprocess.run([sys.executable, "-m", "splitlearn", *words], cwd=ROOT, check=True)
    return folder


def measured_bits(bits: float, size: int = 20_000) -> float:
    """Return the throughput of an emulated link of so many bits a second, headers included, as a sender sees it."""
    with socket.create_server(("127.0.0.1", 0)) as sink:
        port = sink.getsockname()[1]
        threading.Thread(target=_swallow, args=(sink,), daemon=True).start()
        with (
            EmulatedLink("127.0.0.1", port, bits) as link,
            socket.create_connection(("127.0.0.1", link.port)) as sender,
        ):
            start = time.monotonic()
            sender.sendall(bytes(size))
            sender.shutdown(socket.SHUT_WR)
            sender.recv(1)
            return 8 * on_wire(size) / (time.monotonic() - start)


def _swallow(sink: socket.socket) -> None:
    connection, _ = sink.accept()
    with connection:
        while connection.recv(1 << 16):
            pass
        connection.sendall(b"!")


@contextmanager
def proxied(setting: Setting, trace: Path) -> Iterator[Emulated]:
    """A link by a proxy process."""
    edge = setting.edge
    with EmulatedLink(edge.host, edge.port, trace, setting.round_trip_s, setting.loss) as link:
        yield link


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all policies over all traces, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with test/<class>/*.jpg of CIFAR-10")
    parser.add_argument("--package", type=Path, default=Path("runs/bench_policies/package"))
    parser.add_argument("--traces", type=Path, nargs="+", default=[FOLDER / f"{name}.csv" for name in TRACES])
    parser.add_argument(
        "--policies", nargs="+", choices=POLICIES, default=list(POLICIES), help="the oracle always runs"
    )
    parser.add_argument("--images", type=int, default=590, help="default: %(default)s, a trace's minute")
    parser.add_argument("--interval-ms", type=float, default=100.0)
    parser.add_argument("--deadline-ms", type=float, default=150.0)
    parser.add_argument("--round-trip-ms", type=float, default=20.0)
    parser.add_argument("--loss", type=float, default=0.0, help="probability of a packet's loss")
    parser.add_argument("--tc", action="store_true", help="emulate the link by the kernel's tc")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    if options.tc and (refusal := KernelLink.refusal()):
        sys.exit(f"--tc is not permitted here: {refusal}")
    device = Device(package_at(options.package, options.data))
    device.warm_up()
    pictures, labels = chosen_pictures(options.data, options.images)
    bits = measured_bits(400e3)
    console.print(f"emulated link: 400 kbit/s set, {bits / 1e3:.0f} kbit/s measured")
    found: dict[str, dict[str, Any]] = {}
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        kernel = stack.enter_context(KernelLink()) if options.tc else None
        place: dict[str, Any] = {} if kernel is None else {"host": kernel.far_host, "prefix": kernel.prefix}
        edge = stack.enter_context(EdgeProcess(options.package, **place))
        setting = Setting(
            device, edge, pictures, labels, options.interval_ms, options.deadline_ms,
            options.round_trip_ms / 1e3, options.loss, own_ms(device, pictures),
        )  # fmt: skip
        for trace in options.traces:
            by: Callable[[], AbstractContextManager[Emulated]] = (
                partial(proxied, setting, trace)
                if kernel is None
                else partial(kernel.following, trace, edge.port, setting.round_trip_s, setting.loss)
            )
            found[trace.stem] = on_trace(setting, trace, by, options.policies, console)
    report(found, console)
    if options.out:
        settings = {
            "interval_ms": options.interval_ms, "deadline_ms": options.deadline_ms, "loss": options.loss,
            "round_trip_ms": options.round_trip_ms, "own_ms": setting.own_ms, "by": "tc" if options.tc else "proxy",
        }  # fmt: skip
        facts = {**run_record(), "load_average": load, "link_400_kbit_measured": bits, "settings": settings}
        write_json(options.out, {**facts, "traces": found})
        console.print(f"{options.out} written")


def on_trace(
    setting: Setting,
    trace: Path,
    by: Callable[[], AbstractContextManager[Emulated]],
    policies: Sequence[str],
    console: Console,
) -> dict[str, Any]:
    """Return the figures of all policies on one trace."""
    rows = {}
    for name in ["oracle", *(name for name in policies if name != "oracle")]:
        console.print(f"{trace.stem}: {name}")
        with by() as link:
            rows[name] = sent_by(POLICIES[name], setting, trace, link)
    feasible = {row.name for row in rows["oracle"] if row.outcome == ANSWERED}
    names = setting.device.package.class_names
    return {name: scores(each, feasible, setting.labels, names) for name, each in rows.items()}


def report(found: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Print the table, and whether the goal is reached."""
    table = Table(
        "trace", "policy", "feasible", "of these met", "accuracy", "of those in time", "bytes", "p95, ms", "not sent"
    )
    for trace, policies in found.items():
        for name, one in policies.items():
            table.add_row(
                trace, name, f"{one['feasible']} of {one['images']}", f"{100 * one['feasible_met']:.2f} %",
                f"{100 * one['accuracy']:.2f} %", f"{100 * one['accuracy_in_time']:.2f} %", f"{one['bytes']:.1f}",
                f"{one['p95_ms']:.1f}", str(one["not_sent"]),
            )  # fmt: skip
    console.print(table)
    for trace, policies in found.items():
        if "deadline" in policies:
            one, best = policies["deadline"], policies["oracle"]
            lost = best["accuracy_in_time"] - one["accuracy_in_time"]
            reached = one["feasible_met"] >= GOAL_MET and lost <= GOAL_ACCURACY
            told = f"{100 * one['feasible_met']:.2f} % met, {100 * lost:+.2f} points below the oracle"
            console.print(f"{trace}: {told}: goal {'reached' if reached else 'missed'}")
