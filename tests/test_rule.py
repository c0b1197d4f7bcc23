"""What counts as a weight: one rule for masks, totals, scopes and initial weights, whatever a
layer is made of.
"""

import copy
import math
import warnings
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.toys import keep_fraction
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization

from tombola import Classification, Job, Ticket, Training, evaluate, find, run_job, split
from tombola.data import synthetic
from tombola.data.partitions import WHOLE
from tombola.executors import serial
from tombola.ground.errors import ConfigError, InputError, UnmaskedWarning
from tombola.masks.masks import (
    apply_,
    count,
    density,
    head_weights,
    kinds,
    masked_parameters,
    ones,
    size,
    total_weights,
    unmasked,
    unmasked_in_words,
)
from tombola.masks.scopes import half_output, per_kind, per_layer
from tombola.masks.weights import find_weights, layer_of
from tombola.models import conv3, flops
from tombola.models.building import find_head, head_name, initialise_, replace_head_
from tombola.scores import magnitude
from tombola.training.loop import resolve_defaults


class Conv1D(nn.Module):
    """A linear layer as transformers' GPT-2 has it: its matrix is [inputs, outputs]."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.nf = outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.ones(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).reshape(
            *x.shape[:-1], self.nf
        )


class Experts(nn.Module):
    """As many matrices as experts, in one tensor."""

    def __init__(self):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, 4, 8))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(3, 8))
        self.down_proj = nn.Parameter(torch.randn(3, 8, 4))

    def forward(self, x):
        return torch.relu(x @ self.gate_up_proj + self.gate_up_proj_bias[:, None]) @ self.down_proj


class Own(nn.Module):
    """Holds what is multiplied, added and looked up, and only its names tell which."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(4, 4))
        self.pos_embedding = nn.Parameter(torch.randn(1, 5, 4))
        self.class_token = nn.Parameter(torch.randn(1, 1, 4))
        self.layer_scale = nn.Parameter(torch.ones(4, 1, 1))
        self.relative_position_bias_table = nn.Parameter(torch.randn(9, 3))
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x @ self.mix)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def old_weight_norm(layer, name="weight"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer, name)


def pruned(layer):
    return prune.identity(layer, "weight")


