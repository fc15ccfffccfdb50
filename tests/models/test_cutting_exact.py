"""Every cut is proven by ourselves: the tail runs after the image is gone, on sizes of batch that `split` never saw."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as tv
from torchvision.models import detection, segmentation

from splitlearn.models import CutError, Split, faster_rcnn, freeze, split
from tests.networks import narrow_networks

Shape = tuple[int, ...]


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors of a nested output, in order."""
    if isinstance(output, Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output
    return [tensor for item in items for tensor in tensors_of(item)]


def assert_exact(net: Split, model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        expected = tensors_of(model(images.clone()))
        image = images.clone()
        tensors = tuple(tensor.clone() for tensor in net.head(image))
        image.zero_()
        found = tensors_of(net.tail(*tensors))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def narrow_vgg16() -> nn.Module:
    """Return a VGG16 whose classifier, behind all cuts, has a hundredth of the weights."""
    with pytest.MonkeyPatch.context() as patch:
        narrow_networks(patch)
        network: nn.Module = tv.vgg16()
        return network


BUILDERS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "resnet18": (tv.resnet18, (3, 64, 64)),
    "resnet50": (tv.resnet50, (3, 64, 64)),
    "vgg16": (narrow_vgg16, (3, 32, 32)),
    "mobilenet_v2": (tv.mobilenet_v2, (3, 64, 64)),
    "deeplabv3": (lambda: segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None), (3, 32, 48)),
    "densenet121": (tv.densenet121, (3, 64, 64)),
    "swin_t": (tv.swin_t, (3, 64, 64)),
    "convnext_tiny": (tv.convnext_tiny, (3, 32, 32)),
    "vit_torchvision": (lambda: tv.VisionTransformer(32, 8, 2, 2, 32, 64), (3, 32, 32)),
    "vit_timm": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), (3, 64, 64)),
    "efficientnet_timm": (lambda: timm.create_model("efficientnet_lite0"), (3, 64, 64)),
    "googlenet": (lambda: tv.googlenet(weights=None, init_weights=False, aux_logits=False), (3, 64, 64)),
}

# architecture, cut, shapes of the crossing tensors
CUTS: list[tuple[str, str, tuple[Shape, ...]]] = [
    ("resnet18", "layer1", ((64, 16, 16),)),
    ("resnet18", "relu", ((64, 32, 32),)),
    ("resnet18", "layer1.0.conv1", ((64, 16, 16), (64, 16, 16))),
    ("resnet18", "layer2.0.bn1", ((128, 8, 8), (64, 16, 16))),
    ("resnet18", "layer1.0.relu", ((64, 16, 16),)),  # called twice in the block: the cut lies after the second
    ("resnet18", "fc", ((1000,),)),
    ("resnet50", "layer2", ((512, 8, 8),)),
    ("resnet50", "layer3.1.conv2", ((256, 4, 4), (1024, 4, 4))),
    ("vgg16", "features.9", ((128, 8, 8),)),
    ("vgg16", "features.0", ((64, 32, 32),)),  # the next layer works in place
    ("mobilenet_v2", "features.6", ((32, 8, 8),)),
    ("mobilenet_v2", "features.3.conv.0", ((144, 16, 16), (24, 16, 16))),
    ("deeplabv3", "backbone.layer4.1", ((2048, 4, 6),)),
    ("deeplabv3", "classifier.0.convs.1", ((256, 4, 6), (2048, 4, 6))),
    ("densenet121", "features.denseblock2.denselayer2", ((32, 8, 8), (128, 8, 8), (32, 8, 8))),
    ("densenet121", "features.transition1", ((128, 8, 8),)),
    ("swin_t", "features.3", ((8, 8, 192),)),
    ("swin_t", "features.1.0.attn", ((16, 16, 96), (16, 16, 96))),
    ("convnext_tiny", "features.3", ((192, 4, 4),)),
    ("vit_torchvision", "encoder.layers.encoder_layer_0", ((17, 32),)),
    ("vit_torchvision", "conv_proj", ((32, 4, 4),)),
    ("vit_timm", "blocks.1", ((17, 192),)),
    ("vit_timm", "blocks.1.mlp.fc1", ((17, 768), (17, 192))),
    ("vit_timm", "patch_embed", ((16, 192),)),
    ("efficientnet_timm", "blocks.2", ((40, 8, 8),)),
    ("efficientnet_timm", "blocks.2.0.conv_pw", ((144, 16, 16),)),
    ("googlenet", "inception3a.branch1", ((64, 8, 8), (192, 8, 8))),
]


@lru_cache(maxsize=1)  # the cuts of a network follow each other
def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return BUILDERS[name][0]().eval()


@pytest.mark.parametrize(("name", "at", "shapes"), CUTS, ids=[f"{name}-{at}" for name, at, _ in CUTS])
def test_exact(name: str, at: str, shapes: tuple[Shape, ...]) -> None:
    model, shape = built(name), BUILDERS[name][1]
    net = split(model, at, shape)
    assert net.shapes == shapes
    assert net.input_shape == shape
    assert net.method == "torch.fx"
    assert_exact(net, model, torch.rand(1, *shape))
    assert_exact(net, model, torch.rand(4, *shape) - 0.5)


def module_from(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("at", "count"), [("features.6", 1), ("features.6.conv.0", 2), ("aspp0", 2), ("features", 1)])
def test_exact_on_a_users_own_module(shared_data: Path, at: str, count: int) -> None:
    model = module_from(shared_data / "weights/deeplabv3_mobilenetv2.py").DeepLabMNV2()
    weights = load_file(shared_data / "weights/deeplabv3_mobilenetv2_voc_fp16.safetensors")
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    net = split(model, at, (3, 65, 65))
    assert len(net.shapes) == count
    assert_exact(net, model, torch.rand(3, 3, 65, 65))
    with pytest.raises(ValueError, match=r"fixes the input at 65×65 pixels, the images have 97×65: split again"):
        net.head(torch.rand(1, 3, 97, 65))


