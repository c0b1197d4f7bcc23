"""Transfer: tickets trained on their own data and on other data, in other models refused."""

import importlib
import json
import re

import numpy as np
import pytest
import torch
from tests.layouts import ticket_file
from tests.test_experiment import go, recipe
from tests.test_origins import MODEL, ORIGIN
from tests.toys import without

from tombola.experiments.progress import Display
from tombola.experiments.transfer import transfer
from tombola.folder.identity import run_digest
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import ones, size
from tombola.models.building import build
from tombola.reports.matrix import Matrix
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

module = importlib.import_module("tombola.experiments.transfer")

ARMS = {"colt-2": {"method": "colt", "rate": 0.15}, "lth": {"method": "lth", "rate": 0.2}}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return go(tmp_path_factory.mktemp("found"), recipe(arms=ARMS, until={"rounds": 2}))


def path_of(found, arm="lth", replicate=0, index=2):
    return ticket_file(found.folder, arm, replicate, index)


def test_on_its_own_data_a_ticket_gives_what_its_run_gave(found, tmp_path):
    paths = [path_of(found, arm, replicate) for arm in ARMS for replicate in (0, 1)]
    done = transfer(paths, ["digits"], runs=tmp_path, workers=1)
    known = {(r["arm"], r["replicate"]): r for r in found.records if r["round"] == 2}
    assert done.failures == []
    assert len(done.records) == 4
    for record in done.records:
        before = known[record["arm"].removesuffix("-2 on digits"), record["replicate"]]
        for key in (
            "test_accuracy",
            "test_loss",
            "valid_loss",
            "train_accuracy",
            "mask_digest",
            "rewind_digest",
        ):
            assert record[key] == before[key]


def test_on_other_data_a_head_is_drawn_which_all_tickets_of_a_replicate_share(found, tmp_path):
    paths = [path_of(found, arm, replicate) for arm in ARMS for replicate in (0, 1)]
    changes = {"training.epochs": 1, "data.subset": 200, "data.classes": 4}
    done = transfer(paths, ["synthetic"], changes, runs=tmp_path, workers=1, name="onto")
    assert done.folder.name.startswith("onto-")
    points = {r["replicate"]: set() for r in done.records}
    for record in done.records:
        points[record["replicate"]].add(record["rewind_digest"])
        assert record["samples_seen"] == 200
        assert record["found_on"] == "digits"
        assert record["training"]["lr"] == 0.05
    assert [len(digests) for digests in points.values()] == [1, 1]
    assert points[0] != points[1]
    ticket = Ticket.load(paths[0])
    assert ticket.rewind_digest not in points[0]


def test_two_workers_give_the_same_and_nothing_is_done_twice(found, tmp_path, monkeypatch):
    paths = [path_of(found, replicate=replicate) for replicate in (0, 1)]
    one = transfer(
        paths, ["digits", "synthetic"], {"training.epochs": 1}, runs=tmp_path / "one", workers=1
    )
    two = transfer(
        paths, ["digits", "synthetic"], {"training.epochs": 1}, runs=tmp_path / "two", workers=2
    )
    clocks = ("seconds", "round_seconds")
    for by_one, by_two in zip(one.records, two.records, strict=True):
        assert without(by_one, *clocks) == without(by_two, *clocks)
    monkeypatch.setattr("tombola.search.work.run_job", None)
    assert (
        transfer(
            paths, ["digits", "synthetic"], {"training.epochs": 1}, runs=tmp_path / "one"
        ).records
        == one.records
    )
    table = (one.folder / "summary.md").read_text()
    assert re.search(
        r"\| lth \| digits \| 63.99 \| 2 \| \d\d\.\d\d ± \d+\.\d\d \| \d\d\.\d\d ± \d+\.\d\d \|",
        table,
    )
    assert [file.name for file in one.files] == ["summary.md", "transfer.html"]


