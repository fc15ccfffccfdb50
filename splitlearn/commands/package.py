"""`splitlearn package`: a device package of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.config.messages import UsageError
from splitlearn.outputs import BEYOND

if TYPE_CHECKING:
    from splitlearn.codecs import ImageFile


@dataclass(frozen=True)
class PictureFormat:
    """Format of image files.

    Attributes:
        format: JPEG, WEBP, AVIF, JPEG2000, HEIC or PNG, in any case; by default there are no image files.
        quality: on the scale of the format.
    """

    format: str | None = None
    quality: int = 80


def package(
    words: Sequence[str],
    out: Path,
    config: Path | None = None,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
    photos: Path | None = None,
    images: int = 64,
    picture: PictureFormat = PictureFormat(),
) -> None:
    """Write a trained model as a folder for a device without torch and its edge server, checked on real images.

    The folder contains ONNX graphs for the device and the edge server, the coder's levels and code tables, and a
    manifest. It is written only if onnxruntime and torch agree on real images. For the file of an export, a bank or a
    calibration, use the config that names it.

    Args:
        words: further settings of the config, as in splitlearn test.
        out: folder to write; it must not exist.
        config: a config of splitlearn test; by default the one in the checkpoint.
        ckpt_path: checkpoint of splitlearn fit; not needed if the config's model is trained.
        data_root: folder of images, in place of the config's data.root.
        photos: folder of images for the check; by default the config's validation images.
        images: number of images for the check.
        picture: format and quality of image files, so that devices may send whole images as well as features, say
            --picture.format webp --picture.quality 80
    """
    if images < 1:
        raise UsageError(f"--images must be at least 1, got {images}")
    if words and config is None:
        raise UsageError(f"{words[0]} goes with --config")
    pictures = _codec(picture)
    if out.exists():
        raise UsageError(f"--out {out} exists: name another folder, or remove it first")
    import numpy as np
    from rich.console import Console

    from splitlearn.config.images import validation_images
    from splitlearn.config.packaged import trained
    from splitlearn.data import read_photos
    from splitlearn.decoding import DataError
    from splitlearn.reporting.package import package_table
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.runtime.packaging import write_package
    from splitlearn.runtime.views import preparation_of

    model, data, answers = trained(config, ckpt_path, data_root, words)
    if data is None:
        raise UsageError(f"{ckpt_path} names no data for the check: give its config, --config FILE")
    view = data.eval_view()
    console = Console()
    console.print("Reading images for the check …")
    found = (validation_images(data, images) if photos is None else read_photos(photos, view, images)).numpy()
    if not -BEYOND <= found.min() <= found.max() <= 1 + BEYOND:
        raise UsageError(
            f"the data's images have values from {found.min():.3g} to {found.max():.3g} and are no pictures, which a "
            "device takes: leave normalization to the model"
        )
    pixels = np.ascontiguousarray((found.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1))
    console.print(f"Exporting {model.net.name}, cut at {model.net.at}, and comparing {len(pixels)} images …")
    try:
        names = data.class_names
    except DataError:
        if photos is None:
            raise
        names = ()
        console.print(
            "The config's data is absent, so the package has no names of classes: --data_root FOLDER adds them."
        )
    check = write_package(model, out, pixels, answers, names, preparation_of(view), pictures)
    print_whole(package_table(out, check.record()))


def _codec(picture: PictureFormat) -> ImageFile | None:
    if picture.format is None:
        if picture != PictureFormat():
            raise UsageError("--picture.quality goes with --picture.format, webp say")
        return None
    from splitlearn.codecs import ImageFile

    try:
        return ImageFile(picture.format, picture.quality)
    except (ValueError, ImportError) as error:
        raise UsageError(f"--picture: {error}") from error
