"""Dynamic sparse training: one exchange by hand, its schedule, its costs, an independent loop, and
its arms.
"""

import math
from dataclasses import replace

import pytest
import torch
from tests.test_experiment import timeless
from tests.test_rehearsal import done_in
from torch import nn

from tombola.experiments.accounts import _sparse_flops
from tombola.experiments.experiment import foresee, plan, run
from tombola.experiments.plans import make_task
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, InvariantError, TrainingError
from tombola.ground.settings import Training
from tombola.masks.controls import draw_count
from tombola.masks.masks import count, ones, places_of
from tombola.masks.rates import counts_for
from tombola.masks.schedules import (
    RegrowAtRandom,
    RegrowByGradient,
    RegrowthSchedule,
    exchanges,
)
from tombola.masks.scopes import by_name
from tombola.masks.selection import highest, lowest
from tombola.models import flops
from tombola.records.records import costs_of
from tombola.schema.recipe import parse
from tombola.tickets import Ticket
from tombola.training.jobs import Job, Trained, run_job
from tombola.training.regrowth import RandomRegrower, exchanged

KEEP = torch.tensor([True, True, True, False, False, False])
WEIGHT = torch.tensor([0.5, -0.1, 0.3, 0.0, 0.0, 0.0])
PACE = RegrowthSchedule(every=6, fraction=0.4)
BY_GRADIENT, AT_RANDOM = RegrowByGradient(PACE), RegrowAtRandom(PACE)


# ---- one exchange, by hand


def test_the_smallest_weight_makes_room_for_the_largest_gradient():
    gradient = torch.tensor([0.1, 0.1, 0.2, -0.7, 0.2, 0.4])
    after = exchanged(KEEP, WEIGHT, gradient, 1)
    assert after.tolist() == [True, False, True, True, False, False]
    assert (WEIGHT * after)[3] == 0
    assert KEEP.tolist() == [True, True, True, False, False, False]


def test_a_weight_that_was_dropped_may_return_at_once():
    gradient = torch.tensor([0.1, 2.0, 0.2, -0.7, 0.2, 0.4])
    assert torch.equal(exchanged(KEEP, WEIGHT, gradient, 1), KEEP)


def test_of_equal_weights_the_first_are_dropped_and_of_equal_gradients_the_last_grow():
    equal = torch.ones(6)
    assert exchanged(KEEP, equal, equal, 2).tolist() == [False, False, True, False, True, True]


def test_a_gradient_that_is_no_number_is_told():
    gradient = torch.full((6,), math.nan)
    with pytest.raises(TrainingError, match="is NaN; a lower learning rate"):
        exchanged(KEEP, WEIGHT, gradient, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_highest_are_those_that_the_lowest_leave(dtype):
    draw = torch.Generator().manual_seed(0)
    values = torch.randint(0, 40, (500,), generator=draw).to(dtype)
    for number in (0, 1, 7, 250, 499, 500):
        assert torch.equal(highest(values, number), ~lowest(values, 500 - number))


@pytest.mark.parametrize("kind", ["distinct", "few values", "zeros in most places", "as sampled"])
def test_the_highest_of_many_are_exact_whatever_a_sample_says(kind):
    draw = torch.Generator().manual_seed(1)
    values = torch.rand(60_000, generator=draw)
    if kind == "few values":
        values = (values * 9).round()
    if kind == "zeros in most places":
        values[torch.rand(60_000, generator=draw) < 0.9] = 0
    if kind == "as sampled":  # the sample sees the largest values alone
        values[::17] += 1
    for number in (1, 700, 3600, 9000):
        assert torch.equal(highest(values, number), ~lowest(values, 60_000 - number))


def test_places_are_those_of_nonzero_in_any_layout():
    mask = (torch.rand(4, 3, 2, 2) < 0.5).to(memory_format=torch.channels_last)
    assert torch.equal(places_of(mask), torch.nonzero(mask.flatten()).flatten())


# ---- the schedule


# By hand: (alpha / 2) (1 + cos(pi t / T_end)) at 0, T_end / 2 and T_end is .3, .15, 0.
def test_the_fraction_falls_along_half_a_cosine():
    fractions = exchanges(RegrowthSchedule(every=1), 0, 400)
    assert list(fractions) == list(range(1, 300))
    assert fractions[150] == pytest.approx(0.15)
    assert fractions[1] == pytest.approx(0.3, abs=1e-4)
    assert fractions[299] == pytest.approx(0, abs=1e-4)


def test_after_a_rewind_point_the_fraction_falls_from_there():
    fractions = exchanges(RegrowthSchedule(every=50), 100, 400)
    assert list(fractions) == [150, 200, 250]
    assert fractions[200] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        ({"every": 0}, "pace.every is 0"),
        ({"fraction": 0.0}, "pace.fraction is 0; it is a fraction"),
        ({"fraction": 30}, "pace.fraction is 30; it is a fraction"),
        ({"end": 1.5}, "pace.end is 1.5"),
    ],
)
def test_a_pace_that_cannot_be_is_told(pace, message):
    with pytest.raises(ConfigError) as caught:
        RegrowthSchedule(**pace)
    assert message in str(caught.value)


