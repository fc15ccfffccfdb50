"""Runs of shipped configs, and checks of what they leave."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from splitlearn.commands import main
from splitlearn.models import CompressionModel, EarlyExitModel, SplitModel, TiledFeatures
from splitlearn.models.cutting.check import same

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
PARTS = ("data", "spaces")  # folders of files that are no experiments
EXPERIMENTS = sorted(p for p in CONFIGS.rglob("*.yaml") if p.parent.name not in PARTS and p.name != "trainer.yaml")
RCNNS = [p for p in EXPERIMENTS if p.parent.name == "matsubara2020"]
PHOTOGRAPHS = CONFIGS / "photographs"
STREAMS = sorted((CONFIGS / "streams").glob("*.yaml"))
DATTA = CONFIGS / "datta2022/resnet20_layer2.yaml"
STACKED = ("ours", "ours_factorized", "full_model", "printed")
ON_PHOTOGRAPHS = ("stage1", "stage2", "behind_features10", "behind_features14", "labels")
BASE = {CONFIGS / "datta2022" / f"{stacked}.yaml": (DATTA,) for stacked in STACKED}  # what a file is stacked on
BASE |= {
    CONFIGS / f"datta2022/{net}.yaml": (CONFIGS / f"carra2023/{net}.yaml",) for net in ("resnet50", "mobilenet_v2")
}
BASE |= {PHOTOGRAPHS / f"{name}.yaml": (PHOTOGRAPHS / "mobilenet_v2.yaml",) for name in ON_PHOTOGRAPHS}
ONE_STEP = """
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 1
  limit_val_batches: 1
  limit_test_batches: 1
  enable_progress_bar: false
"""

Measured = list[tuple[CompressionModel, Any]]  # images, or features in a sweep
LATER_STAGE = """
model: {init_args: {model: {init_args: {weights: null, net: {init_args: {model: {init_args: {weights: null}}}}}}}}
"""


LONG = {  # folder/stem: they take long, or a sibling in the default suite takes the same steps
    *("beysens2023/digits", "beysens2023/mobilenet_v2_exit5", "beysens2023/mobilenet_v2_exit5_entropy"),
    *("beysens2023/mobilenet_v2_vanilla", "beysens2023/resnet20_exit_entropy", "carra2023/yolov5m_model4m"),
    *("carra2023/resnet152", "carra2023/vgg16", "datta2022/deeplabv3_resnet50", "datta2022/full_model"),
    *("datta2022/mobilenet_v2", "datta2022/ours", "matsubara2020/pennfudan_student"),
    *("matsubara2020/pennfudan_teacher", "matsubara2020/resnet20_student", "matsubara2020/resnet50_student"),
}


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def each(paths: Iterable[Path]) -> pytest.MarkDecorator:
    """Return the mark that runs a test for each config, in the suite of slow tests for long ones."""
    marks = {path: pytest.mark.slow if name(path.with_suffix("")) in LONG else () for path in paths}
    return pytest.mark.parametrize("path", [pytest.param(p, marks=m, id=name(p)) for p, m in marks.items()])


def run(monkeypatch: pytest.MonkeyPatch, command: str, path: Path, folder: Path, images: Path, *options: str) -> None:
    step = folder / "step.yaml"
    step.write_text(ONE_STEP)
    if (
        "weights: runs/" in path.read_text() and path not in RCNNS and path.parent != PHOTOGRAPHS
    ):  # that an earlier stage leaves
        step.write_text(ONE_STEP + LATER_STAGE)
    stack = [CONFIGS / "trainer.yaml", *BASE.get(path, ()), path, step]
    words = [word for config in stack for word in ("--config", str(config))]
    words += ["--data.batch_size", "4"]  # steps are taken, not learnt from
    if "digits" not in path.read_text():
        words += ["--data.root", str(images), "--data.val_size", "10"]
    place = ["--trainer.logger.save_dir", str(folder), "--trainer.logger.name", "run"]
    monkeypatch.chdir(ROOT)  # configs name weights relative to the project
    monkeypatch.setattr(sys, "argv", ["splitlearn", command, *words, *place, *options])
    assert main() == 0


def check_results(folder: Path, measured: Measured, images_of: str = "test") -> None:
    """Check sizes and scores of a test, or of a trial's validation, and that payloads carried what quantizers made."""
    results = json.loads(next(folder.rglob("results.json")).read_text())
    assert results[f"{images_of}/bytes_per_image"] > 9
    names = [f"{images_of}/{score}" for score in ("accuracy", "miou", "pixel_accuracy")]
    scores = [results[name] for name in names if name in results]
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    model, images = measured[0]
    model.eval()
    if isinstance(model, EarlyExitModel):
        model.threshold = 1.0  # all are sent
    payloads = model.compress(images)
    assert len(payloads) == len(images)
    with torch.no_grad():
        lossless = not isinstance(model, TiledFeatures)  # HEVC loses more than its quantizer does
        assert same(model.decompress(payloads), model(images)) == lossless
        if isinstance(model, SplitModel):
            latents = zip(model.coder.quantizers, model.run(images).latents, strict=True)
            sent = [quantizer(latent) for quantizer, latent in latents]
            assert all(map(torch.equal, model.coder.latents_hat(payloads), sent))
