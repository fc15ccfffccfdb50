import torch

from splitlearn.losses import FeatureDistillation, L1Rate


def test_l1_rate_is_the_mean_absolute_value() -> None:
    latent = torch.tensor([[-3.0, 1.0], [0.0, 2.0]], requires_grad=True)
    rate = L1Rate()(latent)
    rate.backward()
    assert rate.item() == 1.5
    assert latent.grad is not None
    assert latent.grad.tolist() == [[-0.25, 0.25], [0.0, 0.25]]


def test_distillation_is_relative_to_the_features_power() -> None:
    features = torch.randn(4, 3, 5, 5)
    loss = FeatureDistillation()
    assert loss([features], [features]).item() == 0
    assert torch.isclose(loss([torch.zeros_like(features)], [features]), torch.tensor(1.0))
    assert torch.isclose(loss([2 * 7 * features], [7 * features]), torch.tensor(1.0))


def test_distillation_passes_over_integers_and_survives_dead_features() -> None:
    sizes = torch.tensor([[1, 2]])
    dead = torch.zeros(1, 3)
    assert FeatureDistillation()([dead, sizes], [dead, sizes]).item() == 0
