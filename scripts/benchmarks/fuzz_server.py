"""Throw hostile frames at an edge server while well-behaved clients ask: a million frames by default.

Attackers are random bytes, frames of every type with random bodies, requests with forged fields, image files that are
damaged, cut, or of other formats and sizes, frames of streams that are damaged, forged, doubled or lack what they
refer to, lengths that are too large, frames that are cut, floods, peers that read
nothing, half-open and silent ones. Server, clients and attackers are processes of their own. What may come of it: the
server lives, each well-behaved request gets its own answer, none is lost, and the server's memory stays below what it
was in the first tenth, five seconds at least, and 64 MiB.

    scripts/benchmarks/fuzz_server                      a million frames; about ten minutes on two cores
    scripts/benchmarks/fuzz_server --frames 50000 --seed 7

Leaves counts and violations as JSON; exit status 1 if there is a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import Carrier, CodecError, ContextRANS, ImageFile, PayloadCoder, StreamCoder
from splitlearn.files import write_json
from splitlearn.numpy_quantizers import StepGrid
from splitlearn.runtime import Answer, Edge, EdgeClient, EdgeServer, Limits
from splitlearn.runtime.device_stream import DeviceStream, Frame
from splitlearn.runtime.errors import LinkError
from splitlearn.runtime.frames import frame
from splitlearn.runtime.picture_codec import PictureCodec
from splitlearn.runtime.protocol import Hello, Kind, Request, Type, goodbye_frame, number_frame, with_checksum
from splitlearn.runtime.streams import FrameTensors, StreamCoders, StreamOptions

FINGERPRINT = "5a" * 32
HELLO = Hello(bytes.fromhex(FINGERPRINT)).frame()
CLIENTS, ATTACKERS = 4, 32
MIB = 1 << 20
EXTRA = 64 * MIB
WARM_UP = 5.0  # seconds in which a server loads its kernels, on a busy machine too
LIMITS = Limits(
    frame_bytes=1 << 16,
    idle_s=2.0,
    handshake_s=1.0,
    connections=64,
    in_flight=32,
    queue=64 * 32,  # what all connections together may have in flight: nobody is answered "busy"
    held_bytes=16 * MIB,
)


PICTURES = PictureCodec("WEBP", 80, (3, 16, 16))
SHAPE = 8, 10, 12
CODER = PayloadCoder((Carrier(ContextRANS(), StepGrid(0.5, 8)),), 3, (SHAPE,), ((False,) * len(SHAPE),))
STREAMS = StreamCoders([CODER])


class Reverse(Edge):
    """Answers a payload with its bytes in reverse, a picture with its pixels, and a frame of a stream with its symbols.

    A payload that starts with a zero is damaged.
    """

    fingerprint = FINGERPRINT

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the bytes of each payload in reverse."""
        return [
            CodecError("starts with a zero") if payload[:1] == b"\0" else {"r": np.frombuffer(payload[::-1], np.uint8)}
            for payload in payloads
        ]

    def answer_pictures(self, files: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the pixels of each picture."""
        return [found if isinstance(found, CodecError) else {"r": found} for found in map(decoded, files)]

    def stream_coder(self, rate: int) -> StreamCoder:
        """Return how frames are read."""
        return STREAMS.of(rate)

    def answer_frames(self, frames: Sequence[FrameTensors]) -> list[Answer | CodecError]:
        """Return the symbols of each frame."""
        return [{"r": frame.tensors[0][0]} for frame in frames]


def decoded(file: bytes) -> NDArray[np.uint8] | CodecError:
    """Return the pixels of a picture, or the error that it causes."""
    try:
        return PICTURES.decode(file)
    except CodecError as error:
        return error


@cache
def whole_files() -> list[bytes]:
    """Return image files of several formats and sizes."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    formats = [ImageFile(name, 60) for name in ("WEBP", "WEBP", "JPEG", "PNG", "JPEG2000", "BMP")]
    return [each.encode(noise[:height, :width]) for each in formats for height, width in ((16, 16), (48, 16), (1, 9))]


def hostile_file(rng: random.Random) -> bytes:
    """Return an image file that is damaged, cut, joined with another, or whole."""
    file = bytearray(rng.choice(whole_files()))
    way = rng.random()
    if way < 0.6:
        for _ in range(rng.randrange(1, 9)):
            place = min(rng.randrange(len(file)), rng.randrange(len(file)))  # headers more often
            file[place] = rng.randrange(256)
    elif way < 0.8:
        del file[rng.randrange(len(file)) :]
    elif way < 0.9:
        file += rng.choice(whole_files())
    return bytes(file)


@cache
def whole_frames() -> list[bytes]:
    """Return the frames of two videos: key frames, deltas and repeats, and some of a larger size."""
    frames = list[bytes]()
    rng = np.random.default_rng(0)
    for shape in (SHAPE, SHAPE, (8, 10, 13)):
        free = replace(CODER, shapes=(shape,))
        stream = DeviceStream(lambda latent: [latent], free, 0, StreamOptions(key_every=4))
        latents = rng.normal(size=(6, *shape)).astype(np.float32)
        found = [stream.compress(latent) for latent in (*latents, latents[-1])]
        frames += [each for each in found if isinstance(each, bytes)]
    return frames


def hostile_frame(rng: random.Random) -> bytes:
    """Return a frame of a stream that is damaged, cut, forged, or whole and at the wrong time."""
    found = bytearray(rng.choice(whole_frames()))
    way = rng.random()
    if way < 0.4:
        for _ in range(rng.randrange(1, 5)):
            place = min(rng.randrange(len(found)), rng.randrange(len(found)))
            found[place] = rng.randrange(256)
    elif way < 0.5:
        del found[rng.randrange(len(found)) :]
    elif way < 0.6:
        found[5:] = rng.randbytes(rng.randrange(60))
    return bytes(found)


def draw(rng: random.Random) -> tuple[bytes, int, str]:
    """Return what an attacker sends on one connection, about how many frames that is, and how it ends."""
    frames = []
    for _ in range(rng.randrange(1, 200)):
        way = rng.random()
        if way < 0.4:
            payload = rng.randbytes(rng.randrange(50))
            frames.append(
                Request(rng.randrange(1 << 64), payload, rng.choice((0, 1, 2**32 - 1)), rng.randrange(256)).frame()
            )
        elif way < 0.6:
            frames.append(number_frame(rng.choice((Type.PING, Type.PONG)), rng.randrange(1 << 64)))
        elif way < 0.7:
            frames.append(Request(rng.randrange(4), b"\0", 0, 0, rng.randrange(256)).frame())
        elif way < 0.73:
            file = hostile_file(rng)
            content = with_checksum(file) if rng.random() < 0.9 else file  # most get as far as the decoder
            frames.append(Request(rng.randrange(1 << 64), content, kind=Kind.PICTURE).frame())
        elif way < 0.83:
            rate = 0 if rng.random() < 0.9 else rng.randrange(256)
            frames.append(Request(rng.randrange(1 << 64), hostile_frame(rng), rate=rate, kind=Kind.FRAME).frame())
        elif way < 0.99:
            frames.append(frame(Type.REQUEST, rng.randbytes(14), rng.randbytes(rng.randrange(100))))
        else:
            frames.append(
                rng.choice(
                    (
                        frame(rng.randrange(256), rng.randbytes(rng.randrange(30))),
                        rng.randrange(1 << 32).to_bytes(4, "little"),
                        rng.randbytes(rng.randrange(1, 60)),
                        goodbye_frame(),
                        HELLO,
                    )
                )
            )
    data = (HELLO if rng.random() < 0.95 else b"") + b"".join(frames)
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data))]
    return data, len(frames), rng.choices(("read", "abort", "half", "deaf", "silent"), (60, 20, 10, 5, 5))[0]


