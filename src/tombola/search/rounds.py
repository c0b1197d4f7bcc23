"""Search: rounds of train, cut, rewind.

    partition -> train -> cut: [ score -> prune -> intersect ] -> rewind -> next round

LTH (iterative magnitude pruning) is the search with one partition, COLT-N the one with N. A matched
control is the same search whose amounts are another arm's counts; fine-tuning is the same search
that does not rewind; one-shot pruning is one training that is cut several times; and partitions
that search apart meet in their finished tickets alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tombola.data.partitions import Partition
from tombola.ground.endings import End
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Training
from tombola.ground.types import Mask, State
from tombola.masks.masks import count, empty_layers, intersect
from tombola.masks.paces import Gradual
from tombola.masks.rates import Amount
from tombola.masks.scopes import Scope, whole_model
from tombola.scores._magnitude import magnitude
from tombola.scores.context import Context, Score
from tombola.search.cutting import Combine, Cut, keep_any, keep_common
from tombola.training import invariants
from tombola.training.jobs import Job, Trained

log = logging.getLogger("tombola")


@dataclass(frozen=True, eq=False)
class Round:
    """One round of a search.

    Attributes:
        index: From 1; round 0 is the dense network.
        mask: What all partitions agree on after this round.
        candidates: One mask a partition, before they were combined.
        jobs: The trainings of this round, one a partition.
        trained: What they gave, until the next round is asked for, see ``keep`` of `find`.
        job: The ticket as a training on the full data, rewound: running it evaluates the ticket.
        collapsed: Layers of which no weight is left.
        cut_seconds: What scoring and cutting took.
        invariant_seconds: What checking the invariants took.
    """

    index: int
    mask: dict[str, Tensor]
    candidates: list[dict[str, Tensor]]
    jobs: list[Job]
    trained: Sequence[Trained]
    job: Job
    collapsed: list[str]
    cut_seconds: float
    invariant_seconds: float

    @classmethod
    def of(cls, index: int, job: Job) -> Round:
        """Return a round in which nothing was cut: its ticket comes from elsewhere."""
        return cls(index, dict(job.mask), [], [], [], job, empty_layers(job.mask), 0.0, 0.0)


After = Callable[[Job, Mask, Sequence[Trained]], Job]
CutJobs = Callable[
    [Sequence[Job], Mask, Amount, int], tuple[dict[str, Tensor], list[dict[str, Tensor]]]
]


def rewound(job: Job, mask: Mask, trained: Sequence[Trained]) -> Job:  # noqa: ARG001 - an `After` is told what was learnt
    """Go back: the next round starts from the rewind point, whatever was learnt."""
    return job.on(job.part, mask)


def carried_on(training: Training) -> After:
    """Make the step that does not rewind: the next round starts from the weights that were learnt.

    Args:
        training: How each further round trains. The recipe's own training again is learning-rate
            rewinding (Renda et al. 2020, arXiv:2003.02389); with a low rate it is fine-tuning, see
            `settings.fine_tuning`.
    """

    def after(job: Job, mask: Mask, trained: Sequence[Trained]) -> Job:
        if len(trained) > 1:
            raise ConfigError(
                f"{len(trained)} partitions learn {len(trained)} states; without rewinding there "
                "is one"
            )
        return Job(trained[0].state, mask, training, job.seed, job.part)

    return after


def selected(trained: Trained, index: int) -> State:  # noqa: ARG001 - which state is scored may hang on the round
    """Score the state that the training selects, "last" or "best"."""
    return trained.state


def _own(trained: Sequence[Trained]) -> Sequence[Trained]:
    """Return results as a list that nobody else has in hands, or those of a pool, which are
    read one at a time.
    """
    return list(trained) if isinstance(trained, list) else trained


def _forget(trained: Sequence[Trained]) -> None:
    """Let go of the states that were learnt."""
    clear = getattr(trained, "clear", None)
    if clear is not None:
        clear()


class _States(Sequence[State]):
    """The states that are scored, one a training; each is had when it is its turn."""

    def __init__(
        self, trained: Sequence[Trained], scored: Callable[[Trained, int], State], index: int
    ) -> None:
        self._trained, self._scored, self._index = trained, scored, index

    def __len__(self) -> int:
        return len(self._trained)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        return self._scored(self._trained[place], self._index)


def find(
    job: Job,
    partitions: Sequence[Partition],
    amounts: Iterable[Amount],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    score: Score | Sequence[Score] = magnitude,
    scope: Scope = whole_model,
    combine: Combine = intersect,
    cut: Cut | None = None,
    cut_jobs: CutJobs | None = None,
    untrained: bool = False,
    after: After = rewound,
    scored: Callable[[Trained, int], State] = selected,
    first: int = 1,
    allow_collapse: bool = False,
    keep: bool = False,
) -> Generator[Round, None, End]:
    """Search for tickets, and yield a `Round` for every amount: what each partition learnt, and
    what all keep.

    Args:
        job: The training on the full data that starts the search: the rewind point, the mask so
            far, the settings.
        partitions: What each model is trained on; one is LTH, N are COLT-N.
        amounts: What each round is asked for: a rate (a number, or one per group of the scope) or a
            `Count`.
        run_all: Trains jobs and gives their results in order; ``tombola.serial(task)`` or a pool's.
        score: What weights are ranked by; of several, one for each partition's model.
        scope: Which weights compete.
        combine: Makes the next mask of the candidates: `intersect` keeps what all keep, `unite`
            what any keeps.
        cut: From trained states to the next mask; made of score, scope and combine if not given.
        cut_jobs: Instead, from jobs that are done, a mask, an amount and the round's number to the
            next mask and its candidates: for scores that need data, which are scored where the data
            is.
        untrained: Score the weights that each round starts from: its trainings take no step.
        after: What the next round starts from: `rewound`, or `carried_on`.
        scored: Which state of a training is scored, by the round's number.
        first: Number of the first round.
        allow_collapse: Go on when a layer has no weight left.
        keep: Leave every round what its trainings gave; else ``trained`` is empty once the next
            round is asked for, so that memory does not hold two rounds' states.

    Yields:
        Rounds, until the amounts end, a round removes nothing, a layer is empty, or the caller asks
        no more.

    Returns:
        Why the search ended, as the generator's return value, see `endings.End`; an empty one when
        the amounts did.

    Raises:
        InvariantError: A law of pruning was broken.

    Source:
        COLT, arXiv:2212.12770, Algorithm 1; Frankle & Carbin 2019, arXiv:1803.03635, section 1. The
        printed algorithm leaves out the intersection of its last round and returns the mask before
        it: that is this search with one round that is trained and thrown away.

    >>> import torch
    >>> from tombola import Classification, Training, by_classes, ones, serial, split
    >>> from tombola.data import synthetic
    >>> from tombola.data.partitions import WHOLE
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
    cut = cut or (keep_common if combine is intersect else keep_any)(score, scope)
    mask = {name: keep.clone() for name, keep in job.mask.items()}
    for index, amount in enumerate(amounts, first):
        # not in the ticket, which is trained
        base = replace(job, last=job.first) if untrained else job
        jobs = [base.on(part, mask) for part in partitions]
        trained = _own(run_all(jobs))
        before, began = mask, time.perf_counter()
        if cut_jobs is not None:
            mask, made = cut_jobs(jobs, before, amount, index)
        else:
            mask, made = cut(
                before, _States(trained, scored, index), amount, Context(job.start, job.seed)
            )
        cut_seconds, began = time.perf_counter() - began, time.perf_counter()
        _check_zeros(index, jobs, trained)
        invariants.check_cut(before, mask, made, amount, checked_scope, combine)
        collapsed = empty_layers(mask)
        seconds = time.perf_counter() - began
        if end := _end(index, before, mask, () if allow_collapse else collapsed):
            return _ended(end)
        job = after(job, mask, trained)
        yield Round(index, mask, made, jobs, trained, job, collapsed, cut_seconds, seconds)
        if not keep:
            # Each state is as large as the model: those of this round must not lie in memory while
            # the next one trains, whoever still has the round in hands.
            _forget(trained)
    return End()


