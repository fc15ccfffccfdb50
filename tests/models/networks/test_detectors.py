"""R-CNN detectors by name: layers, weights from files, and clear words where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from splitlearn.models import WeightsError, faster_rcnn, keypoint_rcnn, mask_rcnn

IMAGES = (60, 80), (90, 64)
SMALL: dict[str, Any] = {"pyramid": 16, "box_width": 32, "proposals": 20}


def shapes(model: nn.Module, layers: list[str]) -> list[tuple[int, ...]]:
    """Shapes that layers of a backbone give for one image of 64 × 96 pixels."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        note = lambda module, args, output, layer=layer: found.update({layer: tuple(output.shape[1:])})  # noqa: E731
        model.get_submodule(f"backbone.body.{layer}").register_forward_hook(note)
    with torch.no_grad():
        model.eval().get_submodule("backbone")(torch.rand(1, 3, 64, 96))
    return [found[layer] for layer in layers]


@pytest.mark.parametrize(
    ("name", "layers", "channels"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "layer4"], [64, 128, 256, 512]),
        ("mobilenet_v2", ["3", "6", "13", "17"], [24, 32, 96, 320]),
        ("mobilenet_v2_same", ["3", "6", "13", "17"], [24, 32, 96, 320]),
    ],
)
def test_pyramids_take_the_last_layers_of_each_size(name: str, layers: list[str], channels: list[int]) -> None:
    model = faster_rcnn(name, 2, **SMALL)
    expected = [(c, 64 // size, 96 // size) for c, size in zip(channels, (4, 8, 16, 32), strict=True)]
    assert shapes(model, layers) == expected
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.slow
def test_the_detector_of_the_paper_is_torchvisions_own(tmp_path: Path) -> None:
    own = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=96).eval()
    own.roi_heads.score_thresh = 0.0
    image = torch.rand(3, 64, 80)
    with torch.no_grad():
        (expected,) = own([image])
    torch.save(own.state_dict(), tmp_path / "detector.pth")
    del own  # two of them, and what is read, are half a gigabyte
    ours = faster_rcnn(weights=str(tmp_path / "detector.pth"), min_size=64, max_size=96).eval()
    ours.get_submodule("roi_heads").score_thresh = 0.0  # type: ignore[assignment]
    with torch.no_grad():
        (found,) = ours([image])
    assert len(found["boxes"]) > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # frozen norms are computed in another order


def test_images_of_any_size_give_boxes_masks_or_joints() -> None:
    images = [torch.rand(3, *size) for size in IMAGES]
    for build, part in ((mask_rcnn, "masks"), (keypoint_rcnn, "keypoints")):
        model = build("resnet18", 2, min_size=64, max_size=96, **SMALL).eval()
        heads: Any = model.get_submodule("roi_heads")
        heads.score_thresh, heads.detections_per_img = 0.0, 2
        with torch.no_grad():
            for found, size in zip(model(images), IMAGES, strict=True):
                assert len(found["boxes"]) == len(found[part]) > 0
                assert part == "keypoints" or found[part].shape[-2:] == size


def test_a_narrow_mask_head_draws_masks() -> None:
    narrow, usual = (
        mask_rcnn("resnet18", 2, min_size=64, max_size=96, mask_width=width, **SMALL) for width in (8, 256)
    )
    shapes = [
        tuple(p.shape) for name, p in narrow.named_parameters() if "mask_head" in name and name.endswith("weight")
    ]
    assert shapes == [(8, 16, 3, 3)] + 3 * [(8, 8, 3, 3)]
    assert usual.get_submodule("roi_heads.mask_predictor.mask_fcn_logits").weight.shape == (2, 256, 1, 1)
    heads: Any = narrow.eval().get_submodule("roi_heads")
    heads.score_thresh = 0.0
    with torch.no_grad():
        (found,) = narrow([torch.rand(3, *IMAGES[0])])
    assert found["masks"].shape[-2:] == IMAGES[0]
    with pytest.raises(ValueError, match="sizes are at least 1"):
        mask_rcnn("resnet18", 2, mask_width=0)


def test_a_classifiers_weights_begin_a_detector_with_frozen_norms(tmp_path: Path) -> None:
    classifier = resnet18()
    save_file(classifier.state_dict(), tmp_path / "resnet18.safetensors")
    model = faster_rcnn("resnet18", 2, backbone_weights=str(tmp_path / "resnet18.safetensors"), **SMALL)
    body = model.get_submodule("backbone.body")
    assert isinstance(body.get_submodule("layer4.1.bn2"), FrozenBatchNorm2d)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for key, value in body.state_dict().items():
        torch.testing.assert_close(value, classifier.state_dict()[key])


def test_real_weights_from_tensorflow(shared_data: Path) -> None:
    path = shared_data / "weights/mobilenet_v2_imagenet.safetensors"
    model = faster_rcnn("mobilenet_v2_same", 2, backbone_weights=str(path), **SMALL)
    levels = model.eval().get_submodule("backbone")(torch.rand(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in levels.values()][:2] == [(16, 16, 24), (16, 8, 12)]


def test_published_weights_need_a_connection_and_their_own_backbone(offline: None) -> None:
    with pytest.raises(WeightsError, match=r"cannot download .* set `weights` to the path of a local file"):
        mask_rcnn(weights="COCO_V1")
    with pytest.raises(WeightsError, match="fasterrcnn with resnet50 and its own widths alone"):
        faster_rcnn("resnet18", weights="COCO_V1")
    with pytest.raises(WeightsError, match="cannot download"):
        faster_rcnn("resnet18", backbone_weights="IMAGENET1K_V1")


def test_wrong_arguments_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pyramid is known for 'vgg16': use a ResNet"):
        faster_rcnn("vgg16", 2)
    with pytest.raises(ValueError, match="no network named 'resnet51'; did you mean resnet50"):
        faster_rcnn("resnet51", 2)
    with pytest.raises(ValueError, match="counts the background"):
        faster_rcnn("resnet18", 1)
    with pytest.raises(ValueError, match="max_size is no less than min_size"):
        faster_rcnn("resnet18", 2, min_size=800, max_size=600)
    with pytest.raises(ValueError, match="give one of them"):
        faster_rcnn("resnet18", 2, weights="a.safetensors", backbone_weights="b.safetensors")
    save_file(faster_rcnn("resnet18", 2, **SMALL).state_dict(), tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match=r"roi_heads.box_predictor.cls_score.weight is"):
        faster_rcnn("resnet18", 3, **SMALL, weights=str(tmp_path / "two.safetensors"))
