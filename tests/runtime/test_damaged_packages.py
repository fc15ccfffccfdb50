"""Packages that are damaged, forged or missing are refused in a sentence."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from splitlearn.runtime import (
    Device,
    OnnxEdge,
    PackageError,
)
from tests.runtime.conftest import Packaged, edit


def flip(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return act


def step_doubled(folder: Path) -> None:
    """A setting that fits, without a new checksum."""
    content = (folder / "manifest.json").read_text()
    assert '"step": 0.2' in content
    (folder / "manifest.json").write_text(content.replace('"step": 0.2', '"step": 0.4'))


def garbled(folder: Path) -> None:
    """A graph that is no graph, under its right checksum."""
    content = b"no graph at all"
    (folder / "device.onnx").write_bytes(content)
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(lambda about: about["files"].update({"device.onnx": known}))(folder)


def no_tables(folder: Path) -> None:
    """A file of tables that is none, under its right checksum."""
    (folder / "coder.safetensors").write_bytes(b"no tables")
    known = {"bytes": 9, "sha256": hashlib.sha256(b"no tables").hexdigest()}
    edit(lambda about: about["files"].update({"coder.safetensors": known}))(folder)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip("manifest.json"), "manifest.json is (damaged|no manifest)"),
        (step_doubled, "manifest.json is damaged or was edited"),
        (lambda folder: (folder / "manifest.json").unlink(), "holds no manifest.json.*only half copied"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "no manifest of a package"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "manifest.json is damaged"),
        (lambda folder: (folder / "device.onnx").unlink(), "device.onnx is missing.*half copied"),
        (flip("device.onnx"), "device.onnx is damaged"),
        (flip("coder.safetensors"), "coder.safetensors is damaged"),
        (garbled, "no graph that this onnxruntime runs"),
        (edit(lambda about: about.update(format_version=99)), "format 99, this splitlearn reads 1"),
        (edit(lambda about: about.pop("rates")), "has no 'rates'"),
        (edit(lambda about: about.update(rates=[])), "0 rates"),
        (edit(lambda about: about.update(fingerprint="x")), "64 hexadecimal digits"),
        (edit(lambda about: about["device"]["steps"][0].update(file="../device.onnx")), "not inside the package"),
        (edit(lambda about: about["files"]["device.onnx"].update(bytes=1 << 40)), "claims 1099511627776 bytes"),
        (edit(lambda about: about["rates"][0].update(shapes=[[1 << 30, 1 << 30]])), "too many elements"),
        (edit(lambda about: about["rates"][0]["carriers"][0]["codec"].update(class_path="os.system")), "os.system"),
        (edit(lambda about: about["rates"][0].update(context=-1)), "out of range"),
        (edit(lambda about: about["preparation"][0]["init_args"].update(shorter=10**9)), "a side of a picture"),
        (edit(lambda about: about.update(image_shape=[3, "a", 32])), "shape .* impossible"),
        (edit(lambda about: about.update(image_shape=[3])), r"\(C, H, W\) have no shape \(3,\)"),
        (edit(lambda about: about["rates"][0].update(score="good")), "score or size good in it is no number"),
        (edit(lambda about: about["rates"][0].update(bytes_per_image=float("nan"))), "size nan in it is no number"),
        (edit(lambda about: about["rates"][0].update(shapes=[[4, 4, 4]] * 2)), "other numbers than its carriers"),
        (edit(lambda about: about["rates"][0].update(shapes=None)), "tensors of one shape"),
        (edit(lambda about: about.pop("answers")), "has no 'answers'"),
        (edit(lambda about: about.update(answers=["top"])), "no form of answers"),
        (edit(lambda about: about["files"].update({"device.onnx": {}})), "has no 'bytes'"),
        (edit(lambda about: about["files"]["device.onnx"].update(sha256=5)), "5 stands where a text belongs"),
        (edit(lambda about: (about["device"].update(steps=[]), about["device"].pop("reason"))), "has no 'reason'"),
        (edit(lambda about: about.update(cut=None)), "None stands where a text belongs"),
        (edit(lambda about: about.update(default={"rate": 3, "budget": None})), "a default rate 3"),
        (edit(lambda about: about.update(default={"rate": None, "budget": "9"})), "budget 9 in it"),
        (no_tables, "holds no tables of codecs"),
    ],
)
def test_a_damaged_or_forged_package_is_refused_in_a_sentence(
    bank: Packaged, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "package"
    shutil.copytree(bank.folder, folder)
    damage(folder)
    with pytest.raises(PackageError, match=told):
        Device(folder)


def test_a_form_of_answers_that_is_none_is_refused(bank: Packaged, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(bank.folder, folder)
    edit(lambda about: about.update(answers={"class_path": "os.system"}))(folder)
    with pytest.raises(PackageError, match=r"manifest.json describes no form of answers: it names os\.system"):
        OnnxEdge(folder)


def test_a_missing_package_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="write one with splitlearn package"):
        Device(tmp_path / "nowhere")
