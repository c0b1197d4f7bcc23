"""Each law of pruning is broken on purpose, and what was broken is named."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from tombola import Classification
from tombola.data.dataset import from_tensors
from tombola.data.partitions import WHOLE, Partition, by_seeds
from tombola.data.splits import split
from tombola.executors import serial
from tombola.ground import seeds
from tombola.ground.errors import InvariantError
from tombola.ground.settings import Training
from tombola.masks.masks import apply_, ones
from tombola.masks.rates import Count
from tombola.masks.scopes import per_layer, whole_model
from tombola.search.cutting import keep_common
from tombola.search.rounds import find
from tombola.training.invariants import check_cut, check_rewound, check_zeros
from tombola.training.jobs import Job, run_job


def network() -> nn.Module:
    with seeds.seeded(0, "init"):
        return nn.Sequential(
            OrderedDict(
                flat=nn.Flatten(), fc=nn.Linear(4, 5), norm=nn.BatchNorm1d(5), head=nn.Linear(5, 4)
            )
        )


def make_task(kind=Classification) -> Classification:
    images = torch.rand(24, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24) % 4
    return kind(network(), split(from_tensors(images, labels, images, labels, 4), valid=0))


def job_on(task) -> Job:
    return Job(
        task.initial_state(), ones(task.model), Training(epochs=1, lr=0.1, batch_size=8), seed=0
    )


def mask_of(*keeps):
    return {"w": torch.tensor(keeps, dtype=torch.bool)}


FULL = mask_of(1, 1, 1, 1)


def test_weights_that_are_not_zero_where_they_were_pruned_are_counted_and_named():
    mask = mask_of(1, 0, 0, 1)
    check_zeros({"w": torch.tensor([1.0, 0.0, -0.0, 0.0])}, mask, "round 1")
    with pytest.raises(
        InvariantError, match=r"2 pruned weights of 'w' are not zero after training \(round 3\)"
    ):
        check_zeros({"w": torch.tensor([1.0, 1e-30, float("nan"), 0.0])}, mask, "round 3")


def test_a_good_cut_passes():
    one, other = mask_of(1, 1, 0, 1), mask_of(0, 1, 1, 1)
    check_cut(FULL, mask_of(0, 1, 0, 1), [one, other], 0.25, whole_model)
    check_cut(FULL, mask_of(0, 1, 0, 1), [one, other], Count(2), whole_model)
    check_cut(FULL, FULL, [FULL], 0.0, whole_model)


@pytest.mark.parametrize(
    ("before", "mask", "candidates", "amount", "scope", "message"),
    [
        (
            mask_of(1, 1, 1, 0),
            mask_of(1, 1, 0, 0),
            [mask_of(1, 1, 0, 0), mask_of(1, 1, 0, 1)],
            0.33,
            whole_model,
            "candidate 1 keeps weights of 'w' that were pruned before",
        ),
        (
            mask_of(1, 1, 1, 0),
            mask_of(1, 0, 0, 1),
            [],
            0.33,
            None,
            "the new mask keeps weights of 'w' that were pruned before",
        ),
        (
            FULL,
            mask_of(1, 1, 0, 1),
            [mask_of(1, 1, 0, 1), mask_of(0, 1, 1, 1)],
            0.25,
            whole_model,
            "the new mask is not what all candidates keep",
        ),
        (
            FULL,
            mask_of(1, 0, 0, 1),
            [mask_of(1, 1, 0, 1), mask_of(0, 1, 1, 1)],
            0.25,
            None,
            "the new mask is not what all candidates keep",
        ),
        (
            FULL,
            mask_of(0, 0, 1, 1),
            [mask_of(0, 0, 1, 1)],
            0.25,
            whole_model,
            "candidate 0 keeps 2 weights of 'model'; asked for were 3",
        ),
        (
            FULL,
            mask_of(0, 0, 0, 1),
            [mask_of(0, 1, 1, 1), mask_of(0, 0, 0, 1)],
            0.25,
            per_layer,
            "candidate 1 keeps 1 weights of 'w'; asked for were 3",
        ),
        (
            FULL,
            mask_of(0, 0, 1, 1),
            [mask_of(0, 0, 1, 1)],
            Count(3),
            whole_model,
            "the new mask keeps 2 weights of 'model'; asked for were 3",
        ),
    ],
    ids=[
        "candidate grows",
        "mask grows",
        "wrong intersection",
        "user's intersection",
        "rate",
        "second",
        "count",
    ],
)
def test_a_cut_that_breaks_a_law_is_refused(before, mask, candidates, amount, scope, message):
    with pytest.raises(InvariantError, match=message):
        check_cut(before, mask, candidates, amount, scope)


def test_a_model_at_the_rewind_point_passes_with_its_pruned_weights_zero():
    task = make_task()
    start, mask = task.initial_state(), ones(task.model)
    mask["fc.weight"][0] = False
    model = task.build(start, WHOLE, 0)
    apply_(model, mask)
    check_rewound(model, start, mask, redrawn=None)
    halved = task.build(start, Partition(classes=(0, 1)), 0)
    apply_(halved, mask)
    check_rewound(halved, start, mask, redrawn="head")


@pytest.mark.parametrize(
    "name", ["fc.weight", "fc.bias", "norm.weight", "norm.running_mean", "head.weight"]
)
def test_whatever_is_not_rewound_is_named(name):
    task = make_task()
    start, mask = task.initial_state(), ones(task.model)
    model = task.build(start, WHOLE, 0)
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] += 0.5
    with pytest.raises(
        InvariantError, match=f"'{name}' is not at the rewind point before training"
    ):
        check_rewound(model, start, mask, redrawn=None)


@pytest.mark.parametrize("name", ["fc.bias", "norm.weight", "norm.running_mean"])
def test_beside_a_redrawn_head_whatever_is_not_rewound_is_named(name):
    task = make_task()
    start, mask = task.initial_state(), ones(task.model)
    model = task.build(start, Partition(classes=(0, 1)), 0)
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] += 0.5
    with pytest.raises(InvariantError, match=f"'{name}' is not at the rewind point"):
        check_rewound(model, start, mask, redrawn="head")


class Tied(nn.Module):
    """Two layers of one weight and one buffer, and a head."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.b.weight = self.a.weight
        self.a.register_buffer("scale", torch.ones(3))
        self.b.register_buffer("scale", self.a.scale)


