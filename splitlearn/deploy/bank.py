"""Bank: one safetensors file with the bottlenecks of several rates for one network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from splitlearn.codecs.container import TAGS
from splitlearn.deploy.bottleneck_file import (
    ExportError,
    below,
    check_export,
    check_version,
    cut_for,
    export_errors,
    read_export,
    read_manifest,
    rebuild,
)
from splitlearn.models import OperatingPoint, VariableRateModel
from splitlearn.models.tensor_file import save_tensors
from splitlearn.shipped import located
from splitlearn.tasks.trust import may_be_named

BANK_FORMAT = "splitlearn-bank"
BANK_VERSION, SHARING_VERSION = 1, 2  # 2: what rates with one bottleneck share is written once
SHARED_PARTS, UNITS = "shared", "bottlenecks."
HELD_OUT_SCORE, TEST_SCORE = "val/accuracy", "test/accuracy"
RATE = "bytes_per_image"
SHARED = {
    "backbone": "network",
    "weights_id": "set of weights",
    "split": "cut",
    "input_shape": "image size",
    "crosses": "input of encoders",
}


class BankError(ExportError):
    """The exports cannot form a bank: there are too many, or they belong to several networks or cuts."""


Export = tuple[dict[str, Any], dict[str, Tensor]]


def export_bank(exports: Sequence[str | Path], path: str | Path, score: str | None = None) -> Path:
    """Write exported bottlenecks of one network and cut into one file, in ascending order of bytes per image.

    Args:
        exports: one to eight files of `export_bottleneck`, with the metrics of a sweep's trial or of a test.
        path: file to write; it appears complete or not at all.
        score: metric of quality, higher is better; by default val/accuracy if all exports have it, otherwise
            test/accuracy. Bytes per image are taken from the same images.

    Returns:
        The path written.

    Raises:
        FileNotFoundError: if an export is missing.
        BankError: if there are none or more than eight, or they differ in network, weights, cut or normalization.
        ExportError: if a file is not an export, is damaged, or lacks these metrics.
    """
    if not 1 <= len(exports) <= TAGS:
        raise BankError(f"a bank holds 1 to {TAGS} bottlenecks, got {len(exports)}: choose among them")
    found = [(str(file), *read_export(file)) for file in exports]
    if score is None:
        held_out = all(HELD_OUT_SCORE in manifest.get("metrics", {}) for _, manifest, _ in found)
        score = HELD_OUT_SCORE if held_out else TEST_SCORE
    rate = rate_beside(score)
    first, manifest, tensors = found[0]
    for file, other, its_tensors in found:
        for key, what in SHARED.items():
            if other.get(key) != manifest.get(key):
                told = [str(m.get(key))[:12] if key == "weights_id" else repr(m.get(key)) for m in (other, manifest)]
                raise BankError(f"{file} has the {what} {told[0]}, {first} has {told[1]}: a bank shares one {what}")
        if not _equal(below("normalize.", tensors), below("normalize.", its_tensors)):
            raise BankError(f"{file} and {first} normalize images differently: a bank shares one normalization")
        if missing := {score, rate} - other.get("metrics", {}).keys():
            raise ExportError(f"{file} has no {' and '.join(sorted(missing))}: export it with --results")
    found.sort(key=lambda each: (each[1]["metrics"][rate], each[1]["metrics"][score]))
    content, named = _content([(manifest, parts) for _, manifest, parts in found])
    save_tensors(named, path, {"manifest": json.dumps({"format": BANK_FORMAT, "score": score, **content})})
    return Path(path)


def _content(exports: Sequence[Export]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the manifest and the tensors of a bank; what all rates have is written once if they share a bottleneck."""
    first, first_tensors = exports[0]
    same = {n for n, t in first_tensors.items() if all(n in own and torch.equal(own[n], t) for _, own in exports)}
    if len(exports) == 1 or not {name for name in first_tensors if name.startswith(UNITS)} <= same:
        named = {f"{i}.{name}": tensor for i, (_, own) in enumerate(exports) for name, tensor in own.items()}
        return {"format_version": BANK_VERSION, "rates": [manifest for manifest, _ in exports]}, named
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other, _ in exports)}
    named = {f"{SHARED_PARTS}.{name}": first_tensors[name] for name in same}
    for number, (_, own) in enumerate(exports):
        named |= {f"{number}.{name}": tensor for name, tensor in own.items() if name not in same}
    rates = [{key: value for key, value in manifest.items() if key not in shared} for manifest, _ in exports]
    return {"format_version": SHARING_VERSION, SHARED_PARTS: shared, "rates": rates}, named


