"""Reporting: tables, figures and page of a run folder, from what it holds.

    records, endings, what was measured beside them -> what is to be decided -> report

Nothing is trained for a report, so one can be written at any time, also while the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tombola.evidence.answers import Evidence
from tombola.evidence.comparisons import DENSE
from tombola.experiments.pictures import shown_of
from tombola.folder import similarity, weight_histograms
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError
from tombola.ground.metrics import ACCURACY
from tombola.ground.notebooks import card, one_line
from tombola.records import choosing
from tombola.records.results import Record, Selected
from tombola.reports import page
from tombola.reports.decisions import Asked, sentences, verdicts
from tombola.reports.paper import printed
from tombola.schema.recipe import Recipe
from tombola.tasks._classification import UNVERIFIED

_MOST_DRAWN = 3  # arms of which the report draws what they prune


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        folder: The run folder.
        records: All results of the recipe's arms and replicates.
        notes: How arms ended that did not simply reach their goal, and what a reader must know.
        complete: Whether every arm of every replicate finished.
        files: Tables, figures and the page.
        asked: What the report decides.
    """

    folder: Path
    records: list[Record]
    notes: list[str]
    complete: bool
    files: list[Path]
    asked: Asked

    def __repr__(self) -> str:
        return one_line("Outcome", str(self.folder), f"{len(self.records)} results", self._state)

    def _repr_html_(self) -> str:
        said = sentences(self.records, self.asked)
        facts = {"results": str(len(self.records)), "state": self._state}
        page_of = str(self.files[-1] if self.files else self.folder)
        return card(said[0] if said else self.folder.name, facts, page_of)

    @property
    def _state(self) -> str:
        return "complete" if self.complete else "not complete"


def keys_of(recipe: Recipe, replicates: Iterable[int]) -> list[tuple[str, int]]:
    """Return every arm of the replicates, replicate by replicate."""
    keys = []
    for replicate in replicates:
        keys += [(name, replicate) for name in recipe.arms]
    return keys


def chosen_replicates(recipe: Recipe, replicates: Sequence[int] | None) -> list[int]:
    """Return the replicates that are asked for, in order; all of the recipe's if not given.

    Raises:
        ConfigError: The recipe has no such replicate, or none is asked for.
    """
    if replicates is None:
        return list(range(recipe.replicates))
    outside = [number for number in replicates if not 0 <= number < recipe.replicates]
    if outside or not replicates:
        asked_for = f"is {outside[0]}" if outside else "are none"
        raise ConfigError(
            f"replicates are numbered from 0 to {recipe.replicates - 1}; asked for {asked_for}"
        )
    return sorted(set(replicates))


def report(
    run: Run,
    replicates: Sequence[int] | None = None,
    formats: Sequence[page.Format] = ("svg", "png"),
    *,
    under_way: bool = False,
    sections: Sequence[str] = (),
) -> Outcome:
    """Write the tables, figures and page of a run folder from what it holds.

    Args:
        run: The folder.
        replicates: The report says whether these are complete; all of the recipe's if not given.
        formats: Of the figures' own files: "svg", "png", "pdf".
        under_way: The run goes on meanwhile: one line says how far it is.
        sections: Of the user's own, each as ``package.module:Name``; the page has them in a fold of
            their own.
    """
    recipe = run.recipe
    chosen = chosen_replicates(recipe, replicates)
    records: list[Record] = []
    for name in recipe.arms:
        for replicate in range(recipe.replicates):
            records += run.records.of(name, replicate)
    notes = [_progress(run, chosen)] if under_way else _endings_in_words(run, chosen)
    notes += _caveats(recipe, records, chosen) + run.notes
    complete = all(run.finished(*key) for key in keys_of(recipe, chosen))
    # A merged run has more replicates than the one that its facts were written for.
    facts = dict(run.facts)
    if facts:
        facts["replicates"] = replicates_in_words(recipe)
    making = page.Making(
        _command(recipe, run.path),
        yaml.safe_dump(run.own_recipe.to_dict(), sort_keys=False),
        run.environments(),
    )
    decided = _asked_of(run, notes.append, under_way=under_way)
    files: list[Path] = []
    if records:
        best = _best_ticket(run, decided)
        files = page.write(
            run.path, recipe.name, records, notes, facts, decided, making, formats, best, sections
        )
    return Outcome(run.path, records, notes, complete, files, decided)


