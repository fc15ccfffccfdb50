"""The searches of scripts/papers/datta2022 treat both recipes alike, and its page tells what was measured."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from scripts.papers.common import runs as runs_module
from scripts.papers.common.config_rows import Row
from scripts.papers.datta2022 import run, searches
from scripts.papers.datta2022.report import write
from scripts.papers.datta2022.searches import BESIDE, FACTS, NETWORKS, PROFILE, Point, Search, found_in, spread
from scripts.papers.datta2022.sections import CUT, MASKS, RESNET, SECTIONS, Recipe, Section
from splitlearn.config.build import config_of_words
from splitlearn.files import write_json
from splitlearn.sweep import Space, Study

ROOT = Path(__file__).parents[3]
FACTS_OF_RUN = {
    "epochs": 3, "views": 2, "trials": 4, "processor": "P", "machine": "M", "versions": {"torch": "2"},
    "command": "run", "date": "today",
}  # fmt: skip
IMAGES = {"train": 48000, "val": 2000, "test": 10000}
COSTS = {"bottleneck/parameters": 4832.0, "bottleneck/encoder_macs": 2e5, "bottleneck/decoder_macs": 1e5}
Scores = Mapping[int, tuple[float, float]]
"""Rate and score by the number of a trial."""


def made_up(runs: Path, section: Section, recipe: Recipe, held_out: Scores, tested: Scores, trials: int = 4) -> None:
    """Leave what a sweep leaves."""
    folder = section.folder(runs, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(str(folder / "journal.log"), folder.name)
    axes = section.axes
    settings = {"rate": axes.rate, "score": axes.score, "data": IMAGES}
    study.create(Space.read(ROOT / recipe.space), trials, 0, settings)
    while claim := study.claim():
        if claim.number not in held_out:
            break
        rate, score = held_out[claim.number]
        study.finish(claim, {axes.rate: rate, axes.score: score, **COSTS})
    for number, (rate, score) in tested.items():
        study.note_test(number, {axes.tested.rate: rate, axes.tested.score: score, "test/bytes_per_image": 128 * rate})


def with_facts(runs: Path, section: Section) -> None:
    """Leave what a run leaves beside its sweeps."""
    folder = runs / section.slug
    write_json(folder / FACTS, FACTS_OF_RUN)
    shares = dict(zip(section.cuts, (0.5, 0.9), strict=True))
    write_json(folder / PROFILE, {"parameters": 269722, "macs": 4e7, "shares": shares})
    for point in (Point("unsplit", "raw pixels", 0.89, 3072, 24), Point("JPEG", "quality 75", 0.88, 600, 4.7)):
        write_json(folder / BESIDE / f"{point.method}.json", asdict(point))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Runs of ResNet-20: 4 trials each, all at layer3, the third on no frontier of what is held out."""
    runs = tmp_path / "runs"
    for recipe, factor in zip(RESNET.recipes, (1.0, 0.5), strict=True):
        held_out = {0: (factor, 0.80), 1: (2 * factor, 0.85), 2: (3 * factor, 0.70), 3: (4 * factor, 0.87)}
        tested = {n: (rate, score - 0.01) for n, (rate, score) in held_out.items() if n != 2}
        made_up(runs, RESNET, recipe, held_out, tested)
    with_facts(runs, RESNET)
    return runs


def test_both_recipes_draw_from_the_same_cuts_channels_and_strides() -> None:
    for section in SECTIONS:
        paper, ours = (Space.read(ROOT / recipe.space).parameters for recipe in section.recipes)
        for name in (CUT, "model.model.bottleneck.channels", "model.model.bottleneck.stride"):
            assert paper[name] == ours[name], section.slug
        assert set(paper) - set(ours) == {"model.model.quantizer.step"}
        assert Space.read(ROOT / section.paper.space).point(0, 0)[CUT] in section.cuts


def test_both_recipes_have_the_same_network_data_and_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    options = run.arguments().parse_args(["--cifar10", "A", "--coco", "B", "--deeplab", "C"])
    options.caltech101, options.mobilenet = Path("D"), Path("E")
    for search in (run.resnet20(options), run.masks(options), run.caltech101(options)):
        commands = [search.sweep_words(recipe, tmp_path, 1, None) for recipe in search.section.recipes]
        for option in ("--trials", "--views", "--score", "--cache_dir"):
            values = {words[words.index(option) + 1] for words in commands}
            assert len(values) == 1, option
        fits = [config_of_words(words[1 : words.index("--space")]) for words in commands]
        nets = [config["model"]["init_args"]["model"]["init_args"]["net"] for config in fits]
        assert nets[0] == nets[1]
        assert fits[0]["data"] == fits[1]["data"]
        assert fits[0]["trainer"]["max_epochs"] == fits[1]["trainer"]["max_epochs"] == search.epochs
        units = [config["model"]["init_args"]["model"]["init_args"]["bottleneck"]["class_path"] for config in fits]
        assert [unit.rpartition(".")[2] for unit in units] == ["DepthwiseSeparable", "NormalizedSeparable"]
        rates = [config["model"]["init_args"]["rate_loss"]["class_path"].rpartition(".")[2] for config in fits]
        assert rates == ["L1Rate", "FactorizedRate"]
        assert [config["model"]["init_args"]["distillation"] is None for config in fits] == [True, False]


