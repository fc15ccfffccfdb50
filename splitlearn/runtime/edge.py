"""The edge part of a package in onnxruntime: payloads to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import CodecError
from splitlearn.codecs.payload_coder import tag_message, untag_message
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.forms import form_from
from splitlearn.runtime.package_file import EDGE, Package, PackageError, Rate

Tensors = list[NDArray[Any]]


class OnnxEdge(Edge):
    """Runs the edge part of a package made by `splitlearn package`, without torch.

        payload → decode → symbols → dequantize → decoder → tail → answer

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
                f"the edge half of {self.package.folder} needs torch ({self.package.manifest['edge']['reason']}): "
                "serve it with its config or checkpoint, --config or --ckpt_path"
            )
        self.fingerprint = self.package.fingerprint
        self._tail = self.package.graph(EDGE, threads)
        self._decoders = [
            None if rate.decoder is None else self.package.graph(rate.decoder, threads) for rate in self.package.rates
        ]
        self._answers = form_from(self.package.manifest["answers"])

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return one answer for each payload, in order; a CodecError for a damaged payload or one of another model."""
        found: list[Any] = [self._tried(self._decoded, payload) for payload in payloads]
        read = [n for n, each in enumerate(found) if not isinstance(each, CodecError)]
        for group in _groups(read, lambda n: (found[n][0], *(t.shape for t in found[n][1]))):
            decoder = self._decoders[found[group[0]][0]]
            batch = [np.stack(tensors) for tensors in zip(*(found[n][1] for n in group), strict=True)]
            crossing = batch if decoder is None else decoder.run(batch)
            for place, n in enumerate(group):
                found[n] = [t[place] for t in crossing]
        for group in _groups(read, lambda n: tuple(t.shape for t in found[n])):
            batch = [np.stack(tensors) for tensors in zip(*(found[n] for n in group), strict=True)]
            for n, answer in zip(group, self._answers(self._tail.run(batch)), strict=True):
                found[n] = answer
        return found

    def warm_up(self) -> None:
        """Compile the codecs of all rates and run each graph once, so that the first payload is as fast as others."""
        for number, rate in enumerate(self.package.rates):
            shapes = zip(rate.coder.shapes or (), rate.dtypes, strict=True)
            latents = [np.zeros(shape, dtype) for shape, dtype in shapes]
            self.answer([tag_message(rate.coder.encode(latents), len(latents), number)])

    def _decoded(self, payload: bytes) -> tuple[int, Tensors]:
        number, plain = untag_message(payload, len(self.package.rates[0].dtypes))
        if number >= len(self.package.rates):
            raise CodecError(
                f"the payload is damaged or of another bank: it names rate {number} of {len(self.package.rates)}"
            )
        return number, decoded(self.package.rates[number], plain)

    @staticmethod
    def _tried(act: Callable[[bytes], Any], payload: bytes) -> Any:
        try:
            return act(payload)
        except CodecError as error:
            return error


def decoded(rate: Rate, payload: bytes) -> Tensors:
    """Return the dequantized latents and integer tensors of one payload, in their dtypes.

    Raises:
        CodecError: if the payload is damaged or comes from another coder.
    """
    tensors = rate.coder.decode(payload)
    return [
        t if carrier.quantizer is not None else integers(t, dtype, carrier.is_scalar)
        for t, dtype, carrier in zip(tensors, rate.dtypes, rate.coder.carriers, strict=True)
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
