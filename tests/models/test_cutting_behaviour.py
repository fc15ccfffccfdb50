"""What `split` promises beyond exactness: names, refusals, sharing, in-place layers, sizes, devices, configs."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torchvision.models import resnet18

from splitlearn.models import CutError, Split, legal_cuts, resnet8, split
from splitlearn.models.cutting.cut import make_batches

SHAPE = (3, 16, 16)


class Layers(nn.Module):
    """Two convolutions, a ReLU that works in place and one that is never called; `forward` is the subclass's."""

    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]
    relu: Callable[[Tensor], Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.never = nn.ReLU()


class DependsOnData(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) if x.mean() < 100 else x


class DependsOnSize(Layers):
    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.first(x)
        if y.shape[-1] > 8:
            y = nn.functional.max_pool2d(y, 2)
        return {"out": [self.relu(self.second(y)), y], "number": 3}


class NeedsImage(Layers):
    def forward(self, x: Tensor, *, double: bool = True) -> tuple[Tensor, Tensor]:
        y = self.first(x)
        return self.second(y), x * 2 if double else x


class ReadsShapes(Layers):
    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        y = self.first(x)
        grid = torch.arange(height * width, device=x.device, dtype=y.dtype).view(1, -1)
        return self.second(y).view(batch, -1).sum(1, keepdim=True) + grid.expand(x.size(0), -1) * y.shape[1]


class InPlaceBeforeTheCut(Layers):
    """The ReLU's result is dropped, its effect is not: no graph of data flow shows it."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        self.relu(y)
        return self.second(y)


class FoldsTheBatch(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.first(x).flatten(0, 1))
        return y.view(x.shape[0], -1)


def assert_same(net: Split, model: nn.Module, images: Tensor) -> None:
    found, expected = net(images), model(images)
    if isinstance(expected, dict):
        found, expected = found["out"], expected["out"]
    found, expected = ([found], [expected]) if isinstance(expected, Tensor) else (found, expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(CutError, match=r"no module 'layr2' in ResNet: did you mean layer2, "):
        split(resnet18(), "layr2", SHAPE)


def test_module_that_never_runs_is_refused() -> None:
    with pytest.raises(CutError, match=r"'never' of NeedsImage never runs: cut at one that does, such as .*second"):
        split(NeedsImage(), "never", SHAPE)


def test_what_no_method_can_cut_is_refused_with_reasons() -> None:
    with pytest.raises(CutError, match=r"cut exactly at 'first' \(torch.fx: .*torch.export: .*near it: second"):
        split(DependsOnData(), "first", SHAPE)


def test_a_cut_without_one_row_an_image_is_refused() -> None:
    with pytest.raises(CutError, match="its rows are no images"):
        split(FoldsTheBatch(), "relu", SHAPE)
    assert split(FoldsTheBatch(), "first", SHAPE).shapes == ((4, 14, 14),)


@pytest.mark.parametrize(("at", "count"), [("first", 1), ("second", 2)])
def test_export_where_tracing_fails(at: str, count: int) -> None:
    model = DependsOnSize()
    net = split(model, at, SHAPE)
    assert net.method == "torch.export"
    assert len(net.shapes) == count
    assert_same(net, model, torch.rand(5, *SHAPE))
    assert net(torch.rand(1, *SHAPE))["number"] == 3
    with pytest.raises(ValueError, match="fixes the input at 16×16"):
        net.head(torch.rand(2, 3, 8, 8))
    assert {id(p) for p in net.parameters()} <= {id(p) for p in model.parameters()}


def test_the_image_crosses_where_the_tail_needs_it() -> None:
    model = NeedsImage()
    net = split(model, "first", SHAPE)
    assert net.shapes == ((4, 14, 14), SHAPE)
    assert_same(net, model, torch.rand(5, 3, 20, 24))  # no size was fixed


def test_sizes_are_constants_but_the_batch_is_read_again() -> None:
    model = ReadsShapes()
    net = split(model, "first", SHAPE)
    assert net.shapes == ((4, 14, 14),)
    for batch in (1, 7):
        assert_same(net, model, torch.rand(batch, *SHAPE))
    with pytest.raises(ValueError, match="split again with an example of that size"):
        net.head(torch.rand(2, 3, 24, 16))
    moved = copy.deepcopy(net).to("meta")
    assert moved.tail(*moved.head(torch.rand(2, *SHAPE, device="meta"))).shape == (2, 256)


def test_a_layer_in_place_before_the_cut_is_not_lost() -> None:
    model = InPlaceBeforeTheCut()
    assert_same(split(model, "second", SHAPE), model, torch.rand(2, *SHAPE))


def test_the_tail_leaves_its_inputs_alone() -> None:
    net = split(resnet18(), "bn1", (3, 32, 32))  # an in-place ReLU follows
    (tensor,) = net.head(torch.rand(2, 3, 32, 32))
    before = tensor.clone()
    net.tail(tensor)
    assert torch.equal(tensor, before)
    assert "clone" in str(net.tail.graph)
    assert "clone" not in str(split(resnet18(), "layer1", (3, 32, 32)).tail.graph)  # nothing there works in place


def test_parameters_are_shared_and_keep_their_names() -> None:
    model = resnet18()
    net = split(model, "layer2", (3, 32, 32))
    names = dict(model.named_parameters())
    halves = {**dict(net.head.named_parameters()), **dict(net.tail.named_parameters())}
    assert halves.keys() == names.keys()
    assert all(halves[name] is names[name] for name in names)
    assert not {name for name, _ in net.head.named_parameters()} & {name for name, _ in net.tail.named_parameters()}


def test_the_head_does_no_more_than_it_must() -> None:
    net = split(resnet18(), "layer2.0.downsample", (3, 32, 32))
    names = {name for name, _ in net.head.named_parameters()}
    assert not any(name.startswith("layer2.0.conv") for name in names)  # the other branch belongs to the tail
    assert net.shapes == ((128, 4, 4), (64, 8, 8))


def test_gradients_flow_through_both_halves() -> None:
    net = split(resnet18(), "layer1.0.conv1", (3, 32, 32))
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_copies_and_files_keep_the_cut() -> None:
    net = split(resnet18(), "layer2", (3, 32, 32))
    images = torch.rand(2, 3, 32, 32)
    expected = net(images)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert torch.equal(other(images), expected)
    fresh = split(resnet18(), "layer2", (3, 32, 32))
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(images), expected)


def test_examples_of_any_batch_size() -> None:
    model = NeedsImage()
    for count in (1, 2, 9):
        first, second = make_batches(model, torch.rand(count, *SHAPE))
        assert (first.shape, second.shape) == ((2, *SHAPE), (3, *SHAPE))
        assert split(model, "first", torch.rand(count, *SHAPE)).input_shape == SHAPE
    with pytest.raises(ValueError, match="example must be images"):
        split(model, "first", torch.rand(0, *SHAPE))


def test_legal_cuts_are_the_modules() -> None:
    assert legal_cuts(NeedsImage()) == ["first", "second", "relu", "never"]


def test_a_config_names_the_function() -> None:
    parser = ArgumentParser()
    parser.add_argument("--net", type=Split)
    model = {"class_path": "torchvision.models.resnet18", "init_args": {"num_classes": 10}}
    arguments = {"model": model, "at": "layer2", "example": [3, 32, 32]}
    config = parser.parse_object({"net": {"class_path": "splitlearn.models.split", "init_args": arguments}})
    net = parser.instantiate(config).net
    assert isinstance(net, Split)
    assert net.shapes == ((128, 4, 4),)


@pytest.mark.parametrize("at", ["layer2", "conv1"])
def test_a_head_may_be_copied_alone(at: str) -> None:
    net = split(resnet8(), at, SHAPE)
    images = torch.rand(2, *SHAPE)
    for copied in (copy.deepcopy(net.head), copy.deepcopy(net).head):
        assert all(map(torch.equal, copied(images), net.head(images)))
