"""Networks by name, with weights from local files or published by their library."""

import difflib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse
from urllib.request import urlopen

import torch
from torch import nn

from splitlearn.models.networks.published_yolo import import_ultralytics, load_published, published_names, yolo
from splitlearn.models.networks.same_padding import same_padding
from splitlearn.models.networks.weight_files import SUFFIXES
from splitlearn.models.networks.weights import WeightsError, load_weights
from splitlearn.outputs import check_num_classes
from splitlearn.processes import find_own_classes
from splitlearn.resource_errors import raised_as

__all__ = ["backbone", "mobilenet_v2_same"]

T = TypeVar("T")
DETECTORS = ("faster_rcnn", "mask_rcnn", "keypoint_rcnn")
AUXILIARY = "aux_classifier"  # second head of torchvision's segmentation networks, used only in their training


def backbone(name: str, weights: str | None = None, num_classes: int | None = None) -> nn.Module:
    """Return a network by name, with random weights, weights of a local file, or published weights of its library.

    | name | network | weights, besides a local file |
    |---|---|---|
    | torchvision/resnet50 | of torchvision | IMAGENET1K_V2, DEFAULT, … |
    | timm/vit_tiny_patch16_224 | of timm | pretrained, or the name of a tag |
    | ultralytics/yolov8n | of ultralytics | pretrained |
    | my_package.MyNet | your own class or function; the working directory is also searched | |
    | faster_rcnn/resnet18 | `faster_rcnn`, `mask_rcnn` or `keypoint_rcnn` with that backbone | COCO_V1 (resnet50) |
    | resnet20 | first match among splitlearn's CIFAR networks, torchvision and timm | as in its library |

    The auxiliary head of torchvision's segmentation networks is removed: it does not affect predictions, and its input
    would have to cross the cut.

    Args:
        name: name as above.
        weights: None, the path of a file for `load_weights`, or a name as above, which downloads. If your own network
            has an argument `weights`, it receives the value unchanged.
        num_classes: width of the classifier; None keeps the library's. If published weights have another number of
            classes, the layers that depend on it start at random and must be trained.

    Raises:
        ValueError: if the network does not exist; the message names similar ones.
        FileNotFoundError: if `weights` is the path of a missing file.
        WeightsError: if the weights do not fit or cannot be downloaded.
        ImportError: if the library is not installed.
    """
    if num_classes is not None:
        check_num_classes(num_classes)
    return _builder(name)(weights, num_classes)


def mobilenet_v2_same(weights: str | Path | None = None, num_classes: int = 1000) -> nn.Module:
    """Return torchvision's MobileNetV2 with SAME padding, for weights converted from TensorFlow, such as Coral's.

    Args:
        weights: path of a safetensors file with torchvision's keys; None for random weights.
        num_classes: width of the classifier.

    Raises:
        FileNotFoundError: if the file does not exist.
        WeightsError: if the file belongs to another architecture.

    Reference: Sandler et al. 2018.
    """
    from torchvision.models import mobilenet_v2  # slow to import

    model: nn.Module = same_padding(mobilenet_v2(num_classes=num_classes))
    if weights is not None:
        load_weights(model, weights)
    return model


Builder = Callable[[str | None, int | None], nn.Module]  # (file or name of weights, number of classes)


def _builder(name: str) -> Builder:
    library, slash, short = name.partition("/")
    if slash:
        builders = {"torchvision": _torchvision, "timm": _timm, "ultralytics": _ultralytics}
        if library in DETECTORS:
            return _with_files(partial(_detector, _imported(f"{__package__}.detectors.{library}"), short))
        if library not in builders:
            known = ", ".join([*builders, *DETECTORS])
            raise ValueError(f"unknown library {library!r} in {name!r}: use one of {known}")
        return _with_files(partial(builders[library], short))
    path = name if "." in name else _cifar_networks().get(name)
    if path is not None and (theirs := _of_torchvision(path)):
        return _with_files(partial(_torchvision, theirs))
    if path is None:
        return _with_files(partial(_first_library, name))
    if "." in name:
        find_own_classes()
    return partial(_own, path, _imported(path))


