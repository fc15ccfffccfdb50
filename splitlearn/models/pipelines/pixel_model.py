"""Cut network whose head is replaced, together with the bottleneck's encoder, by an encoder from pixels."""

from __future__ import annotations

from splitlearn.codecs import Codec
from splitlearn.models.bottlenecks.bottleneck import Bottleneck, FeatureShape
from splitlearn.models.bottlenecks.pixels import PixelBottleneckFactory, PixelEncoder
from splitlearn.models.cutting import Split, from_pixels
from splitlearn.models.images import Normalize
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.quantizers import Quantizer


class PixelModel(SplitModel):
    """A frozen network whose head does not run on the device: an encoder from pixels gives the latent at once.

        images → normalize ┬→ encoder → quantize → encode ═ payload ═ decode → dequantize → decoder → tail → prediction
                           └→ head, the teacher: what the decoder is to restore, in training only

    The device computes as little as its encoder does, which is far less than a head, and the decoder makes good for it
    on the edge server. `run` gives the head's features beside the reconstructions, for losses at the cut; with cached
    features `(image, features)` the head does not run at all.

    Args:
        net: the cut network, from `splitlearn.models.split`; it becomes frozen. One float tensor crosses the cut.
        quantizer: floats to symbols.
        codec: symbols to bytes.
        bottleneck: called with the shapes of an image and of its features at the cut, e.g.
            `partial(PixelEncoder, channels=32)`.
        normalize: applied to images in [0, 1] before the encoder; None for no normalization.

    Raises:
        ValueError: if other than one float tensor crosses the cut.

    Reference:
        After Matsubara & Levorato 2020, Sec. 4: a trained student in place of the network's first layers.
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer,
        codec: Codec,
        bottleneck: PixelBottleneckFactory = PixelEncoder,
        normalize: Normalize | None = None,
    ) -> None:
        pixels = from_pixels(net)

        def made(image: FeatureShape) -> Bottleneck:
            return bottleneck(image, pixels.tail_shapes[0])

        super().__init__(pixels, quantizer, codec, made, normalize)
