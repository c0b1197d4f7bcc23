"""Does a cut itself help? From one state, cut and not cut, both trained on alike (claim H17).

    training --+-- cut ------ 10, 30, 100, 300 steps, tested at each
               +-- not cut -- the same steps

The two branches share everything but the cut: weights, the optimiser's moments, the order of the
data, and no other cut until they end. Two trainings are branched: that of a dense network, cut
to each density at once, and that of a network on its way to a density along Zhu & Gupta's
schedule, where the cut is the one that the schedule has there.

    python -m findings.branches             half an hour on one core; run again, it continues
    python -m findings.branches 3 4         these replicates alone
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tombola.data.partitions import WHOLE
from tombola.experiments.plans import make_model, make_task, replicate_seed
from tombola.ground.settings import Schedule, Training
from tombola.ground.types import Mask, State
from tombola.masks.masks import count, ones, size
from tombola.masks.pruning import prune
from tombola.masks.rates import counts_for
from tombola.masks.schedules import Gradual, PruningSchedule
from tombola.masks.scopes import per_layer
from tombola.schema.recipe import read
from tombola.scores import magnitude
from tombola.scores.context import Context
from tombola.tasks.protocol import Task
from tombola.training.gradual import Pruner
from tombola.training.jobs import alone
from tombola.training.loop import train

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes/mnist-lenet5-gradual.yaml"
RECORDS = ROOT / "docs/findings/mnist-lenet5-branches/records.jsonl"

BRANCHES = (500, 1000, 1800)
AFTER = (0, 10, 30, 100, 300)
DENSITIES = (0.5, 0.2, 0.1, 0.05)
DENSE, GRADUAL = "dense", "gradual"


@dataclass(frozen=True, eq=False)
class Point:
    """A point of a training: everything that decides how it continues."""

    step: int
    state: State
    moments: Mapping[str, Mapping[str, Tensor]]
    mask: Mask


@dataclass(frozen=True)
class Trunk:
    """A training that is branched off: a dense one, or one on its way to a density."""

    kind: str
    densities: tuple[float, ...]

    def is_done(self, records: list[dict[str, Any]], replicate: int) -> bool:
        """Whether all its branches of a replicate are recorded."""
        recorded = set()
        for record in records:
            if (record["trunk"], record["replicate"]) == (self.kind, replicate) and record["cut"]:
                recorded.add(record["to"])
        return recorded >= set(self.densities)


TRUNKS = (Trunk(DENSE, DENSITIES), *(Trunk(GRADUAL, (density,)) for density in DENSITIES))


def point_of(number: int, model: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask) -> Point:
    """Copy everything that decides how a training continues."""
    moments = {}
    for name, parameter in model.named_parameters():
        moments[name] = _copies(optimizer.state[parameter])
    state = {}
    for name, value in model.state_dict().items():
        state[name] = value.detach().to(memory_format=torch.contiguous_format, copy=True)
    return Point(number, state, moments, mask)


def _copies(moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in moments.items()}


def train_on(
    task: Task,
    point: Point,
    mask: Mask,
    training: Training,
    seed: int,
    after: tuple[int, ...],
) -> Iterator[tuple[int, nn.Module]]:
    """Train on from a point with a mask of one's own, and yield the model after so many steps."""
    model = task.build(point.state, WHOLE, seed)
    batches = task.batches(WHOLE, training.batch_size, seed)
    steps = train(
        model,
        batches,
        training,
        mask,
        loss=task.loss,
        seed=seed,
        first=point.step,
        last=point.step + max(after),
    )
    for step in steps:
        # The optimiser is made with the first step, and continues where the trunk's was.
        if step.number == point.step:
            for name, parameter in model.named_parameters():
                step.optimizer.state[parameter] = _copies(point.moments[name])
        if step.number - point.step in after:
            yield step.number - point.step, model


