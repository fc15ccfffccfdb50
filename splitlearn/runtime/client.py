"""The device's side of the link: requests to an edge server, answered exactly once or failed exactly once."""

from __future__ import annotations

import asyncio
import math
import random
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from splitlearn.runtime.asks import Ask, FrameAsk, PayloadAsk, Reply
from splitlearn.runtime.client_connection import ClientConnection, reason_of
from splitlearn.runtime.errors import Code, DeadlineError, FrameError, LinkError, UnreachableError, error_of
from splitlearn.runtime.link import Link, LinkMeter
from splitlearn.runtime.protocol import (
    NO_RATE,
    AnswerFrame,
    ErrorFrame,
    Hello,
    Kind,
    Request,
    Welcome,
    read_arrays,
    with_checksum,
)

if TYPE_CHECKING:  # clients need no numba
    from splitlearn.runtime.device_stream import DeviceStream, Frame

FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 5.0
_LEAVE_S = 1.0  # for the last bytes
_REQUEST_BYTES = 15  # of a request's frame beside its payload, the type included


class EdgeClient:
    """Sends payloads to an edge server and gives back its answers; many may be asked for at once.

    A connection that breaks is made again, with growing random delays, and requests without an answer are sent again.

    ```python
    async with EdgeClient("10.0.0.5", 7878, fingerprint, token=token) as client:
        reply = await client.ask(payload, deadline_ms=100)
    ```

    Args:
        host: of the server.
        port: of the server.
        fingerprint: of the package, 64 hex digits; the server must have the same.
        token: that the server wants, if it does.
        ssl_context: for TLS; None for plain TCP.
        server_hostname: name in the server's certificate, if it is not `host`.
        patience_s: how long a request, or the first connection, may wait for a broken link.
        connect_s: how long one attempt to connect may take, and each side's part of the handshake.
        ping_s: seconds between two pings; less if the server's idle time asks for it.
        stall_s: seconds without any byte, a ping being out, after which a connection counts as broken.
        frame_bytes: largest answer.

    Raises:
        ValueError: if the fingerprint is not 64 hex digits, or the token is too long.
    """

    def __init__(
        self,
        host: str,
        port: int,
        fingerprint: str,
        *,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        patience_s: float = 30.0,
        connect_s: float = 5.0,
        ping_s: float = 5.0,
        stall_s: float = 20.0,
        frame_bytes: int = 64 << 20,
    ) -> None:
        self.hello = Hello(bytes.fromhex(fingerprint), token or "")
        if len(self.hello.fingerprint) != 32:
            raise ValueError(f"a fingerprint has 64 hex digits, this one {len(fingerprint)}")
        self.hello.frame()  # raises here if the token is too long
        self.frame_bytes = frame_bytes
        self.meter = LinkMeter()
        self._address = host, port
        self._ssl: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context}
        if ssl_context is not None and server_hostname is not None:
            self._ssl["server_hostname"] = server_hostname
        self._patience_s, self._connect_s = patience_s, connect_s
        self._ping_s, self._stall_s = ping_s, stall_s
        self._waiting: OrderedDict[int, Ask] = OrderedDict()
        self._in_flight: dict[int, Ask] = {}  # those too that nobody waits for any more
        self._next = 0
        self._stream: DeviceStream | None = None
        self._connection: ClientConnection | None = None
        self._welcome: Welcome | None = None
        self._failure: LinkError | None = None  # final
        self._last: LinkError = UnreachableError("no attempt has ended yet")
        self._delay_s = FIRST_DELAY_S
        self._run_task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect for the first time.

        Raises:
            RefusedError: if the server refuses this client, or its certificate is refused.
            ProtocolError: if the peer is no edge server.
            UnreachableError: if there is no connection within the patience.
        """
        self._run_task = asyncio.get_running_loop().create_task(self._run())
        try:
            await asyncio.wait_for(self._connected.wait(), self._patience_s)
        except TimeoutError:
            failure = self._out_of_patience()
            await self.close()
            raise failure from None
        except BaseException:
            await self.close()
            raise
        if self._failure is not None:
            raise self._failure.again()

    async def ask(
        self, payload: bytes, *, deadline_ms: float | None = None, rate: int | None = None, kind: Kind = Kind.PAYLOAD
    ) -> Reply:
        """Return the server's answer to a payload, or to an image file.

        Args:
            payload: as `Device.compress` makes it, or `Device.picture`.
            deadline_ms: from now; by default none.
            rate: of the payload in its bank, for the server's metrics.
            kind: `Kind.PICTURE` for an image file.

        Raises:
            LinkError: exactly one, of the class that says why there is no answer.
        """
        content = with_checksum(payload) if kind == Kind.PICTURE else payload
        make = partial(PayloadAsk, payload=content, rate=NO_RATE if rate is None else rate, kind=kind)
        return await self._asked(make, deadline_ms)

    async def ask_frame(self, frame: Frame, *, deadline_ms: float | None = None) -> Reply:
        """Return the server's answer to a frame of a video.

        Frames are coded when they are sent, in the order in which they are asked for. After a lost connection, and
        wherever the server lacks the frame before, a key frame is sent.

        Args:
            frame: as `DeviceStream.frame` makes it. A client sends the frames of one stream.
            deadline_ms: from now; by default none.

        Raises:
            ValueError: if the client sends another stream already.
            LinkError: as `ask`.
        """
        self._stream = self._stream or frame.stream
        if frame.stream is not self._stream:
            raise ValueError("a client sends the frames of one stream: make another EdgeClient for another video")
        make = partial(FrameAsk, payload=b"", rate=frame.stream.rate, kind=Kind.FRAME, content=frame)
        return await self._asked(make, deadline_ms)

    async def _asked(self, make: Callable[..., Ask], deadline_ms: float | None) -> Reply:
        """Return the reply to what `make` makes."""
        if self._failure is not None:
            raise self._failure.again()
        loop, now = asyncio.get_running_loop(), time.monotonic()
        expires = math.inf if deadline_ms is None else now + deadline_ms / 1e3
        ask = make(id=self._next, asked=now, expires=expires, reply=loop.create_future())
        self._next += 1
        if deadline_ms is not None:
            error = DeadlineError(f"no answer within {deadline_ms:g} ms", Code.DEADLINE_PASSED)
            ask.timers.append(loop.call_later(deadline_ms / 1e3, ask.fail, error))
        self._waiting[ask.id] = ask
        if not self._is_open():
            self._be_patient(ask)
        self.pump()
        try:
            return await ask.reply
        finally:
            self._waiting.pop(ask.id, None)
            for timer in ask.timers:
                timer.cancel()

    @property
    def link(self) -> Link:
        """Return what is known of the link now."""
        unanswered = sum(len(ask.payload) for asks in (self._waiting, self._in_flight) for ask in asks.values())
        oldest = min((ask.sent for ask in self._in_flight.values()), default=None)
        oldest_ms = 0.0 if oldest is None else 1e3 * (time.monotonic() - oldest)
        return self.meter.link(self._is_open(), len(self._waiting), len(self._in_flight), unanswered, oldest_ms)

    async def close(self) -> None:
        """Say goodbye; requests that are still out fail."""
        self._give_up(UnreachableError("the client is closed"))
        if (connection := self._connection) is not None:
            connection.leave()
            await asyncio.wait([connection.lost], timeout=_LEAVE_S)
            connection.give_up(self._failure or self._last)
        if self._run_task is not None:
            self._run_task.cancel()
            await asyncio.gather(self._run_task, return_exceptions=True)

    # what the connection calls

    @property
    def was_welcome(self) -> bool:
        """Return whether a server has welcomed this client before."""
        return self._connected.is_set()

    def pump(self) -> None:
        """Send waiting requests as long as the server takes more."""
        connection, welcome = self._connection, self._welcome
        if connection is None or welcome is None:
            return
        while self._waiting and connection.is_open and not connection.is_full:
            if len(self._in_flight) >= welcome.in_flight:
                return
            _, ask = self._waiting.popitem(last=False)
            if ask.reply.done():
                continue
            ask.prepare()
            if _REQUEST_BYTES + len(ask.payload) > welcome.frame_bytes:
                ask.forget()
                sentence = f"a payload of {len(ask.payload):,} bytes; the server takes {welcome.frame_bytes:,} a frame"
                ask.fail(LinkError(sentence, Code.TOO_LARGE))
                continue
            self._send(ask, connection)
        if not connection.is_open and not self._in_flight:
            connection.leave()  # the server has said goodbye, and all is answered

    def on_answer(self, answer: AnswerFrame) -> None:
        """Give a reply to who asked for it."""
        ask = self._in_flight.pop(answer.id, None)
        if ask is None:
            raise FrameError(Code.BAD_FRAME, "an answer to nothing that was asked")
        now = time.monotonic()
        wait_s, edge_s = answer.wait_us / 1e6, answer.edge_us / 1e6
        link_s = max(0.0, now - ask.sent - wait_s - edge_s)
        self.meter.add_transfer(len(ask.payload), ask.delivered_before, link_s)
        self._delay_s = FIRST_DELAY_S
        if not ask.reply.done():
            try:
                arrays = read_arrays(answer.arrays)
            except FrameError as error:
                ask.fail(LinkError(f"the answer is damaged: {error}", Code.BAD_FRAME))
                raise
            times = 1e3 * link_s, 1e3 * (ask.sent - ask.asked + wait_s), 1e3 * edge_s
            ask.reply.set_result(Reply(arrays, *times, len(ask.payload), ask.frame))

    def on_error(self, error: ErrorFrame) -> None:
        """Fail a request, or keep it for the next connection."""
        ask = self._in_flight.pop(error.id, None)
        if ask is None:
            raise FrameError(Code.BAD_FRAME, "an error of nothing that was asked")
        ask.refused(error.code)
        if error.code == Code.SHUTTING_DOWN:
            if self._connection is not None:
                self._connection.is_open = False
            self._wait_again([ask])
        elif error.code == Code.MISSING_REFERENCE and ask.can_become_key:
            self._put_back([ask])
        else:
            ask.fail(error_of(error.code, error.sentence))

    # the connection

    async def _run(self) -> None:
        """Keep a connection until the client is closed, or trying again would change nothing."""
        while self._failure is None:
            try:
                await self._attend(await self._connect())
            except (OSError, LinkError) as error:
                self._last = reason_of(error)
            except Exception as error:  # nobody may wait for ever
                self._give_up(LinkError(f"the client failed: {error!r}"))
                raise
            if self._last.is_final:
                self._give_up(self._last)
            else:
                await asyncio.sleep(self._delay_s * random.uniform(0.5, 1.5))
                self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        attempt = loop.create_connection(lambda: ClientConnection(self), *self._address, **self._ssl)
        _, connection = await asyncio.wait_for(attempt, self._connect_s)
        try:
            self._welcome = await asyncio.wait_for(connection.welcome, self._connect_s)
        except BaseException:
            connection.give_up(UnreachableError("no WELCOME"))
            raise
        return connection

    async def _attend(self, connection: ClientConnection) -> None:
        """Use a connection, and ping, until it is lost; then keep its requests for the next."""
        assert self._welcome is not None
        self._connection = connection
        self.meter.forget()  # another link, perhaps
        if self._stream is not None:
            self._stream.request_key()  # the server knows nothing of it on this connection
        self._connected.set()
        pause = min(self._ping_s, self._welcome.idle_ms / 3e3)
        try:
            self.pump()
            while not connection.lost.done():
                connection.ping()
                await asyncio.wait([connection.lost], timeout=pause)
                if time.monotonic() - connection.heard > self._stall_s:
                    connection.give_up(UnreachableError(f"no sign of the server for {self._stall_s:g} s"))
            self._last = connection.lost.result()
        finally:
            self._connection = self._welcome = None
            lost = list(self._in_flight.values())
            self._in_flight.clear()
            self._wait_again(lost)
            for ask in self._waiting.values():
                self._be_patient(ask)

    def _send(self, ask: Ask, connection: ClientConnection) -> None:
        ask.sent, ask.delivered_before = time.monotonic(), self.meter.delivered_bytes
        deadline_ms = 0 if ask.expires == math.inf else max(1, math.ceil(1e3 * (ask.expires - ask.sent)))
        self._in_flight[ask.id] = ask
        self.meter.sent_bytes += len(ask.payload)
        connection.send(Request(ask.id, ask.payload, min(deadline_ms, 2**32 - 1), ask.rate, ask.kind).frame())

    def _is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    def _wait_again(self, asks: list[Ask]) -> None:
        """Let requests that somebody still waits for wait for the next connection."""
        for ask in self._put_back(asks):
            self._be_patient(ask)

    def _put_back(self, asks: list[Ask]) -> list[Ask]:
        """Put requests that somebody still waits for before all later ones, and return them."""
        wanted = [ask for ask in asks if not ask.reply.done()]
        self._waiting = OrderedDict(sorted([*self._waiting.items(), *((ask.id, ask) for ask in wanted)]))
        return wanted

    def _be_patient(self, ask: Ask) -> None:
        """Let the patience of a request run, from its first broken link on."""
        if not ask.is_patient:
            ask.is_patient = True
            loop = asyncio.get_running_loop()
            ask.timers.append(loop.call_later(self._patience_s, lambda: ask.fail(self._out_of_patience())))

    def _out_of_patience(self) -> UnreachableError:
        host, port = self._address
        missing = f"no answer from {host}:{port} within {self._patience_s:g} s: {self._last}"
        return UnreachableError(f"{missing}; see that splitlearn serve runs there", self._last.code)

    def _give_up(self, failure: LinkError) -> None:
        self._failure = self._failure or failure
        for ask in [*self._waiting.values(), *self._in_flight.values()]:
            ask.fail(self._failure.again())
        self._connected.set()
