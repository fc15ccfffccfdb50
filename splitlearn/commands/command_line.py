"""Entry point: dispatch of commands, the list of commands, and errors as one sentence with an exit status.

`fit`, `validate`, `test` and `predict` are commands of LightningCLI (`config.trainer`). Every other command is a typed
function with its docstring as help.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable

from splitlearn import __version__
from splitlearn.addresses import without_passwords
from splitlearn.commands.analyze import analyze
from splitlearn.commands.bank import bank
from splitlearn.commands.calibrate import calibrate
from splitlearn.commands.codecs import codecs
from splitlearn.commands.dashboard import dashboard
from splitlearn.commands.exits import exits
from splitlearn.commands.export import export
from splitlearn.commands.package import package
from splitlearn.commands.pareto import pareto
from splitlearn.commands.plan import plan
from splitlearn.commands.profile import profile
from splitlearn.commands.report import report
from splitlearn.commands.send import send
from splitlearn.commands.serve import serve
from splitlearn.commands.stages import stages
from splitlearn.commands.sweep import sweep
from splitlearn.config.messages import (
    UsageError,
    did_you_mean,
    one_sentence,
    place_of,
    shorten_parser_error,
    with_remedy_for_import,
)
from splitlearn.config.options import run_function
from splitlearn.config.precheck import KEYS, TRAINER_COMMANDS, check_trainer_arguments
from splitlearn.config.section_help import bare_help, list_classes, with_class
from splitlearn.processes import Stopped, find_own_classes, follow_first_rank, stoppable

COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command
    for command in (
        *(profile, analyze, calibrate, codecs, exits, stages, export, sweep, pareto, dashboard, report, bank),
        *(package, serve, send, plan),
    )
}
USAGE = """usage: splitlearn COMMAND [options]     (splitlearn COMMAND --help tells a command's options)

Cut a network between a device and an edge server and make what crosses the cut small.

commands:
"""
GO_ON = {command: "the same command goes on where it was" for command in ("sweep", "stages", "send")}
TRACEBACK = "SPLITLEARN_TRACEBACK"
SIGPIPE = 13  # Windows has no such signal


def main() -> int:
    """Run this process's command line; return 0, 1 for an error, 2 for wrong usage, 130 or 143 after a stop signal."""
    arguments = sys.argv[1:]
    find_own_classes()
    follow_first_rank()
    try:
        with stoppable():
            status = _dispatch(arguments)
            sys.stdout.flush()  # here, where its failure is caught
            return status
    except (UsageError, argparse.ArgumentError) as error:
        if os.environ.get(TRACEBACK):
            raise
        options = inspect.signature(COMMANDS[arguments[0]]).parameters if arguments[0] in COMMANDS else KEYS
        message = shorten_parser_error(str(error), options) + place_of(error)
        return _complain(with_remedy_for_import(message, arguments), 2)
    except Stopped as stop:
        notes = [*getattr(stop, "__notes__", []), *filter(None, [GO_ON.get(arguments[0])])]
        return _complain("; ".join([str(stop), *notes]), stop.status)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:  # whoever read what is printed, `head` say, has gone: there is nobody to complain to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + SIGPIPE
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _complain(with_remedy_for_import(one_sentence(error) + place_of(error), arguments), 1)


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(USAGE + "\n".join(f"  {name:10} {summary}" for name, summary in _summaries().items()))
    elif command == "--version":
        print(f"splitlearn {__version__}")
    elif command in TRAINER_COMMANDS:
        check_trainer_arguments(arguments)
        if (section := bare_help(arguments)) is not None:
            if (asked := with_class(arguments, section)) is None:
                list_classes(command, section)
                return 0
            sys.argv[1:] = [command, *asked]
        from splitlearn.config.trainer import run_trainer_command

        run_trainer_command()
    elif command in COMMANDS:
        run_function(COMMANDS[command], arguments)
    else:
        raise UsageError(f"no command {command!r}{did_you_mean(command, _summaries())}; see splitlearn --help")
    return 0


def _summaries() -> dict[str, str]:
    own = {name: (function.__doc__ or "").splitlines()[0] for name, function in COMMANDS.items()}
    return TRAINER_COMMANDS | own


def _complain(message: str, status: int) -> int:
    print(f"splitlearn: error: {without_passwords(message)}", file=sys.stderr)
    return status
