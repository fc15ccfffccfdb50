"""Videos between clients and servers: each frame gets its answer, whatever is lost on the way."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import Carrier, PayloadCoder, RunLength, frame_kind
from splitlearn.numpy_quantizers import StepGrid
from splitlearn.runtime.answers import Edge
from splitlearn.runtime.batching import Batcher
from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.device_stream import DeviceStream, Frame
from splitlearn.runtime.errors import BusyError, Code, LinkError
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.outcomes import Outcomes, Refusal, outcomes_of
from splitlearn.runtime.protocol import AnswerFrame, ErrorFrame, Kind, Request, Type, read_arrays
from splitlearn.runtime.server import EdgeServer
from splitlearn.runtime.statistics import Statistics
from splitlearn.runtime.streams import Batch, ServerStream, StreamOptions, stream_coder
from splitlearn.runtime.workers import Done, Worker
from tests.runtime.edges import FINGERPRINT, RawPeer, Reverse, run, server_of
from tests.runtime.edges import check as check_payload
from tests.runtime.stream_edge import CODER, SHAPE, Sums, check, frame_of, stream_of, sums, video


def client_of(server: EdgeServer) -> EdgeClient:
    return EdgeClient("127.0.0.1", server.port, FINGERPRINT)


def requests(payloads: list[bytes]) -> list[Request]:
    return [Request(n, payload, rate=0, kind=Kind.FRAME) for n, payload in enumerate(payloads)]


def codes(outcomes: Outcomes) -> list[Code | None]:
    """Return the code of each refusal, None for answers."""
    return [result.code if isinstance(result, Refusal) else None for result in outcomes.results]


def test_only_what_has_changed_is_sent_and_computed() -> None:
    async def test() -> None:
        edge, stream = Sums(), stream_of(key_every=6)
        first, *others = video(6)
        async with server_of(edge) as server, client_of(server) as client:
            kinds = []
            for latent in (first, first, first, *others, others[-1]):
                frame = frame_of(stream, latent)
                reply = await client.ask_frame(frame)
                kinds.append(check(reply, frame))
                assert reply.sent_bytes == (13 if kinds[-1] == "repeat" else reply.sent_bytes)
            assert kinds == ["key", "repeat", "repeat", "delta", "delta", "delta", "key", "delta", "repeat"]
            assert sum(edge.batches) == 6
            assert server.statistics.requests["answered", 0, "frame"] == 9
            assert server.statistics.streams == 1
        assert server.statistics.streams == 0

    run(test)


def test_a_key_frame_like_the_one_before_is_not_computed_again() -> None:
    edge, sender = Sums(), stream_of(key_every=1).sender
    frames = requests([sender.pack(frame_of(stream_of(), video(1)[0]).tensors) for _ in range(3)])
    assert [frame_kind(each.payload) for each in frames] == ["key"] * 3
    outcomes = outcomes_of(edge, Batch(frames, [0] * 3, [None]))
    assert len(set(outcomes.results)) == 1
    assert edge.batches == [1]


def test_a_new_connection_begins_with_a_key_frame() -> None:
    async def test() -> None:
        edge, stream, kinds = Sums(), stream_of(key_every=None), []
        server = server_of(edge)
        await server.start()
        latents = video(12)
        async with EdgeClient("127.0.0.1", server.port, FINGERPRINT) as client:
            for number, latent in enumerate(latents):
                if number == 6:
                    await server.stop()
                    server = server_of(edge) if server.port == 0 else EdgeServer(edge, "127.0.0.1", server.port)
                    await server.start()
                frame = frame_of(stream, latent)
                kinds.append(check(await client.ask_frame(frame), frame))
        await server.stop()
        assert kinds == [*["key"] + ["delta"] * 5] * 2

    run(test)


def test_frames_on_their_way_survive_a_lost_connection() -> None:
    async def test() -> None:
        edge, stream = Sums(), stream_of(key_every=None)
        async with server_of(edge, limits=Limits(in_flight=8)) as server, client_of(server) as client:
            edge.gate.clear()
            frames = [frame_of(stream, latent) for latent in video(20)]
            asks = [asyncio.ensure_future(client.ask_frame(frame)) for frame in frames]
            while not client.link.in_flight:
                await asyncio.sleep(0.01)
            for connection in list(server.connections):
                connection._transport.abort()
            await asyncio.sleep(0.05)
            edge.gate.set()
            kinds = [check(reply, frame) for reply, frame in zip(await asyncio.gather(*asks), frames, strict=True)]
        assert kinds == ["key"] + ["delta"] * 19

    run(test)


def test_the_client_sends_a_key_frame_where_the_server_has_none() -> None:
    async def test() -> None:
        edge, stream = Sums(), stream_of(key_every=None)
        async with server_of(edge) as server, client_of(server) as client:
            kinds = []
            for number, latent in enumerate(video(9)):
                if number in (3, 6):
                    [connection] = server.connections
                    connection.stream.kept = None
                frame = frame_of(stream, latent)
                kinds.append(check(await client.ask_frame(frame), frame))
            assert kinds == ["key", "delta", "delta"] * 3
            assert server.statistics.requests["missing_reference", 0, "frame"] == 2

    run(test)


def test_frames_behind_a_lost_one_follow_its_key_frame() -> None:
    async def test() -> None:
        edge, stream = Sums(), stream_of(key_every=None)
        async with server_of(edge) as server, client_of(server) as client:
            await client.ask_frame(frame_of(stream, video(1)[0]))
            [connection] = server.connections
            connection.stream.kept = None
            frames = [frame_of(stream, latent) for latent in video(10, seed=1)]
            replies = await asyncio.gather(*map(client.ask_frame, frames))
            assert [check(*pair) for pair in zip(replies, frames, strict=True)] == ["key"] + ["delta"] * 9

    run(test)


def test_a_server_that_never_has_the_reference_ends_in_an_error() -> None:
    async def forgetful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from splitlearn.runtime.frames import FrameReader
        from splitlearn.runtime.protocol import Welcome

        frames = FrameReader(1 << 20)
        while data := await reader.read(1 << 16):
            for kind, body in frames.feed(data):
                if kind == Type.HELLO:
                    writer.write(Welcome(bytes.fromhex(FINGERPRINT), 1 << 20, 8, 60_000).frame())
                elif kind == Type.REQUEST:
                    writer.write(ErrorFrame(Request.read(body).id, Code.MISSING_REFERENCE, "send a key frame").frame())
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(forgetful, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
            with pytest.raises(LinkError, match="send a key frame") as caught:
                await client.ask_frame(frame_of(stream_of(), video(1)[0]))
            assert caught.value.code == Code.MISSING_REFERENCE
            with pytest.raises(LinkError, match="send a key frame"):
                await client.ask(b"no frame")

    run(test)


def test_tails_of_several_streams_run_together() -> None:
    async def test() -> None:
        edge = Sums()
        streams = [stream_of() for _ in range(3)]
        videos = [video(5, seed=seed) for seed in range(3)]
        async with (
            server_of(edge) as server,
            client_of(server) as a,
            client_of(server) as b,
            client_of(server) as c,
        ):
            clients = [a, b, c]
            edge.gate.clear()
            asks = []
            for latents in zip(*videos, strict=True):
                for client, stream, latent in zip(clients, streams, latents, strict=True):
                    frame = frame_of(stream, latent)
                    asks.append((asyncio.ensure_future(client.ask_frame(frame)), frame))
            payload = asyncio.ensure_future(a.ask(b"between"))
            await asyncio.sleep(0.3)
            edge.gate.set()
            for ask, frame in asks:
                check(await ask, frame)
            check_payload(await payload, b"between")
        assert sum(edge.batches) == 15
        assert max(edge.batches) > 3

    run(test)


class TwoAtOnce(Worker):
    """Takes two batches at once, and sends them through a pickle, as to processes; a test lets them end."""

    def __init__(self, edge: Edge) -> None:
        self.free, self._edge = 2, edge
        self.batches: list[tuple[Batch, Done]] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing."""

    def run(self, batch: Batch, done: Done) -> None:
        self.free -= 1
        self.batches.append((pickle.loads(pickle.dumps(batch)), done))

    def end(self, number: int) -> None:
        """Answer a batch that waits."""
        batch, done = self.batches.pop(number)
        self.free += 1
        done(pickle.loads(pickle.dumps(outcomes_of(self._edge, batch))), 0.0)

    def stop(self) -> None:
        """Do nothing."""


