"""Interrupts: an interrupted command ends within three seconds, with one line.

    signal -> KeyboardInterrupt in the main thread -> clean up -> [ leave ]
       |                                                             ^
       +-> a thread that sees it at once, whatever happens -> 2 s ---+

Nothing is lost by leaving at once: files are written atomically, and a run resumes from what is on
disk. This is for the command line only; as a library tombola installs no handler.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 2.0  # seconds in which a command may clean up
_FINALIZERS = 0.3  # seconds for freeing what the operating system would keep

_words = "stopped"
_received: int | None = None  # the first signal
_leaving = threading.Lock()  # taken once, by the thread that leaves


def heed(words: str) -> None:
    """Have Ctrl-C, SIGTERM and SIGHUP end this process soon, with one line.

    The first signal raises ``KeyboardInterrupt`` in the main thread, so that pools and folders are
    closed; whoever catches it calls `leave`. A second signal leaves at once, and so does a thread
    of ours when that takes longer than `GRACE`: the main thread may be in a call that does not
    return for minutes. A signal that is ignored already (``nohup``, a job in the background) stays
    ignored.

    Args:
        words: The line that is printed last.
    """
    global _words
    _words = words
    read, write = os.pipe()
    os.set_blocking(write, False)
    # Written by the interpreter's own handler, in whichever thread the signal arrives.
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), name="tombola-signals", daemon=True).start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        leave()
    _received = number
    # Errors of other threads from now on are consequences of the stop, and not worth printing.
    threading.excepthook = lambda _: None
    sys.unraisablehook = lambda _: None
    raise KeyboardInterrupt


def _watch(read: int) -> None:
    # Other signals have handlers, too, such as torch's for the ends of its readers.
    while (number := os.read(read, 1)[0]) not in SIGNALS:
        pass
    time.sleep(GRACE)
    leave(number)


def leave(number: int = signal.SIGINT) -> NoReturn:
    """End this process and its children now; the last output is the line given to `heed`.

    The exit code is 128 plus the number of the signal, 130 for Ctrl-C.

    Args:
        number: That signal, where its handler has not run yet.
    """
    # Never released: of several threads the first one leaves.
    _leaving.acquire()
    # Its import takes a third of the time of --help, so it is not imported for this.
    if "multiprocessing" in sys.modules:
        from multiprocessing import active_children

        # A process that was suspended reacts to nothing but kill.
        for process in active_children():
            process.kill()
        end_server()
    _say_last(_words)
    if "multiprocessing" in sys.modules:
        # Semaphores outlive a process that does not free them, and Python warns about each.
        from multiprocessing import util

        finalizers = threading.Thread(
            target=util._run_finalizers,  # type: ignore[attr-defined]
            daemon=True,
        )
        with contextlib.suppress(BaseException):
            finalizers.start()
            finalizers.join(_FINALIZERS)
    os._exit(128 + (_received or number))


def end_server() -> None:
    """Kill the fork server: while it imports torch it does not notice that it is not needed."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _say_last(words: str) -> None:
    """Print a line to standard error, then silence both outputs: other threads may still print."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        error = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        # On a terminal there may be bars below the cursor, and the cursor may be hidden.
        clear = "\r\x1b[J\x1b[?25h" if os.isatty(error) else ""
        os.write(error, f"{clear}{words}\n".encode())


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: on a terminal it goes to every process at once.

    They end with their parent, or are ended by it. Otherwise each would print a traceback.
    """
    # Children inherit the mask and keep it; this thread gets the signal a moment later.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
