"""One safetensors file that holds a bottleneck and says what it belongs to."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitlearn.analysis import complexity
from splitlearn.codecs import Codec
from splitlearn.deploy.identity import agree, answers, unordered_weights_id, weights_id
from splitlearn.deploy.parts import PartError, part_settings, rebuilt, rebuilt_module
from splitlearn.models import Bottleneck, Normalize, Split, SplitModel, crossing_shapes, split
from splitlearn.models.images import like
from splitlearn.models.tensor_file import DamagedFileError, bytes_of, read_tensors, save_tensors
from splitlearn.quantizers import Quantizer
from splitlearn.shortage import brief, of_machine
from splitlearn.tasks.trust import may_be_named

FORMAT = "splitlearn-bottleneck"
FORMAT_VERSION = 3  # 2: quantizers and codecs for each tensor that crosses; 3: weights in their places, answers
READABLE = (2, 3)
MOST_PIXELS = 2**24  # values of an image that an export can be for; a larger size is no image's


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
    for index, codec in enumerate(model.coder.codecs):
        tensors |= {f"codecs.{index}.{name}": torch.tensor(table) for name, table in codec.tables().items()}
    if model.normalize is not None:
        tensors |= {f"normalize.{name}": getattr(model.normalize, name).cpu() for name in ("mean", "std")}
    tensors |= {f"answers.{name}": tensor for name, tensor in answers(model.net).items()}
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
        "complexity": asdict(complexity(model)),
        "metrics": dict(metrics or {}),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("splitlearn", "torch", "torchvision", "numpy")},
    }
    save_tensors(tensors, path, {"manifest": json.dumps(manifest)})
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
    save_tensors(tensors, path, {"network": type(network).__name__, "metrics": json.dumps(dict(metrics or {}))})
    return Path(path)


@may_be_named
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
    """Make an ExportError of whatever a manifest causes that lacks something, or contradicts its tensors or the cut."""
    try:
        yield
    except ExportError:
        raise
    except PartError as error:
        raise ExportError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # a forged manifest may fail in any way
        if of_machine(error):
            raise
        raise ExportError(f"{path} is incomplete or contradicts itself: {brief(error)}") from error


def cut_for(manifest: Mapping[str, Any], backbone: nn.Module, path: str | Path) -> Split:
    """Return the backbone cut as the bottleneck of a manifest needs it.

    Raises:
        ExportError: if the file at `path` belongs to another network or other weights.
    """
    shape, at, owner = manifest["input_shape"], manifest["split"], manifest["backbone"]
    if not _is_shape(shape) or math.prod(shape) > MOST_PIXELS or not isinstance(at, str):
        raise ExportError(f"{path} is for no image that there is: its input_shape is {str(shape)[:60]}")
    _check_shapes(manifest, backbone, path)
    try:
        net = split(backbone, at, tuple(shape))
    except Exception as error:  # whatever another network makes of such images
        if of_machine(error):
            raise
        raise _of_another(manifest, path, error) from error
    found = weights_id(net) if manifest["format_version"] > 2 else unordered_weights_id(net)
    if found != manifest["weights_id"]:
        raise ExportError(
            f"{path} belongs to {owner} with weights {str(manifest['weights_id'])[:12]}, but this "
            f"{net.name} has weights {found[:12]}: load that network with the weights that it was trained with, and "
            "cast it, if at all, when the bottleneck is in it"
        )
    return net


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) < 8 and all(type(n) is int and 0 < n < 2**31 for n in value)


def _check_shapes(manifest: Mapping[str, Any], backbone: nn.Module, path: str | Path) -> None:
    """Compare the cut with the bottlenecks' shapes, without arithmetic: a forged size shows before it takes memory."""
    try:
        shapes = [unit["init_args"]["shape"] for unit in manifest["bottlenecks"]]
    except (KeyError, TypeError):  # bottlenecks of one's own
        return
    empty: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in backbone.parameters()}
    empty |= {id(buffer): buffer.to("meta") for buffer in backbone.buffers()}
    try:
        outline = copy.deepcopy(backbone, empty).eval()  # without values, so that they are not copied
    except Exception:  # a network that holds what cannot be copied, a lock say; the cut is compared in any case
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
    """Refuse images that a network refuses, by one that is the same number everywhere and so takes no memory."""
    modes = [(module, module.training) for module in backbone.modules()]
    try:
        with torch.no_grad():
            backbone.eval()(like(backbone).new_zeros(()).expand(1, *manifest["input_shape"]))
    except Exception as error:  # whatever another network makes of such images
        if of_machine(error):
            raise
        if "single memory location" not in str(error):  # of a network that writes to its image
            raise _of_another(manifest, path, error) from error
    finally:
        for module, mode in modes:
            module.training = mode


