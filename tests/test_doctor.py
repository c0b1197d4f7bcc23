"""The doctor: what it says of a machine, what it measures, and when it advises what."""

import inspect
import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from tombola.commands import cli, doctor, machine, timings
from tombola.commands.doctor import Examination, advise, terminal, to_dict
from tombola.commands.machine import facts
from tombola.commands.timings import Case, Timing, Workers, candidates
from tombola.experiments.plans import Plans, make_task, resolve_defaults
from tombola.ground.catalogue import entries, entry
from tombola.ground.errors import ConfigError, DataError
from tombola.ground.settings import Training
from tombola.models import conv3, mlp
from tombola.schema.recipe import parse

TINY = {
    "name": "tiny",
    "data": {"name": "synthetic", "train": 130, "image_shape": [1, 8, 8]},
    "model": {"name": "mlp", "hidden": [20]},
    "training": {"epochs": 1, "batch_size": 30},
    "arms": {"dense": {"method": "dense"}},
    "device": "cpu",
}
OWN = Timing({}, [0.002] * 3, [1.0] * 3)


def case(*timings, workers=None):
    return Case(parse(TINY), [OWN, *timings], workers or Workers(2, 2, [1.7, 1.8, 1.9]))


def faster(changes, *times):
    return Timing(changes, [0.002 / quick for quick in times], times)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Have ``tiny.yaml`` in the working folder."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def have_cores(monkeypatch, number):
    for module in (doctor, machine, timings):
        monkeypatch.setattr(module, "cores", lambda: number)


def printed(found):
    out = io.StringIO()
    terminal(found, Console(width=100, file=out))
    return out.getvalue()


def test_what_is_clearly_quicker_is_advised_with_its_entry_and_what_it_costs():
    told = advise(
        case(
            faster({"precision": "bf16"}, 1.9, 2.0, 2.2),
            faster({"channels_last": False}, 3.0, 4.0, 5.0),
        )
    )
    assert told == [
        "`--training.channels_last false` would take 0.25 of the time; results change, so it is "
        "another run.",
        "`--training.precision bf16` would take 0.50 of the time; results change, so it is another "
        "run.",
        "2 workers do 1.8 times the work of one: `--workers 2`, the default; it does not "
        "affect results.",
    ]


@pytest.mark.parametrize("times", [(1.05, 1.06, 1.07), (0.99, 1.5, 2.0), (0.5, 0.5, 0.5)])
def test_what_is_hardly_or_not_always_quicker_is_not_advised(times):
    told = advise(case(faster({"precision": "bf16"}, *times)))
    assert told[0] == "The recipe's own settings are the fastest measured here."
    assert "bf16" not in "".join(told)


def test_threads_that_gain_less_than_workers_are_advised_for_single_trainings_alone():
    (told, _) = advise(case(faster({"threads": 2}, 1.3, 1.3, 1.3)))
    assert "0.77 of the time of one training, but 2 workers do more" in told
    (told, _) = advise(case(faster({"threads": 2}, 1.95, 1.95, 1.95)))
    assert (
        told
        == "`--training.threads 2` would take 0.51 of the time; results change, so it is another run."
    )


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (Workers(2, 2, [1.0, 1.05, 1.1]), "`--workers 1` is as fast with less memory"),
        (
            Workers(2, 2, [0.8, 1.4, 1.6]),
            "between 0.8 and 1.6 times in single rounds: too variable for advice.",
        ),
        (Workers(2, 1, [1.5, 1.5, 1.5]), "`--workers 2`, which does not affect results."),
        (Workers(1, 1, not_here="there is one core"), "There is one core."),
    ],
)
def test_workers_are_advised_as_they_were_measured(workers, said):
    assert said in advise(case(workers=workers))[-1]


