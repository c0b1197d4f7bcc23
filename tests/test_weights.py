"""Weights of a local checkpoint: all of them or none, a head for other classes stays, and no
file runs code.
"""

import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from tests.layers import SecondVersion
from torch import nn

from tombola import models
from tombola.experiments.experiment import facts, plan, run
from tombola.experiments.progress import Display
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.masks.masks import from_zeros
from tombola.models.building import build, load_weights_
from tombola.records.storage import Store
from tombola.schema.recipe import parse
from tombola.tickets import Ticket


def network(classes=4, seed=0) -> nn.Module:
    return build("conv3", classes, (3, 8, 8), seed=seed)


def trained(classes=4) -> dict[str, torch.Tensor]:
    """A state in which no entry has the value that a new network has."""
    state = network(classes, seed=1).state_dict()
    return {name: value + 1 for name, value in state.items()}


def taken(model) -> list[str]:
    """The entries that a model has from ``trained``."""
    return [
        name for name, value in model.state_dict().items() if torch.equal(value, trained()[name])
    ]


def refused(said: str, path, model=None) -> None:
    model = model or network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match=said) as raised:
        load_weights_(model, path)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {
            "model": {f"module._orig_mod.{name}": value for name, value in state.items()}
        },
    ],
)
def test_all_weights_and_buffers_are_taken_however_they_are_wrapped(tmp_path, wrap):
    torch.save(wrap(trained()), tmp_path / "net.pt")
    model = network()
    assert taken(model) == []
    assert load_weights_(model, tmp_path / "net.pt") == []
    assert taken(model) == list(model.state_dict())
    assert model.bn1.num_batches_tracked == 1


def test_a_safetensors_file_and_a_legacy_file_give_the_same(tmp_path):
    save_file(trained(), tmp_path / "net.safetensors")
    torch.save(trained(), tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    for name in ("net.safetensors", "net.pth"):
        model = network()
        assert load_weights_(model, str(tmp_path / name)) == []
        assert taken(model) == list(model.state_dict())


def test_a_head_for_other_classes_stays_as_it_was_drawn_and_is_told(tmp_path):
    torch.save(trained(classes=7), tmp_path / "net.pt")
    model = network()
    head = model.head.weight.clone()
    assert load_weights_(model, tmp_path / "net.pt") == ["head.weight", "head.bias"]
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.conv3.weight, trained(classes=7)["conv3.weight"])


def test_the_weights_of_torchvisions_own_models_go_in_under_the_name_of_their_head(tmp_path):
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=1000).state_dict()
    old = {
        name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")
    }
    # as files are that torchvision published before there was this entry
    torch.save(old, tmp_path / "old.pth")
    model = build("torchvision:resnet18", 5, (3, 32, 32), seed=0)
    assert load_weights_(model, tmp_path / "old.pth", head="fc") == ["fc.weight", "fc.bias"]
    assert torch.equal(model.conv1.weight, theirs["conv1.weight"])
    assert model.bn1.num_batches_tracked == 0


