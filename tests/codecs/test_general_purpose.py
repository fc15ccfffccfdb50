"""Deflate and Zstandard: plain streams of their libraries, and no stream that allocates more than its shape."""

import subprocess
import sys
import threading
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard

from splitlearn.codecs import zstandard as zstandard_room
from splitlearn.codecs.base import Codec, CodecError
from splitlearn.codecs.container import pack, unpack
from splitlearn.codecs.deflate import Deflate
from splitlearn.codecs.zstandard import Zstandard
from splitlearn.outputs import init_args
from splitlearn.testing import random_symbols

CODECS: list[type[Deflate] | type[Zstandard]] = [Deflate, Zstandard]
Cls = type[Deflate] | type[Zstandard]


def stream(cls: Cls, data: bytes) -> bytes:
    return zlib.compress(data) if cls is Deflate else zstandard.compress(data)


def refused(codec: Codec, payload: bytes, count: int, message: str) -> int:
    """Assert that the payload is refused and return the bytes that were allocated at most."""
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match=message):
            codec.decode(payload, (count,), 256)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_streams_are_those_of_the_libraries() -> None:
    symbols = random_symbols((4, 30, 31), 16, 0.5, 0)
    assert zlib.decompress(Deflate().encode(symbols, 16)) == symbols.tobytes()
    assert zstandard.decompress(Zstandard().encode(symbols, 16)) == symbols.tobytes()
    for cls in CODECS:
        decoded = cls().decode(stream(cls, symbols.tobytes()), symbols.shape, 16)
        np.testing.assert_array_equal(decoded, symbols)


def test_stored_bytes_by_hand() -> None:
    # zlib header, one last stored block of 3 bytes, Adler-32: a = 1 + 6, b = 2 + 4 + 7
    assert (
        Deflate(0).encode(np.array([1, 2, 3], np.uint8), 4).hex() == "7801" + "01" + "0300fcff" + "010203" + "000d0007"
    )
    # magic number, one segment of 3 bytes, a last raw block of 3 bytes
    frame = "28b52ffd" + "20" + "03" + "190000" + "010203"
    assert Zstandard().encode(np.array([1, 2, 3], np.uint8), 4).hex() == frame


@pytest.mark.parametrize(("cls", "lowest", "highest"), [(Deflate, 0, 9), (Zstandard, 1, 22)])
def test_levels(cls: Cls, lowest: int, highest: int) -> None:
    symbols = random_symbols((3, 40, 40), 8, 0.5, 0)
    for level in (lowest, highest):
        codec = cls(level)
        assert init_args(codec) == {"level": level}
        np.testing.assert_array_equal(unpack(pack(symbols, 8, codec), codec)[0], symbols)
    with pytest.raises(CodecError, match="foreign codec"):
        unpack(pack(symbols, 8, cls(lowest)), cls(highest))
    for level in (lowest - 1, highest + 1):
        with pytest.raises(ValueError, match="level must lie in"):
            cls(level)


@pytest.mark.parametrize("cls", CODECS)
def test_a_shape_that_is_too_large_allocates_nothing(cls: Cls) -> None:
    payload = stream(cls, bytes(1000))
    assert refused(cls(), payload, 2**31 - 1, "too few") < 2**20
    assert refused(cls(), b"", 1, "too few") < 2**20


@pytest.mark.parametrize("cls", CODECS)
def test_the_best_compressed_arrays_are_not_refused(cls: Cls) -> None:
    symbols = np.zeros(1 << 24, np.uint8)
    payload = cls(9).encode(symbols, 2)
    np.testing.assert_array_equal(cls().decode(payload, symbols.shape, 2), symbols)


@pytest.mark.parametrize("cls", CODECS)
def test_a_stream_that_passes_its_shape_allocates_no_more(cls: Cls) -> None:
    assert refused(cls(), stream(cls, bytes(10_000_000)), 100, "symbols") < 2**20


@pytest.mark.parametrize("cls", CODECS)
def test_damage_is_refused(cls: Cls) -> None:
    payload = stream(cls, bytes(range(100)))
    for other in (payload + b"\0", payload + payload, payload[:-1], payload[:4], b"\0" * 40, b"\xff" * 40):
        refused(cls(), other, 100, "payload")
    for count in (99, 101):
        refused(cls(), payload, count, "symbols")


def test_the_check_sum_of_deflate_counts() -> None:
    payload = bytearray(Deflate().encode(np.arange(100, dtype=np.uint8), 256))
    payload[-1] ^= 1
    refused(Deflate(), bytes(payload), 100, "incorrect data check")


def test_frames_that_lie() -> None:
    frame = zstandard.compress(bytes(1000))
    assert frame[4:7] == bytes([0x60]) + (1000 - 256).to_bytes(2, "little")  # one segment, two bytes of content size
    larger = frame[:5] + b"\xff\xff" + frame[7:]
    refused(Zstandard(), larger, 65_535 + 256, "not one whole")
    smaller = frame[:5] + b"\0\0" + frame[7:]
    refused(Zstandard(), smaller, 256, "not one whole")
    refused(Zstandard(), zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000)), 1000, "claim")
    refused(Zstandard(), bytes.fromhex("502a4d18 04000000 01020304"), 4, "claim")  # a frame that is to be skipped
    window = 21 << 3  # 2 GiB for a frame of four ones, needed only where not all of the frame is there
    frame = bytes.fromhex("28b52ffd 80") + bytes([window]) + bytes.fromhex("04000000 230000 01")
    assert Zstandard().decode(frame, (4,), 2).tolist() == [1, 1, 1, 1]
    refused(Zstandard(), frame[:-1], 4, "not one whole")


def test_the_library_is_loaded_when_it_is_used() -> None:
    code = "import sys, splitlearn.codecs.zstandard; sys.exit('zstandard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compressors_do_not_pile_up_with_threads() -> None:
    codec, symbols = Zstandard(), random_symbols((3, 50), 16, zeros=0.5, seed=0)
    expected = codec.encode(symbols, 16)
    together, found = threading.Barrier(20), []

    def encode() -> None:
        together.wait()
        found.append(codec.encode(symbols, 16))

    threads = [threading.Thread(target=encode) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 20
    assert 1 <= len(zstandard_room._idle(codec.level)) <= zstandard_room.MOST_IDLE
