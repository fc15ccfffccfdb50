"""Halves take what the network takes, refuse what it refuses, and train as it trains, or not at all."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer, googlenet
from torchvision.ops import stochastic_depth

from splitlearn.codecs import Huffman
from splitlearn.models import (
    CutError,
    EarlyExitModel,
    Normalize,
    Split,
    SplitModel,
    UnfrozenSplitModel,
    split,
    to_int8,
)
from splitlearn.quantizers import Step
from tests.models.test_cutting_behaviour import DependsOnSize
from tests.networks import network

SHAPE = (3, 16, 16)


class Two(nn.Module):
    """Two convolutions; what is done between and behind them is the subclass's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, images: Tensor) -> Tensor:
        behind: Tensor = self.second(self.between(self.first(images)))
        return behind.mean((2, 3))

    def between(self, features: Tensor) -> Tensor:
        return features


class Linear(Two):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * 14 * 14, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.first(images).flatten(1))
        return logits


class Padded(Two):
    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, (-width) % 8, 0, (-height) % 8))
        logits: Tensor = self.second(self.first(padded))
        return logits[..., : height - 4, : width - 4]


class TakesBytes(Two):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images / 255 if images.dtype == torch.uint8 else images)


class Bounded(Two):
    def forward(self, images: Tensor) -> Tensor:
        torch._assert((images <= 1).all(), "brighter than 1")
        return super().forward(images)


class Dropout(Two):
    def between(self, features: Tensor) -> Tensor:
        return functional.dropout(features, 0.5, training=self.training)


class Depth(Two):
    def between(self, features: Tensor) -> Tensor:
        shown: Tensor = stochastic_depth(features, 0.5, "row", self.training)
        return features + shown


class FunctionalNorm(Two):
    mean: Tensor
    var: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def between(self, features: Tensor) -> Tensor:
        return functional.batch_norm(features, self.mean, self.var, training=self.training)


class Branch(Two):
    def between(self, features: Tensor) -> Tensor:
        return features + 1 if self.training else features


class Attention(Two):
    def between(self, features: Tensor) -> Tensor:
        flat = features.flatten(2)
        rate = 0.5 if self.training else 0.0
        attended: Tensor = functional.scaled_dot_product_attention(flat, flat, flat, dropout_p=rate)
        return attended.view_as(features)


