"""Contract tests of quantizers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitlearn.outputs import init_args
from splitlearn.quantizers import Quantizer


class QuantizerContract:
    """Contract tests of a quantizer: subclass it and define `make`."""

    def make(self) -> Quantizer:
        """Return the quantizer."""
        raise NotImplementedError

    def latents(self) -> list[torch.Tensor]:
        """Return test batches of latents: normal, sparse, constant, tiny and extreme ones."""
        plain = torch.randn(3, 4, 5, 6)
        huge = torch.tensor([[3e38, -3e38, 0.0], [1e-45, -1e-45, 0.0], [0.0, -0.0, 0.0]])
        ties = torch.tensor([[0.5, 1.5, -0.5, -1.5, 2.5, -2.5, 127.5, -128.5]])
        return [plain, plain.relu() * 40, torch.full((2, 3), -1.7), torch.zeros(1, 2), torch.empty(0, 4), huge, ties]

    def test_forward_is_the_round_trip_bit_for_bit(self) -> None:
        """`forward` equals `dequantize(quantize)` in every bit, with the stated types and shapes."""
        quantizer = self.make()
        for latent in self.latents():
            symbols, floats = quantizer.quantize(latent)
            assert (symbols.dtype, symbols.shape) == (torch.uint8, latent.shape)
            assert (floats.dtype, floats.shape) == (torch.float32, (len(latent), quantizer.floats_per_image))
            assert symbols.numel() == 0 or int(symbols.max()) < quantizer.levels
            latent_hat = quantizer.dequantize(symbols, floats)
            assert latent_hat.dtype == torch.float32
            assert latent_hat.isfinite().all()
            # bit patterns, to distinguish negative zeros
            assert torch.equal(quantizer(latent).view(torch.int32), latent_hat.view(torch.int32))

    def test_grid_is_the_same_quantizer(self) -> None:
        """The numpy twin gives the same symbols, floats and values, bit for bit."""
        quantizer = self.make()
        if quantizer.grid is None:
            pytest.skip("this quantizer has no grid")
        for latent in self.latents():
            symbols, floats = quantizer.quantize(latent)
            latent_hat = quantizer.dequantize(symbols, floats)
            for index in range(len(latent)):
                own_symbols, own_floats = quantizer.grid.quantize(latent[index].numpy())
                np.testing.assert_array_equal(own_symbols, symbols[index].numpy(), strict=True)
                assert own_floats == tuple(floats[index].tolist())
                values = quantizer.grid.dequantize(own_symbols, own_floats)
                np.testing.assert_array_equal(values.view(np.int32), latent_hat[index].numpy().view(np.int32))

    def test_images_do_not_depend_on_their_batch(self) -> None:
        """An image has the same symbols alone and in a batch."""
        quantizer = self.make()
        for latent in self.latents():
            symbols, floats = quantizer.quantize(latent)
            for index in range(len(latent)):
                alone, alone_floats = quantizer.quantize(latent[index : index + 1])
                assert torch.equal(alone[0], symbols[index])
                assert torch.equal(alone_floats[0], floats[index])

    def test_reconstructions_are_fixed_points(self) -> None:
        """A dequantized latent is quantized to the same symbols again."""
        quantizer = self.make()
        symbols, floats = quantizer.quantize(torch.randn(2, 3, 8, 8))
        again, _ = quantizer.quantize(quantizer.dequantize(symbols, floats))
        assert torch.equal(again, symbols)

    def test_gradient_is_the_identity(self) -> None:
        """The gradient passes straight through."""
        latent = torch.randn(2, 3, 4, requires_grad=True)
        weight = torch.randn(2, 3, 4)
        (self.make()(latent) * weight).sum().backward()
        assert latent.grad is not None
        assert torch.equal(latent.grad, weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_types_come_back_as_float32(self, dtype: torch.dtype) -> None:
        """Half and double precision inputs give float32 results, also under autocast."""
        quantizer = self.make()
        latent = torch.randn(2, 30).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latent_hat = quantizer(latent)
        assert latent_hat.dtype == torch.float32
        assert torch.equal(latent_hat, quantizer.dequantize(*quantizer.quantize(latent)))

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_not_a_number_is_refused_and_seen_in_training(self, value: float) -> None:
        """NaN and infinity are refused in `quantize` and propagate in training."""
        quantizer = self.make()
        latent = torch.randn(2, 5)
        latent[1, 2] = value
        with pytest.raises(ValueError, match="NaN or infinity"):
            quantizer.quantize(latent)
        assert quantizer(latent)[1, 2].isnan()
        assert quantizer(latent)[0].isfinite().all()

    def test_attributes_rebuild_it(self) -> None:
        """The constructor arguments are attributes from which the quantizer can be rebuilt."""
        quantizer = self.make()
        twin = type(quantizer)(**init_args(quantizer))
        twin.load_state_dict(quantizer.state_dict())
        assert 2 <= quantizer.levels <= 256
        latent = torch.randn(2, 3, 4)
        assert torch.equal(twin(latent), quantizer(latent))
