"""The edge part of a package in onnxruntime: payloads to answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import CodecError, StreamCoder
from splitlearn.codecs.payload_coder import tag_message, untag_message
from splitlearn.codecs.stream import Tensor
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.errors import NotServedError
from splitlearn.runtime.graph import Graph
from splitlearn.runtime.package_file import EDGE, WHOLE, Package, PackageError, Rate
from splitlearn.runtime.picture_codec import pixels_of
from splitlearn.runtime.streams import FrameTensors, StreamCoders, warm_up

T = TypeVar("T")
Tensors = list[NDArray[Any]]


class OnnxEdge(Edge):
    """Runs the edge part of a package made by `splitlearn package`, without torch.

        payload → decode → symbols → dequantize → decoder → tail → answer
        image file → decode → whole network → answer, if the package has an image codec

    Args:
        package: folder written by `splitlearn package`, or a `Package` that is already read.
        threads: number of threads of onnxruntime for one batch.

    Raises:
        PackageError: if it is damaged, or its edge part cannot run without torch.
        MissingExtraError: if onnxruntime is not installed.
    """

    def __init__(self, package: str | Path | Package, threads: int = 1) -> None:
        self.package = package if isinstance(package, Package) else Package(package)
        if not self.package.has_edge:
            raise PackageError(
                f"the edge half of {self.package.folder} needs torch ({self.package.edge_reason}): "
                "serve it with its config or checkpoint, --config or --ckpt_path"
            )
        self.fingerprint = self.package.fingerprint
        self._tail = self.package.graph(EDGE, threads)
        self._decoders = self.package.graphs([rate.decoder for rate in self.package.rates], threads)
        self._answers = self.package.form()
        self._streams = StreamCoders([rate.coder for rate in self.package.rates])
        self._network = self.package.graph(WHOLE, threads) if self.package.has_whole else None

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return one answer for each payload, in order; a CodecError for a damaged payload or one of another model."""
        return self._answers_to([tried(self._decoded, payload) for payload in payloads])

    def stream_coder(self, rate: int) -> StreamCoder:
        """Return how frames of streams are read at a rate; raises as `Edge.stream_coder`."""
        return self._streams.of(rate)

    def answer_frames(self, frames: Sequence[FrameTensors]) -> list[Answer | CodecError]:
        """Return one answer for each frame, in order; a CodecError for a forged one."""
        return self._answers_to([tried(self._restored, frame) for frame in frames])

    def _answers_to(self, found: list[Any]) -> list[Answer | CodecError]:
        """Return the answers to images, each given by the number of its rate and its latents, or as a CodecError."""
        read = [n for n, each in enumerate(found) if not isinstance(each, CodecError)]
        for group in _groups(read, lambda n: (found[n][0], *(t.shape for t in found[n][1]))):
            decoder = self._decoders[found[group[0]][0]]
            latents = {n: found[n][1] for n in group}
            for n, tensors in (latents if decoder is None else _run(partial(_by_image, decoder), latents)).items():
                found[n] = tensors
        read = [n for n in read if not isinstance(found[n], CodecError)]
        for group in _groups(read, lambda n: tuple(t.shape for t in found[n])):
            for n, answer in _run(self._answered, {n: found[n] for n in group}).items():
                found[n] = answer
        return found

    def answer_pictures(self, files: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the whole network's answer to each image file, in order; a CodecError for one it cannot take.

        Raises:
            NotServedError: if the package has no image codec, or the whole network needs torch.
        """
        if (pictures := self.package.picture) is None:
            return super().answer_pictures(files)
        if self._network is None:
            raise NotServedError("the whole network, which answers image files, needs torch: serve it with its config")
        found: list[Any] = [tried(pictures.decode, file) for file in files]
        read = {n: [each] for n, each in enumerate(found) if not isinstance(each, CodecError)}
        for n, answer in (_run(self._seen, read) if read else {}).items():
            found[n] = answer
        return found

    def warm_up(self) -> None:
        """Compile the codecs of all rates and run each graph once, so that the first payload is as fast as others."""
        if self._network is not None and self.package.picture is not None:
            channels, height, width = self.package.image_shape
            self.answer_pictures([self.package.picture.encode(np.zeros((height, width, channels), np.uint8))])
        for number, rate in enumerate(self.package.rates):
            shapes = zip(rate.coder.shapes or (), rate.dtypes, strict=True)
            latents = [np.zeros(shape, dtype) for shape, dtype in shapes]
            self.answer([tag_message(rate.coder.encode(latents), len(latents), number)])
            if rate.takes_streams:
                warm_up(self.stream_coder(number), latents)

    def _decoded(self, payload: bytes) -> tuple[int, Tensors]:
        number, plain = untag_message(payload, len(self.package.rates[0].dtypes))
        if number >= len(self.package.rates):
            raise CodecError(
                f"the payload is damaged or of another bank: it names rate {number} of {len(self.package.rates)}"
            )
        return number, decoded(self.package.rates[number], plain)

    def _restored(self, frame: FrameTensors) -> tuple[int, Tensors]:
        return frame.rate, restored(self.package.rates[frame.rate], frame.tensors)

    def _seen(self, batch: Tensors) -> list[Answer | CodecError]:
        assert self._network is not None
        return self._answers(_outputs(self._network, [pixels_of(batch[0])]))

    def _answered(self, batch: Tensors) -> list[Answer | CodecError]:
        return self._answers(_outputs(self._tail, batch))


def tried(act: Callable[[T], Any], payload: T) -> Any:
    """Return what `act` makes of a payload or frame, or the CodecError that it raises."""
    try:
        return act(payload)
    except CodecError as error:
        return error


def _run(act: Callable[[Tensors], Sequence[Any]], group: Mapping[int, Tensors]) -> dict[int, Any]:
    """Return what `act` makes of each image of a group, or a CodecError.

    If it refuses the batch, it gets each image separately, so that one forged payload does not spoil the others.
    """
    try:
        batch = [np.stack(tensors) for tensors in zip(*group.values(), strict=True)]
        return dict(zip(group, act(batch), strict=True))
    except CodecError as error:
        if len(group) == 1:
            return dict.fromkeys(group, error)
        return {n: _run(act, {n: tensors})[n] for n, tensors in group.items()}


def _by_image(graph: Graph, batch: Tensors) -> list[Tensors]:
    return [list(tensors) for tensors in zip(*_outputs(graph, batch), strict=True)]


def _outputs(graph: Graph, batch: Tensors) -> Tensors:
    """Return the outputs of a graph; raise CodecError if it refuses what payloads have made it take."""
    try:
        return graph.run(batch)
    except ValueError as error:
        raise CodecError(f"{error}: the payload is forged, or of another model") from error


def decoded(rate: Rate, payload: bytes) -> Tensors:
    """Return the dequantized latents and integer tensors of one payload, in their dtypes.

    Raises:
        CodecError: if the payload is damaged or comes from another coder.
    """
    return restored(rate, rate.coder.unpack(payload))


def restored(rate: Rate, tensors: Sequence[Tensor]) -> Tensors:
    """Return latents and integer tensors from the symbols, bytes and floats of one image, in their dtypes.

    Raises:
        CodecError: if a bool is neither 0 nor 1.
    """
    facts = zip(tensors, rate.dtypes, rate.coder.carriers, strict=True)
    return [
        integers(symbols, dtype, carrier.is_scalar) if carrier.quantizer is None else carrier.restored(symbols, floats)
        for (symbols, floats), dtype, carrier in facts
    ]


def integers(stored: NDArray[Any], dtype: str, is_scalar: bool) -> NDArray[Any]:
    """Return an integer tensor from its bytes; raise CodecError if a bool is neither 0 nor 1."""
    if dtype == "bool" and bool((stored > 1).any()):
        raise CodecError("the payload holds truth values that are neither 0 nor 1: it is forged")
    found: NDArray[Any] = stored.view(dtype)
    return found.reshape(()) if is_scalar else found


def _groups(numbers: Sequence[int], key: Callable[[int], Any]) -> list[list[int]]:
    """Return the numbers in groups with equal keys, each in order."""
    found: dict[Any, list[int]] = {}
    for n in numbers:
        found.setdefault(key(n), []).append(n)
    return list(found.values())
