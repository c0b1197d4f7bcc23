"""A training uses the rates it was given, keeps pruned weights at zero, and can be taken up at
any step.
"""

import itertools
import math
import random
from collections import OrderedDict
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tests.toys import equal
from torch import nn
from torch.nn.functional import cross_entropy

from tombola.data.batches import Augment, Batches
from tombola.data.splits import Split
from tombola.ground import seeds
from tombola.ground.errors import ConfigError
from tombola.ground.plain import plain as as_plain
from tombola.ground.settings import Schedule, Training, fine_tuning, stretched
from tombola.training.jobs import Job
from tombola.training.loop import train


class Same:
    """The same few batches in every epoch."""

    def __init__(self, *batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def epoch(self, _):
        return iter(self.batches)


def pictures(n=20, batch_size=6, **options) -> Batches:
    """Four batches an epoch: 6, 6, 6 and 2 pictures of 4 x 4 pixels in three classes."""
    draw = torch.Generator().manual_seed(5)
    split = Split(torch.rand(n, 1, 4, 4, generator=draw), torch.arange(n) % 3, torch.arange(n))
    options = {
        "seed": 0,
        "mean": torch.full((1,), 0.5),
        "std": torch.ones(1),
        "published": n,
    } | options
    return Batches(split, batch_size=batch_size, **options)


def network(dropout=0.0) -> nn.Module:
    with seeds.seeded(0, "init"):
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 4, 3, padding=1),
                norm=nn.BatchNorm2d(4),
                relu=nn.ReLU(),
                dropout=nn.Dropout(dropout),
                flat=nn.Flatten(),
                head=nn.Linear(64, 3),
            )
        )


def loss(model, batch):
    inputs, labels = batch
    return cross_entropy(model(inputs), labels)


def everything(model):
    return {
        name: torch.ones_like(p, dtype=torch.bool)
        for name, p in model.named_parameters()
        if p.ndim > 1
    }


def half(model):
    """Keep every other weight."""
    return {
        name: torch.arange(keep.numel()).view(keep.shape) % 2 == 0
        for name, keep in everything(model).items()
    }


def finished(training, *, model=None, mask=None, batches=None, **options):
    """Train to the end and return the state."""
    model = model or network()
    mask = half(model) if mask is None else mask
    for _ in train(model, batches or pictures(), training, mask, loss=loss, seed=0, **options):
        pass
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": None}, "training needs epochs or steps, exactly one of the two"),
        ({"steps": 5}, "training needs epochs or steps, exactly one of the two"),
        (
            {"optimizer": "sdg"},
            "training.optimizer is 'sdg'; it is one of sgd, adam, adamw. Did you mean 'sgd'?",
        ),
        (
            {"schedule": "linear"},
            "training.schedule is 'linear'; it is one of constant, multistep, cosine.",
        ),
        ({"select": "first"}, "training.select is 'first'; it is one of last, best."),
        ({"lr": 0}, "training.lr is 0; it must be above 0"),
        ({"lr": float("nan")}, "training.lr is nan; it must be above 0"),
        ({"lr": float("inf")}, "training.lr is inf; it must be above 0"),
        ({"epochs": 0}, "training.epochs is 0; it must be above 0"),
        ({"epochs": None, "steps": -1}, "training.steps is -1; it must be above 0"),
        ({"batch_size": 0}, "training.batch_size is 0; it must be above 0"),
        ({"gamma": 0}, "training.gamma is 0; it must be above 0"),
        ({"clip": 0.0}, "training.clip is 0.0; it must be above 0"),
        ({"evaluate_every": 0}, "training.evaluate_every is 0; it must be above 0"),
        ({"patience": 0}, "training.patience is 0; it must be above 0"),
        ({"threads": 0}, "training.threads is 0; it must be above 0"),
        ({"momentum": -0.9}, "training.momentum is -0.9; it must be 0 or more"),
        ({"weight_decay": -1e-4}, "training.weight_decay is -0.0001; it must be 0 or more"),
        ({"warmup": float("nan")}, "training.warmup is nan; it must be 0 or more"),
        ({"warmup_steps": -5}, "training.warmup_steps is -5; it must be 0 or more"),
        (
            {"optimizer": "adam", "momentum": 0.9},
            "training.momentum and nesterov belong to sgd; the optimizer is adam",
        ),
        (
            {"optimizer": "adamw", "nesterov": True},
            "training.momentum and nesterov belong to sgd; the optimizer is",
        ),
        ({"nesterov": True}, "training.nesterov needs momentum above 0, such as 0.9"),
        (
            {"warmup": 1, "warmup_steps": 10},
            "training has warmup and warmup_steps; give one of the two",
        ),
        (
            {"schedule": "multistep", "milestones": (1,), "milestone_steps": (10,)},
            "training has milestones and milestone_steps; give one of the two",
        ),
        (
            {"schedule": "multistep"},
            "training.schedule is multistep; milestones and the schedule multistep need each",
        ),
        (
            {"milestones": (2,)},
            "training.schedule is constant; milestones and the schedule multistep need each other",
        ),
        (
            {"schedule": "cosine", "milestone_steps": (2,)},
            "training.schedule is cosine; milestones and the schedule",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, message):
    with pytest.raises(ConfigError) as error:
        Training(**{"epochs": 3} | settings)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def factors(training, batches_per_epoch, share=1.0):
    schedule = Schedule.of(training, batches_per_epoch, share)
    return [schedule.factor(step) for step in range(schedule.steps)]


