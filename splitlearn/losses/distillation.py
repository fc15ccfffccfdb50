"""Losses between a frozen network's features and their reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from splitlearn.kept_dtypes import widened


class FeatureDistillation(nn.Module):
    """Squared error of the reconstructed features, relative to the power of the original ones.

    Since it is relative, an all-zero reconstruction has the loss 1 at any cut of any network, and the same weight can
    be used for all of them.
    """

    def forward(self, features_hat: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Return the mean over crossing tensors of ‖f̂ − f‖² / ‖f‖², a scalar.

        Args:
            features_hat: reconstructions `(B, …)`, in the order of `features`.
            features: the frozen head's outputs; integer tensors are ignored.
        """
        pairs = [(widened(hat), widened(target)) for hat, target in zip(features_hat, features, strict=True)]
        terms = [
            functional.mse_loss(hat, target) / target.square().mean().clamp_min(torch.finfo(target.dtype).tiny)
            for hat, target in pairs
            if target.is_floating_point()
        ]
        return torch.stack(terms).mean()


class VarianceScaledError(nn.Module):
    """Squared error of a layer's output, relative to the variance of the wanted one in the batch.

    A layer that is always equal to the mean has the loss 1, at any layer of any network, so distances of different
    layers can be added. `FeatureDistillation` divides by the power instead: the two differ where the mean is not 0,
    as behind a ReLU.
    """

    def forward(self, given: Tensor, wanted: Tensor) -> Tensor:
        """Return mean((given − wanted)²) / var(wanted), a scalar, for tensors `(B, …)` of equal shape."""
        target = widened(wanted)
        variance = target.var(correction=0).clamp_min(torch.finfo(target.dtype).tiny)
        return functional.mse_loss(widened(given), target) / variance
