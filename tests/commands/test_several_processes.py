"""Test and predict in two processes, with Lightning's ddp strategy on the CPU: as in one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.commands.conftest import run_in
from tests.commands.test_sweep_command import ROOT

pytestmark = pytest.mark.slow

CONFIG = """
trainer:
  accelerator: cpu
  enable_progress_bar: false
  logger: {{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {{save_dir: runs, name: small}}}}
model:
  class_path: splitlearn.tasks.{task}
  init_args:
    num_classes: 3
    {more}
    model:
      class_path: splitlearn.models.SplitModel
      init_args:
        net:
          class_path: splitlearn.models.split
          init_args: {{model: {network}, example: [3, 32, 32], {at}}}
        quantizer: {{class_path: splitlearn.quantizers.MinMax, init_args: {{bits: 8}}}}
        codec: {{class_path: splitlearn.codecs.Huffman}}
data: {data}
"""
NAMED = CONFIG.format(
    task="ClassificationTask",
    more="",
    network="{class_path: splitlearn.models.resnet8, init_args: {num_classes: 3}}",
    at="at: layer2",
    data="{class_path: splitlearn.data.ImageFolder, init_args: {root: pics, image_size: 32, batch_size: 2}}",
)
FOUND = CONFIG.format(
    task="DetectionTask",
    more="detector: {class_path: tests.tasks.test_detection.Brightest}",
    network="{class_path: tests.tasks.test_detection.same_image}",
    at='at: "0"',
    data="{class_path: splitlearn.data.YoloDetection, init_args: {root: ., test_images: images/test, image_size: 64, "
    "num_classes: 3, batch_size: 2}}",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images of three classes, each with a rectangle in the colour of its class."""
    for part in ("images/test", "labels/test", *(f"pics/test/{name}" for name in ("a", "b", "c"))):
        (tmp_path / part).mkdir(parents=True)
    for n in range(7):
        image, colour = Image.new("RGB", (64, 64)), [255 * (n % 3 == channel) for channel in range(3)]
        ImageDraw.Draw(image).rectangle((8, 8, 31 + n, 31), fill=tuple(colour))
        image.save(tmp_path / f"images/test/{n}.png")
        image.save(tmp_path / "pics/test" / "abc"[n % 3] / f"{n}.png")
        shares = ((40 + n) / 128, 40 / 128, (24 + n) / 64, 24 / 64)
        (tmp_path / f"labels/test/{n}.txt").write_text(f"{n % 3} {' '.join(map(str, shares))}\n")
    return tmp_path


@pytest.mark.parametrize(("config", "score"), [(NAMED, "test/accuracy"), (FOUND, "test/map")])
def test_two_processes_find_what_one_does(folder: Path, config: str, score: str) -> None:
    (folder / "config.yaml").write_text(config)
    words = [["--trainer.devices", "1"], ["--trainer.devices", "2", "--trainer.strategy", "ddp"]]
    for command in ("test", "predict"):
        for several in words:
            done = run_in(folder, command, "--config", "config.yaml", *several, PYTHONPATH=str(ROOT))
            assert done.returncode == 0, done.stderr
    alone, shared = (json.loads((folder / f"runs/small/version_{n}/results.json").read_text()) for n in (0, 1))
    for name in (score, "test/bytes_per_image", "test/bits_per_pixel"):
        assert shared[name] == alone[name]
    assert alone[score] == 1 or score == "test/accuracy"
    tables = [
        list(csv.DictReader((folder / f"runs/small/version_{n}/predictions.csv").read_text().splitlines()))
        for n in (2, 3)
    ]
    assert tables[0] == tables[1]
    assert [int(row["image"]) for row in tables[0]] == list(range(7))
    assert {Path(row["file"]).name for row in tables[0]} == {f"{n}.png" for n in range(7)}


def test_more_processes_than_images_are_refused(folder: Path) -> None:
    (folder / "config.yaml").write_text(NAMED)
    for n in range(3, 7):
        (folder / "pics/test" / "abc"[n % 3] / f"{n}.png").unlink()
    words = ["--trainer.devices", "4", "--trainer.strategy", "ddp"]
    done = run_in(folder, "predict", "--config", "config.yaml", *words, PYTHONPATH=str(ROOT))
    assert done.returncode != 0
    assert "3 images cannot be divided among 4 processes: use 3 at most" in done.stderr
    assert not list(folder.rglob("predictions.csv"))
