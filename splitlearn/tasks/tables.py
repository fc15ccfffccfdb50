"""Callbacks that fit static code tables during training."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from splitlearn.codecs import RANS
from splitlearn.losses import FactorizedRate
from splitlearn.models import FeatureCoder


class StaticTables(Callback):
    """Refit the codec's tables to validation symbols after every validation; checkpoints contain the tables.

    Payloads then hold no tables, which saves up to a tenth of small latents. The tables are sent once with the weights,
    and their size is logged as `val/table_bytes`. Test images are never used. Payloads of the validation images that
    the tables are fitted to, which a sweep measures, are slightly smaller than those of other images.

    Args:
        images: number of validation images to fit the tables to.
    """

    trains_together: ClassVar[bool] = True

    def __init__(self, images: int = 2000) -> None:
        self.images = images
        self._symbols: list[list[NDArray[np.uint8]]] = []
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task's validation gives symbols.

        Raises:
            ValueError: if the model has no coder, or the task's validation gives no symbols.
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
        """Keep the symbols of a batch while more images are needed."""
        wanted = self.images - self._seen
        if wanted > 0:
            self._seen += len(batch[0])
            self._symbols.append([tensor[:wanted].cpu().numpy() for tensor in outputs["symbols"]])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the codecs of the model by codecs with tables fitted to the kept symbols."""
        coder = _coder(pl_module)
        codecs = tuple(
            codec.fitted((image for batch in batches for image in batch), quantizer.levels)
            for codec, quantizer, batches in zip(
                coder.codecs, coder.quantizers, zip(*self._symbols, strict=True), strict=True
            )
        )
        coder.codecs = trainer.strategy.broadcast(codecs)  # processes have validated different images
        pl_module.log("val/table_bytes", float(coder.table_bytes), sync_dist=True)


class LearntTables(Callback):
    """Set the tables of `RANS(per_channel=True)` to those of `FactorizedRate` after every validation.

    `DensityRANS(per_channel=True)`, also that of a `GainModel`, gets the density itself.

    Payloads then have the size that training minimised, and no symbols are counted. The tables are sent once with the
    weights, and their size is logged as `val/table_bytes`; checkpoints contain them. `StaticTables` counts validation
    symbols instead, for any codec and rate loss.
    """

    trains_together: ClassVar[bool] = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task trains with `FactorizedRate` and its model has the codec `RANS(per_channel=True)`.

        Raises:
            ValueError: if it has another rate loss or codec.
        """
        _learnt(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the codec of the model by one with the tables of the learnt density."""
        coder, codec, rate = _learnt(pl_module)
        coder.codecs = (codec.learnt(rate.tables(), rate.density()),)
        pl_module.log("val/table_bytes", float(coder.table_bytes))


def _learnt(module: LightningModule) -> tuple[FeatureCoder, RANS, FactorizedRate]:
    coder, rate = getattr(getattr(module, "model", None), "coder", None), getattr(module, "rate_loss", None)
    if coder is not None and isinstance(rate, FactorizedRate):
        (codec,) = coder.codecs
        if isinstance(codec, RANS) and codec.per_channel:
            return coder, codec, rate
    raise ValueError(
        "LearntTables needs a SplitModel trained with FactorizedRate and coded by RANS(per_channel=True): set "
        "rate_loss and codec accordingly, or use StaticTables"
    )


def _coder(module: LightningModule) -> FeatureCoder:
    coder: FeatureCoder | None = getattr(getattr(module, "model", None), "coder", None)
    if coder is None:
        raise ValueError("StaticTables needs a task with a SplitModel: other models have no codec of symbols")
    if not getattr(module, "validates_symbols", False):
        raise ValueError(
            f"StaticTables needs symbols of validation images, and a {type(module).__name__} has none: leave "
            "StaticTables out; payloads then contain their tables"
        )
    return coder