async def attack(port: int, rng: random.Random, budget: list[int]) -> None:
    """Be one attacker after another until the frames are used up."""
    while budget[0] > 0:
        data, frames, end = draw(rng)
        budget[0] -= frames
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
            try:
                writer.write(data)
                if end == "half":
                    writer.write_eof()
                if end in ("read", "half"):
                    await asyncio.wait_for(reader.read(1 << 16), 0.05)
                elif end == "deaf":
                    await asyncio.wait_for(writer.drain(), 0.1)
                elif end == "silent":
                    await asyncio.sleep(0.1)
            finally:
                writer.transport.abort()


def be_server(pipe: Connection) -> None:
    """Serve until killed."""

    async def serve() -> None:
        async with EdgeServer(Reverse(), limits=LIMITS) as server:
            pipe.send(server.port)
            await server.wait()

    asyncio.run(serve())


def be_attackers(port: int, frames: int, seed: int, left: Any) -> None:
    """Attack with many connections at once."""

    async def main() -> None:
        budget = [frames]
        attackers = [
            asyncio.ensure_future(attack(port, random.Random(f"{seed} {n}"), budget)) for n in range(ATTACKERS)
        ]
        while not all(attacker.done() for attacker in attackers):
            left.value = max(0, budget[0])
            await asyncio.wait(attackers, timeout=0.2)
        await asyncio.gather(*attackers)
        left.value = 0

    asyncio.run(main())


