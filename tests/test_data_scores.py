"""Scores that need data: values worked out by hand, laws, second implementations by torch.func,
and what all of them keep, in COLT and in recipes.
"""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from tests.scoring import (
    ENTRIES,
    Given,
    by_hand,
    close,
    conv_net,
    hand_net,
    hand_problem,
    image_batches,
    loss_of,
    masked,
    mean_cross_entropy,
    score,
    some_mask,
)
from tests.test_executors import TASK, equal, job
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

from tombola import Classification, find
from tombola.data.partitions import WHOLE, by_classes, by_seeds
from tombola.experiments.experiment import plan, run
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import count, ones
from tombola.masks.pruning import prune
from tombola.masks.rates import Count
from tombola.masks.scopes import whole_model
from tombola.records.records import costs_of
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.scores.gradients import Scoring
from tombola.scores.ranking import Ranking
from tombola.search.cutting import keep_common
from tombola.search.work import Cut
from tombola.training.jobs import run_job

# ---- by hand


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("snip", {}, [4, 2, 8, 2, 2, 10]),
        ("taylor", {}, [16, 4, 64, 4, 4, 100]),
        ("taylor", {"change": "absolute"}, [4, 2, 8, 2, 2, 10]),
        ("fisher", {}, [8, 2, 32, 2, 2, 50]),
        ("grasp", {"temperature": 1}, [-136, 68, 368, 92, -52, 380]),
        ("grasp", {"temperature": 1, "absolute": True}, [136, 68, 368, 92, 52, 380]),
    ],
)
def test_the_score_has_the_values_worked_out_by_hand(name, options, expected):
    assert by_hand(name, **options) == pytest.approx(expected, rel=1e-9)


class Slopes:
    """A weight of 1 whose gradient is 2 in one batch and -2 in the next."""

    def model(self):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, 1.0)
        return layer

    def batches(self, examples):
        yield from torch.tensor([[[2.0]], [[-2.0]]])

    def loss(self, model, batch):
        return model(batch).sum()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [("snip", {}, 0), ("taylor", {}, 4), ("taylor", {"change": "absolute"}, 2), ("fisher", {}, 2)],
)
def test_gradients_of_opposite_sign_cancel_in_snip_alone(name, options, expected):
    mask = {"weight": torch.tensor([[True]])}
    assert score(name, Slopes(), mask, **options)["weight"].item() == expected


# ---- laws


def test_the_products_into_a_relu_unit_sum_to_those_out_of_it():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(4, 3, bias=False)).double()
    batch = torch.randn(7, 6).double(), torch.randint(3, (7,))
    scoring = Scoring("snip", Given(model, [batch]), ones(model, "all"), examples=7, mode="eval")
    signed = {}
    for name, gradient in scoring.summed_gradients().items():
        signed[name] = gradient * scoring.weights[name].detach()
    for into, out in (("0.weight", "2.weight"), ("2.weight", "4.weight")):
        assert torch.allclose(signed[into].sum(1), signed[out].sum(0), rtol=1e-12, atol=1e-15)
    # and that is what snip takes the absolute value of
    scores = score("snip", Given(model, [batch]), ones(model, "all"))
    assert all(torch.equal(scores[name], values.abs()) for name, values in signed.items())


def test_a_factor_on_the_loss_changes_no_rank_of_snip():
    model, batches = conv_net(), image_batches()
    mask = some_mask(model)
    plain = score("snip", Given(model, batches, mask=mask), mask)

    def larger(network, batch):
        return 1024 * mean_cross_entropy(network, batch)

    scaled = score("snip", Given(model, batches, larger, mask=mask), mask)
    assert all(torch.equal(scaled[name], 1024 * plain[name]) for name in mask)
    assert equal(prune(plain, mask, 0.3), prune(scaled, mask, 0.3))


# ---- by other means


def gradients_by_func(model, weights, batches):
    """The gradient of each batch by torch.func."""
    return [grad(lambda free, each=batch: loss_of(model, free, each))(weights) for batch in batches]