def _asked_of(run: Run, note: Callable[[str], None], *, under_way: bool) -> Asked:
    """Return what the report of a run is to decide, with what its folder has beside records.

    Args:
        run: The folder.
        note: Called with what a reader must know of weights that could not be read.
        under_way: The run goes on meanwhile.
    """
    recipe = run.recipe
    decided = asked(recipe, _right(run))
    pruned: list[dict[str, Any]] = []
    drawn = [name for name in recipe.arms if name in decided.drawn]
    # While a run is under way trainings come and go, so their weights cannot be relied on.
    if not under_way:
        pruned = weight_histograms.histogram(run, drawn[:_MOST_DRAWN], note)
    collapsed = {}
    for name in recipe.arms:
        for replicate in range(recipe.replicates):
            collapse = run.ending(name, replicate).collapsed
            if collapse is not None:
                collapsed[name, replicate] = collapse
    return replace(
        decided,
        metric=run.metrics[0],
        pruned=pruned,
        similar=tuple(similarity.ordered(run.similarities(), recipe.arms)),
        latency=run.latency(),
        collapsed=collapsed,
        chance=_chance(run),
        shown=shown_of(run, drawn, decided.at),
    )


def _chance(run: Run) -> float | None:
    """Return the accuracy of guessing, where accuracy is the metric and the classes are known."""
    labels, _ = run.tested()
    if labels is None or run.metrics[0] != ACCURACY:
        return None
    return 1 / len(set(labels.tolist()))


def _best_ticket(run: Run, asked: Asked) -> page.BestTicket | None:
    """Return the ticket to take away, the best on validation data; ``None`` where its file is not
    there.
    """
    records = run.records.all()
    # If any ticket wins, of the arms that win at the lowest density, and at that density.
    arms, density = asked.searching(records), None
    judged = verdicts(Evidence.of(records), asked)
    winning = [verdict for verdict in judged if verdict.word == "winning"]
    if winning:
        density = min(verdict.density for verdict in winning)
        arms = [verdict.arm for verdict in winning if verdict.density == density]
    try:
        record = choosing.best(records, arms=arms, at=density, metric=asked.metric)
    except InputError:
        # No such ticket was evaluated on validation data.
        return None
    path = run.ticket_path(record["arm"], record["replicate"], record["round"])
    if not path.is_file():
        return None
    value = record[asked.metric.test]
    return page.BestTicket(path.relative_to(run.path).as_posix(), record["density"], value)


def _endings_in_words(run: Run, chosen: Sequence[int]) -> list[str]:
    """Say which arms did not simply reach their goal."""
    notes = []
    for name, arm in run.recipe.arms.items():
        for replicate in range(run.recipe.replicates):
            title = f"arm {name}, replicate {replicate}"
            ending = run.ending(name, replicate)
            records = run.records.of(name, replicate)
            finished = ending.state == "finished"
            # Of a replicate that was left out on purpose there is nothing to say.
            if (not finished or ending.why) and (replicate in chosen or records):
                notes.append(f"{title}: {ending.state}{': ' if ending.why else ''}{ending.why}")
            if finished and not run.finished(name, replicate):
                notes.append(
                    f"{title}: not complete: it ended by another until or evaluate_at, or a ticket "
                    "is missing; running the recipe again completes it"
                )
            last = records[-1]["round"] if records else 0
            if finished and arm.has_tickets and last > ending.rounds:
                notes.append(
                    f"{title}: the recipe now ends with round {ending.rounds}; rounds up to {last} "
                    "are here from before"
                )
    return notes


def _caveats(recipe: Recipe, records: Sequence[Record], chosen: Sequence[int]) -> list[str]:
    """Say what a reader of the results must know."""
    notes = []
    present = {record["replicate"] for record in records}
    elsewhere = sorted({*range(recipe.replicates)} - {*chosen} - present)
    if elsewhere:
        notes.append(f"replicates that are not here: {', '.join(map(str, elsewhere))}")
    selections = [Selected.of(record["selected"]) for record in records]
    if any(selected and selected.on == "nothing" for selected in selections):
        notes.append("selected without validation data (data.valid: 0)")
    if recipe.profile is not None:
        for rule in recipe.profile.lifted:
            notes.append(f"profile {recipe.profile.name} gives up: {rule}")
    if recipe.data.options.get("verify") is False:
        notes.append(UNVERIFIED)
    return notes


