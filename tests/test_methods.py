"""Methods: every file of the folder keeps the protocol, and what its options were before is
still read and written.
"""

import dataclasses
from pathlib import Path

import pytest
import yaml
from tests.processes import run_without

from tombola import methods
from tombola.commands.cli import main
from tombola.ground.errors import ConfigError, OldNameWarning
from tombola.methods import cards
from tombola.methods.method import WRITTEN_OUT
from tombola.schema import arms
from tombola.schema.recipe import from_yaml, parse

PAGE = Path(__file__).parent.parent / "docs" / "arms.md"
KINDS = [methods.named(name) for name in methods.names()]
# The least that each method of today is given.
LEAST = {
    "supermask": {}, "edge_popup": {"densities": [0.5]},
    "set": {"densities": [0.5]}, "rigl": {"densities": [0.5]},
    "at_start": {"densities": [0.5]},
    "colt": {"rate": 0.15}, "lth": {"rate": 0.2}, "fine_tune": {"rate": 0.2}, "lr_rewind": {"rate": 0.2},
    "one_shot": {"densities": [0.5]}, "gradual": {"densities": [0.5]}, "dense": {},
}  # fmt: skip


def least(name):
    """Return the shortest entry of a method."""
    return {"method": name, **LEAST.get(name, {"source": "lth"})}


@pytest.mark.parametrize("kind", KINDS, ids=methods.names())
def test_a_method_has_options_with_types_and_cards_that_are_read(kind):
    assert dataclasses.is_dataclass(kind)
    assert kind.__doc__
    assert kind.cards
    assert methods.name_of(kind) in methods.names()
    for card in kind.cards:
        read = arms.read(from_yaml(card.entry, card.name), card.name)
        assert type(read) is kind
        assert card.role in ("search", "control", "cause", "baseline", "stability")
        assert card.what
        assert card.question.endswith("?") or "?" in card.question


def test_cards_have_names_of_their_own():
    names = [card.name for card in methods.every_card()]
    assert len(names) == len(set(names))


def test_the_page_of_arms_is_made_of_the_cards():
    text = PAGE.read_text(encoding="utf-8")
    assert cards.page(text, methods.every_card()) == text, "python -m tombola.methods docs/arms.md"
    assert all(f"| `{card.name}` |" in text for card in methods.every_card())


def test_listing_the_arms_needs_no_torch():
    done = run_without(["torch"], "from tombola.methods import every_card; every_card()")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", KINDS, ids=methods.names())
def test_an_arm_with_every_entry_of_before_written_out_is_read(kind):
    name = methods.name_of(kind)
    short = arms.read(least(name), "x")
    if not kind.written_out:
        assert short.to_dict().keys() == {"method", "evaluate_at", *kind.options()}
        return
    whole = short.to_dict()
    assert list(whole) == list(WRITTEN_OUT)
    assert arms.read(yaml.safe_load(yaml.safe_dump(listed(whole))), "x") == short


def listed(value):
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, list | tuple) else value


def test_what_every_arm_wrote_out_by_hand():
    assert arms.read({"method": "lth", "rate": 0.2, "training": {"epochs": 3}}, "x").definition() == {
        "method": "lth", "match": None, "of": None, "as_long_as": None, "partitions": None, "by": "classes",
        "head": "own", "remainder": "kept", "on": (), "combine": "all", "rate": 0.2, "reach": None, "densities": (),
        "exact": False, "scope": "whole_model", "score": "magnitude", "scored": "selected", "lr": "last",
        "shuffle": "both", "training": {"epochs": 3}, "allow_collapse": False,
    }  # fmt: skip


def test_a_method_that_came_later_writes_its_own_options_alone():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later(methods.Method):
        strength: float = 0.5

    assert Later().definition() == {"method": methods.name_of(Later), "strength": 0.5}
    assert Later(evaluate_at=()).to_dict() == Later().definition() | {"evaluate_at": ()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"method": "lth", "rate": 0.2, "partitions": 2},
            "arms.x.partitions has no meaning with method: lth, which takes match, rate, reach, "
            "densities, exact, scope, score, scored, training, allow_collapse; method: colt has it",
        ),
        (
            {"method": "random_ticket", "source": "lth", "rate": 0.1},
            "arms.x.rate has no meaning with method: random_ticket, which takes source; methods colt, "
            "fine_tune, lr_rewind, lth have it",
        ),
        (
            {"method": "lth", "rate": 0.2, "shuffel": "mask"},
            "there is no 'arms.x.shuffel'; arms.x has: match, rate, reach, densities, exact, "
            "scope, score, scored, training, allow_collapse. Did you mean 'shuffle'?",
        ),
        ({"method": "lht"}, "arms.x.method is 'lht'; it should be one of as_trained, at_start, "),
        ({"method": 3}, "arms.x.method is 3; it should be one of as_trained, at_start, "),
        ({}, "arms.x needs a method (as_trained, at_start, "),
        ([], "arms.x is []; it should be a mapping"),
        (
            {"method": "lth", "rate": "0.2"},
            "arms.x.rate is '0.2'; it should be a number or a mapping",
        ),
    ],
)
def test_what_no_method_takes_is_refused_with_what_would_be_right(given, message):
    whole = {"name": "x", "training": {"epochs": 1}, "arms": {"x": given}, "until": {"rounds": 1}}
    with pytest.raises(ConfigError) as caught:
        parse(whole)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# ---- the names that entries had before


