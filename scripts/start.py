#!/usr/bin/env python3
"""Starts the script that a link to this file stands for: `scripts/papers/carra2023/run` runs `run.py` beside it.

Where the Python that `/usr/bin/env` finds has all that is needed, the script runs in that one. Otherwise
`scripts/environment` sets `.venv` up, as for scripts/demo and scripts/test, and the script starts again with that.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = {  # that extras bring
    "bench": ("lz4", "constriction"),
    "detection": ("faster_coco_eval",),
    "docs": ("sphinx", "furo", "myst_nb"),
    "images": ("pillow_heif",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "testing": ("pytest", "hypothesis"),
    "video": ("av",),
    "yolo": ("ultralytics",),
}
EXTRAS = {
    "scripts/benchmarks/bench_codecs": ("bench",),
    "scripts/benchmarks/bench_distillation": ("detection",),
    "scripts/benchmarks/check_packages": ("onnx", "yolo"),
    "scripts/benchmarks/bench_streams": ("video", "yolo"),
    "scripts/docs": ("docs", "onnx", "testing"),
    "scripts/papers/carra2023/run": ("detection", "images", "yolo"),
    "scripts/papers/cohen2020/run": ("detection", "images", "yolo"),
    "scripts/papers/datta2022/run": ("images",),
    "scripts/papers/matsubara2020/run": ("detection",),
    "scripts/papers/photographs/limits": ("detection", "yolo"),
    "scripts/papers/photographs/run": ("detection", "images", "yolo"),
    "scripts/papers/streams/run": ("detection", "video", "yolo"),
}


def ensure(script: str) -> None:
    """Start a script again in the project's own environment, set up if need be, unless this Python has all it needs."""
    extras = EXTRAS.get(script, ())
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


def start(link: Path) -> int | None:
    """Call `main` of the module beside a link, and return what it returns."""
    script = (link.parent.resolve() / link.name).relative_to(ROOT)
    ensure(str(script))
    sys.path[0] = str(ROOT)  # in place of this file's folder: scripts are a package there
    sys.argv[0] = str(script)
    status: int | None = importlib.import_module(".".join(script.parts)).main()
    return status


if __name__ == "__main__":
    sys.exit(start(Path(sys.argv[0])))