def test_a_training_that_is_too_short_or_too_long_for_its_pace_is_told():
    with pytest.raises(ConfigError, match=r"pace.every is 100, and there are 30 steps to exchange"):
        exchanges(RegrowthSchedule(), 0, 40)
    with pytest.raises(ConfigError, match="makes 750,000 exchanges"):
        exchanges(RegrowthSchedule(every=1), 0, 1_000_000)


# ---- trainings


def recipe(**changes):
    whole = {
        "name": "regrowth", "data": "digits", "model": {"name": "mlp", "hidden": [30, 20]},
        "training": {"lr": 0.05, "momentum": 0.9, "epochs": 2, "batch_size": 64}, "device": "cpu", "replicates": 1,
        "rewind": 3,
        "arms": {
            "set": {"method": "set", "densities": [0.5, 0.2], "pace": {"every": 6}},
            "rigl": {"method": "rigl", "densities": [0.5, 0.2], "pace": {"every": 6}},
            "set-net": {"method": "as_trained", "source": "set"},
            "rigl-net": {"method": "as_trained", "source": "rigl"},
            "drawn": {"method": "random_ticket", "source": "rigl"},
        },
    }  # fmt: skip
    return parse(whole | changes)


@pytest.fixture(scope="module")
def task():
    return make_task(recipe(), None)


@pytest.fixture(scope="module")
def job(task):
    """A training from a random mask of a density of 20 %, by ERK."""
    training = Training(lr=0.05, momentum=0.9, weight_decay=1e-4, epochs=2, batch_size=64)
    allowed, scope = ones(task.model, head=task.head), by_name("erk", task.model)
    [amount] = counts_for(allowed, [0.2], scope)
    mask = draw_count(allowed, amount, scope, 0, "sparse start")
    return Job(task.initial_state(), mask, training, seed=5)


@pytest.mark.parametrize("during", [BY_GRADIENT, AT_RANDOM], ids=["rigl", "set"])
def test_every_layer_keeps_as_many_weights_and_others(job, task, during):
    trained = run_job(replace(job, during=during), task)
    number_of_exchanges = len(exchanges(PACE, 0, trained.steps))
    assert len(trained.cuts) == number_of_exchanges > 2
    for name, keep in job.mask.items():
        after = trained.mask[name]
        assert count({name: after}) == count({name: keep})
        assert all(kept[name] == count({name: keep}) for _, kept in trained.cuts)
        assert not trained.final[name][~after].any()
        assert not trained.early[name][~after].any()
        if count({name: keep}) < keep.numel():
            assert not torch.equal(after, keep)
            assert bool(trained.final[name][after & ~keep].any())  # what grew has been trained
    assert trained.early_step > trained.cuts[-1][0] - 1