def test_a_ticket_that_does_not_fit_the_data_is_told_and_the_others_go_on(found, tmp_path):
    changes = {"training.epochs": 1, "data.image_shape": [3, 8, 8]}
    done = transfer(
        [path_of(found)], ["synthetic", "digits"], {"training.epochs": 1}, runs=tmp_path, workers=1
    )
    assert len(done.records) == 2
    with_colour = transfer([path_of(found)], ["synthetic"], changes, runs=tmp_path, workers=1)
    assert with_colour.records == []
    assert (
        "the ticket does not fit the model: 'fc1.weight' is [40, 64] in the ticket"
        in with_colour.failures[0]
    )
    assert with_colour.failures[0].endswith(
        "a model that flattens its images takes one size, and these are 3 x 8 x 8; a ticket of a "
        "model with global average pooling, such as conv3 or resnet20, takes any"
    )


def test_code_that_a_ticket_names_is_never_run(found, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from tombola.models import mlp\ndef net(num_classes, image_shape=(1, 8, 8)):\n"
        "    return mlp(num_classes, image_shape=image_shape, hidden=[40, 20])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ticket = Ticket.load(path_of(found))
    origin = json.loads(json.dumps(ticket.origin))
    origin["model"] |= {"name": "own_net:net", "options": {}}
    path = tmp_path / "own.safetensors"
    Ticket(ticket.mask, ticket.rewind_point, origin, ticket.total).save(path)
    with pytest.raises(
        ConfigError, match="is code of somebody's own and is never run from a ticket; name it with"
    ):
        transfer([path], ["digits"], runs=tmp_path, workers=1)
    done = transfer([path], ["digits"], model="own_net:net", runs=tmp_path, workers=1)
    known = next(
        r for r in found.records if (r["arm"], r["replicate"], r["round"]) == ("lth", 0, 2)
    )
    assert done.records[0]["test_accuracy"] == known["test_accuracy"]


def test_what_is_wrong_is_told_before_anything_is_trained(found, tmp_path):
    bare = tmp_path / "bare.safetensors"
    Ticket({"w": torch.tensor([True])}, {"w": torch.ones(1)}, {"arm": "x"}).save(bare)
    with pytest.raises(ConfigError, match=r"does not say what it was found with"):
        transfer([bare], ["digits"], runs=tmp_path)
    with pytest.raises(InputError, match=r"there is no 'training.epoch'.*Did you mean 'epochs'"):
        transfer([path_of(found)], ["digits"], {"training.epoch": 1}, runs=tmp_path)
    with pytest.raises(InputError, match=r"no 'digit' in tombola.data"):
        transfer([path_of(found)], ["digit"], runs=tmp_path, workers=1)


def test_a_tickets_result_hangs_on_no_other_ticket(found, tmp_path):
    """Runs of other seeds hold other examples back for validation."""
    other = go(
        tmp_path, recipe(arms={"lth": ARMS["lth"]}, until={"rounds": 2}, replicates=1, seed=1)
    )
    paths = [path_of(found), path_of(other)]
    both = transfer(paths, ["digits"], runs=tmp_path / "both", workers=1).records
    turned = transfer(paths[::-1], ["digits"], runs=tmp_path / "turned", workers=1).records
    expected = [Run(run.folder).record("lth", 0, 2) for run in (found, other)]
    for records in (both, turned[::-1]):
        assert [r["test_loss"] for r in records] == [r["test_loss"] for r in expected]


def test_a_name_that_would_leave_the_folder_of_runs_is_refused(found, tmp_path):
    with pytest.raises(ConfigError, match=r"^name is '\.\./out'; letters, digits, "):
        transfer([found], ["digits"], name="../out", runs=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_data_that_have_changed_since_are_refused(found, tmp_path):
    draw = np.random.default_rng(0)
    for folder in ("one", "two"):
        images, labels = draw.random((40, 8, 8), np.float32), np.arange(40) % 4
        (tmp_path / folder).mkdir()
        np.savez(
            tmp_path / folder / "mine.npz",
            train_images=images,
            train_labels=labels,
            test_images=images,
            test_labels=labels,
        )
    options = {"runs": tmp_path, "workers": 1}
    changes = {"data.path": "mine.npz", "data.valid": 4, "training.epochs": 1}
    done = transfer([path_of(found)], ["arrays"], changes, data_root=tmp_path / "one", **options)
    again = transfer([path_of(found)], ["arrays"], changes, data_root=tmp_path / "one", **options)
    assert again.records == done.records
    with pytest.raises(
        ConfigError, match=r"the data .arrays. differs from what .* began with; take another --name"
    ):
        transfer([path_of(found)], ["arrays"], changes, data_root=tmp_path / "two", **options)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (["digits"], {"workers": -2}, "workers is -2; it must be 1 or more"),
        (["digits"], {"workers": 0}, "workers is 0"),
        (["digits"], {"device": "nope"}, "device is 'nope'; it is auto, cpu, cuda or cuda:NUMBER"),
        (["digits", "nonsense"], {}, "no 'nonsense' in tombola.data"),
    ],
)
def test_arguments_are_checked_before_anything_is_trained(
    found, tmp_path, monkeypatch, data, options, message
):
    monkeypatch.setattr("tombola.search.work.run_job", None)
    with pytest.raises(InputError, match=message):
        transfer([path_of(found)], data, runs=tmp_path, **({"workers": 1} | options))
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_not_there_do_not_lose_what_was_trained(found, tmp_path):
    done = transfer(
        [path_of(found)],
        ["digits", "image_folder"],
        runs=tmp_path,
        workers=1,
        data_root=tmp_path / "none",
    )
    assert [record["data"] for record in done.records] == ["digits"]
    assert len(done.failures) == 1
    assert done.failures[0].startswith("image_folder: ")
    assert (done.folder / "summary.md").exists()


