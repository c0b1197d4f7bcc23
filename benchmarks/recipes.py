"""A whole recipe by `tombola.run`, in a fresh runs folder; the same work whatever the demo of
today is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import NotRun, Settings
from tombola.experiments.experiment import run
from tombola.experiments.progress import Display
from tombola.schema.recipe import Recipe, parse


def recipe(settings: Settings) -> Recipe:
    """Return COLT-2, LTH and the matched control on scikit-learn's digits, three replicates:
    the first demo.
    """
    return parse(
        {
            "name": "digits",
            "data": {"name": "digits", "valid": 0.15},
            "model": "lenet_300_100",
            "training": {
                "optimizer": "sgd",
                "lr": 0.05,
                "momentum": 0.9,
                "batch_size": 32,
                "epochs": 1 if settings.quick else 120,
            },
            "arms": {
                "colt-2": {"method": "colt", "partitions": 2, "rate": 0.15},
                "lth": {"method": "lth", "rate": 0.2},
                "matched": {"match": "colt-2"},
                "random-ticket": {"method": "random_ticket", "source": "colt-2"},
            },
            "until": {"rounds": 1} if settings.quick else {"density": 0.1},
            "verdict": {"margin": 0.02, "at": [0.5, 0.2, 0.1]},
            "replicates": 3,
            "seed": 0,
        }
    )


class Timed:
    """A recipe on a number of workers; calling it runs it whole and returns the seconds.

    Attributes:
        warm: Of each call, the seconds from the first word of a worker: its first look at the
            validation split. What is left out is starting the workers, loading the data and one
            epoch.
    """

    def __init__(self, recipe: Recipe, workers: int, settings: Settings) -> None:
        self.recipe, self.workers, self.settings = recipe, workers, settings
        self.warm: list[float] = []

    def __call__(self) -> float:
        first: list[float] = []
        with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
            began = time.perf_counter()
            outcome = run(
                self.recipe,
                runs=Path(folder),
                data_root=self.settings.root,
                workers=self.workers,
                display=_FirstWord(lambda: first.append(time.perf_counter())),
            )
            ended = time.perf_counter()
        # Half a run would look quick.
        if not outcome.complete:
            raise NotRun(f"the run did not complete: {'; '.join(outcome.notes)}")
        self.warm.append(ended - (first or [began])[0])
        return ended - began


class _FirstWord(Display):
    """Shows nothing, and reports when a worker first makes progress."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(quiet=True)
        self._tell, self._told = tell, False

    def progress(self, digest: str, done: int, steps: int) -> None:
        """Note the first evaluation of a training."""
        if not self._told:
            self._told = True
            self._tell()
        super().progress(digest, done, steps)
