"""Reading of device packages: manifest, coders and graphs of a folder, without torch.

    package/
      manifest.json       format, shapes, preparation, classes, fingerprint, checksums of the other files
      coder.safetensors   levels of quantizers and code tables of all rates
      device.onnx         images → latents (one rate), or → crossing tensors (a bank), or → first exit
      device_1.onnx …     the parts of a head with exits
      encoder_0.onnx …    crossing tensors → latents, for each rate with a separate encoder
      decoder_0.onnx …    latents → crossing tensors, for each rate with a separate decoder
      edge.onnx           latents (one rate) or crossing tensors (a bank) → output of the network
      edge_picture.onnx   images → output of the network, for packages with an image codec

Files cannot cause imports: the classes of parts must have been imported before.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from splitlearn.codecs import Carrier, Codec, PayloadCoder
from splitlearn.numpy_quantizers import Grid
from splitlearn.parts import class_and_arguments, rebuilt
from splitlearn.resource_errors import brief
from splitlearn.runtime.forms import AnswerForm, form_from
from splitlearn.runtime.graph import Graph
from splitlearn.runtime.picture_codec import PictureCodec
from splitlearn.runtime.preparation import Preparation
from splitlearn.runtime.streams import takes_reference

FORMAT = "splitlearn-package"
FORMAT_VERSION = 1
MANIFEST, CODER, DEVICE, EDGE = "manifest.json", "coder.safetensors", "device.onnx", "edge.onnx"
WHOLE = "edge_picture.onnx"
SEAL = "sha256"
MOST_MANIFEST = 1 << 24  # bytes
MOST_FILE = 1 << 31  # bytes, the limit of an ONNX file
MOST_ELEMENTS = 1 << 31
MOST_RATES = 8
DTYPES = {"float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"}


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the SHA-256 of all else in it: a check of copies, not a signature."""
    plain = {name: value for name, value in manifest.items() if name != SEAL}
    return plain | {SEAL: hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


class PackageError(ValueError):
    """A folder that is not a device package, is damaged, or does not fit the task; the message names the remedy."""


@dataclass(frozen=True)
class Rate:
    """One rate of a package.

    Attributes:
        coder: coder between latents and payloads.
        encoder: name of the graph from crossing tensors to latents; None if the device's last step returns latents.
        decoder: name of the graph from latents to what the edge's graph takes; None if that takes latents.
        dtypes: dtype of each tensor in a payload.
        score: measured quality, higher is better; None if not known.
        bytes_per_image: measured mean payload size in bytes; None if not known.
    """

    coder: PayloadCoder
    encoder: str | None
    decoder: str | None
    dtypes: tuple[str, ...]
    score: float | None = None
    bytes_per_image: float | None = None

    @property
    def takes_streams(self) -> bool:
        """Whether the frames of videos can be coded beside the ones before."""
        return self.coder.shapes is not None and takes_reference(self.coder)


@dataclass(frozen=True)
class Step:
    """One graph of the device part.

    Attributes:
        file: name of the graph.
        threshold: minimum confidence of the early exit at the end of the step, 0…1; None without exit.
    """

    file: str
    threshold: float | None = None


class Package:
    """A device package on disk, with a checked manifest.

    Args:
        folder: a folder written by `splitlearn package`.

    Attributes:
        folder: the folder.
        manifest: the manifest.
        fingerprint: 64 hexadecimal digits that identify network, cut and coders.
        image_shape: `(C, H, W)` of the network's input.
        steps: graphs of the device part, in order; empty if it cannot run without torch.
        device_reason: why the device part cannot run without torch; empty if it can.
        has_edge: whether the edge part can run without torch.
        edge_reason: why it cannot; empty if it can.
        rates: rates, in order.
        picture: codec of whole images as files; None if the package has none.
        has_whole: whether the whole network, which answers them, can run without torch.
        default_rate: number of the rate that is used if none is asked for; None for the one with the highest score.
        default_budget: largest payload in bytes if no other is asked for; None for no limit.
        class_names: name of each class.
        preparation: steps from a photograph to the network's input; None if not known.

    Raises:
        FileNotFoundError: if there is no such folder.
        PackageError: if it is no package, incomplete, damaged, or of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no package at {self.folder}; write one with splitlearn package")
        if not (self.folder / MANIFEST).is_file():
            raise PackageError(
                f"{self.folder} holds no {MANIFEST}: it is no package or was only half copied; copy it again, or write "
                "one with splitlearn package"
            )
        self.manifest = self._manifest()
        try:
            self._read()
        except PackageError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
            told = f"it has no {error}" if isinstance(error, KeyError) else brief(error)
            raise PackageError(f"{self.folder / MANIFEST} contradicts itself, package again: {told}") from error

    def _manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        try:
            with path.open("rb") as file:
                content = file.read(MOST_MANIFEST + 1)
            found = json.loads(content) if len(content) <= MOST_MANIFEST else None
        except (ValueError, RecursionError) as error:
            raise PackageError(f"{path} is damaged, copy or package again: {brief(error)}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise PackageError(f"{path} is no manifest of a package: write one with splitlearn package")
        if found.get("format_version") != FORMAT_VERSION:
            told = str(found.get("format_version"))[:20]
            raise PackageError(f"{path} has format {told}, this splitlearn reads {FORMAT_VERSION}: package again")
        if found.get(SEAL) != sealed(found)[SEAL]:
            raise PackageError(f"{path} is damaged or was edited: copy or package again")
        return found

    def _read(self) -> None:
        about = self.manifest
        self.fingerprint = _fingerprint(about["fingerprint"])
        self.image_shape = _shape(about["image_shape"])
        if len(self.image_shape) != 3:
            raise PackageError(f"images (C, H, W) have no shape {self.image_shape}: package again")
        _text(about["network"]), _text(about["cut"])
        self._files = {_name(name): self._size_and_digest(name, known) for name, known in about["files"].items()}
        steps = about["device"]["steps"]
        self.steps = tuple(Step(_name(step["file"]), _share(step.get("threshold"))) for step in steps)
        self.has_edge = EDGE in self._files
        self.device_reason = "" if self.steps else _text(about["device"]["reason"])
        self.edge_reason = "" if self.has_edge else _text(about["edge"]["reason"])
        if not 1 <= len(about["rates"]) <= MOST_RATES:
            raise PackageError(f"{self.folder} holds {len(about['rates'])} rates, and a package has 1 to {MOST_RATES}")
        try:
            tensors = load(self.content(CODER))
        except SafetensorError as error:
            raise PackageError(f"{self.folder / CODER} holds no tables of codecs, package again: {error}") from error
        self.rates = tuple(_rate(each, f"rates.{n}.", tensors) for n, each in enumerate(about["rates"]))
        if self.has_edge and any(rate.coder.shapes is None for rate in self.rates):
            raise PackageError("a graph takes tensors of one shape, and a rate in it has none: package again")
        self.default_rate, self.default_budget = _default(about.get("default"), len(self.rates))
        self.has_whole = WHOLE in self._files
        pictures = about.get("picture")  # packages of before had none
        self.picture = None if pictures is None else PictureCodec.of(pictures, self.image_shape, len(self.rates))
        if not isinstance(about["answers"], dict):
            raise PackageError("it describes no form of answers: package again")
        steps = about["preparation"]
        self.preparation = None if steps is None else [rebuilt(step, Preparation) for step in steps]
        self.class_names = [str(name) for name in about["class_names"]]

    @cached_property
    def by_score(self) -> list[int]:
        """Numbers of the rates in descending order of score; of equal scores, the smaller payload first.

        Rates that were not measured are those of a `GainModel`, in which each is better than those before it.
        """
        facts = [
            (-float(number) if rate.score is None else -rate.score, rate.bytes_per_image or 0.0)
            for number, rate in enumerate(self.rates)
        ]
        return sorted(range(len(facts)), key=facts.__getitem__)

    def content(self, name: str) -> bytes:
        """Return the content of a file of the package, after a check of its size and SHA-256.

        Raises:
            PackageError: if it is missing or damaged.
        """
        path = self.folder / _name(name)
        if name not in self._files:
            raise PackageError(f"{self.folder} has no {name}: package again")
        size, digest = self._files[name]
        try:
            if path.stat().st_size == size and hashlib.sha256(content := path.read_bytes()).hexdigest() == digest:
                return content
        except FileNotFoundError as error:
            raise PackageError(f"{path} is missing, the package was only half copied: copy it again") from error
        raise PackageError(f"{path} is damaged, it is not what was written: copy or package again")

    def form(self) -> AnswerForm:
        """Return the form of the answers; raise PackageError if the manifest describes none."""
        try:
            return form_from(self.manifest["answers"])
        except (ValueError, TypeError) as error:
            raise PackageError(f"{self.folder / MANIFEST} describes no form of answers: {brief(error)}") from error

    def _size_and_digest(self, name: str, known: Any) -> tuple[int, str]:
        size, digest = known["bytes"], known["sha256"]
        if type(size) is not int or not 0 <= size < MOST_FILE:
            raise PackageError(f"{self.folder / MANIFEST} claims {str(size)[:20]} bytes of {name}: package again")
        return size, _text(digest)

    def graphs(self, names: Iterable[str | None], threads: int = 1) -> list[Graph | None]:
        """Return graphs by name, one object for equal names and None for None; raises as `graph`."""
        wanted = list(names)
        made = {name: self.graph(name, threads) for name in dict.fromkeys(wanted) if name is not None}
        return [None if name is None else made[name] for name in wanted]

    def graph(self, name: str, threads: int = 1) -> Graph:
        """Return a graph of the package, ready to run.

        Raises:
            PackageError: if it is missing or damaged.
            MissingExtraError: if onnxruntime is not installed.
        """
        content = self.content(name)
        try:
            return Graph(content, threads)
        except ValueError as error:
            raise PackageError(f"{self.folder / name} is {error}") from error


def _rate(about: Mapping[str, Any], prefix: str, tensors: Mapping[str, NDArray[Any]]) -> Rate:
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    carriers = tuple(_carrier(each, f"{n}.", own) for n, each in enumerate(about["carriers"]))
    shapes = None if about["shapes"] is None else tuple(map(_shape, about["shapes"]))
    context = about["context"]
    if type(context) is not int or not 0 <= context < 1 << 32:
        raise PackageError("a context in it is out of range: package again")
    fixed = tuple((False,) * len(shape) for shape in shapes or ())  # graphs take one image size
    coder = PayloadCoder(carriers, context, shapes, fixed)
    dtypes = tuple(about["dtypes"])
    if not set(dtypes) <= DTYPES or not len(dtypes) == len(carriers) == len(dtypes if shapes is None else shapes):
        raise PackageError("its tensors have unknown types or other numbers than its carriers: package again")
    names = (about["encoder"], about["decoder"])
    encoder, decoder = (None if name is None else _name(name) for name in names)
    score, size = _number(about["score"]), _number(about["bytes_per_image"])
    return Rate(coder, encoder, decoder, dtypes, score, size)


def _carrier(about: Mapping[str, Any], prefix: str, tensors: Mapping[str, NDArray[Any]]) -> Carrier:
    if about["codec"] is None:
        size = about["itemsize"]
        if size not in (1, 2, 4, 8):
            raise PackageError(f"integers of {str(size)[:20]} bytes cross in no network: package again")
        return Carrier(itemsize=size, is_scalar=bool(about["is_scalar"]))
    tables = {n.removeprefix(f"{prefix}codec."): t for n, t in tensors.items() if n.startswith(f"{prefix}codec.")}
    arrays = {n.removeprefix(f"{prefix}grid."): t for n, t in tensors.items() if n.startswith(f"{prefix}grid.")}
    cls, arguments = class_and_arguments(about["grid"], Grid)
    codec = rebuilt(about["codec"], Codec)
    return Carrier(codec.with_tables(tables) if tables else codec, cls(**arguments, **arrays))


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(value)
    if not all(type(n) is int and 0 < n < MOST_ELEMENTS for n in shape) or len(shape) > 15:
        raise PackageError(f"a shape {str(value)[:60]} in it is impossible: package again")
    if math.prod(shape) > MOST_ELEMENTS:
        raise PackageError(f"a shape {shape} in it has too many elements: package again")
    return shape


def _name(value: Any) -> str:
    if not isinstance(value, str) or Path(value).name != value or value.startswith("."):
        raise PackageError(f"a file {str(value)[:60]} in it is not inside the package: package again")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PackageError(f"{str(value)[:20]} stands where a text belongs: package again")
    return value


def _number(value: Any) -> float | None:
    if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
        raise PackageError(f"a score or size {str(value)[:20]} in it is no number: package again")
    return None if value is None else float(value)


def _default(about: Any, count: int) -> tuple[int | None, int | None]:
    """Return the default rate and budget; packages of before had none."""
    rate, budget = (None, None) if about is None else (about["rate"], about["budget"])
    fits = rate is None or (type(rate) is int and 0 <= rate < count)
    if not fits or not (budget is None or (type(budget) is int and budget > 0)) or None not in (rate, budget):
        raise PackageError(f"a default rate {str(rate)[:20]} or budget {str(budget)[:20]} in it fits no rate")
    return rate, budget


def _share(value: Any) -> float | None:
    if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise PackageError(f"a threshold {str(value)[:20]} in it is not in [0, 1]: package again")
    return None if value is None else float(value)


def _fingerprint(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise PackageError(f"a fingerprint {str(value)[:20]} in it is not 64 hexadecimal digits: package again")
    return value
