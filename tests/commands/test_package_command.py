"""`splitlearn package`: a run as a folder that a device and an edge server run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splitlearn.commands.serve import edge_of
from splitlearn.config.loading import load_task
from splitlearn.config.messages import UsageError
from splitlearn.runtime import Device, OnnxEdge, TorchEdge
from tests.commands.conftest import Run
from tests.networks import digits


def test_a_run_is_packaged_and_served_as_it_was_tested(run: Run) -> None:
    assert run("fit", "--config", "small.yaml").status == 0
    [ckpt] = Path("runs").rglob("last.ckpt")
    picture = ("--picture", "jpeg", "--picture.quality", "70")
    outcome = run("package", "--ckpt_path", str(ckpt), "--out", "package", "--images", "4", *picture)
    assert outcome.status == 0, outcome.err
    assert "images compared" in outcome.out
    assert "same answers, to pictures" in outcome.out
    assert json.loads(Path("package/manifest.json").read_text())["class_names"] == [str(n) for n in range(10)]
    task = load_task(ckpt)
    model = task.get_submodule("model")
    device, images = Device("package"), digits(3)
    assert device.package.picture is not None
    assert (device.package.picture.name, len(device.package.picture.rates)) == ("JPEG 70", 1)
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert device.prepare(pixels[0]).shape == (32, 32, 3)
    payloads = [device.compress(image) for image in pixels]
    assert payloads == model.compress(list(images))  # type: ignore[operator]
    labels = model.decompress(payloads).argmax(1).tolist()  # type: ignore[operator]
    folder = Path("package")
    for edge, kind in ((edge_of(folder, None, None), OnnxEdge), (edge_of(folder, None, ckpt), TorchEdge)):
        assert isinstance(edge, kind)
        assert "classes" in edge.answer_pictures([device.picture(pixels[0])])[0]  # type: ignore[operator]
        assert edge.fingerprint == device.package.fingerprint
        answers = edge.answer([payload for payload in payloads if isinstance(payload, bytes)])
        assert [int(answer["classes"][0]) for answer in answers] == labels  # type: ignore[index]
    again = run("package", "--ckpt_path", str(ckpt), "--out", "package")
    assert again.status == 2
    assert "--out package exists: name another folder" in again.err
    with pytest.raises(UsageError, match="is not that of package: package it again"):
        edge_of(Path("package"), Path("small.yaml"), None)


@pytest.mark.slow
def test_photos_stand_in_for_absent_data(run: Run) -> None:
    config = Path("small.yaml").read_text().replace("splitlearn.data.Digits", "splitlearn.data.ImageFolder")
    Path("absent.yaml").write_text(config.replace("{batch_size: 16}", "{root: nowhere, image_size: 32}"))
    Path("photos").mkdir()
    for number, image in enumerate((digits(3) * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(f"photos/{number}.png")
    outcome = run("package", "--config", "absent.yaml", "--photos", "photos", "--images", "3", "--out", "package")
    assert outcome.status == 0, outcome.err
    assert "the package has no names of classes" in " ".join(outcome.out.split())
    assert json.loads(Path("package/manifest.json").read_text())["class_names"] == []
    outcome = run("package", "--config", "absent.yaml", "--out", "other")
    assert outcome.status == 2
    assert "nowhere" in outcome.error


def test_help_shows_the_options_of_pictures(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("package", "--help")
    told = capfd.readouterr().out
    assert "--picture.format FORMAT" in told
    assert "--picture.quality QUALITY" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give a trained model: --ckpt_path FILE, --config FILE, or both"),
        (("--images", "0"), "--images must be at least 1"),
        (("--picture.format", "gif"), "--picture: images cross as no 'gif': take one of"),
        (("--picture", "gif"), "--picture: images cross as no 'gif': take one of"),
        (("--picture=webp", "--picture.quality", "101"), "--picture: quality is a number from 0 to 100, got 101"),
        (("--picture=webp", "--picture.format=webp"), "--picture.format is given more than once"),
        (("--picture.quality", "60"), "--picture.quality goes with --picture.format"),
        (("--ckpt_path", "nowhere.ckpt"), "nowhere.ckpt"),
        (("--config", "small.yaml", "--photos", "nowhere"), "there is no folder nowhere"),
        (("--model.model.net.at", "layer1"), "--model.model.net.at goes with --config"),
    ],
)
def test_wrong_words_get_one_sentence(run: Run, words: tuple[str, ...], told: str) -> None:
    outcome = run("package", "--out", "package", *words)
    assert outcome.status in (1, 2)
    assert told in outcome.err
    assert not Path("package").exists()


def test_serve_says_what_it_takes(run: Run) -> None:
    outcome = run("serve")
    assert outcome.status == 2
    assert "serve takes --package DIR, or the model in torch" in outcome.err
    np.save("noise.npy", np.zeros(1))
    outcome = run("serve", "--package", ".")
    assert outcome.status == 1
    assert "holds no manifest.json" in outcome.err
