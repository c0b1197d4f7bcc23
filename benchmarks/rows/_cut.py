"""A cut in the pool against the same cut in the arm's own thread: COLT-2, ResNet-18, gradients.

Both partitions' trainings are done and lie in the store, as they do when a round is cut. The score
is |w x dL/dw| over 128 training examples (SNIP's), the mask has 11 M weights. The arm's thread
reads the two states, scores, prunes and combines; the pool's one worker process is sent the cut,
does the same, writes the masks and gives them back. One thread each. The second line is the same
with magnitude, which runs score in the arm's thread: nearly all of it is overhead.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import Goal, Measured, NotRun, Row, Settings, interleave, ratio
from benchmarks.masks import need
from tombola.data.partitions import by_examples
from tombola.executors import Pool
from tombola.experiments.plans import make_task
from tombola.ground.types import Mask, State
from tombola.masks.masks import ones
from tombola.masks.scopes import whole_model
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking
from tombola.search.work import Cut, Pruned
from tombola.training.jobs import Job

_DATA = "a score that needs data"

# At most 5 % more in the pool: the thread's time over the pool's is at least 1 / 1.05.
ROW = Row(85, "A cut in the pool", "the arm's thread", [Goal(_DATA, ">=", round(1 / 1.05, 3))])


def connection(
    state: State, mask: Mask, context: Context, *, examples: int = 128
) -> Mapping[str, Tensor]:
    """Score a weight by |w x dL/dw|, the gradients of all batches added up."""
    del state  # the problem's model holds it
    model = context.problem.model().eval()
    for batch in context.problem.batches(examples):
        context.problem.loss(model, batch).backward()
    weights = dict(model.named_parameters())
    scores = {}
    for name in mask:
        gradient = weights[name].grad
        assert gradient is not None
        scores[name] = (weights[name].detach() * gradient).abs()
    return scores


connection.needs = "data"  # type: ignore[attr-defined]


def measure(settings: Settings) -> Measured:
    need(2e9 if settings.quick else 4e9)
    recipe = parse({
        "name": "bench",
        "data": {"name": "synthetic", "image_shape": [3, 32, 32], "train": 1000, "valid": 100},
        "model": {"name": "mlp", "hidden": [20]} if settings.quick else "resnet18",
        "training": {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "steps": 1, "batch_size": 64},
        "arms": {"colt-2": {"method": "colt", "partitions": 2, "rate": 0.15}},
        "until": {"rounds": 1},
    })  # fmt: skip
    torch.set_num_threads(1)
    task = make_task(recipe, settings.root)
    mask = ones(task.model, head=task.head)
    jobs = tuple(
        Job(task.initial_state(), mask, recipe.training, settings.seed, part)
        for part in by_examples(len(task.splits.train), 2, settings.seed)
    )
    amounts = itertools.count(1)

    def cut_by(score: str) -> Cut:
        """Return a cut that nobody has asked for yet: each has an amount of its own."""
        rate = 0.2 + 1e-6 * next(amounts)
        return Cut(jobs, mask, rate, (Ranking.of(score),), whole_model(mask))

    def timed(score: str, do: Callable[[Cut], Pruned]) -> Callable[[], float]:
        def seconds() -> float:
            asked = cut_by(score)
            began = time.perf_counter()
            pruned = do(asked)
            took = time.perf_counter() - began
            if pruned.mask.keys() != mask.keys():
                raise NotRun("the cut gave masks of other names")
            return took

        return seconds

    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        pool = Pool(
            task,
            Path(folder),
            workers=1,
            executor="processes",
            make_task=functools.partial(make_task, recipe, settings.root),
        )
        with pool:

            def in_thread(asked: Cut) -> Pruned:
                return asked.do(task, pool.run_all(list(jobs)), lambda *_: None)

            def in_pool(asked: Cut) -> Pruned:
                return pool.cut(asked).result()[0]

            pool.run_all(list(jobs))
            lines = []
            for name, score in (
                (_DATA, "benchmarks.rows._cut:connection"),
                ("magnitude", "magnitude"),
            ):
                sides = {"pool": timed(score, in_pool), "thread": timed(score, in_thread)}
                times = interleave(sides, settings.times(12), settings.seed)
                lines.append(ratio(name, times["pool"], times["thread"], seed=settings.seed))
    return Measured(lines)