def parsed(arms):
    whole = {"name": "x", "training": {"epochs": 1}, "until": {"rounds": 1}, "arms": arms}
    return parse(yaml.safe_load(yaml.safe_dump(whole)))


OLD = {
    "lth": {"method": "lth", "rate": 0.2},
    "random": {"method": "random_ticket", "of": "lth"},
    "twice": {"method": "colt", "by": "examples", "on": [1, 1], "rate": 0.1},
}


def test_old_names_are_read_and_named_in_one_line():
    with pytest.warns(OldNameWarning) as told:
        made = parsed(OLD).arms
    assert str(told[0].message) == (
        "old names are read in this recipe: arms.random.of is now source, arms.twice.by is now "
        "split_by, arms.twice.on is now train_on"
    )
    assert len(told) == 1
    assert (made["random"].source, made["twice"].split_by, made["twice"].train_on) == (
        "lth",
        "examples",
        (1, 1),
    )


@pytest.mark.filterwarnings("default")
def test_the_command_line_names_old_names_without_a_line_of_code(tmp_path, capsys):
    path = tmp_path / "old.yaml"
    whole = {"training": {"epochs": 1}, "until": {"rounds": 1}, "arms": OLD}
    path.write_text(yaml.safe_dump(whole))
    assert main(["run", str(path), "--print_config"]) == 0
    assert capsys.readouterr().err.startswith("tombola: old names are read in this recipe: arms.")


def test_old_and_new_names_give_one_definition_which_has_the_old_ones():
    new = {
        "lth": OLD["lth"],
        "random": {"method": "random_ticket", "source": "lth"},
        "twice": {"method": "colt", "split_by": "examples", "train_on": [1, 1], "rate": 0.1},
    }
    with pytest.warns(OldNameWarning):
        before = parsed(OLD)
    after = parsed(new)
    assert before == after
    definition = after.arms["twice"].definition()
    assert (definition["by"], definition["on"]) == ("examples", (1, 1))
    assert after.arms["random"].definition()["of"] == "lth"
    assert not {"source", "split_by", "train_on"} & definition.keys()


def test_the_bare_word_on_is_true_to_other_readers_and_meant_as_on():
    arm = {"method": "colt", True: [1, 1], "rate": 0.1}
    with pytest.warns(OldNameWarning, match="arms.x.on is now train_on"):
        assert parsed({"x": arm}).arms["x"].train_on == (1, 1)


def test_an_entry_under_both_names_is_refused():
    arm = {"method": "colt", "by": "examples", "split_by": "classes", "rate": 0.1}
    with pytest.raises(ConfigError) as caught:
        parsed({"x": arm})
    assert str(caught.value) == "arms.x has split_by and by, which is its old name; take by out"


def test_a_profile_may_except_entries_by_their_old_names():
    arms = {"x": {"method": "colt", "split_by": "classes", "rate": 0.1}}
    whole = {"name": "x", "training": {"epochs": 1}, "until": {"rounds": 1}, "arms": arms}
    profile = {"name": "repo", "except": ["arms.by"]}
    with pytest.warns(OldNameWarning, match="profile.except: arms.by is now arms.split_by"):
        made = parse(whole | {"profile": profile})
    assert made.profile.but == ("arms.split_by",)


def test_a_run_folder_of_before_is_read_without_a_word():
    definition = arms.read({"method": "lth", "rate": 0.2}, "x").definition()
    assert {"of", "by", "on"} <= definition.keys()
    assert arms.read(definition, "x").rate == 0.2
    whole = {"name": "x", "training": {"epochs": 1}, "until": {"rounds": 1}, "arms": OLD}
    assert parse(whole, {}).arms["random"].source == "lth"
