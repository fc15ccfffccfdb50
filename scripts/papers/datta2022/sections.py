"""What scripts/papers/datta2022 searches: networks at two cuts each, and the two recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from scripts.papers.common.config_rows import DATTA
from splitlearn.models import backbone, mobilenet_v2_same, resnet20
from splitlearn.sweep import Axes, Curve, Study, Trial, curves_of

CUT = "model.model.net.at"
RATE = "val/bits_per_pixel"
PRINTED, FACTORIZED = "configs/datta2022/printed.yaml", "configs/datta2022/ours_factorized.yaml"
DEEPLAB = "deeplabv3_mobilenetv2"
DEEPLAB_CLASS = f"{DEEPLAB}.DeepLabMNV2"
WEIGHTED = ("--model.distillation_weight", "20")  # with 2, it does not fall in 200 steps of two images
CLASSES = 100  # of Caltech-101, without background and Faces_easy
JOURNAL = "journal.log"


@dataclass(frozen=True)
class Recipe:
    """A way to train, and the space that its points are drawn from.

    Attributes:
        name: in tables and plots.
        slug: in names of folders and files.
        configs: config files, stacked on trainer.yaml.
        space: YAML file of the search space.
        options: further words of the command line.
    """

    name: str
    slug: str
    configs: tuple[str, ...]
    space: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A network with its data, searched by two recipes at the same cuts, with as many trials each.

    Attributes:
        slug: in names of folders and files.
        title: of its part of the page.
        data: what the images are, and how uncertain scores on them are.
        metric: name of the score: accuracy or miou.
        score: the same, in headings of tables.
        cuts: where the network is divided.
        paper: the paper's recipe.
        ours: ours.
        network: builds the network, with weights that do not matter.
        shape: `(C, H, W)` of an image.
    """

    slug: str
    title: str
    data: str
    metric: str
    score: str
    cuts: tuple[str, str]
    paper: Recipe
    ours: Recipe
    network: Callable[[], nn.Module]
    shape: tuple[int, int, int]

    @property
    def recipes(self) -> tuple[Recipe, Recipe]:
        """Both recipes."""
        return self.paper, self.ours

    @property
    def axes(self) -> Axes:
        """Rate and score on the images held out, which choose the frontiers; `axes.tested` are those on test images."""
        return Axes(RATE, f"val/{self.metric}")

    def trials(self, runs: Path, recipe: Recipe) -> list[Trial]:
        """Return the trials of a recipe's sweep in a folder of runs; none if it has not begun."""
        folder = self.folder(runs, recipe)
        return Study(str(folder / JOURNAL), folder.name).trials() if (folder / JOURNAL).is_file() else []

    def curves(self, runs: Path, recipe: Recipe) -> list[Curve]:
        """Return a recipe's frontiers on images held out: over both cuts, then one a cut."""
        return curves_of(self.trials(runs, recipe), self.axes, CUT)

    def folder(self, runs: Path, recipe: Recipe) -> Path:
        """Return the folder of a recipe's sweep."""
        return runs / self.slug / recipe.slug


def _recipes(base: tuple[str, ...], space: str, of_ours: tuple[str, ...] = ()) -> tuple[Recipe, Recipe]:
    spaces = [f"configs/spaces/datta2022_{space}_{slug}.yaml" for slug in ("paper", "ours")]
    ours = Recipe("ours", "ours", (*base, FACTORIZED), spaces[1], of_ours)
    return Recipe("the paper's", "paper", base, spaces[0]), ours


RESNET = Section(
    "resnet20",
    "ResNet-20, CIFAR-10 (Figs. 4 and 6)",
    "CIFAR-10 as JPEG, quality 75; the standard error of an accuracy on 10,000 test images is 0.3 points",
    "accuracy",
    "accuracy %",
    ("layer2", "layer3"),
    *_recipes(DATTA, "cifar"),
    resnet20,
    (3, 32, 32),
)
MASKS = Section(
    "masks",
    "DeepLabv3-MobileNetV2, masks of COCO (Figs. 5 and 7)",
    "COCO's masks with VOC's 21 classes, images scaled and padded to 257×257 pixels; so few that a difference of "
    "some points of mIoU may be chance, and classes that only a few images show weigh as much as others; here the "
    "feature distillation of ours weighs 20 instead of 2, with which it had not begun to fall after 200 steps",
    "miou",
    "mIoU %",
    ("features.13", "features.17"),
    *_recipes(("configs/datta2022/deeplabv3_mobilenetv2.yaml", PRINTED), "masks", WEIGHTED),
    partial(backbone, DEEPLAB_CLASS),
    (3, 257, 257),
)
CALTECH = Section(
    "caltech101",
    "MobileNetV2, Caltech-101",
    "Caltech-101 in 100 classes, which a linear classifier on the frozen network tells apart "
    "(configs/photographs/caltech101_classifier.yaml; it was trained on most of the images held out here, which is "
    "alike for both recipes); the standard error of an accuracy on 1,714 test photographs is 0.7 points",
    "accuracy",
    "accuracy %",
    ("features.14", "features.17"),
    *_recipes(("configs/carra2023/mobilenet_v2.yaml", PRINTED), "caltech"),
    partial(mobilenet_v2_same, None, CLASSES),
    (3, 224, 224),
)
SECTIONS = (RESNET, MASKS, CALTECH)
