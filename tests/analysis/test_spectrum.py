"""Truncation keeps low frequencies along the order asked for; accuracy is that of the tail."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from splitlearn.analysis import spectrum_accuracy, truncate_spectrum
from splitlearn.analysis.spectrum import ORDERS, class_logits


@pytest.mark.parametrize("order", ORDERS)
def test_all_frequencies_restore_the_features(order: str) -> None:
    features = torch.randn(2, 3, 4, 5)
    restored = truncate_spectrum(features, 1.0, order)
    torch.testing.assert_close(restored, features)
    assert restored.is_contiguous()


@pytest.mark.parametrize("order", ORDERS)
def test_the_mean_is_always_kept(order: str) -> None:
    features = torch.randn(2, 3, 4, 5)
    mean = features.mean((1, 2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(truncate_spectrum(features, 1e-6, order), mean)


@pytest.mark.parametrize(("order", "kept"), [("CHW", True), ("HWC", False), ("WHC", False)])
def test_a_wave_along_the_channels_is_slow_only_if_they_change_last(order: str, kept: bool) -> None:
    wave = torch.tensor([1.0, -1.0] * 4)[:, None, None].expand(1, 8, 8, 8)
    energy = truncate_spectrum(wave, 0.2, order).square().sum() / wave.square().sum()
    assert (energy > 0.9) == kept
    assert (energy < 0.01) != kept


@pytest.mark.parametrize(("share", "order"), [(0.0, "CHW"), (1.1, "CHW"), (0.5, "CWW"), (0.5, "chw")])
def test_shares_and_orders_that_make_no_sense(share: float, order: str) -> None:
    with pytest.raises(ValueError, match="share must lie above 0"):
        truncate_spectrum(torch.rand(1, 2, 2, 2), share, order)


def test_features_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"this analysis needs \(C, H, W\)"):
        truncate_spectrum(torch.rand(2, 8), 0.5)


class ByChannel(nn.Module):
    """Logits are the channels' first positions, plus a tensor of integers that crosses too."""

    def forward(self, features: Tensor, offset: Tensor) -> Tensor:
        return features[:, :, 0, 0] + 0 * offset


def test_accuracy_falls_with_what_the_task_needs() -> None:
    features = torch.eye(8)[:, :, None, None].expand(8, 8, 4, 4).contiguous()
    crossing = features, torch.zeros(8, 1, dtype=torch.int64)
    points = spectrum_accuracy(ByChannel(), crossing, torch.arange(8), (0.01, 0.5, 1.0), ("CHW", "HWC"), batch_size=3)
    by = {(point.order, point.share): point for point in points}
    assert len(by) == 6
    assert {point.images for point in points} == {8}
    assert by["CHW", 1.0].accuracy == by["HWC", 1.0].accuracy == by["CHW", 0.5].accuracy == 1
    assert by["CHW", 0.01].accuracy < 1
    assert by["HWC", 0.01].accuracy < 0.5
    energies = [by["CHW", share].energy for share in (0.01, 0.5, 1.0)]
    assert energies == sorted(energies)
    assert energies[-1] == pytest.approx(1)


def test_features_of_zeros_keep_all_their_energy() -> None:
    crossing = torch.zeros(2, 3, 2, 2), torch.zeros(2, 1, dtype=torch.int64)
    (point,) = spectrum_accuracy(ByChannel(), crossing, torch.zeros(2).long(), (0.5,), ("CHW",))
    assert (point.energy, point.accuracy) == (1, 1)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="there are no images"):
        spectrum_accuracy(ByChannel(), (torch.zeros(0, 3, 2, 2),), torch.zeros(0).long(), (0.5,), ("CHW",))


@pytest.mark.parametrize(
    ("prediction", "found"),
    [(torch.zeros(2, 3, 4), r"\(2, 3, 4\)"), ((torch.zeros(2, 3),), "tuple"), ({"boxes": 1}, "dict")],
)
def test_other_outputs_are_no_logits(prediction: object, found: str) -> None:
    with pytest.raises(ValueError, match=f"needs a classifier, .* and not {found}"):
        class_logits(prediction)
