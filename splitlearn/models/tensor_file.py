"""safetensors files with a SHA-256 checksum over tensors, names and metadata."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from splitlearn.files import whole_file
from splitlearn.resource_errors import of_machine, raised_as

CHECK = "sha256"
"""Metadata key of the file's SHA-256, computed with zeros in place of its own 64 digits."""

BLANK = b"0" * 64
SEAL = re.compile(rb'"sha256":"([^"\\]{64})"')  # unique: quotes inside texts are escaped
DIGITS = re.compile(rb'":"[0-9a-f]{64}"')
MOST_HEADER = 100_000_000  # bytes, safetensors' own limit
PART = 1 << 20


class DamagedFileError(ValueError):
    """A tensor file that is damaged or not a tensor file; the message names it."""


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with tensors, metadata and a SHA-256 checksum; it appears complete or not at all.

    Tensors that share memory, such as tied weights, are written separately under each name.
    """
    content = bytearray(save(_apart(tensors), {**metadata, CHECK: BLANK.decode()}))
    seal = SEAL.search(content)
    assert seal is not None
    content[slice(*seal.span(1))] = hashlib.sha256(content).hexdigest().encode()
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and tensors of a safetensors file.

    A file without a checksum is compared with the SHA-256 in the record beside it, `NAME.json`, if there is one.
    Raises OSError if it cannot be read, DamagedFileError if it is damaged or not a safetensors file.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), MOST_HEADER))
        seal = SEAL.search(header)
        known = seal[1].decode(errors="replace") if seal else _recorded(path)
        if seal:
            header = header[: seal.start(1)] + BLANK + header[seal.end(1) :]
        elif DIGITS.search(header) and (b'"manifest":"' in header or b'"network":"' in header):  # under another key
            raise DamagedFileError(f"{path} is damaged, its check is gone: copy or export it again")
        found = hashlib.sha256(start + header)
        while known and (part := file.read(PART)):
            found.update(part)
    unread = raised_as(lambda e: DamagedFileError(f"{path} is no readable safetensors file: {e}"), SafetensorError)
    with unread, safe_open(path, "pt") as opened:
        metadata = dict(opened.metadata() or {})
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    if known and known != found.hexdigest():
        where = "" if seal else f" that {path.with_suffix('.json').name} records"
        raise DamagedFileError(f"{path} is damaged, it is not what was written{where}: copy or export it again")
    metadata.pop(CHECK, None)
    return metadata, tensors


def bytes_of(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor of any type; numpy has no bfloat16."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors without shared memory; only those that share memory are copied."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.contiguous().clone() if address in seen else tensor.contiguous()
        seen.add(address)
    return apart


def _recorded(path: Path) -> str | None:
    """Return the SHA-256 of a file from the record beside it; None if there is no such record."""
    try:
        record = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # another file of that name
        if of_machine(error):
            raise
        return None
    told = record.get("sha256") if isinstance(record, dict) and record.get("file") == path.name else None
    return told if isinstance(told, str) else None
