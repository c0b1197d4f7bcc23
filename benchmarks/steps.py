"""Training steps: tombola's loop against open_lth's, on the same architecture, batch size and
optimiser.

On both sides a step is all that is repeated for a batch: getting it (reading, augmenting,
normalising), forward, backward, optimiser, mask. What is done once an epoch is outside of the time.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Line, Measured, NotRun, Settings, difference, interleave, ratio
from benchmarks.peers.open_lth import OpenLth
from tombola.data.partitions import WHOLE
from tombola.data.roots import data_root
from tombola.experiments.plans import make_task
from tombola.ground.settings import Training
from tombola.masks.controls import draw_count
from tombola.masks.masks import ones, size
from tombola.masks.rates import Count
from tombola.masks.scopes import whole_model
from tombola.schema.recipe import Recipe, parse
from tombola.tasks._classification import Classification
from tombola.tasks.protocol import Task
from tombola.training.during import During
from tombola.training.jobs import Job, run_job
from tombola.training.loop import train


@dataclass(frozen=True)
class Problem:
    """What is trained on both sides.

    Attributes:
        model: A model of tombola, as a recipe names it.
        data: A data set of both, as a recipe names it.
        batch_size: Examples a step.
        density: Of a mask over all weights, held on both sides; dense if not given.
        peer_model: The same architecture among open_lth's models; if not given, ours is wrapped for
            it.
        augment: What tombola does to the images; open_lth does what it does for this data set.
        lr: Learning rate; the optimiser is SGD with momentum 0.9.
        task: As a recipe names it.
    """

    model: str | Mapping[str, Any]
    data: str | Mapping[str, Any]
    batch_size: int
    density: float | None = None
    peer_model: str | None = None
    augment: Mapping[str, Any] | None = None
    lr: float = 0.01
    task: str = "classification"

    def recipe(self) -> Recipe:
        """Return it as a recipe, from which tombola takes all that it decides by itself."""
        # No validation split: the peer has none, and both must see the same batches.
        named = {"name": self.data} if isinstance(self.data, str) else self.data
        data: dict[str, Any] = {**named, "valid": 0, "augment": dict(self.augment or {})}
        if data["name"] == "cifar10":
            data["verify"] = False  # other copies of the same pictures will do
        training = {"optimizer": "sgd", "lr": self.lr, "momentum": 0.9}
        return parse(
            {
                "name": "bench",
                "task": self.task,
                "data": data,
                "model": self.model,
                "training": training | {"steps": 1000, "batch_size": self.batch_size},
                "prunable": "all",
                "arms": {"dense": {"method": "dense"}},
            }
        )


class Ours:
    """tombola's side: one model that goes on training from repetition to repetition.

    Args:
        problem: What is trained.
        settings: For the data and the seed.
        held: Whether a mask is held at all; without, not even the dense network's mask is.
    """

    def __init__(self, problem: Problem, settings: Settings, *, held: bool = True) -> None:
        recipe = problem.recipe()
        self.task = make_task(recipe, settings.root)
        self.training, self.seed = recipe.training, settings.seed
        mask = ones(self.task.model, "all", head=self.task.head)
        if problem.density is not None:
            generator = torch.Generator().manual_seed(settings.seed)
            for name, keep in mask.items():
                mask[name] = torch.rand(keep.shape, generator=generator) < problem.density
        self.mask: dict[str, Tensor] = mask
        self.held = mask if held else {}
        self.model = self.task.build(self.task.initial_state(), WHOLE, settings.seed)
        self.batches = self.task.batches(WHOLE, self.training.batch_size, settings.seed)

    def seconds_per_step(
        self,
        *,
        warm: int,
        steps: int,
        threads: int = 1,
        clock: Callable[[], float] = time.perf_counter,
        visited: Callable[[int], bool] = lambda _: False,
    ) -> float:
        """Time consecutive steps of `tombola.train`, as a run takes them between evaluations."""
        training: Training = replace(self.training, steps=warm + steps, threads=threads)
        times: dict[int, float] = {}
        run = train(
            self.model,
            self.batches,
            training,
            self.held,
            loss=self.task.loss,
            seed=self.seed,
            visited=visited,
        )
        for step in run:
            if step.number in (warm, warm + steps):
                times[step.number] = clock()
        # Arithmetic with NaN or infinity can take another time.
        if not all(bool(torch.isfinite(value).all()) for value in self.model.parameters()):
            raise NotRun("tombola: the training diverged")
        return (times[warm + steps] - times[warm]) / steps


def against_open_lth(
    problem: Problem, settings: Settings, *, steps: int, warm: int, repeats: int
) -> Measured:
    """Time a step of both, with one thread on both sides, then with torch's default on both."""
    peer = OpenLth(settings.open_lth, data_root(settings.root))
    ours = Ours(problem, settings)
    loader = peer.loader(problem.data, problem.batch_size)
    model = _for_peer(peer, problem, ours.task, ours.mask)
    optimizer = {"optimizer_name": "sgd", "lr": problem.lr, "momentum": 0.9}
    warm, steps = settings.scaled(warm, 1), settings.scaled(steps, 2)
    # Both sides go on training the same models, so that no repetition starts cold.
    timed = functools.partial(peer.seconds_per_step, model, loader, optimizer)
    lines = []
    for threads in dict.fromkeys([1, torch.get_num_threads()]):
        torch.set_num_threads(threads)
        sides: dict[str, Callable[[], float]] = {
            "ours": functools.partial(
                ours.seconds_per_step, warm=warm, steps=steps, threads=threads
            ),
            "theirs": functools.partial(timed, warm=warm, steps=steps),
        }
        times = interleave(sides, settings.times(repeats), settings.seed)
        name = "1 thread" if threads == 1 else f"{threads} threads"
        line = ratio(
            name,
            _milliseconds(times["ours"]),
            _milliseconds(times["theirs"]),
            seed=settings.seed,
            each="ms",
            against=peer.name,
        )
        lines.append(line)
    return Measured(lines)


