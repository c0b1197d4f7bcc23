"""Search: rounds of train, cut, rewind.

    partition -> train -> cut: [ score -> prune -> intersect ] -> rewind -> next round

LTH (iterative magnitude pruning) is the search with one partition, COLT-N the one with N. A matched
control is the same search whose amounts are another arm's counts; fine-tuning is the same search
without rewinding; one-shot pruning is one training that is cut several times. Partitions that
search independently share nothing but the intersection of their finished tickets.
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
from tombola.ground.notebooks import one_line
from tombola.ground.renames import renamed_arguments
from tombola.ground.settings import Training
from tombola.ground.types import Mask, State
from tombola.masks.masks import cloned, count, empty_layers, intersect, kept_in_words
from tombola.masks.rates import Amount
from tombola.masks.scopes import Scope, whole_model
from tombola.scores._magnitude import magnitude
from tombola.scores.context import Context, Score
from tombola.search.cutting import Combine, Cut, keep_any, keep_common
from tombola.training import invariants
from tombola.training.during import During
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
        trained: Their results, until the next round is asked for, see ``keep`` of `find`.
        job: The ticket as a training on the full data, rewound: running it evaluates the ticket.
        collapsed: Layers of which no weight is left.
        cut_seconds: How long scoring and cutting took.
        invariant_seconds: How long checking the invariants took.
        length: Of a ticket that trains longer than others: how many times the recipe's training
            it takes, and how many an equal cost would take.
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
    length: tuple[float, float] | None = None

    def __repr__(self) -> str:
        candidates = f"{len(self.candidates)} candidate{'s' * (len(self.candidates) != 1)}"
        return one_line("Round", f"round {self.index}", kept_in_words(self.mask), candidates)

    @classmethod
    def of(cls, index: int, job: Job) -> Round:
        """Return a round in which nothing was cut: its ticket comes from elsewhere."""
        return cls(index, dict(job.mask), [], [], [], job, empty_layers(job.mask), 0.0, 0.0)


NextStart = Callable[[Job, Mask, Sequence[Trained]], Job]
CutJobs = Callable[
    [Sequence[Job], Mask, Amount, int], tuple[dict[str, Tensor], list[dict[str, Tensor]]]
]


def rewound(job: Job, mask: Mask, trained: Sequence[Trained]) -> Job:  # noqa: ARG001
    """Rewind: the next round starts from the rewind point, whatever was learnt."""
    return job.on(job.part, mask)


def continue_from(training: Training) -> NextStart:
    """Do not rewind: the next round starts from the weights that were learnt.

    Args:
        training: How each further round trains. The recipe's own training again is learning-rate
            rewinding (Renda et al. 2020, arXiv:2003.02389); with a low rate it is fine-tuning, see
            `settings.fine_tuning`.
    """

    def next_start(job: Job, mask: Mask, trained: Sequence[Trained]) -> Job:
        if len(trained) > 1:
            raise ConfigError(
                f"{len(trained)} partitions learn {len(trained)} states; without rewinding there "
                "is one"
            )
        return Job(trained[0].state, mask, training, job.seed, job.part)

    return next_start


def selected(trained: Trained, index: int) -> State:  # noqa: ARG001
    """Score the state that the training selects, "last" or "best", in every round."""
    return trained.state


def _emptiable(trained: Sequence[Trained]) -> Sequence[Trained]:
    """Copy a caller's list, which must not be emptied; a pool's results can be forgotten."""
    return list(trained) if isinstance(trained, list) else trained


def _forget_states(trained: Sequence[Trained]) -> None:
    """Free the trained states of a round."""
    clear = getattr(trained, "clear", None)
    if clear is not None:
        clear()


class _StatesToScore(Sequence[State]):
    """The state to score of each training, read only when it is its turn: states are large."""

    def __init__(
        self,
        trained: Sequence[Trained],
        state_to_score: Callable[[Trained, int], State],
        index: int,
    ) -> None:
        self._trained = trained
        self._state_to_score = state_to_score
        self._index = index

    def __len__(self) -> int:
        return len(self._trained)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        return self._state_to_score(self._trained[place], self._index)


@renamed_arguments(after="next_start", scored="state_to_score")
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
    during: During | None = None,
    next_start: NextStart = rewound,
    state_to_score: Callable[[Trained, int], State] = selected,
    first: int = 1,
    allow_collapse: bool = False,
    keep: bool = False,
) -> Generator[Round, None, End]:
    """Search for tickets: yield a `Round` for every amount.

    Args:
        job: The training on the full data that starts the search: the rewind point, the mask so
            far, the settings.
        partitions: What each model is trained on; one is LTH, N are COLT-N.
        amounts: What each round is asked for: a rate (a number, or one per group of the scope) or a
            `Count`.
        run_all: Trains jobs and returns their results in order; ``tombola.serial(task)`` or a
            pool's.
        score: What weights are ranked by: one score, or one for each partition's model.
        scope: Which weights compete.
        combine: Makes the next mask of the candidates: `intersect` keeps what all keep, `union`
            what any keeps.
        cut: From trained states to the next mask; made of score, scope and combine if not given.
        cut_jobs: Takes the place of ``cut``, for scores that need data and are worked out where the
            data is: from finished jobs, a mask, an amount and the round's number to the next mask
            and its candidates.
        untrained: Score the weights that each round starts from: its trainings take no step.
        during: What happens while the search trains, such as ``Gather()`` for scores that need a
            history; not while tickets are trained.
        next_start: What the next round starts from: `rewound`, or `continue_from`.
        state_to_score: Which state of a training is scored, by the round's number.
        first: Number of the first round.
        allow_collapse: Go on when a layer has no weight left.
        keep: Keep the results of every round's trainings. Otherwise ``trained`` is emptied once the
            next round is asked for, so that memory never holds the states of two rounds.

    Yields:
        Rounds, until the amounts end, a round removes nothing, a layer is empty, or the caller
        stops.

    Returns:
        Why the search ended, as the generator's return value, see `endings.End`; an empty one when
        the amounts ended.

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
    >>> from torch.nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 20), Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=1), seed=0)
    >>> rounds = find(job, [WHOLE], [0.25, 0.25], run_all=serial(task))
    >>> [count(round.mask) for round in rounds]
    [960, 720]
    >>> halves = by_classes(10, 2, seed=0)
    >>> colt = next(find(job, halves, [0.15], run_all=serial(task)))
    >>> 0.70 <= count(colt.mask) / 1280 <= 0.85
    True
    """
    # How the weights of a foreign cut compete is not known, so no scope is checked on it.
    checked_scope = scope if cut is None else None
    if cut is None:
        make_cut = keep_common if combine is intersect else keep_any
        cut = make_cut(score, scope)
    mask = cloned(job.mask)

    for index, amount in enumerate(amounts, first):
        # The partitions' trainings take no step where weights are scored untrained; the ticket's
        # own training does, so its job stays as it is.
        base = replace(job, last=job.first) if untrained else job
        if during is not None:
            base = replace(base, during=during)
        jobs = [base.on(part, mask) for part in partitions]
        trained = _emptiable(run_all(jobs))

        before = mask
        began = time.perf_counter()
        if cut_jobs is not None:
            mask, candidates = cut_jobs(jobs, before, amount, index)
        else:
            states = _StatesToScore(trained, state_to_score, index)
            mask, candidates = cut(before, states, amount, Context(job.start, job.seed))
        cut_seconds = time.perf_counter() - began

        # Checked in every round: it costs little beside a training, and one broken law would spoil
        # all rounds that follow.
        began = time.perf_counter()
        _check_zeros(index, jobs, trained)
        invariants.check_cut(before, mask, candidates, amount, checked_scope, combine)
        collapsed = empty_layers(mask)
        invariant_seconds = time.perf_counter() - began

        end = _end(index, before, mask, collapsed, allow_collapse)
        if end:
            return _ended(end)
        job = next_start(job, mask, trained)
        yield Round(
            index, mask, candidates, jobs, trained, job, collapsed, cut_seconds, invariant_seconds
        )
        # Each state is as large as the model: those of this round must not stay in memory while the
        # next one trains, whoever still holds the round.
        if not keep:
            _forget_states(trained)
    return End()


def find_independent(
    job: Job,
    partitions: Sequence[Partition],
    amounts: Iterable[Amount],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    candidates: Sequence[Mask] | None = None,
    score: Score = magnitude,
    scope: Scope = whole_model,
    cut_jobs: CutJobs | None = None,
    during: During | None = None,
    state_to_score: Callable[[Trained, int], State] = selected,
    first: int = 1,
    allow_collapse: bool = False,
    keep: bool = False,
) -> Generator[Round, None, End]:
    """Search on every partition independently; each round's ticket is their intersection.

    The intersection has no influence on the search: each partition continues with its own
    candidate.

    Args:
        job: As `find` takes it.
        partitions: As `find` takes them.
        amounts: What each partition is asked for in a round.
        run_all: As `find` takes it.
        candidates: The masks that the partitions start from, to continue an earlier search.
        score: What weights are ranked by.
        scope: As `find` takes it.
        cut_jobs: As `find` takes it.
        during: As `find` takes it.
        state_to_score: As `find` takes it.
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
    >>> from torch.nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 20), Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=1), seed=0)
    >>> halves = by_classes(10, 2, seed=0)
    >>> first = next(find_independent(job, halves, [0.25], run_all=serial(task)))
    >>> [count(candidate) for candidate in first.candidates]
    [960, 960]
    """
    if candidates is not None and len(candidates) != len(partitions):
        raise ConfigError(
            f"there are {len(candidates)} candidates for {len(partitions)} partitions; one each"
        )
    mask = cloned(job.mask)
    masks: Sequence[Mask] = candidates if candidates is not None else [mask] * len(partitions)
    cut = keep_common(score, scope)

    for index, amount in enumerate(amounts, first):
        base = job if during is None else replace(job, during=during)
        jobs = [base.on(part, part_mask) for part, part_mask in zip(partitions, masks, strict=True)]
        trained = _emptiable(run_all(jobs))

        # Each partition is cut as a separate search, from its own mask.
        before = mask
        began = time.perf_counter()
        new_masks = []
        pairs = zip(jobs, masks, trained, strict=True)
        for number, (part_job, part_mask, result) in enumerate(pairs):
            if cut_jobs is not None:
                candidate, _ = cut_jobs([part_job], part_mask, amount, index)
            else:
                context = Context(job.start, job.seed, number)
                candidate, _ = cut(part_mask, [state_to_score(result, index)], amount, context)
            new_masks.append(candidate)
        # Else these two would keep the last result alive when the round is forgotten.
        del result, pairs
        mask = intersect(new_masks)
        cut_seconds = time.perf_counter() - began

        began = time.perf_counter()
        _check_zeros(index, jobs, trained)
        for part_mask, candidate in zip(masks, new_masks, strict=True):
            invariants.check_cut(part_mask, candidate, [candidate], amount, scope)
        invariants.check_cut(before, mask, new_masks, amount, None, intersect, within=False)
        collapsed = empty_layers(mask)
        invariant_seconds = time.perf_counter() - began

        end = _end(index, before, mask, collapsed, allow_collapse)
        if end:
            return _ended(end)
        job = rewound(job, mask, trained)
        masks = new_masks
        yield Round(
            index, mask, new_masks, jobs, trained, job, collapsed, cut_seconds, invariant_seconds
        )
        if not keep:
            _forget_states(trained)
    return End()


def _check_zeros(index: int, jobs: Sequence[Job], trained: Sequence[Trained]) -> None:
    """Refuse trained states in which a pruned weight is not zero."""
    for number, (job, result) in enumerate(zip(jobs, trained, strict=True), 1):
        for state in (result.final, result.early):
            if state:
                invariants.check_zeros(state, job.mask, f"round {index}, partition {number}")


def _end(index: int, before: Mask, mask: Mask, collapsed: list[str], allow_collapse: bool) -> End:
    """Return why a search ends with this round; an empty end where it continues."""
    if count(mask) == count(before):
        return End.unchanged(index, count(before))
    if collapsed and not allow_collapse:
        return End.collapsed(index, collapsed)
    return End()


def _ended(end: End) -> End:
    log.info("the search ended: %s", end)
    return end


def find_at_once(
    job: Job,
    partitions: Sequence[Partition],
    amounts: Iterable[Amount],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    first: int = 1,
    **options: Any,
) -> Generator[Round, None, End]:
    """Prune the dense network once to each amount: one-shot pruning, one ticket per amount.

    Every round cuts the same training again, so its amounts refer to the unpruned network.

    Args:
        job: As `find` takes it.
        partitions: As `find` takes them.
        amounts: What each ticket is asked for.
        run_all: As `find` takes it; it is called once.
        first: Number of the first round.
        options: Further options of `find`.

    Source:
        Frankle & Carbin 2019, arXiv:1803.03635, section 1, "one-shot pruning".

    >>> import torch
    >>> from tombola import Classification, Count, Training, ones, serial, split
    >>> from tombola.data import synthetic
    >>> from tombola.data.partitions import WHOLE
    >>> from torch.nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 20), Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=1), seed=0)
    >>> counts = [Count(640), Count(128)]
    >>> rounds = find_at_once(job, [WHOLE], counts, run_all=serial(task))
    >>> [count(round.mask) for round in rounds]
    [640, 128]
    """
    trained: list[Sequence[Trained]] = []

    def run_once(jobs: list[Job]) -> Sequence[Trained]:
        if not trained:
            trained.append(run_all(jobs))
        # A copy, as each round empties its list.
        return list(trained[0])

    for index, amount in enumerate(amounts, first):
        end = yield from find(job, partitions, [amount], run_all=run_once, first=index, **options)
        if end:
            return end
    return End()


def find_gradually(
    job: Job,
    schedules: Iterable[During],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    part: Partition | None = None,
    first: int = 1,
    allow_collapse: bool = False,
) -> Generator[Round, None, End]:
    """Find masks while training, once per schedule; each training's final mask is a ticket.

    The trainings are independent: each begins with the dense network.

    Args:
        job: The training on the full data: the rewind point, the prunable weights, the settings.
        schedules: What happens during each training: when it prunes to which density, or what else
            leads to its mask, see `training.during`.
        run_all: As `find` takes it.
        part: The data to train on while pruning; the job's if not given.
        first: Number of the first round.
        allow_collapse: Go on when a layer has no weight left.

    Source:
        Zhu & Gupta 2017, arXiv:1710.01878.

    >>> import torch
    >>> from tombola import Classification, Training, ones, serial, split
    >>> from tombola.data import synthetic
    >>> from tombola.masks.schedules import Gradual, PruningSchedule
    >>> from torch.nn import Flatten, Linear, Sequential
    >>> model = Sequential(Flatten(), Linear(64, 20), Linear(20, 10))
    >>> task = Classification(model, split(synthetic()), head="2")
    >>> job = Job(task.initial_state(), ones(model, head="2"), Training(lr=0.01, epochs=2), seed=0)
    >>> when = PruningSchedule(every=5)
    >>> schedules = [Gradual(0.5, when), Gradual(0.1, when)]
    >>> [count(round.mask) for round in find_gradually(job, schedules, run_all=serial(task))]
    [640, 128]
    """
    pruning = replace(job, part=part or job.part)
    trainings = (replace(pruning, during=schedule) for schedule in schedules)
    return find_in_trainings(
        job, trainings, run_all=run_all, first=first, allow_collapse=allow_collapse
    )


def find_in_trainings(
    job: Job,
    trainings: Iterable[Job],
    *,
    run_all: Callable[[list[Job]], Sequence[Trained]],
    first: int = 1,
    allow_collapse: bool = False,
) -> Generator[Round, None, End]:
    """Train, once per ticket; the mask that each training ends with is a ticket.

    Args:
        job: The training on the full data: the rewind point and the settings.
        trainings: They change their masks while they run, see `Job.during`.
        run_all: As `find` takes it.
        first: Number of the first round.
        allow_collapse: Go on when a layer has no weight left.
    """
    for index, training in enumerate(trainings, first):
        [trained] = run_all([training])
        began = time.perf_counter()
        mask = trained.mask
        # A user's own loop may not know of `Job.during`.
        if mask is None:
            raise ConfigError("the loop did not prune: what runs the jobs must heed Job.during")
        invariants.check_zeros(trained.final, mask, f"round {index}")
        collapsed = empty_layers(mask)
        if collapsed and not allow_collapse:
            return _ended(End.collapsed(index, collapsed))
        yield Round(
            index,
            mask,
            candidates=[mask],
            jobs=[training],
            trained=[trained],
            job=job.on(job.part, mask),
            collapsed=collapsed,
            cut_seconds=0.0,
            invariant_seconds=time.perf_counter() - began,
        )
    return End()
