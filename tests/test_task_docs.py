"""What docs/tasks.md says: its tables agree with the code, and its example runs."""

import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml
from tests.devkits import write_voc

from tombola.experiments import experiment
from tombola.experiments.plans import make_task
from tombola.ground.catalogue import entries
from tombola.schema.recipe import parse, read
from tombola.tasks.base import Base
from tombola.tasks.protocol import MEMBERS, check_task

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def marked(name):
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", PAGE, re.DOTALL)[1]


def table(name):
    """Return the rows of a marked table, without its head."""
    rows = []
    for line in marked(name).splitlines()[2:]:
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_task_that_ships_has_a_row():
    assert sorted(row[0].strip("`") for row in table("tasks")) == sorted(entries("tombola.tasks"))


RECIPES = re.findall(r"```yaml\n(task: .*?)```", marked("recipes"), re.DOTALL)


def test_every_task_that_ships_has_a_recipe():
    named = [yaml.safe_load(given)["task"] for given in RECIPES]
    names = [task if isinstance(task, str) else task["name"] for task in named]
    assert sorted(names) == sorted(entries("tombola.tasks"))


@pytest.mark.parametrize("given", RECIPES, ids=lambda given: given.split()[1])
def test_the_recipe_of_a_task_is_tried_and_its_row_is_true(given, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    rest = {"name": "x", "training": {"steps": 2}, "arms": {"dense": {"method": "dense"}}}
    recipe = parse(rest | yaml.safe_load(given))
    root = None
    if recipe.data.name.startswith("voc"):
        # Pictures of our own, as the published ones are not here.
        write_voc(tmp_path)
        root = tmp_path
        recipe.data.options.update(download=False, verify=False)
    task = make_task(recipe, root)
    check_task(task, str(recipe.task))
    [row] = [row for row in table("tasks") if row[0] == f"`{recipe.task}`"]
    for metric in task.metrics:
        assert metric.title in row[4]
    assert ("by classes" in row[5]) == (task.classes is not None)


def test_the_members_of_the_table_are_those_that_the_base_leaves_to_a_task():
    left = set()
    for member in MEMBERS:
        value = vars(Base).get(member)
        if value is None or (
            inspect.isfunction(value) and "NotImplementedError" in inspect.getsource(value)
        ):
            left.add(member)
    written = [re.match(r"`(\w+)", row[0])[1] for row in table("members")]
    assert sorted(written) == sorted(left)


@pytest.fixture
def phases(tmp_path, monkeypatch):
    """Save the example's files as the page says, and return the recipe."""
    for name in ("phases.py", "phases.yaml"):
        code = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)[1]
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "phases.yaml"
    sys.modules.pop("phases", None)


def test_the_example_runs_and_its_dense_network_reads_phases(phases, tmp_path):
    few = read(phases, ["--replicates", "1", "--until", "{rounds: 1}"])
    done = experiment.run(few, runs=tmp_path / "runs", workers=1)
    assert done.complete, done.notes
    found = {(record["arm"], record["round"]): record for record in done.records}
    # A guess is 90 degrees off.
    assert found["lth", 0]["test_degrees"] < 15
    assert found["lth", 0]["test_degrees"] != found["lth", 1]["test_degrees"]
    assert found["colt-2", 1]["density"] == pytest.approx(found["matched", 1]["density"])
