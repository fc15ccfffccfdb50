"""Trials with several training processes: `python -m splitlearn.config.sweep_processes` runs one trial.

For strategies such as ddp, Lightning starts further processes with the command of the first process. In a sweep's
worker, this would be the command of the sweep, so such a trial needs its own command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.distributed import DistError

from splitlearn.config.build import trainer_of
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.files import write_json
from splitlearn.processes import PARENT, end_with
from splitlearn.resource_errors import described
from splitlearn.sweep import TrialLost
from splitlearn.sweep.distributions import Value

FOLDER = "SPLITLEARN_TRIAL"
POINT, METRICS = "point.json", "metrics.json"


@dataclass(frozen=True)
class SweepTrial:
    """Runs a `ConfigTrial` in this process or, if it trains with several processes, by a separate command."""

    trial: ConfigTrial

    def __call__(self, number: int, values: Mapping[str, Value]) -> dict[str, float]:
        """Fit, measure and export one point; return its metrics.

        Raises the error of the first failed process as RuntimeError, and TrialLost if a process was killed.
        """
        settings = self.trial.parse(values)
        given = settings.trainer
        processes = 1 if given.devices in (1, "1") else trainer_of(settings).world_size
        if processes == 1:
            return self.trial.run(number, settings)
        with TemporaryDirectory(prefix="splitlearn_") as folder:
            return self._run_in(Path(folder), number, values, processes)

    def _run_in(self, folder: Path, number: int, values: Mapping[str, Value], processes: int) -> dict[str, float]:
        write_json(folder / POINT, {"trial": asdict(self.trial), "number": number, "values": dict(values)})
        threads = max(1, int(os.environ.get("OMP_NUM_THREADS", 1)) // processes)
        told = {FOLDER: str(folder), PARENT: str(os.getpid()), "OMP_NUM_THREADS": str(threads)}
        subprocess.run([sys.executable, "-m", __name__, *sys.argv[1:]], env=os.environ | told, check=False)
        if errors := sorted(folder.glob("[!.]*.error"), key=lambda path: path.stat().st_mtime_ns):
            raise RuntimeError(errors[0].read_text())
        if not (folder / METRICS).is_file():
            raise TrialLost(f"a process of trial {number} was killed")
        metrics: dict[str, float] = json.loads((folder / METRICS).read_text())
        return metrics


def main() -> None:
    """Run the trial in the environment variables, as one of its processes."""
    end_with(int(os.environ[PARENT]))
    os.environ[PARENT] = str(os.getpid())  # for further processes of Lightning
    sys.argv[0] = "splitlearn"  # the sweep's command, for records in results
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder, rank = Path(os.environ[FOLDER]), os.environ.get("LOCAL_RANK", "0")
    point = json.loads((folder / POINT).read_text())
    given = point["trial"]
    given |= {"words": tuple(given["words"]), "out": Path(given["out"])}
    given["features"] = given["features"] and Path(given["features"])
    try:
        trial = ConfigTrial(**given)
        metrics = trial.run(point["number"], trial.parse(point["values"]))
    except Exception as error:
        traceback.print_exc()
        if not isinstance(error, DistError) and "gloo" not in str(error):  # which report the end of another process
            (folder / f"{rank}.error").write_text(described(error))
        sys.exit(1)
    if rank == "0":
        write_json(folder / METRICS, metrics)


if __name__ == "__main__":
    main()
