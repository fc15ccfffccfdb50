"""Plans against reality: predicted and measured latency from image to answer, over emulated links.

Two networks, ResNet-20 with its bank of six rates and ResNet-8 cut at two places, are packaged and profiled; plans are
made for several links. Then every choice of every plan is taken: the device's half runs here, an edge server in a
process of its own, a link emulated by another process between them. Choices take turns, image by image. The device is
this machine slowed down: after its work it sleeps a multiple of the time that it took, and its profile is multiplied by
the same factor. All on the device needs no link, and is left out of the errors. Launch on an idle machine, data being
the folder of configs/data/cifar10_jpeg.yaml:

    scripts/benchmarks/bench_planner --data_root FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.benchmarks.link_emulation import EmulatedLink
from splitlearn.codecs import CodecError
from splitlearn.config.images import validation_images
from splitlearn.config.packaged import trained
from splitlearn.files import write_json
from splitlearn.latencies import CoderLatency, Latency, LatencyProfile, PictureLatency
from splitlearn.reporting import processor
from splitlearn.reporting.terminal import print_table
from splitlearn.runtime import Answer, Device, EdgeClient, EdgeServer, OnnxEdge, Package, write_package
from splitlearn.runtime.forms import form_from
from splitlearn.runtime.package_file import EDGE
from splitlearn.runtime.package_latency import time_packages
from splitlearn.runtime.planner import ON_DEVICE, PICTURE, Choice, LinkPlan, Plan, make_plan
from splitlearn.tasks import quieten, run_record

CONFIGS = Path(__file__).parents[2] / "configs"
BANK, QUICKSTART = CONFIGS / "datta2022" / "bank_resnet20_layer3.yaml", CONFIGS / "quickstart.yaml"
CUTS = ("layer1", "layer2")
LINKS = {  # bits a second, milliseconds there and back
    "200 kbit/s, 20 ms": (2e5, 20),
    "1 Mbit/s, 50 ms": (1e6, 50),
    "5 Mbit/s, 10 ms": (5e6, 10),
    "50 Mbit/s, 5 ms": (5e7, 5),
}
NEAR = 1.1  # of the best measured latency: a choice as good as the best
Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Network:
    """One network with its packages.

    Attributes:
        name: of the network.
        folders: of its packages.
        images: uint8 `(H, W, 3)` each.
    """

    name: str
    folders: Sequence[Path]
    images: Images


class PictureEdge(OnnxEdge):
    """An edge that also answers JPEG and WebP files, by the whole network."""

    def __init__(self, package: Package) -> None:
        super().__init__(package)
        self._whole = whole(package)
        self._form = form_from(package.manifest["answers"])

    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the answers to a batch of one."""
        [payload] = payloads
        if not payload.startswith((b"\xff\xd8", b"RIFF")):
            return super().answer(payloads)
        return self._form(self._whole(np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"))))


def whole(package: Package) -> Callable[[NDArray[np.uint8]], Any]:
    """Return the graphs of a package from image to output, without coders; those of one rate contain its bottleneck."""
    device, edge = Device(package), package.graph(EDGE)
    return lambda image: edge.run(device.crossing(image))


def serve(folder: Path, ports: Queue[int]) -> None:
    """Serve a package until the process is ended, after telling the port."""

    async def run() -> None:
        edge = PictureEdge(Package(folder))
        edge.warm_up()
        async with EdgeServer(edge, max_batch=1) as server:
            ports.put(server.port)
            await server.wait()

    asyncio.run(run())


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Serve a package in a process of its own; gives its port."""
    context = multiprocessing.get_context("spawn")
    ports: Queue[int] = context.Queue()
    process = context.Process(target=serve, args=(folder, ports), daemon=True)
    process.start()
    try:
        yield ports.get(timeout=120)
    finally:
        process.terminate()
        process.join()


def networks(out: Path, data_root: Path, count: int) -> list[Network]:
    """Package both networks, unless that was done before."""
    cuts = [("--model.model.net.at", cut) for cut in CUTS]
    found = []
    for name, config, root, all_words in (
        ("ResNet-20", BANK, data_root, [()]),
        ("ResNet-8", QUICKSTART, None, cuts),
    ):
        folders = []
        for number, words in enumerate(all_words):
            folder = out / "packages" / f"{name}_{number}"
            model, data, answers = trained(config, None, root, words)
            pictures = validation_images(data, count)
            images = (pictures.numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1).copy()
            if not folder.exists():
                print(f"Packaging {name}, cut at {model.net.at} …")
                write_package(model, folder, images, answers)
            folders.append(folder)
        found.append(Network(name, folders, list(images)))
    return found


def slowed(profile: LatencyProfile, factor: float) -> LatencyProfile:
    """Return the profile of a machine that takes so many times as long."""

    def times(latency: Latency) -> Latency:
        return Latency(factor * latency.p50_ms, factor * latency.p95_ms)

    def coder(each: CoderLatency) -> CoderLatency:
        return replace(each, device=times(each.device), encode=times(each.encode))

    def picture(each: PictureLatency) -> PictureLatency:
        return replace(each, encode=times(each.encode))

    coders, pictures = tuple(map(coder, profile.coders)), tuple(map(picture, profile.pictures))
    return replace(profile, whole=times(profile.whole), coders=coders, pictures=pictures)


def sender(choice: Choice, device: Device) -> Callable[[NDArray[np.uint8]], object]:
    """Return what the device does for a choice: image → payload, or → output if all is on the device."""
    if choice.kind == ON_DEVICE:
        return whole(device.package)
    if choice.kind != PICTURE:
        return lambda image: device.compress(image, rate=choice.rate)
    name, quality = choice.at.split()

    def picture(image: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, name, quality=int(quality))
        return file.getvalue()

    return picture


async def measured(
    plan: Plan, devices: Mapping[str, Device], ports: Mapping[str, int], images: Images, rounds: int, slower: float
) -> list[float]:
    """Return the median milliseconds from image to answer of each choice of a plan.

    Args:
        plan: its choices.
        devices: of each package, by the module before its cut.
        ports: of the emulated link to each server, likewise.
        images: one after the other in turn.
        rounds: images for each choice.
        slower: how many times as long the device takes.
    """
    clients = {at: EdgeClient("127.0.0.1", port, devices[at].package.fingerprint) for at, port in ports.items()}
    for client in clients.values():
        await client.connect()
    first = next(iter(devices))
    places = [choice.at if choice.at in devices else first for choice in plan.choices]
    acts = [sender(choice, devices[at]) for choice, at in zip(plan.choices, places, strict=True)]
    took: list[list[float]] = [[] for _ in plan.choices]
    for number in range(rounds + 2):
        image = images[number % len(images)]
        for act, at, times in zip(acts, places, took, strict=True):
            start = time.perf_counter()
            payload = act(image)
            time.sleep((slower - 1) * (time.perf_counter() - start))  # more exact than the event loop's
            if isinstance(payload, bytes):
                await clients[at].ask(payload)
            times.append(1e3 * (time.perf_counter() - start))
    for client in clients.values():
        await client.close()
    return [median(times[2:]) for times in took]


def bench(network: Network, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return predicted and measured latencies of each choice over each link."""
    packages = [Package(folder) for folder in network.folders]
    profile = time_packages(packages, network.images, options.profile_rounds)
    device = slowed(profile, options.slower)
    devices = {str(package.manifest["cut"]): Device(package) for package in packages}
    rows = []
    with ExitStack() as servers:
        targets = {at: servers.enter_context(served(each.package.folder)) for at, each in devices.items()}
        for name, (bits, round_trip_ms) in LINKS.items():
            plan = make_plan(device, profile, LinkPlan(bits, round_trip_ms))
            with ExitStack() as links:
                opened = {
                    at: links.enter_context(EmulatedLink("127.0.0.1", port, bits, round_trip_ms / 1e3))
                    for at, port in targets.items()
                }
                ports = {at: link.port for at, link in opened.items()}
                found = asyncio.run(measured(plan, devices, ports, network.images, options.rounds, options.slower))
            for choice, ms in zip(plan.choices, found, strict=True):
                about = {"network": network.name, "link": name, "choice": choice.name, "kind": choice.kind}
                rows.append(about | {"predicted_ms": choice.total_ms, "measured_ms": ms})
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return median and worst relative error, and in how many settings the best of the plan is (nearly) the best."""
    errors = [abs(row["predicted_ms"] / row["measured_ms"] - 1) for row in rows if row["kind"] != ON_DEVICE]
    settings: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        settings.setdefault((row["network"], row["link"]), []).append(row)
    near = 0
    for found in settings.values():
        chosen = min(found, key=lambda row: float(row["predicted_ms"]))
        near += chosen["measured_ms"] <= NEAR * min(float(row["measured_ms"]) for row in found)
    return {
        "predictions": len(errors),
        "median_error": median(errors),
        "worst_error": max(errors),
        "settings": len(settings),
        "best_or_near": near,
    }


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    error = row["predicted_ms"] / row["measured_ms"] - 1
    name = f"{row['network']}, {row['link']}, {row['choice']}"
    return name, f"{row['predicted_ms']:.1f}", f"{row['measured_ms']:.1f}", f"{100 * error:+.0f} %"


def main() -> None:
    """Measure, print the table, leave a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="folder of CIFAR-10 as JPEG images")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=30, help="images for each choice over each link")
    parser.add_argument("--profile_rounds", type=int, default=100)
    parser.add_argument("--slower", type=float, default=20.0, help="how many times as long the device takes")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_planner"))
    options = parser.parse_args()
    quieten()
    load = os.getloadavg()[0]
    rows = [
        row for network in networks(options.out, options.data_root, options.images) for row in bench(network, options)
    ]
    found = summary(rows)
    about = {**run_record(), "processor": processor(), "load_average": load, "slower": options.slower}
    write_json(options.out / "results.json", {**about, **found, "rows": rows})
    columns = ("network, link, choice", "predicted ms", "measured ms", "error")
    print_table("from image to answer, medians", columns, map(cells, rows))
    print(
        f"{found['predictions']} predictions: median error {100 * found['median_error']:.1f} %, worst "
        f"{100 * found['worst_error']:.1f} %; best choice right or within 10 % in {found['best_or_near']} of "
        f"{found['settings']} settings"
    )
    print(f"{options.out / 'results.json'} written")


if __name__ == "__main__":
    main()
