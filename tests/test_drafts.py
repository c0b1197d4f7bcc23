"""Drafts: recipes that fit a data set and a model, are read and planned as they stand, and
replace nothing.
"""

import re

import pytest
import yaml

from tombola.commands.cli import main
from tombola.commands.drafts import draft
from tombola.evidence.verdicts import LEAST
from tombola.experiments import experiment, reporting
from tombola.experiments.estimate import Estimate
from tombola.experiments.progress import duration
from tombola.ground.errors import ConfigError
from tombola.schema.recipe import read

OWN = """
import torch
from torch import nn

def data():
    labels = torch.arange(300) % 3
    images = torch.linspace(0, 1, 300 * 36).reshape(300, 1, 6, 6)
    return images[:200], labels[:200], images[200:], labels[200:]

def net(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, classes))

def only_a_head(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes))

def without_a_head(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes), nn.Conv1d(1, 1, 1))

def broken(classes):
    raise RuntimeError("there is no net")
"""


FORESEEN = Estimate(100, 2, 2, 2, 90.0, True, 1.0, 0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the user's own functions, in which commands are given."""
    (tmp_path / "drafted.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def own(folder, monkeypatch):
    """The same, where nothing is foreseen: that takes seconds, and is tested once."""
    monkeypatch.setattr("tombola.experiments.experiment.foresee", lambda *_, **__: FORESEEN)
    return folder


SMALL = {"name": "synthetic", "train": 60, "test": 20, "classes": 10}


@pytest.mark.parametrize(
    ("data", "model", "entries"),
    [
        ("digits", "mlp", {"head": None, "by": "classes", "prunable": "no_head"}),
        (
            SMALL | {"image_shape": [1, 16, 16]},
            {"name": "lenet5"},
            {"head": None, "by": "classes", "prunable": "no_head"},
        ),
        (SMALL | {"classes": 3}, "mlp", {"head": None, "by": "examples", "prunable": "no_head"}),
        ("drafted:data", "drafted:net", {"head": "3", "by": "examples", "prunable": "no_head"}),
        ("drafted:data", "drafted:only_a_head", {"head": "1", "by": "examples", "prunable": "all"}),
        pytest.param(
            SMALL | {"image_shape": [3, 32, 32]},
            "torchvision:squeezenet1_1",
            {"head": None, "by": "classes", "prunable": "no_head"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda given: str(given.get("name", "")) if isinstance(given, dict) else given,
)
def test_a_draft_is_read_and_planned_as_it_stands_and_fits(own, data, model, entries):
    made = draft(data, model, workers=1)
    path = own / "made.yaml"
    path.write_text(made.text)
    recipe = read(path)
    arm = recipe.arms["colt-2"]
    assert {"head": recipe.model.head, "by": arm.split_by, "prunable": recipe.prunable} == entries
    assert recipe.replicates >= LEAST
    assert recipe.verdict.margin is not None
    controls = reporting.asked(recipe).controls
    assert (controls["lth"], controls["colt-2"]) == (("random-lth",), ("random-colt-2",))
    experiment.plan(recipe)
    first_look = read(path, scale="small")
    assert (first_look.replicates, first_look.verdict.at) == (1, (0.5,))


def test_the_cost_that_a_draft_tells_is_what_a_run_of_it_would_be_told(folder, monkeypatch):
    monkeypatch.setattr("tombola.experiments.estimate._measure", lambda _: (0.01, 0.001))
    made = draft("drafted:data", "drafted:net", workers=2)
    (folder / "made.yaml").write_text(made.text)
    ahead = experiment.foresee(experiment.plan(read(folder / "made.yaml")), runs=folder, workers=2)
    assert (
        made.cost
        == f"{ahead.counted}, about {duration(ahead.seconds)} with 2 workers on this machine"
    )
    assert f"# Cost: {made.cost}." in made.text


def test_every_arm_of_a_draft_is_explained_above_it(own):
    lines = draft(SMALL, "mlp", workers=1).text.splitlines()
    arms = lines[lines.index("arms:") + 1 :]
    assert arms[0].startswith("  #")
    for line in arms[: arms.index(next(line for line in arms if line.startswith("until")))]:
        assert re.match(r"  (# |[a-z0-9-]+: \{)", line)


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        ("digit", "mlp", "Did you mean 'digits'"),
        ("digits", "mpl", "Did you mean 'mlp'"),
        ("digits", "lenet5", "lenet5"),
        ("drafted:data", "drafted:broken", "there is no net"),
        ("drafted:data", "drafted:without_a_head", "drafted:without_a_head"),
        ("drafted:nothing", "mlp", "has no function 'nothing'"),
        (5, "mlp", "data is 5; it should be a name, or a mapping with name and options"),
        ({"name": "digits", "subst": 5}, "mlp", "subst"),
        ("shapes", "mlp", "data 'shapes' is for the task detection, and recipes are drafted for"),
        ("digits", "tiny_gpt", "model 'tiny_gpt' is for the task tokens, and recipes are drafted"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(own, data, model, said):
    with pytest.raises(ConfigError) as caught:
        draft(data, model)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_init_writes_a_recipe_and_says_what_to_do_next(own, capsys):
    assert (
        main(
            [
                "init",
                "--data",
                "drafted:data",
                "--model",
                "{name: mlp, hidden: [8]}",
                "--workers",
                "1",
            ]
        )
        == 0
    )
    path, cost, command = capsys.readouterr().out.splitlines()
    assert (path, command) == ("data-mlp.yaml", "tombola run data-mlp.yaml")
    assert cost == "2 trainings, 100 steps, about 2 min with 1 worker on this machine"
    assert yaml.safe_load((own / path).read_text())["model"] == {"name": "mlp", "hidden": [8]}
    assert main(["run", path, "--print_config"]) == 0


def test_init_replaces_no_file_unless_that_is_meant(own, capsys, monkeypatch):
    (own / "mine.yaml").write_text("mine")
    (own / "digits-mlp.yaml").write_text("mine")
    for more in ([], ["--out", "mine.yaml"]):
        assert main(["init", "--workers", "1", *more]) == 2
        assert (
            "already exists; --force replaces it, --out names another file"
            in capsys.readouterr().err
        )
    assert (own / "mine.yaml").read_text() == (own / "digits-mlp.yaml").read_text() == "mine"
    assert main(["init", "--workers", "1", "--out", "mine.yaml", "--force"]) == 0
    assert read(own / "mine.yaml").name == "digits-mlp"


def test_init_without_options_writes_a_recipe_for_the_digits(own, capsys):
    assert main(["init", "--workers", "1"]) == 0
    assert read(own / "digits-mlp.yaml").data.name == "digits"