@pytest.mark.parametrize("during", [BY_GRADIENT, AT_RANDOM], ids=["rigl", "set"])
@pytest.mark.parametrize("first", [0, 3])
def test_an_independent_loop_ends_with_the_same_bits(job, task, during, first):
    """Written from the papers: torch's modules and optimiser, full sorts, and no part of tombola's
    trainings.
    """
    eager = replace(job.training, step="eager")
    job = replace(job, training=eager, first=first, during=during)
    model = task.build(job.start, job.part, job.seed)
    batches = task.batches(job.part, 64, job.seed)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-4, fused=True)
    layers = {name: value for name, value in model.named_parameters() if name in job.mask}
    keep = {name: mask.clone() for name, mask in job.mask.items()}
    steps = 2 * len(batches)
    end = round(0.75 * steps)

    def hold():
        with torch.no_grad():
            for name, weight in layers.items():
                weight.mul_(keep[name])

    def exchange(number):
        fraction = 0.2 * (1 + math.cos(math.pi * (number - first) / (end - first)))
        for name, weight in layers.items():
            kept = int(keep[name].sum())
            replaced = int(fraction * kept)
            if kept == weight.numel() or not replaced:
                continue
            if during is BY_GRADIENT:
                growth = weight.grad.abs().flatten()
            else:
                draw = seeds.generator(job.seed, "regrowth", number, name)
                growth = torch.rand(weight.shape, generator=draw).flatten()
            before = keep[name].flatten().clone()
            size = weight.detach().abs().flatten().masked_fill(~before, math.inf)
            after = before.clone()
            after[torch.sort(size, stable=True).indices[:replaced]] = False
            growth = growth.masked_fill(after, -1)
            after[torch.sort(growth, stable=True).indices[-replaced:]] = True
            keep[name] = after.view(weight.shape)
            momentum = optimizer.state[weight]["momentum_buffer"]
            momentum.mul_((before | ~after).view(weight.shape))

    hold()
    for number in range(first, steps):
        epoch, place = divmod(number, len(batches))
        batch = list(batches.epoch(epoch))[place]
        due = (number - first) % 6 == 0 and first < number < end
        if due and during is AT_RANDOM:
            exchange(number)
            hold()
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        if due and during is BY_GRADIENT:
            exchange(number)
            hold()
            continue
        optimizer.step()
        hold()

    trained = run_job(job, task)
    assert trained.steps == steps - first
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.final[name]), name
    assert all(torch.equal(keep[name], trained.mask[name]) for name in keep)


def test_a_step_of_rigl_that_exchanges_weights_updates_none(job, task):
    """With one exchange, after six steps: the seventh step moves no weight that stays."""
    once = RegrowByGradient(RegrowthSchedule(every=6, end=0.17))
    before = run_job(replace(job, last=6, during=once), task)
    after = run_job(replace(job, last=7, during=once), task)
    assert [step for step, _ in after.cuts] == [7]
    for name, keep in after.mask.items():
        both = keep & job.mask[name]
        assert torch.equal(after.final[name][both], before.final[name][both])
        assert not after.final[name][keep & ~job.mask[name]].any()
    at_random = RegrowAtRandom(once.pace)
    before = run_job(replace(job, last=6, during=None), task)
    after = run_job(replace(job, last=7, during=at_random), task)
    both = after.mask["fc1.weight"] & job.mask["fc1.weight"]
    assert not torch.equal(after.final["fc1.weight"][both], before.final["fc1.weight"][both])


class _Losing(RandomRegrower):
    def cut(self, step, state):
        mask = super().cut(step, state)
        name = next(iter(mask))
        return mask | {name: mask[name] & (torch.rand(mask[name].shape) < 0.9)}


def test_a_layer_that_would_lose_weights_breaks_an_invariant(job, task):
    class Losing(RegrowAtRandom):
        driver = "tests.test_regrowth:_Losing"

    with pytest.raises(InvariantError, match="their number is constant"):
        run_job(replace(job, during=Losing(PACE)), task)


def test_a_frozen_layer_stays_as_it_is(job, task):
    model = task.build(job.start, job.part, job.seed)
    model.get_parameter("fc1.weight").requires_grad_(False)

    class Frozen(type(task)):
        def build(self, *given):
            built = super().build(*given)
            built.get_parameter("fc1.weight").requires_grad_(False)
            return built

    frozen = object.__new__(Frozen)
    vars(frozen).update(vars(task))
    trained = run_job(replace(job, during=BY_GRADIENT), frozen)
    assert torch.equal(trained.mask["fc1.weight"], job.mask["fc1.weight"])
    assert not torch.equal(trained.mask["fc2.weight"], job.mask["fc2.weight"])


# ---- costs


# With one exchange in dT + 1 steps, a step costs (3 f_s dT + 2 f_s + f_d) / (dT + 1), f_s and f_d
# being the FLOPs of a sparse and a dense forward pass.
def test_flops_of_rigl_are_those_of_its_paper():
    f_dense, every = 2 * 30 * 20, 100
    layers = flops.per_example(
        nn.Sequential(nn.Linear(1, 30), nn.ReLU(), nn.Linear(30, 20)), torch.zeros(2, 1)
    )
    # A layer whose input needs a gradient, as the paper has all of them.
    layers = {"2": layers["2"]}
    mask = {"2.weight": torch.arange(600).view(20, 30) < 60}
    f_sparse = f_dense // 10
    cuts = [(every + 1, {"2.weight": 60})]
    trained = Trained({}, None, None, "last", [], 101, 1.0, steps=every + 1, cuts=cuts)
    by_paper = (3 * f_sparse * every + 2 * f_sparse + f_dense) / (every + 1)
    job = Job({}, mask, Training(epochs=1), 0, during=RegrowByGradient())
    assert _sparse_flops(layers, job, trained) == by_paper * (every + 1)
    # SET needs no dense gradients.
    job = replace(job, during=RegrowAtRandom())
    assert _sparse_flops(layers, job, trained) == 3 * f_sparse * (every + 1)


