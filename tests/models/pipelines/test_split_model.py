"""The whole line: what training computes and what the bytes give are the same, bit for bit."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from splitlearn.codecs import Codec, CodecError, Huffman, Raw, RunLength, unpack
from splitlearn.models import DepthwiseSeparable, Identity, Normalize, SplitModel, faster_rcnn, split
from splitlearn.quantizers import Clipped, MinMax, Quantizer, Step
from tests.networks import SHAPE, carra, datta, digits, halves

MODELS = pytest.mark.parametrize("make", [datta, carra])
Make = Callable[[], SplitModel]


def two_tensors(codec: Codec | None = None) -> SplitModel:
    """A cut inside a residual block: the shortcut's tensor crosses too."""
    torch.manual_seed(0)
    return SplitModel(split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE), MinMax(4), codec or RunLength()).eval()


@MODELS
def test_payloads_hold_the_latents_of_the_forward_pass(make: Make) -> None:
    model, images = make(), digits(6)
    output = model.run(images)
    payloads = model.compress(images)
    expected = [model.coder.quantizers[0](latent) for latent in output.latents]
    found = model.coder.latents_hat(payloads)
    assert len(found) == len(expected) == 1
    assert torch.equal(found[0], expected[0])
    assert torch.equal(model.decompress(payloads), model(images))
    assert len({tuple(row.tolist()) for row in output.prediction}) == 6  # different images, different answers


@MODELS
def test_an_image_costs_the_same_alone_and_in_a_batch(make: Make) -> None:
    model = make()
    images = torch.cat([digits(3), torch.zeros(1, *SHAPE), torch.rand(1, *SHAPE)])
    together = model.compress(images)
    alone = [model.compress(image[None])[0] for image in images]
    assert [len(payload) for payload in together] == [len(payload) for payload in alone]
    assert len({len(payload) for payload in together}) > 2
    for a, b in zip(together, alone, strict=True):
        first, second = (unpack(payload, model.coder.codecs[0], model.coder.context)[0] for payload in (a, b))
        np.testing.assert_array_equal(first, second)
    mixed = model.symbols(images.flip(0))[0].flip(0)
    assert torch.equal(mixed, model.symbols(images)[0])


@MODELS
def test_the_layout_of_images_does_not_show_in_payloads(make: Make) -> None:
    model, images = make(), digits(6)
    payloads = model.compress(images)
    assert model.compress(images.to(memory_format=torch.channels_last)) == payloads
    assert model.compress(images.transpose(2, 3).contiguous().transpose(2, 3)) == payloads
    assert torch.equal(model(images.to(memory_format=torch.channels_last)), model(images))


@MODELS
def test_symbols_are_what_the_codec_was_given(make: Make) -> None:
    model, images = make(), digits(3)
    (symbols,) = model.symbols(images)
    assert symbols.dtype == torch.uint8
    for row, payload in zip(symbols, model.compress(images), strict=True):
        np.testing.assert_array_equal(row.numpy(), unpack(payload, model.coder.codecs[0], model.coder.context)[0])


def test_every_tensor_that_crosses_is_in_the_payload() -> None:
    model, images = two_tensors(), digits(4)
    assert [len(s) for s in model.net.shapes] == [3, 3]
    payloads = model.compress(images)
    expected = [model.coder.quantizers[0](latent) for latent in model.run(images).latents]
    assert all(torch.equal(a, b) for a, b in zip(model.coder.latents_hat(payloads), expected, strict=True))
    assert torch.equal(model.decompress(payloads), model(images))


def test_image_sizes_cross_as_integers() -> None:
    detector = faster_rcnn("resnet18", 3, min_size=64, max_size=96, pyramid=16, box_width=32)
    model = SplitModel(split(detector, "backbone.body.layer1", (3, 48, 64)), MinMax(8), RunLength()).eval()
    images = torch.rand(2, 3, 48, 64)
    assert not model.net.dtypes[1].is_floating_point
    output = model.run(images)
    assert len(output.latents) == 1
    payloads = model.compress(images)
    restored = model.coder.latents_hat(payloads)
    assert torch.equal(restored[1], output.features[1])
    assert restored[1][0, :2].tolist() == [48, 64]
    exact = model.net.tail(*output.features)
    alone = [model.run(image[None]).prediction[0] for image in images]  # as payloads are made
    for found, expected, whole, uncut in zip(
        model.decompress(payloads), alone, exact, detector(list(images)), strict=True
    ):
        assert len(found["boxes"]) > 0
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert all(torch.equal(whole[key], uncut[key]) for key in uncut)


