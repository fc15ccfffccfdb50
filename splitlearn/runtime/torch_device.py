"""The device part of a model in torch, for networks whose head cannot be exported to ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from splitlearn.models import CutModel, EarlyExitModel
from splitlearn.models.images import like
from splitlearn.runtime.device import ExitPrediction, checked_image
from splitlearn.runtime.preparation import Preparation


class TorchDevice:
    """Runs the device part of a model in torch, with the methods of `Device`.

    Args:
        model: a trained model; it is put into eval mode.
        preparation: steps from a photograph to the network's input; None for no change.
    """

    def __init__(self, model: CutModel, preparation: Sequence[Preparation] | None = None) -> None:
        self.model, self._preparation = model.eval(), preparation

    def prepare(self, picture: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a photograph at the network's size, uint8 `(H, W, 3)`, as in `Device.prepare`."""
        image = (picture if isinstance(picture, Image.Image) else Image.fromarray(checked_image(picture))).convert(
            "RGB"
        )
        for step in self._preparation or ():
            image = step(image)
        return np.asarray(image)

    def compress(
        self, image: NDArray[np.uint8], rate: int | None = None, budget: int | None = None
    ) -> bytes | ExitPrediction:
        """Return the payload of an image, or the prediction of a confident exit; arguments as in `Device.compress`."""
        pixels = torch.from_numpy(np.ascontiguousarray(checked_image(image).transpose(2, 0, 1)))
        batch = (pixels / 255).to(like(self.model.net))
        chosen: dict[str, Any] = {name: n for name, n in (("rate", rate), ("budget", budget)) if n is not None}
        if chosen and len(self.model.rates) == 1:
            raise ValueError("this model has a single rate: leave rate and budget out")
        [payload] = self.model.compress([batch], **chosen)
        return payload if payload or not self.model.exits_early else self._left(batch[None])

    def _left(self, batch: Tensor) -> ExitPrediction:
        model = cast("EarlyExitModel", self.model)
        decisions = model.decide(batch)
        number, logits = int(decisions.exits[0]), decisions.logits[0]
        confidence = float(model.confidence(logits[None].float() / model.temperatures[number]))
        return ExitPrediction(number, logits.cpu().numpy(), confidence)
