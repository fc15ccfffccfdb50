"""RunLength on real activations: its size is what counting runs with numpy says."""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import batch_norm, conv2d, relu

from splitlearn.codecs import Huffman, RunLength
from splitlearn.quantizers import MinMax

IMAGES = 1000


def cifar_images(archive: Path) -> torch.Tensor:
    """The first images of the archive, normalised, `(IMAGES, 3, 32, 32)`."""
    pixels: list[np.ndarray] = []
    with tarfile.open(archive, "r:xz") as stream:
        for member in stream:
            if member.name.endswith(".jpg") and (file := stream.extractfile(member)) is not None:
                pixels.append(np.asarray(Image.open(io.BytesIO(file.read()))))
            if len(pixels) == IMAGES:
                break
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images - mean[:, None, None]) / std[:, None, None]


def stem_and_first_block(images: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """ResNet-20 up to its first residual block, `(B, 16, 32, 32)`."""

    def normed(x: torch.Tensor, conv: str, norm: str) -> torch.Tensor:
        mean, var = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        x = conv2d(x, weights[f"{conv}.weight"], padding=1)
        return batch_norm(x, mean, var, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    x = relu(normed(images, "conv1", "bn1"))
    y = relu(normed(x, "layer1.0.conv1", "layer1.0.bn1"))
    return relu(x + normed(y, "layer1.0.conv2", "layer1.0.bn2"))


def counted_size(symbols: np.ndarray, bits: int) -> int:
    """Bytes of the run-length code, from the positions of the non-zero symbols alone."""
    flat = symbols.reshape(-1)
    edges = np.concatenate([[-1], np.flatnonzero(flat), [flat.size]])
    runs = np.diff(edges) - 1
    codewords = np.count_nonzero(flat) + int((-(-runs // 2**bits)).sum())
    return int(-(-codewords * (bits + 1) // 8))


def test_sizes_on_a_thousand_images(shared_data: Path) -> None:
    images = cifar_images(shared_data / "cifar10_jpeg_q75.tar.xz")
    weights = load_file(shared_data / "weights" / "resnet20_cifar10.safetensors")
    with torch.inference_mode():
        latents = torch.cat([stem_and_first_block(images[k : k + 100], weights) for k in range(0, IMAGES, 100)])
    assert len(latents) == IMAGES
    codec = RunLength()
    for bits in (2, 3, 4):
        symbols = MinMax(bits).quantize(latents)[0].numpy()
        for image in symbols:
            payload = codec.encode(image, 2**bits)
            assert len(payload) == counted_size(image, bits)
            assert np.array_equal(codec.decode(payload, image.shape, 2**bits), image)


def test_huffman_on_real_latents_is_near_their_entropy(shared_data: Path) -> None:
    images = cifar_images(shared_data / "cifar10_jpeg_q75.tar.xz")[:50]
    weights = load_file(shared_data / "weights" / "resnet20_cifar10.safetensors")
    symbols = MinMax(4).quantize(stem_and_first_block(images, weights))[0].numpy()
    for image in symbols:
        share = np.bincount(image.reshape(-1)) / image.size
        ideal = -(share[share > 0] * np.log2(share[share > 0])).sum() * image.size / 8
        assert ideal <= len(Huffman().encode(image, 16)) < 1.1 * ideal + 20
