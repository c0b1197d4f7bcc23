"""The harness of the benchmarks, with numbers made up: no test here takes a time."""

import dataclasses
import itertools
import json
import subprocess
import sys

import pytest
import torch

from benchmarks import __main__, clusters, figures, fresh, results, rows, table
from benchmarks.curves import points
from benchmarks.harness import (
    Goal,
    Line,
    Measured,
    NotRun,
    Row,
    Series,
    Settings,
    difference,
    exact,
    interleave,
    ratio,
    single,
    slope,
    verdict,
)
from benchmarks.masks import BILLION, VGG16, number
from benchmarks.peers import open_lth
from benchmarks.rows import _detection
from benchmarks.steps import Ours
from tombola.experiments.estimate import Measure
from tombola.experiments.experiment import plan
from tombola.schema.recipe import parse

FACTS = {
    "processor": "Abacus 1",
    "cores": 2,
    "memory_gb": 24.0,
    "system": "Linux",
    "python": "3.12.0",
    "torch": "2.9",
    "instructions": "AVX2",
    "numpy": "2.0",
    "threads": 2,
    "load": 0.1,
    "date": "2025-01-02 03:04 UTC",
    "commit": "abc1234",
}


def test_ratio_of_medians_and_its_interval_by_hand():
    # The median of ours is 2, so 8 / 2. Of three drawn again from 1, 2, 4 the median is 1 or 4 in 7
    # of 27 cases each, more than 2.5 %: the interval goes from 8 / 4 to 8 / 1.
    line = ratio("step", [1.0, 2.0, 4.0], [8.0, 8.0, 8.0])
    assert (line.value, line.low, line.high) == (4.0, 2.0, 8.0)


def test_ratio_draws_whole_repetitions_again():
    # Both sides were slow in the same repetitions, so that every repetition says 3 and none says
    # anything else.
    line = ratio("step", [1.0, 10.0, 2.0], [3.0, 30.0, 6.0])
    assert (line.value, line.low, line.high) == (3.0, 3.0, 3.0)


def test_ratio_refuses_sides_that_are_not_paired():
    with pytest.raises(ValueError, match="2 numbers of ours and 1 of theirs"):
        ratio("step", [1.0, 2.0], [1.0])


def test_intervals_are_the_same_each_time():
    ours, theirs = [1.0, 1.1, 1.3, 0.9, 1.7], [2.0, 2.4, 2.1, 1.9, 2.2]
    assert ratio("a", ours, theirs, seed=3) == ratio("a", ours, theirs, seed=3)


def test_single_and_difference_by_hand():
    line = single("time", [1.0, 2.0, 4.0], "s")
    assert (line.value, line.low, line.high) == (2.0, 1.0, 4.0)
    line = difference("time", [1.5, 2.5, 4.5], [1.0, 2.0, 4.0], "ms")
    assert (line.value, line.low, line.high) == (0.5, 0.5, 0.5)


def test_slope_of_a_straight_line():
    assert slope([0, 1, 2], [1, 3, 5]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("goal", "low", "high", "said"),
    [
        (Goal("a", ">=", 8), 8.0, 12.0, "met"),
        (Goal("a", ">=", 8), 7.9, 12.0, "missed"),
        (Goal("a", "<", 6, "s"), 1.0, 5.9, "met"),
        (Goal("a", "<", 6, "s"), 1.0, 6.0, "missed"),
        (Goal("a", "<=", 2, ""), 2.0, 2.0, "met"),
        (Goal("a", "<=", 2, ""), 3.0, 3.0, "missed"),
    ],
)
def test_a_goal_is_met_where_the_whole_interval_meets_it(goal, low, high, said):
    assert verdict(goal, Line("a", (low + high) / 2, low, high)) == said


def test_a_goal_without_a_number_was_not_run():
    assert verdict(Goal("a", ">=", 8), None) == "not run"
    assert verdict(Goal("a", ">=", 8), Line("a", float("nan"), 1.0, 2.0)) == "not run"
    assert verdict(None, exact("a", 1.0)) == ""


def test_interleave_measures_all_sides_in_every_repetition_in_changing_order():
    seen = []

    def side(name):
        return lambda: seen.append(name) or float(len(seen))

    found = interleave({"a": side("a"), "b": side("b")}, 20, seed=0, warm=1)
    assert len(found["a"]) == len(found["b"]) == 20
    pairs = [tuple(seen[at : at + 2]) for at in range(0, 42, 2)]
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert min(found["a"] + found["b"]) == 3.0  # the warm-up is thrown away


