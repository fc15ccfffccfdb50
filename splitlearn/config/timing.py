"""Latencies of a network, a trained model, or packages, as named on a command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.config.messages import UsageError
from splitlearn.latencies import LatencyProfile, machine_facts, today
from splitlearn.runtime.package_file import Package
from splitlearn.runtime.package_latency import mean_answer_bytes, time_packages, time_pictures
from splitlearn.runtime.pictures import pictures_of
from splitlearn.runtime.preparation import ResizeTo

if TYPE_CHECKING:
    from torch import Tensor, nn

Images = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Conditions:
    """How latencies are measured.

    Attributes:
        photos: folder of images; None for the images of the config, if there is a config.
        images: number of images, evenly spaced among all.
        rounds: number of timed rounds.
        threads: number of threads of torch or onnxruntime.

    Raises:
        UsageError: if a number is too small.
    """

    photos: Path | None
    images: int
    rounds: int
    threads: int

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--images", self.images, 1),
            ("--rounds", self.rounds, 2),
            ("--threads", self.threads, 1),
        ):
            if value < least:
                raise UsageError(f"{option} must be at least {least}, got {value}")


def package_latencies(folders: Sequence[Path], conditions: Conditions) -> LatencyProfile:
    """Return the latencies of packages of one network, without torch.

    Args:
        folders: folders of the packages.
        conditions: how latencies are measured; payload sizes and coding times depend on the photos.

    Raises:
        UsageError: if there are no photos.
    """
    from splitlearn.runtime.device import Device

    if conditions.photos is None:
        raise UsageError("a package is timed on images, on which sizes and times depend: give --photos FOLDER")
    packages = [Package(folder) for folder in folders]
    device = Device(packages[0], conditions.threads)
    pixels = [device.prepare(each.read()) for each in _spread(pictures_of(conditions.photos), conditions.images)]
    return time_packages(packages, pixels, conditions.rounds, conditions.threads)


def network_latencies(
    network: nn.Module, shape: tuple[int, ...], names: Sequence[str], conditions: Conditions
) -> LatencyProfile:
    """Return the latencies of a network's modules in torch, on noise, and of image files if there are photos.

    Args:
        network: any network of images.
        shape: `(C, H, W)` of one image.
        names: modules to time.
        conditions: how latencies are measured.
    """
    import torch

    pixels: Images = []
    if conditions.photos is not None:
        size = ResizeTo(*shape[1:])
        chosen = _spread(pictures_of(conditions.photos), conditions.images)
        pixels = [np.asarray(size(each.read())) for each in chosen]
    given = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return _profile(network, given, names, pixels, conditions)


def trained_latencies(
    config: Path | None,
    ckpt_path: Path | None,
    data_root: Path | None,
    names: Sequence[str] | None,
    depth: int | None,
    conditions: Conditions,
) -> LatencyProfile:
    """Return the latencies of a trained model in torch: modules of its network, all rates, and image files.

    Args:
        config: a config of splitlearn test; None for the one in the checkpoint.
        ckpt_path: checkpoint of splitlearn fit; None if the config's model is trained.
        data_root: folder of the config's images.
        names: modules to time; None for those of `depth` and the cut.
        depth: largest number of dots in names of modules.
        conditions: how latencies are measured.

    Raises:
        UsageError: if there is no data, or no model with a cut.
        CutError: if the network has no module of a name.
    """
    from splitlearn.analysis.latency import time_coders
    from splitlearn.config.images import validation_images
    from splitlearn.config.packaged import trained
    from splitlearn.data import read_photos
    from splitlearn.models import check_name
    from splitlearn.runtime.fingerprint import fingerprint_of
    from splitlearn.runtime.torch_edge import TorchEdge

    model, data, answers = trained(config, ckpt_path, data_root)
    if data is None:
        raise UsageError(f"{ckpt_path} names no data, on which sizes and times depend: give its config, --config FILE")
    network = model.net.network()
    for name in names or ():
        check_name(network, name)
    if conditions.photos is None:
        pictures = validation_images(data, conditions.images)
    else:
        pictures = read_photos(conditions.photos, data.eval_view(), conditions.images)
    pixels = (pictures.numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    files = list(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    given = pictures[:1] if model.normalize is None else model.normalize(pictures[:1])
    found = _profile(network, given, names or module_names(network, depth, {model.net.at}), files, conditions)
    with _threads(conditions.threads):
        coders = time_coders(model, pictures, conditions.rounds, fingerprint_of(model))
        size = mean_answer_bytes(TorchEdge(model, answers), model.compress(list(pictures)))
    return replace(found, coders=coders, answer_bytes=size)


def module_names(network: nn.Module, depth: int | None, beside: set[str]) -> list[str]:
    """Return the names of the modules to time, as in `model.named_modules()`.

    Args:
        network: any network of images.
        depth: largest number of dots in a name; None for 1, or the core modules of R-CNN detectors.
        beside: names of deeper modules that are wanted too.
    """
    from splitlearn.analysis import core_modules
    from splitlearn.analysis.detector_profile import is_rcnn

    if depth is None and is_rcnn(network):
        return sorted({*core_modules(network), *beside} - {""})
    most = 1 if depth is None else depth
    return [name for name, _ in network.named_modules() if name and (name.count(".") <= most or name in beside)]


def _profile(
    network: nn.Module, given: Tensor, names: Sequence[str], pixels: Images, conditions: Conditions
) -> LatencyProfile:
    import torch

    from splitlearn.analysis.latency import time_modules

    with _threads(conditions.threads):
        modules, whole = time_modules(network, given, names, conditions.rounds)
    return LatencyProfile(
        network=type(network).__name__,
        input_shape=tuple(given.shape[1:]),
        engine="torch",
        threads=conditions.threads,
        batch=1,
        rounds=conditions.rounds,
        machine=machine_facts(torch=str(torch.__version__)),
        date=today(),
        whole=whole,
        whole_has_bottleneck=False,
        modules=modules,
        pictures=time_pictures(pixels, conditions.rounds) if pixels else (),
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute on some threads, for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, evenly spaced."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]
