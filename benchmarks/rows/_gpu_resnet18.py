"""ResNet-18 on CIFAR-100 on a GPU, batch 256: images per second, and a whole training of 50 epochs.

The limit is a bare step of the same model on one batch that lies on the device: forward, backward
and the optimiser, without batches, augmentation, schedule or loop. bf16 with the data resident on
the device, COLT's augmentation.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from benchmarks.harness import Goal, Measured, NotRun, Row, Settings, interleave, ratio, single
from tombola.data.partitions import WHOLE
from tombola.experiments.plans import make_task, resolve_defaults
from tombola.ground import devices
from tombola.ground.settings import Training
from tombola.ground.types import Mask
from tombola.masks.masks import ones
from tombola.schema.recipe import Recipe, parse
from tombola.tasks.protocol import Task
from tombola.training.jobs import Job, alone, run_job
from tombola.training.loop import arrange_, optimizer_for, train

ROW = Row(
    95,
    "ResNet-18 on CIFAR-100, batch 256, on a GPU",
    "a bare step",
    [Goal("a training of 50 epochs", "<=", 60, "s")],
)


def measure(settings: Settings) -> Measured:
    if not torch.cuda.is_available():
        raise NotRun("needs a GPU; torch finds none here")
    recipe = _recipe(settings)
    task = make_task(recipe, settings.root)
    training = resolve_defaults(recipe, task).training
    mask, steps = ones(task.model, "conv", head=task.head), settings.scaled(100, 3)
    times = interleave(
        {
            "loop": lambda: _loop(task, training, mask, steps),
            "bare": lambda: _bare(task, training, steps),
        },
        settings.times(10),
        settings.seed,
    )
    # Once: it takes a minute, and its goal is far above the spread.
    whole = run_job(Job(task.initial_state(), mask, training, 0), task).seconds
    images = [256 / seconds for seconds in times["loop"]]
    bare, seed = "a bare step", settings.seed
    return Measured(
        [
            single("images a second", images, "images/s", seed=seed),
            ratio("of a bare step's speed", times["loop"], times["bare"], seed=seed, against=bare),
            single(
                "a training of 50 epochs",
                [whole],
                "s",
                note="validation after every epoch included",
            ),
        ]
    )


def _recipe(settings: Settings) -> Recipe:
    augment = {"crop": 4, "flip": True, "rotate": 15}
    return parse(
        {
            "name": "bench",
            "data": {"name": "cifar100", "valid": 5000, "augment": augment},
            "model": "resnet18",
            "training": {
                "optimizer": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "batch_size": 256,
                "epochs": settings.scaled(50, 1),
                "warmup": 1,
                "precision": "bf16",
            },
            "arms": {"dense": {"method": "dense"}},
            "device": "cuda",
        }
    )


def _loop(task: Task, training: Training, mask: Mask, steps: int) -> float:
    """Return the seconds of a step of `tombola.train`, after as many to warm up."""
    model, batches = task.build(task.initial_state(), WHOLE, 0), task.batches(WHOLE, 256, 0)
    short = replace(training, epochs=None, steps=2 * steps, warmup=0.0)
    times = []
    with alone(training, task):
        for step in train(model, batches, short, mask, loss=task.loss, seed=0):
            if step.number in (steps, 2 * steps):
                torch.cuda.synchronize()
                times.append(time.perf_counter())
    return (times[-1] - times[-2]) / steps


def _bare(task: Task, training: Training, steps: int) -> float:
    """Return the seconds of a bare step on one batch, after as many to warm up."""
    model = task.build(task.initial_state(), WHOLE, 0).train()
    arrange_(model, training)
    optimizer = optimizer_for(model, training)
    batch = next(task.batches(WHOLE, 256, 0).epoch(0))
    with alone(training, task):
        for number in range(2 * steps):
            if number == steps:
                torch.cuda.synchronize()
                began = time.perf_counter()
            # What is left of a step without batches, augmentation, schedule and mask.
            optimizer.zero_grad()
            with devices.autocast("cuda", training.precision)():
                loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps
