"""The command line: one file a command, which parses, calls and reports.

`import splitlearn.commands` loads nothing heavy, so that help and usage errors are instant; each command imports what
it needs when it runs.
"""

from splitlearn.commands.command_line import main

__all__ = ["main"]
