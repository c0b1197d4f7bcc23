"""Scores that need data: values worked out by hand, laws, second implementations by torch.func,
and what all of them keep, in COLT and in recipes.
"""

import copy
import math
import re
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
    options_of,
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
from tombola.models import conv2, lenet5, mobilenet_v2, resnet20, vgg19
from tombola.models.residual import Residual
from tombola.records.records import costs_of
from tombola.schema.recipe import parse
from tombola.scores._synflow import make_linear_
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
        ("synflow", {}, [1, 1, 2, 1, 2, 3]),
        ("obd", {}, [2, 0.5, 8, 0.5, 0.5, 12.5]),
        ("obd", {"curvature": "lecun"}, [2, 0.5, 8, 0.5, 0.5, 12.5]),
        ("obd", {"curvature": "fisher"}, [8, 2, 32, 2, 2, 50]),
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
    scores = {}
    for name in mask:
        total = torch.stack([of_batch[name] for of_batch in gradients]).sum(dim=0)
        scores[name] = (weights[name] * total).abs()
    return scores


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


# ---- obd


def hessian_by_func(model, mask, batches):
    """The diagonal of the whole Hessian of the mean loss over all examples, times w^2 / 2."""
    model, weights = masked(model, mask)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    sizes = [weight.numel() for weight in weights.values()]
    vector = torch.cat([weight.flatten() for weight in weights.values()])

    def named(values):
        parts = torch.split(values, sizes)
        return {
            name: part.view_as(weight)
            for part, (name, weight) in zip(parts, weights.items(), strict=True)
        }

    def loss(values):
        return loss_of(model, named(values), (images, labels))

    return named(jacrev(grad(loss), chunk_size=64)(vector).diagonal() * vector**2 / 2)


def test_obd_of_a_softmax_has_the_values_worked_out_by_hand():
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2, -1], [math.log(3), 0]], dtype=torch.float64))
    batch = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([0])
    mask = ones(model, "all")
    for curvature in ("ggn", "lecun"):
        scores = score("obd", Given(model, [batch]), mask, curvature=curvature)
        expected = [0.375, 0.375, 0.1875 * math.log(3) ** 2 / 2, 0]
        assert scores["weight"].flatten().tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)
        assert expected[2] == pytest.approx(0.113151, abs=1e-6)
    squares = score("obd", Given(model, [batch]), mask, curvature="fisher")["weight"]
    halves = model.weight.detach().square().flatten()[:3] / 2
    assert (squares.flatten()[:3] / halves).tolist() == pytest.approx([0.5625, 2.25, 0.5625])


@pytest.mark.parametrize("sparse", [False, True])
def test_the_curvature_is_the_exact_diagonal_of_the_hessian_with_batch_norm_too(sparse):
    model, batches = conv_net(), image_batches()
    mask = some_mask(model) if sparse else ones(model, "all")
    exact = hessian_by_func(model, mask, batches)
    assert close(score("obd", Given(model, batches, mask=mask), mask), exact, mask)
    # and not with the statistics of the batch
    trained = score("obd", Given(model, batches, mask=mask), mask, mode="train")
    assert not torch.allclose(trained["conv.weight"], exact["conv.weight"], rtol=0.1)


@pytest.mark.parametrize("model", [lenet5(3), conv2(3, image_shape=(1, 12, 12))])
def test_the_curvature_is_exact_on_plain_convolutional_networks(model):
    model = copy.deepcopy(model).double()
    side = 12 if hasattr(model, "conv3") is False and model.conv1.out_channels == 64 else 28
    draw = torch.Generator().manual_seed(0)
    batch = torch.randn(3, 1, side, side, generator=draw).double(), torch.tensor([0, 2, 1])
    mask = {"conv1.weight": torch.ones_like(model.conv1.weight).bool()}
    names = {"conv1.weight": model.conv1.weight.detach()}

    def loss(weight):
        return loss_of(model, {"conv1.weight": weight}, batch)

    flat = jacrev(grad(loss), chunk_size=50)(names["conv1.weight"])
    number = mask["conv1.weight"].numel()
    diagonal = flat.reshape(number, number).diagonal().view_as(names["conv1.weight"])
    exact = {"conv1.weight": diagonal * names["conv1.weight"] ** 2 / 2}
    assert close(score("obd", Given(model, [batch]), mask), exact, mask)


