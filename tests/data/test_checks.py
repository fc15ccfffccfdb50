"""What a user's transforms return is brought to the form of batches, or refused with the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.tv_tensors import BoundingBoxes, Mask

from splitlearn.data import CocoObjects, DataError, Digits, PennFudan, YoloObjects
from splitlearn.data.checks import floats_of
from splitlearn.data.images import FileImages
from splitlearn.data.masks import IdTable, Masked, MaskedImages
from splitlearn.outputs import Boxes

SCALED, UNSCALED = (v2.ToDtype(torch.float32, scale=scale) for scale in (True, False))
NORMALIZED = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CENTRED = v2.Normalize([0.485, 0.456, 0.406], [1, 1, 1])


class Act(nn.Module):
    """A transform of a user's own."""

    def __init__(self, act: Callable[..., Any]) -> None:
        super().__init__()
        self.act = act

    def forward(self, *given: Any) -> Any:
        return self.act(*given)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images 20 wide and 10 high with two objects each, in the layouts of YOLO, COCO and Penn-Fudan."""
    noise = torch.randint(0, 256, (10, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise[0, 0], noise[0, 1] = 255, 0
    ids = torch.zeros(10, 20, dtype=torch.uint8)
    ids[2:4, 3:9], ids[5:10, 12:20] = 1, 2
    for folder in ("images/all", "labels/all", "PNGImages", "PedMasks"):
        (tmp_path / folder).mkdir(parents=True)
    for n in range(2):
        for folder in ("images/all", "PNGImages"):
            Image.fromarray(noise.numpy()).save(tmp_path / folder / f"{n}.png")
        Image.fromarray(ids.numpy()).save(tmp_path / f"PedMasks/{n}_mask.png")
        (tmp_path / f"labels/all/{n}.txt").write_text("0 .3 .3 .3 .2\n1 .8 .75 .4 .5\n")
    annotations = [
        {"image_id": n, "category_id": 1 + crowd, "bbox": box, "iscrowd": crowd}
        for n in range(2)
        for crowd, box in enumerate(([3, 2, 6, 2], [12, 5, 8, 5]))
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 20, "height": 10} for n in range(2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    return tmp_path


def built(kind: str, root: Path, transform: nn.Module | None) -> Any:
    if kind == "coco":
        places = dict.fromkeys(("train_images", "test_images"), "images/all")
        jsons = dict.fromkeys(("train_annotations", "test_annotations"), "all.json")
        return CocoObjects(root, **places, **jsons, val_size=1, transform=transform)  # type: ignore[arg-type]
    if kind == "yolo":
        return YoloObjects(root, "images/all", "images/all", 2, val_size=1, transform=transform)
    return PennFudan(root, test_size=1, val_size=1, transform=transform)


def one(kind: str, root: Path, transform: nn.Module | None) -> tuple[Tensor, Boxes]:
    """Return the first training image, uint8, and its objects."""
    data = built(kind, root, transform)
    images: Any = (
        data.load_train()[0] if kind != "masks" else data.load_test()
    )  # two images are too few for three parts
    if kind == "masks":
        images.transform = transform
    pair: tuple[Tensor, Boxes] = images[0]
    return pair


@pytest.mark.parametrize("kind", ["coco", "yolo", "masks"])
@pytest.mark.parametrize(
    "transform",
    [
        SCALED,
        v2.Compose([v2.ToDtype(torch.float64, scale=True), v2.ToDtype(torch.uint8, scale=True)]),
        v2.ToDtype(torch.float16, scale=True),
        v2.ConvertBoundingBoxFormat("XYWH"),
        v2.Compose([v2.ConvertBoundingBoxFormat("CXCYWH"), SCALED]),
        v2.ToPILImage(),
        v2.SanitizeBoundingBoxes(),
        Act(lambda image, target: [image.as_subclass(Tensor), dict(target)]),
    ],
)
def test_what_is_harmless_is_converted(root: Path, kind: str, transform: nn.Module) -> None:
    image, objects = one(kind, root, transform)
    same, expected = one(kind, root, None)
    assert image.dtype == torch.uint8
    assert (image.int() - same.int()).abs().max() <= (1 if isinstance(transform, v2.ToDtype) else 0)
    torch.testing.assert_close(objects.xyxy, expected.xyxy)
    assert objects.labels.tolist() == expected.labels.tolist()
    for name in ("crowd", "masks"):
        found, there = getattr(objects, name), getattr(expected, name)
        assert found is there is None or torch.equal(found, there)


@pytest.mark.parametrize("transform", [v2.Grayscale(), v2.Compose([SCALED, v2.Grayscale()])])
def test_one_channel_becomes_three(root: Path, transform: nn.Module) -> None:
    image, _ = one("yolo", root, transform)
    assert image.shape == (3, 10, 20)
    assert torch.equal(image[0], image[2])


def with_target(**changes: Callable[[dict[str, Any]], Any]) -> nn.Module:
    return Act(lambda image, target: (image, {**target, **{name: act(target) for name, act in changes.items()}}))


def boxes_as(form: str, boxes: Tensor) -> BoundingBoxes:
    return BoundingBoxes(boxes, format=form, canvas_size=(10, 20))


@pytest.mark.parametrize(
    ("kind", "transform", "message"),
    [
        ("yolo", v2.Compose([SCALED, NORMALIZED]), r"Compose returns values from -2.* to the model's `normalize`"),
        ("yolo", v2.Compose([SCALED, CENTRED]), r"values from -0\.485 to .* `normalize`"),
        ("yolo", UNSCALED, r"returns floats up to 255, so it has changed the type but not the range: use v2\.ToDtype"),
        ("yolo", v2.ToDtype(torch.int32, scale=True), r"returns int32 \(3, 10, 20\): let it return a tensor"),
        ("yolo", Act(lambda image, target: (image.permute(1, 2, 0), target)), r"returns uint8 \(10, 20, 3\)"),
        ("yolo", Act(lambda image, target: (image.numpy(), target)), "returns a ndarray: let it return a tensor"),
        ("yolo", Act(lambda image, target: image), "does not return an image and its objects"),
        ("yolo", Act(lambda image: image), r"fails on uint8 \(3, 10, 20\) and a dict \(TypeError: .*torchvision's v2"),
        ("yolo", v2.ToPureTensor(), r"boxes as a plain tensor .*: leave v2\.ToPureTensor out"),
        (
            "yolo",
            Act(lambda image, target: (image[:, :5], target)),
            r"\(5, 20\) but boxes for an image \(10, 20\)",
        ),
        ("yolo", Act(lambda image, target: (image, {})), "returns no boxes"),
        ("yolo", with_target(labels=lambda t: t["labels"][:1]), "returns 2 boxes and 1 labels: let it remove both"),
        ("yolo", with_target(labels=lambda t: t["labels"].float()), r"labels float32 \(2,\): .* as integers \(N,\)"),
        ("yolo", with_target(boxes=lambda t: t["boxes"] * float("nan")), "plain tensor"),
        (
            "yolo",
            with_target(boxes=lambda t: boxes_as("XYXY", t["boxes"] * float("inf"))),
            "boxes that hold NaN or infinity",
        ),
        (
            "yolo",
            with_target(boxes=lambda t: boxes_as("XYXY", 20 - t["boxes"])),  # mirrored by hand
            "boxes as XYXY of negative width or height: correct the boxes or their format",
        ),
        ("coco", with_target(boxes=lambda t: boxes_as("XYXY", t["boxes"].flip(1))), "boxes as XYXY of negative"),
        ("masks", with_target(boxes=lambda t: boxes_as("XYWH", -t["boxes"])), "boxes as XYWH of negative"),
        ("coco", with_target(labels=lambda t: t["labels"] + 1), "second column of the labels, which marks crowds"),
        ("coco", with_target(labels=lambda t: t["labels"][:, 0]), r"as integers \(N, 2\): class and crowd mark"),
        (
            "masks",
            with_target(masks=lambda t: Mask(t["masks"][:, :5])),
            r"masks bool \(2, 5, 20\), but .* require \(2, 10, 20\)",
        ),
        ("masks", with_target(masks=lambda t: t["masks"][:1]), r"masks bool \(1, 10, 20\)"),
        ("masks", with_target(masks=lambda t: None), "returns masks a NoneType"),
    ],
)
def test_what_is_not_is_refused(root: Path, kind: str, transform: nn.Module, message: str) -> None:
    with pytest.raises(DataError, match=message):
        one(kind, root, transform)


def test_a_type_changed_without_its_range_is_told(root: Path) -> None:
    with pytest.warns(UserWarning, match="returns integers of 0 and 1, so it has changed the type but not the range"):
        one("yolo", root, v2.Compose([SCALED, v2.ToDtype(torch.uint8)]))


@pytest.mark.parametrize("divide", [lambda image: image.float() / 255**2, lambda image: image.double() / 255**2])
def test_a_picture_divided_once_too_often_is_told(root: Path, divide: Callable[[Tensor], Tensor]) -> None:
    with pytest.warns(UserWarning, match="makes bright images nearly black, like a division by 255: leave"):
        one("yolo", root, Act(lambda image, target: (divide(image), target)))


def digits(transform: nn.Module) -> Tensor:
    data = Digits(batch_size=8, train_transform=transform)
    data.setup("fit")
    batch, _ = next(iter(data.batches("train", augmented=True)))
    return batch


@pytest.mark.parametrize(
    "transform",
    [
        v2.ToDtype(torch.uint8, scale=True),
        v2.ToDtype(torch.float64, scale=True),
        v2.ToDtype(torch.bfloat16, scale=True),
        v2.Grayscale(),
        v2.ToImage(),
    ],
)
def test_batches_are_converted(transform: nn.Module) -> None:
    images = digits(transform)
    assert (images.dtype, images.shape, type(images)) == (torch.float32, (8, 3, 32, 32), Tensor)
    torch.testing.assert_close(images, digits(nn.Identity()), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (NORMALIZED, r"Normalize returns values from -2.*: leave normalization to the model's `normalize`"),
        (CENTRED, r"values from -0\.485"),
        (Act(lambda images: images * 255), r"returns floats up to 255, .*scale=True"),
        (
            Act(lambda images: images.long()),
            r"returns int64 \(8, 3, 32, 32\): let it return a tensor \(B, 3, H, W\)",
        ),
        (Act(lambda images: images[:3]), "returns 3 images for 8: let it keep their number"),
        (Act(lambda images: (images, 0)), "returns a tuple: let it return a tensor"),
        (Act(lambda images: images.div_(255)), r"Act makes bright images nearly black.*: leave it out"),
        (Act(lambda images: images / 255), r"Act makes bright images nearly black.*: leave it out"),
        (v2.Normalize([0.0] * 3, [255.0] * 3), "like a division by 255"),
        (Act(lambda images: images / 0), "returns values that are NaN or infinite: correct it"),
        (v2.MixUp(num_classes=10), r"MixUp fails on float32 \(8, 3, 32, 32\)"),
    ],
)
def test_batches_that_are_none_are_refused(transform: nn.Module, message: str) -> None:
    with pytest.raises(DataError, match=message):
        digits(transform)


@pytest.mark.parametrize("share", [0, 0.01, 0.1])
def test_batches_may_be_dark(share: float) -> None:
    assert digits(Act(lambda images: images * share)).max() == pytest.approx(share)


def test_the_trainers_way_looks_at_batches_too() -> None:
    data = Digits(train_transform=NORMALIZED)
    data.trainer = type("Training", (), {"training": True, "fit_loop": SimpleNamespace(batch_idx=-1)})()
    with pytest.raises(DataError, match="leave normalization to the model"):
        data.on_after_batch_transfer((torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1)), 0)


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_later_batches_are_not_waited_for(kind: torch.dtype) -> None:
    """A tensor without values stands for one on a GPU that is not computed yet."""
    made = torch.empty(2, 3, 8, 8, dtype=kind, device="meta")
    assert floats_of(made, NORMALIZED, torch.ones(2, 3, 8, 8), is_looked_at=False).dtype == torch.float32
    with pytest.raises((RuntimeError, NotImplementedError)):
        floats_of(made, NORMALIZED, torch.ones(2, 3, 8, 8), is_looked_at=True, was_bright=True)


@pytest.mark.parametrize(
    "view",
    [
        pil_to_tensor,
        v2.Compose([v2.ToImage(), SCALED]),
        v2.Grayscale(),
        v2.Compose([v2.ToImage(), v2.Grayscale()]),
        lambda image: image,
    ],
)
def test_views_are_converted(root: Path, view: Callable[..., Any]) -> None:
    files = [root / f"PNGImages/{n}.png" for n in range(2)]
    images, _ = FileImages(files, [0, 0], view).__getitems__([0, 1])
    assert (images.dtype, images.shape) == (torch.uint8, (2, 3, 10, 20))
    assert images.max() > 253
    assert torch.equal(images, FileImages(files, [0, 0], view).in_memory().images)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (v2.Compose([v2.ToImage(), SCALED, NORMALIZED]), "leave normalization to the model's `normalize`"),
        (lambda image: "none", "returns a str: let it return a tensor"),
        (lambda image: image.convert("CMYK"), "returns a PIL image of the mode CMYK: let it return L or RGB"),
        (lambda image: image.nothing, r"fails on a Image \(AttributeError"),
    ],
)
def test_views_that_make_no_image_are_refused(root: Path, view: Callable[..., Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FileImages([root / "PNGImages/0.png"], [0], view)[0]


def test_views_make_images_of_one_size(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "PNGImages/1.png")
    images = FileImages([root / f"PNGImages/{n}.png" for n in range(2)], [0, 0], lambda image: image)
    for read in (lambda: images.__getitems__([0, 1]), images.in_memory):
        with pytest.raises(DataError, match="returns several sizes of images"):
            read()


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (
            lambda image, mask: (image.resize((8, 8)), mask),
            r"an image \(8, 8\) without a mask of integers",
        ),
        (lambda image, mask: image, "a view of images and masks returns something else"),
        (lambda image, mask: (image, mask.float()), "without a mask of integers"),
    ],
)
def test_views_of_masks_are_looked_at(root: Path, view: Callable[..., Any], message: str) -> None:
    pairs = [Masked(root / "PNGImages/0.png", root / "PedMasks/0_mask.png")]
    with pytest.raises(DataError, match=message):
        MaskedImages(pairs, IdTable({"a": 0, "b": 1, "c": 2}), view)[0]


def test_data_sets_of_ones_own_may_ship_floats() -> None:
    data, images = Digits(), torch.rand(2, 3, 8, 8)
    for shipped in (images, images.double(), (images * 255).round().to(torch.uint8)):
        found, _ = data.on_after_batch_transfer((shipped, None), 0)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, images, rtol=0, atol=0.003)


@pytest.mark.parametrize(
    ("shipped", "message"),
    [
        (torch.randn(2, 3, 8, 8), r"the data set of Digits returns values .*: leave normalization to the model's"),
        (torch.rand(2, 3, 8, 8) * 255, "the data set of Digits returns floats up to 2.*, so it has changed the type"),
        (torch.ones(2, 3, 8, 8).long(), r"returns int64 \(2, 3, 8, 8\): let it return images as uint8"),
        ([torch.rand(3, 8, 8)], "returns a list"),
    ],
)
def test_what_else_data_sets_ship_is_refused(shipped: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Digits().on_after_batch_transfer((shipped, None), 0)
