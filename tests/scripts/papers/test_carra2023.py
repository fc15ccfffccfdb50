"""The page of scripts/papers/carra2023 says what its points say, and leaves tables and plots."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from scripts.papers.carra2023 import report, sizes
from scripts.papers.carra2023.points import images_in
from scripts.papers.common.rate_study import Subject
from splitlearn.analysis import RatePoint
from splitlearn.reporting.rate_plots import Panel, plot_panels

ROOT = Path(__file__).parents[3]
CODECS = ("order-0 entropy", "zlib-6", "run-length", "Huffman", "ContextRANS")
FACTORS = dict(zip(CODECS, (1.0, 1.1, 1.4, 1.05, 0.7), strict=True))
ELEMENTS = 8192
UNSPLIT = 0.8
PLOTS = {
    *("figure1_coefficients.png", "figure2_differences.png", "figure4_relevance.png", "figure5_score.png"),
    *("figure6_bytes.png", "figure7_zlib.png", "entropy.png", "spectrum.png"),
}
TABLES = {"points.csv", "coefficients.csv", "differences.csv", "entropy.csv", "relevance.csv", "spectrum.csv"}


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        noise = torch.randint(0, 256, (4, 4, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).resize((32, 32)).save(folder / f"{number}.jpg", quality=75)


def points(bits: int, scale: float) -> list[RatePoint]:
    size = {codec: scale * 300 * bits * factor for codec, factor in FACTORS.items()}
    score = UNSPLIT - {2: 0.2, 3: 0.02}.get(bits, 0.001)
    return [
        RatePoint("min–max", f"{bits} bits", codec, 2**bits, score, mean, 8 * mean / ELEMENTS, 100 * bits)
        for codec, mean in size.items()
    ]


def write_points(folder: Path, scale: float, files: bool) -> None:
    folder.mkdir(parents=True)
    found = {f"min_max_{n}": points(n, scale) for n in range(2, 9)}
    found["unsplit"] = [RatePoint("unsplit", "", "none", 256, UNSPLIT, 0.0, 0.0, 0)]
    if files:
        for quality, score, size in ((25, 0.7, 111.0), (50, 0.795, 222.0), (90, 0.8, 555.0)):
            name, setting = f"JPEG_{quality}", f"quality {quality}"
            found[name] = [RatePoint("JPEG", setting, "JPEG", 256, score, size, 8 * size / ELEMENTS, 0)]
    for name, several in found.items():
        (folder / f"{name}.json").write_text(json.dumps([asdict(p) for p in several]))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two cuts of one classifier and of a detector, on generated points and images."""
    tmp = tmp_path_factory.mktemp("carra")
    torch.manual_seed(0)
    for label in range(10):
        write_images(tmp / "cifar" / "test" / f"class{label}", 2)
    write_images(tmp / "coco" / "images" / "val2017", 3)
    words = ("--model.model.net.model.weights", str(ROOT / "checkpoints/resnet32_cifar10_jpeg.safetensors"))
    config = str(ROOT / "configs/carra2023/resnet32.yaml")
    subjects = [
        Subject(f"ResNet-32 {at}", config, (*words, "--model.model.net.at", at), tmp / "cifar", tmp)
        for at in ("layer1", "layer2")
    ]
    detector = str(ROOT / "configs/carra2023/yolov8n_model4.yaml")
    subjects.append(Subject("YOLOv8n model.4", detector, (), tmp / "coco", tmp))
    for number, subject in enumerate(subjects):
        write_points(tmp / "runs" / subject.slug, 1 + number, files=number > 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "CUTS", sizes.CUTS[:1])
        patch.setattr(sys, "argv", ["/somewhere/carra2023", "--cifar10", str(tmp / "cifar")])
        torch.set_num_threads(1)
        report.report(subjects, tmp / "runs", tmp / "out", None)
    return tmp / "out"


@pytest.mark.slow
def test_leaves_page_tables_and_plots(written: Path) -> None:
    found = {path.name for path in written.iterdir()}
    assert found >= PLOTS | TABLES | {"README.md", "results.json"}
    assert not {"figure3_video.png", "video.csv"} & found  # no video was named
    page = (written / "README.md").read_text()
    assert set(re.findall(r"\]\((\S+\.png)\)", page)) == PLOTS
    assert all((written / name).stat().st_size > 10_000 for name in PLOTS)


