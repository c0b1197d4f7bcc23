"""Weights of a local checkpoint: all of them or none, a head for other classes stays, and no file runs code."""

import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tombola import models
from tombola.errors import ConfigError
from tombola.models.building import build, load_weights_


def network(classes=4, seed=0) -> nn.Module:
    return build("conv3", classes, (3, 8, 8), seed=seed)


def trained(classes=4) -> dict[str, torch.Tensor]:
    """A state in which no entry has the value that a new network has."""
    state = network(classes, seed=1).state_dict()
    return {name: value + 1 for name, value in state.items()}


def taken(model) -> list[str]:
    """The entries that a model has from ``trained``."""
    return [name for name, value in model.state_dict().items() if torch.equal(value, trained()[name])]


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
        lambda state: {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}},
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
    old = {name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")  # as files are that torchvision published before there was this entry
    model = build("torchvision:resnet18", 5, (3, 32, 32), seed=0)
    assert load_weights_(model, tmp_path / "old.pth", head="fc") == ["fc.weight", "fc.bias"]
    assert torch.equal(model.conv1.weight, theirs["conv1.weight"])
    assert model.bn1.num_batches_tracked == 0


def test_numbers_become_those_of_the_model(tmp_path):
    halves = {name: value.half() if value.is_floating_point() else value for name, value in trained().items()}
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
        ({"conv4.weight": torch.ones(2)}, r"net.pt has 'conv4.weight', which the model has not. Did you mean 'conv"),
        ({"bn1.weight": torch.ones(3)}, r"'bn1.weight' has the shape \[3\] in .*net.pt; it has \[64\] in the model"),
        ({"head.weight": torch.ones(7, 9), "head.bias": torch.ones(7)}, r"'head.weight' has the shape \[7, 9\]"),
        ({"head.weight": torch.ones(7, 256)}, r"'head.weight' has the shape \[7, 256\] in"),
        ({"head.bias": torch.ones(7)}, r"'head.bias' has the shape \[7\] in"),
        ({"conv1.bias": torch.full((64,), float("nan"))}, "'conv1.bias' in .*net.pt holds NaN or infinite values"),
        ({"conv1.bias": torch.ones(64, dtype=torch.int8)}, "'conv1.bias' is torch.int8 in .*; it is torch.float32 in"),
        ({"module.conv1.bias": torch.ones(64)}, "net.pt has 'module.conv1.bias', which the model has not"),
        ({"conv1.bias": 3}, "net.pt holds no state dict, neither itself nor as 'state_dict' or 'model'"),
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
    refused(r"hostile.pt holds more than weights \(eval\) and reading it would run code", tmp_path / "hostile.pt")
    torch.save(models.conv3(4), tmp_path / "whole.pt")
    refused(r"whole.pt holds more than weights \(torch.nn.modules.container.Sequential\)", tmp_path / "whole.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    refused("plain.pt", tmp_path / "plain.pt")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_none_or_broken_is_told_in_one_line(tmp_path):
    refused("no file .*none.pt to take weights from", tmp_path / "none.pt")
    refused("no file .* to take weights from", tmp_path)
    torch.save(trained(), tmp_path / "net.pt")
    whole = (tmp_path / "net.pt").read_bytes()
    for name, content in (("cut", whole[:5000]), ("empty", b""), ("text", b"hello world"), ("zip", b"PK\x03\x04")):
        for ending in ("pt", "safetensors"):
            file = tmp_path / f"{name}.{ending}"
            file.write_bytes(content)
            refused(re.escape(f"cannot read {file} as a checkpoint: "), file)
    torch.save([1, 2], tmp_path / "list.pt")
    refused("list.pt holds no state dict", tmp_path / "list.pt")
