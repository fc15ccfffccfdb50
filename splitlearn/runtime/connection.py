"""Connection of one client to the server: handshake, requests, limits, and an end without lost answers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable
from typing import Protocol, cast

from splitlearn.runtime.batching import Batcher
from splitlearn.runtime.errors import Code, FrameError
from splitlearn.runtime.frames import FrameReader
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.protocol import (
    HELLO_BYTES,
    NO_ID,
    VERSION,
    ErrorFrame,
    Hello,
    Kind,
    Request,
    Type,
    Welcome,
    goodbye_frame,
    number_frame,
    read_number,
)
from splitlearn.runtime.statistics import Statistics
from splitlearn.runtime.streams import ServerStream

KINDS = frozenset(map(int, Kind))
LINGER_S = 1.0  # for the peer to read the last frame; a socket closed over unread bytes would take it back


class Host(Protocol):
    """A server, as its connections need it."""

    limits: Limits
    statistics: Statistics
    batcher: Batcher
    fingerprint: bytes
    token: str | None
    is_stopping: bool
    connections: set[Connection]

    def forget(self, connection: Connection) -> None:
        """Remove a lost connection."""


class Connection(asyncio.Protocol):
    """Connection of one client; called only in the event loop.

    Attributes:
        stream: whose frames the client sends.
    """

    def __init__(self, host: Host) -> None:
        self.is_gone = False  # nobody reads answers any more
        self.was_made = False
        self.stream = ServerStream()
        self._has_stream = False  # counted among those of all connections
        self._host = host
        self._limits = host.limits
        self._reader = FrameReader(min(HELLO_BYTES, host.limits.frame_bytes))
        self._handlers: dict[int, Callable[[bytes], None]] = {Type.HELLO: self._on_hello}
        self._in_flight: set[int] = set()
        self._outgoing: list[bytes] = []
        self._held = 0  # bytes of an unfinished frame, as the batcher knows them
        self._is_welcome = False
        self._is_leaving = False  # one side has said goodbye
        self._since = time.monotonic()  # when the peer last did what was its turn
        self._paused_since = float("inf")
        self._written = 0  # bytes given to the transport
        self._drained = 0  # of these, bytes that it no longer held at the last look
        self._closed_since = float("inf")
        self._has_sent_all = False  # end of stream

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the wait for the HELLO frame."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_bytes)
        self.was_made = True
        self._since = time.monotonic()
        self._host.connections.add(self)
        if self._host.is_stopping:
            self._end(Code.SHUTTING_DOWN, "the server is shutting down")

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the requests of the client."""
        self.is_gone = True
        self._drop_unfinished()
        self._host.statistics.streams -= self._has_stream
        self.stream = ServerStream()
        self._host.forget(self)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        self._host.statistics.received_bytes += len(data)
        if self._is_over():
            return
        try:
            for kind, body in self._reader.feed(data):
                self._since = time.monotonic()
                if kind not in self._handlers:
                    raise FrameError(Code.BAD_FRAME, f"a frame of type {kind}, which is not expected here")
                self._handlers[kind](body)
                if self._is_over():
                    return
            self._count_unfinished()
        except FrameError as error:
            self._end(error.code, str(error))
        self.flush()
        self._host.batcher.dispatch()

    def eof_received(self) -> bool:
        """Keep the connection open for pending answers if the client has only ended its stream; not possible in TLS."""
        self._is_leaving = self._has_sent_all = True
        is_plain = self._transport.get_extra_info("sslcontext") is None
        return bool(self._in_flight) and is_plain and not self.is_gone

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its answers."""
        self._paused_since = time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Continue reading, and let the requests that wait for it be answered."""
        self._since = time.monotonic()
        self._paused_since = float("inf")
        self._transport.resume_reading()
        self._host.batcher.dispatch()

    @property
    def is_slow(self) -> bool:
        """Return whether more answers are unread than `Limits.write_bytes`, so that further requests wait."""
        return self._paused_since < float("inf")

    # what batcher and server call

    def finish(self, number: int, frame: bytes) -> None:
        """Store the frame of the answer or error to a request; `flush` sends it."""
        self._in_flight.discard(number)
        self._since = time.monotonic()
        self._outgoing.append(frame)

    def flush(self) -> None:
        """Send the stored frames."""
        if self.is_gone or self._transport.is_closing():
            self._outgoing.clear()
            return
        if self._outgoing:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self._host.statistics.sent_bytes += len(data)
            self._written += len(data)
            self._transport.write(data)
        if self._is_leaving and not self._in_flight:
            self._close()

    def say_goodbye(self) -> None:
        """Send GOODBYE, and close the connection when all pending requests are answered."""
        if self.is_gone:
            return
        if not self._is_welcome:
            self._end(Code.SHUTTING_DOWN, "the server is shutting down")
            return
        self._outgoing.append(goodbye_frame())
        self._is_leaving = True
        self.flush()

    def check(self, now: float) -> None:
        """End the connection if the client is too slow: no HELLO, no complete frame, or no answer read.

        Args:
            now: time in seconds of the monotonic clock.
        """
        limits = self._limits
        drained = self._written - self._transport.get_write_buffer_size()
        if drained > self._drained and self._paused_since < float("inf"):
            self._paused_since = now  # it reads, if slowly
        self._drained = max(drained, self._drained)
        if now - min(self._paused_since, self._closed_since) > limits.idle_s:
            self._drop("unread_answers")
        elif self.is_gone or self.is_slow:  # who is not read from cannot send a frame
            pass
        elif not self._is_welcome:
            if now - self._since > limits.handshake_s:
                self._end(Code.TOO_SLOW, f"no HELLO within {limits.handshake_s:g} s")
        elif (self._held or not self._in_flight) and now - self._since > limits.idle_s:
            self._end(Code.TOO_SLOW, f"no whole frame within {limits.idle_s:g} s")

    # frames

    def _on_hello(self, body: bytes) -> None:
        host, hello = self._host, Hello.read(body)
        if hello.version != VERSION:
            raise FrameError(
                Code.OTHER_VERSION, f"the server speaks version {VERSION} of the protocol, the client {hello.version}"
            )
        if host.token is not None and not hmac.compare_digest(hello.token.encode(), host.token.encode()):
            raise FrameError(Code.WRONG_TOKEN, "the server knows another token" if hello.token else "a token is needed")
        if hello.fingerprint != host.fingerprint:
            raise FrameError(
                Code.FOREIGN_FINGERPRINT,
                f"the server has package {host.fingerprint.hex()[:12]}…, the client {hello.fingerprint.hex()[:12]}…: "
                "give both the same package",
            )
        limits = self._limits
        idle_ms = max(1, int(1e3 * limits.idle_s))
        self._outgoing.append(Welcome(host.fingerprint, limits.frame_bytes, limits.in_flight, idle_ms).frame())
        self._is_welcome = True
        self._reader.most_bytes = limits.frame_bytes
        self._handlers = {
            Type.REQUEST: self._on_request,
            Type.PING: self._on_ping,
            Type.PONG: self._on_pong,
            Type.GOODBYE: self._on_goodbye,
        }

    def _on_request(self, body: bytes) -> None:
        request, limits = Request.read(body), self._limits
        if request.id in self._in_flight:
            raise FrameError(Code.DUPLICATE_ID, f"id {request.id} is in flight already")
        if self._host.is_stopping:
            self._refuse(request, Code.SHUTTING_DOWN, "the server is shutting down")
        elif request.kind not in KINDS:
            self._refuse(request, Code.KIND_NOT_SERVED, f"requests of kind {request.kind} are not served here")
        elif len(self._in_flight) >= limits.in_flight:
            self._refuse(request, Code.TOO_MANY_IN_FLIGHT, f"{limits.in_flight} requests are in flight, no more fit")
        elif not self._host.batcher.has_room():
            self._refuse(request, Code.BUSY, "the server is busy")
        elif request.kind == Kind.FRAME and not self._takes_stream():
            self._refuse(request, Code.BUSY, f"the server takes frames of {limits.streams} streams, no more fit")
        else:
            self._in_flight.add(request.id)
            self._host.batcher.add(self, request)

    def _takes_stream(self) -> bool:
        """Return whether frames of a stream may come on this connection, and count it with the first."""
        statistics = self._host.statistics
        if not self._has_stream and statistics.streams < self._limits.streams:
            self._has_stream = True
            statistics.streams += 1
        return self._has_stream

    def _on_ping(self, body: bytes) -> None:
        self._outgoing.append(number_frame(Type.PONG, read_number(body)))

    def _on_pong(self, body: bytes) -> None:
        read_number(body)

    def _on_goodbye(self, body: bytes) -> None:
        if body:
            raise FrameError(Code.BAD_FRAME, "a GOODBYE is empty")
        self._is_leaving = True
        del self._handlers[Type.GOODBYE], self._handlers[Type.REQUEST]

    def _refuse(self, request: Request, code: Code, sentence: str) -> None:
        self._host.statistics.add_request(code.name.lower(), request.rate, request.kind)
        self._outgoing.append(ErrorFrame(request.id, code, sentence).frame())

    # ends

    def _is_over(self) -> bool:
        return self.is_gone

    def _end(self, code: Code, sentence: str) -> None:
        """Send an ERROR frame with the reason and close; further bytes are ignored."""
        self._host.statistics.ended[code.name.lower()] += 1
        self._outgoing.append(ErrorFrame(NO_ID, code, sentence).frame())
        self._is_leaving = True
        self._in_flight.clear()
        self.flush()

    def _close(self) -> None:
        """Close the connection when the client has read everything, or after a second."""
        self.is_gone = True
        self._closed_since = time.monotonic()
        self._drop_unfinished()
        if self._transport.can_write_eof() and not self._has_sent_all and not self._transport.is_closing():
            with contextlib.suppress(OSError):  # the peer has gone between
                self._transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)
        else:
            self._transport.close()

    def _drop(self, why: str) -> None:
        self._host.statistics.ended[why] += 1
        self.is_gone = True
        self._drop_unfinished()
        self._transport.abort()

    def _count_unfinished(self) -> None:
        """Report the bytes of an unfinished frame to the batcher; raise FrameError if all together exceed the limit."""
        held, batcher = self._reader.held_bytes, self._host.batcher
        if held and not self._held:
            self._since = time.monotonic()
        batcher.held_bytes += held - self._held
        grown, self._held = held > self._held, held
        if grown and batcher.held_bytes > self._limits.held_bytes:
            raise FrameError(Code.BUSY, "the server holds as much as it can")

    def _drop_unfinished(self) -> None:
        self._host.batcher.held_bytes -= self._held
        self._held = 0
        self._reader = FrameReader(HELLO_BYTES)
