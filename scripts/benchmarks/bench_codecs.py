"""Rebuild docs/results/codecs: every codec against zlib, Zstandard, LZ4 and constriction on real activations.

All take turns in one process and one thread, on the same latents: from float32 to bytes and back, quantization
included. Ours are called as users call them, with their checks; rivals in the barest way that their library allows.
Static tables are learnt from images that are not measured. Takes five minutes on an idle machine.

    scripts/benchmarks/bench_codecs                     reads ../shared/data, or data/ in what SPLITLEARN_SHARED names
    scripts/benchmarks/bench_codecs --quick --out DIR   a few images and rounds: whether it runs, not how fast
"""

from __future__ import annotations

import argparse
import io
import math
import os
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import constriction
import lz4.block
import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from splitlearn.analysis import (
    CodecRow,
    TableTransfer,
    compare_codecs,
    package_codecs,
    transfer_tables,
    with_static_tables,
)
from splitlearn.analysis.codec_comparison import STATIC
from splitlearn.codecs import Codec, Raw, pack_latents
from splitlearn.codecs.container import read_varint, varint
from splitlearn.data.images import CentreCrop
from splitlearn.files import whole_file, write_json
from splitlearn.models import mobilenet_v2_same, resnet20, resnet32, split
from splitlearn.numpy_quantizers import Grid, MinMaxGrid
from splitlearn.reporting import Moves, codec_markdown, plot_codecs, print_codecs, processor, transfer_markdown
from splitlearn.reporting.codec_report import LEGEND, Results, sizes_markdown
from splitlearn.tasks import quieten, run_record

Symbols = NDArray[np.uint8]
Latent = NDArray[np.float32]
Latents = list[Latent]
OUT = Path("docs/results/codecs")
TITLE = "Codecs on real activations"
MEAN, STD = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
BITS = (2, 3, 4, 6, 8)
ROUNDS = 11
PHOTOGRAPHS = "ResNet-20 layer1, photographs"
EFFORT = {"ResNet-20 layer1": (ROUNDS, 1.0), PHOTOGRAPHS: (ROUNDS, 0.0)}  # rounds; seconds for those of slow codecs
LITTLE = (3, 0.1)  # elsewhere, where bytes are of interest and not throughput
IN_FULL = ("RunLength", "Huffman", "RANS", "ContextRANS", "zlib-1", "zstd-1")  # all rounds, however slow
TOO_SLOW = {"constriction Huffman": 2, "TruncatedUnary": 8}  # from so many bits on left out on photographs
FULL = tuple(EFFORT)
MOVES = (("ResNet-20 layer1", "ResNet-32 layer1"), ("ResNet-20 layer2", "ResNet-32 layer2"), FULL)
DATA = """CIFAR-10 test images as JPEG of quality 75, of each class the same number, and ImageNet photographs, each of
another class, cropped to 224×224 at the centre. Networks as trained: ResNet-20 and ResNet-32 for CIFAR-10,
MobileNetV2 for ImageNet; min–max quantization to 2ⁿ levels. What takes a tenth of a second and more for a photograph is
left out there: constriction's Huffman code, called once a symbol from Python, and truncated unary at 8 bits."""


class Library(Codec):
    """A general-purpose compressor of bytes, called without any of our checks, its contexts kept."""

    def __init__(self, compress: Callable[[Any], bytes], expand: Callable[[Any, int], bytes]) -> None:
        self.compress, self.expand = compress, expand

    def _encode(self, symbols: Symbols, levels: int) -> bytes:
        return self.compress(symbols)

    def _decode(self, payload: Symbols, shape: tuple[int, ...], levels: int) -> Symbols:
        return np.frombuffer(self.expand(payload, math.prod(shape)), np.uint8).reshape(shape)

    def _decode_latent(
        self, payload: Symbols, shape: tuple[int, ...], floats: tuple[float, ...], grid: Grid, out: Latent | None
    ) -> Latent:
        return grid.dequantize(self._decode(payload, shape, grid.levels), floats, out)


