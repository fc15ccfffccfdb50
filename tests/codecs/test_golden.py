"""Payloads of today: every machine writes these bytes and reads them, and so does every later version.

`tests/golden/codecs.json` changes by `pytest tests/codecs/test_golden.py --update-golden` and by nothing else. It has,
for each codec and each of `CASES`, the bare code (its digest if it is long), what the container puts in front of it,
and the static tables. Symbols come from integer arithmetic alone: the streams of numpy's generators may change.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import Codec, Deflate, Zstandard, pack, unpack
from splitlearn.files import write_json
from tests.codecs.test_contract import CODECS

FILE = Path(__file__).parents[1] / "golden" / "codecs.json"
UPDATE = "pytest tests/codecs/test_golden.py --update-golden"
OF_LIBRARIES = (Deflate, Zstandard)  # whose bytes depend on the build of the library; all builds read each other's
LONGEST = 4096  # bytes that stand in the file; longer codes are there as their SHA-256
FLOATS, CONTEXT = (0.5, -3.0), 0x1234ABCD
STATIC = ("steep", "flat", "large")  # the cases that static tables are tried on
Symbols = NDArray[np.uint8]


def random_bits(seed: int) -> Iterator[int]:
    """32-bit numbers of Knuth's linear congruential generator."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 32


def flat(count: int, levels: int, seed: int) -> list[int]:
    return [bits * levels >> 32 for bits, _ in zip(random_bits(seed), range(count), strict=False)]


def steep(count: int, levels: int, seed: int) -> list[int]:
    """Each symbol half as often as the one before."""
    tops = (32 - bits.bit_length() for bits in random_bits(seed))
    return [min(top, levels - 1) for top, _ in zip(tops, range(count), strict=False)]


def smooth(count: int, levels: int, seed: int) -> list[int]:
    """Mostly zeros, and symbols that like to stay as they are."""
    found = [0]
    for bits, other in zip(random_bits(seed), steep(count - 1, levels, seed + 1), strict=False):
        found.append(found[-1] if bits % 8 else other * (bits >> 8) % levels)
    return found


def shaped(symbols: list[int], *shape: int) -> Symbols:
    return np.array(symbols, np.uint8).reshape(shape)


CASES: dict[str, tuple[Symbols, int]] = {
    "empty": (shaped([], 0, 3), 8),
    "scalar": (shaped([1]), 2),
    "one symbol": (shaped([3] * 35, 5, 7), 6),
    "flat": (shaped(flat(600, 256, 1), 2, 15, 20), 256),
    "steep": (shaped(steep(468, 8, 2), 3, 12, 13), 8),
    "smooth": (shaped(smooth(1860, 16, 3), 2, 30, 31), 16),
    "large": (shaped(smooth(17_160, 4, 4), 4, 65, 66), 4),  # reaches the loops for large arrays
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(codec: Codec, symbols: Symbols, levels: int) -> dict[str, Any]:
    """What the file has of one codec and one array."""
    code = codec.encode(symbols, levels)
    container = pack(symbols, levels, codec, FLOATS, CONTEXT)
    assert container.endswith(code)
    tables = {
        name: {"dtype": table.dtype.newbyteorder("<").str, "shape": table.shape, "hex": _little(table).hex()}
        for name, table in codec.tables().items()
    }
    text = {"code": code.hex()} if len(code) <= LONGEST else {"sha256": digest(code)}
    return {"header": container[: len(container) - len(code)].hex(), **text, **({"tables": tables} if tables else {})}


def _little(table: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(table, table.dtype.newbyteorder("<")).tobytes()


def revived(cls: type[Codec], golden: dict[str, Any]) -> Codec:
    """The codec with the tables of the file."""
    return cls.from_tables(
        {
            name: np.frombuffer(bytes.fromhex(table["hex"]), table["dtype"]).reshape(table["shape"])
            for name, table in golden.get("tables", {}).items()
        }
    )


def everything() -> dict[str, Any]:
    """What the file is to hold."""
    codecs: dict[str, Any] = {}
    for cls in CODECS:
        codecs[cls.__name__] = {"self-contained": {name: entry(cls(), *case) for name, case in CASES.items()}}
        fitted = {name: cls.fit([CASES[name][0]], CASES[name][1]) for name in STATIC}
        if any(codec.tables() for codec in fitted.values()):
            codecs[cls.__name__]["static"] = {name: entry(codec, *CASES[name]) for name, codec in fitted.items()}
    return {"arrays": {name: digest(symbols.tobytes()) for name, (symbols, _) in CASES.items()}, "codecs": codecs}


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.config.getoption("--update-golden"):
        write_json(FILE, everything())
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def entries(golden: dict[str, Any], cls: type[Codec]) -> list[tuple[dict[str, Any], Symbols, int]]:
    """The golden entries of a codec with their arrays; the test fails if one is missing."""
    found = golden["codecs"].get(cls.__name__, {})
    wanted = [*product(["self-contained"], CASES)]
    if cls.fit([CASES["steep"][0]], CASES["steep"][1]).tables():
        wanted += product(["static"], STATIC)
    for kind, name in wanted:
        if name not in found.get(kind, {}):
            pytest.fail(f"no golden payload of {cls.__name__}, {kind}, case {name!r}: write it by {UPDATE}")
    return [(found[kind][name], *CASES[name]) for kind, name in wanted]


def test_the_arrays_are_what_they_were(golden: dict[str, Any]) -> None:
    assert golden["arrays"] == {name: digest(symbols.tobytes()) for name, (symbols, _) in CASES.items()}


@pytest.mark.parametrize("cls", [cls for cls in CODECS if cls not in OF_LIBRARIES])
def test_writes_the_golden_bytes(golden: dict[str, Any], cls: type[Codec]) -> None:
    for expected, symbols, levels in entries(golden, cls):
        found = entry(revived(cls, expected), symbols, levels)
        assert json.loads(json.dumps(found)) == expected, f"the format changed; if that is meant: {UPDATE}"


@pytest.mark.parametrize("cls", CODECS)
def test_reads_the_golden_bytes(golden: dict[str, Any], cls: type[Codec]) -> None:
    for expected, symbols, levels in entries(golden, cls):
        codec = revived(cls, expected)
        if "code" not in expected:  # it is there as a digest: what has that digest is to be read
            code = codec.encode(symbols, levels)
            assert digest(code) == expected["sha256"]
        else:
            code = bytes.fromhex(expected["code"])
        np.testing.assert_array_equal(codec.decode(code, symbols.shape, levels), symbols, strict=True)
        unpacked, floats = unpack(bytes.fromhex(expected["header"]) + code, codec, CONTEXT)
        np.testing.assert_array_equal(unpacked, symbols, strict=True)
        assert floats == FLOATS


def test_a_codec_without_golden_payloads_fails_by_name(golden: dict[str, Any]) -> None:
    class Unheard(CODECS[0]):  # type: ignore[misc, valid-type]
        pass

    with pytest.raises(pytest.fail.Exception, match=r"no golden payload of Unheard.*--update-golden"):
        entries(golden, Unheard)


def test_the_file_has_no_codec_that_is_gone(golden: dict[str, Any]) -> None:
    assert golden["codecs"].keys() <= {cls.__name__ for cls in CODECS}
