"""Cuts of torchvision detectors inside their backbone; image sizes cross as one small tensor."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from splitlearn.models.cutting.graph import Halves
from splitlearn.models.cutting.names import CutError, inside
from splitlearn.models.cutting.proof import Proof
from splitlearn.models.cutting.sizes import FeatureShape, shapes_on_meta
from splitlearn.models.cutting.traced import cut_traced
from splitlearn.models.images import like

KNOWN_SIZES = 256  # cache size for feature map shapes of padded image sizes


def is_detector(model: nn.Module) -> bool:
    """Return whether `model` has the structure of a torchvision detector: a transform and a backbone."""
    return isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform) and hasattr(model, "backbone")


class _Backbone(nn.Module):
    """The backbone alone, under its name in the detector."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Any:
        features = self.backbone(images)
        return {"0": features} if isinstance(features, Tensor) else features


class DetectorHead(nn.Module):
    """Resizing and padding of images, and the first part of the backbone.

    Args:
        transform: the detector's resizing and padding.
        backbone: first part of the backbone: padded images → tuple of feature maps.
        proof: check of the cut backbone, if it is exact only for some padded image sizes.
    """

    def __init__(self, transform: nn.Module, backbone: nn.Module, proof: Proof | None = None) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.proof = proof
        self._known: dict[tuple[int, int], tuple[FeatureShape, ...]] = {}

    def expected(self, height: int, width: int) -> tuple[tuple[int, ...], tuple[FeatureShape, ...]]:
        """Return what `forward` would return for an image of `height` × `width` pixels: sizes, and feature map shapes.

        Both are computed on the meta device, without memory for the image. Raises ValueError if the cut is not exact
        for images of this size.
        """
        dtype = like(self.backbone).dtype
        channels = len(self.transform.image_mean)  # type: ignore[arg-type]
        resized, _ = self.transform([torch.empty(channels, height, width, dtype=dtype, device="meta")])
        padded = tuple(resized.tensors.shape[1:])
        if padded[1:] not in self._known:
            if len(self._known) == KNOWN_SIZES:
                self._known.clear()
            if self.proof is not None:
                self.proof.check(torch.empty(1, *padded, dtype=dtype), training=False)
            self._known[padded[1:]] = shapes_on_meta(self.backbone, padded)
        return (height, width, *resized.image_sizes[0], *padded[1:]), self._known[padded[1:]]

    def forward(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return feature maps and, last, the sizes.

        Args:
            images: batch `(B, C, H, W)` or B tensors `(C, H, W)` of any sizes.

        Returns:
            Feature maps `(B, …)`; then int32 `(B, 6)`, in pixels: original, resized and padded height and width.
        """
        resized, _ = self.transform(list(images))
        if self.proof is not None:
            self.proof.check(resized.tensors, training=False)
        features = self.backbone(resized.tensors)
        padded = resized.tensors.shape[-2:]
        rows = [(*i.shape[-2:], *size, *padded) for i, size in zip(images, resized.image_sizes, strict=True)]
        return (*features, torch.tensor(rows, dtype=torch.int32, device=resized.tensors.device))


class _Given(nn.Module):
    """Replacement of the backbone: returns given features."""

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Any:
        return self.features


class _Resized(nn.Module):
    """Replacement of the transform: returns images that are resized already."""

    def __init__(self, transform: nn.Module, images: ImageList) -> None:
        super().__init__()
        self.images = images
        self.postprocess = transform.postprocess

    def forward(self, images: list[Tensor], targets: None = None) -> tuple[ImageList, None]:
        return self.images, targets


class DetectorTail(nn.Module):
    """Rest of the backbone of a detector, layers behind it, and scaling of boxes to the original images."""

    def __init__(self, detector: nn.Module, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.detector = _with_modules(detector, backbone=nn.Identity())

    def forward(self, *tensors: Tensor) -> Any:
        """Return the detector's output, one dict per image, from feature maps `(B, …)` and sizes `(B, 6)`."""
        *features, sizes = tensors
        rows = sizes.tolist()
        nothing = features[0].new_zeros(())  # only shapes and device of the images matter
        images = [nothing.expand(3, row[0], row[1]) for row in rows]
        padded = nothing.expand(len(rows), 3, *rows[0][4:])
        resized = ImageList(padded, [(row[2], row[3]) for row in rows])
        pyramid = OrderedDict(self.backbone(*features))
        transform = self.detector.get_submodule("transform")
        detector = _with_modules(self.detector, backbone=_Given(pyramid), transform=_Resized(transform, resized))
        detector.eval()  # not chained: eval() of a frozen module returns the original, not this copy
        return detector(images)


def _with_modules(module: nn.Module, **modules: nn.Module) -> nn.Module:
    """Return a shallow copy of `module` with some submodules replaced; the rest is shared."""
    changed = copy.copy(module)
    changed._modules = {**module._modules, **modules}
    return changed


def cut_detector(model: nn.Module, at: str, batches: Sequence[Tensor], open_all: bool = False) -> Halves:
    """Cut a torchvision detector (R-CNN, RetinaNet, FCOS, SSD) in eval mode after a module of its backbone.

    `batches` are example images with different batch sizes; `open_all` is passed to `cut_traced`, which cuts the
    backbone. Raises CutError if the cut lies outside of the backbone.
    """
    if not inside(at, "backbone"):
        raise CutError("a detector is cut at 'backbone' or inside it")
    padded = [model.get_submodule("transform")(list(batch))[0].tensors for batch in batches]
    backbone = _Backbone(model.get_submodule("backbone"))
    halves = cut_traced(backbone, at, padded, open_all)
    proof = Proof(backbone, at, halves.head, halves.tail, padded[0]) if halves.baked else None
    head = DetectorHead(model.get_submodule("transform"), halves.head, proof)
    return Halves(head, DetectorTail(model, halves.tail))
