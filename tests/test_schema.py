"""The schema: the page of recipes and the JSON Schema of editors are made of the fields, and both
say what reading a recipe says.
"""

import json
from pathlib import Path

import jsonschema
import pytest

from tombola import methods, recipes
from tombola.commands.cli import main
from tombola.ground.errors import ConfigError
from tombola.schema import entries
from tombola.schema.editors import json_schema
from tombola.schema.recipe import entry_names, from_yaml, parse

PAGE = Path(__file__).parent.parent / "docs" / "recipes.md"
SHIPPED = [recipes.path_of(name) for name in recipes.names()]
WHOLE = {
    "name": "x",
    "training": {"epochs": 1},
    "until": {"rounds": 2},
    "arms": {"lth": {"method": "lth", "rate": 0.2}},
}


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft202012Validator(json_schema())


# ---- the page


def test_the_page_of_recipes_is_made_of_the_fields():
    text = PAGE.read_text(encoding="utf-8")
    assert entries.page(text) == text, "python -m tombola.schema docs/recipes.md"


def test_every_entry_says_what_it_means_and_stands_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    found = entries.sections()
    for section, rows in found.items():
        assert f"<!-- entries: {section} -->" in text
        for entry in rows:
            assert entry.meaning.endswith("."), entry.name
            assert entry.values, entry.name
    named = {entry.name for rows in found.values() for entry in rows}
    assert set(entry_names(dotted=True)) <= named
    options = {entry.name.rpartition(".")[2] for entry in found["arms"]}
    for name in methods.names():
        assert set(methods.named(name).options()) <= options


def test_entries_are_listed_with_their_meaning(capsys):
    assert main(["list", "entries"]) == 0
    told = capsys.readouterr().out
    assert "training.lr" in told
    assert "Base learning rate." in told
    assert main(["list", "entries", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["entries"]}
    assert listed["training.lr"]["default"] == "0.1"
    assert listed["arms.NAME.lr"]["methods"] == ["fine_tune"]


# ---- the JSON Schema


def test_the_schema_is_one_and_the_command_prints_it(capsys, schema):
    jsonschema.Draft202012Validator.check_schema(schema.schema)
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_that_ships_is_valid(path, schema):
    # As YAML 1.2, which editors read: to PyYAML 1e-3 is a text.
    schema.validate(from_yaml(path.read_text(encoding="utf-8"), path.stem))


@pytest.mark.parametrize("card", methods.every_card(), ids=lambda card: card.name)
def test_the_entry_of_every_card_is_valid(card, schema):
    schema.validate(WHOLE | {"arms": {"x": from_yaml(card.entry, card.name)}})


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "mnist", "model": "mlp"},
        {"data": {"name": "arrays", "path": "x.npz"}},
        {"profile": "repo"},
        {"profile": {"name": "paper", "except": ["training.milestones"]}},
        {"arms": {"x": {"method": "mine:Name", "strength": 0.5}}},
        {"scales": {"small": {"training.epochs": 1}}, "variants": {"low": {"training.lr": 0.1}}},
        {"arms": {"x": {"match": {"arm": "lth", "per": "layer"}}}},
    ],
    ids=str,
)
def test_whatever_may_be_said_in_short_or_beside_the_fields_is_valid(changes, schema):
    schema.validate(WHOLE | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"trainin": {}},
            "there is no 'trainin'; a recipe has: name, training, .* Did you mean 'training'?",
        ),
        ({"training": {"epochs": "3"}}, "training.epochs is '3'; it should be a number."),
        (
            {"training": {"epochs": 1, "optimizer": "sdg"}},
            "training.optimizer is 'sdg'; it should be one of sgd, adam, adamw. Did you mean 'sgd'?",
        ),
        ({"data": {"augment": {"crop": 0.5}}}, "data.augment.crop is 0.5; it should be a whole"),
        ({"data": {"augment": {"corp": 4}}}, "there is no 'data.augment.corp'; .* mean 'crop'?"),
        ({"data": {"augment": 4}}, "data.augment is 4; it should be a mapping"),
        ({"profile": {"name": "paper", "but": []}}, "no 'profile.but'; profile has: name, except"),
        ({"arms": {"x": {"method": "lht", "rate": 0.2}}}, "arms.x.method is 'lht'; .* 'lth'"),
        ({"arms": {"x": {"method": "lth", "partitions": 2}}}, "no meaning with method: lth"),
        (
            {"arms": {"x": {"method": "lth", "reach": {"density": 0.1, "round": 2}}}},
            "there is no 'arms.x.reach.round'; .* Did you mean 'rounds'?",
        ),
        (
            {"arms": {"x": {"method": "lth", "reach": {"density": 0.1}}}},
            "arms.x.reach lacks 'rounds'",
        ),
        (
            {"arms": {"x": {"match": {"arm": "lth", "per": "weight"}}}},
            "arms.x.match.per is 'weight'; it should be one of group, layer.",
        ),
        (
            {"arms": {"x": {"method": "gradual", "densities": [0.5], "pace": {"every": "1"}}}},
            "arms.x.pace.every is '1'; it should be a whole number.",
        ),
        ({"arms": {"x": {}}}, "arms.x needs a method"),
        ({"until": {"rounds": 2.5}}, "until.rounds is 2.5; it should be a whole number."),
        ({"keep": "some"}, "keep is 'some'; it should be one of all, best, last, none."),
        ({"name": None}, "name is None; it should be a text."),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_reading_refuses_editors_mark(changes, said, schema):
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(WHOLE | changes)
    with pytest.raises(ConfigError, match=said) as caught:
        parse(WHOLE | changes)
    assert "\n" not in str(caught.value)


def test_an_old_name_is_marked_and_read(schema):
    arms = {**WHOLE["arms"], "random": {"method": "random_ticket", "of": "lth"}}
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(WHOLE | {"arms": arms})
    with pytest.warns(match="arms.random.of is now source"):
        parse(WHOLE | {"arms": arms})