@pytest.fixture(scope="module")
def yolo(shared_data: Path) -> nn.Module:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    model: nn.Module = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    model.get_submodule("model.9.cv1").act = nn.SiLU()
    weights = load_file(shared_data / "weights/yolov8n_coco_fp16.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "count"),
    [("model.4", 1), ("model.4.m", 4), ("model.4.m.0", 3), ("model.6", 2), ("model.9", 3), ("model.15", 3)],
)
def test_exact_on_yolo_at_any_image_size(yolo: nn.Module, at: str, count: int) -> None:
    net = split(yolo, at, (3, 64, 64))
    assert len(net.shapes) == count
    for size in [(64, 64), (96, 160), (64, 64)]:  # the detection layer remembers the last size
        assert_exact(net, yolo, torch.rand(3, 3, *size))


@cache
def detector() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=96, box_score_thresh=0.0, box_detections_per_img=5
    )
    return model.eval()


@pytest.mark.slow
def test_exact_on_faster_rcnn_with_images_of_mixed_sizes() -> None:
    model = detector()
    net = split(model, "backbone.body.layer1", (3, 48, 64))
    assert net.shapes == ((256, 16, 24), (6,))
    assert_exact(net, model, torch.rand(2, 3, 48, 64))
    images = [torch.rand(3, 40, 60), torch.rand(3, 80, 50)]
    with torch.no_grad():
        expected = tensors_of(model(images))
        crossing = net.head(images)
        for image in images:
            image.zero_()
        found = tensors_of(net.tail(*crossing))
    assert crossing[-1].dtype == torch.int32
    assert crossing[-1].tolist() == [[40, 60, 64, 96, 96, 96], [80, 50, 96, 60, 96, 96]]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert sum(tensor.numel() for tensor in expected) > 0


def test_exact_on_a_frozen_detector() -> None:
    model = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, score_thresh=0.0
    )
    net = freeze(split(model, "backbone.features.0.4", (3, 48, 64)))
    assert isinstance(net, Split)
    assert_exact(net.train(), model, torch.rand(1, 3, 48, 64))


@pytest.mark.slow
def test_exact_on_faster_rcnn_inside_the_pyramid() -> None:
    net = split(detector(), "backbone.fpn.inner_blocks.3", (3, 48, 64))
    assert len(net.shapes) == 5
    assert net.method == "detector, all modules open"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "at"),
    [
        (detection.retinanet_resnet50_fpn, "backbone.body.layer2"),
        (detection.ssdlite320_mobilenet_v3_large, "backbone.features.0.4"),
    ],
)
def test_exact_on_single_shot_detectors(build: Callable[..., nn.Module], at: str) -> None:
    small = {} if build is detection.ssdlite320_mobilenet_v3_large else {"min_size": 64, "max_size": 96}
    settings: Any = {"weights": None, "weights_backbone": None, "num_classes": 3, "score_thresh": 0.0}
    model = build(**settings, **small, detections_per_img=5)
    net = split(model, at, (3, 48, 64))
    assert_exact(net, model, torch.rand(2, 3, 48, 64))


def test_a_detector_is_cut_in_its_backbone_only() -> None:
    model = faster_rcnn("resnet18", 2, min_size=64, max_size=96, pyramid=16, box_width=32, proposals=20)
    with pytest.raises(ValueError, match="cut at 'backbone' or inside it"):
        split(model, "rpn.head", (3, 48, 64))


class OfTransformers(nn.Module):
    """Patches, layers of torch's transformers, logits."""

    def __init__(self, norm_first: bool, decode: bool) -> None:
        super().__init__()
        self.patches, self.logits = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 5)
        layer: Any = nn.TransformerDecoderLayer if decode else nn.TransformerEncoderLayer
        stack: Any = nn.TransformerDecoder if decode else nn.TransformerEncoder
        self.body = stack(layer(16, 4, 32, batch_first=True, norm_first=norm_first), 2)
        self.decode = decode

    def forward(self, images: Tensor) -> Any:
        rows = self.patches(images).flatten(2).transpose(1, 2)
        return self.logits((self.body(rows, rows) if self.decode else self.body(rows)).mean(1))


@pytest.mark.filterwarnings("default")  # torch tells what it does not speed up
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(
    ("decode", "at"), [(False, "body.layers.0"), (False, "body.layers.1"), (True, "body.layers.0")]
)
def test_cuts_between_layers_of_torchs_transformers(norm_first: bool, decode: bool, at: str) -> None:
    model = OfTransformers(norm_first, decode).eval()
    net, images = split(model, at, (3, 32, 32)), torch.rand(3, 3, 32, 32)
    with torch.no_grad():  # where encoders take a way of their own
        assert torch.equal(net(images), model(images))
    assert net.shapes[0] == (16, 16)


@pytest.mark.filterwarnings("default")  # scripts are on their way out
@pytest.mark.parametrize(
    ("make", "who"),
    [
        (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), "is a program"),
        (lambda: cast("Any", torch.jit).trace(nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)), "is a program"),
        (lambda: nn.Sequential(nn.ReLU(), torch.jit.script(nn.Conv2d(3, 4, 3))), "its module '1' is a program"),
    ],
)
def test_torchscript_is_refused(make: Any, who: str) -> None:
    with pytest.raises(CutError, match=f"cannot be cut, {who} of TorchScript, closed to tracing: give the network of"):
        split(make(), "0", (3, 8, 8))
