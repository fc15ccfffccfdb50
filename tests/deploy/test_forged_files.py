"""What a file says is data: forged or damaged, it is refused in one sentence, and takes no memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from splitlearn.codecs import Huffman
from splitlearn.deploy import ExportError, export_bank, export_bottleneck, export_network, load_bank, load_bottleneck
from splitlearn.deploy.record import write_record
from splitlearn.models import SplitModel, WeightsError, load_weights
from splitlearn.quantizers import Clipped
from tests.networks import datta, halves, network

FIGURES = {"test/accuracy": 0.5, "test/bytes_per_image": 100.0}
Manifest = dict[str, Any]


def manifest_of(path: Path) -> Manifest:
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    found: Manifest = json.loads(header["__metadata__"]["manifest"])
    return found


def forge(path: Path, change: Callable[[Manifest], object]) -> None:
    """Rewrite a file with another manifest, and without a check of its own."""
    manifest = manifest_of(path)
    change(manifest)
    save_file(load_file(path), path, {"manifest": json.dumps(manifest)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return export_bottleneck(datta(), tmp_path / "b.safetensors", FIGURES)


def test_a_changed_manifest_is_damage(path: Path) -> None:
    whole = path.read_bytes()
    for before, after in ((b'step\\": 0.125', b'step\\": 0.625'), (b"0.5, ", b"0.7, "), (b'\\"layer2', b'\\"layer3')):
        assert before in whole
        path.write_bytes(whole.replace(before, after, 1))
        with pytest.raises(ExportError, match="is damaged, it is not what was written: copy or export it again"):
            load_bottleneck(path, network())


def test_a_check_that_is_gone_is_damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"sha256":"', b'"sha257":"'))
    with pytest.raises(ExportError, match="its check is gone: copy or export it again"):
        load_bottleneck(path, network())


def test_a_bank_with_another_score_is_damage(path: Path, tmp_path: Path) -> None:
    bank = export_bank([path], tmp_path / "bank.safetensors")
    bank.write_bytes(bank.read_bytes().replace(b"0.5, ", b"0.9, ", 1))
    with pytest.raises(ExportError, match="is damaged"):
        load_bank(bank, network())


def test_damaged_weights_of_a_network_are_refused(tmp_path: Path) -> None:
    path = export_network(network(), tmp_path / "n.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:])
    with pytest.raises(WeightsError, match="is damaged, it is not what was written"):
        load_weights(network(), path)


def test_a_record_tells_damage_of_a_file_without_a_check(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_file(dict(network().state_dict()), path)
    write_record(path, {}, {}, "none")
    load_weights(network(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:])
    with pytest.raises(WeightsError, match=r"it is not what was written that n.json records"):
        load_weights(network(), path)
    path.with_suffix(".json").write_text('{"file": "another.safetensors", "sha256": "0"}')
    load_weights(network(), path)


def part(kind: str, **changes: Any) -> Callable[[Manifest], object]:
    return lambda manifest: manifest[kind][0]["init_args"].update(changes)


def put(**changes: Any) -> Callable[[Manifest], object]:
    return lambda manifest: manifest.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (part("bottlenecks", channels=30_000_000), "its tensors are not those of DepthwiseSeparable"),
        (part("bottlenecks", channels=10**400), "are not plain numbers and texts"),
        (part("bottlenecks", shape=[32, 160_000, 160_000]), r"bottlenecks take \[\[32, 160000, 160000\]\]"),
        (put(input_shape=[3, 32_000, 32_000]), "has an impossible input_shape"),
        (put(input_shape=[3, 2048, 2048]), r"cross \[\(32, 1024, 1024\)\]"),
        (put(input_shape=[3, -1, 32]), "has an impossible input_shape"),
        (put(input_shape="3"), "has an impossible input_shape"),
        (put(input_shape=[4, 32, 32]), "belongs to CifarResNet and not to this network"),
        (put(split=7), "has an impossible input_shape"),
        (put(split="layer9"), "belongs to CifarResNet and not to this network"),
        (part("quantizers", step=10**400), "are not plain numbers and texts"),
        (part("quantizers", step=float("nan")), "are not plain numbers and texts"),
        (part("quantizers", step=-1.0), "incomplete or contradicts itself"),
        (part("quantizers", levels=2.5), "incomplete or contradicts itself"),
        (part("quantizers", step={"class_path": "os.system"}), "are not plain numbers and texts"),
        (put(format_version="2"), "has format 2, this splitlearn reads 2 and 3: export the model again"),
        (put(format_version=10**400), "this splitlearn reads 2 and 3: upgrade it"),
        (put(format_version=True), "has format True"),
        (put(codecs=[]), "incomplete or contradicts itself"),
        (put(codecs=5), "incomplete or contradicts itself"),
        (put(weights_id=5), "belongs to CifarResNet with weights 5"),
        (put(bottlenecks=[]), "incomplete or contradicts itself|not to this network"),
        (put(quantizers=[{"class_path": "splitlearn.quantizers.Step", "init_args": [1]}]), "not plain numbers"),
    ],
)
def test_forged_manifests_are_refused(path: Path, change: Callable[[Manifest], object], message: str) -> None:
    forge(path, change)
    with pytest.raises(ExportError, match=message):
        load_bottleneck(path, network())


def test_images_that_the_network_refuses_are_not_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(path, put(input_shape=[3, 32, 32, 3, 32, 32]))
    monkeypatch.setattr("splitlearn.deploy.bottleneck_file.split", lambda *_: pytest.fail("it makes them"))
    net = network().train()
    with pytest.raises(ExportError, match="belongs to CifarResNet and not to this network: Expected 3D"):
        load_bottleneck(path, net)
    assert net.training


def test_deep_nesting_is_refused(path: Path) -> None:
    save_file(load_file(path), path, {"manifest": "[" * 100_000 + "]" * 100_000})
    with pytest.raises(ExportError, match="is no readable manifest"):
        load_bottleneck(path, network())


@pytest.mark.parametrize("name", ["codecs.9.lengths", "codecs.0.lengths", "quantizers.0.values", "x"])
def test_tensors_that_belong_to_nothing_are_refused(tmp_path: Path, name: str) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    manifest = manifest_of(path)
    tensors = load_file(path) | {name: torch.full((3, 3), 5, dtype=torch.uint8)}
    from splitlearn.deploy.bottleneck_file import tensors_id

    save_file(tensors, path, {"manifest": json.dumps(manifest | {"tensors_id": tensors_id(tensors)})})
    with pytest.raises(ExportError, match=r"cannot be used|incomplete or contradicts itself"):
        load_bottleneck(path, network())


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -1.0])
def test_levels_that_are_none_are_refused(wrong: float) -> None:
    quantizer = Clipped(0.0, 2.0, levels=4)
    state = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    state["values"][0, 2] = wrong
    with pytest.raises(ValueError, match="values must be finite, and values and thresholds ascending"):
        quantizer.load_state_dict(state)
    with pytest.raises(ValueError, match="clipping limits must be finite"):
        Clipped(0.0, float("nan"))


@pytest.mark.parametrize("figure", ["NaN", "0.5", True, None, float("inf"), 10**400, -1])
def test_figures_of_a_bank_are_numbers(path: Path, tmp_path: Path, figure: Any) -> None:
    bank = export_bank([path], tmp_path / "bank.safetensors")
    forge(bank, lambda manifest: manifest["rates"][0]["metrics"].update({"test/bytes_per_image": figure}))
    with pytest.raises(ExportError, match=r"incomplete or contradicts itself: .*bytes_per_image"):
        load_bank(bank, network())


def test_tables_of_other_levels_are_refused(tmp_path: Path) -> None:
    net = halves("layer2")
    model = SplitModel(net, Clipped(0.0, 2.0, levels=4), Huffman()).eval()
    model.coder.codecs = (Huffman.fit([torch.zeros(9, dtype=torch.uint8).numpy()], 4),)
    path = export_bottleneck(model, tmp_path / "b.safetensors")
    forge(path, part("quantizers", levels=16))
    with pytest.raises(ExportError, match="cannot be used: its tensors are not those of Clipped"):
        load_bottleneck(path, network())


def test_importing_the_main_module_runs_nothing() -> None:
    sys.modules.pop("splitlearn.__main__", None)
    import splitlearn.__main__

    assert not hasattr(splitlearn.__main__, "main")
