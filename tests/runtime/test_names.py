"""What `splitlearn.runtime` offers."""

from __future__ import annotations

import subprocess
import sys

import splitlearn.runtime as room

NEED_TORCH = {"TorchDevice", "TorchEdge", "answers_of", "preparation_of", "write_package"}


def test_policies_and_answers_of_ones_own_need_no_torch() -> None:
    names = {"RatePolicy", "Decision", "AtRate", "OnDevice", "LeaveOut", "AnswerForm", "TopClasses", "EdgeProcesses"}
    assert names <= set(room.__all__)
    code = (
        "import sys; sys.modules['torch'] = None\nimport splitlearn.runtime as room\n"
        f"print(*[name for name in room.__all__ if name not in {NEED_TORCH!r} and getattr(room, name).__name__])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert set(found.stdout.split()) == set(room.__all__) - NEED_TORCH, found.stderr
    assert all(getattr(room, name) is not None for name in NEED_TORCH)
