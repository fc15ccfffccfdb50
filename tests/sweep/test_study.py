"""No trial is lost, none runs twice, whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from splitlearn.sweep import LogUniform, Space, State, Study, StudyError, Uniform, run_sweep
from tests.sweep.trials import Noted

SPACE = Space({"x": Uniform(1, 16), "y": LogUniform(0.1, 1)})
SETTINGS = {"rate": "rate", "score": "score"}
ROOT = Path(__file__).parents[2]


def storage(folder: Path) -> str:
    return str(folder / "journal.log")


def created(folder: Path, trials: int = 6, seed: int = 0) -> Study:
    study = Study(storage(folder), "sweep")
    study.create(SPACE, trials, seed, SETTINGS)
    return study


def test_points_are_there_from_the_beginning(tmp_path: Path) -> None:
    trials = created(tmp_path).trials()
    assert [trial.values for trial in trials] == [SPACE.point(0, number) for number in range(6)]
    assert {trial.state for trial in trials} == {State.WAITING}


def test_a_sweep_can_be_lengthened_and_not_changed(tmp_path: Path) -> None:
    created(tmp_path)
    assert [t.number for t in created(tmp_path, 9).trials()] == list(range(9))
    assert len(created(tmp_path, 4).trials()) == 9
    with pytest.raises(StudyError, match="holds a sweep 'sweep' with another seed: launch it as it was begun"):
        created(tmp_path, seed=1)
    with pytest.raises(StudyError, match="with another space and rate"):
        Study(storage(tmp_path), "sweep").create(Space({"x": Uniform(1, 2)}), 6, 0, {**SETTINGS, "rate": "bytes"})


def test_claims_are_given_once(tmp_path: Path) -> None:
    study, other = created(tmp_path), created(tmp_path)
    claims = [claim for _ in range(4) for claim in (study.claim(), other.claim())]
    assert sorted(claim.number for claim in claims if claim) == list(range(6))
    assert claims[6:] == [None, None]
    assert study.revive() == 0  # this process lives


def test_what_is_measured_is_kept(tmp_path: Path) -> None:
    study = created(tmp_path, 3)
    first, second, third = (study.claim() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    study.finish(first, {"rate": 2.0, "score": 0.5, "more": 3.0})
    study.fail(second, "it broke")
    with pytest.raises(ValueError, match="it diverged: rate and score are"):
        study.finish(third, {"rate": 1.0, "score": float("nan")})
    finished, failed, running = Study(storage(tmp_path), "sweep").trials()
    assert (finished.state, finished.metrics) == (State.FINISHED, {"rate": 2.0, "score": 0.5, "more": 3.0})
    assert (failed.state, failed.error, failed.metrics) == (State.FAILED, "it broke", {})
    assert running.state is State.RUNNING


def _claim_and_die(path: str) -> None:
    Study(path, "sweep").claim()
    os.kill(os.getpid(), signal.SIGKILL)


def test_dead_trials_wait_again_so_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.sweep.study.ATTEMPTS", 2)
    study = created(tmp_path, 1)
    for attempt in range(2):
        process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(storage(tmp_path),))
        process.start()
        process.join()
        assert study.revive() == (attempt < 1)
    (trial,) = study.trials()
    assert (trial.state, trial.error) == (State.FAILED, "its process was killed")


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    created(tmp_path)
    with Path(storage(tmp_path)).open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    assert len(created(tmp_path, 7).trials()) == 7


def test_a_sweep_goes_on_past_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.sweep.study.ATTEMPTS", 2)
    created(tmp_path, 6)
    run = Noted(tmp_path, fails=1, diverges=2, kills=3)
    seen: list[int] = []
    trials = run_sweep(storage(tmp_path), "sweep", run, 2, tmp_path / "logs", lambda now: seen.append(len(now)))
    assert [t.number for t in trials if t.state is State.FINISHED] == [0, 4, 5]
    errors = {t.number: t.error for t in trials if t.state is State.FAILED}
    assert errors[1] == "RuntimeError: no room for it"
    assert "it diverged" in errors[2]
    assert errors[3] == "its process was killed"
    assert set(seen) == {6}
    assert trials[0].metrics["rate"] == trials[0].values["x"]
    starts = [int(f.name.split("_")[0]) for f in tmp_path.iterdir() if f.name[0].isdigit()]
    assert sorted(starts) == [0, 1, 2, 3, 3, 4, 5]


LAUNCH = """
import sys
from pathlib import Path
from tests.sweep.test_study import SETTINGS, SPACE
from tests.sweep.trials import Noted
from splitlearn.sweep import Study, run_sweep
if __name__ == "__main__":
    storage, folder = sys.argv[1], Path(sys.argv[2])
    Study(storage, "sweep").create(SPACE, 12, 0, SETTINGS)
    run_sweep(storage, "sweep", Noted(folder, seconds=0.3), 2, folder / "logs")
