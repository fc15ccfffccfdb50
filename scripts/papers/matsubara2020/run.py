"""Rebuild docs/results/matsubara2020: Figs. 2 to 5 of Matsubara & Levorato 2020, with real bytes added.

Students are distilled as there, from the first block (HND), and as in the authors' next paper (2021) from all (GHND).

    scripts/papers/matsubara2020/run --data FOLDER     Penn-Fudan, small detectors trained here: see below
    … --protocol coco                                  COCO 2017, torchvision's detectors, as the paper; a GPU
    … --cifar10 FOLDER                                 and distillation against the task's loss, in ResNet-20
    … --layers-only                                    Figs. 2 to 4 alone: no data, half a minute
    … --trainer.devices 3 --data.num_workers 8         settings of all trainings, as of splitlearn fit

On one idle core, of Penn-Fudan: 20 minutes for each teacher, 8 for each of six students, one for each student's test;
about two and a half hours in all. Of COCO, days: the authors' code takes 20 epochs for each student, which has not been
tried here. A GPU is used where there is one, for the tests too. With CIFAR-10 (FOLDER/train/<class>/*.jpg,
FOLDER/test/<class>/*.jpg) 9 trainings of 3 epochs, a minute or two each epoch.
What is finished is not run again: a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.papers.common.page import about, record, write_page
from scripts.papers.matsubara2020.cifar import cifar_section
from scripts.papers.matsubara2020.layers import layers_section
from scripts.papers.matsubara2020.points import inputs_points, students_errors, students_points
from scripts.papers.matsubara2020.report import Found, detector_section
from scripts.papers.matsubara2020.runs import METHODS, NAMES, PROTOCOLS, Student, Teacher
from splitlearn.files import write_json

OUT = Path("docs/results/matsubara2020")
TITLE = "# Split R-CNN detectors: Matsubara & Levorato 2020\n"


def measured(
    teacher: Teacher, channels: list[int], longer: Student | None, data: str, images: int | None, words: Sequence[str]
) -> Found:
    """Train and distil what is not there by now, and return all points of a detector."""
    teacher.train(data, words)
    more = [longer] if longer is not None and longer.teacher == teacher else []
    students = [Student(teacher, method, count) for method in METHODS for count in channels] + more
    for student in students:
        student.train(data, words)
        print(f"{student.folder}: distilled", flush=True)
    points = {student: students_points(student, images) for student in students}
    errors = {student: students_errors(student, images) for student in students}
    return Found(teacher, inputs_points(students[0], images), points, errors)


def once_more(text: str) -> tuple[str, int, int]:
    """Read the words of `--longer`."""
    kind, *numbers = text.split(",")
    if kind not in NAMES or len(numbers) != 2 or not all(number.isdigit() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: a detector ({', '.join(NAMES)}), C and epochs, e.g. faster,6,32")
    return kind, int(numbers[0]), int(numbers[1])


def main() -> None:
    """Run all and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of Penn-Fudan or COCO")
    parser.add_argument("--protocol", default="pennfudan", choices=list(PROTOCOLS))
    parser.add_argument("--detectors", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--channels", nargs="+", type=int, default=[3, 6, 12])
    parser.add_argument(
        "--longer", type=once_more, metavar="DETECTOR,C,EPOCHS", help="a GHND student once more, e.g. faster,6,32"
    )
    parser.add_argument("--images", type=int, help="test images at most; by default all")
    parser.add_argument("--cifar10", help="folder with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--cifar-epochs", type=int, default=3)
    parser.add_argument("--layers-only", action="store_true")
    options, words = parser.parse_known_args()
    if words and not words[0].startswith(("--trainer.", "--data.")):
        parser.error(f"{words[0]} is none of its options, nor a setting of trainings, --trainer.… or --data.…")
    if options.data is None and not options.layers_only:
        parser.error("--data FOLDER is needed, unless --layers-only is given")
    protocol = PROTOCOLS[options.protocol]
    longer = None
    if options.longer is not None:
        kind, count, epochs = options.longer
        longer = Student(Teacher(protocol, kind), "GHND", count, epochs)
    out = OUT if options.protocol == "pennfudan" else OUT / options.protocol
    out.mkdir(parents=True, exist_ok=True)
    sections = [layers_section(out)]
    for kind in [] if options.layers_only else options.detectors:
        found = measured(Teacher(protocol, kind), options.channels, longer, options.data, options.images, words)
        sections.append(detector_section(found, out))
    if options.cifar10:
        sections.append(cifar_section(options.cifar10, options.cifar_epochs, out))
    facts = {"seed": 0, **record()}
    write_page(out / "README.md", [TITLE, about(facts), *sections])
    write_json(out / "run.json", facts)
    print(f"{out}: README.md and figures written")
