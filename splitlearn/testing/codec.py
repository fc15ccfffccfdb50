"""Contract tests of codecs, and their test arrays."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from splitlearn.codecs import Codec, CodecError, decode_latent, encode_latent, pack, unpack
from splitlearn.numpy_quantizers import ClippedGrid, Grid, MinMaxGrid, StepGrid

Symbols = NDArray[np.uint8]
ALPHABETS = (2, 3, 8, 100, 256)
UNEVEN = ClippedGrid(  # for latents of five channels, the last one without thresholds
    np.array([[-1.0, 0.1], [0.0, 0.2], [-0.3, np.inf], [-np.inf, 1.0], [np.inf, np.inf]], np.float32),
    np.array([[-2.0, 0.0, 2.5], [-1.0, 0.1, 1.0], [-1, 0.5, 0.5], [-3, -2, 4], [1, 1, 1]], np.float32),
)

# Tests run in many subclasses, the first call compiles kernels, and test cases must be reproducible.
PROPERTY = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors]
)


@st.composite
def symbol_arrays(draw: st.DrawFn, max_size: int = 400) -> tuple[Symbols, int]:
    """Draw an array of 0 to 3 dimensions with a flat to steep distribution, and the size of its alphabet."""
    levels = draw(st.sampled_from(ALPHABETS) | st.integers(2, 256))
    shape = tuple(draw(st.lists(st.integers(0, 12), max_size=3)))
    if draw(st.booleans()):
        shape = (draw(st.integers(0, max_size)),)
    zeros = draw(st.sampled_from((0.0, 0.5, 0.95, 1.0)))
    return random_symbols(shape, levels, zeros, draw(st.integers(0, 2**32 - 1))), levels


def random_symbols(shape: tuple[int, ...], levels: int, zeros: float, seed: int) -> Symbols:
    """Return geometrically distributed symbols, with an additional share `zeros` set to 0."""
    rng = np.random.default_rng(seed)
    symbols = np.minimum(rng.geometric(rng.choice((0.05, 0.4, 0.9)), shape) - 1, levels - 1)
    return np.where(rng.random(shape) < zeros, 0, symbols).astype(np.uint8)


def edge_cases(levels: int) -> dict[str, Symbols]:
    """Return edge cases for codecs, by name."""
    top = levels - 1
    spike = np.zeros(5000, np.uint8)
    spike[2048] = top
    return {
        "empty": np.zeros((0,), np.uint8),
        "no_channels": np.zeros((0, 3, 2), np.uint8),
        "scalar": np.array(top, np.uint8),
        "one_zero": np.zeros(1, np.uint8),
        "one_top": np.full((1, 1, 1), top, np.uint8),
        "all_zero": np.zeros((3, 40, 41), np.uint8),
        "all_top": np.full(1000, top, np.uint8),
        "ties": np.tile(np.arange(levels), 3).astype(np.uint8),
        "alternating": (np.arange(999) % 2).astype(np.uint8),
        "longest_runs": np.concatenate([[top], np.zeros(levels), [1], np.zeros(2 * levels + 1)]).astype(np.uint8),
        "spike": spike,
        "large": random_symbols((3, 80, 81), levels, 0.4, 1),
        "large_constant": np.full(20_000, top, np.uint8),
        "fibonacci": np.repeat(np.arange(min(levels, 18)), _fibonacci(min(levels, 18))).astype(np.uint8),
    }


def _fibonacci(count: int) -> list[int]:
    numbers = [1, 1]
    while len(numbers) < count:
        numbers.append(numbers[-1] + numbers[-2])
    return numbers[:count]


def mutations(payload: bytes, masks: tuple[int, ...] = (1, 0x80, 0xFF)) -> list[bytes]:
    """Return copies of `payload` with one byte changed, for each byte and each mask."""
    return [payload[:i] + bytes((payload[i] ^ mask,)) + payload[i + 1 :] for i in range(len(payload)) for mask in masks]


class CodecContract:
    """Contract tests of a codec: subclass it and define `make`. Static tables are tested if the codec has any.

    Attributes:
        max_levels: largest alphabet of the codec; larger ones are skipped.
    """

    max_levels: int = 256

    def within(self, case: tuple[Symbols, int]) -> tuple[Symbols, int]:
        """Return an array and the size of its alphabet, both limited to `max_levels`."""
        levels = min(case[1], self.max_levels)
        return np.asarray(np.minimum(case[0], np.uint8(levels - 1))), levels

    def check_size(self, levels: int) -> None:
        """Skip the test if the alphabet is too large for the codec."""
        if levels > self.max_levels:
            pytest.skip(f"this codec takes at most {self.max_levels} levels")

    def make(self) -> Codec:
        """Return a codec without static tables."""
        raise NotImplementedError

    def both(self, levels: int) -> list[Codec]:
        """Return the self-contained codec and, if the class has static tables, a fitted one."""
        codec = self.make()
        fitted = codec.fitted([random_symbols((2000,), levels, 0.3, 7)], levels)
        return [codec, fitted] if fitted.tables() else [codec]

    def with_references(self, levels: int) -> list[Codec]:
        """Return the self-contained codec and one fitted to a sequence, if the codec takes a reference."""
        codec = self.make()
        if not codec.takes_reference:
            return []
        frames = [random_symbols((5, 20, 20), levels, 0.3, seed) for seed in (7, 7, 8)]
        return [codec, *self.both(levels)[1:], codec.fitted_to_sequences([frames], levels)]

    def check_decodes_safely(
        self,
        codec: Codec,
        payload: bytes,
        shape: tuple[int, ...],
        levels: int,
        reference: Symbols | None = None,
    ) -> None:
        """Assert that any bytes decode to an array of that shape and alphabet or raise CodecError."""
        try:
            symbols = codec.decode(payload, shape, levels, reference)
        except CodecError:
            return
        assert symbols.shape == shape
        assert symbols.dtype == np.uint8
        assert symbols.size == 0 or symbols.max() < levels

    @PROPERTY
    @given(symbol_arrays())
    def test_round_trip(self, case: tuple[Symbols, int]) -> None:
        """Symbols and floats are restored, from bare codes and containers."""
        symbols, levels = self.within(case)
        for codec in self.both(levels):
            decoded = codec.decode(codec.encode(symbols, levels), symbols.shape, levels)
            np.testing.assert_array_equal(decoded, symbols, strict=True)
            unpacked, floats = unpack(pack(symbols, levels, codec, (0.1, -3.0)), codec)
            np.testing.assert_array_equal(unpacked, symbols, strict=True)
            assert floats == (float(np.float32(0.1)), -3.0)

    @PROPERTY
    @given(symbol_arrays(), st.integers(0, 2**32 - 1))
    def test_references(self, case: tuple[Symbols, int], seed: int) -> None:
        """Symbols are restored beside any reference, and a codec without references refuses one."""
        symbols, levels = self.within(case)
        other = random_symbols(symbols.shape, levels, 0.3, seed)
        for codec in self.with_references(levels):
            for reference in (other, symbols):
                payload = codec.encode(symbols, levels, reference)
                decoded = codec.decode(payload, symbols.shape, levels, reference)
                np.testing.assert_array_equal(decoded, symbols, strict=True)
            assert codec.encode(symbols, levels, None) == codec.encode(symbols, levels)
        if symbols.size and not self.make().takes_reference:
            with pytest.raises(ValueError, match="codes every frame by itself"):
                self.make().encode(symbols, levels, other)
            with pytest.raises(ValueError, match="codes every frame by itself"):
                self.make().decode(b"", symbols.shape, levels, other)

    @pytest.mark.parametrize("levels", ALPHABETS)
    def test_references_of_edge_cases(self, levels: int) -> None:
        """Edge cases are restored beside each other's symbols, truncated and continued payloads refused."""
        self.check_size(levels)
        for codec in self.with_references(levels):
            for name, symbols in edge_cases(levels).items():
                reference = symbols.reshape(-1)[::-1].reshape(symbols.shape)
                payload = codec.encode(symbols, levels, reference)
                decoded = codec.decode(payload, symbols.shape, levels, reference)
                np.testing.assert_array_equal(decoded, symbols, strict=True, err_msg=name)
                for damaged in (payload[:-1], payload + b"\0"):
                    if damaged != payload:
                        with pytest.raises(CodecError):
                            codec.decode(damaged, symbols.shape, levels, reference)

    @PROPERTY
    @given(symbol_arrays(max_size=120), st.binary(max_size=80))
    def test_damage_beside_a_reference(self, case: tuple[Symbols, int], noise: bytes) -> None:
        """Noise, changed bytes and another reference give CodecError or an array of the right shape and alphabet."""
        symbols, levels = self.within(case)
        other = random_symbols(symbols.shape, levels, 0.3, 1)
        for codec in self.with_references(levels):
            payload = codec.encode(symbols, levels, symbols)
            for damaged in (noise, *mutations(payload)):
                self.check_decodes_safely(codec, damaged, symbols.shape, levels, symbols)
            self.check_decodes_safely(codec, payload, symbols.shape, levels, other)

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            (np.zeros((4, 3), np.uint8), r"a reference has the shape of the symbols, \(3, 4\), got \(4, 3\)"),
            (np.full((3, 4), 8, np.uint8), "the reference: every symbol must be below levels=8, got 8"),
            (np.zeros((3, 4), np.int64), "the reference: symbols must be a uint8 numpy array"),
        ],
    )
    def test_refuses_wrong_references(self, reference: Any, message: str) -> None:
        """A reference of another shape, alphabet or type is a ValueError on both sides."""
        for codec in self.both(8):
            with pytest.raises(ValueError, match=message):
                codec.encode(np.zeros((3, 4), np.uint8), 8, reference)
            with pytest.raises(ValueError, match=message):
                codec.decode(b"", (3, 4), 8, reference)

    @pytest.mark.parametrize("levels", ALPHABETS)
    def test_edge_cases(self, levels: int) -> None:
        """Edge cases are restored."""
        self.check_size(levels)
        for codec in self.both(levels):
            for name, symbols in edge_cases(levels).items():
                decoded = codec.decode(codec.encode(symbols, levels), symbols.shape, levels)
                np.testing.assert_array_equal(decoded, symbols, strict=True, err_msg=name)

    @pytest.mark.parametrize("levels", ALPHABETS)
    def test_truncated_and_trailing_bytes(self, levels: int) -> None:
        """Truncated payloads and trailing bytes are refused."""
        self.check_size(levels)
        for codec in self.both(levels):
            for name, symbols in edge_cases(levels).items():
                payload = codec.encode(symbols, levels)
                every = 1 if len(payload) < 600 and symbols.size < 10_000 else len(payload) // 5 + 1
                lengths = range(0, len(payload), every)
                damaged = [payload[:length] for length in lengths] + [payload + b"\0", payload + b"\xff\xff"]
                for other in damaged:
                    with pytest.raises(CodecError):
                        raise AssertionError(f"{name} decoded: {codec.decode(other, symbols.shape, levels)}")

    @PROPERTY
    @given(symbol_arrays(max_size=120), st.binary(max_size=80))
    def test_damage_never_leaves_shape_or_alphabet(self, case: tuple[Symbols, int], noise: bytes) -> None:
        """Noise, changed bytes and wrong shapes give CodecError or an array of the right shape and alphabet."""
        symbols, levels = self.within(case)
        for codec in self.both(levels):
            for payload in (noise, *mutations(codec.encode(symbols, levels))):
                self.check_decodes_safely(codec, payload, symbols.shape, levels)
            self.check_decodes_safely(codec, codec.encode(symbols, levels), (symbols.size + 1,), levels)
            self.check_decodes_safely(codec, codec.encode(symbols, levels), (3, symbols.size), levels)

    @pytest.mark.parametrize("levels", ALPHABETS)
    def test_large_damage_never_leaves_shape_or_alphabet(self, levels: int) -> None:
        """The same for large arrays in fast loops, with everything after some byte damaged."""
        self.check_size(levels)
        symbols = edge_cases(levels)["large"]
        rng = np.random.default_rng(0)
        for codec in self.both(levels):
            payload = np.frombuffer(codec.encode(symbols, levels), np.uint8)
            for position in (*range(min(16, payload.size)), *rng.integers(0, payload.size, 30)):
                damaged = payload.copy()
                damaged[position:] ^= rng.integers(0, 256, payload.size - position).astype(np.uint8)
                self.check_decodes_safely(codec, damaged.tobytes(), symbols.shape, levels)

    @PROPERTY
    @given(symbol_arrays(max_size=100), st.booleans())
    def test_containers_show_any_damage(self, case: tuple[Symbols, int], with_floats: bool) -> None:
        """A container with any changed, missing or additional byte is refused."""
        symbols, levels = self.within(case)
        for codec in self.both(levels):
            payload = pack(symbols, levels, codec, (0.0, 1.0) if with_floats else ())
            damaged = [
                *mutations(payload),
                *(payload[:k] for k in range(len(payload))),
                payload + b"\0",
                b"\0" + payload,
            ]
            for other in damaged:
                with pytest.raises(CodecError):
                    unpack(other, codec)

    def test_same_bytes_every_time(self) -> None:
        """Copies of the codec write the same bytes and do not change the symbols."""
        symbols = random_symbols((4, 30, 31), 16, 0.3, 3)
        before = symbols.copy()
        for codec in self.both(16):
            payload = codec.encode(symbols, 16)
            revived = pickle.loads(pickle.dumps(codec))
            clones = (codec, copy.deepcopy(codec), revived, codec.with_tables(codec.tables()))
            assert all(clone.encode(symbols, 16) == payload for clone in clones)
            np.testing.assert_array_equal(symbols, before)

    @pytest.mark.parametrize("levels", [16, 100])
    def test_levels_may_be_any_integer(self, levels: int) -> None:
        """Numpy integers, also of few bits, are equivalent to Python's."""
        self.check_size(levels)
        symbols = random_symbols((8, 24, 25), levels, 0.3, 6)
        for codec in self.both(levels):
            payload = codec.encode(symbols, np.uint8(levels))  # type: ignore[arg-type]
            assert payload == codec.encode(symbols, levels)
            np.testing.assert_array_equal(codec.decode(payload, symbols.shape, np.uint8(levels)), symbols)  # type: ignore[arg-type]

    def test_tables_are_the_callers_own(self) -> None:
        """A change of the arrays of `tables` does not affect the codec."""
        symbols = random_symbols((4, 30, 31), 16, 0.3, 3)
        for codec in self.both(16):
            payload = codec.encode(symbols, 16)
            for table in codec.tables().values():
                if table.flags.writeable:
                    table[...] = 0
            assert codec.encode(symbols, 16) == payload
            np.testing.assert_array_equal(codec.decode(payload, symbols.shape, 16), symbols)

    @pytest.mark.parametrize("grid", [MinMaxGrid(2), MinMaxGrid(4), StepGrid(0.3, 13), UNEVEN], ids=repr)
    def test_latents_decode_as_symbols_do(self, grid: Grid) -> None:
        """Fused quantization and coding equals the separate steps, also on damage, and writes only to `out`."""
        latents = np.random.default_rng(0).normal(size=(6, 5, 24, 30)).astype(np.float32)
        symbols, floats = grid.quantize(latents[0])
        codec = self.make()
        for one in (codec, codec.fitted([grid.quantize(latent)[0] for latent in latents], grid.levels)):
            payload, its_floats = encode_latent(latents[0], grid, one)
            assert (payload, its_floats) == (one.encode(symbols, grid.levels), floats)
            rng = np.random.default_rng(1)
            for at in (len(payload), 0, 1, *rng.integers(0, len(payload), 20)):
                damaged = (
                    payload[:at]
                    + bytes(b ^ int(rng.integers(1, 256)) for b in payload[at : at + 9])
                    + payload[at + 9 :]
                )
                room = np.full((3, *symbols.shape), 7, np.float32)
                try:
                    expected = grid.dequantize(one.decode(damaged, symbols.shape, grid.levels), floats)
                except CodecError:
                    with pytest.raises(CodecError):
                        decode_latent(damaged, symbols.shape, floats, grid, one, room[1])
                else:
                    decode_latent(damaged, symbols.shape, floats, grid, one, room[1])
                    np.testing.assert_array_equal(room[1], expected)
                assert np.all(room[[0, 2]] == 7)

    def test_any_memory_layout(self) -> None:
        """Read-only, column-major and strided arrays give the same bytes; the result is a new array."""
        symbols = random_symbols((6, 10, 12), 8, 0.3, 4)
        read_only = symbols.copy()
        read_only.flags.writeable = False
        for codec in self.both(8):
            payload = codec.encode(symbols, 8)
            for other in (read_only, np.asfortranarray(symbols), np.repeat(symbols, 2, axis=2)[:, :, ::2]):
                assert codec.encode(other, 8) == payload
            decoded = codec.decode(payload, symbols.shape, 8)
            assert decoded.flags.writeable
            assert decoded.flags.c_contiguous

    @pytest.mark.parametrize(
        ("symbols", "levels"),
        [
            (np.zeros(3, np.int64), 8),
            (np.zeros(3, np.float32), 8),
            ([0, 1], 8),
            (np.array([0, 8], np.uint8), 8),
            (np.zeros(3, np.uint8), 1),
            (np.zeros(3, np.uint8), 257),
            (np.zeros(3, np.uint8), 8.0),
            (np.zeros(3, np.uint8), "8"),
            (np.broadcast_to(np.uint8(0), (2**16, 2**15)), 8),
        ],
    )
    def test_refuses_wrong_arguments(self, symbols: Any, levels: int) -> None:
        """Anything but a symbol array of this alphabet is a ValueError."""
        for codec in self.both(8):
            with pytest.raises(ValueError, match=r"symbol|levels"):
                codec.encode(symbols, levels)

    @pytest.mark.parametrize(
        ("shape", "levels"), [((3,), 1), ((3,), 257), ((-1,), 8), ((-2, -3), 8), ((2**20, 2**11), 8)]
    )
    def test_refuses_wrong_shapes(self, shape: tuple[int, ...], levels: int) -> None:
        """Impossible shapes and alphabets are a ValueError in decoding."""
        for codec in self.both(8):
            with pytest.raises(ValueError, match=r"shape|levels"):
                codec.decode(b"", shape, levels)
