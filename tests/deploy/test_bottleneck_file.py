"""An export is the model: the same bytes, the same predictions; anything else is refused."""

from __future__ import annotations

import json
import platform
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.codecs import ContextRANS, Huffman
from splitlearn.deploy import (
    CalibrationSettings,
    ExportError,
    calibrate,
    export_bottleneck,
    export_network,
    load_bottleneck,
    read_export,
)
from splitlearn.deploy.identity import weights_id
from splitlearn.models import DepthwiseSeparable, Normalize, SplitModel, WeightsError, load_weights, resnet20, split
from splitlearn.models.bottlenecks.bottleneck import Bottleneck
from splitlearn.quantizers import Clipped, MinMax
from splitlearn.tasks import ClassificationTask
from tests.networks import SHAPE, carra, datta, digits, halves, network

METRICS = {"test/accuracy": 0.75, "test/bytes_per_image": 201.5}


def trained() -> SplitModel:
    """A model whose every exported part differs from what a fresh one has."""
    model = datta(normalize=Normalize([0.3, 0.4, 0.5], [0.2, 0.25, 0.3]))
    with torch.no_grad():
        for parameter in model.coder.bottlenecks.parameters():
            parameter.add_(0.05 * torch.rand_like(parameter))
    model.coder.codecs = (
        Huffman.fit([s.numpy() for s in model.symbols(digits(8))[0]], model.coder.quantizers[0].levels),
    )
    return model


def two_tensors() -> SplitModel:
    torch.manual_seed(0)
    net = split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE)
    return SplitModel(net, MinMax(6), Huffman(), partial(DepthwiseSeparable, channels=4, stride=1)).eval()


def fresh_resnet18() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = resnet18(num_classes=10)
    return model


def calibrated_at(make: Callable[[], SplitModel]) -> SplitModel:
    """Levels and tables from images, those of each channel and tensor their own."""
    settings = CalibrationSettings(levels=3, entropy_weight=0.05, codec=ContextRANS())
    return cast("SplitModel", calibrate(make(), digits(8), settings).model)


@pytest.mark.parametrize(
    ("make", "backbone"),
    [
        (trained, network),
        (datta, network),
        (carra, network),
        (two_tensors, fresh_resnet18),
        (partial(calibrated_at, trained), network),
        (partial(calibrated_at, two_tensors), fresh_resnet18),
    ],
)
def test_bytes_and_predictions_are_the_same(
    tmp_path: Path, make: Callable[[], SplitModel], backbone: Callable[[], nn.Module]
) -> None:
    model, images = make(), digits(4)
    path = export_bottleneck(model, tmp_path / "out" / "b.safetensors")
    loaded = load_bottleneck(path, backbone())
    assert not loaded.training
    payloads = model.compress(images)
    assert loaded.compress(images) == payloads
    assert torch.equal(loaded.decompress(payloads), model.decompress(payloads))
    assert torch.equal(loaded(images), model(images))
    assert [p.name for p in path.parent.iterdir()] == ["b.safetensors"]


def test_manifest_says_all_that_it_belongs_to(tmp_path: Path) -> None:
    model = trained()
    path = export_bottleneck(model, tmp_path / "b.safetensors", METRICS)
    manifest, tensors = read_export(path)
    assert manifest["format"] == "splitlearn-bottleneck"
    assert manifest["format_version"] == 3
    assert manifest["backbone"] == "CifarResNet"
    assert manifest["weights_id"] == weights_id(model.net)
    assert manifest["split"] == "layer2"
    assert manifest["input_shape"] == [3, 32, 32]
    (unit,) = manifest["bottlenecks"]
    assert unit["class_path"] == "splitlearn.models.DepthwiseSeparable"
    assert unit["init_args"] == {"shape": [32, 16, 16], "channels": 8, "stride": 2}
    assert manifest["quantizers"][0]["init_args"] == {"step": 0.125, "levels": 256}
    assert manifest["codecs"][0] == {"class_path": "splitlearn.codecs.Huffman", "init_args": {}}
    costs = {"encoder_parameters": 584, "decoder_parameters": 608, "encoder_macs": 34816, "decoder_macs": 34816}
    assert manifest["complexity"] == {"parameters": 1192, **costs}
    assert torch.equal(tensors["codecs.0.lengths"], torch.from_numpy(model.coder.codecs[0].tables()["lengths"]))
    assert manifest["metrics"] == METRICS
    assert manifest["versions"]["python"] == platform.python_version()
    assert manifest["versions"]["torch"] == version("torch")
    assert manifest["versions"].keys() >= {"splitlearn", "torchvision", "numpy"}


def test_an_export_holds_the_bottleneck_alone(tmp_path: Path) -> None:
    model = trained()
    path = export_bottleneck(model, tmp_path / "b.safetensors")
    weights = sum(p.numel() * 4 for p in model.coder.bottlenecks.parameters())
    assert weights < path.stat().st_size < weights + 4096


