"""The best ticket: chosen without the test split, with the weights that reached what the report
says of it.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from tests.processes import COMMAND, run_without
from torch.nn.utils import prune

import tombola
from tombola import exports
from tombola.commands.cli import main
from tombola.data.loading import load
from tombola.data.splits import split
from tombola.experiments.experiment import run
from tombola.exports.card import card
from tombola.exports.writing import export
from tombola.folder.identity import run_digest
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError, TicketError
from tombola.models import mlp
from tombola.records.choosing import best, best_tickets_of_run, kept, searching, worth_keeping
from tombola.records.storage import Store
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

WHOLE = {
    "name": "small",
    "model": {"name": "mlp", "hidden": [12]},
    "training": {"epochs": 2, "lr": 1.0, "batch_size": 64, "select": "best", "evaluate_every": 5},
    "arms": {
        "dense": {"method": "dense"},
        "lth": {"method": "lth", "rate": 0.4},
        "random": {"method": "random_ticket", "source": "lth"},
    },
    "until": {"rounds": 4},
    "replicates": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of two replicates."""
    return run(parse(WHOLE), runs=tmp_path_factory.mktemp("runs"), workers=1).folder


def accuracy_of(model, folder) -> float:
    """Test a model in plain torch: images as the run's tickets say that they are given."""
    origin = Ticket.load(next(iter(sorted(folder.glob("tickets/*/*/*.safetensors"))))).origin
    mean, std = (torch.tensor(origin["inputs"][key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    test = split(load("digits")).test
    with torch.inference_mode():
        predicted = model.eval()((test.images - mean) / std).argmax(1)
    return int((predicted == test.labels).sum()) / len(test)


def network():
    return mlp(10, image_shape=(1, 8, 8), hidden=[12])


# Which ticket
# --------------------------------------------------------------------------------------------------


def records_of(made, **more):
    known = {"arm": "lth", "replicate": 0, "evaluated": True} | more
    return [
        known | {"round": r, "density": d, "valid_accuracy": v, "test_accuracy": t}
        for r, d, v, t in made
    ]


def test_the_test_split_chooses_nothing():
    records = records_of(
        [(1, 0.8, 0.93, 0.5), (2, 0.64, 0.92, 0.99), (3, 0.512, 0.93, 0.4), (4, 0.4, 0.9, 1.0)]
    )
    assert best(records)["round"] == 3  # of equal ones the sparsest
    assert best(records, at=0.5)["round"] == 4
    assert best(records, at=0.512)["round"] == 3
    turned = [record | {"test_accuracy": 1 - record["test_accuracy"]} for record in records]
    assert [best(turned, at=at)["round"] for at in (1, 0.7, 0.5)] == [
        best(records, at=a)["round"] for a in (1, 0.7, 0.5)
    ]


def test_round_0_and_rounds_that_were_not_evaluated_are_no_tickets():
    records = records_of([(0, 1.0, 0.99, 0.9), (1, 0.8, 0.9, 0.9)])
    records += records_of([(2, 0.6, None, None)], evaluated=False)
    assert best(records)["round"] == 1
    assert best(records, round=0)["round"] == 0
    with pytest.raises(
        InputError, match=r"^the run has no evaluated ticket of density 0\.7, replicate 0$"
    ):
        best(records, at=0.7, replicate=0)


def test_without_validation_data_nothing_is_chosen_but_one_can_be_named():
    records = records_of([(1, 0.8, None, 0.9), (2, 0.6, None, 0.9)])
    with pytest.raises(
        InputError, match=r"no validation accuracy to choose a ticket by .* test split chooses none"
    ):
        best(records)
    assert best(records, round=2)["round"] == 2
    assert best(records, at=0.7)["round"] == 2


def test_controls_and_the_dense_network_are_not_among_what_is_chosen_from():
    definitions = {"dense": {"method": "dense"}, "lth": {"method": "lth"}, "matched": {"match": {"arm": "lth"}},
                   "random": {"method": "random_ticket", "of": "lth"}}  # fmt: skip
    assert searching(definitions) == ["lth", "matched"]
    assert searching(definitions, dense=True) == ["dense", "lth", "matched"]


def test_what_is_kept_has_every_ticket_that_best_can_ask_for_at_the_densities_compared():
    generator = torch.Generator().manual_seed(0)
    at = [0.5, 0.2, 0.1]
    for _ in range(50):
        valid = (torch.rand(14, generator=generator) * 20).round() / 20
        records = records_of([(r, 0.8**r, float(valid[r]), 0.5) for r in range(14)])
        # As a run goes on: what was let go once is never asked for later.
        left = set(range(14))
        for now in range(1, 15):
            there = {record["round"] for record in worth_keeping(records[:now], at)}
            left -= set(range(1, now)) - there
        assert {best(records)["round"], *(best(records, at=a)["round"] for a in at), 13} <= left


# Run.best
# --------------------------------------------------------------------------------------------------


def test_the_best_ticket_has_the_weights_that_reached_what_the_report_says(folder):
    found = Run(folder).best()
    tickets = [r for r in Run(folder).records.all() if r["arm"] == "lth" and r["round"]]
    assert found.valid_accuracy == max(record["valid_accuracy"] for record in tickets)
    record = Run(folder).record(found.arm, found.replicate, found.round)
    assert (found.accuracy, found.density) == (record["test_accuracy"], record["density"])
    assert found.path == Run(folder).ticket_path(found.arm, found.replicate, found.round)
    model = network()
    model.load_state_dict(found.state)
    assert accuracy_of(model, folder) == record["test_accuracy"]
    assert 0 < record["test_accuracy"] < 1
    for name, keep in found.mask.items():
        assert not model.state_dict()[name][~keep].any()
        assert int(keep.sum()) == record["kept"]
    other = network()
    mask = found.apply(other)
    assert all(torch.equal(mask[name], found.mask[name]) for name in mask)
    assert torch.equal(other.head.weight, model.head.weight)
    assert repr(found).count("\n") == 0
    assert str(found.path) in repr(found)
    assert tombola.Run(folder).best(arm="lth", at=0.5).density <= 0.5


def test_every_ticket_at_the_densities_compared_and_the_dense_network_can_be_had(folder):
    read = Run(folder)
    for arm in ("lth", "random"):
        for replicate in (0, 1):
            for at in (0.5, 0.2):
                found = read.best(arm, at, replicate=replicate)
                model = network()
                model.load_state_dict(found.state)
                assert (found.arm, found.replicate) == (arm, replicate)
                assert accuracy_of(model, folder) == found.accuracy
    dense = read.best("dense", round=0, replicate=1)
    model = network()
    model.load_state_dict(dense.state)
    assert (
        accuracy_of(model, folder) == dense.accuracy == read.record("dense", 1, 0)["test_accuracy"]
    )
    assert (dense.path, dense.density) == (folder, 1.0)
    assert all(keep.all() for keep in dense.mask.values())


def test_what_was_not_kept_is_told_in_one_line_with_how_to_keep_it(folder, tmp_path):
    read = Run(folder)
    found = read.best()
    moved = found.training.rename(tmp_path / "away")
    try:
        said = (
            rf"^the trained weights of lth, round {found.round} of replicate {found.replicate} "
            r"were not kept \(keep: best\); 'keep: all' in the recipe keeps them: "
        )
        with pytest.raises(ConfigError, match=said):
            read.best()
        found.training.write_bytes(moved.read_bytes()[:100])
        with pytest.raises(InputError):
            read.best()
    finally:
        moved.rename(found.training)
    with pytest.raises(
        ConfigError, match=r"has no arm 'lht'; it has: dense, lth, random\. Did you mean 'lth'\?"
    ):
        read.best("lht")


def test_keep_best_keeps_what_it_says_and_keep_is_in_no_digest(folder):
    recipe = parse(WHOLE)
    assert recipe.keep == "best"
    read = Run(folder)
    there = {path.stem for path in (folder / "machine/trainings").glob("*.training")}
    each = [read.records.of(arm, replicate) for arm in WHOLE["arms"] for replicate in (0, 1)]
    wanted = {r["training_digest"] for own in each for r in worth_keeping(own, recipe.compared_at)}
    assert there == wanted | {own[0]["training_digest"] for own in each}
    for keep in ("all", "last", "none"):
        assert run_digest(parse(WHOLE | {"keep": keep})) == run_digest(recipe)
    own = [r for r in read.records.of("lth", 0) if r["evaluated"]]
    assert [r["round"] for r in kept("last", [own], [])] == [4]
    assert kept("none", [own], []) == []
    assert kept("all", [own], []) == own


# Exports of trained weights, and cards
# -----------------------------------------------------------------------------


def blocks(card: Path) -> list[str]:
    """The lines of Python on a card."""
    return re.findall(r"^```python\n(.*?)^```$", card.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("to", ["state_dict", "torch_prune", "ticket"])
def test_the_lines_of_a_card_give_the_reported_accuracy(folder, tmp_path, monkeypatch, to):
    found = Run(folder).best()
    written = export(
        found.path,
        to,
        tmp_path / f"network.{'safetensors' if to == 'ticket' else 'pt'}",
        trained=True,
    )
    card = written.with_name("network.md")
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    loading, checking = blocks(card)
    exec(loading, known)
    assert accuracy_of(known["model"], folder) == found.accuracy
    exec(checking, known)
    assert known["accuracy"] == found.accuracy
    state = {
        name.removesuffix("_orig"): value for name, value in known["model"].state_dict().items()
    }
    for name, keep in found.mask.items():
        if to == "torch_prune":
            assert torch.equal(state[f"{name}_mask"], keep.float())
            prune.remove(known["model"].fc1, "weight")
        assert not known["model"].state_dict()[name][~keep].any()
    text = card.read_text()
    assert (
        f"test {100 * found.accuracy:.2f} %, valid {100 * found.valid_accuracy:.2f} %: of these "
        "weights" in text
    )
    for said in (
        "trained (best)",
        "uint8 images of 1 x 8 x 8",
        f"{100 * found.density:.2f} % of the prunable",
        "digits",
    ):
        assert said in text


def test_the_card_of_what_is_not_trained_says_so(folder, tmp_path, monkeypatch):
    found = Run(folder).best()
    written = export(found.path, "state_dict", tmp_path / "start.pt")
    text = written.with_name("start.md").read_text()
    assert "the rewind point, **not trained**" in text
    assert f"test {100 * found.accuracy:.2f} %" in text
    assert "**after training it** as its run did" in text
    # A ticket that was tested untrained has an accuracy of its own.
    untrained = {**found.record, "untrained": True}
    text = card(Ticket.load(found.path), "state_dict", written, untrained)
    assert "after training it" not in text
    assert "of these weights **untrained**, with new batch norm statistics" in text
    text = card(found.ticket, "state_dict", written, untrained)
    assert "the ticket's own, **not trained**, as its run tested it" in text
    [loading] = blocks(written.with_name("start.md"))
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec(loading, known)
    assert torch.equal(
        known["model"].head.weight, Ticket.load(found.path).rewind_point["head.weight"]
    )


def test_a_card_is_no_more_replaced_than_an_export(folder, tmp_path):
    path = Run(folder).best().path
    (tmp_path / "net.md").write_text("mine")
    with pytest.raises(TicketError, match=r"net\.md' is there already; --force replaces it"):
        export(path, "state_dict", tmp_path / "net.pt")
    assert not (tmp_path / "net.pt").exists()
    export(path, "state_dict", tmp_path / "net.pt", force=True)
    assert (tmp_path / "net.md").read_text() != "mine"


def test_a_training_is_never_replaced_by_its_export(folder):
    found = Run(folder).best()
    before = found.training.read_bytes()
    for source in (found.training, found.path):
        with pytest.raises(TicketError, match="itself, which an export never replaces"):
            export(found.path, "state_dict", source, trained=True, force=True)
    assert found.training.read_bytes() == before


def test_a_ticket_outside_of_its_run_has_no_trained_weights(folder, tmp_path):
    away = export(Run(folder).best().path, out=tmp_path / "away.safetensors")
    with pytest.raises(
        ConfigError, match="lies in no run that has a record of it; trained weights are in"
    ):
        export(away, "state_dict", trained=True)


def test_a_ticket_of_trained_weights_is_not_trained_as_if_it_were_found_so(
    folder, tmp_path, capsys
):
    trained = export(Run(folder).best().path, out=tmp_path / "t.safetensors", trained=True)
    assert Ticket.load(trained).origin["trained"]["test_accuracy"] == Run(folder).best().accuracy
    assert main(["transfer", str(trained), "--data", "digits", "--runs", str(tmp_path)]) == 2
    assert "holds trained weights and no rewind point" in capsys.readouterr().err
    assert main(["ticket", "info", str(trained)]) == 0
    assert "trained, no rewind point, test accuracy" in capsys.readouterr().out


def test_texts_of_a_strangers_ticket_stay_in_their_place_on_a_card(folder, tmp_path):
    own = Ticket.load(Run(folder).best().path)
    origin = own.origin | {
        "arm": "a|b\n# c",
        "model": {"name": "mlp\n```\n", "options": {"a b": 1, "hidden": "x'); print('"}},
        "data": {"name": "d\n|"},
    }
    Ticket(own.mask, own.rewind_point, origin).save(tmp_path / "t.safetensors")
    text = export(tmp_path / "t.safetensors", "state_dict").with_name("t.state_dict.md").read_text()
    assert text.count("```") == 2
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# t.state_dict.pt",
        "## Load it",
    ]
    assert "model = ..." in text


# The command line
# --------------------------------------------------------------------------------------------------


def printed(capsys, *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_runs_names_the_folder_and_the_best_tickets_of_each_run(folder, capsys):
    [line] = json.loads(printed(capsys, "runs", "--runs", folder.parent, "--json"))
    assert line["path"] == str(folder)
    for arm, told in line["best"].items():
        assert told["density"] <= line["tickets"][arm] + 1e-9
        assert Path(told["path"]).is_file()
        record = Run(folder).record(arm, told["replicate"], told["round"])
        assert (told["test_accuracy"], told["valid_accuracy"]) == (
            record["test_accuracy"],
            record["valid_accuracy"],
        )
        assert told["weights"] is None or Path(told["weights"]).is_file()
    text = printed(capsys, "runs", "--runs", folder.parent).replace("\n", "")
    assert folder.name in text


def test_ticket_commands_take_a_run_folder_or_its_name(folder, capsys, monkeypatch):
    found = Run(folder).best()
    digest = json.loads(printed(capsys, "ticket", "info", "--json", found.path))["digest"]
    assert json.loads(printed(capsys, "ticket", "info", "--json", folder))["digest"] == digest
    assert len(printed(capsys, "ticket", "verify", folder).splitlines()) == 2 * 2 * 4
    (folder.parent / "cwd").mkdir(exist_ok=True)
    monkeypatch.chdir(folder.parent / "cwd")
    if not Path("runs").exists():
        Path("runs").symlink_to(folder.parent)
    assert json.loads(printed(capsys, "ticket", "info", "--json", folder.name))["digest"] == digest
    told = json.loads(
        printed(capsys, "ticket", "export", folder.name, "--trained", "--json", "--out", "net.pt")
    )
    assert told == {"path": "net.pt", "card": "net.md"}
    model = network()
    model.load_state_dict(torch.load("net.pt", weights_only=True))
    assert accuracy_of(model, folder) == found.accuracy
    assert main(["ticket", "export", str(found.path), "--trained", "--out", "net.pt"]) == 2
    assert "net.pt' is there already" in capsys.readouterr().err


def test_a_transfer_of_a_run_takes_every_replicate_of_the_best_rounds(folder):
    paths = best_tickets_of_run(folder)
    index = Run(folder).best("lth").round
    assert paths == [Run(folder).ticket_path("lth", replicate, index) for replicate in (0, 1)]


def test_ticket_info_of_a_run_imports_no_torch_and_says_how_inputs_are_made_and_what_masks_save(
    folder,
):
    done = run_without(["torch", "safetensors", "numpy"], COMMAND, "ticket", "info", folder)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    mean = split(load("digits")).mean.item()
    assert (
        f"inputs 1 x 8 x 8, uint8; the model takes (images - mean) / std, mean {mean:.6g}, std"
        in text
    )
    assert "classes 10: 0-9" in text
    assert re.search(
        r"masks save in theory \d+ % of the FLOPs .* \d+ % of the bytes of the prunable weights; ",
        text,
    )
    assert re.search(
        r"no time by itself, since a batch of 1( of lth, round 4)? took \S+ ms and dense \S+ ms",
        text,
    )


def test_a_ticket_says_exactly_how_its_images_are_given(folder):
    inputs = Ticket.load(Run(folder).best().path).origin["inputs"]
    splits = split(load("digits"))
    assert torch.equal(torch.tensor(inputs["mean"]), splits.mean)
    assert torch.equal(torch.tensor(inputs["std"]), splits.std)
    assert (inputs["shape"], inputs["dtype"], inputs["classes"]) == (
        [1, 8, 8],
        "uint8",
        list(range(10)),
    )


def test_exports_of_a_run_are_what_the_library_gives(folder):
    found = Run(folder).best()
    state = exports.state_dict(found.ticket)
    trained = Store(folder / "machine/trainings").trained(found.record["training_digest"])
    assert all(torch.equal(state[name], value) for name, value in trained.state.items())
    # The state that was tested need not be the last one; here it is another one in some of the
    # trainings.
    kept = [
        Store(folder / "machine/trainings").trained(path.stem)
        for path in (folder / "machine/trainings").glob("*.training")
    ]
    assert any(not torch.equal(one.state["head.weight"], one.final["head.weight"]) for one in kept)
