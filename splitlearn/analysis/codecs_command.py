"""`splitlearn codecs`: all codecs on given activations; table, JSON and CSV file, plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from safetensors import SafetensorError, safe_open

from splitlearn.analysis.codec_comparison import CodecRow, compare_codecs, package_codecs, with_static_tables
from splitlearn.analysis.codec_report import LEGEND, print_codecs, processor, write_codecs
from splitlearn.codecs import Codec
from splitlearn.grids import Grid
from splitlearn.shortage import of_machine

FLOATS = {"F16", "F32", "F64"}


class ActivationsError(ValueError):
    """A file of activations that cannot be read or compared on; the message names file and remedy."""


@dataclass(frozen=True)
class Activations:
    """Latents to compare codecs on.

    Attributes:
        latents: float32 `(B, …)` with B at least 2.
        grids: each quantizes all of them.
    """

    latents: NDArray[np.float32]
    grids: Sequence[Grid]


def codecs_command(
    sources: Mapping[str, Activations],
    images: int,
    rounds: int,
    out: Path,
    about: Mapping[str, Any],
    more: Mapping[str, Codec],
) -> None:
    """Compare all codecs; print a table for each source, write codecs.json, codecs.csv and codecs.png to `out`.

    Every second image is measured; static tables are learnt from the others.

    Args:
        sources: what to compare on, by name.
        images: how many to measure at most.
        rounds: how often each is coded.
        out: folder, made if absent.
        about: machine, versions, command, date: goes into the JSON file.
        more: codecs beside those of the package, by label. One that refuses a grid's levels is left out there.

    Raises:
        ValueError: if a source cannot be quantized.
    """
    results: dict[str, list[CodecRow]] = {}
    console = Console()
    for source, activations in sources.items():
        latents = activations.latents
        measured, others = list(latents[: 2 * images : 2]), latents[1 : 2 * images : 2]
        rows: list[CodecRow] = []
        for grid in activations.grids:
            for label in (k for k, c in more.items() if not _takes(c, grid)):
                console.print(f"note: {label} is left out at {grid.levels} levels, which it refuses", soft_wrap=True)
            codecs = with_static_tables(
                package_codecs() | {k: c for k, c in more.items() if _takes(c, grid)}, others, grid
            )
            rows += compare_codecs(measured, grid, codecs, rounds)
        name = f"{source}, {'×'.join(map(str, latents.shape[1:]))}"
        results[name] = rows
        numbers = f"{len(measured)} images measured, static tables learnt from {len(others)} others"
        print_codecs(rows, f"{name}: {numbers}")
    console.print(LEGEND.replace("\n", " "))
    write_codecs(results, out, "codecs", "Codecs side by side", {**about, "processor": processor()})
    console.print(f"{out / 'codecs.json'}, codecs.csv and codecs.png written", soft_wrap=True)


def _takes(codec: Codec, grid: Grid) -> bool:
    """Tell whether a codec takes arrays of a grid's alphabet."""
    try:
        codec.encode(np.zeros(1, np.uint8), grid.levels)
    except ValueError:
        return False
    return True


def read_activations(path: Path, key: str | None, images: int) -> NDArray[np.float32]:
    """Return the first activations of a file as float32 `(B, …)`.

    Args:
        path: a `.npy` file, or a `.safetensors` file.
        key: name of the tensor in a safetensors file; needed if there are several.
        images: how many to read at most.

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
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if of_machine(error):
            raise
        raise ActivationsError(f"{path} is damaged or no .npy file of numbers") from error
    return array[:images] if array.ndim else array


def _read_safetensors(path: Path, key: str | None, images: int) -> NDArray[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
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
    except (SafetensorError, OSError) as error:
        if of_machine(error):
            raise
        raise ActivationsError(f"{path} is damaged or no .safetensors file") from error


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "") if keys else "none"
