from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from splitlearn.data import Cifar10, DataError, cifar, finding


def test_missing_data_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing or damaged in .*: set download to true, or unpack https"):
        Cifar10(tmp_path).setup("fit")


def test_failed_download_says_what_else_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError(ConnectionRefusedError(111, "Connection refused"))

    monkeypatch.setattr(finding, "urlopen", refuse)
    with pytest.raises(DataError, match=r"cannot download https.*Connection refused.*unpack that archive into"):
        Cifar10(tmp_path, download=True).prepare_data()


def test_nothing_is_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "urlopen", lambda *_, **__: pytest.fail("went online"))
    Cifar10(tmp_path).prepare_data()


def test_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(root: Path, train: bool) -> SimpleNamespace:
        count = 30 if train else 10
        pixels = np.zeros((count, 32, 32, 3), dtype=np.uint8)
        pixels[:, :, :, 2] = np.arange(count)[:, None, None]
        return SimpleNamespace(data=pixels, targets=[n % 10 for n in range(count)])

    monkeypatch.setattr(cifar, "CIFAR10", fake)
    data = Cifar10(tmp_path, val_size=5)
    data.setup("fit")
    data.setup("test")
    (train, labels), (val, _), (test, _) = (
        next(iter(loader)) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert (train.shape, len(val), len(test)) == ((25, 3, 32, 32), 5, 10)
    assert train.dtype == torch.uint8
    assert torch.equal(train[:, 2, 0, 0] % 10, labels)
    assert not set(train[:, 2, 0, 0].tolist()) & set(val[:, 2, 0, 0].tolist())
