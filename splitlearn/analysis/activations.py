"""Activations for the comparison of codecs, and reading of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from splitlearn.numpy_quantizers import Grid
from splitlearn.resource_errors import raised_as

FLOATS = {"F16", "F32", "F64"}


class ActivationsError(ValueError):
    """A file of activations cannot be read or used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Activations:
    """Latents on which codecs are compared.

    Attributes:
        latents: float32 `(B, …)` with B at least 2.
        grids: quantizers; codecs are compared with each of them.
    """

    latents: NDArray[np.float32]
    grids: Sequence[Grid]


def read_activations(path: Path, key: str | None, images: int) -> NDArray[np.float32]:
    """Return the first activations of a file as float32 `(B, …)`.

    Args:
        path: a `.npy` file, or a `.safetensors` file.
        key: name of the tensor in a safetensors file; needed if there are several.
        images: largest number of images to read.

    Raises:
        ActivationsError: if the file is absent, damaged, or no `.npy` or `.safetensors`; the key is not in it or
            missing; the array is not float16, float32 or float64; there are less than two images; or one holds NaN or
            infinity.
    """
    if not path.is_file():
        raise ActivationsError(f"no activations at {path}; save some with numpy.save, an array (B, C, H, W)")
    if path.suffix not in (".npy", ".safetensors"):
        raise ActivationsError(f"{path} must be a .npy or .safetensors file of activations")
    array = _read_npy(path, key, images) if path.suffix == ".npy" else _read_safetensors(path, key, images)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ActivationsError(f"{path} holds {array.dtype}: activations are float16, float32 or float64")
    if array.ndim < 2 or len(array) < 2 or array.size == 0:
        raise ActivationsError(
            f"{path} has shape {array.shape}: comparing takes a batch (B, …) of two images or more, one half to learn "
            "static tables from, the other to measure"
        )
    with np.errstate(over="ignore"):  # what passes the range of float32 becomes infinite, and is refused
        latents = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(latents.reshape(len(latents), -1)).all(axis=1)
    if not finite.all():
        raise ActivationsError(f"image {int(np.argmin(finite))} of {path} holds NaN or infinity, which has no symbol")
    return latents


def _read_npy(path: Path, key: str | None, images: int) -> NDArray[Any]:
    if key is not None:
        raise ActivationsError(f"{path} holds one array: --key is for .safetensors files")
    damaged = ActivationsError(f"{path} is damaged or no .npy file of numbers")
    with raised_as(lambda _: damaged, (ValueError, EOFError, OSError)):
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array[:images] if array.ndim else array


def _read_safetensors(path: Path, key: str | None, images: int) -> NDArray[Any]:
    damaged = ActivationsError(f"{path} is damaged or no .safetensors file")
    with raised_as(lambda _: damaged, (SafetensorError, OSError)), safe_open(path, framework="numpy") as file:
        keys = sorted(file.keys())
        if key is None and len(keys) != 1:
            raise ActivationsError(f"{path} holds {len(keys)} tensors: choose one with --key, of {_some(keys)}")
        name = keys[0] if key is None else key
        if name not in keys:
            raise ActivationsError(f"{path} has no tensor {key!r}, only {_some(keys)}")
        part = file.get_slice(name)
        if part.get_dtype() not in FLOATS or not part.get_shape():
            raise ActivationsError(
                f"{name!r} in {path} is {part.get_dtype()} of shape {tuple(part.get_shape())}: activations are "
                "float16, float32 or float64, a batch (B, …)"
            )
        array: NDArray[Any] = part[:images]
        return array


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "") if keys else "none"