@pytest.mark.parametrize("redrawn", [None, "head"])
@pytest.mark.parametrize("name", ["a.weight", "b.weight"])
def test_a_shared_weight_is_compared_once_under_the_name_that_its_mask_has(name, redrawn):
    model = Tied()
    start = {of: value.clone() for of, value in model.state_dict().items()}
    mask = {name: torch.eye(3, dtype=torch.bool)}
    apply_(model, mask)
    check_rewound(model, start, mask, redrawn=redrawn)
    with torch.no_grad():
        model.b.weight[0, 0] += 1
    with pytest.raises(InvariantError, match=f"'{name}' is not at the rewind point"):
        check_rewound(model, start, mask, redrawn=redrawn)


def test_a_shared_buffer_that_is_not_rewound_is_named():
    model = Tied()
    start = {of: value.clone() for of, value in model.state_dict().items()}
    model.b.scale += 1
    with pytest.raises(InvariantError, match=r"'a.scale' is not at the rewind point"):
        check_rewound(model, start, ones(model), redrawn=None)


def test_a_pruned_weight_that_is_alive_before_training_is_named():
    task = make_task()
    mask = ones(task.model)
    mask["fc.weight"][0] = False
    with pytest.raises(
        InvariantError, match=r"'fc.weight' is not at the rewind point before training"
    ):
        check_rewound(
            task.build(task.initial_state(), WHOLE, 0), task.initial_state(), mask, redrawn=None
        )


class Forgets(Classification):
    """A task that goes on with the model it trained before."""

    def build(self, start, partition, seed):
        if not hasattr(self, "last"):
            object.__setattr__(self, "last", super().build(start, partition, seed))
        return self.last


def test_a_search_that_never_rewinds_is_caught():
    task = make_task(Forgets)
    with pytest.raises(InvariantError, match="is not at the rewind point before training"):
        list(find(job_on(task), [WHOLE], [0.3] * 2, run_all=serial(task)))


def test_a_job_that_starts_elsewhere_is_caught():
    class Noisy(Classification):
        def build(self, start, partition, seed):
            model = super().build(start, partition, seed)
            model.norm.running_var += 1
            return model

    task = make_task(Noisy)
    with pytest.raises(InvariantError, match=r"'norm.running_var' is not at the rewind point"):
        run_job(job_on(task), task)


def test_a_loop_that_revives_pruned_weights_is_caught_in_the_round_and_the_partition():
    task = make_task()

    def reviving(jobs):
        trained = serial(task)(jobs)
        final = trained[1].final | {"fc.weight": torch.ones(5, 4)}
        return [trained[0], replace(trained[1], final=final)]

    rounds = find(job_on(task), by_seeds(2), [0.25] * 3, run_all=reviving)
    first = next(rounds)  # nothing was pruned before round 1
    gone = int((~first.mask["fc.weight"]).sum())
    with pytest.raises(
        InvariantError,
        match=f"{gone} pruned weights of 'fc.weight' are not zero .*round 2, partition 2",
    ):
        next(rounds)


def test_a_cut_whose_masks_grow_is_caught():
    task = make_task()
    masks = iter([0, 1])

    def growing(mask, states, amount, context):
        new = {name: torch.ones_like(keep) for name, keep in mask.items()}
        new["fc.weight"][next(masks)] = False
        return new, [new]

    rounds = find(job_on(task), [WHOLE], [0.25] * 2, run_all=serial(task), cut=growing)
    next(rounds)
    with pytest.raises(
        InvariantError, match=r"candidate 0 keeps weights of 'fc.weight' that were pruned before"
    ):
        next(rounds)


def test_a_cut_that_takes_the_first_candidate_for_all_is_caught():
    task = make_task()
    honest = keep_common()

    def wrong(mask, states, amount, context):
        _, candidates = honest(mask, states, amount, context)
        candidates[1] = {name: keep.flip(0) for name, keep in candidates[1].items()}
        return candidates[0], candidates

    with pytest.raises(InvariantError, match="the new mask is not what all candidates keep"):
        next(find(job_on(task), by_seeds(2), [0.25], run_all=serial(task), cut=wrong))