def be_clients(port: int, stop: Event, pipe: Connection, seed: int) -> None:
    """Ask until told to stop, and tell what came of it."""
    outcomes: Counter[str] = Counter()

    async def talk(rng: random.Random) -> None:
        async with EdgeClient("127.0.0.1", port, FINGERPRINT, patience_s=60) as client:
            asked, stream = False, DeviceStream(lambda latent: [latent], CODER, 0, StreamOptions())
            noise = np.random.default_rng(rng.randrange(1 << 30))
            while not asked or not stop.is_set():  # once at least: the attackers may be through before
                asked = True
                payloads = [bytes([1 + n]) + rng.randbytes(rng.randrange(5000)) for n in range(7)]
                image = np.full((16, 16, 3), rng.randrange(256), np.uint8)
                asks = [client.ask(payload) for payload in payloads]
                asks.append(client.ask(PICTURES.encode(image), kind=Kind.PICTURE))
                wanted = [payload[::-1] for payload in payloads] + [PICTURES.decode(PICTURES.encode(image)).tobytes()]
                for _ in range(3):
                    made = stream.frame(noise.normal(size=SHAPE).astype(np.float32))
                    assert isinstance(made, Frame)
                    asks.append(client.ask_frame(made))
                    wanted.append(made.tensors[0][0].tobytes())
                found = await asyncio.gather(*asks, return_exceptions=True)
                for expected, reply in zip(wanted, found, strict=True):
                    if isinstance(reply, BaseException):
                        outcomes[f"failed: {type(reply).__name__}"] += 1
                    else:
                        outcomes["right" if reply.arrays["r"].tobytes() == expected else "wrong"] += 1

    async def main() -> None:
        found = await asyncio.gather(
            *(talk(random.Random(f"{seed} {n}")) for n in range(CLIENTS)), return_exceptions=True
        )
        outcomes.update(f"lost client: {error!r}" for error in found if isinstance(error, LinkError))

    asyncio.run(main())
    pipe.send(dict(outcomes))


def resident(pid: int) -> int:
    """Return the bytes that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) << 10


def fuzz(frames: int, seed: int) -> dict[str, Any]:
    """Return outcomes of the well-behaved, memory of the server, and violations."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=be_server, args=(theirs,), daemon=True)
    server.start()
    port, stop, left = ours.recv(), context.Event(), context.Value("q", frames)
    told, tells = context.Pipe()
    clients = context.Process(target=be_clients, args=(port, stop, tells, seed), daemon=True)
    attackers = context.Process(target=be_attackers, args=(port, frames, seed, left), daemon=True)
    clients.start()
    attackers.start()
    early, peak, begun = 0, 0, time.monotonic()
    while attackers.is_alive() and server.is_alive() and server.pid is not None:
        attackers.join(0.5)
        now = resident(server.pid)
        peak = max(peak, now)
        if left.value > 0.9 * frames or time.monotonic() - begun < WARM_UP:
            early = max(early, now)
    stop.set()
    violations = [] if server.is_alive() else [f"the server died with status {server.exitcode}"]
    outcomes = told.recv() if told.poll(120) else {}
    if attackers.exitcode != 0:
        violations.append(f"the attackers ended with status {attackers.exitcode}")
    violations += [f"{number} {outcome}" for outcome, number in outcomes.items() if outcome != "right"]
    if not outcomes.get("right"):
        violations.append("no request of the well-behaved was answered")
    if peak > early + EXTRA:
        violations.append(f"the server has grown from {early / MIB:.0f} to {peak / MIB:.0f} MiB")
    for process in (server, clients, attackers):
        process.kill()
        process.join()
    return {"outcomes": outcomes, "early_mib": early / MIB, "peak_mib": peak / MIB, "violations": violations}


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print, leave a JSON file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz_server/results.json"))
    args = parser.parse_args(argv)
    start = time.monotonic()
    found = fuzz(args.frames, args.seed)
    seconds = time.monotonic() - start
    write_json(args.out, {"settings": vars(args), "seconds": seconds, **found})
    for violation in found["violations"]:
        print("VIOLATION", violation)
    memory = f"the server held {found['early_mib']:.0f} MiB early, {found['peak_mib']:.0f} MiB at most"
    right = found["outcomes"].get("right", 0)
    print(f"{args.frames:,} hostile frames, {right:,} right answers, {memory}, {seconds:.0f} s")
    print(f"{args.out} written")
    return int(bool(found["violations"]))
