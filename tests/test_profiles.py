"""Profiles: in what the paper and its authors' code differ, held exactly, put in, told, and
never changed silently.
"""

import json

import pytest
from tests.layouts import ticket_file

from tombola.data.partitions import by_classes
from tombola.experiments.experiment import plan, run
from tombola.ground.errors import ConfigError
from tombola.schema.profiles import LIFTED, PROFILES
from tombola.schema.recipe import parse
from tombola.tickets import Ticket


def recipe(profile, arms=None, **changes):
    whole = {
        "name": "profiled",
        "data": {"name": "digits", "subset": 400},
        "model": {"name": "mlp", "hidden": [20]},
        "training": {"lr": 0.05, "epochs": 2},
        "arms": arms or {"colt-3": {"method": "colt", "partitions": 3, "rate": 0.15}},
        "until": {"rounds": 2},
        "profile": profile,
    }
    return parse(whole | changes)


def test_paper_and_code_differ_in_these_points_and_no_other():
    points = {
        key: (PROFILES["paper"].get(key), PROFILES["repo"].get(key))
        for key in PROFILES["paper"] | PROFILES["repo"]
        if PROFILES["paper"].get(key) != PROFILES["repo"].get(key)
    }
    assert points == {
        "training.batch_size": (64, 256),
        "training.milestones": ([25, 35, 45], [21, 31, 46]),
        "training.select_by": ("loss", "accuracy"),
        "data.valid": (None, "test"),
        "model.init": ("xavier", "default"),
        "arms.split_by": ("classes", "classes_in_order"),
        "arms.remainder": ("kept", "dropped"),
        "arms.scored": ("selected", "selected_then_last"),
    }
    assert {key for key in PROFILES["paper"] if key not in points} == {"training.select"}
    assert LIFTED.keys() == {"repo"}


@pytest.mark.parametrize("name", ["paper", "repo"])
def test_a_profiles_values_are_put_in_and_read_back_unchanged(name):
    made = recipe(name)
    entries = PROFILES[name]
    for dotted, value in entries.items():
        section, key = dotted.split(".")
        of = made.arms["colt-3"] if section == "arms" else getattr(made, section)
        seen = getattr(of, key)
        assert (list(seen) if isinstance(seen, tuple) else seen) == value, dotted
    assert made.training.schedule == "multistep"
    plain = json.loads(json.dumps(made.to_dict()))
    assert parse(plain) == made
    assert parse(plain).to_dict() == made.to_dict()


def test_the_paper_takes_what_it_does_not_set_from_the_recipe():
    assert recipe("paper").data.valid == 0.1
    assert recipe("paper", data={"name": "digits", "valid": 50}).data.valid == 50
    assert recipe("repo", data="digits").data.name == "digits"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"epochs": 2, "batch_size": 64}},
            "training.batch_size is 64, but profile repo sets 256; remove it",
        ),
        (
            {"training": {"epochs": 2, "milestones": [1]}},
            "training.milestones is .1., but profile repo sets .21, 31, 4",
        ),
        (
            {"training": {"epochs": 2, "select": "last"}},
            "training.select is last, but profile repo sets best",
        ),
        (
            {"data": {"name": "digits", "valid": 0.2}},
            "data.valid is 0.2, but profile repo sets test",
        ),
        (
            {"model": {"name": "mlp", "hidden": [5], "init": "xavier"}},
            "model.init is xavier, but profile repo sets def",
        ),
        (
            {"arms": {"c": {"method": "colt", "split_by": "classes", "rate": 0.1}}},
            r"c.split_by is classes.*except: \[arms.split_by\]",
        ),
        (
            {"arms": {"c": {"method": "colt", "partitions": 3, "scored": "last", "rate": 0.1}}},
            "c.scored is last, but",
        ),
        (
            {"profile": {"name": "repo", "except": ["training.batch"]}},
            "Did you mean 'training.batch_size'",
        ),
        ({"profile": "code"}, "profile.name is 'code'"),
    ],
)
def test_what_a_profile_sets_is_not_changed_silently(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        recipe(**({"profile": "repo"} | changes))
    assert "\n" not in str(caught.value)


def test_what_is_excepted_by_name_may_be_other():
    profile = {
        "name": "repo",
        "except": ["training.batch_size", "training.milestones", "arms.split_by", "arms.remainder"],
    }
    arms = {"c": {"method": "colt", "split_by": "classes", "rate": 0.1}}
    made = recipe(profile, arms, training={"epochs": 2, "batch_size": 50})
    assert (made.training.batch_size, made.training.milestones, made.training.schedule) == (
        50,
        (),
        "constant",
    )
    assert (made.arms["c"].split_by, made.arms["c"].remainder, made.data.valid) == (
        "classes",
        "kept",
        "test",
    )
    assert parse(made.to_dict()) == made


def test_only_partitions_of_classes_are_divided_as_the_code_does():
    arms = {
        "examples": {"method": "colt", "split_by": "examples", "rate": 0.1},
        "lth": {"method": "lth", "rate": 0.2},
        "two": {"method": "colt", "rate": 0.1},
        "three": {"method": "colt", "partitions": 3, "rate": 0.1},
    }
    made = recipe("repo", arms)
    assert {name: arm.scored for name, arm in made.arms.items()} == {
        "examples": "selected", "lth": "selected", "two": "selected", "three": "selected_then_last"
    }  # fmt: skip
    assert made.arms["examples"].split_by == "examples"
    assert made.arms["examples"].remainder == "kept"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"name": "digits", "valid": "test"}},
            "data.valid is test, .* only profile: repo allows it",
        ),
        (
            {
                "arms": {
                    "c": {
                        "method": "colt",
                        "split_by": "classes_in_order",
                        "remainder": "dropped",
                        "rate": 0.1,
                    }
                }
            },
            "c.remainder is dropped, so some classes are in no partition; only profile: repo "
            "allows it",
        ),
        (
            {
                "training": {"epochs": 2, "select": "best"},
                "arms": {
                    "a": {"method": "lth", "rate": 0.1},
                    "b": {"method": "lth", "rate": 0.1, "scored": "last"},
                },
            },
            "do not score the same weights .*only profile: repo allows it",
        ),
    ],
)
@pytest.mark.parametrize(
    "profile",
    [None, {"name": "paper", "except": ["arms.split_by", "arms.remainder", "arms.scored"]}],
)
def test_what_the_code_alone_does_is_refused_elsewhere(changes, message, profile):
    with pytest.raises(ConfigError, match=message):
        recipe(profile, **changes)