@pytest.mark.slow
def test_figures_of_the_page_are_those_of_the_points(written: Path) -> None:
    page = (written / "README.md").read_text()
    for scale, name in ((1, "ResNet-32 layer1"), (2, "ResNet-32 layer2"), (3, "YOLOv8n model.4")):
        part = page.split(f"### {name}\n")[1].split("#")[0]
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 7
        for cells in rows[2:]:
            bits = int(cells[0])
            expected = points(bits, scale)
            change = f"{100 * (expected[0].score - UNSPLIT):+.2f}".replace("-", "−")
            assert cells[1:3] == [f"{100 * expected[0].score:.2f}", change]
            assert cells[3:8] == [f"{p.bytes_per_image:,.0f}" for p in expected]
            assert cells[8] == f"{100 * bits:,}"
        assert f"{4 * ELEMENTS:,} bytes of floats" in part
    assert "4 bits cost 3 of 3 cuts no more than half a point (ResNet-32 layer1 −0.10" in page
    assert "3 bits cost 0 of 3 cuts" in page


def test_cheapest_within_a_point_skips_what_loses_more(written: Path) -> None:
    page = (written / "README.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| ResNet-32 layer2 | top-1"))
    # 3 bits lose two points, quality 25 ten
    sizes = [f"{2 * 300 * 4 * FACTORS[codec]:,.0f} (n = 4)" for codec in CODECS[1:]]
    assert [cell.strip() for cell in line.split("|")[4:-1]] == [*sizes, "222 (JPEG, quality 50)"]
    # files were measured at layer2 only, and stand for the network
    other = next(line for line in page.splitlines() if line.startswith("| ResNet-32 layer1 | top-1"))
    assert "222 (JPEG, quality 50)" in other
    ratios = [scale * 300 * 4 * 1.4 / 222 for scale in (1, 3)]
    assert f"run-length payloads are {ratios[0]:.1f} to {ratios[1]:.1f} times as large as the cheapest image" in page


def test_sizes_stand_beside_the_papers(written: Path) -> None:
    page = (written / "README.md").read_text()
    assert "| VGG16, layer 10 | `features.9` | 128×56×56 | 1,568.0 | 1,568.0 | 12.20 | 12.20 | 2.67 | 2.67 |" in page
    assert "| COCO, val2017 | 3 |" in page
    assert "| CIFAR-10 as JPEG, test | 20 |" in page


def test_zlib_is_compared_in_bytes_and_time(written: Path) -> None:
    page = (written / "README.md").read_text()
    ratio = f"{1.4 / 1.1:.2f}"
    assert f"| ResNet-32 layer1 | {' | '.join([ratio] * 7)} |" in page
    assert "smaller: nowhere" in page
    record = json.loads((written / "results.json").read_text())
    times = record["sections"]["Against zlib (Fig. 7)"]
    assert list(times) == [str(n) for n in range(2, 9)]
    assert [row["codec"] for row in times["3"]] == ["run-length", "zlib-1", "zlib-6"]
    assert all(row["rounds"] == 11 and row["images"] == 20 for rows in times.values() for row in rows)


def test_records_hold_all_points_and_no_folders(written: Path) -> None:
    record = json.loads((written / "results.json").read_text())
    assert {"date", "command", "machine", "processor", "versions", "data", "seed"} <= record.keys()
    assert record["command"] == "carra2023 --cifar10 cifar"
    assert record["data"] == {"CIFAR-10 as JPEG, test": 20, "COCO, val2017": 3}
    assert record["points"]["ResNet-32 layer1"][:5] == [asdict(p) for p in points(2, 1)]
    with (written / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 7 * 5 + 3 * 3  # each with the files of its network
    assert float(rows[0]["bytes_per_image"]) == points(2, 1)[0].bytes_per_image


def test_features_are_described_by_what_was_computed(written: Path) -> None:
    page = (written / "README.md").read_text()
    with (written / "coefficients.csv").open(newline="") as file:
        everything = next(csv.DictReader(file))
    zeros = f"{100 * float(everything['zeros']):.1f}"
    assert f"ResNet-32 layer2 has {zeros} % zeros and values from" in page
    with (written / "spectrum.csv").open(newline="") as file:
        halves = [100 * float(row["accuracy"]) for row in csv.DictReader(file) if float(row["share"]) == 0.5]
    assert f"half of the frequencies leave {min(halves):.1f} to {max(halves):.1f} % top-1" in page
    assert "saliency, \\|gradient\\|" in page  # a bar would end the cell


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a folder of data"):
        report.report([], tmp_path, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_images_that_are_no_jpeg_files(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no JPEG files"):
        images_in(tmp_path)


def test_no_panels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no panels"):
        plot_panels([], tmp_path / "plot.png", "")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_panels_of_any_number(tmp_path: Path, count: int) -> None:
    curves = {f"curve {i}": [(2.0, 1.0 + i), (3.0, 2.0 + i)] for i in range(12)}
    panels = [Panel(f"{i}", curves, "x", "y", {"curve 11": 3.0, "line": 2.0}, log=i == 0) for i in range(count)]
    plot_panels(panels, tmp_path / "new" / "plot.png", "title")
    with Image.open(tmp_path / "new" / "plot.png") as image:
        assert image.width >= 1000
