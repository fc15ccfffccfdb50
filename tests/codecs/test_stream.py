"""Frames of a video arrive exactly, or are refused, whatever the way does to them; key frames set all right."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from splitlearn.codecs import (
    RANS,
    Carrier,
    CodecError,
    ContextRANS,
    LateFrameError,
    MissingReferenceError,
    PayloadCoder,
    Raw,
    StreamCoder,
    StreamReceiver,
    StreamState,
    frame_kind,
)
from splitlearn.numpy_quantizers import MinMaxGrid, StepGrid

GRID = StepGrid(0.5, 16)
CODER = PayloadCoder(
    (Carrier(ContextRANS(), GRID), Carrier(RANS(), GRID), Carrier(Raw())),
    context=77,
    shapes=((4, 9, 8), (3, 5, 5), (6,)),
    varying=((False,) * 3, (False,) * 3, (False,)),
)
STREAM = StreamCoder(CODER, key_every=None)
Latents = list[NDArray[Any]]


def video(frames: int, seed: int = 0, noise: float = 0.1) -> list[Latents]:
    """Return frames of a still picture with some noise: two float tensors and one of bytes."""
    rng = np.random.default_rng(seed)
    still = rng.normal(size=(4, 9, 8)), rng.normal(size=(3, 5, 5))
    return [
        [
            *((part + noise * rng.normal(size=part.shape)).astype(np.float32) for part in still),
            rng.integers(0, 3, 6, dtype=np.uint8),
        ]
        for _ in range(frames)
    ]


def same(found: Latents, wanted: Latents) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def kind(payload: bytes) -> str:
    return {0: "key", 1: "delta", 2: "repeat"}[payload[0] - 0xD0]


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_frames_arrive_as_they_were_quantized(margin: float) -> None:
    stream = replace(STREAM, margin=margin)
    sender, receiver = stream.sender(), stream.receiver()
    for number, latents in enumerate(video(8)):
        payload = sender.encode(latents)
        assert kind(payload) == ("delta" if number else "key")
        found = receiver.decode(payload)
        assert np.array_equal(found[2], latents[2])
        for mine, theirs in zip(found[:2], latents[:2], strict=True):
            assert np.abs(mine - theirs).max() <= 0.5 * (0.5 + margin) * (1 + 1e-6)
        if margin == 0:
            assert same(found, CODER.decode(CODER.encode(latents)))


def test_frames_that_barely_differ_cost_little() -> None:
    shape = (64, 48, 80)
    coder = PayloadCoder((Carrier(ContextRANS(), StepGrid(0.5, 8)),), 1)
    stream = StreamCoder(coder)
    rng = np.random.default_rng(0)
    still = rng.normal(size=shape).astype(np.float32)
    sender, receiver = stream.sender(), stream.receiver()
    first = sender.encode([still])
    moved = still.copy()
    moved[rng.random(shape) < 1e-4] += 1
    second, third = sender.encode([moved]), sender.encode([moved])
    assert len(second) < 0.01 * len(first)
    assert (kind(third), len(third)) == ("repeat", 13)
    for payload, latents in ((first, still), (second, moved), (third, moved)):
        assert same(receiver.decode(payload), coder.decode(coder.encode([latents])))


def test_unrelated_images_cost_no_more_than_by_themselves() -> None:
    rng = np.random.default_rng(0)
    for levels in (4, 8, 16, 64):
        coder = PayloadCoder((Carrier(ContextRANS(), StepGrid(0.3, levels)),), 1)
        sender = StreamCoder(coder).sender()
        alone = along = 0
        for _ in range(6):
            smooth = np.cumsum(rng.normal(size=(16, 32, 32)), axis=2).astype(np.float32)
            alone += len(coder.encode([smooth]))
            along += len(sender.encode([smooth]))
        assert along <= 1.01 * alone


def test_key_frames_come_by_number_bytes_and_request() -> None:
    sender = replace(STREAM, key_every=3).sender()
    assert [kind(sender.encode(latents)) for latents in video(7)] == ["key", "delta", "delta"] * 2 + ["key"]
    sender = replace(STREAM, key_bytes=1).sender()
    assert [kind(sender.encode(latents)) for latents in video(4)] == ["key", "delta"] * 2
    sender = STREAM.sender()
    kinds = []
    for number, latents in enumerate(video(5)):
        if number == 3:
            sender.request_key()
        kinds.append(kind(sender.encode(latents)))
    assert kinds == ["key", "delta", "delta", "key", "delta"]


def test_skipped_frames_keep_what_the_receiver_has() -> None:
    stream = replace(STREAM, skip=0.2)
    sender, receiver = stream.sender(), stream.receiver()
    first, other = video(1)[0], [tensor.copy() for tensor in video(1)[0]]
    shown = receiver.decode(sender.encode(first))
    other[0][0, 0, :3] += 1
    payload = sender.encode(other)
    assert kind(payload) == "repeat"
    assert same(receiver.decode(payload), shown)
    other[0] += 1  # what has changed is counted from what was sent, so that small changes add up
    payload = sender.encode(other)
    assert kind(payload) == "delta"
    assert same(receiver.decode(payload), CODER.decode(CODER.encode(other)))


def test_another_size_begins_anew() -> None:
    coder = replace(CODER, shapes=None)
    stream = StreamCoder(coder, margin=0.2)
    sender, receiver = stream.sender(), stream.receiver()
    small = [tensor[..., :3].copy() for tensor in video(1)[0]]
    for latents, wanted in ((video(1)[0], "key"), (small, "key"), (small, "repeat")):
        payload = sender.encode(latents)
        assert kind(payload) == wanted
        assert same(receiver.decode(payload), coder.decode(coder.encode(latents)))


def test_lost_doubled_and_late_frames_are_told_apart() -> None:
    sender, receiver = STREAM.sender(), STREAM.receiver()
    payloads = [sender.encode(latents) for latents in video(6)]
    with pytest.raises(MissingReferenceError, match="no frame is here yet: send a key frame"):
        receiver.decode(payloads[1])
    receiver.decode(payloads[0])
    receiver.decode(payloads[1])
    with pytest.raises(LateFrameError, match="frame 1 was here already: it is left out"):
        receiver.decode(payloads[1])
    with pytest.raises(LateFrameError, match="frame 0 comes after frame 1: it is left out"):
        receiver.decode(payloads[0])
    with pytest.raises(MissingReferenceError, match="frame 3 tells what has changed since another frame"):
        receiver.decode(payloads[3])
    receiver.decode(payloads[2])  # nothing was forgotten because of what was refused
    receiver.decode(payloads[3])
    assert receiver.sequence == 3


def test_sequence_numbers_wrap() -> None:
    sender, receiver = STREAM.sender(), STREAM.receiver()
    sender.sequence = 2**32 - 2
    seen = []
    for latents in video(4):
        receiver.decode(sender.encode(latents))
        seen.append(receiver.sequence)
    assert seen == [2**32 - 2, 2**32 - 1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_on_the_way_makes_a_wrong_frame(data: st.DataObject) -> None:
    """Damaged, lost, doubled, exchanged frames arrive exactly or are refused; a key frame sets all right."""
    stream = replace(STREAM, margin=data.draw(st.sampled_from([0.0, 0.3])), skip=data.draw(st.sampled_from([0.0, 0.1])))
    sender, oracle, receiver = stream.sender(), stream.receiver(), stream.receiver()
    sent: list[tuple[bytes, Latents]] = []
    for latents in video(data.draw(st.integers(2, 8)), noise=data.draw(st.sampled_from([0.0, 0.1, 1.0]))):
        if data.draw(st.booleans()) and data.draw(st.booleans()):
            sender.request_key()
        payload = sender.encode(latents)
        sent.append((payload, oracle.decode(payload)))
    for place in data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=24)):
        payload, wanted = sent[place]
        if data.draw(st.booleans()):
            position = data.draw(st.integers(0, len(payload) - 1))
            damaged = bytearray(payload)
            damaged[position] ^= data.draw(st.integers(1, 255))
            cut = bytes(damaged)[: data.draw(st.sampled_from([len(payload), position]))]
            with pytest.raises(CodecError):
                receiver.decode(cut)
            continue
        try:
            found = receiver.decode(payload)
        except CodecError:
            continue
        assert same(found, wanted)
    sender.request_key()
    latents = video(1, seed=9)[0]
    assert same(receiver.decode(sender.encode(latents)), CODER.decode(CODER.encode(latents)))


def test_what_is_returned_is_the_callers_own() -> None:
    sender, receiver = STREAM.sender(), STREAM.receiver()
    first, second = video(2)
    for symbols, _ in receiver.unpack(sender.encode(first)):
        symbols[...] = 0
    assert same(receiver.decode(sender.encode(second)), CODER.decode(CODER.encode(second)))


def test_the_caller_may_write_to_its_arrays_again() -> None:
    sender, receiver = STREAM.sender(), STREAM.receiver()
    latents = video(1)[0]
    receiver.decode(sender.encode(latents))
    latents[2][...] = 2 - latents[2]
    payload = sender.encode(latents)
    assert kind(payload) == "delta"
    assert np.array_equal(receiver.decode(payload)[2], latents[2])


def test_a_frame_of_another_cut_is_refused() -> None:
    other = StreamCoder(replace(CODER, context=78))
    payload = other.sender().encode(video(1)[0])
    with pytest.raises(CodecError, match="foreign codec or quantizer"):
        STREAM.receiver().decode(payload)
    with pytest.raises(CodecError, match="not a frame of a stream"):
        STREAM.receiver().decode(CODER.encode(video(1)[0]))
    with pytest.raises(CodecError, match="not a frame of a stream"):
        STREAM.receiver().decode(b"")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"key_every": 0}, "key_every must be a whole number, at least 1, got 0"),
        ({"key_every": 1.5}, "key_every must be a whole number, at least 1, got 1.5"),
        ({"key_every": True}, "key_every must be a whole number, at least 1, got True"),
        ({"key_bytes": 0}, "key_bytes must be a whole number"),
        ({"skip": 1.5}, "skip is a share of symbols"),
        ({"margin": 0.6}, r"margin is 0…0\.5"),
        ({"margin": "a"}, r"margin is 0…0\.5, in distances of levels, got 'a'"),
        ({"coder": replace(CODER, carriers=(Carrier(RANS(), GRID),))}, r"\(RANS\): use ContextRANS"),
        (
            {"coder": PayloadCoder((Carrier(ContextRANS(), MinMaxGrid(4)),), 1), "margin": 0.1},
            "differ from frame to frame",
        ),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamCoder(**{"coder": CODER, **wrong})


def test_a_frame_without_its_list_is_told() -> None:
    coder = PayloadCoder((Carrier(ContextRANS(), GRID),), context=0)
    latent = np.zeros((4, 9, 8), np.float32)
    for encode in (StreamCoder(coder).sender().encode, coder.encode):
        with pytest.raises(ValueError, match=r"crosses the cut, 1 here, got 4: a single array is given as \[array\]"):
            encode(latent)  # type: ignore[arg-type]


def test_receivers_remember_one_frame() -> None:
    sender, receiver = STREAM.sender(), STREAM.receiver()
    for latents in video(20):
        receiver.decode(sender.encode(latents))
    assert set(vars(receiver)) == {"stream", "state"}
    assert receiver.state is not None
    assert sum(symbols.nbytes for symbols, _ in receiver.state.tensors) == 4 * 9 * 8 + 75 + 6
    assert isinstance(receiver, StreamReceiver)


def test_another_receiver_goes_on_where_one_was() -> None:
    sender, whole = STREAM.sender(), STREAM.receiver()
    state: StreamState | None = None
    for latents in video(6):
        payload = sender.encode(latents)
        other = STREAM.receiver(state)
        assert same(other.decode(payload), whole.decode(payload))
        state = pickle.loads(pickle.dumps(other.state))
    assert frame_kind(payload) == "delta"
    assert other.sequence == 5
    with pytest.raises(CodecError, match="not a frame"):
        frame_kind(b"\xd3")
