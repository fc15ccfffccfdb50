"""One safetensors file that holds a bottleneck and says what it belongs to."""

from __future__ import annotations

import hashlib
import importlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from splitlearn.analysis import complexity
from splitlearn.codecs import Codec
from splitlearn.files import whole_file
from splitlearn.models import Bottleneck, Normalize, Split, SplitModel, split
from splitlearn.outputs import init_args
from splitlearn.quantizers import Quantizer

FORMAT = "splitlearn-bottleneck"
FORMAT_VERSION = 2  # 2: quantizers and codecs for each tensor that crosses
T = TypeVar("T")


class ExportError(ValueError):
    """A file that is no bottleneck export, is of another format, or belongs to another network."""


def export_bottleneck(model: SplitModel, path: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write bottlenecks, quantizer, codec tables and a manifest into one safetensors file.

    Args:
        model: a trained model.
        path: file to write; it appears whole or not at all.
        metrics: what a test measured, e.g. `test/accuracy` and `test/bytes_per_image`, for whoever reads the manifest.

    Returns:
        The path written.

    Raises:
        AttributeError: if a part does not keep its constructor arguments under their own names.
        ValueError: if the network trains too: the file would belong to a network that nobody has.
    """
    path = Path(path)
    if not model.frozen:
        raise ValueError("the network of this model trains too, so its bottleneck fits no other: keep the checkpoint")
    tensors = {name: t.contiguous().cpu() for name, t in _parts(model).state_dict().items()}
    for index, codec in enumerate(model.codecs):
        tensors |= {f"codecs.{index}.{name}": torch.tensor(table) for name, table in codec.tables().items()}
    if model.normalize is not None:
        tensors |= {f"normalize.{name}": getattr(model.normalize, name).cpu() for name in ("mean", "std")}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "backbone": model.net.name,
        "weights_id": weights_id(model.net),
        "split": model.net.at,
        "input_shape": model.net.input_shape,
        "bottlenecks": [_describe(unit) for unit in model.bottlenecks],
        "quantizers": [_describe(quantizer) for quantizer in model.quantizers],
        "codecs": [_describe(codec) for codec in model.codecs],
        "tensors_id": _tensors_id(tensors),
        "complexity": asdict(complexity(model)),
        "metrics": dict(metrics or {}),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("splitlearn", "torch", "torchvision", "numpy")},
    }
    save_safetensors(tensors, path, {"manifest": json.dumps(manifest)})
    return path


def export_network(
    network: nn.Module,
    path: str | Path,
    metrics: Mapping[str, float] | None = None,
    parts: Sequence[str] | None = None,
) -> Path:
    """Write a network's weights into a safetensors file that `load_weights` and `weights: FILE` in a config read.

    Args:
        network: any network.
        path: file to write; it appears whole or not at all.
        metrics: what a test measured, for whoever reads the metadata.
        parts: names of the modules whose weights are written, all that `replaced` needs of a student; None means all.

    Returns:
        The path written.
    """
    names = ("",) if parts is None else tuple(f"{part}." for part in parts)
    state = network.state_dict()
    tensors = {n: tensor.detach().cpu().contiguous() for n, tensor in state.items() if n.startswith(names)}
    save_safetensors(
        tensors, Path(path), {"network": type(network).__name__, "metrics": json.dumps(dict(metrics or {}))}
    )
    return Path(path)


def load_bottleneck(path: str | Path, backbone: nn.Module) -> SplitModel:
    """Rebuild the split model of an export around its backbone; its payloads are byte-identical to the exporter's.

    Args:
        path: file that `export_bottleneck` wrote.
        backbone: the network that the bottleneck was trained in, with the same weights.

    Raises:
        FileNotFoundError: if there is no such file.
        ExportError: if the file is no export, is of another format, or belongs to another network or other weights.
    """
    manifest, tensors = read_export(path)
    with contradictions_told(path):
        return rebuild(manifest, tensors, cut_for(manifest, backbone, path))


@contextmanager
def contradictions_told(path: str | Path) -> Iterator[None]:
    """Make an ExportError of what a manifest causes that lacks something, or contradicts its tensors."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError) as error:
        raise ExportError(f"{path} is incomplete or contradicts itself: {error}") from error


def cut_for(manifest: Mapping[str, Any], backbone: nn.Module, path: str | Path) -> Split:
    """Return the backbone cut as the bottleneck of a manifest needs it.

    Raises:
        ExportError: if the file at `path` belongs to another network or other weights.
    """
    try:
        net = split(backbone, manifest["split"], tuple(manifest["input_shape"]))
    except ValueError as error:
        raise ExportError(f"{path} belongs to {manifest['backbone']} and not to this network: {error}") from error
    found = weights_id(net)
    if found != manifest["weights_id"]:
        raise ExportError(
            f"{path} belongs to {manifest['backbone']} with weights {manifest['weights_id'][:12]}, but this "
            f"{net.name} has weights {found[:12]}: load that network with the weights that it was trained with, and "
            "cast it, if at all, when the bottleneck is in it"
        )
    return net


def rebuild(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], net: Split) -> SplitModel:
    """Return the model of a manifest and its tensors around a cut network, in eval mode and trained."""
    model = SplitModel(
        net,
        quantizer=[_rebuild(quantizer, Quantizer) for quantizer in manifest["quantizers"]],
        codec=[
            _rebuild(codec, Codec).with_tables({k: t.numpy() for k, t in below(f"codecs.{i}.", tensors).items()})
            for i, codec in enumerate(manifest["codecs"])
        ],
        normalize=_normalize(below("normalize.", tensors)),
    )
    units = [_rebuild(unit, Bottleneck) for unit in manifest["bottlenecks"]]
    model.bottlenecks = nn.ModuleList(
        unit.to(dtype=dtype if dtype.is_floating_point else None) for unit, dtype in zip(units, net.dtypes, strict=True)
    )
    parts = _parts(model)
    parts.load_state_dict({name: tensors[name] for name in parts.state_dict()})
    model.bottlenecks.requires_grad_(False)  # it is trained; `requires_grad_()` lets it go on
    return model.to(next(net.parameters()).device).eval()


