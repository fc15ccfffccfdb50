"""Pictures measured beside a bottleneck: bytes of real files, and answers of the uncut network for what they show."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from splitlearn.codecs import ImageFile
from splitlearn.data import Digits
from splitlearn.models import InputModel
from splitlearn.tasks import ClassificationTask, PicturesBeside, SelfDistillationTask
from tests.networks import network
from tests.tasks.conftest import MakeTrainer
from tests.tasks.test_self_distillation import student


def test_pictures_are_measured_as_files_for_the_uncut_network(make_trainer: MakeTrainer, data: Digits) -> None:
    task = SelfDistillationTask(student())
    trainer = make_trainer(callbacks=[PicturesBeside({"WebP": [10, 90]})], limit_test_batches=2)
    trainer.test(task, data, verbose=False)
    batches = islice(data.test_dataloader(), 2)
    images = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in batches])
    with torch.no_grad():
        exact = task.model.net.tail(*task.model.features(images)).argmax(1)
        for quality in (10, 90):
            files = InputModel(network(), ImageFile("WebP", quality)).compress(images)
            size = sum(map(len, files)) / len(files)
            assert trainer.callback_metrics[f"test/WebP_{quality}/bytes_per_image"] == pytest.approx(size)
            whole = InputModel(torch.nn.Identity(), ImageFile("WebP", quality))
            seen = whole.decompress(files)
            equal = (task.model.net.tail(*task.model.features(seen)).argmax(1) == exact).float().mean()
            assert trainer.callback_metrics[f"test/WebP_{quality}/agreement"] == pytest.approx(float(equal))


def test_what_cannot_be_measured_is_refused(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(ValueError, match="name formats and their qualities"):
        PicturesBeside({})
    with pytest.raises(ValueError, match="WebQ"):
        PicturesBeside({"WebQ": [10]})
    trainer = make_trainer(callbacks=[PicturesBeside()])
    with pytest.raises(ValueError, match="PicturesBeside compares agreements, which a ClassificationTask does not"):
        trainer.test(ClassificationTask(InputModel(network()), 10), data, verbose=False)
