"""Trained models by name: the one door from this room to a room above, opened when it is used."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from splitlearn.models.pipelines.base import CompressionModel


def from_pretrained(
    source: str | Path, network: nn.Module | None = None, revision: str | None = None
) -> CompressionModel:
    """Return a trained model by name, in eval mode: a shipped one, or one of a folder or of the Hugging Face hub.

    Args:
        source: name of a shipped model such as resnet20-cifar10-layer3-bank, folder, or OWNER/NAME of a repository.
        network: the network with its weights, if the files do not contain it.
        revision: branch, tag or commit of the repository; its main branch by default.

    Returns:
        A `VariableRateModel` for a bank, a `SplitModel` for a bottleneck, an `InputModel` for a whole network.

    Raises:
        PretrainedError: if there is no such model, its files are damaged or foreign, or cannot be fetched; and the
            other errors of `splitlearn.deploy.from_pretrained`, which does the work.
    """
    from splitlearn.deploy.pretrained import from_pretrained as from_files

    return from_files(source, network, revision)
