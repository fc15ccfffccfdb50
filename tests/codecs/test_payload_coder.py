import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.codecs import Carrier, CodecError, PayloadCoder, Raw, RunLength, pack, unpack
from splitlearn.codecs.container import join_parts, split_parts
from splitlearn.codecs.payload_coder import tag_message, untag_message


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_parts_come_back(parts: list[bytes]) -> None:
    assert split_parts(join_parts(parts), len(parts)) == parts


def test_a_single_part_costs_nothing() -> None:
    assert join_parts([b"payload"]) == b"payload"


@pytest.mark.parametrize("payload", [b"", b"\x05abc", b"\xff\xff\xff\xff\xff\xff"])
def test_truncation_shows(payload: bytes) -> None:
    with pytest.raises(CodecError, match="truncated"):
        split_parts(payload, 2)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("tag", [0, 5, 7])
def test_a_tag_of_several_parts_costs_nothing(count: int, tag: int) -> None:
    payload = join_parts([pack(np.full(i, 7, np.uint8), 8, Raw()) for i in range(100, 100 + count)])
    carried = tag_message(payload, count, tag)
    assert len(carried) == len(payload)
    assert untag_message(carried, count) == (tag, payload)
    with pytest.raises(CodecError):
        untag_message(carried[:5], count)


class OfLevels:
    """A quantizer of which no more is known than its levels."""

    floats_per_image = 0

    def __init__(self, levels: int) -> None:
        self.levels = levels


@pytest.mark.parametrize("levels", [1, 257])
def test_a_carrier_refuses_impossible_levels(levels: int) -> None:
    with pytest.raises(ValueError, match="levels must be an integer in 2…256"):
        Carrier(RunLength(), OfLevels(levels))


def test_symbols_are_checked_before_they_are_packed() -> None:
    coder = PayloadCoder((Carrier(RunLength(), OfLevels(8)),), context=7)
    symbols = np.arange(8, dtype=np.uint8)
    payload = coder.pack([(symbols, ())])
    assert payload == pack(symbols, 8, RunLength(), context=7)
    np.testing.assert_array_equal(unpack(payload, RunLength(), 7)[0], symbols)
    with pytest.raises(ValueError, match="every symbol must be below levels=8, got 8"):
        coder.pack([(symbols + np.uint8(1), ())])
