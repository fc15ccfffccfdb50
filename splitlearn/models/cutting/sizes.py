"""Tensor shapes computed on the meta device, without values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

FeatureShape = tuple[int, ...]
MAX_GROWTH = 16  # elements of a crossing tensor relative to the example, if its size depends on the image


def shapes_on_meta(module: nn.Module, images: Sequence[int]) -> tuple[FeatureShape, ...]:
    """Return the shapes per image of a module's output tensors for images of shape `(C, H, W)`.

    Raises any error of the module, which may refuse this size or need values.
    """
    named = chain(module.named_parameters(), module.named_buffers())
    tensors = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    batch = torch.empty(2, *images, dtype=dtype, device="meta")
    with torch.no_grad():
        found: tuple[Tensor, ...] = functional_call(module, tensors, (batch,))
    return tuple(tuple(tensor.shape[1:]) for tensor in found)


def varying_sizes(head: nn.Module, image: FeatureShape, shapes: Sequence[FeatureShape]) -> list[tuple[bool, ...]]:
    """Return for each dimension of each crossing tensor whether it depends on the image size.

    The head maps images to these tensors; `image` and `shapes` are of the example. If the head cannot run on the meta
    device, all dimensions count as varying.
    """
    try:
        if len(image) != 3 or shapes_on_meta(head, image) != tuple(shapes):
            return [(True,) * len(shape) for shape in shapes]
    except Exception:  # third-party layers may raise anything on the meta device
        return [(True,) * len(shape) for shape in shapes]
    varying = [[False] * len(shape) for shape in shapes]
    channels, height, width = image
    for size in ((height + 32, width + 64), (2 * height, 2 * width)):
        try:
            others = shapes_on_meta(head, (channels, *size))
        except Exception:  # the head refuses this size
            continue
        for flags, shape, other in zip(varying, shapes, others, strict=True):
            flags[:] = [flag or a != b for flag, a, b in zip(flags, shape, other, strict=True)]
    return [tuple(flags) for flags in varying]