def test_numbers_become_those_of_the_model(tmp_path):
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in trained().items()
    }
    torch.save(halves, tmp_path / "half.pt")
    model = network()
    load_weights_(model, tmp_path / "half.pt")
    assert model.conv1.weight.dtype is torch.float32
    assert torch.equal(model.conv1.weight, halves["conv1.weight"].float())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv2.bias": None}, r"net.pt has no 'conv2.bias', which the model has. Did you mean"),
        ({"head.bias": None}, r"net.pt has no 'head.bias', which the model has"),
        (
            {"conv4.weight": torch.ones(2)},
            r"net.pt has 'conv4.weight', which the model has not. Did you mean 'conv",
        ),
        (
            {"bn1.weight": torch.ones(3)},
            r"'bn1.weight' has the shape \[3\] in .*net.pt; it has \[64\] in the model",
        ),
        (
            {"head.weight": torch.ones(7, 9), "head.bias": torch.ones(7)},
            r"'head.weight' has the shape \[7, 9\]",
        ),
        ({"head.weight": torch.ones(7, 256)}, r"'head.weight' has the shape \[7, 256\] in"),
        ({"head.bias": torch.ones(7)}, r"'head.bias' has the shape \[7\] in"),
        (
            {"conv1.bias": torch.full((64,), float("nan"))},
            "'conv1.bias' in .*net.pt holds NaN or infinite values",
        ),
        (
            {"conv1.bias": torch.ones(64, dtype=torch.int8)},
            "'conv1.bias' is torch.int8 in .*; it is torch.float32 in",
        ),
        (
            {"module.conv1.bias": torch.ones(64)},
            "net.pt has 'module.conv1.bias', which the model has not",
        ),
        (
            {"conv1.bias": 3},
            "net.pt holds no state dict, neither itself nor as 'state_dict' or 'model'",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path, change, said):
    state = {name: value for name, value in (trained() | change).items() if value is not None}
    torch.save(state, tmp_path / "net.pt")
    refused(said, tmp_path / "net.pt")


def test_a_file_that_needs_code_is_refused_and_does_not_run_it(tmp_path):
    class Hostile:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"state_dict": trained(), "args": Hostile()}, tmp_path / "hostile.pt")
    refused(
        r"hostile.pt holds more than weights \(eval\) and reading it would run code",
        tmp_path / "hostile.pt",
    )
    torch.save(models.conv3(4), tmp_path / "whole.pt")
    refused(
        r"whole.pt holds more than weights \(torch.nn.modules.container.Sequential\)",
        tmp_path / "whole.pt",
    )
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    refused("plain.pt", tmp_path / "plain.pt")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_none_or_broken_is_told_in_one_line(tmp_path):
    refused("no file .*none.pt to take weights from", tmp_path / "none.pt")
    refused("no file .* to take weights from", tmp_path)
    torch.save(trained(), tmp_path / "net.pt")
    whole = (tmp_path / "net.pt").read_bytes()
    for name, content in (
        ("cut", whole[:5000]),
        ("empty", b""),
        ("text", b"hello world"),
        ("zip", b"PK\x03\x04"),
    ):
        for ending in ("pt", "safetensors"):
            file = tmp_path / f"{name}.{ending}"
            file.write_bytes(content)
            refused(re.escape(f"cannot read {file} as a checkpoint: "), file)
    torch.save([1, 2], tmp_path / "list.pt")
    refused("list.pt holds no state dict", tmp_path / "list.pt")


# What checkpoints of others hold
# -----------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers of one weight, as an encoder and a decoder have."""

    def __init__(self) -> None:
        super().__init__()
        self.mid1 = nn.Linear(3, 3)
        self.mid2 = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)
        self.mid2.weight = self.mid1.weight


@pytest.mark.parametrize("kept", ["mid1.weight", "mid2.weight"])
def test_a_file_that_names_a_shared_weight_once_gives_it_under_both_names(tmp_path, kept):
    from safetensors.torch import save_model

    state = Tied().state_dict()
    save_model(Tied(), str(tmp_path / "theirs.safetensors"))
    load_weights_(Tied(), tmp_path / "theirs.safetensors")
    other = {"mid1.weight": "mid2.weight", "mid2.weight": "mid1.weight"}[kept]
    save_file(
        {name: value.clone() for name, value in state.items() if name != other},
        tmp_path / "one.safetensors",
    )
    model = Tied()
    assert load_weights_(model, tmp_path / "one.safetensors") == []
    assert torch.equal(model.mid2.weight, state["mid1.weight"])
    assert model.mid1.weight is model.mid2.weight


