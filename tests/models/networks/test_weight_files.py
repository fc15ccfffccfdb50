"""Weights as they are found: wrapped, renamed, in other formats; what does not fit or could run code is refused."""

from __future__ import annotations

import argparse
import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from splitlearn.models import WeightsError, backbone, load_weights


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(5, 2)))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(one.state_dict()[name], tensor) for name, tensor in other.state_dict().items())


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": dict,
    "parallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "both": lambda s: prefixed(s, "module._orig_mod."),
    "both, the other way": lambda s: prefixed(s, "_orig_mod.module."),
    "a part of it compiled": lambda s: {n.replace("2.0.", "2._orig_mod.0."): t for n, t in s.items()},
    "a part of it parallel": lambda s: {n.replace("0.weight", "0.module.weight"): t for n, t in s.items()},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "best_acc1": torch.tensor(71.0)},
    "state_dict of parallel": lambda s: {"state_dict": prefixed(s, "module."), "optimizer": {"state": {0: s}}},
    "model": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1), "optimizer": {"param_groups": [{"lr": 1}]}},
    "model_state_dict": lambda s: {"epoch": 1, "model_state_dict": s, "loss": 0.3},
    "net": lambda s: {"net": prefixed(s, "module."), "acc": 93.1},
    "ema": lambda s: {"ema": s},
    "wrapped twice": lambda s: {"checkpoint": {"model": prefixed(s, "_orig_mod.")}},
    "lightning": lambda s: {"state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(3)}, "loops": {}},
    "another attribute": lambda s: {"state_dict": prefixed(s, "my_classifier.")},
    "student": lambda s: prefixed(s, "student.") | {"student_head.weight": torch.ones(3)},
    "the same twice": lambda s: {"model": s, "best": prefixed(s, "module.")},
    "without counters": lambda s: {n: t for n, t in s.items() if not n.endswith("num_batches_tracked")},
    "entries beside": lambda s: {**s, "epoch": 3, "arch": "mine"},
    "half": lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()},
    "bfloat16": lambda s: {n: t.bfloat16() if t.is_floating_point() else t for n, t in s.items()},
    "double": lambda s: {n: t.double() if t.is_floating_point() else t for n, t in s.items()},
    "parameters": lambda s: {n: nn.Parameter(t) if t.is_floating_point() else t for n, t in s.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["w.pth", "w.ckpt"])
def test_usual_wrappers_are_taken_away(tmp_path: Path, wrapper: str, name: str) -> None:
    saved, loaded = network(), network()
    torch.save(WRAPPERS[wrapper](saved.state_dict()), tmp_path / name)
    load_weights(loaded, tmp_path / name)
    precise = 1e-7 if wrapper not in ("half", "bfloat16") else 1e-2
    assert all(
        torch.allclose(loaded.state_dict()[n].double(), t.double(), atol=precise, rtol=precise)
        for n, t in saved.state_dict().items()
    )


def test_averaged_networks(tmp_path: Path) -> None:
    saved, loaded = network(), network()
    torch.save(AveragedModel(saved).state_dict(), tmp_path / "w.pt")
    load_weights(loaded, tmp_path / "w.pt")
    assert same(loaded, saved)


def test_a_network_with_a_module_of_that_name(tmp_path: Path) -> None:
    saved, loaded = (nn.ModuleDict({"module": nn.Linear(2, 2), "model": nn.Linear(2, 3)}) for _ in range(2))
    for prefix in ("", "module."):
        torch.save(prefixed(saved.state_dict(), prefix), tmp_path / "w.pt")
        load_weights(loaded, tmp_path / "w.pt")
        assert same(loaded, saved)


