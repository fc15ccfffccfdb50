"""The kinds of files that `fuzz_files` damages and forges, and what may come of them."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from splitlearn.codecs import ContextRANS, Huffman
from splitlearn.config.build import task_from
from splitlearn.config.loading import load_task
from splitlearn.deploy import (
    export_bank,
    export_bottleneck,
    export_early_exit,
    export_network,
    load_bank,
    load_bottleneck,
)
from splitlearn.deploy.bottleneck_file import below, tensors_id
from splitlearn.models import (
    DepthwiseSeparable,
    EarlyExitModel,
    Normalize,
    NormalizedSeparable,
    SplitModel,
    load_weights,
    resnet8,
    split,
)
from splitlearn.quantizers import Clipped, Step
from splitlearn.tasks.loading import CONFIG_KEY
from splitlearn.tasks.trust import known
from splitlearn.testing.forged_files import Forgery
from splitlearn.testing.verdict import MIB, address_space, forget_peak, resident

SHAPE = (3, 32, 32)
SLACK = 64 * MIB  # beyond twice what an honest file takes
EXPECTED = ("torch.", "splitlearn.", "encodings.")  # what these load by themselves when they are first needed
HEADROOM = 1 << 31  # of the address space: libraries map more than they use
Model = Any


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the kind.
        write: writes an honest file into a folder and returns its path.
        load: makes a model of a file.
        seal: makes the checks inside of a forged file right.
    """

    name: str
    write: Callable[[Path], Path]
    load: Callable[[Path], Model]
    seal: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Honest:
    """An honest file and what it gives.

    Attributes:
        kind: of the file.
        path: where it lies, and where damaged ones are put in its place.
        content: its bytes.
        given: fingerprint of the model that it gives.
        memory: bytes that loading it took.
    """

    kind: Kind
    path: Path
    content: bytes
    given: list[Any]
    memory: int


@dataclass
class Outcomes:
    """What came of the files of a kind: counts, seconds and MiB, and the first violation."""

    files: int = 0
    refused: int = 0
    equal: int = 0
    other: int = 0
    slowest: float = 0.0
    memory: float = 0.0
    allowed: float = 0.0
    violation: dict[str, Any] | None = None

    def cells(self) -> list[str]:
        """Return them as cells of a table, the violation left out."""
        counts = (f"{n:,}" for n in (self.files, self.refused, self.equal, self.other))
        return [*counts, f"{self.slowest:.2f}", f"{self.memory:.0f}", f"{self.allowed:.0f}"]


@cache
def _network() -> nn.Module:
    torch.manual_seed(0)
    return resnet8().eval()


@cache
def _images() -> Tensor:
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def _bottleneck() -> SplitModel:
    torch.manual_seed(1)
    net = split(_network(), "layer2", SHAPE)
    unit = partial(NormalizedSeparable, channels=4, stride=2)
    model = SplitModel(net, Step(0.125), Huffman(), unit, Normalize([0.3] * 3, [0.2] * 3)).eval()
    return _fitted(model)


def _calibrated() -> SplitModel:
    net = split(_network(), "layer2", SHAPE)
    values = torch.linspace(0, 2, 4).repeat(net.shapes[0][0], 1)
    quantizer = Clipped.with_levels(values, (values[:, 1:] + values[:, :-1]) / 2)
    return _fitted(SplitModel(net, quantizer, ContextRANS(), normalize=Normalize([0.3] * 3, [0.2] * 3)).eval())


def _fitted(model: SplitModel) -> SplitModel:
    symbols = [s.numpy() for s in model.symbols(_images())[0]]
    return model.coded_by(
        model.coder.quantizers, [model.coder.codecs[0].fitted(symbols, model.coder.quantizers[0].levels)]
    )


def _exits(weights: Path | None = None) -> EarlyExitModel:
    torch.manual_seed(2)
    unit = partial(DepthwiseSeparable, channels=4, stride=2)
    net = split(resnet8(), "layer2", SHAPE)
    return EarlyExitModel(net, Step(0.125), Huffman(), ["layer1"], bottleneck=unit, weights=weights).eval()


def _write_bank(folder: Path) -> Path:
    metrics = {"test/accuracy": 0.9, "test/bytes_per_image": 100.0}
    files = [
        export_bottleneck(model, folder / f"{number}.safetensors", metrics | {"test/bytes_per_image": 50.0 + number})
        for number, model in enumerate((_bottleneck(), _calibrated()))
    ]
    return export_bank(files, folder / "bank.safetensors")


