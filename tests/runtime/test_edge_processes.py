"""Edges in processes: batches run side by side, a process that dies loses nothing, and none is left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from splitlearn.codecs import CodecError
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.edge_processes import EdgeProcesses
from splitlearn.runtime.errors import EdgeError
from splitlearn.runtime.server import EdgeServer
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