@pytest.mark.parametrize("make", [datta, two_tensors])
def test_every_flipped_byte_is_found(make: Make) -> None:
    model = make()
    (payload,) = model.compress(digits(1))
    positions = range(len(payload)) if len(payload) < 1000 else [*range(30), *range(30, len(payload), 97)]
    for position in positions:
        damaged = payload[:position] + bytes([payload[position] ^ 0x10]) + payload[position + 1 :]
        with pytest.raises(CodecError):
            model.decompress([damaged])


@MODELS
def test_truncated_and_lengthened_payloads_are_refused(make: Make) -> None:
    model = make()
    (payload,) = model.compress(digits(1))
    for damaged in (b"", payload[:1], payload[: len(payload) // 2], payload[:-1], payload + b"\0"):
        with pytest.raises(CodecError):
            model.decompress([damaged])


def test_foreign_codecs_and_tables_are_refused() -> None:
    model, images = datta(), digits(2)
    payloads = model.compress(images)
    fitted = Huffman.fit([symbols.numpy() for symbols in model.symbols(images)[0]], model.coder.quantizers[0].levels)
    for codec in (RunLength(), Raw(), fitted):
        with pytest.raises(CodecError, match="foreign codec"):
            datta(codec).decompress(payloads)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [(MinMax(8), MinMax(4)), (MinMax(4), MinMax(8)), (MinMax(8), Step(0.1)), (Step(0.1), MinMax(8))],
)
def test_payloads_of_another_quantizer_are_refused(writer: Quantizer, reader: Quantizer) -> None:
    model = carra()
    model.coder.quantizers = (writer,)
    payloads = model.compress(digits(1))
    model.coder.quantizers = (reader,)
    with pytest.raises(CodecError, match="quantizer"):
        model.decompress(payloads)


def test_payloads_of_several_sizes_are_refused() -> None:
    model = carra()
    payloads = [model.compress(torch.rand(1, 3, size, 32))[0] for size in (32, 48)]
    assert model.decompress(payloads[1:]).shape == (1, 10)
    with pytest.raises(ValueError, match="different sizes"):
        model.decompress(payloads)


@MODELS
def test_a_diverged_latent_is_not_sent(make: Make) -> None:
    model, images = make(), digits(2)
    images[1, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.compress(images)


def test_only_the_bottleneck_trains() -> None:
    model = datta()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if name.startswith("coder.bottlenecks.")}
    assert trainable
    assert not any(parameter.requires_grad for parameter in carra().parameters())


def test_training_leaves_the_network_as_it_was() -> None:
    model, images, labels = datta().train(), digits(16), torch.arange(16) % 10
    assert not model.net.training
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    start = {name: tensor.clone() for name, tensor in model.coder.bottlenecks.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.train()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())
    assert not any(torch.equal(tensor, start[name]) for name, tensor in model.coder.bottlenecks.state_dict().items())


def test_the_head_runs_without_a_graph_and_the_rest_with_one() -> None:
    model = datta().train()
    output = model.run(digits(2))
    assert all(not f.requires_grad and f.grad_fn is None for f in output.features)
    assert all(latent.grad_fn is not None for latent in output.latents)
    output.prediction.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[3] for name in gradients} == {"encoder", "decoder"}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in gradients.values())
    assert all(parameter.grad is None for parameter in model.net.parameters())


def test_the_tail_sees_quantized_values_in_training() -> None:
    model, images = datta().train(), digits(2)
    output = model.run(images)
    (unit,) = model.coder.bottlenecks
    steps = model.coder.quantizers[0](output.latents[0]) / 0.125
    assert torch.equal(steps, steps.round())
    decoder = unit.decoder
    assert isinstance(decoder, nn.Module)
    assert torch.equal(output.features_hat[0], decoder(steps * 0.125))


def fit_tables(model: SplitModel) -> SplitModel:
    samples = [symbols.numpy() for symbols in model.symbols(digits(8))[0]]
    model.coder.codecs = (type(model.coder.codecs[0]).fit(samples, model.coder.quantizers[0].levels),)
    return model


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_codec_tables_travel_with_the_weights() -> None:
    model, images = fit_tables(datta()), digits(4)
    other = datta(seed=1)
    assert not other.coder.codecs[0].tables()
    other.load_state_dict(through_a_file(model.state_dict()))
    assert other.compress(images) == model.compress(images)
    assert torch.equal(other.decompress(model.compress(images)), model(images))


