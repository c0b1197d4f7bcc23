"""Overview: which runs there are, how far they are, and the sparsest tickets that hold the
dense network's level.
"""

from __future__ import annotations

import fcntl
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tombola.folder.runs import Run
from tombola.ground.errors import InputError
from tombola.ground.metrics import ACCURACY, Metric
from tombola.records import choosing
from tombola.records.records import Record


@dataclass(frozen=True)
class Line:
    """One run in the list.

    Attributes:
        folder: Its name.
        recipe: The recipe's name.
        state: "running", "complete", "failed", or how many of its arms are finished.
        replicates: Of how many that the recipe has there are results, and how many it has.
        tickets: By arm, the density of its best ticket; see `best`.
        problem: Why it cannot be read, if so.
        further: Of how many replicates there are results that the recipe had before and now has
            not.
        path: The folder.
        best: By arm, its best ticket on validation data of those at most as dense as in
            ``tickets``: path of the file, arm, replicate, round, density, the headline metric on
            validation and test data (``valid_accuracy`` and ``test_accuracy`` of classifiers), and
            the file of its trained weights; ``None`` for a file that is not there.
    """

    folder: str
    recipe: str
    state: str
    replicates: tuple[int, int]
    tickets: dict[str, float]
    problem: str = ""
    further: int = 0
    path: str = ""
    best: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def counted(self) -> str:
        """Its replicates in words.

        >>> Line("digits-1", "digits", "complete", (1, 1), {}, further=1).counted
        '1 of 1, and 1 more'
        """
        return "{} of {}".format(*self.replicates) + (
            f", and {self.further} more" if self.further else ""
        )


def runs(parent: Path) -> list[Line]:
    """List the run folders below a folder, by name.

    Raises:
        InputError: There is no such folder.
    """
    if not parent.is_dir():
        raise InputError(f"there is no folder '{parent}'; runs are made by tombola run, see --runs")
    return [_line(path.parent) for path in sorted(parent.glob("*/run.json"))]


def _line(path: Path) -> Line:
    try:
        run = Run(path)
    except InputError as error:
        return Line(path.name, "", "unreadable", (0, 0), {}, str(error), path=str(path))
    recipe = run.recipe
    keys = [(name, replicate) for replicate in range(recipe.replicates) for name in recipe.arms]
    finished = sum(run.finished(*key) for key in keys)
    failed = sum(run.ending(*key).state in ("failed", "skipped") for key in keys)
    records = run.records.all()
    state = "complete" if finished == len(keys) else f"{finished} of {len(keys)} arms finished"
    state += f", {failed} failed" if failed else ""
    if _is_locked(path):
        state = f"running, {state}"
    there = {record["replicate"] for record in records}
    asked = there & {*range(recipe.replicates)}
    metric = run.metrics[0]
    tickets = best(records, metric)
    return Line(
        path.name,
        recipe.name,
        state,
        (len(asked), recipe.replicates),
        tickets,
        further=len(there - asked),
        path=str(path),
        best={
            arm: _best_ticket(path, records, arm, density, metric)
            for arm, density in tickets.items()
        },
    )


def _best_ticket(
    run: Path, records: Sequence[Record], arm: str, most: float, metric: Metric
) -> dict[str, Any]:
    """Return an arm's best ticket, on validation data, of those that are on average at most so
    dense.
    """
    rounds: dict[int, list[float]] = {}
    own = [r for r in records if r["arm"] == arm and r["evaluated"] and r[metric.valid] is not None]
    for record in own:
        rounds.setdefault(record["round"], []).append(record["density"])
    known = [index for index, densities in rounds.items() if statistics.mean(densities) <= most]
    chosen = choosing.best([record for record in own if record["round"] in known], metric=metric)
    files = {
        "path": choosing.ticket_path(run, chosen),
        "weights": choosing.training_path(run, chosen),
    }
    told = {
        key: chosen[key]
        for key in ("arm", "replicate", "round", "density", metric.valid, metric.test)
    }
    return {key: str(file) if file.exists() else None for key, file in files.items()} | told


def best(records: Sequence[Record], metric: Metric = ACCURACY) -> dict[str, float]:
    """Return the lowest density at which each arm's tickets are on average as good as dense, on
    validation data.

    Chosen on validation data, so that the list selects nothing by the test split; without it, or
    where no ticket is as good, the arm is left out. A ticket counts where all replicates that the
    arm has got to were evaluated.
    """
    rounds: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record["evaluated"] and record[metric.valid] is not None:
            rounds.setdefault((record["arm"], record["round"]), []).append(record)
    found: dict[str, float] = {}
    for (arm, index), here in rounds.items():
        dense = {record["replicate"]: record[metric.valid] for record in rounds.get((arm, 0), [])}
        pairs = [(r[metric.valid], dense[r["replicate"]]) for r in here if r["replicate"] in dense]
        kept = statistics.mean(record["density"] for record in here)
        if not index or not pairs or kept >= found.get(arm, 1.0):
            continue
        if metric.sign * statistics.mean(ticket - base for ticket, base in pairs) >= 0:
            found[arm] = kept
    return found


def _is_locked(path: Path) -> bool:
    try:
        with (path / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
