import numpy as np
import torch

from splitlearn.metrics import BitsPerPixel, BytesPerImage, EstimatedBits


def test_bytes_are_averaged_over_images_not_batches() -> None:
    metric = BytesPerImage()
    metric.update([b"1234", b""])
    metric.update([b"12345"])
    assert metric.compute().item() == 3


def test_bits_per_pixel_divides_by_the_inputs_pixels() -> None:
    metric = BitsPerPixel()
    metric.update([b"12", b"12"], torch.zeros(2, 3, 4, 8))
    assert metric.compute().item() == 0.5


def test_estimated_bits_is_the_entropy_of_each_tensors_symbols() -> None:
    symbols = np.random.default_rng(0).integers(0, 5, (6, 10, 10)).astype(np.uint8)
    metric = EstimatedBits([8, 5])
    for part in (symbols[:4], symbols[4:]):
        metric.update([torch.from_numpy(part[:, :5]), torch.from_numpy(part[:, 5:])])
    expected = 0.0
    for tensor in (symbols[:, :5], symbols[:, 5:]):
        p = np.bincount(tensor.ravel()) / tensor.size
        expected -= (p * np.log2(p)).sum() * 50
    assert np.isclose(metric.compute().item(), expected, rtol=1e-5)


def test_one_repeated_symbol_costs_nothing() -> None:
    metric = EstimatedBits([4])
    metric.update([torch.zeros(2, 3, dtype=torch.uint8)])
    assert metric.compute().item() == 0
