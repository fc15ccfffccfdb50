"""The page of scripts/papers/cohen2020, from points that are made up."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scripts.papers.cohen2020.report import report
from scripts.papers.common.rate_study import Subject
from splitlearn.analysis import RatePoint

ROOT = Path(__file__).parents[3]
POINT = RatePoint("min–max", "3 bits", "run-length", 8, 0.90, 2000.0, 2.0, 0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Points of one network: min–max, the paper's, ours, HEVC and JPEG."""
    folders = {
        "carra2023": [
            POINT,
            replace(POINT, setting="2 bits", score=0.8, bytes_per_image=1000.0),
            replace(POINT, codec="ContextRANS", bytes_per_image=1500.0),
        ],
        "cohen2020": [
            replace(POINT, method="unsplit", setting="", codec="none", score=0.905),
            replace(
                POINT,
                method="clipped, by model",
                codec="TruncatedUnary",
                bytes_per_image=900.0,
                bits_per_element=0.9,
            ),
            replace(
                POINT,
                method="clipped, by predictions",
                codec="ContextRANS",
                bytes_per_image=700.0,
                bits_per_element=0.7,
            ),
            replace(POINT, method="clipped, by predictions", codec="ContextRANS", score=0.5, bytes_per_image=100.0),
            replace(
                POINT,
                method="HEVC on tiled features",
                codec="HEVC on tiled features",
                score=0.89,
                bytes_per_image=950.0,
            ),
        ],
    }
    for name, points in folders.items():
        folder = tmp_path / name / "resnet-32_layer2"
        folder.mkdir(parents=True)
        prefix = "min_max" if name == "carra2023" else "points"
        for number, point in enumerate(points):
            (folder / f"{prefix}_{number}.json").write_text(json.dumps([asdict(point)]))
    jpeg = replace(POINT, method="JPEG", setting="quality 75", codec="JPEG", bytes_per_image=600.0)
    (tmp_path / "carra2023/resnet-32_layer2/JPEG_75.json").write_text(json.dumps([asdict(jpeg)]))
    return tmp_path


def test_page_tells_the_cheapest_settings(runs: Path, tmp_path: Path) -> None:
    subjects = [Subject("ResNet-32 layer2", str(ROOT / "configs/carra2023/resnet32.yaml"), (), Path(), Path())]
    report(subjects, runs / "cohen2020", runs / "carra2023", tmp_path / "out")
    page = (tmp_path / "out/README.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| ResNet-32 layer2 | 90.50"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == "2,000 B: 3 bits, 90.00 % (2)"  # 2 bits lose too much
    assert cells[3].startswith("1,500 B")
    assert cells[4].startswith("900 B")
    assert cells[5] == "– (0)"
    assert cells[6].startswith("700 B")
    assert cells[7] == "JPEG, 600 B: quality 75, 90.00 % (1)"
    assert cells[8:] == ["**0.35**", "**0.47**"]
    assert any(line.endswith("| 0.90 | – | – | – | – | 0.70 | – | +1.0 | +1.0 |") for line in page.splitlines())
    assert str(tmp_path) not in page
    for name in ("points.csv", "results.json", "resnet-32_layer2_bytes.png", "resnet-32_layer2_bits.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    saved = json.loads((tmp_path / "out/results.json").read_text())
    assert saved["unsplit"] == {"ResNet-32 layer2": 0.905}
    assert not Path(saved["command"].split()[0]).is_absolute()
