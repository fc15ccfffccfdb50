"""The device part of a model in torch, for networks whose head cannot be exported to ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from splitlearn.models import CutModel, EarlyExitModel, FeatureCoder
from splitlearn.models.images import like
from splitlearn.runtime.device import checked_image, encoded, prepared
from splitlearn.runtime.device_stream import DeviceStream
from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.picture_codec import PictureCodec
from splitlearn.runtime.preparation import Preparation
from splitlearn.runtime.streams import StreamOptions


class TorchDevice:
    """Runs the device part of a model in torch, with the methods of `Device`.

    Args:
        model: a trained model; it is put into eval mode.
        preparation: steps from a photograph to the network's input; None for no change.
        picture: codec of whole images; None if they are not sent.
    """

    def __init__(
        self,
        model: CutModel,
        preparation: Sequence[Preparation] | None = None,
        picture: PictureCodec | None = None,
    ) -> None:
        self.model, self._preparation, self._picture = model.eval(), preparation, picture

    def prepare(self, picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a photograph at the network's size, uint8 `(H, W, C)`, as in `Device.prepare`."""
        return prepared(picture, self._preparation or (), self.model.net.input_shape[0])

    def compress(
        self, image: NDArray[np.uint8], rate: int | None = None, budget: int | None = None
    ) -> bytes | ExitPrediction:
        """Return the payload of an image, or the prediction of a confident exit; arguments as in `Device.compress`."""
        batch = self._batch(image)
        chosen: dict[str, Any] = {name: n for name, n in (("rate", rate), ("budget", budget)) if n is not None}
        if len(self.model.rates) == 1 and chosen:
            if chosen != {"rate": 0}:
                raise ValueError("this model has a single rate: leave rate and budget out")
            chosen = {}
        [payload] = self.model.compress([batch], **chosen)
        return payload or self.exited(image) or payload

    def stream(
        self,
        *,
        margin: float = 0.0,
        key_every: int | None = 250,
        key_bytes: int | None = None,
        skip: float = 0.0,
        rate: int | None = None,
    ) -> DeviceStream:
        """Return a new stream, for the frames of one video; arguments and errors are those of `Device.stream`."""
        number = self._best() if rate is None else rate
        if not 0 <= number < len(self.model.rates):
            raise ValueError(f"this model has rates 0…{len(self.model.rates) - 1}, got {rate}")
        coder, options = self.model.rates[number], StreamOptions(margin, key_every, key_bytes, skip)
        return DeviceStream(partial(self._latents, coder), coder.numpy_half, number, options)

    def exited(self, image: NDArray[np.uint8]) -> ExitPrediction | None:
        """Return the prediction of the first confident exit, or None, as `Device.exited`."""
        if not self.has_exits:
            return None
        model = cast("EarlyExitModel", self.model)
        decisions = model.decide(self._batch(image)[None])
        number = int(decisions.exits[0])
        return None if number == len(model.exits) else self._prediction(number, decisions.logits[0])

    def picture(self, image: NDArray[np.uint8]) -> bytes:
        """Return the image as a file, as `Device.picture`."""
        return encoded(self._picture, checked_image(image))

    @torch.no_grad()
    def local_answer(self, image: NDArray[np.uint8]) -> ExitPrediction:
        """Return the prediction of the first confident exit, or of the last one; errors are those of `Device`."""
        if not self.has_exits:
            raise ValueError("this model has no exits: its images cannot be answered without a link")
        model = cast("EarlyExitModel", self.model)
        found = model.run(self._batch(image)[None]).exits
        number = next((n for n, logits in enumerate(found) if bool(model.sure(logits, n))), len(found) - 1)
        return self._prediction(number, found[number][0])

    @property
    def has_exits(self) -> bool:
        """Return whether the device can answer by itself."""
        return self.model.exits_early

    @torch.inference_mode()
    def _latents(self, coder: FeatureCoder, image: NDArray[np.uint8]) -> list[NDArray[Any]] | ExitPrediction:
        if (found := self.exited(image)) is not None:
            return found
        tensors = [tensor[0].cpu() for tensor in coder.encoded(self.model.features(self._batch(image)[None]))]
        return [tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy() for tensor in tensors]

    def _best(self) -> int:
        """Return the number of the rate of a stream for which none is chosen."""
        model = self.model
        if model.rate is not None:
            return model.rate
        scores = [(point.score, -point.bytes_per_image) for point in model.points]
        return scores.index(max(scores)) if scores else len(model.rates) - 1

    def _batch(self, image: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(checked_image(image).transpose(2, 0, 1).copy())
        return (pixels / 255).to(like(self.model.net))

    def _prediction(self, number: int, logits: Tensor) -> ExitPrediction:
        model = cast("EarlyExitModel", self.model)
        confidence = float(model.confidence(logits[None].float() / model.temperatures[number]))
        return ExitPrediction(number, logits.cpu().numpy(), confidence)
