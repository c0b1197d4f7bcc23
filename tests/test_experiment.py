"""Experiments: real runs on the digits, from recipe to tickets, records and report."""

import json
import math
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from tests import forks
from tests.layouts import place, ticket_file
from tests.resealing import records_of, write_records
from tests.toys import without

from tombola.commands.cli import main
from tombola.experiments.experiment import foresee, plan, run
from tombola.folder.run_folder import RunFolder
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.digests import digest_mask
from tombola.masks.masks import count, nested
from tombola.records import records as records_module
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

FIELDS = {
    *(
        "arm",
        "replicate",
        "round",
        "density",
        "density_total",
        "test_accuracy",
        "valid_accuracy",
        "valid_loss",
    ),
    *(
        "train_accuracy",
        "train_loss",
        "early_stop_step",
        "test_accuracy_early",
        "samples_seen",
        "seconds",
    ),
    *("mask_digest", "rewind_digest"),
}


def recipe(**changes):
    whole = {
        "name": "tiny",
        "data": "digits",
        "model": {"name": "mlp", "hidden": [40, 20]},
        "training": {
            "optimizer": "sgd",
            "lr": 0.05,
            "momentum": 0.9,
            "epochs": 2,
            "batch_size": 64,
        },
        "arms": {
            "colt-2": {"method": "colt", "partitions": 2, "rate": 0.15},
            "lth": {"method": "lth", "rate": 0.2},
            "matched": {"match": "colt-2"},
        },
        "until": {"rounds": 3},
        "replicates": 2,
    }
    return parse(whole | changes)


def go(tmp_path, changed=None, **options):
    return run(
        changed or recipe(), runs=tmp_path / "runs", workers=options.pop("workers", 1), **options
    )


def timeless(records):
    """Records without what a clock has measured."""
    return [records_module.timeless(record) for record in records]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return go(tmp_path_factory.mktemp("whole"))


def test_a_run_leaves_records_tickets_and_a_report(outcome):
    assert outcome.complete
    assert [(r["arm"], r["replicate"], r["round"]) for r in outcome.records] == [
        (arm, replicate, index)
        for arm in ("colt-2", "lth", "matched")
        for replicate in (0, 1)
        for index in range(4)
    ]
    assert all(record.keys() >= FIELDS for record in outcome.records)
    assert sorted(map(json.dumps, records_of(outcome.folder))) == sorted(
        map(json.dumps, outcome.records)
    )
    for name in (
        "recipe.yaml",
        "machine/environment.json",
        "machine/state.json",
        "summary.md",
        "report.html",
        "results.csv",
        "table.tex",
    ):
        assert (outcome.folder / name).stat().st_size > 0
    kinds = {file.suffix for file in outcome.files}
    assert kinds == {".md", ".html", ".csv", ".tex"}  # with charts: test_cli.py
    # Of the trained weights those of the dense networks and of each arm's last ticket stay, beside
    # the best ones.
    staying = {r["training_digest"] for r in outcome.records if r["round"] in (0, 3)}
    kept = {path.stem for path in (outcome.folder / "machine/trainings").iterdir()}
    assert staying <= kept <= {r["training_digest"] for r in outcome.records}


def test_a_model_of_plain_layers_has_nothing_left_out_in_its_records_tickets_and_facts(outcome):
    assert not any({"unmasked", "uncounted"} & record.keys() for record in outcome.records)
    assert (
        "unmasked"
        not in Ticket.load(next(outcome.folder.glob("tickets/lth/*/*.safetensors"))).origin
    )
    assert (
        not {"not pruned", "FLOP"}
        & json.loads((outcome.folder / "machine/run.json").read_text())["facts"].keys()
    )


def test_the_dense_network_learns_and_is_the_same_in_every_arm(outcome):
    for replicate in (0, 1):
        dense = [r for r in outcome.records if r["round"] == 0 and r["replicate"] == replicate]
        assert len({r["test_accuracy"] for r in dense}) == 1
        assert dense[0]["test_accuracy"] > 0.8
        assert dense[0]["density"] == dense[0]["density_total"] == 1.0


def test_the_matched_arm_keeps_exactly_as_many_weights_after_every_round(outcome):
    kept = {(r["arm"], r["replicate"], r["round"]): r["kept"] for r in outcome.records}
    masks = {(r["arm"], r["replicate"], r["round"]): r["mask_digest"] for r in outcome.records}
    for replicate in (0, 1):
        for index in (1, 2, 3):
            assert kept["matched", replicate, index] == kept["colt-2", replicate, index]
            assert masks["matched", replicate, index] != masks["colt-2", replicate, index]


