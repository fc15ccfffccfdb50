"""The whole line: a frozen network cut in two, a bottleneck at the cut, and real bytes between."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from splitlearn.codecs import Codec, Raw, pack, unpack
from splitlearn.models.base import CompressionModel, Normalize
from splitlearn.models.bottleneck import Bottleneck, BottleneckFactory, FeatureShape, Identity
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.message import join_parts, split_parts
from splitlearn.outputs import SplitOutput, init_args
from splitlearn.quantizers import Quantizer

BYTE = 256


class SplitModel(CompressionModel):
    """A frozen network with trainable bottlenecks at its cut.

        images → normalize → head → encoder → quantize → encode ═ payload ═ decode → dequantize → decoder → tail
                 └─ frozen, no graph ─┘ └ trained ┘                                         └ trained ┘ └ frozen ┘

    Every float tensor that crosses the cut gets a bottleneck of its own; integer tensors (image sizes, say) cross as
    they are. All of it goes into one payload an image.

    Args:
        net: the cut network, from `splitlearn.models.split`; it is frozen here, for good.
        quantizer: floats to symbols.
        codec: symbols to bytes.
        bottleneck: makes a bottleneck from the shape of the features, e.g. `partial(DepthwiseSeparable, channels=16)`;
            by default the features themselves are sent.
        normalize: applied to images in [0, 1] before the head; None if the network takes them so.

    Reference:
        Datta et al. 2022, Figs. 1 and 2; Carra & Neglia 2023 is this with the identity as bottleneck.
    """

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer,
        codec: Codec,
        bottleneck: BottleneckFactory = Identity,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__()
        self.net = freeze(net)
        self.quantizer = quantizer
        self.codec = codec
        self.normalize = normalize
        units = [bottleneck if dtype.is_floating_point else Identity for dtype in net.dtypes]
        self.bottlenecks = nn.ModuleList(unit(shape) for unit, shape in zip(units, net.shapes, strict=True))

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the crossing tensors of images in [0, 1], without a graph."""
        with torch.no_grad():
            crossing: tuple[Tensor, ...] = self.net.head(images if self.normalize is None else self.normalize(images))
        return crossing

    def run(self, images: Tensor) -> SplitOutput:
        """Return the differentiable pass; the graph starts at the bottleneck's encoder."""
        return self.run_from(self.features(images))

    def run_from(self, features: tuple[Tensor, ...]) -> SplitOutput:
        """Return the differentiable pass from crossing tensors that the head has made before."""
        latents = self._encode(features)
        features_hat = self._decode(self.quantizer(t) if t.is_floating_point() else t for t in latents)
        floats = tuple(t for t in latents if t.is_floating_point())
        return SplitOutput(self.net.tail(*features_hat), features, floats, features_hat)

    @torch.inference_mode()
    def symbols(self, images: Tensor) -> list[Tensor]:
        """Return the uint8 symbols `(B, …)` of each float tensor that crosses: what the codec is given."""
        return self.symbols_of([t for t in self._encode(self.features(images)) if t.is_floating_point()])

    @torch.inference_mode()
    def symbols_of(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the uint8 symbols of latents that a pass has made already, such as those of `run`."""
        return [self.quantizer.quantize(latent)[0] for latent in latents]

    @torch.inference_mode()
    def compress(self, images: Tensor) -> list[bytes]:
        """Return one payload an image: a container for each tensor that crosses.

        Raises:
            ValueError: if a latent holds NaN or infinity, or the cut refuses these images' size.
        """
        parts = [self._pack(latent) for latent in self._encode(self.features(images))]
        return [join_parts(tensors) for tensors in zip(*parts, strict=True)]

    @torch.inference_mode()
    def decompress(self, payloads: Sequence[bytes]) -> Any:
        """Return the prediction for a batch of payloads, from nothing but these.

        Raises:
            CodecError: if a payload is damaged, or was written by another codec or quantizer.
            ValueError: if the payloads are of images of different sizes.
        """
        return self.net.tail(*self._decode(self.latents_hat(payloads)))

    @torch.inference_mode()
    def latents_hat(self, payloads: Sequence[bytes]) -> tuple[Tensor, ...]:
        """Return the dequantized latents of a batch of payloads: bit for bit those of the eval-mode `run`."""
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        parts = zip(*(split_parts(payload, len(self.bottlenecks)) for payload in payloads), strict=True)
        return tuple(map(self._unpack, parts, self.net.shapes, self.net.dtypes))

    @property
    def table_bytes(self) -> int:
        """Size of the codec's static tables, which are sent once, with the weights; 0 if tables ride in payloads."""
        return sum(table.nbytes for table in self.codec.tables().values())

    def get_extra_state(self) -> dict[str, Any]:
        """Return the codec's static tables, so that a checkpoint holds all that its payloads need."""
        tables = {name: torch.from_numpy(np.array(table)) for name, table in self.codec.tables().items()}
        return {"codec": self._codec_name, "tables": tables}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the tables of a checkpoint, unless this model was given another codec than the one that was saved."""
        if state["tables"] and state["codec"] == self._codec_name:
            self.codec = self.codec.with_tables({k: v.numpy() for k, v in state["tables"].items()})

    @property
    def _codec_name(self) -> str:
        return f"{type(self.codec).__qualname__}{init_args(self.codec) or ''}"

    @property
    def context(self) -> int:
        """What both sides must share besides the codec: the cut and the quantizer's settings."""
        quantizer = type(self.quantizer).__qualname__, sorted(init_args(self.quantizer).items())
        return zlib.crc32(repr((self.net.name, self.net.at, quantizer)).encode())

    def _encode(self, features: Sequence[Tensor]) -> list[Tensor]:
        for unit, tensor in zip(self._units(), features, strict=True):
            if not isinstance(unit, Identity) and tensor.shape[1:] != unit.shape:
                raise ValueError(
                    f"this bottleneck takes features {unit.shape}, these images give {tuple(tensor.shape[1:])}: "
                    f"send images of shape {self.net.input_shape}, or split again with an example of the new size"
                )
        return [unit.encoder(tensor) for unit, tensor in zip(self._units(), features, strict=True)]

    def _decode(self, latents_hat: Iterable[Tensor]) -> tuple[Tensor, ...]:
        dtype = next(self.net.parameters()).dtype  # float32 unless the weights are kept in half precision
        typed = [t.to(dtype) if t.is_floating_point() else t for t in latents_hat]
        return tuple(unit.decoder(tensor) for unit, tensor in zip(self._units(), typed, strict=True))

    def _units(self) -> list[Bottleneck]:
        return cast("list[Bottleneck]", list(self.bottlenecks))

    def _pack(self, latent: Tensor) -> list[bytes]:
        """Return one container an image for one crossing tensor."""
        if not latent.is_floating_point():
            return [pack(_as_bytes(row), BYTE, _RAW) for row in latent.cpu().numpy()]
        symbols, floats = (t.cpu().numpy() for t in self.quantizer.quantize(latent))
        levels, context = self.quantizer.levels, self.context
        return [pack(s, levels, self.codec, f.tolist(), context) for s, f in zip(symbols, floats, strict=True)]

    def _unpack(self, containers: Sequence[bytes], shape: FeatureShape, dtype: torch.dtype) -> Tensor:
        floating = dtype.is_floating_point
        codec, context = (self.codec, self.context) if floating else (_RAW, 0)
        symbols, floats = zip(*(unpack(container, codec, context) for container in containers), strict=True)
        if len({s.shape for s in symbols}) > 1:
            raise ValueError("these payloads are of images of different sizes: decompress them one size at a time")
        device = next(self.net.parameters()).device
        batch = torch.from_numpy(np.stack(symbols)).to(device)
        if not floating:
            return batch.view(dtype).reshape(-1, *shape)
        return self.quantizer.dequantize(batch, torch.tensor(floats, dtype=torch.float32, device=device))


_RAW: Codec = Raw()


def _as_bytes(row: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(row).view(np.uint8)
