"""A distillation that two processes train together, on the CPU, as tests start it: FOLDER of images, and OUT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from splitlearn.tasks import DetectionScores
from tests.tasks.test_distillation import data, distillation


class Means(Callback):
    """Note the means of the images that this process trains on."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.found += [float(image.mean()) for image in batch[0]]


def main(images: str, out: str) -> None:
    """Train for an epoch, and leave what each process has: OUT/0.pt and OUT/1.pt."""
    task, means = distillation(scores=DetectionScores(1)), Means()
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        precision="bf16-mixed",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[means],
    )
    trainer.fit(task, data(Path(images)))
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    left = {"state": task.model.state_dict(), "means": means.found, "metrics": metrics}
    torch.save(left, Path(out) / f"{trainer.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
