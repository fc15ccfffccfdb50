"""Every run has a folder of its own, and nobody writes to another's."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import pytest
import torch
import yaml

from splitlearn.config.run_folder import RunFolder, RunFolderError, newest_checkpoint
from tests.commands.conftest import Run

Namespace: Any = jsonargparse.Namespace
SMALL_RUNS = Path("runs/small")


def settings(*, version: int | str | None = None, name: str = "small", logger: str = "CSVLogger") -> Any:
    arguments = Namespace(save_dir="runs", name=name, version=version)
    return Namespace(
        logger=Namespace(class_path=f"lightning.pytorch.loggers.{logger}", init_args=arguments), default_root_dir=None
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunFolder]]:
    """Runs that a test has begun, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SPLITLEARN_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    begun: list[RunFolder] = []
    yield begun
    for run in begun:
        run.release()


def begun(runs: list[RunFolder], trainer: Any) -> RunFolder:
    runs.append(RunFolder())
    runs[-1].reserve(trainer)
    return runs[-1]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _reserve(start: Any, found: Any) -> None:
    run = RunFolder()
    start.wait()
    for _ in range(20):
        run.reserve(settings())
        found.put(str(run.path))


def test_processes_that_start_at_once_share_no_folder(here: list[RunFolder]) -> None:
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_reserve, args=(start, found)) for _ in range(4)]
    for process in processes:
        process.start()
    names = [found.get() for _ in range(80)]
    for process in processes:
        process.join()
    assert sorted(names) == sorted(f"runs/small/version_{n}" for n in range(80))


@pytest.mark.parametrize("version", [0, "mine"])
@pytest.mark.parametrize("logger", ["CSVLogger", "TensorBoardLogger"])
def test_a_version_is_taken_once(
    here: list[RunFolder], capsys: pytest.CaptureFixture[str], version: int | str, logger: str
) -> None:
    first, again = settings(version=version, logger=logger), settings(version=version, logger=logger)
    assert begun(here, first).path.name in ("version_0", "mine")
    assert first.logger.init_args.version == version
    assert capsys.readouterr().err == ""
    later = begun(here, again).path
    assert later == SMALL_RUNS / ("version_1" if version == 0 else "version_0")
    assert again.logger.init_args.version == (1 if version == 0 else 0)
    assert f"is of an earlier run, this one is {later}" in capsys.readouterr().err


@pytest.mark.parametrize("logger", [None, True])
def test_without_a_logger_metrics_lie_in_the_run_folder_too(here: list[RunFolder], logger: bool | None) -> None:
    trainer = Namespace(logger=logger, default_root_dir="root")
    assert begun(here, trainer).path == Path("root/version_0")
    assert trainer.logger.init_args == Namespace(save_dir="root", name="", version=0)


def test_runs_without_a_log_have_folders_too(here: list[RunFolder]) -> None:
    assert begun(here, Namespace(logger=False, default_root_dir=None)).path == Path("version_0")
    assert begun(here, Namespace(logger=[], default_root_dir=None)).path == Path("version_1")


def test_names_may_be_paths(here: list[RunFolder]) -> None:
    assert begun(here, settings(name="a/b")).path == Path("runs/a/b/version_0")
    assert begun(here, settings(name="")).path == Path("runs/version_0")


@pytest.mark.parametrize("wrong", ["file", "dangling"])
def test_a_place_for_no_folders_is_told(here: list[RunFolder], wrong: str) -> None:
    if wrong == "file":
        Path("runs").touch()
    else:
        Path("runs").symlink_to("nowhere")
    with pytest.raises(RunFolderError, match=r"no run folder can be made in runs/small .*--trainer\.logger\.save_dir"):
        begun(here, settings())