class ConstrictionANS(Codec):
    """ANS coder of constriction with one categorical model, in its vectorised call.

    The model's frequencies, of 4096, stand before the code as varints, or are agreed on beforehand.
    """

    def __init__(self) -> None:
        self._frequencies: NDArray[np.uint16] | None = None

    def _encode(self, symbols: Symbols, levels: int) -> bytes:
        table, frequencies = b"", self._frequencies
        if frequencies is None:
            frequencies = frequencies_of([symbols], levels)
            table = table_bytes(frequencies)
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(symbols.reshape(-1).astype(np.int32), categorical(frequencies))
        words: NDArray[np.uint32] = coder.get_compressed()
        return table + words.astype("<u4").tobytes()

    def _decode(self, payload: Symbols, shape: tuple[int, ...], levels: int) -> Symbols:
        data, frequencies = payload.tobytes(), self._frequencies
        start = 0
        if frequencies is None:
            frequencies, start = read_table(data, levels)
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, "<u4", offset=start))
        symbols: NDArray[np.int32] = coder.decode(categorical(frequencies), math.prod(shape))
        return symbols.astype(np.uint8)

    def fitted(self, samples: Iterable[Symbols], levels: int) -> Self:
        """Return a coder with the frequencies of `samples`, each symbol counted once more than it was seen."""
        every = np.arange(levels, dtype=np.uint8)
        return self.with_tables({"frequencies": frequencies_of([every, *samples], levels)})

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """Return the static frequencies, if there are any."""
        return {} if self._frequencies is None else {"frequencies": self._frequencies}

    def with_tables(self, tables: Mapping[str, NDArray[np.generic]]) -> Self:
        """Return a coder with these frequencies."""
        codec = type(self)()
        codec._frequencies = np.asarray(tables["frequencies"], np.uint16)
        return codec


class ConstrictionHuffman(Codec):
    """Huffman code of constriction, which takes one call from Python a symbol; frequencies stand before it."""

    def _encode(self, symbols: Symbols, levels: int) -> bytes:
        frequencies = frequencies_of([symbols], levels)
        tree = constriction.symbol.huffman.EncoderHuffmanTree(frequencies.astype(np.float32))
        coder = constriction.symbol.QueueEncoder()
        encode = coder.encode_symbol
        for symbol in symbols.reshape(-1).tolist():
            encode(symbol, tree)
        words: NDArray[np.uint32] = coder.get_compressed()[0]
        return table_bytes(frequencies) + words.astype("<u4").tobytes()

    def _decode(self, payload: Symbols, shape: tuple[int, ...], levels: int) -> Symbols:
        data = payload.tobytes()
        frequencies, start = read_table(data, levels)
        tree = constriction.symbol.huffman.DecoderHuffmanTree(frequencies.astype(np.float32))
        decode = constriction.symbol.QueueDecoder(np.frombuffer(data, "<u4", offset=start)).decode_symbol
        return np.array([decode(tree) for _ in range(math.prod(shape))], np.uint8)


def frequencies_of(samples: Iterable[Symbols], levels: int) -> NDArray[np.uint16]:
    """Return how often each symbol occurs, of 4096, at least 1 if it does."""
    counts = sum(np.bincount(sample.reshape(-1), minlength=levels) for sample in samples)
    scaled = np.maximum(counts > 0, np.rint(4096 * counts / np.sum(counts)))
    return scaled.astype(np.uint16)


def table_bytes(frequencies: NDArray[np.uint16]) -> bytes:
    """Return the number of frequencies up to the last that is not 0, and these, as varints."""
    used = int(np.flatnonzero(frequencies)[-1]) + 1
    return b"".join(map(varint, [used, *frequencies[:used].tolist()]))


def read_table(data: bytes, levels: int) -> tuple[NDArray[np.uint16], int]:
    """Return what `table_bytes` wrote, and the position behind it."""
    frequencies = np.zeros(levels, np.uint16)
    used, position = read_varint(data, 0)
    for symbol in range(used):
        frequencies[symbol], position = read_varint(data, position)
    return frequencies, position


def categorical(frequencies: NDArray[np.uint16]) -> Any:
    """Return constriction's model of these frequencies."""
    return constriction.stream.model.Categorical(frequencies.astype(np.float32), perfect=False)


def zlib_at(level: int) -> Library:
    """Return zlib with this effort."""
    return Library(lambda s: zlib.compress(s, level), lambda p, count: zlib.decompress(p, bufsize=count))


def zstandard_at(level: int) -> Library:
    """Return Zstandard with this effort."""
    expand = zstandard.ZstdDecompressor().decompress
    return Library(zstandard.ZstdCompressor(level=level).compress, lambda p, count: expand(p))


