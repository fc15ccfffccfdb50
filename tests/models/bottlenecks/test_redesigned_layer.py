"""The redesigned layer: its sizes, its place in detectors, and the weights that come back into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from splitlearn.models import (
    CutError,
    RedesignedLayer1,
    WeightsError,
    faster_rcnn,
    keypoint_rcnn,
    mask_rcnn,
    replaced,
    split,
)

AT = "layer1"
SMALL: dict[str, Any] = {"min_size": 64, "max_size": 96, "pyramid": 16, "box_width": 32, "proposals": 20}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("channels", [1, 3, 6, 9, 12, 15])
def test_sizes_and_parameters_are_those_of_the_paper(channels: int) -> None:
    layer = RedesignedLayer1(64, channels, 256)
    assert parameters(layer.encoder) == 148_224 + 256 * channels
    assert parameters(layer.decoder) == 427_392 + 258 * channels
    with torch.device("meta"):
        layer, stem = RedesignedLayer1(64, channels, 256).eval(), torch.empty(1, 64, 200, 264)  # of 800 × 1056
        assert layer.encoder(stem).shape == (1, channels, 204, 268)
        assert layer(stem).shape == (1, 256, 200, 264)


def test_rounded_parameters_are_the_printed_ones() -> None:
    layer = RedesignedLayer1()
    assert round(parameters(layer.encoder) / 1e6, 2) == 0.15
    assert round(parameters(layer.decoder) / 1e6, 2) == 0.43


def test_layers_are_those_of_the_published_code() -> None:
    layer = RedesignedLayer1(64, 3, 256, width=32)
    assert [words(part) for part in layer.encoder] == [
        *("64→32, 2×2, padding 1", "norm of 32"),
        *("32→128, 2×2, padding 1", "norm of 128", "ReLU"),
        *("128→32, 2×2, padding 1", "norm of 32"),
        "32→3, 2×2, padding 1",
    ]
    assert [words(part) for part in layer.decoder] == [
        *("norm of 3", "ReLU"),
        *("3→32, 2×2, padding 0", "norm of 32"),
        *("32→64, 2×2, padding 0", "norm of 64", "ReLU"),
        *("64→128, 2×2, padding 0", "norm of 128"),
        *("128→256, 2×2, padding 0", "norm of 256", "ReLU"),
    ]
    assert words(RedesignedLayer1(rectified=False).decoder[-1]) == "Identity"


def words(part: nn.Module) -> str:
    """Return a layer in words."""
    if isinstance(part, nn.Conv2d):
        assert part.bias is None
        assert part.stride == part.dilation == (1, 1)
        assert part.groups == 1
        assert len(set(part.padding)) == 1
        kernel = "×".join(map(str, part.kernel_size))
        return f"{part.in_channels}→{part.out_channels}, {kernel}, padding {part.padding[0]}"
    return f"norm of {part.num_features}" if isinstance(part, nn.BatchNorm2d) else type(part).__name__


def test_only_a_rectified_layer_ends_in_a_relu() -> None:
    features = torch.randn(2, 24, 8, 8)
    assert RedesignedLayer1(24, 3, 24)(features).min() == 0
    assert RedesignedLayer1(24, 3, 24, rectified=False)(features).min() < 0


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"width": -1}])
def test_numbers_that_are_not_positive_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        RedesignedLayer1(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "at", "layer"),
    [
        (lambda: faster_rcnn("resnet18", 3, **SMALL), "layer1", RedesignedLayer1(64, 3, 64)),
        (lambda: mask_rcnn("mobilenet_v2_same", 3, **SMALL), "3", RedesignedLayer1(24, 6, 24, rectified=False)),
        (lambda: keypoint_rcnn("resnet18", **SMALL), "layer1", RedesignedLayer1(64, 12, 64)),
    ],
)
def test_detectors_are_cut_in_the_middle_of_their_redesigned_layer(
    build: Callable[[], nn.Module], at: str, layer: RedesignedLayer1
) -> None:
    teacher = build()
    heads: Any = teacher.get_submodule("roi_heads")
    heads.score_thresh, heads.detections_per_img = 0.0, 2
    kept = {k: v.clone() for k, v in teacher.state_dict().items() if not k.startswith(f"backbone.body.{at}.")}
    student = replaced(teacher, f"backbone.body.{at}", layer)
    net = split(student, f"backbone.body.{at}.encoder", (3, 64, 96))
    channels: Any = layer.encoder[-1].out_channels
    assert net.shapes == ((channels, 64 // 4 + 4, 96 // 4 + 4), (6,))  # the latent and the image's sizes
    state = student.state_dict()
    assert kept.keys() == {k for k in state if not k.startswith(f"backbone.body.{at}.")}
    assert all(torch.equal(state[k], v) for k, v in kept.items())


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(CutError, match="no module 'layr1' in ResNet: did you mean layer1"):
        replaced(resnet18(), "layr1", nn.Identity())


def student(weights: Path | None = None) -> nn.Module:
    return replaced(resnet18(), AT, RedesignedLayer1(64, 3, 64), weights)


def test_what_was_trained_comes_back_and_nothing_else_changes(tmp_path: Path) -> None:
    trained = {k: v + 1 for k, v in student().state_dict().items() if k.startswith(("conv1.", "layer1."))}
    save_file(trained, tmp_path / "trained.safetensors")
    torch.manual_seed(1)
    others = {k: v for k, v in student().state_dict().items() if k not in trained}
    torch.manual_seed(1)
    state = student(tmp_path / "trained.safetensors").state_dict()
    assert all(torch.equal(state[k], v) for k, v in {**others, **trained}.items())


def test_weights_of_another_student_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "trained.safetensors"
    trained = {k: v for k, v in student().state_dict().items() if k.startswith("layer1.")}
    save_file({k: v for k, v in trained.items() if "encoder.0" not in k}, file)
    with pytest.raises(WeightsError, match=r"lacks layer1.encoder.0.weight \(1 of \d+ tensors of layer1\)"):
        student(file)
    save_file(replaced(resnet18(), AT, RedesignedLayer1(64, 6, 64)).state_dict(), file)
    with pytest.raises(WeightsError, match=r"is \(6, 64, 2, 2\) in the file and \(3, 64, 2, 2\) in the model"):
        student(file)
    save_file(trained | {"layer9.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"layer9.weight is not in the model"):
        student(file)
    with pytest.raises(FileNotFoundError, match="no weights file at"):
        student(tmp_path / "absent.safetensors")
