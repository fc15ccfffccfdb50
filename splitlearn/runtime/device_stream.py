"""A video on its way from a device: frames to payloads, with what both ends remember of the frame before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import PayloadCoder, StreamSender, frame_kind
from splitlearn.codecs.stream import Tensor
from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.streams import StreamOptions, stream_coder

Latents = list[NDArray[Any]]


@dataclass(frozen=True)
class Frame:
    """Symbols of a frame, which become a payload when it is sent.

    Attributes:
        stream: the stream that it belongs to.
        tensors: symbols and floats of each tensor that crosses.
    """

    stream: DeviceStream
    tensors: Sequence[Tensor]


class DeviceStream:
    """Turns the frames of one video into payloads; made by `Device.stream` and `TorchDevice.stream`.

        image → head → encoder → latent → quantize, beside the frame before → symbols → key, delta or repeat frame

    Frames go to a server with `EdgeClient.ask_frame`, which makes each payload when it is sent, and sends a key frame
    wherever the server needs one. For a way of your own, `compress` returns payloads at once.

    Args:
        run: function from an image to its latents, or to the prediction of a confident exit.
        coder: coder of the rate.
        rate: number of the rate.
        options: of the stream.

    Attributes:
        rate: number of the rate.
        sender: makes the payloads; `request_key` makes the next one a key frame.

    Raises:
        ValueError: as `stream_coder`.
    """

    def __init__(
        self,
        run: Callable[[NDArray[np.uint8]], Latents | ExitPrediction],
        coder: PayloadCoder,
        rate: int,
        options: StreamOptions,
    ) -> None:
        self.rate = rate
        self.sender: StreamSender = stream_coder(coder, rate, options).sender()
        self._run = run
        self._before: list[Tensor] | None = None

    def frame(self, image: NDArray[np.uint8]) -> Frame | ExitPrediction:
        """Return the symbols of the next frame, or the prediction of the first confident exit.

        An exit's frame is not part of the stream.

        Args:
            image: uint8 `(H, W, 3)` of the network's size; see `Device.prepare`.

        Raises:
            ValueError: if the image has another shape or type, or a latent holds NaN or infinity.
        """
        found = self._run(image)
        if isinstance(found, ExitPrediction):
            return found
        self._before = self.sender.stream.quantized(found, self._before)
        return Frame(self, self._before)

    def compress(self, image: NDArray[np.uint8]) -> bytes | ExitPrediction:
        """Return the payload of the next frame, or the prediction of the first confident exit; raises as `frame`."""
        found = self.frame(image)
        return found if isinstance(found, ExitPrediction) else self.sender.pack(found.tensors)

    def kind(self, payload: bytes) -> str:
        """Return "key", "delta" or "repeat": what a payload of this stream is."""
        return frame_kind(payload)

    def request_key(self) -> None:
        """Make the next frame a key frame, because the receiver asks for one, or is another."""
        self.sender.request_key()
