"""Payloads of a video: frames that tell only what has changed, and what both ends remember of it.

A key frame can be read by itself. Any other frame is coded beside the symbols of the frame before (`ContextRANS` with a
reference), or, if too little has changed, not at all: the receiver then keeps what it has. Layout, little-endian::

    1  0xD0 + kind: 0 key, 1 delta, 2 repeat
    4  sequence number, which wraps at 2³²
    4  CRC-32 of the symbols of the frame before; not in key frames
    …  key, delta: the containers of the tensors, chained as in an image's payload; repeat: 4 bytes, a checksum

All bytes in front take part in the checksums of the containers behind them, so that each changed byte is noticed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import CodecError, Payload
from splitlearn.codecs.container import as_bytes, join_parts, next_context, sealed
from splitlearn.codecs.payload_coder import Carrier, Part, PayloadCoder
from splitlearn.numpy_quantizers import Grid, StickyGrid

KEY, DELTA, REPEAT = 0, 1, 2
KINDS = ("key", "delta", "repeat")
MAGIC = 0xD0
WRAP = 1 << 32
KEY_START, START = 5, 9  # bytes in front of the containers
Tensor = tuple[NDArray[np.uint8], tuple[float, ...]]
"""Symbols, or bytes of integers, and the floats of the quantizer."""


class MissingReferenceError(CodecError):
    """A frame refers to one that is not here: the sender is to send a key frame."""


class LateFrameError(CodecError):
    """A frame was here already, or a later one was: it changes nothing, and nothing is to be sent for it."""


class StreamState(NamedTuple):
    """What a receiver remembers of a video: enough to go on with it elsewhere, in another process say.

    Attributes:
        sequence: number of the last frame that was read.
        tensors: its symbols and floats; not to be changed.
        checksum: CRC-32 of the symbols.
    """

    sequence: int
    tensors: Sequence[Tensor]
    checksum: int


def frame_kind(payload: Payload) -> str:
    """Return "key", "delta" or "repeat": what the first byte of a frame says.

    Raises:
        CodecError: if it is no frame of a stream.
    """
    return KINDS[_read_start(as_bytes(payload))[0]]


@dataclass(frozen=True)
class StreamCoder:
    """How the frames of a video become payloads, for a device without torch; both ends have an equal one.

    It keeps nothing of a video: `sender()` and `receiver()` return what remembers a frame, one for each connection.

    Args:
        coder: quantizers and codecs of the tensors that cross the cut.
        margin: hysteresis of the quantizers, 0…0.5, see `StickyGrid`; matters to senders only.
        key_every: most frames from one key frame to the next; None sends them on request only.
        key_bytes: most bytes of frames after a key frame; then comes the next one. None sets no limit.
        skip: share of symbols, 0…1; a frame in which no more have changed is a repeat of the one before.

    Raises:
        ValueError: if a number is out of range, no codec takes a reference, or a margin is given and a quantizer's
            levels depend on the frame.
    """

    coder: PayloadCoder
    margin: float = 0.0
    key_every: int | None = 250
    key_bytes: int | None = None
    skip: float = 0.0
    _sticky: tuple[StickyGrid | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("key_every", "key_bytes"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        if not (isinstance(self.skip, int | float) and 0 <= self.skip <= 1):
            raise ValueError(f"skip is a share of symbols, 0…1, got {self.skip!r}")
        if not (isinstance(self.margin, int | float) and 0 <= self.margin <= 0.5):
            raise ValueError(f"margin is 0…0.5, in distances of levels, got {self.margin!r}")
        if not any(carrier.codec.takes_reference for carrier in self.coder.carriers):
            names = ", ".join(type(carrier.codec).__name__ for carrier in self.coder.carriers)
            raise ValueError(f"no codec here takes the frame before as reference ({names}): use ContextRANS")
        sticky = tuple(self._sticky_of(carrier) for carrier in self.coder.carriers)
        object.__setattr__(self, "_sticky", sticky)

    def _sticky_of(self, carrier: Carrier) -> StickyGrid | None:
        grid = carrier.quantizer
        return StickyGrid(grid, self.margin) if self.margin and isinstance(grid, Grid) else None

    def quantized(self, latents: Sequence[NDArray[np.generic]], before: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Return symbols and floats of a frame, for `StreamSender.pack`.

        Args:
            latents: as of `PayloadCoder.encode`.
            before: the same of the frame before, whose symbols are kept within the margin; None for a first frame. It
                is ignored if latents have other shapes.

        Raises:
            ValueError: as `PayloadCoder.encode`.
        """
        pairs, tensors = self.coder.matched(latents), list[Tensor]()
        for index, ((latent, carrier), sticky) in enumerate(zip(pairs, self._sticky, strict=True)):
            if sticky is None:
                tensors.append(carrier.quantized(latent))
                continue
            known = None if before is None else before[index][0]
            known = known if known is not None and known.shape == np.shape(latent) else None
            tensors.append(sticky.quantize(latent, known))  # type: ignore[arg-type]
        return tensors

    def sender(self) -> StreamSender:
        """Return the sending end of a new video."""
        return StreamSender(self)

    def receiver(self, state: StreamState | None = None) -> StreamReceiver:
        """Return the receiving end of a new video, or of one that another receiver has read up to `state`."""
        return StreamReceiver(self, state)


