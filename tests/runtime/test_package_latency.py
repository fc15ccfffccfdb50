"""Latencies of packages: each rate of each package, as it is sent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from splitlearn.runtime import Device, OnnxEdge, Package, PackageError
from splitlearn.runtime.package_latency import PICTURES, time_packages, time_pictures
from tests.runtime.conftest import Packaged, pixels


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.latencies.PAUSE_S", 0.0)


def test_all_rates_of_a_bank_are_timed(bank: Packaged) -> None:
    images = list(pixels(3))
    found = time_packages([Package(bank.folder)], images, 3)
    assert (found.engine, found.network, found.input_shape) == ("onnxruntime", "CifarResNet", (3, 32, 32))
    assert not found.whole_has_bottleneck
    assert 50 < found.answer_bytes < 200  # classes and scores
    assert [(each.rate, each.score) for each in found.coders] == [(0, 0.8), (1, 0.9), (2, 0.95)]
    device, edge = Device(bank.folder), OnnxEdge(bank.folder)
    for each in found.coders:
        sent = [device.compress(image, each.rate) for image in images]
        assert each.bytes_per_image == pytest.approx(sum(len(p) for p in sent if isinstance(p, bytes)) / 3)
        assert (each.at, each.model) == ("layer2", edge.fingerprint)
    assert [each.name for each in found.pictures] == [f"{name} {quality}" for name, quality in PICTURES]


def test_an_image_that_would_exit_is_timed_to_the_end(exits: Packaged) -> None:
    [coder] = time_packages([Package(exits.folder)], list(pixels(12)), 12).coders
    assert coder.bytes_per_image > 0


def test_packages_of_one_network_are_joined_and_others_refused(bank: Packaged, exits: Packaged) -> None:
    found = time_packages([Package(bank.folder), Package(exits.folder)], list(pixels(2)), 2)
    assert len({each.model for each in found.coders}) == 2
    other = Package(exits.folder)
    other.image_shape = (3, 64, 64)
    with pytest.raises(ValueError, match="these packages are of several networks"):
        time_packages([Package(bank.folder), other], list(pixels(2)), 2)


def test_a_half_that_needs_torch_is_refused(bank: Packaged) -> None:
    package = Package(bank.folder)
    package.steps = ()
    package.device_reason = "it is a test"
    with pytest.raises(PackageError, match="needs torch"):
        time_packages([package], list(pixels(2)), 2)


def test_better_pictures_have_more_bytes() -> None:
    jpeg, fine, _ = time_pictures(list(pixels(3)), 2)
    assert jpeg.bytes_per_image < fine.bytes_per_image


def test_packages_are_timed_and_plans_made_without_torch() -> None:
    code = "import sys, splitlearn.config.timing, splitlearn.runtime.planner; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not {"torch", "lightning", "matplotlib"} & set(done.stdout.split())
