"""Peak memory of a training over the size of its model: multilayer perceptrons from 1 to 64 million
weights.

A few steps of SGD with momentum and a mask, on synthetic data; the peak of a fresh process above
what it held before the model was made. Weights, gradients, momentum and a float mask are four bytes
each a weight; the slope says how many bytes a weight takes in all.
"""

from __future__ import annotations

import functools

from benchmarks import fresh, machine
from benchmarks.curves import points
from benchmarks.harness import Measured, NotRun, Row, Series, Settings, exact, interleave, slope
from benchmarks.masks import need

ROW = Row(220, "Peak memory of a training over the size of its model")
_WIDTHS = (1000, 2000, 4000, 8000)


def measure(settings: Settings) -> Measured:
    widths = _WIDTHS[:2] if settings.quick else _WIDTHS
    need(4e9)
    weights: dict[str, int] = {}

    def side(width: int) -> float:
        call = fresh.call("benchmarks.rows._memory:train_once", width=width, seed=settings.seed)
        weights[str(width)] = call["weights"]
        return call["extra"] / 1e9

    sides = {str(width): functools.partial(side, width) for width in widths}
    gigabytes = interleave(sides, settings.times(3), settings.seed, warm=0)
    by_weights = {weights[width]: values for width, values in gigabytes.items()}
    # The slope, not a quotient: what a process takes anyway cancels out.
    medians = [sorted(values)[len(values) // 2] for values in by_weights.values()]
    bytes_a_weight = 1e9 * slope(list(by_weights), medians)
    note = "weight, gradient, momentum and float mask are 16, a job's copies not"
    line = exact("bytes a weight", bytes_a_weight, "B", note=note)
    series = Series("Peak memory of a training", "Weights", "GB", points(by_weights))
    return Measured([line], [series])


def train_once(width: int, seed: int) -> dict[str, float]:
    """Train a perceptron for a few steps in this process, and return the bytes that it took."""
    from tombola.experiments.plans import make_task
    from tombola.masks.masks import ones
    from tombola.schema.recipe import parse
    from tombola.training.jobs import Job, run_job

    def job_of(hidden: int) -> tuple[Job, object]:
        recipe = parse(
            {
                "name": "bench",
                "data": {"name": "synthetic", "valid": 0},
                "model": {"name": "mlp", "hidden": [hidden, hidden]},
                "training": {"lr": 0.001, "momentum": 0.9, "steps": 5, "batch_size": 20},
                "arms": {"dense": {"method": "dense"}},
            }
        )
        task = make_task(recipe, None)
        mask = ones(task.model, head=task.head)
        return Job(task.initial_state(), mask, recipe.training, seed), task

    run_job(*job_of(10))  # what is imported and begun at the first call is no memory of the model
    try:
        machine.forget_peak()
    except OSError as error:
        raise NotRun("the peak of memory can only be read on Linux") from error
    before = machine.resident()
    job, task = job_of(width)
    run_job(job, task)
    return {
        "extra": machine.peak() - before,
        "weights": sum(keep.numel() for keep in job.mask.values()),
    }
