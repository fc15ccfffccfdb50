"""Damaged and forged files for `fuzz_files`, which documents their kinds and legal outcomes."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Damage = Callable[[bytes, bytes, random.Random], tuple[str, bytes]]
WAYS = {"damaged": 55, "forged": 45}  # weights
PATHS = (
    *("os.system", "builtins.exec", "splitlearn.__main__.Huffman", "this.Codec", "antigravity.Net", "torch.hub.load"),
    *("splitlearn.codecs.Codec", "splitlearn.codecs.Zstandard", "splitlearn.quantizers.MinMax", "", ".", "a." * 500),
    *("splitlearn.deploy.export_command", "functools.partial", "splitlearn.models.backbone", "subprocess.Popen"),
)
NUMBERS = (
    *(0, -1, 1, 2, 3, 255, 256, 257, 10_000, 30_000_000, 2**31 - 1, 2**31, 2**63, 10**400, -(10**30)),
    *(0.0, -0.0, 0.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf")),
)
NAMED = {"class_path": "splitlearn.models.backbone", "init_args": {"name": "resnet8"}}
OTHERS: tuple[Any, ...] = (
    *(None, True, "", "7", "NaN", [], {}, [[]], {"class_path": "os.system"}, [1] * 5000),
    *(NAMED | {"dict_kwargs": {"name": "this.Net"}}, NAMED | {"init_args": {"name": "this.Net"}}),
    '{"class_path": "this.Net"}',
)
WORDS = ("name", "class_path", "init_args", "dict_kwargs", "shape", "channels", "step", "levels", "args", "x", "")


@dataclass(frozen=True)
class Forgery:
    """A file to load; `damaged` has changed bytes, `forged` changed content with right checksums."""

    way: str
    change: str
    content: bytes


def forged(content: bytes, donor: bytes, damage: Damage, rng: random.Random) -> Forgery:
    """Return a damaged or forged copy of a safetensors file or checkpoint, with pieces of a donor.

    `damage` returns the kind of damage and a damaged copy, as `splitlearn.testing.damage.damaged`.
    """
    (way,) = rng.choices(tuple(WAYS), tuple(WAYS.values()))
    if way == "damaged":
        return Forgery(way, *damage(content, donor, rng))
    change, found = _forged_checkpoint(content, rng) if content[:2] == b"PK" else _forged_tensors(content, rng)
    return Forgery(way, change, found)


def change_somewhere(value: Any, rng: random.Random) -> tuple[str, Any]:
    """Return a description of a change in plain data, and a changed copy."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = rng.choice(sorted(value, key=str))
        change, inner = change_somewhere(value[key], rng)
        return f"{key}: {change}", value | {key: inner}
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        change, inner = change_somewhere(value[at], rng)
        return f"{at}: {change}", [*value[:at], inner, *value[at + 1 :]]
    return _another(value, rng)


def _another(value: Any, rng: random.Random) -> tuple[str, Any]:
    if isinstance(value, dict) and rng.random() < 0.7:
        if value and rng.random() < 0.5:
            key = rng.choice(sorted(value, key=str))
            return f"without {key}", {name: each for name, each in value.items() if name != key}
        word = rng.choice(WORDS)
        return f"with {word}", value | {word: rng.choice((*PATHS, *NUMBERS, *OTHERS))}
    if isinstance(value, list) and rng.random() < 0.5:
        return "longer", value * rng.choice((2, 2, 9)) if len(value) < 1000 else []
    if isinstance(value, str) and rng.random() < 0.7:
        return "a path", rng.choice(PATHS)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.7:
        near = [value + 1, value - 1, value * 2] if isinstance(value, int) else [value * 2, -value]
        return "a number", rng.choice((*NUMBERS, *near))
    if rng.random() < 0.05:
        return "deep", eval("[" * 90 + "]" * 90)
    return "another kind", rng.choice((*OTHERS, *NUMBERS, *PATHS))


def _forged_tensors(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return safetensors with changed metadata or tensors, without a checksum like older files."""
    size = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    about = header["__metadata__"]
    about.pop("sha256", None)
    if rng.random() < 0.75:
        key = rng.choice(sorted(about))
        try:
            change, value = change_somewhere(json.loads(about[key]), rng)
            about[key] = "[" * 5000 if rng.random() < 0.01 else json.dumps(value)
        except ValueError:
            change, about[key] = _another(about[key], rng)
            about[key] = str(about[key])
    else:
        names = sorted(set(header) - {"__metadata__"})
        change = _forge_header(header, body, rng.choice(names), rng)
    found = json.dumps(header).encode()
    return change, struct.pack("<Q", len(found)) + found + body


def _forge_header(header: dict[str, Any], body: bytearray, name: str, rng: random.Random) -> str:
    kind = rng.choice(("renamed", "without", "dtype", "shape", "offsets", "values", "values"))
    told = header[name]
    match kind:
        case "renamed":
            header[rng.choice(("codecs.9.x", "codecs..", "x", f"{name}.y", "normalize.mean"))] = header.pop(name)
        case "without":
            del header[name]
        case "dtype":
            told["dtype"] = rng.choice(("F64", "BF16", "I8", "U8", "F32", "I64", "BOOL"))
        case "shape":
            told["shape"] = change_somewhere(told["shape"], rng)[1]
        case "offsets":
            told["data_offsets"] = change_somewhere(told["data_offsets"], rng)[1]
        case "values":
            start, end = told["data_offsets"]
            wrong = rng.choice((b"\xff", b"\x00", b"\x7f", b"\x80", rng.randbytes(1)))
            body[start:end] = wrong * (end - start)
    return f"{kind} {name}"


def _forged_checkpoint(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return a checkpoint with changed config, state or weights, written by torch."""
    if rng.random() < 0.1:
        return _repacked(content, rng)
    found = torch.load(io.BytesIO(content), weights_only=True)
    key = rng.choice(("splitlearn_config", "splitlearn_config", "splitlearn_config", "state_dict", "hyper_parameters"))
    if key == "state_dict":
        name = rng.choice(sorted(found[key]))
        change = f"state of {name}"
        odd: tuple[Any, ...] = (
            torch.tensor(float("nan")),
            torch.zeros(3, 3),
            torch.zeros(1).expand(2**20),
            None,
            7,
            "x",
            {},
            torch.zeros(2, 2),
        )
        found[key][name] = rng.choice(odd)
    elif key == "hyper_parameters":
        change, found[key] = "hyper-parameters", {"_class_path": rng.choice(PATHS), "command": "true"}
    else:
        change, found[key] = change_somewhere(found[key], rng)
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return change, buffer.getvalue()


def _repacked(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return a checkpoint with changed or compressed parts and right checksums."""
    buffer, packed = io.BytesIO(), rng.random() < 0.3
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(buffer, "w", method) as file:
        parts = whole.namelist()
        wrong = rng.choice([name for name in parts if name.endswith("data.pkl")] + parts)
        for name in parts:
            data = bytearray(whole.read(name))
            if name == wrong and not packed and data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            file.writestr(name, bytes(data))
    return ("packed" if packed else f"a bit of {wrong}"), buffer.getvalue()
