"""Protection of frozen weights: they stay bit-identical during a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from splitlearn.models import freeze, frozen_modules, frozen_tensors
from splitlearn.models.tensor_file import bytes_of

FROZEN_KEY = "splitlearn_frozen"
"""Key of a checkpoint with the fingerprint of each frozen tensor."""


class FrozenError(RuntimeError):
    """A frozen network has changed."""


class KeepFrozen(Callback):
    """Keep the frozen tensors of a task bit-identical while it trains, or stop the run.

    Tasks add this callback themselves. Between epochs, other callbacks may exchange weights or reset statistics, as
    `StochasticWeightAveraging` and `WeightAveraging` do. Such a change of frozen tensors is undone before the next
    batch, and checkpoints contain the original tensors. A change found before training, at the end of an epoch, or at
    the end of the run raises an error. The callback holds a copy of the frozen tensors on the CPU.

    Args:
        module: module whose frozen tensors are copied before callbacks are set up; None copies them in `setup`.
    """

    trains_together: ClassVar[bool] = True

    def __init__(self, module: LightningModule | None = None) -> None:
        self._kept: dict[str, Tensor] = {}
        self._modules: list[str] = []
        self._fingerprints: dict[str, str] = {}
        if module is not None:
            self._note(module)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the frozen tensors for training, before a strategy exchanges modules or casts them."""
        if stage == "fit":
            self._note(pl_module)
        else:
            self._kept.clear()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze modules that have replaced frozen ones, and check that frozen tensors have not changed."""
        for name in set(self._modules) - set(frozen_modules(pl_module)):
            freeze(pl_module.get_submodule(name))
        self._note(pl_module)
        self._check(pl_module, "before training")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore frozen tensors that callbacks have changed between epochs."""
        self._put_back(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that training has not changed frozen tensors."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore frozen tensors that callbacks have exchanged for the validation."""
        self._put_back(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that training has not changed frozen tensors."""
        self._check(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore frozen tensors that callbacks have exchanged at the end of training."""
        self._put_back(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the run has not changed frozen tensors."""
        self._check(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check frozen tensors once more, after the teardown of earlier callbacks."""
        if stage == "fit":
            self._check(pl_module, "after training")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the original frozen tensors and their fingerprints."""
        saved = checkpoint["state_dict"]
        kept = {name: tensor for name, tensor in self._kept.items() if name in saved}
        if self._fingerprints.keys() != kept.keys():
            self._fingerprints = {name: fingerprint_of(tensor) for name, tensor in kept.items()}
        saved.update(kept)
        checkpoint[FROZEN_KEY] = dict(self._fingerprints)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the frozen tensors of a checkpoint; a resumed run protects these."""
        check_frozen(checkpoint, "the checkpoint")
        for name in self._kept.keys() & checkpoint["state_dict"].keys():
            self._kept[name] = checkpoint["state_dict"][name].detach().cpu().clone()
        self._fingerprints = {}

    def _note(self, module: LightningModule) -> None:
        """Copy frozen tensors that have no copy yet."""
        self._modules = [*dict.fromkeys([*self._modules, *frozen_modules(module)])]
        for name, tensor in frozen_tensors(module).items():
            if name not in self._kept:
                self._kept[name] = tensor.detach().cpu().clone()

    def _check(self, module: LightningModule, when: str = "while training") -> None:
        found = frozen_tensors(module)
        changed = [name for name, kept in self._kept.items() if name not in found or not _equal(found[name], kept)]
        if changed:
            others = f" and {len(changed) - 1} others" if len(changed) > 1 else ""
            raise FrozenError(
                f"{changed[0]}{others} changed {when}, although frozen: leave out the callback, optimizer or strategy "
                "that changes them, or let the network train with UnfrozenSplitModel"
            )

    @torch.no_grad()
    def _put_back(self, module: LightningModule) -> None:
        for name in self._modules:
            module.get_submodule(name).training = False
        for name, tensor in frozen_tensors(module).items():
            kept = self._kept.get(name)
            if kept is not None and kept.shape == tensor.shape and not _equal(tensor, kept):
                tensor.copy_(kept)


@contextmanager
def kept_types(task: LightningModule) -> Iterator[None]:
    """Context manager that restores frozen tensors at its end if a Trainer has cast them, as with `bf16-true`.

    Exports need the original tensors.
    """
    before = {name: tensor.detach() for name, tensor in frozen_tensors(task).items()}
    yield
    for name, tensor in frozen_tensors(task).items():
        if name in before and before[name].dtype != tensor.dtype:
            tensor.data = before[name].to(tensor.device)


def check_frozen(checkpoint: Mapping[str, Any], name: str) -> None:
    """Compare the frozen tensors of a checkpoint with its fingerprints; earlier checkpoints have none and pass.

    Raises FrozenError, naming the checkpoint, if a tensor has changed since the run began.
    """
    noted, state = checkpoint.get(FROZEN_KEY), checkpoint["state_dict"]
    if not isinstance(noted, dict):
        return
    tensors = {key: state[key] for key in noted if isinstance(state.get(key), Tensor)}
    changed = [key for key, value in noted.items() if key not in tensors or fingerprint_of(tensors[key]) != value]
    if changed:
        raise FrozenError(
            f"in {name}, {len(changed)} tensors of the frozen network have changed since training began, first "
            f"{changed[0]}: use another checkpoint of the run, or train again"
        )


def _equal(found: Tensor, kept: Tensor) -> bool:
    """Return whether a tensor equals its copy, after a cast of the copy to the tensor's type."""
    kept = kept.to(found.dtype)
    found = found.detach().cpu()
    return torch.equal(found, kept) or (found.shape == kept.shape and fingerprint_of(found) == fingerprint_of(kept))


def fingerprint_of(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes."""
    found = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    found.update(bytes_of(tensor))
    return found.hexdigest()
