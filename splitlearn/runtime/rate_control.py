"""Rate control: at which rate the next image is sent, so that its answer comes in time.

image comes → decide(link, time left) → rate, exit or nothing → payload → answer or miss → observe
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from splitlearn.runtime.asks import Reply
from splitlearn.runtime.decisions import AsPicture, AtRate, Decision, LeaveOut, OnDevice
from splitlearn.runtime.link import Link, wire_bytes
from splitlearn.runtime.protocol import Kind

__all__ = ["Always", "DeadlinePolicy", "FixedRate", "OraclePolicy", "Outcome", "RatePolicy"]

NO_LINK = "no link: an exit answers, whatever its confidence"
TOO_SLOW = "the link is too slow: an exit answers, whatever its confidence"
QUEUED = "not sent: earlier requests are overdue, and this one would come later still"

_LEAST_PATIENCE, _MOST_PATIENCE = 5, 320  # decisions in a row that would allow a higher rate, before it is taken
_CALMING = 0.995  # of the patience, with each answer
_SMOOTHING = 1 / 8  # weight of a time that is shorter than its estimate, as TCP weighs its round trips
_MORE_LATE, _LESS_LATE = 1 / 4, 1 / 128  # weights of answers that came later or earlier than is usual
_LEAST_LATE = 0.1  # share of a prediction: what is always reckoned with
_MARGIN = 3.0  # usual latenesses that a prediction is lengthened by


class RatePoint(Protocol):
    """What a policy knows of a rate or of image files: a `Rate` of a package, or what was `Measured`."""

    @property
    def score(self) -> float | None:
        """Return the measured quality, higher is better; None if not known."""

    @property
    def bytes_per_image(self) -> float | None:
        """Return the measured mean payload size; None if not known."""


@dataclass(frozen=True)
class Outcome:
    """What became of a payload that was sent.

    Attributes:
        rate: its number; None if not known.
        bytes: size of the payload.
        device_ms: time of the device's half, the picture's preparation included.
        link: state of the link just before it was sent.
        waited_ms: from its sending until its answer, or until it was given up.
        reply: the answer; None if there was none in time.
        kind: a payload, or an image file.
    """

    rate: int | None
    bytes: int
    device_ms: float
    link: Link
    waited_ms: float
    reply: Reply | None
    kind: Kind = Kind.PAYLOAD


class RatePolicy(ABC):
    """Decides what is done with each image; one object follows one connection.

    Args:
        rates: rates of the package, in order.
        has_exits: whether the device can answer by itself.
        picture: score and size of images as files, its score of the same kind as those of the rates; None if they are
            not sent.

    Attributes:
        options: the rates, and image files behind them if these are sent.
        ladder: numbers of the options worth taking, by rising size and score.
    """

    def __init__(self, rates: Sequence[RatePoint], has_exits: bool = False, picture: RatePoint | None = None) -> None:
        self.rates, self.has_exits = list(rates), has_exits
        self.options = self.rates if picture is None else [*self.rates, picture]
        self.ladder = ladder(self.options)

    def sent_as(self, option: int) -> Decision:
        """Return the decision for the number of an option."""
        return AtRate(option) if option < len(self.rates) else AsPicture()

    def decide(self, link: Link, left_ms: float) -> Decision:
        """Return what to do with the next image.

        Without a link, an exit answers if there is one; else the image is sent as soon as the link is back, if that is
        in time.

        Args:
            link: present state of the connection.
            left_ms: time until the answer has to be there, the device's half included; infinity for any time.
        """
        if not link.is_connected and self.has_exits:
            return OnDevice(NO_LINK)
        return self.choose(link, left_ms)

    @abstractmethod
    def choose(self, link: Link, left_ms: float) -> Decision:
        """Return what to do with the next image, for a link that stands or a package without exits."""

    def leave_pictures(self) -> None:
        """Choose among payloads alone from now on, since the server takes no image files of this package."""
        self.options = self.rates
        self.ladder = ladder(self.rates)

    def observe(self, outcome: Outcome) -> None:  # noqa: B027 (a policy need not learn)
        """Learn from a payload that was answered or missed; by default nothing."""


class Always(RatePolicy):
    """The same for every image, without a link too: the client keeps payloads until it is back.

    Args:
        decision: what is done.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__(())
        self._decision = decision

    def choose(self, link: Link, left_ms: float) -> Decision:
        """Return the decision."""
        return self._decision

    def leave_pictures(self) -> None:
        """Send payloads of the best rate in place of pictures."""
        if self._decision.kind == Kind.PICTURE:
            self._decision = AtRate()