def test_a_multistep_schedule_falls_at_the_end_of_its_epochs():
    training = Training(epochs=4, schedule="multistep", milestones=(1, 3), gamma=0.5)
    assert factors(training, 2) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_cosine_starts_at_one_and_would_reach_zero_after_the_last_step():
    assert factors(Training(steps=4, schedule="cosine"), 9) == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )
    assert Schedule.of(Training(steps=4, schedule="cosine"), 9).factor(4) == 0


def test_a_cosine_may_end_above_zero():
    training = Training(lr=1e-4, lr_end=1.02e-6, steps=4, schedule="cosine")
    schedule = Schedule.of(training, 9)
    rates = [training.lr * schedule.factor(step) for step in (0, 2, 4)]
    assert rates == pytest.approx([1e-4, 5.051e-5, 1.02e-6], rel=1e-12)
    assert fine_tuning(training, "last").lr == 1.02e-6
    decayed = fine_tuning(training, "decayed")
    assert (decayed.lr, decayed.lr_end) == (1.02e-6, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr_end": 0.01}, "training.lr_end is 0.01, where the schedule cosine ends; the schedule"),
        ({"lr_end": 0.2, "schedule": "cosine"}, "lr_end is 0.2, which is above training.lr 0.1"),
        ({"lr_end": 0.0, "schedule": "cosine"}, "training.lr_end is 0.0; it must be above 0"),
        ({"lr_end": math.nan, "schedule": "cosine"}, "lr_end is nan; it must be above 0"),
    ],
)
def test_an_end_of_the_cosine_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Training(epochs=1, **settings)


def test_an_end_at_zero_is_in_no_digest():
    plain = Training(epochs=1, schedule="cosine")
    ended = replace(plain, lr_end=0.01)
    jobs = [Job({"w": torch.ones(1)}, {}, training, 0) for training in (plain, ended)]
    # As asdict wrote it before there was the setting.
    before = {name: value for name, value in asdict(plain).items() if name != "lr_end"}
    assert as_plain(plain) == before
    assert jobs[0].digest("task") != jobs[1].digest("task")


def test_warmup_climbs_in_equal_stairs_to_the_full_rate():
    assert factors(Training(epochs=3, warmup=2), 2) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert factors(Training(epochs=3, warmup_steps=3), 2) == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 1, 1]
    )
    assert factors(Training(steps=4, warmup=0.5), 4) == [0.5, 1, 1, 1]


