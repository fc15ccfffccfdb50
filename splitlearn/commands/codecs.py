"""`splitlearn codecs`: comparison of codecs on activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.config.messages import UsageError
from splitlearn.config.options import instance, make_folder, numbers

if TYPE_CHECKING:
    from splitlearn.analysis import Activations, CodecRow
    from splitlearn.codecs import Codec
    from splitlearn.numpy_quantizers import Grid


def codecs(
    words: Sequence[str] = (),
    activations: Path | None = None,
    key: str | None = None,
    bits: str | None = None,
    config: Path | None = None,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
    images: int = 49,
    rounds: int = 11,
    codec: str | None = None,
    out: Path = Path("runs/codecs"),
) -> None:
    """Compare all codecs on activations: bytes, bytes relative to entropy, throughput; each payload is verified.

    Further settings of the config may be given as in splitlearn test, e.g. --model.model.net.at layer1.

    Args:
        words: settings that override the config's, e.g. --model.model.net.at layer1.
        activations: a .npy or .safetensors file of floats, e.g. (B, C, H, W); half of the images fit static tables.
        key: name of the tensor in a safetensors file; needed only if there are several.
        bits: bits per symbol of the min–max quantizers of activations; by default 2,3,4,6,8.
        config: a config of splitlearn test, to use its latents and quantizer instead of a file of activations. To
            combine several files and overrides, use the config.yaml in the folder of a run.
        ckpt_path: checkpoint of the config's trained bottleneck.
        data_root: folder of images, in place of the config's data.root.
        images: largest number of measured images; static tables are fitted to as many other images.
        rounds: repetitions per image for the best time; slow codecs get fewer.
        codec: import path of your own codec, to compare with the others.
        out: folder for codecs.json, codecs.csv and codecs.png.
    """
    if (activations is None) == (config is None):
        raise UsageError("codecs takes either --activations FILE or --config FILE")
    if activations is None and (key is not None or bits is not None):
        raise UsageError("--key and --bits go with --activations FILE: a config has a quantizer of its own")
    if config is None and (ckpt_path is not None or data_root is not None):
        raise UsageError("--ckpt_path and --data_root go with --config FILE")
    if images < 1 or rounds < 1:
        raise UsageError(f"--images and --rounds must be at least 1, got {images} and {rounds}")
    takes = "numbers 2…8, e.g. 2,3,4"
    several = numbers("--bits", bits or "2,3,4,6,8", takes, int, lambda n: min(n) >= 2 and max(n) <= 8)
    from rich.console import Console

    from splitlearn.codecs import Codec
    from splitlearn.reporting import print_codecs, processor, write_codecs
    from splitlearn.reporting.codec_report import LEGEND
    from splitlearn.tasks import run_record

    if activations is not None:
        sources = _of_file(activations, key, 2 * images, sorted(set(several)))
    elif config is not None:
        from splitlearn.config.images import config_model, latents_of, spread_batches

        model, data = config_model(config, ckpt_path, data_root, words)
        sources = latents_of(model, spread_batches(data, 2 * images))
    own = None if codec is None else instance("codec", codec, None, Codec)
    make_folder(out)
    console, results = Console(), {}
    for source, found in sources.items():
        name = f"{source}, {'×'.join(map(str, found.latents.shape[1:]))}"
        measured, others = len(found.latents[: 2 * images : 2]), len(found.latents[1 : 2 * images : 2])
        results[name] = _compared(found, images, rounds, {} if own is None else {type(own).__name__: own})
        print_codecs(results[name], f"{name}: {measured} images measured, static tables learnt from {others} others")
    console.print(LEGEND.replace("\n", " "))
    write_codecs(results, out, "codecs", "Codecs side by side", {**run_record(), "processor": processor()})
    console.print(f"{out / 'codecs.json'}, codecs.csv and codecs.png written", soft_wrap=True)


def _of_file(file: Path, key: str | None, images: int, bits: Sequence[int]) -> dict[str, Activations]:
    """Return the activations of a file, with min–max quantizers of several numbers of bits."""
    from splitlearn.analysis import Activations, ActivationsError, read_activations
    from splitlearn.numpy_quantizers import MinMaxGrid

    try:
        return {file.name: Activations(read_activations(file, key, images), [MinMaxGrid(n) for n in bits])}
    except ActivationsError as error:
        raise UsageError(str(error)) from error


def _compared(source: Activations, images: int, rounds: int, own: Mapping[str, Codec]) -> list[CodecRow]:
    """Measure every second image with all codecs; static tables are fitted to the others."""
    from rich.console import Console

    from splitlearn.analysis import compare_codecs, package_codecs, with_static_tables

    measured, others = list(source.latents[: 2 * images : 2]), source.latents[1 : 2 * images : 2]
    rows: list[CodecRow] = []
    for grid in source.grids:
        taken = {label: codec for label, codec in own.items() if _takes(codec, grid)}
        for label in own.keys() - taken.keys():
            Console().print(f"note: {label} is left out at {grid.levels} levels, which it refuses", soft_wrap=True)
        rows += compare_codecs(measured, grid, with_static_tables(package_codecs() | taken, others, grid), rounds)
    return rows


def _takes(codec: Codec, grid: Grid) -> bool:
    """Return whether a codec takes arrays of a grid's alphabet."""
    import numpy as np

    try:
        codec.encode(np.zeros(1, np.uint8), grid.levels)
    except ValueError:
        return False
    return True
