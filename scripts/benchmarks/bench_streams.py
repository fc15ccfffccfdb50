"""Rebuild docs/results/streams/coding.md: coding beside the frame before, against coding each frame by itself.

Symbols are those of YOLOv8n at `model.4`, 64×48×80, on consecutive frames of a video, clipped to calibrated levels.
Encoders and decoders of ContextRANS, with tables of their own and with static ones fitted to other frames, with the
frame before as reference and without, take turns in one process and one thread; the best of all rounds counts, and each
round is another frame. Every payload is decoded and compared first. At last, the first frame of a fresh process is
timed, its kernels in the cache. Takes a minute on an idle machine.

    scripts/benchmarks/bench_streams --video FILE --yolo FILE --photos FOLDER

video: of a static camera; yolo: weights of YOLOv8n as safetensors; photos: to calibrate levels with.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.benchmarks.timing import take_turns
from splitlearn.codecs import Codec, ContextRANS
from splitlearn.data import read_photos, video_batches
from splitlearn.data.letterbox import Letterbox
from splitlearn.deploy import CalibrationSettings, calibrate
from splitlearn.files import whole_file, write_json
from splitlearn.models import Identity, SplitModel, backbone, split
from splitlearn.quantizers import Step
from splitlearn.reporting import markdown_table, processor
from splitlearn.tasks import quieten, run_record

OUT = Path("docs/results/streams")
SIZE = (384, 640)
LEVELS = (4, 8)
PHOTOS = 12
FRESH = 3  # processes, behind one that fills the cache
FITTED = 24  # frames that static tables are learnt from, before those that are measured
FIRST = """
import sys
import time
sys.modules.update({absent!r})
import numpy as np
from splitlearn.codecs import ContextRANS
symbols = np.load({path!r})
started = time.perf_counter()
ContextRANS().encode(symbols, {levels})
print(time.perf_counter() - started)
"""
Symbols = NDArray[np.uint8]
Frame = tuple[Symbols, Symbols, bytes, bytes]  # the frame, the one before, its code by itself and beside that one


def latents_of(model: SplitModel, frames: Sequence[Tensor]) -> list[Tensor]:
    """Return the latents of frames."""
    return [model.coder.latents(model.features(frame))[0] for frame in frames]


def encoded(codec: Codec, levels: int, pairs: Sequence[tuple[Symbols, Symbols]]) -> list[Frame]:
    """Return frames with their codes; raises RuntimeError if one does not decode to its symbols."""
    frames = []
    for symbols, before in pairs:
        alone = codec.encode(symbols, levels)
        beside = codec.encode(symbols, levels, reference=before)
        found = codec.decode(alone, symbols.shape, levels), codec.decode(beside, symbols.shape, levels, before)
        if not all(np.array_equal(each, symbols) for each in found):
            raise RuntimeError(f"{type(codec).__name__} does not restore its symbols")
        frames.append((symbols, before, alone, beside))
    return frames


def compared(codec: Codec, levels: int, pairs: Sequence[tuple[Symbols, Symbols]]) -> dict[str, Any]:
    """Return bytes per frame, and the best milliseconds of each way, for a codec."""
    frames = encoded(codec, levels, pairs)
    ways: dict[str, Callable[[Frame], object]] = {
        "encode alone": lambda frame: codec.encode(frame[0], levels),
        "encode beside": lambda frame: codec.encode(frame[0], levels, reference=frame[1]),
        "decode alone": lambda frame: codec.decode(frame[2], frame[0].shape, levels),
        "decode beside": lambda frame: codec.decode(frame[3], frame[0].shape, levels, frame[1]),
    }
    times = {way: min(each) for way, each in take_turns(ways, frames).items()}
    sizes = {"alone": np.mean([len(f[2]) for f in frames]), "beside": np.mean([len(f[3]) for f in frames])}
    return {
        "tables": "static" if codec.tables() else "own",
        "levels": levels,
        "bytes_per_frame": {name: float(size) for name, size in sizes.items()},
        "best_ms": times,
        "speed_beside_by_alone": {way: times[f"{way} alone"] / times[f"{way} beside"] for way in ("encode", "decode")},
    }


def first_encode_seconds(symbols: Symbols, levels: int, folder: Path, absent: Sequence[str] = ()) -> float:
    """Return the seconds of the first encode in a fresh process whose kernels lie in the cache; imports not counted.

    `absent` names packages that the process is not to find.
    """
    path = folder / "frame.npy"
    np.save(path, symbols)
    code = FIRST.format(path=str(path), levels=levels, absent=dict.fromkeys(absent))
    words = [sys.executable, "-c", code]
    runs = [subprocess.run(words, check=True, capture_output=True, text=True).stdout for _ in range(FRESH + 1)]
    return min(float(seconds) for seconds in runs[1:])


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    net = split(backbone("ultralytics/yolov8n", str(args.yolo)), "model.4", (3, *SIZE))
    model = SplitModel(net, Step(1.0), ContextRANS(), bottleneck=Identity).eval()
    view = Letterbox(SIZE)
    frames = list(video_batches(args.video, view, FITTED + args.rounds + 2, batch_size=1))
    photos = read_photos(args.photos, view, PHOTOS)
    rows, shape = [], ()
    with torch.inference_mode():
        latents = latents_of(model, frames)
        for levels in LEVELS:
            (quantizer,) = calibrate(model, photos, CalibrationSettings(levels)).model.coder.quantizers
            symbols = [quantizer.quantize(latent)[0][0].numpy() for latent in latents]
            shape = symbols[0].shape
            pairs = list(zip(symbols[1:], symbols, strict=False))
            static = ContextRANS().fitted_to_sequences([symbols[:FITTED]], levels)
            rows += [compared(codec, levels, pairs[FITTED:]) for codec in (ContextRANS(), static)]
    first = {
        name: first_encode_seconds(symbols[0], LEVELS[-1], folder, absent)
        for name, absent in {"with_scipy": (), "without_scipy": ("scipy",)}.items()
    }
    return {"shape": shape, "rows": rows, "first_encode_s": first}


def page(found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    heads = ["levels", "tables", "B alone", "B beside", "encode alone (ms)", "beside", "× as fast"]
    heads += ["decode alone (ms)", "beside", "× as fast", "frames/s"]
    rows = []
    for row in found["rows"]:
        ms, speed, size = row["best_ms"], row["speed_beside_by_alone"], row["bytes_per_frame"]
        cells = [str(row["levels"]), row["tables"], f"{size['alone']:,.0f}", f"{size['beside']:,.0f}"]
        for way in ("encode", "decode"):
            cells += [f"{ms[f'{way} alone']:.2f}", f"{ms[f'{way} beside']:.2f}", f"{speed[way]:.2f}"]
        slowest = max(ms["encode beside"], ms["decode beside"])
        rows.append([*cells, f"{1000 / slowest:,.0f}"])
    first = found["first_encode_s"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    shape = "×".join(str(length) for length in found["shape"])
    return "\n".join(
        [
            "# Coding beside the frame before\n",
            f"Symbols of YOLOv8n at `model.4`, {shape}, of consecutive frames of a static camera, clipped to levels "
            f"that photographs tell. ContextRANS alone and with the frame before as reference take turns, one thread; "
            f"the best of {found['rounds']} rounds, each another frame. Static tables are learnt from {FITTED} frames "
            "before these. frames/s: of the slower of encoding and decoding beside.\n",
            f"{found['processor']}, {found['machine']}, load {found['load_average']:.1f}; {versions}; "
            f"`{found['command']}`; {found['date']}.\n",
            markdown_table(heads, rows, "rl" + "r" * (len(heads) - 2)),
            "\nThe first encode of a fresh process, its kernels in the cache: "
            f"{first['without_scipy']:.2f} s on a device; {first['with_scipy']:.2f} s where SciPy is installed.\n",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write page and JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("video", "yolo", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=23, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    quieten()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args, Path(folder))
    command = "scripts/benchmarks/bench_streams --video {} --yolo {} --photos {} --rounds {}"
    named = command.format(args.video.name, args.yolo.name, args.photos.name, args.rounds)
    facts = {**run_record(), "command": named, "processor": processor(), "load_average": load, "rounds": args.rounds}
    write_json(args.out / "coding.json", {**facts, **found})
    with whole_file(args.out / "coding.md") as temporary:
        temporary.write_text(page({**facts, **found}))
    print(page({**facts, **found}))


if __name__ == "__main__":
    main()
