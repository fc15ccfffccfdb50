"""Imported before all else by scripts that are run by their names: they go on in the project's own environment.

Where the Python that `/usr/bin/env` finds has all that is needed, nothing happens. Otherwise `scripts/environment`
sets `.venv` up, as for scripts/demo and scripts/test, and the script starts again with that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = {  # that extras bring
    "bench": ("lz4", "constriction"),
    "detection": ("faster_coco_eval",),
    "images": ("pillow_heif",),
    "yolo": ("ultralytics",),
}
EXTRAS = {
    "bench_codecs": ("bench",),
    "bench_distillation": ("detection",),
    "carra2023": ("detection", "images", "yolo"),
    "cohen2020": ("detection", "images", "yolo"),
    "datta2022": ("images",),
    "matsubara2020": ("detection",),
}


def ensure(script: str) -> None:
    """Start a script again in the project's own environment, set up if need be, unless this Python has all it needs."""
    extras = EXTRAS.get(Path(script).name, ())
    needed = ("torch", "torchvision", "lightning", "splitlearn", *(name for e in extras for name in MODULES[e]))
    absent = ", ".join(name for name in needed if find_spec(name) is None)
    if not absent:
        return
    own = ROOT / ".venv"
    if Path(sys.prefix) == own and (own / f".installed-{','.join(extras) or 'core'}").exists():
        sys.exit(f"{script} needs {absent}, which {own} has lost: delete that folder and start again")
    if subprocess.run([ROOT / "scripts" / "environment", *([",".join(extras)] if extras else [])]).returncode:
        sys.exit(f"{script} needs {absent}, and scripts/environment could not install it: see what it says above")
    os.execv(own / "bin" / "python", [str(own / "bin" / "python"), *sys.argv])


ensure(sys.argv[0])
