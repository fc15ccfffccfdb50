"""Base class of rate losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splitlearn.kept_dtypes import Uncast


class RateLoss(Uncast, ABC):
    """Base class: a differentiable approximation of the number of bytes of a latent's code.

    Its parameters and buffers keep their precision when the model is cast (`Uncast`), since code tables may be
    computed from them.
    """

    def begin(self, shapes: Sequence[tuple[int, ...]], quantizers: Sequence[nn.Module]) -> None:
        """Prepare for the latents of a model, once and before training; by default nothing is prepared.

        Args:
            shapes: shape of one image's latent, for each float tensor that crosses the cut.
            quantizers: the quantizer of each latent.

        Raises:
            ValueError: if this loss does not support these latents or quantizers.
        """

    def match(self, latents: Sequence[Tensor]) -> None:
        """Start from the latents of the first batch, given in the order of `begin`; by default nothing changes."""

    @abstractmethod
    def forward(self, latent: Tensor) -> Tensor:
        """Return the rate of a batch as a scalar; lower means fewer bytes.

        Args:
            latent: encoder output `(B, …)` before quantization.
        """

    def total(self, latents: Sequence[Tensor]) -> Tensor:
        """Return the sum of the rates of all latents of a batch; they have the order of the shapes of `begin`."""
        return torch.stack([self(latent) for latent in latents]).sum()
