"""What values look like in a notebook, and the notebook of the examples in a kernel of its own."""

import json
import pickle
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from tests.test_layout import small

import tombola
from tombola.data.partitions import WHOLE
from tombola.experiments import progress
from tombola.experiments.experiment import run
from tombola.folder.runs import Run
from tombola.masks.masks import ShownMask
from tombola.records.results import Result
from tombola.search.rounds import Round
from tombola.tickets import Ticket

ROOT = Path(__file__).parents[1]
MASK = {"w": torch.tensor([True, True, False, False]), "v": torch.tensor([True, True])}
START = {"w": torch.ones(4), "v": torch.ones(2)}
BAD = "<script>bad()</script>\n&"


def ticket(**origin):
    return Ticket(MASK, START, origin)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    arms = {
        "lth": {"method": "lth", "rate": 0.2},
        "random": {"method": "random_ticket", "source": "lth"},
    }
    made = small(
        arms=arms, replicates=3, until={"rounds": 1}, verdict={"margin": 0.02, "at": [0.8]}
    )
    display = progress.Display(quiet=True)
    return run(made, runs=tmp_path_factory.mktemp("notebook"), workers=1, display=display)


def test_values_are_printed_in_one_line(outcome):
    made = Run(outcome.folder)
    job = tombola.Job(START, MASK, tombola.Training(epochs=3), seed=7)
    printed = {
        "Ticket": repr(ticket(arm="lth", replicate=1, round=3)),
        "Job": repr(job),
        "Round": repr(Round.of(3, job)),
        "mask": repr(ShownMask(MASK)),
        "Run": repr(made),
        "Outcome": repr(outcome),
        "Result": repr(made.records.results()[1]),
        "Comparison": repr(tombola.compare(made.records, "lth", "dense", at=0.8, margin=0.02)),
        "Verdict": repr(tombola.verdict(made.records, "lth", at=0.8, margin=0.02)),
    }
    assert printed["Ticket"] == "<Ticket: lth, replicate 1, round 3; 4 of 6 weights kept (66.67 %)>"
    assert printed["mask"] == "<mask: 4 of 6 weights kept (66.67 %); 2 tensors>"
    assert printed["Round"] == "<Round: round 3; 4 of 6 weights kept (66.67 %); 0 candidates>"
    assert "sgd, 3 epochs; all training data; seed 7>" in printed["Job"]
    assert job.part == WHOLE
    assert printed["Run"] == f"<Run: {outcome.folder}; 2 arms x 3 replicates, 12 results; complete>"
    assert printed["Outcome"] == f"<Outcome: {outcome.folder}; 12 results; complete>"
    for kind, text in printed.items():
        assert text.startswith(f"<{kind}: "), kind
        assert text.isprintable()
        assert len(text) <= 300


def test_data_and_what_a_training_gave_are_printed_in_one_line_too(outcome):
    images, labels = torch.rand(9, 1, 4, 4), torch.arange(9) % 3
    data = tombola.from_tensors(images, labels, images[:3], labels[:3])
    assert repr(data) == "<Dataset: 9 training, 3 test examples; 1 x 4 x 4; 3 classes>"
    splits = tombola.split(data, valid=3)
    assert repr(splits).startswith("<Splits: 6 training, 3 validation, 3 test examples; 1 x 4 x 4")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    task = tombola.Classification(model, splits, head="1")
    mask = tombola.ones(model, prunable="all")
    job = tombola.Job(task.initial_state(), mask, tombola.Training(epochs=1, batch_size=3), seed=0)
    assert repr(tombola.run_job(job, task)).startswith("<Trained: 2 steps; 6 examples seen; ")
    assert repr(Run(outcome.folder).records) == "<Records: 12 results; lth, random>"


def test_a_result_says_what_it_is_of_and_what_was_measured():
    record = {"arm": "lth", "replicate": 0, "round": 1, "kept": 8, "density": 0.8, "mask_digest": "a",
              "evaluated": True, "samples_seen": 600, "test_accuracy": 0.975, "test_loss": 0.3}  # fmt: skip
    said = repr(Result.of_record(record))
    assert said == "<Result: lth, replicate 0, round 1; density 80 %; test accuracy 0.975>"
    said = repr(Result.of_record(record | {"evaluated": False, "test_accuracy": None}))
    assert said == "<Result: lth, replicate 0, round 1; density 80 %; not evaluated>"