def test_a_cosine_begins_when_the_warmup_is_over():
    assert factors(Training(steps=6, warmup_steps=2, schedule="cosine"), 9) == pytest.approx(
        [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


def test_a_partition_takes_its_share_of_everything_given_in_steps():
    training = Training(
        steps=16,
        schedule="multistep",
        milestone_steps=(8, 12),
        warmup_steps=4,
        gamma=0.5,
        evaluate_every=6,
    )
    schedule = Schedule.of(training, batches_per_epoch=5, share=0.5)
    assert schedule == Schedule(
        steps=8, warmup=2, milestones=(4, 6), evaluate_every=3, shape="multistep", gamma=0.5
    )
    assert factors(training, 5, 0.5) == [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_what_is_given_in_epochs_knows_no_share():
    training = Training(epochs=4, schedule="multistep", milestones=(2,), warmup=1)
    schedule = Schedule.of(training, batches_per_epoch=5, share=0.5)
    assert (schedule.steps, schedule.warmup, schedule.milestones) == (20, 5, (10,))


def test_evaluations_come_once_an_epoch_if_nothing_is_said_and_at_least_at_every_step():
    assert Schedule.of(Training(epochs=4), batches_per_epoch=7, share=0.5).evaluate_every == 7
    assert (
        Schedule.of(Training(epochs=4, evaluate_every=10), batches_per_epoch=7).evaluate_every == 10
    )
    assert (
        Schedule.of(
            Training(epochs=4, evaluate_every=1), batches_per_epoch=7, share=0.1
        ).evaluate_every
        == 1
    )


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"warmup": 0.5}, [0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]),
        ({"schedule": "multistep", "milestone_steps": (5,), "gamma": 0.1}, [0.2] * 5 + [0.02] * 3),
        ({"schedule": "cosine"}, [0.1 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_train_uses_the_scheduled_rates(settings, rates, optimizer):
    model = network()
    steps = train(
        model,
        pictures(),
        Training(optimizer=optimizer, lr=0.2, epochs=2, **settings),
        {},
        loss=loss,
        seed=0,
    )
    used = [step.optimizer.param_groups[0]["lr"] for step in steps]
    assert used[:-1] == pytest.approx(rates)


def test_a_step_of_gradient_descent_is_the_one_done_by_hand():
    # Two weights of 1, inputs 3 and 4: the loss is 3 a + 4 b, the gradient (3, 4).
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    batches = Same((torch.tensor([[3.0, 4.0]]), torch.tensor([0])))
    steps = list(
        train(
            model, batches, Training(steps=1, lr=0.1), {}, loss=lambda m, b: m(b[0]).sum(), seed=0
        )
    )
    assert model.weight.tolist()[0] == pytest.approx([0.7, 0.6])
    assert [step.number for step in steps] == [0, 1]
    assert steps[1].loss.item() == 7


def test_clipping_looks_at_the_surviving_weights_only():
    # As above with b pruned: the norm that counts is 3, so clipping to 1 leaves a step of lr * 1.
    # The norm of both would be 5, and the step lr * 3/5.
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    mask = {"weight": torch.tensor([[True, False]])}
    batches = Same((torch.tensor([[3.0, 4.0]]), torch.tensor([0])))
    for _ in train(
        model,
        batches,
        Training(steps=1, lr=0.1, clip=1),
        mask,
        loss=lambda m, b: m(b[0]).sum(),
        seed=0,
    ):
        pass
    assert model.weight.tolist()[0] == pytest.approx([0.9, 0.0])


OPTIMIZERS = [
    ({"lr": 0.1}, lambda p: torch.optim.SGD(p, 0.1, fused=True)),
    (
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-3, fused=True),
    ),
    (
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, fused=True),
    ),
    (
        {"optimizer": "adam", "lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 1e-3},
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99), weight_decay=1e-3, fused=True),
    ),
    (
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
    ),
]
NAMES = ["sgd", "momentum", "nesterov", "adam", "adamw"]


@pytest.mark.parametrize(("settings", "make"), OPTIMIZERS, ids=NAMES)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_with_nothing_pruned_a_training_is_torchs_own_bit_for_bit(settings, make, clip):
    own, batches = network().to(memory_format=torch.channels_last), pictures()
    optimizer = make(own.parameters())
    for epoch in range(3):
        for batch in batches.epoch(epoch):
            optimizer.zero_grad()
            loss(own, batch).backward()
            if clip:
                nn.utils.clip_grad_norm_(own.parameters(), clip)
            optimizer.step()
    trained = finished(Training(epochs=3, clip=clip, **settings), mask=everything(own))
    assert equal(trained, own.state_dict())
    assert equal(trained, finished(Training(epochs=3, clip=clip, **settings), mask={}))


@pytest.mark.parametrize(("settings", "make"), OPTIMIZERS, ids=NAMES)
def test_pruned_weights_are_zero_after_every_step_and_the_others_move(settings, make):
    model = network()
    mask = half(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in train(model, pictures(), Training(epochs=3, **settings), mask, loss=loss, seed=0):
        for name, keep in mask.items():
            assert not model.get_parameter(name)[~keep].any(), f"{name} at step {step.number}"
    assert all(
        (model.get_parameter(name)[keep] != before[name][keep]).any() for name, keep in mask.items()
    )


@pytest.mark.parametrize(("settings", "make"), OPTIMIZERS, ids=NAMES)
def test_a_driver_may_replace_the_mask_between_steps_and_it_holds_from_then_on(settings, make):
    model = network()
    later = half(model)
    for step in train(
        model, pictures(), Training(epochs=2, **settings), everything(model), loss=loss, seed=0
    ):
        if step.number == 5:  # momentum of the weights that now go has gathered by then
            assert all(model.get_parameter(name)[~keep].any() for name, keep in later.items())
            step.handle.replace(later)
        if step.number >= 5:
            assert not any(model.get_parameter(name)[~keep].any() for name, keep in later.items())


def test_train_yields_before_each_step_and_once_at_the_end():
    model = network()
    seen, states = [], []
    for step in train(model, pictures(), Training(steps=6), {}, loss=loss, seed=0):
        seen.append((step.number, step.loss is None))
        states.append(model.head.weight.detach().clone())
    assert seen == [(0, True)] + [(number, False) for number in range(1, 7)]
    assert torch.equal(states[0], network().head.weight)
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(states))