def find_apart(
    job: Job,
    partitions: Sequence[Partition],
    amounts: Iterable[Amount],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    candidates: Sequence[Mask] | None = None,
    score: Score = magnitude,
    scope: Scope = whole_model,
    cut_jobs: CutJobs | None = None,
    scored: Callable[[Trained, int], State] = selected,
    first: int = 1,
    allow_collapse: bool = False,
    keep: bool = False,
) -> Generator[Round, None, End]:
    """Search on every partition as if it were alone; what their masks have in common is the round's
    ticket.

    It decides nothing: each partition goes on with its own candidate.

    Args:
        job: As `find` takes it.
        partitions: As `find` takes them.
        amounts: What each partition is asked for in a round.
        run_all: As `find` takes it.
        candidates: Where each partition stands, when a search goes on.
        score: What weights are ranked by.
        scope: As `find` takes it.
        cut_jobs: As `find` takes it.
        scored: As `find` takes it.
        first: Number of the first round.
        allow_collapse: Go on when the ticket has a layer without a weight.
        keep: As `find` takes it.

    Raises:
        ConfigError: There are not as many candidates as partitions.
        InvariantError: A law of pruning was broken.

    Source:
        COLT, arXiv:2212.12770, Table I.

    >>> import torch
    >>> from tombola import Classification, Training, by_classes, ones, serial, split
    >>> from tombola.data import synthetic
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=1), seed=0)
    >>> found = next(find_apart(job, by_classes(10, 2, seed=0), [0.25], run_all=serial(task)))
    >>> [count(candidate) for candidate in found.candidates]
    [960, 960]
    """
    if candidates is not None and len(candidates) != len(partitions):
        raise ConfigError(
            f"there are {len(candidates)} candidates for {len(partitions)} partitions; one each"
        )
    mask = {name: keep.clone() for name, keep in job.mask.items()}
    masks: Sequence[Mask] = candidates if candidates is not None else [mask] * len(partitions)
    cut = keep_common(score, scope)
    for index, amount in enumerate(amounts, first):
        jobs = [job.on(part, own) for part, own in zip(partitions, masks, strict=True)]
        trained = _own(run_all(jobs))
        before, began = mask, time.perf_counter()
        made = []
        for number, (own, one, result) in enumerate(zip(masks, jobs, trained, strict=True)):
            if cut_jobs is not None:
                candidate, _ = cut_jobs([one], own, amount, index)
            else:
                context = Context(job.start, job.seed, number)
                candidate, _ = cut(own, [scored(result, index)], amount, context)
            made.append(candidate)
        mask = intersect(made)
        cut_seconds, began = time.perf_counter() - began, time.perf_counter()
        _check_zeros(index, jobs, trained)
        for own, candidate in zip(masks, made, strict=True):
            invariants.check_cut(own, candidate, [candidate], amount, scope)
        invariants.check_cut(before, mask, made, amount, None, intersect, within=False)
        collapsed = empty_layers(mask)
        seconds = time.perf_counter() - began
        if end := _end(index, before, mask, () if allow_collapse else collapsed):
            return _ended(end)
        job, masks = rewound(job, mask, trained), made
        del result
        yield Round(index, mask, made, jobs, trained, job, collapsed, cut_seconds, seconds)
        if not keep:
            _forget(trained)
    return End()


