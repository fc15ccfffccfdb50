"""`splitlearn report` on small real runs and a sweep: one page that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.conftest import Run
from tests.commands.test_segmentation import CONFIG

Page = Callable[..., str]


@pytest.fixture
def page(run: Run) -> Page:
    """Report folders and return the page, whose parts are all inside."""

    def call(*words: str) -> str:
        outcome = run("report", *words, "--out", "page/report.html")
        assert outcome.status == 0, outcome.err
        text = Path("page/report.html").read_text()
        assert [path.name for path in Path("page").iterdir()] == ["report.html"]
        assert not re.findall(r"(?:src|href)=\"(?!data:)|url\(|<script|<link", text)
        assert '<meta name="viewport"' in text
        return text

    return call


def tested(run: Run, fit: Run, *words: str) -> None:
    """Fit and test small.yaml, in version_N and version_N+1."""
    assert fit(*words).status == 0
    assert run("test", "--config", "small.yaml", *words, "--ckpt_path", "last").status == 0


@pytest.mark.slow
def test_two_runs_side_by_side(run: Run, fit: Run, page: Page) -> None:
    tested(run, fit, "--model.model.bottleneck.channels", "2")
    tested(run, fit, "--model.model.bottleneck.channels", "16")
    results = [json.loads(Path(f"runs/small/version_{n}/results.json").read_text()) for n in (1, 3)]
    sizes = [found["test/bytes_per_image"] for found in results]
    text = page("runs", "--images", "2")
    rows = [
        [re.sub("<.*?>", "", cell) for cell in re.findall("<td>.*?</td>", row)]
        for row in re.findall("<tr>.*</tr>", text)
    ]
    tests = [row for row in rows if row and row[0] in ("runs/small/version_1", "runs/small/version_3")]
    assert [row[0] for row in tests] == [f"runs/small/version_{n}" for n in ((3, 1) if sizes[1] > sizes[0] else (1, 3))]
    assert {row[-1] for row in tests} == {"2", "16"}  # what differs: the channels
    assert {"runs/small/version_0", "runs/small/version_2"} <= {row[0] for row in rows if row}  # the trainings
    captions = re.findall(r"<figcaption><strong>(\d)</strong><br>(.*?)</figcaption>", text)
    assert len(captions) == 6
    origins = [re.sub(r"\d+ bytes, ", "", origin) for _, origin in captions]
    assert set(origins) == {"the image", "small/version_1", "small/version_3"}
    assert origins[0] == origins[3] == "the image"
    shown = [int(origin.split()[0]) for _, origin in captions if "bytes" in origin]
    assert shown[0] + shown[2] > shown[1] + shown[3]  # falling
    assert "splitlearn test --config small.yaml" in text
    assert text.count("data:image/webp") == 6
    assert text.count("data:image/png") == 1


@pytest.mark.slow
def test_a_sweep(run: Run, page: Page) -> None:
    Path("space.yaml").write_text("model.model.bottleneck.channels: {choice: [2, 16]}\n")
    sweep = ("sweep", "--config", "small.yaml", "--space", "space.yaml", "--trials", "2", "--out", "runs/swept")
    assert run(*sweep, "--launcher", "tests.sweep.here.Sent").status == 0
    text = page("runs/swept", "--images", "1")
    assert "Sweep runs/swept" in text
    assert "2 trials finished" in text
    assert re.findall(r"<br>[\d,]+ bytes, swept, trial [01]<", text)


@pytest.mark.slow
def test_masks_of_classes_of_ones_own(run: Run, page: Page, mask_folder: Path) -> None:
    Path("masks.yaml").write_text(CONFIG)
    words = ("--config", "masks.yaml", "--data.root", str(mask_folder), "--trainer.max_epochs", "1")
    assert run("fit", *words).status == 0
    assert run("test", *words, "--ckpt_path", "last").status == 0
    said = page("runs/masks", "--images", "1")
    assert (
        "none of splitlearn&#x27;s own, and code that a file names is not run: give --trust true if the folder" in said
    )
    text = page("runs/masks", "--images", "1", "--trust", "true")
    assert re.findall(r"<strong>(?:(?:rest|person|cat|dog)(?:, )?)+</strong><br>\d+ bytes, masks/version_1<", text)
    assert "miou" in text


@pytest.mark.slow
def test_what_cannot_be_shown_is_told(run: Run, fit: Run, page: Page) -> None:
    tested(run, fit)
    Path("runs/small/version_0/checkpoints/last.ckpt").unlink()
    text = page("runs/small/version_1")
    assert "no predictions of small/version_1: no checkpoint at runs/small/version_0/checkpoints/last.ckpt" in text
    assert "<figure>" not in text
    results = Path("runs/small/version_1/results.json")
    told = json.loads(results.read_text())
    told["config"]["test"]["model"]["class_path"] = "os.system<b>"
    results.write_text(json.dumps(told))
    text = page("runs/small/version_1")
    assert "names the class &#x27;os.system&lt;b&gt;&#x27;, which is none of splitlearn&#x27;s own" in text
    assert "<b>" not in text
    results.write_text("{")
    outcome = run("report", "runs/small/version_1")
    assert outcome.status == 1
    assert outcome.error.startswith("runs/small/version_1/results.json is damaged or no results.json")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "report takes folders of runs and sweeps, e.g. splitlearn report runs/quickstart"),
        (("absent",), "absent has no such folder: name folders that splitlearn fit, test or sweep has written"),
        ((".",), ". has no results.json or metrics.csv of a run, or journal.log of a sweep: name folders"),
        ((".", "--images", "100"), "--images must lie in 0…64, got 100"),
    ],
)
def test_wrong_words(run: Run, words: tuple[str, ...], sentence: str) -> None:
    outcome = run("report", *words)
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)
