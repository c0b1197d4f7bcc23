"""Damage: a bit, a cut, an exchange in any file that a run reads back is refused, or told and
done again.
"""

import copy
import json
import random
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.layouts import kept_of_rounds, place, ticket_file
from tests.resealing import change_json, copied, records_of, unseal, write_records
from tests.test_experiment import recipe, timeless
from tests.toys import without

from tombola.commands.cli import main
from tombola.experiments import transfer
from tombola.experiments.experiment import report, run
from tombola.experiments.progress import Display
from tombola.folder import similarity
from tombola.folder.packing import pack
from tombola.folder.run_folder import RunFolder
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError
from tombola.records.records import Records
from tombola.records.seals import Seals
from tombola.records.storage import Store
from tombola.reports import page, table
from tombola.search.connectivity import Line
from tombola.search.work import Connect, Measure, Train
from tombola.tasks.protocol import Metrics
from tombola.tickets import Ticket
from tombola.training.jobs import Measured, Trained

pytestmark = pytest.mark.usefixtures("quick")

ARMS = {
    "apart": {"method": "colt", "partitions": 2, "rate": 0.3, "combine": "all_at_end"},
    "lth": {"method": "lth", "rate": 0.5},
    "again": {"method": "reordered", "source": "lth"},
}
SMALL = {
    "arms": ARMS, "replicates": 1, "until": {"rounds": 2}, "model": {"name": "mlp", "hidden": [12]},
    "training": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "epochs": 1, "batch_size": 256},
}  # fmt: skip
page_write = page.write
DIGEST, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture(scope="module")
def quick():
    """Runs without a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.experiments.reporting.page.write", lambda *_: [])
        patch.setattr("tombola.experiments.transfer.matrix.write", lambda *_: [])
        yield


def small(**changes):
    return recipe(**(SMALL | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, quick):
    """A finished run."""
    return run(small(), runs=tmp_path_factory.mktemp("damage"), workers=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory, quick):
    """The run of another seed."""
    return run(small(seed=1), runs=tmp_path_factory.mktemp("other"), workers=1).folder


@pytest.fixture(scope="module")
def kept(whole, tmp_path_factory):
    """A copy with all that a run may have: results in the store, and the packed run inside."""
    folder = copied(whole.folder, tmp_path_factory.mktemp("kept"))
    fill(Store(folder / "machine/trainings"), 1.0)
    pack(whole.folder, folder / "packed")
    return folder


def fill(store, value):
    state = {"fc.weight": torch.full((3, 4), value), "steps": torch.tensor(7)}
    history = [{"step": 3, "valid_loss": 0.25 * value, "valid_accuracy": 0.5}]
    mask = {"fc.weight": torch.ones(3, 4, dtype=torch.bool)}
    cuts = [(2, {"fc.weight": 12})]
    trained = Trained(state, state, 3, "best", history, 600, 1.5, 9, 1.25, 4096, mask, cuts)
    tested = Metrics(0.5 * value, {"accuracy": 0.75}, torch.tensor([1, 0, 2]))
    store.keep(Train, DIGEST, trained)
    store.keep(Measure, DIGEST, Measured(tested, None, tested, tested))
    store.keep(Connect, DIGEST, Line([0.0, 1.0], [0.5, 0.5 * value], [1.0, 2.0]))


def plain(value):
    """What two values must agree in, to the last bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return plain(vars(value)) if hasattr(value, "__dict__") else repr(value)


def from_store(run_, kind):
    """Read a result from the store; one that counts as not there must have been told."""
    told = []
    found = run_.store(told.append).read(kind, DIGEST)
    if found is None:
        assert len(told) == 1
        raise ConfigError(told[0])
    return found


def all_of(run_):
    """What opening a run reads: recipe, digest, facts, arms."""
    return {
        "recipe": run_.recipe.to_dict(),
        "digest": run_.digest,
        "facts": run_.facts,
        "arms": run_.definitions(),
    }


def candidates_of(run_):
    return run_.candidates("apart", 0, 1, run_.mask("apart", 0, 1))