def test_tables_of_another_codec_are_passed_over() -> None:
    model = fit_tables(datta())
    other = datta(RunLength(), seed=1)
    other.load_state_dict(model.state_dict())
    assert type(other.coder.codecs[0]) is RunLength
    assert torch.equal(other(digits(2)), model(digits(2)))


def test_a_checkpoint_without_tables_leaves_those_that_were_given() -> None:
    model = fit_tables(datta())
    tables = copy.deepcopy(dict(model.coder.codecs[0].tables()))
    model.load_state_dict(datta(seed=1).state_dict())
    np.testing.assert_array_equal(model.coder.codecs[0].tables()["lengths"], tables["lengths"])


def test_normalization_belongs_to_the_model() -> None:
    mean, std = [0.5, 0.4, 0.3], [0.8, 0.9, 0.7]  # so that normalized images still pass for pictures
    images = digits(2) * 0.5 + 0.4
    inside, outside = datta(normalize=Normalize(mean, std)), datta()
    normalized = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.equal(inside(images), outside(normalized))
    assert inside.compress(images) == outside.compress(normalized)
    assert not torch.equal(inside(images), outside(images))
    assert inside.state_dict().keys() == outside.state_dict().keys()


def test_the_default_bottleneck_sends_the_features() -> None:
    model = SplitModel(halves("layer3"), MinMax(), RunLength())
    assert all(isinstance(unit, Identity) for unit in model.coder.bottlenecks)
    output = model.run(digits(1))
    assert torch.equal(output.latents[0], output.features[0])


def test_a_convolution_cannot_stand_where_no_map_crosses() -> None:
    with pytest.raises(ValueError, match="cut elsewhere or leave the bottleneck out"):
        SplitModel(halves("linear"), Step(), Huffman(), partial(DepthwiseSeparable, channels=2))


def test_another_step_is_another_quantizer() -> None:
    """Both have as many levels: without the quantizer in the checksum, the latent would be garbage."""
    writer, reader = datta(), datta()
    reader.coder.quantizers = (Step(0.3),)
    with pytest.raises(CodecError, match="foreign codec or quantizer"):
        reader.decompress(writer.compress(digits(1)))


def test_images_of_another_size_are_refused_by_a_bottleneck() -> None:
    with pytest.raises(ValueError, match=r"this bottleneck takes features .* send images of shape"):
        datta().compress(torch.rand(1, 3, 30, 30))


@MODELS
@pytest.mark.parametrize("mixed", [False, True])
def test_half_precision_is_lossless_too(make: Make, mixed: bool) -> None:
    model, images = make(), digits(3)
    if not mixed:
        model, images = model.to(torch.bfloat16), images.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed), torch.no_grad():
        output, payloads = model.run(images), model.compress(images)
        latents = [model.coder.quantizers[0](latent) for latent in output.latents]
        assert all(map(torch.equal, model.coder.latents_hat(payloads), latents))
        assert torch.equal(model.decompress(payloads), output.prediction)


def test_nothing_to_decompress_is_told() -> None:
    with pytest.raises(ValueError, match="no payloads"):
        datta().decompress([])


def test_each_tensor_may_have_parts_of_its_own() -> None:
    torch.manual_seed(0)
    net = split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE)
    quantizers: list[Quantizer] = [MinMax(3), Clipped(0.0, 0.2, levels=6)]
    codecs: list[Codec] = [RunLength(), Huffman()]
    model, images = SplitModel(net, quantizers, codecs).eval(), digits(3)
    output = model.run(images)
    expected = [quantizer(latent) for quantizer, latent in zip(quantizers, output.latents, strict=True)]
    assert all(map(torch.equal, output.features_hat, expected))
    assert [int(symbols.max()) for symbols in model.symbols(images)] == [7, 5]
    assert torch.equal(model.decompress(model.compress(images)), model(images))
    swapped = SplitModel(net, quantizers[::-1], codecs).eval()
    with pytest.raises(CodecError):
        swapped.decompress(model.compress(images))
    twin = model.coded_by(quantizers, codecs)
    assert twin.net is model.net
    assert twin.compress(images) == model.compress(images)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_parts_and_tensors_must_be_as_many(count: int) -> None:
    net = two_tensors().net
    with pytest.raises(
        ValueError, match=rf"2 float tensors cross at 'layer1.0.conv1', but there are {count} quantizer"
    ):
        SplitModel(net, [MinMax(4)] * count, RunLength())
    with pytest.raises(ValueError, match=rf"2 float tensors cross .*, but there are {count} codecs: give one for each"):
        SplitModel(net, MinMax(4), [RunLength()] * count)
    with pytest.raises(ValueError, match="give one for each"):
        two_tensors().coded_by([MinMax(4)] * count, [RunLength()] * 2)


