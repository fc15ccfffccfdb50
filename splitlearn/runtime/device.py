"""The device part of a package: images to payloads, with numpy, numba and onnxruntime only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitlearn.codecs.budget import payload_within
from splitlearn.codecs.payload_coder import tag_message
from splitlearn.runtime.device_stream import DeviceStream
from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.forms import AnswerForm, TopClasses
from splitlearn.runtime.package_file import Package, PackageError
from splitlearn.runtime.picture_codec import PictureCodec
from splitlearn.runtime.preparation import Preparation
from splitlearn.runtime.streams import StreamOptions, stream_coder, warm_up

Tensors = list[NDArray[Any]]


class Device:
    """Runs the device part of a package made by `splitlearn package`, without torch.

    Converts uint8 images to payloads, or to the prediction of a confident early exit.

        image → normalize → head → confident exit? ─ no → encoder → latent → quantize → symbols → encode ═ payload
                                   └─ yes: its prediction, nothing is sent

    Payloads equal those of the packaged model's `compress` if the symbols are equal. A latent close to a quantizer
    threshold may get another symbol, because onnxruntime rounds floats differently from torch.

    Args:
        package: folder written by `splitlearn package`, or a `Package` that is already read.
        threads: number of threads of onnxruntime for one image.

    Attributes:
        package: the package.

    Raises:
        FileNotFoundError: if there is no such folder.
        PackageError: if it is no package, is damaged, or its device part cannot run without torch.
        MissingExtraError: if onnxruntime is not installed.
    """

    def __init__(self, package: str | Path | Package, threads: int = 1) -> None:
        self.package = package if isinstance(package, Package) else Package(package)
        if not self.package.steps:
            raise PackageError(
                f"the device half of {self.package.folder} needs torch ({self.package.device_reason}): "
                "give its config or checkpoint too, as --config or --ckpt_path"
            )
        self._steps = [(step, self.package.graph(step.file, threads)) for step in self.package.steps]
        self._form: AnswerForm = self.package.form() if self.has_exits else TopClasses()
        self._encoders = self.package.graphs([rate.encoder for rate in self.package.rates], threads)

    def prepare(self, picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a photograph at the network's size, with the same resizing and cropping as in the model's test.

        Args:
            picture: a PIL picture, or uint8 `(H, W, C)` of any size, with 1 or 3 channels.

        Returns:
            uint8 `(H, W, C)` of the network's size, grey with C = 1 if the network takes grey images.

        Raises:
            ValueError: if it is no RGB picture, or the package does not say how to prepare pictures of other sizes.
        """
        channels, height, width = self.package.image_shape
        found = prepared(picture, self.package.preparation or (), channels)
        if self.package.preparation is None and found.shape[:2] != (height, width):
            raise ValueError(
                f"this package does not say how pictures of other sizes than {height}×{width} are prepared: bring them "
                "to that size, or register your view with splitlearn.runtime.views.preparation_of and package again"
            )
        return self._checked(found)

    def compress(
        self, image: NDArray[np.uint8], rate: int | None = None, budget: int | None = None
    ) -> bytes | ExitPrediction:
        """Return the payload of one image, or the prediction of the first confident exit.

        Args:
            image: uint8 `(H, W, 3)` of the network's size; see `prepare`.
            rate: number of the rate; by default, without `budget` too, those of the packaged model, or else the rate
                with the highest score.
            budget: largest payload in bytes; among the rates whose payload fits, the one with the highest score is
                used.

        Raises:
            BudgetError: if the payload is larger than the budget at every rate.
            ValueError: if the image has another shape or type, or a latent holds NaN or infinity; or if `rate` or
                `budget` is out of range, or both are given.
        """
        order, budget = self._order(rate, budget)
        tensors = self._run(image)
        if isinstance(tensors, ExitPrediction):
            return tensors
        if budget is None:
            return self._payload(tensors, order[0])
        return payload_within(budget, order, lambda rate: self._payload(tensors, rate))[1]

    def stream(
        self,
        *,
        margin: float = 0.0,
        key_every: int | None = 250,
        key_bytes: int | None = None,
        skip: float = 0.0,
        rate: int | None = None,
    ) -> DeviceStream:
        """Return a new stream, for the frames of one video.

        Args:
            margin: hysteresis of the quantizers, 0…0.5, in distances of levels; 0 sends what each frame alone would.
            key_every: most frames from one key frame to the next; None sends them on request only.
            key_bytes: most bytes of frames after a key frame; then comes the next one. None sets no limit.
            skip: share of symbols, 0…1; a frame in which no more have changed gets the answer of the one before.
            rate: number of the rate; by default that of the packaged model, or else the one with the highest score.

        Raises:
            ValueError: if an option or the rate is out of range, or no codec of the rate takes a reference; the message
                names the remedy.
        """
        number = self._order(rate, None)[0][0]
        options = StreamOptions(margin, key_every, key_bytes, skip)
        return DeviceStream(partial(self._latents_at, number), self.package.rates[number].coder, number, options)

    def local_answer(self, image: NDArray[np.uint8]) -> ExitPrediction:
        """Return the prediction of the first confident exit, or of the last one: what can be known without a link.

        Args:
            image: uint8 `(H, W, 3)` of the network's size; see `prepare`.

        Raises:
            ValueError: if the package has no exits, or the image has another shape or type.
        """
        if (found := self._asked(image)[0]) is None:
            raise ValueError("this package has no exits: its images cannot be answered without a link")
        return found

    def exited(self, image: NDArray[np.uint8]) -> ExitPrediction | None:
        """Return the prediction of the first confident exit; None if no exit is confident, or there are no exits.

        Args:
            image: uint8 `(H, W, 3)` of the network's size; see `prepare`.

        Raises:
            ValueError: if the image has another shape or type.
        """
        found, is_confident = self._asked(image)
        return found if is_confident else None

    def picture(self, image: NDArray[np.uint8]) -> bytes:
        """Return the image as a file, for the whole network on the edge server; no exit is asked.

        Args:
            image: uint8 `(H, W, 3)` of the network's size; see `prepare`.

        Raises:
            ValueError: if the package has no image codec, or the image has another shape or type.
        """
        return encoded(self.package.picture, self._checked(image))

    @property
    def has_exits(self) -> bool:
        """Return whether the device can answer by itself."""
        return any(step.threshold is not None for step, _ in self._steps)

    def latents(self, image: NDArray[np.uint8], rate: int = 0) -> Tensors:
        """Return the latents of one image at a rate, also if an early exit is confident.

        Returns:
            List of arrays without a batch dimension, one per crossing tensor.
        """
        return self._latents(self.crossing(image), rate)

    def crossing(self, image: NDArray[np.uint8]) -> Tensors:
        """Return the output of the last step for one image, `(1, …)`, also if an early exit is confident.

        These are the crossing tensors, or the latents if the graph contains the encoder.
        """
        tensors: Tensors = [self._input(image)]
        for step, graph in self._steps:
            tensors = graph.run(tensors)
            tensors = tensors if step.threshold is None else tensors[2:]
        return tensors

    def warm_up(self) -> None:
        """Compile the codecs of all rates and run each graph once, so that the first image is as fast as the others."""
        image = np.zeros((*self.package.image_shape[1:], self.package.image_shape[0]), np.uint8)
        for rate, about in enumerate(self.package.rates):
            about.coder.encode(latents := self.latents(image, rate))
            if about.takes_streams:
                warm_up(stream_coder(about.coder, rate), latents)

    def _run(self, image: NDArray[np.uint8]) -> Tensors | ExitPrediction:
        """Return the output of the last step for one image, or the prediction of the first confident exit."""
        tensors: Tensors = [self._input(image)]
        for number, (step, graph) in enumerate(self._steps):
            tensors = graph.run(tensors)
            if step.threshold is not None:
                found, tensors = self._at_exit(number, tensors)
                if _is_confident(found, step.threshold):
                    return found
        return tensors

    def _latents_at(self, rate: int, image: NDArray[np.uint8]) -> Tensors | ExitPrediction:
        tensors = self._run(image)
        return tensors if isinstance(tensors, ExitPrediction) else self._latents(tensors, rate)

    def _asked(self, image: NDArray[np.uint8]) -> tuple[ExitPrediction | None, bool]:
        """Return the prediction of the first confident exit, or else of the last one, and whether it is confident."""
        found: ExitPrediction | None = None
        tensors: Tensors = [self._input(image)]
        for number, (step, graph) in enumerate(self._steps):
            if step.threshold is None:  # beyond the last exit
                break
            found, tensors = self._at_exit(number, graph.run(tensors))
            if _is_confident(found, step.threshold):
                return found, True
        return found, False

    def _order(self, rate: int | None, budget: int | None) -> tuple[list[int], int | None]:
        """Return the numbers of the rates to try, and the budget."""
        count = len(self.package.rates)
        if rate is not None and budget is not None:
            raise ValueError(f"take a rate or a budget, not both: got rate={rate} and budget={budget}")
        if rate is not None and rate not in range(count):
            raise ValueError(f"this package has rates 0…{count - 1}, got {rate}")
        if budget is not None and not budget >= 1:
            raise ValueError(f"a budget must be 1 byte or more, got {budget}")
        if rate is None and budget is None:
            rate, budget = self.package.default_rate, self.package.default_budget
        return self.package.by_score if rate is None else [rate], budget

    def _input(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = self._checked(image).transpose(2, 0, 1)[None].astype(np.float32)
        pixels /= np.float32(255)
        return pixels

    def _checked(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        channels, height, width = self.package.image_shape
        expected = (height, width, channels)
        image = checked_image(image)
        if image.shape != expected:
            raise ValueError(
                f"this package takes images {expected}, got {image.shape}: bring it to that size, with device.prepare "
                "say"
            )
        return image

    def _at_exit(self, number: int, outputs: Tensors) -> tuple[ExitPrediction, Tensors]:
        """Return the prediction of an exit, and the tensors that the next step takes."""
        logits, confidence, *others = outputs
        return ExitPrediction(number, logits[0], float(confidence[0]), self._form), others

    def _latents(self, crossing: Tensors, rate: int) -> Tensors:
        encoder = self._encoders[rate]
        return [tensor[0] for tensor in (crossing if encoder is None else encoder.run(crossing))]

    def _payload(self, crossing: Tensors, rate: int) -> bytes:
        coder = self.package.rates[rate].coder
        return tag_message(coder.encode(self._latents(crossing, rate)), len(coder.carriers), rate)


def _is_confident(found: ExitPrediction, threshold: float) -> bool:
    return threshold <= 0 or bool(np.float32(found.confidence) > np.float32(threshold))


def encoded(pictures: PictureCodec | None, image: NDArray[np.uint8]) -> bytes:
    """Return the file of an image of the network's size; raise ValueError if there is no codec."""
    if pictures is None:
        raise ValueError("this package has no image codec: package the model with --picture.format")
    return pictures.encode(image)


def prepared(
    picture: Image.Image | NDArray[np.uint8], steps: Sequence[Preparation], channels: int
) -> NDArray[np.uint8]:
    """Return a picture after the steps of its preparation, uint8 `(H, W, channels)`.

    Args:
        picture: a PIL picture, or uint8 `(H, W, C)`, with 1 or 3 channels.
        steps: steps of the preparation.
        channels: channels of the network's images: 1, grey, or 3, RGB.

    Raises:
        ValueError: if it is no such picture.
    """
    mode = "L" if channels == 1 else "RGB"
    if not isinstance(picture, Image.Image):
        pixels = checked_image(picture)
        if pixels.shape[2] not in (1, 3) or not pixels.size:
            raise ValueError(f"a picture is uint8 (H, W, 3) or (H, W, 1) and not empty, got {pixels.shape}")
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image = picture.convert(mode)
    for step in steps:
        image = step(image)
    made = np.asarray(image.convert(mode))
    return made[:, :, None] if channels == 1 else made


def checked_image(image: Any) -> NDArray[np.uint8]:
    """Return an image unchanged; raise ValueError unless it is a uint8 array `(H, W, 3)`."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        told = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        raise ValueError(f"an image is a uint8 array (H, W, 3), got {told}: convert it to 8-bit RGB")
    return image