def test_a_ticket_of_some_classes_is_at_home_on_these_alone(tmp_path):
    """And the run of some classes is another run, which says which they are."""
    some = recipe(
        data={"name": "digits", "classes": 4},
        arms={"lth": ARMS["lth"]},
        until={"rounds": 1},
        replicates=1,
    )
    assert parse(some.to_dict()) == some
    assert run_digest(some) != run_digest(recipe(arms={"lth": ARMS["lth"]}))
    made = go(tmp_path, some)
    path = path_of(made, index=1)
    origin = Ticket.load(path).origin["data"]
    assert (origin["classes"], len(origin["class_numbers"])) == (4, 4)
    numbers = ", ".join(map(str, origin["class_numbers"]))
    assert Run(made.folder).facts["classes"] == f"4 of the data set's, drawn by the seed: {numbers}"
    known = made.records[-1]
    at_home, abroad = transfer([path], ["digits", "synthetic"], runs=tmp_path, workers=1).records
    assert (at_home["test_loss"], at_home["classes"]) == (known["test_loss"], 4)
    assert "classes" not in abroad
    more = {"data.classes": 7, "training.epochs": 1}
    [seven] = transfer([path], ["digits"], more, runs=tmp_path, workers=1).records
    assert seven["classes"] == 7
    assert seven["rewind_digest"] != known["rewind_digest"]  # other classes have another head
    with pytest.raises(InputError, match="classes is 11; the data has 10"):
        transfer([path], ["digits"], {"data.classes": 11}, runs=tmp_path, workers=1)


def test_a_ticket_of_skewed_data_is_trained_on_the_same_examples_and_elsewhere_on_all(tmp_path):
    arms, data = {"lth": ARMS["lth"]}, {"name": "digits", "subset": 300, "skew": {"most": 0.5}}
    made = go(tmp_path, recipe(data=data, arms=arms, until={"rounds": 1}, replicates=1))
    at_home, abroad = transfer(
        [path_of(made, index=1)], ["digits", "synthetic"], runs=tmp_path, workers=1
    ).records
    assert at_home["test_loss"] == made.records[-1]["test_loss"]
    assert at_home["samples_seen"] == 2 * sum(made.records[-1]["class_examples"])
    assert abroad["samples_seen"] == 2 * 300
    changes = {"data.skew.most": 0.9}
    [more] = transfer(
        [path_of(made, index=1)], ["synthetic"], changes, runs=tmp_path, workers=1
    ).records
    assert more["samples_seen"] < 2 * 300


