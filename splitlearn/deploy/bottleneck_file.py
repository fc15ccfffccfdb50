"""Export of a bottleneck: one self-describing safetensors file."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitlearn import __version__
from splitlearn.codecs import Codec
from splitlearn.deploy.identity import agree, sample_outputs, unordered_weights_id, weights_id
from splitlearn.deploy.parts import rebuilt_module
from splitlearn.models import (
    Bottleneck,
    CoderModel,
    Normalize,
    PixelSplit,
    Split,
    SplitModel,
    crossing_shapes,
    from_pixels,
    split,
)
from splitlearn.models.images import like
from splitlearn.models.modes import evaluating
from splitlearn.models.tensor_file import DamagedFileError, bytes_of, read_tensors, save_tensors
from splitlearn.parts import PartError, part_settings, rebuilt
from splitlearn.quantizers import Quantizer
from splitlearn.resource_errors import brief, of_machine, raised_as
from splitlearn.shipped import located
from splitlearn.tasks.trust import may_be_named

FORMAT = "splitlearn-bottleneck"
FORMAT_VERSION = 3  # 2: quantizers and codecs for each crossing tensor; 3: ordered weights, sample outputs
READABLE = (2, 3)
MOST_PIXELS = 2**24  # largest number of values of an image in an export


class ExportError(ValueError):
    """The file is not a bottleneck export, has another format, or belongs to another network."""


def export_bottleneck(model: CoderModel, path: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write bottlenecks, quantizer, codec tables and a manifest into one safetensors file.

    Args:
        model: a trained model.
        path: file to write; it appears complete or not at all.
        metrics: metrics of a test for the manifest, e.g. `test/accuracy` and `test/bytes_per_image`.

    Returns:
        The path written.

    Raises:
        AttributeError: if a part does not keep its constructor arguments as attributes of the same names.
        ValueError: if the network also trains: a bottleneck alone would not fit the original network.
    """
    path = Path(path)
    if not model.frozen:
        raise ValueError("the network of this model trains too, so its bottleneck fits no other: keep the checkpoint")
    tensors = {name: t.contiguous().cpu() for name, t in _parts(model).state_dict().items()}
    for index, codec in enumerate(model.coder.codecs):
        tensors |= {f"codecs.{index}.{name}": torch.tensor(table) for name, table in codec.tables().items()}
    if model.normalize is not None:
        tensors |= {f"normalize.{name}": getattr(model.normalize, name).cpu() for name in ("mean", "std")}
    tensors |= {f"answers.{name}": tensor for name, tensor in sample_outputs(model).items()}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "backbone": model.net.name,
        "weights_id": weights_id(model.net),
        "split": model.net.at,
        "input_shape": model.net.input_shape,
        "bottlenecks": [part_settings(unit) for unit in model.coder.bottlenecks],
        "quantizers": [part_settings(quantizer) for quantizer in model.coder.quantizers],
        "codecs": [part_settings(codec) for codec in model.coder.codecs],
        "tensors_id": tensors_id(tensors),
        "complexity": asdict(model.coder.complexity()),
        "metrics": dict(metrics or {}),
        "versions": {"python": platform.python_version(), "splitlearn": __version__}
        | {name: version(name) for name in ("torch", "torchvision", "numpy")},
    }
    manifest |= {"crosses": model.net.crosses} if model.net.crosses != Split.crosses else {}
    save_tensors(tensors, path, {"manifest": json.dumps(manifest)})
    return path


def export_network(
    network: nn.Module,
    path: str | Path,
    metrics: Mapping[str, float] | None = None,
    parts: Sequence[str] | None = None,
) -> Path:
    """Write a network's weights into a safetensors file for `load_weights` and `weights: FILE` in a config.

    Args:
        network: any network.
        path: file to write; it appears complete or not at all.
        metrics: metrics of a test, for the metadata.
        parts: names of the modules to write, such as those of a student for `replaced`; None for all.

    Returns:
        The path written.
    """
    names = ("",) if parts is None else tuple(f"{part}." for part in parts)
    state = network.state_dict()
    tensors = {n: tensor.detach().cpu().contiguous() for n, tensor in state.items() if n.startswith(names)}
    save_tensors(tensors, path, {"network": type(network).__name__, "metrics": json.dumps(dict(metrics or {}))})
    return Path(path)