def _check_zeros(index: int, jobs: Sequence[Job], trained: Sequence[Trained]) -> None:
    """Refuse trained states in which a pruned weight is not zero."""
    for number, (job, result) in enumerate(zip(jobs, trained, strict=True), 1):
        for state in filter(None, (result.final, result.early)):
            invariants.check_zeros(state, job.mask, f"round {index}, partition {number}")


def _end(index: int, before: Mask, mask: Mask, collapsed: Sequence[str]) -> End:
    """Return why a search ends with a cut; an empty end where it goes on."""
    if count(mask) == count(before):
        return End.unchanged(index, count(before))
    return End.collapsed(index, list(collapsed)) if collapsed else End()


def find_at_once(
    job: Job,
    partitions: Sequence[Partition],
    amounts: Iterable[Amount],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    first: int = 1,
    **options: Any,
) -> Generator[Round, None, End]:
    """Prune the dense network once to each amount: one-shot pruning, in as many tickets as there
    are amounts.

    Every round cuts the same training anew, so its amounts refer to the unpruned network.

    Args:
        job: As `find` takes it.
        partitions: As `find` takes them.
        amounts: What each ticket is asked for.
        run_all: As `find` takes it; it is called once.
        first: Number of the first round.
        options: The others of `find`.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, section 1, "one-shot pruning".

    >>> import torch
    >>> from tombola import Classification, Count, Training, ones, serial, split
    >>> from tombola.data import synthetic
    >>> from tombola.data.partitions import WHOLE
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=1), seed=0)
    >>> counts = [Count(640), Count(128)]
    >>> [count(found.mask) for found in find_at_once(job, [WHOLE], counts, run_all=serial(task))]
    [640, 128]
    """
    trained: list[Sequence[Trained]] = []

    def once(jobs: list[Job]) -> Sequence[Trained]:
        if not trained:
            trained.append(run_all(jobs))
        return list(trained[0])  # a round empties what it was given

    for index, amount in enumerate(amounts, first):
        why = yield from find(job, partitions, [amount], run_all=once, first=index, **options)
        if why:
            return why
    return End()


