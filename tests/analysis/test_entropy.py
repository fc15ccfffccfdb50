"""Entropies under contexts find what is there, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from splitlearn.analysis import context_entropies, min_max_entropies

SPATIAL = ["none", "channel", "left", "upper", "left and upper", "channel before"]


def bits(symbols: Tensor, levels: int) -> dict[str, float]:
    return {row.context: row.bits_per_element for row in context_entropies(symbols, levels)}


def noise(levels: int, *shape: int) -> Tensor:
    return torch.randint(levels, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_noise_has_nothing_to_gain_and_contexts_do_not_flatter() -> None:
    found = bits(noise(8, 60, 4, 8, 8), 8)
    assert list(found) == SPATIAL
    assert all(2.995 < value < 3.08 for value in found.values())


def test_the_rarest_contexts_cost_bits_rather_than_look_free() -> None:
    # counted and coded on the same image, 65 thousand contexts of 1024 symbols would cost nearly nothing
    assert bits(noise(256, 2, 4, 16, 16), 256)["left and upper"] > 8


@pytest.mark.parametrize(
    ("axis", "certain"), [(3, {"left", "left and upper"}), (2, {"upper", "left and upper"}), (1, {"channel before"})]
)
def test_a_context_that_tells_all_leaves_the_border_alone(axis: int, certain: set[str]) -> None:
    shape = [64, 16, 16, 16]
    shape[axis] = 1
    copied = noise(4, *shape).expand(64, 16, 16, 16).contiguous()
    found = bits(copied, 4)
    for context, value in found.items():
        expected = 2 / 16 if context in certain else 2
        assert value == pytest.approx(expected, abs=0.02), context


def test_channels_of_their_own_are_told_apart() -> None:
    symbols = torch.arange(4, dtype=torch.uint8)[:, None, None].expand(10, 4, 8, 8)
    found = bits(symbols, 4)
    assert found["none"] == pytest.approx(2, abs=0.01)
    assert found["channel"] < 0.02


def test_one_symbol_costs_next_to_nothing() -> None:
    assert all(value < 0.01 for value in bits(torch.zeros(4, 2, 9, 9, dtype=torch.uint8), 2).values())


def test_order_0_is_the_cross_entropy_of_the_other_half() -> None:
    symbols = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 1]], dtype=torch.uint8)
    # each half: three of its symbol, one of the other; coded with (1½, 3½) / 5
    expected = -(3 * np.log2(1.5 / 5) + np.log2(3.5 / 5)) / 4
    assert bits(symbols, 2)["none"] == pytest.approx(expected)


def test_features_without_rows_have_two_contexts() -> None:
    rows = context_entropies(noise(4, 6, 30), 4, "mine")
    assert [row.context for row in rows] == ["none", "channel"]
    assert {(row.quantizer, row.levels) for row in rows} == {("mine", 4)}


def test_features_through_every_quantizer() -> None:
    rows = min_max_entropies(torch.randn(4, 3, 6, 6).relu())
    assert [row.levels for row in rows[::6]] == [4, 8, 16, 32, 64, 128, 256]
    order_0 = [row.bits_per_element for row in rows if row.context == "none"]
    assert order_0 == sorted(order_0)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (0, 3, 4, 4), (4, 0, 2, 2), (4,)])
def test_two_images_are_needed(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="entropies need two images or more, one to count and one to code"):
        context_entropies(torch.zeros(shape, dtype=torch.uint8), 4)


@pytest.mark.parametrize("levels", [1, 3, 257])
def test_symbols_beyond_the_alphabet(levels: int) -> None:
    with pytest.raises(ValueError, match="symbols must be below levels"):
        context_entropies(torch.full((2, 2), 3, dtype=torch.uint8), levels)
