"""torchvision's R-CNN detectors with any supported backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from splitlearn.models.networks.backbone import backbone as whole_backbone
from splitlearn.models.networks.backbone import is_path, mobilenet_v2_same
from splitlearn.models.networks.weights import WeightsError, load_weights

__all__ = ["faster_rcnn", "keypoint_rcnn", "mask_rcnn"]

PYRAMID, BOX_WIDTH, CANDIDATES = 256, 1024, 1000  # torchvision's channels, features per box, regions per level
MASK_WIDTH, MASK_LAYERS = 256, 4  # torchvision's mask convolutions
RESNET_LAYERS = ("layer1", "layer2", "layer3", "layer4")
MOBILENET_LAYERS = ("3", "6", "13", "17")  # the last blocks at 1/4, 1/8, 1/16 and 1/32 of the image
MOBILENETS = ("mobilenet_v2", "mobilenet_v2_same")


def faster_rcnn(
    backbone: str = "resnet50",
    num_classes: int = 91,
    weights: str | None = None,
    backbone_weights: str | None = None,
    min_size: int = 800,
    max_size: int = 1333,
    pyramid: int = 256,
    box_width: int = 1024,
    proposals: int = 1000,
) -> nn.Module:
    """Return torchvision's Faster R-CNN, which predicts boxes.

    | backbone | input layers of the feature pyramid |
    |---|---|
    | resnet18, resnet50 or any other torchvision ResNet | `backbone.body.layer1` … `backbone.body.layer4` |
    | mobilenet_v2 | `backbone.body.` and 3, 6, 13, 17 |
    | mobilenet_v2_same: with SAME padding, for weights from TensorFlow | as above |

    Batch norms of a backbone with weights are replaced by `FrozenBatchNorm2d`, as in torchvision.

    Args:
        backbone: name of the backbone, as above.
        num_classes: number of object classes plus one for the background (class 0), as in torchvision.
        weights: weights of the whole detector: the path of a file for `load_weights`, or torchvision's name of
            published weights (`COCO_V1`, only for resnet50), which downloads. Put a torchvision file from elsewhere
            into `~/.cache/torch/hub/checkpoints` and name it `COCO_V1`, because its norms have no epsilon.
        backbone_weights: weights of a classifier for the backbone alone: a path, or torchvision's name, such as
            `IMAGENET1K_V1`.
        min_size: shorter side of resized images, in pixels.
        max_size: largest longer side of resized images, in pixels.
        pyramid: channels of the feature pyramid; smaller values make a smaller detector.
        box_width: width of the box classifier; smaller values make a smaller detector.
        proposals: largest number of regions per image in eval mode.

    Raises:
        ValueError: if the backbone does not exist.
        FileNotFoundError: if `weights` is the path of a missing file.
        WeightsError: if the weights do not fit, are not published or cannot be downloaded.

    Reference:
        Ren et al. 2015; Lin et al. 2017.
    """
    from torchvision.models.detection import FasterRCNN  # slow to import

    sizes = Sizes(num_classes, min_size, max_size, pyramid, box_width, proposals)
    return _detector(FasterRCNN, "fasterrcnn", backbone, sizes, weights, backbone_weights)


def mask_rcnn(
    backbone: str = "resnet50",
    num_classes: int = 91,
    weights: str | None = None,
    backbone_weights: str | None = None,
    min_size: int = 800,
    max_size: int = 1333,
    pyramid: int = 256,
    box_width: int = 1024,
    proposals: int = 1000,
    mask_width: int = 256,
) -> nn.Module:
    """Return torchvision's Mask R-CNN, which predicts boxes and masks; arguments and errors as for `faster_rcnn`.

    In addition, `mask_width` is the number of channels of the mask layers. With the usual 256 they take most of the
    training time.

    Reference:
        He et al. 2017.
    """
    from torchvision.models.detection import MaskRCNN

    sizes = Sizes(num_classes, min_size, max_size, pyramid, box_width, proposals, mask_width)
    return _detector(MaskRCNN, "maskrcnn", backbone, sizes, weights, backbone_weights)


def keypoint_rcnn(
    backbone: str = "resnet50",
    num_classes: int = 2,
    weights: str | None = None,
    backbone_weights: str | None = None,
    min_size: int = 800,
    max_size: int = 1333,
    pyramid: int = 256,
    box_width: int = 1024,
    proposals: int = 1000,
) -> nn.Module:
    """Return torchvision's Keypoint R-CNN, which predicts boxes and 17 joints of persons; else as `faster_rcnn`.

    Reference:
        He et al. 2017, Sec. 5.
    """
    from torchvision.models.detection import KeypointRCNN

    # sizes are passed although they are the defaults: torchvision draws from several sizes in training
    sizes = Sizes(num_classes, min_size, max_size, pyramid, box_width, proposals)
    return _detector(KeypointRCNN, "keypointrcnn", backbone, sizes, weights, backbone_weights)


@dataclass(frozen=True)
class Sizes:
    """Common arguments of the builders, as in `faster_rcnn`."""

    num_classes: int
    min_size: int
    max_size: int
    pyramid: int
    box_width: int
    proposals: int
    mask_width: int = MASK_WIDTH

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes counts the background, so it is at least 2, got {self.num_classes}")
        if (
            min(self.min_size, self.pyramid, self.box_width, self.proposals, self.mask_width) < 1
            or self.max_size < self.min_size
        ):
            raise ValueError(f"sizes are at least 1, and max_size is no less than min_size, got {self}")


def _detector(
    build: Any, kind: str, backbone: str, sizes: Sizes, weights: str | None, backbone_weights: str | None
) -> nn.Module:
    if weights is not None and backbone_weights is not None:
        raise ValueError("weights are of the whole detector, backbone_weights of a part of it: give one of them")
    if weights is not None and not is_path(weights):
        return _published(kind, backbone, sizes, weights)
    model = _built(build, backbone, sizes, backbone_weights)
    if weights is not None:
        load_weights(model, weights)
    if weights is not None or backbone_weights is not None:
        _freeze_norms(model.get_submodule("backbone"))
    return model


def _built(build: Any, backbone: str, sizes: Sizes, backbone_weights: str | None) -> nn.Module:
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

    body, layers, channels = _body(backbone, backbone_weights)
    taken = {layer: str(level) for level, layer in enumerate(layers)}
    model: nn.Module = build(
        BackboneWithFPN(body, taken, channels, sizes.pyramid),
        sizes.num_classes,
        min_size=sizes.min_size,
        max_size=sizes.max_size,
        rpn_pre_nms_top_n_test=min(CANDIDATES, 3 * sizes.proposals),
        rpn_post_nms_top_n_test=sizes.proposals,
    )
    heads: Any = model.get_submodule("roi_heads")
    if sizes.box_width != BOX_WIDTH:
        heads.box_head = TwoMLPHead(sizes.pyramid * math.prod(heads.box_roi_pool.output_size), sizes.box_width)
        heads.box_predictor = FastRCNNPredictor(sizes.box_width, sizes.num_classes)
    if sizes.mask_width != MASK_WIDTH:
        heads.mask_head = MaskRCNNHeads(sizes.pyramid, [sizes.mask_width] * MASK_LAYERS, 1)
        heads.mask_predictor = MaskRCNNPredictor(sizes.mask_width, sizes.mask_width, sizes.num_classes)
    return model


def _published(kind: str, backbone: str, sizes: Sizes, weights: str) -> nn.Module:
    widths = (sizes.pyramid, sizes.box_width, sizes.proposals, sizes.mask_width)
    if (backbone, *widths) != ("resnet50", PYRAMID, BOX_WIDTH, CANDIDATES, MASK_WIDTH):
        raise WeightsError(
            f"torchvision publishes {kind} with resnet50 and its own widths alone: leave out backbone, pyramid, "
            "box_width, proposals and mask_width, set `weights` to a local file, or begin with a classifier's "
            "`backbone_weights`"
        )
    model = whole_backbone(f"torchvision/{kind}_resnet50_fpn", weights, sizes.num_classes)
    transform: Any = model.get_submodule("transform")
    transform.min_size, transform.max_size = (sizes.min_size,), sizes.max_size
    return model


def _body(name: str, weights: str | None) -> tuple[nn.Module, Sequence[str], list[int]]:
    """Return the backbone's layers, the names of the pyramid's inputs, and their channels."""
    if name in MOBILENETS:
        net = mobilenet_v2_same(weights) if name.endswith("same") else whole_backbone(f"torchvision/{name}", weights)
        features: Any = net.get_submodule("features")
        return features, MOBILENET_LAYERS, [features[int(layer)].out_channels for layer in MOBILENET_LAYERS]
    from torchvision.models import ResNet

    with torch.device("meta"):  # a network that is refused may be large
        is_resnet = isinstance(whole_backbone(f"torchvision/{name}"), ResNet)
    if not is_resnet:
        raise ValueError(f"no pyramid is known for {name!r}: use a ResNet of torchvision or {' or '.join(MOBILENETS)}")
    resnet: Any = whole_backbone(f"torchvision/{name}", weights)
    return resnet, RESNET_LAYERS, [resnet.inplanes // 2**level for level in (3, 2, 1, 0)]


def _freeze_norms(model: nn.Module) -> None:
    """Replace batch norms by frozen ones."""
    from torchvision.ops import FrozenBatchNorm2d

    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
                frozen.load_state_dict(norm.state_dict())
                setattr(parent, name, frozen)