def test_images_held_out_choose_and_test_images_are_told(filled: Path, tmp_path: Path) -> None:
    axes, runs = RESNET.axes, filled
    recipe = RESNET.ours
    folder = RESNET.folder(runs, recipe)
    Study(str(folder / "journal.log"), folder.name).note_test(2, {axes.tested.rate: 0.1, axes.tested.score: 0.99})
    write(runs, SECTIONS, tmp_path / "page")
    page = (tmp_path / "page/README.md").read_text()
    frontier = page.partition("### Frontier over both cuts, ours recipe")[2].strip().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in frontier] == ["0", "1", "3"]  # 2 is dominated where one chooses
    assert "| 80.00 | 0.5000 | 79.00 | 64.0 | 0.5000 |" in frontier[0]  # held out, then tested
    assert "99.00" not in page


def test_the_page_tells_of_what_has_been_run(filled: Path, tmp_path: Path) -> None:
    network = {"number": 3, "measured": asdict(Point("whole network", "trial 3", 0.885, 250, 1.95))}
    write_json(filled / "resnet20" / NETWORKS / "trial_003.json", network)
    write(filled, SECTIONS, tmp_path / "page")
    page = (tmp_path / "page/README.md").read_text()
    assert "the paper's: 4 trials, 4 finished; ours: 4 trials, 4 finished; 3 epochs each, 2 views" in page
    assert "48,000 images to train on, 2,000 held out, 10,000 to test; seed 0; P, M; torch 2; `run`; today." in page
    assert "all -50.0 % over 79.00…86.00 %" in page
    assert "| 88.50 | 1.9500 |" in page.partition("### Whole network against bottleneck alone")[2]
    assert "Unsplit 89.00 %." in page
    assert "| JPEG | – | 4.7 | ≤ 4.7 | ≤ 4.7 |" in page
    assert "90.00 % | the paper's | 4,832 | 0.20 + 0.10 |" in page
    assert "COCO" not in page  # of which nothing was run
    written = json.loads((tmp_path / "page/results.json").read_text())
    assert list(written) == ["resnet20"]
    with (tmp_path / "page/resnet20_ours.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert (tmp_path / "page/resnet20.png").stat().st_size > 0


@pytest.mark.slow
def test_a_sweep_that_was_killed_is_told_with_what_has_finished(filled: Path, tmp_path: Path) -> None:
    made_up(filled, MASKS, MASKS.paper, {0: (1.0, 0.2)}, {})
    with_facts(filled, MASKS)
    assert found_in(filled, MASKS) is None  # nothing of ours yet
    made_up(filled, MASKS, MASKS.ours, {0: (1.0, 0.3), 1: (2.0, 0.4)}, {})
    write(filled, SECTIONS, tmp_path / "page")
    section = (tmp_path / "page/README.md").read_text().partition("## DeepLabv3-MobileNetV2")[2]
    assert "the paper's: 4 trials, 1 finished; ours: 4 trials, 2 finished" in section
    assert "### Frontier over both cuts" not in section  # nothing has been scored on test images
    assert "a BD-rate needs frontiers of two points or more" in section


def test_nothing_to_tell_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no section of which both recipes have a finished trial"):
        write(tmp_path, SECTIONS, tmp_path / "page")


def test_points_of_whole_networks_are_the_upper_half_of_a_frontier(filled: Path) -> None:
    frontier = RESNET.curves(filled, RESNET.ours)[0].frontier
    assert [trial.number for trial in frontier] == [0, 1, 3]
    assert [trial.number for trial in spread(frontier, 2)] == [1, 3]
    assert [trial.number for trial in spread(frontier, 1)] == [1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a folder of data, e.g. --cifar10 FOLDER, or --page"),
        (["--coco", "{}"], "--coco needs --deeplab beside it"),
        (["--mobilenet", "{}"], "--mobilenet needs --caltech101 beside it"),
        (["--cifar10", "{}"], "--cifar10 {}: there is no folder {}/test"),
        (["--coco", "{}", "--deeplab", "{}/net"], "--coco {}: there is no folder {}/images/train2017"),
        (["--caltech101", "{}/whole", "--mobilenet", "{}/none"], "--mobilenet {}/none: there is no such file"),
    ],
)
def test_what_is_missing_is_named(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("train", "whole/train", "whole/test"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["run", *(word.format(tmp_path) for word in words)])
    with pytest.raises(SystemExit):
        run.main()
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(said.format(tmp_path, tmp_path))


@pytest.mark.slow
def test_a_search_runs_once_and_leaves_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for part, count in (("train", 8), ("test", 2)):
        for label in range(10):
            folder = tmp_path / "cifar" / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    unsplit = Row("unsplit", "raw pixels", ("configs/cifar10/unsplit.yaml",), ("--trainer.accelerator", "cpu"))
    small = ("--data.val_size", "20", "--data.batch_size", "20", "--trainer.accelerator", "cpu")
    search = Search(RESNET, tmp_path / "cifar", small, (unsplit,), trials=2, epochs=1, views=1, whole=1)
    runs = tmp_path / "runs"
    search.run(runs, workers=1, group=2)
    write(runs, SECTIONS, tmp_path / "page")
    page = (tmp_path / "page/README.md").read_text()
    assert "the paper's: 2 trials, 2 finished; ours: 2 trials, 2 finished; 1 epochs each" in page
    assert "60 images to train on, 20 held out, 20 to test" in page
    assert "### Whole network against bottleneck alone" in page
    found = found_in(runs, RESNET)
    assert found is not None
    for trials in found.trials.values():
        chosen = RESNET.axes.frontier(trials)
        tested = [trial.number for trial in trials if RESNET.axes.tested.score in trial.metrics]
        assert set(tested) >= {trial.number for trial in chosen}

    def refused(words: list[str], *_: object) -> None:
        if words[0] != "sweep":  # a sweep that is complete runs nothing by itself
            raise AssertionError(f"{words[0]} runs again")

    monkeypatch.setattr(runs_module, "run_command", refused)
    monkeypatch.setattr(searches, "run_command", refused)
    search.run(runs, workers=1, group=2)
