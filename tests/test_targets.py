"""Numbers that the papers print and that hold by arithmetic, recomputed with the public
functions.
"""

import pytest
import torch
from torch import nn

import tombola
from tombola import models
from tombola.masks.masks import count, density, nested, ones, size, total_weights
from tombola.scores.context import Context

CONTEXT = Context({}, seed=0)


def keeping(weights):
    return {"w": torch.ones(weights, dtype=torch.bool)}


def after(rounds, rate, weights=100_000):
    """The mask that some rounds of global pruning leave, with counts in whole weights."""
    scores, mask = {"w": torch.arange(float(weights))}, keeping(weights)
    for _ in range(rounds):
        mask = tombola.prune(scores, mask, rate)
    return mask


# ---- COLT, Table II: 20 % of nine weights are two

START = torch.tensor([[0.1, -0.2, 0.9], [-0.4, 0.6, 0.8], [0.3, 0.5, -0.7]])
A = torch.tensor([[0.8, -0.3, 0.4], [-0.1, 0.2, 0.7], [0.9, 0.5, -0.5]])
B = torch.tensor([[0.9, -0.7, 0.2], [-0.1, 0.4, 0.5], [0.8, 0.3, -0.6]])
MASK_A = [[1, 1, 1], [0, 0, 1], [1, 1, 1]]
MASK_B = [[1, 1, 0], [0, 1, 1], [1, 1, 1]]
BOTH = [[1, 1, 0], [0, 0, 1], [1, 1, 1]]


def toy():
    """The toy network of the table at its rewind point, and the mask that keeps all of it."""
    model = nn.Linear(3, 3, bias=False)
    model.weight.data = START.clone()
    return model, tombola.ones(model, "all")


def test_the_toy_example_of_table_ii_gives_its_masks_and_its_ticket():
    model, mask = toy()
    one = tombola.prune({"weight": A.abs()}, mask, 0.2)
    two = tombola.prune({"weight": B.abs()}, mask, 0.2)
    both = tombola.intersect([one, two])
    assert one["weight"].int().tolist() == MASK_A
    assert two["weight"].int().tolist() == MASK_B
    assert both["weight"].int().tolist() == BOTH
    tombola.apply_(model, both)
    assert torch.equal(
        model.weight.data, torch.tensor([[0.1, -0.2, 0], [0, 0, 0.8], [0.3, 0.5, -0.7]])
    )


def test_the_cut_of_colt_gives_the_masks_of_table_ii():
    _, mask = toy()
    both, candidates = tombola.keep_common()(mask, [{"weight": A}, {"weight": B}], 0.2, CONTEXT)
    assert [candidate["weight"].int().tolist() for candidate in candidates] == [MASK_A, MASK_B]
    assert both["weight"].int().tolist() == BOTH


# ---- densities after r rounds


@pytest.mark.parametrize(("rounds", "percent"), [(17, 2.2518), (10, 10.7374), (7, 20.9715)])
def test_rounds_of_20_percent_leave_the_powers_of_four_fifths(rounds, percent):
    assert 100 * density(after(rounds, 0.2, weights=1_000_000)) == pytest.approx(
        percent, abs=0.0005
    )


CONV = {  # convolutions' share of all conv, linear and norm weights, with the head of the data set
    "resnet18 cifar10": 0.99911, "resnet18 cifar100": 0.99501, "resnet18 tiny": 0.99049, "resnet18 imagenet": 0.95574,
    "mobilenet_v2 cifar10": 0.9865, "mobilenet_v2 cifar100": 0.9379, "mobilenet_v2 tiny": 0.88913,
    "all prunable": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "rounds", "printed", "tolerance"),
    [
        ("resnet18 cifar10", 17, 97.7, 0.05),  # Table IV
        ("resnet18 cifar100", 17, 97.3, 0.05),
        ("resnet18 tiny", 18, 97.3, 0.05),
        ("resnet18 imagenet", 6, 70.52, 0.05),
        ("resnet18 cifar100", 10, 88.8, 0.05),  # Figure 1
        ("mobilenet_v2 tiny", 7, 70.3, 0.05),  # Table VI, and the same ticket with other heads
        ("mobilenet_v2 cifar10", 7, 78.0, 0.05),
        ("mobilenet_v2 cifar100", 7, 74.1, 0.05),
        ("all prunable", 2, 36.0, 0.05),  # Table VIII, of the prunable weights
        ("all prunable", 3, 48.8, 0.05),
        ("all prunable", 5, 67.0, 0.25),
        ("all prunable", 7, 79.0, 0.05),
    ],
)
def test_the_sparsities_that_colt_prints_for_lth(row, rounds, printed, tolerance):
    mask = after(rounds, 0.2)
    total = round(size(mask) / CONV[row])
    assert 100 * (1 - density(mask, total)) == pytest.approx(printed, abs=tolerance)


