"""Scores that need data against the plain passes that they are made of: 1 thread, eval mode.

Both sides read the same training batches of 64, drawn images, from a partition's problem, and build
the model. The plain side runs forward and back through all weights with autograd and keeps nothing:
once an example for `snip`, `taylor` and `fisher`, four times for `grasp`, and for `obd` forward
once and back ten times, as there are ten classes. For `synflow` it is a pass of one example in
float64 through a network that is ready, so what SynFlow does with the weights themselves shows.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import Goal, Line, Measured, Row, Settings, interleave, ratio
from tombola.data.partitions import WHOLE
from tombola.experiments.plans import make_task
from tombola.masks.masks import ones
from tombola.schema.recipe import parse
from tombola.scores._synflow import make_linear_
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking
from tombola.search.problems import JobProblem
from tombola.training.jobs import Job

_MODELS = {"LeNet-300-100": ("lenet_300_100", [1, 28, 28]), "Conv-3": ("conv3", [3, 32, 32])}
_SCORES = ("snip", "taylor", "fisher", "grasp", "obd", "synflow")
_JUDGED = ("snip", "taylor", "fisher", "grasp", "obd")

# At most 10 % more than the passes: their time over the score's is at least 1 / 1.10.
ROW = Row(
    87,
    "Scores that need data",
    "plain passes",
    [Goal(f"{score}, {model}", ">=", round(1 / 1.1, 3)) for model in _MODELS for score in _JUDGED],
)


def measure(settings: Settings) -> Measured:
    torch.set_num_threads(1)
    lines: list[Line] = []
    for title in _MODELS:
        problem = _problem(title, settings)
        mask = problem.mask
        examples = settings.scaled(1024 if title == "LeNet-300-100" else 128, 64)
        for name in _SCORES:
            options = {} if name == "synflow" else {"examples": examples, "mode": "eval"}
            score = Ranking(name, options).score()
            context = Context(problem.state, 0, problems=[problem])
            sides = {
                "ours": _timed(functools.partial(score, problem.state, mask, context)),
                "plain": _timed(_plain(name, problem, examples)),
            }
            times = interleave(sides, settings.times(10), settings.seed)
            lines.append(
                ratio(f"{name}, {title}", times["ours"], times["plain"], seed=settings.seed)
            )
    return Measured(lines)


def _problem(title: str, settings: Settings) -> JobProblem:
    name, shape = _MODELS[title]
    recipe = parse({
        "name": "bench",
        "data": {"name": "synthetic", "image_shape": shape, "train": 1100, "valid": 50},
        "model": name,
        "training": {"optimizer": "sgd", "lr": 0.01, "steps": 1, "batch_size": 64},
        "arms": {"lth": {"method": "lth", "rate": 0.2}},
        "until": {"rounds": 1},
    })  # fmt: skip
    task = make_task(recipe, settings.root)
    mask = ones(task.model, head=task.head)
    state = task.initial_state()
    job = Job(state, mask, recipe.training, settings.seed, WHOLE)
    return JobProblem(job, state, mask, task)


def _timed(do: Callable[[], object]) -> Callable[[], float]:
    def seconds() -> float:
        began = time.perf_counter()
        do()
        return time.perf_counter() - began

    return seconds


def _plain(name: str, problem: JobProblem, examples: int) -> Callable[[], None]:
    """Return the passes that a score is made of."""
    if name == "synflow":
        model = problem.model()
        make_linear_(model)
        model.requires_grad_(True)
        inputs = torch.ones_like(problem.probe(1)).double()
        return lambda: _backward(model, model(inputs).sum())

    def passes() -> None:
        model = problem.model().eval()
        for _ in range(4 if name == "grasp" else 1):
            for batch in problem.batches(examples):
                loss = problem.loss(model, batch)
                for _ in range(10 if name == "obd" else 1):
                    _backward(model, loss)

    return passes


def _backward(model: nn.Module, end: Tensor) -> None:
    torch.autograd.grad(end, list(model.parameters()), retain_graph=True, allow_unused=True)
