"""Layouts of data sets with boxes: files and classes of COCO and YOLO, for any data module."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from splitlearn.data.annotations import read_categories, read_coco, read_yolo
from splitlearn.data.class_lists import check_declared, warn_of_unused
from splitlearn.data.finding import absolute_path
from splitlearn.data.letterbox import Labelled
from splitlearn.outputs import check_num_classes

__all__ = ["CocoLayout", "YoloLayout"]


class CocoLayout:
    """Folders of images, each with an instances json; a mix-in of data modules, whose attributes it reads."""

    root: str | Path
    train_images: str
    train_annotations: str
    test_images: str
    test_annotations: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories in the order of ids; raises DataError if there is no json, or it is damaged."""
        return tuple(self._categories.values())

    def _labelled_train(self, masks: bool = False) -> list[Labelled]:
        labelled = self._labelled(self.train_annotations, self.train_images, masks)
        _warn_of_unused(labelled, len(self._categories), absolute_path(self.root) / self.train_annotations)
        return labelled

    def _labelled_test(self, masks: bool = False) -> list[Labelled]:
        return self._labelled(self.test_annotations, self.test_images, masks)

    def _labelled(self, annotations: str, images: str, masks: bool) -> list[Labelled]:
        root = absolute_path(self.root)
        return read_coco(root / annotations, root / images, self._categories, masks)

    @cached_property
    def _categories(self) -> dict[int, str]:
        root = absolute_path(self.root)
        test, train = root / self.test_annotations, root / self.train_annotations
        return read_categories(train if train.is_file() and not test.is_file() else test)


class YoloLayout:
    """Images in images/…, with text files in labels/…; a mix-in of data modules, whose attributes it reads."""

    root: str | Path
    train_images: str
    test_images: str
    names: list[str] | None
    _num_classes: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, or their indices."""
        return tuple(self.names or map(str, range(self._num_classes)))

    def _name_classes(self, num_classes: int, names: list[str] | None) -> None:
        check_num_classes(num_classes)
        if names is not None and len(names) != num_classes:
            raise ValueError(f"{len(names)} names are given for {num_classes} classes: name each class, or none")
        self.names = names
        self._num_classes = num_classes

    def _labelled_train(self) -> list[Labelled]:
        labelled = self._labelled(self.train_images)
        _warn_of_unused(labelled, self._num_classes, absolute_path(self.root) / self.train_images)
        return labelled

    def _labelled_test(self) -> list[Labelled]:
        return self._labelled(self.test_images)

    def _labelled(self, images: str) -> list[Labelled]:
        root = absolute_path(self.root)
        check_declared(root, self._num_classes, self.names)
        return read_yolo(root / images, self._num_classes)


def _warn_of_unused(labelled: list[Labelled], num_classes: int, place: Path) -> None:
    warn_of_unused((label for each in labelled for label in each.objects.labels.tolist()), num_classes, place)