def find_gradually(
    job: Job,
    schedules: Iterable[Gradual],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    part: Partition | None = None,
    first: int = 1,
    allow_collapse: bool = False,
) -> Generator[Round, None, End]:
    """Prune while training, once for each schedule; the mask that a training ends with is its
    ticket.

    The trainings know nothing of each other: each begins with the dense network.

    Args:
        job: The training on the full data: the rewind point, the prunable weights, the settings.
        schedules: What each training is to end with.
        run_all: As `find` takes it.
        part: What is trained on while pruning; what the job is if not given.
        first: Number of the first round.
        allow_collapse: Go on when a layer has no weight left.

    Source:
        Zhu & Gupta 2017, arXiv:1710.01878.

    >>> import torch
    >>> from tombola import Classification, Training, ones, serial, split
    >>> from tombola.data import synthetic
    >>> from tombola.masks.paces import Gradual, Pace
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=2), seed=0)
    >>> schedules = [Gradual(0.5, Pace(every=5)), Gradual(0.1, Pace(every=5))]
    >>> [count(found.mask) for found in find_gradually(job, schedules, run_all=serial(task))]
    [640, 128]
    """
    for index, schedule in enumerate(schedules, first):
        pruning = replace(job, during=schedule, part=part or job.part)
        [trained] = run_all([pruning])
        began = time.perf_counter()
        mask = trained.mask
        if mask is None:
            raise ConfigError("the loop did not prune: what runs the jobs must heed Job.during")
        invariants.check_zeros(trained.final, mask, f"round {index}")
        collapsed = empty_layers(mask)
        seconds = time.perf_counter() - began
        if collapsed and not allow_collapse:
            return _ended(End.collapsed(index, collapsed))
        yield Round(
            index,
            mask,
            [mask],
            [pruning],
            [trained],
            job.on(job.part, mask),
            collapsed,
            0.0,
            seconds,
        )
    return End()


def _ended(end: End) -> End:
    log.info("the search ended: %s", end)
    return end
