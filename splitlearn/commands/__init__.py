"""Command line: one file per command, which parses, calls and reports.

`import splitlearn.commands` loads no heavy dependency, so that help and usage errors are instant; each command imports
its dependencies when it runs.
"""

from splitlearn.commands.command_line import main

__all__ = ["main"]