# By hand: name, kind and number of each weight that has a mask.
LAYERS = {
    "convolution": (lambda: nn.Conv2d(2, 4, 3, groups=2), {"weight": ("conv", 4 * 1 * 9)}),
    "transposed": (lambda: nn.ConvTranspose1d(2, 4, 3), {"weight": ("conv", 2 * 4 * 3)}),
    "linear": (lambda: nn.Linear(4, 3), {"weight": ("linear", 12)}),
    "bilinear": (lambda: nn.Bilinear(4, 2, 3), {"weight": ("linear", 24)}),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
        {"in_proj_weight": ("linear", 3 * 16), "out_proj.weight": ("linear", 16)},
    ),
    "attention to others": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        {
            "q_proj_weight": ("linear", 16), "k_proj_weight": ("linear", 12), "v_proj_weight": ("linear", 20),
            "out_proj.weight": ("linear", 16),
        },
    ),
    "lstm": (
        lambda: nn.LSTM(2, 4, proj_size=3),
        {"weight_ih_l0": ("linear", 16 * 2), "weight_hh_l0": ("linear", 16 * 3), "weight_hr_l0": ("linear", 3 * 4)},
    ),
    "gru, both ways": (
        lambda: nn.GRU(2, 4, bidirectional=True),
        {
            "weight_ih_l0": ("linear", 24), "weight_hh_l0": ("linear", 48),
            "weight_ih_l0_reverse": ("linear", 24), "weight_hh_l0_reverse": ("linear", 48),
        },
    ),
    "cell": (lambda: nn.RNNCell(2, 4), {"weight_ih": ("linear", 8), "weight_hh": ("linear", 16)}),
    "conv1d of gpt-2": (lambda: Conv1D(6, 2), {"weight": ("linear", 12)}),
    "experts": (Experts, {"gate_up_proj": ("linear", 96), "down_proj": ("linear", 96)}),
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
        {"parametrizations.weight.original1": ("linear", 12)},
    ),
    "spectral norm": (
        lambda: parametrizations.spectral_norm(nn.Conv2d(2, 3, 3)),
        {"parametrizations.weight.original": ("conv", 54)},
    ),
    "both norms": (
        lambda: parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(4, 3))),
        {"parametrizations.weight.original1": ("linear", 12)},
    ),
    "weight norm, old": (lambda: old_weight_norm(nn.Linear(4, 3)), {"weight_v": ("linear", 12)}),
    "spectral norm, old": (lambda: nn.utils.spectral_norm(nn.Linear(4, 3)), {"weight_orig": ("linear", 12)}),
    "pruned by torch": (lambda: pruned(nn.Conv1d(2, 3, 2)), {"weight_orig": ("conv", 12)}),
    "attention, weight norm": (
        lambda: parametrizations.weight_norm(nn.MultiheadAttention(4, 2), "in_proj_weight"),
        {"parametrizations.in_proj_weight.original1": ("linear", 48), "out_proj.weight": ("linear", 16)},
    ),
    "lstm, weight norm": (
        lambda: old_weight_norm(nn.LSTM(2, 4), "weight_hh_l0"),
        {"weight_hh_l0_v": ("linear", 64), "weight_ih_l0": ("linear", 32)},
    ),
    "conv1d of gpt-2, spectral norm": (
        lambda: parametrizations.spectral_norm(Conv1D(6, 2)),
        {"parametrizations.weight.original": ("linear", 12)},
    ),
}  # fmt: skip


@pytest.fixture
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", LAYERS)
def test_each_weight_that_a_layer_multiplies_by_has_a_mask_under_a_name_of_the_models(name):
    make, by_hand = LAYERS[name]
    model = nn.Sequential(make(), nn.BatchNorm2d(3))
    mask = ones(model, "all")
    assert {of.removeprefix("0."): keep.numel() for of, keep in mask.items()} == {
        of: number for of, (_, number) in by_hand.items()
    }
    kind = kinds(model)
    assert {of: kind[f"0.{of}"] for of in by_hand} == {
        of: of_kind for of, (of_kind, _) in by_hand.items()
    }
    assert total_weights(model) == size(mask) + 3
    assert unmasked(model) == {}
    assert density(mask) == 1
    groups = per_kind(model)(mask)
    assert {of: which for which, group in groups.items() for of in group.names} == {
        of: kind[of] for of in mask
    }


@pytest.mark.parametrize("name", [name for name in LAYERS if "norm" in name or "torch" in name])
def test_zeros_of_what_the_mask_names_are_zeros_of_the_weight(name):
    layer = LAYERS[name][0]()
    mask = ones(layer, "all")
    for keep in mask.values():
        keep.view(-1)[::3] = False
    apply_(layer, mask)
    # old norms and torch's pruning compute their weight here
    for hook in layer._forward_pre_hooks.values():
        hook(layer, ())
    for of, keep in mask.items():
        tensor = of.removeprefix("parametrizations.").partition(".original")[0]
        tensor = tensor.removesuffix("_v").removesuffix("_orig")
        module, _, own = tensor.rpartition(".")
        assert torch.equal(getattr(layer.get_submodule(module), own) == 0, ~keep)


# ---- what is left out, and how it is told


def orthogonal():
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4)), nn.Linear(4, 2))


def of_ones_own():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    register_parametrization(model[0], "weight", Doubled())
    return model


