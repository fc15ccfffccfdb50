"""`EdgeClient` for programs without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

from splitlearn.runtime.asks import Reply
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.link import Link
from splitlearn.runtime.protocol import Kind

if TYPE_CHECKING:
    from splitlearn.runtime.device_stream import Frame

T = TypeVar("T")


class BlockingEdgeClient:
    """Runs an `EdgeClient` in a separate thread; may be called from any thread.

    ```python
    with BlockingEdgeClient(EdgeClient("10.0.0.5", 7878, fingerprint)) as client:
        reply = client.ask(payload)
        replies = [future.result() for future in [client.submit(payload) for payload in payloads]]
    ```

    Args:
        client: a client that is not yet connected.
    """

    def __init__(self, client: EdgeClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge client", daemon=True)
        self._thread.start()
        try:
            self._call(self._client.connect()).result()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._client.close()).result()
        self._stop()

    def submit(
        self, payload: bytes, *, deadline_ms: float | None = None, rate: int | None = None, kind: Kind = Kind.PAYLOAD
    ) -> Future[Reply]:
        """Send a payload and return a future of the answer; arguments and errors are those of `EdgeClient.ask`."""
        return self._call(self._client.ask(payload, deadline_ms=deadline_ms, rate=rate, kind=kind))

    def ask(
        self, payload: bytes, *, deadline_ms: float | None = None, rate: int | None = None, kind: Kind = Kind.PAYLOAD
    ) -> Reply:
        """Send a payload and return the answer; arguments and errors are those of `EdgeClient.ask`."""
        return self.submit(payload, deadline_ms=deadline_ms, rate=rate, kind=kind).result()

    def submit_frame(self, frame: Frame, *, deadline_ms: float | None = None) -> Future[Reply]:
        """Send a frame of a video and return a future of the answer; errors are those of `EdgeClient.ask_frame`."""
        return self._call(self._client.ask_frame(frame, deadline_ms=deadline_ms))

    def ask_frame(self, frame: Frame, *, deadline_ms: float | None = None) -> Reply:
        """Send a frame of a video and return the answer; arguments and errors are those of `EdgeClient.ask_frame`."""
        return self.submit_frame(frame, deadline_ms=deadline_ms).result()

    @property
    def link(self) -> Link:
        """Return the current state of the link."""
        return self._client.link

    def _call(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
