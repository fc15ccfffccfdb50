"""Runs of commands whose results are kept: what is finished is not run again, what was interrupted goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.papers.common import runs
from scripts.papers.common.config_rows import Row, measure
from scripts.papers.common.runs import Run, kept, refuse_other_settings, run_command

METRICS = {"test/accuracy": 0.9, "test/bytes_per_image": 100.0, "test/bits_per_pixel": 0.5}
Ran = list[tuple[list[str], Path | None]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ran:
    """Words and log of each command, of which `test` leaves results in a new version and `fit` its last state."""
    found: Ran = []

    def run(words: Sequence[str], log: Path | None = None) -> None:
        found.append((list(words), log))
        assert log is not None
        version = log.parent / f"version_{len(found) + 8}"
        file = version / {"test": "results.json", "fit": "checkpoints/last.ckpt"}[words[0]]
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(METRICS | {"version": version.name}))

    monkeypatch.setattr(runs, "run_command", run)
    monkeypatch.chdir(tmp_path)
    return found


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    refuse_other_settings(tmp_path, {"epochs": 3, "data": tmp_path / "cifar10"})
    refuse_other_settings(tmp_path, {"epochs": 3, "data": Path("elsewhere/cifar10")})
    with pytest.raises(ValueError, match="holds results of other settings: remove it to measure anew, or name another"):
        refuse_other_settings(tmp_path, {"epochs": 4, "data": tmp_path / "cifar10"})


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file.json"
    assert kept(file, lambda: [1, 2]) == [1, 2]
    assert kept(file, lambda: [3]) == [1, 2]


def test_a_failed_command_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    with pytest.raises(RuntimeError, match=f"splitlearn nonsense failed, see {log}; launched again"):
        run_command(["nonsense"], log)
    assert "nonsense" in log.read_text()


def test_the_newest_version_counts(ran: Ran) -> None:
    run = Run(Path("runs/one"), ("a.yaml", "b.yaml"), ("--x", "1"))
    for number in (2, 10):
        (run.folder / f"version_{number}").mkdir(parents=True)
        (run.folder / f"version_{number}" / "results.json").write_text(json.dumps({"version": number}))
    (run.folder / "version_11").mkdir()
    assert run.newest("results.json") == run.folder / "version_10" / "results.json"
    assert run.newest("config.yaml") is None
    assert run.tested("data") == {"version": 10}
    assert not ran
    assert run.words == ("--config", "configs/trainer.yaml", "--config", "a.yaml", "--config", "b.yaml", "--x", "1")


def test_a_trained_row_is_fitted_once_and_tested_with_its_last_state(ran: Ran) -> None:
    row = Row("a/b c", "weight 1", ("a.yaml",), ("--y", "2"), trained=True)
    place = ["--data.root", "data", "--trainer.logger.save_dir", "runs/cifar10", "--trainer.logger.name"]
    words = ["--config", "configs/trainer.yaml", "--config", "a.yaml", "--y", "2"]
    for _ in range(2):
        point = measure(row, "data")
        assert (point.method, point.setting, point.accuracy) == ("a/b c", "weight 1", 0.9)
    folder = Path("runs/cifar10/a_b_c_weight_1")
    (fit, fit_log), (test, test_log) = ran
    assert fit == ["fit", *words, *place, folder.name]
    assert test == ["test", *words, "--ckpt_path", "last", *place, folder.name]
    assert (fit_log, test_log) == (folder / "fit.log", folder / "test.log")
    assert row.command == f"splitlearn fit {' '.join(words)}"


def test_an_interrupted_training_goes_on(ran: Ran) -> None:
    run = Run(Path("runs/one"), ("a.yaml",))
    run.fit("data")
    run.fit("data")
    (first, _), (second, _) = ran
    assert "--ckpt_path" not in first
    assert second[second.index("--ckpt_path") + 1] == "last"