def _milliseconds(seconds: Sequence[float]) -> list[float]:
    return [1000 * time_ for time_ in seconds]


def _for_peer(
    peer: OpenLth, problem: Problem, task: Classification, mask: Mapping[str, Tensor]
) -> Any:
    """Make the model that open_lth trains; with a mask where we hold one, as its user gets it."""
    # Its own model where it has one: that is what its user trains.
    if problem.peer_model is not None:
        model = peer.model(problem.peer_model)
    else:
        copied: nn.Module = copy.deepcopy(task.model).to(memory_format=torch.contiguous_format)
        model = peer.wrapped(copied, str(task.head))
    if problem.density is None:
        return model
    # The same layers in the same order; only the names differ.
    keeps = dict(zip(model.prunable_layer_names, mask.values(), strict=True))
    return peer.pruned(model, keeps)


def upkeep(
    problem: Problem, settings: Settings, *, steps: int, warm: int, repeats: int, name: str
) -> Any:
    """Time a step with a mask held and one without, and return the difference as a line, in ms."""
    masked, unmasked = Ours(problem, settings), Ours(problem, settings, held=False)
    warm, steps = settings.scaled(warm, 1), settings.scaled(steps, 2)
    torch.set_num_threads(1)
    sides = {
        "masked": functools.partial(masked.seconds_per_step, warm=warm, steps=steps),
        "unmasked": functools.partial(unmasked.seconds_per_step, warm=warm, steps=steps),
    }
    times = interleave(sides, settings.times(repeats), settings.seed)
    more, less = _milliseconds(times["masked"]), _milliseconds(times["unmasked"])
    line = difference(name, more, less, "ms", seed=settings.seed)
    step = sorted(less)[len(less) // 2]
    share = f"{100 * line.value / step:.1f} % of a step of {step:.3g} ms without a mask, 1 thread"
    return replace(line, note=share)


def during_against_plain(
    problem: Problem,
    during: During,
    settings: Settings,
    *,
    steps: int,
    repeats: int,
    name: str,
    every: int = 1,
    quick: int = 2,
) -> Line:
    """Divide the time of a training's step with something going on by that of its plain step.

    Where something goes on in one step of ``every``, the others are taken to last as long as plain
    ones, and what they last longer is counted to it.

    Both are jobs, run as in an experiment, on one thread, with the dense network. Where the problem
    has a density, what goes on begins with a random mask of it.
    """
    recipe = problem.recipe()
    task = make_task(recipe, settings.root)
    steps = settings.scaled(steps, quick)
    training = replace(recipe.training, steps=2 * steps, evaluate_every=steps, threads=1)
    mask = ones(task.model, "all", head=task.head)
    plain = Job(task.initial_state(), mask, training, settings.seed)
    begun = plain
    if problem.density is not None:
        amount = Count(round(problem.density * size(mask)))
        begun = plain.on(plain.part, draw_count(mask, amount, whole_model, settings.seed, "bench"))
    times = interleave(
        {
            "during": functools.partial(_seconds_per_step, replace(begun, during=during), task),
            "plain": functools.partial(_seconds_per_step, plain, task),
        },
        settings.times(repeats),
        settings.seed,
    )
    less, more = _milliseconds(times["plain"]), []
    for mean, plain_step in zip(_milliseconds(times["during"]), less, strict=True):
        more.append(every * mean - (every - 1) * plain_step)
    return ratio(name, less, more, seed=settings.seed, each="ms")


def _seconds_per_step(job: Job, task: Task) -> float:
    """Time the second half of a training's steps."""
    # Without validation data an evaluation only reports.
    times: list[float] = []
    run_job(job, task, lambda _done, _all: times.append(time.perf_counter()))
    assert job.training.evaluate_every is not None
    return (times[1] - times[0]) / job.training.evaluate_every
