"""Base class of box decoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from splitlearn.outputs import Boxes


class BoxDecoder(ABC):
    """Conversion of a detector's output to boxes, one record per image.

    A new kind of detector needs one subclass; configs name it by import path.
    """

    def check_network(self, network: nn.Module) -> None:  # noqa: B027, most read any network
        """Raise ValueError if this class cannot decode the network's output; by default every network passes."""

    @abstractmethod
    def decode(self, output: Any, num_classes: int) -> list[Boxes]:
        """Return the detected objects of each image with scores, in descending order of score.

        Args:
            output: the network's output on a batch, in eval mode.
            num_classes: number of classes.

        Raises:
            ValueError: if the output has another structure or number of classes.
        """