def told_records(run_):
    """The results; a last one that is half written is left out, and that is told."""
    path = run_.path / "machine/records.jsonl"
    found = Records(path, repair=False, order=list(run_.recipe.arms), seals=run_.seals)
    if found.repaired or not len(found):  # see the test of results that are gone
        raise ConfigError("told")
    return found.all()


ROUND = "apart/replicate-0/round-001"
# Of each kind of file: where it is, and how what it says is read.
KINDS = {
    "training": (f"trainings/{DIGEST}.training", lambda run_: from_store(run_, Train)),
    "measured": (f"trainings/{DIGEST}.measured", lambda run_: from_store(run_, Measure)),
    "line": (f"trainings/{DIGEST}.line", lambda run_: from_store(run_, Connect)),
    "candidates": (
        f"candidates/{ROUND}.safetensors",
        lambda run_: run_.candidates("apart", 0, 1, run_.mask("apart", 0, 1)),
    ),
    "predictions": (f"predictions/{ROUND}.npy", lambda run_: run_.predictions()),
    "labels": ("predictions/labels.npy", lambda run_: run_.labels()),
    "records": ("records.jsonl", told_records),
    "similarity": ("similarity.jsonl", lambda run_: run_.similarities()),
    "latency": ("latency.json", lambda run_: run_.latency()),
    "environment": ("environment.json", lambda run_: run_.environments()),
    "arms": ("arms.json", lambda run_: run_.definitions()),
    "state": ("state.json", lambda run_: run_._read_endings()),
    "run": ("run.json", lambda run_: all_of(Run(run_.path))),
    "recipe": ("recipe.yaml", lambda run_: all_of(Run(run_.path))),
    "ticket": (f"tickets/{ROUND}.safetensors", lambda run_: run_.mask("apart", 0, 1)),
    "packed": ("packed/predictions.npz", lambda run_: Run(run_.path / "packed").predictions()),
}


@pytest.fixture(scope="module")
def opened(kept):
    return Run(kept)


def flipped(raw, chance):
    at = chance.randrange(8 * len(raw))
    return raw[: at // 8] + bytes([raw[at // 8] ^ 1 << at % 8]) + raw[at // 8 + 1 :]


def damages(raw, chance, bits):
    """A file with one random bit changed, as often as is asked for; cut off, with more behind
    it, and empty.
    """
    for _ in range(bits):
        yield "bit", flipped(raw, chance)
    for _ in range(5):
        yield "cut", raw[: chance.randrange(1, len(raw))].rstrip(b"\n")[:-1]
        yield "more", raw + chance.randbytes(chance.randint(1, 80))
    yield "empty", b""


def attempted(read, run_):
    """What was read, and the one line that refused it."""
    try:
        return read(run_), ""
    except InputError as error:
        told = str(error)
    assert "\n" not in told
    return None, told


def silent(opened, kind, bits, seed=0):
    """The damages after which something else is read and nothing said."""
    name, read = KINDS[kind]
    path = place(opened.path, name)
    raw, right = path.read_bytes(), plain(read(opened))
    found, chance = [], random.Random(f"{kind} {seed}")
    try:
        for what, damaged in damages(raw, chance, bits):
            path.write_bytes(damaged)
            value, told = attempted(read, opened)
            if not told and plain(value) != right:
                found.append((what, damaged))
    finally:
        path.write_bytes(raw)
    return found


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("run", "recipe", "packed")]
)
def test_a_random_bit_in_any_file_is_refused_or_told_a_hundred_times(opened, kind):
    assert silent(opened, kind, bits=100) == []


# These open the whole run each time.
@pytest.mark.parametrize(("kind", "bits"), [("run", 40), ("recipe", 40), ("packed", 40)])
def test_a_random_bit_in_what_a_run_is_known_by_is_refused(opened, kind, bits):
    assert silent(opened, kind, bits=bits) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_random_bits_in_any_file_are_refused_or_told(opened, kind):
    assert silent(opened, kind, bits=1000, seed=1) == []