def test_tables_and_levels_are_counted() -> None:
    model = two_tensors(Huffman())
    assert model.table_bytes == 0
    shared = Huffman.fit([np.arange(16, dtype=np.uint8)], 16)
    size = sum(table.nbytes for table in shared.tables().values())
    assert model.coded_by([MinMax(4)] * 2, [shared] * 2).table_bytes == size
    twin = Huffman.fit([np.arange(16, dtype=np.uint8)], 16)
    assert model.coded_by([MinMax(4)] * 2, [shared, twin]).table_bytes == 2 * size
    levels = [Clipped(levels=4), Clipped(levels=16, channels=64)]
    expected = size + 4 * (4 + 3) + 4 * 64 * (16 + 15)
    assert model.coded_by(levels, [Raw(), shared]).table_bytes == expected


def test_the_context_is_of_cut_and_levels_alone() -> None:
    model = carra()
    contexts = {model.coded_by([q], [RunLength()]).coder.context for q in (MinMax(4), MinMax(5), Clipped(levels=16))}
    contexts |= {SplitModel(halves("layer1"), MinMax(4), RunLength()).coder.context}
    moved = Clipped(levels=16)
    moved.thresholds[0, 3] += 1e-3
    contexts |= {model.coded_by([moved], [RunLength()]).coder.context}
    assert len(contexts) == 5
    assert model.coded_by([MinMax(4)], [Huffman()]).coder.context == model.coder.context


def test_payloads_follow_parts_that_change() -> None:
    """Quantizers and codecs that were replaced, and levels that were loaded in place, are those of the next payload."""
    model, images = carra(), digits(2)
    sent = [model.compress(images)]
    for quantizer, codec in (
        (MinMax(3), RunLength()),
        (MinMax(3), Huffman()),
        (Clipped(0.0, 1.0, levels=8), Huffman()),
    ):
        model.coder.quantizers, model.coder.codecs = [quantizer], (codec,)
        sent.append(model.compress(images))
        assert sent[-1] == model.coded_by([quantizer], [codec]).compress(images)
    model.coder.quantizers[0].load_state_dict(Clipped(0.0, 2.0, levels=8).state_dict())
    assert model.compress(images) == model.coded_by([Clipped(0.0, 2.0, levels=8)], [Huffman()]).compress(images)
    for payloads in sent:
        with pytest.raises(CodecError, match="foreign"):
            model.decompress(payloads)


def test_loaded_levels_are_those_that_were_saved() -> None:
    """However the quantizer was constructed: its payloads are read, though the arguments differed."""
    writer = carra().coded_by([Clipped(0.25, 1.5, levels=5)], [RunLength()])
    reader = carra().coded_by([Clipped(levels=5)], [RunLength()])
    payloads = writer.compress(digits(2))
    with pytest.raises(CodecError, match="foreign codec or quantizer"):
        reader.decompress(payloads)
    reader.load_state_dict(writer.state_dict())
    assert torch.equal(reader.decompress(payloads), writer(digits(2)))
    assert "low=0.25, high=1.5" in repr(reader.coder.quantizers[0])


def test_features_that_are_there_already_give_the_same_payloads() -> None:
    for model in (datta(), two_tensors()):
        images = digits(3)
        features = model.features(images)
        assert model.coder.compress(features) == model.compress(images)
        assert torch.equal(model.run_from(features).prediction, model(images))
        latents = model.coder.latents(features)
        assert all(map(torch.equal, model.coder.symbols(latents), model.symbols(images)))


def test_states_of_one_codec_for_all_tensors_are_refused() -> None:
    model = SplitModel(halves("layer3"), MinMax(8), RunLength())
    with pytest.raises(
        ValueError, match="written by an earlier splitlearn, with one codec for all tensors: train again"
    ):
        model.coder.set_extra_state({"codec": "Huffman", "tables": {}})