def test_classes_that_do_not_come_out_even_are_dropped():
    parts = by_classes(10, 3, None, drop_remainder=True)
    assert [part.classes for part in parts] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    plans = plan(recipe("repo"))
    assert plans.recipe.arms["colt-3"].division(plans.ground("colt-3", 0)) == parts


def test_three_partitions_score_the_last_weights_from_round_2_on_and_two_do_not():
    class Trained:
        state, final = "selected", "last"

    arms = {
        "two": {"method": "colt", "rate": 0.1},
        "three": {"method": "colt", "partitions": 3, "rate": 0.1},
    }
    plans = plan(recipe("repo", arms))

    def scored(name):
        return [plans.recipe.arms[name].state_scored(Trained, index) for index in (1, 2, 3)]

    assert scored("two") == ["selected"] * 3
    assert scored("three") == ["selected", "last", "last"]
    last = {"a": {"method": "lth", "rate": 0.1, "scored": "last"}}
    plans = plan(recipe(None, last))
    assert plans.recipe.arms["a"].state_scored(Trained, 1) == "last"


def test_a_run_of_the_code_says_in_its_records_and_its_table_what_it_gives_up(tmp_path):
    arms = {
        "colt-3": {"method": "colt", "partitions": 3, "rate": 0.15},
        "lth": {"method": "lth", "rate": 0.2},
    }
    done = run(recipe("repo", arms, training={"lr": 0.05, "epochs": 3}), runs=tmp_path, workers=1)
    assert done.complete
    for record in done.records:
        assert record["profile"] == "repo"
        assert record["lifted"] == list(LIFTED["repo"].values())
        assert record["selected"] == "best, selected on test data"
        # The best on validation data are the best on test data, which they are.
        assert record["valid_accuracy"] == record["test_accuracy"] == record["test_accuracy_early"]
    assert done.notes == [f"profile repo gives up: {rule}" for rule in LIFTED["repo"].values()]
    table = (done.folder / "summary.md").read_text()
    assert all(rule in table for rule in LIFTED["repo"].values())
    ticket = Ticket.load(ticket_file(done.folder, "colt-3", 0, 2))
    assert [list(part["classes"]) for part in ticket.origin["partitions"]] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
    ]


def test_a_run_of_the_paper_says_so_and_gives_nothing_up(tmp_path):
    done = run(recipe("paper", until={"rounds": 1}), runs=tmp_path, workers=1)
    assert {(r["profile"], tuple(r["lifted"]), r["selected"]) for r in done.records} == {
        ("paper", (), "best")
    }
    assert done.notes == []


def test_an_arms_own_training_is_not_changed_silently_either():
    arms = {"c": {"method": "colt", "rate": 0.15, "training": {"batch_size": 32}}}
    with pytest.raises(
        ConfigError, match=r"arms.c.training.batch_size is 32, .* except: \[training.batch_size\]"
    ):
        recipe("paper", arms)
    made = recipe({"name": "paper", "except": ["training.batch_size"]}, arms)
    assert made.arms["c"].training == {"batch_size": 32}


def test_what_is_excepted_is_not_given_up():
    made = recipe(
        {"name": "repo", "except": ["data.valid"]},
        data={"name": "digits", "subset": 400, "valid": 40},
    )
    assert made.profile.lifted == tuple(
        rule for entry, rule in LIFTED["repo"].items() if entry != "data.valid"
    )


def test_random_halves_are_excepted_by_one_entry():
    made = recipe(
        {"name": "repo", "except": ["arms.split_by"]},
        {"c": {"method": "colt", "split_by": "classes", "rate": 0.1}},
    )
    assert (made.arms["c"].split_by, made.arms["c"].remainder) == ("classes", "kept")


def test_a_wrong_type_under_a_profile_is_one_line():
    with pytest.raises(ConfigError, match="train_on is 1"):
        recipe("repo", {"c": {"method": "colt", "train_on": 1, "rate": 0.1}})
