import json
from pathlib import Path

from PIL import Image
from rich.console import Console

from splitlearn.reporting import Comparison, comparison_markdown, comparison_table, write_comparison

METRICS = {
    "test/accuracy": 0.875,
    "test/bytes_per_image": 581.6,
    "test/bits_per_pixel": 4.544,
    "test/table_bytes": 256.0,
}
POINTS = [
    Comparison.from_metrics("ours", "low", METRICS),
    Comparison("unsplit", "pixels", accuracy=0.8845, bytes_per_image=3084, bits_per_pixel=24.09375),
]


def test_metrics_become_a_point() -> None:
    assert POINTS[0] == Comparison("ours", "low", 0.875, 581.6, 4.544, 256)


def test_terminal_table_shows_every_figure() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(comparison_table(POINTS, "Title"))
    text = capture.get()
    for word in ("Title", "ours", "87.50", "581.6", "4.544", "88.45", "3,084.0", "24.094"):
        assert word in text


def test_markdown_table_has_a_line_for_each_point() -> None:
    lines = comparison_markdown(POINTS).splitlines()
    assert lines[2] == "| ours | low | 87.50 | 581.6 | 4.544 | 256 |"
    assert lines[3].endswith("| – |")
    assert len({line.count("|") for line in lines}) == 1


def test_files_hold_the_points_and_a_plot(tmp_path: Path) -> None:
    write_comparison(POINTS, tmp_path, "Title", {"data": "some", "seed": 0})
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["data"] == "some"
    assert [Comparison(**point) for point in record["points"]] == POINTS
    with Image.open(tmp_path / "rate_accuracy.png") as image:
        assert image.width > 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rate_accuracy.png", "results.json"]