def cut_to(density: float, state: State, mask: Mask) -> Mask:
    """Cut every layer to a density of its weights by magnitude, at once."""
    [wanted] = counts_for(mask, [density], per_layer)
    return prune(magnitude(state, mask), mask, scope=per_layer, count=wanted.keep)


def branches_of(
    task: Task,
    start: State,
    trunk: Trunk,
    training: Training,
    pace: PruningSchedule,
    seed: int,
    *,
    at: tuple[int, ...] = BRANCHES,
    after: tuple[int, ...] = AFTER,
) -> Iterator[dict[str, Any]]:
    """Train a trunk, branch it off, and yield a record a branch."""
    model = task.build(start, WHOLE, seed)
    dense = ones(model, "all")
    batches = task.batches(WHOLE, training.batch_size, seed)
    pruner = None
    if trunk.kind == GRADUAL:
        steps = Schedule.of(training, len(batches)).steps
        gradual = Gradual(trunk.densities[0], pace, scope="per_layer")
        context = Context(start, seed)
        pruner = Pruner(gradual, model, task.head, dense, steps=steps, first=0, context=context)

    for step in train(model, batches, training, dense, loss=task.loss, seed=seed, last=max(at)):
        due = pruner is not None and pruner.due(step.number)
        if not due and step.number not in at:
            continue
        point = point_of(step.number, model, step.optimizer, step.handle.mask)
        cuts: dict[float, Mask] = {}
        if pruner is None:
            cuts = {density: cut_to(density, point.state, dense) for density in trunk.densities}
        elif due:
            cuts = {trunk.densities[0]: pruner.cut(step.number, point.state)}

        if step.number in at:
            # Of the dense network one branch that is not cut serves every density.
            uncut = None if pruner is None else trunk.densities[0]
            yield _tested(task, point, point.mask, training, seed, after, trunk, uncut, cut=False)
            for density, mask in cuts.items():
                yield _tested(task, point, mask, training, seed, after, trunk, density, cut=True)
        # The schedule's own cuts are made in the trunk, too.
        if pruner is not None and due:
            step.handle.replace(pruner.mask)


def _tested(
    task: Task,
    point: Point,
    mask: Mask,
    training: Training,
    seed: int,
    after: tuple[int, ...],
    trunk: Trunk,
    density: float | None,
    *,
    cut: bool,
) -> dict[str, Any]:
    # Tested at every look, and written as one record: a branch is a short curve.
    accuracies, losses = [], []
    for _, model in train_on(task, point, mask, training, seed, after):
        metrics = task.measure(model, WHOLE, "test")
        accuracies.append(metrics.values["accuracy"])
        losses.append(metrics.loss)
    return {
        "trunk": trunk.kind,
        "to": density,
        "branch": point.step,
        "cut": cut,
        "kept": count(mask),
        "prunable": size(mask),
        "after": list(after),
        "test_accuracy": accuracies,
        "test_loss": losses,
    }


def read_records(path: Path = RECORDS) -> list[dict[str, Any]]:
    """Read the records that there are."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main(replicates: list[int]) -> None:
    """Do what is not recorded yet; the branches of a trunk are written at once."""
    recipe = read(RECIPE)
    task = make_task(recipe, None)
    pace = PruningSchedule(**(recipe.arms[GRADUAL].to_dict()["pace"] or {}))
    training = recipe.training
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    for replicate in replicates or range(recipe.replicates):
        seed = replicate_seed(recipe, replicate)
        start = make_model(recipe, task, replicate).state_dict()
        for trunk in TRUNKS:
            if trunk.is_done(read_records(), replicate):
                continue
            # A trunk is written at once: one that was interrupted is done again.
            lines = []
            with alone(training, task):
                for record in branches_of(task, start, trunk, training, pace, seed):
                    lines.append(json.dumps({"replicate": replicate} | record) + "\n")
            with RECORDS.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
            print(
                f"replicate {replicate}, {trunk.kind}, {trunk.densities}: {len(lines)} branches",
                flush=True,
            )


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
