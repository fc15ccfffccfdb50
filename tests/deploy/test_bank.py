"""A bank is its bottlenecks: the same payloads at each rate; anything else is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import resnet18

from splitlearn.codecs import RANS, BudgetError, ContextRANS, Huffman
from splitlearn.deploy import (
    BankError,
    ExportError,
    export_bank,
    export_bottleneck,
    load_bank,
    load_bottleneck,
    read_bank,
    read_export,
)
from splitlearn.models import (
    CifarResNet,
    DepthwiseSeparable,
    Normalize,
    NormalizedSeparable,
    OperatingPoint,
    Split,
    SplitModel,
    VariableRateModel,
    resnet8,
    resnet20,
    split,
)
from splitlearn.outputs import Features
from splitlearn.quantizers import Clipped, MinMax, Step
from splitlearn.tasks import ClassificationTask
from tests.archives import members
from tests.networks import SHAPE, digits

SHIPPED = Path(__file__).parents[2] / "checkpoints"
Make = Callable[[Split], SplitModel]


def backbone() -> CifarResNet:
    return resnet8(weights=SHIPPED / "resnet8_digits.safetensors")


def fitted(model: SplitModel) -> SplitModel:
    symbols = [s.numpy() for s in model.symbols(digits(8))[0]]
    return model.coded_by(
        model.coder.quantizers, [model.coder.codecs[0].fitted(symbols, model.coder.quantizers[0].levels)]
    )


def bare(net: Split) -> SplitModel:
    return fitted(SplitModel(net, Step(0.2), Huffman(), partial(DepthwiseSeparable, channels=4, stride=4)).eval())


def normed(net: Split) -> SplitModel:
    unit = partial(NormalizedSeparable, channels=8, stride=2)
    return fitted(SplitModel(net, Step(0.3), RANS(per_channel=True), unit).eval())


def untrained(net: Split) -> SplitModel:
    return SplitModel(net, Clipped(0.0, 2.0, levels=4), ContextRANS()).eval()


RATES: tuple[tuple[Make, float, float], ...] = ((untrained, 0.9, 900.0), (bare, 0.5, 60.0), (normed, 0.8, 300.0))


def exports_in(folder: Path, net: Split) -> list[Path]:
    """Exports of all rates, in an order that is not that of their sizes."""
    found = []
    for make, score, size in RATES:
        torch.manual_seed(0)
        metrics = {"test/accuracy": score, "test/bytes_per_image": size}
        found.append(export_bottleneck(make(net), folder / f"{make.__name__}.safetensors", metrics))
    return found


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return exports_in(tmp_path_factory.mktemp("exports"), split(backbone(), "layer2", SHAPE))


@pytest.fixture(scope="module")
def bank(exports: list[Path]) -> Path:
    return export_bank(exports, exports[0].parent / "out" / "bank.safetensors")


def test_each_rate_is_its_export(exports: list[Path], bank: Path) -> None:
    model, images = load_bank(bank, backbone()), digits(3)
    assert model.points == (OperatingPoint(0.5, 60.0), OperatingPoint(0.8, 300.0), OperatingPoint(0.9, 900.0))
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    for rate, name in enumerate(("bare", "normed", "untrained")):
        alone = load_bottleneck(exports[0].parent / f"{name}.safetensors", backbone())
        own = model.at_rate(rate)
        assert own.compress(images) == alone.compress(images)
        payloads = model.compress(images, rate=rate)
        assert model.rates_of(payloads) == [rate] * 3
        assert torch.equal(model.decompress(payloads), alone.decompress(alone.compress(images)))
    assert all(coder.net is model.net for coder in model.coders)
    assert [p.name for p in bank.parent.iterdir()] == ["bank.safetensors"]


def test_a_bank_holds_its_exports_and_no_more(exports: list[Path], bank: Path) -> None:
    assert bank.stat().st_size < sum(path.stat().st_size for path in exports) + 1024
    score, kept = read_bank(bank)
    assert score == "test/accuracy"
    for path, (manifest, tensors) in zip((exports[1], exports[2], exports[0]), kept, strict=True):
        its_manifest, its_tensors = read_export(path)
        assert manifest == json.loads(json.dumps(its_manifest))
        assert tensors.keys() == its_tensors.keys()
        assert all(torch.equal(tensor, its_tensors[name]) for name, tensor in tensors.items())


def test_rate_and_budget_are_arguments(bank: Path) -> None:
    images = digits(3)
    assert load_bank(bank, backbone(), rate=1).rate == 1
    assert max(map(len, load_bank(bank, backbone(), budget=500).compress(images))) <= 500
    with pytest.raises(BudgetError, match="over the budget of 9"):
        load_bank(bank, backbone(), budget=9).compress(images)
    for rate in (3, -1, 1.5, "1"):
        with pytest.raises(ValueError, match=rf"this bank has rates 0…2, got {rate}"):
            load_bank(bank, backbone(), rate=rate)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a budget must be 1 byte or more, got nan"):
        load_bank(bank, backbone(), budget=float("nan"))  # type: ignore[arg-type]


def test_a_config_loads_a_bank(bank: Path) -> None:
    network = {
        "class_path": "splitlearn.models.resnet8",
        "init_args": {"weights": str(SHIPPED / "resnet8_digits.safetensors")},
    }
    arguments = {"path": str(bank), "backbone": network, "rate": 0}
    model = {"class_path": "splitlearn.deploy.load_bank", "init_args": arguments}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ClassificationTask, "task")
    task = {"class_path": "splitlearn.tasks.ClassificationTask", "init_args": {"model": model, "num_classes": 10}}
    found = parser.instantiate(parser.parse_object({"task": task})).task.model
    assert isinstance(found, VariableRateModel)
    assert found.compress(digits(2)) == load_bank(bank, backbone()).compress(digits(2), rate=0)


def exported(folder: Path, model: SplitModel, **metrics: float) -> Path:
    told = {"test/accuracy": 0.5, "test/bytes_per_image": 100.0}
    return export_bottleneck(model, folder / "other.safetensors", metrics or told)


def of_other_weights() -> SplitModel:
    return SplitModel(split(resnet8(), "layer2", SHAPE), MinMax(4), Huffman()).eval()


def of_another_network() -> SplitModel:
    return SplitModel(split(resnet18(num_classes=10), "layer2", SHAPE), MinMax(4), Huffman()).eval()


def of_another_cut() -> SplitModel:
    return SplitModel(split(backbone(), "layer1", SHAPE), MinMax(4), Huffman()).eval()


def of_another_size() -> SplitModel:
    return SplitModel(split(backbone(), "layer2", (3, 48, 48)), MinMax(4), Huffman()).eval()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_another_cut, r"has the cut 'layer1', .*untrained.safetensors has 'layer2': a bank shares one cut"),
        (of_other_weights, r"has the set of weights \w{12}, .* has \w{12}: a bank shares one set of weights"),
        (of_another_network, r"has the network 'ResNet', .* has 'CifarResNet': a bank shares one network"),
        (of_another_size, r"has the image size \[3, 48, 48\], .* has \[3, 32, 32\]: a bank shares one image size"),
    ],
)
def test_others_are_refused(tmp_path: Path, exports: list[Path], make: Callable[[], SplitModel], message: str) -> None:
    with pytest.raises(BankError, match=message):
        export_bank([*exports, exported(tmp_path, make())], tmp_path / "bank.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["other.safetensors"]


def test_another_normalization_is_refused(tmp_path: Path, exports: list[Path]) -> None:
    net = split(backbone(), "layer2", SHAPE)
    normalized = SplitModel(net, MinMax(4), Huffman(), normalize=Normalize([0.5] * 3, [0.2] * 3)).eval()
    with pytest.raises(BankError, match=r"normalize images differently: a bank shares one normalization"):
        export_bank([*exports, exported(tmp_path, normalized)], tmp_path / "bank.safetensors")


def test_rates_must_have_been_measured(tmp_path: Path, exports: list[Path]) -> None:
    net = split(backbone(), "layer2", SHAPE)
    path = exported(tmp_path, SplitModel(net, MinMax(4), Huffman()).eval(), **{"val/accuracy": 0.5})
    with pytest.raises(ExportError, match=r"has no test/accuracy and test/bytes_per_image: export it with --results"):
        export_bank([*exports, path], tmp_path / "bank.safetensors")
    with pytest.raises(ExportError, match=r"untrained.safetensors has no test/map"):
        export_bank(exports, tmp_path / "bank.safetensors", score="test/map")


def test_a_bank_has_one_to_eight_rates(tmp_path: Path, exports: list[Path]) -> None:
    for wrong in ([], exports[:1] * 9):
        with pytest.raises(BankError, match=f"holds 1 to 8 bottlenecks, got {len(wrong)}: choose among them"):
            export_bank(wrong, tmp_path / "bank.safetensors")
    path = export_bank(exports[1:2] * 8, tmp_path / "bank.safetensors")
    model = load_bank(path, backbone())
    payloads = [model.compress(digits(1), rate=rate)[0] for rate in range(8)]
    assert model.rates_of(payloads) == list(range(8))
    assert len({len(payload) for payload in payloads}) == 1


def test_banks_and_exports_are_told_apart(tmp_path: Path, exports: list[Path], bank: Path) -> None:
    with pytest.raises(ExportError, match="holds no bank: it was not written by splitlearn bank"):
        load_bank(exports[0], backbone())
    with pytest.raises(ExportError, match="holds no bottleneck"):
        load_bottleneck(bank, backbone())
    with pytest.raises(FileNotFoundError, match=r"no bank at .*; write one with splitlearn bank"):
        load_bank(tmp_path / "none.safetensors", backbone())
    with pytest.raises(ExportError, match=r"belongs to CifarResNet with weights .* but this CifarResNet has weights"):
        load_bank(bank, resnet8())


def test_a_damaged_bank_is_refused(tmp_path: Path, bank: Path) -> None:
    whole, path = bank.read_bytes(), tmp_path / "bank.safetensors"
    start = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 100, start + 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ExportError, match="no readable safetensors file"):
            read_bank(path)
    for position in np.linspace(start, len(whole) - 1, 12).astype(int):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(ExportError, match="is damaged, it is not what was written: copy or export it again"):
            read_bank(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "has format 3, this splitlearn reads 1 and 2: upgrade it"),
        ({"format_version": 0}, "has format 0, this splitlearn reads 1 and 2: write the bank again"),
        ({"rates": []}, "holds 0 rates, a bank has 1 to 8"),
        ({"rates": [{}]}, "holds no bottleneck"),
        ({"rates": 3}, "incomplete or contradicts itself"),
        ({"score": "test/map"}, r"incomplete or contradicts itself.*test/map"),
    ],
)
def test_other_manifests_are_refused(tmp_path: Path, bank: Path, changes: dict[str, Any], message: str) -> None:
    score, kept = read_bank(bank)
    manifest = {"format": "splitlearn-bank", "format_version": 1, "score": score, "rates": [m for m, _ in kept]}
    path = tmp_path / "bank.safetensors"
    save_file(load_file(bank), path, {"manifest": json.dumps(manifest | changes)})
    with pytest.raises(ExportError, match=message):
        load_bank(path, backbone())


@dataclass(frozen=True)
class Cifar:
    """JPEG images of the test set, equally many of each class."""

    images: Tensor
    labels: Tensor


def cifar(shared_data: Path, each: int) -> Cifar:
    """The first images of each class."""
    wanted = tuple(f"{number:04}.jpg" for number in range(each))
    images, names = [], []
    for name, content in members(shared_data / "cifar10_jpeg_q75.tar.xz"):
        if "/test/" in name and name.endswith(wanted):
            images.append(np.asarray(Image.open(io.BytesIO(content))))
            names.append(name.split("/")[-2])
    classes = sorted(set(names))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() / 255
    return Cifar(pixels, torch.tensor([classes.index(name) for name in names]))


def shipped() -> VariableRateModel:
    network = resnet20(weights=SHIPPED / "resnet20_cifar10_jpeg.safetensors")
    return load_bank(SHIPPED / "resnet20_layer3_bank.safetensors", network)


def test_the_shipped_bank_on_real_images(shared_data: Path) -> None:
    """Each rate scores as its own bottleneck does, budgets hold, and the scores are near those that it records."""
    model, data = shipped(), cifar(shared_data, 10)
    assert all(size < 0.04 * model.backbone_bytes for size in model.switch_bytes)
    sizes = []
    features = Features(model.features(data.images), 32 * 32)
    for rate, point in enumerate(model.points):
        payloads, own = model.compress(features, rate=rate), model.at_rate(rate)
        found = model.decompress(payloads)
        assert torch.equal(found, own.decompress(own.compress(features)))
        accuracy = float((found.argmax(1) == data.labels).float().mean())
        assert abs(accuracy - point.score) < 4 * (point.score * (1 - point.score) / len(data.labels)) ** 0.5
        sizes.append([len(payload) for payload in payloads])
        assert np.mean(sizes[-1]) == pytest.approx(point.bytes_per_image, rel=0.1)
    for budget in (48, 64, 150):
        payloads = model.compress(features, budget=budget)
        assert max(map(len, payloads)) <= budget
        rates = model.rates_of(payloads)
        fitting = [max(r for r in range(len(sizes)) if sizes[r][i] <= budget) for i in range(len(payloads))]
        assert rates == fitting  # the scores rise with the rate
        accuracy = float((model.decompress(payloads).argmax(1) == data.labels).float().mean())
        assert accuracy > 0.8


@pytest.mark.slow
def test_the_shipped_bank_scores_what_it_records(shared_data: Path) -> None:
    """All 10,000 images, at every rate and under a budget; trials were scored from features rounded to float16."""
    model, data = shipped(), cifar(shared_data, 1000)
    choices: list[dict[str, int]] = [*({"rate": rate} for rate in range(len(model.points))), {"budget": 64}]
    right, sizes = torch.zeros(len(choices)), torch.zeros(len(choices))
    for images, labels in zip(torch.split(data.images, 250), torch.split(data.labels, 250), strict=True):
        features = Features(model.features(images), 32 * 32)
        for i, choice in enumerate(choices):
            payloads = model.compress(features, **choice)
            assert max(map(len, payloads)) <= choice.get("budget", 10**6)
            right[i] += (model.decompress(payloads).argmax(1) == labels).sum()
            sizes[i] += sum(map(len, payloads))
    assert len(data.labels) == 10_000
    for i, point in enumerate(model.points):
        assert float(right[i] / 10_000) == pytest.approx(point.score, abs=5e-4)
        assert float(sizes[i] / 10_000) == pytest.approx(point.bytes_per_image, rel=1e-3)
    assert model.points[1].score < float(right[-1] / 10_000)
    assert model.points[1].bytes_per_image < float(sizes[-1] / 10_000) < model.points[2].bytes_per_image
