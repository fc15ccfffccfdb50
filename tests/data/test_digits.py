import torch
from torch import Tensor

from splitlearn.data import Digits


def _all(data: Digits, part: str) -> tuple[Tensor, Tensor]:
    images, labels = zip(*getattr(data, f"{part}_dataloader")(), strict=True)
    return torch.cat(images), torch.cat(labels)


def _prepared(seed: int = 0) -> Digits:
    data = Digits(seed=seed)
    data.setup("fit")
    data.setup("test")
    return data


def test_shapes_and_types() -> None:
    data = _prepared()
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (128, *data.image_shape)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert data.num_classes == 10


def test_every_digit_is_in_exactly_one_part() -> None:
    parts = [_all(_prepared(), part) for part in ("train", "val", "test")]
    assert [len(labels) for _, labels in parts] == [1200, 300, 297]
    together = torch.cat([images for images, _ in parts]).flatten(1)
    distinct = len({row.numpy().tobytes() for row in together})
    assert distinct == 1797  # no two digits of the data set are equal
    for _, labels in parts:
        assert labels.bincount(minlength=10).min() > 15


def test_seed_moves_validation_and_never_test() -> None:
    first, second = _prepared(0), _prepared(1)
    assert torch.equal(_all(first, "test")[0], _all(second, "test")[0])
    assert not torch.equal(_all(first, "val")[0], _all(second, "val")[0])
    assert torch.equal(_all(first, "val")[0], _all(_prepared(0), "val")[0])
