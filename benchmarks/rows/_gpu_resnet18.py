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
from tombola.masks.masks import ones
from tombola.schema.recipe import parse
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
    recipe = parse(
        {
            "name": "bench",
            "data": {
                "name": "cifar100",
                "valid": 5000,
                "augment": {"crop": 4, "flip": True, "rotate": 15},
            },
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
    task = make_task(recipe, settings.root)
    training = resolve_defaults(recipe, task).training
    mask, steps = ones(task.model, "conv", head=task.head), settings.scaled(100, 3)

    def loop() -> float:
        model, batches = task.build(task.initial_state(), WHOLE, 0), task.batches(WHOLE, 256, 0)
        few = replace(training, epochs=None, steps=2 * steps, warmup=0.0)
        with alone(training, task):
            for step in train(model, batches, few, mask, loss=task.loss, seed=0):
                if step.number in (steps, 2 * steps):
                    torch.cuda.synchronize()
                    times.append(time.perf_counter())
        return (times[-1] - times[-2]) / steps

    def bare() -> float:
        model = task.build(task.initial_state(), WHOLE, 0).train()
        arrange_(model, training)
        optimizer = optimizer_for(model, training)
        batch = next(task.batches(WHOLE, 256, 0).epoch(0))
        with alone(training, task):
            for number in range(2 * steps):
                if number == steps:
                    torch.cuda.synchronize()
                    began = time.perf_counter()
                optimizer.zero_grad()
                with devices.autocast("cuda", training.precision)():
                    loss = task.loss(model, batch)
                loss.backward()
                optimizer.step()
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps

    times: list[float] = []
    found = interleave({"loop": loop, "bare": bare}, settings.times(10), settings.seed)
    whole = run_job(Job(task.initial_state(), mask, training, 0), task).seconds
    images = {side: [256 / seconds for seconds in found[side]] for side in found}
    return Measured(
        [
            single("images a second", images["loop"], "images/s", seed=settings.seed),
            ratio(
                "of a bare step's speed",
                found["loop"],
                found["bare"],
                seed=settings.seed,
                against="a bare step",
            ),
            single(
                "a training of 50 epochs",
                [whole],
                "s",
                note="validation after every epoch included",
            ),
        ]
    )
