"""Conversion of views of data modules to steps for a device without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from torchvision.transforms import v2

from splitlearn.data.images import CentreCrop
from splitlearn.data.letterbox import Letterbox
from splitlearn.data.masks import GREY, Fitted
from splitlearn.runtime.preparation import CentreCropTo, FitTo, LetterboxTo, Preparation, Resize, ResizeTo


@singledispatch
def preparation_of(view: Any) -> list[Preparation] | None:
    """Return steps that give the same pixels as an evaluation view; None for views unknown here.

    For a view of your own, register a function (`functools.singledispatch`).
    """
    owner = getattr(view, "__self__", None)  # the method of a view of images with masks
    return [FitTo(owner.height, owner.width, GREY)] if isinstance(owner, Fitted) else None


@preparation_of.register
def _(view: CentreCrop) -> list[Preparation] | None:
    return [Resize(view.shorter_side), CentreCropTo(view.size, view.size)]


@preparation_of.register
def _(view: Letterbox) -> list[Preparation] | None:
    return [LetterboxTo(*view.size)]


@preparation_of.register
def _(view: v2.Compose) -> list[Preparation] | None:
    steps = [preparation_of(each) for each in view.transforms]
    return None if None in steps else [step for several in steps for step in several or ()]


@preparation_of.register
def _(view: v2.Resize) -> list[Preparation] | None:
    size: Sequence[int] = [view.size] if isinstance(view.size, int) else view.size
    name = getattr(view.interpolation, "value", view.interpolation)  # an enumeration or its value
    if name != v2.InterpolationMode.BILINEAR.value or view.max_size is not None:
        return None
    return [Resize(size[0])] if len(size) == 1 else [ResizeTo(size[0], size[1])]


@preparation_of.register
def _(view: v2.CenterCrop) -> list[Preparation] | None:
    return [CentreCropTo(view.size[0], view.size[1])]
