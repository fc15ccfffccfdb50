"""Models by name: shipped ones, those of a folder, and those of a repository on the Hugging Face hub."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from splitlearn.deploy.bank import BANK_FORMAT, load_bank
from splitlearn.deploy.bottleneck_file import FORMAT, load_bottleneck, read_manifest
from splitlearn.deploy.hub import REPOSITORY, fetched, push_files
from splitlearn.deploy.pretrained_record import RECORD, PretrainedError, PretrainedRecord, read_pretrained_record
from splitlearn.files import sha256_of, whole_file, write_json
from splitlearn.models import CompressionModel, InputModel, Normalize, load_weights
from splitlearn.models.networks.weight_files import is_safetensors
from splitlearn.shipped import shipped_root


def pretrained_names() -> list[str]:
    """Return the names of the models that ship with splitlearn."""
    return sorted(_shipped())


def from_pretrained(
    source: str | Path, network: nn.Module | None = None, revision: str | None = None
) -> CompressionModel:
    """Return a trained model by name, in eval mode, with the network that it belongs to.

    Only safetensors and JSON files are read; nothing in them is run or decides what is imported.

    Args:
        source: name of a shipped model (`splitlearn.deploy.pretrained_names()`), folder of `save_pretrained`, or
            OWNER/NAME of such a repository on the Hugging Face hub.
        network: the network with its weights, if the files do not contain it or another object shall be used.
        revision: branch, tag or commit of the repository; its main branch by default.

    Returns:
        A `VariableRateModel` for a bank, a `SplitModel` for a bottleneck, an `InputModel` for a whole network.

    Raises:
        PretrainedError: if there is no such model, its files are damaged or foreign, or cannot be fetched.
        ExportError: if bank or bottleneck are damaged, or belong to another network.
        WeightsError: if the weights belong to another network.
    """
    record, path = opened_pretrained(source, revision)
    folder, file = path.parent, path.parent / record.file
    if sha256_of(file) != record.sha256:
        raise PretrainedError(
            f"{file} is damaged, it is not the file that its record describes: copy or fetch it again"
        )
    manifest, _ = read_manifest(file)
    kind = manifest.get("format") if isinstance(manifest, dict) else None
    if kind is None and network is not None:
        raise PretrainedError(f"{record.name} is a whole network: load it without network=…")
    found = _network(record, folder) if network is None else network
    if kind == BANK_FORMAT:
        return load_bank(file, found)
    if kind == FORMAT:
        return load_bottleneck(file, found)
    return InputModel(found, normalize=None if record.normalize is None else Normalize(*record.normalize)).eval()


def opened_pretrained(source: str | Path, revision: str | None = None) -> tuple[PretrainedRecord, Path]:
    """Return the record of a model and its path, with the files beside it, fetched if they are on the hub.

    Arguments and errors are those of `from_pretrained`.
    """
    shipped, repository = _shipped(), ""
    if source in shipped:
        path = shipped[str(source)]
    elif (Path(source) / RECORD).is_file():
        path = Path(source) / RECORD
    elif Path(source).is_dir():
        raise PretrainedError(f"{source} has no {RECORD}: splitlearn.deploy.save_pretrained writes folders of models")
    elif isinstance(source, str) and REPOSITORY.fullmatch(source):
        repository, path = source, fetched(source, RECORD, revision)
    else:
        near = difflib.get_close_matches(str(source), shipped, n=3, cutoff=0.4)
        known = f"did you mean {' or '.join(near)}?" if near else f"shipped are {', '.join(sorted(shipped))}"
        raise PretrainedError(f"no model {str(source)!r}, {known}; or give a folder, or OWNER/NAME of the hub")
    record, folder = read_pretrained_record(path), path.parent
    for name in record.files:
        if repository:
            fetched(repository, name, folder.name)  # of the same commit, which names the folder in the cache
        if not (folder / name).is_file():
            raise PretrainedError(f"{folder / name} is missing: copy it beside its record {path.name}")
        if not is_safetensors(folder / name):
            raise PretrainedError(
                f"{folder / name} is no safetensors file, and no other is read: copy or fetch it again"
            )
    return record, path


def push_to_hub(source: str | Path, repository: str, card: str, private: bool = False) -> str:
    """Write a model with its record and model card to a repository on the Hugging Face hub, in one commit.

    Args:
        source: name of a shipped model, or folder of `save_pretrained`.
        repository: OWNER/NAME; created if it does not exist. `hf auth login` stores the token that writing takes.
        card: text of its README.md, such as that of `splitlearn.reporting.model_card(source)`.
        private: whether a new repository is private.

    Returns:
        The address of the repository.

    Raises:
        PretrainedError: if there is no such model, the name is not OWNER/NAME, or the hub refuses or is not reached.
    """
    record, path = opened_pretrained(source)
    return push_files(path, [path.parent / name for name in record.files], card, repository, private)


def save_pretrained(
    export: str | Path,
    folder: str | Path,
    *,
    name: str,
    data: str,
    rebuild: str,
    network: str | None,
    num_classes: int,
    weights: str | Path | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Path:
    """Write a folder for `from_pretrained` and `push_to_hub`, and load the model from it once.

    Args:
        export: safetensors file of `splitlearn export`, `bank` or `calibrate`, with its record (.json) beside it.
        folder: folder to write; existing files of the same names are replaced.
        name: name of the model.
        data: the data that it was trained and tested on, in words.
        rebuild: the command that makes the weights again.
        network: name of the network: a function of `splitlearn.models` such as resnet20, or torchvision/NAME; None if
            users shall give the network themselves.
        num_classes: width of the network's classifier.
        weights: safetensors file of the network's weights; None if `export` is a whole network.
        normalize: mean and std of the images of a whole network; bank and bottleneck have them in their file.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if the export or its record is missing.
        PretrainedError: if what was written could not be loaded; likewise the other errors of `from_pretrained`.
    """
    export, folder = Path(export), Path(folder)
    beside = export.with_suffix(".json")
    if not beside.is_file():
        raise FileNotFoundError(
            f"no record {beside}: splitlearn export and splitlearn bank write it beside the weights"
        )
    record = {key: value for key, value in json.loads(beside.read_bytes()).items() if key != "model"}
    own = weights is None or Path(weights).resolve() == export.resolve()
    beside_it = None if network is None else export.name if own else f"network_{Path(str(weights)).name}"
    model: dict[str, object] = {"network": network, "num_classes": num_classes, "weights": beside_it}
    model |= {} if normalize is None else {"mean": list(normalize[0]), "std": list(normalize[1])}
    _copy(export, folder / export.name)
    if weights is not None and beside_it is not None and not own:
        _copy(Path(weights), folder / beside_it)
    config = record.pop("config", None)  # the longest entry comes last
    told = {"file": export.name, "name": name, "data": data, "rebuild": rebuild, "model": model, "config": config}
    write_json(folder / RECORD, record | told)
    try:
        opened_pretrained(folder) if network is None else from_pretrained(folder)
    except Exception:
        (folder / RECORD).unlink()  # what cannot be loaded is no model
        raise
    return folder


def _network(record: PretrainedRecord, folder: Path) -> nn.Module:
    network = record.build_network()
    if record.weights is None:
        raise PretrainedError(f"the record of {record.name} names no weights of its network: give it, network=…")
    load_weights(network, folder / record.weights)
    return network.eval()


def _copy(source: Path, target: Path) -> None:
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)


def _shipped() -> Mapping[str, Path]:
    """Return the records of shipped models by name."""
    found: dict[str, Path] = {}
    for path in sorted((shipped_root() / "checkpoints").rglob("*.json")):
        told = json.loads(path.read_bytes())
        if "model" in told:
            found[told["name"]] = path
    return found
