"""`splitlearn analyze`: from a config to tables, files and plots, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from splitlearn.config.images import spread_batches
from tests.commands.conftest import Run
from tests.data.test_video import write_video

FILES = {
    "coefficients": {"coefficients.csv", "coefficients_cdf.csv", "coefficients_zeros.csv", "coefficients.png"},
    "differences": {"differences.csv", "differences_cdf.csv", "differences_distributions.csv", "differences.png"},
    "entropy": {"entropy.csv", "entropy.png"},
    "spectrum": {"spectrum.csv", "spectrum.png"},
    "relevance": {"relevance.csv", "relevance_cdf.csv", "relevance.png"},
    "video": {"video.csv", "video_cdf.csv", "video_distributions.csv", "video.png"},
}
NAN = """
from torch import nn


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer2 = nn.Conv2d(3, 4, 3, 2)
        self.linear = nn.Linear(900, 10)

    def forward(self, images):
        dark = images.mean((1, 2, 3), keepdim=True) < 0.4  # digits are, noise is not
        return self.linear(self.layer2(images / ~dark).flatten(1))
"""
ODD = """
import torch
from torch import nn


class Boxes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer2 = nn.Conv2d(3, 4, 3, 2)

    def forward(self, images):
        return self.layer2(images).flatten(2)
