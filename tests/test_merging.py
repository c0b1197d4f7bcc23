"""Runs that add up: replicates done apart, joined, equal one run; what does not belong together
is refused.
"""

import shutil

import numpy as np
import pytest
import torch
from tests.layouts import as_before, kept_of_rounds, place, ticket_file
from tests.resealing import change_json, records_of, unseal, write_records
from tests.test_experiment import go, recipe, timeless

from tombola.commands.cli import main
from tombola.experiments.experiment import foresee, plan, report, run
from tombola.experiments.plans import make_model, make_task
from tombola.folder.merging import merge
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError
from tombola.records.seals import Seals

ARMS = {
    "colt-2": {"method": "colt", "rate": 0.15},
    "random": {"method": "random_ticket", "source": "colt-2"},
}


def three(**changes):
    return recipe(**({"arms": ARMS, "replicates": 3, "until": {"rounds": 2}} | changes))


def by_key(records):
    """Records in one order: which arm's first one was written first is a race."""
    return sorted(
        timeless(records), key=lambda record: (record["arm"], record["replicate"], record["round"])
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The whole run, and the same in two parts."""
    parent = tmp_path_factory.mktemp("merging")
    whole = run(three(), runs=parent / "whole", workers=1)
    one = run(three(), runs=parent / "one", workers=1, replicates=[0, 1])
    two = run(three(), runs=parent / "two", workers=1, replicates=[2])
    return whole, one, two


@pytest.fixture
def copies(parts, tmp_path):
    """Copies of the two parts, to be changed."""
    return [
        shutil.copytree(part.folder, tmp_path / str(number) / part.folder.name)
        for number, part in enumerate(parts[1:], 1)
    ]


def test_replicates_done_apart_are_complete_each_and_say_what_is_elsewhere(parts):
    _, one, two = parts
    assert one.complete
    assert two.complete
    assert "replicates that are not here: 2" in one.notes
    assert {r["replicate"] for r in two.records} == {2}


def test_parts_merged_are_the_run_done_at_once(parts, copies):
    whole = parts[0]
    merged = report(merge(copies[0], copies[1:]))
    assert merged.complete
    assert merged.notes == []
    assert timeless(merged.records) == timeless(whole.records)
    kept = kept_of_rounds(whole.folder)
    assert {kind for kind, *_ in kept} == {"ticket", "candidates", "predictions"}
    assert kept_of_rounds(merged.folder) == kept
    points = {path.name for path in Run(whole.folder).rewind_points.iterdir()}
    assert {path.name for path in Run(merged.folder).rewind_points.iterdir()} == points
    again = run(three(), runs=copies[0].parent, workers=1)
    assert timeless(again.records) == timeless(whole.records)


def test_merging_twice_changes_nothing(copies):
    merge(copies[0], copies[1:])
    before = {path: path.read_bytes() for path in copies[0].rglob("*") if path.is_file()}
    merge(copies[0], copies[1:])
    assert {path: path.read_bytes() for path in copies[0].rglob("*") if path.is_file()} == before


def test_arms_and_replicates_that_only_one_part_has_come_together(parts, tmp_path):
    more = three(arms=ARMS | {"lth": {"method": "lth", "rate": 0.2}}, replicates=2)
    lth = run(more, runs=tmp_path, workers=1, replicates=[0])
    target = shutil.copytree(parts[2].folder, tmp_path / "target" / parts[2].folder.name)
    merged = merge(target, [lth.folder])
    assert list(merged.recipe.arms) == ["colt-2", "random", "lth"]
    assert merged.recipe.replicates == 3
    assert {(r["arm"], r["replicate"]) for r in merged.records.all()} == {
        *(("colt-2", 0), ("colt-2", 2), ("random", 0), ("random", 2), ("lth", 0))
    }


def refused(copies, message):
    before = {path: path.read_bytes() for path in copies[0].rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=message) as caught:
        merge(copies[0], copies[1:])
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in copies[0].rglob("*") if path.is_file()} == before


def test_doubles_must_agree(parts, copies):
    other = records_of(parts[1].folder)[0] | {"test_accuracy": 0.123}
    write_records(copies[1], [*records_of(copies[1]), other])
    refused(
        copies, "different results for arm .*, replicate ., round 0: test_accuracy was .*, is 0.123"
    )


def test_an_arm_that_is_another_one_is_refused_with_its_fields(copies):
    other, seals = Run(copies[1]), Run(copies[1]).seals
    plain = other.recipe.to_dict()
    plain["arms"]["colt-2"]["rate"] = 0.2
    arms = other.definitions()
    arms["colt-2"]["rate"] = arms["random"]["source"]["rate"] = 0.2
    seals.write_json(copies[1] / "machine/arms.json", arms)
    seals.write_yaml(copies[1] / "recipe.yaml", plain)
    refused(copies, "cannot be merged with .*: arm 'colt-2' is another one: rate was 0.15, is 0.2")


def test_a_run_of_another_recipe_is_refused_with_its_fields(copies, tmp_path):
    other = run(
        three(seed=5, until={"rounds": 1}, replicates=1), runs=tmp_path / "other", workers=1
    )
    refused([copies[0], other.folder], "cannot be merged with .*: seed was 0, is 5")


def test_other_data_is_refused(copies):
    change_json(
        copies[1],
        "environment.json",
        lambda known: [entry | {"data_fingerprint": "f"} for entry in known],
    )
    refused(copies, "the data differs from what .* began with")


def test_what_is_no_run_and_a_run_named_twice_are_refused(copies, tmp_path):
    refused([copies[0], tmp_path / "nothing"], "is no run folder: it has no run.json")
    assert not (tmp_path / "nothing").exists()
    refused([copies[0], copies[0]], "is named twice")
    with pytest.raises(ConfigError, match="needs two run folders or more"):
        merge(copies[0], [])


def test_a_run_of_another_format_is_refused(copies):
    change_json(copies[1], "run.json", lambda about: about | {"format": 2})
    refused(copies, "is a run of format 2, and this tombola makes and reads format 3")


def test_replicates_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="replicates are numbered from 0 to 2; asked for is 3"):
        go(tmp_path, three(), replicates=[0, 3])


def test_a_folder_of_another_recipe_under_this_ones_name_is_refused(tmp_path):
    small = three(until={"rounds": 1}, replicates=1)
    other = three(
        until={"rounds": 1}, replicates=1, training=small.to_dict()["training"] | {"lr": 0.06}
    )
    done, moved = go(tmp_path, small), go(tmp_path / "other", other)
    shutil.rmtree(done.folder)
    moved.folder.rename(done.folder)
    with pytest.raises(
        ConfigError, match=r"holds the run of another recipe: training.lr was 0.06, is 0.05"
    ):
        go(tmp_path, small)


def test_the_report_of_a_run_can_be_written_again_from_its_folder_alone(parts):
    whole = parts[0]
    before = (whole.folder / "report.html").read_text()
    (whole.folder / "report.html").unlink()
    again = report(Run(whole.folder))
    assert again.records == whole.records
    assert (whole.folder / "report.html").read_text() == before


FILES = {
    "recipe.yaml",
    "machine/environment.json",
    "machine/arms.json",
    "machine/records.jsonl",
    "machine/state.json",
    "machine/run.json",
    "machine/predictions.npz",
    "machine/latency.json",
}


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_packed_run_tells_what_the_run_told_in_eight_files(parts, tmp_path):
    run = Run(parts[0].folder)
    packed = pack(parts[0].folder, tmp_path / "packed")
    assert names(packed.path) == FILES
    assert packed.records.all() == run.records.all()
    was, now = run.predictions(), packed.predictions()
    assert set(was) == {
        f"{arm}/replicate-{k}/round-{i:03}" for arm in ARMS for k in range(3) for i in range(3)
    }
    assert list(now) == list(was)
    assert all((now[key] == was[key]).all() for key in was)
    labels = make_task(three(), None).splits.test.labels.numpy()
    assert (run.labels() == labels).all()
    assert (packed.labels() == labels).all()
    assert report(packed).complete
    assert (tmp_path / "packed" / "report.html").exists()
    again = pack(parts[0].folder, tmp_path / "again")
    assert (again.path / "machine/predictions.npz").read_bytes() == (
        packed.path / "machine/predictions.npz"
    ).read_bytes()


@pytest.mark.parametrize("first", [0, 1])
def test_a_packed_part_merges_as_the_run_does(first, parts, copies, tmp_path):
    """Into a run folder, where its predictions become files again, and taking one in, where
    files go into its one.
    """
    whole = Run(parts[0].folder)
    folders = [copies[0], pack(copies[1], tmp_path / "packed").path]
    merged = merge(folders[first], [folders[1 - first]])
    assert by_key(merged.records.all()) == by_key(whole.records.all())
    assert merged.packed == bool(first)
    was, now = whole.predictions(), merged.predictions()
    assert sorted(now) == sorted(was)
    assert all((now[key] == was[key]).all() for key in was)
    assert (merged.labels() == whole.labels()).all()
    assert (merged.path / "tickets").exists() != bool(first)
    assert merge(folders[first], [folders[1 - first]]).records.all() == merged.records.all()


def test_predictions_of_one_round_that_differ_are_refused(parts, copies, tmp_path):
    packed = pack(parts[0].folder, tmp_path / "packed").path
    found = dict(Run(packed).predictions())
    found["colt-2/replicate-0/round-001"] = found["colt-2/replicate-0/round-001"] + 1
    Run(packed).seals.write_arrays(packed / "machine/predictions.npz", found)
    refused([copies[0], packed], "have different predictions for colt-2/replicate-0/round-001")


def test_a_packed_run_cannot_be_continued(parts, tmp_path):
    pack(parts[0].folder, tmp_path / parts[0].folder.name)
    with pytest.raises(ConfigError, match="is a packed run, without weights to go on from"):
        run(three(), runs=tmp_path, workers=1)


def test_a_run_is_packed_into_a_new_folder_only(parts, tmp_path):
    (tmp_path / "mine").write_text("precious")
    for target in (tmp_path, tmp_path / "mine", parts[0].folder):
        with pytest.raises(
            ConfigError, match="is already there; a run is packed into a new folder"
        ):
            pack(parts[0].folder, target)
    assert (tmp_path / "mine").read_text() == "precious"
    with pytest.raises(ConfigError, match="is no run folder"):
        pack(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("damage", "told"), [(b"no zip", "was altered or damaged: it has no"), (b"", "is empty")]
)
def test_packed_predictions_that_cannot_be_read_are_one_line(damage, told, parts, copies, tmp_path):
    packed = pack(parts[2].folder, tmp_path / "packed").path  # the replicate that the first has not
    (packed / "machine/predictions.npz").write_bytes(damage)
    refused([copies[0], packed], f"predictions.npz' {told}")


def test_packed_predictions_cannot_be_written_elsewhere(parts, copies, tmp_path):
    packed = pack(parts[2].folder, tmp_path / "packed").path
    outside = {"../../outside": np.zeros(3, dtype=np.uint8)}
    Run(packed).seals.write_arrays(packed / "machine/predictions.npz", outside)
    with pytest.raises(ConfigError, match=r"'\.\./\.\./outside' is no round of an arm"):
        merge(copies[0], [packed])
    assert not list(tmp_path.rglob("outside*"))


def test_tickets_that_differ_are_refused_though_one_has_no_record(parts, copies):
    """A run that was killed has tickets whose records were not yet written."""
    one, two = copies[0], shutil.copytree(parts[1].folder, copies[0].parent / "same")
    path = one / "machine/records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    gone = [
        n
        for n, line in enumerate(lines)
        if '"random", ' in line and '"replicate": 0, "round": 2' in line
    ]
    path.write_text("".join(line for n, line in enumerate(lines) if n not in gone))
    shutil.copyfile(ticket_file(one, "colt-2", 0, 2), ticket_file(one, "random", 0, 2))
    refused([one, two], "are not the same file")
    shutil.rmtree(two / "tickets")
    refused([one, two], "is not the ticket that .* tells of")


def test_a_pack_that_is_killed_leaves_nothing_that_looks_like_a_run(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(Seals, "write_arrays", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack(parts[0].folder, tmp_path / "evidence" / "packed")
    assert list((tmp_path / "evidence").iterdir()) == []


def test_packing_and_merging_write_nothing_into_what_they_read(parts, copies, tmp_path):
    packed = pack(parts[2].folder, tmp_path / "packed").path
    merge(copies[0], [packed])
    assert names(packed) == FILES
    before = {path: path.stat().st_mtime_ns for path in copies[1].rglob("*")}
    merge(copies[0], [copies[1]])
    assert {path: path.stat().st_mtime_ns for path in copies[1].rglob("*")} == before


def test_a_merge_does_not_look_at_what_follows_from_other_rounds(tmp_path):
    """Which rounds were evaluated changes what the later ones cost, and where a search stops
    what passes.
    """
    arms = {"lth": {"method": "lth", "rate": 0.2}}
    every = run(three(arms=arms, replicates=1), runs=tmp_path / "every", workers=1)
    some = run(
        three(arms=arms, replicates=1, evaluate_at=[0.65]), runs=tmp_path / "some", workers=1
    )
    until = {"rounds": 2, "accuracy_drop": 0.9}
    drop = run(three(arms=arms, replicates=1, until=until), runs=tmp_path / "drop", workers=1)
    merged = merge(some.folder, [every.folder, drop.folder])
    assert all(record["evaluated"] for record in merged.records.all())
    assert [record["samples_seen"] for record in merged.records.all()] == [
        r["samples_seen"] for r in every.records
    ]


def test_a_merged_run_says_how_many_replicates_it_has_and_what_is_missing(parts, copies, tmp_path):
    fewer = run(three(replicates=1), runs=tmp_path / "fewer", workers=1)
    merged = report(merge(fewer.folder, [copies[1]]))
    assert "3, from seed 0" in (merged.folder / "report.html").read_text()
    packed = pack(parts[2].folder, tmp_path / "packed").path
    complete = report(merge(copies[0], [packed]))
    assert (complete.complete, complete.notes) == (True, [])
    longer = run(three(until={"rounds": 3}, replicates=1), runs=tmp_path / "longer", workers=1)
    mixed = report(merge(longer.folder, [parts[2].folder]))
    assert not mixed.complete
    assert any(
        "replicate 2: not complete: it ended by another until" in note for note in mixed.notes
    )


def test_what_lies_ahead_is_judged_by_the_recipe_that_is_asked_for(parts, tmp_path):
    whole = parts[0]
    ahead = foresee(plan(three(until={"rounds": 4})), runs=whole.folder.parent)
    assert ahead.trainings > 0
    assert foresee(plan(three()), runs=whole.folder.parent).trainings == 0
    one = run(three(arms={"colt-2": ARMS["colt-2"]}, replicates=1), runs=tmp_path, workers=1)
    assert one.complete
    assert foresee(plan(three()), runs=tmp_path).trainings > 0
    packed = tmp_path / "packed"
    pack(whole.folder, packed / whole.folder.name)
    with pytest.raises(ConfigError, match="is a packed run"):
        foresee(plan(three()), runs=packed)


def test_a_record_without_its_fields_is_refused_before_anything_is_written(copies):
    with (copies[1] / "machine/records.jsonl").open("a") as file:
        file.write('{"arm": "colt-2", "replicate": 2, "round": 9}\n')
    refused(copies, "line .* of .* is damaged")


def test_an_empty_recipe_in_a_run_folder_is_one_line(copies):
    (copies[1] / "recipe.yaml").write_text("")
    refused(copies, "recipe.yaml' cannot be read")


def test_a_checkpoint_may_have_moved_since(tmp_path):
    first = tmp_path / "one" / "w.pt"
    first.parent.mkdir()
    torch.save(make_model(three(), make_task(three(), None)).state_dict(), first)
    model = {"name": "mlp", "hidden": [40, 20]}
    begun = run(
        three(model=model | {"weights": str(first)}, replicates=1),
        runs=tmp_path / "runs",
        workers=1,
    )
    second = first.rename(tmp_path / "w2.pt")
    again = run(
        three(model=model | {"weights": str(second)}, replicates=1),
        runs=tmp_path / "runs",
        workers=1,
    )
    assert again.folder == begun.folder
    assert again.complete
    other = run(three(replicates=1), runs=tmp_path / "other", workers=1)
    second.unlink()
    with pytest.raises(
        ConfigError,
        match=r"cannot be merged with .*: model.weights was .*which is not here, is None",
    ):
        merge(begun.folder, [other.folder])


# Of each kind of file of a run: one that the other part has and the first one lacks.
KINDS = {
    "ticket": "tickets/colt-2/replicate-2/round-001.safetensors",
    "rewind point": "rewind_points/*.safetensors",
    "candidates": "candidates/colt-2/replicate-2/round-001.safetensors",
    "predictions": "predictions/random/replicate-2/round-002.npy",
    "labels": "predictions/labels.npy",
    "training": "trainings/*.training",
    "records": "records.jsonl",
    "environments": "environment.json",
    "endings": "state.json",
    "arms": "arms.json",
    "latency": "latency.json",
    "recipe": "recipe.yaml",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_reads_every_file_before_it_takes_one_in(copies, capsys, kind):
    """A ticket that was cut to 300 bytes, and any other file of which a bit has changed."""
    path = place(copies[1], KINDS[kind])
    path = next(path.parent.glob(path.name))
    raw = path.read_bytes()
    path.write_bytes(
        raw[:300] if kind == "ticket" else raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:]
    )
    before = {path: path.read_bytes() for path in copies[0].rglob("*") if path.is_file()}
    assert main(["runs", "merge", str(copies[0]), str(copies[1])]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert path.name in told
    assert {path: path.read_bytes() for path in copies[0].rglob("*") if path.is_file()} == before


def test_a_ticket_of_another_round_and_a_strange_file_are_not_taken_in(copies):
    first, second = (ticket_file(copies[1], "colt-2", 2, index) for index in (1, 2))
    whole = second.read_bytes()
    shutil.copyfile(first, second)
    refused(copies, r"round-002-density-.*safetensors' is not the ticket of its round")
    second.write_bytes(whole)
    (copies[1] / "tickets" / "notes.txt").write_text("mine")
    refused(copies, r"notes.txt' is no file of a run; take it away")
    (copies[1] / "tickets" / "notes.txt").rename(
        copies[1] / "tickets" / ".round-001.safetensors.abcdefgh"
    )
    merge(copies[0], copies[1:])
    assert not list(copies[0].rglob("*.abcdefgh"))


def test_arms_that_do_not_fit_the_recipe_are_refused(copies):
    change_json(copies[1], "arms.json", lambda _: {"x": {}})
    refused(copies, r"arms.json has no arm 'colt-2'")
    (copies[1] / "machine/arms.json").write_text('{"x": 1}')
    refused(copies, r"arms.json' is damaged|arms.json' was altered or damaged")


@pytest.mark.parametrize("older", [(0,), (1,), (0, 1)])
def test_parts_that_are_laid_out_as_before_merge_as_the_run_does(older, parts, copies):
    for index in older:
        as_before(copies[index])
    merged = merge(copies[0], copies[1:])
    assert merged.layout.older == (0 in older)  # the first one stays as it is
    assert kept_of_rounds(merged.path) == kept_of_rounds(parts[0].folder)
    assert timeless(merged.records.all()) == timeless(parts[0].records)
    assert merged.notes == []
    again = run(three(), runs=copies[0].parent, workers=1)
    assert again.complete


@pytest.mark.parametrize("old", [0, 1])
def test_a_part_of_before_there_were_digests_merges_as_the_run_does(old, parts, copies):
    whole = Run(parts[0].folder)
    unseal(copies[old])
    merged = merge(copies[0], copies[1:])
    assert merged.sealed
    assert merged.records.all() == Run(copies[0]).records.all()
    assert timeless(merged.records.all()) == timeless(whole.records.all())
    assert [line for line in merged.notes if "from now on they do" in line] == merged.notes
    assert len(merged.notes) == (old == 0)
    assert kept_of_rounds(copies[0]) == kept_of_rounds(whole.path)


@pytest.mark.parametrize(
    "name", ["records.jsonl", "predictions/labels.npy", "state.json", "latency.json"]
)
def test_what_is_packed_is_read_first(copies, tmp_path, name):
    path = place(copies[0], name)
    raw = path.read_bytes()
    path.write_bytes(raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:])
    with pytest.raises(InputError, match=path.name):
        pack(copies[0], tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_packed_run_of_before_there_were_digests_has_them(parts, copies, tmp_path):
    packed = pack(unseal(copies[0]), tmp_path / "packed")
    again = pack(parts[1].folder, tmp_path / "again")
    assert packed.sealed
    assert (packed.path / "machine/predictions.npz").read_bytes() == (
        again.path / "machine/predictions.npz"
    ).read_bytes()
    assert packed.records.all() == again.records.all()


def test_tickets_that_write_their_masks_in_two_ways_are_the_same(copies, parts, monkeypatch):
    """As runs have them that were begun before masks could be written as gaps."""
    from tombola.ticket_format import verify, writing
    from tombola.tickets import Ticket

    one = copies[0]
    two = shutil.copytree(one, one.parent.parent / "again" / one.name)
    path = Run(one).ticket_path("colt-2", 0, 2)
    other = Run(two).ticket_path("colt-2", 0, 2)
    monkeypatch.setattr(writing, "_WORTH", 1)
    monkeypatch.setattr(writing, "_AN_ENTRY", 0)
    ticket = Ticket.load(other)
    ticket.save(other, Run(two).rewind_points)
    assert (verify(path).format, verify(other).format) == (2, 4)
    merge(one, [two])
    ticket.origin["seeds"] = "others"
    ticket.save(other, Run(two).rewind_points)
    refused([one, two], "are not the same file")


def test_a_ticket_whose_parent_writes_its_mask_in_another_way_is_the_same(copies, monkeypatch):
    """A mask near one bit a weight stands packed in both runs, and yet its ticket names another
    file of its parent.
    """
    from tombola.ticket_format import verify, writing
    from tombola.tickets import Ticket

    first = copies[0]
    second = shutil.copytree(first, first.parent.parent / "again" / first.name)
    path, child = (Run(second).ticket_path("colt-2", 0, index) for index in (1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_WORTH", 1)
        patch.setattr(writing, "_AN_ENTRY", 0)
        parent = Ticket.load(path).save(path, Run(second).rewind_points)
    assert parent != Ticket.load(child).origin["parent"]
    for named, fits in ((parent, True), ("0" * 64, False)):
        ticket = Ticket.load(child)
        ticket.origin["parent"] = named
        ticket.save(child, Run(second).rewind_points)
        assert verify(child).format == verify(Run(first).ticket_path("colt-2", 0, 2)).format
        if fits:
            merge(first, [second])
        else:
            refused([first, second], "are not the same file")