def test_the_fingerprint_is_of_the_weights_alone() -> None:
    first = weights_id(halves("layer2"))
    assert weights_id(halves("layer1")) == first
    other = network()
    with torch.no_grad():
        other.linear.bias[3] += 1e-6
    assert weights_id(split(other, "layer2", SHAPE)) != first


def test_a_network_that_holds_a_lock_is_no_damage_of_the_file(tmp_path: Path) -> None:
    model, net = datta(), network()
    net.lock = threading.Lock()  # type: ignore[assignment]
    loaded = load_bottleneck(export_bottleneck(model, tmp_path / "b.safetensors"), net)
    assert loaded.compress(digits(2)) == model.compress(digits(2))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    with pytest.raises(ExportError, match=r"belongs to CifarResNet with weights .* but this CifarResNet has weights"):
        load_bottleneck(path, network(seed=1))


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    with pytest.raises(
        ExportError,
        match=r"belongs to CifarResNet and not to this network: its bottlenecks take .*32, 16, 16.* cross .*128, 4, 4",
    ):
        load_bottleneck(path, fresh_resnet18())
    with pytest.raises(ValueError, match="no module 'layer2' in Sequential"):
        load_bottleneck(path, nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 64])
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match="no readable safetensors file"):
        read_export(tmp_path / "b.safetensors")


def test_a_truncated_export_is_refused(tmp_path: Path) -> None:
    path = export_bottleneck(calibrated_at(carra), tmp_path / "b.safetensors")
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ExportError, match="no readable safetensors file"):
            load_bottleneck(path, network())