def _write_checkpoint(folder: Path) -> Path:
    export_network(_network(), folder / "weights.safetensors")
    network = {"class_path": "splitlearn.models.resnet8", "init_args": {"weights": str(folder / "weights.safetensors")}}
    net = {"class_path": "splitlearn.models.split", "init_args": {"model": network, "at": "layer2", "example": SHAPE}}
    unit = {"class_path": "splitlearn.models.DepthwiseSeparable", "init_args": {"channels": 4, "stride": 2}}
    parts = {
        "net": net,
        "bottleneck": unit,
        "quantizer": {"class_path": "splitlearn.quantizers.Step", "init_args": {"step": 0.125}},
        "codec": {"class_path": "splitlearn.codecs.Huffman"},
    }
    arguments = {
        "model": {"class_path": "splitlearn.models.SplitModel", "init_args": parts},
        "num_classes": 10,
        "rate_loss": {"class_path": "splitlearn.losses.L1Rate"},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
    }
    config = {"model": {"class_path": "splitlearn.tasks.ClassificationTask", "init_args": arguments}, "data": {}}
    torch.manual_seed(3)
    path = folder / "last.ckpt"
    torch.save({"state_dict": task_from(config["model"]).state_dict(), CONFIG_KEY: config, "epoch": 3}, path)
    return path


def _sealed(content: bytes) -> bytes:
    """Return an export or a bank with the fingerprints of the tensors that it now holds."""
    try:
        size = int.from_bytes(content[:8], "little")
        header, tensors = json.loads(content[8 : 8 + size]), load(content)
        manifest = json.loads(header["__metadata__"]["manifest"])
        rates = manifest.get("rates")
        for number, each in enumerate([manifest] if rates is None else rates):
            each["tensors_id"] = tensors_id(tensors if rates is None else below(f"{number}.", tensors))
    except Exception:  # no safetensors, or no manifest: nothing to be made right
        return content
    header["__metadata__"]["manifest"] = json.dumps(manifest)
    found = json.dumps(header).encode()
    return struct.pack("<Q", len(found)) + found + content[8 + size :]


def _load_network(path: Path) -> nn.Module:
    model = resnet8()
    load_weights(model, path)
    return model


def _export_of(name: str, make: Callable[[], SplitModel]) -> Kind:
    def write(folder: Path) -> Path:
        return export_bottleneck(make(), folder / f"{name}.safetensors")

    return Kind(name, write, lambda path: load_bottleneck(path, _network()), _sealed)


KINDS = {
    kind.name: kind
    for kind in (
        _export_of("bottleneck", _bottleneck),
        _export_of("calibration", _calibrated),
        Kind("bank", _write_bank, lambda path: load_bank(path, _network()), _sealed),
        Kind("network", lambda folder: export_network(_network(), folder / "n.safetensors"), _load_network),
        Kind("early exit", lambda folder: export_early_exit(_exits(), folder / "e.safetensors"), _exits),
        Kind("checkpoint", _write_checkpoint, load_task),
    )
}


def prepare(kind: Kind, folder: Path) -> Honest:
    """Return an honest file of a kind; it is loaded three times, so that all that is made once is there."""
    known()
    path = kind.write(folder)
    content = path.read_bytes()
    for _ in range(2):
        kind.load(path)
    before = forget_peak()
    model = kind.load(path)
    return Honest(kind, path, content, fingerprint(model), resident("VmHWM") - before)


def examine(honest: Honest, forgery: Forgery, outcomes: Outcomes) -> str:
    """Load one file, count what comes of it, and return what is wrong with that; nothing if all is well."""
    content = forgery.content if forgery.way == "damaged" else honest.kind.seal(forgery.content)
    honest.path.write_bytes(content)
    modules, allowed = set(sys.modules), 2 * honest.memory + SLACK
    start, before, problem = time.thread_time(), forget_peak(), ""
    model: Model = None
    with address_space(allowed + HEADROOM):
        try:
            model = honest.kind.load(honest.path)
        except Exception as error:
            problem = _unclear(error)
    taken = resident("VmHWM") - before
    outcomes.files += 1
    outcomes.slowest = max(outcomes.slowest, time.thread_time() - start)
    outcomes.memory = max(outcomes.memory, taken / MIB)
    outcomes.allowed = allowed / MIB
    if taken > allowed:
        return f"loading it took {taken / MIB:.0f} MiB, {allowed / MIB:.0f} are allowed"
    if imported := {name for name in set(sys.modules) - modules if not name.startswith(EXPECTED)}:
        return f"it imported {sorted(imported)[:5]}"
    if problem:
        return problem
    if model is None:
        outcomes.refused += 1
    elif fingerprint(model) == honest.given:
        outcomes.equal += 1
    elif forgery.way == "damaged":
        return "damage gave another model, and no error"
    else:
        outcomes.other += 1
    return ""


def fingerprint(model: Model) -> list[Any]:
    """Return all that makes two models equal, however they came to be: tensors, settings and tables of their parts."""
    tensors = {name: t.contiguous() for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    state = tensors_id(tensors)
    parts = [f"{getattr(model, name, None)!r}" for name in ("codecs", "quantizers", "normalize", "points", "rate")]
    normal = getattr(getattr(model, "normalize", None), "mean", None)
    return [state, parts, str(model), None if normal is None else normal.tolist()]


def _unclear(error: Exception) -> str:
    """Return what is not clear about an error; nothing if it is splitlearn's own, or tells of a file that is absent."""
    text = str(error)
    ours = type(error).__module__.startswith("splitlearn.") or isinstance(error, FileNotFoundError)
    return "" if ours and text and "\n" not in text else f"raised {type(error).__name__}: {text[:300]!r}"
