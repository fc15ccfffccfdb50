"""Footage and page of scripts/papers/streams."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.papers.streams.footage import LENGTH, Clip, moving_scene, still, unrelated_scene, video_scene
from scripts.papers.streams.points import ALONE, CHOICE, NEXT, STICKY, STILL, StreamPoint
from scripts.papers.streams.report import Found, write
from splitlearn.data import VideoError
from splitlearn.data.images import CentreCrop
from tests.data.test_video import write_video

VIEW = CentreCrop(32)
POINT = StreamPoint(ALONE, "4 levels", 0.95, 3, 3, 1000.0, 1000.0, 0.0, 25000.0, 2.0, 0, [1000, 1000, 1000])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def test_settings_are_chosen_on_other_frames_than_those_that_are_scored(tmp_path: Path) -> None:
    pytest.importorskip("av")
    scene = video_scene(write_video(tmp_path / "a.mkv", 12), 6, "static camera")
    (before, behind), (scored,) = scene.chosen_on(VIEW), scene.scored(VIEW)
    assert [len(clip.frames) for clip in (before, behind, scored)] == [4, 4, 4]
    assert scored.seconds == pytest.approx(0.4)
    chosen = torch.cat((before.frames, behind.frames))
    assert not any(torch.equal(a, b) for a in chosen for b in scored.frames)
    with pytest.raises(VideoError, match="has 4 frames, and six are needed"):
        video_scene(write_video(tmp_path / "b.mkv", 4), 6, "short")


def test_a_camera_moves_over_photographs_alike_each_time(photographs: Path) -> None:
    scene = moving_scene(photographs, 30)
    clips = scene.scored(VIEW)
    assert [tuple(clip.frames.shape) for clip in clips] == [(LENGTH, 3, 32, 32)] * 3
    assert len(scene.chosen_on(VIEW)) == 5  # of eight photographs
    for clip, again in zip(clips, moving_scene(photographs, 30).scored(VIEW), strict=True):
        assert torch.equal(clip.frames, again.frames)
        steps = (clip.frames[1:] - clip.frames[:-1]).abs().mean((1, 2, 3))
        assert 0 < steps.min() <= steps.max() < 0.2  # of each, and smoothly
    with pytest.raises(SystemExit, match="holds 8 photographs, and 10 are needed"):
        moving_scene(photographs, 50)


def test_unrelated_images_have_nothing_to_choose_from(photographs: Path) -> None:
    scene = unrelated_scene(photographs, 4)
    assert scene.chosen_on(VIEW) == []
    assert len(scene.scored(VIEW)[0].frames) == 4
    assert not scene.rivals


def test_a_still_has_the_noise_of_a_camera() -> None:
    clip = Clip(torch.full((2, 3, 16, 16), 0.5), 0.1)
    assert torch.equal(still(clip, 0.0).frames[0], still(clip, 0.0).frames[5])
    noisy = 255 * still(clip, 1.0).frames
    assert 0.8 < float(noisy.std()) < 1.2
    assert torch.equal(noisy, noisy.round())


def points() -> list[StreamPoint]:
    """Four levels, of which the reference saves a third and a margin of 0.15 more than half; 0.3 loses answers."""
    after = replace(POINT, key_frames=1, sizes=[1000, 600, 605])
    follow = replace(after, method=NEXT, bytes_per_frame=735.0, bytes_per_delta_frame=602.5)
    sticky = replace(follow, method=STICKY, setting="4 levels, margin 0.15", bytes_per_delta_frame=400.0, encode_ms=4.0)
    wide = replace(sticky, setting="4 levels, margin 0.3", agreement=0.5, bytes_per_delta_frame=200.0)
    choices = [replace(each, method=CHOICE) for each in (follow, sticky, wide)]
    tiled = replace(POINT, method="H265 on tiled features", setting="crf 24", bytes_per_frame=1470.0, encode_ms=80.0)
    pixels = replace(POINT, method="H265 of the pixels", setting="crf 30", bytes_per_frame=300.0, agreement=0.96)
    quiet = replace(follow, method=STILL, setting="4 levels, margin 0.15, noise 1", bytes_per_delta_frame=9.0)
    return [POINT, follow, sticky, wide, *choices, tiled, pixels, quiet]


def test_the_page_tells_goals_rivals_and_who_wins(tmp_path: Path) -> None:
    unrelated = [POINT, replace(POINT, method=NEXT, sizes=[1000, 1005, 1008])]
    found = [
        Found("YOLOv8n model.4", "mAP (%)", "static camera", "Three frames", points()),
        Found("YOLOv8n model.4", "mAP (%)", "unrelated images", "Three images", unrelated),
    ]
    write(found, tmp_path)
    page = (tmp_path / "README.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    assert ["YOLOv8n model.4", "static camera", "4 levels", "reference", "0.603", "0.78", "yes"] in rows
    assert ["YOLOv8n model.4", "static camera", "4 levels", "sticky, margin 0.15", "0.400", "0.5", "yes"] in rows
    assert ["YOLOv8n model.4", "unrelated images", "4 levels", "reference, worst frame", "1.008", "1.01", "yes"] in rows
    (tiled,) = (row for row in rows if "H265 on tiled features" in row and row[0].startswith("4 levels"))
    assert tiled[-2:] == ["**0.50**", "20.0"]
    assert "at least the same agreement: none. More bytes: 4 levels, margin 0.15." in page
    (quiet,) = (row for row in rows if row[:2] == ["4 levels, margin 0.15", "1"])
    assert quiet[-1] == "0.90"
    assert str(tmp_path) not in page
    for name in ("points.csv", "results.json", "yolov8n_model_4.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 2


def test_where_nothing_agrees_no_margin_is_chosen() -> None:
    nothing = [replace(point, agreement=0.0) for point in points()]
    (stream,) = Found("MobileNetV2", "same class (%)", "static camera", "", nothing).streams
    assert stream.sticky is None


def test_a_goal_is_not_met_where_scored_answers_are_lost(tmp_path: Path) -> None:
    lost = [replace(p, agreement=0.5) if p.method == STICKY else p for p in points()]
    write([Found("YOLOv8n model.4", "mAP (%)", "static camera", "Three frames", lost)], tmp_path)
    (row,) = (
        line for line in (tmp_path / "README.md").read_text().splitlines() if "| sticky, margin 0.15 | 0.400" in line
    )
    assert "**no**: 0.526 of the agreement" in row


def test_a_margin_that_loses_answers_is_not_chosen() -> None:
    lost = [replace(p, agreement=0.9) if p.method == CHOICE and "margin" in p.setting else p for p in points()]
    (stream,) = Found("YOLOv8n", "mAP (%)", "static camera", "", lost).streams
    assert stream.sticky is None
    assert stream.best.method == NEXT