def test_the_curvature_is_only_close_where_the_activation_bends():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)]
    model = nn.Sequential(*layers).double()
    batch = torch.randn(7, 6).double(), torch.randint(3, (7,))
    mask = ones(model, "all")
    exact = hessian_by_func(model, mask, [batch])
    scores = score("obd", Given(model, [batch]), mask)
    assert close(
        {"3.weight": scores["3.weight"]},
        {"3.weight": exact["3.weight"]},
        {"3.weight": mask["3.weight"]},
    )
    assert not torch.allclose(scores["1.weight"], exact["1.weight"], rtol=0.1)


def test_lecuns_recursion_is_exact_for_one_hidden_layer_and_a_squared_error():
    torch.manual_seed(0)
    mean = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(8, 3))
    for hidden in (nn.Tanh(), nn.GELU(), nn.LeakyReLU(0.3), nn.ReLU()):
        layers = [nn.Linear(6, 5), hidden, nn.Linear(5, 3)]
        for model in (nn.Sequential(*layers).double(), mean.double()):
            shape = (7, 6) if model is not mean else (7, 1, 6)
            inputs, targets = torch.randn(shape).double(), torch.randn(7, 3).double()

            def squared(network, batch):
                return (network(batch[0]) - batch[1]).square().sum(1).mean()

            mask = ones(model, "all")
            scores = score(
                "obd", Given(model, [(inputs, targets)], squared), mask, curvature="lecun"
            )
            for name in mask:
                if name == "0.weight" and model is mean:
                    continue  # its places share weights, between which terms are dropped
                weight = model.get_parameter(name).detach()

                def loss(free, key=name, network=model, given=(inputs, targets)):
                    return squared(lambda x: functional_call(network, {key: free}, (x,)), given)

                number = weight.numel()
                hessian = jacrev(grad(loss))(weight).reshape(number, number)
                exact = {name: hessian.diagonal().view_as(weight) * weight**2 / 2}
                assert close({name: scores[name]}, exact, {name: mask[name]})


def lecun_by_hand(model, batches):
    """The recursion on the conv net, layer by layer, for the weights of its head and block."""
    model = copy.deepcopy(model).eval()
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        first = model.pool(torch.relu(model.bn(model.conv(images))))
        block = model.block
        inner = block.bn1(block.conv1(first))
        last = block.bn2(block.conv2(torch.relu(inner))) + block.short(first)
        features = torch.relu(last).mean((2, 3))
        hidden = model.hidden(features)
        p = model.head(torch.relu(hidden)).softmax(1)
        h = p * (1 - p)
        n = len(labels)
        found = {"head.weight": h.T @ torch.relu(hidden) ** 2 / n}
        h = (h @ model.head.weight**2) * (hidden > 0)
        found["hidden.weight"] = h.T @ features**2 / n
        h = h @ model.hidden.weight**2
        h = (h / 4**2)[:, :, None, None].expand_as(last) * (last > 0)
        found["block.short.weight"] = (
            torch.einsum("nohw,nihw->oi", h, first[:, :, ::2, ::2] ** 2) / n
        )
        found["block.short.weight"] = found["block.short.weight"][:, :, None, None]
        scale = block.bn2.weight**2 / (block.bn2.running_var + block.bn2.eps)
        h = h * scale[:, None, None]
        options = {"padding": 2, "dilation": 2, "groups": 2}
        found["block.conv2.weight"] = (
            torch.nn.grad.conv2d_weight(
                torch.relu(inner) ** 2, block.conv2.weight.shape, h, **options
            )
            / n
        )
    return {
        name: value * model.get_parameter(name).detach() ** 2 / 2 for name, value in found.items()
    }


def test_lecuns_recursion_goes_through_convolutions_batch_norm_and_pooling():
    model, batches = conv_net(), image_batches()
    expected = lecun_by_hand(model, batches)
    mask = {n: torch.ones_like(v).bool() for n, v in expected.items()}
    problem = Given(model, batches)
    assert close(score("obd", problem, mask, curvature="lecun"), expected, mask)


def test_an_operation_that_lecuns_recursion_does_not_know_is_told():
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 3))
    batch = torch.randn(5, 4), torch.randint(3, (5,))
    with pytest.raises(InputError, match=r"lecun does not know the operation Softmax of this mode"):
        score("obd", Given(model, [batch]), ones(model, "all"), curvature="lecun")


def test_curvature_of_many_outputs_and_of_a_straight_loss():
    model = nn.Linear(1, 5000)
    batch = torch.randn(2, 1), torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"of which this model has 5,000; more than 4,096 are too"):
        score("obd", Given(model, [batch]), ones(model, "all"))

    def straight(network, given):
        return network(given[0]).sum(1).mean()

    model = nn.Linear(2, 3)
    scores = score("obd", Given(model, [(torch.randn(2, 2),)], straight), ones(model, "all"))
    assert not scores["weight"].any()


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


