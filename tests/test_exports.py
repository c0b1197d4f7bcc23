"""Exports: what other programs load is the ticket's network, bit for bit where that can be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tombola import exports, ticket_format
from tombola.catalogue import entries
from tombola.cli import main, parser
from tombola.errors import ConfigError, DiskError, TicketError
from tombola.exports.writing import export
from tombola.models import lenet5
from tombola.tickets import Ticket


class Twins(nn.Module):
    """A module with two pruned parameters, one that is not, and a buffer, between modules of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(3, 4))
        self.shift = nn.Parameter(torch.randn(3))
        self.inner = nn.Linear(3, 3)
        self.second = nn.Parameter(torch.randn(2, 3))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x @ self.first.T + self.shift) @ self.second.T * self.scale


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4), Twins()
    )


MODELS = {"network": (network, (2, 1, 4, 4)), "lenet5": (lambda: lenet5(10), (2, 1, 28, 28))}


def ticket_of(model: nn.Module) -> Ticket:
    """Prune two thirds of every weight that is a matrix or more, but not the last."""
    generator = torch.Generator().manual_seed(0)
    point = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, p in model.named_parameters() if p.ndim > 1][:-1]
    mask = {name: torch.rand(point[name].shape, generator=generator) < 1 / 3 for name in names}
    return Ticket(mask, point, {"arm": "lth", "round": 3}, total=100_000)


@pytest.fixture(params=MODELS)
def case(request):
    """A way to make the model, a ticket of it, and a batch."""
    torch.manual_seed(1)
    make, shape = MODELS[request.param]
    model = make()
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
    return make, ticket_of(model), torch.randn(shape)


@pytest.fixture(params=["self-contained", "referring"])
def file(request, tmp_path) -> Path:
    """A ticket file of each format, with a name that a run gives."""
    torch.manual_seed(2)
    path = tmp_path / "run" / "round-003.safetensors"
    ticket_of(network()).save(path, path.parent / "rewind_points" if request.param == "referring" else None)
    return path


def parameter_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    module, _, own = name.rpartition(".")
    return model.get_submodule(module), own


