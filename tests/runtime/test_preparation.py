"""A device prepares a photograph pixel for pixel as the tests of its model do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from splitlearn.data.images import CentreCrop
from splitlearn.data.letterbox import Letterbox
from splitlearn.data.masks import Fitted
from splitlearn.runtime.device import Device, prepared
from splitlearn.runtime.preparation import Resize
from splitlearn.runtime.views import preparation_of
from tests.runtime.conftest import Packaged, edit, pixels

VIEWS: dict[str, Any] = {
    "centre crop": CentreCrop(24, 32),
    "square": CentreCrop(24),
    "letterbox": Letterbox((24, 40)),
    "fitted": Fitted(24, 40).image,
    "torchvision": v2.Compose([v2.Resize((20, 30)), v2.CenterCrop((24, 24))]),
    "shorter side": v2.Compose([v2.Resize(25), v2.CenterCrop((25, 24))]),
}


@pytest.mark.parametrize("shape", [(4, 4, 2), (4, 4, 4), (4, 4, 5), (4, 4, 0), (0, 4, 3), (4, 4)])
def test_arrays_that_are_no_pictures_are_refused_in_one_sentence(shape: tuple[int, ...]) -> None:
    for dtype in (np.uint8, np.float64, np.int16, np.complex64, np.bool_):
        with pytest.raises(ValueError, match=r"uint8"):
            prepared(np.zeros(shape, dtype), [], 3)


@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), seed=st.integers(0, 9))
def test_preparation_is_the_view_of_evaluation(name: str, width: int, height: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    photo = Image.fromarray(noise)
    found = photo
    steps = preparation_of(VIEWS[name])
    assert steps
    for step in steps:
        found = step(found)
    assert np.array_equal(np.asarray(found), np.asarray(VIEWS[name](photo)))


@pytest.mark.parametrize(
    "view", [v2.RandomCrop(8), v2.Compose([v2.Resize(8), v2.GaussianBlur(3)]), lambda image: image]
)
def test_views_that_are_not_known_are_not_guessed(view: Any) -> None:
    assert preparation_of(view) is None


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_strips_are_not_blown_up(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"would get 25,600,000 long, at most 16,384: crop it"):
        Resize(256)(Image.new("RGB", size))
    assert Resize(256)(Image.new("RGB", (2, 128))).size == (256, 1 << 14)


def test_a_package_without_preparation_asks_for_images_of_its_size(bank: Packaged, tmp_path: Path) -> None:
    shutil.copytree(bank.folder, tmp_path / "package")
    edit(lambda about: about.update(preparation=None))(tmp_path / "package")
    device = Device(tmp_path / "package")
    assert device.prepare(pixels(1)[0]).shape == (32, 32, 3)
    with pytest.raises(ValueError, match="does not say how pictures of other sizes than 32×32 are prepared"):
        device.prepare(Image.new("RGB", (64, 40)))