def test_a_shared_weight_of_two_values_is_refused(tmp_path):
    torch.save(
        {name: torch.rand_like(value) for name, value in Tied().state_dict().items()},
        tmp_path / "net.pt",
    )
    refused(
        "'mid1.weight' and 'mid2.weight' differ in .*; they are one parameter",
        tmp_path / "net.pt",
        Tied(),
    )


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("sparse", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_entries_are_read_as_dense_ones(tmp_path, sparse):
    state = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)).state_dict()
    state["0.weight"][::2] = 0
    torch.save(state | {"0.weight": getattr(state["0.weight"], sparse)()}, tmp_path / "net.pt")
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    assert load_weights_(model, tmp_path / "net.pt", head="1") == []
    assert torch.equal(model[0].weight, state["0.weight"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("quantised", "'0.weight' in .* is quantised"),
        (torch.rand(6, 4, device="meta"), "'0.weight' in .* is on the device meta"),
        (
            torch.full((6, 4), 1e39, dtype=torch.float64),
            r"'0.weight' in .* holds 1e\+39, which torch.float32 cannot",
        ),
        (torch.rand(6, 4).to(torch.float8_e4m3fn), None),
        (torch.rand(6, 4, dtype=torch.complex64), "'0.weight' is torch.complex64 in"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:.*TypedStorage:UserWarning", "ignore:torch.quantize_per_tensor:UserWarning"
)
def test_entries_that_are_no_plain_numbers_are_refused_by_name(tmp_path, value, said):
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    if isinstance(value, str):
        value = torch.quantize_per_tensor(torch.rand(6, 4), 0.1, 0, torch.qint8)
    torch.save(model.state_dict() | {"0.weight": value}, tmp_path / "net.pt")
    if said is None:
        load_weights_(model, tmp_path / "net.pt", head="1")
        assert torch.equal(model[0].weight, value.float())
        return
    before = model[0].weight.detach().clone()
    with pytest.raises(ConfigError, match=said) as raised:
        load_weights_(model, tmp_path / "net.pt", head="1")
    assert "\n" not in str(raised.value)
    assert torch.equal(model[0].weight, before)


def test_a_value_that_the_models_dtype_cannot_hold_is_refused_by_name(tmp_path):
    state = nn.Linear(2, 2).state_dict() | {"bias": torch.tensor([0.0, 1e6])}
    torch.save({f"0.{name}": value for name, value in state.items()}, tmp_path / "net.pt")
    with pytest.raises(
        ConfigError, match=r"'0.bias' in .* holds 1e\+06, which torch.float16 cannot hold"
    ):
        load_weights_(nn.Sequential(nn.Linear(2, 2)).half(), tmp_path / "net.pt", head="0")


def test_a_weight_that_torch_has_pruned_is_read_with_its_mask(tmp_path):
    from torch.nn.utils import prune

    theirs = network(seed=1)
    for layer in (theirs.conv2, theirs.conv3):
        prune.random_unstructured(layer, "weight", amount=0.3)
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    model = network()
    assert load_weights_(model, tmp_path / "net.pt") == []
    assert torch.equal(model.conv2.weight, theirs.conv2.weight)
    odd = theirs.state_dict() | {
        "conv2.weight_mask": torch.full_like(theirs.conv2.weight_mask, 0.5)
    }
    torch.save(odd, tmp_path / "odd.pt")
    refused("'conv2.weight_mask' in .* is no mask of ones and zeros", tmp_path / "odd.pt")


def test_prefixes_are_part_of_a_name_where_the_model_has_them(tmp_path):
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(3, 3)
            self.head = nn.Linear(3, 2)

    for wrapped in (Held(), nn.DataParallel(Held())):
        torch.save(wrapped.state_dict(), tmp_path / "net.pt")
        model = Held()
        assert load_weights_(model, tmp_path / "net.pt") == []
        assert torch.equal(
            model.module.weight, wrapped.state_dict()[next(iter(wrapped.state_dict()))]
        )


def test_versions_of_modules_are_taken_from_the_file_and_else_from_the_model(tmp_path):
    theirs = nn.Sequential(SecondVersion(3, 3), nn.Linear(3, 2))
    old = theirs.state_dict()
    old._metadata["0"] = {"version": 1}
    torch.save(theirs.state_dict(), tmp_path / "new.pt")
    torch.save(dict(theirs.state_dict()), tmp_path / "plain.pt")
    torch.save(old, tmp_path / "old.pt")
    torch.save(nn.DataParallel(theirs).state_dict(), tmp_path / "wrapped.pt")
    for name, factor in (("new", 1), ("plain", 1), ("old", 2), ("wrapped", 1)):
        model = nn.Sequential(SecondVersion(3, 3), nn.Linear(3, 2))
        load_weights_(model, tmp_path / f"{name}.pt", head="1")
        assert torch.equal(model[0].weight, factor * theirs[0].weight), name


def test_plain_extra_state_is_read_and_other_refused_by_name(tmp_path):
    class Told(nn.Linear):
        told = None

        def get_extra_state(self):
            return self.told

        def set_extra_state(self, state):
            self.told = state

    theirs = nn.Sequential(Told(3, 3), nn.Linear(3, 2))
    theirs[0].told = {"steps": 3}
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    model = nn.Sequential(Told(3, 3), nn.Linear(3, 2))
    load_weights_(model, tmp_path / "net.pt", head="1")
    assert model[0].told == {"steps": 3}
    torch.save(theirs.state_dict() | {"0._extra_state": {3: 4}}, tmp_path / "odd.pt")
    with pytest.raises(ConfigError, match=r"'0\._extra_state' is a dict that is no plain data"):
        load_weights_(model, tmp_path / "odd.pt", head="1")


# A checkpoint with zeros
# -------------------------------------------------------------------------------------------

MLP = {"name": "mlp", "hidden": [24]}


def pruned_checkpoint(path) -> int:
    """Write a network of `MLP` for digits of whose hidden layer weights are zero, and return
    how many.
    """
    torch.manual_seed(3)
    state = models.mlp(10, image_shape=(1, 8, 8), hidden=[24]).state_dict()
    state["fc1.weight"][torch.rand(24, 64) < 0.45] = 0
    torch.save(state, path)
    return int((state["fc1.weight"] == 0).sum())


def recipe_of(path, **changes):
    whole = {
        "name": "zeros",
        "model": MLP | {"weights": str(path)} | changes.pop("model", {}),
        "training": {"epochs": 1, "lr": 0.1},
        "arms": {
            "dense": {"method": "dense"},
            "lth": {"method": "lth", "rate": 0.2},
            "random": {"method": "random_ticket", "source": "lth"},
            "shuffled": {"method": "shuffled", "source": "lth"},
        },
        "until": {"rounds": 2},
    }
    return parse(whole | changes)


def test_a_run_says_that_zeros_of_its_checkpoint_are_trained_and_how_to_keep_them(tmp_path):
    zeros = pruned_checkpoint(tmp_path / "net.pt")
    plans = plan(recipe_of(tmp_path / "net.pt"), None)
    said = f"{zeros} of 1,536 prunable weights in {tmp_path / 'net.pt'} are zero; they are trained like all others, "
    assert plans.zeros == said + "unless model.mask is from_weights"
    assert facts(plans)["weights"] == plans.zeros
    told = []
    display = Display(quiet=True)
    display.say = told.append
    run(
        recipe_of(
            tmp_path / "net.pt", arms={"lth": {"method": "lth", "rate": 0.2}}, until={"rounds": 1}
        ),
        runs=tmp_path / "runs",
        workers=1,
        display=display,
    )
    assert plans.zeros in told
    without = parse(recipe_of(tmp_path / "net.pt").to_dict() | {"model": MLP})
    assert plan(without, None).zeros == ""


def test_a_run_that_begins_from_the_zeros_of_its_checkpoint_nests_and_counts_from_round_0(tmp_path):
    zeros = pruned_checkpoint(tmp_path / "net.pt")
    first = from_zeros(torch.load(tmp_path / "net.pt"), {"fc1.weight": torch.ones(24, 64) > 0})
    recipe = recipe_of(tmp_path / "net.pt", model={"mask": "from_weights"})
    outcome = run(recipe, runs=tmp_path / "runs", workers=1)
    assert outcome.complete
    left = 1536 - zeros
    for record in outcome.records:
        kept = [left, left - round(0.2 * left)]
        kept.append(kept[1] - round(0.2 * kept[1]))
        assert record["kept"] == kept[record["round"]]
        assert record["prunable"] == 1536
        assert record["density"] == record["kept"] / 1536
    folder = Run(outcome.folder)
    for arm in ("lth", "random", "shuffled"):
        for index in (1, 2):
            ticket = Ticket.load(folder.ticket_path(arm, 0, index))
            assert not (ticket.mask["fc1.weight"] & ~first["fc1.weight"]).any()
            assert ticket.origin["model"]["mask"] == "from_weights"
    assert "stay so: every arm begins with the" in folder.facts["weights"]
    [row] = [line for line in folder.recipe.to_dict()["model"].items() if line[0] == "mask"]
    assert row == ("mask", "from_weights")
    for record in outcome.records:
        trained = Store(folder.trainings).trained(record["training_digest"])
        if trained is not None:
            assert not trained.final["fc1.weight"][~first["fc1.weight"]].any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"until": {"density": 0.6}},
            "until.density asks for a density of 0.6, and the checkpoint's mask begins with",
        ),
        (
            {"densities": [0.9, 0.2], "arms": {"lth": {"method": "lth"}}},
            "arms.lth.densities asks for a density of 0.9",
        ),
        (
            {"arms": {"g": {"method": "gradual", "densities": [0.2]}}},
            "arm 'g': gradual begins with all weights",
        ),
    ],
)
def test_densities_that_the_checkpoint_has_left_behind_are_refused(tmp_path, changes, said):
    pruned_checkpoint(tmp_path / "net.pt")
    with pytest.raises(ConfigError, match=said):
        plan(recipe_of(tmp_path / "net.pt", model={"mask": "from_weights"}, **changes), None)


