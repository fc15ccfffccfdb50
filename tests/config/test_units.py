"""Bandwidths and durations: units in any case; one sentence on nonsense."""

from __future__ import annotations

import pytest

from splitlearn.config.messages import UsageError
from splitlearn.config.units import bandwidth, duration


@pytest.mark.parametrize(
    ("text", "bits"),
    [("2Mbps", 2e6), ("500kbps", 5e5), ("1Gbps", 1e9), ("9600bps", 9600), (" 1.5 mbps ", 1.5e6), (".5GBPS", 5e8)],
)
def test_bandwidths(text: str, bits: float) -> None:
    assert bandwidth("--bandwidth", text) == pytest.approx(bits)


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("20ms", 20), ("0.1s", 100), ("800us", 0.8), ("0ms", 0), ("2 S", 2000), ("1.ms", 1)]
)
def test_durations(text: str, milliseconds: float) -> None:
    assert duration("--rtt", text) == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    "text", ["", "2", "Mbps", "-2Mbps", "2MB", "0bps", "2Mbps!", "1e3Mbps", "nanMbps", "20ms", "9" * 400 + "bps"]
)
def test_no_bandwidths(text: str) -> None:
    with pytest.raises(UsageError, match=r"--bandwidth takes a number above 0 with a unit \(bps, kbps, Mbps, Gbps\)"):
        bandwidth("--bandwidth", text)


@pytest.mark.parametrize("text", ["", "20", "ms", "-1ms", "2Mbps", "1h", "infs"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match=r"--rtt takes a number with a unit \(us, ms, s\), such as 20ms; got"):
        duration("--rtt", text)
    with pytest.raises(UsageError, match="--deadline takes a number above 0"):
        duration("--deadline", "0ms", 0)