class FixedRate(RatePolicy):
    """The same rate as long as there is a link.

    Args:
        rates: rates of the package, in order.
        has_exits: whether the device can answer by itself.
        picture: score and size of images as files; None if they are not sent.
        rate: number of the rate, or "picture"; by default the option with the highest score.

    Raises:
        ValueError: if there is no such rate.
    """

    def __init__(
        self,
        rates: Sequence[RatePoint],
        has_exits: bool = False,
        picture: RatePoint | None = None,
        rate: int | Literal["picture"] | None = None,
    ) -> None:
        super().__init__(rates, has_exits, picture)
        option = self.ladder[-1] if rate is None else len(self.rates) if rate == "picture" else rate
        if not 0 <= option < (len(self.options) if rate in (None, "picture") else len(self.rates)):
            told = "" if picture is None else " and picture"
            raise ValueError(f"this package has rates 0…{len(self.rates) - 1}{told}, got {rate}")
        self._decision = self.sent_as(option)

    def choose(self, link: Link, left_ms: float) -> Decision:
        """Return the rate."""
        return self._decision

    def leave_pictures(self) -> None:
        """Keep the rate with the highest score in place of pictures."""
        super().leave_pictures()
        if self._decision.kind == Kind.PICTURE:
            self._decision = self.sent_as(self.ladder[-1])


class DeadlinePolicy(RatePolicy):
    """The best rate, or image file, whose predicted answer comes before the deadline.

        predicted = (device + edge + round trip + pace · (bytes before it + its own)) · (1 + 3 · lateness)

    Pace is the time that a byte takes on the link, seen in answers. A longer time counts at once and in full, a shorter
    one by an eighth. Lateness is by how much answers have come later than predicted; it grows fast and shrinks slowly,
    so that an unsteady link is trusted less.

    It falls at once: to what fits when answers take longer, and to the lowest rate after a miss. It rises one step at a
    time, after five decisions in a row that would have allowed it; each miss at a higher rate than the lowest doubles
    these five, and answers bring them back. As long as an answer is overdue, images are sent at the lowest rate.

    If requests are out and not even the lowest rate could be in time behind them, the image is left out, so that the
    queue gets shorter. A device with exits answers then by itself, and also if nothing is out; the pace is forgotten
    little by little meanwhile, so that the link is tried again.

    An image file is one more step of the ladder; its times of device and edge are estimated by themselves, as none of
    the network but exits runs on the device then. An image for which an exit is confident is sent in neither form.

    Args:
        rates: rates of the package, in order.
        has_exits: whether the device can answer by itself.
        picture: score and size of images as files; None if they are not sent.

    Reference:
        Jacobson 1988, Congestion avoidance and control, Appendix A, for estimates and margin.
    """

    def __init__(self, rates: Sequence[RatePoint], has_exits: bool = False, picture: RatePoint | None = None) -> None:
        super().__init__(rates, has_exits, picture)
        self._sizes = [point.bytes_per_image or 0.0 for point in self.options]
        self._pace = self._latest_pace = 0.0  # ms a byte
        self._beside_ms = dict.fromkeys(Kind, 0.0)  # device and edge
        self._lateness = _LEAST_LATE
        self._step = 0  # of the ladder
        self._patience: float = _LEAST_PATIENCE
        self._higher = 0  # decisions in a row that would have allowed a higher rate

    def choose(self, link: Link, left_ms: float) -> Decision:
        """Return the best rate that is predicted to be in time; not before the patience is over, if it is higher."""
        least = _least_pace(link, max(self._beside_ms.values()))
        lowest = self._predicted_ms(self.ladder[0], link, max(self._latest_pace, least))
        if link.in_flight and lowest > left_ms:
            self._step = self._higher = 0
            return OnDevice(TOO_SLOW) if self.has_exits else LeaveOut(QUEUED)
        if self._is_overdue(link):
            self._higher = 0
            return self.sent_as(self.ladder[0])
        pace, allowed_ms = max(self._pace, least), left_ms / (1 + _MARGIN * self._lateness)
        fitting = [
            step for step, option in enumerate(self.ladder) if self._predicted_ms(option, link, pace) <= allowed_ms
        ]
        if not fitting and self.has_exits:
            self._step = self._higher = 0
            self._pace *= 1 - _SMOOTHING
            return OnDevice(TOO_SLOW)
        self._move(max(fitting, default=0))
        return self.sent_as(self.ladder[self._step])

    def leave_pictures(self) -> None:
        """Go on with payloads, at the highest rate that is no step up."""
        kept = [option for option in self.ladder[: self._step + 1] if option < len(self.rates)]
        super().leave_pictures()
        self._step = self.ladder.index(kept[-1]) if kept else 0

    def observe(self, outcome: Outcome) -> None:
        """Learn sizes, pace and lateness from an answer; fall to the lowest rate after a miss."""
        if (option := len(self.rates) if outcome.kind == Kind.PICTURE else outcome.rate) is not None:
            self._sizes[option] += _SMOOTHING * (outcome.bytes - self._sizes[option])
        self._learn_lateness(outcome)
        reply = outcome.reply
        if reply is None:
            if self._step:
                self._patience = min(2 * self._patience, _MOST_PATIENCE)
            self._step = self._higher = 0
            self._latest_pace = max(self._latest_pace, _pace_of(outcome, outcome.waited_ms))
            self._pace = max(self._pace, self._latest_pace)
            return
        self._patience = max(_LEAST_PATIENCE, self._patience * _CALMING)
        self._latest_pace = _pace_of(outcome, reply.link_ms)
        self._pace = _fallen_fast(self._pace, self._latest_pace)
        beside_ms = self._beside_ms[outcome.kind]
        self._beside_ms[outcome.kind] = _fallen_fast(beside_ms, outcome.device_ms + reply.edge_ms)

    def _move(self, best: int) -> None:
        """Go down to a step of the ladder, or, with patience, up towards it."""
        if best <= self._step:
            self._step, self._higher = best, 0
            return
        self._higher += 1
        if self._higher >= self._patience:
            self._step, self._higher = self._step + 1, 0

    def _predicted_ms(self, option: int, link: Link, pace: float) -> float:
        kind = Kind.PAYLOAD if option < len(self.rates) else Kind.PICTURE
        return self._total_ms(self._sizes[option], self._beside_ms[kind], link, pace)

    def _total_ms(self, size: float, beside_ms: float, link: Link, pace: float) -> float:
        # what is out has been on its way since the oldest of it was sent
        queue_ms = max(0.0, pace * link.unanswered_wire_bytes - link.oldest_ms)
        return beside_ms + (link.least_round_trip_ms or 0.0) + queue_ms + pace * wire_bytes(size)

    def _is_overdue(self, link: Link) -> bool:
        """Return whether all that is out should have been answered by now."""
        link_ms = (link.least_round_trip_ms or 0.0) + self._pace * link.unanswered_wire_bytes
        return bool(link.in_flight) and link.oldest_ms > max(self._beside_ms.values()) + link_ms

    def _learn_lateness(self, outcome: Outcome) -> None:
        if self._pace == 0.0:  # the first answer was predicted by nothing
            return
        predicted = self._total_ms(outcome.bytes, self._beside_ms[outcome.kind], outcome.link, self._pace)
        late = min(1.0, (outcome.device_ms + outcome.waited_ms) / predicted - 1)
        weight = _MORE_LATE if late > self._lateness else _LESS_LATE
        self._lateness = max(_LEAST_LATE, self._lateness + weight * (late - self._lateness))