# ---- synflow


def flow_problem(model, shape, mask=None):
    return Given(model, [(torch.zeros(1, *shape),)], mask=mask)


def test_synflow_at_once_empties_a_layer_and_one_weight_a_cut_does_not():
    model = hand_net()
    dense = ones(model, "all")
    at_once = prune(score("synflow", hand_problem(), dense), dense, count=2)
    assert at_once["w.weight"].sum() == 0
    assert at_once["v.weight"].tolist() == [[True, True]]
    mask = dense
    for left in (5, 4, 3, 2):
        problem = flow_problem(model, (2,), mask)
        mask = prune(score("synflow", problem, mask), mask, count=left)
        if left == 5:
            # Of equal scores the first.
            assert mask["w.weight"].tolist() == [[False, True], [True, True]]
    assert mask["w.weight"].tolist() == [[False, False], [True, False]]
    assert mask["v.weight"].tolist() == [[False, True]]
    scores = score("synflow", flow_problem(model, (2,), mask), mask)
    assert [float(values.sum()) for values in scores.values()] == [2, 2]


def test_the_scores_of_each_layer_of_a_chain_sum_to_the_flow():
    model = vgg19(10, image_shape=(3, 16, 16))
    mask = some_mask(model)
    scores = score("synflow", flow_problem(model, (3, 16, 16), mask), mask)
    layers = [name for name, keep in mask.items() if keep.ndim > 1]
    sums = torch.stack([scores[name].sum() for name in layers])
    assert len(sums) == 17
    assert torch.allclose(sums, sums[0].expand_as(sums), rtol=1e-12, atol=0)


def test_the_convolutions_of_a_residual_block_have_the_same_sum():
    model = resnet20(10)
    mask = ones(model, "conv")
    scores = score("synflow", flow_problem(model, (3, 32, 32)), mask)
    # What goes through the shortcuts, by a pass of the network that is put together here.
    linear = copy.deepcopy(model)
    make_linear_(linear)
    parts = {}

    def note(name):
        def hook(module, args, output):
            # A tensor of its own, where the shortcut hands on what the block is given.
            parts[name] = output.clone()
            parts[name].retain_grad()
            return parts[name]

        return hook

    blocks = [name for name, module in linear.named_modules() if isinstance(module, Residual)]
    for name in blocks:
        linear.get_submodule(name).shortcut.register_forward_hook(note(name))
    linear.stem.conv.weight.requires_grad_()
    flow = linear(torch.ones(1, 3, 32, 32).double()).sum()
    flow.backward()
    total = float(flow.detach())
    for name in blocks:
        sums = [float(scores[f"{name}.conv{place}.weight"].sum()) for place in (1, 2)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-12)
        through = float((parts[name].detach() * parts[name].grad).sum())
        assert sums[0] + through == pytest.approx(total, rel=1e-12)
    assert len(blocks) == 9


def test_scaling_a_layer_of_a_chain_changes_no_rank_of_synflow():
    torch.manual_seed(0)
    model = lenet5(10)
    mask = ones(model, "all")
    before = score("synflow", flow_problem(model, (1, 28, 28)), mask)
    with torch.no_grad():
        model.fc1.weight.mul_(2.0**-7)
    after = score("synflow", flow_problem(model, (1, 28, 28)), mask)
    assert all(torch.equal(after[name], before[name] / 2**7) for name in mask)


@pytest.mark.parametrize("sparse", [False, True])
def test_synflow_is_that_of_a_second_implementation(sparse):
    model = conv_net()
    mask = some_mask(model) if sparse else ones(model, "all")
    scores = score("synflow", flow_problem(model, (2, 8, 8), mask), mask)
    other, weights = masked(model, mask)
    rest = {}
    for name, value in other.state_dict().items():
        is_shift = name.endswith(("bias", "running_mean"))
        rest[name] = torch.zeros_like(value) if is_shift else value.abs()
    free = {name: weight.abs().requires_grad_() for name, weight in weights.items()}
    flow = functional_call(other, rest | free, (torch.ones(1, 2, 8, 8).double(),)).sum()
    gradients = torch.autograd.grad(flow, list(free.values()))
    expected = {}
    for (name, weight), gradient in zip(free.items(), gradients, strict=True):
        expected[name] = weight.detach() * gradient
    assert close(scores, expected, mask)


