import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitlearn.codecs import CodecError
from splitlearn.models.message import join_parts, split_parts


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_parts_come_back(parts: list[bytes]) -> None:
    assert split_parts(join_parts(parts), len(parts)) == parts


def test_a_single_part_costs_nothing() -> None:
    assert join_parts([b"payload"]) == b"payload"


@pytest.mark.parametrize("payload", [b"", b"\x05abc", b"\xff\xff\xff\xff\xff\xff"])
def test_truncation_shows(payload: bytes) -> None:
    with pytest.raises(CodecError, match="truncated"):
        split_parts(payload, 2)
