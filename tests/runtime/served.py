"""A server in a thread beside a test that blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from splitlearn.runtime import Edge, EdgeServer


@contextmanager
def served_in_thread(edge: Edge) -> Iterator[int]:
    """Yield the port of a server of this edge."""
    loop = asyncio.new_event_loop()
    server = EdgeServer(edge)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        yield server.port
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