def _fake(lines):
    """What a fresh process would answer, without one."""
    return lambda _target, **_: Measured(lines).to_dict()


def _run(name, call):
    return results.run([name], Settings(), call=call, facts=lambda: dict(FACTS))[0]


def test_met_missed_and_not_run_rows():
    quick, slow = ratio("1 thread", [1.0], [9.0]), ratio("1 thread", [1.0], [3.0])
    assert [e.verdict for e in results.entries(_run("lenet5", _fake([quick])))] == ["met"]
    assert [e.verdict for e in results.entries(_run("lenet5", _fake([slow])))] == ["missed"]

    def missing(*_, **__):
        raise NotRun("there is no clone")

    result = _run("lenet5", missing)
    assert [(e.line, e.goal, e.verdict) for e in results.entries(result)] == [
        ("1 thread", ">= 4 x", "not run")
    ]
    assert "not run: there is no clone (goal: 1 thread >= 4 x)" in table.terminal(result)


def test_lines_without_a_goal_stand_behind_the_judged_ones():
    lines = [ratio("2 threads", [1.0], [2.0]), ratio("1 thread", [1.0], [9.0])]
    shown = results.entries(_run("lenet5", _fake(lines)))
    assert [(e.line, e.verdict) for e in shown] == [("1 thread", "met"), ("2 threads", "")]


def test_a_row_without_a_goal_that_was_not_run_says_so():
    result = results.Result("rounds", None, "no time", FACTS)
    assert [e.verdict for e in results.entries(result, Row(1, "Rounds"))] == ["not run"]


def test_no_peer_folder_and_a_bad_one_are_reasons(tmp_path):
    with pytest.raises(NotRun, match="OPEN_LTH="):
        open_lth.check(None)
    with pytest.raises(NotRun, match="is not there"):
        open_lth.check(str(tmp_path / "nowhere"))
    with pytest.raises(NotRun, match=r"no clone of it: it has no training/train\.py"):
        open_lth.check(str(tmp_path))


def test_a_bad_peer_folder_makes_the_row_not_run_and_the_exit_code_zero(tmp_path, capsys):
    out = tmp_path / "out"
    code = __main__.main(["--rows", "lenet5", "--open-lth", str(tmp_path), "--out", str(out)])
    assert code == 0
    assert (
        "not run: open_lth: the folder that was named is no clone of it" in capsys.readouterr().out
    )
    assert "| not run: open_lth" in (out / "benchmarks.md").read_text()