def test_bounded_activations_are_left_out_of_the_flow():
    model = mobilenet_v2(10, image_shape=(3, 8, 8), stem="standard")
    mask = ones(model, "all")
    scores = score("synflow", flow_problem(model, (3, 8, 8)), mask)
    for name, values in scores.items():
        # On an image of one pixel the outer places of a kernel meet padding alone.
        middle = values[..., 1, 1] if values.shape[-1] == 3 else values
        assert (middle > 0).all(), name
    tanh = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    relu = nn.Sequential(*copy.deepcopy(list(tanh)))
    relu[1] = nn.ReLU()
    mask = ones(tanh, "all")
    assert equal(*[score("synflow", flow_problem(net, (2,)), mask) for net in (tanh, relu)])


class Saturating(nn.Linear):
    def forward(self, x):
        return nn.functional.relu6(10 * super().forward(x))


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Saturating(3, 3), r"'1' \(Saturating\)"),
        (nn.GELU(), r"'1' \(GELU\)"),
        (nn.LayerNorm(3), r"'1' \(LayerNorm\)"),
        (nn.Softmax(1), r"'1' \(Softmax\)"),
        (nn.Sequential(nn.ReLU(), nn.Softplus()), r"'1.1' \(Softplus\)"),
    ],
)
def test_a_network_that_is_not_linear_is_refused_with_the_layer_at_fault(layer, told):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), layer, nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(InputError) as caught:
        score("synflow", flow_problem(model, (2,)), ones(model, "all"))
    assert re.search(f"twice the input does not give twice the output of {told}", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_network_that_takes_no_single_example_is_refused_in_one_line():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(
        InputError, match=r"one input of ones in float64, in .*Expected more than 1"
    ):
        score("synflow", flow_problem(model, (2,)), ones(model, "all"))


def test_a_flow_that_overflows_float32_is_scored_and_one_that_is_none_is_refused():
    layers = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1e30)
    scores = score("synflow", flow_problem(model, (4,)), ones(model, "all"))
    assert float(scores["0.weight"].sum()) == pytest.approx(4**4 * 1e90)
    with torch.no_grad():
        layers[1].weight[0] = float("nan")
    with pytest.raises(InputError, match=r"is not finite from '1' \(Linear\) on"):
        score("synflow", flow_problem(model, (4,)), ones(model, "all"))


def test_a_network_of_the_users_is_the_same_after_synflow():
    model = nn.Sequential(conv_net(), nn.ReLU6()).float().train()
    model[0].conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [(type(module), module.training) for module in model.modules()]
    frozen = [parameter.requires_grad for parameter in model.parameters()]

    class Own:
        def model(self):
            return model

        def probe(self, examples):
            return torch.zeros(examples, 2, 8, 8)

    score("synflow", Own(), ones(model, "all"))
    assert equal(model.state_dict(), before)
    assert [(type(module), module.training) for module in model.modules()] == kinds
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inputs_that_are_no_real_numbers_are_refused_by_synflow():
    class Tokens(Given):
        def probe(self, examples):
            return torch.zeros(examples, 3, dtype=torch.int64)

    model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, 2))
    with pytest.raises(InputError, match="needs a model whose inputs are a tensor of real numbers"):
        score("synflow", Tokens(model, []), {"2.weight": torch.ones(2, 6).bool()})


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


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "synflow"])
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
    if "mode" not in options_of(name):
        pytest.skip("it has one mode")
    model = conv_net()
    mask = ones(model, "all")
    expected = score(name, Given(model, image_batches()), mask, mode="eval")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert equal(score(name, Given(model, image_batches()), mask, mode="train"), expected)


@pytest.mark.parametrize("name", ["fisher", "obd"])
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
    return {option: value for option, value in small.items() if option in options_of(name)}


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
        charged = read * {"grasp": 4}.get(name, 1)
        if name == "synflow":
            charged = len(jobs)
        elif name == "obd":
            # A backward pass for each output is two thirds of a forward and backward pass.
            charged = read * (math.ceil(5 / 3) if parts[0].own_head else math.ceil(9 / 3))
        assert pruned.samples == work.foreseen(TASK) == charged
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
    "obd-lth": {"method": "lth", "rate": 0.3, "score": "obd"},
    "synflow": {"method": "at_start", "score": "synflow", "cuts": 4, "densities": [0.3]},
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
        # A forward and ten backward passes.
        "obd-lth": 7 * epoch,
        # One example of ones a cut.
        "synflow": 4,
    }