def read_export(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return manifest and tensors of an export, without building anything.

    Raises:
        FileNotFoundError: if there is no such file.
        ExportError: if the file is no export, is damaged, or is of another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no export at {path}; write one with splitlearn export or splitlearn calibrate")
    manifest, tensors = read_safetensors(path)
    check_export(manifest, tensors, path)
    return manifest, tensors


def read_safetensors(path: str | Path) -> tuple[Any, dict[str, Tensor]]:
    """Return the manifest and the tensors of a safetensors file; the manifest is `{}` if there is none.

    Raises:
        ExportError: if it is no safetensors file, or its manifest no JSON.
    """
    try:
        with safe_open(path, "pt") as file:
            manifest = json.loads((file.metadata() or {}).get("manifest", "{}"))
            return manifest, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ExportError(f"{path} is no readable safetensors file: {error}") from error


def check_export(manifest: Any, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse what `export_bottleneck` has not written, or not in this format, or what is damaged.

    Raises:
        ExportError: then; it names the file at `path`.
    """
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ExportError(
            f"{path} holds no bottleneck: it was not written by splitlearn export or splitlearn calibrate"
        )
    written = manifest.get("format_version", 0)
    if written != FORMAT_VERSION:
        remedy = "upgrade it" if written > FORMAT_VERSION else "export the model again"
        raise ExportError(f"{path} has format {written}, this splitlearn reads {FORMAT_VERSION}: {remedy}")
    if manifest.get("tensors_id") != _tensors_id(tensors):
        raise ExportError(f"{path} is damaged, its tensors are not those that were written: copy or export it again")


def weights_id(net: Split) -> str:
    """Return a fingerprint of a network's weights: SHA-256 over its tensors, whatever they are called."""
    hashes = {hashlib.sha256(_bytes(tensor)).digest() for tensor in net.state_dict().values()}
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


def _tensors_id(tensors: Mapping[str, Tensor]) -> str:
    """Return a fingerprint of named tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor of any type; numpy has no bfloat16."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def save_safetensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors and metadata; the file appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def _parts(model: SplitModel) -> nn.ModuleDict:
    """The modules whose tensors are exported."""
    return nn.ModuleDict({"bottlenecks": model.bottlenecks, "quantizers": nn.ModuleList(model.quantizers)})


def _class_path(instance: object) -> str:
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def _describe(instance: object) -> dict[str, Any]:
    return {"class_path": _class_path(instance), "init_args": init_args(instance)}


def _import(class_path: str, base: type[T]) -> type[T]:
    """Return a class by path; a file names no other code to run: only splitlearn's, or what was imported before."""
    module, _, name = class_path.rpartition(".")
    if module not in sys.modules and not module.startswith("splitlearn."):
        raise ExportError(f"the export needs {class_path}: import {module} first, if you trust it")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ExportError(f"the export needs {class_path}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ExportError(f"the export names {class_path}, which is no {base.__name__}")
    return found


def _rebuild(description: Mapping[str, Any], base: type[T]) -> T:
    return _import(description["class_path"], base)(**description["init_args"])


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _normalize(tensors: Mapping[str, Tensor]) -> Normalize | None:
    return Normalize(tensors["mean"].flatten().tolist(), tensors["std"].flatten().tolist()) if tensors else None
