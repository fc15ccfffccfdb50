"""No trial is lost, none runs twice, whatever is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from splitlearn.sweep import LogUniform, Space, State, Study, StudyError, Uniform, run_sweep
from tests.sweep.trials import Noted

SPACE = Space({"x": Uniform(1, 16), "y": LogUniform(0.1, 1)})
SETTINGS = {"rate": "rate", "score": "score"}


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
    with pytest.raises(StudyError, match=r"with another rate and space \(x"):
        Study(storage(tmp_path), "sweep").create(Space({"x": Uniform(1, 2)}), 6, 0, {**SETTINGS, "rate": "bytes"})


def test_what_a_sweep_of_before_does_not_tell_may_be_any(tmp_path: Path) -> None:
    created(tmp_path)
    Study(storage(tmp_path), "sweep").create(SPACE, 6, 0, {**SETTINGS, "data": {"train": 9}})
    for images in (9, 9, 8):
        study = Study(storage(tmp_path), "other")
        if images == 9:
            study.create(SPACE, 6, 0, {**SETTINGS, "data": {"train": images}})
        else:
            with pytest.raises(StudyError, match=r"with another data \(train\): launch it as it was begun"):
                study.create(SPACE, 6, 0, {**SETTINGS, "data": {"train": images}})


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


def test_workers_that_are_known_to_be_gone_are_not_waited_for(tmp_path: Path) -> None:
    study = created(tmp_path, 2)
    claims = [study.claim("first"), study.claim("second")]
    assert study.revive({"second"}) == 1  # although this process lives
    again = study.claim("third")
    assert claims[1] is not None
    assert again is not None
    assert (again.number, again.values) == (claims[1].number, claims[1].values)


def _claim_and_die(path: str) -> None:
    Study(path, "sweep").claim()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
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
    assert created(tmp_path, 1).revive() == 1  # launched again, it is tried again


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    created(tmp_path)
    with Path(storage(tmp_path)).open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    assert len(created(tmp_path, 7).trials()) == 7


@pytest.mark.slow
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


def test_storages_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"the storage .*file/journal\.log cannot be used"):
        Study(str(tmp_path / "file" / "journal.log"), "sweep")
    with pytest.raises(
        StudyError, match=r"the storage postgresql\+psycopg://me:\*\*\*@localhost:1/none cannot be used"
    ) as caught:
        Study("postgresql+psycopg://me:secret@localhost:1/none", "sweep")
    assert "secret" not in str(caught.value)


def test_a_sweep_that_was_never_created_is_told(tmp_path: Path) -> None:
    created(tmp_path)
    with pytest.raises(StudyError, match="holds no sweep 'other': it holds sweep"):
        Study(storage(tmp_path), "other").settings  # noqa: B018


@pytest.mark.parametrize("name", ["point", "values"])
def test_a_damaged_journal_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "journal.log"
    Study(str(path), "sweep").create(Space({"x": Uniform(0, 1)}), 1, 0, {"rate": "rate", "score": "score"})
    text = path.read_text()
    assert f'"{name}":' in text
    path.write_text(text.replace(f'"{name}":', f'"{name}":"7","other":'))
    with pytest.raises(StudyError, match=r"the storage .*journal.log is damaged .*: take a copy of it from before"):
        Study(str(path), "sweep").trials()
    lines = map(json.loads, text.splitlines())
    wrong = [
        line | {"user_attr": {"settings": 7}} if "settings" in line.get("user_attr", {}) else line for line in lines
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in wrong))
    with pytest.raises(StudyError, match=r"the storage .*journal.log is damaged .*its settings name no rate and score"):
        Study(str(path), "sweep").settings  # noqa: B018


FORGED = [{"x": 2.0, "trainer.callbacks": "stranger.Own"}, {"x": "2.0", "y": 0.5}, {"x": 17.0, "y": 0.5}, {"x": 2.0}, 7]


@pytest.mark.parametrize("values", FORGED)
def test_a_journal_chooses_among_the_points_of_its_space(tmp_path: Path, values: object) -> None:
    study = created(tmp_path, 2)
    lines = [json.loads(line) for line in Path(storage(tmp_path)).read_text().splitlines()]
    for line in lines:
        if line.get("user_attrs", {}).get("point") == 0:
            line["user_attrs"]["values"] = values
    Path(storage(tmp_path)).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    study = Study(storage(tmp_path), "sweep")
    with pytest.raises(StudyError, match=r"journal.log is damaged \(ValueError: .* is no point of its space\)"):
        study.trials()
    with pytest.raises(StudyError, match="is no point of its space"):
        study.claim()
    with pytest.raises(StudyError, match="is no point of its space"):
        created(tmp_path, 2)


@pytest.mark.parametrize(
    "line", ['{"op_code": garbage', "[]", '{"op_code": 99, "worker_id": "x"}', "[" * 100_000, "\x00"]
)
def test_a_damaged_line_is_told_as_damage(tmp_path: Path, line: str) -> None:
    created(tmp_path)
    first, *others = Path(storage(tmp_path)).read_text().splitlines()
    Path(storage(tmp_path)).write_text("\n".join([first, line, *others, ""]))
    with pytest.raises(StudyError, match=r"journal.log is damaged .*: take a copy of it from before"):
        Study(storage(tmp_path), "sweep")


@pytest.mark.parametrize("changed", ["NaN", '"nan"', '"x"', "{}"])
def test_a_finished_trial_has_figures(tmp_path: Path, changed: str) -> None:
    study = created(tmp_path, 1)
    claim = study.claim()
    assert claim is not None
    study.finish(claim, {"rate": 2.0, "score": 0.125})
    path = Path(storage(tmp_path))
    path.write_text(path.read_text().replace('"score":0.125', f'"score":{changed}'))
    with pytest.raises(StudyError, match=r"journal.log is damaged"):
        Study(storage(tmp_path), "sweep").trials()


def test_a_sweep_of_an_earlier_version_is_read_and_not_lengthened(tmp_path: Path) -> None:
    created(tmp_path, 2)
    path = Path(storage(tmp_path))
    path.write_text(path.read_text().replace('"format":2,', "").replace('"format": 2, ', ""))
    assert len(Study(str(path), "sweep").trials()) == 2
    with pytest.raises(StudyError, match="of another version of splitlearn, whose trials began with other weights"):
        created(tmp_path, 3)
