"""Outcomes of the requests of a batch: answers of an edge, or the reasons why there are none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from splitlearn.codecs import CodecError, LateFrameError, MissingReferenceError, StreamState
from splitlearn.resource_errors import brief
from splitlearn.runtime.errors import Code, NotServedError
from splitlearn.runtime.picture_codec import OtherFormatError
from splitlearn.runtime.protocol import Answer, Kind, Request, without_checksum, write_arrays
from splitlearn.runtime.streams import Batch, FrameTensors, Kept

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Edge

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Refusal(NamedTuple):
    """Reason why a request got no answer."""

    code: Code
    sentence: str


DAMAGED_FILE = Refusal(
    Code.DAMAGED_PAYLOAD, "image file not taken: it has another CRC-32 than its sender says; send it again"
)
Result = bytes | Refusal  # arrays of an answer as `write_arrays` makes them, or why there are none


class Outcomes(NamedTuple):
    """What came of a batch.

    Attributes:
        results: one for each request.
        kept: what is to be kept of each stream from now on.
    """

    results: Sequence[Result]
    kept: Sequence[Kept | None] = ()


def outcomes_of(edge: Edge, batch: Batch) -> Outcomes:
    """Return the answers of an edge to a batch of payloads, image files and frames of streams, or refusals.

    If the edge fails, it gets each request separately, so that only those that cause an error are refused.
    """
    requests, found = batch.requests, dict[int, Result]()
    payloads = {n: request.payload for n, request in enumerate(requests) if request.kind == Kind.PAYLOAD}
    if payloads:
        contents = list(payloads.values())
        found |= zip(payloads, _outcomes(edge.answer, contents, _sizes(contents), "damaged payload"), strict=True)
    pictures = {n: without_checksum(each.payload) for n, each in enumerate(requests) if each.kind == Kind.PICTURE}
    found |= dict.fromkeys(pictures, DAMAGED_FILE)
    if whole := {n: file for n, file in pictures.items() if file is not None}:
        contents = list(whole.values())
        answers = _outcomes(edge.answer_pictures, contents, _sizes(contents), "image file not taken")
        found |= zip(whole, answers, strict=True)
    frames = [n for n, request in enumerate(requests) if request.kind == Kind.FRAME]
    kept = list(batch.kept)
    if frames:
        found |= _of_frames(edge, batch, frames, kept)
    return Outcomes([found[n] for n in range(len(requests))], kept)


def _of_frames(edge: Edge, batch: Batch, numbers: Sequence[int], kept: list[Kept | None]) -> dict[int, Result]:
    """Return the outcomes of frames, read one after another and answered together, and change what is kept.

    A frame with the symbols of the one before gets its answer; the edge computes nothing for it.
    """
    found: dict[int, Result] = {}
    answers: list[Result | None] = [None if stream is None else stream.answer for stream in kept]
    place = list(range(len(kept)))  # in `answers`, of each stream's last one
    at: dict[int, int] = {}  # place of the answer to each frame
    wanted: dict[int, tuple[FrameTensors, int]] = {}  # frames to compute, by place, and their sizes
    for n in numbers:
        request, stream = batch.requests[n], batch.streams[n]
        before = kept[stream]
        state = _read(edge, request, before)
        if isinstance(state, Refusal):
            found[n] = state
            continue
        is_known = place[stream] in wanted or answers[place[stream]] is not None
        if before is None or not is_known or not _is_same(Kept(request.rate, state, None), before):
            place[stream] = len(answers)
            answers.append(None)
            wanted[place[stream]] = FrameTensors(request.rate, state.tensors), len(request.payload)
        kept[stream] = Kept(request.rate, state, None)
        at[n] = place[stream]
    frames, sizes = zip(*wanted.values(), strict=True) if wanted else ((), ())
    for where, result in zip(wanted, _outcomes(edge.answer_frames, frames, sizes, "frame not answered"), strict=True):
        answers[where] = result
    found |= {n: answer for n, where in at.items() if (answer := answers[where]) is not None}
    for stream, each in enumerate(kept):
        answer = answers[place[stream]]
        kept[stream] = None if each is None else each._replace(answer=answer if isinstance(answer, bytes) else None)
    return found


def _read(edge: Edge, request: Request, kept: Kept | None) -> StreamState | Refusal:
    """Return the symbols of a frame, or why it cannot be read."""
    try:
        known = kept.state if kept is not None and kept.rate == request.rate else None
        receiver = edge.stream_coder(request.rate).receiver(known)
        receiver.read(request.payload)
        assert receiver.state is not None
        return receiver.state
    except MissingReferenceError as error:
        return Refusal(Code.MISSING_REFERENCE, str(error))
    except LateFrameError as error:
        return Refusal(Code.LATE_FRAME, str(error))
    except CodecError as error:
        return Refusal(Code.DAMAGED_PAYLOAD, f"damaged frame: {error}")
    except NotServedError as error:
        return Refusal(Code.KIND_NOT_SERVED, str(error))
    except Exception as error:
        return _failed(error, len(request.payload))


def _is_same(one: Kept, other: Kept) -> bool:
    """Return whether two frames have the same symbols, so that their answers are equal."""
    if (one.rate, one.state.checksum) != (other.rate, other.state.checksum):
        return False
    pairs = list(zip(one.state.tensors, other.state.tensors, strict=True))
    return all(a[1] == b[1] and (a[0] is b[0] or np.array_equal(a[0], b[0])) for a, b in pairs)


def _sizes(contents: Sequence[bytes]) -> list[int]:
    return [len(content) for content in contents]


def _outcomes(
    act: Callable[[Sequence[T]], Sequence[Answer | CodecError]], items: Sequence[T], sizes: Sequence[int], refused: str
) -> list[Result]:
    if not items:
        return []
    try:
        answers = act(items)
        if len(answers) != len(items):
            raise RuntimeError(f"{len(answers)} answers to {len(items)} payloads")
        return [
            _refusal(answer, refused) if isinstance(answer, CodecError) else write_arrays(answer) for answer in answers
        ]
    except NotServedError as error:
        return [Refusal(Code.KIND_NOT_SERVED, str(error))] * len(items)
    except Exception as error:
        if len(items) > 1:
            pairs: Any = zip(items, sizes, strict=True)
            return [outcome for item, size in pairs for outcome in _outcomes(act, [item], [size], refused)]
        return [_failed(error, sizes[0])]


def _failed(error: Exception, size: int) -> Refusal:
    told = brief(error)  # one line: a peer can cause many
    _log.error("the edge failed on a payload of %d bytes: %s: %s", size, type(error).__name__, told)
    return Refusal(Code.INTERNAL, f"the edge failed on this payload: {type(error).__name__}")


def _refusal(error: CodecError, refused: str) -> Refusal:
    if isinstance(error, OtherFormatError):
        return Refusal(Code.KIND_NOT_SERVED, f"{refused}: {error}; give server and device the same package")
    return Refusal(Code.DAMAGED_PAYLOAD, f"{refused}: {error}")