def _of_another(manifest: Mapping[str, Any], path: str | Path, error: Exception) -> ExportError:
    return ExportError(f"{path} belongs to {manifest['backbone']} and not to this network: {brief(error)}")


def rebuild(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], net: Split) -> SplitModel:
    """Return the model of a manifest and its tensors around a cut network, in eval mode and trained.

    Raises:
        Exception: if it contradicts its tensors or the cut; call it within `contradictions_told`.
    """
    units, quantizers, codecs = (list(manifest[name]) for name in ("bottlenecks", "quantizers", "codecs"))
    owners = [f"bottlenecks.{i}." for i in range(len(units))] + [f"quantizers.{i}." for i in range(len(quantizers))]
    owners += [f"codecs.{i}." for i in range(len(codecs))] + ["normalize.", "answers."]
    if strangers := [name for name in tensors if not name.startswith(tuple(owners))]:
        raise PartError(f"its tensor {strangers[0][:60]} belongs to nothing that it describes")
    if manifest["format_version"] > 2 and not agree(below("answers.", tensors), answers(net), like(net).dtype):
        raise PartError(
            f"this {net.name} has the weights of the network that it was trained in, but computes something else from "
            "them (strides, dilations, activations, constants of its norms, its input): build the network as it was"
        )
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
    model.coder.bottlenecks = nn.ModuleList(found)  # they are trained; `requires_grad_()` lets them go on
    model = model.to(like(net).device).eval()
    _check_coders(model)
    return model


@torch.no_grad()
def _check_coders(model: SplitModel) -> None:
    """Send empty features through bottlenecks, quantizers and codecs: levels, tables and shapes must fit each other."""
    device = like(model.net).device
    kinds = list(zip(model.net.shapes, model.net.dtypes, strict=True))
    latents = model.coder.latents([torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in kinds])
    units = [unit for unit, (_, dtype) in zip(model.coder.bottlenecks, kinds, strict=True) if dtype.is_floating_point]
    for unit, latent, quantizer, codec in zip(units, latents, model.coder.quantizers, model.coder.codecs, strict=True):
        restored = cast("Bottleneck", unit).decoder(quantizer(latent).to(latent.dtype))
        if tuple(restored.shape[1:]) != unit.shape:
            raise PartError(f"its bottleneck restores {tuple(restored.shape[1:])} in place of {unit.shape}")
        symbols = quantizer.quantize(latent)[0][0].cpu().numpy()
        codec.decode(codec.encode(symbols, quantizer.levels), symbols.shape, quantizer.levels)


def read_export(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return manifest and tensors of an export, without building anything.

    Raises:
        FileNotFoundError: if there is no such file.
        ExportError: if the file is no export, is damaged, or is of another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no export at {path}; write one with splitlearn export or splitlearn calibrate")
    manifest, tensors = read_manifest(path)
    check_export(manifest, tensors, path)
    return manifest, tensors


def read_manifest(path: str | Path) -> tuple[Any, dict[str, Tensor]]:
    """Return the manifest and the tensors of a safetensors file; the manifest is `{}` if there is none.

    Raises:
        ExportError: if it is no safetensors file, is damaged, or its manifest is no JSON.
    """
    try:
        metadata, tensors = read_tensors(path)
        return json.loads(metadata.get("manifest", "{}")), tensors
    except (DamagedFileError, ValueError, RecursionError) as error:
        told = error if isinstance(error, DamagedFileError) else f"{path} is no readable manifest: {brief(error)}"
        raise ExportError(str(told)) from error


def check_version(written: Any, read: Sequence[int], again: str, path: str | Path) -> None:
    """Refuse a file of another format.

    Raises:
        ExportError: if `written` is none of the formats that are read; it names the remedy.
    """
    if type(written) is not int or written not in read:
        remedy = "upgrade it" if isinstance(written, (int, float)) and written > max(read) else again
        formats = " and ".join(map(str, read))
        raise ExportError(f"{path} has format {str(written)[:20]}, this splitlearn reads {formats}: {remedy}")


def check_export(manifest: Any, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse what `export_bottleneck` has not written, or not in this format, or what is damaged.

    Raises:
        ExportError: then; it names the file at `path`.
    """
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


def _parts(model: SplitModel) -> nn.ModuleDict:
    """The modules whose tensors are exported."""
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
        raise PartError(f"it normalizes by {mean.tolist()[:4]} and {std.tolist()[:4]}, which no image can be")
    return Normalize(mean.tolist(), std.tolist())
