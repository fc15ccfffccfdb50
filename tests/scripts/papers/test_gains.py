"""What scripts/papers/photographs/gains.py compares is trained alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.papers.photographs.gains import Study, section
from splitlearn.config.build import config_of_words

ROOT = Path(__file__).parents[3]


def test_both_trainings_have_the_same_unit_losses_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = Study("layer2", tmp_path, tmp_path, 12, 19, ("--data.val_size", "1000"))
    together, apart = (config_of_words(trial.words) for trial in (study.gains, study.apart(1)))
    assert together["data"] == apart["data"]
    assert (together["trainer"]["max_epochs"], apart["trainer"]["max_epochs"]) == (19, 12)
    task, other = (each["model"]["init_args"] for each in (together, apart))
    for name in ("rate_loss", "distillation", "distillation_weight", "optimizer", "lr_scheduler"):
        assert task[name] == other[name], name
    model, its = task["model"]["init_args"]["model"]["init_args"], other["model"]["init_args"]
    for name in ("net", "normalize", "bottleneck", "quantizer"):
        assert model[name] == its[name], name
    assert study.weights == pytest.approx([4, 1.6, 0.64, 0.256, 0.16, 0.1])


def test_the_page_tells_rates_time_and_chance() -> None:
    def points(offset: float) -> list[dict[str, float]]:
        return [{"test/bytes_per_image": size + offset, "test/accuracy": size / 100} for size in (20.0, 40.0)]

    found = {
        "cut": "layer3",
        "images": {"train": 6500, "val": 1000, "test": 3000},
        "epochs": {"together": 19, "apart": 12},
        "rate_weights": [4.0, 1.0],
        "together": points(1.0),
        "apart": [points(0.0), points(2.0)],
        "seconds": {"together": 30.0, "apart": [100.0, 110.0]},
        "share_of_time": 0.286,
        "bd_rate_percent": [3.5, -3.0],
        "bd_rate_without_lowest_percent": [1.5, -1.0],
        "bd_rate_of_seeds_percent": [6.7],
        "bank_bytes": 35081,
        "switch_bytes": [192, 192],
    }
    text = "\n".join(section(found))
    assert "+3.5 %, -3.0 %; without the lowest rate of both: +1.5 %, -1.0 %. The second set" in text
    assert "against the first: +6.7 %" in text
    assert "0.29 of their time" in text
    assert "192 bytes at most; the file of all 2 has 35,081" in text
    assert "| 4 | 21.0 | 20.00 | 20.0 | 20.00 | 22.0 | 20.00 |" in text
