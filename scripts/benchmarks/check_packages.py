"""A package, served and sent to: do device and edge server answer what the model answers in `splitlearn test`?

Writes the package of a config's model, serves it on loopback, sends test images through `Device` and `EdgeClient`, and
compares symbols, payloads and answers with those of the model in torch, at each rate. Launch:

    scripts/benchmarks/check_packages --config FILE.yaml [--ckpt_path FILE.ckpt] [--data_root FOLDER] [--images 500]

Further words are settings of the config, as in splitlearn test: --model.model.net.at layer1
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.utils import _pytree as pytree

from splitlearn.codecs import CodecError
from splitlearn.codecs.payload_coder import untag_message
from splitlearn.config.images import spread_batches
from splitlearn.config.packaged import Trained, trained
from splitlearn.files import write_json
from splitlearn.models import CutModel
from splitlearn.reporting.terminal import print_table
from splitlearn.runtime import Answer, Device, EdgeClient, EdgeServer, ExitPrediction, OnnxEdge, TorchEdge
from splitlearn.runtime.packaging import write_package
from splitlearn.runtime.views import preparation_of
from splitlearn.tasks import quieten, run_record

CHECKED = 32  # images of the package's own check


class Compared(NamedTuple):
    """Figures of one rate.

    Attributes:
        images: number of images.
        symbols: number of symbols.
        equal_symbols: symbols that device and model agree on.
        equal_payloads: payloads that are equal byte for byte.
        decoded: payloads whose symbols come out at the edge as the device put them in.
        equal_answers: sum of the agreement of answers.
        exited: images that left on the device, in both.
        bytes: of all payloads.
    """

    images: int
    symbols: int
    equal_symbols: int
    equal_payloads: int
    decoded: int
    equal_answers: float
    exited: int
    bytes: int


def reference(model: CutModel, image: torch.Tensor, rate: int) -> bytes:
    """Return the model's own payload of one image at a rate; empty if it exits early."""
    chosen = {"rate": rate} if len(model.rates) > 1 else {}
    [payload] = model.compress([image], **chosen)
    return payload


async def compare(found: Trained, device: Device, client: EdgeClient, images: NDArray[np.uint8], rate: int) -> Compared:
    """Send all images at a rate, and compare."""
    model, half = found.model, device.package.rates[rate].coder
    total = np.zeros(8)  # the fields of Compared
    for pixels in track(images, f"rate {rate}", transient=True):
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) / 255
        made, expected = device.compress(pixels, rate), reference(model, image, rate)
        if isinstance(made, ExitPrediction):
            logits = model.decide(image[None]).logits[0].numpy()  # type: ignore[operator]
            agreed = float(not expected and int(logits.argmax()) == int(made.logits.argmax()))
            total += (1, 0, 0, 1, 1, agreed, 1, 0)
            continue
        reply = await client.ask(made, rate=rate)
        answer = own_answer(found, expected) if expected else {}
        latents = [t for t, each in zip(device.latents(pixels, rate), half.carriers, strict=True) if each.quantizer]
        grids = [each.quantizer for each in half.carriers if each.quantizer]
        device_symbols = [grid.quantize(latent)[0] for grid, latent in zip(grids, latents, strict=True)]  # type: ignore[attr-defined]
        floats = model.rates[rate].symbols(model.rates[rate].latents(model.features(image[None])))
        theirs = [each[0].numpy() for each in floats]
        plain = untag_message(made, len(half.carriers))[1]
        out = [t for (t, _), each in zip(half.unpack(plain), half.carriers, strict=True) if each.quantizer]
        came_out = all(np.array_equal(a, b) for a, b in zip(device_symbols, out, strict=True))
        agreed = found.answers.agreement(answer, reply.arrays) if answer else 0.0
        size = sum(each.size for each in device_symbols)
        alike = sum(int((a == b).sum()) for a, b in zip(device_symbols, theirs, strict=True))
        total += (1, size, alike, made == expected, came_out, agreed, 0, len(made))
    count, symbols, equal, same, decoded, answers, exited, size = total.tolist()
    return Compared(int(count), int(symbols), int(equal), int(same), int(decoded), answers, int(exited), int(size))


def own_answer(found: Trained, payload: bytes) -> Answer:
    """Return the answer of the model in torch to its own payload."""
    [answer] = found.answers(pytree.tree_map(lambda t: t.cpu(), found.model.decompress([payload])))
    if isinstance(answer, CodecError):
        raise answer
    return answer


async def run(found: Trained, folder: Path, images: NDArray[np.uint8]) -> list[Compared]:
    """Serve a package, and compare all its rates."""
    device = Device(folder)
    edge = OnnxEdge(device.package) if device.package.has_edge else TorchEdge(found.model, found.answers)
    async with EdgeServer(edge) as server, EdgeClient("127.0.0.1", server.port, edge.fingerprint) as client:
        return [await compare(found, device, client, images, rate) for rate in range(len(device.package.rates))]


def pixels_of(images: torch.Tensor) -> NDArray[np.uint8]:
    """Return images in [0, 1] as a camera gives them, uint8 `(B, H, W, 3)`."""
    return np.ascontiguousarray((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison, and write it as JSON if asked to; return 1 if an answer or a symbol differs too often."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--ckpt_path", type=Path)
    parser.add_argument("--data_root", type=Path)
    parser.add_argument("--images", type=int, default=500, help="number of test images, evenly spaced")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options, words = parser.parse_known_args(arguments)
    quieten()
    torch.set_num_threads(1)
    found = trained(options.config, options.ckpt_path, options.data_root, words)
    view = found.data.eval_view()
    images = np.concatenate([pixels_of(batch[0]) for batch in spread_batches(found.data, options.images)])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "package"
        write_package(
            found.model, folder, images[:CHECKED], found.answers, found.data.class_names, preparation_of(view)
        )
        rates = asyncio.run(run(found, folder, images))
    rows = [
        (
            str(number),
            f"{rate.images:,}",
            f"{rate.exited:,}",
            f"{rate.equal_symbols / max(1, rate.symbols):.5%}",
            f"{rate.equal_payloads / rate.images:.1%}",
            f"{rate.decoded / rate.images:.1%}",
            f"{rate.equal_answers / rate.images:.2%}",
            f"{rate.bytes / rate.images:,.1f}",
        )
        for number, rate in enumerate(rates)
    ]
    title = f"{found.model.net.name} cut at {found.model.net.at}: package against torch"
    columns = ("rate", "images", "exited", "symbols", "payloads", "decoded", "answers", "bytes per image")
    print_table(title, columns, rows)
    if options.out is not None:
        figures: dict[str, Any] = {"rates": [rate._asdict() for rate in rates], "config": str(options.config)}
        write_json(options.out, figures | {"run": run_record()})
    return int(any(r.equal_symbols < 0.999 * r.symbols or r.equal_answers < 0.998 * r.images for r in rates))
