"""Kernels are kept on disk, and a fresh process that finds them there does without numba's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = "numba.np.linalg"  # a module that numba's compiler imports, with SciPy where it is installed

KERNEL = f"""
import sys
from splitlearn.jit import njit

@njit
def doubled(number):
    return 2 * number

print(doubled(21), sum(doubled.stats.cache_hits.values()), {COMPILER!r} in sys.modules)
"""
CODEC = f"""
import sys
import numpy as np
from splitlearn.codecs import ContextRANS
symbols = np.arange(128, dtype=np.uint8).reshape(2, 8, 8) % 3
assert np.array_equal(ContextRANS().decode(ContextRANS().encode(symbols, 3), symbols.shape, 3), symbols)
print({COMPILER!r} in sys.modules)
"""


def printed(*words: str) -> list[str]:
    """Return the words that a Python process prints."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_a_kernel_is_compiled_once_and_then_loaded_without_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)
    assert printed(str(tmp_path / "kernel.py")) == ["42", "0", "True"]
    assert printed(str(tmp_path / "kernel.py")) == ["42", "1", "False"]


def test_kernels_of_the_codec_of_devices_need_no_compiler_once_they_are_on_disk() -> None:
    printed("-c", CODEC)
    assert printed("-c", CODEC) == ["False"]
