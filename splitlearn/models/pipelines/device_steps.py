"""Modules for export: the parts that a device runs in sequence, and their counterparts on the edge server."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from splitlearn.models.coder import FeatureCoder
from splitlearn.models.cutting import Split
from splitlearn.models.images import Normalize
from splitlearn.models.pipelines.confidence import Confidence


class HeadStep(nn.Module):
    """Images in [0, 1] → normalize → head → crossing tensors.

    Args:
        normalize: normalization of images; None for none.
        head: the head of a cut network, or a part of it.
    """

    is_exit = False

    def __init__(self, normalize: Normalize | None, head: nn.Module) -> None:
        super().__init__()
        self.normalize, self.head = normalize, head

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors after this part; the first part takes images `(B, C, H, W)`."""
        if self.normalize is not None:
            tensors = (self.normalize(tensors[0]), *tensors[1:])
        found: tuple[Tensor, ...] = self.head(*tensors)
        return found


class ExitStep(HeadStep):
    """Part of a head that ends at an exit.

    Args:
        normalize: normalization of images, in the first part only.
        head: the part of the head.
        branch: classifier of the exit.
        temperature: divisor of the exit's logits before the confidence.
        confidence: confidence measure.
    """

    is_exit = True

    def __init__(
        self,
        normalize: Normalize | None,
        head: nn.Module,
        branch: nn.Module,
        temperature: float,
        confidence: Confidence,
    ) -> None:
        super().__init__(normalize, head)
        self.branch, self.temperature, self.confidence = branch, temperature, confidence

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the exit's logits `(B, num_classes)`, its confidence `(B,)`, and the tensors after this part."""
        found = super().forward(*tensors)
        logits = self.branch(found[0])
        return logits, self.confidence(logits.float() / self.temperature), *found


class Encoders(nn.Module):
    """Crossing tensors → latents; integer tensors pass unchanged."""

    def __init__(self, coder: FeatureCoder) -> None:
        super().__init__()
        self.units = nn.ModuleList(unit.encoder for unit in coder.bottlenecks)  # type: ignore[misc]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the latents."""
        return tuple(unit(tensor) for unit, tensor in zip(self.units, tensors, strict=True))


class Decoders(nn.Module):
    """Dequantized latents → crossing tensors; integer tensors pass unchanged."""

    def __init__(self, coder: FeatureCoder) -> None:
        super().__init__()
        self.units = nn.ModuleList(unit.decoder for unit in coder.bottlenecks)  # type: ignore[misc]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the reconstructed crossing tensors."""
        return tuple(unit(tensor) for unit, tensor in zip(self.units, tensors, strict=True))


class Tail(nn.Module):
    """Crossing tensors → output of the network."""

    def __init__(self, net: Split) -> None:
        super().__init__()
        self.tail = net.tail

    def forward(self, *tensors: Tensor) -> object:
        """Return the output."""
        return self.tail(*tensors)


class Whole(nn.Module):
    """Images in [0, 1] → normalize → output of the network, whose own head runs.

    Args:
        normalize: normalization of images; None for none.
        net: the cut network.
    """

    def __init__(self, normalize: Normalize | None, net: Split) -> None:
        super().__init__()
        self.normalize, self.net = normalize, net

    def forward(self, images: Tensor) -> object:
        """Return the output for images `(B, C, H, W)`."""
        return self.net(images if self.normalize is None else self.normalize(images))


class Chained(nn.Module):
    """Modules in sequence, each called with the tensors that the previous one returned."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, *tensors: Tensor) -> object:
        """Return the last module's output."""
        found: object = tensors
        for part in self.parts:
            found = part(*found) if isinstance(found, tuple) else part(found)
        return found