@pytest.mark.parametrize(
    ("classes", "rounds", "printed"), [(10, 17, 97.7), (100, 17, 97.3), (100, 10, 88.8)]
)
def test_the_sparsities_of_resnet18_on_its_own_weights(classes, rounds, printed):
    model = models.resnet18(classes)
    full = ones(model, "conv")
    kept = size(full)
    for _ in range(rounds):
        kept -= round(0.2 * kept)
    scores = {name: torch.rand(keep.shape) for name, keep in full.items()}
    mask = tombola.prune(scores, full, count=kept)
    assert 100 * (1 - tombola.density(mask, tombola.total_weights(model))) == pytest.approx(
        printed, abs=0.05
    )


def test_lenet_300_100_has_the_densities_of_the_lottery_ticket_paper():
    model = models.lenet_300_100(10)
    mask = tombola.ones(model, "all")
    scores = {name: model.get_parameter(name).detach().abs() for name in mask}
    scope, found = tombola.half_output(model), {}
    for number in range(1, 21):
        mask = tombola.prune(scores, mask, 0.2, scope)
        found[number] = round(100 * tombola.density(mask), 2)
    assert [found[r] for r in (3, 7, 15, 20)] == [51.28, 21.07, 3.58, 1.19]


# ---- bounds of COLT


def colt(states, rounds, rate):
    """The masks of rounds of COLT on states that training does not change."""
    mask, cut = (
        {name: torch.ones_like(value, dtype=torch.bool) for name, value in states[0].items()},
        [],
    )
    for _ in range(rounds):
        mask, _ = tombola.keep_common()(mask, states, rate, CONTEXT)
        cut.append(mask)
    return cut


SCORES = torch.arange(1.0, 100_001)
DRAWN = torch.randperm(100_000, generator=torch.Generator().manual_seed(0)).float() + 1


@pytest.mark.parametrize(
    ("other", "percent"),
    [(SCORES, 100 * (1 - 0.85**12)), (SCORES.flip(0), 100 * (1 - 0.70**12))],
    ids=["equal models", "opposite models"],
)
def test_equal_and_opposite_models_attain_the_bounds_of_colt(other, percent):
    masks = colt([{"w": SCORES}, {"w": other}], 12, 0.15)
    assert 100 * (1 - density(masks[-1])) == pytest.approx(percent, abs=0.01)


def test_the_printed_sparsity_of_colt_lies_between_its_bounds():
    assert round(100 * (1 - 0.85**12), 2) == 85.78
    assert round(100 * (1 - 0.70**12), 2) == 98.62
    masks = colt([{"w": SCORES}, {"w": DRAWN}], 12, 0.15)
    sparsity = 100 * (1 - density(masks[-1]))
    assert 85.78 < sparsity < 98.62
    assert 85.78 < 97.7 < 98.62
    before = keeping(100_000)
    for mask in masks:
        assert round(0.70 * count(before)) - 1 <= count(mask) <= round(0.85 * count(before)) + 1
        assert not list(nested(mask, before))
        before = mask
    # The first round of models that have nothing to do with each other keeps what both keep by
    # chance.
    assert density(masks[0]) == pytest.approx(0.7225, abs=0.003)


# ---- what conv-only pruning can reach


@pytest.mark.parametrize(
    ("name", "classes", "percent"),
    [
        ("conv3", 10, 99.19),
        ("conv3", 100, 93.43),
        ("resnet18", 10, 99.91),
        ("resnet18", 100, 99.50),
        ("resnet18", 200, 99.05),
    ],
)
def test_conv_only_pruning_has_the_caps_of_the_parameter_counts(name, classes, percent):
    model = getattr(models, name)(classes)
    assert round(100 * size(ones(model, "conv")) / total_weights(model), 2) == percent


def test_conv_only_pruning_of_an_imagenet_resnet18_is_capped():
    model = models.resnet18(1000, image_shape=(3, 64, 64), stem="imagenet")
    assert 100 * size(ones(model, "conv")) / total_weights(model) == pytest.approx(95.57, abs=0.01)


def test_a_pruned_mask_never_is_sparser_than_its_cap():
    model = models.conv3(100)
    empty = {name: torch.zeros_like(keep) for name, keep in ones(model, "conv").items()}
    assert round(100 * (1 - density(empty, total_weights(model))), 2) == 93.43


# ---- the constant rate


@pytest.mark.parametrize(
    ("kept", "rounds", "rate"), [(0.8**17, 17, 0.2), (0.7225**12, 12, 0.2775), (0.01, 1, 0.99)]
)
def test_the_constant_rate_of_a_final_density(kept, rounds, rate):
    assert tombola.rate_to_reach(kept, rounds) == pytest.approx(rate)
    assert density(after(rounds, tombola.rate_to_reach(kept, rounds))) == pytest.approx(
        kept, abs=5e-5
    )
