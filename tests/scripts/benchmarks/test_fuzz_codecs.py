"""The fuzzer finds no fault in the codecs of the package, and finds each kind of fault where there is one."""

import json
import mmap
import os
import random
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.benchmarks import fuzz_codecs
from splitlearn.codecs import CodecError, Raw
from splitlearn.codecs.base import Payload
from splitlearn.numpy_quantizers import Grid
from splitlearn.testing import verdict
from splitlearn.testing.damage import MANY_CHANNELS, draw_symbols
from tests.codecs.test_contract import CODECS

ROOT = Path(__file__).parents[3]
Symbols = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shape = tuple[int, ...]


class LeavesTheAlphabet(Raw):
    def decode(self, payload: Payload, shape: Shape, levels: int, reference: Symbols | None = None) -> Symbols:
        return super().decode(payload, shape, 256)


class LeavesTheShape(Raw):
    def decode(self, payload: Payload, shape: Shape, levels: int, reference: Symbols | None = None) -> Symbols:
        return super().decode(payload, (len(payload),), levels)


class ReadsTooFar(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        return np.array([payload[i] for i in range(np.prod(shape, dtype=int))], np.uint8)


class TakesAnything(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        return np.zeros(shape, np.uint8)


class RefusesItsOwn(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        if payload.size:
            raise CodecError("some")
        return super()._decode(payload, shape, levels)


class Warns(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        np.uint8(200) + np.uint8(levels - 1)
        return super()._decode(payload, shape, levels)


class FailsToEncode(Raw):
    def _encode(self, symbols: Symbols, levels: int) -> bytes:
        return bytes([symbols.reshape(-1)[symbols.size]])


class TrustsTheShape(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        symbols = np.empty(shape, np.uint8).reshape(-1)
        if symbols.size != payload.size:
            raise CodecError("too late")
        symbols[:] = payload
        return symbols


class Latents(Raw):
    """Raw with another way to latents."""

    def _decode_latent(
        self, payload: Symbols, shape: Shape, floats: tuple[float, ...], grid: Grid, out: Floats | None
    ) -> Floats:
        return self.change(super()._decode_latent(payload, shape, floats, grid, out))

    def change(self, latent: Floats) -> Floats:
        return latent


class WritesBehindLatents(Latents):
    def change(self, latent: Floats) -> Floats:
        if isinstance(latent.base, np.ndarray) and latent.base.size > latent.size:
            latent.base[-1] = 0
        return latent


class WritesElsewhere(Latents):
    def change(self, latent: Floats) -> Floats:
        return latent.copy()


class ChangesLatents(Latents):
    def change(self, latent: Floats) -> Floats:
        latent[latent == 0] = -0.0
        return latent


class RefusesLatents(Latents):
    def change(self, latent: Floats) -> Floats:
        if latent.size > 20:
            raise CodecError("too many")
        return latent


class HoldsTooMuch(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        np.empty(16 * payload.size)
        return super()._decode(payload, shape, levels)


class HoldsTooMuchUnseen(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        mmap.mmap(-1, 1 << 26).close()
        return super()._decode(payload, shape, levels)


class Dies(Raw):
    def _decode(self, payload: Symbols, shape: Shape, levels: int) -> Symbols:
        if payload.size > np.prod(shape, dtype=int):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super()._decode(payload, shape, levels)


def batch(name: str, payloads: int = 2000, number: int = 0) -> Any:
    return fuzz_codecs.fuzz(fuzz_codecs.Task(name, {}, False, 0, number, payloads))


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (LeavesTheAlphabet, "symbol .* is not below levels"),
        (LeavesTheShape, "no uint8 array of shape"),
        (ReadsTooFar, "raised IndexError"),
        (TakesAnything, "other symbols or floats come out"),
        (RefusesItsOwn, "a whole payload is refused"),
        (Warns, "raised RuntimeWarning"),
        (FailsToEncode, "raised IndexError"),
        (WritesBehindLatents, "memory before or behind the latent"),
        (WritesElsewhere, "not in the array out"),
        (ChangesLatents, "from its dequantized symbols"),
        (RefusesLatents, "only as a latent the payload is refused"),
        (TrustsTheShape, "raised .*MemoryError|bytes or more are held"),
    ],
)
def test_finds_faults(cls: type[Raw], problem: str) -> None:
    found = batch(f"{__name__}.{cls.__name__}").violation
    assert found is not None
    assert re.search(problem, found["problem"])
    assert found["codec"] == f"{__name__}.{cls.__name__}"
    assert ("payload" in found) == (cls is not FailsToEncode)


@pytest.mark.skipif(sys.platform != "linux", reason="what Python does not see is limited on Linux")
@pytest.mark.parametrize("cls", [HoldsTooMuch, HoldsTooMuchUnseen])
def test_finds_what_holds_too_much_memory(cls: type[Raw]) -> None:
    found = batch(f"{__name__}.{cls.__name__}", 10, number=7).violation  # starts with a large array
    assert found is not None
    assert re.search(r"bytes or more are held|raised OSError\(12", found["problem"])


def test_finds_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "SLOW", 1e-9)
    assert re.fullmatch(r"a decode takes \d+ ms", batch("splitlearn.codecs.raw.Raw").violation["problem"])


def test_equal_batches_have_equal_payloads() -> None:
    one, two = (batch("splitlearn.codecs.huffman.Huffman", 500) for _ in range(2))
    assert one.outcomes == two.outcomes
    assert one.violation is None


@pytest.mark.slow
def test_finds_nothing_in_the_codecs_of_the_package(tmp_path: Path) -> None:
    out = tmp_path / "run" / "results.json"
    assert fuzz_codecs.main(["--payloads", "3000", "--seed", "3", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    rows = record["codecs"]
    assert {"date", "machine", "versions", "settings", "seconds"} <= record.keys()
    assert {cls.__name__ for cls in CODECS} | {"Huffman, static"} <= rows.keys()
    assert all(row["violation"] is None and row["slowest_ms"] > 0 for row in rows.values())
    assert 3000 <= record["payloads"] == sum(sum(row["outcomes"].values()) for row in rows.values())
    outcomes = set().union(*(row["outcomes"] for row in rows.values()))
    assert {"whole: exact", "container: refused", "huge: refused"} <= outcomes
    assert {"latent whole: exact", "latent container: refused", "latent huge: refused"} <= outcomes
    for way in ("code", "elsewhere", "forged code", "forged header"):
        assert {f"{way}: refused", f"{way}: other", f"latent {way}: refused", f"latent {way}: other"} <= outcomes


def test_draws_arrays_of_many_channels() -> None:
    rng = random.Random(0)
    assert set(MANY_CHANNELS) <= {draw_symbols(rng, False)[0].shape for _ in range(300)}


@pytest.mark.slow
def test_a_crash_is_a_violation_and_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = tmp_path / "results.json"
    codecs = ["--codec", f"{__name__}.Dies", "--codec", "Raw"]
    assert fuzz_codecs.main([*codecs, "--payloads", "2000", "--out", str(out)]) == 1
    rows = json.loads(out.read_text())["codecs"]
    found = rows["Dies"]["violation"]
    assert f"died with status -{signal.SIGSEGV.value}" in found["problem"]
    assert "Segmentation fault" in found["problem"]
    assert (found["seed"], found["batch"]) == (0, 0)
    payload, code = bytes.fromhex(found["payload"]), np.prod(found["shape"], dtype=int)
    assert len(payload) > code
    assert "VIOLATION" in capsys.readouterr().out
    assert rows["Raw"]["violation"] is None
    assert sum(rows["Raw"]["outcomes"].values()) == 1000


def test_names_the_codecs_that_there_are() -> None:
    with pytest.raises(SystemExit):
        fuzz_codecs.main(["--codec", "Nonsense"])