class KeepsNorm(Two):
    """Its batch norm stays in eval mode whatever it is told, as in fine-tuned detectors."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def between(self, features: Tensor) -> Tensor:
        normed: Tensor = self.norm(features)
        return normed

    def train(self, mode: bool = True) -> KeepsNorm:
        super().train(mode)
        self.norm.eval()
        return self


class Detached(Two):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.first(images)
        logits: Tensor = self.second(features)
        return logits


class Exported(Two):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def between(self, features: Tensor) -> Tensor:
        if features.shape[-1] > 2:
            features = features * 2
        norm: Tensor = self.norm(features)
        return norm


def vit() -> VisionTransformer:
    return VisionTransformer(32, 16, 2, 4, 64, 128)


def copies(net: Split) -> list[Split]:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return [net, copy.deepcopy(net), torch.load(file, weights_only=False)]


@pytest.mark.parametrize("shape", [(3, 16, 64), (3, 64, 64), (1, 32, 32), (32, 32)])
def test_what_the_network_refuses_is_refused_on_the_device(shape: tuple[int, ...]) -> None:
    for net in copies(split(vit(), "conv_proj", (3, 32, 32))):
        with pytest.raises(ValueError, match="VisionTransformer refuses images of shape"):
            net.head(torch.rand(2, *shape))
    with pytest.raises(ValueError, match=r"refuses images of shape|takes images|are a batch of 4"):
        SplitModel(net, Step(0.1), Huffman()).compress(torch.rand(1, *shape))


def test_sizes_that_only_the_tail_cannot_take_are_refused_by_the_head() -> None:
    model = Linear().eval()
    net = split(model, "first", SHAPE)
    with pytest.raises(ValueError, match="Linear refuses images"):
        net.head(torch.rand(1, 3, 18, 18))
    images = torch.rand(2, 3, 9, 30)  # as many features as the example has
    assert torch.equal(net(images), model(images))


def test_a_size_for_which_a_constant_is_wrong_is_refused() -> None:
    net = split(Padded(), "first", SHAPE)
    with pytest.raises(ValueError, match="fixes the input at 16×16 pixels, the images have 24×24"):
        net.head(torch.rand(1, 3, 24, 24))


def test_other_types_are_proven_too() -> None:
    net = split(TakesBytes(), "first", SHAPE)
    with pytest.raises(ValueError, match="type uint8: split again with these"):
        net.head((torch.rand(1, *SHAPE) * 255).to(torch.uint8))
    half = split(Two(), "first", SHAPE).half()
    assert half.head(torch.rand(1, *SHAPE).half())[0].dtype == torch.float16


def test_values_that_the_network_refuses_are_refused() -> None:
    net = split(Bounded(), "first", SHAPE)
    with pytest.raises(AssertionError, match="brighter than 1"):
        net.head(torch.rand(2, *SHAPE) + 1)


def test_a_new_size_leaves_modes_hooks_and_statistics_as_they_are() -> None:
    model = network()
    net = split(model, "layer2", (3, 32, 32))
    net.train()
    net.tail.eval()
    seen: list[object] = []
    model.get_submodule("layer1").register_forward_hook(lambda *_: seen.append(0))
    before = copy.deepcopy(dict(model.named_buffers())), [m.training for m in net.modules()]
    net.proof.check(torch.rand(1, 3, 40, 36), training=False)
    assert not seen
    assert [m.training for m in net.modules()] == before[1]
    assert all(torch.equal(b, before[0][name]) for name, b in model.named_buffers())


def test_int8_takes_the_sizes_that_the_network_takes() -> None:
    model = SplitModel(split(network(), "layer1", (3, 32, 32)), Step(0.1), Huffman())
    twin = to_int8(model, [torch.rand(4, 3, 32, 32)]).model
    assert len(twin.compress(torch.rand(2, 3, 40, 32))) == 2
    with pytest.raises(ValueError, match="takes images"):
        twin.compress(torch.rand(2, 1, 32, 32))


def test_normalization_spreads_no_channel_over_others() -> None:
    with pytest.raises(ValueError, match="give images of 3 channels"):
        Normalize([0.5] * 3, [0.2] * 3)(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("make", [Two, Dropout, Depth, FunctionalNorm])
def test_training_mode_is_that_of_the_uncut_network(make: Callable[[], nn.Module]) -> None:
    model = make()
    net = split(copy.deepcopy(model), "first", SHAPE)
    UnfrozenSplitModel(net, Step(0.1), Huffman()).train()
    model.train()
    images = torch.rand(4, *SHAPE)
    net(images)  # what is proven first leaves no trace
    results = []
    for each in (model, net):
        if each is model:
            each(images)
        torch.manual_seed(1)
        results.append(each(images))
    assert torch.equal(*results)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), _state(net, model), strict=True))
    net.eval(), model.eval()
    assert torch.equal(net(images), model(images))


def _state(net: Split, model: nn.Module) -> list[Tensor]:
    found = {**net.head.state_dict(), **net.tail.state_dict()}
    return [found[name] for name in model.state_dict()]


@pytest.mark.parametrize("make", [Branch, Attention, Detached, Exported, DependsOnSize, KeepsNorm])
def test_a_cut_that_would_train_otherwise_is_refused_for_training_alone(make: Callable[[], nn.Module]) -> None:
    model = make()
    if isinstance(model, DependsOnSize):
        model.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    net = split(model, "first", SHAPE)
    unfrozen = UnfrozenSplitModel(net, Step(0.1), Huffman())
    images = torch.rand(4, *SHAPE)
    with pytest.raises(CutError, match="would not train as the uncut network does"):
        unfrozen.train().run(images)
    unfrozen.eval().run(images)
    SplitModel(split(make(), "first", SHAPE), Step(0.1), Huffman()).train().run(images)  # frozen: in eval mode for good


def test_a_pass_without_gradients_proves_no_training() -> None:
    unfrozen = UnfrozenSplitModel(split(Detached(), "first", SHAPE), Step(0.1), Huffman()).train()
    images = torch.rand(4, *SHAPE)
    with torch.no_grad(), pytest.raises(CutError, match="would not train as the uncut network does"):
        unfrozen.run(images)
    assert unfrozen.compress(images) == unfrozen.eval().compress(images)  # what is sent is that of eval mode


def test_other_threads_may_compute_while_a_size_is_proven() -> None:
    """The proof watches the network's modules, which are theirs too."""
    net, stop = split(Two(), "first", SHAPE), threading.Event()

    def others() -> None:
        while not stop.is_set():
            net.head(torch.zeros(2, *SHAPE))

    threads = [threading.Thread(target=others) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with torch.no_grad():
            for side in range(17, 77):
                assert net(torch.rand(1, 3, side, 16)).shape == (1, 5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_auxiliary_outputs_in_training_are_refused() -> None:
    model = UnfrozenSplitModel(
        split(googlenet(aux_logits=True, init_weights=False), "inception3b", (3, 64, 64)), Step(0.1), Huffman()
    )
    with pytest.raises(CutError, match="cut at another module"):
        model.train().run(torch.rand(2, 3, 64, 64))


def test_an_early_exit_trains_as_the_network_does_or_not_at_all() -> None:
    class Classes(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body, self.act = body, nn.ReLU()
            self.last = nn.Linear(5, 10)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.last(self.act(self.body(images)))
            return logits

    images = torch.rand(4, *SHAPE)
    for make, right in ((Dropout, True), (Attention, False)):
        model = EarlyExitModel(
            split(Classes(make()), "act", SHAPE), Step(0.1), Huffman(), ["body.first"], num_classes=10
        )
        model.eval().run(images)
        if right:
            results = [model.train().run(images).prediction for _ in range(2)]
            assert not torch.equal(*results)
        else:
            with pytest.raises(CutError, match="would not train as the uncut network does"):
                model.train().run(images)
        with pytest.raises(ValueError, match="takes images"):
            model.eval().compress(torch.rand(1, 4, 16, 16))