# ---- arms


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(recipe(), runs=tmp_path_factory.mktemp("regrowth"), workers=1)


def of(outcome):
    return {(record["arm"], record["round"]): record for record in outcome.records}


def masks(outcome, arm):
    paths = sorted(outcome.folder.glob(f"tickets/{arm}/replicate-0/*.safetensors"))
    return [Ticket.load(path).mask for path in paths]


def test_its_arms_are_tickets_and_the_networks_themselves(outcome):
    assert outcome.complete
    records, dense_gradients = of(outcome), {}
    for method in ("set", "rigl"):
        for index, density in ((1, 0.5), (2, 0.2)):
            ticket, network = records[method, index], records[f"{method}-net", index]
            assert ticket["mask_digest"] == network["mask_digest"]
            assert ticket["density"] == pytest.approx(density, abs=1e-3)
            assert ticket["by_itself"]
            # The network is trained once, for the ticket and for itself.
            [searched] = [cost for cost in costs_of(ticket) if cost.role == "search"]
            assert network["training_digest"] == searched.training != ticket["training_digest"]
            dense_gradients[method, index] = searched.flops_sparse
    for index in (1, 2):
        assert dense_gradients["rigl", index] > dense_gradients["set", index]


def test_both_begin_with_the_same_random_mask_and_end_with_others(outcome):
    first, second = masks(outcome, "set"), masks(outcome, "rigl")
    for one, other in zip(first, second, strict=True):
        assert {name: count({name: keep}) for name, keep in one.items()} == {
            name: count({name: keep}) for name, keep in other.items()
        }
        assert any(not torch.equal(keep, other[name]) for name, keep in one.items())


def test_the_counts_of_its_layers_are_those_of_the_scope(outcome, task):
    allowed, scope = ones(task.model, head=task.head), by_name("erk", task.model)
    for mask, amount in zip(
        masks(outcome, "rigl"), counts_for(allowed, [0.5, 0.2], scope), strict=True
    ):
        assert {name: count({name: keep}) for name, keep in mask.items()} == amount.keep


def test_a_rehearsal_tells_its_trainings(outcome, tmp_path):
    told = foresee(plan(recipe()), runs=tmp_path)
    assert (told.trainings, told.steps, told.examples, told.flops) == done_in(outcome)


@pytest.mark.slow
def test_two_workers_find_what_one_finds(outcome, tmp_path):
    again = run(recipe(), runs=tmp_path, workers=2)
    assert timeless(again.records) == timeless(outcome.records)


def test_layers_that_exchange_nothing_are_named(tmp_path):
    arms = {"rigl": {"method": "rigl", "densities": [0.02], "pace": {"every": 6}, "scope": "per_layer"}}  # fmt: skip
    plans = plan(recipe(arms=arms, model={"name": "mlp", "hidden": [30, 4]}))
    line = plans.left_out["arm rigl"]
    assert line == "too few weights are kept to exchange one of them: fc2.weight"


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"method": "rigl"}, "arms.x needs densities"),
        (
            {"method": "set", "densities": [0.5], "rate": 0.2},
            "arms.x.rate has no meaning with method: set",
        ),
        (
            {"method": "rigl", "densities": [0.5], "pace": {"every": 1000}},
            "arm 'x': pace.every is 1000, and there are",
        ),
        (
            {"method": "rigl", "densities": [0.5], "pace": {"fraction": 30}},
            "pace.fraction is 30",
        ),
        (
            {"method": "set", "densities": [0.002], "pace": {"every": 6}},
            "at the density 0.002 no layer keeps enough weights to exchange one of them",
        ),
        (
            {"method": "set", "densities": [0.5], "pace": {"every": 6}, "scope": "half_output"},
            "half_output",
        ),
        ({"method": "as_trained", "source": "lth"}, "needs an arm with method: gradual, set or"),
    ],
)
def test_arms_that_cannot_be_are_told_in_one_line(arm, message, tmp_path):
    lth = {"method": "lth", "densities": [0.5]}
    with pytest.raises(ConfigError) as caught:
        run(recipe(arms={"x": arm, "lth": lth}), runs=tmp_path, workers=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
