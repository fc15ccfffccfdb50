"""A package is its model: the same symbols, payloads and answers, without torch; anything else is refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.table import Table
from torch import Tensor, nn

from splitlearn.codecs import BudgetError, CodecError, Huffman, ImageFile
from splitlearn.models import EarlyExitModel, Normalize, SplitModel, TiledFeatures, VariableRateModel, split
from splitlearn.quantizers import MinMax, Quantizer, Step
from splitlearn.reporting.package import package_table
from splitlearn.runtime import (
    Answer,
    Device,
    ExitPrediction,
    OnnxEdge,
    Package,
    PackageError,
    TorchEdge,
    packaging,
    write_package,
)
from splitlearn.runtime.forms import ClassMask, RawOutput, TopClasses
from splitlearn.runtime.onnx_export import exported
from splitlearn.runtime.package_check import check_package
from splitlearn.runtime.preparation import LetterboxTo
from splitlearn.runtime.torch_device import TorchDevice
from tests.networks import Colours, Grey, digits
from tests.runtime.conftest import Packaged, edit, pixels

COUNT = 12


def payload_of(device: Device, image: Any, rate: int | None = None, budget: int | None = None) -> bytes:
    payload = device.compress(image, rate, budget)
    assert isinstance(payload, bytes)
    return payload


def classes_of(answers: list[Answer | CodecError]) -> list[int]:
    return [int(answer["classes"][0]) for answer in answers if not isinstance(answer, CodecError)]


def test_a_bank_sends_what_its_model_sends(bank: Packaged) -> None:
    device, edge, model = Device(bank.folder), OnnxEdge(bank.folder), bank.model
    assert isinstance(model, VariableRateModel)
    assert device.package.manifest["check"]["equal_symbols"] > 0.999
    payloads = [[payload_of(device, image, rate) for image in pixels(COUNT)] for rate in range(3)]
    for rate, made in enumerate(payloads):
        expected = model.compress(list(digits(COUNT)), rate=rate)
        same = sum(a == b for a, b in zip(made, expected, strict=True))
        assert same >= COUNT - 2 or rate == 2  # whose extremes, floats of each image, are rounded otherwise
        assert model.rates_of(made) == [rate] * COUNT
        logits = model.decompress(made)
        answers = edge.answer(made)
        assert classes_of(answers) == logits.argmax(1).tolist()
        scores = torch.from_numpy(np.stack([a["scores"] for a in answers if not isinstance(a, CodecError)]))
        torch.testing.assert_close(scores, logits.softmax(1).sort(1, descending=True).values[:, :3], atol=1e-4, rtol=0)


def test_an_edge_answers_payloads_of_all_rates_at_once_and_each_damaged_one_by_an_error(bank: Packaged) -> None:
    device = Device(bank.folder)
    image, other = pixels(2)
    payloads = [payload_of(device, image, 2), b"", payload_of(device, other, 0), payload_of(device, image, 1)]
    payloads += [payloads[0][:-1], b"\xff" * 40, payload_of(device, other, 2)]
    for edge in (OnnxEdge(bank.folder), TorchEdge(bank.model, TopClasses(3))):
        assert edge.fingerprint == Package(bank.folder).fingerprint
        answers = edge.answer(payloads)
        assert [isinstance(answer, CodecError) for answer in answers] == [False, True, False, False, True, True, False]
        alone = [edge.answer([payload])[0] for payload in payloads]
        assert classes_of(answers) == classes_of(alone)


def test_one_damaged_payload_costs_one_more_decoding_and_no_more_tails(
    bank: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge, model = TorchEdge(bank.model, TopClasses(3)), bank.model
    payloads = [*model.compress(digits(5)), b"damaged"]
    tails = []
    handle = model.net.tail.register_forward_hook(lambda *_: tails.append(1))
    try:
        answers = edge.answer(payloads)
    finally:
        handle.remove()
    assert classes_of(answers) == model.decompress(payloads[:5]).argmax(1).tolist()
    assert isinstance(answers[5], CodecError)
    assert len(tails) == 1


def test_a_torch_edge_warms_up_every_rate(bank: Packaged, exits: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    for packaged in (bank, exits):
        edge = TorchEdge(packaged.model, TopClasses(3))
        answered: list[bytes] = []
        right = edge.answer

        def answer(payloads: Sequence[bytes], found: list[bytes] = answered, right: Any = right) -> Any:
            found += payloads
            return right(payloads)

        monkeypatch.setattr(edge, "answer", answer)
        edge.warm_up()
        assert len(answered) == len(packaged.model.rates)
        assert not any(isinstance(each, CodecError) for each in edge.answer(list(answered)))


def test_a_budget_takes_the_best_rate_within_it(bank: Packaged) -> None:
    device, model = Device(bank.folder), bank.model
    assert isinstance(model, VariableRateModel)
    [image] = pixels(1)
    sizes = [len(payload_of(device, image, rate)) for rate in range(3)]
    assert sizes == sorted(sizes)
    assert len(payload_of(device, image)) == sizes[2]
    assert [len(payload_of(device, image, budget=size)) for size in sizes] == sizes
    assert len(payload_of(device, image, budget=sizes[2] - 1)) == sizes[1]
    with pytest.raises(BudgetError, match=f"takes {sizes[0]} bytes even .* budget of {sizes[0] - 1}: allow"):
        device.compress(image, budget=sizes[0] - 1)
    for wrong, told in (
        ({"rate": 3}, "rates 0…2, got 3"),
        ({"rate": 0, "budget": 9}, "not both"),
        ({"budget": 0}, "1"),
    ):
        with pytest.raises(ValueError, match=told):
            device.compress(image, **wrong)


def test_exits_decide_on_the_device_as_in_the_model(exits: Packaged) -> None:
    device, model = Device(exits.folder), exits.model
    assert isinstance(model, EarlyExitModel)
    found = [device.compress(image) for image in pixels(COUNT)]
    decisions = model.decide(digits(COUNT))
    left = [each.exit if isinstance(each, ExitPrediction) else 2 for each in found]
    assert left == decisions.exits.tolist()
    assert set(left) == {0, 1, 2}
    for each, logits in zip(found, decisions.logits, strict=True):
        if isinstance(each, ExitPrediction):
            torch.testing.assert_close(torch.from_numpy(each.logits), logits, atol=1e-4, rtol=1e-4)
            answer = each.answer()  # of the package's own form
            assert len(answer["classes"]) == 3
            assert answer["classes"][0] == logits.argmax()
    sent = [each for each in found if isinstance(each, bytes)]
    assert classes_of(OnnxEdge(exits.folder).answer(sent)) == model.decompress(sent).argmax(1).tolist()


def test_a_device_sends_without_torch(bank: Packaged, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", pixels(1)[0])
    run = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'torchvision', 'onnx', 'yaml', 'jsonargparse'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from splitlearn.runtime import Device\n"
        f"device = Device({str(bank.folder)!r})\n"
        f"image = device.prepare(np.load({str(tmp_path / 'image.npy')!r}))\n"
        "print([device.compress(image, rate).hex() for rate in range(3)])\n"
    )
    told = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True).stdout
    device = Device(bank.folder)
    assert told.strip() == str([payload_of(device, pixels(1)[0], rate).hex() for rate in range(3)])


@pytest.mark.parametrize("as_dict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mask_is_answered_and_a_network_of_ones_own_is_packaged(as_dict: bool, tmp_path: Path) -> None:
    model = SplitModel(split(Colours(as_dict), "features", (3, 32, 32)), MinMax(8), Huffman()).eval()
    found = write_package(model, tmp_path / "package", pixels(3), ClassMask())
    assert (found.device, found.edge, found.equal_answers) == ("onnx", "onnx", 1.0)
    payload = payload_of(Device(tmp_path / "package"), pixels(1)[0])
    [answer] = OnnxEdge(tmp_path / "package").answer([payload])
    assert not isinstance(answer, CodecError)
    assert answer["mask"].shape == (16, 16)
    assert answer["mask"].dtype == np.uint8


class Liar(Normalize):
    """Computes something else in an export."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1.5 if torch.compiler.is_exporting() else 1.0)


