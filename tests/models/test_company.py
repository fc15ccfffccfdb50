"""What a payload holds does not depend on the images beside it, where images are given as a list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from splitlearn.models import SplitModel
from tests.networks import carra, datta, digits


@pytest.mark.parametrize("make", [carra, datta], ids=["MinMax", "Step"])
def test_images_of_a_list_are_sent_as_if_alone(make: Callable[[], SplitModel]) -> None:
    model, images = make(), digits(24)
    alone = [model.compress(image[None])[0] for image in images]
    assert model.compress(list(images)) == alone
    assert model.compress(list(images.flip(0))) == alone[::-1]
    assert model.compress(images) == model.compress(images)  # a batch has the bytes of that batch