def test_only_settings_that_apply_are_tried():
    small = mlp(10, image_shape=(1, 8, 8), hidden=[20])
    images = conv3(10)

    def tried(own, model, kind="cpu", **more):
        return [changes for changes, _ in candidates(own, model, kind, cores=2, **more)]

    assert {"channels_last": False} in tried(Training(epochs=1), images)
    assert not any("channels_last" in changes for changes in tried(Training(epochs=1), small))
    assert {"precision": "tf32"} in tried(Training(epochs=1), images, "cuda")
    assert not any("threads" in changes for changes in tried(Training(epochs=1), images, "cuda"))
    assert {"compile": True} in tried(Training(epochs=1), images, compiled=True)
    assert {"threads": 1} in tried(Training(epochs=1, threads=2), images)
    assert {"precision": "float32"} in tried(Training(epochs=1, precision="bf16"), images)


def test_a_change_that_a_traced_step_stands_against_comes_with_an_eager_one():
    small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    made = candidates(Training(epochs=1, step="traced"), small, "cpu", cores=1)
    tried = {str(changes): settled for changes, settled in made}
    assert tried["{'precision': 'bf16', 'step': 'eager'}"].step == "eager"
    assert (
        Timing({"precision": "bf16", "step": "eager"}).flags
        == "--training.precision bf16 --training.step eager"
    )


def test_a_setting_that_fails_here_is_told_and_the_others_are_measured(tiny, monkeypatch):
    recipe = parse(TINY)
    task = make_task(recipe, None)
    plans = Plans.of(resolve_defaults(recipe, task), task)
    whole = timings._Timed

    def failing(plans, training):
        if training.compile:
            raise RuntimeError("backend='inductor' raised:\nno compiler found\nlong story")
        return whole(plans, training)

    monkeypatch.setattr(timings, "_Timed", failing)
    tried = candidates(recipe.training, task.model, "cpu", 1, compiled=True)
    measured = timings.measure(plans, tried)
    assert [timing.not_here for timing in measured if timing.changes.get("compile")] == [
        "no compiler found"
    ]
    assert all(len(timing.times) >= 3 for timing in measured if not timing.not_here)
    assert "compile true is not available: no compiler found" in printed(
        Examination(facts(), [case(*measured[1:])])
    )

    with pytest.raises(ConfigError, match="own training fails on this machine: no compiler found"):
        timings.measure(plans, tried[::-1])


def test_measuring_leaves_threads_random_state_and_model_as_they_were(tiny):
    recipe = parse(TINY)
    task = make_task(recipe, None)
    before = torch.get_num_threads(), torch.get_rng_state(), task.initial_state()
    plans = Plans.of(resolve_defaults(recipe, task), task)
    timings.measure(plans, candidates(recipe.training, task.model, "cpu", cores=2))
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(torch.equal(value, before[2][name]) for name, value in task.initial_state().items())


