"""Record of a model that is loaded by name: files, network, and what is known of it. Reading imports nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from splitlearn.files import holds_few
from splitlearn.models import (
    backbone,
    mobilenet_v2_cifar,
    mobilenet_v2_same,
    resnet8,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    vgg19_cifar,
)
from splitlearn.resource_errors import brief

RECORD = "splitlearn.json"  # name of the record in a folder or repository of one model
MOST_BYTES = 10_000_000  # of a record
MOST_CLASSES = 100_000
FILE_NAME = re.compile(r"[\w-][\w.-]*\.safetensors")
TORCHVISION = "torchvision/"
OWN_NETWORK = "give it with its weights, network=…"
OWN: Mapping[str, Callable[..., nn.Module]] = {
    build.__name__: build
    for build in (
        *(resnet8, resnet20, resnet32, resnet44, resnet56, mobilenet_v2_cifar, mobilenet_v2_same, vgg19_cifar),
    )
}


class PretrainedError(ValueError):
    """There is no model of this name, or its files are damaged, foreign or cannot be fetched."""


@dataclass(frozen=True)
class PretrainedRecord:
    """What is known of a model that is loaded by name.

    Attributes:
        name: name of the model.
        file: name of the safetensors file: a bank, a bottleneck, or the weights of a whole network.
        sha256: SHA-256 of that file.
        size: size of that file in bytes.
        network: name of the network, a function of `splitlearn.models` or torchvision/NAME; None if its user gives it.
        num_classes: width of the network's classifier.
        weights: name of the safetensors file with the network's weights, which may be `file` itself.
        normalize: mean and std of a whole network's images; None for a bank or bottleneck, whose file has them.
        licence: licence of the weights, with the name of their owner.
        data: the data that the model was trained and tested on.
        rebuild: the command that makes the weights again.
        metrics: metrics of a test; those of a bank begin with `rate_0/`, `rate_1/`, ….
    """

    name: str
    file: str
    sha256: str
    size: int
    network: str | None
    num_classes: int
    weights: str | None
    normalize: tuple[list[float], list[float]] | None
    licence: str
    data: str
    rebuild: str
    metrics: Mapping[str, float]

    @property
    def files(self) -> list[str]:
        """The names of the model's safetensors files."""
        return list(dict.fromkeys([self.file, *([self.weights] if self.weights else [])]))

    def build_network(self) -> nn.Module:
        """Return the network with random weights; raises PretrainedError if it is not known here."""
        name = self.network
        if name is None:
            raise PretrainedError(f"the record of {self.name} names no network: {OWN_NETWORK}")
        if name in OWN:
            return OWN[name](num_classes=self.num_classes)
        if name.startswith(TORCHVISION):
            from torchvision.models import list_models

            if name.removeprefix(TORCHVISION) in list_models():
                return backbone(name, num_classes=self.num_classes)
        raise PretrainedError(
            f"the record of {self.name} names the network {name[:60]!r}, not known here: {OWN_NETWORK}"
        )


def read_pretrained_record(path: Path) -> PretrainedRecord:
    """Return the record in a JSON file.

    Raises:
        PretrainedError: if it is no such record, or holds what no record can hold.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PretrainedError(f"{path} is too large for a record of a model: it was not written by splitlearn")
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        if isinstance(error, PretrainedError):
            raise
        raise PretrainedError(f"{path} is no readable record of a model ({brief(error)}): copy it again") from error
    try:
        return _checked(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = f"lacks {error}" if isinstance(error, KeyError) else brief(error)
        raise PretrainedError(f"{path} is no record of a model that can be loaded by name: it {told}") from error


def _checked(content: Any) -> PretrainedRecord:
    if not isinstance(content, dict) or not holds_few(content):
        raise ValueError("holds no record, or one without end")
    model = content["model"]
    normalize = (_numbers(model["mean"]), _numbers(model["std"])) if "mean" in model else None
    metrics = content["metrics"]
    if not all(type(value) in (int, float) for value in metrics.values()):
        raise ValueError("holds metrics that are no numbers")
    count = model["num_classes"]
    if type(count) is not int or not 1 <= count <= MOST_CLASSES:
        raise ValueError(f"names {str(count)[:40]} classes")
    return PretrainedRecord(
        name=_text(content, "name"),
        file=_file(_text(content, "file")),
        sha256=_text(content, "sha256"),
        size=int(content["bytes"]),
        network=None if model["network"] is None else _text(model, "network"),
        num_classes=count,
        weights=None if model.get("weights") is None else _file(_text(model, "weights")),
        normalize=normalize,
        licence=_text(content, "licence"),
        data=_text(content, "data"),
        rebuild=_text(content, "rebuild"),
        metrics={str(name): float(value) for name, value in metrics.items()},
    )


def _text(content: Mapping[str, Any], name: str) -> str:
    if not isinstance(content[name], str):
        raise TypeError(f"has {str(content[name])[:40]} as its {name}")
    return str(content[name])


def _file(name: str) -> str:
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"names the file {name[:60]!r}, and only safetensors files beside it are read")
    return name


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or len(values) not in (1, 3) or not all(type(v) in (int, float) for v in values):
        raise TypeError(f"normalizes images by {str(values)[:40]}")
    return [float(value) for value in values]
