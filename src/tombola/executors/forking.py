"""Forking: worker processes are forks of one that has imported what training needs.

    this process -> the server: imports torch, no thread, no device -> fork -> worker
                                                                  `--> fork -> worker

So torch and its compiler, which recorded steps need, are imported once, and lie in memory once,
however many workers there are. The server ends with the last of those that it serves. Needs no
torch itself: a command begins the server before it imports anything.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from multiprocessing.context import BaseContext
from pathlib import Path

from tombola.ground import interrupts

# The last two are torch's own, of which recorded steps make use: they bring its compiler.
IMPORTED = (
    "tombola.executors._processes",
    "tombola.tasks._classification",
    "tombola.kernels._traced",
    "torch.fx.experimental.proxy_tensor",
    "torch._inductor.config",
)


def context() -> BaseContext:
    """Return how processes begin: as forks of the server, or by themselves where the system has
    no such thing.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(list(IMPORTED))
    _begin_server()
    return forkserver


def begin() -> None:
    """Begin the server, unless there is one: it has its imports behind it when the first worker is
    asked for.

    For a command, which has nobody else's workers: the server is ended with it, whatever it is
    doing.
    """
    context()
    atexit.register(interrupts.end_server)


def _begin_server() -> None:
    from multiprocessing import forkserver

    before = os.environ.get("PYTHONPATH")
    # It would look for modules where a new Python does, and might find another tombola than this
    # one.
    os.environ["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    try:
        with interrupts.deaf_children():
            forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
