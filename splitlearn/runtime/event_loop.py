"""Event loops that end on a stop signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from splitlearn.processes import STOPS, Stopped

T = TypeVar("T")


def run_until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop and return its result; SIGINT and SIGTERM cancel it and raise `Stopped`.

    The exception of `splitlearn.processes.stoppable` would reach asyncio's own callbacks, which take it for an error of
    a connection.
    """

    async def run() -> T:
        loop, told = asyncio.get_running_loop(), list[int]()
        task = asyncio.ensure_future(work)

        def stop(signum: int) -> None:
            told.append(signum)
            task.cancel()

        before = {signum: signal.getsignal(signum) for signum in STOPS}
        for signum in STOPS:
            loop.add_signal_handler(signum, stop, signum)
        try:
            return await task
        except asyncio.CancelledError:
            if told:
                raise Stopped(told[0]) from None
            raise
        finally:
            for signum, handler in before.items():
                loop.remove_signal_handler(signum)
                signal.signal(signum, handler)

    return asyncio.run(run())
