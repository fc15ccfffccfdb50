"""`splitlearn calibrate`: from a config and a few images to a file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torchvision.transforms.functional import to_pil_image

from splitlearn.codecs import ContextRANS
from splitlearn.data import Digits, video_batches
from splitlearn.deploy import export_network, load_bottleneck, read_export
from splitlearn.models import StreamModel
from splitlearn.quantizers import Clipped
from tests.commands.conftest import Outcome, Run
from tests.data.test_video import write_video
from tests.networks import digits, network

PLAIN = "--config", "plain.yaml", "--images", "6"


@pytest.fixture
def calibrate(run: Run) -> Run:
    """Run `calibrate` on a network with fixed weights, cut without a bottleneck, with more options."""
    export_network(network(), "n.safetensors")
    lines = [line for line in Path("small.yaml").read_text().splitlines() if "bottleneck:" not in line]
    text = "\n".join(lines)
    assert "{weights: null}" in text
    assert "at: layer2\n" in text
    text = text.replace("{weights: null}", "{weights: n.safetensors}").replace("at: layer2\n", "at: layer3\n")
    Path("plain.yaml").write_text(text)
    replace_data("listed", "splitlearn.data.LabelledImages", "root: ., image_size: 32")
    replace_data("absent", "splitlearn.data.Cifar10", "root: nowhere")
    head, _, rest = text.partition("    model:\n")
    Path("pixels.yaml").write_text(
        f"{head}    model:\n      class_path: splitlearn.models.InputModel\n      init_args:\n"
        f"        network: {{class_path: splitlearn.models.resnet8}}\n"
        f"        codec: {{class_path: splitlearn.models.Pixels}}\n{rest[rest.index('    rate_loss:') :]}"
    )
    return lambda *words: run("calibrate", *words)


def replace_data(name: str, cls: str, arguments: str) -> None:
    """Write plain.yaml with another data module as NAME.yaml."""
    head, _, _ = Path("plain.yaml").read_text().partition("data:")
    Path(f"{name}.yaml").write_text(f"{head}data: {{class_path: {cls}, init_args: {{{arguments}}}}}\n")


def photos(folder: str, count: int = 4) -> Path:
    for number, image in enumerate(digits(count)):
        path = Path(folder, f"{number % 2}", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(path)
    return Path(folder)


def test_the_file_is_the_calibrated_model(calibrate: Run) -> None:
    outcome = calibrate(*PLAIN, "--levels", "3", "--stretch", "0.7,1,1.4", "--out", "out/c.safetensors")
    assert outcome.status == 0, outcome.err
    model = load_bottleneck("out/c.safetensors", network())
    (quantizer,) = model.coder.quantizers
    assert isinstance(quantizer, Clipped)
    assert (quantizer.levels, quantizer.channels) == (3, 64)
    assert f"{model.table_bytes:,} bytes of levels and tables, sent once" in outcome.out
    assert "Calibration on 6 images" in outcome.out
    marked = [line for line in outcome.out.splitlines() if "←" in line]
    metrics = read_export("out/c.safetensors")[0]["metrics"]
    assert len(marked) == 1
    assert f" {metrics['calibration/stretch']:g} " in marked[0]
    assert metrics["calibration/images"] == 6
    assert torch.equal(model.decompress(model.compress(digits(2))), model(digits(2)))


def test_the_config_beside_it_tests_it(calibrate: Run, run: Run) -> None:
    words = (*PLAIN, "--levels", "5", "--model.num_classes", "10", "--data.batch_size", "8")
    outcome = calibrate(*words, "--out", "out/c.safetensors")
    assert "config for a test: out/c.yaml" in outcome.out
    written = yaml.safe_load(Path("out/c.yaml").read_text())
    assert written["data"]["init_args"]["batch_size"] == 8
    assert "rate_weight" not in written["model"]["init_args"]
    assert written["model"]["init_args"]["model"]["init_args"]["path"] == "out/c.safetensors"
    short = "--trainer.limit_test_batches", "1", "--trainer.accelerator", "cpu", "--trainer.logger.save_dir", "runs"
    outcome = run("test", "--config", "small.yaml", "--config", "out/c.yaml", *short)
    assert outcome.status == 0, outcome.err
    (results,) = Path("runs/calibrated_c").rglob("results.json")
    assert json.loads(results.read_text())["test/bytes_per_image"] > 0


@pytest.mark.slow
def test_photos_take_the_place_of_validation_images(calibrate: Run) -> None:
    photos("album")
    words = "--config", "plain.yaml", "--photos", "album", "--images", "3"
    outcome = calibrate(*words, "--no_such", "1", "--out", "c.safetensors")
    assert outcome.status == 2
    for config in ("plain", "listed"):  # of labelled test images alone: the list is not even read
        outcome = calibrate("--config", f"{config}.yaml", *words[2:], "--out", f"{config}.safetensors")
        assert outcome.status == 0, outcome.err
        assert "Calibration on 3 images" in outcome.out
    first, second = (load_bottleneck(f"{name}.safetensors", network()) for name in ("plain", "listed"))
    assert first.coder.quantizers[0].state_dict().keys() == second.coder.quantizers[0].state_dict().keys()


def test_tables_come_from_a_video(calibrate: Run) -> None:
    video = str(write_video(Path("v.mkv"), 9))
    outcome = calibrate(*PLAIN, "--video", video, "--margin", "0.2", "--out", "c.safetensors")
    assert outcome.status == 0, outcome.err
    model = load_bottleneck("c.safetensors", network())
    (codec,) = model.coder.codecs
    assert {"frequencies", "frequencies_after"} < set(codec.tables())
    (frames,) = video_batches(video, Digits().eval_view(), 9)
    assert frames.shape == (9, 3, 32, 32)
    told = StreamModel(model, 0.2)
    by_itself = StreamModel(model.coded_by(model.coder.quantizers, [ContextRANS()]), 0.2)
    known, own = ([len(frame.payload) for frame in stream.sender().compress(frames)] for stream in (told, by_itself))
    assert sum(known) < sum(own)
    assert all(one <= other for one, other in zip(known, own, strict=True))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--video", "none.mkv"), "no video at none.mkv"),
        (("--video", "small.yaml"), "small.yaml is no video, or is damaged"),
        (("--video", "v.mkv", "--margin", "0.6"), "margin is 0…0.5, in distances of levels, got 0.6"),
        (("--video", "v.mkv", "--codec", "Huffman"), "no codec here takes the frame before as reference (Huffman)"),
    ],
)
def test_videos_that_are_refused(calibrate: Run, words: tuple[str, ...], sentence: str) -> None:
    write_video(Path("v.mkv"), 3)
    refused(calibrate(*PLAIN, *words, "--out", "c.safetensors"), sentence, 1)


@pytest.mark.parametrize(
    ("words", "levels", "channels"),
    [
        (("--per_channel", "false", "--entropy_weight", "0.05", "--lengths", "TruncatedUnaryLengths"), 4, 1),
        (("--limits", "LaplaceLimits", "--slope", "0.1", "--codec", "RunLength"), 4, 64),
        (("--limits", "splitlearn.quantizers.LeastError", "--levels", "256", "--codec", "Huffman"), 256, 64),
    ],
)
def test_options_reach_the_quantizer(calibrate: Run, words: tuple[str, ...], levels: int, channels: int) -> None:
    outcome = calibrate(*PLAIN, *words, "--out", "c.safetensors")
    assert outcome.status == 0, outcome.err
    manifest, _ = read_export("c.safetensors")
    (quantizer,) = manifest["quantizers"]
    assert (quantizer["init_args"]["levels"], quantizer["init_args"]["channels"]) == (levels, channels)
    codec = words[words.index("--codec") + 1] if "--codec" in words else "ContextRANS"
    assert manifest["codecs"][0]["class_path"].endswith(f".{codec}")


def refused(outcome: Outcome, sentence: str, status: int = 2) -> None:
    assert outcome.error.startswith(sentence)
    assert outcome.status == status
    assert len(outcome.error) < 260
    assert not list(Path().glob("*c.safetensors"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--levels", "1"), "--levels must lie in 2…256, got 1"),
        (("--levels", "257"), "--levels must lie in 2…256, got 257"),
        (("--levels", "four"), "levels: a whole number is expected"),
        (("--images", "0"), "--images must be at least 1, got 0"),
        (("--stretch", "0"), "--stretch takes positive numbers, e.g. 0.7,1,1.4; got '0'"),
        (("--stretch", "1,,2"), "--stretch takes positive numbers"),
        (("--stretch", "1,nan"), "--stretch takes positive numbers"),
        (("--stretch", "1,inf"), "--stretch takes positive numbers"),
        (("--rate_weight", "-1"), "--rate_weight and --entropy_weight must be numbers and not negative, got -1.0"),
        (("--entropy_weight", "-1"), "--rate_weight and --entropy_weight must be numbers and not negative"),
        (("--lengths", "TruncatedUnaryLengths"), "--lengths TruncatedUnaryLengths goes with --entropy_weight"),
        (("--limits", "Lest"), "--limits has no 'Lest'"),
        (("--limits", "LestError"), "--limits has no 'LestError', did you mean LeastError"),
        (("--limits", "Limits"), "--limits has no 'Limits'"),
        (("--limits", "no_such.Limits"), "--limits no_such.Limits cannot be imported: No module named 'no_such'"),
        (("--limits", "splitlearn.codecs.Huffman"), "--limits takes the import path of a class derived from"),
        (("--slope", "0.1"), "--slope goes with --limits LaplaceLimits, got LeastError"),
        (
            ("--limits", "LaplaceLimits", "--slope", "1.5"),
            "--limits LaplaceLimits cannot be made: the slope below zero must lie in 0…1, got 1.5",
        ),
        (("--frames", "1"), "--frames must be at least 2, since frames are coded beside the one before, got 1"),
        (("--margin", "0.1"), "--margin goes with --video FILE"),
        (("--codec", "Hufman"), "--codec has no 'Hufman', did you mean Huffman"),
        (("--codec", "Codec"), "--codec has no 'Codec'"),
        (("--entropy_weight", "1", "--lengths", "CodeLengths"), "--lengths has no 'CodeLengths'"),
        (("--out", "c.bin"), "--out must be the name of a .safetensors file, got c.bin"),
        (("--out", "small.yaml/c.safetensors"), "--out small.yaml/c.safetensors cannot be written: "),
        (("--config", "pixels.yaml"), "model.model in pixels.yaml is InputModel: only a SplitModel has features"),
        (("--config", "listed.yaml"), "labels.csv has only test images: "),
        (("--config", "absent.yaml"), "CIFAR-10 is missing or damaged in "),
        (("--config", "plan.yaml"), "no config file 'plan.yaml'"),
        (("--data_root", "x"), "splitlearn.data.Digits has no setting 'root'"),
    ],
)
def test_wrong_words(calibrate: Run, words: tuple[str, ...], sentence: str) -> None:
    defaults = {"--config": "plain.yaml", "--out": "c.safetensors"}
    kept = [word for name, value in defaults.items() if name not in words for word in (name, value)]
    outcome = calibrate(*kept, *words)
    if sentence.startswith("labels.csv"):
        assert outcome.error.endswith("; or name other images: --photos FOLDER")
        sentence = f"{Path().resolve() / sentence}"
    refused(outcome, sentence)


def test_config_and_out_are_needed(calibrate: Run) -> None:
    refused(calibrate(), "missing: --config, --out")


def test_photos_that_cannot_be_read(calibrate: Run) -> None:
    words = "--config", "plain.yaml", "--out", "c.safetensors", "--photos"
    refused(calibrate(*words, "none"), "there is no folder none: name one that contains images", 1)
    Path("empty").mkdir()
    refused(calibrate(*words, "empty"), "empty holds no images (.apng, ", 1)
    damaged = photos("album") / "1" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    refused(calibrate(*words, "album"), "cannot decode album/1/3.png, remove or replace it", 1)


def test_rules_that_do_not_fit_say_which_does(calibrate: Run) -> None:
    Path("plain.yaml").write_text(Path("plain.yaml").read_text().replace("at: layer3\n", "at: layer3.2.bn2\n"))
    outcome = calibrate(*PLAIN, "--limits", "ReluLimits", "--out", "c.safetensors")
    refused(outcome, "ReluLimits is for latents after ReLU, and the smallest of these is ", 1)
    assert "use LeastError" in outcome.error


def test_an_untrained_bottleneck_is_warned_of(run: Run) -> None:
    outcome = run("calibrate", "--config", "small.yaml", "--images", "2", "--out", "c.safetensors")
    assert outcome.status == 0
    assert "warning: this bottleneck is untrained; did you mean --ckpt_path FILE?" in outcome.err
