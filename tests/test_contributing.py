"""What CONTRIBUTING.md says: its map is that of the code, and its examples run as entries that ship."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml

import tombola
from tombola.experiments import experiment
from tombola.folder.runs import Run
from tombola.ground.catalogue import entries, entry
from tombola.schema.recipe import parse

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Where each example is saved, by the text; and the file that it is.
EXAMPLES = re.findall(
    r"Save this as\s+`src/tombola/([\w/]+)/_(\w+)\.py`:\n\n<!-- (tests/outside/\w+\.py) -->\n```python\n(.*?)```",
    PAGE,
    re.DOTALL,
)


def rooms():
    """Every room of the package with the first sentence of its docstring, the name left out."""
    folder = Path(tombola.__file__).parent
    names = [*sorted(path.parent.name for path in folder.glob("*/__init__.py")), "tickets"]
    said = {}
    for name in names:
        doc = inspect.getdoc(importlib.import_module(f"tombola.{name}"))
        words = " ".join(doc.partition("\n\n")[0].split())
        said[name] = re.split(r"(?<=\.) ", words)[0].partition(": ")[2].rstrip(".")
    return said


def layers():
    """The rooms from the top to the bottom, as import-linter holds them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r"^layers = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    return [name for name in re.findall(r"\w+", found) if name != "__main__"]


def test_the_map_names_every_room_in_its_order_with_the_sentence_of_its_docstring():
    block = re.search(r"<!-- rooms -->\n```\n(.*?)```", PAGE, re.DOTALL)[1]
    written = dict(line.split(maxsplit=1) for line in block.splitlines())
    written = {name.rstrip("/").removesuffix(".py"): said for name, said in written.items()}
    assert written == rooms()
    assert list(written) == layers()


def test_each_example_of_the_text_is_the_file_that_the_tests_run():
    kinds = [catalogue for catalogue, *_ in EXAMPLES]
    assert kinds == ["scores", "methods", "tasks", "data", "reports/sections", "executors"]
    for _, _, path, code in EXAMPLES:
        assert code == (ROOT / path).read_text(encoding="utf-8"), path


def package_of(catalogue):
    return "tombola." + catalogue.replace("/", ".")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Put the text's examples into the folders that it names."""
    for catalogue, name, _, code in EXAMPLES:
        folder = tmp_path / "src" / catalogue
        folder.mkdir(parents=True)
        (folder / f"_{name}.py").write_text(code, encoding="utf-8")
        package = importlib.import_module(package_of(catalogue))
        assert name not in entries(package.__name__), f"{name} is there already"
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield {name: catalogue for catalogue, name, _, _ in EXAMPLES}
    for catalogue, name, _, _ in EXAMPLES:
        sys.modules.pop(f"{package_of(catalogue)}._{name}", None)


def test_an_example_is_an_entry_once_its_file_is_in_the_folder(shipped):
    for name, catalogue in shipped.items():
        assert name in entries(package_of(catalogue))
        assert inspect.getdoc(entry(package_of(catalogue), name))


def test_one_recipe_runs_the_examples_of_a_data_set_a_score_a_method_a_section_and_an_executor(
    shipped, tmp_path
):
    recipe = {
        "name": "added",
        "data": {"name": "stripes", "noise": 0.4},
        "model": {"name": "mlp", "hidden": [20, 10]},
        "training": {"lr": 0.1, "epochs": 3},
        "arms": {
            "moved": {"method": "lth", "rate": 0.5, "score": "drift"},
            "layers": {"method": "layer_by_layer", "share": 0.5},
        },
        "until": {"rounds": 2},
    }
    done = experiment.run(parse(recipe), runs=tmp_path / "runs", workers=1, executor="elsewhere")
    assert done.complete, done.notes
    found = {(record["arm"], record["round"]): record for record in done.records}
    # 64 x 20 and 20 x 10 weights: half of all a round, or half of one layer.
    assert [found["moved", index]["kept"] for index in (1, 2)] == [740, 370]
    assert [found["layers", index]["kept"] for index in (1, 2)] == [840, 740]
    assert all(record["test_accuracy"] > 0.8 for record in done.records)
    # The report has a table of the sparsest ticket of each arm, and its accuracy.
    experiment.report(Run(done.folder), sections=["sparsest"])
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    table = re.sub(r"<[^>]+>", " ", page.split("The sparsest tickets")[-1]).split()
    for arm, share in (("moved", 370), ("layers", 740)):
        accuracy = f"{100 * found[arm, 2]['test_accuracy']:.2f}"
        at = table.index(arm)
        assert table[at : at + 3] == [arm, f"{100 * share / 1480:.2f}", accuracy]


def test_the_example_of_a_task_runs_from_a_recipe(shipped, tmp_path):
    recipe = {
        "name": "mirrored",
        "task": "mirror",
        "data": {"name": "rows"},
        "model": {"name": "linear"},
        "training": {"lr": 0.1, "epochs": 20},
        "arms": {"lth": {"method": "lth", "rate": 0.5}},
        "until": {"rounds": 1},
        "prunable": "all",
    }
    done = experiment.run(parse(recipe), runs=tmp_path / "runs", workers=1)
    assert done.complete, done.notes
    # Half of the weights are enough for the identity turned around: it has 8 of 64.
    assert [record["test_rmse"] < 0.3 for record in done.records] == [True, True]


def test_hooks_are_the_commands_of_make_test():
    """Hooks that ran other tools, or other versions, than the tests would be no help."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    tested = (
        (ROOT / "Makefile").read_text(encoding="utf-8").split("test: install")[1].split("\n\n")[0]
    )
    [local] = config["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --fix")
        assert f"\t$(BIN)/{command}" in tested, hook["id"]


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_the_forms_of_issues_have_what_such_a_form_needs(form):
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml"
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(read)
    assert all({"type", "attributes"} <= set(part) for part in read["body"])
    names = [part["id"] for part in read["body"]]
    assert len(names) == len(set(names))
