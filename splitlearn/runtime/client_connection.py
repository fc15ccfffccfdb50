"""One connection of a client: handshake, frames and pings."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Protocol, cast

from splitlearn.runtime.errors import (
    Code,
    FrameError,
    LinkError,
    ProtocolError,
    RefusedError,
    UnreachableError,
    error_of,
)
from splitlearn.runtime.frames import FrameReader
from splitlearn.runtime.link import LinkMeter
from splitlearn.runtime.protocol import (
    HELLO_BYTES,
    NO_ID,
    VERSION,
    AnswerFrame,
    ErrorFrame,
    Hello,
    Type,
    Welcome,
    goodbye_frame,
    number_frame,
    read_number,
)


class Owner(Protocol):
    """A client, as its connection needs it."""

    meter: LinkMeter
    hello: Hello
    frame_bytes: int

    @property
    def was_welcome(self) -> bool:
        """Return whether a server has welcomed it before."""

    def on_answer(self, answer: AnswerFrame) -> None:
        """Accept an answer; raise FrameError if it belongs to no request."""

    def on_error(self, error: ErrorFrame) -> None:
        """Accept the error of a request; raise FrameError if it belongs to no request."""

    def pump(self) -> None:
        """Send all waiting requests that the server accepts now."""


class ClientConnection(asyncio.Protocol):
    """Connection to one server; called only in the client's event loop.

    Attributes:
        welcome: future of the WELCOME frame; an exception if the handshake fails.
        lost: future of the reason why the connection ended.
        is_open: whether requests may be sent: after WELCOME and before any GOODBYE.
        is_full: whether the transport's buffer is full.
        heard: time of the last received bytes, in seconds of the monotonic clock.
    """

    def __init__(self, owner: Owner) -> None:
        loop = asyncio.get_running_loop()
        self.welcome: asyncio.Future[Welcome] = loop.create_future()
        self.lost: asyncio.Future[LinkError] = loop.create_future()
        self.is_open = False
        self.is_full = False
        self.heard = time.monotonic()
        self._owner = owner
        self._reader = FrameReader(HELLO_BYTES)
        self._reason: LinkError | None = None
        self._pings: dict[int, float] = {}  # when those were sent that are not answered
        self._pinged = 0
        self._pongs: list[bytes] = []
        self._handlers: dict[int, Callable[[bytes], None]] = {
            Type.WELCOME: self._on_welcome,
            Type.ERROR: self._on_error,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the HELLO frame."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._owner.hello.frame())

    def connection_lost(self, exc: Exception | None) -> None:
        """Set `welcome` and `lost` to the reason."""
        self.is_open = False
        reason = self._reason or reason_of(exc)
        if not self.welcome.done():
            if self._reason is None and exc is None:  # asyncio's servers close without saying why
                reason = self._closed_at_once()
            self.welcome.set_exception(reason)
            self.welcome.exception()  # seen
        if not self.lost.done():
            self.lost.set_result(reason)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the server."""
        self.heard = time.monotonic()
        self._owner.meter.received_bytes += len(data)
        if self._is_over():
            return
        try:
            for kind, body in self._reader.feed(data):
                if kind not in self._handlers:
                    raise FrameError(Code.BAD_FRAME, f"a frame of type {kind}, which is not expected here")
                self._handlers[kind](body)
                if self._is_over():
                    return
        except FrameError as error:
            what = "breaks the protocol" if self.welcome.done() else "is no edge server, or speaks TLS (--tls true)"
            self.give_up(ProtocolError(f"the peer {what}: {error}", error.code))
            return
        if self._pongs:
            self._transport.write(b"".join(self._pongs))
            self._pongs.clear()
        self._owner.pump()

    def pause_writing(self) -> None:
        """Stop sending requests while the transport's buffer is full."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Continue sending requests."""
        self.is_full = False
        self._owner.pump()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._transport.write(frame)

    def ping(self) -> None:
        """Send a PING, which measures the round trip and keeps the server from closing an idle connection."""
        self._pinged += 1
        self._pings[self._pinged] = time.monotonic()
        self._transport.write(number_frame(Type.PING, self._pinged))

    def leave(self) -> None:
        """Send GOODBYE and close the connection."""
        if not self._transport.is_closing():
            if self.welcome.done() and self._reason is None:
                self._transport.write(goodbye_frame())
            self.is_open = False
            self._transport.close()

    def give_up(self, reason: LinkError) -> None:
        """Close the connection immediately, for this reason."""
        self._reason = self._reason or reason
        self.is_open = False
        self._transport.abort()

    def _closed_at_once(self) -> LinkError:
        """Return why a server may close before its WELCOME; final if this client was never welcome."""
        if self._transport.get_extra_info("sslcontext") is None:
            return UnreachableError("the server closes without a word: perhaps it speaks TLS (--tls true, --tls_ca)")
        cause = RefusedError if not self._owner.was_welcome else UnreachableError
        return cause("the server closes after the TLS handshake: it refuses this client's certificate, or wants one")

    def _is_over(self) -> bool:
        return self._reason is not None

    def _on_welcome(self, body: bytes) -> None:
        welcome, hello = Welcome.read(body), self._owner.hello
        if welcome.version != VERSION:
            raise FrameError(Code.OTHER_VERSION, f"it speaks version {welcome.version}, this client {VERSION}")
        if welcome.fingerprint != hello.fingerprint:
            sentence = (
                f"the server has package {welcome.fingerprint.hex()[:12]}…, this is {hello.fingerprint.hex()[:12]}…: "
                "give both the same package"
            )
            self.give_up(RefusedError(sentence, Code.FOREIGN_FINGERPRINT))
            return
        self._reader.most_bytes = self._owner.frame_bytes
        self._handlers = {
            Type.ANSWER: lambda body: self._owner.on_answer(AnswerFrame.read(body)),
            Type.ERROR: self._on_error,
            Type.PING: self._on_ping,
            Type.PONG: self._on_pong,
            Type.GOODBYE: self._on_goodbye,
        }
        self.is_open = True
        self.welcome.set_result(welcome)

    def _on_error(self, body: bytes) -> None:
        error = ErrorFrame.read(body)
        if error.id == NO_ID:
            self.give_up(error_of(error.code, error.sentence or "the server has ended the connection"))
        elif not self.welcome.done():
            raise FrameError(Code.BAD_FRAME, "an ERROR to a request before WELCOME")
        else:
            self._owner.on_error(error)

    def _on_ping(self, body: bytes) -> None:
        if self.is_full:  # a peer that asks and does not read
            raise FrameError(Code.BAD_FRAME, "PINGs, while nothing is read")
        self._pongs.append(number_frame(Type.PONG, read_number(body)))

    def _on_pong(self, body: bytes) -> None:
        sent = self._pings.pop(read_number(body), None)
        if sent is None:
            raise FrameError(Code.BAD_FRAME, "a PONG to no PING")
        self._owner.meter.add_ping(time.monotonic() - sent)

    def _on_goodbye(self, body: bytes) -> None:
        if body:
            raise FrameError(Code.BAD_FRAME, "a GOODBYE is empty")
        self.is_open = False


def reason_of(error: BaseException | None) -> LinkError:
    """Return the LinkError of a connection that failed or was lost; final if another attempt would fail too."""
    if isinstance(error, LinkError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"the server's certificate is not accepted: {error.verify_message}")
    passing = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    if isinstance(error, ssl.SSLError) and not isinstance(error, passing):
        return RefusedError(f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}")
    if isinstance(error, TimeoutError):
        return UnreachableError("no answer from the server")
    return UnreachableError(str(error) if error is not None and str(error) else "the server has closed the connection")
