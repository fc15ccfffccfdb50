"""`splitlearn exits`: evaluation of a network with early exits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splitlearn.config.options import make_folder, numbers


def exits(
    words: Sequence[str],
    config: Path,
    ckpt_path: Path | None = None,
    data_root: Path | None = None,
    at: str | None = None,
    out: Path = Path("runs/exits"),
) -> None:
    """Evaluate an early-exit network, quantized to INT8, at every confidence threshold.

    Reports the accuracy, the share of images that leave at each exit, and the bytes per image with each codec. Settings
    of the config may be overridden as in splitlearn test, e.g. --model.model.net.at layer1.

    Args:
        words: settings that override the config's, e.g. --model.model.net.at layer1.
        config: a config of splitlearn test with an EarlyExitModel.
        ckpt_path: checkpoint that splitlearn fit wrote; not needed if the config names a file with trained exits.
        data_root: folder of images, in place of the config's data.root.
        at: comma-separated accuracies, e.g. 0.85,0.8; for each, the threshold that reaches it with the fewest bytes is
            reported.
        out: folder for exits.json, exits.csv and exits.png.
    """
    takes = "accuracies from 0 to 1, e.g. 0.85,0.8"
    accuracies = numbers("--at", at, takes, float, lambda several: all(0 <= each <= 1 for each in several))
    import torch

    from splitlearn.analysis.exit_evaluation import evaluate_exits
    from splitlearn.config.build import settings_of
    from splitlearn.config.images import model_of
    from splitlearn.models import EarlyExitModel
    from splitlearn.reporting.exits import report_exits
    from splitlearn.tasks import run_record

    model, data = model_of(config, ckpt_path, data_root, words, EarlyExitModel, "an EarlyExitModel has exits")
    if ckpt_path is None and settings_of(("--config", str(config), *words)).get("model.model.weights") is None:
        print("note: there is no --ckpt_path, and the config names no weights of trained exits: these are untrained")
    make_folder(out)
    data.prepare_data()
    data.setup("validate")
    data.setup("test")
    found = evaluate_exits(model.to("cuda" if torch.cuda.is_available() else "cpu"), data)
    report_exits(found, accuracies, out, f"{model.net.name} cut after {model.net.at}, INT8", run_record())
