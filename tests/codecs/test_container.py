"""The container: its bytes, its limits and what it tells about damage."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitlearn.codecs import Codec, CodecError, Huffman, RunLength, pack, tagged, unpack, untagged
from splitlearn.codecs.container import read_header


def forge(payload: bytes, codec: Codec) -> bytes:
    """Return `payload` with the checksum made right, as an attacker would."""
    check = zlib.crc32(payload[:5] + payload[9:]) ^ codec.identity
    return payload[:5] + check.to_bytes(4, "little") + payload[9:]


def test_bytes_of_the_example() -> None:
    symbols = np.array([[3, 4, 0, 0], [0, 0, 0, 7]], np.uint8)
    payload = pack(symbols, 8, RunLength(), (0.0, 1.5))
    assert RunLength().identity == zlib.crc32(b"RunLength")
    rest = bytes([2, 4]) + struct.pack("<ff", 0.0, 1.5) + bytes([0x34, 0xC7])
    start = bytes([0xC5, 0x12, 2, zlib.crc32(b"RunLength") & 255, 7])
    check = zlib.crc32(start + rest) ^ zlib.crc32(b"RunLength")
    assert payload == start + check.to_bytes(4, "little") + rest


def test_header_is_at_most_16_bytes() -> None:
    symbols = np.zeros((1, 1, 16_383), np.uint8)
    assert len(pack(symbols, 2, Huffman())) - len(Huffman().encode(symbols, 2)) == 9 + 1 + 1 + 2
    symbols = np.zeros((128, 2, 300), np.uint8)
    assert len(pack(symbols, 2, Huffman(), (1.0, 2.0))) - len(Huffman().encode(symbols, 2)) == 9 + 2 + 1 + 2 + 8


def test_header_can_be_read_alone() -> None:
    header = read_header(pack(np.zeros((3, 200), np.uint8), 17, RunLength(), (0.5,)), RunLength())
    assert (header.shape, header.levels, header.floats) == ((3, 200), 17, (0.5,))


def test_floats_are_single_precision() -> None:
    values = (0.1, float("inf"), -0.0, 1e-45)
    floats = unpack(pack(np.zeros(2, np.uint8), 2, RunLength(), values), RunLength())[1]
    assert floats == tuple(struct.unpack("<4f", struct.pack("<4f", *values)))
    with pytest.raises(ValueError, match="single precision"):
        pack(np.zeros(2, np.uint8), 2, RunLength(), (1e39,))


def test_limits() -> None:
    many = np.zeros((1,) * 15, np.uint8)
    np.testing.assert_array_equal(unpack(pack(many, 2, RunLength(), [1.0] * 255), RunLength())[0], many, strict=True)
    with pytest.raises(ValueError, match="15 dimensions"):
        pack(np.zeros((1,) * 16, np.uint8), 2, RunLength())
    with pytest.raises(ValueError, match="255 floats"):
        pack(many, 2, RunLength(), [0.0] * 256)
    with pytest.raises(ValueError, match="dimension"):
        pack(np.empty((0, 2**31), np.uint8), 2, RunLength())


def test_tells_foreign_from_damaged() -> None:
    payload = pack(np.arange(8, dtype=np.uint8), 8, RunLength())
    with pytest.raises(CodecError, match="foreign codec or quantizer: not by Huffman"):
        unpack(payload, Huffman())
    with pytest.raises(CodecError, match="damaged"):
        unpack(payload[:-1] + b"\x55", RunLength())
    with pytest.raises(CodecError, match="not a splitlearn container"):
        unpack(b"JFIF" + payload[4:], RunLength())


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, 0x21, "version 2"),
        (1, 0x1F, "dimension|passes"),
        (2, 200, "passes its end"),
        (3, 0, "version|foreign"),
        (4, 0, "levels"),
        (9, 0x88, "too few|dimension|truncated"),
        (9, 9, "truncated|too few"),
    ],
)
def test_forged_headers_are_refused(position: int, value: int, message: str) -> None:
    payload = bytearray(pack(np.arange(8, dtype=np.uint8), 8, RunLength()))
    payload[position] = value
    with pytest.raises(CodecError, match=message):
        unpack(forge(bytes(payload), RunLength()), RunLength())


@pytest.mark.parametrize("dimensions", ["8800", "808080800f", "ffffffffff0f", "80"])
def test_forged_dimensions_are_refused(dimensions: str) -> None:
    payload = pack(np.zeros(0, np.uint8), 8, RunLength())[:9] + bytes.fromhex(dimensions)
    with pytest.raises(CodecError, match="dimension"):
        unpack(forge(payload, RunLength()), RunLength())


def test_a_context_must_be_shared() -> None:
    symbols = np.arange(8, dtype=np.uint8)
    payload = pack(symbols, 8, RunLength(), context=0x1234)
    assert len(payload) == len(pack(symbols, 8, RunLength()))
    assert np.array_equal(unpack(payload, RunLength(), context=0x1234)[0], symbols)
    for other in (0, 0x1235):
        with pytest.raises(CodecError, match="foreign codec or quantizer"):
            unpack(payload, RunLength(), context=other)


@st.composite
def containers(draw: st.DrawFn) -> bytes:
    """A container of a few symbols, by a codec that all of them share."""
    symbols = np.array(draw(st.lists(st.integers(0, 7), max_size=40)), np.uint8)
    return pack(symbols, 8, RunLength(), draw(st.lists(st.just(0.5), max_size=2)), draw(st.integers(0, 2**32 - 1)))


@settings(deadline=None)  # the first call compiles
@given(containers(), st.integers(0, 7))
def test_a_tag_costs_no_byte_and_comes_back(payload: bytes, tag: int) -> None:
    carried = tagged(payload, tag)
    assert len(carried) == len(payload)
    assert carried[0] == payload[0] ^ tag
    assert (carried == payload) == (tag == 0)
    assert untagged(carried) == (tag, payload)
    assert tagged(carried, 0) == payload


@settings(deadline=None)
@given(st.data())
def test_a_damaged_tag_is_found(data: st.DataObject) -> None:
    """Whatever is changed within 32 bits, those of the tag too: the reader's codec and context are as they were."""
    payload = tagged(pack(np.arange(8, dtype=np.uint8), 8, RunLength(), context=77), data.draw(st.integers(0, 7)))
    start = data.draw(st.integers(0, 8 * len(payload) - 32))
    change = data.draw(st.integers(1, 2**32 - 1)) << start
    damaged = (int.from_bytes(payload, "little") ^ change).to_bytes(len(payload), "little")
    with pytest.raises(CodecError):
        unpack(untagged(damaged)[1], RunLength(), context=77)


@pytest.mark.parametrize("change", range(1, 8))
def test_no_tag_turns_into_another(change: int) -> None:
    for tag in range(8):
        payload = tagged(pack(np.arange(8, dtype=np.uint8), 8, RunLength()), tag)
        found, plain = untagged(bytes([payload[0] ^ change]) + payload[1:])
        assert found == tag ^ change
        with pytest.raises(CodecError, match="damaged"):
            unpack(plain, RunLength())


def test_tags_are_told_from_other_things() -> None:
    payload = pack(np.arange(8, dtype=np.uint8), 8, RunLength())
    for tag in (-1, 8):
        with pytest.raises(ValueError, match=r"a tag must be an integer in 0…7"):
            tagged(payload, tag)
    for other in (b"", payload[:8], b"JFIF" + payload[4:], bytes([0xC5 ^ 8]) + payload[1:]):
        with pytest.raises(CodecError, match="not a splitlearn container"):
            untagged(other)
    with pytest.raises(CodecError, match="damaged, tagged, or not"):
        unpack(tagged(payload, 3), RunLength())