def test_the_loss_of_a_step_is_that_of_its_batch_before_the_step():
    model = network()
    steps = train(model, pictures(), Training(steps=2), {}, loss=loss, seed=0)
    next(steps)
    expected = loss(network(), next(iter(pictures().epoch(0))))
    assert torch.equal(next(steps).loss, expected.detach())


VARIED = Augment(crop=1, flip=True, rotate=20)


@pytest.mark.parametrize("k", [1, 4, 6])
@pytest.mark.parametrize("schedule", [{"schedule": "cosine", "warmup_steps": 2}, {"clip": 0.5}])
def test_a_training_taken_up_at_step_k_ends_in_the_same_bits(k, schedule):
    # SGD without momentum has no state of its own, so all that could differ is the schedule, the
    # order of the data, its augmentation and the dropout.
    training = Training(epochs=3, lr=0.2, **schedule)
    whole = finished(training, model=network(dropout=0.3), batches=pictures(augment=VARIED))
    model = network(dropout=0.3)
    finished(training, model=model, batches=pictures(augment=VARIED), last=k)
    assert not equal(model.state_dict(), whole)
    again = network(dropout=0.3)
    again.load_state_dict(model.state_dict())
    assert equal(finished(training, model=again, batches=pictures(augment=VARIED), first=k), whole)


def test_a_training_taken_up_at_step_k_counts_on_from_there():
    steps = train(network(), pictures(), Training(epochs=3), {}, loss=loss, seed=0, first=5, last=8)
    assert [step.number for step in steps] == [5, 6, 7, 8]


def test_dropout_hangs_on_the_seed_and_the_step_alone():
    training = Training(epochs=2, lr=0.2)

    def with_seed(seed, disturb=False):
        model = network(dropout=0.5)
        for _ in train(model, pictures(), training, {}, loss=loss, seed=seed):
            if disturb:
                torch.rand(7)  # what a driver draws between two steps
        return model.state_dict()

    with torch.random.fork_rng():
        first, again, other = with_seed(1), with_seed(1, disturb=True), with_seed(2)
    assert equal(first, again)
    assert not equal(first, other)


def rates_used(training):
    """The learning rate of every step of a training on four batches an epoch."""
    steps = train(network(), pictures(), training, {}, loss=loss_of, seed=0)
    # each is yielded before its step
    return [step.optimizer.param_groups[0]["lr"] for step in steps][:-1]


