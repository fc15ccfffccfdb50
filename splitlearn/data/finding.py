"""Search for image files in folders, by suffix and at any depth; warnings list ignored files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.request import urlopen

from lightning.pytorch.utilities import rank_zero_warn

from splitlearn.decoding import DataError
from splitlearn.resource_errors import raised_as

__all__ = [
    *("SUFFIXES", "absolute_path", "download", "find_images", "first_image", "folders_in"),
    *("is_junk", "listed_suffixes", "scan", "walk"),
]

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".gif", ".tif", ".tiff", ".avif", ".jp2", ".j2k"),
}
JUNK = {  # files of operating systems and archives
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    *("__macosx", "@eadir", "__pycache__", "lost+found", "$recycle.bin", "system volume information"),
}


def absolute_path(path: str | Path) -> Path:
    """Return an absolute path, with `~` expanded."""
    return Path(path).expanduser().absolute()


def download(url: str, root: Path, load: Callable[[], object]) -> None:
    """Call `load`, which downloads an archive to `root`, if the server answers; raise DataError if either fails."""
    remedy = f"try again online, or unpack that archive into {root}"
    with raised_as(lambda error: DataError(f"cannot download {url} ({error}): {remedy}"), (OSError, RuntimeError)):
        urlopen(url, timeout=10).close()
        load()


def listed_suffixes() -> str:
    """Return the suffixes of images as a list for messages."""
    return ", ".join(sorted(SUFFIXES))


def is_junk(name: str) -> bool:
    """Return whether a file or folder is hidden or created by an operating system, and ignored without a warning."""
    return name.startswith(".") or name.lower() in JUNK


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without junk."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_junk(entry.name))


def walk(folder: Path) -> list[Path]:
    """Return all files of a folder and its sub-folders, sorted, without junk; raises DataError if one cannot be read.

    Links to folders are followed once.
    """
    return sorted(_files(folder, set()))


def find_images(folder: Path) -> list[Path]:
    """Return the images of a folder, at any depth, sorted; a warning lists ignored files. Raises as `walk`."""
    files = walk(folder)
    _warn_of_ignored(folder, (file for file in files if not _is_image(file)))
    return [file for file in files if _is_image(file)]


def first_image(place: Path) -> Path | None:
    """Return an image file, or the first image at any depth of a folder; None if there is none. Raises as `walk`."""
    files = _files(place, set()) if place.is_dir() else [place]
    return next((file for file in files if _is_image(file) and file.is_file()), None)


def scan(folder: Path) -> dict[str, list[Path]]:
    """Return the sorted image files of each class folder, `<class>/…/<image>`, by class; a warning lists ignored files.

    Raises DataError if there is no class folder, or one without images.
    """
    classes = folders_in(folder)
    if not classes:
        raise DataError(f"{folder} holds no class folders: put the images into {folder}/<class>/")
    files = {each.name: walk(each) for each in classes}
    found = {name: [file for file in of_class if _is_image(file)] for name, of_class in files.items()}
    empty = [name for name, images in found.items() if not images]
    if empty:
        raise DataError(f"{folder / empty[0]} holds no images ({listed_suffixes()}); add some or remove the folder")
    loose = [entry for entry in folder.iterdir() if not is_junk(entry.name) and entry.is_file()]
    others = [file for of_class in files.values() for file in of_class if not _is_image(file)]
    _warn_of_ignored(folder, [*loose, *others], f"images lie in {folder.name}/<class>/ and end in {listed_suffixes()}")
    return found


def _warn_of_ignored(folder: Path, files: Iterable[Path], remedy: str = "") -> None:
    """Warn of ignored files, if any, with their number for each suffix and the place of files that are read."""
    counts = Counter(file.suffix.lower() or file.name for file in files)
    if counts:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(8))
        more = ", …" if len(counts) > 8 else ""
        rank_zero_warn(
            f"{folder}: {counts.total()} file(s) are ignored ({listed}{more}): "
            f"{remedy or f'images end in {listed_suffixes()}'}"
        )


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def _files(folder: Path, seen: set[str]) -> Iterator[Path]:
    place = os.path.realpath(folder)
    if place in seen:  # a cyclic link
        return
    seen.add(place)
    remedy = "correct its permissions or remove it"
    unread = raised_as(lambda error: DataError(f"cannot read {folder} ({error}): {remedy}"), OSError)
    with unread, os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir()) for entry in entries if not is_junk(entry.name)]
    for name, is_folder in listed:
        if is_folder:
            yield from _files(folder / name, seen)
        else:
            yield folder / name
