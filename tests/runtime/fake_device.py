"""A device half without a network, for tests of what lies around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class FakeDevice:
    """Sends the same payload for each image."""

    has_exits = False

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(picture)

    def compress(self, image: NDArray[np.uint8], rate: int | None = None, budget: int | None = None) -> bytes:
        return b"payload"

    def picture(self, image: NDArray[np.uint8]) -> bytes:
        return b"picture"

    def exited(self, image: NDArray[np.uint8]) -> Any:
        return None

    def local_answer(self, image: NDArray[np.uint8]) -> Any:
        raise AssertionError
