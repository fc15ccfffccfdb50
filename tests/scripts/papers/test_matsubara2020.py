"""The page of matsubara2020 tells what was measured, and the fewest bytes that keep most of the precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.papers.matsubara2020.cifar import compare_curves
from scripts.papers.matsubara2020.points import Point, ScoredImages, kept_points
from scripts.papers.matsubara2020.report import Found, detector_section
from scripts.papers.matsubara2020.runs import PENN_FUDAN, Student, Teacher
from splitlearn.outputs import Boxes
from splitlearn.tasks import DetectionScores


@pytest.fixture(autouse=True)
def runs_lie_in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def points(method: str, channels: int, rows: Any) -> Any:
    return [
        Point(method, channels, setting, codec, {"map": score, "map_50": score}, size, 0.07 * channels / 3)
        for setting, codec, score, size in rows
    ]


def test_the_page_names_the_fewest_bytes_that_keep_the_precision(tmp_path: Path) -> None:
    teacher = Teacher(PENN_FUDAN, "faster")
    images = [("pixels", "–", 0.60, 9e5), ("quality 95", "JPEG", 0.60, 80_000.0), ("quality 10", "JPEG", 0.56, 8_000.0)]
    inputs = [p for method in ("image as it is", "image resized") for p in points(method, 0, images)]
    float_, four, two = ("float", "–", 0.58, None), ("4 bits", "RANS", 0.57, 6_000.0), ("2 bits", "RANS", 0.4, 2_000.0)
    estimate = ("4 bits", "order-0 entropy", 0.57, 10.0)  # which no payload reaches
    students = {
        Student(teacher, method, channels): points(
            method, channels, [float_, four, ("4 bits", "Raw", 0.57, 30_000.0), estimate, two]
        )
        for method in ("GHND", "HND")
        for channels in (3, 6, 12)
    }
    longer = Student(teacher, "GHND", 6, 32)
    students[longer] = points(longer.label, 6, [("float", "–", 0.59, None)])
    errors = {student: [0.6, 0.3, 0.1, 0.04] for student in students}
    text = detector_section(Found(teacher, inputs, students, errors), tmp_path)
    assert "GHND at C = 6 keeps 96.7 % of the teacher's box precision" in text
    assert "Trained for 32 epochs, C = 6 keeps 98.3 %." in text
    assert "| 6 | GHND, 32 epochs | 14.0 | 59.0 | 59.0 | 98.3 | – |" in text
    assert "GHND, C = 3, 4 bits, RANS, 5.86 KB, 0.075 of JPEG at quality 95" in text
    assert "A JPEG of what the detector looks at keeps as much with 7.81 KB (quality 10)" in text
    assert "| 6 | HND | 14.0 | 58.0 | 58.0 | 96.7 | – |" in text
    assert "| 12 | GHND | 2 bits | RANS | 1.95 | 0.025 | 0.0 | 40.0 | – |" in text
    assert "| C | method | 3 | 6 | 13 | 17 |" in text
    assert "| 6 | HND | 60.0 | 30.0 | 10.0 | 4.0 |" in text
    assert len((tmp_path / "points_faster.csv").read_text().splitlines()) == 1 + 6 + 6 * 5 + 1
    assert (tmp_path / "bytes_faster.png").stat().st_size > 0
    assert (tmp_path / "sizes_of_faster_tensors.png").stat().st_size > 0


def test_losses_are_compared_at_the_bytes_that_both_have() -> None:
    ours, theirs = [(100.0, 0.80), (200.0, 0.86)], [(100.0, 0.79), (200.0, 0.83), (400.0, 0.9)]
    assert "From 100 to 200 bytes, a is right in 2.00 points more than b, on average." in compare_curves(
        {"a": ours, "b": theirs}
    )
    for apart, told in (([(300.0, 0.9), (400.0, 0.9)], "86.00 % with 200"), ([(50.0, 0.7)], "80.00 % with 100")):
        assert f"no bytes in common; where they are nearest, a is right in {told} bytes, b in" in compare_curves(
            {"a": ours, "b": apart}
        )


class TwoImages:
    """Two images with one object each, in a batch."""

    def setup(self) -> None:
        self.read = 0

    def batches(self, part: str) -> Iterator[Any]:
        self.read += 1
        there = Boxes(torch.tensor([[1.0, 2.0, 5.0, 6.0]]), torch.tensor([0]))
        yield [torch.full((3, 8, 8), i / 4) for i in (1, 2)], [there, there]


def test_images_are_read_one_by_one_and_their_objects_wait_for_what_is_found() -> None:
    pytest.importorskip("faster_coco_eval")
    like = DetectionScores(1)
    data: Any = TwoImages()
    for count, right in ((None, 2), (1, 1)):
        tested = ScoredImages(data, "test", count, like)
        found = [{"boxes": torch.tensor([[1.0, 2, 5, 6]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}]
        outputs = (found for _ in tested.images())
        assert tested.score(outputs)["map"] == pytest.approx(1.0)
        assert not tested.waiting
        assert sum(1 for _ in tested.images()) == right


def test_points_of_a_few_images_are_kept_apart(tmp_path: Path) -> None:
    few, all_ = (points("HND", 3, [("4 bits", "RANS", score, 1.0)]) for score in (0.1, 0.2))

    def kept(images: int | None, measure: Any) -> list[float]:
        return [point.scores["map"] for point in kept_points(tmp_path, "points", images, measure)]

    assert kept(5, lambda: few) == [0.1]
    assert kept(None, lambda: all_) == [0.2]
    assert kept(5, list) == [0.1]  # from its file
