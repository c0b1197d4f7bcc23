"""Exports: what other programs load is the ticket's network, bit for bit where that can be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.layers import SecondVersion
from tests.processes import COMMAND, run_without
from torch import Tensor, nn
from torch.nn.utils import prune

from tombola import exports, ticket_format
from tombola.commands.cli import main, parser
from tombola.exports.card import card
from tombola.exports.reading import read_elsewhere
from tombola.exports.writing import check_target, export
from tombola.ground.catalogue import entries
from tombola.ground.errors import ConfigError, DiskError, TicketError
from tombola.masks.masks import ones
from tombola.models import lenet5
from tombola.tickets import Ticket


class Twins(nn.Module):
    """A module with two pruned parameters, one that is not, and a buffer, between modules of
    its own.
    """

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
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 4),
        Twins(),
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
    ticket_of(network()).save(
        path, path.parent / "rewind_points" if request.param == "referring" else None
    )
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


# Ticket
# --------------------------------------------------------------------------------------------------


def test_an_exported_ticket_is_one_file_of_format_1_with_the_bytes_of_one_saved_by_itself(
    file, tmp_path
):
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


def test_an_exported_ticket_shares_nothing_with_the_first(case):
    _, ticket, _ = case
    copied = exports.ticket(ticket)
    before = (ticket.mask_digest, ticket.rewind_digest)
    for values in (copied.mask, copied.rewind_point):
        for value in values.values():
            value.zero_()
    assert (ticket.mask_digest, ticket.rewind_digest) == before


# State dict
# --------------------------------------------------------------------------------------------------


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
    state = exports.state_dict(
        Ticket({"w": torch.tensor([False, False, False, True, True])}, point, {})
    )
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


# Torch's pruning
# -------------------------------------------------------------------------------------------------


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


def test_a_model_prepared_by_torchs_pruning_loads_the_file_and_computes_the_tickets_network(
    case, tmp_path
):
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
    state = exports.torch_prune(
        Ticket({"w": torch.tensor([False, False, False, True, True])}, point, {})
    )
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
    with pytest.raises(
        TicketError, match=r"^the ticket's model has a tensor 'weight_mask' already: "
    ):
        exports.torch_prune(Ticket({"weight": torch.eye(2) > 0}, point, {}))


# Architectures
# --------------------------------------------------------------------------------------------------


class Clones(nn.Module):
    """Layers that begin as copies of one, as in a transformer of torch, or as a teacher and its
    student.
    """

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(8, 8)
        self.student = nn.Linear(8, 8)
        self.student.load_state_dict(self.teacher.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.teacher(x) - self.student(x).relu()


class Tied(nn.Module):
    """An embedding whose weight is the output layer's, and two more layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight, self.two.weight = self.embed.weight, self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.embed(x.argmax(-1))).relu()))


class Recurrent(nn.Module):
    """Two recurrent networks, whose weights torch reads from one flat memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(8, 8, 2, batch_first=True), nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.lstm(x)[0])[0]


class Attention(nn.Module):
    """Attention with keys and values of other widths, whose projections are three parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x, x[..., :6], x[..., :4])[0]


