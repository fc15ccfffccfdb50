"""Files that ship with splitlearn: `configs/…`, and the weights and records directly in `checkpoints/`.

A wheel has them in `splitlearn/shipped`; in a checkout they lie beside the package.
"""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("configs", "checkpoints")


def shipped_root() -> Path:
    """Return the folder that holds the shipped folders `configs` and `checkpoints`."""
    installed = Path(__file__).parent / "shipped"
    return installed if installed.is_dir() else Path(__file__).parents[1]


def located(path: str | Path) -> Path:
    """Return where a file to be read is found: the working directory comes first, then what ships with splitlearn.

    Args:
        path: path of a file or folder. Only relative paths that begin with `configs` or `checkpoints` can be of shipped
            files.

    Returns:
        `path` itself if it exists or there is no shipped file of this name, otherwise the path of the shipped file.
    """
    path = Path(path)
    shipped = shipped_root() / path
    may_be = not path.is_absolute() and path.parts[:1] and path.parts[0] in FOLDERS and ".." not in path.parts
    return shipped if may_be and not path.exists() and shipped.exists() else path
