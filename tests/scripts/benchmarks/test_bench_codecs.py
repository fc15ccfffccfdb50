"""The benchmark of codecs leaves its tables; how fast anything is, is no matter here."""

from __future__ import annotations

import importlib
import io
import json
import tarfile
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitlearn.analysis import CodecRow, package_codecs
from tests.archives import members

PHOTOGRAPHS = "ResNet-20 layer1, photographs"
RIVALS = {"zlib-1", "zlib-6", "zstd-1", "zstd-3", "lz4", "constriction ANS", "constriction Huffman"}


@pytest.fixture(scope="module")
def script() -> Any:
    pytest.importorskip("constriction", reason="needs the extra bench")
    pytest.importorskip("lz4", reason="needs the extra bench")
    return importlib.import_module("scripts.benchmarks.bench_codecs")


@pytest.fixture
def few_images(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared data with twenty images in place of 60,000, two a class: most of the time goes into their names."""
    folder = tmp_path / "shared/data"
    folder.mkdir(parents=True)
    for name in ("weights", "imagenet_sample500.zip"):
        (folder / name).symlink_to(shared_data / name)
    with tarfile.open(folder / "cifar10_jpeg_q75.tar.xz", "w:xz") as archive:
        for n, (_, content) in enumerate(islice(members(shared_data / "cifar10_jpeg_q75.tar.xz"), 20)):
            member = tarfile.TarInfo(f"cifar10/test/class{n % 10}/{n // 10:04}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setenv("SPLITLEARN_SHARED", str(folder.parent))


@pytest.mark.slow
def test_leaves_tables_of_all_codecs(script: Any, few_images: None, tmp_path: Path) -> None:
    script.main(["--quick", "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "results.json", "results.png"]
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    about = {"date", "command", "machine", "processor", "versions", "load_average", "data", "images", "container"}
    assert about <= record.keys()
    assert {"numba", "lz4", "constriction", "zstandard", "zlib"} <= record["versions"].keys()
    assert record["images"].startswith("10 CIFAR-10 images measured, 10 others")
    assert set(record["sources"]) == {"ResNet-20 layer1", "ResNet-32 layer1", "MobileNetV2 features.3", PHOTOGRAPHS}
    for source, rows in record["sources"].items():
        by = {row["codec"]: row for row in rows}
        left_out = {"constriction Huffman"} if source == PHOTOGRAPHS else set()
        everything = package_codecs().keys() | RIVALS | {"Huffman, static", "constriction ANS, static"}
        assert by.keys() >= everything - left_out
        assert all(row.keys() == {field.name for field in fields(CodecRow)} for row in rows)
        assert {row["levels"] for row in rows} == {8}
        elements = 802_816 if source == PHOTOGRAPHS else 75_264 if "Mobile" in source else 16_384
        assert by["Raw"]["bytes_per_image"] == elements
        assert 1 < by["constriction ANS"]["entropy_ratio"] < 1.02
        for label in {"constriction Huffman"} - left_out:
            assert by[label]["bytes_per_image"] == pytest.approx(by["Huffman"]["bytes_per_image"], rel=0.02)
        assert by["constriction ANS, static"]["table_bytes"] == 16

    moves = {(row["coded"], row["tables"]) for row in record["transfer"]}
    assert moves == {("ResNet-32 layer1", "ResNet-20 layer1"), (PHOTOGRAPHS, "ResNet-20 layer1")}
    readme = (tmp_path / "out" / "README.md").read_text()
    for word in (*RIVALS, record["processor"], record["date"], record["command"], "no seed", "![bytes over bits"):
        assert word in readme


def test_rivals_give_back_what_they_were_given(script: Any) -> None:
    symbols = np.random.default_rng(0).geometric(0.02, (3, 40, 50)).clip(max=256).astype(np.uint8) - np.uint8(1)
    for codec in script.contenders().values():
        for candidate in (codec, codec.fitted([symbols], 256)):
            payload = candidate.encode(symbols, 256)
            assert np.array_equal(candidate.decode(payload, symbols.shape, 256), symbols)


def test_says_where_the_data_should_be(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITLEARN_SHARED", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no images and weights in .*: set SPLITLEARN_SHARED"):
        script.main(["--quick"])
