"""Images and masks are resized and cropped alike."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.tv_tensors import Mask

from splitlearn.data.masks import GREY, Fitted, crop_and_flip
from splitlearn.outputs import IGNORED


def coarse(height: int, width: int, seed: int) -> tuple[Image.Image, Mask]:
    """An image whose colour tells the class of each pixel, in blocks of eight pixels, and its mask."""
    labels = torch.randint(5, (-(-height // 8), -(-width // 8)), generator=torch.Generator().manual_seed(seed))
    labels = labels.repeat_interleave(8, 0).repeat_interleave(8, 1)[:height, :width].to(torch.uint8)
    return Image.fromarray((labels * 50).numpy()).convert("RGB"), Mask(labels)


def agreement(image: Image.Image, mask: Tensor) -> float:
    """Share of pixels whose colour is that of their class."""
    colours = pil_to_tensor(image)[0].float()
    return float(((colours / 50 - mask).abs() < 0.5).float().mean())


SIDE = st.integers(8, 90)


@settings(deadline=None, max_examples=60)
@given(SIDE, SIDE, st.integers(16, 64), st.integers(16, 64), st.integers(0, 99))
def test_fitted_images_and_masks_agree(height: int, width: int, high: int, wide: int, seed: int) -> None:
    image, mask = coarse(height, width, seed)
    shown, labels = Fitted(high, wide)(image, mask)
    assert shown.size == (wide, high)
    assert labels.shape == (high, wide)
    assert labels.dtype == torch.uint8
    inside = labels != IGNORED
    rows, columns = (int(inside.any(side).sum()) for side in (1, 0))
    assert rows == high or columns == wide
    assert inside[:rows, :columns].all()
    assert int(inside.sum()) == rows * columns  # padding lies below and to the right
    assert rows / columns == pytest.approx(height / width, rel=0.6 / min(rows, columns))
    assert (pil_to_tensor(shown)[:, ~inside] == GREY).all()
    if rows >= height:  # enlarged, so every block is as large as before
        part = shown.crop((0, 0, columns, rows))
        assert agreement(part, labels[:rows, :columns]) > 0.75


def test_masks_are_scaled_on_the_grid_of_their_images() -> None:
    """A border in the middle of an image stays in the middle."""
    labels = torch.zeros(8, 8, dtype=torch.uint8)
    labels[:, 4:] = 1
    image = Image.fromarray((labels * 200).numpy()).convert("RGB")
    for size in (6, 24):
        shown, mask = Fitted(size, size)(image, Mask(labels))
        assert mask[0].tolist() == [0] * (size // 2) + [1] * (size // 2)
        assert ((pil_to_tensor(shown)[0] > 100) == mask.bool()).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(24, 90), st.integers(24, 90), st.integers(0, 99))
def test_training_crops_image_and_mask_alike(height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    shown, mask = crop_and_flip(64, 48)(*coarse(height, width, seed))
    assert (shown.size, mask.shape) == ((48, 64), (64, 48))
    assert int(mask.max()) < 5  # no padding in training
    assert agreement(shown, mask) > 0.7
