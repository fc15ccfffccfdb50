"""Shipped configs of videos, on a short one with small images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from splitlearn.codecs import ContextRANS
from splitlearn.commands import main
from splitlearn.deploy import CalibrationSettings, calibrate, export_bottleneck
from splitlearn.models import SplitModel, backbone, split
from splitlearn.quantizers import Step
from tests.configs.runs import CONFIGS, ROOT, STREAMS, name
from tests.data.test_video import write_video

pytest.importorskip("av")
CUT = "{init_args: {net: {init_args: {example: [3, 64, 64], model: {init_args: {weights: null}}}}}}"
SMALL = {
    "mobilenet_v2": f"{{init_args: {{model: {CUT}}}}}",
    "tiled_h265": f"{{init_args: {{model: {CUT}}}}}",
    "video_h265": "{init_args: {network: {init_args: {weights: null}}}}",
}


def results_of(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, video: Path, small: str, *more: str) -> Any:
    """Return what `splitlearn test` has measured on a video, with some settings changed."""
    changed = folder / "small.yaml"
    changed.write_text(f"trainer: {{accelerator: cpu, enable_progress_bar: false}}\n{small}")
    words = ["--config", str(CONFIGS / "trainer.yaml"), "--config", str(path), "--config", str(changed)]
    place = ["--trainer.logger.save_dir", str(folder), "--trainer.logger.name", "run", "--data.root", str(video)]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["splitlearn", "test", *words, *place, *more])
    assert main() == 0
    return json.loads(next(folder.rglob("results.json")).read_text())


@pytest.mark.parametrize("path", [path for path in STREAMS if path.stem in SMALL], ids=name)
def test_a_classifier_is_measured_on_a_video(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = f"model: {{init_args: {{model: {SMALL[path.stem]}}}}}\ndata: {{init_args: {{image_size: 64, resize: 64}}}}"
    found = results_of(path, tmp_path, monkeypatch, write_video(tmp_path / "a.mkv", 6), small)
    assert (found["test/frames"], found["test/key_frames"]) == (6, 1)
    assert 0 < found["test/bytes_per_delta_frame"] < found["test/bytes_per_key_frame"]
    assert found["test/bytes_per_second"] == pytest.approx(10 * found["test/bytes_per_frame"], rel=1e-3)
    assert 0 <= found["test/agreement"] <= 1


@pytest.mark.filterwarnings("default")  # ultralytics and what it imports
def test_a_detector_with_calibrated_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ultralytics")
    network = backbone("ultralytics/yolov8n", weights=None)
    weights = tmp_path / "yolo.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)
    cut = SplitModel(split(network, "model.4", (3, 64, 64)), Step(), ContextRANS()).eval()
    calibrated = calibrate(cut, torch.rand(4, 3, 64, 64), CalibrationSettings(levels=4)).model
    file = export_bottleneck(calibrated, tmp_path / "calibrated.safetensors")
    (path,) = (path for path in STREAMS if path.stem not in SMALL)
    words = ["--model.model.model.path", str(file), "--model.model.model.backbone.weights", str(weights)]
    video = write_video(tmp_path / "a.mkv", 4)
    found = results_of(path, tmp_path, monkeypatch, video, "data: {init_args: {image_size: 64}}", *words)
    assert (found["test/frames"], found["test/key_frames"]) == (4, 1)
    assert found["test/table_bytes"] > 0
    assert -1 <= found["test/agreement_50"] <= 1
