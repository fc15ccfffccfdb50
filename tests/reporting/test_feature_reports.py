"""CSV files, plots and terminal tables of analyses of features."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image

from splitlearn.analysis import ContextEntropy, SpectrumPoint, coefficients, differences, distribution
from splitlearn.reporting import plot_distributions, plot_entropies, plot_spectrum, write_quantiles, write_records
from splitlearn.reporting.terminal import print_table


def test_records_become_rows(tmp_path: Path) -> None:
    points = [SpectrumPoint("CHW", 0.5, 0.9, 0.75, 4), SpectrumPoint("HWC", 0.5, 0.8, 0.5, 4)]
    write_records(tmp_path / "new" / "a.csv", {"one": points, "two": points[:1]})
    lines = list(csv.DictReader((tmp_path / "new" / "a.csv").read_text().splitlines()))
    assert [line["source"] for line in lines] == ["one", "one", "two"]
    assert lines[1] == {
        "source": "one",
        "order": "HWC",
        "share": "0.5",
        "energy": "0.8",
        "accuracy": "0.5",
        "images": "4",
    }


def test_distributions_have_their_quantiles_in_a_file_of_their_own(tmp_path: Path) -> None:
    found = coefficients(torch.rand(3, 2, 4, 4) - 0.5)
    write_records(tmp_path / "a.csv", {"features": found})
    write_quantiles(tmp_path / "b.csv", {"features": found})
    assert "quantiles" not in (tmp_path / "a.csv").read_text()
    share, *columns = zip(*csv.reader((tmp_path / "b.csv").read_text().splitlines()), strict=True)
    assert share[0] == "share"
    assert [c[0] for c in columns] == [f"features: {d.name}" for d in found]
    assert len(share) == 502
    assert [float(v) for v in columns[0][1:]] == pytest.approx(found[0].quantiles, rel=1e-5)


def test_plots_are_of_readable_size(tmp_path: Path) -> None:
    features = torch.randn(3, 4, 5, 5).relu()
    constant = [distribution(torch.ones(4), "constant")]
    one = {"a": [*coefficients(features), distribution(differences(features, "row"), "row")]}
    plot_distributions(one, tmp_path / "one.png", "Title")
    plot_distributions({**one, "b": constant, "c": constant}, tmp_path / "three.png", "Title")
    entropies = [ContextEntropy(f"{n}", 2**n, c, n * f) for n in (2, 3) for c, f in (("none", 1.0), ("left", 0.5))]
    flat = [ContextEntropy("2", 4, "none", 0.0), ContextEntropy("2", 4, "left", 0.0)]
    plot_entropies({"a": entropies, "flat": flat}, tmp_path / "entropy.png", "Title")
    plot_spectrum([SpectrumPoint("CHW", s, s, s, 9) for s in (0.1, 1.0)], tmp_path / "spectrum.png", "Title")
    sizes = {}
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
            assert image.convert("L").getextrema() == (0, 255)
    assert sizes["one.png"] == sizes["spectrum.png"] == (1050, 675)
    assert sizes["entropy.png"] == (1425, 630)
    assert sizes["three.png"] == (1425, 1260)


def test_tables_lose_nothing_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    words = [f"figure{i}" for i in range(9)]
    print_table("A title that is longer than the terminal is wide", words, [words, words])
    text = capsys.readouterr().out
    assert "…" not in text
    assert "A title that is longer than the terminal is wide" in text
    assert text.count("figure8") == 3
    assert text.count("figure0") == 2  # equal first cells stand only once
