import json
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from splitlearn import __version__
from splitlearn.tasks import write_results


def test_results_hold_metrics_config_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/bin/splitlearn", "test", "--config", "my file.yaml"])
    config = {"model": {"class_path": "X"}, "path": Path("a")}
    metrics = {"test/bytes_per_image": torch.tensor(123.5), "test/accuracy": 0.5, "epoch": torch.tensor(3)}
    path = write_results(tmp_path / "run", metrics, config)
    assert path == tmp_path / "run" / "results.json"
    found = json.loads(path.read_text())
    assert found["test/bytes_per_image"] == 123.5
    assert found["test/accuracy"] == 0.5
    assert found["epoch"] == 3
    assert found["config"] == {"model": {"class_path": "X"}, "path": "a"}
    assert found["command"] == "splitlearn test --config 'my file.yaml'"
    assert found["versions"]["splitlearn"] == __version__
    assert {name: version(name) for name in ("torch", "lightning")}.items() <= found["versions"].items()
    assert found["versions"]["python"] == sys.version.split()[0]
    assert datetime.fromisoformat(found["date"]).tzinfo is not None
    assert "cores" in found["machine"]
