"""Lightning module for tests of networks on videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from splitlearn.models import FrameReceiver, FrameSender, SentFrame, VideoModel
from splitlearn.outputs import Frames
from splitlearn.tasks.agreement import ClassAgreement
from splitlearn.tasks.precision import check_precision, full_precision
from splitlearn.tasks.student_scores import StudentScores

Batch = tuple[Tensor, Frames]


class StreamTask(LightningModule):
    """Test a network on videos: real payloads, each decoded beside the frame before, and agreement without labels.

        frames → sender ═ payloads ═ receiver → output ↔ output of the unsplit network

    Every video has a sender and a receiver of its own and begins with a key frame. Logs `test/bytes_per_frame` (headers
    counted; the same as `test/bytes_per_image`), `test/bytes_per_key_frame`, `test/bytes_per_delta_frame` (all frames
    that are no key frames), `test/bytes_per_second` of the video as it is shown, `test/bits_per_pixel`, the numbers
    `test/frames`, `test/key_frames` and `test/videos`, `test/table_bytes`, and `test/agreement`.

    Args:
        model: a network with a stream: `StreamModel`, or `TiledVideo` and `PixelVideo` to compare with.
        agreement: agreement of answers from payloads with those of the unsplit network; by default `ClassAgreement`,
            for detectors `BoxAgreement`.

    Raises:
        TypeError: if the model has no stream.
    """

    def __init__(self, model: VideoModel, agreement: StudentScores | None = None) -> None:
        super().__init__()
        if not isinstance(model, VideoModel):
            raise TypeError(
                f"a StreamTask needs a model such as StreamModel(SplitModel(…)), got {type(model).__name__}: wrap it"
            )
        self.model = model
        self.agreement = ClassAgreement() if agreement is None else agreement
        self._sizes = StreamSizes()
        self._ends: tuple[FrameSender, FrameReceiver] | None = None
        self._due = ("", 0)

    def setup(self, stage: str) -> None:
        """Check precision and processes.

        Raises:
            ValueError: if boxes would be rounded, or several processes would each get a part of a video.
        """
        check_precision(self.trainer, self.agreement.of_boxes)
        if self.trainer.world_size > 1:
            raise ValueError("frames of a video follow each other: test in one process, --trainer.devices 1")

    def on_test_epoch_start(self) -> None:
        """Forget what an earlier test has seen."""
        self._sizes, self._ends = StreamSizes(), None
        self.agreement.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Send the frames of a batch, and count their sizes and the answers.

        Raises:
            ValueError: if the data are no videos, or frames are missing.
        """
        images, frames = batch
        sender, receiver = self._ends_of(frames)
        with full_precision(self.device):
            sent = sender.compress(images)
            output = receiver.decompress([frame.payload for frame in sent])
            self.agreement.update(output, self.model.unsplit(images))
        self._sizes.count(sent, images[0, 0].numel(), frames)

    def _ends_of(self, frames: Frames) -> tuple[FrameSender, FrameReceiver]:
        """Return sender and receiver of the video that a batch goes on with."""
        if not isinstance(frames, Frames):
            raise ValueError("a StreamTask needs the frames of videos in their order: use Videos or LetterboxVideos")
        if self._ends is None or frames.first == 0:
            self._ends, self._due = (self.model.sender(), self.model.receiver()), (frames.video, 0)
        if (frames.video, frames.first) != self._due:
            raise ValueError(
                f"frame {frames.first} of {frames.video} comes, and frame {self._due[1]} of {self._due[0]} is due: a "
                "stream needs all frames in their order"
            )
        self._due = frames.video, frames.first + len(frames.seconds)
        return self._ends

    def on_test_epoch_end(self) -> None:
        """Log sizes and agreement."""
        found = self._sizes.figures()
        if (table_bytes := self.model.table_bytes) is not None:
            found["table_bytes"] = table_bytes
        self.log_dict({f"test/{name}": torch.tensor(value, dtype=torch.float64) for name, value in found.items()})
        self.agreement.log_to(self, "test")

    def prepare_data(self) -> None:
        """Refuse all but `test` before data are read."""
        if self.trainer.state.fn != "test":
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise ValueError("a StreamTask only measures on videos: run `test`, and train or predict in another task")

    # defined since Lightning looks for them before `prepare_data`, with an obscure message if they are absent
    training_step = validation_step = predict_step = configure_optimizers = _refuse


@dataclass
class StreamSizes:
    """Counts of what has been sent of videos.

    Attributes:
        videos: number of videos.
        frames: number of frames.
        key_frames: number of key frames.
        bytes: of all payloads.
        key_bytes: of the payloads of key frames.
        seconds: for which the frames are shown.
        pixels: of all frames, of the network's input.
    """

    videos: int = 0
    frames: int = 0
    key_frames: int = 0
    bytes: int = 0
    key_bytes: int = 0
    seconds: float = 0.0
    pixels: int = 0

    def count(self, sent: list[SentFrame], pixels: int, frames: Frames) -> None:
        """Count the frames of a batch, each of so many pixels."""
        self.videos += frames.first == 0
        self.frames += len(sent)
        self.key_frames += sum(frame.is_key for frame in sent)
        self.bytes += sum(len(frame.payload) for frame in sent)
        self.key_bytes += sum(len(frame.payload) for frame in sent if frame.is_key)
        self.seconds += sum(frames.seconds)
        self.pixels += pixels * len(sent)

    def figures(self) -> dict[str, float]:
        """Return the means and numbers by name; those that nothing is known of are left out."""
        mean, others = self.bytes / max(1, self.frames), self.frames - self.key_frames
        found = {
            "bytes_per_frame": mean,
            "bytes_per_image": mean,
            "bits_per_pixel": 8 * self.bytes / max(1, self.pixels),
            "frames": self.frames,
            "key_frames": self.key_frames,
            "videos": self.videos,
        }
        if self.key_frames:
            found["bytes_per_key_frame"] = self.key_bytes / self.key_frames
        if others:
            found["bytes_per_delta_frame"] = (self.bytes - self.key_bytes) / others
        if self.seconds:
            found["bytes_per_second"] = self.bytes / self.seconds
        return found
