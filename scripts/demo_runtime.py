"""The end of scripts/demo: the exported bottleneck as a package, served by one process and sent to by another.

Compares the server's answers with the predictions of `splitlearn test`, which sends the same images through payloads.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from splitlearn.data import Digits
from splitlearn.deploy import load_bottleneck
from splitlearn.models import resnet8
from splitlearn.runtime import write_package
from splitlearn.runtime.forms import TopClasses
from splitlearn.runtime.views import preparation_of
from splitlearn.tasks import quieten

OUT = Path("runs/demo")
PACKAGE, IMAGES, SENT = OUT / "package", OUT / "test_images", OUT / "sent"
COMMAND = (sys.executable, "-m", "splitlearn")


def main() -> int:
    """Package, serve, send and compare; return 1 if a prediction differs."""
    quieten()
    torch.set_num_threads(1)
    for folder in (PACKAGE, IMAGES, SENT):
        shutil.rmtree(folder, ignore_errors=True)
    data = Digits(batch_size=64)
    data.setup("test")
    model = load_bottleneck(OUT / "bottleneck_low_rate.safetensors", resnet8(weights=OUT / "backbone.safetensors"))
    images = torch.cat([batch[0] for batch in data.batches("test")])
    pixels = np.ascontiguousarray((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    found = write_package(model, PACKAGE, pixels[:64], TopClasses(), data.class_names, preparation_of(data.eval_view()))
    print(f"{PACKAGE}: device and edge in ONNX, {found.equal_symbols:.2%} of {found.symbols:,} symbols as in torch")
    IMAGES.mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(IMAGES / f"{number:03}.png")
    expected = model.decompress(model.compress(list(images))).argmax(1).tolist()
    with subprocess.Popen((*COMMAND, "serve", "--package", PACKAGE, "--port", "0"), stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            address = re.search(rb"127\.0\.0\.1:\d+", server.stdout.readline())
            if address is None:
                return server.wait()
            to = address[0].decode()
            subprocess.run(
                (*COMMAND, "send", "--package", PACKAGE, "--to", to, "--images", IMAGES, "--out", SENT), check=True
            )
        finally:
            server.terminate()
            server.communicate()  # what it says at the end
    rows = csv.DictReader((SENT / "predictions.csv").read_text().splitlines())
    equal = sum(int(row["class"]) == label for row, label in zip(rows, expected, strict=True))
    print(f"{equal} of {len(expected)} predictions are those of the test")
    return int(equal != len(expected))


if __name__ == "__main__":
    sys.exit(main())