LEFT_OUT = {
    "orthogonal": (
        orthogonal,
        "0.parametrizations.weight.original",
        "_Orthogonal computes the weight",
    ),
    "one's own": (of_ones_own, "0.parametrizations.weight.original", "Doubled computes the weight"),
    "a module's own matrix": (lambda: nn.Sequential(Own()), "0.mix", "a Own holds it itself"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.parametrize("prunable", ["all", "no_head", "conv"])
def test_what_nothing_tells_how_to_mask_is_left_out_counted_and_named_once_in_one_line(
    name, prunable
):
    make, of, reason = LEFT_OUT[name]
    model = make()
    model.add_module("conv", nn.Conv1d(2, 2, 2))
    head = "0.fc" if name == "a module's own matrix" else "1"
    with pytest.warns(UnmaskedWarning) as told:
        mask = ones(model, prunable, head=head)
    assert of not in mask
    assert list(unmasked(model)) == [of]
    assert len(told) == 1
    line = str(told[0].message)
    assert f"1 weight has no mask and is not pruned: {of} ({reason}" in line
    assert "\n" not in line
    assert told[0].filename == __file__
    # Not pruned, and not out of the total.
    assert total_weights(model) == 8 + 16 + 8
    # Asked for by its name it has a mask, and nothing is told.
    asked = ones(model, [of, "conv.weight"])
    assert asked[of].shape == (4, 4)
    assert list(asked) == [name for name, _ in model.named_parameters() if name in asked]


def test_norms_embeddings_and_tables_are_left_out_without_a_word():
    model = nn.Sequential(
        nn.Embedding(9, 4), nn.EmbeddingBag(9, 4), nn.LayerNorm([3, 4]), nn.PReLU(4), Own()
    )
    assert list(unmasked(model)) == ["4.mix"]
    assert total_weights(model) == 12 + 16 + 8
    assert unmasked_in_words(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))) == ""


def test_many_are_counted_and_six_are_named():
    model = nn.Sequential(*[Own() for _ in range(8)])
    line = unmasked_in_words(model)
    assert line.startswith("8 weights have no mask and are not pruned: 0.mix, 1.mix")
    assert "and 2 more (a Own holds it itself" in line


def test_what_ones_own_patterns_leave_out_is_not_told():
    assert unmasked(Own(), ["fc.*"]) == {}
    assert list(ones(Own(), ["fc.*"])) == ["fc.weight"]


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("*", ["2.weight"]),  # as ever: what is a weight by the rule, where there is one
        ("0.weight", ["0.weight"]),
        ("0.*", ["0.weight"]),
        ("3.pos*", ["3.pos_embedding"]),
        (["0.weight", "2.weight"], ["0.weight", "2.weight"]),
    ],
)
def test_a_pattern_that_means_nothing_else_takes_embeddings_and_tables(pattern, chosen):
    model = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm([3, 4]), nn.Linear(4, 2), Own())
    model[3].fc = nn.Identity()
    assert list(ones(model, pattern)) == chosen


@pytest.mark.parametrize("pattern", ["0.bias", "1.*", "2.bias_k", "3.gate_up_proj_bias"])
def test_biases_and_norm_weights_are_never_pruned_whatever_their_shape(pattern):
    model = nn.Sequential(
        nn.Linear(4, 2),
        nn.LayerNorm([3, 4]),
        nn.MultiheadAttention(4, 2, add_bias_kv=True),
        Experts(),
    )
    with pytest.raises(ConfigError, match="biases and norm weights never"):
        ones(model, [pattern])


def test_a_lazy_layer_has_no_weights_yet():
    with pytest.raises(
        ConfigError, match=r"'0.weight' of a LazyLinear has no values yet: a lazy layer has"
    ):
        ones(nn.Sequential(nn.LazyLinear(3)), "all")


# ---- totals and densities