def _pace_of(outcome: Outcome, link_ms: float) -> float:
    """Return the smaller of two upper bounds of the pace.

    A payload's own bytes have crossed since it was sent; together with those before it, since the oldest was sent.
    """
    link, own = outcome.link, wire_bytes(outcome.bytes)
    beyond_ms = max(0.0, link_ms - (link.least_round_trip_ms or 0.0))
    return min(beyond_ms / own, (beyond_ms + link.oldest_ms) / (own + link.unanswered_wire_bytes))


def _least_pace(link: Link, beside_ms: float) -> float:
    """Return what the pace must be at least, if the oldest request is not answered yet."""
    if not link.in_flight:
        return 0.0
    beyond_ms = link.oldest_ms - (link.least_round_trip_ms or 0.0) - beside_ms
    return max(0.0, beyond_ms) * link.in_flight / link.unanswered_wire_bytes


class OraclePolicy(RatePolicy):
    """The best rate, or image file, that is in time as somebody knows it who knows the link's future: for benchmarks.

    Args:
        rates: rates of the package, in order.
        has_exits: whether the device can answer by itself.
        picture: score and size of images as files; None if they are not sent.
        answer_ms: time from now to the answer of a payload or file of so many bytes, the device's half included.
    """

    def __init__(
        self,
        rates: Sequence[RatePoint],
        has_exits: bool = False,
        picture: RatePoint | None = None,
        *,
        answer_ms: Callable[[float], float],
    ) -> None:
        super().__init__(rates, has_exits, picture)
        self._answer_ms = answer_ms

    def choose(self, link: Link, left_ms: float) -> Decision:
        """Return the best rate that is in time; without one, an exit's answer, or nothing."""
        for option in reversed(self.ladder):
            if self._answer_ms(self.options[option].bytes_per_image or 0.0) <= left_ms:
                return self.sent_as(option)
        return OnDevice(TOO_SLOW) if self.has_exits else LeaveOut("not sent: no rate is in time")


def ladder(rates: Sequence[RatePoint]) -> list[int]:
    """Return the numbers of the rates worth taking, by rising size and score.

    Rates that cost more bytes than another without a higher score are left out; all are kept, in their order, if sizes
    or scores are not known.
    """
    if any(point.score is None or point.bytes_per_image is None for point in rates):
        return list(range(len(rates)))
    facts = [(point.bytes_per_image or 0.0, -(point.score or 0.0), number) for number, point in enumerate(rates)]
    found, best = [], -math.inf
    for _, negative, number in sorted(facts):
        if -negative > best:
            found.append(number)
            best = -negative
    return found


def _fallen_fast(estimate: float, sample: float) -> float:
    """Return the new estimate of a time: longer ones count in full, shorter ones by an eighth."""
    return max(sample, estimate + _SMOOTHING * (sample - estimate))