def test_the_unpruned_network_starts_where_the_tickets_of_its_replicate_start(found, tmp_path):
    paths = [path_of(found, arm, replicate) for arm in ARMS for replicate in (0, 1)]
    changes = {"training.epochs": 1, "data.subset": 200}
    done = transfer(paths, ["digits", "synthetic"], changes, dense=True, runs=tmp_path, workers=1)
    without = transfer(paths, ["digits", "synthetic"], changes, runs=tmp_path, workers=1)
    dense = {(r["data"], r["seed"]): r for r in done.records if r["of"] == "dense"}
    tickets = [r for r in done.records if r["of"] != "dense"]
    assert len(dense) == 4
    assert done.folder != without.folder
    for record in tickets:
        of = dense[record["data"], record["seed"]]
        assert (of["rewind_digest"], of["density"], of["round"]) == (
            record["rewind_digest"],
            1.0,
            0,
        )
    assert [r["test_loss"] for r in tickets] == [r["test_loss"] for r in without.records]
    page = (done.folder / "transfer.html").read_text()
    assert "Do tickets found on digits train as well on synthetic as the dense network?" in page
    assert "training.epochs 1, data.subset 200" in page


def test_heads_are_drawn_before_anything_trains(found, tmp_path, monkeypatch):
    """Both draw from torch's global generator, a training in a thread of its own."""
    order = []
    drawn, evaluate = module._job, module.Pool.evaluate
    monkeypatch.setattr(module, "_job", lambda *given: order.append("drawn") or drawn(*given))
    monkeypatch.setattr(
        module.Pool, "evaluate", lambda *given: order.append("begun") or evaluate(*given)
    )
    paths = [path_of(found, replicate=replicate) for replicate in (0, 1)]
    transfer(paths, ["synthetic"], {"training.epochs": 1}, runs=tmp_path, workers=1)
    assert order == ["drawn", "drawn", "begun", "begun"]


def test_on_its_own_data_the_unpruned_network_is_that_of_the_run(found, tmp_path):
    done = transfer([path_of(found)], ["digits"], dense=True, runs=tmp_path, workers=1)
    known = next(r for r in found.records if (r["replicate"], r["round"]) == (0, 0))
    [dense] = [r for r in done.records if r["of"] == "dense"]
    assert (dense["test_loss"], dense["valid_loss"]) == (known["test_loss"], known["valid_loss"])


def test_another_optimiser_has_another_folder_and_stands_on_the_page(found, tmp_path):
    folders = []
    for optimizer, lr in (("sgd", 0.1), ("adam", 0.001)):
        changes = {
            "training.optimizer": optimizer,
            "training.lr": lr,
            "training.epochs": 1,
            "training.momentum": 0.0,
        }
        done = transfer([path_of(found)], ["digits"], changes, runs=tmp_path, workers=1)
        folders.append(done.folder)
        assert {r["training"]["optimizer"] for r in done.records} == {optimizer}
        page = (done.folder / "transfer.html").read_text()
        assert f"{optimizer}, learning rate {lr:g}, batch size 64, 1 epochs" in page
        assert f"training.optimizer {optimizer}, training.lr {lr}" in page
    assert folders[0] != folders[1]


def test_tickets_found_on_two_data_sets_are_compared_with_those_found_there(found, tmp_path):
    other = go(tmp_path, recipe(data="synthetic", arms={"lth": ARMS["lth"]}, until={"rounds": 2}))
    paths = [path_of(run, replicate=replicate) for run in (found, other) for replicate in (0, 1)]
    done = transfer(paths, ["synthetic"], {"training.epochs": 1}, runs=tmp_path, workers=1)
    assert {r["arm"] for r in done.records} == {
        "lth-2 from digits on synthetic",
        "lth-2 from synthetic on synthetic",
    }
    [one] = Matrix.of(done.records).differences
    assert (one.first.home, one.second.home, one.paired.n) == ("digits", "synthetic", 2)


