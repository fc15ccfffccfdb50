"""What a client knows of its link: round trip and throughput, estimated from its own traffic."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_SMOOTHING = 1 / 8  # weight of a new sample, as TCP weighs its round trips
_JITTER_SMOOTHING = 1 / 4
_RECENT = 32  # pings whose least round trip counts; at the client's pace, they take about two and a half minutes
_LEAST_SHARE = 0.25  # of the round trip: what a transfer must take beyond it to tell a throughput
_PACKET_BYTES = 1460  # most bytes of a TCP segment in a packet of 1,500
_HEADER_BYTES = 40  # of TCP and IP in each packet
_FRAME_BYTES = 19  # of a REQUEST beside its payload


def wire_bytes(payload: float) -> float:
    """Return what a payload of so many bytes takes on the wire as a request of its own: frame and headers included."""
    size = payload + _FRAME_BYTES
    return size + _HEADER_BYTES * max(1, math.ceil(size / _PACKET_BYTES))


@dataclass(frozen=True)
class Link:
    """State of a connection as a rate controller needs it; None where nothing has been measured.

    Attributes:
        is_connected: whether a server has welcomed the client, and the connection stands.
        round_trip_ms: smoothed, of pings.
        jitter_ms: smoothed distance of pings from it.
        least_round_trip_ms: of the last 32 pings: without queues.
        bytes_per_second: smoothed throughput to the server; None too if transfers were too short to tell.
        sent_bytes: of requests, since the client was made.
        received_bytes: likewise.
        waiting: requests that are not sent yet.
        in_flight: requests sent, not yet answered; those too that nobody waits for any more.
        unanswered_bytes: of the payloads that wait or are in flight.
        oldest_ms: since the oldest of those in flight was sent; 0 if there is none.
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
        """Return what the requests that wait or are in flight take on the wire."""
        count = self.waiting + self.in_flight
        return count * wire_bytes(self.unanswered_bytes / count) if count else 0.0


class LinkMeter:
    """Estimates from samples of one connection; counts since the client was made.

    Attributes:
        sent_bytes: of requests; added by the client.
        received_bytes: likewise.
        delivered_bytes: of requests that were answered.
    """

    def __init__(self) -> None:
        self.sent_bytes = self.received_bytes = self.delivered_bytes = 0
        self.forget()

    def forget(self) -> None:
        """Forget all estimates, for a new connection may go another way."""
        self._round_trip_s: float | None = None
        self._jitter_s = 0.0
        self._recent_s = deque[float](maxlen=_RECENT)
        self._bytes_per_second: float | None = None

    def add_ping(self, seconds: float) -> None:
        """Take one round trip."""
        self._recent_s.append(seconds)
        if self._round_trip_s is None:
            self._round_trip_s, self._jitter_s = seconds, seconds / 2
            return
        self._jitter_s += _JITTER_SMOOTHING * (abs(seconds - self._round_trip_s) - self._jitter_s)
        self._round_trip_s += _SMOOTHING * (seconds - self._round_trip_s)

    def add_transfer(self, size: int, before: int, seconds: float) -> None:
        """Take one answered request.

        What was delivered from its sending to its answer went over the link in the time beyond one round trip, whether
        requests go one by one or many at once.

        Args:
            size: bytes of the request.
            before: `delivered_bytes` when it was sent.
            seconds: from its sending to its answer, without queue and edge.
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
        """Return the present state."""
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
