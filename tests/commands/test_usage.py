"""Wrong usage is answered with one sentence that names the word at fault and the nearest right one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from argparse import ArgumentError
from pathlib import Path

import pytest
import yaml

from splitlearn import __version__
from splitlearn.config.build import settings_of
from splitlearn.config.messages import UsageError, did_you_mean, one_sentence, shorten_parser_error
from splitlearn.config.precheck import KEYS, TRAINER_COMMANDS, check_trainer_arguments
from tests.commands.conftest import Run

ROOT = Path(__file__).parents[2]

COMMANDS = ("fit", "validate", "test", "predict", "profile", "export", "codecs", "analyze", "calibrate")


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_lists_every_command(run: Run, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert outcome.status == 0
    lines = [line.split() for line in outcome.out.splitlines() if line.startswith("  ")]
    assert {line[0] for line in lines} >= set(COMMANDS)
    assert all(len(line) > 3 for line in lines)  # each says what it does


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv=['x', '--help']; import splitlearn.commands as c; c.main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "splitlearn.commands" in loaded
    assert not loaded & {"torch", "lightning", "torchvision", "numba", "jsonargparse", "numpy"}


def test_version(run: Run) -> None:
    assert run("--version").out == f"splitlearn {__version__}\n"


@pytest.mark.parametrize("command", ["profile", "export", "calibrate"])
def test_help_of_a_command(run: Run, command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("fitt",), "no command 'fitt', did you mean fit?; see splitlearn --help"),
        (("expotr",), "no command 'expotr', did you mean export or report?; see splitlearn --help"),
        (("xyzzy",), "no command 'xyzzy'; see splitlearn --help"),
        (
            ("fit",),
            "fit needs a config, e.g. splitlearn fit --config configs/trainer.yaml --config configs/quickstart.yaml",
        ),
        (("fit", "--confg", "small.yaml"), "fit has no option --confg, did you mean config?"),
        (("fit", "--config", "smal.yaml"), "no config file 'smal.yaml'"),
        (("fit", "--config=smal.yaml"), "no config file 'smal.yaml'"),
        (("fit", "--config"), "no config file '.'"),
        (("profile", "--modle", "resnet20"), "this command has no setting 'modle', did you mean model"),
        (("profile", "--mod", "resnet20"), "this command has no setting 'mod', did you mean model"),
        (("profile",), "missing: --model NAME"),
        (("export", "--out", "x"), "missing: --ckpt_path"),
        (("profile", "--model", "resnet20", "--depth", "deep"), "depth: a whole number is expected"),
        (("send", "--package", "p", "--to", "a:1", "--key_every", "1.5"), "key_every: a whole number is expected"),
        (("send", "--package", "p", "--to", "a:1", "--margin", "nan"), "margin: a number is expected, got 'nan'"),
        (("send", "--package", "p", "--to", "a:1", "--tls", "maybe"), "tls: true or false is expected, got 'maybe'"),
        (("profile", "--model", "resnet20", "--input", "3,32"), "--input takes the shape of one image as C,H,W"),
        (("profile", "--model", "resnet20", "--input", "3,32,no"), "--input takes the shape of one image as C,H,W"),
        (("profile", "--model", "resnet20", "--input", "3,0,32"), "--input takes the shape of one image as C,H,W"),
    ],
)
def test_wrong_words(run: Run, words: tuple[str, ...], sentence: str) -> None:
    outcome = run(*words)
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)


def test_configs_that_are_near_are_named(run: Run) -> None:
    Path("configs").mkdir()
    Path("configs/quickstart.yaml").touch()
    error = run("fit", "--config", "configs/quikstart.yaml").error
    assert error.startswith("no config file 'configs/quikstart.yaml', did you mean configs/quickstart.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "bad.yaml is not valid YAML: while parsing"),
        ("", "bad.yaml holds no settings"),
        ("- a\n- b\n", "bad.yaml holds no settings"),
        ("modell: {}\n", "bad.yaml has an unknown key 'modell', did you mean model?"),
        ("1: {}\n", "bad.yaml has an unknown key 1"),
        (
            "data: {class_path: 7}\n",
            "bad.yaml: class_path takes the import path of a class, e.g. splitlearn.data.Digits",
        ),
        ("trainer: {callbacks: [{class_path: [a]}]}\n", "bad.yaml: class_path takes the import path of a class"),
        ("seed_everything: 1" + "0" * 5000, "bad.yaml is not valid YAML: Exceeds the limit"),
    ],
)
def test_broken_configs(run: Run, text: str, sentence: str) -> None:
    Path("bad.yaml").write_text(text)
    outcome = run("test", "--config", "bad.yaml")
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--trainer.precison", "32"), "lightning.pytorch.Trainer has no setting 'precison', did you mean precision?"),
        (
            ("--checkpoint.monitr", "x"),
            "lightning.pytorch.callbacks.ModelCheckpoint has no setting 'monitr', did you mean monitor?",
        ),
        (("--data.batch_sise", "3"), "splitlearn.data.Digits has no setting 'batch_sise', did you mean batch_size?"),
        (
            ("--model.init_args.rate_wait", "3"),
            "splitlearn.tasks.ClassificationTask has no setting 'rate_wait', did you mean rate_weight",
        ),
        (
            ("--model.model.bottleneck.chanels", "3"),
            "splitlearn.models.DepthwiseSeparable has no setting 'chanels', did you mean channels?",
        ),
        (
            ("--model.model.net.model.weihts", "x"),
            "splitlearn.models.resnet20 has no setting 'weihts', did you mean weights?",
        ),
        (
            ("--model.model.bottelneck.channels", "3"),
            "splitlearn.models.SplitModel has no setting 'bottelneck', did you mean bottleneck?",
        ),
        (("--model.optimizer.lrr", "1"), "torch.optim.Adam has no setting 'lrr', did you mean lr?"),
        (
            ("--model.model.codec", "splitlearn.codecs.Hufman"),
            "splitlearn.codecs has no 'Hufman', did you mean Huffman",
        ),
        (("--model.model.codec", "Hufman"), "model.model.codec: no class 'Hufman', did you mean Huffman?"),
        (("--model.optimizer.lr", "nan"), "model.optimizer.lr: a number is expected, got 'nan'"),
        (("--model.optimizer", "AdamV"), "model.optimizer: no class 'AdamV', did you mean Adam"),
        (("--trainer.max_epoch", "3"), "lightning.pytorch.Trainer has no setting 'max_epoch', did you mean max_epochs"),
        (("--trainer.max_epochs", "many"), "trainer.max_epochs: a whole number is expected"),
        (("--data", "data/digits.yaml"), "data: there is no file data/digits.yaml"),
        (("--model.model.codec", "codecs/x.yml"), "model.model.codec: there is no file codecs/x.yml"),
        (("--modell.x", "3"), "fit has no option --modell.x, did you mean model?"),
        (
            ("--checkpoint.monitor", "val/task_loss"),
            "the checkpoint looks for the highest val/task_loss, which is the worst: set --checkpoint.mode min",
        ),
        (
            ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/accuracy"),
            "EarlyStopping looks for the lowest val/accuracy, which is the worst: set its mode to max",
        ),
    ],
)
def test_wrong_settings(fit: Run, words: tuple[str, ...], sentence: str) -> None:
    outcome = fit(*words)
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)
    assert len(outcome.error) < 150
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model.model.net.at", "layr2"), "no module 'layr2' in CifarResNet: did you mean layer2, "),
        (("--model.model.net.model.weights", "none.safetensors"), "no weights file at "),
        (("--data", "splitlearn.data.Cifar10", "--data.root", "nowhere"), "CIFAR-10 is missing or damaged in "),
        (("--ckpt_path", "none.ckpt"), "no checkpoint at none.ckpt; splitlearn fit leaves last.ckpt"),
        (("--ckpt_path", "last"), "no last.ckpt below runs/small: no run to resume or test, begin one by"),
        (
            ("--model.model.bottleneck", "Identity"),
            "nothing trains, since the network is frozen and there is no bottleneck",
        ),
        (("--model.model.bottleneck.channels", "0"), "channels and stride must be at least 1"),
    ],
)
def test_what_is_missing_or_impossible(fit: Run, words: tuple[str, ...], sentence: str) -> None:
    outcome = fit(*words)
    assert outcome.status == 1
    assert outcome.error.startswith(sentence)
    assert len(outcome.error) < 320


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("export", "--ckpt_path", "none.ckpt", "--out", "x"), "no checkpoint at none.ckpt"),
        (("profile", "--model", "resnte20"), "there is no network named 'resnte20'; did you mean resnet20"),
        (("profile", "--model", "resnet20", "--input", "1,32,32"), "CifarResNet does not take images of shape"),
    ],
)
def test_failures_of_other_commands(run: Run, words: tuple[str, ...], sentence: str) -> None:
    outcome = run(*words)
    assert outcome.status == 1
    assert outcome.error.startswith(sentence)
    assert not Path("x").exists()


def test_a_traceback_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITLEARN_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        run("export", "--ckpt_path", "none.ckpt", "--out", "x")


@pytest.mark.parametrize("words", [("fitt",), ("fit", "--config", "none.yaml"), ("fit", "--config", "small.yaml")])
def test_a_traceback_of_wrong_usage_on_request(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SPLITLEARN_TRACEBACK", "1")
    with pytest.raises((UsageError, ArgumentError)):
        run(*words, *(["--model.rate_wait", "3"] if len(words) == 3 else []))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_the_command_that_is_advised_runs(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(ROOT)
    advised = run(command).error.partition(f"e.g. splitlearn {command} ")[2].split()
    assert "--config" in advised
    short = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu"]
    check_trainer_arguments([command, *advised])
    words = advised[: advised.index("--ckpt_path")] if "--ckpt_path" in advised else advised
    assert ("--ckpt_path" in advised) is (command != "fit")
    assert settings_of([*words, *short])["trainer.fast_dev_run"] == 1


def test_help_of_trainer_commands_says_what_they_do(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for command, summary in TRAINER_COMMANDS.items():
        with pytest.raises(SystemExit) as caught:
            run(command, "--help")
        printed = capfd.readouterr().out
        assert caught.value.code == 0
        assert summary in printed
        assert command == "fit" or "full optimization routine" not in printed


def test_keys_of_a_config_are_those_of_lightnings_parser(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    found = {"config"}
    for command in TRAINER_COMMANDS:
        with pytest.raises(SystemExit):
            run(command, "--config", "small.yaml", "--print_config")
        found |= yaml.safe_load(capfd.readouterr().out).keys()
    assert found == set(KEYS)


def test_help_of_a_section_names_its_classes(run: Run) -> None:
    tasks, data = run("fit", "--model.help"), run("test", "--data.help")
    assert (tasks.status, data.status) == (0, 0)
    assert "splitlearn.tasks.ClassificationTask\n      Train a bottleneck" in tasks.out
    assert "splitlearn fit --model.help CLASS shows" in tasks.out
    assert "splitlearn.data.ImageFolder\n" in data.out


@pytest.mark.parametrize(
    "words",
    [
        ("--config", "small.yaml", "--model.help"),
        ("--model.help", "--config=small.yaml"),
        ("--config", "by_file.yaml", "--model.help"),
        ("--model", "splitlearn.tasks.ClassificationTask", "--model.help"),
        ("--model.help", "splitlearn.tasks.ClassificationTask"),
    ],
)
def test_help_of_a_section_tells_the_settings_of_its_class(
    run: Run, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    Path("task.yaml").write_text("class_path: splitlearn.tasks.ClassificationTask\n")
    Path("by_file.yaml").write_text("model: task.yaml\n")
    with pytest.raises(SystemExit) as caught:
        run("fit", *words)
    assert caught.value.code == 0
    assert "--model.rate_weight" in capfd.readouterr().out


def test_help_of_other_settings_needs_a_class(run: Run) -> None:
    outcome = run("fit", "--config", "small.yaml", "--model.model.help")
    assert (outcome.status, outcome.error) == (2, "--model.model.help takes a class: --model.model.help CLASS")


OWN = """
import torch
from torch import nn

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.width = 1 + "x"

