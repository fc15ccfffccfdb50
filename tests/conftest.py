"""What every test shares: one torch thread, a fixed seed, little memory, and the way to the real data."""

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

SHARED = Path(os.environ.get("SPLITLEARN_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what the code does now")


PEAKS: dict[str, float] = {}  # MiB by process
GROWTH = 128  # MiB that a process may grow by before what tests left behind is freed
resident = 0.0  # MiB after that was last done


def memory() -> float:
    """Return how many MiB this process holds now; 0 where the system does not tell."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * resource.getpagesize() / 2**20 if pages.exists() else 0.0


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: no collection of garbage looks at them again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish() -> None:
    """Free networks that lie in cycles (a trainer and its module): Python does it late, and keeps their pages."""
    global resident
    if memory() > resident + GROWTH:
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        resident = memory()


def pytest_sessionfinish(session: pytest.Session) -> None:
    gc.unfreeze()  # at exit all is freed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    output: dict[str, Any] = getattr(session.config, "workeroutput", {})
    output["peak"] = PEAKS["this process"] = peak


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    PEAKS[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak", 0.0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = ", ".join(f"{process} {peak:.0f} MiB" for process, peak in PEAKS.items())
    terminalreporter.write_line(f"peak of memory: {told}")


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


@pytest.fixture(scope="session")
def mask_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small images a part with masks, in VOC's layout and in COCO's: 1 is an aeroplane here and a person there."""
    root = tmp_path_factory.mktemp("masks")
    for part, list_name in (("train2017", "train"), ("val2017", "val")):
        for n in range(4):
            noise = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8).numpy()
            mask = torch.zeros(40, 50, dtype=torch.uint8)
            mask[10:30, 5 * n :] = 1
            for folder in (f"images/{part}", "JPEGImages"):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise).save(root / folder / f"{part}_{n}.jpg")
            for folder in (f"semantic_segmentation/masks/{part}", "SegmentationClass"):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.numpy()).save(root / folder / f"{part}_{n}.png")
        lists = root / "ImageSets/Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{list_name}.txt").write_text("".join(f"{part}_{n}\n" for n in range(4)))
    return root
