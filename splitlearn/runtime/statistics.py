"""What a server counts: requests by outcome and rate, bytes, batches, times. Plain numbers, read by any thread."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

_SECONDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts of values up to each bound, and beyond the last.

    Attributes:
        bounds: ascending upper bounds, each included.
        counts: one more than bounds.
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
        requests: finished requests by outcome ("answered", "busy", …) and rate (255 if not said).
        ended: connections that the server has ended, by the error's name.
        received_bytes: of all connections.
        sent_bytes: of all connections.
        connections: open now.
        batch_sizes: number of requests in a batch.
        wait_s: seconds in the queue, of each request that was computed.
        edge_s: seconds at the edge, of each batch.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.ended: Counter[str] = Counter()
        self.received_bytes = 0
        self.sent_bytes = 0
        self.connections = 0
        self.batch_sizes = Histogram(_SIZES)
        self.wait_s = Histogram(_SECONDS)
        self.edge_s = Histogram(_SECONDS)
