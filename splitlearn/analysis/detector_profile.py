"""R-CNN detectors prepared for profiles: they run without values, with the maximum number of regions and objects."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Sizes = Sequence[tuple[int, int]]


def is_rcnn(model: nn.Module) -> bool:
    """Return whether a model is a two-stage detector of torchvision: Faster, Mask or Keypoint R-CNN."""
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN  # slow to import

    return isinstance(model, GeneralizedRCNN) and hasattr(model, "roi_heads")


def core_modules(model: nn.Module) -> list[str]:
    """Return the names of an R-CNN detector's core modules: backbone, pyramid, RPN, RoI heads, and "" for the whole.

    The output of the whole detector is in image coordinates; masks of the RoI heads are not.

    Reference:
        Matsubara & Levorato 2020, Fig. 1.
    """
    backbone = model.get_submodule("backbone")
    layers = [f"backbone.body.{name}" for name, _ in backbone.get_submodule("body").named_children()]
    return [*layers, "backbone.fpn", "rpn", "roi_heads", ""]


def without_values(detector: nn.Module) -> nn.Module:
    """Change an R-CNN detector in place to run without tensor values, such as on the meta device, and return it.

    The numbers of proposed regions and of found objects depend on values. They are set to the maximum of the detector,
    in torchvision 1000 and 100, which gives its maximum cost. All found objects are zeros.
    """
    rpn: Any = detector.get_submodule("rpn")
    heads: Any = detector.get_submodule("roi_heads")
    transform: Any = detector.get_submodule("transform")

    def propose(proposals: Tensor, objectness: Tensor, sizes: Sizes, *_: Any) -> tuple[list[Tensor], list[Tensor]]:
        count = rpn.post_nms_top_n()
        return [proposals.new_zeros(count, 4) for _ in sizes], [objectness.new_zeros(count) for _ in sizes]

    def detect(logits: Tensor, boxes: Tensor, proposals: Any, sizes: Sizes) -> tuple[list[Tensor], ...]:
        count = heads.detections_per_img
        labels = torch.zeros(count, dtype=torch.long, device=logits.device)
        found = logits.new_zeros(count, 4), logits.new_zeros(count), labels
        return tuple([tensor for _ in sizes] for tensor in found)

    def scale(found: list[dict[str, Tensor]], _: Sizes, originals: Sizes) -> list[dict[str, Tensor]]:
        return [
            one | {"masks": one["masks"].new_zeros(len(one["masks"]), 1, *size)} if "masks" in one else one
            for one, size in zip(found, originals, strict=True)
        ]

    rpn.filter_proposals, heads.postprocess_detections, transform.postprocess = propose, detect, scale
    for name, pool in list(heads.named_children()):
        if name.endswith("_roi_pool"):
            setattr(heads, name, _Pooled(pool.output_size))
    if heads.has_keypoint():
        heads.forward = _with_joints(heads)
    return detector


def _with_joints(heads: Any) -> Any:
    """Return the `forward` of RoI heads without the search for joints in heat maps, which depends on box sizes."""
    objects = copy.copy(heads)  # the same heads without joints, so that torchvision's search is not reached
    objects._modules = {**heads._modules, "keypoint_roi_pool": None}

    def forward(features: Mapping[str, Tensor], proposals: Any, sizes: Sizes, *_: Any) -> tuple[list[Any], Any]:
        found, losses = objects.forward(features, proposals, sizes)
        regions = heads.keypoint_roi_pool(features, [one["boxes"] for one in found], sizes)
        maps = heads.keypoint_predictor(heads.keypoint_head(regions))
        joints = [(len(one["boxes"]), maps.shape[1]) for one in found]
        return [
            one | {"keypoints": maps.new_zeros(*shape, 3), "keypoints_scores": maps.new_zeros(shape)}
            for one, shape in zip(found, joints, strict=True)
        ], losses

    return forward


class _Pooled(nn.Module):
    """Pooling of regions that returns zeros, in place of one that depends on the sizes of regions."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], sizes: Sizes) -> Tensor:
        level = next(iter(features.values()))
        return level.new_zeros(sum(map(len, boxes)), level.shape[1], *self.size)