"""


def launched(address: str, folder: Path) -> subprocess.Popen[bytes]:
    script = folder / "launch.py"
    script.write_text(LAUNCH)
    return subprocess.Popen(
        [sys.executable, str(script), address, str(folder)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server that is started for one test."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL is not installed: initdb and pg_ctl are not to be found")
    as_user: tuple[str, ...] = ("runuser", "-u", "nobody", "--") if os.geteuid() == 0 else ()  # it refuses root
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets need a short path
    if as_user:
        shutil.chown(folder, "nobody")
    try:
        subprocess.run(
            [*as_user, "initdb", "-D", folder / "db", "-U", "me", "-A", "trust"], check=True, capture_output=True
        )
        start = ("pg_ctl", "-D", folder / "db", "-o", f"-k {folder} -h ''", "-l", folder / "log", "-w", "start")
        subprocess.run([*as_user, *start], check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql+psycopg://me@/postgres?host={folder}"
        subprocess.run(
            [*as_user, "pg_ctl", "-D", folder / "db", "-m", "immediate", "stop"], check=True, capture_output=True
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kill_at_random(address: str, folder: Path, seed: int) -> None:
    """Launch a sweep of twelve trials again and again; kill it or one of its workers, twenty times or until done."""
    random, kills = np.random.default_rng(seed), 0
    while kills < 20:
        sweep = launched(address, folder)
        deadline = time.time() + float(random.uniform(3, 8))
        while time.time() < deadline and sweep.poll() is None:
            time.sleep(float(random.uniform(0.1, 1.5)))
            if (found := children(sweep.pid)) and random.random() < 0.5:
                os.kill(int(random.choice(found)), signal.SIGKILL)
                kills += 1
        if sweep.poll() is None:
            sweep.kill()
            kills += 1
        sweep.wait()
        if all(t.state is State.FINISHED for t in Study(address, "sweep").trials()):
            return


def check_whole(address: str, folder: Path) -> None:
    """Let the sweep end, and compare its points with those of a sweep that nobody disturbed."""
    assert launched(address, folder).wait() == 0
    trials = Study(address, "sweep").trials()
    assert [t.number for t in trials] == list(range(12))
    assert [t.values for t in trials] == [SPACE.point(0, number) for number in range(12)]
    assert all(t.state is State.FINISHED for t in trials)
    assert [t.metrics["rate"] for t in trials] == [t.values["x"] for t in trials]


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    kill_at_random(storage(tmp_path), tmp_path, seed=0)
    check_whole(storage(tmp_path), tmp_path)


@pytest.mark.slow
def test_a_database_loses_nothing_either(postgres: str, tmp_path: Path) -> None:
    kill_at_random(postgres, tmp_path, seed=1)
    check_whole(postgres, tmp_path)


@pytest.mark.slow
def test_two_machines_share_a_database(postgres: str, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    both = [launched(postgres, folder) for folder in folders]
    assert [sweep.wait() for sweep in both] == [0, 0]
    starts = [sorted(int(f.name.split("_")[0]) for f in folder.iterdir() if f.name[0].isdigit()) for folder in folders]
    assert sorted(starts[0] + starts[1]) == list(range(12))  # none twice
    assert all(starts)


def test_storages_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"the storage .*file/journal\.log cannot be used"):
        Study(str(tmp_path / "file" / "journal.log"), "sweep")
    with pytest.raises(
        StudyError, match=r"the storage postgresql\+psycopg://localhost:1/none cannot be used"
    ) as caught:
        Study("postgresql+psycopg://me:secret@localhost:1/none", "sweep")
    assert "secret" not in str(caught.value)


def test_a_sweep_that_was_never_created_is_told(tmp_path: Path) -> None:
    created(tmp_path)
    with pytest.raises(StudyError, match="holds no sweep 'other': it holds sweep"):
        Study(storage(tmp_path), "other").settings  # noqa: B018
