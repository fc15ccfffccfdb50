import pytest
import torch

from splitlearn.data import CropFlip


def test_every_image_is_a_shift_or_a_mirrored_shift_of_itself() -> None:
    images = torch.rand(64, 3, 6, 5)
    padded = torch.nn.functional.pad(images, [2] * 4)
    out = CropFlip(padding=2)(images)
    assert out.shape == images.shape
    drawn = set()
    for index in range(len(images)):
        matches = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(
                out[index],
                padded[index, :, top : top + 6, left : left + 5].flip(2)
                if mirrored
                else padded[index, :, top : top + 6, left : left + 5],
            )
        ]
        assert len(matches) == 1
        drawn.add(matches[0])
    assert len(drawn) > 20  # each image draws for itself


def test_seed_repeats_the_draw() -> None:
    images = torch.rand(4, 3, 8, 8)
    torch.manual_seed(1)
    first = CropFlip()(images)
    torch.manual_seed(1)
    assert torch.equal(first, CropFlip()(images))


def test_without_padding_only_mirrors() -> None:
    images = torch.rand(32, 1, 4, 4)
    out = CropFlip(0)(images)
    same = (out == images).flatten(1).all(1)
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 0 < same.sum() < 32


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        CropFlip(-1)
