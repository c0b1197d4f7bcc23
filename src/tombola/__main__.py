"""``python -m tombola`` and the command ``tombola``."""

import os
import sys
import threading

from tombola.cli import main as command_line

TRAINING = "tombola-train"  # the name of the thread that trains where there are no worker processes


def main() -> None:
    """Run the command line and leave with its exit code."""
    code = command_line()
    if any(thread.name.startswith(TRAINING) for thread in threading.enumerate()):
        # Interrupted while a thread trains, which nothing can stop; all that is on disk is whole, so leave at once.
        from multiprocessing import util

        sys.stdout.flush()
        # The semaphores of processes that read images; unless they are given back, Python warns of a leak.
        util._run_finalizers(0)  # type: ignore[attr-defined]
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