def test_a_mask_from_weights_needs_weights_with_zeros(tmp_path):
    torch.save(
        models.mlp(10, image_shape=(1, 8, 8), hidden=[24]).state_dict(), tmp_path / "full.pt"
    )
    with pytest.raises(
        ConfigError, match=r"model\.mask is from_weights, and no prunable weight in .* is zero"
    ):
        plan(recipe_of(tmp_path / "full.pt", model={"mask": "from_weights"}), None)
    with pytest.raises(
        ConfigError, match=r"model\.mask is from_weights, and there are no weights to take it from"
    ):
        plan(recipe_of(tmp_path / "full.pt", model={"mask": "from_weights", "weights": None}), None)


def test_recipes_without_a_mask_keep_their_digests():
    assert "mask" not in recipe_of("net.pt").to_dict()["model"]


def test_a_reach_begins_at_the_checkpoints_density(tmp_path):
    pruned_checkpoint(tmp_path / "net.pt")
    arms = {"lth": {"method": "lth", "reach": {"density": 0.1, "rounds": 3}, "exact": True}}
    plans = plan(
        recipe_of(tmp_path / "net.pt", model={"mask": "from_weights"}, arms=arms, until={}), None
    )
    asked = [
        sum(amount.keep.values())
        for amount in plans.recipe.arms["lth"].planned(plans.ground("lth", 0))
    ]
    begins = sum(int(keep.sum()) for keep in plans.mask.values())
    assert asked[-1] == round(0.1 * 1536)
    assert begins > asked[0] > asked[1] > asked[2]
