"""A client's estimates of its link, from its own traffic: round trip and throughput."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from splitlearn.runtime.protocol import Request

FRAME_BYTES = len(Request(1, b"").frame())  # of a REQUEST beside its payload
PACKET_BYTES, HEADER_BYTES = (
    1460,
    40,
)  # most bytes of a TCP segment over Ethernet, and headers of TCP and IPv4 beside it
_SMOOTHING = 1 / 8  # weight of a new sample, as TCP weighs its round trips
_JITTER_SMOOTHING = 1 / 4
_RECENT = 32  # pings whose least round trip counts; at the client's pace, they take about two and a half minutes
_LEAST_SHARE = 0.25  # of the round trip: what a transfer must take beyond it to tell a throughput


def in_packets(size: float) -> float:
    """Return the bytes that data of this size take on the link, with headers of TCP and IP."""
    return size + HEADER_BYTES * math.ceil(size / PACKET_BYTES)


def wire_bytes(payload: float) -> float:
    """Return the bytes that a request with a payload of this size takes on the link, with frame and TCP/IP headers."""
    return in_packets(payload + FRAME_BYTES)


@dataclass(frozen=True)
class Link:
    """State of a connection as a rate controller needs it; None where nothing has been measured.

    Attributes:
        is_connected: whether a server has welcomed the client, and the connection stands.
        round_trip_ms: smoothed round-trip time of pings.
        jitter_ms: smoothed difference between the round-trip time of a ping and `round_trip_ms`.
        least_round_trip_ms: shortest round-trip time of the last 32 pings, an estimate without queues.
        bytes_per_second: smoothed throughput to the server; None also if all transfers were too short to measure it.
        sent_bytes: payload bytes sent since the client was made.
        received_bytes: bytes received from the server since the client was made.
        waiting: number of requests that are not sent yet.
        in_flight: number of requests that are sent and not answered, even if nobody waits for the answer any more.
        unanswered_bytes: payload bytes of the requests that wait or are in flight.
        oldest_ms: time since the oldest request in flight was sent; 0 if there is none.
    """

    is_connected: bool
    round_trip_ms: float | None
    jitter_ms: float | None
    least_round_trip_ms: float | None
    bytes_per_second: float | None
    sent_bytes: int
    received_bytes: int
    waiting: int
    in_flight: int
    unanswered_bytes: int = 0
    oldest_ms: float = 0.0

    @property
    def unanswered_wire_bytes(self) -> float:
        """Return the bytes that the requests that wait or are in flight take on the link, with frames and headers."""
        count = self.waiting + self.in_flight
        return count * wire_bytes(self.unanswered_bytes / count) if count else 0.0


class LinkMeter:
    """Estimates the state of a link from the traffic of one connection, and counts bytes since the client was made.

    Attributes:
        sent_bytes: payload bytes sent; the client adds them.
        received_bytes: bytes received; the client adds them.
        delivered_bytes: bytes of requests that were answered.
    """

    def __init__(self) -> None:
        self.sent_bytes = self.received_bytes = self.delivered_bytes = 0
        self.forget()

    def forget(self) -> None:
        """Forget all estimates, since a new connection may take another route."""
        self._round_trip_s: float | None = None
        self._jitter_s = 0.0
        self._recent_s = deque[float](maxlen=_RECENT)
        self._bytes_per_second: float | None = None

    def add_ping(self, seconds: float) -> None:
        """Update the estimates with the round-trip time of a ping."""
        self._recent_s.append(seconds)
        if self._round_trip_s is None:
            self._round_trip_s, self._jitter_s = seconds, seconds / 2
            return
        self._jitter_s += _JITTER_SMOOTHING * (abs(seconds - self._round_trip_s) - self._jitter_s)
        self._round_trip_s += _SMOOTHING * (seconds - self._round_trip_s)

    def add_transfer(self, size: int, before: int, seconds: float) -> None:
        """Update the throughput with an answered request.

        All bytes that were delivered between its sending and its answer crossed the link in this time minus one round
        trip. This also holds if many requests are sent at once.

        Args:
            size: bytes of the request.
            before: value of `delivered_bytes` when it was sent.
            seconds: time from its sending to its answer, without the server's queue and computation.
        """
        self.delivered_bytes += size
        if not self._recent_s or (beyond := seconds - self._least_s) < _LEAST_SHARE * self._least_s:
            return
        sample = (self.delivered_bytes - before) / beyond
        now = self._bytes_per_second
        self._bytes_per_second = sample if now is None else now + _SMOOTHING * (sample - now)

    @property
    def _least_s(self) -> float:
        return min(self._recent_s)

    def link(
        self, is_connected: bool, waiting: int, in_flight: int, unanswered_bytes: int = 0, oldest_ms: float = 0.0
    ) -> Link:
        """Return the present state of the link; the arguments are attributes of `Link`."""
        known = self._round_trip_s is not None
        return Link(
            is_connected,
            1e3 * self._round_trip_s if self._round_trip_s is not None else None,
            1e3 * self._jitter_s if known else None,
            1e3 * self._least_s if known else None,
            self._bytes_per_second,
            self.sent_bytes,
            self.received_bytes,
            waiting,
            in_flight,
            unanswered_bytes,
            oldest_ms,
        )
