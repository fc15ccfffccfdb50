"""Designs and weights of ultralytics' YOLO networks by name, without reading the working directory.

Ultralytics first searches the working directory, where it evaluates text in designs and unpickles weights. For safety,
designs are read only from the installed package, and weights are read as data.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitlearn.models.networks.weight_files import WeightsError, read_pickled_modules
from splitlearn.models.networks.weights import misfits

OF_CLASSES = r"model\.{head}\.((one2one_)?cv3|linear)\."  # layers with a shape that depends on the number of classes
WHERE = "https://github.com/ultralytics/assets"


def import_ultralytics() -> None:
    """Disable automatic installations by ultralytics, and raise ImportError if it is not installed."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # it would install packages, for instance on a damaged image
    try:
        import ultralytics  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError("networks of ultralytics need it installed: pip install 'splitlearn[yolo]'") from error


def yolo(name: str) -> Any:
    """Return ultralytics' network of that name with random weights; raises FileNotFoundError if it has none."""
    from ultralytics import YOLO

    design = _design(name)
    with TemporaryDirectory() as folder:
        named = Path(folder) / f"{_plain(name)}.yaml"  # the file name sets the scale
        shutil.copyfile(design, named)
        model: Any = YOLO(str(named)).model
    model.yaml["yaml_file"] = f"{name}.yaml"
    return model


def published_names() -> frozenset[str]:
    """Return the names of ultralytics' published networks."""
    from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS

    return frozenset(GITHUB_ASSETS_STEMS)


def load_published(model: nn.Module, name: str, ask: Callable[[Callable[[], Path], str, bool], Path]) -> None:
    """Load published weights into a network; layers for another number of classes stay unchanged.

    `ask` gets a function that downloads a file, its address, and whether the file is cached; it returns the path.
    Raises WeightsError if the weights cannot be downloaded, or belong to another network.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.pt"
    state = _network_in(read_pickled_modules(ask(lambda: _download(file), f"{WHERE} ({file.name})", file.is_file())))
    mine = model.state_dict()
    start = re.compile(OF_CLASSES.format(head=len(cast("nn.Sequential", model.model)) - 1))
    renewed = {key for key in mine.keys() & state.keys() if mine[key].shape != state[key].shape and start.match(key)}
    fitting = {key: tensor for key, tensor in state.items() if key not in renewed}
    if problems := misfits({key: tensor for key, tensor in mine.items() if key not in renewed}, fitting):
        raise WeightsError(
            f"{file} does not hold the weights of {name} ({problems[0]}): delete it, or give a safetensors file"
        )
    model.load_state_dict(fitting, strict=False)


def _plain(name: str) -> str:
    """Return a name without the u of YOLOv3u and YOLOv5u, which file names of designs lack."""
    return re.sub(r"^(yolov[35].*)u$", r"\1", name)


def _design(name: str) -> Path:
    from ultralytics.utils import ROOT

    stem = _plain(name)
    designs = {path.stem: path for path in sorted(Path(ROOT, "cfg", "models").rglob("*.yaml"))}
    for known in (stem, re.sub(r"(\d+)[nslmx](.*)$", r"\1\2", stem)):  # yolov8n is a scale of yolov8
        if known in designs:
            return designs[known]
    raise FileNotFoundError(f"ultralytics has no design {name}")


def _download(file: Path) -> Path:
    from ultralytics.utils.downloads import attempt_download_asset

    file.parent.mkdir(parents=True, exist_ok=True)
    attempt_download_asset(str(file))
    return file


def _network_in(content: Any) -> dict[str, Tensor]:
    """Return the tensors of the network in an ultralytics checkpoint, averaged ones if available."""
    found = content if isinstance(content, Mapping) else {}
    return dict(_tensors(found.get("ema") or found.get("model")))


def _tensors(module: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module that was read as data."""
    parts = getattr(module, "__dict__", {})
    for kind in ("_parameters", "_buffers"):
        named = parts.get(kind)
        for name, tensor in (named if isinstance(named, Mapping) else {}).items():
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor.detach()
    children = parts.get("_modules")
    if isinstance(children, Mapping) and depth < 32:
        for name, child in children.items():
            yield from _tensors(child, f"{prefix}{name}.", depth + 1)