def _progress(run: Run, chosen: Sequence[int]) -> str:
    """Say how far a run is."""
    keys = keys_of(run.recipe, chosen)
    ended = sum(run.ending(*key).state != "open" for key in keys)
    return (
        f"the run is under way: {ended} of {len(keys)} arms x replicates are finished, "
        f"{len(run.records)} results"
    )


def _right(run: Run) -> dict[tuple[str, int, int], NDArray[np.bool_]]:
    """Return whether each test example was predicted right, by arm, replicate and round."""
    labels, predicted = run.tested()
    if labels is None:
        return {}
    right: dict[tuple[str, int, int], NDArray[np.bool_]] = {}
    for key, predictions in predicted.items():
        arm, replicate_name, round_name = key.split("/")
        replicate = int(replicate_name.removeprefix("replicate-"))
        index = int(round_name.removeprefix("round-"))
        right[arm, replicate, index] = predictions == labels
        # All arms share the dense network.
        if index == 0:
            right.setdefault((DENSE, replicate, 0), right[arm, replicate, 0])
    return right


def asked(
    recipe: Recipe, right: Mapping[tuple[str, int, int], NDArray[np.bool_]] | None = None
) -> Asked:
    """Return what the report of a recipe is to decide: each arm against the dense network and what
    follows it.

    Args:
        recipe: The recipe.
        right: By arm, replicate and round, whether each test example was predicted right.
    """
    arms = recipe.arms
    searching = [name for name, arm in arms.items() if arm.searches and arm.source is None]
    # Every arm, also a control or a network that was trained longer, is compared with the dense
    # network; then each with the arm that it follows, and all searches with the first.
    # What trains as long as a whole search has cost is compared with that search instead.
    paced = {name: arm.paced_by[1] for name, arm in arms.items() if arm.paced_by is not None}
    pairs = [(name, DENSE) for name in arms if name != DENSE and name not in paced]
    controls: dict[str, list[str]] = {name: [] for name, arm in arms.items() if arm.searches}
    matched: dict[str, list[str]] = {name: [] for name in arms}
    made_of: dict[str, str] = {}
    for name, arm in arms.items():
        if arm.source and arm.compared:
            pairs.append((arm.source, name))
            if arm.control and arm.source in controls:
                controls[arm.source].append(name)
        if arm.followed is None:
            continue
        relation, followed = arm.followed
        if relation == "match":
            matched[followed].append(name)
        elif relation in ("source", "of"):
            made_of[name] = followed
    # What is tested untrained is compared with its like alone.
    for evaluate in ("trained", "untrained"):
        alike = [name for name in searching if arms[name].evaluate == evaluate]
        pairs += [(name, alike[0]) for name in alike[1:]]
    pairs += paced.items()
    return Asked(
        pairs=tuple(dict.fromkeys(pairs)),
        controls=_frozen(controls),
        matched=_frozen(matched),
        made_of=made_of,
        networks=frozenset(name for name, arm in arms.items() if arm.network),
        independent_partitions=frozenset(
            name for name, arm in arms.items() if arm.independent_partitions
        ),
        equal_cost=paced,
        drawn=frozenset(searching),
        at=recipe.compared_at,
        margin=recipe.verdict.margin,
        steps=recipe.verdict.steps,
        alpha=recipe.verdict.alpha,
        right=right or {},
        printed=printed(recipe.name, recipe.data.name, recipe.model.name),
    )


def _frozen(lists: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(entries) for name, entries in lists.items()}


def _command(recipe: Recipe, folder: Path) -> str:
    """Return the command that reproduces a run from its own folder, where the recipe has every
    default.
    """
    command = f"tombola run {folder.name}/recipe.yaml --runs again"
    return f"{command}  # {recipe.replicates} replicates, seed {recipe.seed}"


def replicates_in_words(recipe: Recipe) -> str:
    """Say how many replicates there are, and the seed that they come from."""
    return f"{recipe.replicates}, from seed {recipe.seed}"