def test_an_unknown_row_is_told_in_one_line_with_exit_code_2(capsys):
    assert __main__.main(["--rows", "conv3,lenett5"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("benchmarks: there is no row 'lenett5'. Did you mean 'lenet5'?")
    assert said.count("\n") == 1


def test_repeats_below_one_are_refused(capsys):
    assert __main__.main(["--repeats", "0"]) == 2
    assert "--repeats is 0; it is 1 or more" in capsys.readouterr().err


def test_the_list_names_every_row_with_its_goals(capsys):
    assert __main__.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == rows.names()
    assert lines[0].endswith("against open_lth: 1 thread >= 8 x")


def test_the_goals_are_those_of_the_issue():
    goals = {name: list(map(str, rows.get(name).ROW.goals)) for name in rows.names()}
    assert goals == {
        "lenet-300-100": [">= 8 x"],
        "lenet5": [">= 4 x"],
        "conv3": [">= 1.5 x"],
        "resnet18": [">= 1.2 x"],
        "mlp": [">= 1.5 x"],
        "detection": [">= 0.952 x"],
        "find-memory": ["<= 7 models", "<= 1.05 x"],
        "partitions-memory": ["<= 1.1 x"],
        "report": ["< 10 s", "<= 4.5 x"],
        "upkeep": ["<= 2", "<= 2"],
        "mask": [">= 30 x", ">= 40 x"],
        "mask-1b": ["< 6 s", "< 1.2 GB"],
        "halves-lenet-300-100": [">= 1.6 x"],
        "halves-lenet5": [">= 1.5 x"],
        "recipe-workers": [">= 1.8 x"],
        "gpu-resnet18": ["<= 60 s"],
        "start": ["< 0.3 s", "< 0.5 s"],
        "rounds": [],
        "mask-scaling": [],
        "memory": [],
        "cut": [">= 0.952 x"],
        "scoring": [">= 0.909 x"] * 10,
        "ticket-bits": ["<= 1.1", "<= 1.1"],
        "regrowth": ["<= 2 x", "<= 1.1 x", "<= 2 x", "<= 1.1 x"],
        "latent": ["<= 1.5 x", "<= 1.5 x", "<= 1.1 x", "<= 1.1 x"],
    }


def test_rows_are_chosen_by_name_in_the_order_of_the_table():
    assert rows.chosen(["mask", "lenet5"]) == ["lenet5", "mask"]
    assert rows.chosen([]) == rows.names()


def test_the_masks_have_the_weights_they_are_named_for():
    assert number(VGG16) == 138_344_128  # VGG-16's 138,357,544 parameters without its 13,416 biases
    assert number(BILLION) == 1_006_632_960


def test_what_a_fresh_process_returns_and_how_it_fails():
    assert fresh.call("math:hypot", args=[3.0, 4.0]) == 5.0
    with pytest.raises(NotRun, match="it failed: ValueError"):
        fresh.call("math:sqrt", args=[-1.0])
    with pytest.raises(NotRun, match="ended by signal 9; is there enough memory"):
        fresh.call("signal:raise_signal", args=[9])


def test_measured_comes_back_whole_from_json():
    measured = Measured(
        [ratio("a", [1.0], [2.0])], [Series("t", "x", "y", points({1: [2.0]}))], ["note"]
    )
    again = Measured.of(json.loads(json.dumps(measured.to_dict())))
    assert again.to_dict() == json.loads(json.dumps(measured.to_dict()))


def test_a_run_of_some_rows_keeps_the_others():
    other = {**FACTS, "processor": "Abacus 2"}
    a, b = results.Result("lenet5", None, "old", FACTS), results.Result("mask", None, "old", FACTS)
    new = results.Result("lenet5", None, "new", FACTS)
    elsewhere = results.Result("lenet5", None, "new", other)
    order = rows.names()
    assert [(r.name, r.reason) for r in results.merged([a, b], [new], order)] == [
        ("lenet5", "new"),
        ("mask", "old"),
    ]
    assert results.merged([a, b], [elsewhere], order) == [elsewhere, b]
    quick = results.Result("lenet5", None, "quick", FACTS, quick=True)
    assert results.merged([a, b], [quick], order) == [quick]


def test_the_page_has_a_table_for_each_machine():
    other = {**FACTS, "processor": "Abacus 2"}
    found = [
        results.Result("lenet5", Measured([exact("1 thread", 4.0, "x")]), "", FACTS),
        results.Result("mask", Measured([exact("time", 40.0, "x")]), "", other),
        results.Result("start", Measured([exact("--help", 0.1, "s")]), "", FACTS),
    ]
    page = table.markdown(found, {})
    first, _, second = page.partition("| processor | Abacus 2, 2 cores, AVX2 |")
    assert "| processor | Abacus 1, 2 cores, AVX2 |" in first
    assert "| lenet5 |" in first
    assert "| start |" in first
    assert "| mask |" in second
    assert "| lenet5 |" not in second
    assert "on several machines" in first
    assert "on several machines" not in table.markdown(found[:1], {})


def test_a_row_that_is_not_run_does_not_take_the_place_of_one_that_was_measured():
    measured = results.Result("lenet5", Measured([exact("1 thread", 4.0, "x")]), "", FACTS)
    not_run = results.Result("lenet5", None, "needs a clone", FACTS)
    assert results.merged([measured], [not_run], rows.names()) == [measured]
    assert results.merged([not_run], [measured], rows.names()) == [measured]


def test_the_page_has_table_machine_figures_and_raw_numbers(tmp_path):
    curve = Series(
        "Time of a mask",
        "Weights",
        "Seconds",
        points({10: [1.0, 2.0, 4.0], 100: [10.0, 11.0]}),
        log=True,
    )
    found = [
        _run(
            "lenet5",
            _fake(
                [ratio("1 thread", [1.0, 1.0], [9.0, 9.5], each="ms", against="open_lth 2ce732f")]
            ),
        ),
        _run(
            "mask",
            _fake([ratio("time", [1.0], [2.0]), ratio("extra memory", [1.0], [50.0], each="MB")]),
        ),
        results.Result("mask-scaling", Measured([], [curve]), "", FACTS),
    ]
    files = __main__.leave(found, tmp_path)
    assert [file.name for file in files] == [
        "benchmarks.md",
        "results.json",
        "goals.svg",
        "mask-scaling.svg",
    ]
    page = (tmp_path / "benchmarks.md").read_text()
    assert "Result: 2 met, 1 missed, 0 not run of 3 goals." in page
    assert (
        "| lenet5 | Training step of LeNet-5, MNIST, batch 60: 1 thread | open_lth 2ce732f | >= 4 "
        "x | 9.25 x" in page
    )
    assert "Abacus 1, 2 cores, AVX2" in page
    assert "![How far each goal is reached](benchmarks/goals.svg)" in page
    assert (tmp_path / "benchmarks/goals.svg").read_text().startswith("<svg")
    again = results.read(tmp_path / "benchmarks/results.json")
    assert [r.name for r in again] == ["lenet5", "mask", "mask-scaling"]
    assert again[0].measured.lines[0].theirs == [9.0, 9.5]


def test_the_figure_shows_what_is_reached_over_the_goal():
    found = _run(
        "start", _fake([single("--help", [0.1, 0.1], "s"), single("ticket info", [1.0, 1.0], "s")])
    )
    shown = figures.reached([found])
    assert [one["value"] for one in shown] == [pytest.approx(3.0), pytest.approx(0.5)]
    assert [one["verdict"] for one in shown] == ["met", "missed"]


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--rows", "lenett5"],
        cwd=fresh.HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Did you mean 'lenet5'?" in done.stderr


def test_more_workers_make_a_run_as_short_as_its_longest_arm_and_no_shorter():
    """By hand: three trainings of 2 that follow each other, and four of 1 that do not."""
    chain = clusters.Arm([clusters.Ask((name,), True) for name in ("a", "b", "c")])
    free = clusters.Arm([clusters.Ask((name,), False) for name in ("d", "e", "f", "g")])
    seconds = dict.fromkeys("abc", 2) | dict.fromkeys("defg", 1)
    arms = {"lth": chain, "free": free}
    assert [clusters.makespan(arms, seconds, workers) for workers in (1, 2, 3, 64)] == [10, 7, 6, 6]
    # (With two workers b waits for f and g, which were asked for before it.)
    # What both ask for is done once, and a test follows its training.
    shared = {
        "one": clusters.Arm([clusters.Ask(("a", "t"), False)]),
        "other": clusters.Arm([clusters.Ask(("a",), True)]),
    }
    assert clusters.makespan(shared, {"a": 2, "t": 1}, 9) == 3


def test_a_recipe_is_divided_as_its_arms_ask():
    recipe = parse(
        {
            "name": "x",
            "data": {"name": "digits", "subset": 200},
            "model": {"name": "mlp", "hidden": [10]},
            "training": {"epochs": 1, "batch_size": 20},
            "until": {"rounds": 3},
            "arms": {
                "lth": {"method": "lth", "rate": 0.2},
                "matched": {"match": "lth"},
                "random": {"method": "random_ticket", "source": "lth"},
            },
        }
    )
    plans = plan(recipe)
    arms, seconds = clusters.traced(plans, Measure(1.0, 0.0))
    steps = seconds[arms["lth"].asks[0].works[0]]
    assert sum(seconds.values()) == steps * (1 + 3 + 3)  # LTH is its own matched control
    # The dense network, then three rounds, one after the other; the last ticket's evaluation runs
    # beside nothing.
    assert [clusters.makespan({"lth": arms["lth"]}, seconds, workers) for workers in (1, 9)] == [
        4 * steps,
        4 * steps,
    ]
    assert clusters.makespan(arms, seconds, 9) == 4 * steps
    assert [ask.after for ask in arms["matched"].asks if ask.waits] == [1, 2, 3]
    assert [ask.after for ask in arms["random"].asks] == [0, 1, 2, 3]


def test_both_sides_of_the_row_of_detection_begin_alike_and_train_on_the_same_batches():
    settings = Settings(quick=True)
    few = {"name": "shapes", "train": 24, "test": 1}
    ours = Ours(dataclasses.replace(_detection.PROBLEM, data=few), settings)
    theirs = _detection.their_side(ours, settings)
    for own, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert own is not other
        assert torch.equal(own, other)
    own_batches = itertools.islice(ours.batches.epoch(0), 3)
    for (images, targets), batch in zip(own_batches, theirs.batches, strict=False):
        assert len(images) == 8
        for own_picture, picture in zip(images, batch[0], strict=True):
            assert torch.equal(own_picture, picture)
        for own_target, target in zip(targets, batch[1], strict=True):
            assert {name: values.tolist() for name, values in own_target.items()} == {
                name: values.tolist() for name, values in target.items()
            }
    # A step of the reference is a step of descent: the log has every loss, the weights move.
    theirs.step(*batch)
    assert theirs.log[0].keys() >= {"loss_classifier", "loss_objectness"}
    assert not torch.equal(next(theirs.model.parameters()), next(ours.model.parameters()))
