"""Tests of networks on videos: what is measured, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from splitlearn.codecs import ContextRANS
from splitlearn.data import Digits, Videos
from splitlearn.models import SplitModel, StreamModel
from splitlearn.quantizers import Step
from splitlearn.tasks import StreamTask
from tests.data.test_video import write_video
from tests.networks import halves
from tests.tasks.conftest import MakeTrainer

pytest.importorskip("av")


def cut() -> SplitModel:
    return SplitModel(halves("layer2"), Step(0.05, 256), ContextRANS()).eval()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mkv", 6)
    write_video(tmp_path / "b.mkv", 3)
    return tmp_path


def test_bytes_of_key_frames_and_of_others(videos: Path, make_trainer: MakeTrainer) -> None:
    model = StreamModel(cut())
    data = Videos(videos, 32, batch_size=4)
    (found,) = make_trainer(limit_test_batches=None).test(StreamTask(model), data, verbose=False)
    data.setup("test")
    sent, agreed = [], []
    sender, receiver = model.sender(), model.receiver()
    for images, frames in (data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()):
        if frames.first == 0:
            sender, receiver = model.sender(), model.receiver()
        found_now = sender.compress(images)
        output = receiver.decompress([frame.payload for frame in found_now])
        sent += found_now
        agreed.append(output.argmax(1) == model.unsplit(images).argmax(1))
    sizes = [len(frame.payload) for frame in sent]
    assert found["test/frames"] == 9
    assert (found["test/key_frames"], found["test/videos"]) == (2, 2)
    assert found["test/bytes_per_frame"] == found["test/bytes_per_image"] == pytest.approx(sum(sizes) / 9)
    assert found["test/bytes_per_key_frame"] == pytest.approx((sizes[0] + sizes[6]) / 2)
    assert found["test/bytes_per_delta_frame"] == pytest.approx((sum(sizes) - sizes[0] - sizes[6]) / 7)
    assert found["test/bytes_per_second"] == pytest.approx(sum(sizes) / 0.9)
    assert found["test/bits_per_pixel"] == pytest.approx(8 * sum(sizes) / 9 / 32**2)
    assert found["test/agreement"] == pytest.approx(float(torch.cat(agreed).float().mean()))


def test_key_frames_alone_have_no_others(videos: Path, make_trainer: MakeTrainer) -> None:
    task = StreamTask(StreamModel(cut(), key_every=1))
    trainer = make_trainer(limit_test_batches=None)
    (found,) = trainer.test(task, Videos(videos, 32), verbose=False)
    assert found["test/key_frames"] == found["test/frames"] == 9
    assert "test/bytes_per_delta_frame" not in found
    (again,) = trainer.test(task, Videos(videos, 32), verbose=False)
    assert again == found


def test_what_is_refused(videos: Path, make_trainer: MakeTrainer) -> None:
    with pytest.raises(TypeError, match=r"needs a model such as StreamModel\(SplitModel\(…\)\), got SplitModel"):
        StreamTask(cut())  # type: ignore[arg-type]
    task = StreamTask(StreamModel(cut()))
    with pytest.raises(ValueError, match="needs the frames of videos in their order: use Videos"):
        make_trainer().test(task, Digits(batch_size=4), verbose=False)
    with pytest.raises(ValueError, match="a StreamTask only measures on videos: run `test`"):
        make_trainer().fit(task, Videos(videos, 32))


def test_frames_that_are_left_out_are_noticed(videos: Path, make_trainer: MakeTrainer) -> None:
    class Shuffled(Videos):
        def test_dataloader(self) -> DataLoader[Any]:
            return DataLoader(list(super().test_dataloader())[::-1], batch_size=None)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"frame 2 of b\.mkv comes, and frame 0 of b\.mkv is due"):
        make_trainer(limit_test_batches=None).test(
            StreamTask(StreamModel(cut())), Shuffled(videos, 32, batch_size=2), verbose=False
        )