def test_processes_of_one_run_agree(here: list[RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    first = begun(here, settings())
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer = settings()
    second = begun(here, trainer)
    assert second.path == first.path
    assert trainer.logger.init_args.version == 0
    second.keep_checkpoints(None, None)  # and it does not wait for a lock
    first.keep_checkpoints(None, None)
    monkeypatch.delenv("SPLITLEARN_RUN_FOLDER")  # where a launcher of its own started it
    assert begun(here, settings()).path == SMALL_RUNS / "version_1"
    assert not Path("runs/small/version_1").exists()  # it will be told, and makes none


def test_checkpoints_are_written_by_one_run_at_a_time(here: list[RunFolder]) -> None:
    first, second, third = (begun(here, settings()) for _ in range(3))
    first.keep_checkpoints(None, None)
    newest = first.checkpoints / "last.ckpt"
    newest.touch()
    assert first.checkpoints == SMALL_RUNS / "version_0/checkpoints"
    with pytest.raises(RunFolderError, match="another process writes to runs/small/version_0/checkpoints: wait"):
        second.keep_checkpoints(None, newest)
    first.release()
    second.keep_checkpoints(None, newest)
    assert second.checkpoints == first.checkpoints
    third.keep_checkpoints(str(first.checkpoints), None)  # from that run's config.yaml of earlier versions
    assert third.checkpoints == SMALL_RUNS / "version_2/checkpoints"


def test_a_folder_of_checkpoints_is_no_new_runs(here: list[RunFolder]) -> None:
    Path("kept").mkdir()
    begun(here, settings()).keep_checkpoints("kept", None)
    here[0].release()
    Path("kept/last.ckpt").touch()
    with pytest.raises(RunFolderError, match="kept holds the checkpoints of another run: name another"):
        begun(here, settings()).keep_checkpoints("kept", None)
    Path("linked").symlink_to("kept")
    begun(here, settings()).keep_checkpoints("kept", Path("linked/last.ckpt"))
    assert here[-1].checkpoints == Path("kept")


def test_what_a_kill_has_left_is_no_checkpoint(here: list[RunFolder]) -> None:
    Path("kept").mkdir()
    remains = Path("kept/.last.ckpt.123.ckpt")  # as `whole_file` calls it
    remains.touch()
    begun(here, settings()).keep_checkpoints("kept", None)
    assert here[0].checkpoints == Path("kept")
    assert not remains.exists()


def test_a_run_that_leaves_nothing_leaves_no_folder(here: list[RunFolder]) -> None:
    empty, used = begun(here, settings()), begun(here, settings())
    for run in (empty, used):
        run.keep_checkpoints(None, None)
    (used.path / "config.yaml").touch()
    for run in (empty, used):
        run.release()
    assert [path.name for path in SMALL_RUNS.iterdir()] == ["version_1"]


@pytest.mark.slow
def test_a_runs_own_config_begins_a_new_run(fit: Run, run: Run) -> None:
    assert fit().status == 0
    own = Path("runs/small/version_0/config.yaml")
    text = own.read_text()
    text = text.replace("version: null", "version: 0")  # as earlier versions wrote it
    text = text.replace("dirpath: null", "dirpath: runs/small/version_0/checkpoints")
    Path("old.yaml").write_text(text)
    before = contents(SMALL_RUNS / "version_0")
    for config, folder in ((own, "version_1"), ("old.yaml", "version_2")):
        done = run("fit", "--config", str(config), "--model.rate_weight", "0.9")
        assert done.status == 0, done.err
        assert contents(SMALL_RUNS / "version_0") == before
        assert (SMALL_RUNS / folder / "checkpoints/last.ckpt").is_file()
        assert (SMALL_RUNS / folder / "metrics.csv").is_file()
    assert run("test", "--config", str(own), "--ckpt_path", "last").status == 0
    assert (SMALL_RUNS / "version_3/results.json").is_file()
    assert contents(SMALL_RUNS / "version_0") == before
    assert run("test", "--config", str(own), "--ckpt_path", "best").status == 0
    tested = yaml.safe_load((SMALL_RUNS / "version_4/config.yaml").read_text())["ckpt_path"]
    assert re.fullmatch(r".*version_2/checkpoints/best\.ckpt", tested)


def test_the_newest_checkpoint_of_a_name_is_found(tmp_path: Path) -> None:
    names = ("a/best.ckpt", "b/last.ckpt", "b/best.ckpt", "c/best-v1.ckpt", "c/best_of_all.ckpt")
    for seconds, name in enumerate(names):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (seconds, seconds))
    assert newest_checkpoint(tmp_path) == tmp_path / "b/last.ckpt"
    assert newest_checkpoint(tmp_path, "best") == tmp_path / "c/best-v1.ckpt"
    with pytest.raises(FileNotFoundError, match=r"no best\.ckpt below .*: no run to resume or test, begin one by fit"):
        newest_checkpoint(tmp_path / "d", "best")


@pytest.mark.slow
def test_a_run_goes_on_only_where_the_command_says_so(fit: Run, run: Run) -> None:
    assert fit().status == 0
    assert fit("--ckpt_path", "last", "--trainer.max_epochs", "2").status == 0
    before = contents(SMALL_RUNS / "version_0")
    assert run("fit", "--config", "runs/small/version_1/config.yaml").status == 0  # of the resumed run: a new one
    assert torch.load("runs/small/version_2/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1
    Path("named.yaml").write_text("ckpt_path: runs/small/version_0/checkpoints/last.ckpt")
    refused = fit("--config", "named.yaml", "--trainer.max_epochs", "5")
    assert (refused.status, "to resume a run, give --ckpt_path" in refused.error) == (2, True)
    assert fit("--config", "named.yaml", "--ckpt_path", "null").status == 0
    assert contents(SMALL_RUNS / "version_0") == before


def test_a_failed_start_leaves_no_folder(fit: Run) -> None:
    assert fit("--model.model.net.at", "layr2").status == 1
    assert not list(SMALL_RUNS.iterdir())