def _with_files(build: Builder) -> Builder:
    """Return a builder that also accepts weights files."""

    def built(weights: str | None, num_classes: int | None) -> nn.Module:
        if weights is None or not is_path(weights):
            return build(weights, num_classes)
        model = build(None, num_classes)
        load_weights(model, weights, unused=f"{AUXILIARY}.")
        return model

    return built


def _detector(build: Callable[..., nn.Module], name: str, weights: str | None, num_classes: int | None) -> nn.Module:
    return build(name, weights=weights, **({} if num_classes is None else {"num_classes": num_classes}))


def _first_library(name: str, weights: str | None, num_classes: int | None) -> nn.Module:
    from torchvision.models import list_models

    if name in list_models():
        return _torchvision(name, weights, num_classes)
    import timm

    if timm.is_model(name):
        return _timm(name, weights, num_classes)
    raise _unknown(name, [*_cifar_networks(), *list_models(), *timm.list_models()])


def _torchvision(name: str, weights: str | None, num_classes: int | None) -> nn.Module:
    from torchvision import models

    if name not in models.list_models():
        raise _unknown(name, models.list_models())
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    arguments: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    # detectors download a pretrained backbone unless told not to
    arguments |= {"weights_backbone": None} if "weights_backbone" in accepted else {}
    if weights is None:
        model: nn.Module = models.get_model(name, weights=None, **arguments)
        return model
    published = models.get_model_weights(name)
    if weights not in published.__members__:
        raise WeightsError(f"{name} has no weights {weights!r}: use {', '.join(published.__members__)} or a local file")
    chosen = published[weights]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(chosen.url).path).name
    model = _downloaded(lambda: models.get_model(name, weights=chosen), chosen.url, cached.is_file())
    if hasattr(model, AUXILIARY):
        setattr(model, AUXILIARY, None)
    if num_classes is not None:
        _renew_classifier(model, models.get_model(name, weights=None, **arguments))
    return model


def _of_torchvision(path: str) -> str | None:
    """Return torchvision's name for a builder's import path; None for other paths."""
    from torchvision.models import list_models

    package, _, name = path.rpartition(".")
    return name if package.startswith("torchvision.models") and name in list_models() else None


def _renew_classifier(model: nn.Module, renewed: nn.Module) -> None:
    """Replace the layers whose shape depends on the number of classes."""
    old = model.state_dict()
    differing = {k.rpartition(".")[0] for k, v in renewed.state_dict().items() if k in old and v.shape != old[k].shape}
    for path in differing:
        model.set_submodule(path, renewed.get_submodule(path))


def _timm(name: str, weights: str | None, num_classes: int | None) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise _unknown(name, timm.list_models())
    if weights is None:
        model: nn.Module = timm.create_model(name, num_classes=num_classes)
        return model
    tagged = name if weights == "pretrained" else f"{name}.{weights}"
    tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    if not tags or (weights != "pretrained" and tagged not in tags):
        known = ", ".join(tag.partition(".")[2] for tag in tags) or "none"
        raise WeightsError(f"timm has no weights {weights!r} for {name}; its tags: {known}; or give a local file")
    import huggingface_hub as hub

    source = timm.get_pretrained_cfg(tagged).hf_hub_id
    cached = any(isinstance(hub.try_to_load_from_cache(source, f"model.{end}"), str) for end in ("safetensors", "bin"))
    address = f"{hub.constants.ENDPOINT}/{source}"
    make = partial(timm.create_model, tagged, pretrained=True, num_classes=num_classes)
    network: nn.Module = _downloaded(make, address, cached)
    return network