def ticket_of(folder, model, shape):
    """A ticket of a model as it was drawn, for images of that shape."""
    made = build(model, 10, shape, seed=0)
    origin = {
        "arm": "lth", "round": 1, "replicate": 0, "seeds": {"recipe": 0, "replicate": 0},
        "model": {"name": model, "options": {}, "head": "head", "init": "xavier"},
        "data": {"name": "elsewhere", "options": {}, "valid": 0, "fingerprint": "x"},
        "training": {"steps": 1, "batch_size": 8},
    }  # fmt: skip
    path = folder / f"{model}.safetensors"
    Ticket(ones(made, head="head"), made.state_dict(), origin).save(path)
    return path


@pytest.mark.parametrize("model", ["conv3", "resnet20"])
@pytest.mark.parametrize("size", [28, 64])
def test_a_model_with_global_average_pooling_takes_images_of_any_size(tmp_path, model, size):
    changes = {"data.image_shape": [3, size, size], "data.train": 16, "data.test": 10}
    done = transfer(
        [ticket_of(tmp_path, model, (3, 32, 32))], ["synthetic"], changes, runs=tmp_path, workers=1
    )
    assert done.failures == []
    assert [record["samples_seen"] for record in done.records] == [8]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            [3, 32, 32],
            "it takes images of 1 channel, and these are 3 x 32 x 32; train it on images of as "
            "many channels, or find one on images like these",
        ),
        (
            [1, 32, 32],
            "a model that flattens its images takes one size, and these are 1 x 32 x 32; a ticket "
            "of a model with global average pooling, such as conv3 or resnet20, takes any",
        ),
    ],
)
def test_images_that_a_ticket_cannot_take_are_told_in_one_line_with_what_would_fit(
    tmp_path, shape, said
):
    changes = {"data.image_shape": shape, "data.train": 16, "data.test": 10}
    done = transfer(
        [ticket_of(tmp_path, "lenet5", (1, 28, 28))],
        ["synthetic"],
        changes,
        runs=tmp_path,
        workers=1,
    )
    assert done.records == []
    assert said in done.failures[0]
    assert "\n" not in done.failures[0]


def test_an_option_of_a_data_set_that_has_no_such_option_is_refused_in_one_line(found, tmp_path):
    with pytest.raises(InputError) as caught:
        transfer([path_of(found)], ["digits"], {"data.nosuch.x": 1}, runs=tmp_path, workers=1)
    assert "nosuch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transfer_tells_its_progress(found, tmp_path):
    told = []

    class Listening(Display):
        def progress(self, digest, done, steps):
            told.append((digest, done, steps))

    changes = {"training.epochs": 1, "data.subset": 200}
    [record] = transfer(
        [path_of(found)],
        ["digits"],
        changes,
        runs=tmp_path,
        workers=1,
        display=Listening(quiet=True),
    ).records
    assert told
    assert told[-1][1] == told[-1][2] == record["samples_seen"] // 64 + 1


def test_the_unpruned_network_keeps_the_zeros_that_its_search_began_with_and_trains_those_of_others(
    tmp_path,
):
    """Two tickets of one start: the zeros of a checkpoint belong to the mask of one search
    alone.
    """
    start = {name: value.clone() for name, value in MODEL.state_dict().items()}
    start["fc1.weight"][:, :16] = 0
    paths = [tmp_path / "kept.safetensors", tmp_path / "trained.safetensors"]
    for path, mask in zip(paths, ("from_weights", None), strict=True):
        Ticket(ones(MODEL), start, ORIGIN | {"model": ORIGIN["model"] | {"mask": mask}}).save(path)
    done = transfer(paths, ["synthetic"], runs=tmp_path, workers=1, device="cpu", dense=True)
    assert done.failures == []
    weights = size(ones(MODEL))
    zeros = start["fc1.weight"][:, :16].numel()
    assert sorted(r["kept"] for r in done.records if r["of"] == "dense") == [
        weights - zeros,
        weights,
    ]
