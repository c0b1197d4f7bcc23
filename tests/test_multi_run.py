"""Several runs reported together: in what they differ, what is compared, and the page."""

import json

import pytest
from tests.test_decisions import ASKED, RECORDS

from tombola.commands import multi_run
from tombola.commands.cli import main
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.reports import together
from tombola.schema.recipe import read, variants

RECIPE = """
name: rates
data: digits
model: {name: mlp, hidden: [20]}
training: {lr: 0.1, epochs: 2}
arms:
  lth: {method: lth, rate: 0.5}
until: {rounds: 2}
verdict: {margin: 0.05, at: [0.5, 0.25]}
replicates: 3
scales:
  small: {until.rounds: 1, variants: {slow: {training.lr: 0.001}}}
variants:
  slow: {training.lr: 0.01}
  fast: {training.lr: 0.2, training.epochs: 2}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("studies") / "rates.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def folder(recipe):
    runs = recipe.parent / "runs"
    assert main(["run", str(recipe), "--runs", str(runs), "--workers", "1", "--quiet"]) == 0
    return runs


@pytest.fixture(scope="module")
def two(folder):
    return [Run(next(folder.glob(f"rates-{name}-*"))) for name in ("slow", "fast")]


def test_a_variant_is_the_recipe_with_its_overrides_and_a_name_of_its_own(recipe):
    assert variants(recipe) == ["slow", "fast"]
    assert [read(recipe, variant=name).training.lr for name in variants(recipe)] == [0.01, 0.2]
    assert read(recipe, variant="fast").name == "rates-fast"
    assert read(recipe).training.lr == 0.1


def test_a_scale_may_have_variants_of_its_own_and_the_command_line_comes_last(recipe):
    assert variants(recipe, scale="small") == ["slow"]
    small = read(recipe, ["--seed", "7"], scale="small", variant="slow")
    assert (small.name, small.training.lr, small.until.rounds, small.seed) == (
        "rates-small-slow",
        0.001,
        1,
        7,
    )


def test_an_unknown_variant_is_refused_with_those_there_are(recipe, capsys):
    assert main(["run", str(recipe), "--variant", "medium"]) == 2
    assert (
        capsys.readouterr().err
        == "tombola: the recipe has no variant 'medium'; it has: slow, fast.\n"
    )


def test_all_variants_run_and_are_reported_together(folder):
    there = {path.name.rsplit("-", 1)[0] for path in folder.iterdir()}
    assert there == {"rates-slow", "rates-fast", "rates"}
    together = folder / "rates-together"
    assert {path.name for path in together.iterdir()} == {"report.html", "summary.md", "figures"}
    assert (together / "figures" / "accuracy.svg").is_file()


def test_one_variant_alone_is_a_run_like_any_other(recipe, tmp_path, capsys):
    options = [
        "--runs",
        str(tmp_path),
        "--workers",
        "1",
        "--quiet",
        "--json",
        "--until.rounds",
        "1",
    ]
    assert main(["run", str(recipe), "--variant", "slow", *options]) == 0
    assert "rates-slow" in json.loads(capsys.readouterr().out)["folder"]
    assert [path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()] == ["rates-slow"]


def test_the_plans_of_all_variants_are_printed(recipe, tmp_path, capsys):
    assert (
        main(["run", str(recipe), "--runs", str(tmp_path), "--workers", "1", "--dry-run", "--json"])
        == 0
    )
    assert [one["folder"].rsplit("-", 1)[0] for one in json.loads(capsys.readouterr().out)] == [
        f"{tmp_path}/rates-slow", f"{tmp_path}/rates-fast",
    ]  # fmt: skip


def of_dense(run):
    """The test accuracy of the dense network by replicate."""
    dense = [record for record in run.records if record["round"] == 0]
    return {record["replicate"]: record["test_accuracy"] for record in dense}


def test_the_page_says_in_what_the_runs_differ_and_how_much_it_matters(folder, two):
    text = (folder / "rates-together" / "summary.md").read_text()
    assert "What does training.lr change? Beside each other: slow, fast." in text
    slow, fast = map(of_dense, two)
    mean = 100 * sum(fast[k] - slow[k] for k in range(3)) / 3
    differs = "dense of fast is more accurate than dense of slow at 100 % density"
    assert f"{differs}: {mean:+.2f} \\[" in text
    row = next(line for line in text.splitlines() if line.startswith("| 50 | lth |"))
    accuracy = [r["test_accuracy"] for r in two[0].records if r["round"] == 1]
    assert row.split("|")[3].strip().startswith(f"{100 * sum(accuracy) / 3:.2f} ±")


def test_runs_are_called_by_what_their_names_do_not_share():
    assert multi_run.labels(["a-b-small", "a-c-small"]) == (["b-small", "c-small"], "a")
    assert multi_run.labels(["a-b", "a"]) == (["a-b", "a"], "a")


def test_settings_are_compared_to_the_last_entry_but_for_the_name():
    one = {"name": "x", "data": {"name": "digits", "valid": 0.1}, "arms": {"lth": {"rate": 0.2}}}
    other = {"name": "y", "data": {"name": "mnist", "valid": 0.1}, "arms": {}}
    assert multi_run.differing([one, other]) == {
        "data.name": ["digits", "mnist"],
        "arms.lth.rate": [0.2, None],
    }


def test_two_runs_of_one_recipe_are_to_be_merged(two):
    with pytest.raises(ConfigError, match="use tombola runs merge to join them"):
        multi_run.report([two[0], two[0]])


def test_runs_measured_by_different_metrics_are_not_compared(two, monkeypatch):
    other = Run(two[1].path)
    monkeypatch.setattr(other, "metrics", (Metric("map50", title="mAP@0.5"),))
    with pytest.raises(ConfigError, match=r"by accuracy and .* by mAP@0.5; .* report them one by"):
        multi_run.report([two[0], other])


def test_one_run_takes_no_folder_for_its_page(two, capsys):
    assert main(["report", str(two[0].path), "--out", "there"]) == 2
    assert "in its folder" in capsys.readouterr().err


def test_a_page_of_several_runs_goes_where_it_is_asked_to(two, tmp_path, capsys):
    assert (
        main(
            ["report", *(str(run.path) for run in two), "--out", str(tmp_path / "there"), "--json"]
        )
        == 0
    )
    files = json.loads(capsys.readouterr().out)["files"]
    assert files[-1] == str(tmp_path / "there" / "report.html")


def test_runs_that_share_nothing_are_shown_beside_each_other_too(two, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("rates", "other").replace("lth:", "pruned:"))
    assert (
        main(
            [
                "run",
                str(other),
                "--runs",
                str(tmp_path),
                "--workers",
                "1",
                "--variant",
                "slow",
                "--quiet",
            ]
        )
        == 0
    )
    files = multi_run.report([two[0], Run(next(tmp_path.glob("other-*-*")))], tmp_path / "page")
    assert "|  | pruned |" in files[0].read_text()


def part(label, **settings):
    return together.Part(label, RECORDS, ASKED, settings)


def test_runs_with_other_test_data_are_not_paired_and_the_entry_is_named():
    names = ("data.name", "data.classes")
    for name in names:
        other = dict.fromkeys(names, 10) | {name: 100, "training.lr": 0.1}
        parts = [
            part("one", **dict.fromkeys(names, 10), **{"training.lr": 0.2}),
            part("other", **other),
        ]
        assert together.sentences(parts) == [
            f"other is not paired with one: other test data ({name})."
        ]
        assert "Differences between the runs in test accuracy, points" not in {
            g.title for g in together.grids(parts)
        }


def test_runs_that_train_on_other_examples_of_the_same_data_are_paired():
    names = ("data.skew.most", "data.subset", "data.valid", "data.augment.flip")
    parts = [part("one", **dict.fromkeys(names, 0)), part("other", **dict.fromkeys(names, 1))]
    said = together.sentences(parts)
    assert said[0].startswith(
        "dense of other is not detectably different from dense of one at 100 % density: +0.00"
    )
    assert "Differences between the runs in test accuracy, points" in {
        grid.title for grid in together.grids(parts)
    }


def test_many_settings_are_a_row_each_and_an_arm_that_a_run_has_not_is_one_row():
    arm = {
        f"arms.more.1.{name}": value
        for name, value in (("method", "colt"), ("rate", 0.2), ("pace.every", 3))
    }
    parts = [
        part("one", **arm, seed=1, model="a"),
        part("other", **dict.fromkeys(arm), seed=2, model="b"),
    ]
    grid = together.grids(parts)[0]
    assert (grid.labels, grid.groups) == (["setting"], [("", ["one", "other"])])
    assert grid.rows == [
        ["arms.more.1", "colt", ""], ["seed", "1", "2"], ["model", "a", "b"], ["replicates", "3", "3"],
        ["dense accuracy %", "90.10 ± 0.10", "90.10 ± 0.10"],
    ]  # fmt: skip


def test_many_runs_of_few_settings_are_a_row_each():
    grid = together.grids([part(str(k), seed=k) for k in range(4)])[0]
    assert grid.labels == ["run"]
    assert grid.rows[1] == ["1", "1", "3", "90.10 ± 0.10"]


def test_the_terminal_shows_in_what_runs_of_many_settings_differ(two, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    changed = RECIPE.replace("rates", "other").replace(
        "epochs: 2}", "epochs: 1, batch_size: 32, momentum: 0.5, clip: 1.0}"
    )
    other.write_text(
        changed.replace("[20]}", "[10], init: default}").replace(
            "replicates: 3", "replicates: 1\nrewind: 1"
        )
    )
    options = ["--runs", str(tmp_path), "--workers", "1", "--variant", "slow", "--quiet"]
    assert main(["run", str(other), *options]) == 0
    capsys.readouterr()
    folders = [str(two[0].path), str(next(tmp_path.glob("other-*-*")))]
    assert main(["report", *folders, "--out", str(tmp_path / "page")]) == 0
    text = capsys.readouterr().out
    *lines, path = text.splitlines()
    assert path == str(tmp_path / "page" / "report.html")
    assert max(map(len, lines)) <= 100
    for setting in (
        "training.momentum",
        "training.batch_size",
        "training.clip",
        "model.init",
        "rewind",
    ):
        assert f"\n {setting} " in text
