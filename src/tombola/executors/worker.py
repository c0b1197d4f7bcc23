"""Workers: whoever does work does it like this, in this process or in one of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tombola.executors.backend import Progress
from tombola.ground.catalogue import place_of
from tombola.ground.errors import InputError, InvariantError, TrainingError
from tombola.records.storage import Store
from tombola.search.work import Work
from tombola.tasks.protocol import Task

ONE_LINE_ERRORS = (TrainingError, InvariantError, InputError)
"""Errors that say all there is to say in one line."""


class Worker:
    """Does work, unless its result is in the store.

    Args:
        task: The model and the data.
        store: Where results are kept.
        progress: Told how far work is.
    """

    def __init__(self, task: Task, store: Store, progress: Progress) -> None:
        self.task, self.store, self._progress = task, store, progress

    def do(self, work: Work[Any], digest: str) -> Any:
        """Return a result from the store, where it is kept when it had to be done."""
        result = self.store.read(type(work), digest)
        if result is None:
            # What it needs is in the store as a rule; what cannot be read is done again here.
            needed = [self.do(need, need.digest(self.task.digest)) for need in work.needs]
            result = self._done(work, needed, functools.partial(self._progress, digest))
            self.store.keep(type(work), digest, result)
        return result

    def _done(
        self, work: Work[Any], needed: list[Any], progress: Callable[[int, int], None]
    ) -> Any:
        """Do a piece of work; an exit that the user's own code asks for is an error of the work."""
        try:
            return work.do(self.task, needed, progress)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            # A sys.exit() would end the worker, and with it what others wait for.
            failure = RuntimeError(f"{type(error).__name__}: {error}")
            raise failure.with_traceback(error.__traceback__) from error


def in_one_line(error: Exception) -> TrainingError:
    """Return an error of the user's own code as one that can be sent to another process,
    whatever it is made of.
    """
    text = " ".join(str(error).split())
    return TrainingError(f"{type(error).__name__}: {text}{place_of(error)} (more in errors.log)")