def test_a_file_in_another_ones_place_is_not_taken_for_it(opened, tmp_path):
    folder = copied(opened.path, tmp_path)
    store = Store(folder / "machine/trainings")
    for kind in (Train, Measure, Connect):
        one, other = (
            folder / f"machine/trainings/{digest}.{kind.kind}" for digest in (DIGEST, OTHER)
        )
        shutil.copyfile(one, other)
        assert store.read(kind, DIGEST) is not None
        assert store.read(kind, OTHER) is None
    for kind, suffix in (
        ("candidates", "safetensors"),
        ("predictions", "npy"),
        ("tickets", "safetensors"),
    ):
        one, two = (
            place(folder, f"{kind}/apart/replicate-0/round-00{index}.{suffix}") for index in (1, 2)
        )
        shutil.copyfile(one, two)
    made = Run(folder)
    with pytest.raises(ConfigError, match=r"put in another file's place"):
        made.candidates("apart", 0, 2, opened.mask("apart", 0, 2))
    with pytest.raises(ConfigError, match=r"put in another file's place"):
        made.predictions()
    with pytest.raises(InputError, match="is not the ticket that the records tell of"):
        made.mask("apart", 0, 2)


def read_all(folder):
    made = Run(folder)
    for read in (made.similarities, made.latency, made.environments, made.labels, made.predictions):
        read()
    candidates_of(made)


@pytest.mark.parametrize(
    "name",
    [
        "records.jsonl",
        "similarity.jsonl",
        "latency.json",
        "environment.json",
        "state.json",
        "arms.json",
        "run.json",
        "recipe.yaml",
        "predictions/labels.npy",
        f"predictions/{ROUND}.npy",
        f"candidates/{ROUND}.safetensors",
    ],
)
def test_a_file_of_another_run_is_refused(whole, other, tmp_path, name):
    folder = copied(whole.folder, tmp_path)
    shutil.copyfile(place(other, name), place(folder, name))
    # the folder is that of another run then
    told = "recipe.yaml" if name == "run.json" else Path(name).name
    with pytest.raises(ConfigError, match=told) as caught:
        read_all(folder)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_missing_from_a_file_that_is_written_as_a_whole_is_told(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    (line,) = Run(folder).similarities()
    Run(folder).seals.write_lines(
        folder / "machine/similarity.jsonl", [line, line | {"replicate": 1}]
    )
    assert len(Run(folder).similarities()) == 2
    lines = (folder / "machine/similarity.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "machine/similarity.jsonl").write_bytes(lines[0])
    with pytest.raises(ConfigError, match=r"line 1 of .*similarity.jsonl' is damaged"):
        Run(folder).similarities()


# What is done again
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch):
    """The lines that a run tells."""
    lines = []
    monkeypatch.setattr(
        "tombola.experiments.progress.Display.say", lambda _, text: lines.append(text)
    )
    return lines


def stopped(monkeypatch, made, parent, where, after):
    """Run until something has been done so often, and stop."""
    import tombola.search.work as pool

    honest, done = getattr(pool, where), []

    def stopping(*given, **options):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(given)
        return honest(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pool, where, stopping)
        with pytest.raises(KeyboardInterrupt):
            run(made, runs=parent, workers=1)
        # what was under way goes on to its end, as it would in no other process
        for thread in threading.enumerate():
            if thread.name.startswith("tombola"):
                thread.join()
    (folder,) = parent.iterdir()
    return folder


def flip_signs(path, layer):
    """Change the sign of all values of a tensor in a safetensors file."""
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8:start])[layer]["data_offsets"]
    for at in range(start + begin + 3, start + end, 4):
        raw[at] ^= 0x80
    path.write_bytes(raw)


