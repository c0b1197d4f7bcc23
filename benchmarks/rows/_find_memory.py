"""Memory of a search on VGG-16, in multiples of the model, over five rounds: it must not grow with
them.

`find` on torchvision's VGG-16 (138 M weights, 528 MiB), images of 224 x 224, SGD with momentum, one
step a round and a look at the validation data, in a fresh process. Counted is the peak of each
round above what the process held before there was a model: the user's model, weights, gradients,
momentum, the mask, the start, the best and the final state.
"""

from __future__ import annotations

import itertools

from torch import nn
from torchvision.models import vgg16

from benchmarks import fresh, machine
from benchmarks.curves import points
from benchmarks.harness import Goal, Measured, NotRun, Row, Series, Settings, exact
from benchmarks.masks import need
from tombola import Classification, Job, Training, find, ones, serial, split
from tombola.data import synthetic
from tombola.data.dataset import Dataset
from tombola.data.partitions import WHOLE

_MOST, _GROWTH = "peak, models", "growth, last round over the second"

ROW = Row(
    222,
    "Memory of a search on VGG-16",
    "",
    [Goal(_MOST, "<=", 7, "models"), Goal(_GROWTH, "<=", 1.05)],
)


def measure(settings: Settings) -> Measured:
    name, rounds = ("small", 2) if settings.quick else ("vgg16", 5)
    need(2e9 if settings.quick else 9e9)
    # In a process of its own: a peak is that of everything that ran before, too.
    target = "benchmarks.rows._find_memory:search"
    peaks = fresh.call(target, name=name, rounds=rounds, seed=settings.seed)
    by_round = ", ".join(f"{peak:.1f}" for peak in peaks)
    lines = [
        exact(_MOST, max(peaks), "models", note=f"by round: {by_round}"),
        exact(_GROWTH, peaks[-1] / peaks[1], "x"),
    ]
    curve = points({number: [peak] for number, peak in enumerate(peaks, 1)})
    series = Series("Memory of a search on VGG-16", "Round", "Peak, in models", curve)
    return Measured(lines, [series])


def search(name: str, rounds: int, seed: int) -> list[float]:
    """Search in this process; the peak of each round, in multiples of the model."""
    shape = (3, 224, 224) if name == "vgg16" else (1, 8, 8)
    data = synthetic(classes=10, image_shape=shape, train=12, test=10)
    # what is begun at the first call is none of it
    _peaks(_perceptron(data, 8), "5", data, 1, seed)
    try:
        machine.forget_peak()
    except OSError as error:
        raise NotRun("the peak of memory can only be read on Linux") from error
    before = machine.resident()
    if name == "vgg16":
        model, head = vgg16(num_classes=10), "classifier.6"
    else:
        model, head = _perceptron(data, 3000), "5"
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return [(peak - before) / size for peak in _peaks(model, head, data, rounds, seed)]


def _perceptron(data: Dataset, width: int) -> nn.Module:
    inputs = data.train_images[0].numel()
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )


def _peaks(model: nn.Module, head: str, data: Dataset, rounds: int, seed: int) -> list[float]:
    task = Classification(model, split(data, valid=2), head=head)
    training = Training(lr=1e-4, momentum=0.9, steps=1, batch_size=2)
    job = Job(task.initial_state(), ones(model, head=head), training, seed=seed)
    peaks = []
    machine.forget_peak()
    for _ in find(job, [WHOLE], itertools.repeat(0.2, rounds), run_all=serial(task)):
        peaks.append(machine.peak())
        machine.forget_peak()
    return peaks
