"""Reading of weights files as data, in many formats and wrappers, without executing code in them."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splitlearn.files import check_zip
from splitlearn.models.tensor_file import DamagedFileError, read_tensors
from splitlearn.resource_errors import raised_as
from splitlearn.shipped import located

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar", ".pkl")
UNWRAPPED = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # wrappers of torch
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace
]  # settings that scripts save beside weights
DEPTH = 3  # of nested mappings
MOST_ENTRIES = 1_000_000  # of all mappings together, shared ones counted repeatedly
OBJECT = re.compile(r"GLOBAL ([\w.]+)")


class WeightsError(ValueError):
    """Weights cannot be read or downloaded, or belong to another architecture."""


def is_safetensors(path: Path) -> bool:
    """Return whether a file has the safetensors format, independent of its name."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") + 8 <= path.stat().st_size


def read_state_dicts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return all state dicts in a safetensors or `torch.save` file, by the dotted keys that lead to each.

    A file that is itself a state dict gives the key "". Shipped files are found too (`shipped.located`).

    Raises OSError if the file cannot be opened, WeightsError if it is damaged, has no tensors, or contains anything but
    plain data.
    """
    path = located(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path.absolute()} is a folder: name the weights file in it")
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights file at {path.absolute()}; copy or download it there, or set `weights` to the path of a file "
            "that exists: .safetensors, or what torch.save has written"
        )
    found = dict(_tensors_in(_content(path), path))
    if not found:
        raise WeightsError(f"{path} holds no state dict: save it with torch.save(model.state_dict(), path)")
    return found


class Inert:
    """Inert replacement of an object in a file: keeps its data and runs no code."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def read_pickled_modules(path: Path) -> Any:
    """Return a `torch.save` file of whole modules as data: each object is an `Inert` with its attributes.

    No class in the file is imported, so no code of it runs. Raises WeightsError if it cannot be read as data.
    """
    damaged = WeightsError(f"{path} cannot be read as data: delete it, or give a safetensors file")
    with raised_as(lambda _: damaged):  # damaged files may raise anything
        check_zip(path)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins: list[Any] = [(type("Inert", (Inert,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)


def unwrapped(name: str) -> str:
    """Return a tensor's name without the wrappers of DataParallel, torch.compile and others."""
    return ".".join(word for word in name.split(".") if word not in UNWRAPPED)


def _content(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty: copy or download it again")

    def told(error: Exception) -> WeightsError:
        return WeightsError(str(error) if isinstance(error, DamagedFileError) else f"{path} {_reason(str(error))}")

    with raised_as(told, but=PermissionError):  # damaged files may raise anything
        if is_safetensors(path):
            return read_tensors(path)[1]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                if any(name.endswith("/constants.pkl") for name in parts.namelist()):
                    raise ValueError("TorchScript")
            check_zip(path)
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # about other pickle protocols; the content is checked
            return torch.load(file, map_location="cpu", weights_only=True)


def _reason(text: str) -> str:
    save = "load it where it was made and save the weights alone, torch.save(model.state_dict(), path)"
    if name := OBJECT.search(text):
        return f"holds an object of {name[1]}, and objects can run code: {save}"
    if "TorchScript" in text:
        return f"is a TorchScript program, which is code: {save}"
    if "legacy .tar" in text:
        return f"is of PyTorch's oldest format, which can run code: {save}"
    return "cannot be read, it is damaged or of another format: copy or download it again"


def _tensors_in(content: Any, path: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each mapping of names to tensors with its dotted key."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen = 0
    while waiting:
        keys, each = waiting.pop()
        if not isinstance(each, Mapping) or len(keys) > DEPTH:
            continue
        seen += len(each)
        if seen > MOST_ENTRIES:
            raise WeightsError(
                f"{path} holds mappings without end: save the weights alone, torch.save(state_dict, path)"
            )
        named = {name: value for name, value in each.items() if isinstance(name, str)}
        if tensors := {name: value for name, value in named.items() if isinstance(value, Tensor)}:
            yield ".".join(keys), tensors
        waiting += [((*keys, name), value) for name, value in reversed(named.items())]
