"""Streams between devices and edge servers: their coders, what a server keeps of each, and answers to their frames."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import CodecError, PayloadCoder, StreamCoder, StreamState
from splitlearn.codecs.stream import Tensor
from splitlearn.runtime.errors import NotServedError

if TYPE_CHECKING:
    from splitlearn.runtime.protocol import Request

SIZES_VARY = (
    "the frames of a stream have one size, and this network takes images of any: send each frame by itself, "
    "--key_every 1"
)
REMEDY = (
    "package the model with ContextRANS, as splitlearn calibrate does by default, or send each frame by itself, "
    "--key_every 1"
)


class StreamOptions(NamedTuple):
    """How the frames of a video are sent; see `StreamCoder`.

    Attributes:
        margin: hysteresis of the quantizers, 0…0.5, in distances of levels; 0 sends what each frame alone would send.
        key_every: most frames from one key frame to the next; None sends them on request only.
        key_bytes: most bytes of frames after a key frame; then comes the next one. None sets no limit.
        skip: share of symbols, 0…1; a frame in which no more have changed gets the answer of the one before.
    """

    margin: float = 0.0
    key_every: int | None = 250
    key_bytes: int | None = None
    skip: float = 0.0


DEFAULTS = StreamOptions()


def stream_coder(coder: PayloadCoder, rate: int, options: StreamOptions = DEFAULTS) -> StreamCoder:
    """Return the coder of streams at one rate of a package; frames of other rates have other checksums.

    Args:
        coder: coder of the rate.
        rate: its number.
        options: matters to senders only.

    Raises:
        ValueError: if an option is out of range, the network takes images of several sizes, or no codec of the rate
            takes a reference; the message names the remedy.
    """
    if coder.shapes is None:
        raise ValueError(SIZES_VARY)
    if not takes_reference(coder):
        names = ", ".join(dict.fromkeys(type(carrier.codec).__name__ for carrier in coder.carriers))
        raise ValueError(f"the codec of this package, {names}, takes no reference to the frame before: {REMEDY}")
    return StreamCoder(replace(coder, context=zlib.crc32(bytes([rate]), coder.context)), *options)


def takes_reference(coder: PayloadCoder) -> bool:
    """Return whether a codec here can code a frame beside the one before."""
    return any(carrier.codec.takes_reference for carrier in coder.carriers)


def warm_up(stream: StreamCoder, latents: Sequence[NDArray[Any]]) -> None:
    """Compile what codes and reads key frames and deltas, so that the first ones are as fast as others."""
    tensors = stream.quantized(latents)
    sender, receiver = stream.sender(), stream.receiver()
    for each in (tensors, [(1 - np.minimum(symbols, 1), floats) for symbols, floats in tensors]):
        receiver.read(sender.pack(each))


class StreamCoders:
    """How frames are read at each rate, on an edge server.

    Args:
        coders: coder of each rate.
    """

    def __init__(self, coders: Sequence[PayloadCoder]) -> None:
        self._coders = coders
        self._made: dict[int, StreamCoder] = {}

    def of(self, rate: int) -> StreamCoder:
        """Return the coder of a rate; raises as `Edge.stream_coder`."""
        if rate not in self._made:
            if rate >= len(self._coders):
                raise CodecError(f"the frame names rate {rate} of {len(self._coders)}: it is of another bank")
            try:
                self._made[rate] = stream_coder(self._coders[rate], rate)
            except ValueError as error:
                raise NotServedError(str(error)) from error
        return self._made[rate]


class Kept(NamedTuple):
    """What a server keeps of a stream between two frames.

    Attributes:
        rate: number of the rate at which it is coded.
        state: number and symbols of its last frame.
        answer: arrays of the answer to it, as `write_arrays` makes them; None if the edge has failed on it.
    """

    rate: int
    state: StreamState
    answer: bytes | None


@dataclass(eq=False)
class ServerStream:
    """The stream of one connection.

    Attributes:
        kept: of its last frame; None before the first.
        is_busy: whether frames of it are at the edge, so that those behind them must wait.
    """

    kept: Kept | None = None
    is_busy: bool = False


class Batch(NamedTuple):
    """Requests that are answered together.

    Attributes:
        requests: in the order in which they came.
        streams: for each request the number of its stream in `kept`; any number if it is no frame of a stream.
        kept: what is kept of each stream in the batch.
    """

    requests: Sequence[Request]
    streams: Sequence[int] = ()
    kept: Sequence[Kept | None] = ()


class FrameTensors(NamedTuple):
    """A frame that is read: rate, and symbols and floats of each tensor."""

    rate: int
    tensors: Sequence[Tensor]
