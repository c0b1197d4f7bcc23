"""Fitting: check that a search fits its problem, before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from tombola.ground import catalogue, seeds
from tombola.ground.errors import ConfigError, shown
from tombola.ground.settings import Schedule
from tombola.masks import names
from tombola.masks.masks import count, head_weights, size
from tombola.masks.pruning import removals
from tombola.masks.rates import Count
from tombola.masks.scopes import Group, by_group
from tombola.scores.context import Context
from tombola.scores.ranking import naming
from tombola.search.problems import JobProblem
from tombola.training import loop as training
from tombola.training.jobs import Job

if TYPE_CHECKING:
    from tombola.data.partitions import Partition
    from tombola.methods.searching import Scoring
    from tombola.methods.setting import Ground

_EXAMPLES_TRIED = 2  # batch norm in training mode takes no single one
_MOST_TRIED = 100  # amounts that are checked in advance


def check_search(method: Scoring, ground: Ground) -> None:
    """Refuse trainings, scores and amounts that do not fit the model.

    Raises:
        ConfigError: The first thing that is wrong.
    """
    training.resolve_defaults(method.searching(ground.training), ground.task.model, ground.device)
    if method.scope == "half_output" and not _prunable_head(ground):
        raise ConfigError(
            "scope half_output needs a prunable output layer and is per_layer without one; use "
            "prunable: all"
        )
    if method.fixed and count(ground.mask) < size(ground.mask):
        raise ConfigError(
            "scope n_of_m begins with all weights, and does not go with model.mask, which leaves "
            f"{count(ground.mask):,} of {size(ground.mask):,}"
        )
    for ranking in method.rankings:
        ranking.check()
    if "match" not in method.given():
        _check_amounts(method, ground)
    _try_scores(method, ground)


def check_partitions(method: Scoring, ground: Ground) -> None:
    """Refuse partitions that cannot be trained and pruned.

    Raises:
        ConfigError: The first thing that is wrong.
    """
    task, parts = ground.task, method.division(ground)
    task.check(parts, covering=method.covering, whole=ground.searched)
    _check_rewind(method, ground, parts)
    if parts[0].own_head and task.head is None:
        raise ConfigError(
            "class partitions have a head of their own each, and the task names no head; use "
            "head: full, or split_by: examples"
        )
    head = _prunable_head(ground)
    if parts[0].own_head and head:
        raise ConfigError(
            f"'{head[0]}' is prunable, but class partitions renumber their labels and each has its "
            "own head; use head: full, prunable: no_head, or split_by: examples"
        )
    for number, part in enumerate(parts, 1):
        if method.searching(ground.training).select == "best" and not task.size(part, "valid"):
            raise ConfigError(
                f"partition {number} has no validation examples, which training.select: best needs"
            )


def _prunable_head(ground: Ground) -> list[str]:
    """Name the weights of the output layer that may be pruned."""
    task = ground.task
    outputs = () if task.head is None else head_weights(task.model, task.head)
    return [name for name in outputs if name in ground.mask]


def _check_rewind(method: Scoring, ground: Ground, parts: Iterable[Partition]) -> None:
    """Refuse a rewind point that leaves a search no steps to train, or is not a step of its
    training.
    """
    search, evaluation = method.searching(ground.training), ground.training
    if ground.rewind and search.batch_size != evaluation.batch_size:
        raise ConfigError(
            f"its search has training.batch_size {search.batch_size}, but rewind is step "
            f"{ground.rewind} of a training with batches of {evaluation.batch_size}"
        )
    for number, part in enumerate(parts, 1):
        # A partition trains for its share of the steps, so the rewind point scales with it.
        batches = ground.task.steps_per_epoch(search.batch_size, part)
        share = batches / ground.task.steps_per_epoch(search.batch_size)
        steps = Schedule.of(search, batches, share).steps
        if round(ground.rewind * share) >= steps:
            raise ConfigError(
                f"rewind is {ground.rewind}, which leaves partition {number} no steps to train; "
                f"it has {steps}"
            )


def _check_amounts(method: Scoring, ground: Ground) -> None:
    """Refuse exact counts that do not fit the scope, and rounds that would prune nothing."""
    groups, weights = ground.scope(ground.mask), size(ground.mask)
    before = weights
    for amount in itertools.islice(method.planned(ground), _MOST_TRIED):
        if not isinstance(amount, Count):
            _check_rate(ground, groups, amount, method.allow_collapse)
            return  # it is the same in every round
        left = weights - sum(removals(ground.mask, groups, None, amount.keep).values())
        if left == before:
            raise ConfigError(
                "its densities are too close together: a round would prune none of "
                f"{before:,} weights"
            )
        before = weights if method.at_once else left


def _check_rate(
    ground: Ground,
    groups: Mapping[str, Group],
    rate: float | Mapping[str, float],
    allow_collapse: bool,
) -> None:
    """Refuse a rate whose first round would prune nothing, or all weights of a group."""
    removed = removals(ground.mask, groups, rate, None)
    sizes = by_group(size, ground.mask, groups)
    if not any(removed.values()):
        raise ConfigError(
            f"its rate is {shown(rate)}; a round would prune none of {sum(sizes.values()):,} "
            "weights"
        )
    emptied = [group for group in removed if removed[group] == sizes[group]]
    # Where collapse is allowed, a group may be removed, but never the whole model.
    if emptied and not (allow_collapse and len(emptied) < len(removed)):
        which = f" of '{emptied[0]}'" if len(removed) > 1 else ""
        raise ConfigError(
            f"its rate is {shown(rate)}; the first round would prune all {sizes[emptied[0]]:,} "
            f"weights{which}"
        )


def _try_scores(method: Scoring, ground: Ground) -> None:
    """Call scores once on the initial state, so that mistakes show up before anything is trained.

    They get the real names and shapes, because a score may depend on them. Those that ship are
    tried where they run the model, on a few examples.
    """
    for ranking in method.rankings:
        is_own = catalogue.is_own(ranking.name)
        if not is_own and ranking.needs != "data":
            continue
        # Copies, so that a score cannot change the experiment's own tensors.
        state = {}
        for name, value in names.state(ground.task.model).items():
            state[name] = value.detach().clone()
        mask = {name: keep.clone() for name, keep in ground.mask.items()}
        problems, histories = [], []
        if ranking.needs == "data":
            job = Job(state, mask, ground.training, ground.seed, ground.whole)
            problems = [JobProblem(job, state, mask, ground.task)]
        if ranking.needs == "history":
            histories = [{name: torch.zeros(keep.shape) for name, keep in mask.items()}]
        context = Context(state, ground.seed, problems=problems, histories=histories)
        tried = ranking if is_own else ranking.on_examples(_EXAMPLES_TRIED)
        score = tried.score()
        with seeds.seeded(ground.seed, "tried"), naming(score):
            score(state, mask, context)