def test_the_matched_arm_follows_group_by_group(tmp_path):
    arms = {
        "colt-2": {"method": "colt", "rate": 0.15, "scope": "per_layer"},
        "matched": {"match": "colt-2"},
    }
    done = go(tmp_path, recipe(arms=arms, replicates=1))
    for index in (1, 2, 3):
        one, other = (Ticket.load(ticket_file(done.folder, arm, 0, index)).mask for arm in arms)
        assert [int(one[name].sum()) for name in one] == [int(other[name].sum()) for name in one]


def test_lth_prunes_by_exact_rounded_counts(outcome):
    lth = [r for r in outcome.records if r["arm"] == "lth" and r["replicate"] == 0]
    kept = [lth[0]["prunable"]]
    for _ in range(3):
        kept.append(kept[-1] - round(0.2 * kept[-1]))
    assert [r["kept"] for r in lth] == kept


def test_colts_rounds_lie_between_one_cut_and_two(outcome):
    for r in (r for r in outcome.records if r["arm"] == "colt-2" and r["round"]):
        assert 0.70 - 1e-3 <= r["kept_fraction"] <= 0.85 + 1e-3


def test_tickets_verify_nest_and_name_their_parents(outcome):
    before, parent = None, None
    for index in (1, 2, 3):
        ticket = Ticket.load(ticket_file(outcome.folder, "colt-2", 1, index))
        record = next(
            r
            for r in outcome.records
            if (r["arm"], r["replicate"], r["round"]) == ("colt-2", 1, index)
        )
        assert digest_mask(ticket.mask) == record["mask_digest"]
        assert ticket.rewind_digest == record["rewind_digest"]
        assert ticket.density_total == record["density_total"]
        assert ticket.origin["parent"] == parent
        assert sorted(c for part in ticket.origin["partitions"] for c in part["classes"]) == list(
            range(10)
        )
        if before is not None:
            assert list(nested(ticket.mask, before)) == []
        before, parent = ticket.mask, ticket.digest


def test_replicates_draw_other_partitions_and_all_rounds_of_one_keep_theirs(outcome):
    def classes(replicate, index):
        path = ticket_file(outcome.folder, "colt-2", replicate, index)
        return [part["classes"] for part in Ticket.load(path).origin["partitions"]]

    assert classes(0, 1) == classes(0, 3)
    assert classes(1, 1) == classes(1, 3)
    assert classes(0, 1) != classes(1, 1)


def test_the_digest_of_a_matched_arm_changes_with_the_arm_that_it_follows(tmp_path):
    def digest(rate, folder):
        arms = {"colt-2": {"method": "colt", "rate": rate}, "matched": {"match": "colt-2"}}
        made = RunFolder(recipe(arms=arms), tmp_path / folder, "f")
        made.close()
        return made.arm_digest("matched")

    assert digest(0.15, "a") == digest(0.15, "b") != digest(0.2, "c")


def test_predictions_of_the_test_examples_are_kept_and_give_the_accuracy(outcome):
    record = next(
        r for r in outcome.records if (r["arm"], r["replicate"], r["round"]) == ("lth", 0, 3)
    )
    predicted = np.load(
        outcome.folder / "machine/predictions" / "lth" / "replicate-0" / "round-003.npy"
    )
    from tombola.data import digits

    right = (torch.from_numpy(predicted).long() == digits().test_labels).float().mean().item()
    assert predicted.dtype == np.uint8
    assert right == pytest.approx(record["test_accuracy"], abs=1e-6)


def test_costs_count_every_training_that_an_arm_needs_once(outcome):
    of = {(r["arm"], r["round"]): r for r in outcome.records if r["replicate"] == 0}
    unit = of["lth", 0]["samples_seen"]
    # LTH's search of the next round is the evaluation of its ticket; COLT's two halves are one
    # unit, and its evaluation another (reference: r + 1 units against r + (r + 1)).
    for index in range(4):
        assert of["lth", index]["samples_seen"] == (index + 1) * unit
        assert of["matched", index]["samples_seen"] == (index + 1) * unit
        assert of["lth", index]["samples_seen_search"] == index * unit
        assert of["colt-2", index]["samples_seen"] == pytest.approx(
            (2 * index + 1) * unit, rel=0.01
        )
        assert of["colt-2", index]["samples_seen_search"] == pytest.approx(index * unit, rel=0.01)


