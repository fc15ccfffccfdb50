"""The emulated link: bytes come out whole and in order, traces are followed, and nothing is left running."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.benchmarks import bench_policies
from scripts.benchmarks.bench_policies import scores
from scripts.benchmarks.kernel_link import KernelLink
from scripts.benchmarks.link_emulation import EmulatedLink, Trace, _Direction
from scripts.benchmarks.make_traces import FOLDER, TRACES, main
from splitlearn.runtime.sent import Sent

ROOT = Path(__file__).parents[3]
Steps = list[tuple[float, float]]


@contextmanager
def echo() -> Iterator[int]:
    """A server that sends everything back and then ends the stream, for any number of connections."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    def accept() -> None:
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def echoed(port: int, data: bytes) -> bytes:
    """Send data, the end of the stream too, and return what comes back until the peer's end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:

        def write() -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        writing = threading.Thread(target=write)
        writing.start()
        found = bytearray()
        while part := connection.recv(1 << 16):
            found += part
        writing.join()
    return bytes(found)


@pytest.mark.parametrize(("bits", "loss"), [(80e6, 0.0), (40e6, 0.02)])
def test_bytes_come_whole_and_in_order(bits: float, loss: float) -> None:
    data = random.Random(0).randbytes(300_000)  # more than a direction holds
    with echo() as port, EmulatedLink("127.0.0.1", port, bits, 0.004, loss, down=1.0) as link:
        assert echoed(link.port, data) == data
        assert echoed(link.port, b"") == b""
        found: dict[int, bytes] = {}
        parts = [data[n * 20_000 : (n + 1) * 20_000] for n in range(3)]
        threads = [
            threading.Thread(target=lambda n=n: found.update({n: echoed(link.port, parts[n])})) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == dict(enumerate(parts))


def test_packets_leave_one_after_the_other(tmp_path: Path) -> None:
    """In seconds of the link's own clock: 1,000 bits a second, behind the trace's first packet."""
    path = tmp_path / "trace.csv"
    path.write_text("seconds,bits_per_second\n0,1000\n")
    way = _Direction(Trace.read(path), time.monotonic(), 1.0, 0.25, 0.0, 0)
    times = [way._arrival(bytes(size)) for size in (85, 460, 1460)]
    assert times[0] >= 1.25
    assert np.diff(times) == pytest.approx([4, 12])
    wide = _Direction(Trace.read(path), time.monotonic(), 10.0, 0.25, 0.0, 0)
    assert np.diff([wide._arrival(bytes(460)) for _ in range(3)]) == pytest.approx([0.4, 0.4])
    lossy = _Direction(Trace.read(path), time.monotonic(), 1.0, 0.25, 1.0, 0)
    assert lossy._arrival(bytes(85)) >= 2.25  # two round trips later


def test_a_machine_without_tc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="--tc is not permitted here: there is no ip command"):
        bench_policies.main(["--tc", "--data", "nowhere"])


def test_a_machine_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(words: list[str], check: bool = False, **_: object) -> None:
        if check:
            raise subprocess.CalledProcessError(1, words, stderr="Operation not permitted\n")

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", refuse)
    assert re.fullmatch("ip netns add splitlearn[0-9]+ says Operation not permitted", KernelLink.refusal() or "")


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with EmulatedLink("127.0.0.1", port, 1e6) as link:
        assert echoed(link.port, b"") == b""


def test_a_link_ends_with_its_parent() -> None:
    code = (
        "import sys; from scripts.benchmarks.link_emulation import EmulatedLink\n"
        "link = EmulatedLink('127.0.0.1', 9, 1e6).__enter__()\n"
        "print(link._process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    for _ in range(300):
        if not is_alive(pid):
            return
        time.sleep(0.1)
    pytest.fail("the link still runs")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@given(
    rates=st.lists(st.floats(1e3, 1e6), min_size=1, max_size=5),
    start=st.floats(0, 6),
    size=st.integers(1, 5000),
)
@settings(max_examples=50, deadline=None)
def test_crossing_agrees_with_small_steps(rates: list[float], start: float, size: int) -> None:
    steps = [(float(second), rate) for second, rate in enumerate(rates)]
    bits, now, tick = 8.0 * size, start, 1e-3
    while bits > 0:
        rate = rates[min(int(now + 1e-9), len(rates) - 1)]
        bits -= rate * tick
        now += tick
    assert Trace(steps).crossed(start, size) == pytest.approx(now, abs=4 * tick)


@pytest.mark.parametrize("steps", [[], [(1.0, 5.0)], [(0.0, 5.0), (0.0, 6.0)], [(0.0, 0.0)]])
def test_traces_that_make_no_sense(steps: Steps) -> None:
    with pytest.raises(ValueError, match="a trace has times that rise from 0, and rates above 0"):
        Trace(steps)


def test_shipped_traces_are_those_of_the_script(tmp_path: Path) -> None:
    main(["--out", str(tmp_path)])
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.iterdir()}
    for name in TRACES:
        trace = Trace.read(FOLDER / f"{name}.csv")
        assert trace.steps[-1][0] < 60
        assert all(4e3 < bits < 200e3 for _, bits in trace.steps)


def test_scores_count_missed_images_as_wrong() -> None:
    answer = {"classes": [1], "scores": [0.9]}
    rows = [
        Sent("a", "answered", 30, answer=answer, rate=0),
        Sent("b", "answered", 200, answer=answer, rate=5),
        Sent("c", "failed", 30, rate=0),
        Sent("d", "failed"),
    ]
    found = scores(rows, {"a", "b", "c"}, dict.fromkeys("abcd", "cat"), ["dog", "cat"])
    assert (found["in_time"], found["feasible"], found["not_sent"]) == (2, 3, 1)
    assert found["feasible_met"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["accuracy_in_time"] == 1
    assert found["rates"] == {"0": 2, "5": 1}
