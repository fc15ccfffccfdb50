"""A bottleneck that learns what its own network says: what trains, what is compared, measured and refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from splitlearn.codecs import RANS
from splitlearn.data import Digits
from splitlearn.deploy import export_bottleneck, export_network, load_bottleneck
from splitlearn.losses import FactorizedRate, L1Rate, LogitDivergence
from splitlearn.models import (
    CutError,
    GainModel,
    InputModel,
    NormalizedSeparable,
    PixelEncoder,
    PixelModel,
    Pixels,
    Split,
    SplitModel,
    UnfrozenSplitModel,
    WeightsError,
)
from splitlearn.outputs import Features
from splitlearn.quantizers import Step
from splitlearn.tasks import (
    BoxAgreement,
    ClassAgreement,
    ClassificationTask,
    LearntTables,
    SelfDistillationTask,
    StaticTables,
)
from tests.networks import datta, digits, halves, network
from tests.tasks.conftest import MakeTrainer

LAYERS = {"layer3": 2.0}
fast = partial(torch.optim.Adam, lr=0.01)


def student(gain: float = 2.0) -> SplitModel:
    torch.manual_seed(0)
    net: Split = halves("layer2")
    return SplitModel(net, Step(1.0), RANS(per_channel=True), partial(NormalizedSeparable, channels=8, gain=gain))


def task(**options: Any) -> SelfDistillationTask:
    return SelfDistillationTask(student(), **{"optimizer": fast} | options)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: entry.clone() for name, entry in module.state_dict().items() if isinstance(entry, Tensor)}


def refuse_to_run(module: nn.Module) -> None:
    module.register_forward_pre_hook(lambda *_: pytest.fail("the tail runs"))


def quiet(task: SelfDistillationTask) -> SelfDistillationTask:
    """Return a task whose steps can be called without a Trainer."""
    trainer: Any = type("Trainer", (), {"global_step": 1, "world_size": 1})
    task._trainer = trainer
    task.log_losses = lambda losses, size: None  # type: ignore[method-assign]
    return task


def unlabelled(count: int = 4) -> Any:
    return digits(count), torch.empty(count, 0, dtype=torch.int64)


@pytest.mark.parametrize("options", [{}, {"layers": LAYERS, "output_distance": LogitDivergence()}])
def test_only_the_bottleneck_changes(make_trainer: MakeTrainer, data: Digits, options: dict[str, Any]) -> None:
    distilled = task(**options)
    before = state(distilled)
    trainer = make_trainer()
    trainer.fit(distilled, data)
    after = state(distilled)
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {name for name in before if name.startswith("model.coder.bottlenecks.")}
    logged = trainer.callback_metrics.keys()
    assert {"val/loss", "val/distillation_loss", "val/agreement", "val/estimated_bits", "train/loss"} <= logged


def test_the_tail_does_not_run_while_only_the_cut_is_compared() -> None:
    distilled = quiet(task())
    refuse_to_run(distilled.model.net.tail)
    loss = distilled.training_step(unlabelled(), 0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in distilled.model.coder.bottlenecks.parameters())


def test_the_head_does_not_run_on_cached_features() -> None:
    distilled = quiet(task(layers=LAYERS))
    images, none = unlabelled()
    cached = Features(distilled.model.features(images), 32 * 32)
    torch.manual_seed(0)
    wanted = distilled.training_step((images, none), 0)
    refuse_to_run(distilled.model.net.head)
    torch.manual_seed(0)
    assert torch.equal(distilled.training_step((cached, none), 0), wanted)


def test_the_loss_is_the_sum_of_its_terms() -> None:
    model = student().eval()
    rate = L1Rate()
    whole = SelfDistillationTask(model, LAYERS, 3.0, None, LogitDivergence(), 0.5, rate, 0.25)
    found = float(quiet(whole).training_step(unlabelled(), 0).detach())
    with torch.no_grad():
        coded = model.run(digits(4))
        layers = [model.net.tail.layer3(f[0]) for f in (coded.features_hat, coded.features)]  # type: ignore[operator]
        outputs = [model.net.tail(*f) for f in (coded.features_hat, coded.features)]
        at_cut = whole.criterion(coded.features_hat[0], coded.features[0])
        terms = 3 * at_cut + 2 * whole.criterion(*layers) + 0.5 * LogitDivergence()(*outputs)
    assert found == pytest.approx(float(terms + 0.25 * rate.total(coded.latents)), rel=1e-5)


def test_training_brings_back_the_answers(make_trainer: MakeTrainer, data: Digits) -> None:
    """Two short stages: the second starts from the first and agrees more than an untrained bottleneck."""
    first = task()
    (untrained,) = make_trainer().test(first, data, verbose=False)
    make_trainer(limit_train_batches=12).fit(first, data)
    second = SelfDistillationTask(first.model, {"layer3": 1.0}, output_distance=LogitDivergence(), optimizer=fast)
    trainer = make_trainer(limit_train_batches=12)
    trainer.fit(second, data)
    (trained,) = make_trainer().test(second, data, verbose=False)
    assert trained["test/agreement"] > untrained["test/agreement"] + 0.1


def test_what_is_measured_are_payloads_and_answers(make_trainer: MakeTrainer, data: Digits) -> None:
    distilled = task()
    (logged,) = make_trainer(limit_test_batches=1).test(distilled, data, verbose=False)
    model, images = distilled.model.eval(), digits(32)
    payloads = model.compress(images)
    with torch.no_grad():
        theirs = model.net.tail(*model.features(images)).argmax(1)
    agreement = (model.decompress(payloads).argmax(1) == theirs).float().mean()
    assert logged["test/agreement"] == pytest.approx(float(agreement))
    assert logged["test/bytes_per_image"] == pytest.approx(sum(map(len, payloads)) / 32)


@pytest.mark.parametrize("tables", [LearntTables, StaticTables])
def test_tables_are_set_and_kept(make_trainer: MakeTrainer, data: Digits, tables: Any) -> None:
    distilled = task(rate_loss=FactorizedRate(), rate_weight=0.1)
    trainer = make_trainer(callbacks=[tables()])
    trainer.fit(distilled, data)
    assert trainer.callback_metrics["val/table_bytes"] > 0
    assert distilled.model.coder.codecs[0].tables()


def test_the_export_tests_with_labels(make_trainer: MakeTrainer, data: Digits, tmp_path: Path) -> None:
    distilled = task()
    make_trainer().fit(distilled, data)
    loaded = load_bottleneck(export_bottleneck(distilled.model, tmp_path / "b.safetensors"), network())
    assert loaded.eval().compress(digits(4)) == distilled.model.eval().compress(digits(4))
    (logged,) = make_trainer().test(ClassificationTask(loaded, 10), data, verbose=False)
    (own,) = make_trainer().test(ClassificationTask(distilled.model, 10), data, verbose=False)
    assert logged == own


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    make_trainer: MakeTrainer, data: Digits, tmp_path: Path
) -> None:
    class Breaks(nn.Module):
        """Is NaN from its fifth use in training: in the second epoch."""

        used = 0

        def forward(self, given: Tensor, wanted: Tensor) -> Tensor:
            self.used += given.requires_grad
            return (given - wanted).square().mean() * (1.0 if self.used < 5 else float("nan"))

    distilled = task(criterion=Breaks())
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    trainer = make_trainer(max_epochs=4, enable_checkpointing=True, callbacks=[keeper])
    with pytest.raises(ValueError, match="the loss is nan at step 4: lower the learning rate"):
        trainer.fit(distilled, data)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 3
    assert all(t.isfinite().all() for t in kept["state_dict"].values() if isinstance(t, Tensor))


def test_a_teacher_that_says_nothing_is_refused(make_trainer: MakeTrainer, data: Digits) -> None:
    silent = student()
    for parameter in silent.net.head.parameters():
        parameter.data.zero_()
    with pytest.raises(ValueError, match="layer2 gives 0 everywhere, for all images of a batch"):
        make_trainer().fit(SelfDistillationTask(silent), data)
    for parameter in (deaf := student()).net.tail.layer3.parameters():  # type: ignore[union-attr]
        parameter.data.zero_()
    late = SelfDistillationTask(deaf, {"layer3.2.conv2": 1.0})
    with pytest.raises(ValueError, match=r"layer3\.2\.conv2 gives 0 everywhere"):
        make_trainer().fit(late, data)


def test_predictions_are_refused(make_trainer: MakeTrainer, data: Digits) -> None:
    with pytest.raises(ValueError, match="export the bottleneck, and predict with it in a ClassificationTask"):
        make_trainer().predict(task(), data)


def test_models_and_settings_that_make_no_sense() -> None:
    with pytest.raises(TypeError, match="a InputModel has no bottleneck at a cut"):
        SelfDistillationTask(InputModel(network(), Pixels()))
    with pytest.raises(ValueError, match="nothing is compared"):
        task(cut_weight=0.0)
    with pytest.raises(ValueError, match="nothing is compared"):
        task(cut_weight=0.0, output_distance=LogitDivergence(), output_weight=0.0)
    with pytest.raises(ValueError, match="layer3 must be finite and not negative"):
        task(layers={"layer3": -1.0})
    with pytest.raises(CutError, match="layer3"):
        task(layers={"layre3": 1.0})
    with pytest.raises(CutError, match="layer1"):  # before the cut
        task(layers={"layer1": 1.0})


def test_agreement_of_classes_and_pixels() -> None:
    score = ClassAgreement()
    theirs = torch.eye(4)
    score.update(theirs[[0, 1, 2, 2]], theirs)
    assert float(score.compute()["agreement"]) == 0.75
    score.reset()
    maps = torch.rand(2, 3, 4, 4)
    score.update({"out": maps}, {"out": maps.clone()})
    assert float(score.compute()["agreement"]) == 1
    with pytest.raises(ValueError, match="use BoxAgreement"):
        score.update([{"boxes": maps}], [{"boxes": maps}])
    with pytest.raises(ValueError, match="must have the same classes"):
        score.update(torch.rand(2, 4), torch.rand(2, 5))


def test_agreement_of_boxes_ignores_what_the_teacher_doubts() -> None:
    pytest.importorskip("faster_coco_eval")

    def found(*scores: float) -> list[dict[str, Tensor]]:
        corners = torch.tensor([[60.0 * i, 10, 60 * i + 40, 50] for i in range(len(scores))])
        return [
            {"boxes": corners, "labels": torch.ones(len(scores), dtype=torch.int64), "scores": torch.tensor(scores)}
        ]

    for scores, expected in (((0.9,), 1.0), ((0.9, 0.1), 1.0), ((0.9, 0.3), 0.5)):
        score = BoxAgreement(2)
        score.update(found(0.7), found(*scores))
        assert float(score.compute()["agreement"]) == pytest.approx(expected, abs=0.01)
    with pytest.raises(ValueError, match="confidence must be in"):
        BoxAgreement(2, confidence=1.0)


def test_the_density_starts_where_the_latents_are(make_trainer: MakeTrainer, data: Digits) -> None:
    rate = FactorizedRate()
    optimizer = partial(torch.optim.Adam, lr=0)
    distilled = SelfDistillationTask(student(gain=16), rate_loss=rate, rate_weight=0.1, optimizer=optimizer)
    make_trainer(limit_train_batches=1).fit(distilled, data)
    latents = distilled.model.run(next(data.batches("train"))[0]).latents[0]
    cold = FactorizedRate()
    cold.begin([tuple(latents.shape[1:])], [Step(1.0)])
    with torch.no_grad():
        matched, unmatched = (float(each.eval()(latents)) for each in (rate, cold))
    assert matched < unmatched - 1


def test_datta_s_unit_is_distilled_too(make_trainer: MakeTrainer, data: Digits) -> None:
    make_trainer().fit(SelfDistillationTask(datta(), rate_loss=L1Rate(), rate_weight=0.1), data)


def test_a_network_that_trains_along_is_no_teacher() -> None:
    moves = UnfrozenSplitModel(halves("layer2"), Step(1.0), RANS(), partial(NormalizedSeparable, channels=8))
    with pytest.raises(ValueError, match="the network of a UnfrozenSplitModel trains along, so it is no teacher"):
        SelfDistillationTask(moves)


def test_a_stage_starts_from_the_export_of_another(tmp_path: Path) -> None:
    first = student()
    file = export_bottleneck(first, tmp_path / "b.safetensors")
    torch.manual_seed(5)
    other = SplitModel(halves("layer2"), Step(1.0), RANS(), partial(NormalizedSeparable, channels=8))
    distilled = SelfDistillationTask(other, weights=file)
    kept, mine = (model.coder.bottlenecks.state_dict() for model in (first, distilled.model))
    assert all(torch.equal(mine[name], tensor) for name, tensor in kept.items())


def test_weights_that_are_no_such_bottleneck(tmp_path: Path) -> None:
    wider = SplitModel(halves("layer2"), Step(1.0), RANS(), partial(NormalizedSeparable, channels=9))
    file = export_bottleneck(wider, tmp_path / "b.safetensors")
    with pytest.raises(
        WeightsError,
        match=r"holds another bottleneck, made for layer2 of CifarResNet: give the file .* at layer2 of CifarResNet",
    ):
        task(weights=file)
    with pytest.raises(WeightsError, match="holds no bottleneck"):
        task(weights=export_network(network(), tmp_path / "n.safetensors"))
    with pytest.raises(FileNotFoundError, match="run the stage that exports it, or leave weights out"):
        task(weights=tmp_path / "absent.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(file.read_bytes()[:-9])
    with pytest.raises(WeightsError, match=r"is no readable safetensors file|is damaged"):
        task(weights=tmp_path / "damaged.safetensors")


def test_an_encoder_from_pixels_learns_from_the_head_that_it_replaces(make_trainer: MakeTrainer, data: Digits) -> None:
    torch.manual_seed(0)
    small = partial(PixelEncoder, channels=8, width=16, stride=4, patch=4)
    model = PixelModel(halves("layer2"), Step(1.0), RANS(per_channel=True), small)
    distilled = SelfDistillationTask(model, {"layer3": 1.0}, output_distance=LogitDivergence(), optimizer=fast)
    trainer = make_trainer(max_epochs=3)
    (before,) = trainer.validate(distilled, data, verbose=False)
    trainer.fit(distilled, data)
    assert trainer.callback_metrics["val/distillation_loss"] < 0.9 * before["val/distillation_loss"]
    with torch.no_grad():
        coded = model.eval().coded(digits(2))
        assert torch.equal(coded.features[0], halves("layer2").head(digits(2))[0])


def test_a_rate_is_drawn_for_each_batch_and_weighs_the_loss() -> None:
    model = GainModel(student(), [4.0, 1.0])
    distilled = quiet(SelfDistillationTask(model, rate_loss=L1Rate(), rate_weight=0.25))
    logged: dict[str, float] = {}
    distilled.log_losses = lambda losses, size: logged.update({n: float(t.detach()) for n, t in losses.items()})  # type: ignore[method-assign]
    factors = set()
    for seed in range(8):
        torch.manual_seed(seed)
        distilled.training_step(unlabelled(), 0)
        of_rate = logged["train/loss"] - logged["train/distillation_loss"]
        assert of_rate == pytest.approx(
            0.25 * model.rate_weights[model.quantizer.rate] * logged["train/rate_loss"], rel=1e-3
        )
        factors.add(model.quantizer.rate)
    assert factors == {0, 1}


@pytest.mark.parametrize("rate", [0, 1])
def test_validation_is_at_the_model_s_rate(make_trainer: MakeTrainer, data: Digits, rate: int) -> None:
    model = GainModel(student(), [4.0, 1.0], rate)
    distilled = SelfDistillationTask(model, rate_loss=FactorizedRate(), rate_weight=0.1, optimizer=fast)
    trainer = make_trainer(limit_train_batches=2)
    trainer.callbacks.append(LearntTables())  # type: ignore[attr-defined]
    trainer.fit(distilled, data)
    assert model.quantizer.rate == rate
    trainer.test(distilled, data, verbose=False)
    assert trainer.callback_metrics["test/bytes_per_image"] > 0


def test_labels_may_join() -> None:
    plain, labelled = (
        quiet(task(**options)) for options in ({}, {"label_loss": nn.CrossEntropyLoss(), "label_weight": 0.5})
    )
    images, labels = digits(4), torch.tensor([3, 1, 4, 1])
    losses = []
    for each in (plain, labelled):
        torch.manual_seed(0)
        losses.append(float(each.training_step((images, labels), 0).detach()))
    torch.manual_seed(0)
    coded = labelled.model.coded(images)
    expected = nn.functional.cross_entropy(labelled.model.net.tail(*coded.features_hat), labels)
    assert losses[1] - losses[0] == pytest.approx(0.5 * float(expected.detach()), rel=1e-4)


def test_labels_that_are_not_there_are_refused() -> None:
    distilled = quiet(task(label_loss=nn.CrossEntropyLoss()))
    with pytest.raises(ValueError, match="label_loss needs labels, and the data have none: use data with labels"):
        distilled.training_step(unlabelled(), 0)
    with pytest.raises(ValueError, match="label_weight must be finite"):
        task(label_weight=-1)