@may_be_named
def load_bottleneck(path: str | Path, backbone: nn.Module) -> SplitModel:
    """Rebuild the split model of an export around its backbone; payloads are byte-identical to the exported model's.

    Args:
        path: file of `export_bottleneck`.
        backbone: the network of the bottleneck, with the same weights and layers as in its training. A detector's
            thresholds and numbers of regions and boxes may differ: they are settings of whoever looks for objects.

    Raises:
        FileNotFoundError: if the file does not exist.
        ExportError: if the file is not an export, has another format, or belongs to another network or other weights.
    """
    manifest, tensors = read_export(path)
    with export_errors(path):
        return rebuild(manifest, tensors, cut_for(manifest, backbone, path))


def export_errors(path: str | Path) -> raised_as:
    """Turn all errors of an incomplete or contradictory manifest into ExportError, except for machine errors."""

    def convert(error: Exception) -> ExportError:
        if isinstance(error, PartError):
            return ExportError(f"{path} cannot be used: {error}")
        return ExportError(f"{path} is incomplete or contradicts itself: {brief(error)}")

    return raised_as(convert, but=ExportError)  # forged manifests may raise anything


def cut_for(manifest: Mapping[str, Any], backbone: nn.Module, path: str | Path) -> Split:
    """Cut `backbone` at the module that the manifest of an exported file names.

    Raises ExportError, which names the file `path`, if it was exported from another network or other weights.
    """
    shape, at, owner = manifest["input_shape"], manifest["split"], manifest["backbone"]
    if not _is_shape(shape) or math.prod(shape) > MOST_PIXELS or not isinstance(at, str):
        raise ExportError(
            f"{path} has an impossible input_shape {str(shape)[:60]} or split {str(at)[:60]}: export again"
        )
    _check_shapes(manifest, backbone, path)
    with raised_as(lambda error: _of_another(manifest, path, error)):  # another network may raise anything here
        net = split(backbone, at, tuple(shape))
    found = weights_id(net) if manifest["format_version"] > 2 else unordered_weights_id(net)
    if found != manifest["weights_id"]:
        raise ExportError(
            f"{path} belongs to {owner} with weights {str(manifest['weights_id'])[:12]}, but this "
            f"{net.name} has weights {found[:12]}: load the network with its original weights, and cast it only after "
            "the bottleneck is loaded"
        )
    return from_pixels(net) if manifest.get("crosses") == PixelSplit.crosses else net


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) < 8 and all(type(n) is int and 0 < n < 2**31 for n in value)


def _check_shapes(manifest: Mapping[str, Any], backbone: nn.Module, path: str | Path) -> None:
    """Compare the cut with the bottlenecks' shapes on the meta device, to refuse forged sizes before allocation."""
    try:
        arguments = [unit["init_args"] for unit in manifest["bottlenecks"]]
        shapes = [told["feature_shape" if "feature_shape" in told else "shape"] for told in arguments]
    except (KeyError, TypeError):  # user-defined bottlenecks
        return
    empty: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in backbone.parameters()}
    empty |= {id(buffer): buffer.to("meta") for buffer in backbone.buffers()}
    try:
        outline = copy.deepcopy(backbone, empty).eval()  # on the meta device, without a copy of values
    except Exception:  # a network that cannot be copied, with a lock for instance; the cut is compared later anyway
        return
    found = crossing_shapes(outline, manifest["split"], torch.empty(1, *manifest["input_shape"], device="meta"))
    if found is None:
        _try_without_memory(manifest, backbone, path)
    elif [list(shape) for shape in found] != shapes:
        raise ExportError(
            f"{path} belongs to {str(manifest['backbone'])[:60]} and not to this network: its bottlenecks take "
            f"{str(shapes)[:60]}, and at {manifest['split']!r} cross {str(found)[:60]}"
        )


