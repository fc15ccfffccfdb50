"""Where torchvision's segmentation networks can be cut, and that their auxiliary heads are left behind."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from splitlearn.models import WeightsError, backbone, crossing_shapes, load_weights

module = importlib.import_module("splitlearn.models.networks.backbone")
WIDE, ASPP = (2048, 65, 65), (256, 65, 65)


@pytest.fixture(scope="module")
def deeplab() -> nn.Module:
    with torch.device("meta"):  # at full size, without arithmetic or memory
        return backbone("torchvision/deeplabv3_resnet50").eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "shapes"),
    [
        ("backbone.layer3.5", [(1024, 65, 65)]),
        ("backbone.layer4.1", [WIDE]),
        ("backbone.layer4.2", [WIDE]),
        ("classifier.0.convs.1", [ASPP, WIDE]),  # the other branches need what this one was made of
        ("classifier.0", [ASPP]),
    ],
)
def test_what_crosses_at_the_splits_of_datta(deeplab: nn.Module, at: str, shapes: list[tuple[int, ...]]) -> None:
    """Datta et al. 2022, Table II, which prints the module's own output alone."""
    assert crossing_shapes(deeplab, at, torch.zeros(1, 3, 513, 513, device="meta")) == shapes


@pytest.mark.slow
def test_published_weights_come_without_their_auxiliary_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(*_: Any) -> nn.Module:
        network: nn.Module = get_model("deeplabv3_resnet50", weights=None, weights_backbone=None, aux_loss=True)
        return network

    monkeypatch.setattr(module, "_downloaded", published)
    image = torch.zeros(1, 3, 513, 513, device="meta")
    with torch.device("meta"):
        whole, renewed = (
            backbone("torchvision/deeplabv3_resnet50", "COCO_WITH_VOC_LABELS_V1", classes).eval()
            for classes in (None, 5)
        )
        assert crossing_shapes(published().eval(), "backbone.layer4.2", image) == [WIDE, (1024, 65, 65)]
    assert crossing_shapes(whole, "backbone.layer4.2", image) == [WIDE]
    assert whole(image)["out"].shape == (1, 21, 513, 513)
    assert renewed(image)["out"].shape == (1, 5, 513, 513)
    assert list(whole(image)) == ["out"]


def test_a_local_file_may_hold_an_auxiliary_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"weights": None, "weights_backbone": None, "aux_loss": True}
    published = get_model("deeplabv3_mobilenet_v3_large", **arguments).eval()
    state = published.state_dict()
    assert any(key.startswith("aux_classifier.") for key in state)
    torch.save(state, tmp_path / "published.pth")
    model = backbone("torchvision/deeplabv3_mobilenet_v3_large", str(tmp_path / "published.pth")).eval()
    images = torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        assert torch.equal(model(images)["out"], published(images)["out"])


def test_other_surplus_is_refused_as_before(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict() | {"head.weight": torch.zeros(1), "tail.weight": torch.zeros(1)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"head\.weight is not in the model, tail\.weight is not in the model"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"fit Linear: tail\.weight is not in the model; these"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors", unused="head.")
    with pytest.raises(WeightsError, match=r"weight is \(2, 3\) in the file and \(1, 3\) in the model"):
        load_weights(nn.Linear(3, 1), tmp_path / "w.safetensors", unused="weight")  # what the model has is compared
