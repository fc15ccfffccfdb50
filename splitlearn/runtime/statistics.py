"""Counts of a server: requests, bytes, batches and times. Any thread may read them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from splitlearn.runtime.protocol import Kind

_SECONDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_KINDS = {int(kind): kind.name.lower() for kind in Kind}
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Histogram of values: how many lie between two neighbouring bounds, and above the last bound.

    Attributes:
        bounds: ascending upper bounds, each included.
        counts: number of values in each bin, one more than `bounds`.
        total: sum of all values.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Statistics:
    """Counts of one server since its start.

    Attributes:
        requests: number of finished requests, by outcome ("answered", "busy", …), index of the compression rate (255 if
            the request did not state it) and kind ("payload", "picture", "frame", "other").
        ended: number of connections that the server has ended because of an error, by name of the error.
        received_bytes: bytes received from all clients.
        sent_bytes: bytes sent to all clients.
        connections: number of open connections.
        streams: number of open connections that have sent frames of streams.
        batch_sizes: histogram of the number of requests in a batch.
        wait_s: histogram of the seconds that a request waited in the queue before it was computed.
        edge_s: histogram of the computing time of a batch, in seconds.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int, str]] = Counter()
        self.ended: Counter[str] = Counter()
        self.received_bytes = 0
        self.sent_bytes = 0
        self.connections = 0
        self.streams = 0
        self.batch_sizes = Histogram(_SIZES)
        self.wait_s = Histogram(_SECONDS)
        self.edge_s = Histogram(_SECONDS)

    def add_request(self, outcome: str, rate: int, kind: int) -> None:
        """Count a finished request; its rate and kind are numbers of the protocol, from a peer that is not trusted."""
        self.requests[outcome, rate, _KINDS.get(kind, "other")] += 1