class Stubborn(Normalize):
    """Does not export: what it computes depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (2 if float(images.sum()) > 1 else 1)


def own_network(normalize: Normalize, quantizer: Quantizer) -> SplitModel:
    return SplitModel(split(Colours(), "features", (3, 32, 32)), quantizer, Huffman(), normalize=normalize).eval()


@pytest.mark.parametrize(
    ("quantizer", "told"), [(Step(0.1), "the symbols are equal"), (MinMax(8), "the answers are those of the model")]
)
def test_a_package_that_differs_from_its_model_is_not_written(quantizer: Quantizer, told: str, tmp_path: Path) -> None:
    model = own_network(Liar([0.5], [0.5]), quantizer)
    with pytest.raises(PackageError, match=rf"do not compute what the model does.* only .*% of {told}"):
        write_package(model, tmp_path / "package", pixels(3), RawOutput())
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_package_is_refused_in_a_sentence(bank: Packaged, tmp_path: Path) -> None:
    net = split(Colours(), "features", (3, 32, 32))
    tiled = TiledFeatures(net, MinMax(8), ImageFile("WEBP", 50)).eval()
    with pytest.raises(PackageError, match="a TiledFeatures has no device package"):
        write_package(tiled, tmp_path / "package", pixels(1), RawOutput())
    model = SplitModel(net, MinMax(8), Huffman()).eval()
    with pytest.raises(FileExistsError, match="name another folder"):
        write_package(model, bank.folder, pixels(1), RawOutput())
    with pytest.raises(ValueError, match="there are none: name a folder"):
        write_package(model, tmp_path / "package", pixels(0), RawOutput())
    with pytest.raises(PackageError, match=r"on the CPU in float32, this one is torch\.float64"):
        write_package(model.double(), tmp_path / "package", pixels(1), RawOutput())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((31, 32, 3), np.uint8), r"takes images \(32, 32, 3\), got \(31, 32, 3\).*device.prepare"),
        (np.zeros((3, 32, 32), np.uint8), r"got \(3, 32, 32\)"),
        (np.zeros((32, 32, 3), np.float32), "uint8 array .H, W, 3., got float32"),
        (np.zeros((32, 32), np.uint8), "convert it to 8-bit RGB"),
        ("cat.jpg", "got a str"),
    ],
)
def test_images_of_another_form_are_refused(bank: Packaged, image: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Device(bank.folder).compress(image)


def test_a_head_that_does_not_export_gets_a_torch_half(tmp_path: Path) -> None:
    model = own_network(Stubborn([0.5], [0.5]), MinMax(8))
    found = write_package(model, tmp_path / "package", pixels(3), RawOutput())
    assert (found.device, found.edge, found.equal_symbols, found.equal_answers) == ("torch", "onnx", None, 1.0)
    assert "symbols" not in str(row_names(package_table(tmp_path / "package", found.record())))
    with pytest.raises(PackageError, match=r"needs torch .*does not export.*--config or --ckpt_path"):
        Device(tmp_path / "package")
    [answer] = TorchEdge(model, RawOutput()).answer(model.compress(digits(1)))
    assert not isinstance(answer, CodecError)
    assert answer["output"].shape == (4, 16, 16)


def row_names(table: Table) -> list[str]:
    return [str(cell) for cell in table.columns[0].cells]


@pytest.mark.slow
def test_graphs_of_the_edge_are_checked_even_if_the_head_does_not_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = own_network(Stubborn([0.5], [0.5]), MinMax(8))
    right = exported
    monkeypatch.setattr(packaging, "exported", lambda module, tensors: right(Wrong(module), tensors))
    with pytest.raises(PackageError, match="the answers are those of the model"):
        write_package(model, tmp_path / "package", pixels(3), RawOutput())
    assert list(tmp_path.iterdir()) == []


class Wrong(nn.Module):
    """A module whose output is wrong."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.as_tensor(self.module(*tensors)) * 1.5


