"""Advice on where to cut, and plots of several networks side by side."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import nn

from splitlearn.analysis import profile_model
from splitlearn.analysis.profile import smaller_cut
from splitlearn.models import resnet20
from splitlearn.reporting import advice, plot_parameters, plot_sizes
from tests.analysis.test_profile import Around, Idle, NeedsValues


def test_advice_on_networks_that_narrow() -> None:
    text = advice(profile_model(resnet20(), (3, 32, 32), depth=0))
    assert text.startswith(
        "of these cuts only avgpool (0.02 of its elements, behind 100.0 % of the work) sends less than"
    )
    assert "branches" not in text
    assert "is not known" in advice(profile_model(NeedsValues(), (3, 8, 8)))


def test_advice_where_a_bottleneck_helps_before_any_cut() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(2, 9, 3, padding=1))
    profiles = profile_model(network, (3, 8, 8))
    text = advice(profiles)
    assert text.startswith("of these cuts only 1 (0.67 of its elements, ")
    assert "with a bottleneck a cut sends less from 0 on" in text
    assert "with 2 of 8 channels" in text
    assert "bottleneck" not in advice(profiles[1:])  # nothing is sent before the cut that sends least by itself
    assert smaller_cut(network, (3, 8, 8), ["0", "2"]) == profiles[1]
    assert smaller_cut(network, (3, 8, 8), ["1"]) is None


def test_a_map_as_large_as_the_image_takes_no_bottleneck_without_stride() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1))
    assert "bottleneck" not in advice(profile_model(network, (1, 8, 8)))


def test_networks_are_plotted_side_by_side(tmp_path: Path) -> None:
    networks = {name: profile_model(net, (3, 8, 8)) for name, net in (("around", Around()), ("idle", Idle()))}
    for plot in (plot_sizes, plot_parameters):
        plot(networks, tmp_path / f"{plot.__name__}.png")
        with Image.open(tmp_path / f"{plot.__name__}.png") as picture:
            assert min(picture.size) > 300
