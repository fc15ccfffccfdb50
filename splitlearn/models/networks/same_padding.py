"""Convolutions with TensorFlow's padding, for weights that were trained there."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SameConv2d", "same_padding"]


class SameConv2d(nn.Conv2d):
    """Strided convolution with TensorFlow's SAME padding: an odd row or column is added below or on the right.

    The input's height and width must be multiples of the stride.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `(B, C, H, W)`: `(B, C', H / stride, W / stride)`."""
        (rows, columns), (step_down, step_right) = self.kernel_size, self.stride
        down, right = max(rows - step_down, 0), max(columns - step_right, 0)
        padded = F.pad(input, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(padded)


def same_padding(model: nn.Module) -> nn.Module:
    """Replace every padded, strided convolution of `model` by a `SameConv2d`, in place, and return the model.

    With a 3 × 3 kernel and stride 2, torch pads one pixel on all four sides, TensorFlow only right and bottom. With
    torch's padding, weights from TensorFlow see shifted images: MobileNetV2 loses ten points of accuracy. State dict
    keys stay.
    """
    for parent in list(model.modules()):
        for name, conv in list(parent.named_children()):
            if type(conv) is nn.Conv2d and max(conv.stride) > 1 and conv.padding != (0, 0):
                setattr(parent, name, _converted(conv))
    return model


def _converted(conv: nn.Conv2d) -> SameConv2d:
    same = SameConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]  # a tuple of two, typed as one of any length
        conv.stride,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    same.weight, same.bias = conv.weight, conv.bias
    return same.train(conv.training)
