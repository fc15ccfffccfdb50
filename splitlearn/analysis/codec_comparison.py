"""Comparison of codecs on the same latents: losslessness, bytes, throughput."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitlearn import codecs as room
from splitlearn.codecs import Codec, CodecError, Deflate, Zstandard, decode_latent, encode_latent
from splitlearn.discovery import concrete_classes
from splitlearn.numpy_quantizers import Grid

STATIC = ", static"


@dataclass(frozen=True)
class CodecRow:
    """Measurement of one codec on one set of latents with one quantizer.

    Attributes:
        codec: label of the codec.
        tables: "static" if tables are sent beforehand; "own" if each payload carries its tables.
        levels: size of the alphabet.
        images: number of latents.
        rounds: number of times each latent was coded; its best time counts.
        bytes_per_image: mean size of an image after encoding, tables in payloads included; the container, the same for
            all codecs, is not counted.
        table_bytes: size in bytes of static tables, which are sent once and not in payloads.
        entropy_ratio: `bytes_per_image` divided by the mean order-0 entropy per image in bytes; None if that is 0.
        encode_gbps: throughput from latent to code in 10⁹ bytes of float32 latent per second, quantization included.
        decode_gbps: throughput from code to latent in the same unit.
        encode_by_zlib1: `encode_gbps` divided by that of the codec labelled zlib-1; None if there is no such codec.
        decode_by_zlib1: `decode_gbps` divided by that of zlib-1.
        encode_by_zstd1: `encode_gbps` divided by that of the codec labelled zstd-1.
        decode_by_zstd1: `decode_gbps` divided by that of zstd-1.
    """

    codec: str
    tables: str
    levels: int
    images: int
    rounds: int
    bytes_per_image: float
    table_bytes: int
    entropy_ratio: float | None
    encode_gbps: float
    decode_gbps: float
    encode_by_zlib1: float | None
    decode_by_zlib1: float | None
    encode_by_zstd1: float | None
    decode_by_zstd1: float | None


def package_codecs() -> dict[str, Codec]:
    """Return all codecs of `splitlearn.codecs`, without static tables, by label; new codecs are found automatically.

    Deflate and Zstandard have the labels zlib-1, zlib-6, zstd-1 and zstd-3: their library and effort.
    """
    plain = [cls for cls in concrete_classes(room, Codec) if cls not in (Deflate, Zstandard)]
    found = {cls.__name__: cls() for cls in plain}
    general: dict[str, Codec] = {f"zlib-{level}": Deflate(level) for level in (1, 6)}
    return found | general | {f"zstd-{level}": Zstandard(level) for level in (1, 3)}


def with_static_tables(
    codecs: Mapping[str, Codec], latents: Iterable[NDArray[np.float32]], grid: Grid
) -> dict[str, Codec]:
    """Return the codecs by label, each followed by a copy with static tables fitted to `latents` if it supports them.

    Measure the copies on other latents.
    """
    samples = [grid.quantize(latent)[0] for latent in latents]
    both: dict[str, Codec] = {}
    for label, codec in codecs.items():
        both[label] = codec
        fitted = codec.fitted(samples, grid.levels)
        if fitted.tables() and not codec.tables():
            both[label + STATIC] = fitted
    return both


def compare_codecs(
    latents: Sequence[NDArray[np.float32]],
    grid: Grid,
    codecs: Mapping[str, Codec],
    rounds: int = 11,
    patience: float = 2.0,
    in_full: Collection[str] = (),
) -> list[CodecRow]:
    """Measure each codec on the same latents, in this thread.

    The codecs take turns: in each round all of them encode all latents and decode them into an existing buffer, in an
    order that rotates. A latent's best time over the rounds counts. The first round also checks that every code decodes
    exactly.

    Args:
        latents: float32 arrays, one per image; use many different ones, since branch prediction learns repeated ones.
        grid: their quantizer.
        codecs: codecs by label. Static tables must come from other latents (`with_static_tables`).
        rounds: number of times each latent is coded.
        patience: time limit in seconds for the rounds of a codec after the first; a slow codec gets fewer rounds.
        in_full: labels of codecs that get all rounds even if they are slow.

    Returns:
        One row per codec, in the given order.

    Raises:
        CodecError: if a codec is not lossless.
        ValueError: if there are no latents or rounds, or a latent cannot be quantized.
    """
    if not latents or rounds < 1:
        raise ValueError(f"comparing takes at least one latent and one round, got {len(latents)} and {rounds}")
    quantized = [grid.quantize(latent) for latent in latents]
    ideal = float(np.mean([entropy_bytes(symbols) for symbols, _ in quantized]))
    latents_hat = [grid.dequantize(symbols, floats) for symbols, floats in quantized]
    trials = {label: _Trial(label, codec, latents, grid) for label, codec in codecs.items()}
    order, wanted = list(trials), dict.fromkeys(trials, rounds)
    for number in range(rounds):
        turn = number % max(1, len(order))
        for label in order[turn:] + order[:turn]:
            if number < wanted[label]:
                seconds = trials[label].run(latents_hat if number == 0 else None)
                if number == 0 and label not in in_full:
                    wanted[label] = 1 + min(rounds - 1, int(patience / seconds))
    rates = {label: trial.gbps() for label, trial in trials.items()}
    return [_row(trial, rates, ideal) for trial in trials.values()]


def entropy_bytes(symbols: NDArray[np.uint8]) -> float:
    """Return the order-0 entropy of the symbols of an image in bytes."""
    counts = np.bincount(symbols.reshape(-1))
    counts = counts[counts > 0]
    return float((counts * np.log2(symbols.size / counts)).sum() / 8)


class _Trial:
    """A codec and its measurements so far."""

    def __init__(self, label: str, codec: Codec, latents: Sequence[NDArray[np.float32]], grid: Grid) -> None:
        self.label, self.codec, self.latents, self.grid = label, codec, latents, grid
        self.rooms = {latent.shape: np.zeros_like(latent) for latent in latents}
        self.encode_seconds = self.decode_seconds = [float("inf")] * len(latents)
        self.sizes: list[int] = []
        self.rounds = 0
        code, floats = encode_latent(latents[0], grid, codec)  # what is compiled, is compiled here
        decode_latent(code, latents[0].shape, floats, grid, codec)

    def run(self, latents_hat: Sequence[NDArray[np.float32]] | None) -> float:
        """Encode and decode all latents once and return the seconds; raise CodecError if a decoded latent differs."""
        payloads, encode_seconds, decode_seconds = [], [], []
        for latent in self.latents:
            start = time.perf_counter()
            payload = encode_latent(latent, self.grid, self.codec)
            encode_seconds.append(time.perf_counter() - start)
            payloads.append(payload)
        for number, (latent, (code, floats)) in enumerate(zip(self.latents, payloads, strict=True)):
            room = self.rooms[latent.shape]
            start = time.perf_counter()
            decode_latent(code, latent.shape, floats, self.grid, self.codec, room)
            decode_seconds.append(time.perf_counter() - start)
            if latents_hat is not None and not np.array_equal(room, latents_hat[number]):
                raise CodecError(f"{self.label} is not lossless: image {number} came back changed")
        self.encode_seconds = list(map(min, self.encode_seconds, encode_seconds))
        self.decode_seconds = list(map(min, self.decode_seconds, decode_seconds))
        self.sizes = [len(code) for code, _ in payloads]
        self.rounds += 1
        return sum(encode_seconds) + sum(decode_seconds)

    def gbps(self) -> tuple[float, float]:
        """Return the throughput of encoding and of decoding, in 10⁹ bytes of float32 latent per second."""
        size = sum(latent.nbytes for latent in self.latents) / 1e9
        return size / sum(self.encode_seconds), size / sum(self.decode_seconds)


def _row(trial: _Trial, rates: Mapping[str, tuple[float, float]], ideal: float) -> CodecRow:
    encode, decode = rates[trial.label]
    by = {name: rates.get(name, (None, None)) for name in ("zlib-1", "zstd-1")}
    mean = sum(trial.sizes) / len(trial.sizes)
    tables = trial.codec.tables()
    return CodecRow(
        codec=trial.label,
        tables="static" if tables else "own",
        levels=trial.grid.levels,
        images=len(trial.latents),
        rounds=trial.rounds,
        bytes_per_image=mean,
        table_bytes=sum(table.nbytes for table in tables.values()),
        entropy_ratio=mean / ideal if ideal > 0 else None,
        encode_gbps=encode,
        decode_gbps=decode,
        encode_by_zlib1=_ratio(encode, by["zlib-1"][0]),
        decode_by_zlib1=_ratio(decode, by["zlib-1"][1]),
        encode_by_zstd1=_ratio(encode, by["zstd-1"][0]),
        decode_by_zstd1=_ratio(decode, by["zstd-1"][1]),
    )


def _ratio(rate: float, yardstick: float | None) -> float | None:
    return None if yardstick is None else rate / yardstick
