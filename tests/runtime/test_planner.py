"""Plans from made-up profiles: sums, order, what is said, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from splitlearn.latencies import LatencyError
from splitlearn.runtime.link import FRAME_BYTES
from splitlearn.runtime.planner import ON_DEVICE, PICTURE, SPLIT, LinkPlan, make_plan
from tests.runtime.latency_profiles import MODEL, OTHER, coder, profile

SLOW_DEVICE = 10.0
LINK = LinkPlan(8e6, 20.0)  # a byte takes a microsecond


def test_a_request_has_a_few_bytes_beside_its_payload() -> None:
    assert FRAME_BYTES == 19


def test_answers_take_their_time_on_the_link() -> None:
    edge = replace(profile(), answer_bytes=2920.0)  # two packets
    without, with_answers = (make_plan(profile(), each, LINK).choices for each in (profile(), edge))
    for one, other in zip(without, with_answers, strict=True):
        grown = 0.0 if one.kind == ON_DEVICE or one.link_ms is None else 3.0
        assert other.link_ms == (None if one.link_ms is None else pytest.approx(one.link_ms + grown))


def test_parts_add_up() -> None:
    plan = make_plan(profile(SLOW_DEVICE), profile(), LINK)
    [whole] = [c for c in plan.choices if c.kind == ON_DEVICE]
    assert (whole.total_ms, whole.bytes_per_image) == (400.0, 0)
    [picture] = [c for c in plan.choices if c.kind == PICTURE]
    assert picture.encode_ms == 10.0
    assert picture.link_ms == pytest.approx(25.004)  # four bytes are a checksum
    assert picture.total_ms == pytest.approx(10 + 25.004 + 2 + 40)
    small, large = (c for c in plan.choices if c.rate is not None)
    assert small.total_ms == pytest.approx(80 + 10 + 20.1 + 2 + 4)
    assert large.total_ms == pytest.approx(80 + 10 + 21 + 2 + 4)
    assert (small.score, large.score) == (0.8, 0.9)
    assert plan.best is picture


def test_cuts_without_a_trained_bottleneck_are_unknown_and_never_best() -> None:
    plan = make_plan(profile(), profile(), LINK)
    bare = [c for c in plan.choices if c.kind == SPLIT and c.rate is None]
    assert [c.at for c in bare] == ["layer1", "layer3"]
    assert {(c.total_ms, c.bytes_per_image, c.link_ms) for c in bare} == {(None, None, None)}
    assert [c.device_ms + c.edge_ms for c in bare] == pytest.approx([40.0, 40.0])
    assert not set(map(id, bare)) & set(map(id, plan.ranked))
    assert not any(map(plan.meets, bare))
    assert [c.at for c in plan.choices if c.kind == SPLIT] == ["layer1", "layer2", "layer2", "layer3"]


@pytest.mark.parametrize(
    ("factor", "bits", "kind"), [(0.1, 1e6, ON_DEVICE), (10, 1e5, SPLIT), (100, 1e9, PICTURE)], ids=str
)
def test_the_best_choice_follows_device_and_link(factor: float, bits: float, kind: str) -> None:
    plan = make_plan(profile(factor), profile(), LinkPlan(bits, 20.0))
    assert plan.best.kind == kind
    assert plan.best.total_ms == min(c.total_ms for c in plan.choices if c.total_ms is not None)
    assert ("does not pay" in plan.verdict()) == (kind != SPLIT)
    assert plan.verdict().startswith(f"Fastest: {plan.best.name}, ")


def test_a_deadline_marks_what_meets_it_and_names_the_best_score() -> None:
    near = make_plan(profile(SLOW_DEVICE), profile(), LinkPlan(1e5, 20.0), deadline_ms=150.0)
    assert [c.name for c in near.choices if near.meets(c)] == ["cut at layer2, rate 0"]
    assert near.best_score is near.fastest_split
    assert "1 of 6 meets the deadline of 150 ms." in near.verdict()
    far = make_plan(profile(SLOW_DEVICE), profile(), LinkPlan(1e5, 20.0), deadline_ms=300.0)
    assert "2 of 6 meet the deadline" in far.verdict()
    assert "Highest score of a cut within the deadline: cut at layer2, rate 1, 0.9 in 196.0 ms." in far.verdict()
    never = make_plan(profile(SLOW_DEVICE), profile(), LinkPlan(1e5, 20.0), deadline_ms=1.0)
    assert "Nothing is known to meet the deadline of 1 ms." in never.verdict()
    assert never.best_score is None


def test_without_a_trained_bottleneck_nothing_is_claimed() -> None:
    plan = make_plan(profile(coders=()), profile(coders=()), LINK)
    assert plan.fastest_split is None
    assert "is not known: no cut here has a trained bottleneck" in plan.verdict()


def test_only_rates_that_both_machines_know_are_planned() -> None:
    plan = make_plan(profile(), profile(coders=(coder(1, 941, None),)), LINK)
    assert [c.rate for c in plan.choices if c.rate is not None] == [1]
    both = make_plan(
        profile(coders=(coder(0, 41, 0.8), coder(0, 50, 0.7, model=OTHER))),
        profile(coders=(coder(0, 41, 0.8), coder(0, 50, 0.7, model=OTHER))),
        LINK,
        models=[OTHER],
    )
    assert [c.bytes_per_image for c in both.choices if c.rate is not None] == [50]


def test_a_score_is_taken_from_either_machine() -> None:
    plan = make_plan(profile(coders=(coder(0, 41, None),)), profile(coders=(coder(0, 41, 0.7),)), LINK)
    assert [c.score for c in plan.choices if c.rate == 0] == [0.7]


@pytest.mark.parametrize(
    ("device", "edge", "sentence"),
    [
        (profile(), profile(network="Other"), "the device's profile has network Net, the edge's Other"),
        (profile(), profile(names=("layer1", "layer2")), "their modules differ in names or shapes"),
        (profile(names=()), profile(coders=(coder(0, 41, 0.8, model=OTHER),)), "a package that the other does not"),
        (profile(names=(), coders=()), profile(), "a package that the other does not know"),
    ],
)
def test_foreign_profiles_are_refused(device: object, edge: object, sentence: str) -> None:
    with pytest.raises(LatencyError, match=sentence):
        make_plan(device, edge, LINK)  # type: ignore[arg-type]


def test_a_package_on_the_device_and_its_config_on_the_edge_go_together() -> None:
    plan = make_plan(profile(names=()), profile(), LINK)
    assert [c.rate for c in plan.choices if c.kind == SPLIT] == [0, 1]


@pytest.mark.parametrize(("device", "edge"), [((), None), (None, ())])
def test_a_model_that_a_profile_does_not_know_is_refused(device: tuple[()] | None, edge: tuple[()] | None) -> None:
    owner = "device" if edge is None else "edge"
    with pytest.raises(LatencyError, match=f"the {owner}'s profile does not know this model"):
        make_plan(profile(coders=device), profile(coders=edge), LINK, models=[MODEL])


@pytest.mark.parametrize(
    ("bits", "round_trip"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, -1), (1, math.nan)]
)
def test_impossible_links_are_refused(bits: float, round_trip: float) -> None:
    with pytest.raises(ValueError, match="a link has a positive bandwidth"):
        LinkPlan(bits, round_trip)
