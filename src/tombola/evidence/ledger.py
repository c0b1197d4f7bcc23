"""Ledger: what each ticket cost, training by training.

    records -> [ accounts ] -> cost to reach a density, accuracy at equal cost, cost in fact

An arm is charged all that it would have needed if it ran alone, each training once. Arms that share
a training are each charged for it; `spent` says what was done in fact. Controls take their tickets
from another arm and are charged that arm's search. The unit that compares models and data is a
*full-data training*: what the dense network saw in round 0.

``made_of`` says whose tickets an arm takes, as its recipe has it. Without a recipe, records show
the source where the masks are the same. An arm for which neither helps, such as a random ticket, is
charged no search, see `unsearched`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from tombola.evidence.answers import once
from tombola.evidence.comparisons import DENSE, reaches
from tombola.ground.metrics import ACCURACY
from tombola.records.records import Cost, Record, costs_of

_Number = TypeVar("_Number", int, float)

UNKNOWN: Mapping[str, str] = MappingProxyType({})  # by arm, whose tickets it takes


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
    """Add costs up; what was not counted in one of them is unknown of all."""
    totals: dict[str, Any] = {}
    for field in fields(Sum):
        numbers = [getattr(part, field.name, 1) for part in parts]  # a cost is one training
        totals[field.name] = None if None in numbers else sum(numbers)
    # A peak is no sum, and those that are known are a lower bound.
    totals["peak_bytes"] = max(_known(part.peak_bytes for part in parts), default=None)
    return Sum(**totals)


@dataclass(frozen=True)
class Account:
    """What a ticket cost, as if its arm ran alone.

    Attributes:
        record: The ticket's.
        pretraining: Trainings up to the rewind point.
        search: Those on the partitions, of a control those of the arm whose tickets it takes; on
            one partition each is the evaluation of the ticket before.
        this_ticket: Search, pretraining, and this ticket's evaluation.
        so_far: All that its arm did up to this ticket: with the evaluations of earlier ones, and
            with their searches where each ticket has its own.
        unit: Samples of a full-data training; ``None`` where round 0 was not evaluated.
    """

    record: Record
    pretraining: Sum
    search: Sum
    this_ticket: Sum
    so_far: Sum
    unit: int | None

    def trainings(self, costs: Sum) -> float | None:
        """Return one of its sums in full-data trainings; ``None`` without their unit."""
        return costs.samples / self.unit if self.unit else None


@once
def accounts(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> list[Account]:
    """Return the account of every ticket, and of the dense network, in the order of the records.

    >>> records = [
    ...     {"arm": "lth", "replicate": 0, "round": 0, "density": 1.0,
    ...      "costs": [["evaluation", "a", 600, 1.0]]},
    ...     {"arm": "lth", "replicate": 0, "round": 1, "density": 0.8,
    ...      "costs": [["search", "a", 600, 1.0], ["evaluation", "b", 600, 1.0]]}]
    >>> [account.trainings(account.so_far) for account in accounts(records)]
    [1.0, 2.0]
    """
    source_of, searches, units = sources(records, made_of), _searches(records), _units(records)
    ledger = []
    for (arm, replicate), rounds in _by_arm(records).items():
        evaluations: list[Cost] = []
        is_dense = all(record["density"] == 1 for record, _ in rounds)
        for record, costs in rounds:
            index = int(record["round"])
            search = searches[arm, replicate, index]
            if arm in source_of:
                # A control has costs of its own beside its source's: it may start from another
                # rewind point.
                of_source = searches.get((source_of[arm], replicate, index), _Search([], []))
                search = _Search(
                    search.this_ticket + of_source.this_ticket, search.so_far + of_source.so_far
                )

            evaluation = _of_role(costs, "evaluation")
            if is_dense and evaluation:
                # A dense network that is trained longer is one training, not round 0's and one
                # more.
                evaluations = evaluation
            else:
                evaluations = evaluations + evaluation

            account = Account(
                record=record,
                pretraining=total(_of_role(search.this_ticket, "pretraining")),
                search=total(search.this_ticket),
                this_ticket=total(search.this_ticket + evaluation),
                so_far=total(search.so_far + evaluations),
                unit=units.get(replicate),
            )
            ledger.append(account)
    return ledger


def _of_role(costs: Iterable[Cost], role: str) -> list[Cost]:
    return [cost for cost in costs if cost.role == role]


class _Search(NamedTuple):
    """What a search has cost: for the ticket of one round, and in all rounds so far."""

    this_ticket: list[Cost]
    so_far: list[Cost]


@once
def _searches(records: Sequence[Record]) -> dict[tuple[str, int, int], _Search]:
    """Return what the search of each ticket cost, by arm, replicate and round."""
    searches = {}
    for (arm, replicate), rounds in _by_arm(records).items():
        so_far: list[Cost] = []
        for record, costs in rounds:
            # With one partition a ticket's evaluation is the next round's search, and has a line there.
            this_round = [cost for cost in costs if cost.role != "evaluation"]
            so_far = so_far + this_round
            # A ticket that needs nothing of the rounds before is not charged for them.
            this_ticket = this_round if record.get("by_itself") else so_far
            searches[arm, replicate, int(record["round"])] = _Search(this_ticket, so_far)
    return searches


@once
def sources(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> dict[str, str]:
    """Return, by arm without a search, the arm whose search found its tickets, where that is known.

    Args:
        records: Of one run. Where they alone tell, it is the first arm whose masks are the same in
            every round.
        made_of: By arm, whose tickets it takes; one that takes those of such an arm has its search
            from there.

    >>> same = {"replicate": 0, "round": 1, "density": 0.5, "mask_digest": "m"}
    >>> records = [{**same, "arm": "lth", "costs": [["search", "a", 600, 1.0]]},
    ...            {**same, "arm": "reinitialised", "costs": [["evaluation", "b", 600, 1.0]]},
    ...            {**same, "arm": "random", "mask_digest": "n",
    ...             "costs": [["evaluation", "c", 600, 1.0]]}]
    >>> sources(records)
    {'reinitialised': 'lth'}
    >>> sources(records, {"random": "reinitialised", "reinitialised": "lth"})
    {'reinitialised': 'lth', 'random': 'lth'}
    """
    searching = _searching(records)
    known = {}
    for arm in _taking(records):
        source = arm
        for _ in made_of:  # no chain is longer, and a circle ends
            if source not in searching:
                source = made_of.get(source, source)
        if source not in searching:
            source = _arm_of_same_masks(records, arm)
        if source:
            known[arm] = source
    return known


def _arm_of_same_masks(records: Sequence[Record], arm: str) -> str:
    """Return the first searching arm that has all of an arm's masks, or "" where there is none."""
    masks = _masks(records)
    if arm in masks:
        for searching_arm in _searching(records):
            if masks[arm].items() <= masks.get(searching_arm, {}).items():
                return searching_arm
    return ""


