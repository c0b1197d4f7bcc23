"""The quick parts of a step give the bits of torch's own modules, autograd and optimisers, and
run less of Python.
"""

import copy
import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from tests.kernels import gradients
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from tombola import models
from tombola.ground import seeds
from tombola.kernels import recording
from tombola.kernels.anatomy import traceable
from tombola.kernels.recording import recordable
from tombola.kernels.updates import update
from tombola.masks.masks import ones

FUSED = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-3, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99), weight_decay=1e-3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
}


@recordable
def loss(model, batch):
    inputs, labels = batch
    return cross_entropy(model(inputs), labels)


def batch(size=7, shape=(1, 12, 12), seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(size, *shape, generator=draw), torch.randint(3, (size,), generator=draw)


def lenet(dropout=0.0):
    with seeds.seeded(0, "init"):
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 3, 3),
                relu=nn.ReLU(inplace=True),
                pool=nn.MaxPool2d(2),
                flat=nn.Flatten(),
                fc=nn.Linear(75, 20),
                relu2=nn.ReLU(),
                dropout=nn.Dropout(dropout),
                head=nn.Linear(20, 3),
            )
        )


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("make", FUSED.values(), ids=FUSED)
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_steps_have_the_bits_of_torchs_own_whatever_the_size_of_the_batch(make, traced, layout):
    own, quick = lenet(0.5).to(memory_format=layout), lenet(0.5).to(memory_format=layout)
    optimizer = make(own.parameters())
    step, move = gradients(quick, loss, traced=traced), update(make(quick.parameters()))
    for number, size in enumerate((7, 7, 4, 7, 1, 4)):
        examples = batch(size, seed=number)
        seeds.reseed(0, "step", number)  # dropout draws the same
        optimizer.zero_grad()
        value = loss(own, examples)
        value.backward()
        optimizer.step()
        seeds.reseed(0, "step", number)
        assert torch.equal(step(examples), value.detach())
        assert all(
            torch.equal(a.grad, b.grad)
            for a, b in zip(own.parameters(), quick.parameters(), strict=True)
        )
        move()
        assert equal(own, quick)


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet5", "mlp"])
def test_lenets_are_traced_with_the_bits_of_an_eager_step(name):
    model = getattr(models, name)(10)
    examples = torch.rand(60, 1, 28, 28), torch.randint(10, (60,))
    assert traceable(model)
    other = copy.deepcopy(model)
    values = [
        gradients(m, loss, traced=traced)(examples) for m, traced in ((model, False), (other, True))
    ]
    assert torch.equal(*values)
    assert all(
        torch.equal(a.grad, b.grad)
        for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


class Counting(TorchDispatchMode):
    """Counts the calls that reach torch's kernels."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, _types, arguments=(), options=None):
        self.calls.append(str(function))
        return function(*arguments, **(options or {}))


def test_a_traced_step_makes_fewer_calls_than_an_eager_one():
    calls = {}
    for traced in (False, True):
        step = gradients(lenet(), loss, traced=traced)
        step(batch())
        with Counting() as counting:
            step(batch())
        calls[traced] = counting.calls
    assert len(calls[True]) < 0.75 * len(calls[False])
    assert not any("detach" in call or "alias" in call for call in calls[True])


def test_models_of_one_structure_share_a_trace_and_others_do_not():
    recording._traces.clear()
    gradients(lenet(), loss, traced=True)(batch())
    gradients(lenet(), loss, traced=True)(batch())
    assert len(recording._traces) == 1
    gradients(lenet(), loss, traced=True)(batch(5))  # another size
    gradients(lenet(0.5), loss, traced=True)(batch())  # another layer
    gradients(lenet().eval(), loss, traced=True)(batch())  # another mode
    # another layout
    gradients(lenet().to(memory_format=torch.channels_last), loss, traced=True)(batch())
    # another loss
    gradients(lenet(), recordable(lambda model, batch: 2 * loss(model, batch)), traced=True)(
        batch()
    )
    assert len(recording._traces) == 6


class Task:
    @recordable
    def loss(self, model, batch):
        return loss(model, batch)


def test_tasks_share_a_trace_and_none_is_kept_alive_by_one():
    recording._traces.clear()
    tasks = [Task(), Task()]
    for task in tasks:
        gradients(lenet(), task.loss, traced=True)(batch())
    assert len(recording._traces) == 1
    left = weakref.ref(tasks.pop(0))
    del task
    gc.collect()
    assert left() is None


def test_a_declared_loss_that_cannot_be_recorded_runs_as_it_is_written():
    @recordable
    def reading(model, batch):  # a number from a tensor
        return loss(model, batch) * batch[0].max().item()

    for seed in (0, 1):
        values = [
            gradients(lenet(), reading, traced=traced)(batch(seed=seed)) for traced in (False, True)
        ]
        assert torch.equal(*values)


def test_traces_are_let_go_when_there_are_many(monkeypatch):
    recording._traces.clear()
    monkeypatch.setattr(recording, "_MOST_TRACES", 2)
    step = gradients(lenet(), loss, traced=True)
    for size in (2, 3, 4, 5):
        step(batch(size))
    assert len(recording._traces) == 2


def test_making_a_trace_draws_no_random_number():
    recording._traces.clear()
    step = gradients(lenet(0.5), loss, traced=True)
    torch.manual_seed(3)
    first = step(batch())  # traces and runs
    torch.manual_seed(3)
    assert torch.equal(first, step(batch()))


def test_a_parameter_without_a_part_in_the_loss_has_no_gradient_and_stays():
    for traced in (False, True):
        model = nn.ModuleDict({"used": nn.Linear(4, 3), "unused": nn.Linear(2, 2)})
        before = copy.deepcopy(model)
        move = update(torch.optim.Adam(model.parameters(), 0.1, fused=True))
        step = gradients(model, lambda m, b: cross_entropy(m["used"](b[0]), b[1]), traced=traced)
        for _ in range(3):
            step((torch.rand(5, 4), torch.randint(3, (5,))))
            move()
        assert model["unused"].weight.grad is None
        assert equal(model["unused"], before["unused"])
        assert not equal(model["used"], before["used"])


def test_a_frozen_parameter_is_not_trained():
    for traced in (False, True):
        model = lenet()
        model.conv.weight.requires_grad_(False)
        gradients(model, loss, traced=traced)(batch())
        assert model.conv.weight.grad is None
        assert model.fc.weight.grad is not None


def test_a_gradient_that_comes_late_is_taken_up():
    one, two = (nn.ParameterList([torch.ones(2), torch.ones(2)]) for _ in range(2))
    torchs, quick = FUSED["adam"](one), FUSED["adam"](two)
    move = update(quick)
    for number in range(4):
        for parameters in (one, two):
            parameters[0].grad = torch.tensor([1.0, -2.0])
            parameters[1].grad = torch.tensor([0.5, 3.0]) if number > 1 else None
        torchs.step()
        move()
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_optimisers_own_state_and_rate_are_the_ones_used():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([weight], 0.5, 0.5, fused=True)
    move = update(optimizer)
    seen = []
    for rate in (0.5, 0.5, 0.0):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor([1.0])
        move()
        seen.append((weight.item(), optimizer.state[weight]["momentum_buffer"].item()))
    assert seen == [(0.5, 1.0), (-0.25, 1.5), (-0.25, 1.75)]


class Deciding(nn.Module):
    """Does something else in every second step: what a trace would freeze."""

    def __init__(self):
        super().__init__()
        self.fc, self.calls = nn.Linear(4, 3), 0

    def forward(self, inputs):
        self.calls += 1
        return self.fc(inputs) * (self.calls % 2)


def test_only_torchs_own_layers_without_buffers_and_hooks_are_traceable():
    assert traceable(lenet())
    assert not traceable(Deciding())
    assert not traceable(nn.Sequential(nn.Linear(2, 2), Deciding()))
    assert not traceable(models.conv3(10))  # batch norm's statistics are buffers
    assert not traceable(models.resnet20(10))
    hooked = lenet()
    hooked.fc.register_forward_hook(lambda *_: None)
    assert not traceable(hooked)


def test_the_mask_of_a_dense_network_costs_nothing_and_one_of_a_sparse_one_a_single_pass():
    from tombola.masks.masks import MaskHandle

    model = lenet()
    mask = ones(model, head="head")
    passes = []
    for keep in (mask, {name: torch.rand(keep.shape) < 0.5 for name, keep in mask.items()}):
        handle = MaskHandle(model, keep)
        with Counting() as counting:
            handle.mask_weights()
        passes.append(sum("_foreach_mul_" in call for call in counting.calls))
    assert passes == [0, 1]


def pattern(seed, number):
    """Draw which of three parameters have a gradient in each of six steps; some have their
    first one late.
    """
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(number, 3, generator=draw) < 0.6).tolist()


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01, fused=True),
    "momentum": lambda p: torch.optim.SGD(
        p, 0.1, 0.9, dampening=0.1, weight_decay=0.01, fused=True
    ),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, maximize=True, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, fused=True),
    "decoupled": lambda p: torch.optim.Adam(
        p, 0.01, weight_decay=0.1, decoupled_weight_decay=True, fused=True
    ),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, amsgrad=True, fused=True),
}


def parameters(dtypes=(torch.float32,) * 3):
    draw = torch.Generator().manual_seed(9)
    return [
        nn.Parameter(torch.randn(5, 2 + n, generator=draw).to(dtype))
        for n, dtype in enumerate(dtypes)
    ]


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("grouped", [False, True])
def test_whatever_gradients_are_missing_an_update_is_torchs_own_step(name, grouped):
    """Torch's own with a group for each parameter, which knows of no other: its fused SGD
    cannot begin twice.
    """
    for seed in range(8):
        own, quick = parameters(), parameters()
        torchs = OPTIMISERS[name]([{"params": [p]} for p in own])
        move = update(
            OPTIMISERS[name]([{"params": quick[:1]}, {"params": quick[1:]}] if grouped else quick)
        )
        for number, present in enumerate([[False] * 3, *pattern(seed, 6)]):
            draw = torch.Generator().manual_seed(number)
            for one, other, there in zip(own, quick, present, strict=True):
                grad = torch.randn(one.shape, generator=draw) if there else None
                one.grad, other.grad = grad, None if grad is None else grad.clone()
            torchs.step()
            move()
            assert all(map(torch.equal, own, quick)), (seed, number)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_parameters_of_several_kinds_of_numbers_are_updated_each_in_its_own(name):
    kinds = (torch.float32, torch.float64, torch.bfloat16)
    own, quick = parameters(kinds), parameters(kinds)
    torchs, move = OPTIMISERS[name](own), update(OPTIMISERS[name](quick))
    for _ in range(3):
        for one, other in zip(own, quick, strict=True):
            one.grad, other.grad = torch.ones_like(one), torch.ones_like(one)
        torchs.step()
        move()
    assert all(map(torch.equal, own, quick))