def test_frames_wait_for_those_of_their_stream_in_another_process() -> None:
    worker = TwoAtOnce(Sums())
    batcher = Batcher(worker, Limits(), Statistics(), max_batch=2, max_wait_ms=0)
    asked: list[Asked] = [Asked(stream_of()), Asked(stream_of())]
    for latent in video(5):
        for asker in asked:
            asker.add(batcher, latent)
    batcher.dispatch()
    seen = list[int]()
    while worker.batches:
        busy = [set(batch.streams) for batch, _ in worker.batches]
        seen.append(len(busy))
        worker.end(len(busy) - 1)  # the later one first
    assert seen[0] == 1  # a batch with both streams leaves nothing to do for the other process
    asked[0].add(batcher, video(1)[0])
    batcher.dispatch()
    asked[0].add(batcher, video(2)[1])
    asked[1].add(batcher, video(1)[0])
    batcher.dispatch()
    assert [len(batch.requests) for batch, _ in worker.batches] == [1, 1]  # its second frame waits
    worker.end(1)
    worker.end(0)
    worker.end(0)
    for asker in asked:
        assert asker.answered == list(range(len(asker.frames)))
        for frame, body in zip(asker.frames, asker.bodies, strict=True):
            np.testing.assert_array_equal(read_arrays(AnswerFrame.read(body).arrays)["sums"], sums(frame))
    assert not batcher.held_bytes