def test_a_vision_transformers_masks_have_its_projections_and_its_total_too():
    from torchvision.models import vit_b_16

    with torch.device("meta"):
        model = vit_b_16()
    mask = ones(model, "all")
    projections = {name: keep for name, keep in mask.items() if name.endswith("in_proj_weight")}
    # 12 blocks of 3 x 768 x 768; norms: 25 of 768.
    assert size(projections) == 21_233_664
    assert total_weights(model) == size(mask) + 25 * 768 == 86_311_680
    assert density(keep_fraction(mask, 0.5), total_weights(model)) == pytest.approx(
        0.5 + 0.5 * 25 * 768 / 86_311_680
    )
    # A mask of before, without them: what it leaves out is kept.
    older = {name: keep for name, keep in mask.items() if name not in projections}
    assert density(keep_fraction(older, 0.5), total_weights(model)) == pytest.approx(
        0.623, abs=5e-4
    )


def test_a_parametrised_layer_has_its_place_in_the_total():
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(16, 20)), nn.ReLU(), nn.Linear(20, 24)
    )
    assert total_weights(model) == 320 + 480 == 800


def test_a_mask_on_an_embedding_counts_in_the_total_that_it_is_compared_with():
    model = nn.Sequential(nn.Embedding(1000, 16), nn.Linear(16, 40))
    mask = ones(model, ["0.weight"])
    mask["0.weight"].view(-1)[1600:] = False
    right = (640 + 1600) / (640 + 16_000)
    assert right == pytest.approx(0.135, abs=5e-4)
    assert density(mask, total_weights(model)) == density(mask, total_weights(model, mask)) == right
    assert total_weights(model) == 640
    assert total_weights(model, mask) == 16_640
    with pytest.raises(
        InputError,
        match=r"total is 640, and the mask alone names 16000 weights; total_weights\(model",
    ):
        density(mask, 640)


# ---- shared weights


def test_an_embedding_that_shares_its_matrix_with_the_output_is_the_outputs():
    model = nn.Module()
    model.embed, model.hidden, model.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)
    model.head.weight = model.embed.weight
    assert head_weights(model, None) == ("embed.weight",)
    assert list(ones(model)) == ["hidden.weight"]
    assert list(ones(model, "all")) == ["embed.weight", "hidden.weight"]
    assert total_weights(model) == 36 + 16


# ---- the output layer


@pytest.mark.parametrize(
    ("norm", "of"),
    [
        (parametrizations.weight_norm, "1.parametrizations.weight.original1"),
        (parametrizations.spectral_norm, "1.parametrizations.weight.original"),
        (old_weight_norm, "1.weight_v"),
        (pruned, "1.weight_orig"),
    ],
)
def test_the_output_layer_may_be_parametrised(norm, of):
    model = nn.Sequential(nn.Linear(4, 3), norm(nn.Linear(3, 2)))
    assert head_weights(model, "1") == (of,)
    assert list(ones(model, head="1")) == ["0.weight"]
    assert half_output(model, "1")(ones(model, "all"))[of].factor == 0.5


# ---- nothing that only looks changes anything


def looked_at():
    """A model with everything that computes its weights anew whenever somebody looks at them."""
    layers = {
        "first": parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)),
        "second": nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)),
        "norm": nn.BatchNorm2d(4),
        "dropout": nn.Dropout(),
        "flat": nn.Flatten(),
        "third": parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(16, 6))),
        "head": parametrizations.spectral_norm(nn.Linear(6, 5)),
    }
    return nn.Sequential(OrderedDict(layers)).train()


def a_task_of(model):
    task = Classification(model, split(synthetic(classes=5, train=100, image_shape=(1, 4, 4))))
    return (
        task.digest,
        task.flops(WHOLE),
        task.uncounted,
        task.build(task.initial_state(), WHOLE, 0),
    )


