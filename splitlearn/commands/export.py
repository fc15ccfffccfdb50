"""`splitlearn export`: export of trained weights from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splitlearn.discovery import renamed_path, with_current_paths

FILES = {"weights", "path", "root"}  # settings with file names, which may have changed
WHOLE = {"limit_test_batches": 1.0, "fast_dev_run": False}  # trainer settings for a test of all images


def export(
    ckpt_path: Path,
    out: Path,
    results: Path | None = None,
    licence: str = "not stated",
    config: Path | None = None,
    trust: bool = False,
) -> None:
    """Write the trained part of a checkpoint, bottleneck or whole network, into one self-describing safetensors file.

    Args:
        ckpt_path: checkpoint of `splitlearn fit`.
        out: folder for the file, e.g. bottleneck.safetensors or network.safetensors, and its record.
        results: results.json of a test run; its metrics are stored in the file and the record.
        licence: licence and owner of the weights, for the record.
        config: config of the training, such as the config.yaml of its run; needed for your own classes.
        trust: accept a config in the checkpoint with any classes, which are imported and run.
    """
    settings: Mapping[str, Any] | None = None
    if config is not None:
        from splitlearn.config.build import config_settings

        settings = config_settings(config, None)
    elif trust:
        from splitlearn.tasks.loading import config_of, read_checkpoint

        settings = config_of(read_checkpoint(ckpt_path), ckpt_path)
    export_checkpoint(ckpt_path, out, results, licence, settings)


def export_checkpoint(
    ckpt_path: Path, out: Path, results: Path | None, licence: str, config: Mapping[str, Any] | None = None
) -> None:
    """Export a checkpoint as `export` does, with settings in place of a config file.

    The file is `out/bottleneck.safetensors`, `out/early_exit.safetensors`, `out/network.safetensors`, or
    `out/student.safetensors` for the trained modules of a distillation.

    Args:
        ckpt_path: checkpoint of `splitlearn fit`.
        out: folder for the file; created if missing.
        results: results.json with the metrics `test/…` for file and record.
        licence: licence for the record.
        config: settings of the training run; by default those in the checkpoint, if they only name classes of
            splitlearn and torch.

    Raises:
        FileNotFoundError: if checkpoint or results are missing.
        UntrustedError: if `config` is None, and the config in the checkpoint names other classes.
        ValueError: if the checkpoint has nothing to export, or the results are not those of its test.
    """
    from rich.console import Console
    from torch import nn

    from splitlearn.config.export_config import write_launch
    from splitlearn.config.loading import load_task
    from splitlearn.deploy import export_model, export_network, write_record
    from splitlearn.models import CompressionModel, SplitModel
    from splitlearn.tasks.loading import config_of, read_checkpoint

    content = read_checkpoint(ckpt_path)
    task = load_task(ckpt_path, config and config["model"])
    settings = with_current_paths(config or config_of(content, ckpt_path), renamed_path)
    _check_trained_with(settings, content, ckpt_path)
    metrics = {} if results is None else _metrics(results, ckpt_path, settings)
    model = task.get_submodule("model")
    if isinstance(model, CompressionModel):
        path, part = export_model(model, out, metrics)
    elif trained := getattr(task, "trains", None):  # parts of a student
        path = export_network(model, out / "student.safetensors", metrics, trained)
        part = nn.ModuleList(model.get_submodule(name) for name in trained)
    else:
        path, part = export_network(model, out / "network.safetensors", metrics), model
    record = write_record(path, metrics, settings, licence)
    launch = write_launch(path, str(ckpt_path), path.stem, settings) if isinstance(model, SplitModel) else None
    parameters = sum(p.numel() for p in part.parameters())
    told = f"{path}: {parameters:,} parameters, {path.stat().st_size:,} bytes; record: {record}"
    Console().print(told + (f"; config of a test: {launch}" if launch else ""), soft_wrap=True)


def _check_trained_with(settings: Mapping[str, Any], content: Mapping[str, Any], ckpt_path: Path) -> None:
    """Raise ValueError if settings describe another model than the checkpoint, apart from file names."""
    from splitlearn.files import holds_few
    from splitlearn.tasks.loading import CONFIG_KEY

    if not holds_few(content.get(CONFIG_KEY)):
        raise ValueError(f"{ckpt_path} is damaged or no checkpoint: its config holds settings without end")
    given, trained = _model(settings), _model(with_current_paths(content.get(CONFIG_KEY), renamed_path))
    names = [name for name in sorted(trained) if name not in FILES and _differ(given.get(name), trained[name])]
    if names:
        raise ValueError(
            f"{ckpt_path} was trained with another {', '.join(names)} of the model than in the config: give the "
            "config.yaml of its own run"
        )


def _differ(given: Any, trained: Any) -> bool:
    """Return whether settings differ from those of a training, apart from defaults and file names."""
    if isinstance(given, Mapping) and isinstance(trained, Mapping):
        return any(_differ(given.get(name), value) for name, value in trained.items() if name not in FILES)
    return bool(given != trained)


def _metrics(results: Path, ckpt_path: Path, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a test of this checkpoint with these settings.

    Raises:
        FileNotFoundError: if the results do not exist.
        ValueError: if they belong to another checkpoint, other settings, or a part of the test set.
    """
    from splitlearn.files import sha256_of
    from splitlearn.tasks.results import CONFIG, WEIGHTS, fingerprint, read_results

    if not results.is_file():
        raise FileNotFoundError(f"no results at {results}; splitlearn test leaves results.json in its run folder")
    told = read_results(results)
    metrics = {k: v for k, v in told.items() if k.startswith("test/")}
    if not metrics:
        raise ValueError(f"{results} holds no test metrics; give the results.json of splitlearn test")
    remedy = f"test this checkpoint with its own config, splitlearn test --config … --ckpt_path {ckpt_path}"
    if told.get(CONFIG) != fingerprint(told.get("config")):
        raise ValueError(f"{results} was changed or written by an earlier splitlearn: {remedy}")
    if told.get(WEIGHTS) != sha256_of(ckpt_path):
        raise ValueError(f"{results} is of another checkpoint than {ckpt_path}, or of none: {remedy}")
    trainer = told["config"].get("test", {}).get("trainer", {})
    limits = {name: trainer.get(name, whole) for name, whole in WHOLE.items()}
    if cuts := [name for name, limit in limits.items() if limit not in (None, WHOLE[name]) or type(limit) is int]:
        raise ValueError(f"{results} is of a part of the test images, by trainer.{cuts[0]}: without that, {remedy}")
    tested = _model(with_current_paths(told["config"].get("test"), renamed_path))
    trained = _model(settings)
    if fingerprint(tested) != fingerprint(trained):
        names = [name for name in sorted({*tested, *trained}) if tested.get(name) != trained.get(name)]
        raise ValueError(
            f"{results} was measured with another {', '.join(names) or 'config'} of the model than {ckpt_path} was "
            f"trained with: {remedy}"
        )
    return metrics


def _model(settings: Any) -> dict[str, Any]:
    """Return the settings of the model in a config, which alone affect a test."""
    try:
        model = settings["model"]["init_args"]["model"]
        return dict(model.get("init_args", {})) | {"class_path": model["class_path"]}
    except (KeyError, TypeError, AttributeError):
        return {}
