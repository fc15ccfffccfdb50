"""Workers as tasks of a Ray cluster: one that is started here, or one that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitlearn.sweep import LauncherError, State, Study
from splitlearn.sweep.launchers import Ray
from tests.sweep.kills import kill_one_after, wait_for
from tests.sweep.test_study import SPACE, created

ROOT = Path(__file__).parents[3]
LAUNCH = """
import sys
from pathlib import Path
from tests.sweep.trials import Noted
from splitlearn.sweep import run_sweep
from splitlearn.sweep.launchers import Ray
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run_sweep(str(folder / "journal.log"), "sweep", Noted(folder, seconds=1), 2, folder / "logs", launcher=Ray())
"""


def test_ray_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_ADDRESS": ""})
    with pytest.raises(LauncherError, match=r'Ray is not installed: pip install "splitlearn\[ray\]"'):
        Ray()


def launched(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    script = folder / "launch.py"
    script.write_text(LAUNCH)
    given = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), **environment}
    return subprocess.Popen([sys.executable, str(script), str(folder)], env=given)


def check_whole(study: Study) -> None:
    trials = study.trials()
    assert [t.values for t in trials] == [SPACE.point(0, number) for number in range(12)]
    assert {t.state for t in trials} == {State.FINISHED}, [t.error for t in trials]
    assert [t.metrics["rate"] for t in trials] == [t.values["x"] for t in trials]


def starts(folder: Path) -> int:
    return sum(f.name[0].isdigit() for f in folder.iterdir())


@pytest.mark.slow
def test_killed_workers_are_replaced_and_the_home_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'splitlearn[ray]'")
    study = created(tmp_path, 12)
    (tmp_path / "home").mkdir()
    sweep = launched(tmp_path)
    for finished in (1, 4, 7):
        kill_one_after(finished, study)
    assert sweep.wait() == 0
    check_whole(study)
    assert 13 <= starts(tmp_path) <= 15  # a kill may hit the moment between claim and start
    assert not (tmp_path / "home/.ray").exists()  # neither token nor settings


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a cluster of one machine that runs by itself."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'splitlearn[ray]'")
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    command += ["--port=26379", "--include-dashboard=false", f"--temp-dir={tmp_path / 'ray'}"]
    given = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    head = subprocess.Popen(command, env=os.environ | given, stdout=subprocess.DEVNULL, start_new_session=True)
    yield "127.0.0.1:26379"
    os.killpg(head.pid, signal.SIGTERM)
    head.wait()


@pytest.mark.slow
def test_a_running_cluster_is_used_and_a_killed_sweep_goes_on(cluster: str, tmp_path: Path) -> None:
    study = created(tmp_path, 12)
    environment = {"RAY_ADDRESS": cluster, "RAY_AUTH_MODE": "disabled"}
    for finished in (2, 6):
        sweep = launched(tmp_path, **environment)
        wait_for(lambda: sum(t.state is State.FINISHED for t in study.trials()) >= finished)  # noqa: B023
        sweep.kill()
        sweep.wait()
    assert launched(tmp_path, **environment).wait() == 0
    check_whole(study)


@pytest.mark.slow
def test_what_no_cluster_has_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'splitlearn[ray]'")
    created(tmp_path, 1)
    script = "from splitlearn.sweep.launchers import Ray\nRay(gpus=64)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "no machine of the Ray cluster has 1 CPUs and 64 GPUs: lower --cpus or --gpus" in told.stderr
    given = os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}
    told = subprocess.run(
        [sys.executable, "-c", "from splitlearn.sweep.launchers import Ray\nRay()"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=given,
    )
    assert "no Ray cluster could be reached at 127.0.0.1:1" in told.stderr
