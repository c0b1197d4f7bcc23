"""Search: rounds of train, cut, rewind.

    partition -> train -> cut: [ score -> prune -> intersect ] -> rewind -> next round

LTH (iterative magnitude pruning) is the search with one partition, COLT-N the one with N. A matched control is the same
search whose amounts are another arm's counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from tombola import invariants
from tombola.cutting import Cut, keep_common
from tombola.jobs import Job, Trained
from tombola.masks import count, empty_layers
from tombola.partitions import WHOLE, Partition
from tombola.rates import Amount
from tombola.scopes import Scope, whole_model
from tombola.scores._magnitude import magnitude
from tombola.scores.context import Context, Score

log = logging.getLogger("tombola")


@dataclass(frozen=True, eq=False)
class Round:
    """One round of a search.

    Attributes:
        index: From 1; round 0 is the dense network.
        mask: What all partitions agree on after this round.
        candidates: One mask a partition, before the intersection.
        jobs: The trainings of this round, one a partition.
        trained: What they gave.
        job: The ticket as a training on the full data, rewound: running it evaluates the ticket.
        collapsed: Layers of which no weight is left.
        invariant_seconds: What checking the invariants took.
    """

    index: int
    mask: dict[str, Tensor]
    candidates: list[dict[str, Tensor]]
    jobs: list[Job]
    trained: list[Trained]
    job: Job
    collapsed: list[str]
    invariant_seconds: float


def find(
    job: Job,
    partitions: Sequence[Partition],
    amounts: Iterable[Amount],
    *,
    run_all: Callable[[list[Job]], list[Trained]],
    score: Score = magnitude,
    scope: Scope = whole_model,
    cut: Cut | None = None,
    first: int = 1,
    allow_collapse: bool = False,
) -> Generator[Round, None, str]:
    """Search for tickets, and yield a `Round` for every amount: what each partition learnt, and what all keep.

    Args:
        job: The training on the full data that starts the search: the rewind point, the mask so far, the settings.
        partitions: What each model is trained on; one is LTH, N are COLT-N.
        amounts: What each round is asked for: a rate (a number, or one per group of the scope) or a `Count`.
        run_all: Trains jobs and gives their results in order; ``tombola.serial(task)`` or a pool's.
        score: What weights are ranked by.
        scope: Which weights compete.
        cut: From trained states to the next mask; ``keep_common(score, scope)`` if not given.
        first: Number of the first round.
        allow_collapse: Go on when a layer has no weight left.

    Yields:
        Rounds, until the amounts end, a round removes nothing, a layer is empty, or the caller asks no more.

    Returns:
        Why the search ended, as the generator's return value; an empty string when the amounts did.

    Raises:
        InvariantError: A law of pruning was broken.

    Source:
        COLT, arXiv:2212.12770, Algorithm 1; Frankle & Carbin 2019, arXiv:1803.03635, section 1.

    >>> import torch
    >>> from tombola import Classification, Training, by_classes, ones, serial, split
    >>> from tombola.data import synthetic
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=1), seed=0)
    >>> [count(found.mask) for found in find(job, [WHOLE], [0.25, 0.25], run_all=serial(task))]
    [960, 720]
    >>> halves = by_classes(10, 2, seed=0)
    >>> [0.70 <= count(found.mask) / 1280 <= 0.85 for found in find(job, halves, [0.15], run_all=serial(task))]
    [True]
    """
    checked_scope = scope if cut is None else None
    cut = cut or keep_common(score, scope)
    mask = {name: keep.clone() for name, keep in job.mask.items()}
    for index, amount in enumerate(amounts, first):
        jobs = [job.on(part, mask) for part in partitions]
        trained = run_all(jobs)
        before = mask
        mask, candidates = cut(before, [t.state for t in trained], amount, Context(job.start, job.seed))
        began = time.perf_counter()
        for number, one in enumerate(trained):
            for state in filter(None, (one.final, one.early)):
                invariants.check_zeros(state, before, f"round {index}, partition {number + 1}")
        invariants.check_cut(before, mask, candidates, amount, checked_scope)
        collapsed = empty_layers(mask)
        seconds = time.perf_counter() - began
        if count(mask) == count(before):
            return _ended(f"round {index} removes nothing: {count(before)} weights are kept")
        if collapsed and not allow_collapse:
            return _ended(f"layer collapse in round {index}: no weight is left in {', '.join(collapsed)}")
        job = job.on(WHOLE, mask)  # rewound: its start is the rewind point, whatever was learnt
        yield Round(index, mask, candidates, jobs, trained, job, collapsed, seconds)
    return ""


def _ended(reason: str) -> str:
    log.info("the search ended: %s", reason)
    return reason
