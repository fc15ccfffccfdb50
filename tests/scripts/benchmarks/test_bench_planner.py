"""What the comparison of plans with reality counts, and how its device is slowed down."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.benchmarks.bench_planner import PictureEdge, sender, slowed, summary, whole
from splitlearn.codecs import RunLength
from splitlearn.models import SplitModel, resnet8, split
from splitlearn.quantizers import Step
from splitlearn.runtime import Device, Package, write_package
from splitlearn.runtime.forms import TopClasses
from splitlearn.runtime.planner import LinkPlan, make_plan
from tests.networks import SHAPE
from tests.runtime.conftest import pixels
from tests.runtime.latency_profiles import profile


def row(link: str, kind: str, predicted: float, measured: float) -> dict[str, object]:
    return {"network": "net", "link": link, "kind": kind, "predicted_ms": predicted, "measured_ms": measured}


def test_errors_are_those_of_choices_with_a_link_and_a_near_best_counts() -> None:
    rows = [
        row("slow", "device", 100, 10),  # left out of the errors, but the measured best
        row("slow", "split", 50, 100),
        row("fast", "device", 100, 100),
        row("fast", "split", 90, 100),
        row("fast", "picture", 130, 100),
    ]
    found = summary(rows)
    assert found["predictions"] == 3
    assert (found["median_error"], found["worst_error"]) == pytest.approx((0.3, 0.5))
    assert (found["best_or_near"], found["settings"]) == (1, 2)
    near = summary([row("slow", "split", 50, 109), row("slow", "picture", 60, 100)])
    assert near["best_or_near"] == 1


def test_a_slower_device_has_the_same_network_and_edge() -> None:
    link = LinkPlan(1e6, 20.0)
    fast, slow = make_plan(profile(), profile(), link), make_plan(slowed(profile(), 3.0), profile(), link)
    for one, other in zip(fast.choices, slow.choices, strict=True):
        if one.total_ms is not None:
            assert other.device_ms == pytest.approx(3 * one.device_ms)
            assert other.encode_ms == pytest.approx(3 * one.encode_ms)
            assert (other.link_ms, other.decode_ms, other.edge_ms) == (one.link_ms, one.decode_ms, one.edge_ms)


@pytest.mark.slow
def test_pictures_payloads_and_the_whole_network_give_the_same_answer(tmp_path: Path) -> None:
    model = SplitModel(split(resnet8(), "layer2", SHAPE), Step(0.01), RunLength()).eval()
    [image, other] = pixels(2)
    write_package(model, tmp_path / "package", np.stack([image, other]), TopClasses(3))
    package = Package(tmp_path / "package")
    edge, device = PictureEdge(package), Device(package)
    choices = make_plan(profile(), profile(), LinkPlan(1e6, 20.0)).choices
    acts = {choice.name: sender(choice, device) for choice in choices if choice.rate in (None, 0)}
    expected = int(np.argmax(whole(package)(image)[0]))
    [answer] = edge.answer([acts["cut at layer2, rate 0"](image)])  # type: ignore[list-item]
    assert answer["classes"][0] == expected  # type: ignore[index]
    file = acts["send JPEG 75, all on the server"](image)
    assert isinstance(file, bytes)
    decoded = np.asarray(Image.open(io.BytesIO(file)))
    [answer] = edge.answer([file])
    assert answer["classes"][0] == int(np.argmax(whole(package)(decoded)[0]))  # type: ignore[index]