def lz4_block() -> Library:
    """Return LZ4, without a frame around its block."""
    return Library(
        lambda s: lz4.block.compress(s.reshape(-1), store_size=False),
        lambda p, count: lz4.block.decompress(p, uncompressed_size=count),
    )


def contenders() -> dict[str, Codec]:
    """Return ours and their rivals by label, Deflate and Zstandard in their barest form."""
    general = {f"zlib-{level}": zlib_at(level) for level in (1, 6)}
    general |= {f"zstd-{level}": zstandard_at(level) for level in (1, 3)} | {"lz4": lz4_block()}
    entropy = {"constriction ANS": ConstrictionANS(), "constriction Huffman": ConstrictionHuffman()}
    return package_codecs() | general | entropy


@dataclass(frozen=True)
class Source:
    """Latents of one cut to measure on, and those of other images, to learn static tables from."""

    name: str
    measured: Latents
    others: Latents


def shared_data() -> Path:
    """Return the folder of images and weights."""
    return Path(os.environ.get("SPLITLEARN_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"


def cifar_images(measured: int, others: int) -> Tensor:
    """Return normalized test images, of each class the first of the archive: all to be measured, then all others."""
    classes: dict[str, list[Tensor]] = defaultdict(list)
    with tarfile.open(shared_data() / "cifar10_jpeg_q75.tar.xz", "r|xz") as archive:
        for member in archive:
            _, part, name, *_ = [*member.name.split("/"), "", ""]
            if part != "test" or not member.isfile() or len(classes[name]) == measured + others:
                continue
            file = archive.extractfile(member)
            assert file is not None
            classes[name].append(normalized(Image.open(io.BytesIO(file.read()))))
    first = [image for images in classes.values() for image in images[:measured]]
    return torch.stack(first + [image for images in classes.values() for image in images[measured:]])


def photographs(measured: int, others: int) -> Tensor:
    """Return normalized photographs `(B, 3, 224, 224)`, each of another class: those to be measured, then others."""
    crop = CentreCrop(224, 256)
    with zipfile.ZipFile(shared_data() / "imagenet_sample500.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        chosen = names[5::10][:measured] + names[::10][:others]
        return torch.stack([normalized(crop(Image.open(archive.open(name)).convert("RGB"))) for name in chosen])


def normalized(image: Image.Image) -> Tensor:
    """Return an image as all networks here take it, `(3, H, W)`."""
    pixels: Tensor = pil_to_tensor(image)
    return (pixels.float() / 255 - MEAN) / STD


def activations(network: nn.Module, at: str, images: Tensor) -> Latents:
    """Return the output of a module, one array an image."""
    head = split(network.eval(), at, images[:2]).head
    with torch.inference_mode():
        return [latent for batch in torch.split(images, 10) for latent in head(batch)[0].numpy()]


def sources(quick: bool) -> Iterator[Source]:
    """Give the latents of all cuts, one cut at a time."""
    weights = shared_data() / "weights"
    small, large = (1, 1), (2, 2)
    if not quick:
        small, large = (5, 15), (49, 16)  # images of a class, photographs: to be measured and to learn from
    cifar, photos = cifar_images(*small), photographs(*large)
    twenty = resnet20(weights=weights / "resnet20_cifar10.safetensors")
    thirty = resnet32(weights=weights / "resnet32_cifar10.safetensors")
    mobile = mobilenet_v2_same(weights / "mobilenet_v2_imagenet.safetensors")
    cuts = (
        ("ResNet-20 layer1", twenty, "layer1", cifar, 10 * small[0]),
        ("ResNet-20 layer2", twenty, "layer2", cifar, 10 * small[0]),
        ("ResNet-32 layer1", thirty, "layer1", cifar, 10 * small[0]),
        ("ResNet-32 layer2", thirty, "layer2", cifar, 10 * small[0]),
        ("MobileNetV2 features.3", mobile, "features.3", photos, large[0]),
        ("MobileNetV2 features.6", mobile, "features.6", photos, large[0]),
        (PHOTOGRAPHS, twenty, "layer1", photos, large[0]),
    )
    for name, network, at, images, count in cuts[::2] if quick else cuts:
        latents = activations(network, at, images)
        yield Source(name, latents[:count], latents[count:])


def compare(source: Source, bits: Sequence[int], rounds: int) -> list[CodecRow]:
    """Return the rows of one source, for all numbers of bits."""
    rows = []
    for n in bits:
        grid = MinMaxGrid(n)
        codecs = with_static_tables(contenders(), source.others, grid)
        if source.name == PHOTOGRAPHS:
            codecs = {label: codec for label, codec in codecs.items() if n < TOO_SLOW.get(label, math.inf)}
        in_full = [label for label in codecs if source.name in FULL and label.removesuffix(STATIC) in IN_FULL]
        most, patience = EFFORT.get(source.name, LITTLE)
        rows += compare_codecs(source.measured, grid, codecs, min(rounds, most), patience, in_full)
    return rows


def transfer(origin: Source, target: Source, bits: Sequence[int]) -> list[TableTransfer]:
    """Return what static tables of `origin` cost on `target`."""
    pools = target.measured, target.others, origin.others
    return [row for n in bits for row in transfer_tables(*pools, MinMaxGrid(n), package_codecs())]


def write_readme(path: Path, about: Mapping[str, Any], results: Results, moved: Moves) -> None:
    """Write the tables, with what it takes to read and repeat them."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    elsewhere = {source: rows for source, rows in results.items() if source not in FULL}
    parts = [
        f"# {TITLE}",
        DATA,
        f"{about['images']}. {about['container']} Nothing is drawn at random: there is no seed.",
        f"{about['processor']}, {about['machine']}, load {about['load_average']:.1f}, one thread; {versions}; "
        f"`{about['command']}`; {about['date']}.",
        "![bytes over bits, and throughput over size](results.png)",
        LEGEND,
        *(f"## {source}\n\n{codec_markdown(results[source]).rstrip()}" for source in FULL),
        f"## Bytes elsewhere\n\nBytes an image, in brackets over order-0 entropy.\n\n{sizes_markdown(elsewhere)}",
        "## Static tables elsewhere",
        "Bytes an image. No image that is coded was learnt from, but for the last column: a bound, no use.",
        transfer_markdown(moved),
    ]
    with whole_file(path) as temporary:
        temporary.write_text("\n\n".join(part.rstrip() for part in parts) + "\n")


def describe(kept: Mapping[str, Source]) -> dict[str, Any]:
    """Return what a reader must know besides the figures."""
    small, large = (kept[name] for name in FULL)
    added = [len(pack_latents(s.measured[:1], MinMaxGrid(), Raw())[0]) - s.measured[0].size for s in (small, large)]
    libraries = {name: version(name) for name in ("zstandard", "lz4", "constriction")}
    record = run_record()
    return {
        **record,
        "versions": record["versions"] | libraries | {"zlib": zlib.ZLIB_RUNTIME_VERSION},
        "processor": processor(),
        "data": " ".join(DATA.split()),
        "seed": None,
        "images": f"{len(small.measured)} CIFAR-10 images measured, {len(small.others)} others to learn static tables "
        f"from; {len(large.measured)} photographs measured, {len(large.others)} others to learn from",
        "container": f"A container (checksum, shape, extremes) adds {added[0]} to {added[1]} bytes to any code.",
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and leave README.md, results.json and results.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few images and rounds: whether it runs, not how fast")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for README.md, results.json and results.png")
    args = parser.parse_args(argv)
    if not (folder := shared_data()).is_dir():
        raise SystemExit(f"no images and weights in {folder}: set SPLITLEARN_SHARED to the folder that holds data/")
    quieten()
    torch.set_num_threads(1)
    bits, rounds = ((3,), 2) if args.quick else (BITS, ROUNDS)
    load, kept = os.getloadavg()[0], dict[str, Source]()
    results: dict[str, list[CodecRow]] = {}
    for source in sources(args.quick):
        kept[source.name] = source
        results[source.name] = compare(source, bits, rounds)
        print_codecs(results[source.name], source.name)
    moved = {(a, b): transfer(kept[a], kept[b], bits) for a, b in MOVES if b in kept}
    about = {**describe(kept), "load_average": load}
    tables = {
        "columns": " ".join(LEGEND.split()),
        "sources": {source: [asdict(row) for row in rows] for source, rows in results.items()},
        "transfer": [
            {"tables": a, "coded": b, **asdict(row), "loss_percent": row.loss_percent}
            for (a, b), rows in moved.items()
            for row in rows
        ],
    }
    write_json(args.out / "results.json", {**about, **tables})
    plot_codecs({source: results[source] for source in FULL}, args.out / "results.png", TITLE)
    write_readme(args.out / "README.md", about, results, moved)
    print(f"{args.out / 'README.md'}, results.json and results.png written")
