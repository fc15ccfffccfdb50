"""Pictures and page of scripts/papers/photographs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scripts.papers.common.rate_study import Subject
from scripts.papers.photographs import layers
from scripts.papers.photographs.pictures import BareJpeg
from scripts.papers.photographs.report import report
from scripts.papers.photographs.trainings import Case, Unit
from splitlearn.analysis import RatePoint
from splitlearn.codecs import ImageFile

POINT = RatePoint("JPEG", "quality 45", "JPEG", 256, 0.90, 4000.0, 2.0, 0)
COSTS = {"JPEG, quality 45": {"device_macs": 0, "encode_ms": 0.5}}


def smooth(size: int) -> NDArray[np.uint8]:
    """Return a picture that JPEG codes well, with values in all channels."""
    rows, columns = np.mgrid[:size, :size]
    waves = [127 + 100 * np.sin(rows / (4 + c) + columns / 9) for c in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 75])
def test_a_jpeg_without_what_is_known_is_the_same_picture(quality: int) -> None:
    image, bare, whole = smooth(64), BareJpeg(quality, 64), ImageFile("JPEG", quality)
    payload = bare.encode(image)
    assert np.array_equal(bare.decode(payload), whole.decode(whole.encode(image)))
    assert len(payload) < len(whole.encode(image)) - 200
    assert bare.encode(np.zeros_like(image)) != payload


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="images are 64×64 with three channels"):
        BareJpeg(75, 64).encode(smooth(32))


def test_the_page_compares_with_the_smallest_picture(tmp_path: Path) -> None:
    unit = Unit("mobilenet_v2", "trained behind the head", ("mobilenet_v2.yaml",), (0.1, 0.6))
    subject = Subject("Caltech-101", "", (), Path(), Path())
    case = Case(
        subject, "MobileNetV2, features.6", "top-1 accuracy (%)", "Two images.", (), Path(), (unit,), "features.15"
    )
    points = {
        "unsplit": replace(POINT, method="unsplit", score=0.905),
        "JPEG_45": POINT,
        "WebP_5": replace(
            POINT, method="WebP", setting="quality 5", score=0.85, bytes_per_image=2000.0
        ),  # loses too much
        "min_max_4": replace(POINT, method="min–max", codec="run-length", bytes_per_image=16000.0),
        "clipped_far_8": replace(
            POINT, method="clipped behind features.15", setting="8 levels", bytes_per_image=1200.0
        ),
        "mobilenet_v2_0.1": replace(POINT, method=unit.method, setting="λ = 0.1", bytes_per_image=1000.0),
        "mobilenet_v2_0.6": replace(POINT, method=unit.method, setting="λ = 0.6", bytes_per_image=800.0, score=0.84),
    }
    folder = tmp_path / "runs/caltech-101_points"
    folder.mkdir(parents=True)
    for name, point in points.items():
        (folder / f"{name}.json").write_text(json.dumps([asdict(point)]))
    (tmp_path / "runs/caltech-101_costs.json").write_text(json.dumps(COSTS))
    report([case], tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out/README.md").read_text()
    assert str(tmp_path) not in page
    lines = page.splitlines()
    assert "| Caltech-101 | trained behind the head | 4,000 | – | 1,000 | **0.25** | – | 0 |" in lines
    assert "| Caltech-101 | clipped behind features.15 | 4,000 | – | 1,200 | **0.30** | – | 0 |" in lines
    assert "| WebP | none of those measured | – | – | – |" in lines
    assert "| min–max | quality 45 | 16,000 | 90.00 | **4.00** |" in lines
    assert "| trained behind the head | λ = 0.6 | 800 | 84.00 | WebP, quality 5: 2,000 B | **0.40** |" in lines
    assert "| trained behind the head | λ = 0.1 | 1,000 | 90.00 | JPEG, quality 45: 4,000 B | **0.25** |" in lines
    (folder / "of_before_9.json").write_text(json.dumps([asdict(replace(POINT, method="trained otherwise"))]))
    with pytest.raises(ValueError, match="holds points of trained otherwise, measured no more: remove these files"):
        report([case], tmp_path / "runs", tmp_path / "out")  # and does not count as a picture
    for name in ("points.csv", "results.json", "caltech-101.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_a_term_costs_what_is_needed_without_it() -> None:
    whole = [(100.0, 0.8), (200.0, 0.9), (400.0, 0.95)]
    found = {name: whole for name in layers.TERMS} | {
        "without the logits": [(2 * size, share) for size, share in whole],
        "the logits alone": [(10.0, 0.1), (20.0, 0.2), (30.0, 0.3)],
    }
    facts = {"processor": "P", "machine": "M", "versions": {}, "command": "layers", "date": "today"}
    lines = "\n".join(layers.page(found, facts)).splitlines()
    (doubled,) = [line for line in lines if line.startswith("| without the logits")]
    assert doubled.endswith("| 200 B, 80.00 % | 400 B, 90.00 % | 800 B, 95.00 % | +100.0 % |")
    (apart,) = [line for line in lines if line.startswith("| the logits alone")]
    assert apart.endswith("| not comparable |")


@pytest.mark.slow
def test_terms_are_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # configs are then those that ship
    monkeypatch.setattr(layers, "TERMS", {"all terms": (), "without the logits": layers.TERMS["without the logits"]})
    monkeypatch.setattr(layers, "RATE_WEIGHTS", (0.1,))
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
    lengths = ("--trainer.max_steps", "2", "--trainer.val_check_interval", "2")
    sizes = ("--data.val_size", "16", "--data.test_size", "16", "--data.batch_size", "16")
    found = layers.measured(tmp_path / "images", tmp_path / "runs", (*lengths, *sizes))
    assert set(found) == set(layers.TERMS)
    for ((size, share),) in found.values():
        assert size > 0
        assert 0 <= share <= 1