@pytest.mark.parametrize(("where", "after"), [("measure", 0), ("run_job", 4)])
def test_a_training_with_other_signs_is_done_again_and_told_once(
    whole, tmp_path, monkeypatch, said, where, after
):
    """One that is not yet measured, and those of partitions, which would go into a mask."""
    folder = stopped(monkeypatch, small(), tmp_path, where, after)
    trainings = list(folder.glob("machine/trainings/*.training"))
    assert trainings
    for path in trainings:
        flip_signs(path, "final.fc1.weight")
    said.clear()
    resumed = run(small(), runs=tmp_path, workers=1)
    told = [line for line in said if "is done again" in line]
    assert 1 <= len(told) == len(set(told)) <= len(trainings)
    assert all("trainings/" in line and "was altered, damaged" in line for line in told)
    assert resumed.complete
    assert timeless(resumed.records) == timeless(whole.records)
    same = list(whole.folder.rglob("*.safetensors"))
    assert all(
        (resumed.folder / path.relative_to(whole.folder)).read_bytes() == path.read_bytes()
        for path in same
    )
    assert all(line in (resumed.folder / "errors.log").read_text() for line in told[:1])


@pytest.mark.slow
def test_a_damaged_training_is_done_again_by_a_worker_process_too(
    whole, tmp_path, monkeypatch, said
):
    folder = stopped(monkeypatch, small(), tmp_path, "measure", 0)
    for path in folder.glob("machine/trainings/*.training"):
        flip_signs(path, "final.fc1.weight")
    resumed = run(small(), runs=tmp_path, workers=2)
    assert [line for line in said if "it is done again" in line]
    assert timeless(resumed.records) == timeless(whole.records)


def test_a_training_that_is_damaged_when_it_is_read_back_is_done_again(
    whole, tmp_path, monkeypatch
):
    honest, spoilt = Store.keep, []

    def spoiling(store, kind, digest, result):
        honest(store, kind, digest, result)
        if kind is Train and digest not in spoilt:
            spoilt.append(digest)
            path = store.folder / f"{digest}.training"
            path.write_bytes(path.read_bytes()[:-1])

    monkeypatch.setattr(Store, "keep", spoiling)
    done = run(small(), runs=tmp_path, workers=1)
    assert done.complete
    assert timeless(done.records) == timeless(whole.records)


