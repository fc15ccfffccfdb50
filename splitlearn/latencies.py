"""Measured latencies of a network on one machine: how they are taken, and the file that `splitlearn plan` reads."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Self

from splitlearn.files import write_json
from splitlearn.resource_errors import brief

FORMAT = "splitlearn-latencies"
FORMAT_VERSION = 1
WARM_UP = 5  # rounds that are not counted
PAUSE_S = 0.005  # before each stage
MOST_FILE = 1 << 24  # bytes


class LatencyError(ValueError):
    """A file of latencies that cannot be used; the message names the remedy."""


@dataclass(frozen=True)
class Latency:
    """Latency of one step in milliseconds, over all timed rounds.

    Attributes:
        p50_ms: median.
        p95_ms: 95th percentile.

    Raises:
        ValueError: if they are not finite, negative, or in the wrong order.
    """

    p50_ms: float
    p95_ms: float

    def __post_init__(self) -> None:
        if not 0 <= self.p50_ms <= self.p95_ms < math.inf:
            raise ValueError(f"latencies of {self.p50_ms} and {self.p95_ms} ms are none")

    def __str__(self) -> str:
        return f"{self.p50_ms:.3f} ms (p95 {self.p95_ms:.3f})"

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Self:
        """Return the percentiles of at least two values; negative ones, differences below noise, count as 0."""
        values = [max(0.0, value) for value in milliseconds]
        middle = median(values)
        return cls(middle, max(middle, quantiles(values, n=20, method="inclusive")[-1]))


@dataclass(frozen=True)
class ModuleLatency:
    """Latencies of one module, and of head and tail for a cut after it.

    Attributes:
        name: dotted name for `split(model, at=…)`.
        output_shape: shape of its first output for one image, without the batch.
        own: latency of the module, with the modules inside it.
        until: latency from the image to its output: the head.
        after: latency from its output to the network's output: the tail.
    """

    name: str
    output_shape: tuple[int, ...]
    own: Latency
    until: Latency
    after: Latency


@dataclass(frozen=True)
class CoderLatency:
    """Latencies of a trained model at one compression rate, from image to answer.

    Attributes:
        model: fingerprint of the model, 64 hexadecimal digits.
        at: name of the module before the cut.
        rate: index of the compression rate.
        device: image → latents: head and encoder.
        encode: latents → payload: quantize and encode.
        decode: payload → latents: decode and dequantize.
        edge: latents → answer: decoder and tail.
        encoder: the encoder alone; None if it is part of a graph.
        decoder: the decoder alone; None if it is part of a graph.
        bytes_per_image: mean payload size of the images that were timed.
        score: measured quality, higher is better; None if not known.
    """

    model: str
    at: str
    rate: int
    device: Latency
    encode: Latency
    decode: Latency
    edge: Latency
    encoder: Latency | None
    decoder: Latency | None
    bytes_per_image: float
    score: float | None


@dataclass(frozen=True)
class PictureLatency:
    """Latencies and size of an image file format, for sending the picture itself.

    Attributes:
        name: format and quality.
        encode: pixels → file.
        decode: file → pixels.
        bytes_per_image: mean file size.
    """

    name: str
    encode: Latency
    decode: Latency
    bytes_per_image: float


@dataclass(frozen=True)
class LatencyProfile:
    """Latencies of a network on one machine, one image at a time unless `batch` says otherwise.

    Attributes:
        network: class of the network.
        input_shape: `(C, H, W)` of an image.
        engine: library that computed: "torch" or "onnxruntime".
        threads: number of threads of the library.
        batch: images in one pass; all latencies are of the whole batch.
        rounds: number of timed rounds.
        machine: processor, system and versions, in words.
        date: date of the measurement, ISO 8601.
        whole: latency of the uncut network, from image to output.
        whole_has_bottleneck: whether `whole` contains encoder and decoder, because the graphs of a package do.
        modules: latencies of the modules, in the order in which they finish; empty for a package.
        coders: latencies at each rate of a trained model; empty if only a network was timed.
        pictures: latencies of image files; empty if there were no images.
        answer_bytes: mean size of an answer of the edge server, with its frame; 0 if only a network was timed.
    """

    network: str
    input_shape: tuple[int, ...]
    engine: str
    threads: int
    batch: int
    rounds: int
    machine: Mapping[str, str]
    date: str
    whole: Latency
    whole_has_bottleneck: bool
    modules: tuple[ModuleLatency, ...] = ()
    coders: tuple[CoderLatency, ...] = ()
    pictures: tuple[PictureLatency, ...] = ()
    answer_bytes: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Identity of the timed modules: 64 hexadecimal digits of their names and shapes; empty without modules."""
        facts = [[each.name, list(each.output_shape)] for each in self.modules]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest() if facts else ""

    @property
    def conditions(self) -> str:
        """Return in words how the latencies were measured."""
        images = "one image" if self.batch == 1 else f"batches of {self.batch} images"
        return (
            f"{self.engine}, {self.threads} thread{'s' if self.threads > 1 else ''}, {images}, {self.rounds} rounds, "
            f"{self.machine.get('processor', 'unknown processor')}"
        )

    def lines(self) -> list[str]:
        """Return the figures of network, rates and pictures as lines of text."""
        bottleneck = ", bottleneck included" if self.whole_has_bottleneck else ""
        found = [f"whole network{bottleneck}: {self.whole}"]
        for each in self.coders:
            score = "" if each.score is None else f", score {each.score:.4g}"
            found.append(
                f"cut at {each.at}, rate {each.rate}: device {each.device}, encode {each.encode}, decode "
                f"{each.decode}, edge {each.edge}; {each.bytes_per_image:,.1f} bytes{score}"
            )
            if each.encoder is not None and each.decoder is not None:
                found[-1] += f" (encoder {each.encoder}, decoder {each.decoder})"
        for picture in self.pictures:
            found.append(
                f"{picture.name}: encode {picture.encode}, decode {picture.decode}; "
                f"{picture.bytes_per_image:,.1f} bytes"
            )
        return found

    def check_same(self, other: LatencyProfile) -> None:
        """Raise LatencyError unless another profile is of the same network, images and batch."""
        if self.batch != other.batch:
            raise LatencyError(
                f"one profile has batches of {self.batch}, the other of {other.batch}: profile both alike"
            )
        for name, mine, others in (
            ("network", self.network, other.network),
            ("images", self.input_shape, other.input_shape),
        ):
            if mine != others:
                raise LatencyError(
                    f"the device's profile has {name} {mine}, the edge's {others}: profile one network on both"
                )
        if self.fingerprint and other.fingerprint:
            if self.fingerprint != other.fingerprint:
                raise LatencyError(
                    f"both profiles are of a {self.network}, but their modules differ in names or shapes: profile one "
                    "network on both, with the same --depth or --at"
                )
        elif not {each.model for each in self.coders} & {each.model for each in other.coders}:
            raise LatencyError(
                "one profile is of a package that the other does not know: profile one package or config on both"
            )

    def write(self, path: str | Path) -> None:
        """Write the profile as JSON."""
        write_json(path, {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: str | Path) -> LatencyProfile:
        """Return the profile in a JSON file.

        Raises:
            FileNotFoundError: if there is no such file.
            LatencyError: if it is no profile, damaged, or of another format.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no profile at {path}; write one with splitlearn profile --time")
        try:
            with path.open("rb") as file:
                content = file.read(MOST_FILE + 1)
            found = json.loads(content) if len(content) <= MOST_FILE else None
        except (ValueError, RecursionError) as error:
            raise LatencyError(f"{path} is damaged, profile again: {brief(error)}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise LatencyError(f"{path} holds no latencies: write it with splitlearn profile --time")
        if found.get("format_version") != FORMAT_VERSION:
            told = str(found.get("format_version"))[:20]
            raise LatencyError(f"{path} has format {told}, this splitlearn reads {FORMAT_VERSION}: profile again")
        try:
            return _profile(found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            told = f"it has no {error}" if isinstance(error, KeyError) else brief(error)
            raise LatencyError(f"{path} contradicts itself, profile again: {told}") from error


def _profile(found: Mapping[str, Any]) -> LatencyProfile:
    machine = {str(name): str(value) for name, value in found["machine"].items()}
    return LatencyProfile(
        str(found["network"]),
        _shape(found["input_shape"]),
        str(found["engine"]),
        _count(found["threads"]),
        _count(found["batch"]),
        _count(found["rounds"]),
        machine,
        str(found["date"]),
        _latency(found["whole"]),
        bool(found["whole_has_bottleneck"]),
        tuple(
            ModuleLatency(
                str(each["name"]),
                _shape(each["output_shape"]),
                *(_latency(each[name]) for name in ("own", "until", "after")),
            )
            for each in found["modules"]
        ),
        tuple(_coder(each) for each in found["coders"]),
        tuple(
            PictureLatency(
                str(each["name"]), _latency(each["encode"]), _latency(each["decode"]), _size(each["bytes_per_image"])
            )
            for each in found["pictures"]
        ),
        _size(found.get("answer_bytes", 0.0)),  # profiles of before have none
    )


def _coder(found: Mapping[str, Any]) -> CoderLatency:
    model, score = str(found["model"]), found["score"]
    if len(model) != 64 or set(model) - set("0123456789abcdef"):
        raise ValueError(f"a fingerprint {model[:20]} is not 64 hexadecimal digits")
    device, encode, decode, edge = (_latency(found[name]) for name in ("device", "encode", "decode", "edge"))
    encoder, decoder = (None if found[name] is None else _latency(found[name]) for name in ("encoder", "decoder"))
    return CoderLatency(
        model,
        str(found["at"]),
        _count(found["rate"], 0),
        device,
        encode,
        decode,
        edge,
        encoder,
        decoder,
        _size(found["bytes_per_image"]),
        None if score is None else _number(score),
    )


def _latency(found: Mapping[str, Any]) -> Latency:
    return Latency(_number(found["p50_ms"]), _number(found["p95_ms"]))


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:20]} is no number")
    return float(value)


def _size(value: Any) -> float:
    if _number(value) < 0:
        raise ValueError(f"{value} bytes are none")
    return float(value)


def _count(value: Any, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{str(value)[:20]} is no number from {least} on")
    return value


def _shape(found: Any) -> tuple[int, ...]:
    return tuple(_count(size) for size in found)


def timed(stages: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds that each stage took in each round, after some rounds that are not counted.

    The stages take turns, so that a busy moment of the machine hits all of them alike. Each begins after a short pause,
    as on a device that waits for answers and a server that waits for payloads: a loop without pauses finds its data in
    the caches, and on a machine shared with others is interrupted more often than what has just slept.

    Args:
        stages: functions by name; each is called with the number of the round, to take another image each time.
        rounds: number of rounds that count.
    """
    found: dict[str, list[float]] = {name: [] for name in stages}
    for number in range(-WARM_UP, rounds):
        for name, stage in stages.items():
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            stage(number)
            took = 1e3 * (time.perf_counter() - start)
            if number >= 0:
                found[name].append(took)
    return found


def differences(whole: Sequence[float], part: Sequence[float]) -> list[float]:
    """Return, for each round, the time of a stage minus the time of a part of it."""
    return [one - other for one, other in zip(whole, part, strict=True)]


def processor() -> str:
    """Return the name of this machine's processor, or of its architecture if the name is unknown."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_facts(**versions: str) -> dict[str, str]:
    """Return processor, system and versions of this machine, for a profile."""
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **versions,
    }


def today() -> str:
    """Return date and time now, for a profile."""
    return datetime.now(UTC).isoformat(timespec="seconds")
