"""An edge server of a package in a process of its own, for benchmarks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from splitlearn.processes import end_with
from splitlearn.runtime import EdgeServer, OnnxEdge

ROOT = Path(__file__).resolve().parents[2]


class EdgeProcess:
    """A server, as a context; it ends with this process.

    Args:
        package: folder of the package.
        host: address to listen at.
        prefix: words before the command, such as `ip netns exec NAME`.

    Attributes:
        host: that was given.
        port: that it listens at.
    """

    def __init__(self, package: Path, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self.host = host
        program = [sys.executable, "-m", "scripts.benchmarks.edge_process"]
        self._command = [*prefix, *program, str(os.getpid()), str(package.resolve()), host]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        if not told:
            self.__exit__()
            raise RuntimeError("the edge server has not started: see what it says above")
        self.port = int(told)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


async def _serve(package: Path, host: str) -> None:
    edge = OnnxEdge(package)
    edge.warm_up()
    async with EdgeServer(edge, host) as server:
        print(server.port, flush=True)
        await server.wait()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    asyncio.run(_serve(Path(sys.argv[2]), sys.argv[3]))