def test_a_forged_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    model = own_network(Normalize([0.5], [0.5]), MinMax(8))
    write_package(model, tmp_path / "package", pixels(2), RawOutput())
    edge = OnnxEdge(tmp_path / "package")
    large = nn.functional.interpolate(digits(1), scale_factor=2)
    good, [forged] = model.compress(digits(1)), model.compress(large)
    answers = edge.answer([*good, forged])
    assert [isinstance(answer, CodecError) for answer in answers] == [False, True]
    assert "crosses this cut" in str(answers[1])


def test_a_payload_that_the_graph_refuses_spoils_no_other(bank: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    device, edge = Device(bank.folder), OnnxEdge(bank.folder)
    payloads = [payload_of(device, image, 2) for image in pixels(3)]
    run, wrong = edge._tail.run, edge._decoded(payloads[1])[1][0]

    def refuses(batch: Sequence[Any]) -> list[Any]:
        if any((each == wrong).all() for each in batch[0]):
            raise ValueError("the graph refuses these tensors")
        return run(batch)

    monkeypatch.setattr(edge._tail, "run", refuses)
    assert [isinstance(answer, CodecError) for answer in edge.answer(payloads)] == [False, True, False]


@pytest.mark.parametrize("by_budget", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_default_of_a_bank_is_that_of_its_model(bank: Packaged, tmp_path: Path, by_budget: bool) -> None:
    model = bank.model
    assert isinstance(model, VariableRateModel)
    default = {"budget": len(model.compress(digits(1), rate=1)[0])} if by_budget else {"rate": 1}
    own = VariableRateModel(model.net, model.rates, model.points, **default, normalize=model.normalize).eval()
    found = write_package(own, tmp_path / "package", pixels(3), TopClasses(3))
    assert found.equal_rates == 1.0
    device = Device(tmp_path / "package")
    [image] = pixels(1)
    assert model.rates_of([payload_of(device, image)]) == own.rates_of(own.compress(digits(1))) == [1]
    edit(lambda about: about.update(default={"rate": 2, "budget": None}))(tmp_path / "package")
    with pytest.raises(PackageError, match=r"choose the same rate for only 0\.00%"):
        check_package(tmp_path / "package", own, pixels(3), TopClasses(3))


def test_exits_that_answer_otherwise_are_noticed(exits: Packaged, tmp_path: Path) -> None:
    model = copy.deepcopy(exits.model)
    assert isinstance(model, EarlyExitModel)
    with torch.no_grad():
        last = [t for t in model.exits[0].parameters() if t.shape[0] == model.num_classes][-1]
        last.copy_(last.roll(1, 0))
        weight = [t for t in model.exits[0].parameters() if t.ndim > 1 and t.shape[0] == model.num_classes][-1]
        weight.copy_(weight.roll(1, 0))
    with pytest.raises(PackageError, match="decide alike at the exits"):
        check_package(exits.folder, model, pixels(COUNT), TopClasses(3))


@pytest.mark.slow
def test_grey_networks_get_grey_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SplitModel(split(Grey(), "features", (1, 32, 32)), MinMax(8), Huffman()).eval()
    grey = pixels(3)[..., :1].copy()
    write_package(model, tmp_path / "package", grey, RawOutput(), preparation=[LetterboxTo(32, 32)])
    for device in (Device(tmp_path / "package"), TorchDevice(model, [LetterboxTo(32, 32)])):
        assert device.prepare(grey[0]).tolist() == grey[0].tolist()
        assert device.prepare(pixels(1)[0]).shape == (32, 32, 1)
        assert isinstance(device.compress(device.prepare(Image.new("RGB", (64, 40)))), bytes)


def test_other_numbers_of_channels_have_no_package(tmp_path: Path) -> None:
    net = split(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()), "0", (2, 32, 32))
    with pytest.raises(PackageError, match="takes 2 channels"):
        write_package(SplitModel(net, MinMax(8), Huffman()).eval(), tmp_path / "package", pixels(1), RawOutput())


class Branched(nn.Module):
    """Two float tensors and an integer tensor cross behind `pool`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 5, 3)
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images)
        pooled, places = self.pool(features)
        unpooled = nn.functional.max_unpool2d(pooled, places, [2, 2])
        return torch.as_tensor(self.last(torch.cat([features, unpooled], 1)).mean((2, 3)))


@pytest.mark.slow
def test_several_tensors_and_integers_cross_in_one_payload(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = split(Branched(), "pool", (3, 32, 32))
    assert sorted(dtype.is_floating_point for dtype in net.dtypes) == [False, True, True]
    model = SplitModel(net, MinMax(8), Huffman()).eval()
    found = write_package(model, tmp_path / "package", pixels(3), RawOutput())
    assert (found.device, found.edge) == ("onnx", "onnx")
    payload = payload_of(Device(tmp_path / "package"), pixels(1)[0])
    [answer] = OnnxEdge(tmp_path / "package").answer([payload])
    assert not isinstance(answer, CodecError)
    expected = model.decompress([payload])[0]
    torch.testing.assert_close(torch.from_numpy(answer["output"]), expected, atol=1e-4, rtol=1e-4)


def test_graphs_take_batches_of_any_size(bank: Packaged) -> None:
    graph = Package(bank.folder).graph("device.onnx")
    images = digits(5).numpy()
    whole = graph.run([images])[0]
    assert whole.shape[0] == 5
    np.testing.assert_allclose(np.concatenate([graph.run([images[n : n + 1]])[0] for n in range(5)]), whole, atol=1e-4)
    with pytest.raises(ValueError, match="the graph refuses these tensors"):
        graph.run([images[:, :, :8]])


def test_a_device_without_onnxruntime_says_what_to_install(bank: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"install splitlearn\[onnx\], or .* requirements-device.txt"):
        Device(bank.folder)