def _try_without_memory(manifest: Mapping[str, Any], backbone: nn.Module, path: str | Path) -> None:
    """Check an image size with a constant image, which takes no memory."""
    try:
        with evaluating(backbone), torch.no_grad():
            backbone(like(backbone).new_zeros(()).expand(1, *manifest["input_shape"]))
    except Exception as error:  # another network may raise anything on such images
        if of_machine(error):
            raise
        if "single memory location" not in str(error):  # raised by networks that write to their input
            raise _of_another(manifest, path, error) from error


def _of_another(manifest: Mapping[str, Any], path: str | Path, error: Exception) -> ExportError:
    return ExportError(f"{path} belongs to {manifest['backbone']} and not to this network: {brief(error)}")


def rebuild(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], net: Split) -> SplitModel:
    """Return the trained model of a manifest and its tensors around a cut network, in eval mode.

    A contradictory manifest raises any error: call it within `export_errors`.
    """
    units, quantizers, codecs = (list(manifest[name]) for name in ("bottlenecks", "quantizers", "codecs"))
    owners = [f"bottlenecks.{i}." for i in range(len(units))] + [f"quantizers.{i}." for i in range(len(quantizers))]
    owners += [f"codecs.{i}." for i in range(len(codecs))] + ["normalize.", "answers."]
    if strangers := [name for name in tensors if not name.startswith(tuple(owners))]:
        raise PartError(f"its tensor {strangers[0][:60]} belongs to no part in its manifest")
    model = SplitModel(
        net,
        quantizer=[rebuilt_module(q, Quantizer, below(f"quantizers.{i}.", tensors)) for i, q in enumerate(quantizers)],
        codec=[
            rebuilt(codec, Codec).with_tables({k: t.numpy() for k, t in below(f"codecs.{i}.", tensors).items()})
            for i, codec in enumerate(codecs)
        ],
        normalize=_normalize(below("normalize.", tensors), net.input_shape[0]),
    )
    shapes = [tuple(unit.shape) for unit in cast("list[Bottleneck]", list(model.coder.bottlenecks))]
    types = [dtype if dtype.is_floating_point else None for dtype in net.dtypes]
    found = [
        rebuilt_module(unit, Bottleneck, below(f"bottlenecks.{i}.", tensors), dtype)
        for i, (unit, dtype) in enumerate(zip(units, types, strict=True))
    ]
    if [tuple(unit.shape) for unit in found] != shapes:
        raise PartError(f"its bottlenecks take {[tuple(unit.shape) for unit in found]}, and {shapes} cross the cut")
    model.coder.bottlenecks = nn.ModuleList(found)  # without gradients; `requires_grad_()` allows further training
    model = model.to(like(net).device).eval()
    _check_coders(model)
    if manifest["format_version"] > 2:
        _check_sample_outputs(model, below("answers.", tensors))
    return model


def _check_sample_outputs(model: SplitModel, expected: Mapping[str, Tensor]) -> None:
    found, dtype = sample_outputs(model), like(model.net).dtype
    network, bottlenecks = (below(f"{part}.", found) for part in ("network", "bottlenecks"))
    if not agree(network, below("network.", expected), dtype):
        raise PartError(
            f"this {model.net.name} has the original weights but computes other outputs from them (strides, dilations, "
            "activations, constants of norms, input): build it as it was in training"
        )
    if not agree(bottlenecks, below("bottlenecks.", expected), dtype):
        raise PartError(
            "its bottleneck computes other outputs than the exported one, which has state outside its tensors and "
            "constructor arguments: keep learnt state in parameters and persistent buffers, settings in arguments, and "
            "export it again"
        )


