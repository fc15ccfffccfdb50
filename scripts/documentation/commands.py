"""Pages of the command line, made of each command's own help."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from splitlearn.commands import main
from splitlearn.commands.command_line import COMMANDS
from splitlearn.config.precheck import TRAINER_COMMANDS

COLUMNS = "84"  # a line of help fits a page


def command_names() -> list[str]:
    """Return the names of all commands, in the order of `splitlearn --help`."""
    return [*TRAINER_COMMANDS, *COMMANDS]


def write_commands(folder: Path) -> None:
    """Write one page for each command into a folder, and the list of all."""
    folder.mkdir(parents=True, exist_ok=True)
    names = command_names()
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])
    table = "\n".join(["| command | |", "|---|---|", *(f"| [{name}]({name}.md) | {purpose(name)} |" for name in names)])
    start = "# Command line\n\n`splitlearn COMMAND --help` prints what stands on these pages."
    (folder / "index.md").write_text(f"{start}\n\n{table}\n\n{toctree}\n")
    for name in names:
        (folder / f"{name}.md").write_text(page(name))


def page(name: str) -> str:
    """Return the page of a command: what it does, and its help."""
    return f"# splitlearn {name}\n\n{purpose(name)}\n\n```text\n{help_of(name)}\n```\n"


def purpose(name: str) -> str:
    """Return what a command does, in one sentence."""
    return TRAINER_COMMANDS[name] if name in TRAINER_COMMANDS else (COMMANDS[name].__doc__ or "").splitlines()[0]


def help_of(name: str) -> str:
    """Return what `splitlearn NAME --help` prints."""
    printed = io.StringIO()
    with (
        patch.object(sys, "argv", ["splitlearn", name, "--help"]),
        patch.dict(os.environ, {"COLUMNS": COLUMNS}),
        redirect_stdout(printed),
        suppress(SystemExit),
    ):
        main()
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())
