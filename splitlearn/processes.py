"""Processes that must not outlive the one that started them."""

import os
import threading
import time


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
