"""Latencies of a package as it runs: graphs in onnxruntime and coders, on the machine at hand, without torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn import __version__
from splitlearn.codecs import CodecError
from splitlearn.codecs.payload_coder import tag_message
from splitlearn.latencies import (
    CoderLatency,
    Latency,
    LatencyProfile,
    PictureLatency,
    differences,
    machine_facts,
    timed,
    today,
)
from splitlearn.runtime.answers import Edge
from splitlearn.runtime.device import Device
from splitlearn.runtime.edge import OnnxEdge, decoded
from splitlearn.runtime.package_file import EDGE, WHOLE, Package
from splitlearn.runtime.picture_codec import PictureCodec, pixels_of
from splitlearn.runtime.protocol import answer_bytes

PICTURES = (("JPEG", 75), ("JPEG", 95), ("WEBP", 75))
Tensors = list[NDArray[Any]]


def time_packages(
    packages: Sequence[Package], images: Sequence[NDArray[np.uint8]], rounds: int, threads: int = 1
) -> LatencyProfile:
    """Return the latencies of packages of one network, cut at the same place or at several.

    Early exits are not taken: the times are those of an image that is sent.

    Args:
        packages: packages whose device half and edge half both run in onnxruntime.
        images: uint8 `(H, W, 3)` of the network's size; each round takes the next one.
        rounds: number of timed rounds.
        threads: number of threads of onnxruntime for one image.

    Raises:
        PackageError: if a package is damaged, or a half of it needs torch.
        ValueError: if they are of several networks, or an image has another size.
    """
    first = packages[0]
    names = [(package.manifest["network"], package.image_shape) for package in packages]
    if len(set(names)) > 1:
        raise ValueError(f"these packages are of several networks: {sorted({str(name) for name, _ in names})}")
    has_bottleneck = first.rates[0].decoder is None and not first.has_whole
    return LatencyProfile(
        network=str(first.manifest["network"]),
        input_shape=first.image_shape,
        engine="onnxruntime",
        threads=threads,
        batch=1,
        rounds=rounds,
        machine=machine_facts(onnxruntime=version("onnxruntime"), splitlearn=__version__),
        date=today(),
        whole=_whole(first, images, rounds, threads),
        whole_has_bottleneck=has_bottleneck,
        coders=tuple(coder for package in packages for coder in _coders(package, images, rounds, threads)),
        pictures=time_pictures(images, rounds, [each.picture for each in packages if each.picture is not None]),
        answer_bytes=mean_answer_bytes(OnnxEdge(first, threads), _payloads(Device(first, threads), images)),
    )


def time_pictures(
    images: Sequence[NDArray[np.uint8]], rounds: int, own: Sequence[PictureCodec] = ()
) -> tuple[PictureLatency, ...]:
    """Return the latencies and sizes of images as JPEG and WebP files, in Pillow, and as those of packages.

    Args:
        images: uint8 `(H, W, 3)` or grey `(H, W)`; each round takes the next one.
        rounds: number of timed rounds.
        own: codecs of packages, which take images `(H, W, C)`; they replace those of the same format and quality.
    """
    found = {f"{name} {quality}": _picture(images, rounds, name, quality) for name, quality in PICTURES}
    found |= {codec.name: _timed(codec.name, codec.encode, codec.decode, images, rounds) for codec in own}
    return tuple(found.values())


def _picture(images: Sequence[NDArray[np.uint8]], rounds: int, name: str, quality: int) -> PictureLatency:
    def encoded(image: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, name, quality=quality)
        return file.getvalue()

    def decode(file: bytes) -> NDArray[np.uint8]:
        return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))

    return _timed(f"{name} {quality}", encoded, decode, images, rounds)


def _timed(
    name: str,
    encode: Callable[[NDArray[np.uint8]], bytes],
    decode: Callable[[bytes], NDArray[np.uint8]],
    images: Sequence[NDArray[np.uint8]],
    rounds: int,
) -> PictureLatency:
    files = [encode(image) for image in images]
    count = len(images)
    times = timed({"encode": lambda n: encode(images[n % count]), "decode": lambda n: decode(files[n % count])}, rounds)
    sizes = fmean(map(len, files))
    return PictureLatency(name, Latency.of(times["encode"]), Latency.of(times["decode"]), sizes)


def _whole(package: Package, images: Sequence[NDArray[np.uint8]], rounds: int, threads: int) -> Latency:
    """Return the latency from image to output of the graphs, without coders."""
    if package.has_whole:
        graph = package.graph(WHOLE, threads)
        batches = [pixels_of(image[None]) for image in images]
        return Latency.of(timed({"whole": lambda n: graph.run([batches[n % len(batches)]])}, rounds)["whole"])
    device, edge = Device(package, threads), package.graph(EDGE, threads)
    takes_latents = package.rates[0].decoder is None

    def run(number: int) -> None:
        image = images[number % len(images)]
        if takes_latents:
            edge.run([tensor[None] for tensor in device.latents(image)])
        else:
            edge.run(device.crossing(image))

    return Latency.of(timed({"whole": run}, rounds)["whole"])


def mean_answer_bytes(edge: Edge, payloads: Sequence[bytes]) -> float:
    """Return the mean size of an edge's answers to payloads, with their frames; 0 if it answers none of them."""
    answers = [edge.answer([payload])[0] for payload in payloads]
    return fmean([answer_bytes(each) for each in answers if not isinstance(each, CodecError)] or [0.0])


def _payloads(device: Device, images: Sequence[NDArray[np.uint8]]) -> list[bytes]:
    """Return payloads of the first rate, also of images that an exit would answer."""
    coder = device.package.rates[0].coder
    return [tag_message(coder.encode(device.latents(image, 0)), len(coder.carriers), 0) for image in images]


def _coders(
    package: Package, images: Sequence[NDArray[np.uint8]], rounds: int, threads: int
) -> tuple[CoderLatency, ...]:
    device, edge = Device(package, threads), OnnxEdge(package, threads)
    return tuple(_coder(device, edge, number, images, rounds) for number in range(len(package.rates)))


def _coder(
    device: Device, edge: OnnxEdge, number: int, images: Sequence[NDArray[np.uint8]], rounds: int
) -> CoderLatency:
    package, count = device.package, len(images)
    rate = package.rates[number]
    latents = [device.latents(image, number) for image in images]

    def encode(n: int) -> bytes:
        return tag_message(rate.coder.encode(latents[n % count]), len(rate.coder.carriers), number)

    plain = [rate.coder.encode(each) for each in latents]
    payloads = [encode(n) for n in range(count)]
    times = timed(
        {
            "device": lambda n: device.latents(images[n % count], number),
            "encode": encode,
            "decode": lambda n: decoded(rate, plain[n % count]),
            "answer": lambda n: edge.answer([payloads[n % count]]),
        },
        rounds,
    )
    return CoderLatency(
        model=package.fingerprint,
        at=str(package.manifest["cut"]),
        rate=number,
        device=Latency.of(times["device"]),
        encode=Latency.of(times["encode"]),
        decode=Latency.of(times["decode"]),
        edge=Latency.of(differences(times["answer"], times["decode"])),
        encoder=None,
        decoder=None,
        bytes_per_image=fmean(map(len, payloads)),
        score=rate.score,
    )