def test_worker_processes_and_one_thread_give_the_same_bits(outcome, tmp_path):
    two = go(tmp_path, workers=2)
    assert timeless(two.records) == timeless(outcome.records)
    tickets = sorted(
        path.relative_to(two.folder) for path in two.folder.glob("tickets/*/*/*.safetensors")
    )
    assert len(tickets) == 3 * 2 * 3
    for ticket in tickets:
        assert (two.folder / ticket).read_bytes() == (outcome.folder / ticket).read_bytes()


def test_one_and_two_workers_give_the_same_bits_for_convolutions_with_batch_norm_and_augmentation(
    tmp_path,
):
    images = {
        "name": "synthetic",
        "image_shape": [3, 8, 8],
        "augment": {"crop": 1, "flip": True, "rotate": 10},
    }
    training = {"optimizer": "adam", "lr": 0.01, "epochs": 1, "batch_size": 64}
    changed = recipe(
        data=images, model="conv3", training=training, until={"rounds": 1}, replicates=1
    )
    one, two = (go(tmp_path / str(workers), changed, workers=workers) for workers in (1, 2))
    assert timeless(one.records) == timeless(two.records)
    paths = [sorted((outcome.folder / "tickets").rglob("*.safetensors")) for outcome in (one, two)]
    assert [path.read_bytes() for path in paths[0]] == [path.read_bytes() for path in paths[1]]
    assert "step: eager" in (one.folder / "recipe.yaml").read_text()


def test_a_machine_with_one_core_needs_no_worker_process_and_gives_the_same_bits(
    outcome, tmp_path, monkeypatch
):
    monkeypatch.setattr("tombola.ground.devices.cores", lambda: 1)

    def no_process(*_, **__):
        raise AssertionError("a worker process was started")

    monkeypatch.setattr("tombola.executors._processes.ProcessPoolExecutor", no_process)
    assert timeless(go(tmp_path, workers=None).records) == timeless(outcome.records)


def test_more_threads_than_cores_are_one_worker(tmp_path, monkeypatch):
    monkeypatch.setattr("tombola.ground.devices.cores", lambda: 1)
    training = {"lr": 0.05, "epochs": 1, "batch_size": 64, "threads": 2}
    assert go(
        tmp_path, recipe(training=training, replicates=1, until={"rounds": 1}), workers=None
    ).complete


def test_the_same_command_again_trains_nothing_and_shows_the_same(outcome, monkeypatch):
    monkeypatch.setattr("tombola.search.work.run_job", None)
    again = run(recipe(), runs=str(outcome.folder.parent), workers=1)
    assert again.records == outcome.records
    assert Run(str(outcome.folder)).records.all() == Run(outcome.folder).records.all()
    assert again.complete


def test_a_run_killed_in_the_middle_goes_on_and_ends_as_if_undisturbed(outcome, tmp_path):
    import yaml

    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe().to_dict()))
    command = ["run", "r.yaml", "--runs", "runs", "--workers", "1", "--quiet"]
    process = forks.begin(*command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=2)
    folder = tmp_path / "runs" / outcome.folder.name
    until = time.monotonic() + 60
    while time.monotonic() < until and len(list(folder.glob("machine/trainings/*.training"))) < 6:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with (folder / "machine/records.jsonl").open("a") as file:
        file.write('{"arm": "lth", "repl')  # killed while it wrote
    resumed = go(tmp_path)
    assert timeless(resumed.records) == timeless(outcome.records)


def test_arms_and_replicates_may_be_added_to_a_run(tmp_path):
    first = go(tmp_path, recipe(arms={"lth": {"method": "lth", "rate": 0.2}}, replicates=1))
    more = go(tmp_path, recipe(replicates=2))
    assert more.folder == first.folder
    assert len(more.records) == 3 * 2 * 4
    assert timeless(first.records) == timeless(
        [r for r in more.records if (r["arm"], r["replicate"]) == ("lth", 0)]
    )


@pytest.fixture
def counted(monkeypatch):
    """Count the trainings that a run does in this process."""
    import tombola.training.jobs

    done, honest = [], tombola.training.jobs.run_job

    def counting(job, task, progress=None):
        done.append(job)
        return honest(job, task, progress)

    monkeypatch.setattr("tombola.search.work.run_job", counting)
    return done


