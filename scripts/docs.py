"""Build the site from docs/ into build/site: tutorials run, the reference is made of the code, links are checked."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from scripts.documentation.links import broken_in_site

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("sphinx", "furo", "myst_nb", "onnxruntime", "pytest", "hypothesis")
WEIGHTS = "checkpoints/resnet8_digits.safetensors"


def main() -> int:
    """Build the site; return 1 if there was a warning, a tutorial failed, or a link inside leads nowhere."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build/site", help="folder of the site; build/site if not given"
    )
    parser.add_argument("--draft", action="store_true", help="show the code of tutorials without running it")
    options = parser.parse_args()
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        extras = "docs,onnx,testing"
        remedy = f"pip install 'splitlearn[{extras}]', or scripts/environment {extras}"
        return _complain(f"{', '.join(absent)} is not installed here: {remedy}")
    if not (ROOT / WEIGHTS).is_file():
        return _complain(f"tutorials need {WEIGHTS}, which is not here: take a whole checkout of the project")
    from sphinx.cmd.build import build_main

    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)  # pages of before would hide links to what is gone
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads only wait for each other on networks this small
    words = ["-W", "--keep-going", "-b", "html", "-d", str(out.parent / "doctrees")]
    words += ["-D", "nb_execution_mode=off"] if options.draft else ["-E"]
    if status := int(build_main([*words, str(ROOT / "docs"), str(out)])):
        return status
    broken = broken_in_site(out)
    print("\n".join(broken) or f"links inside lead somewhere; open {out / 'index.html'}")
    return int(bool(broken))


def _complain(message: str) -> int:
    print(f"scripts/docs: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
