"""Processes: where they look for users' classes, and whom they must not outlive."""

import os
import sys
import threading
import time


def find_own_classes() -> None:
    """Make classes in the working directory importable, whatever directory a parser changes to meanwhile.

    A console script does not search it. Its absolute name is searched, since parsers change to the folder of a config
    that they read.
    """
    folder = os.getcwd()
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)


def end_with(parent: int) -> None:
    """End this process as soon as its parent is gone: what is launched again must not find it still at work.

    Args:
        parent: number of the process that must live.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
