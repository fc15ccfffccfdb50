"""A device without torch: the wheel alone and its requirements, in an environment of their own."""

from __future__ import annotations

import asyncio
import csv
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from splitlearn.runtime import EdgeServer, OnnxEdge
from tests.networks import digits
from tests.runtime.conftest import Packaged, pixels

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "splitlearn" / "runtime" / "requirements-device.txt"
COUNT = 12


def run(*words: str | Path, **settings: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | settings
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel and its requirements for devices."""
    place = tmp_path_factory.mktemp("device")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "build", "--wheel", "--out-dir", place, ROOT)
    [wheel] = place.glob("*.whl")
    run(uv, "venv", "--python", sys.executable, place / "env")
    python = place / "env" / "bin" / "python"
    run(uv, "pip", "install", "--python", python, "--no-deps", wheel)
    run(uv, "pip", "install", "--python", python, "--constraint", ROOT / "constraints.txt", "-r", REQUIREMENTS)
    return python


def size_of(environment: Path) -> int:
    return sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.slow
def test_a_device_without_torch_sends(bank: Packaged, device_python: Path, tmp_path: Path) -> None:
    for n, image in enumerate(pixels(COUNT)):
        Image.fromarray(image).save(tmp_path / f"{n:02}.png")
    started, ended, port = threading.Event(), threading.Event(), [0]

    async def serve() -> None:
        async with EdgeServer(OnnxEdge(bank.folder)) as server:
            port[0] = server.port
            started.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(60)
        out = tmp_path / "out"
        splitlearn = device_python.with_name("splitlearn")
        told = run(
            splitlearn, "send", "--package", bank.folder, "--to", f"127.0.0.1:{port[0]}", "--images", tmp_path,
            "--out", out, "--rate", "1",
        )  # fmt: skip
    finally:
        ended.set()
        thread.join()
    assert f"{COUNT} images: {COUNT} answered" in told
    rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
    expected = bank.model.decompress(bank.model.compress(list(digits(COUNT)), rate=1))  # type: ignore[call-arg]
    assert [int(row["class"]) for row in rows] == expected.argmax(1).tolist()
    began = time.perf_counter()
    first = (
        "import sys, numpy as np\nfrom splitlearn.runtime import Device\n"
        f"device = Device({str(bank.folder)!r})\nprint(len(device.compress(np.zeros((32, 32, 3), np.uint8))))\n"
        "assert not {'torch', 'lightning', 'onnx'} & {name.split('.')[0] for name in sys.modules}\n"
    )
    run(device_python, "-c", first)
    seconds, size = time.perf_counter() - began, size_of(device_python.parents[1])
    print(f"environment of {size / 1e6:,.0f} MB, first payload {seconds:.1f} s after the start of Python")
    for absent in ("torch", "lightning", "torchvision"):
        code = f"import importlib.util as u; assert u.find_spec({absent!r}) is None"
        run(device_python, "-c", code)