class Read(nn.Module):
    """A module that reads the weight of a layer without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.read = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.used(x), self.read.weight)


def encoder() -> nn.Module:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2
    )


def normed() -> nn.Module:
    kinds = nn.utils.parametrizations
    return nn.Sequential(kinds.weight_norm(nn.Linear(8, 8)), kinds.orthogonal(nn.Linear(8, 8)))


# Each with the masked weights; of attention all but what it reads itself.
ARCHITECTURES = {
    "clones": (Clones, ["student.weight"]),
    "clones of an encoder layer": (encoder, ["layers.0.linear1.weight", "layers.1.linear2.weight"]),
    "attention's projection": (encoder, ["layers.0.self_attn.in_proj_weight"]),
    "attention of three widths": (Attention, ["mix.q_proj_weight", "mix.v_proj_weight"]),
    "tied": (Tied, ["embed.weight", "one.weight"]),
    "tied, by the other name": (Tied, ["head.weight", "two.weight"]),
    "recurrent": (Recurrent, ["lstm.weight_hh_l0", "lstm.weight_ih_l1", "gru.weight_ih_l0"]),
    "parametrised": (
        normed,
        ["0.parametrizations.weight.original1", "1.parametrizations.weight.original"],
    ),
    "versioned": (lambda: nn.Sequential(SecondVersion(8, 8), nn.BatchNorm1d(5)), ["0.weight"]),
    "read elsewhere": (Read, ["used.weight"]),
    "half": (
        lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).bfloat16(),
        ["0.weight"],
    ),
}


def ticket_for(model: nn.Module, names: list[str]) -> Ticket:
    generator = torch.Generator().manual_seed(1)
    point = model.state_dict()
    return Ticket(
        {name: torch.rand(point[name].shape, generator=generator) < 0.5 for name in names},
        point,
        {},
    )


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_export_computes_in_plain_torch_what_the_ticket_computes(
    architecture, through_a_file, tmp_path
):
    make, names = ARCHITECTURES[architecture]
    torch.manual_seed(4)
    ticket = ticket_for(make(), names)
    if through_a_file:
        ticket.save(tmp_path / "t.safetensors")
        ticket = Ticket.load(tmp_path / "t.safetensors")
    applied, plain, pruned = make(), make(), make()  # each drawn anew
    ticket.apply(applied)
    for name in ("state_dict", "torch_prune"):
        torch.save(getattr(exports, name)(ticket), tmp_path / f"{name}.pt")
    plain.load_state_dict(torch.load(tmp_path / "state_dict.pt", weights_only=True))
    state = torch.load(tmp_path / "torch_prune.pt", weights_only=True)
    for name in state:
        if name.endswith("_mask"):
            prune.identity(*parameter_of(pruned, name.removesuffix("_mask")))
    pruned.load_state_dict(state)
    x = torch.randn(2, 5, 8).to(next(applied.parameters()).dtype)
    for training in (True, False):
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                wanted, *others = (model.train(training)(x) for model in (applied, plain, pruned))
            assert torch.equal(others[0], wanted), (training, gradients)
            torch.testing.assert_close(others[1], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (encoder, "layers.1.self_attn.out_proj.weight"),
        (Attention, "mix.out_proj.weight"),
        (lambda: nn.MultiheadAttention(8, 2), "out_proj.weight"),
    ],
)
def test_a_pruned_weight_that_torchs_pruning_would_not_mask_is_refused_by_name(make, name):
    model = make()
    with pytest.raises(
        TicketError, match=rf"^'{name}' is read without its layer's forward, where torch's pruning"
    ):
        exports.torch_prune(ticket_for(model, [name]))
    exports.state_dict(ticket_for(model, [name]))
    # nothing is pruned there
    exports.torch_prune(Ticket({name: torch.ones(8, 8) > 0}, model.state_dict(), {}))


def test_a_model_says_which_weights_it_reads_without_their_layers_forward():
    model = nn.Sequential(nn.Flatten(1, 2), Read(), nn.Linear(8, 2))
    mask = {name: torch.eye(8) > 0 for name in ("1.used.weight", "1.read.weight")}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()

    def loss(network):
        return network(torch.ones(2, 1, 1, 8)).square().sum()

    assert read_elsewhere(model, mask, loss) == ["1.read.weight"]
    assert equal(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in model.parameters())
    ticket = Ticket(mask, model.state_dict(), {"read_elsewhere": ["1.read.weight"]})
    with pytest.raises(TicketError, match=r"'1\.read\.weight' is read without its layer's forward"):
        exports.torch_prune(ticket)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("multi_label", "The model is made by the task `multi_label` of tombola: put it in"),
        ("mine:task", "The model is made by the task `mine:task`, a user's own code: put it in"),
    ],
)
def test_the_page_of_another_tasks_ticket_does_not_say_what_outputs_mean(task, said):
    inputs = {
        "shape": [1, 8, 8], "dtype": "uint8", "mean": [0.0], "std": [1.0], "classes": ["cat", "dog"]
    }  # fmt: skip
    model = lenet5(2)
    origin = {"model": {"name": "lenet5"}, "inputs": inputs}
    pages = []
    for about in (origin, origin | {"task": task}):
        ticket = Ticket(ones(model), model.state_dict(), about)
        pages.append(card(ticket, "state_dict", Path("net.pt")))
    assert "argmax" in pages[0]
    assert "argmax" not in pages[1]
    assert "model = ..." in pages[1]
    assert said in pages[1]


# What cannot be exported
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state_dict", "torch_prune"])
def test_where_nobody_can_tell_whether_a_weight_is_shared_it_is_refused(name):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    # the copies share nothing any more
    point = {name: value.clone() for name, value in model.state_dict().items()}
    ticket = Ticket({"0.weight": torch.eye(3) > 0}, point, {})
    make = getattr(exports, name)
    with pytest.raises(
        TicketError, match=r"^'1\.weight' has no mask and equals '0\.weight', which has one, and "
    ):
        make(ticket)
    # With masks of their own, or where nothing comes back, both are what the ticket says.
    make(Ticket({"0.weight": torch.eye(3) > 0, "1.weight": torch.eye(3) > 0}, point, {}))
    make(Ticket({"0.weight": torch.ones(3, 3) > 0}, point, {}))
    zeros = {name: torch.zeros_like(value) for name, value in point.items()}
    make(Ticket({"0.weight": torch.eye(3) > 0}, zeros, {}))
    nan = {name: torch.full_like(value, float("nan")) for name, value in point.items()}
    with pytest.raises(TicketError, match="might bring pruned weights back"):
        make(Ticket({"0.weight": torch.eye(3) > 0}, nan, {}))


def test_a_ticket_that_names_other_tensors_as_shared_is_refused():
    point = {"a": torch.ones(2), "b": torch.ones(3)}
    for said in ({"b": "a"}, {"c": "a"}, {"a": 3}, ["a"]):
        with pytest.raises(
            TicketError, match="names tensors as shared that its rewind point has not, or not alike"
        ):
            exports.state_dict(Ticket({"a": torch.ones(2) > 0}, point, {"shared": said}))


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


# Files and the command line
# --------------------------------------------------------------------------------------


def test_the_same_ticket_gives_the_same_bytes_whatever_the_file_is_called(tmp_path):
    path, other = tmp_path / "t.safetensors", tmp_path / "new" / "other.name"
    ticket_of(network()).save(path)
    code = (
        "import sys; from tombola.commands.cli import main\nfor name in "
        f"{entries('tombola.exports')}: main([*sys.argv[1:], '--to', name, '--out', "
        f"f'new/{{name}}.x'])"
    )
    command = [sys.executable, "-c", code, "ticket", "export", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"new/{name}.x" for name in entries("tombola.exports")]
    for name in entries("tombola.exports"):
        assert (
            export(path, name, other, force=True).read_bytes()
            == (tmp_path / "new" / f"{name}.x").read_bytes()
        )


@pytest.mark.parametrize("name", entries("tombola.exports"))
def test_the_same_ticket_gives_the_same_bytes_in_both_formats(tmp_path, name):
    ticket = ticket_of(network())
    ticket.save(tmp_path / "one.safetensors")
    ticket.save(tmp_path / "two.safetensors", tmp_path / "rewind_points")
    one, two = (
        export(tmp_path / f"{which}.safetensors", name).read_bytes() for which in ("one", "two")
    )
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


@pytest.mark.parametrize("name", entries("tombola.exports"))
def test_an_export_never_replaces_what_it_is_made_of(file, tmp_path, capsys, name):
    points = list(file.parent.glob("rewind_points/*"))
    (tmp_path / "links").mkdir()
    for source in [file, *points]:
        before = source.read_bytes()
        soft, hard = (
            tmp_path / "links" / f"soft-{source.name}",
            tmp_path / "links" / f"hard-{source.name}",
        )
        soft.symlink_to(source)
        os.link(source, hard)
        roundabout = source.parent / ".." / source.parent.name / source.name
        for target in (source, soft, hard, roundabout, tmp_path / "through" / source.name):
            (tmp_path / "through").unlink(missing_ok=True)
            (tmp_path / "through").symlink_to(source.parent)
            for force in ([], ["--force"]):
                said = refused(capsys, file, "--to", name, "--out", target, *force)
                assert "itself, which an export never replaces; name another file" in said
        assert source.read_bytes() == before
        assert soft.is_symlink()


def test_a_source_in_capitals_is_the_source_where_the_file_system_says_so(file, monkeypatch):
    other = file.with_name(file.name.upper())
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(
        Path, "samefile", lambda one, two: {one.name, two.name} == {other.name, file.name}
    )
    with pytest.raises(TicketError, match="itself, which an export never replaces"):
        check_target(other, [file], force=True)


@pytest.mark.parametrize(
    "out",
    [
        "x" * 300,
        "x" * 300 + "/y",
        "a\0b",
        "\udcff\0",
        "no\nwhere\0",
        "/proc/nothing/x",
        "\n" * 200 + "x" * 200,
    ],
)
@pytest.mark.parametrize("name", entries("tombola.exports"))
def test_a_path_that_no_file_can_have_is_told_in_one_line(
    file, tmp_path, monkeypatch, capsys, name, out
):
    monkeypatch.chdir(tmp_path)
    for force in ([], ["--force"]):
        said = refused(capsys, file, "--to", name, f"--out={out}", *force)
        assert said.startswith("tombola: ")
        assert said.isprintable()


def test_a_device_is_no_file(file, capsys):
    assert refused(capsys, file, "--out", "/dev/null", "--force").endswith(
        "'/dev/null' is a device; name a file"
    )


def test_a_file_that_cannot_be_written_is_told_in_one_line(file, tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in entries("tombola.exports"):
        assert "cannot write" in refused(
            capsys, file, "--to", name, "--out", tmp_path / "file" / "x"
        )
    with pytest.raises(DiskError):
        export(file, "state_dict", tmp_path / "file" / "x")


def test_without_to_a_ticket_is_made_and_a_name_without_ending_gets_one(file, capsys):
    bare = file.rename(file.with_name("best.of.all"))
    assert main(["ticket", "export", str(bare)]) == 0
    assert capsys.readouterr().out == f"{bare.with_name('best.of.all.ticket.safetensors')}\n"


def test_an_export_that_is_not_there_gets_did_you_mean(file, tmp_path, capsys):
    said = refused(capsys, tmp_path / "nothing", "--to", "state_dic")
    assert said.startswith(
        "tombola: no 'state_dic' in tombola.exports; it has: state_dict, ticket, torch_prune."
    )
    assert said.endswith("Did you mean 'state_dict'?")
    assert "does not take '--too'. Did you mean '--to'?" in refused(capsys, file, "--too", "ticket")
    assert "nothing cannot be read" in refused(capsys, tmp_path / "nothing")


def test_the_help_names_every_export(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["ticket", "export", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in entries("tombola.exports"))


def test_a_users_own_export_gives_a_ticket_or_a_state(file, tmp_path, monkeypatch):
    (tmp_path / "my_exports.py").write_text(
        "from types import MappingProxyType\ndef biases(ticket):\n    return MappingProxyType({n: "
        "v for n, v in ticket.rewind_point.items() if n.endswith('bias')})\ndef count(ticket):\n   "
        " return 3\ndef lost(ticket):\n    return [][0]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        written = export(file, "my_exports:biases")
        assert written.name == "round-003.biases.pt"
        assert list(torch.load(written, weights_only=True)) == ["1.bias", "4.bias", "5.inner.bias"]
        with pytest.raises(
            ConfigError,
            match=r"'my_exports:lost' failed: IndexError: list index out of range \(my_exp",
        ):
            export(file, "my_exports:lost")
        with pytest.raises(
            ConfigError,
            match="the export 'my_exports:count' gave a int; it gives a Ticket or a state",
        ):
            export(file, "my_exports:count")
    finally:
        sys.modules.pop("my_exports", None)


def test_ticket_commands_but_export_import_no_torch(file):
    for arguments in (["info", file], ["info", "--json", file], ["verify", "--json", file, file]):
        done = run_without(["torch", "safetensors", "numpy"], COMMAND, "ticket", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        if "--json" in arguments:
            json.loads(done.stdout)