def test_a_damaged_export_is_refused(tmp_path: Path) -> None:
    """Levels with a wrong bit are levels, too: only a checksum tells them from those that were written."""
    path = export_bottleneck(calibrated_at(carra), tmp_path / "b.safetensors")
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for position in (start, (start + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(ExportError, match="is damaged, it is not what was written: copy or export it again"):
            load_bottleneck(path, network())


def test_a_missing_tensor_is_told(tmp_path: Path) -> None:
    path = export_bottleneck(calibrated_at(carra), tmp_path / "b.safetensors")
    manifest, tensors = read_export(path)
    del tensors["quantizers.0.values"]
    save_file(tensors, path, {"manifest": json.dumps(manifest)})
    with pytest.raises(ExportError, match="is damaged"):
        load_bottleneck(path, network())
    del manifest["tensors_id"]
    save_file(tensors, path, {"manifest": json.dumps(manifest)})
    with pytest.raises(ExportError, match="is damaged"):
        load_bottleneck(path, network())


def test_a_contradiction_is_told(tmp_path: Path) -> None:
    path = export_bottleneck(calibrated_at(carra), tmp_path / "b.safetensors")
    manifest, tensors = read_export(path)
    del manifest["quantizers"]
    save_file(tensors, path, {"manifest": json.dumps(manifest)})
    with pytest.raises(ExportError, match=r"incomplete or contradicts itself.*quantizers"):
        load_bottleneck(path, network())


def test_an_export_without_a_version_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors", {"manifest": '{"format": "splitlearn-bottleneck"}'})
    with pytest.raises(ExportError, match="has format 0, this splitlearn reads 2 and 3: export the model again"):
        read_export(tmp_path / "b.safetensors")


def test_levels_belong_to_weights_and_network(tmp_path: Path) -> None:
    path = export_bottleneck(calibrated_at(carra), tmp_path / "b.safetensors")
    with pytest.raises(ExportError, match=r"belongs to CifarResNet with weights .* but this CifarResNet has weights"):
        load_bottleneck(path, network(seed=1))
    with pytest.raises(ValueError, match=r"no module 'layer1.2.relu2' in ResNet"):
        load_bottleneck(path, fresh_resnet18())


def test_weights_of_half_precision_have_a_fingerprint() -> None:
    half = network().bfloat16()
    net = split(half, "layer2", torch.zeros(1, *SHAPE, dtype=torch.bfloat16))
    assert weights_id(net) != weights_id(halves("layer2"))


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    path = export_network(network(), tmp_path / "n.safetensors")
    with pytest.raises(ExportError, match="holds no bottleneck: it was not written by splitlearn export"):
        load_bottleneck(path, network())
    save_file({"x": torch.zeros(1)}, path, {"manifest": "{"})
    with pytest.raises(ExportError, match="no readable"):
        read_export(path)
    save_file({"x": torch.zeros(1)}, path, {"manifest": "[1]"})
    with pytest.raises(ExportError, match="holds no bottleneck"):
        read_export(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no export at .*; write one with splitlearn export"):
        load_bottleneck(tmp_path / "none.safetensors", network())


def change(path: Path, **changes: Any) -> None:
    """Rewrite an export with another manifest."""
    manifest, _ = read_export(path)
    save_file(load_file(path), path, {"manifest": json.dumps(manifest | changes)})


@pytest.mark.parametrize(("version", "remedy"), [(4, "upgrade it"), (1, "export the model again")])
def test_other_formats_are_refused(tmp_path: Path, version: int, remedy: str) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    change(path, format_version=version)
    with pytest.raises(ExportError, match=f"has format {version}, this splitlearn reads 2 and 3: {remedy}"):
        load_bottleneck(path, network())


@pytest.mark.parametrize(
    "class_path", ["os.system", "torch.nn.Conv2d", "builtins.exec", "splitlearn.codecs.CodecError"]
)
def test_a_manifest_cannot_name_other_code(tmp_path: Path, class_path: str) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    described = {"class_path": class_path, "init_args": {}}
    for part, kind in ({"codecs": [described]}, "Codec"), ({"quantizers": [described]}, "Quantizer"):
        export_bottleneck(datta(), path)
        change(path, **part)
        with pytest.raises(ExportError, match=f"names {class_path}, which is no {kind} known here"):
            load_bottleneck(path, network())
    export_bottleneck(datta(), path)
    change(path, bottlenecks=[described])
    with pytest.raises(ExportError, match=f"names {class_path}, which is no Bottleneck"):
        load_bottleneck(path, network())


@pytest.mark.parametrize(
    "class_path",
    [
        "this.Codec",  # importing `this` prints a poem
        "no_such_package.Codec",
        "splitlearn.codecs.NoSuchCodec",
        "splitlearn.__main__.Huffman",  # importing this ran the command line
        "splitlearn.codecs.codecs.NoSuchCodec",
        "splitlearn.codecs.base.Codec",
        "Codec",
        "",
        ".",
        3,
        None,
        ["splitlearn.codecs.Huffman"],
    ],
)
def test_only_classes_that_are_known_are_made(tmp_path: Path, class_path: Any) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    change(path, codecs=[{"class_path": class_path, "init_args": {}}])
    before = set(sys.modules)
    with pytest.raises(
        ExportError, match=r"cannot be used: it (names .*which is no Codec known here|describes no Codec)"
    ):
        load_bottleneck(path, network())
    assert set(sys.modules) == before


def test_an_incomplete_manifest_is_told(tmp_path: Path) -> None:
    path = export_bottleneck(datta(), tmp_path / "b.safetensors")
    change(path, quantizers=[{"class_path": "splitlearn.quantizers.Step", "init_args": {"stride": 2}}])
    with pytest.raises(ExportError, match=r"incomplete or contradicts itself.*stride"):
        load_bottleneck(path, network())


class Unkept(Bottleneck):
    """Does not keep its argument, so no manifest can describe it."""

    def __init__(self, shape: tuple[int, ...], width: int = 3) -> None:
        super().__init__()
        self.shape = shape
        self.encoder, self.decoder = nn.Identity(), nn.Identity()


def test_parts_that_cannot_be_described_are_refused(tmp_path: Path) -> None:
    model = SplitModel(halves("layer2"), MinMax(), Huffman(), Unkept)
    with pytest.raises(AttributeError, match="width"):
        export_bottleneck(model, tmp_path / "b.safetensors")
    assert not list(tmp_path.iterdir())


def test_networks_come_back_through_weights(tmp_path: Path) -> None:
    model = network()
    path = export_network(model, tmp_path / "out" / "n.safetensors", METRICS)
    loaded = resnet20(weights=path).eval()
    assert torch.equal(loaded(digits(2)), model(digits(2)))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["network"] == "CifarResNet"
    assert json.loads(metadata["metrics"]) == METRICS
    with pytest.raises(WeightsError, match="another architecture"):
        load_weights(fresh_resnet18(), path)


def test_tied_weights_come_back(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3))
        model[2].weight = model[0].weight
        model[3].weight = nn.Parameter(cast("Tensor", model[0].weight).t())  # a view of the same memory
        return model

    saved, loaded = tied(), tied()
    load_weights(loaded, export_network(saved, tmp_path / "network.safetensors"))
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_one_quantizer_of_two_tensors_is_exported(tmp_path: Path) -> None:
    model = SplitModel(halves("layer1.0.conv1"), Clipped(-1.0, 1.0), Huffman()).eval()
    assert model.coder.quantizers[0] is model.coder.quantizers[1]
    back = load_bottleneck(export_bottleneck(model, tmp_path / "b.safetensors"), network())
    assert back.compress(digits(2)) == model.compress(digits(2))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        export_bottleneck(datta(), tmp_path / "file" / "b.safetensors")


def test_a_config_loads_an_export(tmp_path: Path) -> None:
    weights = export_network(network(), tmp_path / "n.safetensors")
    model = trained()
    path = export_bottleneck(model, tmp_path / "b.safetensors")
    backbone = {"class_path": "splitlearn.models.resnet20", "init_args": {"weights": str(weights)}}
    loader = {"class_path": "splitlearn.deploy.load_bottleneck", "init_args": {"path": str(path), "backbone": backbone}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ClassificationTask, "task")
    arguments = {"model": loader, "num_classes": 10}
    config = {"task": {"class_path": "splitlearn.tasks.ClassificationTask", "init_args": arguments}}
    task = parser.instantiate(parser.parse_object(config)).task
    assert task.model.compress(digits(3)) == model.compress(digits(3))