class Asked:
    """Asks for the frames of one stream."""

    is_gone = is_slow = False

    def __init__(self, sender: DeviceStream) -> None:
        self.stream, self._sender = ServerStream(), sender
        self.frames: list[Frame] = []
        self.answered: list[int] = []
        self.bodies: list[bytes] = []

    def add(self, batcher: Batcher, latent: NDArray[np.float32]) -> None:
        """Ask for another frame."""
        self.frames.append(frame_of(self._sender, latent))
        payload = self._sender.sender.pack(self.frames[-1].tensors)
        batcher.add(self, Request(len(self.frames) - 1, payload, rate=0, kind=Kind.FRAME))

    def finish(self, number: int, frame: bytes) -> None:
        self.answered.append(number)
        self.bodies.append(frame[5:])

    def flush(self) -> None:
        """Do nothing."""


def test_only_so_many_connections_send_streams() -> None:
    async def test() -> None:
        frame = partial(frame_of, latent=video(1)[0])
        async with server_of(Sums(), limits=Limits(streams=1)) as server, client_of(server) as second:
            async with client_of(server) as first:
                await first.ask_frame(frame(stream_of()))
                with pytest.raises(BusyError, match="frames of 1 streams, no more fit"):
                    await second.ask_frame(frame(stream := stream_of()))
                check_payload(await second.ask(b"no frame"), b"no frame")
            while server.statistics.streams:
                await asyncio.sleep(0.01)
            assert (await second.ask_frame(frame(stream))).frame == "key"

    run(test)


def test_a_client_sends_one_stream() -> None:
    async def test() -> None:
        async with server_of(Sums()) as server, client_of(server) as client:
            await client.ask_frame(frame_of(stream_of(), video(1)[0]))
            with pytest.raises(ValueError, match="make another EdgeClient for another video"):
                await client.ask_frame(frame_of(stream_of(), video(1)[0]))

    run(test)


def test_edges_without_streams_say_so() -> None:
    async def test() -> None:
        async with server_of(Reverse()) as server, client_of(server) as client:
            with pytest.raises(LinkError, match="takes no frames of streams") as caught:
                await client.ask_frame(frame_of(stream_of(), video(1)[0]))
            assert caught.value.code == Code.KIND_NOT_SERVED

    run(test)


def test_frames_that_cannot_be_read_change_nothing() -> None:
    edge, stream = Sums(), stream_of(key_every=None)
    key, delta, later, last = (stream.compress(latent) for latent in video(4))  # type: ignore[arg-type]
    assert isinstance(key, bytes)
    other = stream_coder(CODER, 1).sender().encode([video(1)[0]])
    foreign = stream_coder(PayloadCoder(CODER.carriers, 5, ((4, 9, 9),), CODER.varying), 0).sender()
    large = foreign.encode([np.zeros((4, 9, 9), np.float32)])
    sent = [delta, key, key, later, key[:-1], b"", b"\xd0", other, large, delta, delta, later, last]
    outcomes = outcomes_of(edge, Batch(requests(sent), [0] * len(sent), [None]))  # type: ignore[arg-type]
    missing, late, damaged = Code.MISSING_REFERENCE, Code.LATE_FRAME, Code.DAMAGED_PAYLOAD
    assert codes(outcomes) == [
        *(missing, None, late, missing, damaged, damaged, damaged, damaged, damaged),
        *(None, late, None, None),
    ]
    [kept] = outcomes.kept
    assert kept is not None
    assert kept.state.sequence == 3
    wrong_rates = [request._replace(rate=rate) for rate, request in zip((1, 2, 255), requests([key] * 3), strict=True)]
    assert codes(outcomes_of(edge, Batch(wrong_rates, [0] * 3, outcomes.kept))) == [damaged] * 3