LOOKS = {
    "ones": lambda model: [ones(model, prunable) for prunable in ("all", "no_head", "conv", "*")],
    "unmasked": unmasked,
    "kinds": kinds,
    "find_weights": find_weights,
    "total_weights": total_weights,
    "head_weights": lambda model: head_weights(model, None),
    "head_name": head_name,
    "find_head": lambda model: find_head(model, 5),
    "per_kind": lambda model: per_kind(model)(ones(model)),
    "half_output": lambda model: half_output(model)(ones(model)),
    "per_layer": lambda model: per_layer(ones(model)),
    "masked_parameters": lambda model: masked_parameters(model, ones(model)),
    "flops": lambda model: flops.per_example(model, torch.zeros(2, 1, 4, 4)),
    "uncounted": lambda model: flops.uncounted(model, torch.zeros(2, 1, 4, 4)),
    "evaluate": lambda model: evaluate(model, [(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))]),
    "magnitude": lambda model: dict(magnitude(model.state_dict(), ones(model))),
    "Ticket": lambda model: Ticket(ones(model), model.state_dict(), {}).check(),
    "task": a_task_of,
    "resolve_defaults": lambda model: resolve_defaults(Training(epochs=1), model, "cpu"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_only_looks_changes_no_parameter_no_buffer_and_draws_nothing(name):
    model = looked_at()
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    LOOKS[name](model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert [of for of in before if not torch.equal(before[of], after[of])] == []
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- initial weights


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize(
    "norm", [lambda layer: layer, parametrizations.weight_norm, old_weight_norm, pruned]
)
def test_xavier_draws_the_weight_that_the_layer_works_with(norm):
    layer = norm(nn.Linear(300, 100))
    initialise_(layer)
    for hook in layer._forward_pre_hooks.values():
        hook(layer, ())
    # By hand: the root of 2 / (300 + 100).
    assert layer.weight.std().item() == pytest.approx(0.0707, abs=0.001)
    assert not layer.bias.any()


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_xavier_of_a_spectral_normed_layer_leaves_a_weight_of_norm_one(norm):
    layer = norm(nn.Linear(300, 100))
    initialise_(layer.train())
    drawn = layer.get_parameter(next(iter(ones(layer, "all"))))
    assert drawn.std().item() == pytest.approx(0.0707, abs=0.001)
    layer.eval()(torch.zeros(1, 300))
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.1)


@pytest.mark.usefixtures("_seeded")
def test_xavier_draws_each_gate_projection_and_expert_as_a_matrix_of_its_own():
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(128, 2),
            "lstm": nn.LSTM(48, 96),
            "conv1d": Conv1D(240, 80),
        }
    )
    model["experts"] = Experts()
    model["experts"].gate_up_proj = nn.Parameter(torch.zeros(5, 100, 200))
    initialise_(model)
    fans = {
        "attention.in_proj_weight": 2 * 128, "attention.out_proj.weight": 2 * 128, "lstm.weight_ih_l0": 48 + 96,
        "lstm.weight_hh_l0": 2 * 96, "conv1d.weight": 320, "experts.gate_up_proj": 300,
    }  # fmt: skip
    found = {of: model.get_parameter(of).std().item() for of in fans}
    assert found == pytest.approx({of: math.sqrt(2 / fan) for of, fan in fans.items()}, rel=0.03)
    zeros = ("attention.in_proj_bias", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "conv1d.bias")
    assert not any(model.get_parameter(of).any() for of in zeros)


