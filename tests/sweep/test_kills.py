"""Whatever is killed, and when: every trial finishes, once, and a real sweep measures what it does undisturbed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitlearn.data import CachedFeatures
from splitlearn.deploy import read_export
from splitlearn.sweep import TPE, Drawing, State, Study, Trial
from tests.sweep.kills import busy, kill_at_random, kill_one_after
from tests.sweep.test_study import SETTINGS, SPACE, storage

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCH = """
import sys
from pathlib import Path
from tests.sweep.test_study import SETTINGS, SPACE
from tests.sweep.trials import Noted
from splitlearn.sweep import Drawing, Study, run_sweep, samplers
if __name__ == "__main__":
    storage, folder, sampler, workers = sys.argv[1], Path(sys.argv[2]), getattr(samplers, sys.argv[3]), int(sys.argv[4])
    drawing = Drawing(SPACE, 12, 0, sampler())
    Study(storage, "sweep").begin(drawing, SETTINGS)
    run_sweep(storage, "sweep", Noted(folder, seconds=0.3), workers, folder / "logs", drawing=drawing)
"""


def launched(address: str, folder: Path, sampler: str = "Random", workers: int = 2) -> subprocess.Popen[bytes]:
    script = folder / "launch.py"
    script.write_text(LAUNCH)
    return subprocess.Popen(
        [sys.executable, str(script), address, str(folder), sampler, str(workers)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def check_whole(address: str, folder: Path) -> None:
    """Let the sweep end, and compare its points with those of a sweep that nobody disturbed."""
    assert launched(address, folder).wait() == 0
    trials = Study(address, "sweep").trials()
    assert [t.number for t in trials] == list(range(12))
    assert [t.values for t in trials] == [SPACE.point(0, number) for number in range(12)]
    assert all(t.state is State.FINISHED for t in trials)
    assert [t.metrics["rate"] for t in trials] == [t.values["x"] for t in trials]


def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    address = storage(tmp_path)
    kill_at_random(lambda: launched(address, tmp_path), (address, "sweep"), 0, (3, 8))
    check_whole(address, tmp_path)


def learnt_under_kills(address: str, folder: Path, workers: int) -> list[Trial]:
    """Trials of a sweep whose points are drawn from results, after kills; all have finished, each with one point."""
    Study(address, "sweep").begin(Drawing(SPACE, 12, 0, TPE()), SETTINGS)
    kill_at_random(lambda: launched(address, folder, "TPE", workers), (address, "sweep"), 5, (3, 12))
    assert launched(address, folder, "TPE", workers).wait() == 0
    trials = Study(address, "sweep").trials()
    assert [(trial.number, trial.state) for trial in trials] == [(number, State.FINISHED) for number in range(12)]
    assert [t.metrics["rate"] for t in trials] == [t.values["x"] for t in trials]
    return trials


def test_a_database_loses_no_point_that_is_drawn_from_results(postgres: str, tmp_path: Path) -> None:
    learnt_under_kills(postgres, tmp_path, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_points_that_are_drawn_from_results_are_not_lost(tmp_path: Path, workers: int) -> None:
    expected = tmp_path / "undisturbed"
    trials = learnt_under_kills(storage(tmp_path), tmp_path, workers)
    if workers == 1:
        expected.mkdir()
        assert launched(storage(expected), expected, "TPE", workers).wait() == 0
        assert [t.values for t in trials] == [t.values for t in Study(storage(expected), "sweep").trials()]


def test_a_database_loses_nothing_either(postgres: str, tmp_path: Path) -> None:
    kill_at_random(lambda: launched(postgres, tmp_path), (postgres, "sweep"), 1, (3, 8))
    check_whole(postgres, tmp_path)


def test_two_machines_share_a_database(postgres: str, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    both = [launched(postgres, folder) for folder in folders]
    assert [sweep.wait() for sweep in both] == [0, 0]
    starts = [sorted(int(f.name.split("_")[0]) for f in folder.iterdir() if f.name[0].isdigit()) for folder in folders]
    assert sorted(starts[0] + starts[1]) == list(range(12))  # none twice
    assert all(starts)


def without_tests(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.startswith("test/")} for row in rows]


class RealSweep:
    """`splitlearn sweep` on the embedded digits: points of the quick start, two epochs each, two workers."""

    def __init__(self, folder: Path, *more: str, trials: int = 24) -> None:
        self.trials = trials
        self.out, self.features = folder / "sweep", folder / "features"
        files = ("trainer", "quickstart", "spaces/quickstart")
        trainer, experiment, space = (str(ROOT / f"configs/{name}.yaml") for name in files)
        self.words = ["--config", trainer, "--config", experiment, "--space", space, "--trials", str(trials)]
        self.words += ["--workers", "2", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
        self.words += ["--cache_dir", str(self.features), "--out", str(self.out), *more]

    def launch(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "splitlearn", "sweep", *self.words]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    def rows(self) -> list[dict[str, str]]:
        """What trials.csv says of each trial, but how long it took."""
        with (self.out / "trials.csv").open() as file:
            return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]

    def manifests(self) -> list[dict[str, Any]]:
        """What the export of each trial says, which has the checksum of its tensors."""
        exports = (self.out / f"trials/{number:03}/bottleneck.safetensors" for number in range(self.trials))
        return [read_export(export)[0] for export in exports]

    def cache(self) -> dict[str, Any]:
        """Every array of the feature cache, which must be a single one and whole."""
        (folder,) = (f for f in self.features.iterdir() if f.is_dir())
        CachedFeatures(folder)
        return {file.name: np.load(file) for file in sorted(folder.glob("*.npy"))}

    def arrays(self) -> set[tuple[str, int]]:
        """Each array in the folder of caches, whole or not, and when it was last written to."""
        found = set()
        for file in self.features.glob("*/*.npy"):
            with suppress(FileNotFoundError):  # one that has just been removed
                found.add((file.name, file.stat().st_mtime_ns))
        return found

    def check(self, undisturbed: RealSweep) -> None:
        """Let the sweep end, and compare points, metrics, exports and features with those of an undisturbed one."""
        assert self.launch().wait() == 0
        rows = self.rows()
        assert [int(row["trial"]) for row in rows] == list(range(self.trials))
        assert {row["state"] for row in rows} == {"finished"}
        expected_rows, manifests = undisturbed.rows()[: self.trials], self.manifests()
        expected_manifests = undisturbed.manifests()[: self.trials]
        if self.trials < undisturbed.trials:  # then it has another frontier, and that is what was tested
            rows, expected_rows = without_tests(rows), without_tests(expected_rows)
            for found in (manifests, expected_manifests):
                for manifest, metrics in zip(found, without_tests([m["metrics"] for m in found]), strict=True):
                    manifest["metrics"] = metrics
        assert rows == expected_rows
        assert manifests == expected_manifests
        kept, expected = self.cache(), undisturbed.cache()
        assert kept.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(kept[name], array)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RealSweep, float]:
    """A real sweep that nobody kills, and the seconds that it computes until the end of its first trial."""
    sweep = RealSweep(tmp_path_factory.mktemp("undisturbed"))
    process = sweep.launch()
    while not list(sweep.out.glob("trials/*/results.json")):
        time.sleep(0.1)
        assert process.poll() is None
    first = busy(process.pid)
    assert process.wait() == 0
    return sweep, first


def test_a_real_sweep_loses_nothing(tmp_path: Path, undisturbed: tuple[RealSweep, float]) -> None:
    sweep, (expected, first) = RealSweep(tmp_path), undisturbed
    address = str(sweep.out / "journal.log")
    assert kill_at_random(sweep.launch, (address, "sweep"), 2, (0.3 * first, 1.5 * first), busy) >= 20
    sweep.check(expected)


def test_nor_does_it_with_a_database(postgres: str, tmp_path: Path, undisturbed: tuple[RealSweep, float]) -> None:
    sweep, (expected, first) = RealSweep(tmp_path, "--storage", postgres), undisturbed
    assert kill_at_random(sweep.launch, (postgres, "sweep"), 3, (0.3 * first, 1.5 * first), busy) >= 20
    sweep.check(expected)


def test_nor_does_it_on_ray(tmp_path: Path, undisturbed: tuple[RealSweep, float]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'splitlearn[ray]'")
    sweep = RealSweep(tmp_path, "--launcher", "ray", trials=6)
    process = sweep.launch()
    while not list(sweep.out.glob("trials/*/results.json")):
        time.sleep(0.1)
        assert process.poll() is None
    study = Study(str(sweep.out / "journal.log"), "sweep")
    for _ in range(2):
        kill_one_after(1, study)
    assert process.wait() == 0
    sweep.check(undisturbed[0])


def test_kills_while_features_are_cached_leave_a_whole_cache(
    tmp_path: Path, undisturbed: tuple[RealSweep, float]
) -> None:
    sweep, (expected, _), random = RealSweep(tmp_path, trials=2), undisturbed, np.random.default_rng(4)
    for _ in range(6):
        before = sweep.arrays()
        process = sweep.launch()
        while not sweep.arrays() - before:
            time.sleep(0.01)
            assert process.poll() is None
        time.sleep(float(random.uniform(0, 1)))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for complete in sweep.features.glob("*/cache.json"):
            complete.unlink()  # so that the next launch caches again, over what is left
    sweep.check(expected)
