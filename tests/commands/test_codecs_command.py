"""`splitlearn codecs`: from a file of activations or a config to table, files and plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from splitlearn.analysis.coefficients import spread
from splitlearn.config.loading import load_task
from splitlearn.data import Digits
from splitlearn.models import SplitModel
from tests.commands.conftest import Run

ODD = """
from splitlearn.quantizers import Step


class Odd(Step):
    def __init__(self, step: float) -> None:
        super().__init__(step)
        self.grid = None
"""
QUICK = ("--images", "4", "--rounds", "1")


def activations(count: int = 9, dtype: str = "float32") -> np.ndarray:
    return np.maximum(np.random.default_rng(0).normal(size=(count, 3, 8, 8)), 0).astype(dtype)


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs/codecs/codecs.json").read_text())
    return found


@pytest.mark.slow
def test_activations_of_a_npy_file(run: Run) -> None:
    np.save("a.npy", activations())
    outcome = run("codecs", "--activations", "a.npy", "--bits", "3,2", *QUICK, "--out", "x")
    assert outcome.status == 0
    assert "a.npy, 3×8×8: 4 images measured, static tables learnt from 4 others" in outcome.out
    assert "x/codecs.json, codecs.csv and codecs.png written" in outcome.out
    assert sorted(path.name for path in Path("x").iterdir()) == ["codecs.csv", "codecs.json", "codecs.png"]
    content = json.loads(Path("x/codecs.json").read_text())
    assert {"date", "command", "machine", "processor", "versions", "columns"} <= content.keys()
    rows = content["sources"]["a.npy, 3×8×8"]
    assert {(row["levels"], row["images"], row["rounds"]) for row in rows} == {(4, 4, 1), (8, 4, 1)}
    assert {"Huffman", "Huffman, static", "RunLength", "zlib-1", "zstd-1"} <= {row["codec"] for row in rows}
    assert {row["bytes_per_image"] for row in rows if row["codec"] == "Raw"} == {192}


@pytest.mark.slow
def test_few_images_are_halved(run: Run) -> None:
    np.save("a.npy", activations(3))
    outcome = run("codecs", "--activations", "a.npy", "--bits", "3", "--rounds", "1")
    assert "2 images measured, static tables learnt from 1 others" in outcome.out
    assert {row["images"] for row in record()["sources"]["a.npy, 3×8×8"]} == {2}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_activations_of_a_safetensors_file(run: Run, dtype: str) -> None:
    save_file({"layer1": activations(dtype=dtype), "labels": np.arange(9)}, "a.safetensors")
    words = ("codecs", "--activations", "a.safetensors", "--bits", "3", *QUICK)
    assert run(*words, "--key", "layer1").status == 0
    assert "a.safetensors, 3×8×8" in record()["sources"]
    assert run(*words).error == "a.safetensors holds 2 tensors: choose one with --key, of labels, layer1"
    assert run(*words, "--key", "layer2").error == "a.safetensors has no tensor 'layer2', only labels, layer1"
    assert run(*words, "--key", "labels").error.startswith("'labels' in a.safetensors is I64 of shape (9,)")


def test_the_only_tensor_needs_no_key(run: Run) -> None:
    save_file({"layer1": activations()}, "a.safetensors")
    assert run("codecs", "--activations", "a.safetensors", "--bits", "3", *QUICK).status == 0


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 2, 2), np.int64), "a.npy holds int64: activations are float16, float32 or float64"),
        (np.zeros((4, 2, 2), bool), "a.npy holds bool: activations are float16, float32 or float64"),
        (np.zeros((0, 2, 2)), "a.npy has shape (0, 2, 2): comparing takes a batch (B, …) of two images or more"),
        (np.zeros((1, 2, 2)), "a.npy has shape (1, 2, 2): comparing takes a batch"),
        (np.zeros((4, 0, 2)), "a.npy has shape (4, 0, 2): comparing takes a batch"),
        (np.zeros(4), "a.npy has shape (4,): comparing takes a batch"),
        (np.zeros(()), "a.npy has shape (): comparing takes a batch"),
        (np.array([[0, 1], [np.nan, 1]]), "image 1 of a.npy holds NaN or infinity, which has no symbol"),
        (np.array([[0, 1], [1e300, 1]]), "image 1 of a.npy holds NaN or infinity, which has no symbol"),
        (np.array([{}, {}]), "a.npy is damaged or no .npy file of numbers"),
    ],
)
def test_arrays_that_cannot_be_compared_on(run: Run, array: np.ndarray, sentence: str) -> None:
    np.save("a.npy", array, allow_pickle=True)
    outcome = run("codecs", "--activations", "a.npy")
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 10])
def test_damaged_files(run: Run, name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    outcome = run("codecs", "--activations", name)
    assert outcome.status == 2
    assert outcome.error.startswith(f"{name} is damaged or no .")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "codecs takes either --activations FILE or --config FILE"),
        (("--activations", "a.npy", "--config", "small.yaml"), "codecs takes either --activations FILE or --config"),
        (("--activations", "none.npy"), "no activations at none.npy; save some with numpy.save"),
        (("--activations", "small.yaml"), "small.yaml must be a .npy or .safetensors file of activations"),
        (("--activations", "a.npy", "--key", "x"), "a.npy holds one array: --key is for .safetensors files"),
        (
            ("--config", "small.yaml", "--key", "x"),
            "--key and --bits go with --activations FILE: a config has a quantizer of its own",
        ),
        (("--activations", "a.npy", "--ckpt_path", "x"), "--ckpt_path and --data_root go with --config FILE"),
        (("--activations", "a.npy", "--bits", "3,9"), "--bits takes numbers 2…8, e.g. 2,3,4; got '3,9'"),
        (("--activations", "a.npy", "--bits", "three"), "--bits takes numbers 2…8, e.g. 2,3,4; got 'three'"),
        (("--activations", "a.npy", "--images", "0"), "--images and --rounds must be at least 1, got 0 and 11"),
        (("--activation", "a.npy"), "this command has no setting 'activation', did you mean activations"),
        (("--config", "smal.yaml"), "no config file 'smal.yaml'"),
        (("--config", "small.yaml", "--data_root", "x"), "splitlearn.data.Digits has no setting 'root'"),
        (
            ("--config", "pixels.yaml"),
            "model.model in pixels.yaml is InputModel: only a SplitModel has features at a cut",
        ),
        (("--config", "odd.yaml"), "Odd has no numpy grid, which a comparison of codecs needs"),
        (("--config", "misspelt.yaml"), "splitlearn.quantizers.Step has no setting 'stepp', did you mean step?"),
    ],
)
def test_wrong_words(run: Run, words: tuple[str, ...], sentence: str) -> None:
    np.save("a.npy", activations())
    small = Path("small.yaml").read_text()
    head, _, rest = small.partition("    model:\n")
    tail = rest[rest.index("    rate_loss:") :]
    Path("pixels.yaml").write_text(
        f"{head}    model:\n      class_path: splitlearn.models.InputModel\n      init_args:\n"
        f"        network: {{class_path: splitlearn.models.resnet8}}\n"
        f"        codec: {{class_path: splitlearn.models.Pixels}}\n{tail}"
    )
    Path("odd_grid.py").write_text(ODD)
    Path("odd.yaml").write_text(small.replace("splitlearn.quantizers.Step", "odd_grid.Odd"))
    Path("misspelt.yaml").write_text(small.replace("{step: 0.5}", "{stepp: 0.5}"))
    outcome = run("codecs", *words)
    assert outcome.status == 2
    assert outcome.error.startswith(sentence)
    assert len(outcome.error) < 200


@pytest.mark.slow
def test_latents_of_a_config(fit: Run, run: Run) -> None:
    assert fit().status == 0
    checkpoint = "runs/small/version_0/checkpoints/last.ckpt"
    outcome = run("codecs", "--config", "small.yaml", "--ckpt_path", checkpoint, *QUICK)
    assert outcome.status == 0
    assert "latent at layer2, 8×8×8: 4 images measured, static tables learnt from 4 others" in outcome.out
    assert "untrained" not in outcome.err
    rows = {row["codec"]: row for row in record()["sources"]["latent at layer2, 8×8×8"]}
    assert {row["levels"] for row in rows.values()} == {256}

    model = load_task(checkpoint).model
    assert isinstance(model, SplitModel)
    data = Digits(batch_size=1000)
    data.setup("test")
    ((images, _),) = data.batches("test")
    (symbols,) = model.symbols(images[spread(len(images), 8)])
    sizes = [len(model.coder.codecs[0].encode(image, 256)) for image in symbols.numpy()[::2]]
    assert rows["Huffman"]["bytes_per_image"] == pytest.approx(np.mean(sizes))


def test_an_untrained_bottleneck_is_warned_of(run: Run) -> None:
    outcome = run("codecs", "--config", "small.yaml", *QUICK)
    assert outcome.status == 0
    assert "warning: this bottleneck is untrained; did you mean --ckpt_path FILE?" in outcome.err


def test_a_missing_checkpoint(run: Run) -> None:
    outcome = run("codecs", "--config", "small.yaml", "--ckpt_path", "none.ckpt")
    assert outcome.status == 1
    assert outcome.error.startswith("no checkpoint at none.ckpt")


def test_each_tensor_that_crosses_is_compared_by_itself(run: Run) -> None:
    lines = [line for line in Path("small.yaml").read_text().splitlines() if "bottleneck:" not in line]
    Path("skip.yaml").write_text("\n".join(lines).replace("at: layer2", "at: layer2.0.relu1"))
    outcome = run("codecs", "--config", "skip.yaml", *QUICK)
    assert outcome.status == 0
    assert "untrained" not in outcome.err
    shapes = {"latent 0 at layer2.0.relu1, 32×16×16", "latent 1 at layer2.0.relu1, 16×32×32"}
    assert set(record()["sources"]) == shapes


OWN = """
from splitlearn.analysis.coefficients import spread
from splitlearn.codecs import Raw


class Four(Raw):
    def _encode(self, symbols, levels):
        if levels > 4:
            raise ValueError("at most 4 levels")
        return super()._encode(symbols, levels)
"""


def test_a_codec_of_ones_own_stands_beside_the_others(run: Run) -> None:
    np.save("a.npy", activations())
    Path("own_codec.py").write_text(OWN)
    words = ("codecs", "--activations", "a.npy", "--bits", "2,3", *QUICK)
    assert run(*words, "--codec", "own_codec.Four").status == 0
    rows = record()["sources"]["a.npy, 3×8×8"]
    assert {row["levels"] for row in rows if row["codec"] == "Four"} == {4}
    assert run(*words, "--codec", "own_codec.Five").error == "own_codec has no 'Five'"
    assert "derived from splitlearn.codecs.Codec" in run(*words, "--codec", "pathlib.Path").error


def test_refuses_what_would_be_overlooked(run: Run) -> None:
    np.save("a.npy", activations())
    Path("file").touch()
    assert run("codecs", "--activations", "a.npy", "--out", "file").error == "--out file cannot be made: File exists"
    twice = run("codecs", "--config", "a.yaml", "--config", "b.yaml")
    assert twice.error == "--config is given more than once"
