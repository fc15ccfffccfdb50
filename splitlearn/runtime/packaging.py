"""Writing of device packages: export, and a check of the exported files on real images."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn

from splitlearn import __version__
from splitlearn.codecs import Carrier, ImageFile
from splitlearn.discovery import public_path
from splitlearn.files import write_json
from splitlearn.models import CutModel, FeatureCoder
from splitlearn.models.images import like
from splitlearn.models.modes import evaluating
from splitlearn.models.pipelines.device_steps import Chained, Decoders, Encoders, Tail, Whole
from splitlearn.outputs import init_args
from splitlearn.parts import part_settings
from splitlearn.runtime.fingerprint import fingerprint_of
from splitlearn.runtime.forms import AnswerForm
from splitlearn.runtime.onnx_export import ExportError, exported
from splitlearn.runtime.package_check import PackageCheck, check_package
from splitlearn.runtime.package_file import (
    CODER,
    DEVICE,
    EDGE,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    WHOLE,
    PackageError,
    sealed,
)
from splitlearn.runtime.picture_check import check_whole, measured
from splitlearn.runtime.picture_codec import PictureCodec
from splitlearn.runtime.preparation import Preparation

BY_IMAGE = "R-CNN detectors resize each image by itself, and a graph takes images of one size"


def write_package(
    model: CutModel,
    folder: str | Path,
    images: NDArray[np.uint8],
    answers: AnswerForm,
    class_names: Sequence[str] = (),
    preparation: Sequence[Preparation] | None = None,
    picture: ImageFile | None = None,
) -> PackageCheck:
    """Write a device package of a trained model, if it passes a check on real images.

    Args:
        model: a trained model on the CPU, in float32.
        folder: folder to write; it appears complete or not at all.
        images: uint8 `(B, H, W, 3)`, images of the network's size for the check.
        answers: form of the edge server's answers.
        class_names: name of each class.
        preparation: steps from a photograph to the network's input; None if not known.
        picture: codec of whole images, for devices that may send these too; None for payloads alone.

    Returns:
        Results of the check.

    Raises:
        FileExistsError: if the folder exists.
        PackageError: if this kind of model has no package, or the check fails; the message says where it differs.
        MissingExtraError: if onnx, onnxscript or onnxruntime is not installed.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists: name another folder, or remove it first")
    if not model.device_steps():
        raise PackageError(f"a {type(model).__name__} has no device package: only features of a cut cross in payloads")
    if (channels := model.net.input_shape[0]) not in (1, 3):
        raise PackageError(f"a package takes grey or RGB images, and {model.net.name} takes {channels} channels")
    weight = like(model.net)
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        raise PackageError(
            f"a package is written from a network on the CPU in float32, this one is {weight.dtype} on {weight.device}"
        )
    if picture is not None:
        check_whole(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with evaluating(model), torch.no_grad():
            about, files = _exported(model)
            if picture is not None:
                pictures = PictureCodec(picture.format, picture.quality, model.net.input_shape)
                about["picture"] = measured(model, pictures, images, answers).record()
                files |= _whole(model)
            about |= {
                "answers": part_settings(answers),
                "class_names": list(class_names),
                "preparation": None if preparation is None else [part_settings(step) for step in preparation],
                "files": {
                    name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                    for name, content in files.items()
                },
            }
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            write_json(temporary / MANIFEST, sealed(about))
            found = check_package(temporary, model, images, answers)
        write_json(temporary / MANIFEST, sealed(about | {"check": found.record()}))
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


class _Half(NamedTuple):
    """Device part or edge part of a package.

    Attributes:
        about: section of the manifest.
        graphs: ONNX files by name.
        coders: name of the graph of each rate's encoder or decoder; None where another graph contains it.
    """

    about: dict[str, Any]
    graphs: dict[str, bytes]
    coders: list[str | None]


def _exported(model: CutModel) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the part of the manifest that depends on the model, and the content of all files."""
    net, tensors = model.net, dict[str, NDArray[Any]]()
    rates = [_rate(model, number, tensors) for number in range(len(model.rates))]
    halves = []
    for make in (_device, _edge):
        try:
            if net.by_image:
                raise ExportError(BY_IMAGE)
            halves.append(make(model))
        except ExportError as error:
            halves.append(_Half({"steps": [], "reason": str(error)}, {}, [None] * len(rates)))
    device, edge = halves
    for rate, encoder, decoder in zip(rates, device.coders, edge.coders, strict=True):
        rate |= {"encoder": encoder, "decoder": decoder}
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint_of(model),
        "network": net.name,
        "cut": net.at,
        "image_shape": list(net.input_shape),
        "device": device.about,
        "edge": edge.about,
        "rates": rates,
        "default": {"rate": model.rate, "budget": model.budget},
        "versions": {"python": platform.python_version(), "splitlearn": __version__}
        | {name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")},
    }
    return about, {CODER: save(tensors)} | device.graphs | edge.graphs


def _device(model: CutModel) -> _Half:
    """Return the graphs from images to latents; raise ExportError if one does not export."""
    steps, thresholds = model.device_steps(), iter(model.thresholds)
    graphs: dict[str, bytes] = {}
    about = []
    tensors: tuple[Tensor, ...] = (torch.zeros(2, *model.net.input_shape),)
    fused = len(model.rates) == 1 and not steps[-1].is_exit  # an encoder behind an exit runs on unsure images only
    for number, step in enumerate(steps):
        name = f"device_{number}.onnx" if number else DEVICE
        last = number == len(steps) - 1
        module: nn.Module = Chained([step, Encoders(model.rates[0])]) if fused and last else step
        graphs[name] = exported(module, tensors)
        about.append({"file": name, "threshold": next(thresholds) if step.is_exit else None})
        tensors = step(*tensors)[2 if step.is_exit else 0 :]
    encoders = [Encoders(coder) for coder in ([] if fused else model.rates)]
    coders = _own_graphs("encoder", encoders, [tensors] * len(encoders), graphs)
    return _Half({"steps": about, "reason": None}, graphs, coders or [None])


def _edge(model: CutModel) -> _Half:
    """Return the graphs from latents to the output; raise ExportError if one does not export."""
    net = model.net
    zeros = tuple(torch.zeros(2, *shape, dtype=dtype) for shape, dtype in zip(net.shapes, net.dtypes, strict=True))
    latents = [coder.encoded(zeros) for coder in model.rates]
    if len(model.rates) == 1:
        whole = Chained([Decoders(model.rates[0]), Tail(net)])
        return _Half({"reason": None}, {EDGE: exported(whole, latents[0])}, [None])
    graphs = {EDGE: exported(Tail(net), model.rates[0].restored(latents[0]))}
    coders = _own_graphs("decoder", [Decoders(coder) for coder in model.rates], latents, graphs)
    return _Half({"reason": None}, graphs, coders)


def _whole(model: CutModel) -> dict[str, bytes]:
    """Return the graph from images to the output of the network; none if it does not export or the edge needs torch."""
    if model.net.by_image:
        return {}
    try:
        return {WHOLE: exported(Whole(model.normalize, model.net), (torch.zeros(2, *model.net.input_shape),))}
    except ExportError:
        return {}


def _own_graphs(
    name: str, modules: Sequence[nn.Module], tensors: Sequence[Sequence[Tensor]], graphs: dict[str, bytes]
) -> list[str | None]:
    """Put the graph of each rate's module into `graphs`, once for modules of the same parts.

    Return their names, None where a module changes nothing.
    """
    names: list[str | None] = []
    known: dict[tuple[int, ...], str] = {}
    for number, (module, own) in enumerate(zip(modules, tensors, strict=True)):
        if all(isinstance(part, nn.Identity) for part in module.units):  # type: ignore[union-attr]
            names.append(None)
            continue
        parts = tuple(id(part) for part in module.units)  # type: ignore[union-attr]
        if parts not in known:
            known[parts] = f"{name}_{number}.onnx"
            graphs[known[parts]] = exported(module, own)
        names.append(known[parts])
    return names


def _rate(model: CutModel, number: int, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the manifest's entry of a rate, and add its levels and tables to `tensors`.

    Raises:
        PackageError: if a quantizer has no twin in numpy.
    """
    coder: FeatureCoder = model.rates[number]
    missing = [type(quantizer).__name__ for quantizer in coder.quantizers if quantizer.grid is None]
    if missing:
        raise PackageError(f"{missing[0]} has no numpy twin, which a device without torch needs: implement its grid")
    half, point = coder.numpy_half, model.points[number] if model.points else None
    return {
        "carriers": [_carrier(each, f"rates.{number}.{n}.", tensors) for n, each in enumerate(half.carriers)],
        "context": half.context,
        "shapes": half.shapes,
        "dtypes": [str(dtype).removeprefix("torch.") for dtype in model.net.dtypes],
        "score": None if point is None else point.score,
        "bytes_per_image": None if point is None else point.bytes_per_image,
    }


def _carrier(carrier: Carrier, prefix: str, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    if carrier.quantizer is None:
        return {"codec": None, "itemsize": carrier.itemsize, "is_scalar": carrier.is_scalar}
    arguments: Mapping[str, Any] = init_args(carrier.quantizer)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    tensors |= {f"{prefix}grid.{name}": np.ascontiguousarray(value) for name, value in arrays.items()}
    tensors |= {f"{prefix}codec.{n}": np.ascontiguousarray(table) for n, table in carrier.codec.tables().items()}
    plain = {name: value for name, value in arguments.items() if name not in arrays}
    return {
        "codec": part_settings(carrier.codec),
        "grid": {"class_path": public_path(type(carrier.quantizer)), "init_args": plain},
    }
