"""Policies decide among the rates there are, fall at once and rise with patience; on links in simulated time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitlearn.runtime import DeadlinePolicy, FixedRate, OraclePolicy
from splitlearn.runtime.asks import Reply
from splitlearn.runtime.decisions import AsPicture, AtRate, Decision, LeaveOut, OnDevice
from splitlearn.runtime.link import Link, LinkMeter, wire_bytes
from splitlearn.runtime.rate_control import Always, Outcome, RatePolicy, ladder
from tests.runtime.simulated_link import DEVICE_MS, EDGE_MS, RESNET20, ROUND_TRIP_MS, Camera, Point, Seen, Speed

IDLE = Link(True, 20.0, 1.0, 20.0, None, 0, 0, 0, 0)
GONE = Link(False, 20.0, 1.0, 20.0, None, 0, 0, 0, 0)
LADDER = [0, 1, 2, 3, 5]  # rate 4 costs more than rate 3 and is no better


def outcome(link_ms: float | None, rate: int = 0, link: Link = IDLE) -> Outcome:
    """What became of a payload on an idle link: answered after some ms, or missed."""
    size = round(RESNET20[rate].bytes_per_image or 0)
    reply = None if link_ms is None else Reply({}, link_ms, 0.0, 1.0)
    return Outcome(rate, size, 5.0, link, 145.0 if link_ms is None else link_ms + 1, reply)


def rates(policy: RatePolicy, count: int, link_ms: float) -> list[int | None]:
    """Decide and answer in turns, after the same time at every rate."""
    found = []
    for _ in range(count):
        rate = policy.decide(IDLE, 150.0).rate
        policy.observe(outcome(link_ms, rate or 0))
        found.append(rate)
    return found


def oracle_of(speed: Speed) -> Camera:
    """A camera whose policy knows how long each answer will take."""

    def answer_ms(size: float) -> float:
        start = max(camera.now + DEVICE_MS, camera.free_at)
        return camera.crossed(start, wire_bytes(1.3 * size)) + ROUND_TRIP_MS + EDGE_MS - camera.now

    camera = Camera(OraclePolicy(RESNET20, answer_ms=answer_ms), speed)
    return camera


def score(seen: Sequence[Seen], chosen: Sequence[int]) -> float:
    """Mean score of the chosen images; of those that were missed, 0."""
    points = [RESNET20[seen[n].decision.rate or 0].score or 0.0 if seen[n].is_met else 0.0 for n in chosen]
    return float(np.mean(points))


def test_ladder() -> None:
    assert ladder(RESNET20) == LADDER
    assert ladder([Point(0.9, 300.0), Point(0.8, 60.0), Point(0.8, 50.0)]) == [2, 0]
    assert ladder([Point(None, None), Point(0.8, 60.0)]) == [0, 1]


def test_fixed_rate_is_the_best_or_the_one_asked_for() -> None:
    assert FixedRate(RESNET20).decide(IDLE, 1.0).rate == 5
    assert FixedRate(RESNET20, rate=4).decide(IDLE, 1.0).rate == 4
    with pytest.raises(ValueError, match=r"this package has rates 0…5, got 6"):
        FixedRate(RESNET20, rate=6)


@pytest.mark.parametrize("policy", [FixedRate, DeadlinePolicy])
def test_exits_answer_without_a_link(policy: type[RatePolicy]) -> None:
    assert isinstance(policy(RESNET20, True).decide(GONE, 150.0), OnDevice)
    assert isinstance(policy(RESNET20, False).decide(GONE, 150.0), AtRate)
    assert isinstance(policy(RESNET20, True).decide(IDLE, 150.0), AtRate)


def test_oracle_takes_what_is_in_time() -> None:
    policy = OraclePolicy(RESNET20, answer_ms=lambda size: size)
    assert policy.decide(IDLE, 120.0).rate == 3
    assert policy.decide(IDLE, 211.0).rate == 5
    assert isinstance(policy.decide(IDLE, 29.0), LeaveOut)
    assert isinstance(OraclePolicy(RESNET20, True, answer_ms=lambda size: size).decide(IDLE, 29.0), OnDevice)


def test_starts_low_and_rises_step_by_step_with_patience() -> None:
    found = rates(DeadlinePolicy(RESNET20), 30, link_ms=25.0)
    assert found == [0] * 4 + [1] * 5 + [2] * 5 + [3] * 5 + [5] * 11


def test_one_good_answer_raises_nothing() -> None:
    policy = DeadlinePolicy(RESNET20)
    assert set(rates(policy, 20, link_ms=110.0)) == {0}
    assert rates(policy, 1, link_ms=21.0) == [0]
    assert policy.decide(IDLE, 150.0).rate == 0


def test_falls_at_once_on_a_miss() -> None:
    policy = DeadlinePolicy(RESNET20)
    assert rates(policy, 30, link_ms=25.0)[-1] == 5
    policy.observe(outcome(None, 5))
    assert policy.decide(IDLE, 150.0).rate == 0


def test_falls_at_once_when_answers_take_longer() -> None:
    policy = DeadlinePolicy(RESNET20)
    assert rates(policy, 30, link_ms=25.0)[-1] == 5
    policy.observe(outcome(100.0, 5))
    assert policy.decide(IDLE, 150.0).rate in {0, 1, 2}


def test_falls_at_once_when_an_answer_is_overdue() -> None:
    policy = DeadlinePolicy(RESNET20)
    assert rates(policy, 30, link_ms=25.0)[-1] == 5
    overdue = Link(True, 20.0, 1.0, 20.0, None, 0, 0, 0, 1, 211, 120.0)
    assert policy.decide(overdue, 150.0).rate in {0, 1, 2, 3}


def test_the_lowest_rate_while_an_answer_is_overdue() -> None:
    policy = DeadlinePolicy(RESNET20)
    assert rates(policy, 30, link_ms=25.0)[-1] == 5
    late, early = (Link(True, 20.0, 1.0, 20.0, None, 0, 0, 0, 1, 211, oldest_ms) for oldest_ms in (60.0, 10.0))
    assert [policy.decide(link, 150.0).rate for link in (early, late, early)] == [5, 0, 5]


def test_a_miss_after_a_rise_doubles_the_patience() -> None:
    policy = DeadlinePolicy(RESNET20)
    assert rates(policy, 9, link_ms=25.0)[-1] == 1
    policy.observe(outcome(None, 1))
    for _ in range(40):  # until the pace that the miss has shown is forgotten
        policy.observe(outcome(21.0))
    assert 5 < rates(policy, 12, link_ms=21.0).index(1) < 10  # 4 at first


def test_nothing_is_added_to_a_standing_queue() -> None:
    policy, sighted = DeadlinePolicy(RESNET20), DeadlinePolicy(RESNET20, True)
    queue = Link(True, 20.0, 1.0, 20.0, None, 0, 0, 0, 5, 150, 140.0)
    for each in (policy, sighted):
        rates(each, 5, link_ms=110.0)  # about 1 ms a byte
    decision = policy.decide(queue, 150.0)
    assert isinstance(decision, LeaveOut)
    with pytest.raises(ValueError, match="not sent: earlier requests are overdue"):
        decision.carry_out(None, np.zeros((1, 1, 3), np.uint8))  # type: ignore[arg-type]
    assert isinstance(sighted.decide(queue, 150.0), OnDevice)


def test_exits_answer_on_a_slow_link_which_is_tried_again() -> None:
    policy = DeadlinePolicy(RESNET20, True)
    policy.observe(outcome(200.0))
    decisions = [policy.decide(IDLE, 150.0) for _ in range(30)]
    assert isinstance(decisions[0], OnDevice)
    assert isinstance(decisions[-1], AtRate)


def test_sizes_that_are_not_known_are_learned() -> None:
    unknown = [Point(None, None)] * 3
    camera = Camera(DeadlinePolicy(unknown), lambda _: 2.0, sizes=[30.0, 60.0, 400.0])
    seen = camera.run(300)
    assert {each.decision.rate for each in seen[250:]} <= {0, 1}
    assert np.mean([each.is_met for each in seen]) > 0.9


class Watched(DeadlinePolicy):
    """Keeps the steps of its ladder."""

    def __init__(self, rates: Sequence[Point], has_exits: bool) -> None:
        super().__init__(rates, has_exits)
        self.steps: list[int] = []

    def decide(self, link: Link, left_ms: float) -> Decision:
        decision = super().decide(link, left_ms)
        self.steps.append(self._step)
        return decision


@given(
    speeds=st.lists(st.floats(0.01, 1000), min_size=1, max_size=20),
    count=st.integers(1, 6),
    has_exits=st.booleans(),
    interval_ms=st.floats(5, 200),
    deadline_ms=st.floats(20, 400),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_bounded_on_any_link(
    speeds: list[float], count: int, has_exits: bool, interval_ms: float, deadline_ms: float, seed: int
) -> None:
    """Only rates that exist; never up by more than a step, nor without patience; nothing grows without end."""
    points = RESNET20[:count]
    policy = Watched(points, has_exits)
    camera = Camera(policy, lambda ms: speeds[int(ms / 100) % len(speeds)], interval_ms, deadline_ms)
    camera.random = np.random.default_rng(seed)
    steps = ladder(points)
    taken = [each.decision.rate for each in camera.run(120)]
    assert all(rate is None or steps.index(rate) <= step for rate, step in zip(taken, policy.steps, strict=True))
    since = 0
    for before, now in pairwise([0, *policy.steps]):
        assert now <= before + 1
        since += 1
        if now > before:
            assert since >= 5
        since = 0 if now != before else since
    estimates = (policy._pace, *policy._beside_ms.values(), policy._lateness, policy._patience)
    assert all(map(math.isfinite, estimates))
    assert policy._lateness <= 1
    assert 5 <= policy._patience <= 320


LINKS: dict[str, Speed] = {  # bytes a ms
    "steady": lambda ms: 5.0,
    "stepped": lambda ms: [60, 20, 40, 14, 100, 25][int(ms / 10_000) % 6] / 8,
    "wave": lambda ms: 5.0 + 3.0 * math.sin(ms / 3000),
}


@pytest.mark.parametrize("name", LINKS)
def test_meets_what_an_oracle_meets(name: str) -> None:
    best = oracle_of(LINKS[name]).run(600)
    chosen = [n for n, each in enumerate(best) if each.is_met]
    seen = Camera(DeadlinePolicy(RESNET20), LINKS[name]).run(600)
    assert len(chosen) > 590
    assert np.mean([seen[n].is_met for n in chosen]) >= 0.99
    assert score(seen, chosen) > score(best, chosen) - 0.011  # missed images count as wrong
    highest = Camera(FixedRate(RESNET20), LINKS[name]).run(600)
    assert score(seen, chosen) > score(highest, chosen) - 0.005


def test_an_overloaded_link_still_answers() -> None:
    """The lowest rate has a tenth more than the link takes, and would queue without end."""
    fixed = Camera(FixedRate(RESNET20, rate=0), lambda _: 1.6, interval_ms=50).run(600)
    seen = Camera(DeadlinePolicy(RESNET20), lambda _: 1.6, interval_ms=50).run(600)
    assert np.mean([each.is_met for each in fixed]) < 0.2
    assert np.mean([each.is_met for each in seen]) > 0.6


def test_bytes_on_the_wire() -> None:
    assert wire_bytes(30) == 30 + 19 + 40
    assert wire_bytes(1460 - 19) == 1460 + 40
    assert wire_bytes(1460 - 18) == 1461 + 80
    link = LinkMeter().link(True, 1, 2, 90, 7.0)
    assert (link.unanswered_bytes, link.oldest_ms, link.unanswered_wire_bytes) == (90, 7.0, 3 * 89)
    assert IDLE.unanswered_wire_bytes == 0


def test_policies_leave_pictures_to_servers_that_take_them() -> None:
    better = Point(1.0, 4000.0)
    always = Always(AsPicture())
    fixed = FixedRate(RESNET20, picture=better, rate="picture")
    oracle = OraclePolicy(RESNET20, picture=better, answer_ms=lambda size: 0.0)
    for policy, then in ((always, AtRate()), (fixed, AtRate(5)), (oracle, AtRate(5))):
        assert policy.decide(IDLE, 150.0) == AsPicture()
        policy.leave_pictures()
        assert policy.decide(IDLE, 150.0) == then


@pytest.mark.parametrize("size", [1.0, 5000.0], ids=["least of all", "most of all"])
def test_a_deadline_policy_goes_on_with_payloads_at_a_rate_that_is_no_step_up(size: float) -> None:
    policy = DeadlinePolicy(RESNET20, picture=Point(0.0 if size == 1.0 else 1.0, size))
    seen: list[Decision] = []
    for _ in range(100):
        seen.append(policy.decide(IDLE, 15_000.0))
        option = seen[-1].rate
        policy.observe(outcome(1.0, len(RESNET20) - 1 if option is None else option))
    assert AsPicture() in seen
    policy.leave_pictures()
    before = seen[-1].rate
    rest = [policy.decide(IDLE, 15_000.0).rate for _ in range(100)]
    assert rest[0] == (5 if before is None else before)
    assert None not in rest