def _ultralytics(name: str, weights: str | None, num_classes: int | None) -> nn.Module:
    import_ultralytics()
    if weights not in (None, "pretrained"):
        raise WeightsError(
            f"ultralytics has no weights {weights!r}: use 'pretrained' or a local file, or leave it out for random ones"
        )
    try:
        model: Any = yolo(name)
    except (FileNotFoundError, NotImplementedError) as error:  # no such design, or not of a task of YOLO's
        raise _unknown(name, published_names()) from error
    if num_classes is not None:
        model = type(model)(model.yaml, nc=num_classes, verbose=False)
    _activate_pooling(model)
    if weights is not None:
        load_published(model, name, _downloaded)
    network: nn.Module = model
    return network


def _activate_pooling(model: Any) -> None:
    """Restore the activation of the pooling layer in YOLOv5u, v8 and 11, with which their weights were trained.

    YOLO26 removed it, and some releases of ultralytics 8.4 also remove it from older networks, which costs YOLOv8n half
    a point of mAP. In a network's yaml, rows of the new layer have more arguments than width and kernel.
    """
    rows = [*model.yaml["backbone"], *model.yaml["head"]]
    for (_, _, kind, arguments), layer in zip(rows, model.model, strict=True):
        if kind == "SPPF" and len(arguments) <= 2:
            layer.cv1.act = layer.cv2.act


def _own(path: str, target: Callable[..., Any], weights: str | None, num_classes: int | None) -> nn.Module:
    given: dict[str, Any] = {"num_classes": num_classes, "weights": weights}
    given = {name: value for name, value in given.items() if value is not None}
    accepted = _signature(target).parameters
    if num_classes is not None and "num_classes" not in accepted:
        raise ValueError(f"{path} takes no num_classes: leave it out")
    if "weights" in accepted:
        return _made(path, target, given)
    given.pop("weights", None)
    model = _made(path, target, given)
    if weights is not None:
        if not is_path(weights):
            raise WeightsError(f"{path} has no published weights {weights!r}: give a file of weights")
        load_weights(model, weights)
    return model


def _made(path: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> nn.Module:
    try:
        _signature(target).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{path} cannot be made by its name alone ({error}): name a function that makes it") from error
    model = target(**arguments)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{path} makes a {type(model).__name__}, and a torch.nn.Module is needed")
    return model


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a callable; an empty one if unknown, as for some built-in functions."""
    try:
        return inspect.signature(target)
    except ValueError:
        return inspect.Signature()


def _imported(path: str) -> Callable[..., Any]:
    module, _, attribute = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"cannot import {path!r}: {error}") from error
    target = getattr(found, attribute, None)
    if not callable(target):
        raise _unknown(path, [f"{module}.{known}" for known in vars(found) if not known.startswith("_")])
    return target  # type: ignore[no-any-return]


def _cifar_networks() -> dict[str, str]:
    """Return the import path of each builder in the modules `*_cifar` of this package, by name."""
    package = __name__.rpartition(".")[0]
    files = pkgutil.iter_modules([str(Path(__file__).parent)])
    modules = [importlib.import_module(f"{package}.{f.name}") for f in files if f.name.endswith("_cifar")]
    return {name: f"{m.__name__}.{name}" for m in modules for name in m.__all__ if inspect.isfunction(vars(m)[name])}


def _downloaded(load: Callable[[], T], address: str, cached: bool) -> T:
    """Load published weights after a check of the connection, because libraries wait or retry for minutes."""
    remedy = "set `weights` to the path of a local file instead"
    # OSError is the base class of all connection errors
    with raised_as(lambda error: WeightsError(f"cannot download {address} ({error}): {remedy}"), OSError):
        if not cached:
            urlopen(address.partition(" ")[0], timeout=5).close()
        return load()


def _unknown(name: str, known: Iterable[str]) -> ValueError:
    close = difflib.get_close_matches(name, sorted(set(known)), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "name a library's or the import path of your own"
    return ValueError(f"there is no network named {name!r}; {hint}")


def is_path(weights: str) -> bool:
    """Return whether this names a file, existing or not, rather than published weights."""
    return Path(weights).suffix in SUFFIXES or os.sep in weights or Path(weights).is_file()