class StreamSender:
    """Sending end of one video: remembers the symbols of its last frame, and nothing else of it.

    Attributes:
        sequence: number of the next frame, modulo 2³².
    """

    def __init__(self, stream: StreamCoder) -> None:
        self.stream, self.sequence = stream, 0
        self._last_key: int | None = None
        self._before: list[Tensor] | None = None
        self._state = 0
        self._frames = self._bytes = 0

    def request_key(self) -> None:
        """Make the next frame a key frame, because the receiver asks for one."""
        self._before = None

    def lost(self, sequence: int) -> None:
        """Note that the frame of this number was not read: the next one is a key frame, unless one was made since."""
        if self._last_key is None or (sequence - self._last_key) % WRAP < WRAP // 2:
            self.request_key()

    def encode(self, latents: Sequence[NDArray[np.generic]]) -> bytes:
        """Return the payload of the next frame.

        Args:
            latents: as of `PayloadCoder.encode`; every frame has the shapes of the first, or begins with a key frame.

        Raises:
            ValueError: as `PayloadCoder.encode`.
        """
        return self.pack(self.stream.quantized(latents, self._before))

    def pack(self, tensors: Sequence[Tensor]) -> bytes:
        """Return the payload of the next frame from its symbols, for those who quantize otherwise (torch's `Sticky`).

        Args:
            tensors: as of `PayloadCoder.pack`.

        Raises:
            ValueError: as `PayloadCoder.pack`.
        """
        stream, tensors = self.stream, list(tensors)
        if self._due() or not _alike(tensors, self._before):
            start = _start(KEY, self.sequence, 0)
            payload = start + _packed(stream.coder, tensors, None, zlib.crc32(start, stream.coder.context))
            return self._sent(payload, tensors, is_key=True)
        assert self._before is not None
        if _changed(tensors, self._before) <= stream.skip:
            start = _start(REPEAT, self.sequence, self._state)
            check = zlib.crc32(start, stream.coder.context)
            return self._sent(start + check.to_bytes(4, "little"), self._before, is_key=False)
        start = _start(DELTA, self.sequence, self._state)
        payload = start + _packed(stream.coder, tensors, self._before, zlib.crc32(start, stream.coder.context))
        return self._sent(payload, tensors, is_key=False)

    def _due(self) -> bool:
        """Return whether a key frame is to come."""
        stream = self.stream
        old = stream.key_every is not None and self._frames >= stream.key_every
        return self._before is None or old or (stream.key_bytes is not None and self._bytes >= stream.key_bytes)

    def _sent(self, payload: bytes, tensors: list[Tensor], *, is_key: bool) -> bytes:
        """Remember a frame that is sent."""
        if is_key:
            self._last_key = self.sequence
            self._frames = self._bytes = 0
        else:
            self._bytes += len(payload)
        self._frames += 1
        if tensors is not self._before:
            kept = [(symbols.copy(), floats) for symbols, floats in tensors]  # the caller may write to its own again
            self._before, self._state = kept, _state(kept)
        self.sequence = (self.sequence + 1) % WRAP
        return payload


