"""Order of cached rows: by seed and epoch alone, or as image loaders draw it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.data import RandomSampler

from splitlearn.data import CachedFeatures, Digits, cache_features
from splitlearn.data.row_order import RowOrder
from tests.data.test_feature_cache import head


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    order = RowOrder(50, views=3, seed=1)
    epochs = [list(order) for _ in range(3)]
    assert all(sorted(row % 50 for row in rows) == list(range(50)) for rows in epochs)
    assert all({row // 50 for row in rows} == {0, 1, 2} for rows in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert len(order) == 50


def test_seed_and_epoch_decide_whatever_else_is_drawn() -> None:
    begun = RowOrder(20, seed=4)
    first = [list(begun) for _ in range(2)]
    torch.manual_seed(9)
    order = RowOrder(20, seed=4)
    order.set_epoch(1)
    assert list(order) == first[1]
    assert list(RowOrder(20, seed=4, epoch=1)) == first[1]
    assert list(RowOrder(20, seed=5)) != first[0]


def test_without_a_seed_the_order_is_that_of_torch() -> None:
    torch.manual_seed(3)
    theirs = list(RandomSampler(range(30)))
    torch.manual_seed(3)
    assert list(RowOrder(30)) == theirs


def test_loaders_with_a_seed_take_no_random_numbers_from_others(tmp_path: Path) -> None:
    cache_features(tmp_path, Digits(), head, "float16")
    cache = CachedFeatures(tmp_path, batch_size=500, seed=2)
    orders = []
    for _ in range(2):
        state = torch.get_rng_state()
        orders.append(torch.cat([labels for _, _, labels in cache.train_dataloader()]))
        for loader in (cache.val_dataloader(), cache.test_dataloader()):
            next(iter(loader))
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(7)
    assert torch.equal(*orders)
