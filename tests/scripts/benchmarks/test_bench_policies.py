"""The benchmark of policies leaves its figures; who meets how many deadlines is no matter here."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from scripts.benchmarks import bench_policies
from splitlearn.codecs import Huffman
from splitlearn.models import NormalizedSeparable, SplitModel, resnet8, split
from splitlearn.quantizers import Step
from splitlearn.runtime import write_package
from splitlearn.runtime.forms import TopClasses
from tests.networks import SHAPE
from tests.runtime.conftest import NORMALIZE, WEIGHTS, pixels


@pytest.mark.slow
def test_leaves_the_figures_of_all_policies(tmp_path: Path) -> None:
    bottleneck = partial(NormalizedSeparable, channels=4, stride=2)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    model = SplitModel(net, Step(0.2), Huffman(), bottleneck, NORMALIZE).eval()
    write_package(model, tmp_path / "package", pixels(12), TopClasses())
    for number, image in enumerate(pixels(12)):
        folder = tmp_path / "data" / "test" / str(number % 10)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    trace = tmp_path / "fast.csv"
    trace.write_text("seconds,bits_per_second\n0,1000000\n1,2000000\n")
    out = tmp_path / "out.json"
    words = ["--data", tmp_path / "data", "--package", tmp_path / "package", "--traces", trace, "--out", out]
    bench_policies.main([*map(str, words), "--images", "10", "--deadline-ms", "5000", "--interval-ms", "20"])
    record = json.loads(out.read_text())
    assert record["settings"]["by"] == "proxy"
    assert record["link_400_kbit_measured"] > 0
    assert record["traces"]["fast"].keys() == {"oracle", "deadline", "lowest", "highest"}
    for one in record["traces"]["fast"].values():
        assert one["images"] == 10
        assert one["in_time"] == sum(one["rates"].values()) == 10
        assert one["feasible_met"] == 1
        assert one["bytes"] > 20
