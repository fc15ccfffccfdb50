"""Commands that are told to stop: what they end with, and how they go on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from splitlearn.commands.stages import _wait_for
from splitlearn.processes import Stopped
from splitlearn.tasks import StopsAtOnce
from tests.commands.conftest import Run

LAST = Path("runs/small/version_0/checkpoints/last.ckpt")


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the handlers of this process, and keep it alive."""
    monkeypatch.setattr("splitlearn.processes.PATIENCE", 1e6)
    yield
    restore()


def restore() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("signum", "status", "word"),
    [pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow), (signal.SIGTERM, 143, "terminated")],
)
def test_a_stopped_fit_is_no_success_and_goes_on(
    fit: Run, monkeypatch: pytest.MonkeyPatch, signum: int, status: int, word: str
) -> None:
    def stop_in(epoch: int) -> None:
        restore()  # as in a new process

        def told(self: StopsAtOnce, trainer: Trainer, *rest: object) -> None:
            if trainer.current_epoch == epoch:
                signal.raise_signal(signum)

        monkeypatch.setattr(StopsAtOnce, "on_train_epoch_start", told)

    stop_in(0)
    outcome = fit("--trainer.max_epochs", "3")
    assert (outcome.status, outcome.error) == (
        status,
        f"{word}; nothing was saved yet: the same command starts again",
    )
    stop_in(2)
    outcome = fit("--trainer.max_epochs", "3")
    last = str(LAST).replace("version_0", "version_1")
    assert (outcome.status, outcome.error) == (
        status,
        f"{word}; the same command with --ckpt_path last goes on from {last}",
    )
    assert torch.load(last, weights_only=True)["epoch"] == 1
    stop_in(-1)
    assert fit("--trainer.max_epochs", "3", "--ckpt_path", "last").status == 0
    assert torch.load(last, weights_only=True)["epoch"] == 2


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_any_command_ends_so(run: Run, monkeypatch: pytest.MonkeyPatch, signum: int, status: int) -> None:
    monkeypatch.setattr("splitlearn.tasks.loading.read_checkpoint", lambda *_: signal.raise_signal(signum))
    outcome = run("export", "--ckpt_path", "x", "--out", "y")
    assert outcome.status == status
    assert outcome.error in ("interrupted", "terminated")


def test_a_stage_that_was_stopped_has_not_failed(capfd: pytest.CaptureFixture[str]) -> None:
    def command(status: int) -> list[str]:
        return [sys.executable, "-c", f"import sys; sys.exit({status})"]

    assert [_wait_for(command(status)) for status in (0, 1, 2)] == [0, 1, 2]
    for status in (130, 143):
        with pytest.raises(Stopped) as caught:
            _wait_for(command(status))
        assert caught.value.status == status


def test_stages_that_are_told_to_stop_tell_the_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waited: list[subprocess.Popen[bytes]] = []
    wait = subprocess.Popen.wait

    def told(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not waited:
            waited.append(process)
            raise Stopped(signal.SIGTERM)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", told)
    with pytest.raises(Stopped):
        _wait_for([sys.executable, "-c", "import time; time.sleep(60)"])
    assert waited[0].returncode == -signal.SIGTERM