def equal(one: dict, other: dict) -> bool:
    """Whether two states have the same names in the same order, and the same dtypes and values."""
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def refused(capsys, *arguments: object) -> str:
    assert main(["ticket", "export", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


# Ticket ----------------------------------------------------------------------------------------------------------


def test_an_exported_ticket_is_one_file_of_format_1_with_the_bytes_of_one_saved_by_itself(file, tmp_path):
    written = export(file)
    assert written == file.with_name("round-003.ticket.safetensors")
    Ticket.load(file).save(tmp_path / "alone.safetensors")
    assert written.read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
    away = tmp_path / "away" / "t.safetensors"
    away.parent.mkdir()
    written.rename(away)
    inside, outside = ticket_format.verify(file), ticket_format.verify(away)
    assert outside.format == 1
    for name in ("mask_digest", "rewind_digest", "origin", "kept", "prunable", "total", "shapes"):
        assert getattr(inside, name) == getattr(outside, name)


def test_a_ticket_can_be_made_self_contained_in_its_place(file):
    before = ticket_format.verify(file)
    assert export(file, out=file, force=True) == file
    after = ticket_format.verify(file)
    assert (after.format, after.rewind_digest) == (1, before.rewind_digest)


def test_an_exported_ticket_shares_nothing_with_the_first(case):
    _, ticket, _ = case
    copied = exports.ticket(ticket)
    before = (ticket.mask_digest, ticket.rewind_digest)
    for values in (copied.mask, copied.rewind_point):
        for value in values.values():
            value.zero_()
    assert (ticket.mask_digest, ticket.rewind_digest) == before


# State dict ------------------------------------------------------------------------------------------------------


def test_a_state_dict_is_the_state_of_a_model_that_the_ticket_was_applied_to(case):
    make, ticket, _ = case
    model = make()
    ticket.apply(model)
    state = exports.state_dict(ticket)
    assert equal(state, model.state_dict())
    other = make()
    other.load_state_dict(state)
    assert equal(state, other.state_dict())


def test_pruned_weights_are_plus_zero_whatever_they_were():
    point = {"w": torch.tensor([-1.0, float("nan"), float("-inf"), -2.0, float("inf")])}
    state = exports.state_dict(Ticket({"w": torch.tensor([False, False, False, True, True])}, point, {}))
    assert state["w"].tolist() == [0, 0, 0, -2, float("inf")]
    assert not state["w"][:3].signbit().any()


def test_a_state_dict_shares_nothing_with_the_ticket(case):
    _, ticket, _ = case
    before = ticket.rewind_digest
    for make in (exports.state_dict, exports.torch_prune):
        for value in make(ticket).values():
            value.zero_()
    assert ticket.rewind_digest == before


def test_a_state_dict_file_is_loaded_without_running_anything_in_it(file):
    written = export(file, "state_dict")
    assert written == file.with_name("round-003.state_dict.pt")
    state = torch.load(written, weights_only=True)
    assert type(state) is dict
    assert equal(state, exports.state_dict(Ticket.load(file)))
    model = network()
    model.load_state_dict(state)
    for name, keep in Ticket.load(file).mask.items():
        assert not model.state_dict()[name][~keep].any()


# Torch's pruning -------------------------------------------------------------------------------------------------


def test_torch_prune_is_what_custom_from_mask_leaves(case):
    make, ticket, _ = case
    model = make()
    model.load_state_dict(dict(ticket.rewind_point))
    for name, keep in ticket.mask.items():
        prune.custom_from_mask(*parameter_of(model, name), keep)
    state, torchs = exports.torch_prune(ticket), model.state_dict()
    if "5.scale" not in torchs:  # a state does not say which of a module's tensors are buffers
        assert list(state) == list(torchs)
    assert equal({name: state[name] for name in torchs}, torchs)
    assert len(state) == len(torchs)


def test_a_model_prepared_by_torchs_pruning_loads_the_file_and_computes_the_tickets_network(case, tmp_path):
    make, ticket, batch = case
    ticket.save(tmp_path / "t.safetensors")
    path = export(tmp_path / "t.safetensors", "torch_prune")
    assert path.name == "t.torch_prune.pt"
    pruned, applied = make().eval(), make().eval()
    for name in ticket.mask:
        prune.identity(*parameter_of(pruned, name))
    pruned.load_state_dict(torch.load(path, weights_only=True))
    ticket.apply(applied)
    with torch.no_grad():
        assert torch.equal(pruned(batch), applied(batch))
    for name, keep in ticket.mask.items():
        module, own = parameter_of(pruned, name)
        assert torch.equal(getattr(module, f"{own}_mask"), keep.float())
        prune.remove(module, own)
    after, state = pruned.state_dict(), exports.state_dict(ticket)
    assert equal({name: after[name] for name in state}, state)
    assert len(after) == len(state)


def test_values_of_pruned_weights_stay_but_those_that_no_product_makes_zero():
    point = {"w": torch.tensor([-1.0, float("nan"), float("inf"), -2.0, float("inf")])}
    state = exports.torch_prune(Ticket({"w": torch.tensor([False, False, False, True, True])}, point, {}))
    assert state["w_orig"].tolist() == [-1, 0, 0, -2, float("inf")]
    assert (state["w_orig"] * state["w_mask"]).tolist() == [0, 0, 0, -2, float("inf")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_masks_have_the_dtype_of_their_weights_as_torchs_have(dtype):
    layer = nn.Linear(3, 2, dtype=dtype)
    keep = torch.tensor([[True, False, True], [False, False, True]])
    state = exports.torch_prune(Ticket({"weight": keep}, layer.state_dict(), {}))
    prune.custom_from_mask(layer, "weight", keep)
    assert equal(state, layer.state_dict())


def test_a_model_that_torch_has_pruned_already_is_refused():
    layer = nn.Linear(2, 2)
    point = layer.state_dict() | {"weight_mask": torch.ones(2, 2)}
    with pytest.raises(TicketError, match=r"^the ticket's model has a tensor 'weight_mask' already: "):
        exports.torch_prune(Ticket({"weight": torch.eye(2) > 0}, point, {}))


# What cannot be exported -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state_dict", "torch_prune"])
def test_a_shared_weight_that_would_come_back_to_life_is_refused(name):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    ticket = Ticket({"0.weight": torch.eye(3) > 0}, model.state_dict(), {})
    make = getattr(exports, name)
    with pytest.raises(TicketError, match=r"^'1\.weight' has no mask and equals '0\.weight', which has one: "):
        make(ticket)
    # With masks of their own, or where nothing comes back, both are what the ticket says.
    make(Ticket({"0.weight": torch.eye(3) > 0, "1.weight": torch.eye(3) > 0}, model.state_dict(), {}))
    make(Ticket({"0.weight": torch.ones(3, 3) > 0}, model.state_dict(), {}))
    zeros = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    make(Ticket({"0.weight": torch.eye(3) > 0}, zeros, {}))
    nan = {name: torch.full_like(value, float("nan")) for name, value in model.state_dict().items()}
    with pytest.raises(TicketError, match="would bring pruned weights back"):
        make(Ticket({"0.weight": torch.eye(3) > 0}, nan, {}))


@pytest.mark.parametrize("name", entries("tombola.exports"))
def test_a_ticket_that_is_not_of_one_piece_is_refused(name):
    with pytest.raises(TicketError, match="the mask names 'w', which is not in the rewind point"):
        getattr(exports, name)(Ticket({"w": torch.ones(2) > 0}, {"v": torch.ones(2)}, {}))


def test_a_damaged_ticket_or_rewind_point_is_not_exported(file, capsys):
    points = list(file.parent.glob("rewind_points/*"))
    for path in points or [file]:
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert "was altered or damaged" in refused(capsys, file, "--to", "state_dict")
    assert not list(file.parent.glob("*.pt"))


# Files and the command line --------------------------------------------------------------------------------------


def test_the_same_ticket_gives_the_same_bytes_whatever_the_file_is_called(tmp_path):
    path, other = tmp_path / "t.safetensors", tmp_path / "new" / "other.name"
    ticket_of(network()).save(path)
    code = (
        "import sys; from tombola.cli import main\n"
        f"for name in {entries('tombola.exports')}: main([*sys.argv[1:], '--to', name, '--out', f'new/{{name}}.x'])"
    )
    command = [sys.executable, "-c", code, "ticket", "export", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"new/{name}.x" for name in entries("tombola.exports")]
    for name in entries("tombola.exports"):
        assert export(path, name, other, force=True).read_bytes() == (tmp_path / "new" / f"{name}.x").read_bytes()


@pytest.mark.parametrize("name", entries("tombola.exports"))
def test_the_same_ticket_gives_the_same_bytes_in_both_formats(tmp_path, name):
    ticket = ticket_of(network())
    ticket.save(tmp_path / "one.safetensors")
    ticket.save(tmp_path / "two.safetensors", tmp_path / "rewind_points")
    one, two = (export(tmp_path / f"{which}.safetensors", name).read_bytes() for which in ("one", "two"))
    assert one == two


def test_an_existing_file_is_refused_and_replaced_by_force(file, capsys):
    there = file.with_name("round-003.state_dict.pt")
    there.write_bytes(b"mine")
    said = refused(capsys, file, "--to", "state_dict")
    assert said == f"tombola: '{there}' is there already; --force replaces it"
    assert there.read_bytes() == b"mine"
    assert main(["ticket", "export", str(file), "--to", "state_dict", "--force"]) == 0
    assert capsys.readouterr().out == f"{there}\n"
    assert torch.load(there, weights_only=True).keys() == Ticket.load(file).rewind_point.keys()
    assert not [name for name in os.listdir(file.parent) if name.startswith(".")]  # noqa: PTH208


def test_a_folder_or_a_link_is_no_free_name(file, tmp_path, capsys):
    assert refused(capsys, file, "--out", tmp_path).endswith("is a folder; name a file")
    assert refused(capsys, file, "--out", tmp_path, "--force").endswith("is a folder; name a file")
    (tmp_path / "link").symlink_to("nowhere")
    assert "is there already" in refused(capsys, file, "--out", tmp_path / "link")


def test_a_file_that_cannot_be_written_is_told_in_one_line(file, tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in entries("tombola.exports"):
        assert "cannot write" in refused(capsys, file, "--to", name, "--out", tmp_path / "file" / "x")
    with pytest.raises(DiskError):
        export(file, "state_dict", tmp_path / "file" / "x")


def test_without_to_a_ticket_is_made_and_a_name_without_ending_gets_one(file, capsys):
    bare = file.rename(file.with_name("best.of.all"))
    assert main(["ticket", "export", str(bare)]) == 0
    assert capsys.readouterr().out == f"{bare.with_name('best.of.all.ticket.safetensors')}\n"


def test_an_export_that_is_not_there_gets_did_you_mean(file, tmp_path, capsys):
    said = refused(capsys, tmp_path / "nothing", "--to", "state_dic")
    assert said.startswith("tombola: no 'state_dic' in tombola.exports; it has: state_dict, ticket, torch_prune.")
    assert said.endswith("Did you mean 'state_dict'?")
    assert "unrecognized arguments" in refused(capsys, file, "--too", "ticket")
    assert "nothing cannot be read" in refused(capsys, tmp_path / "nothing")


def test_the_help_names_every_export(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["ticket", "export", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in entries("tombola.exports"))


def test_a_users_own_export_gives_a_ticket_or_a_state(file, tmp_path, monkeypatch):
    (tmp_path / "my_exports.py").write_text(
        "from types import MappingProxyType\n"
        "def biases(ticket):\n"
        "    return MappingProxyType({n: v for n, v in ticket.rewind_point.items() if n.endswith('bias')})\n"
        "def count(ticket):\n    return 3\n"
        "def lost(ticket):\n    return [][0]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        written = export(file, "my_exports:biases")
        assert written.name == "round-003.biases.pt"
        assert list(torch.load(written, weights_only=True)) == ["1.bias", "4.bias", "5.inner.bias"]
        with pytest.raises(ConfigError, match=r"'my_exports:lost' failed: IndexError: list index out of range$"):
            export(file, "my_exports:lost")
        with pytest.raises(ConfigError, match="the export 'my_exports:count' gave a int; it gives a Ticket or a state"):
            export(file, "my_exports:count")
    finally:
        sys.modules.pop("my_exports", None)


def test_ticket_commands_but_export_import_no_torch(file):
    code = (
        "import sys\nfrom tombola.cli import main\n"
        "code = main(sys.argv[1:])\nsys.exit(7 if {'torch', 'safetensors', 'numpy'} & set(sys.modules) else code)"
    )
    for arguments in (["info", file], ["info", "--json", file], ["verify", "--json", file, file]):
        command = [sys.executable, "-c", code, "ticket", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        if "--json" in arguments:
            json.loads(done.stdout)
