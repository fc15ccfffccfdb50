"""Reading and atomic writing of files."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from splitlearn.resource_errors import brief, shortage

NUMBERS = re.compile(r"\[\n[^\[\]{}\"]*\]")  # a list without texts, lists and objects, which json.dumps has indented
MOST_SETTINGS = 100_000  # values in a settings file, enough for the class list of ImageNet


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it is renamed to `path` on success and removed on failure.

    After a full disk or a kill, `path` has its previous content. Missing folders are created.

    Raises:
        OSError: ENOSPC, with the path, if the disk is full.
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
    """Write `content` as indented JSON, lists of numbers on one line; values of other types are written as text."""
    text = json.dumps(content, indent=2, default=str)
    text = NUMBERS.sub(lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n")


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return the content of a YAML file.

    Raises OSError if it cannot be read, ValueError, naming it, if it is not UTF-8, not YAML, or too large.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), loader)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8: save it as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also impossible dates and endless nesting
        raise ValueError(f"{path} is not valid YAML: {brief(error)}") from None
    if not holds_few(found):
        raise ValueError(
            f"{path} holds more than {MOST_SETTINGS:,} values, perhaps through aliases: remove repeated values"
        )
    return found


def holds_few(content: Any) -> bool:
    """Return whether data hold at most `MOST_SETTINGS` values; shared values, as by YAML aliases, count repeatedly."""
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


def size_text(size: float) -> str:
    """Return a number of bytes in the unit that shows it: `512.0 bytes`, `3.2 MB`, `24.0 GB`."""
    power = min(int(math.log(max(size, 1), 1000)), 3)
    return f"{size / 1000**power:,.1f} {('bytes', 'kB', 'MB', 'GB')[power]}"


def check_zip(path: str | Path) -> None:
    """Check the CRC-32 of each part of a `torch.save` file, which torch itself does not.

    Raises BadZipFile if it is no zip file, ValueError if a part is damaged or compressed; torch does not compress, and
    a small file could expand greatly.
    """
    with zipfile.ZipFile(path) as file:
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist())
        if packed or file.testzip() is not None:
            raise ValueError(f"{path} is damaged")
