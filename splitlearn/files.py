"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from splitlearn.shortage import brief, shortage

MOST_SETTINGS = 100_000  # of settings, a whole class list of ImageNet's among them


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it to `path` on success, remove it on failure.

    A full disk or a kill leaves whatever stood at `path` before. Missing folders are made.

    Raises:
        OSError: ENOSPC, with the path, if the disk is full, whatever the writer makes of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except Exception as error:
        if shortage(error) != "disk":
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON; what JSON does not know is written as text."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return what a YAML file holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no text in UTF-8, no YAML, or endless; the message names the file.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), loader)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8: save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that do not exist, lists in lists without end
        raise ValueError(f"{path} is not valid YAML: {brief(error)}") from None
    if not holds_few(found):
        raise ValueError(
            f"{path} holds more than {MOST_SETTINGS:,} values, by its aliases maybe: leave out what repeats"
        )
    return found


def holds_few(content: Any) -> bool:
    """Return whether data hold no more values than settings do, one that they refer to twice counted twice.

    A few bytes may refer to each other so often that whoever looks at all of them never comes to an end.
    """
    waiting, seen = [content], 0
    while waiting and seen + len(waiting) <= MOST_SETTINGS:
        each = waiting.pop()
        seen += 1
        if isinstance(each, Mapping):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset)):
            waiting += each
    return not waiting


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def told_size(size: float) -> str:
    """Return a number of bytes in the unit that shows it: `512.0 bytes`, `3.2 MB`, `24.0 GB`."""
    power = min(int(math.log(max(size, 1), 1000)), 3)
    return f"{size / 1000**power:,.1f} {('bytes', 'kB', 'MB', 'GB')[power]}"


def check_zip(path: str | Path) -> None:
    """Compare each part of a file that `torch.save` wrote with the CRC-32 beside it, which torch itself does not.

    Raises:
        ValueError: if one differs, or is packed: torch packs nothing, and a few bytes could unfold to any number.
        zipfile.BadZipFile: if it is no such file.
    """
    with zipfile.ZipFile(path) as file:
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist())
        if packed or file.testzip() is not None:
            raise ValueError(f"{path} is damaged")
