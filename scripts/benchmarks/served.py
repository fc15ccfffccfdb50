"""Servers in processes of their own, for benchmarks."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple


class Served(NamedTuple):
    """A server in a process of its own."""

    port: int
    cpu_s: Callable[[], float]  # processor time so far
    resident_mib: Callable[[], float]


async def answer_questions(pipe: Connection, port: int) -> None:
    """Tell the port, then the processor time whenever it is asked for."""
    pipe.send(port)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), asked.set)
    while True:
        await asked.wait()
        asked.clear()
        while pipe.poll():
            pipe.recv()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(usage.ru_utime + usage.ru_stime)


def _in_process(serve: Callable[[Connection, Path | None], Any], pipe: Connection, tls: Path | None) -> None:
    asyncio.run(serve(pipe, tls))


@contextmanager
def served(serve: Callable[[Connection, Path | None], Any], tls: Path | None) -> Any:
    """Yield a server in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_in_process, args=(serve, theirs, tls), daemon=True)
    process.start()
    theirs.close()  # or the end of a process that fails would never be seen here

    def cpu_s() -> float:
        ours.send(None)
        return float(ours.recv())

    def resident_mib() -> float:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    try:
        yield Served(ours.recv(), cpu_s, resident_mib)
    finally:
        process.kill()
        process.join()
