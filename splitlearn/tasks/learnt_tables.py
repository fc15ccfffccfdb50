"""Static tables for the codec, from the density that a rate loss has learnt."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from splitlearn.codecs import RANS
from splitlearn.losses import FactorizedRate
from splitlearn.models import FeatureCoder


class LearntTables(Callback):
    """Give `RANS(per_channel=True)` the tables of `FactorizedRate` after every validation; each checkpoint has its own.

    What training minimised is then what is sent, and no symbols are counted. Their bytes, sent once with the weights,
    are logged as `val/table_bytes`. `StaticTables` counts validation symbols instead, for any codec and rate loss.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a task without the loss or the codec.

        Raises:
            ValueError: if the rate loss is not `FactorizedRate`, or the codec not `RANS(per_channel=True)`.
        """
        _parts(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model a codec with the density's tables."""
        coder, codec, rate = _parts(pl_module)
        coder.codecs = (codec.with_counts(rate.tables()),)
        pl_module.log("val/table_bytes", float(coder.table_bytes))


def _parts(module: LightningModule) -> tuple[FeatureCoder, RANS, FactorizedRate]:
    coder, rate = getattr(getattr(module, "model", None), "coder", None), getattr(module, "rate_loss", None)
    if coder is not None and isinstance(rate, FactorizedRate):
        (codec,) = coder.codecs
        if isinstance(codec, RANS) and codec.per_channel:
            return coder, codec, rate
    raise ValueError(
        "LearntTables needs a SplitModel that was trained with FactorizedRate, coded by RANS(per_channel=True): "
        "set rate_loss and codec so, or take StaticTables"
    )