def test_more_rounds_or_arms_train_only_what_is_new_and_give_what_one_run_gives(
    outcome, tmp_path, counted
):
    arms = recipe().to_dict()["arms"]
    first = {name: arms[name] for name in ("colt-2", "lth")}
    go(tmp_path, recipe(arms=first, until={"rounds": 2}, replicates=1))
    assert len(counted) == 1 + 2 * 3 + 2
    counted.clear()
    go(tmp_path, recipe(arms=first, until={"rounds": 3}, replicates=1))
    # COLT: two halves and an evaluation; LTH: an evaluation, for that of round 2 was its search and
    # is kept.
    assert len(counted) == 3 + 1
    counted.clear()
    whole = go(tmp_path, recipe(replicates=1))
    assert len(counted) == 3  # the matched arm alone: three rounds, for the dense network is kept
    expected = [r for r in timeless(outcome.records) if r["replicate"] == 0]
    assert timeless(whole.records) == expected
    counted.clear()
    fewer = go(tmp_path, recipe(replicates=1, until={"rounds": 1}))
    assert counted == []
    assert fewer.complete


def test_a_run_whose_results_were_taken_away_is_not_complete(tmp_path, counted):
    small = recipe(arms={"lth": {"method": "lth", "rate": 0.2}}, replicates=1)
    first = go(tmp_path, small)
    (first.folder / "machine/records.jsonl").unlink()
    counted.clear()
    again = go(tmp_path, small)
    assert counted
    assert timeless(again.records) == timeless(first.records)
    next(first.folder.glob("tickets/lth/*/round-002*")).unlink()
    assert timeless(go(tmp_path, small).records) == timeless(first.records)
    assert ticket_file(first.folder, "lth", 0, 2).exists()


def test_an_arm_with_a_score_of_the_users_own_may_be_added_to_a_run(tmp_path, monkeypatch):
    (tmp_path / "own_score.py").write_text(
        "def score(state, mask, context):\n    return {n: state[n].abs() for n in mask}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arms = {"lth": {"method": "lth", "rate": 0.2}}
    first = go(tmp_path, recipe(arms=arms, replicates=1, until={"rounds": 1}))
    more = arms | {"own": {"method": "lth", "rate": 0.2, "score": "own_score:score"}}
    both = go(tmp_path, recipe(arms=more, replicates=1, until={"rounds": 1}))
    assert both.folder == first.folder
    assert len({r["mask_digest"] for r in both.records if r["round"] == 1}) == 1
    assert go(tmp_path, recipe(arms=arms, replicates=1, until={"rounds": 1})).complete


@pytest.mark.parametrize("name", ["state.json", "environment.json", "arms.json", "records.jsonl"])
@pytest.mark.parametrize("text", ["{", "3", '{"a": ', "[[1"])
def test_a_damaged_run_folder_is_told_in_one_line(tmp_path, name, text):
    small = recipe(arms={"lth": {"method": "lth", "rate": 0.2}}, replicates=1, until={"rounds": 1})
    first = go(tmp_path, small)
    place(first.folder, name).write_text(text + "\n")
    with pytest.raises(ConfigError, match=name) as caught:
        go(tmp_path, small)
    assert "\n" not in str(caught.value)


LINE = {
    "arm": "lth", "replicate": 0, "round": 1, "kept": 80, "density": 0.8, "mask_digest": "ab", "evaluated": True,
    "test_accuracy": 0.9, "samples_seen": 600,
}  # fmt: skip


def written(tmp_path, *records):
    """A file of records, as json writes them: NaN as NaN."""
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        ("arm", ["lth"], "arm is ['lth']; it must be a text"),
        ("replicate", True, "replicate is True; it must be a whole number, 0 or above"),
        ("round", -1, "round is -1; it must be a whole number, 0 or above"),
        ("density", "x", "density is 'x'; it must be a fraction from 0 to 1"),
        ("density", math.inf, "density is inf; it must be a fraction"),
        ("density", 20, "density is 20; it must be a fraction"),
        (
            "test_accuracy",
            math.nan,
            "test_accuracy is nan; it must be a fraction from 0 to 1, or null",
        ),
        (
            "valid_accuracy",
            97.5,
            "valid_accuracy is 97.5; it must be a fraction from 0 to 1, or null",
        ),
        ("test_loss", -math.inf, "test_loss is -inf; it must be a finite number, or null"),
        ("evaluated", 1, "evaluated is 1; it must be true or false"),
        ("prunable", 0, "prunable is 0; it must be a whole number above 0"),
        ("seconds", None, "seconds is None; it must be a finite number"),
        (
            "early_stop_step",
            1.5,
            "early_stop_step is 1.5; it must be a whole number, 0 or above, or null",
        ),
        ("layers", {"a": 3}, "layers['a'] is 3; it must be two whole numbers, [kept, all]"),
        ("layers", {"a": [1, 2], "b": [1]}, "layers['b'] is [1]; it must be two whole numbers"),
        ("layers", [[1, 2]], "layers is [[1, 2]]; it must be [kept, all] by layer"),
        (
            "candidate_layers",
            {"a": [1, "2"]},
            "candidate_layers['a'][1] is '2'; it must be a whole number",
        ),
        ("inference_flops", [3], "inference_flops is [3]; it must be two whole numbers"),
        (
            "costs",
            [{"role": "search"}],
            "costs[0] is {'role': 'search'}; it must be a training's cost: role, training",
        ),
        (
            "costs",
            [["search", "ab", 600]],
            "costs[0] is ['search', 'ab', 600]; it must be a training's cost",
        ),
        (
            "costs",
            [["search", "ab", 600, 1.5, "x"]],
            "costs[0] is ['search', 'ab', 600, 1.5, 'x']; it must be",
        ),
        ("costs", [["search", "ab", 600, 1.5] + [1] * 6], "costs[0] is ['search', 'ab', 600, 1.5"),
        ("costs", 3, "costs is 3; it must be a list of costs"),
        ("curve", {"step": [1, math.nan]}, "curve['step'][1] is nan; it must be a finite number"),
        (
            "curve",
            {"step": [1, 2], "valid_loss": [1]},
            "curve has 2 step, 1 valid_loss; they must be as many",
        ),
        ("collapsed", [3], "collapsed[0] is 3; it must be a text"),
    ],
)
def test_a_record_that_is_json_and_no_result_is_told_with_its_line_entry_and_value(
    tmp_path, entry, value, told
):
    path = written(tmp_path, LINE, LINE | {"round": 2, entry: value})
    with pytest.raises(ConfigError) as caught:
        records_module.Records(path)
    message = str(caught.value)
    assert f"line 2 of '{path}' is damaged: {told}" in message
    assert message.endswith("; take it out, and its round is done again")
    assert "\n" not in message


