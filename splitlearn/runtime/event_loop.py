"""Event loops that end on a stop signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from splitlearn.processes import STOPS, WINDOWS, Stopped

T = TypeVar("T")


def on_stop_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[int], None]) -> None:
    """Call `stop` in an event loop with the number of each SIGINT and SIGTERM that comes.

    Loops of Windows take no handlers of signals; there, Python's own handler tells the loop.
    """
    for signum in STOPS:
        if WINDOWS:
            signal.signal(signum, lambda number, frame: loop.call_soon_threadsafe(stop, number))
        else:
            loop.add_signal_handler(signum, stop, signum)


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
        on_stop_signals(loop, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if told:
                raise Stopped(told[0]) from None
            raise
        finally:
            for signum, handler in before.items():
                if not WINDOWS:
                    loop.remove_signal_handler(signum)
                signal.signal(signum, handler)

    return asyncio.run(run())
