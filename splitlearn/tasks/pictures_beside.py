"""Callback that measures beside a bottleneck what pictures of the same images cost."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from splitlearn.codecs import ImageFile
from splitlearn.metrics import BytesPerImage
from splitlearn.models import CoderModel, InputModel
from splitlearn.tasks.precision import full_precision
from splitlearn.tasks.self_distillation import SelfDistillationTask
from splitlearn.tasks.student_scores import StudentScores

__all__ = ["PicturesBeside"]

QUALITIES = {"WebP": (10, 30, 50, 70, 90), "JPEG": (10, 30, 50, 70, 90)}


class PicturesBeside(Callback):
    """Test pictures beside a bottleneck: send every image as a file to the whole network, at several qualities.

    Logs for each `test/WebP_50/bytes_per_image` and `test/WebP_50/agreement`, as a `SelfDistillationTask` does for its
    own payloads: the bottleneck pays if it has fewer bytes at the same agreement with the network on exact images.

    Args:
        qualities: qualities of each format, as of `ImageFile`; by default WebP and JPEG at 10, 30, 50, 70 and 90.

    Raises:
        ValueError: if no format is named, or a format or quality does not exist.
    """

    def __init__(self, qualities: Mapping[str, Sequence[int]] | None = None) -> None:
        named = QUALITIES if qualities is None else qualities
        self.codecs = {f"{name}_{quality}": ImageFile(name, quality) for name in named for quality in named[name]}
        if not self.codecs:
            raise ValueError("no picture is measured: name formats and their qualities, such as {WebP: [30, 50]}")
        self._models: dict[str, InputModel] = {}
        self._scores: dict[str, StudentScores] = {}
        self._sizes: dict[str, BytesPerImage] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin counting.

        Raises ValueError if the task does not measure agreement.
        """
        if not isinstance(pl_module, SelfDistillationTask):
            raise ValueError(
                f"PicturesBeside compares agreements, which a {type(pl_module).__name__} does not measure: use it with "
                "a SelfDistillationTask"
            )
        pl_module.agreement.reset()
        self._uncut = _Uncut(pl_module.model)
        self._models = {name: InputModel(self._uncut, codec).eval() for name, codec in self.codecs.items()}
        self._scores = {name: copy.deepcopy(pl_module.agreement) for name in self.codecs}
        self._sizes = {name: BytesPerImage().to(pl_module.device) for name in self.codecs}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch of images in [0, 1] in every format."""
        images = batch[0]
        with full_precision(pl_module.device), torch.inference_mode():
            wanted = self._uncut(images)
            for name, model in self._models.items():
                files = model.compress(images)
                self._sizes[name].update(files)
                self._scores[name].update(model.decompress(files), wanted)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log sizes and agreements."""
        for name in self.codecs:
            pl_module.log(f"test/{name}/bytes_per_image", self._sizes[name].compute(), sync_dist=True)
            self._scores[name].log_to(pl_module, "test/" + name)


class _Uncut(nn.Module):
    """A cut network as the teacher runs it, from images in [0, 1] to its output."""

    def __init__(self, model: CoderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """Return the output."""
        return self.model.predict(self.model.wanted(images, self.model.features(images)))