def test_every_changed_byte_is_refused_and_the_stream_goes_on() -> None:
    edge, stream = Sums(), stream_of(key_every=None)
    payloads = [stream.compress(latent) for latent in (*video(2), video(2)[1])]  # type: ignore[arg-type]
    kept = outcomes_of(edge, Batch(requests(payloads[:1]), [0], [None])).kept  # type: ignore[arg-type]
    rng = random.Random(0)
    for payload in payloads[1:]:
        assert isinstance(payload, bytes)
        forged = [
            payload[:n] + bytes([payload[n] ^ 1 << rng.randrange(8)]) + payload[n + 1 :] for n in range(len(payload))
        ]
        forged += [payload[:n] for n in range(len(payload))] + [payload + b"\0"]
        outcomes = outcomes_of(edge, Batch(requests(forged), [0] * len(forged), kept))
        assert set(codes(outcomes)) == {Code.DAMAGED_PAYLOAD}
        assert outcomes.kept == kept
        kept = outcomes_of(edge, Batch(requests([payload]), [0], kept)).kept


def test_numbers_wrap() -> None:
    edge, stream = Sums(), stream_of()
    stream.sender.sequence = 2**32 - 2
    frames = requests([stream.compress(latent) for latent in video(5)])  # type: ignore[arg-type, misc]
    outcomes = outcomes_of(edge, Batch(frames, [0] * 5, [None]))
    assert codes(outcomes) == [None] * 5
    assert outcomes.kept[0] is not None
    assert outcomes.kept[0].state.sequence == 2


def test_a_frame_that_the_edge_failed_on_is_computed_when_it_is_repeated() -> None:
    edge, stream = Sums(), stream_of()
    latent = video(1)[0]
    frames = requests([stream.compress(latent) for _ in range(2)])  # type: ignore[arg-type, misc]
    edge.broken = True
    outcomes = outcomes_of(edge, Batch(frames[:1], [0], [None]))
    assert codes(outcomes) == [Code.INTERNAL]
    edge.broken = False
    outcomes = outcomes_of(edge, Batch(frames[1:], [0], outcomes.kept))
    [answer] = outcomes.results
    assert isinstance(answer, bytes)
    np.testing.assert_array_equal(read_arrays(answer)["sums"], sums(frame_of(stream, latent)))


def test_small_changes_are_skipped_and_get_the_answer_before() -> None:
    async def test() -> None:
        edge, stream = Sums(), stream_of(skip=0.01)
        latent = video(1)[0]
        async with server_of(edge) as server, client_of(server) as client:
            frame = frame_of(stream, latent)
            await client.ask_frame(frame)
            changed = latent.copy()
            changed[0, 0, 0] += 2  # one symbol of 288
            assert not np.array_equal(sums(after := frame_of(stream, changed)), sums(frame))
            assert check(await client.ask_frame(after), frame) == "repeat"
            assert edge.batches == [1]

    run(test)


@pytest.mark.parametrize("payload", [b"\xd1" + bytes(30), b"\xd2" + bytes(12), b"\xd0" + bytes(99), b"x"])
def test_hostile_frames_get_an_error_and_the_others_their_answers(payload: bytes) -> None:
    async def test() -> None:
        async with server_of(Sums()) as server, client_of(server) as client, RawPeer(server.port) as peer:
            await peer.hello(*(Request(n, payload, rate=n % 3, kind=Kind.FRAME).frame() for n in range(20)))
            stream = stream_of()
            for latent in video(5):
                frame = frame_of(stream, latent)
                check(await client.ask_frame(frame), frame)
            for _ in range(20):
                kind, body = await peer.frame()
                assert kind == Type.ERROR
                assert ErrorFrame.read(body).code in (Code.DAMAGED_PAYLOAD, Code.MISSING_REFERENCE)

    run(test)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: stream_of(key_every=0), "key_every must be a whole number, at least 1"),
        (lambda: stream_of(margin=0.6), "margin is 0…0.5"),
        (lambda: stream_of(skip=2), "skip is a share of symbols"),
        (lambda: stream_coder(PayloadCoder(CODER.carriers, 0), 0), "send each frame by itself, --key_every 1"),
        (
            lambda: DeviceStream(
                lambda _: [],
                PayloadCoder((Carrier(RunLength(), StepGrid(0.5, 16)),), 0, (SHAPE,), CODER.varying),
                0,
                StreamOptions(),
            ),
            "the codec of this package, RunLength, takes no reference to the frame before: package",
        ),
    ],
)
def test_impossible_streams_are_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()
