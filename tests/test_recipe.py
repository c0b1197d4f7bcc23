"""Recipes: what is read, what is refused, and that a resolved recipe gives itself again."""

import pytest
import yaml

from tombola.ground.errors import ConfigError, InputError
from tombola.schema.recipe import parse, read

TINY = """
name: tiny
data: digits
model: {name: lenet_300_100}
training: {optimizer: sgd, lr: 0.05, momentum: 0.9, epochs: 3, batch_size: 64}
arms:
  colt-2: {method: colt, partitions: 2, rate: 0.15}
  lth: {method: lth, rate: 0.2}
  matched: {match: colt-2}
until: {rounds: 4}
replicates: 2
seed: 0
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_a_recipe_is_read_as_written(tiny):
    recipe = read(tiny)
    assert (recipe.name, recipe.data.name, recipe.model.name, recipe.until.rounds) == (
        "tiny",
        "digits",
        "lenet_300_100",
        4,
    )
    assert recipe.arms["colt-2"].width == 2
    assert recipe.arms["matched"].source == "colt-2"
    assert recipe.training.momentum == 0.9


def test_a_resolved_recipe_written_as_yaml_gives_itself_again(tiny):
    overrides = [
        "--data",
        "{name: cifar10, valid: 5000, subset: 10000, verify: false, augment: {crop: 4, flip: "
        "true}}",
    ]
    recipe = read(
        tiny,
        [*overrides, "--model", "{name: mlp, hidden: [20, 10]}", "--arms.lth.rate", "{conv: 0.1}"],
    )
    assert recipe.data.options == {"verify": False}
    assert recipe.model.options == {"hidden": [20, 10]}
    assert parse(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_overrides_reach_everywhere(tiny):
    recipe = read(
        tiny,
        [
            *(
                "--until.rounds",
                "2",
                "--arms.colt-2.rate=0.2",
                "--data",
                "mnist",
                "--training.weight_decay",
                "1e-4",
            ),
            *(
                "--data.valid",
                "100",
                "--arms.extra",
                "{method: dense}",
                "--training.milestones",
                "[1, 2]",
            ),
            *("--training.schedule", "multistep"),
        ],
    )
    assert recipe.until.rounds == 2
    assert recipe.arms["colt-2"].rate == 0.2
    assert (recipe.data.name, recipe.data.valid) == ("mnist", 100)
    assert recipe.training.weight_decay == 1e-4
    assert recipe.training.milestones == (1.0, 2.0)
    assert not recipe.arms["extra"].searches


def test_the_files_name_is_the_runs_name_if_there_is_none(tmp_path):
    (tmp_path / "mine.yaml").write_text(TINY.replace("name: tiny\n", ""))
    assert read(tmp_path / "mine.yaml").name == "mine"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["--until.round", "2"],
            "there is no 'until.round'; until has: rounds, density, density_total, accuracy_drop. "
            "Did you mean 'rounds'?",
        ),
        (["--trainin.lr", "2"], "there is no 'trainin'; a recipe has: .*Did you mean 'training'?"),
        (
            ["--arms.colt2.rate", "0.2"],
            "there is no arm 'colt2'; the arms are: colt-2, lth, matched. Did you mean 'colt-2'?",
        ),
        (["--arms.lth.rat", "0.2"], "there is no 'arms.lth.rat'; .* Did you mean 'rate'?"),
        (
            ["--arms.lth.rate", "20"],
            "arms.lth.rate is 20; it is a fraction from 0 to 1, so 20 % is 0.2",
        ),
        (["--arms.lth.rate", "{conv: 15}"], "arms.lth.rate.conv is 15; .* 15 % is 0.15"),
        (["--arms.lth.rate", "0"], "arms.lth.rate is 0; a round would prune nothing"),
        (
            ["--arms.lth.rate", "null"],
            "arms.lth needs rate, reach, densities or match, exactly one of them",
        ),
        (
            ["--arms.lth.reach", "{density: 0.1, rounds: 2}"],
            "exactly one of them; it has rate and reach",
        ),
        (["--arms.lth.partitions", "2"], "arms.lth.partitions has no meaning with method: lth"),
        (["--arms.matched.rate", "0.2"], "exactly one of them; it has rate and match"),
        (
            ["--arms.matched.match", "lht"],
            "arms.matched.match is 'lht'; the other arms are: colt-2, lth. Did you mean 'lth'?",
        ),
        (
            ["--arms.lth", "{match: matched}", "--arms.matched", "{match: lth}"],
            "the arms lth -> matched -> lth follow each other in a circle; one of them must stand "
            "by itself",
        ),
        (["--arms.lth", "{match: lth}"], "arms.lth.match is the arm itself; name another one"),
        (
            ["--arms.new.method", "lth"],
            "A new one is given whole: --arms.new '{method: lth, rate: 0.2}'",
        ),
        (["--seed", str(2**64)], r"seed is 18446744073709551616; it must be below 2 \*\* 64"),
        (["--arms.lth.match", "colt-2"], "exactly one of them; it has rate and match"),
        (
            ["--arms.lth", "{rate: 0.2}"],
            "arms.lth needs a method .as_trained, at_start, .* or match: ARM",
        ),
        (
            ["--arms.colt-2", "{method: colt, reach: {density: 0.1, rounds: 3}}"],
            "reach a density with exact: true",
        ),
        (
            ["--arms.lth", "{method: lth, densities: [0.2, 0.5]}"],
            "densities must decrease and lie between 0 and 1",
        ),
        (
            ["--arms.lth", "{method: lth, densities: [1.0, 0.5]}"],
            "densities must decrease and lie between 0 and 1",
        ),
        (["--arms", "5", "--arms.lth.rate", "0.2"], "--arms.lth.rate: 'arms' is 5, not a mapping"),
        (
            ["--training.betas", "[1.5, 0.9]"],
            r"training.betas is \[1.5, 0.9\]; both are from 0 to below 1",
        ),
        (
            ["--training.patience", "2", "--data.valid", "0"],
            "training.patience looks at validation data",
        ),
        (["--arms", "{}"], "the recipe has no arms"),
        (["--arms", "[1]"], r"arms is \[1\]; it should be a mapping"),
        (["--training.optimizer", "sdg"], "one of sgd, adam, adamw. Did you mean 'sgd'?"),
        (["--training.lr", "fast"], "training.lr is 'fast'; it should be a number"),
        (["--training.epochs", "true"], "training.epochs is True; it should be a number"),
        (["--training.epochs", "0"], "training.epochs is 0.0; it must be above 0"),
        (["--replicates", "0"], "replicates is 0; it must be 1 or more"),
        (["--replicates", "1.5"], "replicates is 1.5; it should be a whole number"),
        (["--until", "{}"], "the recipe needs until: .*since arm colt-2 has no end of its own"),
        (
            ["--until.density", "10"],
            "until.density is 10.0; a density is a fraction between 0 and 1",
        ),
        (
            ["--until.accuracy_drop", "0.01", "--data.valid", "0"],
            "needs validation data; data.valid is 0",
        ),
        (
            ["--training.select", "best", "--data.valid", "0"],
            "without validation data .* it must be last",
        ),
        (["--name", "a/b"], "name is 'a/b'; letters, digits"),
        (["--name.x", "1"], "--name.x: 'name' is 'tiny', not a mapping"),
        (["stray"], "'stray' stands alone"),
        (["--seed"], "--seed has no value"),
        (["--seed", "[1"], "--seed is no valid YAML"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tiny, overrides, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tiny, overrides)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(ConfigError, match="there is no recipe"):
        read(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="holds no recipe"):
        read(path)
    path.write_text("a: [1")
    with pytest.raises(ConfigError, match="is no valid YAML") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        read(path)
    path.write_text("name: x\ntraining: {epochs: 1}\n")
    with pytest.raises(ConfigError, match="the recipe lacks 'arms'"):
        read(path)


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(TINY + "seed: 1\n")
    with pytest.raises(ConfigError, match="'seed' is given twice") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_yaml_anchors_and_merge_keys_work(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "training: {epochs: 1}\nuntil: {rounds: 1}\n"
        "arms:\n  a: &a {method: lth, rate: 0.2}\n  b: {<<: *a, score: random}\n"
    )
    assert read(path).arms["b"].rate == 0.2


def test_an_override_of_one_arm_leaves_those_that_share_its_anchor_alone(tmp_path):
    path = tmp_path / "anchors.yaml"
    path.write_text(
        "training: {epochs: 1}\nuntil: {rounds: 2}\narms:\n  a: &x {method: colt, rate: 0.2, "
        "training: {epochs: 2}}\n  b: *x\n  c: {<<: *x, partitions: 3}\n"
    )
    made = read(path, ["--arms.a.rate", "0.5", "--arms.a.training.epochs", "7"]).arms
    assert [arm.rate for arm in made.values()] == [0.5, 0.2, 0.2]
    assert [arm.training["epochs"] for arm in made.values()] == [7, 2, 2]


LTH = {"method": "lth", "rate": 0.2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"valid": 0}, "arms": {"a": LTH | {"training": {"patience": 1}}}},
            "arms.a.training.patience looks",
        ),
        (
            {"data": {"valid": 0}, "arms": {"a": LTH | {"training": {"select": "best"}}}},
            "arms.a.training.select is",
        ),
        (
            {"arms": {"a": LTH, "b": LTH | {"training": {"select": "best"}}}},
            "do not score the same weights",
        ),
        ({"arms": {"dense": LTH}}, "an arm named dense is the dense network"),
        (
            {"arms": {"lth": LTH, "dense": {"method": "dense", "as_long_as": "lth"}}},
            "an arm named dense is the dense",
        ),
        (
            {
                "arms": {
                    "lth": LTH,
                    "r": {"method": "random_ticket", "source": "lth"},
                    "long": {"method": "dense", "as_long_as": "r"},
                }
            },
            "arms.long.as_long_as is 'r', which does not search; name the arm whose tickets it "
            "takes, 'lth'",
        ),
        (
            {"arms": {"a": {"method": "lth", "reach": {"density": 0.1, "rounds": 0}}}},
            "a.reach is density 0.1 in 0 ",
        ),
        (
            {"arms": {"a": {"method": "lth", "reach": {"density": -0.5, "rounds": 3}}}},
            "a.reach is density -0.5 in 3 ",
        ),
    ],
)
def test_what_an_arm_cannot_be_is_told(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse({"name": "x", "training": {"epochs": 1}, "until": {"rounds": 2}} | changes)
    assert "\n" not in str(caught.value)


def test_an_arm_may_ask_for_every_round_where_the_others_do_not():
    arms = {"all": LTH | {"evaluate_at": []}, "some": LTH, "dense": {"method": "dense"}}
    made = parse(
        {
            "name": "x",
            "training": {"epochs": 1},
            "until": {"rounds": 5},
            "arms": arms,
            "evaluate_at": [0.5],
        }
    )
    assert {name: arm.evaluate_at for name, arm in made.arms.items()} == {
        "all": (),
        "some": (0.5,),
        "dense": (),
    }
    assert parse(made.to_dict()) == made
