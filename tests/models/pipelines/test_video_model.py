"""Networks whose images are frames of videos."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from splitlearn.codecs import CodecError, ContextRANS, Huffman, MissingReferenceError, VideoCodec
from splitlearn.models import (
    EarlyExitModel,
    InputModel,
    NormalizedSeparable,
    PixelVideo,
    SplitModel,
    StreamModel,
    TiledVideo,
)
from splitlearn.outputs import Features
from splitlearn.quantizers import MinMax, Step
from tests.networks import digits, halves, network

STEP = partial(Step, 0.25, 32)


def video(count: int = 6) -> Tensor:
    """Return a digit that becomes brighter little by little."""
    return digits(1) * torch.linspace(0.9, 1, count).view(-1, 1, 1, 1)


def model(**options: object) -> SplitModel:
    return SplitModel(halves("layer2"), STEP(), ContextRANS(), **options).eval()  # type: ignore[arg-type]


def test_answers_are_those_of_the_split_network() -> None:
    cut, frames = model(bottleneck=partial(NormalizedSeparable, channels=8)), video()
    stream = StreamModel(cut)
    sender, receiver = stream.sender(), stream.receiver()
    sent = [sender.compress(frames[:2]), sender.compress(frames[2:])]
    assert [frame.is_key for part in sent for frame in part] == [True] + [False] * 5
    found = [receiver.decompress([frame.payload for frame in part]) for part in sent]
    assert torch.equal(torch.cat(found), torch.cat([cut(frames[:2]), cut(frames[2:])]))
    whole = cut.predict(cut.features(frames))
    assert torch.equal(stream.unsplit(frames), whole)


def test_cached_features_give_the_same_payloads() -> None:
    cut, frames = model(), video()
    stream = StreamModel(cut, margin=0.2)
    features = Features(cut.features(frames), 32 * 32)
    assert stream.sender().compress(features) == stream.sender().compress(frames)


def test_a_margin_costs_fewer_bytes_and_key_frames_alone_more() -> None:
    def size(stream: StreamModel) -> int:
        return sum(len(frame.payload) for frame in stream.sender().compress(video()))

    cut = model()
    assert size(StreamModel(cut, margin=0.4)) < size(StreamModel(cut)) < size(StreamModel(cut, key_every=1))


def test_a_second_sender_knows_nothing_of_the_first() -> None:
    stream, frames = StreamModel(model()), video()
    first = stream.sender().compress(frames)
    assert stream.sender().compress(frames) == first
    with pytest.raises(MissingReferenceError, match="no frame is here yet"):
        stream.receiver().decompress([first[1].payload])


def test_tables_fitted_to_videos_are_sent_once() -> None:
    stream = StreamModel(model(), margin=0.1)
    fitted = stream.fitted([[video()[:3], video()[3:]], [digits(2)]])
    assert fitted.table_bytes > 0 == stream.table_bytes
    assert (fitted.margin, fitted.key_every) == (0.1, 250)
    sent = fitted.sender().compress(video())
    assert len(sent[0].payload) < len(stream.sender().compress(video())[0].payload)
    fitted.receiver().decompress([frame.payload for frame in sent])
    with pytest.raises(CodecError):
        stream.receiver().decompress([frame.payload for frame in sent])


def test_what_cannot_be_a_stream() -> None:
    with pytest.raises(ValueError, match=r"margin is 0…0\.5, in distances of levels, got 0\.6"):
        StreamModel(model(), margin=0.6)
    with pytest.raises(ValueError, match="margin is 0…0"):
        StreamModel(model(), margin=-0.1)
    with pytest.raises(ValueError, match="no codec here takes the frame before as reference"):
        StreamModel(SplitModel(halves("layer2"), STEP(), Huffman()))
    with pytest.raises(ValueError, match="levels of MinMaxGrid differ from frame to frame"):
        StreamModel(SplitModel(halves("layer2"), MinMax(3), ContextRANS()), margin=0.1)
    exits = EarlyExitModel(halves("layer2"), STEP(), ContextRANS())
    with pytest.raises(ValueError, match=r"an? EarlyExitModel has early exits"):
        StreamModel(exits)


def test_min_max_levels_cross_with_each_frame() -> None:
    cut, frames = SplitModel(halves("layer2"), MinMax(6), ContextRANS()).eval(), video()
    stream = StreamModel(cut)
    sent = stream.sender().compress(frames)
    assert torch.equal(stream.receiver().decompress([frame.payload for frame in sent]), cut(frames))


def test_features_as_video() -> None:
    pytest.importorskip("av")
    cut = SplitModel(halves("layer2"), Step(0.05, 256), ContextRANS()).eval()
    tiled, frames = TiledVideo(cut, VideoCodec("H265", 4, "ultrafast")), video()
    sent = tiled.sender().compress(frames)
    assert [frame.is_key for frame in sent] == [True] + [False] * 5
    found = tiled.receiver().decompress([frame.payload for frame in sent])
    assert torch.allclose(found.softmax(1), cut(frames).softmax(1), atol=0.1)
    assert torch.equal(tiled.unsplit(frames), cut.predict(cut.features(frames)))
    assert tiled.table_bytes is None
    other = VideoCodec("H265", 4, "ultrafast").sender().encode(torch.zeros(64, 64, dtype=torch.uint8).numpy())[0]
    with pytest.raises(CodecError, match="contradicts its picture"):
        tiled.receiver().decompress([other])
    with pytest.raises(ValueError, match="the levels of MinMax depend on the image"):
        TiledVideo(SplitModel(halves("layer2"), MinMax(8), ContextRANS()), VideoCodec())


def test_pixels_as_video() -> None:
    pytest.importorskip("av")
    net, frames = network(), video()
    pixels = PixelVideo(net, VideoCodec("H264", 4, "ultrafast"))
    sent = pixels.sender().compress(frames)
    found = pixels.receiver().decompress([frame.payload for frame in sent])
    assert torch.equal(pixels.unsplit(frames), InputModel(net).eval()(frames))
    assert torch.allclose(found.softmax(1), pixels.unsplit(frames).softmax(1), atol=0.2)
    with pytest.raises(ValueError, match="needs the images: these are cached features"):
        pixels.sender().compress(Features((frames,), 1))
