"""Networks with exits: who leaves, who is sent, and that nothing else runs."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from splitlearn.codecs import CodecError, ContextRANS, Huffman, RunLength
from splitlearn.models import (
    CutError,
    EarlyExitModel,
    ExitBranch,
    LowEntropy,
    Margin,
    Normalize,
    NormalizedSeparable,
    WeightsError,
    resnet20,
    split,
)
from splitlearn.outputs import Features
from splitlearn.quantizers import MinMax
from tests.networks import SHAPE, digits, halves, network

AT = "layer1"


def early(exits: list[str] | None = None, at: str = AT, **settings: Any) -> EarlyExitModel:
    """ResNet-20 with exits of random weights that differ from image to image."""
    torch.manual_seed(1)
    model = EarlyExitModel(halves(at), MinMax(8), Huffman(), exits, **settings)
    for branch in model.exits:
        nn.init.normal_(branch.linear.weight, std=0.03)  # type: ignore[union-attr,arg-type]
    return model.eval()


@cache
def images() -> Tensor:
    return digits(24)


def middle(model: EarlyExitModel, number: int = 0) -> float:
    """A threshold that about half of the images pass."""
    with torch.no_grad():
        confidences = model.confidence(model.run(images()).exits[number]).sort().values
    return float(confidences[11:13].mean())  # no image is near it


def test_without_exits_taken_it_is_the_split_network() -> None:
    model = early(threshold=1.0)
    payloads = model.compress(images())
    assert all(payloads)
    final = model.decompress(payloads)
    assert torch.equal(final, model(images()))
    assert torch.equal(final, model.run(images()).prediction)
    assert (final.argmax(1) == network()(images()).argmax(1)).float().mean() > 0.9  # eight bits lose little


def test_at_threshold_0_nothing_is_sent() -> None:
    model = early(threshold=0.0)
    assert model.compress(images()) == [b""] * len(images())
    decisions = model.decide(images())
    assert decisions.features == ()
    assert torch.equal(decisions.logits, model.run(images()).exits[0])
    assert torch.equal(model(images()), decisions.logits)
    assert torch.isnan(model.decompress([b"", b""])).all()


@pytest.mark.parametrize("exits", [None, ["relu", AT], ["layer1.0", "layer1.1", "relu"]])
def test_a_batch_is_treated_as_its_images_one_by_one(exits: list[str] | None) -> None:
    model = early(exits)
    model.threshold = [middle(model, number) for number in range(len(model.exits))]
    decisions, payloads, found = model.decide(images()), model.compress(images()), model(images())
    assert 0 < decisions.sent.sum() < len(images())
    assert len(set(decisions.exits.tolist())) == len(model.exits) + 1
    for i, image in enumerate(images()):
        alone = model.decide(image[None])
        assert alone.exits[0] == decisions.exits[i]
        assert bool(payloads[i]) == bool(alone.sent[0])
        assert torch.allclose(model(image[None])[0], found[i], rtol=1e-3, atol=1e-3)
        assert model.compress(image[None])[0] == b"" or payloads[i]


def test_edge_server_needs_nothing_but_payloads() -> None:
    model = early()
    model.threshold = middle(model)
    payloads, found, decisions = model.compress(images()), model(images()), model.decide(images())
    edge = copy.deepcopy(model)
    edge.net.head = edge.steps = None  # type: ignore[assignment]
    logits = edge.decompress(payloads)
    assert torch.equal(logits[decisions.sent], found[decisions.sent])
    assert torch.isnan(logits[~decisions.sent]).all()
    with pytest.raises(CodecError):
        edge.decompress([payload[:-1] for payload in payloads if payload])


def test_only_unsure_images_go_on() -> None:
    model = early(["relu", AT])
    model.threshold = [middle(model, 0), middle(model, 1)]
    decisions = model.decide(images())
    seen: dict[str, int] = {}
    names = {id(model.steps[0]): "first", id(model.steps[1]): "second", id(model.net.tail): "tail"}
    for module in (*model.steps, model.net.tail):
        module.register_forward_hook(lambda m, args, out: seen.update({names[id(m)]: len(args[0])}))
    model.decompress([payload for payload in model.compress(images()) if payload])
    left = [int((decisions.exits == number).sum()) for number in range(2)]
    assert min(left) > 0
    assert seen == {"first": 24, "second": 24 - left[0], "tail": 24 - sum(left)}


def test_exits_stand_in_the_order_in_which_images_come_to_them() -> None:
    model = early([AT, "layer1.1", "relu", "layer1.0"])
    assert model.exit_names == ["relu", "layer1.0", "layer1.1", AT]
    assert len(model.steps) == 4
    features = model.features(images())
    assert torch.equal(features[0], network().layer1(network().relu(network().bn1(network().conv1(images())))))


def test_an_exit_may_stand_before_a_shortcut_and_the_cut_behind_it() -> None:
    model = early(["layer1.1.bn2"], at="layer1.1", threshold=1.0)
    assert len(model.steps) == 2
    assert len(model.net.shapes) == 1
    assert torch.equal(model.decompress(model.compress(images())), model(images()))


def test_an_exit_where_two_tensors_cross() -> None:
    model = early(at="layer1.1.bn2")
    model.threshold = middle(model)
    payloads = model.compress(images())
    sent = model.decide(images()).sent
    assert torch.equal(model.decompress(payloads)[sent], model(images())[sent])
    assert len(model.coder.latent_shapes) == 2


def test_everything_trains_and_batch_norm_counts() -> None:
    model = early(["relu", AT], bottleneck=lambda shape: NormalizedSeparable(shape, channels=4))
    model.train()
    before = model.net.tail.state_dict()["layer3.0.bn1.running_mean"].clone()
    output = model.run(images())
    torch.stack([t.square().mean() for t in (*output.exits, output.prediction)]).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())
    assert not torch.equal(before, model.net.tail.state_dict()["layer3.0.bn1.running_mean"])


def test_a_new_model_is_in_training_mode_and_quantizes_only_in_eval() -> None:
    model = EarlyExitModel(halves(AT), MinMax(2), Huffman())
    assert all(module.training for module in model.modules())
    output = model.run(images())
    assert torch.equal(output.features_hat[0], output.features[0])
    output = model.eval().run(images())
    assert not torch.equal(output.features_hat[0], output.features[0])


@pytest.mark.parametrize("rule", [LowEntropy(), Margin()])
def test_another_rule_of_confidence(rule: nn.Module) -> None:
    model = early(confidence=rule)
    model.threshold = middle(model)
    assert 0 < model.decide(images()).sent.sum() < len(images())


def test_temperature_changes_who_leaves_but_no_class() -> None:
    model = early()
    model.threshold = middle(model)
    before = model.decide(images())
    model.temperatures.fill_(5.0)
    after = model.decide(images())
    assert after.sent.sum() > before.sent.sum()
    assert torch.equal(model.run(images()).exits[0].argmax(1)[~after.sent], after.logits.argmax(1)[~after.sent])
    again = early()
    again.load_state_dict(model.state_dict())
    assert again.temperatures.item() == 5


def test_weights_of_network_and_exits_come_back_whatever_the_cut(tmp_path: Path) -> None:
    model = early(["relu", AT])
    file = tmp_path / "weights.safetensors"
    save_file({name: t.detach().clone() for name, t in model.tensors().items()}, file)
    assert {f"network.{name}" for name in network().state_dict()} <= model.tensors().keys()
    net = halves("layer2", 7)
    other = EarlyExitModel(net, MinMax(8), RunLength(), ["relu", AT], weights=file, threshold=1.0).eval()
    assert torch.allclose(other.net(images()), model.net(images()), atol=1e-5)
    for mine, theirs in zip(other.run(images()).exits, model.run(images()).exits, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    with pytest.raises(WeightsError, match="with exits"):
        EarlyExitModel(net, MinMax(8), RunLength(), weights=file)


def test_other_codecs_share_the_network() -> None:
    model = early(threshold=1.0)
    other = model.coded_by([MinMax(4)], [ContextRANS()])
    assert isinstance(model.coder.codecs[0], Huffman)
    assert sum(map(len, other.compress(images()))) < sum(map(len, model.compress(images())))
    assert other.steps[0] is model.steps[0]


def test_normalization_belongs_to_the_model() -> None:
    normalize = Normalize([0.5] * 3, [0.25] * 3)
    assert torch.equal(early(normalize=normalize).features(images())[0], early().features((images() - 0.5) / 0.25)[0])


def test_on_torchvisions_network_at_full_size() -> None:
    net = split(mobilenet_v2(num_classes=10), "features.4.conv.3", (3, 224, 224))
    model = EarlyExitModel(net, MinMax(8), Huffman(), ["features.2.conv.0", "features.4.conv.3"], threshold=1.0).eval()
    assert model.net.shapes[0] == (32, 28, 28)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 224, 224)).shape == (1, 10)


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        (["layer1.5"], r"no module 'layer1.5' for an exit in CifarResNet: did you mean layer1"),
        (["layer2"], r"'layer2' lies behind the cut at 'layer1'"),
        ([], "name one exit or several"),
        (["relu", "relu"], "each once"),
    ],
)
def test_impossible_exits_are_refused(exits: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        early(exits)


def test_a_module_that_is_only_a_folder_of_others_is_refused() -> None:
    with pytest.raises(CutError, match=r"'layer1' is not run as one.*try layer1.1, layer1.0"):
        early(["layer1"], at="layer1.1")


def test_an_exit_needs_a_map() -> None:
    with pytest.raises(ValueError, match="attach it to an earlier module"):
        ExitBranch((64,), 10)
    with pytest.raises(ValueError, match="at least 3×3"):
        ExitBranch((64, 2, 5), 10)
    assert ExitBranch((4, 3, 8), 10)(torch.zeros(2, 4, 3, 8)).shape == (2, 10)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), [0.5], [0.1, 0.2, 0.3]])
def test_impossible_thresholds_are_refused(threshold: float | list[float]) -> None:
    model = early(["relu", AT], threshold=[0.2, 0.4])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        model.threshold = threshold
    assert model.threshold == [0.2, 0.4]


def test_features_made_before_are_refused() -> None:
    model = early()
    for call in (model.run, model.features, model.compress):
        with pytest.raises(ValueError, match="out of date"):
            call(Features((torch.zeros(1, 16, 32, 32),), 1024))


def test_a_collapsed_network_is_still_sent_and_decoded() -> None:
    """Every activation the same, as with too large a rate weight."""
    model = EarlyExitModel(split(resnet20(), AT, SHAPE), MinMax(8), Huffman(), threshold=1.0).eval()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(model.decompress(model.compress(images())), model(images()))


def test_a_twin_with_other_codecs_has_temperatures_of_its_own() -> None:
    model = EarlyExitModel(halves("layer2"), MinMax(4), Huffman(), ["layer1"])
    twin = model.coded_by([MinMax(2)], [Huffman()])
    twin.temperatures = torch.tensor([50.0])
    assert model.temperatures.tolist() == [1.0]