class Lit(LightningModule):
    """A user's own training of the network, which keeps a teacher beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.criterion = network(), nn.CrossEntropyLoss(weight=torch.ones(2))


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_lightning(tmp_path: Path) -> None:
    task, loaded = Lit(), network()
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    load_weights(loaded, tmp_path / "x.ckpt")
    assert same(loaded, task.model)


@pytest.mark.parametrize("name", ["w.th", "w.ckpt", "w.bin", "w.pth.tar", "w.pkl", "w.safetensors", "weights", "w.pt"])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_names_of_files_say_nothing(tmp_path: Path, name: str, form: str) -> None:
    saved, loaded = network(), network()
    if form == "safetensors":
        save_file(saved.state_dict(), tmp_path / name)
    else:
        torch.save(saved.state_dict(), tmp_path / name, _use_new_zipfile_serialization=form == "zip")
    load_weights(loaded, tmp_path / name)
    assert same(loaded, saved)


def test_networks_that_differ_are_not_chosen_between(tmp_path: Path) -> None:
    torch.save({"model": network().state_dict(), "ema": network().state_dict()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt holds several networks that fit Sequential, model and ema: save"):
        load_weights(network(), tmp_path / "w.pt")
    both = prefixed(network().state_dict(), "student.") | prefixed(network().state_dict(), "teacher.")
    torch.save(both, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="several networks that fit Sequential, student and teacher"):
        load_weights(network(), tmp_path / "w.pt")


def test_other_architectures_stay_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    wrong = {
        "0.weight is missing": {n: t for n, t in state.items() if n != "0.weight"},
        "3.weight is not in the model": {**state, "3.weight": torch.ones(2)},
        r"0.bias is \(5,\) in the file and \(4,\) in the model": {**state, "0.bias": torch.ones(5)},
        "0.weight is int8 in the file and float32 in the model": {**state, "0.weight": state["0.weight"].char()},
        "0.bias is sparse float32 in the file": {**state, "0.bias": state["0.bias"].to_sparse()},
        "2.0.bias is complex64": {**state, "2.0.bias": torch.zeros(2, dtype=torch.complex64)},
        "0.weight is float32 without values": {**state, "0.weight": state["0.weight"].to("meta")},
    }
    for reason, content in wrong.items():
        for wrapper in (dict, lambda s: {"state_dict": prefixed(s, "module.")}):
            torch.save(wrapper(content), tmp_path / "w.pt")
            with pytest.raises(WeightsError, match=f"does not fit Sequential: {reason}"):
                load_weights(network(), tmp_path / "w.pt")


def test_a_layer_of_another_network_is_no_network(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.ones(2, 2), "head.weight": torch.ones(2, 3)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="another architecture"):
        load_weights(nn.Linear(3, 2, bias=False), tmp_path / "w.pt")


def _scripted() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)), file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
        archive.addfile(tarfile.TarInfo("tensors"))
        archive.addfile(tarfile.TarInfo("pickle"))
    return file.getvalue()


def _saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: b"", "is empty: copy or download it again"),
        (lambda: b"not weights at all", "cannot be read, it is damaged or of another format: copy"),
        (lambda: _saved(network().state_dict())[:900], "cannot be read, it is damaged or of another format"),
        (lambda: _saved({"w": nn.Linear(100, 100).state_dict()})[:20_000], "cannot be read, it is damaged"),
        (lambda: _saved(nn.Linear(1, 1)), "holds an object of torch.nn.modules.linear.Linear, and objects can run"),
        (lambda: _saved({"weight": np.zeros((1, 1))}), "holds an object of numpy"),
        (lambda: pickle.dumps({"weight": Path("x")}), "cannot be read"),
        (_scripted, "is a TorchScript program, which is code: load it where it was made"),
        (_tar, "is of PyTorch's oldest format, which can run code"),
        (lambda: _saved([torch.ones(1)]), "holds no state dict: save it with torch.save(model.state_dict(), path)"),
        (lambda: _saved({"epoch": 3}), "holds no state dict"),
        (lambda: _saved(torch.ones(3)), "holds no state dict"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, content: Callable[[], bytes], sentence: str) -> None:
    (tmp_path / "w.pt").write_bytes(content())
    with pytest.raises(WeightsError) as caught:
        load_weights(nn.Linear(1, 1), tmp_path / "w.pt")
    assert str(caught.value).removeprefix(f"{tmp_path / 'w.pt'} ").startswith(sentence)
    assert not set(str(caught.value)) & set("\n\x1b")


def test_folders_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder: name the weights file in it"):
        load_weights(nn.Linear(1, 1), tmp_path)


OWN = """
import torch
from torch import nn

class Loading(nn.Linear):
    def __init__(self, weights=None):
        super().__init__(3, 2)
        if weights is not None:
            self.load_state_dict({n.replace("kernel", "weight"): t for n, t in torch.load(weights).items()})

def needing(weights):
    return Loading(weights)

class Wide(nn.Linear):
    def __init__(self, width):
        super().__init__(width, 2)
"""


def test_weights_are_handed_to_a_network_that_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_that_loads.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    torch.save({"kernel": torch.ones(2, 3), "bias": torch.ones(2)}, "w.th")
    for name in ("Loading", "needing"):
        assert backbone(f"net_that_loads.{name}", weights="w.th").weight.sum() == 6  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"needing cannot be made by its name alone \(missing a required .*'weights'"):
        backbone("net_that_loads.needing")
    with pytest.raises(ValueError, match=r"Wide cannot be made by its name alone \(missing a required .*'width'"):
        backbone("net_that_loads.Wide", weights="w.th")


def test_networks_of_torchvision_by_import_path(tmp_path: Path) -> None:
    saved = backbone("torchvision/squeezenet1_1", num_classes=3)
    torch.save({"state_dict": prefixed(saved.state_dict(), "module.")}, tmp_path / "w.pth.tar")
    path = "torchvision.models.squeezenet1_1"
    loaded = backbone(path, weights=str(tmp_path / "w.pth.tar"), num_classes=3)
    assert same(loaded, saved)
    with pytest.raises(WeightsError, match="has no weights 'MINE'"):
        backbone(path, weights="MINE")


class Tied(nn.Module):
    """Two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


def test_tied_weights_may_stand_in_a_file_once(tmp_path: Path) -> None:
    saved, loaded = Tied(), Tied()
    save_file({n: t for n, t in saved.state_dict().items() if n != "first.weight"}, tmp_path / "w.safetensors")
    load_weights(loaded, tmp_path / "w.safetensors")
    assert same(loaded, saved)
    assert loaded.first.weight is loaded.second.weight


def test_tied_weights_that_differ_in_a_file_are_refused(tmp_path: Path) -> None:
    torch.save(Tied().state_dict() | {"second.weight": torch.zeros(4, 4)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"second\.weight and first\.weight are one tensor in the model and differ"):
        load_weights(Tied(), tmp_path / "w.pt")


def test_mappings_that_hold_each_other_come_to_an_end(tmp_path: Path) -> None:
    found: dict[str, Any] = {f"k{number}": 0 for number in range(300)} | {"t": torch.zeros(1)}
    for _ in range(3):
        found = {f"k{number}": found for number in range(300)}
    torch.save(found, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth holds mappings without end: save the weights alone"):
        load_weights(nn.Linear(1, 1), tmp_path / "x.pth")
    weights = nn.Linear(1, 1).state_dict()
    torch.save({"model": weights, "ema": {"model": weights}, "log": [0.0] * 10}, tmp_path / "y.pth")
    load_weights(nn.Linear(1, 1), tmp_path / "y.pth")
