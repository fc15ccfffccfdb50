"""First block of a detector with a bottleneck inside, and its insertion into a trained network."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from splitlearn.models.cutting import check_name
from splitlearn.models.networks.weights import WeightsError, checked_weights

__all__ = ["RedesignedLayer1", "replaced"]


class RedesignedLayer1(nn.Module):
    """Replacement of a detector's `layer1` with few channels at its middle, where the network is cut.

        stem (in, H, W) → encoder → latent (C, H + 4, W + 4) ═ quantize, code, send ═ decoder → (out, H, W) → layer2
                          2×2: in → w → 4w → w → C                    2×2: C → w → 2w → 4w → out

    Each convolution of the encoder adds one row and column to the map, each of the decoder removes one. The latent has
    no norm and no ReLU: both are at the start of the decoder. It has H/4 + 4 rows for an image of height H, because the
    stem divides by four. Cut behind the encoder: `split(student, at="backbone.body.layer1.encoder", …)`.

    Args:
        in_channels: channels of the stem's output: 64 in ResNets.
        channels: C, channels of the latent: 3, 6, 9, 12 or 15 in the paper.
        out_channels: channels of the replaced layer's output: 256 in ResNet-50 and deeper, 64 in ResNet-18 and 34.
        width: w, channels of the narrowest hidden layers.
        rectified: whether the replaced layer ends in a ReLU, as in ResNets but not in MobileNetV2.

    Raises:
        ValueError: if a number is not positive.

    Reference:
        Matsubara & Levorato 2020, Sec. 4; with a width of 64 and 256 output channels, the layers are those of the
        authors' published code for ResNet-50.
    """

    def __init__(
        self,
        in_channels: int = 64,
        channels: int = 3,
        out_channels: int = 256,
        width: int = 64,
        rectified: bool = True,
    ) -> None:
        super().__init__()
        if min(in_channels, channels, out_channels, width) < 1:
            raise ValueError(
                "in_channels, channels, out_channels and width must be at least 1, "
                f"got {in_channels}, {channels}, {out_channels} and {width}"
            )
        self.encoder = nn.Sequential(
            *_layer(in_channels, width, padding=1),
            *_layer(width, 4 * width, padding=1),
            nn.ReLU(inplace=True),
            *_layer(4 * width, width, padding=1),
            nn.Conv2d(width, channels, 2, padding=1, bias=False),
        )
        self.decoder = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            *_layer(channels, width, padding=0),
            *_layer(width, 2 * width, padding=0),
            nn.ReLU(inplace=True),
            *_layer(2 * width, 4 * width, padding=0),
            *_layer(4 * width, out_channels, padding=0),
            nn.ReLU(inplace=True) if rectified else nn.Identity(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features `(B, out_channels, H, W)` for the stem's `(B, in_channels, H, W)`."""
        restored: Tensor = self.decoder(self.encoder(features))
        return restored


def _layer(inputs: int, outputs: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 2, padding=padding, bias=False), nn.BatchNorm2d(outputs)]


def replaced(model: nn.Module, at: str, by: nn.Module, weights: str | Path | None = None) -> nn.Module:
    """Replace one module of `model` in place and return the model: the student of a distillation.

    Args:
        model: any network; all other modules keep their weights.
        at: dotted name of the module to replace.
        by: the new module.
        weights: file of trained weights by their names in the whole network: all of `by`, optionally other parts; None
            leaves `by` unchanged.

    Raises:
        CutError: if the module does not exist; the message names similar ones.
        FileNotFoundError: if the file does not exist.
        WeightsError: if the file is damaged, lacks a part of `by`, or belongs to another network.
    """
    check_name(model, at)
    model.set_submodule(at, by.train(model.training))
    if weights is not None:
        _load_part(model, at, weights)
    return model


def _load_part(model: nn.Module, at: str, weights: str | Path) -> None:
    """Load a weights file that contains the module `at`, and possibly other modules, of a network."""
    expected = model.state_dict()
    found = checked_weights(expected, weights, type(model).__name__, partial=True)
    needed = [name for name in expected if name.startswith(f"{at}.") and not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in found]
    if missing:
        raise WeightsError(
            f"{weights} lacks {missing[0]} ({len(missing)} of {len(needed)} tensors of {at}): "
            "use the file that the training of this student wrote"
        )
    model.load_state_dict(found, strict=False)
