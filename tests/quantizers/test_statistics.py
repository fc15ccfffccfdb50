"""What calibration counts is what was there, however many values there are."""

import pytest
import torch

from splitlearn.quantizers import LatentStatistics, statistics


@pytest.mark.parametrize("per_channel", [False, True])
def test_moments_are_those_of_the_latents(per_channel: bool) -> None:
    latents = torch.randn(5, 3, 7, 8) * torch.tensor([1.0, 100.0, 0.01])[:, None, None] + 3
    counted = LatentStatistics.of(latents, per_channel)
    rows = (latents.transpose(0, 1).flatten(1) if per_channel else latents.reshape(1, -1)).double()
    for found, expected in (
        (counted.minimum, rows.amin(1)),
        (counted.maximum, rows.amax(1)),
        (counted.mean, rows.mean(1)),
        (counted.mean_square, rows.square().mean(1)),
        (counted.variance, rows.var(1, correction=0)),
        (counted.counts.sum(1), torch.full((len(rows),), rows.shape[1])),
    ):
        torch.testing.assert_close(found, expected.double(), rtol=1e-9, atol=0)


def test_parts_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(3, 4, 50)
    whole = LatentStatistics.of(latents, per_channel=True)
    monkeypatch.setattr(statistics, "PART", 70)  # 17 values of each channel at a time, 14 in the last
    parts = LatentStatistics.of(latents, per_channel=True)
    assert torch.equal(parts.counts, whole.counts)
    for name in ("centres", "mean", "mean_square", "variance"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_cumulative_moments_are_exact_between_bins() -> None:
    latents = torch.tensor([[0.0, 0.0, 0.0, 1.0, 2.0, 4.0]])
    counted = LatentStatistics.of(latents)
    points = torch.tensor([[-1.0, 0.0, 0.5, 2.5, float("inf"), -float("inf")]], dtype=torch.float64)
    expected = torch.tensor([[0, 3, 3, 5, 6, 0], [0, 0, 0, 3, 7, 0], [0, 0, 0, 5, 21, 0]], dtype=torch.float64) / 6
    torch.testing.assert_close(counted.cumulative(points)[:, 0], expected)


def test_a_small_variance_beside_a_large_mean_is_not_lost() -> None:
    latents = torch.full((1, 100_000), 1e4)
    latents[0, 0] += 1e-3
    step = float(latents[0, 0]) - 1e4
    assert float(LatentStatistics.of(latents).variance) == pytest.approx(step**2 / 1e5, rel=1e-3)
    channels = torch.stack([latents[0], torch.full((100_000,), 0.1)])[None]
    counted = LatentStatistics.of(channels, per_channel=True)
    assert (float(counted.variance[1]), float(counted.mean[1])) == (0, float(torch.tensor(0.1)))