class Unfit(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer2 = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.layer2(images) + torch.zeros(3, 5, 7)
"""


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("own_broken.Broken", "own_broken.py, line 8"),
        ("own_unfit.Unfit", "own_unfit.py, line 16"),
        ("own_importing.Net", "own_importing.py, line 2"),
        ("own_undefined.Net", "own_undefined.py, line 3"),
        ("own_syntax.Net", "own_syntax.py, line 1"),
        ("own_package.net.Net", "own_package/net.py, line 1"),
    ],
)
def test_errors_in_own_classes_name_file_and_line(run: Run, name: str, place: str) -> None:
    for module in ("own_broken", "own_unfit"):
        Path(f"{module}.py").write_text(OWN)
    Path("own_importing.py").write_text("import torch\nimport no_such_library\n")
    Path("own_undefined.py").write_text("import torch\n\nwidth = missing\n")
    Path("own_syntax.py").write_text("class Net(:\n")
    Path("own_package").mkdir()
    Path("own_package/net.py").write_text("raise RuntimeError('not today')\n")
    for words in (
        ("profile", "--model", name, "--input", "3,8,8"),
        ("fit", "--config", "small.yaml", "--model.model.net.model", name),
    ):
        outcome = run(*words)
        assert outcome.status in (1, 2)
        assert outcome.error.endswith(f" ({place})")
        assert outcome.error.count(place) == 1


def test_errors_of_splitlearn_name_no_file(run: Run) -> None:
    assert ".py" not in run("profile", "--model", "torchvision/resnet18", "--input", "1,32,32").error


def test_passwords_are_not_told(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for password in ("SECRET", "SEC@RET", "SEC%40RET", "SEC/RET"):
        address = f"postgresql+nodriver://me:{password}@host/name"
        outcome = run("pareto", "--out", "x", "--storage", address)
        assert outcome.status == 2
        assert "SEC" not in outcome.out + outcome.err
        assert "RET" not in outcome.out + outcome.err


def test_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splitlearn.tasks.loading.read_checkpoint", interrupted)
    outcome = run("export", "--ckpt_path", "a", "--out", "b")
    assert (outcome.status, outcome.error) == (130, "interrupted")


def test_a_reader_that_has_gone_is_no_error() -> None:
    code = "import sys; from splitlearn.commands.command_line import main; sys.exit(main())"
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as gone:
        done = subprocess.run([sys.executable, "-c", code, "--help"], stdout=gone, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_errors_become_one_sentence() -> None:
    assert one_sentence(ValueError("two\n  lines")) == "two lines"
    assert one_sentence(KeyError("x")) == "KeyError: 'x'"
    assert one_sentence(ValueError()) == "ValueError: no message"
    full = one_sentence(OSError(errno.ENOSPC, "No space left on device", "a/last.ckpt"))
    assert full == "the disk is full (a/last.ckpt): free some space; what was saved before is intact"
    assert one_sentence(OSError(errno.ENOSPC, "")).startswith("the disk is full (while writing)")


def test_suggestions() -> None:
    assert did_you_mean("modle", ["model", "data"]) == ", did you mean model?"
    assert did_you_mean("xyz", ["model", "data"]) == ""
    assert shorten_parser_error('Parser key "a": Parser key "b": wrong. Given value: 3') == "a.b: wrong."
    assert shorten_parser_error("something else") == "something else"
