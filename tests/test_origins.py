"""Origins: what a ticket says of itself is a stranger's word, read by the rules of a recipe
before anything is done.
"""

import copy
import json
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.test_bombs import BOMBS, refused

from tombola.experiments import transfer as module
from tombola.experiments.transfer import transfer
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import ones
from tombola.models.building import build
from tombola.schema.origin import Origin
from tombola.tickets import Ticket

MODEL = build("mlp", 4, (1, 8, 8), options={"hidden": [8]}, seed=0)
DATA = {
    "name": "synthetic",
    "options": {"train": 60, "test": 10, "classes": 4},
    "valid": 0.1,
    "fingerprint": "x",
}
ORIGIN = {
    "arm": "lth", "round": 1, "replicate": 0, "rewind_step": 0, "seeds": {"recipe": 0, "replicate": 5},
    "method": {"method": "lth", "rate": 0.2}, "partitions": [], "parent": None, "prunable": "no_head",
    "model": {"name": "mlp", "options": {"hidden": [8]}, "head": "head", "init": "xavier"},
    "data": DATA, "training": {"steps": 1, "batch_size": 8},
}  # fmt: skip


class Planned(Exception):  # noqa: N818
    """Everything was planned; the next thing would be a training."""


class NoPool:
    """Stands where trainings begin."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def digest(self, job):
        return job.start_digest

    def needs(self, *_):
        pass

    def evaluate(self, job):
        raise Planned


@pytest.fixture(autouse=True)
def _untrained(monkeypatch):
    monkeypatch.setattr(module, "Pool", NoPool)
    monkeypatch.setattr("tombola.ground.devices.cores", lambda: 2)


def put(origin, path, value):
    """Return an origin with another value in one place."""
    origin = copy.deepcopy(origin)
    place = origin
    for key in path[:-1]:
        if not isinstance(place.get(key), dict):
            return origin
        place = place[key]
    place[path[-1]] = value
    return origin


def ticket_of(origin, folder):
    path = Path(folder) / "stranger.safetensors"
    Ticket(ones(MODEL), MODEL.state_dict(), origin).save(path)
    return path


def planned(origin, folder, data="synthetic", **options):
    """Plan the transfer of a ticket of that origin up to its training."""
    path = ticket_of(origin, folder)
    with pytest.raises(Planned):
        transfer([path], [data], runs=Path(folder), workers=1, device="cpu", **options)


def test_a_ticket_of_a_run_is_planned(tmp_path):
    planned(ORIGIN, tmp_path)
    planned({key: ORIGIN[key] for key in ("model", "data", "training", "seeds")}, tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["model", "name"], 5, "model.name is 5; it should be a text"),
        (["model", "name"], "../x", "no '../x' in tombola.models"),
        (["model", "name"], "os:system", "code of somebody's own and is never run from a ticket"),
        (["model", "options"], [1], "model.options is [1]; it should be a mapping"),
        (["model", "options", "hidden"], [10**12], "model 'mlp' has"),
        (["model", "init"], "zeros", "model.init is 'zeros'; it should be one of xavier, default"),
        (["model", "head"], 7, "model.head is 7; it should be a text"),
        (["round"], "../x", "round is '../x'; it should be a whole number"),
        (["round"], 10**9, "round is 1000000000; it is at most 10,000"),
        (["round"], -1, "round is -1; it must be 0 or more"),
        (["replicate"], "0", "replicate is '0'; it should be a whole number"),
        (["replicate"], 2**63, "replicate is 9223372036854775808; it is at most 1,000"),
        (["arm"], "../../x", "arm is '../../x'; letters, digits"),
        (["arm"], "a\nb", r"arm is 'a\nb'; letters, digits"),
        (["arm"], "x" * 300, "of 300 letters"),
        (["arm"], ["lth"], "arm is ['lth']; it should be a text"),
        (["method"], {"method": ["lth"]}, "method is ['lth']; it should be a text"),
        (["rewind_step"], 1.5, "rewind_step is 1.5; it should be a whole number"),
        (["seeds"], 5, "does not say what it was found with (seeds)"),
        (["seeds", "replicate"], "5", "seeds.replicate is '5'; it should be a whole number"),
        (["seeds", "replicate"], -5, "seeds.replicate is -5; it must be 0 or more"),
        (["seeds", "recipe"], None, "seeds.recipe is None; it should be a whole number"),
        (["data"], "digits", "does not say what it was found with (data)"),
        (["data", "valid"], "all", "data.valid is 'all'; it should be"),
        (
            ["data", "augment"],
            {"crop": "4"},
            "data.augment.crop is '4'; it should be a whole number",
        ),
        (["data", "options"], {"train": 10**12}, "GiB of memory are free"),
        (
            ["data", "class_numbers"],
            ["a"],
            "class_numbers is ['a']; it should be a list of whole numbers",
        ),
        (["training", "threads"], 10**6, "training.threads is 1000000; it is at most 1,024"),
        (
            ["training", "threads"],
            1000,
            "training.threads is 1000; this machine has 2 cores, and a training takes at",
        ),
        (["training", "steps"], 10**12, "training.steps is 1000000000000; it is at most"),
        (["training", "epochs"], 1, "training needs epochs or steps"),
        (["training", "momentum"], 2, "training.momentum is 2.0; it is at most 1"),
        (
            ["training", "batch_size"],
            "8",
            "training.batch_size is '8'; it should be a whole number",
        ),
        (["training", "hooks"], "os:system", "there is no 'training.hooks'"),
    ],
    ids=range(34),
)
def test_an_origin_is_read_by_the_rules_of_a_recipe(tmp_path, path, value, said):
    ticket = ticket_of(put(ORIGIN, path, value), tmp_path)
    try:
        failures = transfer(
            [ticket], ["synthetic"], runs=tmp_path / "runs", workers=1, device="cpu"
        ).failures
        told = ConfigError(failures[0])
    except InputError as error:
        told = error
    refused(told)
    assert said in str(told)
    assert (
        "stranger.safetensors" in str(told)
        or "tombola.models" in said
        or "GiB" in str(told)
        or "mlp" in said
    )


def test_threads_of_a_larger_machine_are_refused_with_what_to_do_and_that_is_enough(tmp_path):
    origin = put(ORIGIN, ["training", "threads"], 96)
    ticket = ticket_of(origin, tmp_path)
    done = transfer([ticket], ["synthetic"], runs=tmp_path, workers=1, device="cpu")
    assert "at most 64 threads here: --training.threads 2" in done.failures[0]
    planned(origin, tmp_path / "again", changes={"training.threads": 2})


def test_what_is_not_needed_is_not_looked_at(tmp_path):
    more = {
        "partitions": 5,
        "parent": {"a": 1},
        "prunable": None,
        "later": "a field of another version",
    }
    planned(ORIGIN | more | {"data": DATA | {"verified": "?"}}, tmp_path)


def test_a_name_of_the_tickets_stays_in_the_line_that_names_it():
    with pytest.raises(ConfigError) as caught:
        Origin.read(put(ORIGIN, ["training", "lr"], "fast"), "stranger.safetensors")
    assert (
        str(caught.value) == "stranger.safetensors: training.lr is 'fast'; it should be a number."
    )


PLACES = [[key] for key in ORIGIN] + [
    [key, inner]
    for key in ("model", "data", "training", "seeds", "method")
    for inner in (*ORIGIN[key], "x")
]
PLACES += [
    ["training", key]
    for key in ("threads", "lr", "epochs", "milestones", "optimizer", "evaluate_every")
]
PLACES += [["data", key] for key in ("subset", "classes", "skew", "augment", "class_numbers")]
PLACES += [
    ["data", "options", "train"],
    ["model", "options", "hidden"],
    ["data", "options", "image_shape"],
]


def as_json(value):
    """Whether a value can stand in a ticket; others are refused when it is written."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, UnicodeError):
        return False
    return True


ORIGINS = st.lists(
    st.tuples(st.sampled_from(PLACES), BOMBS.filter(as_json)), min_size=1, max_size=3
)


def comes_to_an_end(changes):
    origin = ORIGIN
    for path, value in changes:
        origin = put(origin, path, value)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = ticket_of(origin, folder)
            for failure in transfer(
                [path], ["synthetic"], runs=Path(folder), workers=1, device="cpu"
            ).failures:
                refused(ConfigError(failure))
        except InputError as error:
            refused(error)
        except Planned:
            pass
        assert {path.name.split("-")[0] for path in Path(folder).iterdir()} <= {
            "stranger.safetensors",
            "transfer",
        }


@given(ORIGINS)
@settings(suppress_health_check=list(HealthCheck), max_examples=60)
def test_any_origin_is_planned_or_refused_in_one_line(changes):
    comes_to_an_end(changes)


@pytest.mark.slow
@given(ORIGINS)
@settings(suppress_health_check=list(HealthCheck), max_examples=3000)
def test_many_origins_are_planned_or_refused_in_bounded_time(changes):
    began = time.process_time()
    comes_to_an_end(changes)
    assert time.process_time() - began < 20
