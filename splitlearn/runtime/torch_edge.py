"""The edge part of a model in torch, on a CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from splitlearn.codecs import CodecError, StreamCoder
from splitlearn.codecs.payload_coder import tag_message
from splitlearn.models import CutModel
from splitlearn.models.images import like
from splitlearn.runtime.answers import Answer, Edge
from splitlearn.runtime.edge import integers, tried
from splitlearn.runtime.fingerprint import fingerprint_of
from splitlearn.runtime.forms import AnswerForm
from splitlearn.runtime.picture_codec import PictureCodec, pixels_of
from splitlearn.runtime.streams import FrameTensors, StreamCoders

_EMPTY = "a payload is empty, as of an image that exited early: there is nothing to answer"


class TorchEdge(Edge):
    """Runs the edge part of a model in torch, for GPUs and for networks that cannot be exported to ONNX.

    Args:
        model: a trained model; it is put into eval mode.
        answers: form of the answers.
        picture: codec of image files; None if there are none to answer.
    """

    def __init__(self, model: CutModel, answers: AnswerForm, picture: PictureCodec | None = None) -> None:
        self.model, self._answers, self._picture = model.eval(), answers, picture
        self.fingerprint = fingerprint_of(model)
        self._streams = StreamCoders([coder.numpy_half for coder in model.rates])

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return one answer for each payload, in order; a CodecError for a damaged payload or one of another model."""
        try:
            if not all(payloads):
                raise CodecError(_EMPTY)
            return self._formed(self.model.decompress(payloads))
        except CodecError as error:  # one of them is damaged, or they are of several sizes
            return [error] if len(payloads) == 1 else self._apart(payloads)

    def stream_coder(self, rate: int) -> StreamCoder:
        """Return how frames of streams are read at a rate; raises as `Edge.stream_coder`."""
        return self._streams.of(rate)

    def answer_frames(self, frames: Sequence[FrameTensors]) -> list[Answer | CodecError]:
        """Return one answer for each frame, in order; a CodecError for a forged one."""
        found: list[Any] = [None] * len(frames)
        groups: dict[Any, list[int]] = {}
        for n, frame in enumerate(frames):
            groups.setdefault((frame.rate, *(symbols.shape for symbols, _ in frame.tensors)), []).append(n)
        for group in groups.values():
            for n, answer in zip(group, self._of_group([frames[n] for n in group]), strict=True):
                found[n] = answer
        return found

    @torch.no_grad()
    def answer_pictures(self, files: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the whole network's answer to each image file, in order; a CodecError for one it cannot take.

        Raises:
            NotServedError: if there is no image codec.
        """
        if (pictures := self._picture) is None:
            return super().answer_pictures(files)
        found: list[Any] = [tried(pictures.decode, file) for file in files]
        read = [n for n, each in enumerate(found) if not isinstance(each, CodecError)]
        groups = [[n] for n in read] if self.model.net.by_image else [read] if read else []
        for group in groups:
            batch = torch.from_numpy(pixels_of(np.stack([found[n] for n in group]))).to(like(self.model.net))
            answers = self._formed(self.model.predict(self.model.net.wanted(self.model.features(batch))))
            for n, answer in zip(group, answers, strict=True):
                found[n] = answer
        return found

    def warm_up(self) -> None:
        """Answer a payload of each rate, of a black image."""
        if self._picture is not None:
            channels, height, width = self._picture.image_shape
            self.answer_pictures([self._picture.encode(np.zeros((height, width, channels), np.uint8))])
        net = self.model.net
        image = torch.zeros(net.input_shape).to(like(net))
        if net.by_image or not self.model.device_steps():
            self.answer(self.model.compress([image]))
            return
        features = self.model.features(image[None])
        for rate, coder in enumerate(self.model.rates):
            self.answer([tag_message(coder.compress(features)[0], len(features), rate)])

    def _of_group(self, frames: Sequence[FrameTensors]) -> list[Answer | CodecError]:
        """Return the answers to frames of one rate and one shape."""
        try:
            return self._formed(self.model.predict(self._features(frames)))
        except CodecError as error:
            return [error] if len(frames) == 1 else [answer for each in frames for answer in self._of_group([each])]

    @torch.inference_mode()
    def _features(self, frames: Sequence[FrameTensors]) -> tuple[Tensor, ...]:
        """Return the reconstructed crossing tensors of frames of one rate and one shape."""
        coder, device = self.model.rates[frames[0].rate], like(self.model.net).device
        quantizers, latents = iter(coder.quantizers), list[Tensor]()
        columns = zip(*(frame.tensors for frame in frames), strict=True)
        for column, dtype, shape in zip(columns, self.model.net.dtypes, self.model.net.shapes, strict=True):
            symbols = [each for each, _ in column]
            if dtype.is_floating_point:
                floats = torch.tensor([each for _, each in column], dtype=torch.float32, device=device)
                latents.append(next(quantizers).dequantize(torch.from_numpy(np.stack(symbols)).to(device), floats))
            else:
                name = str(dtype).removeprefix("torch.")
                plain = np.stack([integers(each, name, is_scalar=not shape) for each in symbols])
                latents.append(torch.from_numpy(plain).to(device))
        return coder.restored(latents)

    def _apart(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the answers to payloads that don't decode together: decoded one by one, one tail for each size."""
        if self.model.net.by_image:
            return [answer for payload in payloads for answer in self.answer([payload])]
        found: list[Any] = [tried(self._decoded, payload) for payload in payloads]
        groups: dict[Any, list[int]] = {}
        for n, each in enumerate(found):
            if not isinstance(each, CodecError):
                groups.setdefault(tuple(tensor.shape for tensor in each), []).append(n)
        for group in groups.values():
            for n, answer in zip(group, self._predicted([found[n] for n in group]), strict=True):
                found[n] = answer
        return found

    def _decoded(self, payload: bytes) -> tuple[Tensor, ...]:
        if not payload:
            raise CodecError(_EMPTY)
        return self.model.features_hat([payload])

    def _predicted(self, images: Sequence[tuple[Tensor, ...]]) -> list[Answer | CodecError]:
        """Return the answers to reconstructed tensors of equal shapes, each `(1, …)`."""
        try:
            return self._formed(self.model.predict(tuple(torch.cat(tensors) for tensors in zip(*images, strict=True))))
        except CodecError as error:
            return [error] if len(images) == 1 else [answer for each in images for answer in self._predicted([each])]

    def _formed(self, output: Any) -> list[Answer | CodecError]:
        return self._answers(pytree.tree_map(_on_cpu, output))


def _on_cpu(leaf: Any) -> Any:
    return leaf.detach().cpu() if hasattr(leaf, "detach") else leaf