@torch.no_grad()
def _check_coders(model: SplitModel) -> None:
    """Pass zero features through bottlenecks, quantizers and codecs, to check that levels, tables and shapes fit."""
    device = like(model.net).device
    kinds = list(zip(model.net.shapes, model.net.dtypes, strict=True))
    facts = zip(model.coder.bottlenecks, model.net.tail_shapes, model.net.dtypes, strict=True)
    latents = model.coder.latents([torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in kinds])
    units = [(unit, shape) for unit, shape, dtype in facts if dtype.is_floating_point]
    parts = zip(units, latents, model.coder.quantizers, model.coder.codecs, strict=True)
    for (unit, shape), latent, quantizer, codec in parts:
        restored = cast("Bottleneck", unit).decoder(quantizer(latent).to(latent.dtype))
        if tuple(restored.shape[1:]) != shape:
            raise PartError(f"its bottleneck restores {tuple(restored.shape[1:])} instead of {shape}")
        symbols = quantizer.quantize(latent)[0][0].cpu().numpy()
        codec.decode(codec.encode(symbols, quantizer.levels), symbols.shape, quantizer.levels)


def read_export(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return manifest and tensors of an export, without building a model.

    Raises:
        FileNotFoundError: if the file does not exist.
        ExportError: if the file is not an export, is damaged, or has another format.
    """
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"no export at {path}; write one with splitlearn export or splitlearn calibrate")
    manifest, tensors = read_manifest(path)
    check_export(manifest, tensors, path)
    return manifest, tensors


def read_manifest(path: str | Path) -> tuple[Any, dict[str, Tensor]]:
    """Return manifest (`{}` if missing) and tensors of a safetensors file.

    Raises ExportError if it is not a safetensors file, is damaged, or its manifest is not JSON.
    """
    try:
        metadata, tensors = read_tensors(path)
        return json.loads(metadata.get("manifest", "{}")), tensors
    except (DamagedFileError, ValueError, RecursionError) as error:
        told = error if isinstance(error, DamagedFileError) else f"{path} is no readable manifest: {brief(error)}"
        raise ExportError(str(told)) from error


def check_version(written: Any, read: Sequence[int], again: str, path: str | Path) -> None:
    """Raise ExportError with a remedy if `written` is not among the readable formats `read`."""
    if type(written) is not int or written not in read:
        remedy = "upgrade it" if isinstance(written, (int, float)) and written > max(read) else again
        formats = " and ".join(map(str, read))
        raise ExportError(f"{path} has format {str(written)[:20]}, this splitlearn reads {formats}: {remedy}")


def check_export(manifest: Any, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise ExportError unless manifest and tensors are an undamaged bottleneck export of a readable format."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ExportError(
            f"{path} holds no bottleneck: it was not written by splitlearn export or splitlearn calibrate"
        )
    check_version(manifest.get("format_version", 0), READABLE, "export the model again", path)
    if manifest.get("tensors_id") != tensors_id(tensors):
        raise ExportError(f"{path} is damaged, its tensors are not those that were written: copy or export it again")


def tensors_id(tensors: Mapping[str, Tensor]) -> str:
    """Return a fingerprint of named tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(bytes_of(tensor))
    return found.hexdigest()


def _parts(model: CoderModel) -> nn.ModuleDict:
    """Return the modules with exported tensors."""
    return nn.ModuleDict({"bottlenecks": model.coder.bottlenecks, "quantizers": nn.ModuleList(model.coder.quantizers)})


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _normalize(tensors: Mapping[str, Tensor], channels: int) -> Normalize | None:
    if not tensors:
        return None
    mean, std = (tensors[name].flatten() for name in ("mean", "std"))
    fits = len(tensors) == 2 and {len(mean), len(std)} <= {1, channels}
    if not fits or not bool(mean.isfinite().all() & std.isfinite().all() & (std != 0).all()):
        raise PartError(f"its normalization by {mean.tolist()[:4]} and {std.tolist()[:4]} is impossible")
    return Normalize(mean.tolist(), std.tolist())