def loss_of(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


STEPPED = Training(lr=0.1, epochs=3, schedule="multistep", milestones=(1, 2), gamma=0.2, warmup=0.5)


def test_fine_tuning_goes_on_at_the_rate_that_the_training_ended_with():
    assert rates_used(STEPPED)[-1] == pytest.approx(0.004)
    further = fine_tuning(STEPPED, "last")
    assert further.lr == 0.004
    assert rates_used(further) == [0.004] * 12


def test_fine_tuning_may_come_down_from_that_rate_to_zero_along_half_a_cosine():
    expected = [0.004 * 0.5 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert rates_used(fine_tuning(STEPPED, "decayed")) == pytest.approx(expected)


def test_fine_tuning_may_have_a_rate_of_its_own_and_changes_nothing_else():
    further = fine_tuning(STEPPED, 0.03)
    assert rates_used(further) == [0.03] * 12
    assert further == Training(lr=0.03, epochs=3, gamma=0.2)
    cosine = Training(lr=0.1, epochs=3, schedule="cosine")
    assert fine_tuning(cosine, 0.03).schedule == "constant"


@pytest.mark.parametrize("lr", ["last", "decayed"])
def test_fine_tuning_after_a_cosine_needs_a_rate(lr):
    with pytest.raises(
        ConfigError, match=f"lr is {lr}, but the cosine schedule ends at a rate of 0; give the rate"
    ):
        fine_tuning(Training(epochs=2, schedule="cosine"), lr)


def test_a_stretched_training_has_the_same_rates_for_longer():
    assert rates_used(stretched(STEPPED, 2))[4:] == pytest.approx(
        [r for r in rates_used(STEPPED)[2:] for _ in "ab"]
    )
    steps = Training(steps=10, schedule="multistep", milestone_steps=(4,), warmup_steps=3)
    longer = stretched(steps, 1.5)
    assert (longer.steps, longer.milestone_steps, longer.warmup_steps) == (15, (6,), 4)
    assert stretched(STEPPED, 1) == STEPPED


# ---- the state that a model is given in


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_model_in_evaluation_mode_is_trained_as_one_in_training_mode(optimizer):
    training = Training(epochs=2, lr=0.05, optimizer=optimizer)
    results = [finished(training, model=network(dropout=0.5).train(mode)) for mode in (True, False)]
    assert equal(*results)
    assert not equal(results[0], finished(training, model=network()))  # dropout was on
    assert results[0]["norm.running_mean"].any()  # and batch norm learnt


def test_a_batch_norm_that_is_frozen_in_a_model_in_training_mode_stays_so():
    model = network(dropout=0.5)
    model.norm.eval()
    before = {name: value.clone() for name, value in model.norm.state_dict().items()}
    steps = train(model, pictures(), Training(epochs=2, lr=0.05), {}, loss=loss, seed=0)
    assert [(model.training, model.norm.training, model.dropout.training) for _ in steps] == [
        (True, False, True)
    ] * 9
    assert torch.equal(model.norm.running_mean, before["running_mean"])
    # its weight is a parameter like any other
    assert not torch.equal(model.norm.weight, before["weight"])


def test_a_frozen_parameter_that_is_thawed_is_trained_from_then_on():
    model = network()
    model.conv.weight.requires_grad_(False)
    states = []
    for step in train(
        model,
        pictures(),
        Training(epochs=2, lr=0.05, momentum=0.9, clip=0.1),
        {},
        loss=loss,
        seed=0,
    ):
        states.append(model.conv.weight.detach().clone())
        model.conv.weight.requires_grad_(step.number >= 4)
    assert all(torch.equal(state, states[0]) for state in states[:5])
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(states[4:]))


def test_a_gradient_that_is_left_from_before_counts_in_no_norm():
    training = Training(epochs=1, lr=0.1, clip=0.05)
    states = []
    for left in (False, True):
        model = network()
        model.conv.weight.requires_grad_(False)
        model.conv.weight.grad = torch.full_like(model.conv.weight, 9.0) if left else None
        states.append(finished(training, model=model, mask={}))
    assert equal(*states)


def nothing_trained(model):
    model.requires_grad_(False)


def a_lazy_layer(model):
    model.head = nn.LazyLinear(3)


def complex_numbers(model):
    model.extra = nn.Parameter(torch.ones(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            nothing_trained,
            "the model Sequential has no parameter that is trained; requires_grad is False for all "
            "6 of",
        ),
        (
            a_lazy_layer,
            "the parameter 'head.weight' has no shape yet; run the model on a batch once before it "
            "is used",
        ),
        (complex_numbers, "the parameter 'extra' is complex64; what is trained are real numbers"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_in_one_line(change, message):
    model = network()
    change(model)
    with pytest.raises(ConfigError) as error:
        finished(Training(epochs=1), model=model, mask={})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


# ---- what a model draws


class Drawing(nn.Module):
    """Draws from all three global generators in every forward pass."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, images):
        factor = np.random.randint(1, 3) * random.choice([0.5, 2.0]) + torch.rand(())
        return self.head(images.flatten(1) * factor)


@pytest.mark.parametrize("own_batches", [False, True])
def test_what_a_model_draws_hangs_on_the_seed_and_the_step_alone_and_the_callers_own_numbers_come_back(
    own_batches,
):
    class Shuffled(Same):
        def epoch(self, _):
            return iter([self.batches[place] for place in np.random.permutation(len(self.batches))])

    def with_seed(seed, disturb=0, **options):
        seeds.reseed_python(disturb)
        torch.manual_seed(disturb)
        expected = torch.rand(3), random.random(), np.random.rand()
        seeds.reseed_python(disturb)
        torch.manual_seed(disturb)
        with seeds.seeded(0, "init"):
            model = Drawing()
        batches = Shuffled(*pictures().epoch(0)) if own_batches else pictures()
        for _ in train(
            model, batches, Training(epochs=2, lr=0.1), {}, loss=loss, seed=seed, **options
        ):
            if disturb:
                random.random(), np.random.rand(), torch.rand(7)
        assert torch.equal(torch.rand(3), expected[0])
        assert (random.random(), np.random.rand()) == expected[1:]
        return model.state_dict()

    first, again, other = with_seed(1), with_seed(1, disturb=5), with_seed(2)
    assert equal(first, again)
    assert not equal(first, other)
