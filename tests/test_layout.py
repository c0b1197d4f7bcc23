"""The folder of a run: what people find at its top, and folders of before it was laid out so."""

import json
import shutil
from pathlib import Path

import pytest
from tests.layouts import as_before, kept_of_rounds
from tests.resealing import copied
from tests.test_experiment import recipe, timeless

import tombola
from tombola.commands.cli import main
from tombola.experiments.experiment import report, run
from tombola.exports.writing import export
from tombola.folder import listing
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.records.choosing import named_run, run_above, run_folder, tickets_of_run
from tombola.records.layout import Layout, ticket_name
from tombola.tickets import Ticket

FINDINGS = Path(__file__).parents[1] / "docs" / "findings"
ARMS = {
    "lth": {"method": "lth", "rate": 0.2},
    "rewind_points": {
        "method": "random_ticket",
        "source": "lth",
    },  # as the folder beside the arms is
}


def small(**changes):
    quick = {"optimizer": "sgd", "lr": 0.05, "epochs": 1, "batch_size": 256}
    same = {"arms": ARMS, "replicates": 1, "until": {"rounds": 2}, "training": quick}
    return recipe(**(same | {"model": {"name": "mlp", "hidden": [12]}} | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(small(), runs=tmp_path_factory.mktemp("layout"), workers=1)


@pytest.fixture
def older(whole, tmp_path):
    """The run, in a folder of before."""
    return as_before(copied(whole.folder, tmp_path))


@pytest.mark.parametrize(
    ("density", "told"),
    [
        (1.0, "1.00"),
        (0.9999, "1.00"),
        (0.8, "0.800"),
        (0.5120001, "0.512"),
        (0.0512, "0.0512"),
        (1 / 266200, "0.00000376"),
        (0.0, "0.00"),
    ],
)
def test_the_name_of_a_ticket_has_its_density_to_three_digits(density, told):
    assert ticket_name(3, density) == f"round-003-density-{told}.safetensors"


def test_at_the_top_of_a_run_is_what_people_open(whole):
    there = {path.name for path in whole.folder.iterdir()}
    pages = {"report.html", "results.csv", "table.tex", "summary.md"}
    assert there == {*pages, "recipe.yaml", "tickets", "machine"}  # and figures, see test_cli.py


def test_the_name_of_every_ticket_tells_its_round_and_its_density(whole):
    for record in whole.records:
        if not record["round"]:
            continue
        path = Run(whole.folder).ticket_path(record["arm"], 0, record["round"])
        assert path.name == ticket_name(record["round"], record["density"])
        assert path.is_file()
        assert Ticket.load(path).mask_digest == record["mask_digest"]


def test_the_folder_of_the_tickets_can_be_copied_by_itself(whole, tmp_path):
    shutil.copytree(whole.folder / "tickets", tmp_path / "mine")
    paths = [*tmp_path.glob("mine/*/replicate-0/*.safetensors")]
    assert len(paths) == 4
    assert all(Ticket.load(path).rewind_point for path in paths)


def test_a_run_is_told_by_its_folder_and_by_its_tickets_in_both_layouts(whole, older):
    for folder in (whole.folder, older):
        files = tickets_of_run(folder)
        assert len(files) == 4
        assert run_above(files[0]) == folder
        assert [line.folder for line in listing.runs(folder.parent)] == [folder.name]


def test_an_export_beside_a_ticket_is_not_taken_for_one(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    made = Run(folder)
    known, path = tickets_of_run(folder), made.ticket_path("lth", 0, 1)
    assert export(path, "ticket").name == f"{path.stem}.ticket.safetensors"
    export(path, "state_dict")
    assert tickets_of_run(folder) == known
    assert made.ticket_path("lth", 0, 1) == path


def test_a_folder_of_before_reads_as_todays_does(whole, older):
    before, now = Run(older), Run(whole.folder)
    assert before.layout.older
    assert before.notes == []
    assert before.records.all() == now.records.all()
    assert kept_of_rounds(older) == kept_of_rounds(whole.folder)
    for read in (Run.environments, Run.definitions, Run.latency, Run.states, Run.similarities):
        assert read(before) == read(now)
    assert before.best().test == now.best().test
    told, again = report(before), report(now)
    assert (told.complete, told.notes) == (True, [])
    assert told.records == again.records
    for name in ("results.csv", "table.tex", "summary.md"):
        assert (older / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_folder_of_before_is_gone_on_with_as_it_is(whole, older):
    arms = ARMS | {"shuffled": {"method": "shuffled", "source": "lth"}}
    done = run(small(arms=arms), runs=older.parent, workers=1)
    assert done.complete
    assert not (older / "machine").exists()
    names = {path.name for path in older.glob("tickets/shuffled/replicate-0/*")}
    assert names == {"round-001.safetensors", "round-002.safetensors"}
    old = [record for record in timeless(done.records) if record["arm"] in ARMS]
    assert [r["mask_digest"] for r in old] == [r["mask_digest"] for r in whole.records]


def test_a_folder_of_before_packs_to_what_todays_packs_to(whole, older, tmp_path):
    one, other = pack(older, tmp_path / "one"), pack(whole.folder, tmp_path / "other")
    assert not one.layout.older
    files = {path.relative_to(other.path) for path in other.path.rglob("*") if path.is_file()}
    for name in files:
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()


def test_a_file_keeps_its_digest_whichever_layout_its_folder_has(whole, older):
    for name in ("run.json", "records.jsonl", "arms.json", "predictions/labels.npy"):
        assert (older / name).read_bytes() == (whole.folder / "machine" / name).read_bytes()


def test_runs_that_were_committed_before_are_read_and_reported(tmp_path):
    folder = copied(FINDINGS / "mnist-lenet5", tmp_path)
    made = Run(folder)
    assert made.layout == Layout(folder, older=True)
    assert made.packed
    outcome = report(made)
    assert outcome.complete
    lacks = "have no costs, training_digest, layers, inference_flops, curve, distance, cut_seconds"
    (note,) = [note for note in outcome.notes if "older version" in note]
    assert (
        note == f"the records are of an older version and {lacks}: what rests on these is left out"
    )
    for page in ((folder / "report.html").read_text(encoding="utf-8"), made._repr_html_()):
        assert note in page
    assert "<Run: " in repr(made)
    assert (folder / "results.csv").read_text().count("\n") == len(made.records) + 1


def test_a_transfer_has_its_files_apart_too(whole, tmp_path):
    ticket = Run(whole.folder).ticket_path("lth", 0, 1)
    options = ["--data", "digits", "--runs", str(tmp_path), "--workers", "1", "--quiet"]
    assert main(["transfer", str(ticket), *options]) == 0
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"machine", "summary.md", "transfer.html"}
    before = (folder / "machine" / "records.jsonl").read_bytes()
    for path in (folder / "machine").iterdir():  # as it was laid out before
        path.rename(folder / path.name)
    (folder / "machine").rmdir()
    assert main(["transfer", str(ticket), *options]) == 0
    assert (folder / "records.jsonl").read_bytes() == before
    assert not (folder / "machine").exists()


def test_what_looks_like_no_run_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "records.jsonl").write_text(json.dumps({"arm": "lth"}) + "\n")
    assert main(["report", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "is no run folder: it has no run.json" in told


def test_the_public_run_finds_tickets_by_round(whole):
    assert tombola.Run(whole.folder).mask("lth", 0, 2).keys()


def test_a_run_is_found_by_its_name_or_by_how_it_begins(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = copied(whole.folder, tmp_path / "runs")
    for name in (folder.name, folder.name[:6], "t"):
        assert named_run(Path(name)) == Path("runs", folder.name)
    assert main(["ticket", "verify", "tiny"]) == 0
    assert capsys.readouterr().out.count("verified") == 4
    other = copied(whole.folder, tmp_path / "other")
    other.rename(tmp_path / "runs" / "tiny-other")
    assert main(["report", "tiny"]) == 2
    told = capsys.readouterr().err
    assert told == f"tombola: several runs in 'runs' begin with 'tiny': {folder.name}, tiny-other\n"
    assert main(["report", "tiny-o"]) == 0
    capsys.readouterr()
    assert main(["report", "tiny-x"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tombola: 'tiny-x' is no run folder, and no run in 'runs' begins so")
    assert told.count("\n") == 1


def test_a_file_is_never_taken_for_the_beginning_of_a_name(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied(whole.folder, tmp_path / "runs")
    (tmp_path / "tiny").write_text("mine")
    assert run_folder(Path("tiny")) is None
