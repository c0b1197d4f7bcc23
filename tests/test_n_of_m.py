"""The scope n_of_m: by hand, against a second implementation, and in every method that prunes."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tombola import models
from tombola.experiments.experiment import foresee, plan, run
from tombola.ground.errors import ConfigError, InputError, InvariantError, ScoreError
from tombola.masks.blocks import from_blocks, in_blocks
from tombola.masks.masks import count, intersect, nested, ones, union
from tombola.masks.pruning import prune
from tombola.masks.rates import Count, counts_for
from tombola.masks.scope_choices import NOfM
from tombola.masks.scopes import n_of_m, never_pruned
from tombola.schema.recipe import parse
from tombola.scores import magnitude
from tombola.scores.context import Context
from tombola.search.cutting import keep_any, keep_common
from tombola.tickets import Ticket
from tombola.training.invariants import check_cut

CONTEXT = Context({}, seed=0)


def drawn(mask, seed):
    """Scores with many ties."""
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, keep in mask.items():
        scores[name] = torch.randint(-3, 4, keep.shape, generator=generator).float()
    return scores


def kept_in_every_block(keep, length):
    return sorted(set(in_blocks(keep, length).sum(1).tolist()))


# ---- by hand


def test_two_of_four_keep_the_largest_of_each_block_and_the_last_of_equal_ones():
    layer = nn.Linear(8, 1)
    state = {"weight": torch.tensor([[0.1, -0.9, 0.4, 0.2, 0.3, 0.3, 0.3, 0.3]])}
    mask = ones(layer, "all")
    pruned = prune(magnitude(state, mask), mask, scope=n_of_m(layer, 2, 4))
    assert state["weight"][pruned["weight"]].tolist() == pytest.approx([-0.9, 0.4, 0.3, 0.3])
    assert pruned["weight"].int().tolist() == [[0, 1, 1, 0, 0, 0, 1, 1]]


def test_a_convolution_has_blocks_of_inputs_at_each_place_of_its_kernel():
    conv = nn.Conv2d(2, 1, (1, 3))
    # The inputs of one place are 0 and 3, 1 and 4, 2 and 5.
    scores = {"weight": torch.tensor([[[[5.0, 1, 2]], [[4, 6, 3]]]])}
    pruned = prune(scores, ones(conv, "all"), scope=n_of_m(conv, 1, 2))
    assert pruned["weight"].int().tolist() == [[[[1, 0, 0]], [[0, 1, 1]]]]


def test_layers_whose_inputs_m_does_not_divide_stay_dense_and_are_named():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 4, 1),
        nn.ConvTranspose2d(4, 8, 1),
        nn.Linear(8, 2),
    )
    mask, scope = ones(model, head="4"), n_of_m(model, 2, 4)
    assert never_pruned(scope, mask) == ["0.weight", "1.weight", "3.weight"]
    pruned = prune(drawn(mask, 0), mask, scope=scope)
    assert {name: count({name: keep}) for name, keep in pruned.items()} == {
        "0.weight": 216,
        "1.weight": 72,
        "2.weight": 16,
        "3.weight": 32,
    }


def test_where_no_layers_inputs_are_divisible_it_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(10, 2))
    with pytest.raises(
        InputError, match=r"4 divides the inputs of no layer: 0\.weight has 3, 1\.weight has 10;"
    ):
        n_of_m(model, 2, 4)(ones(model, "all"))


@pytest.mark.parametrize("pair", [(0, 4), (4, 4), (5, 4), (1, 2000), (-1, 2)])
def test_pairs_that_mean_nothing_are_refused(pair):
    with pytest.raises(
        ConfigError, match=re.escape(f"n_of_m is {list(pair)}; it keeps n of every")
    ):
        n_of_m(nn.Linear(8, 2), *pair)


def test_amounts_are_refused_that_the_blocks_do_not_have():
    layer = nn.Linear(8, 2)
    mask, scope = ones(layer, "all"), n_of_m(layer, 2, 4)
    scores = drawn(mask, 0)
    with pytest.raises(InputError, match=r"the rate is 0.5; this scope says itself .* 2 of 4"):
        prune(scores, mask, 0.5, scope)
    with pytest.raises(InputError, match=r"count of 'weight' is 7; its 4 blocks of 4 inputs keep"):
        prune(scores, mask, scope=scope, count=7)
    emptied = {"weight": mask["weight"].clone()}
    emptied["weight"][0, :3] = False
    with pytest.raises(InputError, match=r"'weight' has 1 weights left in one of its blocks of 4"):
        prune(scores, emptied, scope=scope)
    scores["weight"][1, 1] = torch.nan
    with pytest.raises(ScoreError, match="1 scores of 'weight' are NaN"):
        prune(scores, mask, scope=scope)


# ---- laws, and a loop as second implementation


def by_loop(scores, mask, n, m):
    """Keep the n highest of each block, of equal scores the last ones; one weight at a time."""
    outputs, inputs, *kernel = mask.shape
    keep = torch.zeros(outputs, inputs, *kernel, dtype=torch.bool)
    for output, *place in itertools.product(range(outputs), *map(range, kernel)):
        for start in range(0, inputs, m):
            block = [(output, start + number, *place) for number in range(m)]
            block = [where for where in block if mask[where]]
            for where in sorted(block, key=lambda where: float(scores[where]))[-n:]:
                keep[where] = True
    return keep


shapes = st.sampled_from([(3, 8), (2, 12), (2, 4, 3, 2), (1, 8, 2)])


@given(
    shape=shapes, pair=st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4)]), seed=st.integers(0, 99)
)
def test_n_of_m_is_what_a_loop_over_all_blocks_keeps(shape, pair, seed):
    n, m = pair
    model = module_of(shape)
    mask = ones(model, "all")
    scores = drawn(mask, seed)
    pruned = prune(scores, mask, scope=n_of_m(model, n, m))
    assert torch.equal(pruned["weight"], by_loop(scores["weight"], mask["weight"], n, m))
    # Nested, when fewer are kept in a next round.
    if n > 1:
        again = prune(scores, pruned, scope=n_of_m(model, n - 1, m))
        assert not list(nested(again, pruned))
        assert torch.equal(again["weight"], by_loop(scores["weight"], pruned["weight"], n - 1, m))


def module_of(shape):
    kinds = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}
    outputs, inputs, *kernel = shape
    if not kernel:
        return nn.Linear(inputs, outputs)
    return kinds[len(shape)](inputs, outputs, tuple(kernel))


@given(shape=shapes, length=st.sampled_from([1, 2, 4]))
def test_blocks_are_put_back_where_they_came_from(shape, length):
    values = torch.arange(torch.tensor(shape).prod()).view(shape)
    assert torch.equal(from_blocks(in_blocks(values, length), shape), values)


@pytest.mark.parametrize("partitions", [1, 2, 3])
@pytest.mark.parametrize(("cut", "combine"), [(keep_common, intersect), (keep_any, union)])
def test_what_partitions_keep_together_is_n_of_m_exactly(cut, combine, partitions):
    model = models.conv3(10)
    mask, scope = ones(model), n_of_m(model, 2, 4)
    [amount] = counts_for(mask, [0.5], scope)
    states = [drawn(mask, seed) for seed in range(partitions)]
    result, candidates = cut(scope=scope)(mask, states, amount, CONTEXT)
    check_cut(mask, result, candidates, amount, scope, combine)
    assert kept_in_every_block(result["conv2.weight"], 4) == [2]
    assert never_pruned(scope, mask) == ["conv1.weight"]
    assert result["conv1.weight"].all()


def test_partitions_agree_within_each_block_as_they_do_within_a_group():
    # The rule of keep_common, on a model whose groups are the blocks themselves.
    layer, blocks = nn.Linear(8, 5), nn.ParameterDict()
    for number in range(10):
        blocks[str(number)] = nn.Parameter(torch.zeros(4))
    mask = ones(layer, "all")
    states = [drawn(mask, seed) for seed in range(3)]
    for cut in (keep_common, keep_any):
        by_scope, _ = cut(scope=n_of_m(layer, 2, 4))(mask, states, Count({"weight": 20}), CONTEXT)
        rows = in_blocks(by_scope["weight"], 4)
        apart = []
        for state in states:
            blocks = enumerate(in_blocks(state["weight"], 4))
            apart.append({str(number): row for number, row in blocks})
        for number, row in enumerate(rows):
            one = {"block": torch.ones(4, dtype=torch.bool)}
            of_block = [{"block": state[str(number)]} for state in apart]
            expected, _ = cut()(one, of_block, Count(2), CONTEXT)
            assert torch.equal(row, expected["block"])


def test_a_cut_with_a_block_that_keeps_another_number_breaks_a_law():
    layer = nn.Linear(8, 1)
    mask, scope = ones(layer, "all"), n_of_m(layer, 2, 4)
    wrong = {"weight": torch.tensor([[1, 1, 1, 0, 1, 0, 0, 0]]).bool()}
    with pytest.raises(InvariantError, match="2 blocks of 4 inputs of 'weight' do not keep 2"):
        check_cut(mask, wrong, [wrong], Count({"weight": 4}), scope)


# ---- in recipes

SCOPE = {"n_of_m": [2, 4]}
ARMS = {
    "lth": {"method": "lth", "scope": SCOPE},
    "colt": {"method": "colt", "partitions": 2, "head": "full", "scope": SCOPE},
    "at-once": {"method": "one_shot", "scope": SCOPE, "score": "lamp"},
    "tuned": {"method": "fine_tune", "scope": SCOPE, "lr": 0.01},
    "matched": {"match": "colt"},
    "gradual": {"method": "gradual", "scope": SCOPE, "pace": {"every": 5}},
    "at-start": {"method": "at_start", "scope": SCOPE, "score": "snip", "cuts": 3},
    "drawn": {"method": "random_ticket", "source": "lth"},
    "by-density": {"method": "lth", "scope": "erk", "densities": [0.6, 0.3]},
    "by-density-2": {
        "method": "colt", "partitions": 2, "scope": "erdos_renyi", "densities": [0.6, 0.3]
    },
    "gradual-erk": {"method": "gradual", "scope": "erk", "densities": [0.3], "pace": {"every": 5}},
}  # fmt: skip


def recipe(arms, **changes):
    whole = {
        "name": "scopes",
        "data": {"name": "digits", "subset": 400},
        "model": {"name": "mlp", "hidden": [30, 20]},
        "training": {"lr": 0.05, "epochs": 2, "batch_size": 40},
        "until": {"rounds": 3},
        "device": "cpu",
        "arms": arms,
    }
    return parse(whole | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Figures are drawn elsewhere, and take long.
        patch.setattr("tombola.experiments.reporting.page.write", lambda *_: [])
        yield run(recipe(ARMS), runs=tmp_path_factory.mktemp("scopes"), workers=1)


def tickets(done, arm):
    files = sorted((done.folder / "tickets").rglob(f"*{arm}/**/round-*.safetensors"))
    return [Ticket.load(path).mask for path in files if not path.name.startswith("round-000")]


@pytest.mark.parametrize(
    "arm", ["lth", "colt", "at-once", "tuned", "matched", "gradual", "at-start"]
)
def test_every_method_that_prunes_keeps_n_of_m_in_one_round(done, arm):
    assert done.complete, done.notes
    records = [record for record in done.records if record["arm"] == arm and record["round"]]
    assert [record["round"] for record in records] == [1]
    # Of 64 inputs and of 30.
    assert records[0]["never_pruned"] == ["fc2.weight"]
    assert records[0]["layers"] == {"fc1.weight": [960, 1920], "fc2.weight": [600, 600]}
    [mask] = tickets(done, arm)
    assert kept_in_every_block(mask["fc1.weight"], 4) == [2]


def test_a_control_has_as_many_weights_in_each_layer_at_any_places(done):
    by_arm = {record["arm"]: record for record in done.records if record["round"] == 1}
    assert by_arm["drawn"]["layers"] == by_arm["lth"]["layers"]


@pytest.mark.parametrize("arm", ["by-density", "by-density-2", "gradual-erk"])
def test_densities_are_divided_among_layers_and_met_exactly(done, arm):
    records = [record for record in done.records if record["arm"] == arm and record["round"]]
    asked = [0.3] if arm == "gradual-erk" else [0.6, 0.3]
    assert [record["kept"] for record in records] == [
        round(density * record["prunable"]) for density, record in zip(asked, records, strict=True)
    ]
    # eps * (64 + 30) + eps * (30 + 20) = 756 gives the second layer 262.5 of 600.
    assert records[-1]["layers"] == {"fc1.weight": [494, 1920], "fc2.weight": [262, 600]}
    assert all("never_pruned" not in record for record in records)


def test_layers_that_stay_dense_are_named_before_anything_is_trained():
    plans = plan(recipe({name: ARMS[name] for name in ("lth", "drawn", "by-density")}))
    assert plans.left_out["stay dense"] == "fc2.weight in lth, drawn (scope)"


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (
            {"method": "lth", "rate": 0.2, "scope": SCOPE},
            "arms.x.scope keeps 2 of every 4 inputs, and that is all it prunes; take out rate",
        ),
        (
            {"method": "lth", "scope": {"n_of_m": [4, 2]}},
            "n_of_m is [4, 2]; it keeps n of every m inputs",
        ),
        ({"method": "lth", "scope": {"n_of_m": [2]}}, "arms.x.scope is {'n_of_m': [2]}; it should"),
        ({"method": "lth", "scope": "n_of_m"}, "arms.x.scope is 'n_of_m'; it should be one of"),
        (
            {"method": "lth", "scope": {"n_of_m": [3, 7]}},
            "arm 'x': n_of_m prunes 3 of every 7 inputs, and 7 divides the inputs of no layer",
        ),
        (
            {"method": "colt", "partitions": 2, "combine": "all_at_end", "scope": SCOPE},
            "arms.x.combine is all_at_end",
        ),
        (
            {"method": "lth", "rate": 0.2, "scope": "erk"},
            "arm 'x': the rate is 0.2; this scope gives each layer a density of its own",
        ),
        (
            {"method": "lth", "reach": {"density": 0.1, "rounds": 3}, "scope": "erk"},
            "so it takes densities (or reach with exact: true)",
        ),
    ],
)
def test_arms_that_cannot_be_are_told_in_one_line(arm, message):
    with pytest.raises(ConfigError) as caught:
        plan(recipe({"x": arm}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_large_network_is_estimated_from_a_sample_of_its_weights(tmp_path):
    chosen = ("lth", "colt", "matched", "gradual", "by-density")
    large = recipe({name: ARMS[name] for name in chosen}, model="conv3")
    told = foresee(plan(large), runs=tmp_path, workers=1)
    assert {arm: number for arm, (number, _) in told.rounds.items()} == {
        "lth": 1, "colt": 1, "matched": 1, "gradual": 1, "by-density": 2
    }  # fmt: skip
    # The dense network, then each arm's searches and tickets that are no other arm's: matched to
    # COLT, LTH finds its own ticket again.
    assert told.trainings == 1 + 1 + (2 + 1) + 0 + (1 + 1) + 2
    assert told.rounds["colt"][1] == pytest.approx(0.5008, abs=1e-3)


def test_a_recipes_pair_is_plain_data_again():
    arm = recipe({"x": ARMS["lth"]}).arms["x"]
    assert arm.scope == NOfM((2, 4))
    assert parse(recipe({"x": ARMS["lth"]}).to_dict()).arms["x"] == arm
    assert list(arm.definition()["scope"]["n_of_m"]) == [2, 4]
