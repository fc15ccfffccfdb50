"""A link in simulated time, and a camera whose images a policy sends over it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from splitlearn.runtime.asks import Reply
from splitlearn.runtime.decisions import Decision
from splitlearn.runtime.link import Link, wire_bytes
from splitlearn.runtime.rate_control import Outcome, RatePolicy

PING_WIRE_BYTES = 53
DEVICE_MS, EDGE_MS, ROUND_TRIP_MS = 6.0, 2.0, 30.0


class Point(NamedTuple):
    """Score and size of a rate."""

    score: float | None
    bytes_per_image: float | None


RESNET20 = [  # configs/datta2022/bank_resnet20_layer3.yaml
    Point(0.8716, 29.2), Point(0.8751, 35.7), Point(0.8796, 64.0),
    Point(0.8820, 118.7), Point(0.8820, 199.6), Point(0.8832, 210.9),
]  # fmt: skip
Speed = Callable[[float], float]  # bytes a ms, of the ms since the start


@dataclass
class Seen:
    """What became of one image: its rate if it was sent, and whether its answer was in time."""

    decision: Decision
    is_met: bool = False


class Camera:
    """Sends an image every so many ms.

    Args:
        policy: decides.
        speed: of the link, at each time.
        interval_ms: between two images.
        deadline_ms: of each answer.
        sizes: mean bytes of each rate; those that the policy has been told by default.
        noise: relative deviation of sizes.
    """

    def __init__(
        self,
        policy: RatePolicy,
        speed: Speed,
        interval_ms: float = 100.0,
        deadline_ms: float = 150.0,
        sizes: Sequence[float] = (),
        noise: float = 0.15,
    ) -> None:
        self.policy, self.speed = policy, speed
        self.interval_ms, self.deadline_ms = interval_ms, deadline_ms
        self.sizes = list(sizes) or [point.bytes_per_image or 100.0 for point in policy.rates]
        self.noise = noise
        self.is_connected = True
        self.now = self.free_at = 0.0
        self.out: list[tuple[float, float, int]] = []  # answered at, sent at, bytes
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.random = np.random.default_rng(0)
        self.least_ms = self.crossed(0.0, PING_WIRE_BYTES) + ROUND_TRIP_MS

    def link(self) -> Link:
        """Return what the client would know now."""
        out = [each for each in self.out if each[0] > self.now]
        self.out = out
        oldest = self.now - min(sent for _, sent, _ in out) if out else 0.0
        unanswered = sum(size for _, _, size in out)
        return Link(self.is_connected, self.least_ms, 0.0, self.least_ms, None, 0, 0, 0, len(out), unanswered, oldest)

    def run(self, count: int) -> list[Seen]:
        """Return what became of so many images."""
        return [self._take(number * self.interval_ms) for number in range(count)]

    def _take(self, came: float) -> Seen:
        self._until(came)
        seen = Seen(self.policy.decide(self.link(), self.deadline_ms))
        rate = seen.decision.rate
        if rate is None:
            return seen
        size = max(1, round(self.sizes[rate] * (1 + self.noise * self.random.standard_normal())))
        self._until(came + DEVICE_MS)
        link, sent = self.link(), self.now
        self.free_at = self.crossed(max(sent, self.free_at), wire_bytes(size))
        answered = self.free_at + ROUND_TRIP_MS + EDGE_MS
        self.out.append((answered, sent, size))
        seen.is_met = answered <= came + self.deadline_ms
        known = min(answered, came + self.deadline_ms)
        reply = Reply({}, answered - sent - EDGE_MS, 0.0, EDGE_MS) if seen.is_met else None
        outcome = Outcome(rate, size, DEVICE_MS, link, known - sent, reply)
        heapq.heappush(self.events, (known, len(self.out) + int(1e6 * known), lambda: self.policy.observe(outcome)))
        return seen

    def _until(self, time: float) -> None:
        while self.events and self.events[0][0] <= time:
            self.now, _, act = heapq.heappop(self.events)
            act()
        self.now = time

    def crossed(self, start: float, size: float) -> float:
        """Return when so many bytes have crossed, in steps of a ms."""
        while (step := self.speed(start)) < size:
            size -= step
            start += 1.0
        return start + size / step
