"""Differences go to the right neighbour, correlations are numpy's, and constants have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from splitlearn.analysis import axis_correlation, difference_distributions, differences
from splitlearn.analysis.correlation import AXES, FRAME


def pairs(features: Tensor, dim: int) -> tuple[np.ndarray, np.ndarray]:
    array = np.moveaxis(features.double().numpy(), dim, 0)
    return array[1:].reshape(-1), array[:-1].reshape(-1)


@pytest.mark.parametrize(("axis", "step"), [("row", 1), ("column", 10), ("channel", 100), ("frame", 1000)])
def test_each_axis_has_its_own_neighbour(axis: str, step: int) -> None:
    b, c, h, w = (torch.arange(n) for n in (5, 4, 3, 2))
    ramp = b[:, None, None, None] * 1000 + c[:, None, None] * 100 + h[:, None] * 10 + w
    found = differences(ramp.float(), axis)
    assert set(found.flatten().tolist()) == {step}
    assert found.numel() == ramp.numel() // ramp.shape[{**AXES, FRAME: 0}[axis]] * (
        ramp.shape[{**AXES, FRAME: 0}[axis]] - 1
    )


@pytest.mark.parametrize("axis", [*AXES, FRAME])
def test_figures_are_those_of_numpy(axis: str) -> None:
    torch.manual_seed(0)
    noise = torch.randn(6, 5, 9, 9)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1) + torch.arange(5.0)[:, None, None]
    found = axis_correlation(smooth, axis)
    later, earlier = pairs(smooth, {**AXES, FRAME: 0}[axis])
    assert found.pairs == later.size
    assert found.correlation == pytest.approx(np.corrcoef(later, earlier)[0, 1], abs=1e-5)
    assert found.std_ratio == pytest.approx((later - earlier).std() / smooth.double().numpy().std(), rel=1e-5)
    centred = smooth - smooth.mean((0, 2, 3), keepdim=True)
    inside = np.corrcoef(*pairs(centred, {**AXES, FRAME: 0}[axis]))[0, 1]
    assert found.correlation_in_channel == pytest.approx(inside, abs=1e-5)
    if axis in ("row", "column"):
        assert found.correlation is not None
        assert found.correlation > 0.9 > 0.75 > inside > 0.5  # channels of different means flatter


def test_the_range_is_compared_image_by_image() -> None:
    features = torch.zeros(2, 1, 1, 4)
    features[0, 0, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0])  # range 3, of differences 0
    features[1, 0, 0] = torch.tensor([0.0, 9.0, 0.0, 9.0])  # range 9, of differences 18
    assert axis_correlation(features, "row").range_ratio == 1


def test_constant_features_have_no_ratio() -> None:
    found = axis_correlation(torch.full((3, 2, 4, 4), 0.1), "row")
    assert (found.range_ratio, found.std_ratio, found.correlation, found.correlation_in_channel) == (None,) * 4


def test_channels_that_are_constant_correlate_by_their_means_alone() -> None:
    features = torch.tensor([0.1, 0.7, 1.3])[:, None, None].expand(4, 3, 5, 5)
    found = axis_correlation(features, "column")
    assert found.correlation == pytest.approx(1)
    assert found.correlation_in_channel is None


def test_without_neighbours() -> None:
    found = axis_correlation(torch.rand(3, 1, 2, 2), "channel")
    assert (found.pairs, found.correlation, found.std_ratio, found.range_ratio) == (0, None, None, None)
    with pytest.raises(ValueError, match=r"\(3, 1, 2, 2\) have no neighbours along the channel"):
        difference_distributions(torch.rand(3, 1, 2, 2), "channel")


def test_frames_need_no_rows() -> None:
    vectors = torch.arange(12.0).view(4, 3)
    assert [d.name for d in difference_distributions(vectors, FRAME, 2)] == [
        "all frames",
        "frames 0 and 1",
        "frames 2 and 3",
    ]
    assert axis_correlation(vectors, FRAME).pairs == 9


@pytest.mark.parametrize("axis", AXES)
def test_features_without_rows_are_refused(axis: str) -> None:
    for function in (axis_correlation, difference_distributions):
        with pytest.raises(ValueError, match=r"shape \(8,\) have no channels, rows and columns: this analysis needs"):
            function(torch.rand(4, 8), axis)
    with pytest.raises(ValueError, match=f"have no {axis}"):
        differences(torch.rand(4, 8), axis)


def test_an_unknown_axis() -> None:
    with pytest.raises(ValueError, match="there is no axis 'rows': take one of row, column, channel, frame"):
        differences(torch.rand(2, 2, 2, 2), "rows")
