"""What a detector's output says, as boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from splitlearn.outputs import Boxes


class BoxDecoder(ABC):
    """Turns what a detector's last layer gives into boxes, one record an image.

    A detector of another kind takes one class with this method; configs name it by import path.
    """

    def check_network(self, network: nn.Module) -> None:  # noqa: B027, most read any network
        """Refuse a network whose output means something else; by default any will do.

        Args:
            network: with bytes in its middle, or its parts.

        Raises:
            ValueError: if it is such.
        """

    @abstractmethod
    def decode(self, output: Any, num_classes: int) -> list[Boxes]:
        """Return the objects found in each image, best first, with scores.

        Args:
            output: the network's output on a batch, in eval mode.
            num_classes: how many classes the network is to tell apart.

        Raises:
            ValueError: if the output has another form, or another number of classes.
        """