def test_a_long_value_is_told_by_its_beginning(tmp_path):
    with pytest.raises(ConfigError) as caught:
        records_module.Records(written(tmp_path, LINE | {"test_accuracy": "long" * 1000}))
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_record_without_a_field_is_told_which(tmp_path):
    with pytest.raises(
        ConfigError, match=r"line 1 of .* is damaged: it has no 'density'; take it out"
    ):
        records_module.Records(written(tmp_path, without(LINE, "density")))


def test_records_of_older_versions_and_entries_of_newer_ones_are_read(tmp_path):
    older = LINE | {
        "costs": [["search", "ab", 600, 1.5]],
        "curve": None,
        "test_accuracy": None,
        "evaluated": False,
    }
    newer = LINE | {"round": 2, "of_a_later_version": {"a": [None]}}
    assert records_module.Records(written(tmp_path, older, newer)).all() == [older, newer]


def test_the_report_of_damaged_records_is_refused_in_one_line_with_code_two(
    tmp_path, outcome, capsys
):
    folder = shutil.copytree(outcome.folder, tmp_path / "run")
    lines = records_of(folder)
    lines[3] |= {"density": "x"}
    write_records(folder, lines)
    assert main(["report", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "line 4 of" in told
    assert "density is 'x'" in told
    assert "Traceback" not in told


def test_what_was_evaluated_before_an_arm_failed_is_recorded(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(
        "def score(state, mask, context):\n    if sum(int(keep.sum()) for keep in mask.values()) < "
        "0.7 * sum(k.numel() for k in mask.values()):\n        raise KeyError('mine')\n    return "
        "{name: state[name].abs() for name in mask}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arms = {"lth": {"method": "lth", "rate": 0.2, "score": "failing:score"}}
    done = go(tmp_path, recipe(arms=arms, replicates=1))
    assert [r["round"] for r in done.records] == [0, 1, 2]
    [note] = done.notes
    assert note.startswith(
        "arm lth, replicate 0: failed: round 3: 'failing:score' failed: KeyError: 'mine' "
        "(failing.py, line 3); "
    )
    with (tmp_path / "failing.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(ConfigError, match=r"your own 'failing:score'.* differs"):
        go(tmp_path, recipe(arms=arms, replicates=1))


def test_an_arm_changed_under_its_name_is_refused_with_what_differs(tmp_path):
    arms = {"lth": {"method": "lth", "rate": 0.2}}
    go(tmp_path, recipe(arms=arms, replicates=1, until={"rounds": 1}))
    go(tmp_path, recipe(arms={"other": {"method": "dense"}}, replicates=1, until={"rounds": 1}))
    arms["lth"]["rate"] = 0.3
    with pytest.raises(
        ConfigError, match=r"arm 'lth' has changed .*rate was 0.2, is 0.3; give it another name"
    ):
        go(tmp_path, recipe(arms=arms, replicates=1, until={"rounds": 1}))
    # An estimate, too: it would say that nothing is left to do. Of another method only that is
    # said, not each option that it has not.
    arms["lth"] = {"method": "one_shot", "densities": [0.5]}
    plans = plan(recipe(arms=arms, replicates=1, until={"rounds": 1}))
    with pytest.raises(ConfigError, match="began: method was lth, is one_shot; give it another"):
        foresee(plans, runs=tmp_path / "runs")


def test_other_data_under_the_same_recipe_are_refused(tmp_path):
    path = tmp_path / "d.npz"
    images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4
    images[np.arange(40), labels] = 200
    options = {"name": "arrays", "path": str(path)}
    arrays = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    small = {"data": options, "replicates": 1, "until": {"rounds": 1}}
    np.savez(path, **arrays)
    go(tmp_path, recipe(**small))
    arrays["train_images"] = images + 1
    np.savez(path, **arrays)
    with pytest.raises(ConfigError, match="the data differs from what"):
        go(tmp_path, recipe(**small))


def test_a_second_process_in_the_same_folder_is_refused(tmp_path):
    folder = RunFolder(recipe(), tmp_path / "runs", "f")
    with pytest.raises(ConfigError, match="another process works in"):
        RunFolder(recipe(), tmp_path / "runs", "f")
    folder.close()


def test_a_loss_that_is_no_number_ends_its_arm_and_the_others_go_on(tmp_path, monkeypatch):
    import tombola.training.jobs

    honest = tombola.training.jobs.run_job

    def spoilt(job, task, progress=None):
        if job.part.classes is not None:
            raise tombola.training.jobs.TrainingError(
                "the loss is nan at step 3; a lower learning rate may help"
            )
        return honest(job, task, progress)

    monkeypatch.setattr("tombola.search.work.run_job", spoilt)
    done = go(tmp_path, recipe(replicates=1))
    assert not done.complete
    assert (
        "arm colt-2, replicate 0: failed: round 1: the loss is nan at step 3; a lower learning "
        "rate may help" in (done.notes)
    )
    assert "arm matched, replicate 0: skipped: source failed: arm colt-2, replicate 0" in done.notes
    assert [r["round"] for r in done.records if r["arm"] == "lth"] == [0, 1, 2, 3]


def test_a_real_divergence_names_arm_replicate_round_and_step(tmp_path):
    training = {"optimizer": "sgd", "lr": 1e20, "epochs": 1, "batch_size": 64}
    done = go(
        tmp_path,
        recipe(training=training, arms={"lth": {"method": "lth", "rate": 0.2}}, replicates=1),
    )
    assert not done.complete
    assert done.records == []
    assert done.notes[0].startswith("arm lth, replicate 0: failed: round 0: the loss is ") or (
        done.notes[0].startswith("arm lth, replicate 0: failed: round 1: the loss is ")
    )
    assert "at step" in done.notes[0]


def test_the_paper_stop_returns_the_last_ticket_that_passes(tmp_path):
    arms = {"one-shot": {"method": "lth", "densities": [0.5, 0.01, 0.005]}}
    done = go(tmp_path, recipe(arms=arms, until={"accuracy_drop": 0.1}, replicates=1))
    assert done.complete
    assert [r["round"] for r in done.records] == [0, 1, 2]
    assert [r["passes"] for r in done.records] == [True, True, False]
    assert "more than 10.00% below dense" in done.notes[0]
    assert done.notes[0].endswith("round 1 is the result")


def test_rounds_may_be_given_as_densities_and_are_met_exactly_by_every_arm(tmp_path):
    densities = [0.7, 0.4, 0.2]
    arms = {
        "colt-2": {"method": "colt", "densities": densities},
        "colt-3": {
            "method": "colt",
            "partitions": 3,
            "split_by": "examples",
            "densities": densities,
        },
        "lth": {"method": "lth", "densities": densities},
        "seeds": {
            "method": "colt",
            "split_by": "seeds",
            "reach": {"density": 0.2, "rounds": 3},
            "exact": True,
        },
    }
    done = go(tmp_path, recipe(arms=arms, until={}, replicates=1))
    assert done.complete
    for r in (r for r in done.records if r["round"] and r["arm"] != "seeds"):
        assert r["kept"] == round(densities[r["round"] - 1] * r["prunable"])
    last = next(r for r in done.records if r["arm"] == "seeds" and r["round"] == 3)
    assert last["kept"] == round(0.2 * last["prunable"])


def test_until_a_density_ends_in_the_first_round_at_or_below_it(tmp_path):
    done = go(tmp_path, recipe(until={"density": 0.5}, replicates=1))
    for arm in ("colt-2", "lth"):
        densities = [r["density"] for r in done.records if r["arm"] == arm]
        assert densities[-1] <= 0.5 < densities[-2]


def test_rewinding_to_step_k_starts_every_ticket_from_the_dense_runs_state_at_k(tmp_path):
    done = go(tmp_path, recipe(rewind=10, replicates=1, until={"rounds": 2}))
    assert done.complete
    assert len({r["rewind_digest"] for r in done.records}) == 1
    ticket = Ticket.load(ticket_file(done.folder, "lth", 0, 1))
    assert ticket.origin["rewind_step"] == 10

    from pathlib import Path

    from tombola.experiments.plans import Plans, make_model, make_task, replicate_seed
    from tombola.training.jobs import Job, run_job

    rewound = recipe(rewind=10, replicates=1)
    task = make_task(rewound, None)
    plans = Plans.of(rewound, task)
    start = make_model(rewound, task, 0).state_dict()
    job = Job(start, plans.mask, rewound.training, replicate_seed(rewound, 0), last=10)
    assert isinstance(done.folder, Path)
    for name, value in run_job(job, task).final.items():
        assert torch.equal(ticket.rewind_point[name], value)


def test_patience_does_not_move_the_rewind_point(tmp_path):
    training = recipe().to_dict()["training"] | {
        "patience": 1,
        "evaluate_every": 2,
        "lr": 0.5,
        "epochs": 4,
    }
    changed = recipe(training=training, rewind=40, replicates=1, until={"rounds": 1})
    done = go(tmp_path, changed, workers=1)
    straight = recipe(
        training=training | {"patience": None}, rewind=40, replicates=1, until={"rounds": 1}
    )
    other = go(tmp_path, straight, workers=1)
    assert {r["rewind_digest"] for r in done.records} == {r["rewind_digest"] for r in other.records}


def test_weights_that_overflow_in_the_last_step_are_told_with_the_step(tmp_path):
    training = {"optimizer": "sgd", "lr": 1e38, "epochs": 1, "batch_size": 2000}
    done = go(
        tmp_path,
        recipe(training=training, arms={"lth": {"method": "lth", "rate": 0.2}}, replicates=1),
    )
    assert not done.complete
    assert "after step 1" in done.notes[0] or "after training" in done.notes[0]


def test_without_validation_data_that_is_recorded_and_told(tmp_path):
    done = go(
        tmp_path, recipe(data={"name": "digits", "valid": 0}, replicates=1, until={"rounds": 1})
    )
    assert {r["selected"] for r in done.records} == {"last, selected without validation data"}
    assert all(r["valid_accuracy"] is None and r["early_stop_step"] is None for r in done.records)
    assert any("without validation data" in note for note in done.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": {"c": {"method": "colt", "partitions": 11, "rate": 0.1}}},
            "arm 'c': partitions is 11; the data has 10",
        ),
        (
            {"arms": {"c": {"method": "colt", "partitions": 6, "rate": 0.1}}},
            "a head of one output cannot learn",
        ),
        (
            {"prunable": "all"},
            "'head.weight' is prunable, but class partitions renumber their labels",
        ),
        ({"prunable": ["nothing.*"]}, "'nothing.\\*' matches no parameter"),
        ({"model": "lenet5"}, "lenet5"),
        ({"model": "lennet5"}, "Did you mean 'lenet5'"),
        (
            {"model": {"name": "mlp", "hiden": [3]}},
            "'mlp' has no option 'hiden'.*Did you mean 'hidden'",
        ),
        ({"data": "digit"}, "Did you mean 'digits'"),
        (
            {"arms": {"l": {"method": "lth", "rate": 0.2, "score": "magnitud"}}},
            "Did you mean 'magnitude'",
        ),
        (
            {"arms": {"l": {"method": "lth", "rate": {"conv": 0.2}, "scope": "per_kind"}}},
            "rate names the groups conv",
        ),
        (
            {"until": {"density_total": 0.01}},
            "only 3,360 of 3,560 are prunable .* the cap is 94.38%",
        ),
        ({"until": {"density": 0.0001}}, "less than one of 3,360 prunable weights"),
        ({"rewind": 1000}, "rewind is 1000; a training has"),
        (
            {"data": {"name": "digits", "valid": 0.0001}, "until": {"accuracy_drop": 0.1}},
            "accuracy_drop needs validation",
        ),
        (
            {"arms": {"l": {"method": "lth", "rate": 0.2, "scope": "half_output"}}},
            "use prunable: all",
        ),
        (
            {
                "arms": {
                    "l": {
                        "method": "lth",
                        "reach": {"density": 0.1, "rounds": 2},
                        "scope": "half_output",
                    }
                },
                "prunable": "all",
            },
            "reach cannot be combined with half_output",
        ),
        ({"data": {"name": "digits", "valid": 100000}}, "100000|100,000"),
    ],
)
def test_what_cannot_work_is_refused_before_any_training(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        go(tmp_path, recipe(**changes))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("runs/*/machine/records.jsonl"))


def test_one_shot_and_random_arms_run(tmp_path):
    arms = {
        "one-shot": {"method": "lth", "reach": {"density": 0.3, "rounds": 1}},
        "random": {"method": "lth", "rate": 0.3, "score": "random"},
        "dense": {"method": "dense"},
    }
    done = go(tmp_path, recipe(arms=arms, until={"rounds": 2}, replicates=1))
    assert done.complete
    one_shot = [r for r in done.records if r["arm"] == "one-shot"]
    assert [r["round"] for r in one_shot] == [0, 1]
    assert one_shot[1]["kept"] == 3360 - round(0.7 * 3360)
    assert [r["round"] for r in done.records if r["arm"] == "dense"] == [0]
    assert all(math.isfinite(r["test_loss"]) for r in done.records)
    assert count(
        Ticket.load(next(done.folder.glob("tickets/random/*/round-002-*.safetensors"))).mask
    ) == (one_shot[0]["prunable"] - round(0.3 * 3360) - round(0.3 * (3360 - round(0.3 * 3360))))


def of_digits(**more):
    arms = {"lth": {"method": "lth", "rate": 0.5}}
    whole = {
        "name": "x",
        "model": {"name": "mlp", "hidden": [10]},
        "training": {"epochs": 1},
        "arms": arms,
    }
    return parse(whole | {"until": {"rounds": 4}, "replicates": 2} | more)


def test_the_report_is_written_while_the_run_is_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr("tombola.experiments.experiment._REFRESH", 0.0)
    monkeypatch.setattr("tombola.experiments.experiment._FIRST_REPORT", 0.0)
    written = []
    monkeypatch.setattr(
        "tombola.experiments.reporting.page.write",
        lambda *given: written.append((given[3], given[7])) or [],
    )
    run(of_digits(), runs=tmp_path, workers=1)
    assert len(written) > 1
    assert [notes[0].split(":")[0] for notes, _ in written[:-1]] == ["the run is under way"] * (
        len(written) - 1
    )
    assert written[-1][0] == []
    assert {formats for _, formats in written[:-1]} == {()}


def test_a_report_that_cannot_be_drawn_does_not_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tombola.experiments.experiment._REFRESH", 0.0)
    monkeypatch.setattr("tombola.experiments.experiment._FIRST_REPORT", 0.0)

    def fail(*given):
        if given[7] == ():
            raise ValueError("no ink")
        return []

    monkeypatch.setattr("tombola.experiments.reporting.page.write", fail)
    said = []
    monkeypatch.setattr(
        "tombola.experiments.progress.Display.say", lambda _, text: said.append(text)
    )
    done = run(of_digits(), runs=tmp_path, workers=1)
    assert done.complete
    assert [text for text in said if "no ink" in text] == [
        "no report while running: ValueError: no ink (more in errors.log)"
    ]
