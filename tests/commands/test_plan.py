"""`splitlearn profile --time` and `splitlearn plan` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitlearn.latencies import LatencyProfile
from tests.commands.conftest import SMALL, Run
from tests.runtime.latency_profiles import coder, profile

LINK = ("--bandwidth", "100kbps", "--rtt", "20ms")


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.latencies.PAUSE_S", 0.0)


@pytest.fixture
def files(run: Run) -> tuple[str, ...]:
    profile(10.0).write("dev.json")
    profile().write("edge.json")
    return ("plan", "--device", "dev.json", "--edge", "edge.json")


def test_a_network_is_timed_and_planned(run: Run) -> None:
    words = ("profile", "--model", "resnet8", "--input", "3,32,32", "--time", "--depth", "0", "--rounds", "2")
    outcome = run(*words, "--out", "out")
    assert outcome.status == 0, outcome.err
    assert "whole network" in outcome.out
    found = LatencyProfile.read("out/latencies.json")
    assert [each.name for each in found.modules][-1] == "linear"
    assert (found.threads, found.batch, found.rounds, found.engine) == (1, 1, 2, "torch")
    outcome = run("plan", "--device", "out/latencies.json", "--edge", "out/latencies.json", *LINK, "--out", "plan")
    assert outcome.status == 0, outcome.err
    assert "no cut here has a trained bottleneck" in outcome.out
    assert {path.name for path in Path("plan").iterdir()} == {"plan.csv", "plan.png"}


def test_a_model_of_a_config_is_timed_and_planned(run: Run) -> None:
    Path("small.yaml").write_text(SMALL)
    words = ("profile", "--time", "true", "--config", "small.yaml", "--images", "2", "--rounds", "2", "--depth", "0")
    outcome = run(*words, "--out", "out")
    assert outcome.status == 0, outcome.err
    found = LatencyProfile.read("out/latencies.json")
    assert [(each.at, each.rate) for each in found.coders] == [("layer2", 0)]
    assert len(found.pictures) == 3
    both = ("--device", "out/latencies.json", "--edge", "out/latencies.json")
    outcome = run("plan", *both, *LINK, "--config", "small.yaml")
    assert outcome.status == 0, outcome.err
    assert "cut at layer2, rate 0" in outcome.out


def test_a_plan_says_what_to_do(run: Run, files: tuple[str, ...]) -> None:
    outcome = run(*files, *LINK, "--deadline", "0.15s")
    assert outcome.status == 0, outcome.err
    assert "Fastest: cut at layer2, rate 0, 124.0 ms." in outcome.out
    assert "1 of 6 meets the deadline of 150 ms." in outcome.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--bandwidth", "2Mpps", "--rtt", "20ms"), "--bandwidth takes a number above 0 with a unit"),
        (("--bandwidth", "2Mbps", "--rtt", "20"), "--rtt takes a number with a unit (us, ms, s), such as 20ms"),
        ((*LINK, "--deadline", "0ms"), "--deadline takes a number above 0 with a unit"),
        ((*LINK, "--package", "p", "--config", "c"), "plan takes --package FOLDER or --config FILE"),
        ((*LINK, "--package", "absent"), "no package at absent"),
    ],
)
def test_wrong_words(run: Run, files: tuple[str, ...], words: tuple[str, ...], sentence: str) -> None:
    outcome = run(*files, *words)
    assert outcome.status in (1, 2)
    assert sentence in outcome.err
    assert not Path("runs/plan").exists()


def test_foreign_and_absent_profiles_are_refused(run: Run, files: tuple[str, ...]) -> None:
    profile(network="Other").write("edge.json")
    assert "profile one network on both" in run(*files, *LINK).err
    profile(names=(), coders=(coder(0, 41, 0.8, model="ef" * 32),)).write("edge.json")
    assert "a package that the other does not know" in run(*files, *LINK).err
    Path("edge.json").write_text("{}")
    assert "edge.json holds no latencies" in run(*files, *LINK).err
    Path("edge.json").unlink()
    assert "no profile at edge.json" in run(*files, *LINK).err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "--time takes one of --model NAME, --config FILE"),
        (("--model", "resnet8", "--package", "p"), "--time takes one of --model NAME"),
        (("--model", "resnet8", "--input", "1,32,32"), "does not take images of shape"),
        (("--model", "resnet8", "--input", "3,32,32", "--at", "layre1"), "did you mean layer1"),
        (("--model", "resnet8", "--rounds", "1"), "--rounds must be at least 2"),
        (("--model", "resnet8", "--threads", "0"), "--threads must be at least 1"),
        (("--model", "resnet8", "--images", "0"), "--images must be at least 1"),
        (("--package", "absent"), "give --photos FOLDER"),
        (("--package", "absent", "--at", "layer1"), "--depth and --at go with --model or --config"),
        (("--package", "absent", "--photos", "."), "no package at absent"),
        (("--model", "resnet8", "--input", "3,32,32", "--photos", "absent"), "there is no folder absent"),
    ],
)
def test_what_cannot_be_timed(run: Run, words: tuple[str, ...], sentence: str) -> None:
    outcome = run("profile", "--time", *words)
    assert outcome.status in (1, 2)
    assert sentence in outcome.err