def snip_by_func(model, mask, batches):
    model, weights = masked(model, mask)
    gradients = gradients_by_func(model, weights, batches)
    return {name: (weights[name] * sum(g[name] for g in gradients)).abs() for name in mask}


def taylor_by_func(model, mask, batches):
    model, weights = masked(model, mask)
    squares = {name: torch.zeros_like(weights[name]) for name in mask}
    for gradient in gradients_by_func(model, weights, batches):
        for name in mask:
            squares[name] += (gradient[name] * weights[name]) ** 2 / len(batches)
    return squares


def fisher_by_func(model, mask, batches):
    """The gradient of every example by vmap."""
    model, weights = masked(model, mask)

    def loss_of_example(free, image, label):
        return loss_of(model, free, (image[None], label[None]))

    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    each = vmap(grad(loss_of_example), (None, 0, 0))(weights, images, labels)
    return {name: each[name].square().mean(0) * weights[name].square() / 2 for name in mask}


def grasp_by_func(model, mask, batches, temperature=200, training=True):
    """The whole Hessian, times the gradient."""
    model, weights = masked(model, mask)
    model.train(training)
    sizes = [weight.numel() for weight in weights.values()]
    vector = torch.cat([weight.flatten() for weight in weights.values()])
    kept = torch.cat([keep.flatten() for keep in mask.values()])

    def named(values):
        parts = torch.split(values, sizes)
        return {
            name: part.view_as(weight)
            for part, (name, weight) in zip(parts, weights.items(), strict=True)
        }

    def loss(values):
        total = 0
        for images, labels in batches:
            # Batch norm counts its batches, which torch.func is not to see.
            buffers = {name: value.clone() for name, value in model.named_buffers()}
            logits = functional_call(model, named(values) | buffers, (images,)) / temperature
            total = total + nn.functional.cross_entropy(logits, labels)
        return total

    hessian = jacrev(grad(loss), chunk_size=64)(vector)
    return named(vector * (hessian @ (grad(loss)(vector) * kept)))


def test_the_first_weight_to_go_by_grasp_is_not_the_one_by_its_absolute_value():
    mask = ones(hand_net(), "all")
    signed = score("grasp", hand_problem(), mask, temperature=1)
    [first] = torch.nonzero(~prune(signed, mask, count=5)["w.weight"]).tolist()
    assert first == [0, 0]
    unsigned = score("grasp", hand_problem(), mask, temperature=1, absolute=True)
    assert prune(unsigned, mask, count=5)["v.weight"].tolist() == [[False, True]]


def test_the_temperature_changes_the_ranking_of_grasp():
    model, batches = conv_net(), image_batches()
    mask = ones(model, "all")
    hot, cold = (score("grasp", Given(model, batches), mask, temperature=t) for t in (200, 1))
    assert not equal(prune(hot, mask, 0.3), prune(cold, mask, 0.3))
    assert close(cold, grasp_by_func(model, mask, batches, temperature=1), mask)


def test_batch_norm_is_in_one_mode_in_both_passes_of_grasp():
    model, batches = conv_net(), image_batches()
    mask = some_mask(model)
    scores = score("grasp", Given(model, batches, mask=mask), mask, mode="eval")
    assert close(scores, grasp_by_func(model, mask, batches, training=False), mask)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "other"),
    [
        ("snip", {}, snip_by_func),
        ("taylor", {}, taylor_by_func),
        ("fisher", {}, fisher_by_func),
        ("grasp", {}, grasp_by_func),
    ],
)
def test_the_score_is_that_of_a_second_implementation(name, options, other, sparse):
    model, batches = conv_net(), image_batches()
    mask = some_mask(model) if sparse else ones(model, "all")
    scores = score(name, Given(model, batches, mask=mask), mask, **options)
    assert close(scores, other(model, mask, batches), mask)