def test_a_round_whose_candidates_are_damaged_is_done_again(whole, tmp_path, said):
    """Partitions that search apart go on with them."""
    short = run(small(until={"rounds": 1}), runs=tmp_path, workers=1)
    path = short.folder / f"machine/candidates/{ROUND}.safetensors"
    path.write_bytes(flipped(path.read_bytes(), random.Random(3)))
    said.clear()
    longer = run(small(), runs=tmp_path, workers=1)
    (told,) = [line for line in said if "candidates" in line]
    assert "arm apart, replicate 0, does round 1 again" in told
    assert timeless(longer.records) == timeless(whole.records)
    for index in (1, 2):
        name = f"candidates/apart/replicate-0/round-00{index}.safetensors"
        assert place(longer.folder, name).read_bytes() == place(whole.folder, name).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "predictions/labels.npy",
        f"predictions/{ROUND}.npy",
        "predictions/lth/replicate-0/round-000.npy",
    ],
)
def test_predictions_that_are_damaged_are_made_again(whole, tmp_path, said, capsys, name):
    folder = copied(whole.folder, tmp_path)
    path = place(folder, name)
    raw = path.read_bytes()
    path.write_bytes(raw[:60] + bytes([raw[60] ^ 16]) + raw[61:])
    assert main(["report", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert name in told
    again = run(small(), runs=tmp_path, workers=1)
    assert any(name in line for line in said)
    assert path.read_bytes() == raw
    assert again.complete
    assert timeless(again.records) == timeless(whole.records)


@pytest.mark.parametrize("left", [0, -1])
def test_results_that_are_gone_are_told_and_had_again(whole, tmp_path, said, left):
    folder = copied(whole.folder, tmp_path)
    write_records(folder, records_of(folder)[:left])
    told = report(Run(folder))
    assert not told.complete
    assert any("has no results of round" in note for note in told.notes)
    again = run(small(), runs=tmp_path, workers=1)
    assert any("has no results of round" in line for line in said)
    assert timeless(again.records) == timeless(whole.records)


def test_a_report_tells_that_the_last_record_is_half_written(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    path = folder / "machine/records.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert any(
        "the last record is half written, and left out" in note
        for note in report(Run(folder)).notes
    )


@pytest.mark.parametrize("name", ["state.json", "environment.json", "arms.json", "run.json"])
def test_what_is_taken_away_as_advised_is_written_anew(whole, tmp_path, name):
    folder = copied(whole.folder, tmp_path)
    place(folder, name).write_bytes(b"")
    with pytest.raises(ConfigError, match="take it away, and running the recipe writes it anew"):
        run(small(), runs=tmp_path, workers=1)
    place(folder, name).unlink()
    again = run(small(), runs=tmp_path, workers=1)
    assert (again.complete, again.notes) == (True, [])
    assert timeless(again.records) == timeless(whole.records)


def test_a_report_without_the_dense_networks_training_says_why(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    for path in folder.glob("machine/trainings/*.training"):
        path.write_bytes(flipped(path.read_bytes(), random.Random(1)))
    (note,) = report(Run(folder)).notes
    assert note.endswith("what tickets prune is not drawn")
    assert "was altered" in note


# Another recipe than the run was made with
# ----------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("\nseed: 0", "\nseed: 3", "seed was 0, is 3"),
        ("lr: 0.05", "lr: 0.06", "training.lr was 0.05, is 0.06"),
        ("rate: 0.3", "rate: 0.4", "arm 'apart': rate was 0.3, is 0.4"),
        ("  lth:", "  lht:", "arms.json has no arm 'lht'"),
        ("replicates: 1", "replicates: 2", "was altered, damaged"),
        ("margin: null", "margin: 0.02", "was altered, damaged"),
    ],
)
def test_a_recipe_that_was_changed_in_the_folder_is_refused_and_what_differs_is_named(
    whole, tmp_path, capsys, old, was, now, told
):
    folder = copied(whole.folder, tmp_path)
    if old:
        unseal(folder)
    path = folder / "recipe.yaml"
    text = path.read_text()
    assert text.count(was) >= 1
    changed = text.replace(was, now).replace(
        "source: lth", "source: lht" if "lht" in now else "source: lth"
    )
    path.write_text(changed)
    if old and "altered" in told:  # it was kept nowhere
        assert Run(folder).notes[0].startswith("this run was made before files carried digests")
        return
    if old and "arm" not in told:
        told = "its digest is "
    assert main(["report", str(folder)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "recipe.yaml'" in line
    assert told in line
    assert "put it back as it was" in line


# Folders of before there were digests
# ---------------------------------------------------------------------------------


def test_an_older_folder_is_read_as_it_is_and_the_report_says_so(whole, tmp_path):
    folder = unseal(copied(whole.folder, tmp_path))
    made, known = Run(folder), Run(whole.folder)
    assert not made.sealed
    assert made.records.all() == known.records.all()
    assert plain(made.predictions()) == plain(known.predictions())
    assert made.similarities() == known.similarities()
    assert made.latency() == known.latency()
    assert made.environments() == known.environments()
    (note,) = report(made).notes
    assert note.startswith("this run was made before files carried digests of their contents")


def test_the_trained_weights_of_an_older_folder_can_be_had(whole, tmp_path):
    folder = unseal(copied(whole.folder, tmp_path))
    kept, known = (Run(path).best("lth", round=2) for path in (folder, whole.folder))
    assert plain(kept.state) == plain(known.state)


@pytest.mark.parametrize("rounds", [1, 2])
def test_an_older_folder_that_goes_on_has_digests_from_then_on(whole, tmp_path, said, rounds):
    begun = run(small(until={"rounds": rounds}), runs=tmp_path, workers=1)
    unseal(begun.folder)
    said.clear()
    done = run(small(), runs=tmp_path, workers=1)
    assert [line for line in said if "from now on they do" in line]
    assert timeless(done.records) == timeless(whole.records)
    made = Run(done.folder)
    assert (made.sealed, made.notes, done.complete) == (True, [], True)
    assert kept_of_rounds(done.folder) == kept_of_rounds(whole.folder)
    store = made.store(pytest.fail)
    assert all(store.trained(path.stem) is not None for path in made.trainings.glob("*.training"))


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("run", "recipe", "ticket")]
)
def test_damage_to_an_older_folder_is_one_line_or_not_seen_and_never_a_traceback(
    opened, tmp_path, kind
):
    folder = copied(opened.path, tmp_path)
    unseal(folder / "packed")
    unseal(folder)
    made, (name, read) = Run(folder), KINDS[kind]
    path, chance = place(folder, name), random.Random(kind)
    for _, damaged in damages(path.read_bytes(), chance, 40):
        path.write_bytes(damaged)
        attempted(read, made)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("arms.json", '{"lth": 3}'),
        ("arms.json", '{"x": {}}'),
        ("environment.json", "[3]"),
        ("environment.json", '[{"packages": 3, "data_fingerprint": "f"}]'),
        ("environment.json", "[{}]"),
        ("state.json", '{"lth/0": 3}'),
        ("state.json", '{"lth/0": {"state": "ended"}}'),
        ("state.json", '{"lth/0": {"state": "finished", "rounds": "2"}}'),
        ("state.json", '{"lth": {"state": "open"}}'),
        (
            "latency.json",
            '{"device": "cpu", "threads": 1, "rows": [{"arm": "lth", "batch_x": {}}]}',
        ),
        ("latency.json", '{"device": "cpu", "threads": 1, "rows": [3]}'),
        ("latency.json", "[]"),
        ("similarity.jsonl", '{"arms": ["a"]}\n'),
        ("similarity.jsonl", "3\n"),
        ("run.json", "[]"),
        ("run.json", '{"format": 3}'),
        ("run.json", '{"format": 3, "digest": 5}'),
    ],
)
def test_what_is_json_and_not_what_a_run_writes_is_one_line(whole, tmp_path, capsys, name, text):
    folder = unseal(copied(whole.folder, tmp_path))
    place(folder, name).write_text(text)
    assert main(["report", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert name in told


def test_a_record_that_lacks_a_layer_which_others_have_is_refused_with_its_line(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    records = records_of(folder)
    changed = copy.deepcopy(records)
    at = next(number for number, record in enumerate(changed) if record["round"] == 2)
    del changed[at]["layers"]["fc1.weight"]
    write_records(folder, changed)
    with pytest.raises(ConfigError, match=rf"line {at + 1} of .* is damaged: layers .*fc1.weight"):
        Run(folder)


@pytest.mark.parametrize(
    ("at", "entry", "told"),
    [
        (1, "density_total", "it has no 'density_total'"),
        (1, "selected", "it has no 'selected'"),
        (1, "layers", "it has candidate_layers and no layers"),
        (0, "evaluated", "it is the dense network's and not evaluated"),
        (1, "test_accuracy", "it is evaluated and has no test_accuracy"),
    ],
)
def test_a_record_that_lacks_what_a_report_needs_is_refused_with_its_line(
    whole, tmp_path, at, entry, told
):
    folder = unseal(copied(whole.folder, tmp_path))
    path = place(folder, "records.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    number = next(
        n for n, line in enumerate(lines) if (line["arm"], line["round"]) == ("apart", at)
    )
    if entry in ("evaluated", "test_accuracy"):
        lines[number][entry] = False if entry == "evaluated" else None
    else:
        del lines[number][entry]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConfigError, match=rf"line {number + 1} of .* is damaged: {told}"):
        Run(folder)


# The order of what is printed
# ----------------------------------------------------------------------------------------


def shuffled(folder, to, seed):
    """A copy of a run that wrote its results in another order."""
    folder = copied(folder, to / str(seed))
    lines = records_of(folder)
    random.Random(seed).shuffle(lines)
    write_records(folder, lines)
    return folder


def test_results_come_in_the_recipes_order_whichever_was_written_first(whole, tmp_path):
    texts = set()
    for seed in range(3):
        made = Run(shuffled(whole.folder, tmp_path, seed))
        assert list(dict.fromkeys(record["arm"] for record in made.records.all())) == list(ARMS)
        assert made.records.to_frame()["round"].tolist() == 3 * [0, 1, 2]
        told = report(made)
        assert told.records == whole.records
        texts.add(table.markdown("x", told.records, told.notes, told.asked))
    assert len(texts) == 1


@pytest.mark.slow
def test_a_page_is_the_same_whichever_result_was_written_first(
    whole, tmp_path, with_charts, monkeypatch
):
    monkeypatch.setattr("tombola.experiments.reporting.page.write", page_write)
    folders = [shuffled(whole.folder, tmp_path, seed) for seed in range(2)]
    first, second = (report(Run(folder)).files for folder in folders)
    assert len(first) > 2
    assert [path.name for path in first] == [path.name for path in second]
    for path, twin in zip(first, second, strict=True):
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_records_of_arms_that_the_recipe_has_no_more_come_last_by_name(tmp_path):
    line = {
        "arm": "lth", "replicate": 0, "round": 1, "kept": 80, "density": 0.8, "mask_digest": "ab", "evaluated": True,
        "test_accuracy": 0.9, "samples_seen": 600,
    }  # fmt: skip
    for seed in range(5):
        path = tmp_path / f"{seed}.jsonl"
        names = ["z", "lth", "b", "colt"]
        random.Random(seed).shuffle(names)
        records = Records(path)
        for name in names:
            records.add(line | {"arm": name})
        again = Records(path, order=["lth", "colt"])
        assert [record["arm"] for record in again] == ["lth", "colt", "b", "z"]


def test_lines_of_similarity_come_in_the_recipes_order(whole):
    made = Run(whole.folder)
    lines = made.similarities()
    shuffled = random.Random(0).sample(lines, len(lines))
    assert similarity.ordered(shuffled, made.recipe.arms) == lines


# A transfer
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moved(whole, tmp_path_factory, quick):
    """Two tickets, trained on their own data again."""
    paths = [ticket_file(whole.folder, arm, 0, 2) for arm in ("lth", "apart")]
    return transfer.transfer(
        paths, ["digits"], runs=tmp_path_factory.mktemp("moved"), workers=1
    ), paths


def test_results_of_a_transfer_come_in_the_order_of_what_was_asked_for(moved):
    done, paths = moved
    assert [record["arm"] for record in done.records] == ["lth-2 on digits", "apart-2 on digits"]
    path = done.folder / "machine/records.jsonl"
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    again = transfer.transfer(paths, ["digits"], runs=done.folder.parent, workers=1)
    assert again.records == done.records


@pytest.mark.parametrize("name", ["records.jsonl", "transfer.json"])
def test_a_random_bit_in_the_files_of_a_transfer_is_refused(moved, name):
    folder = moved[0].folder
    about = json.loads((folder / "machine/transfer.json").read_text())
    said = {key: about[key] for key in about if key not in ("paths", "seals", "#seal")}

    def read(_):
        found = transfer._records(folder, said, [], [], Display(quiet=True))
        if found.repaired or not len(found):
            raise ConfigError("told")
        return found.all()

    path, chance = place(folder, name), random.Random(name)
    kept = {part: place(folder, part).read_bytes() for part in ("records.jsonl", "transfer.json")}
    right = plain(read(None))
    for what, damaged in damages(kept[name], chance, 100):
        path.write_bytes(damaged)
        value, told = attempted(read, None)
        assert told or plain(value) == right, what
        for part, raw in kept.items():
            place(folder, part).write_bytes(raw)


def test_a_transfer_reads_every_ticket_before_it_makes_anything(moved, tmp_path, capsys):
    paths = [
        shutil.copyfile(path, tmp_path / f"{number}.safetensors")
        for number, path in enumerate(moved[1])
    ]
    shutil.copytree(moved[1][0].parents[2] / "rewind_points", tmp_path / "rewind_points")
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    assert (
        main(["transfer", *map(str, paths), "--data", "digits", "--runs", str(tmp_path / "runs")])
        == 2
    )
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_transfer_of_before_there_were_digests_goes_on_with_them(moved, tmp_path):
    done, paths = moved
    folder = copied(done.folder, tmp_path)
    about = json.loads((folder / "machine/transfer.json").read_text())
    about = without(about, "seals", "#seal")
    (folder / "machine/transfer.json").write_text(json.dumps(about))
    records = folder / "machine/records.jsonl"
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    bare = [json.dumps(without(line, "#seal")) + "\n" for line in lines]
    records.write_text("".join(bare))
    again = transfer.transfer(paths, ["digits"], runs=tmp_path, workers=1)
    assert again.records == done.records
    for name in ("records.jsonl", "transfer.json"):
        assert place(folder, name).read_bytes() == place(done.folder, name).read_bytes()


# The digests themselves
# ----------------------------------------------------------------------------------------------


def test_a_file_carries_its_digest_where_other_readers_pass_over_it(kept):
    """Tools that know nothing of it read what they always read."""
    from safetensors.torch import load_file

    assert np.load(kept / "machine/predictions/labels.npy").ndim == 1
    with np.load(kept / "packed/machine/predictions.npz") as packed:
        assert "labels" in packed
    assert set(load_file(kept / f"machine/trainings/{DIGEST}.line")) == {"facts"}
    assert json.loads((kept / "machine/state.json").read_text())["lth/0"]["state"] == "finished"
    assert all(
        json.loads(line)["arm"]
        for line in (kept / "machine/records.jsonl").read_text().splitlines()
    )


def test_json_may_be_laid_out_anew(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    for path in folder.glob("machine/*.json"):
        path.write_text(json.dumps(json.loads(path.read_text())))
    made = Run(folder)
    assert made.environments()
    assert made.latency()


def test_a_damaged_digest_is_not_taken_for_an_older_file(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    for name in ("state.json", "run.json"):
        path = place(folder, name)
        text = path.read_text()
        path.write_text(text.replace('"#seal"', '"#sea,"'))
        with pytest.raises(ConfigError, match="it has no digest"):
            Run(folder)
        path.write_text(text)
    text = (folder / "machine/run.json").read_text()
    (folder / "machine/run.json").write_text(text.replace('"seals": 1', '"seaks": 1'))
    with pytest.raises(ConfigError, match="was altered"):
        Run(folder)


def test_digests_of_a_later_version_are_refused(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    change_json(folder, "run.json", lambda about: about | {"seals": 2})
    with pytest.raises(ConfigError, match="has digests of version 2"):
        Run(folder)


def test_the_digest_of_a_file_hangs_on_whose_it_is_and_what_it_is_called(tmp_path):
    values = np.arange(3)
    made = {}
    for of, name in (("one", "a"), ("one", "b"), ("two", "a")):
        Seals(tmp_path, of).write_array(tmp_path / name, values)
        made[of, name] = (tmp_path / name).read_bytes()
    assert len(set(made.values())) == 3
    Seals(tmp_path / "moved", "one").write_array(tmp_path / "moved" / "a", values)
    assert (tmp_path / "moved" / "a").read_bytes() == made["one", "a"]


def test_tensors_come_back_in_one_order(tmp_path):
    names = [f"layer-{number}" for number in range(40)]
    Seals(tmp_path).write_tensors(tmp_path / "a", {name: torch.ones(1) for name in reversed(names)})
    assert list(Seals(tmp_path).read_tensors(tmp_path / "a")) == sorted(names)


def test_a_run_folder_may_be_opened_twice_and_says_nothing(whole, tmp_path):
    copied(whole.folder, tmp_path)
    told = []
    for _ in range(2):
        folder = RunFolder(
            small(),
            tmp_path,
            Run(whole.folder).environments()[0]["data_fingerprint"],
            {},
            told.append,
        )
        folder.close()
    assert told == []


def test_a_ticket_of_another_arm_is_not_taken_up(whole, tmp_path):
    folder = copied(whole.folder, tmp_path)
    other = ticket_file(folder, "again", 0, 1)
    shutil.copyfile(ticket_file(folder, "lth", 0, 1), other)
    assert Ticket.load(other).mask_digest == Run(folder).record("again", 0, 1)["mask_digest"]
    with pytest.raises(ConfigError, match="is not the ticket that the records tell of"):
        Run(folder).rounds_done("again", 0)
