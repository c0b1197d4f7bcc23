"""Describing: what a record says of a round, a ticket and its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tombola.data.partitions import WHOLE, Partition
from tombola.experiments.plans import Plans
from tombola.ground.metrics import Metric
from tombola.ground.types import Mask
from tombola.masks.masks import count, density, size
from tombola.models import flops
from tombola.models.flops import Flops
from tombola.records.results import ABSENT, Record, Selected
from tombola.search.rounds import Round
from tombola.tasks.protocol import Metrics, Task
from tombola.training.jobs import Job, Trained

_PIECE = 2**24  # weights whose changes are worked out together
# What a record says of the ticket itself, whether it is evaluated or not.
_TICKET_FACTS = (
    "kept",
    "prunable",
    "total",
    "density",
    "density_total",
    "layers",
    "inference_flops",
    "mask_digest",
    "rewind_digest",
    "unmasked",
    "never_pruned",
    "uncounted",
    "kept_fraction",
    "candidate_densities",
    "candidate_layers",
    "collapsed",
    "cut_seconds",
    "invariant_seconds",
    "length",
)


def ticket_facts(plans: Plans, mask: Mask, job: Job, layers: Mapping[str, Flops]) -> dict[str, Any]:
    """Say what a ticket is.

    Args:
        plans: The run's.
        mask: What it keeps.
        job: The training that it starts; round 0 starts where the others do.
        layers: What an example costs, layer by layer.
    """
    layers_kept = {}
    for name, keep in mask.items():
        layers_kept[name] = [int(keep.count_nonzero()), keep.numel()]
    facts = {
        "kept": count(mask),
        "prunable": size(mask),
        "total": plans.total,
        "density": density(mask),
        "density_total": density(mask, plans.total),
        "layers": layers_kept,
        "inference_flops": [flops.inference(layers), flops.inference(layers, mask)],
        "mask_digest": job.mask_digest,
        "rewind_digest": job.start_digest,
        "cut_seconds": 0.0,
        "invariant_seconds": 0.0,
    }
    if plans.unmasked:
        facts["unmasked"] = plans.unmasked
    if plans.task.uncounted:
        facts["uncounted"] = plans.task.uncounted
    return facts


def round_facts(new: Round, before: Mask) -> dict[str, Any]:
    """Say what a round did to the mask before it."""
    kept_fraction = count(new.mask) / count(before)
    facts: dict[str, Any] = {
        # A mask that is drawn anew may keep more weights than the one before it: no share of them.
        "kept_fraction": kept_fraction if kept_fraction <= 1 else None,
        "collapsed": new.collapsed,
        "cut_seconds": new.cut_seconds,
        "invariant_seconds": new.invariant_seconds,
    }
    if new.length is not None:
        facts["length"] = list(new.length)
    # A ticket that was drawn or taken from another arm has no candidates.
    if new.candidates:
        facts["candidate_densities"] = [density(candidate) for candidate in new.candidates]
        facts["candidate_layers"] = {name: _kept_of(name, new.candidates) for name in new.mask}
    return facts


def facts_of(record: Record) -> dict[str, Any]:
    """Return what a record says of the ticket itself."""
    return {name: record[name] for name in _TICKET_FACTS if name in record}


def _kept_of(layer: str, candidates: Sequence[Mask]) -> list[int]:
    """Count what each candidate keeps of a layer."""
    return [int(candidate[layer].count_nonzero()) for candidate in candidates]


def numbers(metrics: Metrics | None, task: Task) -> dict[str, float | None]:
    """Return what was measured on a split: each metric of the task, then the loss."""
    names = [metric.name for metric in task.metrics] + ["loss"]
    if metrics is None:
        return dict.fromkeys(names)
    return {name: metrics.of(name) for name in names}


def more(metrics: Metrics, task: Task) -> Any:
    """Return what was measured beside the task's metrics; ``ABSENT`` where there is nothing."""
    declared = {metric.name for metric in task.metrics}
    beside = {name: value for name, value in metrics.values.items() if name not in declared}
    return beside or ABSENT


def curve(trained: Trained, metrics: Sequence[Metric]) -> dict[str, list[float]]:
    """Return the evaluations of a training as columns, to six digits."""
    columns: dict[str, list[float]] = {}
    names = ["step", "valid_loss"] + [f"valid_{metric.name}" for metric in metrics]
    for name in names:
        columns[name] = [float(f"{entry[name]:.6g}") for entry in trained.history]
    return columns


def distance(job: Job, trained: Trained) -> float:
    """Return how far the kept weights went from where they began: the root of their mean
    squared change.
    """
    mask = trained.mask or job.mask
    squares, number = 0.0, 0
    for name, keep in mask.items():
        state, start = trained.state[name].flatten(), job.start[name].flatten()
        # In pieces: in float64 a layer of 100 million weights would take gigabytes, in every arm.
        for first in range(0, keep.numel(), _PIECE):
            piece = slice(first, first + _PIECE)
            moved = (state[piece] - start[piece])[keep.flatten()[piece]].double()
            squares += float(moved.square().sum())
            number += moved.numel()
    return math.sqrt(squares / max(number, 1))


def shares(parts: Sequence[Partition], task: Task) -> Any:
    """Return what a task says of each class partition; ``ABSENT`` where it says nothing."""
    described = []
    for part in parts:
        share = None if part.classes is None else task.shares(part)
        if share is None:
            return ABSENT
        described.append(dict(share))
    return described


def class_examples(plans: Plans, replicate: int) -> list[int]:
    """Count the training examples that skew leaves of each class."""
    labels, classes = plans.task.labels("train"), plans.task.classes
    assert labels is not None
    assert classes is not None
    left = plans.search_partition(replicate).examples
    counts: list[int] = labels[list(left or ())].bincount(minlength=classes).tolist()
    return counts


def selected(select: Literal["last", "best"], task: Task) -> Selected:
    """Say which weights were tested, and on what they were chosen."""
    if task.leaks:
        return Selected(select, "test")
    return Selected(select, "validation" if task.size(WHOLE, "valid") else "nothing")
