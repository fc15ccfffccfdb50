"""A segmentation network of one's own from the command line: fit, test, predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from PIL import Image

from tests.commands.conftest import Run

CONFIG = """
seed_everything: 0
trainer:
  accelerator: cpu
  max_epochs: 2
  enable_progress_bar: false
  enable_model_summary: false
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: runs, name: masks}}
  callbacks: [{class_path: splitlearn.tasks.StaticTables}]
checkpoint: {monitor: val/miou, mode: max, auto_insert_metric_name: false, filename: best}
model:
  class_path: splitlearn.tasks.SegmentationTask
  init_args:
    num_classes: 4
    model:
      class_path: splitlearn.models.SplitModel
      init_args:
        net:
          class_path: splitlearn.models.split
          init_args: {model: {class_path: tests.networks.Colours}, at: features, example: [3, 32, 32]}
        bottleneck: {class_path: splitlearn.models.NormalizedSeparable, init_args: {channels: 2, stride: 2}}
        quantizer: {class_path: splitlearn.quantizers.Step, init_args: {step: 0.5}}
        codec: {class_path: splitlearn.codecs.RANS}
    rate_loss: {class_path: splitlearn.losses.L1Rate}
    rate_weight: 0.1
    distillation: {class_path: splitlearn.losses.FeatureDistillation}
    lr_scheduler: {class_path: torch.optim.lr_scheduler.OneCycleLR, init_args: {max_lr: 0.02}}
data:
  class_path: splitlearn.data.FolderSegmentation
  init_args:
    classes: {rest: 0, person: [1, 7], cat: 17, dog: []}
    image_size: 32
    train_images: images/train2017
    train_masks: semantic_segmentation/masks/train2017
    test_images: images/val2017
    test_masks: semantic_segmentation/masks/val2017
    val_size: 1
    batch_size: 2
"""


def test_fit_test_and_predict(run: Run, tmp_path: Path, mask_folder: Path) -> None:
    (tmp_path / "masks.yaml").write_text(CONFIG)
    words = ("--config", "masks.yaml", "--data.root", str(mask_folder))
    assert run("fit", *words).status == 0
    assert {file.name for file in Path("runs/masks/version_0/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}

    assert run("test", *words, "--ckpt_path", "last").status == 0
    results = json.loads(Path("runs/masks/version_1/results.json").read_text())
    assert 0 <= results["test/miou"] <= results["test/pixel_accuracy"] <= 1
    assert results["test/bits_per_pixel"] * 32 * 32 / 8 == results["test/bytes_per_image"]
    assert results["test/table_bytes"] > 0
    assert list(results["config"]["test"]["data"]["init_args"]["classes"]) == [
        "rest",
        "person",
        "cat",
        "dog",
    ]  # in order

    assert run("predict", *words, "--ckpt_path", "last").status == 0
    folder = Path("runs/masks/version_2")
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert {row["name"] for row in rows} <= {"rest", "person", "cat", "dog"}
    assert sorted(file.name for file in (folder / "masks").iterdir()) == [f"val2017_{n}.png" for n in range(4)]
    with Image.open(folder / "masks/val2017_0.png") as mask:
        assert (mask.size, mask.mode) == ((32, 32), "P")


def test_what_is_wrong_is_told_in_a_sentence(run: Run, tmp_path: Path, mask_folder: Path) -> None:
    (tmp_path / "masks.yaml").write_text(CONFIG)
    outcome = run("test", "--config", "masks.yaml", "--data.root", "nowhere")
    assert (outcome.status, "nowhere/images/val2017: set root and the names" in outcome.error) == (1, True)
    (tmp_path / "masks.yaml").write_text(CONFIG.replace("rest: 0", "rest: 2"))
    outcome = run("test", "--config", "masks.yaml", "--data.root", str(mask_folder))
    assert (outcome.status, "has the id 0, which has no class: name it in" in outcome.error) == (1, True)
    (tmp_path / "masks.yaml").write_text(CONFIG.replace("cat: 17", "cat: 7"))
    outcome = run("test", "--config", "masks.yaml", "--data.root", str(mask_folder))
    assert outcome.status != 0
    assert "have one class each; got 7" in outcome.error