@pytest.mark.parametrize("name", ["snip", "taylor", "fisher"])
def test_training_mode_takes_the_statistics_of_the_batch(name):
    model, batches = conv_net(), image_batches((4,))
    mask = some_mask(model)
    scores = score(name, Given(model, batches, mask=mask), mask, mode="train")
    other, _ = masked(model, mask)
    other.train()
    images, labels = batches[0]
    losses = nn.functional.cross_entropy(other(images), labels, reduction="none")
    each = {n: [] for n in mask}
    for loss in losses:
        parameters = [other.get_parameter(n) for n in mask]
        for n, found in zip(
            mask, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True
        ):
            each[n].append(found * other.get_parameter(n).detach())
    products = {n: torch.stack(values) for n, values in each.items()}
    expected = {
        "snip": {n: values.mean(0).abs() for n, values in products.items()},
        "taylor": {n: values.mean(0).square() for n, values in products.items()},
        "fisher": {n: values.square().mean(0) / 2 for n, values in products.items()},
    }[name]
    assert close(scores, expected, mask)
    evaluated = score(name, Given(model, batches, mask=mask), mask)
    assert not torch.allclose(evaluated["conv.weight"], scores["conv.weight"], rtol=0.1)


class Odd(nn.Module):
    """A weight that two layers share, one that a layer uses twice, one outside of any layer, a
    sequence, a layer that computes something else than its base, and one that is never used.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.twice = nn.Linear(4, 4)
        self.free = nn.Parameter(torch.randn(4, 4))
        self.places = nn.Linear(4, 3)
        self.scaled = Scaled(3, 3)
        self.conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = torch.tanh(self.tied(torch.relu(self.first(x))))
        x = torch.tanh(self.twice(torch.tanh(self.twice(x)))) @ self.free
        x = torch.relu(self.places(x))
        return self.conv(self.scaled(x)[:, None]).mean(1).sum(1)


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_an_example_has_its_own_gradient_of_any_weight():
    torch.manual_seed(0)
    model = Odd().double()
    names = ["first", "twice", "places", "scaled", "conv", "unused"]
    mask = {"free": torch.ones(4, 4).bool()}
    for name in names:
        mask[f"{name}.weight"] = torch.ones_like(model.get_submodule(name).weight).bool()
    batch = torch.randn(5, 6, 4).double(), torch.randint(3, (5,))
    scores = score("fisher", Given(model, [batch]), mask)
    total = dict.fromkeys(mask, 0)
    for example, label in zip(*batch, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(example[None]), label[None]).backward()
        for name in mask:
            weight = model.get_parameter(name)
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            total[name] += (gradient * weight.detach()) ** 2 / 2 / 5
    assert not scores.pop("unused.weight").any()
    assert not total.pop("unused.weight").any()
    del mask["unused.weight"]
    assert close(scores, total, mask)


def test_gradients_of_examples_are_made_a_few_at_a_time(monkeypatch):
    model, batches = conv_net(), image_batches()
    mask = ones(model, "all")
    at_once = score("fisher", Given(model, batches), mask)
    monkeypatch.setattr("tombola.scores.examples._MOST_GRADIENTS", 200)
    assert close(score("fisher", Given(model, batches), mask), at_once, mask, 1e-13)


# ---- what all of them keep


@pytest.mark.parametrize("name", ENTRIES)
def test_a_weight_that_its_owner_froze_is_scored_as_all_others(name):
    model = conv_net()
    mask = ones(model, "all")
    expected = score(name, Given(model, image_batches()), mask)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    assert equal(score(name, Given(model, image_batches()), mask), expected)


@pytest.mark.parametrize("name", ENTRIES)
def test_names_that_share_a_weight_have_its_score(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)).double()
    model[3].weight = model[1].weight
    batch = torch.randn(4, 6).double(), torch.randint(6, (4,))
    keep = torch.ones(6, 6, dtype=torch.bool)
    once = score(name, Given(model, [batch]), {"1.weight": keep})
    both = score(name, Given(model, [batch]), {"1.weight": keep, "3.weight": keep})
    assert torch.equal(both["1.weight"], once["1.weight"])
    assert torch.equal(both["3.weight"], once["1.weight"])
    assert once["1.weight"].abs().max() > 0


@pytest.mark.parametrize("name", ENTRIES)
def test_a_score_that_is_not_finite_names_itself_and_the_layer(name):
    model = conv_net()
    with torch.no_grad():
        model.hidden.weight[0, 0] = float("nan")
    mask = {"conv.weight": torch.ones_like(model.conv.weight).bool()}
    context = Context({}, 0, problems=[Given(model, image_batches())] * 2)
    for amount in (0.3, Count(10)):
        with pytest.raises(InputError, match=rf"^score '{name}': 72 scores of 'conv.weight' are n"):
            keep_common(Ranking(name).score())(mask, [{}, {}], amount, context)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "synflow"])
def test_options_that_cannot_be_are_told_in_one_line(name):
    mask = ones(conv_net(), "all")
    with pytest.raises(ConfigError, match=f"{name}.examples is 0; it is a whole number of at leas"):
        score(name, Given(conv_net(), image_batches()), mask, examples=0)
    with pytest.raises(ConfigError, match=r"grasp.temperature is 0.0; it is a number above 0"):
        score("grasp", Given(conv_net(), image_batches()), mask, temperature=0.0)
    with pytest.raises(ConfigError, match=f"{name}.mode is 'test'; it should be"):
        Ranking(name, {"mode": "test"}).check()


@pytest.mark.parametrize("name", ENTRIES)
def test_layers_that_their_owner_froze_stay_so_in_training_mode(name):
    if "mode" not in Ranking(name)._function.__kwdefaults__:
        pytest.skip("it has one mode")
    model = conv_net()
    mask = ones(model, "all")
    expected = score(name, Given(model, image_batches()), mask, mode="eval")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert equal(score(name, Given(model, image_batches()), mask, mode="train"), expected)


@pytest.mark.parametrize("name", ["fisher"])
def test_a_model_or_a_loss_that_does_not_fit_is_told_in_one_line(name):
    mask = {"weight": torch.ones(3, 2).bool()}
    batch = torch.randn(4, 2), torch.randint(3, (4,))

    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    def first_of(network, given):
        return nn.functional.cross_entropy(network(given[0])[0], given[1])

    with pytest.raises(
        InputError, match=rf"score {name} needs a model that gives a tensor.* tuple"
    ):
        score(name, Given(Pair(2, 3), [batch], first_of), mask)

    def twice(network, given):
        return mean_cross_entropy(network, given) + mean_cross_entropy(network, given)

    with pytest.raises(InputError, match="a loss that runs the model once; this one runs it 2"):
        score(name, Given(nn.Linear(2, 3), [batch], twice), mask)


# ---- where the data is


class Watched(Classification):
    """A task that remembers which splits were looked at."""

    looked_at: ClassVar[set] = set()

    def split(self, partition, which):
        self.looked_at.add(which)
        return super().split(partition, which)

    def labels(self, which):
        self.looked_at.add(which)
        return super().labels(which)


def cut_of(name, jobs, mask, amount=0.3, **options):
    return Cut(tuple(jobs), mask, amount, (Ranking(name, options),), whole_model(mask))


def small(name):
    """Options under which a score of the small task is quick and draws no dropout."""
    small = {"examples": 20, "mode": "eval"}
    options = Ranking(name)._function.__kwdefaults__
    return {option: value for option, value in small.items() if option in options}


@pytest.mark.parametrize("name", ENTRIES)
def test_only_the_training_split_is_read(name):
    task = Watched(TASK.model, TASK.splits, TASK.head)
    trained = run_job(replace(job(), last=0), TASK)
    Watched.looked_at.clear()
    cut_of(name, [job()], ones(TASK.model), **small(name)).do(task, [trained], lambda *_: None)
    assert Watched.looked_at <= {"train"}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize(
    "parts", [by_seeds(2), by_classes(4, 2, seed=0)], ids=["all classes", "two classes each"]
)
def test_colt_2_scores_each_partition_by_its_own_head_and_labels(name, parts):
    options = small(name)

    def train_all(jobs):
        return [run_job(each, TASK) for each in jobs]

    def cut_jobs(jobs, mask, amount, index):
        work = cut_of(name, jobs, mask, amount, **options)
        pruned = work.do(TASK, train_all(jobs), lambda *_: None)
        # Two batches of 16; of a partition of two classes an epoch of 24 examples.
        read = sum(min(32, TASK.size(each.part, "train")) for each in jobs)
        passes = {"grasp": 4}.get(name, 1)
        assert pruned.samples == work.foreseen(TASK) == passes * read
        return pruned.mask, pruned.candidates

    mask = ones(TASK.model)
    base = job(epochs=1)
    [found] = find(base, parts, [0.3], run_all=train_all, cut_jobs=cut_jobs)
    for part, candidate in zip(parts, found.candidates, strict=True):
        own = base.on(part, mask)
        model = TASK.build(base.start, part, base.seed)
        model.load_state_dict(train_all([own])[0].state)
        assert model.head.out_features == (2 if part.own_head else 4)
        batches = list(TASK.batches(part, 16, base.seed).epoch(0))[:2]
        # The same score by a problem that is put together here.
        expected = score(name, Given(model, batches), mask, **options)
        assert equal(candidate, prune(expected, mask, 0.3))
    one, other = found.candidates
    assert equal(found.mask, {n: one[n] & other[n] for n in mask})
    assert count(one) == round(0.7 * count(mask))


@pytest.mark.parametrize("name", ENTRIES)
def test_a_network_in_training_is_not_scored_by_data(name):
    arm = {"method": "gradual", "densities": [0.5], "score": name, "pace": {"every": 5}}
    with pytest.raises(ConfigError) as caught:
        plan(recipe({"gradual": arm}))
    told = (
        f"the score '{name}' needs data; gradual pruning can only use a score of the weights alone"
    )
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def recipe(arms):
    return parse(
        {
            "name": "scored",
            "data": {"name": "digits", "subset": 300},
            "model": {"name": "mlp", "hidden": [12]},
            "training": {"lr": 0.1, "momentum": 0.9, "epochs": 1, "batch_size": 50},
            "until": {"rounds": 1},
            "device": "cpu",
            "arms": arms,
        }
    )


ARMS = {
    "snip-colt": {"method": "colt", "partitions": 2, "rate": 0.3, "score": "snip"},
    "taylor-lth": {"method": "lth", "rate": 0.3, "score": {"name": "taylor", "change": "absolute"}},
    "fisher-lth": {"method": "lth", "rate": 0.3, "score": {"name": "fisher", "examples": 100}},
    "grasp-lth": {"method": "lth", "rate": 0.3, "score": {"name": "grasp", "examples": 100}},
}


def test_a_recipe_names_the_scores_and_each_is_charged(tmp_path, monkeypatch):
    monkeypatch.setattr("tombola.experiments.reporting.page.write", lambda *_: [])
    done = run(recipe(ARMS), runs=tmp_path, workers=1)
    assert done.complete, done.notes
    masks, charged = set(), {}
    for record in done.records:
        if record["round"] == 1:
            masks.add(record["mask_digest"])
            [cut] = [cost for cost in costs_of(record) if cost.role == "cut"]
            charged[record["arm"]] = cut.samples
    assert len(masks) == len(ARMS)
    # 1000 examples are asked for, and an epoch is read; of 151 examples the last makes no batch.
    epoch = plan(recipe(ARMS)).task.size(WHOLE, "train")
    assert charged == {
        "snip-colt": epoch - 1,
        "taylor-lth": epoch,
        "fisher-lth": 100,
        # An example takes four forward and backward passes.
        "grasp-lth": 400,
    }
