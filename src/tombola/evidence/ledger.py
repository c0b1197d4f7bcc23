"""Ledger: what each ticket cost, training by training.

    records -> [ accounts ] -> cost to reach a density, accuracy at equal cost, what was really
    spent

An arm is charged all that it would have needed if it ran alone, each training once; arms that share
a training are each charged for it, and `spent` says what was done in fact. An arm that takes its
tickets from another one (a control) has no search of its own: it is charged the one that found
them. The unit that compares models and data is a *full-data training*: what the dense network saw
in round 0.

``made_of`` says, by arm, whose tickets it takes; a recipe knows. Records tell it by themselves
where a ticket's mask is the other arm's. An arm of which neither tells, such as a random ticket, is
charged no search, see `unsearched`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from tombola.evidence.answers import once
from tombola.evidence.comparisons import DENSE, reaches
from tombola.ground.metrics import ACCURACY
from tombola.records.records import Cost, Record, costs_of

_Number = TypeVar("_Number", int, float)
UNKNOWN: Mapping[str, str] = MappingProxyType({})  # whose tickets arms take


@dataclass(frozen=True)
class Sum:
    """Costs of several trainings; ``None`` where some of them were not counted.

    Attributes:
        trainings: How many.
        samples: Training examples seen.
        steps: Optimiser steps.
        flops: Forward and backward, with all weights.
        flops_sparse: Those that the kept weights alone would need.
        seconds: Wall time, one after the other.
        process_seconds: Processor time.
        peak_bytes: The most memory of any of them.
    """

    trainings: int
    samples: int
    steps: int | None
    flops: int | None
    flops_sparse: int | None
    seconds: float
    process_seconds: float | None
    peak_bytes: int | None


def total(costs: Iterable[Cost]) -> Sum:
    """Add up costs, each training once, whatever it was done for.

    >>> total([Cost("search", "a", 600, 1.0), Cost("evaluation", "a", 600, 1.0)]).samples
    600
    """
    return _sum(list({cost.training: cost for cost in costs}.values()))


def _sum(parts: Sequence[Cost | Sum]) -> Sum:
    return Sum(
        trainings=sum([part.trainings if isinstance(part, Sum) else 1 for part in parts]),
        samples=sum([part.samples for part in parts]),
        steps=_added([part.steps for part in parts]),
        flops=_added([part.flops for part in parts]),
        flops_sparse=_added([part.flops_sparse for part in parts]),
        seconds=sum([part.seconds for part in parts]),
        process_seconds=_added([part.process_seconds for part in parts]),
        peak_bytes=max(
            [part.peak_bytes for part in parts if part.peak_bytes is not None], default=None
        ),
    )


@dataclass(frozen=True)
class Account:
    """What a ticket cost, as if its arm ran alone.

    Attributes:
        record: The ticket's.
        pretraining: Trainings up to the rewind point.
        search: Those on the partitions, of a control those of the arm whose tickets it takes; on
            one partition each is the evaluation of the ticket before.
        own: Search, pretraining, and this ticket's evaluation.
        whole: Search, pretraining, and the evaluations that were done up to this ticket's.
        unit: Samples of a full-data training; ``None`` where round 0 was not evaluated.
    """

    record: Record
    pretraining: Sum
    search: Sum
    own: Sum
    whole: Sum
    unit: int | None

    def trainings(self, of: str = "whole") -> float | None:
        """Return a sum's samples in full-data trainings.

        Args:
            of: "search", "own" or "whole".
        """
        return None if not self.unit else getattr(self, of).samples / self.unit


@once
def accounts(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> list[Account]:
    """Return the account of every ticket, and of the dense network, in the order of the records.

    >>> records = [
    ...     {"arm": "lth", "replicate": 0, "round": 0, "density": 1.0, "costs": [["evaluation", "a", 600, 1.0]]},
    ...     {"arm": "lth", "replicate": 0, "round": 1, "density": 0.8,
    ...      "costs": [["search", "a", 600, 1.0], ["evaluation", "b", 600, 1.0]]}]
    >>> [account.trainings() for account in accounts(records)]
    [1.0, 2.0]
    """
    found, taken, needed, units = [], sources(records, made_of), _needed(records), _units(records)
    for (arm, replicate), own in _by_arm(records).items():
        evaluated: list[Cost] = []
        dense = all(record["density"] == 1 for record, _ in own)
        for record, costs in own:
            place = replicate, int(record["round"])
            searched, every = needed[arm, *place]
            if arm in taken:
                # Its own are kept beside the source's: it may start from a rewind point of its own.
                theirs = needed.get((taken[arm], *place), ((), ()))
                searched, every = [*searched, *theirs[0]], [*every, *theirs[1]]
            here = [cost for cost in costs if cost.role == "evaluation"]
            # The dense network that is trained longer is one training, not that of round 0 and
            # another one.
            evaluated = here if dense and here else evaluated + here
            found.append(
                Account(
                    record=record,
                    pretraining=total(cost for cost in searched if cost.role == "pretraining"),
                    search=total(searched),
                    own=total([*searched, *here]),
                    whole=total([*every, *evaluated]),
                    unit=units.get(replicate),
                )
            )
    return found


@once
def _needed(records: Sequence[Record]) -> dict[tuple[str, int, int], tuple[list[Cost], list[Cost]]]:
    """Return, by arm, replicate and round, what the search of that ticket took, and what all
    searches up to it did.
    """
    found = {}
    for (arm, replicate), own in _by_arm(records).items():
        every: list[Cost] = []
        for record, costs in own:
            mine = [cost for cost in costs if cost.role != "evaluation"]
            every = every + mine
            found[arm, replicate, int(record["round"])] = (
                mine if record.get("by_itself") else every,
                every,
            )
    return found


@once
def sources(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> dict[str, str]:
    """Return, by arm that searches nothing, the arm whose search found its tickets, as far as that
    is known.

    Args:
        records: Of one run. Where they alone tell, it is the first arm whose masks are the same in
            every round.
        made_of: By arm, whose tickets it takes; one that takes those of such an arm has its search
            from there.

    >>> same = {"replicate": 0, "round": 1, "density": 0.5, "mask_digest": "m"}
    >>> records = [{**same, "arm": "lth", "costs": [["search", "a", 600, 1.0]]},
    ...            {**same, "arm": "reinitialised", "costs": [["evaluation", "b", 600, 1.0]]},
    ...            {**same, "arm": "random", "mask_digest": "n", "costs": [["evaluation", "c", 600, 1.0]]}]
    >>> sources(records)
    {'reinitialised': 'lth'}
    >>> sources(records, {"random": "reinitialised", "reinitialised": "lth"})
    {'reinitialised': 'lth', 'random': 'lth'}
    """
    searching, masks = _searching(records), _masks(records)
    found = {}
    for arm in _taking(records):
        at = arm
        for _ in made_of:  # no chain is longer, and a circle ends
            at = at if at in searching else made_of.get(at, at)
        if at not in searching:
            own = masks.get(arm, {}).items()
            at = next(
                (other for other in searching if own and own <= masks.get(other, {}).items()), ""
            )
        if at:
            found[arm] = at
    return found


def unsearched(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> list[str]:
    """Return the arms with tickets that are charged no search, as nothing tells which one found
    them.
    """
    known = sources(records, made_of)
    return [arm for arm in _taking(records) if arm not in known]


@once
def apart(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> frozenset[str]:
    """Return the arms whose tickets need nothing of the rounds before: their rounds are a list of
    densities.

    Gradual pruning trains for each density anew, and one-shot pruning cuts one training to all of
    them; with them their controls. A number of weights that is kept per round, or a cost up to a
    round, means nothing there.

    >>> rounds = [{"arm": "one-shot", "replicate": 0, "round": r, "density": 0.5**r,
    ...            "costs": [["search", "a", 600, 1.0]] if r == 1 else []} for r in range(3)]
    >>> sorted(apart(rounds))
    ['one-shot']
    """
    found = {record["arm"] for record in records if record.get("by_itself")}
    late: dict[str, list[bool]] = {}  # whether a round after the first needed a training more
    for record, costs in _with_costs(records):
        if record["round"] > 1:
            late.setdefault(record["arm"], []).append(any(cost.role == "search" for cost in costs))
    found |= {arm for arm in _searching(records) if arm in late and not any(late[arm])}
    return frozenset(
        found | {arm for arm, source in sources(records, made_of).items() if source in found}
    )


@once
def _searching(records: Sequence[Record]) -> list[str]:
    """Return the arms that train for their search, in the order of the records."""
    searching = {}
    for record, costs in _with_costs(records):
        if any(cost.role == "search" for cost in costs):
            searching[record["arm"]] = True
    return list(searching)


@once
def _taking(records: Sequence[Record]) -> list[str]:
    """Return the arms that have tickets and trainings but no search: they take another arm's
    tickets.
    """
    searching = _searching(records)
    names = dict.fromkeys(
        record["arm"] for record, costs in _with_costs(records) if costs and record["density"] < 1
    )
    return [arm for arm in names if arm not in searching]


@once
def _masks(records: Sequence[Record]) -> dict[str, dict[tuple[int, int], str]]:
    found: dict[str, dict[tuple[int, int], str]] = {}
    for record in records:
        if record["round"]:
            # Without a digest nothing is known to be the same: it equals no other arm's.
            mask = record.get("mask_digest") or record["arm"]
            found.setdefault(record["arm"], {})[record["replicate"], int(record["round"])] = mask
    return found


def spent(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> tuple[Sum, Sum]:
    """Return what all arms of all replicates were charged together, and what was done in fact,
    each training once.
    """
    last = {
        (account.record["arm"], account.record["replicate"]): account
        for account in accounts(records, made_of)
    }
    done = total(cost for _, costs in _with_costs(records) for cost in costs)
    return _sum([account.whole for account in last.values()]), done


@dataclass(frozen=True)
class Reached:
    """What it costs an arm to come to a density for the first time: means over the replicates that
    do.

    Attributes:
        arm: The arm.
        density: What was to be reached.
        replicates: How many do.
        rounds: Number of rounds.
        search: Full-data trainings of the search alone.
        own: With the evaluation of that one ticket.
        whole: With the evaluations that were done of tickets up to it: of all where all were
            evaluated.
        flops: Training FLOPs with all weights, of ``whole``; ``None`` where they were not counted.
        flops_sparse: Those that the kept weights alone would need.
        seconds: Wall time of the trainings of ``whole``, one after the other.
    """

    arm: str
    density: float
    replicates: int
    rounds: float
    search: float | None
    own: float | None
    whole: float | None
    flops: float | None
    flops_sparse: float | None
    seconds: float


@once
def to_reach(
    records: Sequence[Record], density: float, made_of: Mapping[str, str] = UNKNOWN
) -> list[Reached]:
    """Return what each arm needed to come to a density, arms that none of their replicates do left
    out.

    Source:
        The unit and the three ways to count are those by which COLT (arXiv:2212.12770, Table IV) is
        compared with what it leaves out: an accuracy for every round costs a search on N partitions
        another training each.
    """
    firsts: dict[str, dict[int, Account]] = {}
    for account in accounts(records, made_of):
        record = account.record
        if record["round"] and reaches(record, density):
            firsts.setdefault(record["arm"], {}).setdefault(record["replicate"], account)
    return [
        Reached(
            arm=arm,
            density=density,
            replicates=len(first),
            rounds=statistics.fmean(account.record["round"] for account in first.values()),
            search=_mean(account.trainings("search") for account in first.values()),
            own=_mean(account.trainings("own") for account in first.values()),
            whole=_mean(account.trainings("whole") for account in first.values()),
            flops=_mean(account.whole.flops for account in first.values()),
            flops_sparse=_mean(account.whole.flops_sparse for account in first.values()),
            seconds=statistics.fmean(account.whole.seconds for account in first.values()),
        )
        for arm, first in firsts.items()
    ]


@dataclass(frozen=True)
class Afforded:
    """The sparsest ticket that an arm can have evaluated within a budget: means over replicates.

    Attributes:
        arm: The arm.
        budget: In full-data trainings.
        replicates: How many have any ticket by then.
        density: Of that ticket.
        value: Its headline metric on the test split.
    """

    arm: str
    budget: float
    replicates: int
    density: float
    value: float


@once
def at_equal_cost(
    records: Sequence[Record],
    budget: float,
    made_of: Mapping[str, str] = UNKNOWN,
    of: str = ACCURACY.test,
) -> list[Afforded]:
    """Return what each arm has for a budget of full-data trainings: the sparsest ticket, with its
    evaluation alone.

    Args:
        records: Of one run.
        budget: In full-data trainings; each ticket is charged its search and its own evaluation.
        made_of: By arm, whose tickets it takes.
        of: What is told of it, an entry of the records.
    """
    best: dict[str, dict[int, Record]] = {}
    for account in accounts(records, made_of):
        cost, record = account.trainings("own"), account.record
        if (
            cost is not None
            and record["round"]
            and record[of] is not None
            and cost <= budget + 1e-9
        ):
            best.setdefault(record["arm"], {})[record["replicate"]] = record
    afforded = []
    for arm, by_replicate in best.items():
        if arm == DENSE:
            continue
        tickets = by_replicate.values()
        afforded.append(
            Afforded(
                arm=arm,
                budget=budget,
                replicates=len(tickets),
                density=statistics.fmean(record["density"] for record in tickets),
                value=statistics.fmean(record[of] for record in tickets),
            )
        )
    return afforded


@once
def budgets(
    records: Sequence[Record], arm: str, densities: Sequence[float], of: str = ACCURACY.test
) -> list[float]:
    """Return what an arm's evaluated tickets cost that first come to densities, in full-data
    trainings, ascending.

    It is the most that any replicate needs, so that a budget of it buys the ticket of each.
    """
    most: dict[float, dict[int, float]] = {}
    for account in accounts(records):
        record, cost = account.record, account.trainings("own")
        if record["arm"] == arm and record["round"] and record[of] is not None and cost is not None:
            for density in densities:
                if reaches(record, density):
                    most.setdefault(density, {}).setdefault(record["replicate"], cost)
    return sorted({round(max(of.values()), 6) for of in most.values()})


@once
def _with_costs(records: Sequence[Record]) -> list[tuple[Record, list[Cost]]]:
    """Return each record with what its round cost: there are many costs, and reading one takes
    its time.
    """
    return [(record, costs_of(record)) for record in records]


@once
def _by_arm(records: Sequence[Record]) -> Mapping[tuple[str, int], list[tuple[Record, list[Cost]]]]:
    """Return the rounds of each arm and replicate, with their costs; arms as they come in the
    records.
    """
    found: dict[tuple[str, int], list[tuple[Record, list[Cost]]]] = {}
    for record, costs in _with_costs(records):
        found.setdefault((record["arm"], record["replicate"]), []).append((record, costs))
    for rounds in found.values():
        rounds.sort(key=lambda one: int(one[0]["round"]))
    return found


@once
def _units(records: Sequence[Record]) -> dict[int, int]:
    """Return, by replicate, the samples of the dense network's own training, where it was
    evaluated.
    """
    found: dict[int, int] = {}
    for record, costs in _with_costs(records):
        if record["round"] == 0 and record["replicate"] not in found:
            evaluations = [cost for cost in costs if cost.role == "evaluation"]
            if evaluations:
                found[record["replicate"]] = evaluations[0].samples
    return found


def _added(values: Sequence[_Number | None]) -> _Number | None:
    """Add numbers up; what is not known of one of them is not known of all."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
