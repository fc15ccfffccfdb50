"""Codecs side by side: what is measured is exact, complete and stated; how fast anything is, is no matter here."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from splitlearn import codecs as room
from splitlearn.analysis import CodecRow, compare_codecs, package_codecs, transfer_tables, with_static_tables
from splitlearn.analysis.codec_comparison import entropy_bytes
from splitlearn.codecs import Codec, CodecError, Huffman, Raw, encode_latent
from splitlearn.numpy_quantizers import MinMaxGrid, StepGrid
from splitlearn.reporting import codec_markdown, print_codecs, processor, transfer_markdown, write_codecs
from splitlearn.reporting.codec_report import sizes_markdown

GRID = MinMaxGrid(3)
GENERAL = {"zlib-1", "zlib-6", "zstd-1", "zstd-3"}


def latents(count: int, seed: int = 0, sparse: float = 0.5) -> list[NDArray[np.float32]]:
    values = np.random.default_rng(seed).exponential(size=(count, 4, 6, 7))
    return list(np.where(values < sparse, 0, values).astype(np.float32))


class Counting(Raw):
    """Counts what it is asked for."""

    encoded = decoded = 0

    def _encode(self, symbols: NDArray[np.uint8], levels: int) -> bytes:
        self.encoded += 1
        return super()._encode(symbols, levels)

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        self.decoded += 1
        return super()._decode(payload, shape, levels)


class Lossy(Raw):
    """Loses the last symbol."""

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        symbols = super()._decode(payload, shape, levels)
        symbols[-1] ^= 1
        return symbols


@pytest.fixture(scope="module")
def rows() -> list[CodecRow]:
    return compare_codecs(latents(5), GRID, with_static_tables(package_codecs(), latents(5, 1), GRID), rounds=2)


def test_every_codec_of_the_package_is_found() -> None:
    names = {name for name in room.__all__ if isinstance(cls := getattr(room, name), type) and issubclass(cls, Codec)}
    assert package_codecs().keys() >= names - {"Codec", "Deflate", "Zstandard"} | GENERAL
    assert not any(codec.tables() for codec in package_codecs().values())


def test_a_new_file_is_found_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fresh.py").write_text(
        "from splitlearn.codecs.raw import Raw\n\n\nclass Fresh(Raw):\n    '''As it is.'''\n"
    )
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    assert "Fresh" in package_codecs()
    monkeypatch.delitem(sys.modules, "splitlearn.codecs.fresh")
    monkeypatch.delattr(room, "fresh")


def test_codecs_that_learn_stand_twice() -> None:
    both = with_static_tables({"Raw": Raw(), "Huffman": Huffman()}, latents(3), GRID)
    assert list(both) == ["Raw", "Huffman", "Huffman, static"]
    expected = Huffman.fit([GRID.quantize(latent)[0] for latent in latents(3)], GRID.levels)
    assert both["Huffman, static"].identity == expected.identity


def test_sizes_are_those_of_the_codes(rows: list[CodecRow]) -> None:
    codecs = with_static_tables(package_codecs(), latents(5, 1), GRID)
    assert [row.codec for row in rows] == list(codecs)
    ideal = np.mean([entropy_bytes(GRID.quantize(latent)[0]) for latent in latents(5)])
    for row in rows:
        sizes = [len(encode_latent(latent, GRID, codecs[row.codec])[0]) for latent in latents(5)]
        assert row.bytes_per_image == pytest.approx(np.mean(sizes))
        assert row.entropy_ratio == pytest.approx(np.mean(sizes) / ideal)
        assert row.table_bytes == sum(table.nbytes for table in codecs[row.codec].tables().values())
        assert (row.tables == "static") == row.codec.endswith(", static") == (row.table_bytes > 0)
        assert (row.levels, row.images, row.rounds) == (8, 5, 2)
        assert row.encode_gbps > 0 < row.decode_gbps


def test_yardsticks_measure_themselves_as_one(rows: list[CodecRow]) -> None:
    by = {row.codec: row for row in rows}
    assert by["zlib-1"].encode_by_zlib1 == by["zlib-1"].decode_by_zlib1 == 1
    assert by["zstd-1"].encode_by_zstd1 == by["zstd-1"].decode_by_zstd1 == 1
    assert by["Raw"].encode_by_zlib1 == pytest.approx(by["Raw"].encode_gbps / by["zlib-1"].encode_gbps)
    assert by["Raw"].decode_by_zstd1 == pytest.approx(by["Raw"].decode_gbps / by["zstd-1"].decode_gbps)


def test_without_yardsticks_there_is_no_ratio() -> None:
    (row,) = compare_codecs(latents(2), GRID, {"Raw": Raw()}, rounds=1)
    assert {row.encode_by_zlib1, row.decode_by_zlib1, row.encode_by_zstd1, row.decode_by_zstd1} == {None}


def test_entropy_of_known_symbols() -> None:
    assert entropy_bytes(np.tile(np.arange(4, dtype=np.uint8), 8)) == 8  # 32 symbols of two bits
    assert entropy_bytes(np.full(100, 7, np.uint8)) == 0


def test_constant_latents_have_no_entropy_to_compare_with() -> None:
    (row,) = compare_codecs([np.ones((2, 3, 4), np.float32)], GRID, {"Huffman": Huffman()}, rounds=1)
    assert row.entropy_ratio is None
    assert row.bytes_per_image == 1


def test_latents_of_several_shapes() -> None:
    mixed = [np.eye(3, dtype=np.float32), np.eye(5, dtype=np.float32)]
    (row,) = compare_codecs(mixed, StepGrid(0.5), {"Raw": Raw()}, rounds=2)
    assert row.bytes_per_image == (9 + 25) / 2


def test_a_codec_that_loses_something_is_refused() -> None:
    with pytest.raises(CodecError, match="mine is not lossless: image 0 came back changed"):
        compare_codecs(latents(2), GRID, {"Raw": Raw(), "mine": Lossy()}, rounds=1)


@pytest.mark.parametrize(("patience", "rounds"), [(1e9, 4), (0.0, 1)])
def test_a_slow_codec_gets_fewer_rounds(patience: float, rounds: int) -> None:
    codec, other = Counting(), Counting()
    found = compare_codecs(latents(3), GRID, {"a": codec, "b": other}, 4, patience, in_full=["b"])
    assert [row.rounds for row in found] == [rounds, 4]
    assert codec.encoded == codec.decoded == 3 * rounds + 1  # the first compiles
    assert other.encoded == 3 * 4 + 1


@pytest.mark.parametrize(("count", "rounds"), [(0, 1), (1, 0)])
def test_nothing_to_compare_on(count: int, rounds: int) -> None:
    with pytest.raises(ValueError, match="at least one latent and one round"):
        compare_codecs(latents(count), GRID, {"Raw": Raw()}, rounds)


def test_narrow_terminals_lose_no_figure(
    rows: list[CodecRow], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_codecs(rows, "Title")
    text = capsys.readouterr().out
    assert "…" not in text
    for row in rows:
        assert f"{row.codec} " in text
        assert f"{row.bytes_per_image:,.1f}" in text


def test_markdown_has_a_line_for_each_row(rows: list[CodecRow]) -> None:
    lines = codec_markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    raw = next(line for line in lines if "| Raw |" in line)
    assert raw.startswith("| 8 | Raw | 168.0 | – | ")


def test_sizes_of_several_sources(rows: list[CodecRow]) -> None:
    other = compare_codecs(latents(2), MinMaxGrid(2), {"Raw": Raw(), "Huffman": Huffman()}, rounds=1)
    lines = sizes_markdown({"one": rows, "two": other}).splitlines()
    assert lines[0] == "| source | codec | 4 levels | 8 levels |"
    assert len(lines) == 2 + len(rows) + 2
    (raw,) = (row for row in rows if row.codec == "Raw")
    assert f"| one | Raw | – | 168 ({raw.entropy_ratio:.3f}) |" in lines
    assert lines[-2].startswith("| two | Raw | 168 (")


def test_files_hold_the_rows_and_a_plot(rows: list[CodecRow], tmp_path: Path) -> None:
    (constant,) = compare_codecs([np.zeros((2, 2), np.float32)], GRID, {"Raw": Raw()}, rounds=1)
    results = {"dense": rows, "constant": [constant]}
    write_codecs(results, tmp_path / "out", "codecs", "Title", {"data": "some"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["codecs.csv", "codecs.json", "codecs.png"]
    record = json.loads((tmp_path / "out" / "codecs.json").read_text())
    assert record["data"] == "some"
    assert {source: [CodecRow(**row) for row in found] for source, found in record["sources"].items()} == results
    lines = list(csv.DictReader((tmp_path / "out" / "codecs.csv").read_text().splitlines()))
    assert [line["source"] for line in lines] == ["dense"] * len(rows) + ["constant"]
    assert lines[-1] == {"source": "constant"} | {k: "" if v is None else str(v) for k, v in asdict(constant).items()}
    with Image.open(tmp_path / "out" / "codecs.png") as image:
        assert image.width > 1000


def test_foreign_tables_cost_bytes() -> None:
    found = transfer_tables(latents(4), latents(4, 1), latents(4, 2, sparse=3.0), GRID, package_codecs())
    by = {row.codec: row for row in found}
    assert "Huffman" in by
    assert "Raw" not in by
    for row in found:
        assert row.levels == 8
        assert 0 < row.seen_bytes <= 1.02 * row.fitted_bytes
        assert row.loss_percent == pytest.approx(100 * row.foreign_bytes / row.fitted_bytes - 100)
        if row.codec != "CompressedSparseRow":  # its table is the commonest symbol, the same in all three
            assert row.loss_percent > 5
    lines = transfer_markdown({("there", "here"): found}).splitlines()
    assert len(lines) == 2 + len(found)
    assert lines[2].startswith(f"| {found[0].codec} | here | there | 8 | {found[0].foreign_bytes:,.1f} | ")


def test_the_processor_has_a_name() -> None:
    assert processor().strip()
