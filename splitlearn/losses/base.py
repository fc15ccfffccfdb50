"""The contract of a rate loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splitlearn.uncast import Uncast


class RateLoss(Uncast, ABC):
    """A differentiable stand-in for the number of bytes that a latent will cost.

    What it learns keeps its precision when the model is cast (`Uncast`): code tables may be made of it.
    """

    def begin(self, shapes: Sequence[tuple[int, ...]], quantizers: Sequence[nn.Module]) -> None:
        """Learn what is to be measured, once and before training; by default nothing has to be known.

        Args:
            shapes: of an image's latents, one for each float tensor that crosses the cut.
            quantizers: one for each of them.

        Raises:
            ValueError: if this loss does not fit them.
        """

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor:
        """Return the rate of a batch as a scalar; lower means fewer bytes.

        Args:
            latent: encoder output `(B, …)` before quantization.
        """

    def total(self, latents: Sequence[Tensor]) -> Tensor:
        """Return the rate of all latents of a batch, in their order: the sum of each one's."""
        return torch.stack([self(latent) for latent in latents]).sum()
