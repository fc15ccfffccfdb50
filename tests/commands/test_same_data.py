"""A checkpoint is tested on images that it has not seen, with classes of the same names, and exported as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import Run

CKPT = ["--ckpt_path", "runs/small/version_0/checkpoints/last.ckpt"]
DRAWN = ["--data", "splitlearn.data.LabelledImages", "--data.root", "labelled", "--data.image_size", "32"]
DRAWN += ["--data.resize", "32", "--data.num_classes", "10", "--data.batch_size", "4"]
DRAW = ["--data.train_size", "12", "--data.val_size", "4"]


def label() -> None:
    """Write 24 images of noise and their labels."""
    Path("labelled").mkdir()
    rng, rows = np.random.default_rng(0), ["file,class_index"]
    for number in range(24):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(f"labelled/{number}.png")
        rows.append(f"{number}.png,{number % 10}")
    Path("labelled/labels.csv").write_text("\n".join(rows))


def test_images_that_were_trained_on_are_not_tested(fit: Run, run: Run) -> None:
    label()
    assert fit(*DRAWN, *DRAW).status == 0
    words = ["test", "--config", "small.yaml", *CKPT, *DRAWN]
    assert run(*words, *DRAW).status == 0
    for changed in ([], [*DRAW, "--data.seed", "3"], ["--data.train_size", "12", "--data.val_size", "5"]):
        outcome = run(*words, *changed)
        assert outcome.status == 1
        assert "was trained on images that were drawn with" in outcome.error
    assert "it would be scored on some of these: set --data.train_size 12" in run(*words).error
    more = Path("labelled/labels.csv").read_text() + "\n24.png,3"
    Image.new("RGB", (32, 32)).save("labelled/24.png")
    Path("labelled/labels.csv").write_text(more)
    told = run(*words, *DRAW)
    assert (told.status, "labelled held other files, and from those of today other images would be" in told.error) == (
        1,
        True,
    )
    Path("labelled").rename("elsewhere")
    assert run(*words, "--data.root", "elsewhere").status == 0  # other images, as far as anybody can tell


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_validation_images(fit: Run, run: Run) -> None:
    assert fit().status == 0
    words = ["fit", "--config", "small.yaml", *CKPT, "--trainer.max_epochs", "2"]
    for changed, name in ((["--data.seed", "1"], "seed"), (["--data.val_size", "100"], "val_size")):
        outcome = run(*words, *changed)
        assert outcome.status == 1
        assert f"was trained on images that were drawn with {name}" in outcome.error
    assert run(*words).status == 0


def folders(root: Path, names: list[str]) -> None:
    for part in ("train", "test"):
        for number, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            for image in range(3):
                Image.new("RGB", (32, 32), (20 * number, 80 * image, 9)).save(root / part / name / f"{image}.png")


def test_classes_with_other_names_are_told(fit: Run, run: Run) -> None:
    words = ["--data", "splitlearn.data.ImageFolder", "--data.image_size", "32", "--data.resize", "32"]
    words += ["--data.batch_size", "4", "--data.val_size", "4"]
    folders(Path("digits"), [str(number) for number in range(10)])
    folders(Path("words"), ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    assert fit(*words, "--data.root", "digits").status == 0
    test = ["test", "--config", "small.yaml", *CKPT, *words]
    assert "called" not in run(*test, "--data.root", "digits").err
    outcome = run(*test, "--data.root", "words")
    assert outcome.status == 0
    assert "was trained with class 0 called '0', and these data call it 'eight': if their order differs" in outcome.err


def test_a_config_of_another_run_is_not_exported(fit: Run, run: Run) -> None:
    assert fit().status == 0
    words = ["export", *CKPT, "--out", "exported", "--config"]
    assert run(*words, "runs/small/version_0/config.yaml").status == 0
    Path("other.yaml").write_text(
        Path("runs/small/version_0/config.yaml").read_text().replace("step: 0.5", "step: 0.25")
    )
    outcome = run(*words, "other.yaml")
    assert outcome.status == 1
    assert "was trained with another quantizer of the model than in the config: give the config.yaml" in outcome.error
