from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from splitlearn.data import DataError
from splitlearn.data.letterbox import BoxImages, Labelled, letterbox
from splitlearn.outputs import Boxes

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def test_a_wide_image_lies_in_the_middle_with_grey_above_and_below() -> None:
    pixels, boxes = letterbox(Image.new("RGB", (64, 32), (255, 0, 0)), WHOLE, (64, 64))
    assert pixels.dtype == torch.uint8
    assert boxes.tolist() == [[0, 16, 64, 48]]
    assert (pixels[:, :16] == 114).all()
    assert (pixels[:, 48:] == 114).all()
    assert (pixels[0, 16:48] == 255).all()
    assert (pixels[1:, 16:48] == 0).all()


def test_an_image_of_the_right_size_passes_untouched() -> None:
    noise = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8)
    pixels, _ = letterbox(Image.fromarray(noise.numpy()), WHOLE, (20, 30))
    assert torch.equal(pixels, noise.permute(2, 0, 1))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.integers(1, 70))
def test_boxes_stay_on_what_they_frame(width: int, height: int, high: int, wide: int) -> None:
    """A white image on grey: its box is where the pixels are no longer grey."""
    pixels, boxes = letterbox(Image.new("RGB", (width, height), (255, 255, 255)), WHOLE, (high, wide))
    assert pixels.shape == (3, high, wide)
    rows, columns = torch.where(pixels[0] == 255)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes.tolist() == [[float(value) for value in found]]
    assert found[3] - found[1] == high or found[2] - found[0] == wide


def test_a_rotated_photo_is_shown_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "a.jpg", exif=exif)
    labelled = Labelled(tmp_path / "a.jpg", Boxes(WHOLE, torch.tensor([3]), crowd=torch.tensor([True])))
    _, boxes = BoxImages([labelled], (80, 80))[0]
    assert boxes.xyxy.tolist() == [[20, 0, 60, 80]]
    assert boxes.labels.tolist() == [3]
    assert boxes.crowd is not None
    assert boxes.crowd.tolist() == [True]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    labelled = Labelled(tmp_path / "broken.jpg", Boxes(WHOLE, torch.tensor([0])))
    with pytest.raises(DataError, match=r"cannot decode .*broken\.jpg, remove or replace it"):
        BoxImages([labelled], (8, 8))[0]