def test_what_applying_a_ticket_gives_is_a_dict_that_is_printed_in_one_line(tmp_path):
    net = torch.nn.Linear(2, 1)
    keep = {"weight": torch.tensor([[True, False]])}
    mask = Ticket(keep, net.state_dict()).apply(net)
    assert repr(mask) == "<mask: 1 of 2 weights kept (50 %); 1 tensor>"
    assert isinstance(mask, dict)
    torch.save(mask, tmp_path / "mask.pt")
    # neither reads a class of tombola's
    for again in (
        torch.load(tmp_path / "mask.pt", weights_only=True),
        pickle.loads(pickle.dumps(mask)),
    ):
        assert "tombola" not in type(again).__module__
        assert torch.equal(again["weight"], keep["weight"])


def test_cells_show_a_run_a_ticket_a_comparison_and_a_verdict(outcome):
    made = Run(outcome.folder)
    compared = tombola.compare(made.records, "lth", "random", at=0.8, margin=0.02)
    judged = tombola.verdict(made.records, "lth", at=0.8, margin=0.02, controls="random")
    assert "<strong>tiny-" in made._repr_html_()
    assert "2 arms x 3 replicates, 12 results" in made._repr_html_()
    assert "test accuracy of lth minus random at 80 % density" in compared._repr_html_()
    assert f"{compared.verdict}</td>" in compared._repr_html_()
    assert f"lth at 80 % density: {judged.word}</strong>" in judged._repr_html_()
    assert judged._repr_html_().count("<tr>") == len(judged.conditions) == 3
    assert "report.html" in outcome._repr_html_() or str(outcome.folder) in outcome._repr_html_()


@pytest.mark.parametrize(
    "origin",
    [
        {"arm": BAD, "round": 3, "model": {"name": BAD}, "data": {"name": BAD}, "prunable": BAD},
        {"arm": 3, "round": BAD, "model": [BAD], "data": BAD},
        {"arm": "x" * 10_000},
        {},
    ],
)
def test_the_origin_of_a_ticket_is_text_whatever_it_says(origin):
    made = ticket(**origin)
    assert "<script" not in made._repr_html_()
    assert made._repr_html_().startswith("<div><strong>Ticket of ")
    assert repr(made).isprintable()
    assert len(repr(made)) < 400


def test_a_mask_that_is_none_is_printed_too():
    assert "a mask that is none" in repr(Ticket({"w": [True]}, {"w": torch.ones(1)}))


def test_a_run_shows_its_progress_as_plain_lines_in_a_notebook(tmp_path, monkeypatch, capsys):
    kernel = types.SimpleNamespace(kernel=object())
    ipython = types.SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    run(small(until={"rounds": 1}), runs=tmp_path, workers=1)
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert "trainings" in lines[0]
    assert lines[1].split("  ")[1] == "replicate 0 · dense network"
    assert sum("dense network" in line for line in lines) == 1  # not once an arm
    assert "replicate 0 · lth · round 1" in told.out
    assert "\x1b" not in told.out
    assert told.err == ""


def test_elsewhere_a_run_shows_its_progress_beside_its_results(tmp_path, capsys):
    run(small(until={"rounds": 1}), runs=tmp_path, workers=1)
    told = capsys.readouterr()
    assert told.out == ""
    assert "replicate 0 · dense network" in told.err


# The notebook of the examples
# --------------------------------------------------------------------------------------------------

NOTEBOOK = ROOT / "examples" / "is_it_true.ipynb"
ANEW = "run: jupyter execute --inplace examples/is_it_true.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after its cells were run, in a kernel, in an empty folder."""
    folder = tmp_path_factory.mktemp("executed")
    path = folder / NOTEBOOK.name
    shutil.copyfile(NOTEBOOK, path)
    command = [sys.executable, "-c", EXECUTE, str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert (folder / "runs").is_dir(), done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(path.read_text(encoding="utf-8"))


# In a process of its own: the library that talks to kernels warns of what is none of ours.
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=200, record_timing=False).execute()
nbformat.write(notebook, sys.argv[1])
"""


def lines(notebook):
    """What each cell with code shows, without numbers, clocks and places, and the lines in one
    order: results come as they are had.
    """
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        text = ""
        for output in cell["outputs"]:
            assert output["output_type"] in ("stream", "execute_result"), output
            assert output.get("name", "stdout") == "stdout", output
            content = output.get("text") or output["data"].get("text/html") or ""
            text += "".join(content) + "\n"
        shown = [
            re.sub(r"density .*|about .*|[-+]?[\d,.]*\d|\S*/\S*", "#", line)
            for line in text.splitlines()
            if line.strip() and not line.startswith("loading")  # what takes long is told
        ]
        found.append(sorted(shown))
    return found


def test_the_notebook_runs_from_top_to_bottom_in_a_kernel(executed):
    cells = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert all(cell["outputs"] for cell in cells)


def test_the_notebook_stands_with_what_its_cells_show(executed):
    committed = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for now, was in zip(lines(executed), lines(committed), strict=True):
        assert now == was, ANEW
