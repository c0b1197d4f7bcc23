"""Listing: which runs there are, how far they are, and the sparsest tickets that are as good as
the dense network.

    folder of runs -> [ runs ] -> one Line per run -> `tombola runs`
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
from tombola.records.layout import Layout, is_run
from tombola.records.records import Record


@dataclass(frozen=True)
class Line:
    """One run in the list.

    Attributes:
        folder: Its name.
        recipe: The recipe's name.
        state: "running", "complete", "failed", or how many of its arms are finished.
        replicates: How many of the recipe's replicates have results, and how many it has.
        tickets: By arm, the density of its best ticket; see `best`.
        problem: Why it cannot be read, if so.
        further: How many replicates have results that the recipe had before and now has not.
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
        more = f", and {self.further} more" if self.further else ""
        return f"{self.replicates[0]} of {self.replicates[1]}{more}"


def runs(parent: Path) -> list[Line]:
    """List the run folders below a folder, by name.

    Raises:
        InputError: There is no such folder.
    """
    if not parent.is_dir():
        raise InputError(f"there is no folder '{parent}'; runs are made by tombola run, see --runs")
    return [_line(path) for path in sorted(parent.iterdir()) if is_run(path)]


def _line(path: Path) -> Line:
    try:
        run = Run(path)
    except InputError as error:
        return Line(
            folder=path.name,
            recipe="",
            state="unreadable",
            replicates=(0, 0),
            tickets={},
            problem=str(error),
            path=str(path),
        )
    records = run.records.all()
    metric = run.metrics[0]
    tickets = best(records, metric)
    best_tickets = {}
    for arm, density in tickets.items():
        best_tickets[arm] = _best_ticket(path, records, arm, density, metric)
    # A recipe that was shortened leaves records of replicates that it no longer has.
    with_results = {record["replicate"] for record in records}
    in_recipe = with_results & {*range(run.recipe.replicates)}
    return Line(
        folder=path.name,
        recipe=run.recipe.name,
        state=_state(run),
        replicates=(len(in_recipe), run.recipe.replicates),
        tickets=tickets,
        further=len(with_results - in_recipe),
        path=str(path),
        best=best_tickets,
    )


def _state(run: Run) -> str:
    """Say how far a run is."""
    arms = finished = failed = 0
    for replicate in range(run.recipe.replicates):
        for arm in run.recipe.arms:
            arms += 1
            finished += run.finished(arm, replicate)
            failed += run.ending(arm, replicate).state in ("failed", "skipped")
    state = "complete" if finished == arms else f"{finished} of {arms} arms finished"
    if failed:
        state += f", {failed} failed"
    return f"running, {state}" if _is_locked(run.path) else state


def _best_ticket(
    run: Path, records: Sequence[Record], arm: str, most: float, metric: Metric
) -> dict[str, Any]:
    """Return an arm's best ticket on validation data, of the rounds whose mean density is at most
    ``most``.
    """
    by_round: dict[int, list[Record]] = {}
    for record in records:
        if record["arm"] == arm and record["evaluated"] and record[metric.valid] is not None:
            by_round.setdefault(record["round"], []).append(record)
    sparse_enough: list[Record] = []
    for of_round in by_round.values():
        if statistics.mean(record["density"] for record in of_round) <= most:
            sparse_enough += of_round
    chosen = choosing.best(sparse_enough, metric=metric)
    ticket = choosing.ticket_path(run, chosen)
    weights = choosing.training_path(run, chosen)
    return {
        "path": str(ticket) if ticket.exists() else None,
        "weights": str(weights) if weights.exists() else None,
        "arm": chosen["arm"],
        "replicate": chosen["replicate"],
        "round": chosen["round"],
        "density": chosen["density"],
        metric.valid: chosen[metric.valid],
        metric.test: chosen[metric.test],
    }


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
    lowest: dict[str, float] = {}
    for (arm, index), tickets in rounds.items():
        density = statistics.mean(record["density"] for record in tickets)
        if index == 0 or density >= lowest.get(arm, 1.0):
            continue
        # Each ticket against the dense network of its own replicate.
        dense = {record["replicate"]: record[metric.valid] for record in rounds.get((arm, 0), [])}
        gains = []
        for record in tickets:
            if record["replicate"] in dense:
                gains.append(record[metric.valid] - dense[record["replicate"]])
        if gains and metric.sign * statistics.mean(gains) >= 0:
            lowest[arm] = density
    return lowest


def _is_locked(path: Path) -> bool:
    try:
        with Layout.of(path).lock.open() as file:
            # Shared: two that list runs at once do not take each other for one that works there.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
