"""Edges in processes: batches run side by side, a process that dies loses nothing, and none is left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from splitlearn.codecs import CodecError
from splitlearn.runtime import edge_processes
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.edge_processes import EdgeProcesses, InProcesses
from splitlearn.runtime.errors import BuildError, EdgeError
from splitlearn.runtime.outcomes import Outcomes
from splitlearn.runtime.protocol import Request
from splitlearn.runtime.server import EdgeServer
from splitlearn.runtime.streams import Batch
from splitlearn.runtime.workers import Done
from tests.runtime.edges import FINGERPRINT, run

ROOT = Path(__file__).parents[2]


class Mortal(Edge):
    """Answers with its process's number; b"die" ends the process, b"once" only if FILE does not exist yet."""

    fingerprint = FINGERPRINT

    def __init__(self, file: str, number: int) -> None:
        self.file, self.number = Path(file), number

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        if b"die" in payloads or (b"once" in payloads and not self.file.exists()):
            self.file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"process": np.array([os.getpid(), self.number]), "size": np.array(len(p))} for p in payloads]


def mortal(number: int) -> Edge:
    return Mortal(os.environ["MORTAL"], number)


def test_a_process_that_dies_loses_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORTAL", str(tmp_path / "died"))

    async def test() -> None:
        async with (
            EdgeServer(EdgeProcesses(mortal, 2, FINGERPRINT), "127.0.0.1", 0, max_batch=1) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            replies = await asyncio.gather(*(client.ask(bytes(n)) for n in range(40)))
            assert [int(reply.arrays["size"]) for reply in replies] == list(range(40))
            assert len((await client.ask(b"once")).arrays["process"]) == 2
            with pytest.raises(EdgeError, match="ended twice on this batch"):
                await client.ask(b"die")
            assert (await client.ask(b"alive")).arrays["size"] == 5

    run(test)


def never(number: int) -> Edge:
    raise ValueError(f"no GPU {number}\nis free")


def second_never(number: int) -> Edge:
    """The second process waits until the first one has answered, then fails."""
    answered = Path(os.environ["MORTAL"])
    while number and not answered.exists():
        time.sleep(0.01)
    return never(number) if number else mortal(number)


def dies(number: int) -> Edge:
    os.kill(os.getpid(), signal.SIGKILL)
    return never(number)


def once(number: int) -> Edge:
    """Builds an edge only in the first process."""
    built = Path(os.environ["MORTAL"]).with_suffix(".built")
    if built.exists():
        return never(number)
    built.touch()
    return mortal(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "told"),
    [(never, "edge 0 could not be built: no GPU 0 is free"), (dies, "edge 0 could not be built: .* status -9")],
)
def test_an_edge_that_cannot_be_built_ends_the_server(make: Callable[[int], Edge], told: str) -> None:
    async def test() -> None:
        server = EdgeServer(EdgeProcesses(make, 1, FINGERPRINT), "127.0.0.1", 0)
        with pytest.raises(BuildError, match=told):
            await server.start()

    run(test)


@pytest.mark.slow
def test_a_second_edge_that_cannot_be_built_ends_the_server_after_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORTAL", str(tmp_path / "answered"))

    async def test() -> None:
        server = EdgeServer(EdgeProcesses(second_never, 2, FINGERPRINT), "127.0.0.1", 0)
        await server.start()
        async with EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            await client.ask(b"x")
            (tmp_path / "answered").touch()
            with pytest.raises(BuildError, match="edge 1 could not be built: no GPU 1 is free"):
                await server.wait()

    run(test)


@pytest.mark.slow
def test_requests_are_refused_and_the_server_ends_if_no_process_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORTAL", str(tmp_path / "died"))
    monkeypatch.setattr(edge_processes, "_PAUSE_S", 0.01)

    async def test() -> None:
        server = EdgeServer(EdgeProcesses(once, 1, FINGERPRINT), "127.0.0.1", 0, max_batch=1)
        await server.start()
        async with EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            asked = [asyncio.ensure_future(client.ask(payload)) for payload in (b"die", b"waits")]
            for found in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(found, EdgeError)
                assert "no process of the edge can be started" in str(found)
            with pytest.raises(BuildError, match="edge 0 could not be built: no GPU 0 is free"):
                await server.wait()

    run(test)


@pytest.mark.slow
def test_an_idle_process_that_dies_is_replaced_before_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORTAL", str(tmp_path / "died"))
    monkeypatch.setattr(edge_processes, "_PAUSE_S", 0.01)
    monkeypatch.setattr(edge_processes, "_LOOK_S", 0.01)

    async def test() -> None:
        async with (
            EdgeServer(EdgeProcesses(mortal, 1, FINGERPRINT), "127.0.0.1", 0) as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client,
        ):
            first = (await client.ask(b"who")).arrays["process"][0]
            os.kill(first, signal.SIGKILL)
            for expected in (0, 1):
                while server._worker.free != expected:
                    await asyncio.sleep(0.01)
            assert (await client.ask(b"who")).arrays["process"][0] != first

    run(test)


def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = InProcesses(mortal, 1)

    def refused(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(SpawnProcess, "start", refused)

    async def test() -> None:
        worker.start(asyncio.get_running_loop())
        with pytest.raises(BuildError, match="edge 0 could not be built: no more processes"):
            await worker.wait_ready()
        worker.stop()

    run(test)


def test_a_batch_that_is_tried_again_comes_first() -> None:
    worker, seen = InProcesses(mortal, 2), list[str]()
    one, two = worker._processes
    for process in (one, two):
        worker.add_idle(process, SimpleQueue())

    def done(name: str) -> Done:
        def act(outcomes: Outcomes, _: float) -> None:
            seen.append(name)
            if worker.free:
                worker.run(Batch([Request(0, b"later")]), done("later"))

        return act

    worker.run(Batch([Request(0, b"lost")]), done("lost"))
    worker.run(Batch([Request(0, b"other")]), done("other"))
    lost, other = one.jobs.get(), two.jobs.get()
    assert lost is not None
    assert other is not None
    worker.lost(one, one.jobs, lost)
    worker.finish(two, other, Outcomes([b""]), 0.0)
    again = two.jobs.get()
    assert again is not None
    assert (again.batch.requests, again.tries) == ([Request(0, b"lost")], 2)
    assert seen == ["other"]


@pytest.mark.slow
def test_no_process_is_left_when_the_server_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio\n"
        "from splitlearn.runtime.edge_processes import EdgeProcesses\n"
        "from splitlearn.runtime import EdgeClient, EdgeServer\n"
        "from tests.runtime.edges import FINGERPRINT\n"
        "from tests.runtime.test_edge_processes import mortal\n"
        "async def main():\n"
        "    async with EdgeServer(EdgeProcesses(mortal, 1, FINGERPRINT)) as server:\n"
        "        async with EdgeClient('127.0.0.1', server.port, FINGERPRINT) as client:\n"
        "            print((await client.ask(b'who')).arrays['process'][0], flush=True)\n"
        "            await asyncio.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    (tmp_path / "serve.py").write_text(program)
    environment = os.environ | {"MORTAL": str(tmp_path / "died"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, tmp_path / "serve.py"], stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        os.kill(child, 0)
        server.kill()
    for _ in range(600):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the edge's process outlives its server")


def test_a_number_of_processes_is_positive() -> None:
    with pytest.raises(ValueError, match="1 process or more, got 0"):
        EdgeProcesses(mortal, 0, FINGERPRINT)