def test_the_command_measures_a_recipe_and_its_workers(tiny, monkeypatch, capsys):
    have_cores(monkeypatch, 2)
    assert cli.main(["doctor", "tiny.yaml", "--training.step", "eager", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    (one,) = found["cases"]
    assert one["recipe"]["training"]["step"] == "eager"
    assert [timing["changes"] for timing in one["timings"]][:2] == [{}, {"threads": 2}]
    assert one["timings"][0]["times_as_quick"] == [1.0] * len(one["timings"][0]["seconds"])
    assert one["workers"]["number"] == 2
    assert len(one["workers"]["times_the_work"]) == 5
    assert min(one["workers"]["times_the_work"]) > 0
    assert not any(path.name != "tiny.yaml" for path in tiny.iterdir())


def test_one_core_is_enough(tiny, monkeypatch, capsys):
    have_cores(monkeypatch, 1)
    assert cli.main(["doctor", "tiny.yaml"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "1 core for this process" in out
    assert "There is one core, so neither more threads nor more workers are measured." in out
    assert "threads 2" not in out
    assert "step eager" in out


def test_without_a_recipe_two_cases_are_measured(monkeypatch, capsys):
    def measure(plans, tried, tell):
        return [OWN, faster(tried[1][0], 2.0, 2.1, 2.2)]

    def with_workers(cases, data_root, tell):
        return cases

    monkeypatch.setattr(doctor, "measure", measure)
    monkeypatch.setattr(doctor, "measure_workers", with_workers)
    idle = facts() | {"busy": False}
    monkeypatch.setattr(doctor, "facts", lambda _: idle)
    monkeypatch.setattr("tombola.ground.devices.kind_of", lambda _: "cpu")
    have_cores(monkeypatch, 2)
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "lenet_300_100 on synthetic, adam, batch 60, on the CPU" in out
    assert "conv3 on synthetic, sgd, batch 64, on the CPU" in out
    assert out.count("`--training.threads 2` would take 0.48 of the time;") == 2
    assert max(map(len, out.splitlines())) <= 100


def test_a_worker_that_ends_is_told(tiny, monkeypatch):
    def gone(hands, case, tell):
        raise EOFError

    monkeypatch.setattr(timings, "_work_together", gone)
    (measured,) = timings.measure_workers([case(workers=Workers(2, 2))], None, lambda _: None)
    assert (
        advise(measured)[-1]
        == "2 workers cannot be measured: one of them ended; there may be too little memory."
    )


def test_a_busy_machine_is_told():
    busy = facts() | {"busy": True, "load": 7.5}
    assert "measurements are unreliable" in printed(Examination(busy, []))
    assert "(load 7.5), so there is no advice: measure again when it is idle" in printed(
        Examination(busy, [case()])
    )
    assert "idle" not in printed(Examination(busy | {"busy": False}, [case()]))


def test_nothing_is_advised_by_what_says_little():
    quick = case(faster({"precision": "bf16"}, 2.0, 2.1, 2.2))
    for busy in (True, False):
        told = Examination(facts() | {"busy": busy, "load": 7.5}, [quick])
        assert ("`--training.precision bf16` would take" in printed(told)) is not busy
        assert bool(to_dict(told)["cases"][0]["advice"]) is not busy


def test_what_is_found_is_plain_data():
    found = Examination(facts(), [case(Timing({"compile": True}, not_here="no compiler"))])
    assert json.loads(json.dumps(to_dict(found))) == to_dict(found)
    assert to_dict(found)["cases"][0]["timings"][1]["not_here"] == "no compiler"


def test_data_sets_are_looked_for_where_they_are_read(tmp_path):
    loaded = {name: entry("tombola.data", name) for name in entries("tombola.data")}
    downloaded = {
        name: read
        for name, read in loaded.items()
        if "download" in inspect.signature(read).parameters
    }
    assert set(downloaded) == set(machine.DATA_FILES)
    for name, read in downloaded.items():
        folder, files = machine.DATA_FILES[name]
        with pytest.raises(DataError) as refused:
            read(root=tmp_path, download=False)
        assert f"lacks {', '.join(files)} in {folder}," in str(refused.value)
        for file in files:
            assert facts(tmp_path)["data_found"][name] is False
            (tmp_path / folder / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / file).touch()
        assert facts(tmp_path)["data_found"][name] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.yaml"], "there is no recipe 'nothing.yaml'"),
        (["--jsn"], "there is no option '--jsn'. Did you mean '--json'?"),
        (["--fast"], "--fast is not an option of doctor"),
        (["--training.threads", "2"], "without RECIPE"),
        (["tiny.yaml", "--training.treads", "2"], "Did you mean 'threads'?"),
        (["tiny.yaml", "--training.precision", "tf32"], "tf32"),
        (["tiny.yaml", "--data", "mnist", "--data-root", "empty"], "mnist is not in empty"),
        (["tiny.yaml", "--data", "{name: arrays, path: x.npz}"], "x.npz"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tiny, capsys, arguments, said):
    assert cli.main(["doctor", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("tombola: ")
    assert said in line


def test_what_masks_and_flops_leave_out_is_told_beside_the_advice():
    line = "1 weight has no mask and is not pruned: turn.mix (a Turn holds it itself and may use it in any way)"
    found = Examination(
        facts() | {"busy": False, "load": 0.1}, [replace(case(), left_out={"not pruned": line})]
    )
    assert f"not pruned: {line}" in " ".join(printed(found).split())
    assert to_dict(found)["cases"][0]["left_out"] == {"not pruned": line}
    assert "not pruned" not in printed(Examination(found.facts, [case()]))
