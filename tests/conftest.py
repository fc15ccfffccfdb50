"""What every test shares: one torch thread, a fixed seed, and the way to the real data."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("SPLITLEARN_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code does now")


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    """Two torch threads are many times slower than one on a shared machine."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and weights; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real data not found in {SHARED}; set SPLITLEARN_SHARED to the folder that holds data/")
    return SHARED
