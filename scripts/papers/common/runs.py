"""Commands of splitlearn in processes of their own, and results that are kept: a killed script goes on where it was."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitlearn.config.run_folder import newest_checkpoint
from splitlearn.files import write_json

TRAINER = ("--config", "configs/trainer.yaml")


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """Return the content of a JSON file; if it is absent, write what `make` returns first."""
    if not file.is_file():
        write_json(file, make())
    return json.loads(file.read_text())


def refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings that a folder's results are measured with; raises ValueError if it has those of others."""
    mine = json.loads(json.dumps(settings, default=lambda path: path.name))  # a folder of data may lie elsewhere
    if kept(folder / "settings", lambda: mine) != mine:
        raise ValueError(f"{folder} holds results of other settings: remove it to measure anew, or name another")


def run_command(words: Sequence[str], log: Path | None = None) -> None:
    """Run a splitlearn command, with one thread unless OMP_NUM_THREADS is set; append its output to `log`, if given.

    Raises RuntimeError if the command fails.
    """
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    command = [sys.executable, "-m", "splitlearn", *words]
    if log is None:
        failed = subprocess.run(command, env=environment, check=False).returncode
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            failed = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False).returncode
    if failed:
        seen = f", see {log}" if log else ""
        raise RuntimeError(f"splitlearn {words[0]} failed{seen}; launched again, the script goes on from there")


def processor_seconds() -> float:
    """Return those of all processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Run:
    """A run of shipped configs with some settings changed, in a folder of its own.

    Attributes:
        folder: where its versions and logs lie.
        configs: stacked on trainer.yaml.
        options: further words of the command line.
    """

    folder: Path
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Configs and options as words of a command line."""
        configs = (word for config in self.configs for word in ("--config", config))
        return (*TRAINER, *configs, *self.options)

    def newest(self, name: str) -> Path | None:
        """Return a file of the latest version that has it; None if none has it."""
        found = self.folder.glob(f"version_*/{name}")
        return max(found, key=lambda p: int(p.relative_to(self.folder).parts[0].partition("_")[2]), default=None)

    @property
    def best(self) -> Path:
        """The latest of the best checkpoints."""
        return newest_checkpoint(self.folder, "best")

    def fit(self, data: str) -> None:
        """Train, or resume what was interrupted."""
        resume = ("--ckpt_path", "last") if self.newest("checkpoints/last.ckpt") else ()
        self._start("fit", data, *self.words, *resume)

    def export(self, data: str, words: Sequence[str] = ()) -> None:
        """Train, with further settings, or resume, and export the best; nothing if that was done."""
        self._start("stages", data, *TRAINER, *self.options, *words, "--stages", ",".join(self.configs))

    def tested(self, data: str, checkpoint: str | None = None) -> dict[str, Any]:
        """Return the content of results.json, made by `splitlearn test` if it is absent."""
        if not (found := self.newest("results.json")):
            self._start("test", data, *self.words, *(("--ckpt_path", checkpoint) if checkpoint else ()))
            found = self.newest("results.json")
        assert found is not None
        content: dict[str, Any] = json.loads(found.read_text())
        return content

    def _start(self, command: str, data: str, *words: str) -> None:
        place = ("--trainer.logger.save_dir", str(self.folder.parent), "--trainer.logger.name", self.folder.name)
        run_command([command, *words, "--data.root", data, *place], self.folder / f"{command}.log")
