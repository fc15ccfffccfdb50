"""Static tables for the codec, learnt while training."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from splitlearn.models import FeatureCoder
from splitlearn.tasks.training import TrainingTask


class StaticTables(Callback):
    """Refit the codec's tables on validation symbols after every validation, so that each checkpoint carries its own.

    Payloads then hold no table, which on small latents saves up to a tenth; the tables' bytes, sent once with the
    weights, are logged as `val/table_bytes`. Test images are never looked at. Payloads of the very validation images
    that tables were learnt from, as a sweep measures them, are a trace smaller than those of other images.

    Args:
        images: how many validation images to learn from.
    """

    def __init__(self, images: int = 2000) -> None:
        self.images = images
        self._symbols: list[list[NDArray[np.uint8]]] = []
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to validate a task that gives no symbols.

        Raises:
            ValueError: if the model is no `SplitModel`, or the task no `TrainingTask`.
        """
        if stage in ("fit", "validate"):
            _coder(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last epoch's symbols."""
        self._symbols, self._seen = [], 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the symbols of a batch, until there are enough."""
        wanted = self.images - self._seen
        if wanted > 0:
            self._seen += len(batch[0])
            self._symbols.append([tensor[:wanted].cpu().numpy() for tensor in outputs["symbols"]])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model codecs of the same classes with tables for these symbols."""
        coder = _coder(pl_module)
        codecs = tuple(
            codec.fitted((image for batch in batches for image in batch), quantizer.levels)
            for codec, quantizer, batches in zip(
                coder.codecs, coder.quantizers, zip(*self._symbols, strict=True), strict=True
            )
        )
        coder.codecs = trainer.strategy.broadcast(codecs)  # every process has seen other images
        pl_module.log("val/table_bytes", float(coder.table_bytes), sync_dist=True)


def _coder(module: LightningModule) -> FeatureCoder:
    coder: FeatureCoder | None = getattr(getattr(module, "model", None), "coder", None)
    if coder is None:
        raise ValueError("StaticTables needs a task whose model is a SplitModel: nothing else has a codec of symbols")
    if not isinstance(module, TrainingTask):
        raise ValueError(
            f"StaticTables learns from the symbols that a ClassificationTask, say, makes in validation, and a "
            f"{type(module).__name__} makes none: leave StaticTables out; payloads then bring their tables along"
        )
    return coder
