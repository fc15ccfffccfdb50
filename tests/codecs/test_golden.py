"""Payloads of today: every machine writes these bytes and reads them, and so does every later version.

`tests/golden/codecs.json` changes by `pytest tests/codecs/test_golden.py --update-golden` and by nothing else. It has,
for each codec as it is and with each switch of its constructor the other way, and for each of `CASES`, the bare code
(its digest if it is long), what the container puts in front of it, and the static tables; for each of `GRIDS`, the
digests of the symbols of `LATENTS` and of what they stand for. Symbols and latents come from integer arithmetic alone:
the streams of numpy's generators may change.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import Codec, Deflate, Zstandard, pack, unpack
from splitlearn.codecs.latents import decode_latent, encode_latent
from splitlearn.files import write_json
from splitlearn.numpy_quantizers import AffineGrid, Grid, MinMaxGrid, StepGrid
from tests.codecs.test_contract import CODECS

FILE = Path(__file__).parents[1] / "golden" / "codecs.json"
UPDATE = "pytest tests/codecs/test_golden.py --update-golden"
OF_LIBRARIES = (Deflate, Zstandard)  # whose bytes depend on the build of the library; all builds read each other's
LONGEST = 4096  # bytes that stand in the file; longer codes are there as their SHA-256
FLOATS, CONTEXT = (0.5, -3.0), 0x1234ABCD
STATIC = ("steep", "flat", "channels", "large")  # the cases that static tables are tried on
GRIDS = (MinMaxGrid(3), StepGrid(0.5, 16), AffineGrid(0.25, 3, 16))
Symbols = NDArray[np.uint8]
Floats = NDArray[np.float32]


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
    "channels": (shaped(steep(600, 4, 5), 300, 2, 1), 4),
    "large": (shaped(smooth(17_160, 4, 4), 4, 65, 66), 4),  # reaches the loops for large arrays
}


def latent(seed: int, *shape: int) -> Floats:
    """Multiples of 2⁻²¹ in −4…4, a quarter of them multiples of ⅛: those lie halfway between levels, too."""
    numbers = ((bits >> 26 << 18 if bits & 3 == 0 else bits >> 8) - (1 << 23) for bits in random_bits(seed))
    found = [number for number, _ in zip(numbers, range(int(np.prod(shape))), strict=False)]
    return (np.array(found, np.float32) * np.float32(2**-21)).reshape(shape)


LATENTS = {"small": latent(6, 3, 12, 13), "large": latent(7, 4, 65, 66)}


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


def variants(cls: type[Codec]) -> dict[str, Codec]:
    """The codec as it is, and with each switch of its constructor the other way, by how it is called in the file."""
    switches = [p for p in inspect.signature(cls).parameters.values() if isinstance(p.default, bool)]
    return {"": cls(), **{f", {p.name}={not p.default}": cls(**{p.name: not p.default}) for p in switches}}


def kinds(cls: type[Codec]) -> dict[tuple[str, str], Codec]:
    """The codecs that have an entry, by how the entry is called: the kind and the name of its case."""
    found: dict[tuple[str, str], Codec] = {}
    for variant, codec in variants(cls).items():
        found |= {(f"self-contained{variant}", name): codec for name in CASES}
        fitted = {(f"static{variant}", name): codec.fitted([CASES[name][0]], CASES[name][1]) for name in STATIC}
        found |= {key: codec for key, codec in fitted.items() if codec.tables()}
    return found


def revived(codec: Codec, golden: dict[str, Any]) -> Codec:
    """The codec with the tables of the file."""
    return codec.with_tables(
        {
            name: np.frombuffer(bytes.fromhex(table["hex"]), table["dtype"]).reshape(table["shape"])
            for name, table in golden.get("tables", {}).items()
        }
    )


def everything() -> dict[str, Any]:
    """What the file is to hold."""
    codecs: dict[str, Any] = {}
    for cls in CODECS:
        for (kind, name), codec in kinds(cls).items():
            codecs.setdefault(cls.__name__, {}).setdefault(kind, {})[name] = entry(codec, *CASES[name])
    arrays = {name: digest(symbols.tobytes()) for name, (symbols, _) in CASES.items()}
    return {"arrays": arrays, "latents": latents(), "codecs": codecs}


def latents() -> dict[str, Any]:
    """What the file has of quantizers: how each numbers the levels of each latent, and what these stand for."""
    found: dict[str, Any] = {name: {"latent": digest(_little(values))} for name, values in LATENTS.items()}
    for (name, values), grid in product(LATENTS.items(), GRIDS):
        symbols, floats = grid.quantize(values)
        restored = digest(_little(grid.dequantize(symbols, floats)))
        found[name][str(grid)] = {"symbols": digest(symbols.tobytes()), "floats": list(floats), "restored": restored}
    return found


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.config.getoption("--update-golden"):
        write_json(FILE, everything())
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def entries(golden: dict[str, Any], cls: type[Codec]) -> list[tuple[Codec, dict[str, Any], Symbols, int]]:
    """The codecs with the tables of their golden entries, these, and the arrays; the test fails if one is missing."""
    found = golden["codecs"].get(cls.__name__, {})
    wanted = kinds(cls)
    for kind, name in wanted:
        if name not in found.get(kind, {}):
            pytest.fail(f"no golden payload of {cls.__name__}, {kind}, case {name!r}: write it by {UPDATE}")
    return [
        (revived(codec, found[kind][name]), found[kind][name], *CASES[name]) for (kind, name), codec in wanted.items()
    ]


def test_the_arrays_are_what_they_were(golden: dict[str, Any]) -> None:
    assert golden["arrays"] == {name: digest(symbols.tobytes()) for name, (symbols, _) in CASES.items()}


def test_quantizers_number_levels_as_they_did(golden: dict[str, Any]) -> None:
    assert golden.get("latents") == latents(), f"a quantizer changed, or has no entry; if that is meant: {UPDATE}"


@pytest.mark.parametrize("name", LATENTS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("cls", CODECS)
def test_quantizing_and_coding_in_one_writes_the_same_bytes(cls: type[Codec], grid: Grid, name: str) -> None:
    values = LATENTS[name]
    symbols, floats = grid.quantize(values)
    for codec in variants(cls).values():
        for each in (codec, codec.fitted([symbols], grid.levels)):
            code, its_floats = encode_latent(values, grid, each)
            assert (code, its_floats) == (each.encode(symbols, grid.levels), floats)
            restored = decode_latent(code, values.shape, floats, grid, each)
            np.testing.assert_array_equal(
                restored.view(np.int32), grid.dequantize(symbols, floats).view(np.int32), strict=True
            )


@pytest.mark.parametrize("cls", [cls for cls in CODECS if cls not in OF_LIBRARIES])
def test_writes_the_golden_bytes(golden: dict[str, Any], cls: type[Codec]) -> None:
    for codec, expected, symbols, levels in entries(golden, cls):
        found = entry(codec, symbols, levels)
        assert json.loads(json.dumps(found)) == expected, f"the format changed; if that is meant: {UPDATE}"


@pytest.mark.parametrize("cls", CODECS)
def test_reads_the_golden_bytes(golden: dict[str, Any], cls: type[Codec]) -> None:
    for codec, expected, symbols, levels in entries(golden, cls):
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
    for cls in CODECS:
        assert golden["codecs"][cls.__name__].keys() == {kind for kind, _ in kinds(cls)}