class StreamReceiver:
    """Receiving end of one video: remembers the symbols of its last frame, and nothing else of it.

    Attributes:
        state: what it remembers; None before the first frame.
    """

    def __init__(self, stream: StreamCoder, state: StreamState | None = None) -> None:
        self.stream, self.state = stream, state

    @property
    def sequence(self) -> int | None:
        """Number of the last frame that was read; None before the first."""
        return None if self.state is None else self.state.sequence

    def unpack(self, payload: Payload) -> list[Tensor]:
        """Return symbols and floats of the next frame; raises as `read`."""
        return [(symbols.copy(), floats) for symbols, floats in self.read(payload).tensors]

    def read(self, payload: Payload) -> StreamState:
        """Return the new `state`, of the next frame; nothing is remembered of a payload that is refused.

        Raises:
            MissingReferenceError: if the frame before is not here, since it was lost, or damaged, or never sent. All
                frames up to the next key frame are refused.
            LateFrameError: if this frame or a later one was here already.
            CodecError: if the payload is damaged, or other quantizers or codecs made it.
        """
        payload = as_bytes(payload)
        kind, sequence, state, start = _read_start(payload)
        coder, rest = self.stream.coder, payload[len(start) :]
        context = zlib.crc32(start, coder.context)
        if kind == REPEAT and rest != context.to_bytes(4, "little"):
            raise CodecError("the payload is damaged, or of another stream: its checksum is wrong")
        parts = [] if kind == REPEAT else replace(coder, context=context).read(rest)
        known = self._reference(kind, sequence, state)
        if known is not None and kind == REPEAT:
            self.state = known._replace(sequence=sequence)
        else:
            tensors = []
            for index, part in enumerate(parts):
                symbols = _decoded(part, None if known is None else known.tensors[index][0])
                tensors.append((symbols, part.header.floats))
            self.state = StreamState(sequence, tensors, _state(tensors))
        return self.state

    def decode(self, payload: Payload) -> list[NDArray[np.generic]]:
        """Return the latents of the next frame, as `PayloadCoder.decode`; raises as `read`."""
        tensors = self.unpack(payload)
        return [c.restored(*tensor) for c, tensor in zip(self.stream.coder.carriers, tensors, strict=True)]

    def _reference(self, kind: int, sequence: int, checksum: int) -> StreamState | None:
        """Return the frame that this one refers to, None for a key frame.

        Raises MissingReferenceError or LateFrameError if this one cannot be read now.
        """
        known = self.state
        if known is None:
            if kind != KEY:
                raise MissingReferenceError(
                    f"frame {sequence} tells what has changed, and no frame is here yet: send a key frame"
                )
            return None
        ahead = (sequence - known.sequence) % WRAP
        if not 0 < ahead < WRAP // 2:
            what = "was here already" if ahead == 0 else f"comes after frame {known.sequence}"
            raise LateFrameError(f"frame {sequence} {what}: it is left out")
        if kind == KEY:
            return None
        if checksum != known.checksum:
            raise MissingReferenceError(
                f"frame {sequence} tells what has changed since another frame than the last one here, "
                f"{known.sequence}: send a key frame"
            )
        return known


def is_key(payload: bytes) -> bool:
    """Return whether a frame can be read without the ones before."""
    return payload[:1] == bytes((MAGIC + KEY,))


def _packed(coder: PayloadCoder, tensors: Sequence[Tensor], before: Sequence[Tensor] | None, context: int) -> bytes:
    """Return the containers of a frame, coded beside the symbols of the one before if it is given."""
    parts = []
    for index, ((symbols, floats), carrier) in enumerate(zip(tensors, coder.carriers, strict=True)):
        known = before[index][0] if before is not None and carrier.codec.takes_reference else None
        code = carrier.codec.encode(symbols, carrier.levels, known)
        parts.append(sealed(code, symbols.shape, carrier.levels, carrier.codec, floats, context))
        context = next_context(parts[-1], context)
    return join_parts(parts)


def _decoded(part: Part, before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return the symbols of a container that `_packed` has coded, beside those before if there are any."""
    if before is None or not part.carrier.codec.takes_reference:
        return part.decoded()
    if part.header.shape != before.shape:
        raise CodecError(f"a frame of shape {part.header.shape} does not follow one of shape {before.shape}")
    return part.decoded(before)


def _alike(tensors: Sequence[Tensor], before: Sequence[Tensor] | None) -> bool:
    """Return whether frames have the same shapes."""
    return before is not None and all(a.shape == b.shape for (a, _), (b, _) in zip(tensors, before, strict=True))


def _changed(tensors: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """Return the share of symbols that have changed; 1 if floats have."""
    pairs = list(zip(tensors, before, strict=True))
    if any(ours != theirs for (_, ours), (_, theirs) in pairs):
        return 1.0
    changed = sum(int(np.count_nonzero(a != b)) for (a, _), (b, _) in pairs)
    return changed / max(1, sum(a.size for (a, _), _ in pairs))


def _state(tensors: Sequence[Tensor]) -> int:
    """Return the checksum of a frame's symbols."""
    state = 0
    for symbols, _ in tensors:
        state = zlib.crc32(np.ascontiguousarray(symbols).data, state)
    return state


def _start(kind: int, sequence: int, state: int) -> bytes:
    """Return the bytes in front of the containers."""
    reference = b"" if kind == KEY else state.to_bytes(4, "little")
    return bytes((MAGIC + kind,)) + sequence.to_bytes(4, "little") + reference


def _read_start(payload: bytes) -> tuple[int, int, int, bytes]:
    """Return kind, sequence number and state, and the bytes that hold them."""
    kind = payload[0] - MAGIC if payload else -1
    if kind not in (KEY, DELTA, REPEAT):
        raise CodecError("the payload is damaged or not a frame of a stream")
    start = payload[: KEY_START if kind == KEY else START]
    if len(start) < (KEY_START if kind == KEY else START):
        raise CodecError(f"a frame of {len(payload)} bytes ends inside its header: it is truncated")
    return kind, int.from_bytes(start[1:5], "little"), int.from_bytes(start[5:9], "little"), start
