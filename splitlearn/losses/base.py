"""The contract of a rate loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class RateLoss(nn.Module, ABC):
    """A differentiable stand-in for the number of bytes that a latent will cost."""

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor:
        """Return the rate of a batch as a scalar; lower means fewer bytes.

        Args:
            latent: encoder output `(B, …)` before quantization.
        """
