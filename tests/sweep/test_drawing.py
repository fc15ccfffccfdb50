"""Drawing of a sweep's points: all at the start or as results come, conditions kept, kills and races harmless."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import pytest

from splitlearn.sweep import (
    TPE,
    Choice,
    Constraint,
    Drawing,
    Int,
    LogInt,
    LogUniform,
    Sobol,
    Space,
    SpaceError,
    State,
    Study,
    StudyError,
    Uniform,
    run_sweep,
)
from splitlearn.sweep.distributions import Value
from tests.sweep.test_samplers import Grid
from tests.sweep.test_study import SETTINGS, SPACE, storage
from tests.sweep.trials import Noted

BOUNDED = Space({"x": Int(1, 16), "y": Uniform(0, 1)}, where=(Constraint("macs < 50"),))
LEARNING = Drawing(SPACE, 9, 1, TPE(startup=4))


def macs(values: Mapping[str, Value]) -> Mapping[str, float]:
    return {"macs": 10.0 * float(values["x"]), "parameters": 1.0}


def unbuildable(values: Mapping[str, Value]) -> None:
    return None


def test_refused_draws_are_replaced_by_the_next(tmp_path: Path) -> None:
    drawing = Drawing(BOUNDED, 6, 0, numbers=macs)
    points = list(drawing.ahead({}))
    assert [point.number for point in points] == list(range(6))
    candidates = [BOUNDED.point(0, draw) for draw in range(points[-1].draw + 1)]
    assert [point.values for point in points] == [each for each in candidates if int(each["x"]) < 5]
    study = Study(storage(tmp_path), "sweep")
    study.begin(drawing, SETTINGS)
    longer = Drawing(BOUNDED, 9, 0, numbers=macs)
    Study(storage(tmp_path), "sweep").begin(longer, SETTINGS)
    assert [trial.values for trial in study.trials()] == [point.values for point in longer.ahead({})]


def test_conditions_that_no_point_meets_are_told_and_nothing_is_stored(tmp_path: Path) -> None:
    space = Space({"x": Int(1, 16)}, where=(Constraint("macs < 5"), Constraint("parameters < 2")))
    study = Study(storage(tmp_path), "sweep")
    with pytest.raises(
        SpaceError, match=r"none of 100 points drawn meets macs < 5 and parameters < 2 \(macs is 10 to 160, para"
    ):
        study.begin(Drawing(space, 3, numbers=macs), SETTINGS)
    wider = Space({"x": Int(1, 16)}, where=(Constraint("macs < 50"),))
    study.begin(Drawing(wider, 3, numbers=macs), SETTINGS)
    assert len(study.trials()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mac < 5", "where: mac < 5 names mac, no number of the model, did you mean macs?; it has macs, parameters"),
        ("latency < 5", "where: latency < 5 names latency, no number of the model; it has macs, parameters"),
    ],
)
def test_names_that_no_model_has_are_told(text: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        next(Drawing(Space({"x": Int(1, 2)}, where=(Constraint(text),)), 1, numbers=macs).ahead({}))
    assert str(caught.value) == message


def test_a_sampler_may_run_out_of_points(tmp_path: Path) -> None:
    space = Space({"quantizer": Choice(("Step", "MinMax"))})
    assert len(list(Drawing(space, 2, 0, Grid()).ahead({}))) == 2
    with pytest.raises(SpaceError, match="Grid draws 2 points and no more: lower --trials to that"):
        Study(storage(tmp_path), "sweep").begin(Drawing(space, 3, 0, Grid()), SETTINGS)


def test_points_that_cannot_be_built_are_left_to_their_trials() -> None:
    assert [point.draw for point in Drawing(BOUNDED, 3, numbers=unbuildable).ahead({})] == [0, 1, 2]


def test_a_sweep_keeps_its_sampler(tmp_path: Path) -> None:
    study = Study(storage(tmp_path), "sweep")
    study.begin(Drawing(SPACE, 4, 0, Sobol()), SETTINGS)
    Study(storage(tmp_path), "sweep").begin(Drawing(SPACE, 8, 0, Sobol()), SETTINGS)
    assert [t.values for t in study.trials()] == [p.values for p in Drawing(SPACE, 8, 0, Sobol()).ahead({})]
    with pytest.raises(StudyError, match="holds a sweep 'sweep' with another sampler: launch it as it was begun"):
        Study(storage(tmp_path), "sweep").begin(Drawing(SPACE, 8), SETTINGS)


def test_points_are_drawn_as_results_come(tmp_path: Path) -> None:
    study = Study(storage(tmp_path), "sweep")
    study.begin(LEARNING, SETTINGS)
    assert [trial.values for trial in study.trials()] == [SPACE.point(1, number) for number in range(4)]
    trials = run_sweep(storage(tmp_path), "sweep", Noted(tmp_path), 1, tmp_path / "logs", drawing=LEARNING)
    assert [(trial.number, trial.state) for trial in trials] == [(n, State.FINISHED) for n in range(9)]
    other = tmp_path / "other"
    other.mkdir()
    again = Study(storage(other), "sweep")
    again.begin(LEARNING, SETTINGS)
    while claim := again.claim(drawing=LEARNING):
        again.finish(claim, Noted(other)(claim.number, claim.values))
    assert [trial.values for trial in again.trials()] == [trial.values for trial in trials]


def _claim_and_die(path: str) -> None:
    Study(path, "sweep").claim(drawing=LEARNING)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_kill_changes_no_point(tmp_path: Path) -> None:
    found = []
    for kills in (False, True):
        folder = tmp_path / str(kills)
        folder.mkdir()
        study = Study(storage(folder), "sweep")
        study.begin(LEARNING, SETTINGS)
        for number in count():
            if kills and number in (0, 5):  # a point drawn at the start, and one drawn from results
                process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(storage(folder),))
                process.start()
                process.join()
                study.revive()
            claim = study.claim(drawing=LEARNING)
            if claim is None:
                break
            study.finish(claim, Noted(folder)(claim.number, claim.values))
        found.append([(trial.number, trial.values, trial.state) for trial in study.trials()])
    assert found[0] == found[1]


def test_the_first_of_two_workers_decides_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Study(storage(tmp_path), "sweep"), Study(storage(tmp_path), "sweep")
    one.begin(LEARNING, SETTINGS)
    other.begin(LEARNING, SETTINGS)
    for study in (one, other, one, other):
        claim = study.claim()
        assert claim is not None
        one.finish(claim, {"rate": claim.number + 1.0, "score": 0.5})
    follow = Drawing.following

    def drawn_by_both(drawing: Drawing, there: Mapping[int, int], seen: object) -> object:
        """Draw a point while another worker draws it too, from other results."""
        monkeypatch.setattr(Drawing, "following", follow)
        claim = other.claim(drawing=LEARNING)
        assert claim is not None
        assert claim.number == 4
        other.finish(claim, {"rate": 3.0, "score": 0.9})
        return Drawing(SPACE, 9, 99).following(there, ())

    monkeypatch.setattr(Drawing, "following", drawn_by_both)
    claim = one.claim(drawing=LEARNING)
    assert claim is not None
    assert claim.number == 5
    assert [(t.number, t.state.value) for t in one.trials()] == [(n, "finished") for n in range(5)] + [(5, "running")]


def test_sweeps_of_version_0_1_can_be_read_and_do_not_go_on(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "journal_of_0.1.log", storage(tmp_path))
    space = Space(
        {
            "model.model.bottleneck.channels": Choice((8, 16, "x")),
            "model.model.quantizer.step": Uniform(0.25, 4),
            "model.rate_weight": LogUniform(0.01, 1),
        }
    )
    settings = {"rate": "val/bits_per_pixel", "score": "val/accuracy", "cache": "float16", "views": 2}
    settings["config"] = {"seed_everything": 1}
    study = Study(storage(tmp_path), "sweep")
    with pytest.raises(StudyError, match="of another version of splitlearn, whose trials began with other weights"):
        study.begin(Drawing(space, 6, 7), settings)
    first = study.trials()[0]
    assert first.values == space.point(7, 0)
    assert first.metrics == {"val/bits_per_pixel": 0.5, "val/accuracy": 0.75}


def test_results_lead_to_no_point_beyond_the_limits(tmp_path: Path) -> None:
    space = Space({"x": LogInt(2, 32), "y": Uniform(0, 1)}, where=(Constraint("macs < 70"),))
    drawing = Drawing(space, 16, 0, TPE(startup=3), macs)
    study = Study(storage(tmp_path), "sweep")
    study.begin(drawing, SETTINGS)
    while claim := study.claim(drawing=drawing):  # the best results lie beyond
        x = float(claim.values["x"])
        study.finish(claim, {"rate": x, "score": x})
    assert [trial.number for trial in study.trials()] == list(range(16))
    assert all(int(trial.values["x"]) < 7 for trial in study.trials())