def test_xavier_leaves_what_has_no_mask_as_it_was_drawn():
    model = nn.Sequential(orthogonal()[0], nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    initialise_(model)
    after = model.state_dict()
    assert torch.equal(
        before["0.parametrizations.weight.original"], after["0.parametrizations.weight.original"]
    )
    assert not torch.equal(before["1.weight"], after["1.weight"])


def test_a_new_head_stands_where_a_parametrised_one_was():
    model = nn.Sequential(nn.Linear(4, 3), parametrizations.spectral_norm(nn.Linear(3, 2)))
    replace_head_(model, "1", 5, 0)
    assert model(torch.zeros(1, 4)).shape == (1, 5)


# ---- laws


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4), st.integers(0, 2**31))
def test_whatever_a_model_is_made_of_its_first_mask_keeps_all_and_fits(names, seed):
    model = nn.Sequential(*[LAYERS[name][0]() for name in names], nn.LayerNorm(3))
    mask = ones(model, "all")
    assert density(mask) == density(mask, total_weights(model)) == 1
    assert (
        size(mask)
        == count(mask)
        == sum(number for name in names for _, number in LAYERS[name][1].values())
    )
    drawn = torch.Generator().manual_seed(seed)
    mask = {name: torch.rand(keep.shape, generator=drawn) < 0.5 for name, keep in mask.items()}
    for keep in mask.values():
        keep.flatten(1)[:, 0] = True  # weight norm needs something of each row
    apply_(model, mask)
    assert all(not parameter[~keep].any() for parameter, keep in masked_parameters(model, mask))
    assert len({layer_of(name) for name in mask}) == len(mask)


def test_the_catalogues_models_have_the_masks_that_they_always_had():
    model = conv3(10)
    assert list(kinds(model)) == [
        "conv1.weight", "bn1.weight", "conv2.weight", "bn2.weight", "conv3.weight", "bn3.weight", "head.weight",
    ]  # fmt: skip
    assert list(ones(model, "all")) == [
        "conv1.weight",
        "conv2.weight",
        "conv3.weight",
        "head.weight",
    ]


# ---- in use


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, old_weight_norm])
def test_a_mask_that_leaves_weight_norm_a_row_of_no_length_is_refused(norm):
    layer = norm(nn.Linear(4, 3))
    mask = ones(layer, "all")
    (name,) = mask
    mask[name][1, 1:] = False
    apply_(layer, mask)
    assert bool(layer(torch.ones(1, 4)).isfinite().all())
    mask[name][1, 0] = False
    message = f"the mask keeps no weight of row 1 of '{name}', and weight norm divides by that row's length"
    with pytest.raises(InputError, match=message):
        apply_(layer, mask)


@pytest.mark.parametrize("norm", [old_weight_norm, nn.utils.spectral_norm, pruned])
def test_a_model_whose_weights_are_computed_before_each_pass_is_searched_like_any_other(norm):
    model = nn.Sequential(nn.Flatten(), norm(nn.Linear(64, 8)), nn.ReLU(), nn.Linear(8, 10))
    model(torch.zeros(1, 1, 8, 8))  # its weight is no leaf now
    task = Classification(model, split(synthetic(train=100), valid=0.2), head="3")
    job = Job(task.initial_state(), ones(model, head="3"), Training(lr=0.05, epochs=1), seed=0)
    (found,) = find(job, [WHOLE], [0.3], run_all=serial(task))
    assert density(found.mask) == pytest.approx(0.7, abs=1e-3)


class Parts(nn.Module):
    """Attention, a recurrent layer and norms, as they stand in one model."""

    def __init__(self):
        super().__init__()
        self.embed = parametrizations.spectral_norm(nn.Linear(8, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cells = nn.LSTM(8, 6, batch_first=True)
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        x = self.embed(x.flatten(1).view(-1, 8, 8))
        x = self.attention(x, x, x)[0]
        return self.head(self.cells(x)[0][:, -1])


def test_a_search_prunes_all_kinds_of_layers_and_their_zeros_hold():
    task = Classification(Parts(), split(synthetic(train=100), valid=0.2))
    job = Job(task.initial_state(), ones(task.model), Training(lr=0.05, epochs=1), seed=0)
    rounds = list(find(job, [WHOLE], [0.5, 0.5], run_all=serial(task)))
    assert [density(found.mask) for found in rounds] == [0.5, 0.25]
    assert [len(found.mask) for found in rounds] == [5, 5]
    state = run_job(rounds[-1].job, task).final
    assert all(not state[name][~keep].any() for name, keep in rounds[-1].mask.items())
