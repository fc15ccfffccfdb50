"""Tables from a density: equal in every bit everywhere, near the exact ones, and refused where they are none."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import RANS, DensityRANS
from splitlearn.codecs.density_rans import _exponential

MEANS = np.array([[0.0, 1.0], [-3.0, 2.5]], np.float32)
SCALES = np.array([[0.5, 2.0], [1.0, 4.0]], np.float32)
WEIGHTS = np.array([[0.25, 0.75], [1.0, 1.0]], np.float32)
GAIN = np.array([1.0, 2.0], np.float16)
GOLDEN = 727270247


def code(levels: int = 64) -> DensityRANS:
    return DensityRANS(per_channel=True).with_density(MEANS, SCALES, WEIGHTS, GAIN, levels)


def frequencies(codec: DensityRANS) -> NDArray[np.uint16]:
    found = codec._frequencies
    assert found is not None
    return found


def test_the_exponential_is_exact_to_the_last_digits() -> None:
    x = -np.concatenate([np.linspace(0, 5, 1001), np.linspace(5, 700, 1001)])
    np.testing.assert_allclose(_exponential(x), np.exp(x), rtol=4e-16)
    assert _exponential(np.array([-1e9]))[0] < 1e-300


def test_tables_are_the_probabilities_of_the_cells() -> None:
    found = frequencies(code()).astype(float) / 2**14
    edges = np.arange(-32, 31) + 0.5
    for channel in range(2):
        gain, share = float(GAIN[channel]), WEIGHTS[channel] / WEIGHTS[channel].sum()
        pairs = zip(share, MEANS[channel], SCALES[channel], strict=True)
        below = sum(w / (1 + np.exp(-(edges - m * gain) / (s * gain))) for w, m, s in pairs)
        cells = np.diff(np.concatenate([[0.0], below, [1.0]]))
        ordered = [cells[32 + (-(s + 1) // 2 if s % 2 else s // 2)] for s in range(64)]
        np.testing.assert_allclose(found[channel], np.maximum(ordered, 2**-14), atol=2e-3)


def test_tables_are_golden_on_every_machine() -> None:
    assert zlib.crc32(frequencies(code(256)).tobytes()) == GOLDEN


def test_what_is_kept_is_small_and_gives_the_same_code() -> None:
    tables = code(256).tables()
    assert sum(table.nbytes for table in tables.values()) == 3 * 16 + 4 + 1
    symbols = np.random.default_rng(0).integers(0, 6, (2, 8, 8)).astype(np.uint8)
    again = DensityRANS(per_channel=True).with_tables(tables)
    payload = code(256).encode(symbols, 256)
    assert again.encode(symbols, 256) == payload
    np.testing.assert_array_equal(again.decode(payload, symbols.shape, 256), symbols)


def test_a_gain_scales_the_density() -> None:
    wide = code().at_gain(np.array([2.0, 4.0], np.float32))
    scaled = DensityRANS(per_channel=True).with_density(2 * MEANS, 2 * SCALES, WEIGHTS, GAIN, 64)
    np.testing.assert_array_equal(frequencies(wide), frequencies(scaled))
    plain = DensityRANS(per_channel=True)
    assert plain.at_gain(GAIN) is plain


def test_without_a_density_it_is_rans() -> None:
    symbols = np.random.default_rng(0).integers(0, 6, (2, 8, 8)).astype(np.uint8)
    assert DensityRANS().encode(symbols, 8) == RANS().encode(symbols, 8)
    assert DensityRANS.fit([symbols], 8).tables().keys() == {"frequencies"}


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("means", MEANS.astype(np.float64), "are float32"),
        ("means", MEANS[0], "are \\(channels, components\\)"),
        ("means", np.full((2, 2), np.nan, np.float32), "NaN or infinity"),
        ("scales", np.zeros((2, 2), np.float32), "are positive"),
        ("scales", SCALES[:1], "has scales and weights of that shape"),
        ("weights", np.zeros((2, 2), np.float32), "not all zero"),
        ("weights", -WEIGHTS, "are positive"),
        ("gain", np.array([1.0, 0.0], np.float32), "are positive"),
        ("gain", np.ones(3, np.float32), "a gain"),
        ("levels", np.array([0], np.uint8), "levels"),
        ("levels", np.array([7], np.int64), "levels"),
        ("other", np.array([7]), "has arrays"),
    ],
)
def test_forged_densities_are_refused(name: str, wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DensityRANS(per_channel=True).with_tables({**code().tables(), name: wrong})
    with pytest.raises(ValueError, match=r"DensityRANS\(per_channel=True\) takes it"):
        DensityRANS().with_tables(code().tables())