def unsearched(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> list[str]:
    """Return the arms that are charged no search, as nothing tells which search found their
    tickets.
    """
    known = sources(records, made_of)
    return [arm for arm in _taking(records) if arm not in known]


@once
def independent_arms(
    records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN
) -> frozenset[str]:
    """Return the arms whose tickets need nothing of the rounds before.

    Their rounds are a list of densities: gradual pruning trains for each density anew, and one-shot
    pruning cuts one training to all of them; so it is with their controls. A number of weights that
    is kept per round, or a cost up to a round, means nothing there.

    >>> rounds = [{"arm": "one-shot", "replicate": 0, "round": r, "density": 0.5**r,
    ...            "costs": [["search", "a", 600, 1.0]] if r == 1 else []} for r in range(3)]
    >>> sorted(independent_arms(rounds))
    ['one-shot']
    """
    independent: set[str] = set()
    has_later_rounds: set[str] = set()
    trains_later: set[str] = set()
    for record, costs in _with_costs(records):
        if record.get("by_itself"):
            independent.add(record["arm"])
        if record["round"] > 1:
            has_later_rounds.add(record["arm"])
            if _of_role(costs, "search"):
                trains_later.add(record["arm"])

    # A search that needed no training after its first round has cut that one to all densities.
    independent |= set(_searching(records)) & has_later_rounds - trains_later
    for arm, source in sources(records, made_of).items():
        if source in independent:
            independent.add(arm)
    return frozenset(independent)


@once
def _searching(records: Sequence[Record]) -> list[str]:
    """Return the arms that train for their search, in the order of the records."""
    searching = {}
    for record, costs in _with_costs(records):
        if _of_role(costs, "search"):
            searching[record["arm"]] = True
    return list(searching)


@once
def _taking(records: Sequence[Record]) -> list[str]:
    """Return the arms that take another arm's tickets: they have tickets and trainings, and no
    search.
    """
    searching = _searching(records)
    taking = {}
    for record, costs in _with_costs(records):
        if costs and record["density"] < 1 and record["arm"] not in searching:
            taking[record["arm"]] = True
    return list(taking)


@once
def _masks(records: Sequence[Record]) -> dict[str, dict[tuple[int, int], str]]:
    """Return the digests of each arm's masks by replicate and round."""
    masks: dict[str, dict[tuple[int, int], str]] = {}
    for record in records:
        if record["round"]:
            # Without a digest nothing is known to be the same: it equals no other arm's.
            digest = record.get("mask_digest") or record["arm"]
            masks.setdefault(record["arm"], {})[record["replicate"], int(record["round"])] = digest
    return masks


def spent(records: Sequence[Record], made_of: Mapping[str, str] = UNKNOWN) -> tuple[Sum, Sum]:
    """Return what all arms were charged together, and what was done in fact: each training once."""
    last = {}
    for account in accounts(records, made_of):
        last[account.record["arm"], account.record["replicate"]] = account
    charged = _sum([account.so_far for account in last.values()])

    all_costs: list[Cost] = []
    for _, costs in _with_costs(records):
        all_costs += costs
    return charged, total(all_costs)


@dataclass(frozen=True)
class Reached:
    """What it costs an arm to reach a density: means over the replicates that reach it.

    Attributes:
        arm: The arm.
        density: What was to be reached.
        replicates: How many do.
        rounds: Number of rounds.
        search: Full-data trainings of the search alone.
        this_ticket: With the evaluation of that one ticket.
        so_far: With the evaluations that were done of tickets up to it: of all where all were
            evaluated.
        flops: Training FLOPs with all weights, of ``so_far``; ``None`` where they were not counted.
        flops_sparse: Those that the kept weights alone would need.
        seconds: Wall time of the trainings of ``so_far``, one after the other.
    """

    arm: str
    density: float
    replicates: int
    rounds: float
    search: float | None
    this_ticket: float | None
    so_far: float | None
    flops: float | None
    flops_sparse: float | None
    seconds: float


@once
def to_reach(
    records: Sequence[Record], density: float, made_of: Mapping[str, str] = UNKNOWN
) -> list[Reached]:
    """Return what each arm needed to reach a density; arms that never do are left out.

    Source:
        The unit and the three ways to count are those by which COLT (arXiv:2212.12770, Table IV) is
        compared with what it leaves out: an accuracy for every round costs a search on N partitions
        another training each.
    """
    # A later ticket that is sparse enough, too, cost more.
    firsts: dict[str, dict[int, Account]] = {}
    for account in accounts(records, made_of):
        record = account.record
        if record["round"] and reaches(record, density):
            firsts.setdefault(record["arm"], {}).setdefault(record["replicate"], account)

    reached = []
    for arm, by_replicate in firsts.items():
        first = list(by_replicate.values())
        reached.append(
            Reached(
                arm=arm,
                density=density,
                replicates=len(first),
                rounds=statistics.fmean([account.record["round"] for account in first]),
                search=_mean([account.trainings(account.search) for account in first]),
                this_ticket=_mean([account.trainings(account.this_ticket) for account in first]),
                so_far=_mean([account.trainings(account.so_far) for account in first]),
                flops=_mean([account.so_far.flops for account in first]),
                flops_sparse=_mean([account.so_far.flops_sparse for account in first]),
                seconds=statistics.fmean([account.so_far.seconds for account in first]),
            )
        )
    return reached


@dataclass(frozen=True)
class Scored:
    """What the scores of an arm's tickets cost, beside all else that these cost: means over the
    replicates that reach a density.

    Attributes:
        arm: The arm.
        density: What was to be reached.
        replicates: How many do.
        scoring: What scores that need data went through, for that ticket.
        search: The trainings of its search.
        evaluation: Its own evaluation.
    """

    arm: str
    density: float
    replicates: int
    scoring: Work
    search: Work
    evaluation: Work


@dataclass(frozen=True)
class Work:
    """Examples seen, training FLOPs with all weights (``None`` where not counted), and seconds."""

    samples: float
    flops: float | None
    seconds: float

    @classmethod
    def of(cls, sums: Sequence[Sum]) -> Work:
        """Return the means of costs."""
        return cls(
            samples=statistics.fmean([part.samples for part in sums]),
            flops=_mean([part.flops for part in sums]),
            seconds=statistics.fmean([part.seconds for part in sums]),
        )


@once
def scored(records: Sequence[Record], density: float) -> list[Scored]:
    """Return what it costs to score for a density, for arms whose scores need data.

    A ticket is charged the scoring of every round that its search needed.

    >>> records = [
    ...     {"arm": "snip", "replicate": 0, "round": 1, "density": 0.5, "by_itself": True,
    ...      "costs": [["cut", "a", 100, 0.1], ["evaluation", "b", 600, 1.0]]}]
    >>> [found] = scored(records, 0.5)
    >>> found.scoring.samples, found.search.samples, found.evaluation.samples
    (100.0, 0.0, 600.0)
    """
    searches = _searches(records)
    by_arm: dict[str, list[dict[str, Sum]]] = {}
    for (arm, replicate), rounds in _by_arm(records).items():
        for record, costs in rounds:
            if not record["round"] or not reaches(record, density):
                continue
            of_ticket = searches[arm, replicate, int(record["round"])].this_ticket
            if not _of_role(of_ticket, "cut"):
                break  # no score of this arm needs data: there is nothing to add up
            roles = {role: total(_of_role(of_ticket, role)) for role in ("cut", "search")}
            roles["evaluation"] = total(_of_role(costs, "evaluation"))
            by_arm.setdefault(arm, []).append(roles)
            break  # a later ticket cost more

    found = []
    for arm, tickets in by_arm.items():
        parts = {}
        for role in ("cut", "search", "evaluation"):
            parts[role] = Work.of([roles[role] for roles in tickets])
        found.append(
            Scored(
                arm=arm,
                density=density,
                replicates=len(tickets),
                scoring=parts["cut"],
                search=parts["search"],
                evaluation=parts["evaluation"],
            )
        )
    return found


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
    """Return the sparsest ticket that each arm can have evaluated within a budget.

    Args:
        records: Of one run.
        budget: In full-data trainings; each ticket is charged its search and its own evaluation.
        made_of: By arm, whose tickets it takes.
        of: The value that is reported, an entry of the records.
    """
    sparsest: dict[str, dict[int, Record]] = {}
    for account, cost in _evaluated(records, of, made_of):
        record = account.record
        # A budget that is an arm's own cost buys that arm's ticket, whatever was rounded.
        if cost <= budget + 1e-9 and record["arm"] != DENSE:
            sparsest.setdefault(record["arm"], {})[record["replicate"]] = record

    afforded = []
    for arm, by_replicate in sparsest.items():
        tickets = by_replicate.values()
        density = statistics.fmean([record["density"] for record in tickets])
        value = statistics.fmean([record[of] for record in tickets])
        afforded.append(Afforded(arm, budget, len(tickets), density, value))
    return afforded


def _evaluated(
    records: Sequence[Record], entry: str, made_of: Mapping[str, str] = UNKNOWN
) -> Iterator[tuple[Account, float]]:
    """Yield the accounts of evaluated tickets, and what each cost in full-data trainings."""
    for account in accounts(records, made_of):
        cost = account.trainings(account.this_ticket)
        if cost is not None and account.record["round"] and account.record[entry] is not None:
            yield account, cost


@once
def budgets(
    records: Sequence[Record], arm: str, densities: Sequence[float], of: str = ACCURACY.test
) -> list[float]:
    """Return the budgets at which an arm first has an evaluated ticket of each density, ascending.

    Each is in full-data trainings and the most that any replicate needs, so that it buys the ticket
    in all of them.
    """
    costs: dict[float, dict[int, float]] = {}
    for account, cost in _evaluated(records, of):
        record = account.record
        for density in densities:
            if record["arm"] == arm and reaches(record, density):
                costs.setdefault(density, {}).setdefault(record["replicate"], cost)
    dearest = {round(max(by_replicate.values()), 6) for by_replicate in costs.values()}
    return sorted(dearest)


_Round = tuple[Record, list[Cost]]


@once
def _with_costs(records: Sequence[Record]) -> list[_Round]:
    """Return each record with the costs of its round, which take time to read."""
    return [(record, costs_of(record)) for record in records]


@once
def _by_arm(records: Sequence[Record]) -> Mapping[tuple[str, int], list[_Round]]:
    """Return the rounds of each arm and replicate in order; arms as they come in the records."""
    by_arm: dict[tuple[str, int], list[_Round]] = {}
    for record, costs in _with_costs(records):
        by_arm.setdefault((record["arm"], record["replicate"]), []).append((record, costs))
    for rounds in by_arm.values():
        rounds.sort(key=lambda record_and_costs: int(record_and_costs[0]["round"]))
    return by_arm


@once
def _units(records: Sequence[Record]) -> dict[int, int]:
    """Return the samples of the dense network's own training, by replicate that evaluated it."""
    units: dict[int, int] = {}
    for record, costs in _with_costs(records):
        evaluations = _of_role(costs, "evaluation")
        if record["round"] == 0 and evaluations:
            units.setdefault(record["replicate"], evaluations[0].samples)
    return units


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return statistics.fmean(known) if known else None


def _known(values: Iterable[_Number | None]) -> list[_Number]:
    return [value for value in values if value is not None]