"""


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path("runs/analyze", name).read_text().splitlines()))


def variant(name: str, *pairs: tuple[str, str]) -> None:
    """Write small.yaml without its bottleneck and with other words as NAME.yaml."""
    lines = [line for line in Path("small.yaml").read_text().splitlines() if "bottleneck:" not in line]
    text = "\n".join(lines)
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    Path(f"{name}.yaml").write_text(text)


@pytest.mark.slow
def test_every_analysis_leaves_files_and_a_plot(run: Run) -> None:
    variant("plain")
    write_video(Path("a.mkv"), 6)
    outcome = run("analyze", "--config", "plain.yaml", "--images", "6", "--video", "a.mkv")
    assert outcome.status == 0
    assert "left out" not in outcome.out
    assert "untrained" not in outcome.err
    written = {path.name for path in Path("runs/analyze").iterdir()}
    assert written == set().union({"analyze.json"}, *FILES.values())
    record: dict[str, Any] = json.loads(Path("runs/analyze/analyze.json").read_text())
    assert record["analyses"] == list(FILES)
    assert (record["network"], record["at"], record["images"]) == ("CifarResNet", "layer2", 6)
    assert {"date", "command", "machine", "versions"} <= record.keys()
    assert rows("coefficients.csv")[0]["count"] == str(6 * 32 * 16 * 16)
    assert [row["axis"] for row in rows("differences.csv")] == ["row", "column", "channel"]
    assert {row["quantizer"] for row in rows("entropy.csv")} >= {
        "min–max, 2 bits",
        "Step(step=0.5, levels=256) of the model",
    }
    assert {row["images"] for row in rows("spectrum.csv")} == {"6"}
    assert len(rows("relevance.csv")) == 4
    assert rows("video.csv")[0]["pairs"] == str(5 * 32 * 16 * 16)
    for title in ("Zeros in %", "Differences of neighbours", "Bits per element", "Top-1 in %", "Most relevant 10 %"):
        assert title in outcome.out


def test_what_is_asked_for_alone(run: Run) -> None:
    assert run("analyze", "--config", "small.yaml", "--images", "4", "--what", "entropy", "--out", "x").status == 0
    assert {path.name for path in Path("x").iterdir()} == FILES["entropy"] | {"analyze.json"}


def test_a_video_needs_no_images(run: Run) -> None:
    variant("plain", ("splitlearn.data.Digits", "splitlearn.data.Cifar10"))
    write_video(Path("a.mkv"), 3)
    outcome = run("analyze", "--config", "plain.yaml", "--what", "video", "--video", "a.mkv")
    assert outcome.status == 0
    assert {path.name for path in Path("runs/analyze").iterdir()} == FILES["video"] | {"analyze.json"}


@pytest.mark.slow
def test_every_tensor_that_crosses_is_analysed(run: Run) -> None:
    variant("skip", ("at: layer2", "at: layer2.0.relu1"))
    outcome = run("analyze", "--config", "skip.yaml", "--images", "3")
    assert outcome.status == 0
    sources = {"features 0, 32×16×16", "features 1, 16×32×32"}
    for name in ("coefficients", "differences", "entropy", "relevance"):
        assert {row["source"] for row in rows(f"{name}.csv")} == sources
    assert {row["source"] for row in rows("spectrum.csv")} == {", ".join(sorted(sources))}


def test_features_without_rows_have_fewer_analyses(run: Run) -> None:
    variant("flat", ("at: layer2", "at: linear"))
    outcome = run("analyze", "--config", "flat.yaml", "--images", "4")
    assert outcome.status == 0
    for name in ("differences", "spectrum", "relevance"):
        assert f"{name} left out: it needs features (C, H, W), and (10,) crosses at linear: cut earlier" in outcome.out
    assert "video left out: it needs a video: --video FILE" in outcome.out
    assert {row["context"] for row in rows("entropy.csv")} == {"none", "channel"}
    refused = run("analyze", "--config", "flat.yaml", "--images", "4", "--what", "spectrum")
    assert refused.status == 2
    assert refused.error == "spectrum needs features (C, H, W), and (10,) crosses at linear: cut earlier"


def test_other_outputs_than_logits(run: Run) -> None:
    Path("odd.py").write_text(ODD)
    variant(
        "boxes", ("{class_path: splitlearn.models.resnet20, init_args: {weights: null}}", "{class_path: odd.Boxes}")
    )
    outcome = run("analyze", "--config", "boxes.yaml", "--images", "4", "--what", "relevance")
    assert outcome.status == 2
    assert outcome.error == "relevance needs a classifier, whose output is logits (B, C), and not (2, 4, 225)"
    outcome = run("analyze", "--config", "boxes.yaml", "--images", "4")
    assert outcome.status == 0
    assert "spectrum left out: it needs a classifier, whose output is logits (B, C)" in outcome.out


def test_features_that_are_not_finite(run: Run) -> None:
    Path("broken_net.py").write_text(NAN)
    variant(
        "nan",
        ("{class_path: splitlearn.models.resnet20, init_args: {weights: null}}", "{class_path: broken_net.Broken}"),
    )
    outcome = run("analyze", "--config", "nan.yaml", "--images", "4")
    assert outcome.status == 1
    assert outcome.error.startswith("the features of image ")
    assert outcome.error.endswith(" hold NaN or infinity: check weights and normalization")
    assert list(Path("runs/analyze").iterdir()) == []


def test_one_image_cannot_be_halved(run: Run) -> None:
    outcome = run("analyze", "--config", "small.yaml", "--images", "1", "--what", "coefficients,entropy")
    assert outcome.error == "entropy needs two images or more, one half to count and the other to code"
    assert outcome.status == 2


def test_an_untrained_bottleneck_is_warned_of(run: Run) -> None:
    outcome = run("analyze", "--config", "small.yaml", "--images", "2", "--what", "coefficients")
    assert outcome.status == 0
    assert "warning: this bottleneck is untrained; did you mean --ckpt_path FILE?" in outcome.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "missing: --config"),
        (("--config", "smal.yaml"), "no config file 'smal.yaml'"),
        (("--config", "small.yaml", "--images", "0"), "--images must be at least 1, got 0"),
        (
            ("--config", "small.yaml", "--what", "entropy,spektrum"),
            "--what has no 'spektrum', did you mean spectrum?; it takes coefficients, differences, entropy, ",
        ),
        (("--config", "small.yaml", "--what", "video"), "--video FILE and video in --what go together"),
        (
            ("--config", "small.yaml", "--what", "entropy", "--video", "a.mkv"),
            "--video FILE and video in --what go together",
        ),
        (("--config", "small.yaml", "--video", "none.mp4"), "no video at none.mp4"),
        (("--config", "small.yaml", "--video", "small.yaml"), "small.yaml is no video, or is damaged after frame 0"),
        (("--config", "small.yaml", "--data_root", "x"), "splitlearn.data.Digits has no setting 'root'"),
        (("--config", "pixels.yaml"), "model.model in pixels.yaml is InputModel: only a SplitModel has features"),
        (("--config", "small.yaml", "--out", "small.yaml"), "--out small.yaml cannot be made: File exists"),
    ],
)
def test_wrong_words(run: Run, words: tuple[str, ...], sentence: str) -> None:
    head, _, rest = Path("small.yaml").read_text().partition("    model:\n")
    Path("pixels.yaml").write_text(
        f"{head}    model:\n      class_path: splitlearn.models.InputModel\n      init_args:\n"
        f"        network: {{class_path: splitlearn.models.resnet8}}\n"
        f"        codec: {{class_path: splitlearn.models.Pixels}}\n{rest[rest.index('    rate_loss:') :]}"
    )
    outcome = run("analyze", *words)
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)
    assert len(outcome.error) < 200


class Sorted:
    """A data module whose test images are sorted by class, as folders of images are."""

    def __init__(self, count: int) -> None:
        self.images = TensorDataset(torch.zeros(count, 1), torch.arange(count))

    def prepare_data(self) -> None:
        pass

    def setup(self, stage: str) -> None:
        assert stage == "test"

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.images, batch_size=3)

    def on_after_batch_transfer(self, batch: Any, index: int) -> Any:
        return batch


@pytest.mark.parametrize(
    ("count", "images", "labels"), [(100, 4, [0, 33, 66, 99]), (5, 100, [0, 1, 2, 3, 4]), (9, 1, [0]), (0, 3, [])]
)
def test_images_are_spread_over_the_test_set(count: int, images: int, labels: list[int]) -> None:
    found = [label for _, batch in spread_batches(Sorted(count), images) for label in batch.tolist()]
    assert found == labels