@may_be_named
def load_bank(
    path: str | Path, backbone: nn.Module, rate: int | None = None, budget: int | None = None
) -> VariableRateModel:
    """Rebuild the model of a bank around its backbone, in eval mode.

    Args:
        path: file of `export_bank` or `splitlearn bank`.
        backbone: the network of the bottlenecks, with the same weights as in their training.
        rate: number of the rate for `compress`, 0 for the lowest; by default that of the highest score.
        budget: instead of a rate, the largest payload in bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        ExportError: if the file is not a bank, is damaged, or belongs to another network or other weights.
        ValueError: if rate and budget are out of range or both given.
    """
    score, exports = read_bank(path)
    with export_errors(path):
        net = cut_for(exports[0][0], backbone, path)
        models = [rebuild(manifest, tensors, net) for manifest, tensors in exports]
        for model, (manifest, tensors) in zip(models[1:], exports[1:], strict=True):
            if _same_bottlenecks((manifest, tensors), exports[0]):
                model.coder.bottlenecks = models[0].coder.bottlenecks
        rate_name = rate_beside(score)
        points = [OperatingPoint(_figure(manifest, score), _figure(manifest, rate_name)) for manifest, _ in exports]
        VariableRateModel.of(models, points)
    return VariableRateModel.of(models, points, rate, budget).eval()


def read_bank(path: str | Path) -> tuple[str, list[Export]]:
    """Return the name of the score, and manifest and tensors of each rate's export, without building a model.

    Raises:
        FileNotFoundError: if there is no such file.
        ExportError: if the file is not a bank, is damaged, or has another format.
    """
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"no bank at {path}; write one with splitlearn bank")
    content, tensors = read_manifest(path)
    if not isinstance(content, dict) or content.get("format") != BANK_FORMAT:
        raise ExportError(f"{path} holds no bank: it was not written by splitlearn bank")
    check_version(content.get("format_version", 0), (BANK_VERSION, SHARING_VERSION), "write the bank again", path)
    with export_errors(path):
        if not isinstance(content["score"], str):
            raise ExportError(f"{path} names no metric that its rates are weighed by: write the bank again")
        told, parts = content.get(SHARED_PARTS, {}), below(f"{SHARED_PARTS}.", tensors)
        exports = [(told | own, parts | below(f"{i}.", tensors)) for i, own in enumerate(content["rates"])]
        if not 1 <= len(exports) <= TAGS:
            raise ExportError(f"{path} holds {len(exports)} rates, a bank has 1 to {TAGS}: write it again")
        for manifest, its_tensors in exports:
            check_export(manifest, its_tensors, path)
            if any(manifest.get(key) != exports[0][0].get(key) for key in SHARED):
                raise ExportError(f"{path} holds rates of several networks or cuts: write the bank again")
        if sum(len(its_tensors) - len(parts) for _, its_tensors in exports) + len(parts) != len(tensors):
            raise ExportError(f"{path} holds tensors that belong to none of its rates: write the bank again")
        return content["score"], exports


def _same_bottlenecks(one: Export, two: Export) -> bool:
    """Return whether two exports have the same bottlenecks, with the same weights."""
    return one[0]["bottlenecks"] == two[0]["bottlenecks"] and _equal(below(UNITS, one[1]), below(UNITS, two[1]))


def rate_beside(score: str) -> str:
    """Return the metric of bytes per image on the same images as a score: `val/…` or `test/…`."""
    return f"{'val' if score.startswith('val/') else 'test'}/{RATE}"


def _figure(manifest: Mapping[str, Any], name: str) -> float:
    """Return a metric of a manifest; raise TypeError if it is not a number, or a negative rate."""
    figure = manifest["metrics"][name]
    if type(figure) not in (int, float) or not abs(figure) < 2**63 or (name.endswith(RATE) and figure < 0):
        raise TypeError(f"{name} is {str(figure)[:40]}")
    return float(figure)


def _equal(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return tensors.keys() == others.keys() and all(torch.equal(t, others[name]) for name, t in tensors.items())
