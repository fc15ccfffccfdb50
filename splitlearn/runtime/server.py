"""The edge server, which accepts connections within its limits and stops without losing requests."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from typing import Self

from splitlearn.runtime.batching import Batcher
from splitlearn.runtime.connection import Connection
from splitlearn.runtime.errors import BuildError, Code
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.protocol import NO_ID, ErrorFrame
from splitlearn.runtime.statistics import Statistics
from splitlearn.runtime.workers import Backend

_BACKLOG = 128
_NO_DESCRIPTORS_S = 0.1  # wait of the next accept if the process has no file descriptors left


class EdgeServer:
    """Answers the payloads of several clients in batches over all connections.

    ```python
    async with EdgeServer(edge, "127.0.0.1", 7878) as server:
        await server.wait()
    ```

    Args:
        edge: an `Edge` that answers payloads, or `EdgeProcesses`.
        host: address to listen at.
        port: port to listen at; 0 for any free one.
        limits: limits for clients.
        ssl_context: TLS context with certificate and key; None for plain TCP.
        token: token that clients must send; None for no check.
        max_batch: largest number of requests in a batch.
        max_wait_ms: how long the first request of a batch waits for more, in milliseconds; with 0, a free worker
            immediately gets all waiting requests, up to `max_batch`.

    Attributes:
        host: address of the argument `host`.
        port: port that is used, after the start.
        statistics: counts since the start.

    Raises:
        ValueError: if `port`, `max_batch` or `max_wait_ms` is out of range.
    """

    def __init__(
        self,
        edge: Backend,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        limits: Limits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        token: str | None = None,
        max_batch: int = 16,
        max_wait_ms: float = 0.0,
    ) -> None:
        if max_batch < 1 or not 0 <= max_wait_ms < 1e6:
            raise ValueError(f"max_batch is at least 1 and max_wait_ms 0 or more, got {max_batch} and {max_wait_ms}")
        if not 0 <= port < 2**16:
            raise ValueError(f"a port is a number from 0 to 65535, not {port}")
        self.limits = limits or Limits()
        self.statistics = Statistics()
        self.fingerprint = bytes.fromhex(edge.fingerprint)
        self.token = token
        self.is_stopping = False
        self.connections: set[Connection] = set()
        self._worker = edge.worker()
        self.batcher = Batcher(self._worker, self.limits, self.statistics, max_batch, max_wait_ms)
        self.port = port
        self.host = host
        self._failure = ""
        self._ssl_context = ssl_context
        self._accepted = 0  # connections, those in the TLS handshake included
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_gone = asyncio.Event()
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: if the address cannot be used; the message is a sentence.
            BuildError: if an edge cannot be built in its process.
        """
        self._listener = _listen(self.host, self.port)
        self.port = int(self._listener.getsockname()[1])
        loop = asyncio.get_running_loop()
        self._worker.on_failure = self._fail
        self._worker.start(loop)
        try:
            await self._worker.wait_ready()
        except BaseException:
            self._listener.close()
            self._worker.stop()
            raise
        self._acceptor = loop.create_task(self._accept())
        self._keep(loop.create_task(self._watch()))

    async def stop(self) -> None:
        """Accept no more requests, answer those that wait, send GOODBYE and close all connections."""
        if not self.is_stopping:
            self.is_stopping = True
            self._acceptor.cancel()
            await asyncio.gather(self._acceptor, return_exceptions=True)
            self._listener.close()
            for connection in list(self.connections):
                connection.say_goodbye()
            self.batcher.hurry()
            if self._accepted:
                await self._all_gone.wait()
            for task in self._tasks:
                task.cancel()
            self._worker.stop()
            self._stopped.set()
        await self._stopped.wait()

    async def wait(self) -> None:
        """Wait until the server has stopped; raise BuildError if it had to because an edge could not be built."""
        await self._stopped.wait()
        if self._failure:
            raise BuildError(self._failure)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def forget(self, connection: Connection) -> None:
        """Remove a lost connection."""
        self.connections.discard(connection)
        self._leave()

    def _fail(self, sentence: str) -> None:
        """Stop because an edge cannot be built."""
        self._failure = sentence
        self._ending = asyncio.get_running_loop().create_task(self.stop())

    def _leave(self) -> None:
        self._accepted -= 1
        self.statistics.connections = self._accepted
        if self.is_stopping and not self._accepted:
            self._all_gone.set()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.is_stopping:
            try:
                peer, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    await asyncio.sleep(_NO_DESCRIPTORS_S)
                continue
            if self._accepted >= self.limits.connections:
                self._turn_away(peer)
                continue
            self._accepted += 1
            self.statistics.connections = self._accepted
            self._keep(loop.create_task(self._admit(peer)))

    async def _admit(self, peer: socket.socket) -> None:
        """Make a connection from a socket, after the TLS handshake if there is one."""
        connection = Connection(self)
        timeout = self.limits.handshake_s if self._ssl_context else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                peer,
                ssl=self._ssl_context,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=timeout,
            )
        except OSError:  # the handshake failed, timed out, or the peer went
            self.statistics.ended["handshake"] += 1
            if not connection.was_made:
                self._leave()

    def _turn_away(self, peer: socket.socket) -> None:
        self.statistics.ended["too_many_connections"] += 1
        with peer, contextlib.suppress(OSError):
            if not self._ssl_context:
                sentence = f"the server has {self.limits.connections} connections, no more fit"
                peer.send(ErrorFrame(NO_ID, Code.BUSY, sentence).frame())

    async def _watch(self) -> None:
        """Check all connections at intervals, to end those of clients that are too slow."""
        period = min(self.limits.idle_s, self.limits.handshake_s, 4.0) / 4
        while True:
            await asyncio.sleep(period)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check(now)

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Keep a reference to a task until it is done, since the event loop keeps only a weak one."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


TAKEN = "another process listens there; name another port, or 0 for a free one"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = TAKEN if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise OSError(f"cannot listen at {host}, port {port}: {reason}") from error
    listener.setblocking(False)
    return listener
