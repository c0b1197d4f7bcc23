"""Recipes made to break the reader, the planning or the machine: one line each, in bounded time,
and nothing trained.

Bombs by hand first, each of a kind that once ended in a traceback, a timeout or the end of the
process; then recipes of the whole schema with bombs in them (hypothesis).
"""

import dataclasses
import math
import time
import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tombola import methods
from tombola.data import batches, partitions
from tombola.experiments import experiment
from tombola.ground.checking import hints_of
from tombola.ground.errors import ConfigError, InputError
from tombola.ground.settings import Training
from tombola.masks import schedules
from tombola.schema import arms, profiles, recipe
from tombola.schema.recipe import from_yaml, parse, read

HEAD = "training: {epochs: 1}\nuntil: {rounds: 2}\n"
LTH = "arms: {lth: {method: lth, rate: 0.2}}\n"
TINY = HEAD + LTH
WHOLE = {
    "name": "x",
    "data": "digits",
    "model": {"name": "mlp", "hidden": [20]},
    "training": {"epochs": 1},
    "until": {"rounds": 2},
    "arms": {"lth": {"method": "lth", "rate": 0.2}},
}


def laughing(levels, kind="[{}]"):
    """Return a list of nine of nine of nine ..., each an alias of the one before."""
    lines = ["l0: &l0 x"]
    lines += [
        f"l{i}: &l{i} " + kind.format(", ".join([f"*l{i - 1}"] * 9)) for i in range(1, levels + 1)
    ]
    return "\n".join(lines) + "\n"


def chain(length, ahead=False):
    """Return arms that each match the one before, written so or the other way round."""
    lines = [
        "  a0: {method: lth, rate: 0.2}",
        *(f"  a{i}: {{match: a{i - 1}}}" for i in range(1, length)),
    ]
    return "arms:\n" + "\n".join(lines[::-1] if ahead else lines) + "\n"


def refused(error):
    """Check what every refusal is: one line that can be printed, of less than 1,000 characters."""
    text = str(error)
    assert text.isprintable()
    assert 0 < len(text) < 1000


# ---- what the YAML library meets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: !!int abc", "line 4: 'abc' is no int"),
        ("seed: !!float abc", "line 4: 'abc' is no float"),
        ("seed: !!bool abc", "line 4: 'abc' is no bool"),
        ("data: !!map [1]", "line 4: a mapping is expected"),
        ("densities: !!seq {a: 1}", "line 4: expected a sequence node"),
        ("seed: !!binary abc=", "line 4: binary is not for recipes"),
        ("data: !!set {a, b}", "line 4: set is not for recipes"),
        ("data: !!omap [a: 1]", "line 4: omap is not for recipes"),
        (
            "data: !!python/object/apply:os.system [echo]",
            "line 4: could not determine a constructor",
        ),
        ("seed: " + "9" * 5000, "line 4: '99999"),
        ("seed: " + "[" * 500, "line 4: nested more than 50 deep"),
        ("seed: " + "[" * 500 + "]" * 500, "line 4: nested more than 50 deep"),
        ("seed: " + "{a: " * 500 + "}" * 500, "line 4: nested more than 50 deep"),
        (laughing(9) + "seed: *l9", "more than 100,000 values once the aliases are written out"),
        (laughing(7) + "seed: *l7", "more than 100,000 values once the aliases are written out"),
        (laughing(9, "{{<<: [{}]}}").replace("x", "{k: 1}", 1), "more than 100,000 values"),
        ("data: &d {<<: *d, name: digits}", "line 4: what begins here refers to itself"),
        ("data: &d {name: digits, x: *d}", "line 4: what begins here refers to itself"),
        ("data: {<<: [1]}", "line 4: while constructing a mapping, expected a mapping for merging"),
        ("? [a]\n: 1", "line 4: a key is a text"),
        ("seed: *nothing", "line 4: found undefined alias 'nothing'"),
        ("seed: \x00", "line 4: special characters are not allowed"),
        ("---\na: 1", "expected a single document"),
        ("seed: 1\nseed: 2", "'seed' is given twice in the mapping that begins in line 1"),
    ],
    ids=range(24),
)
def test_whatever_the_yaml_library_meets_is_one_line_with_file_and_line(tmp_path, text, said):
    path = tmp_path / "bomb.yaml"
    path.write_text(TINY + text + "\n")
    with pytest.raises(ConfigError) as caught:
        read(path)
    refused(caught.value)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_plain_data_is_what_yaml_gives():
    text = "{day: 2001-01-01, on: yes, no: ~, 1: 0x10, rate: 1e-3}"
    assert from_yaml(text, "x") == {
        "day": "2001-01-01",
        "on": True,
        "no": None,
        "1": 16,
        "rate": 0.001,
    }
    assert from_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a, x: 4}", "x") == {
        "a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 4, "y": 2},
    }  # fmt: skip
    assert from_yaml("[&n 5, {*n : *n}]", "x") == [5, {"5": 5}]


def test_own_entries_win_over_merged_ones_and_of_several_mappings_the_first_wins():
    text = "a: &a {x: 1, rate: 1}\nb: &b {<<: *a, x: 2, rate: 2}\n"
    assert from_yaml(f"{text}c: {{<<: *b}}", "x")["c"] == {"x": 2, "rate": 2}
    assert from_yaml(f"{text}c: {{<<: [*a, *b]}}", "x")["c"] == {"x": 1, "rate": 1}
    assert from_yaml(f"{text}c: {{<<: [*b, *a], x: 3}}", "x")["c"] == {"x": 3, "rate": 2}


def test_a_file_that_never_ends_and_one_that_is_too_long_are_refused(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(TINY + "# " + "x" * 2**18)
    for endless in (path, "/dev/zero"):
        with pytest.raises(ConfigError, match="more than 262,144 bytes; is it one"):
            read(endless)


# ---- what is read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TINY + "seed: 2001-13-45", "seed is '2001-13-45'; it should be a whole number."),
        (
            TINY + "seed: 0x" + "f" * 5000,
            "seed is 2 ** 19999 or more; no machine has such a number",
        ),
        (TINY + f"name: {'x' * 300}", "of 300 letters; the run's folder is named by at most 100"),
        (
            TINY.replace("lth:", "x" * 300 + ":"),
            "of 300 letters; its folder is named by at most 100",
        ),
        (TINY + r'name: "a\n"', r"name is 'a\n'; letters, digits"),
        (TINY.replace("lth:", r'"l\x1bth":'), r"an arm's name is 'l\x1bth'; letters, digits"),
        (TINY + "scales: [1]", "scales has [1]; it names sets of overrides"),
        (TINY + "scales: {small: 3}", "scales has 3; it names sets of overrides"),
        (TINY + "variants: [1]", "variants has [1]; it names sets of overrides"),
        (TINY.replace("0.2", "1.0"), "arms.lth.rate is 1, so a round would prune every weight"),
        (
            TINY.replace("0.2", "{conv: 0.2, linear: 1.0}"),
            "arms.lth.rate.linear is 1, so a round would prune every",
        ),
        (TINY.replace("0.2", ".nan"), "arms.lth.rate is nan; it should be a number"),
        (TINY + "replicates: 10000000", "replicates is 10000000; it is at most 1,000"),
        (TINY + "rewind: 10000000000", "rewind is 10000000000; it is at most 1,000,000,000"),
        (TINY + "device: cuda:" + "9" * 5000, "device is 'cuda:9999"),
        (
            TINY + "verdict: {at: [" + "0.5, " * 1001 + "]}",
            "verdict.at lists 1,001 entries; it may have at most",
        ),
        (
            TINY + "verdict: {steps: 1000000000000}",
            "verdict.steps is 1000000000000; it is at most 1,000,000,000",
        ),
        (HEAD + chain(1500), "the recipe has 1,500 arms; it may have at most 1,000"),
        (
            HEAD + chain(900),
            "arms.a899 follows an arm that follows an arm and so on, 899 of them; at most 100",
        ),
        (
            HEAD + chain(900, ahead=True),
            "arms.a899 follows an arm that follows an arm and so on, 899 of them",
        ),
        (
            HEAD + chain(90) + "replicates: 1000",
            "the recipe has 90 arms x 1,000 replicates; a run has at most",
        ),
    ],
    ids=range(21),
)
def test_what_no_run_could_do_is_refused_when_it_is_read(tmp_path, text, said):
    path = tmp_path / "bomb.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError) as caught:
        read(path)
    refused(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 1e300}, "training.epochs is 1e+300; it is at most 1,000,000"),
        (
            {"epochs": None, "steps": 10**12},
            "training.steps is 1000000000000; it is at most 1,000,000,000",
        ),
        ({"momentum": 2}, "training.momentum is 2.0; it is at most 1"),
        ({"batch_size": 10**12}, "training.batch_size is 1000000000000; it is at most"),
        ({"lr": 1e300}, "training.lr is 1e+300; it is at most 1e+38"),
        ({"threads": 10**6}, "training.threads is 1000000; it is at most 1,024"),
        (
            {"schedule": "multistep", "milestones": [1] * 10**4},
            "training.milestones lists 10,000 entries; it may",
        ),
        (
            {"schedule": "multistep", "milestones": [1] * 40, "gamma": 10.0},
            "training.gamma is 10, and there are 40",
        ),
        (
            {"schedule": "multistep", "milestones": [1e300]},
            "training.milestones is 1e+300; it is at most",
        ),
        (
            {"evaluate_every": 10**30},
            "training.evaluate_every is 1000000000000000000000000000000; it is at most",
        ),
        (
            {"patience": 10**30},
            "training.patience is 1000000000000000000000000000000; it is at most",
        ),
        ({"warmup": 1e300}, "training.warmup is 1e+300; it is at most"),
        ({"weight_decay": 1e300}, "training.weight_decay is 1e+300; it is at most"),
        ({"clip": 1e300}, "training.clip is 1e+300; it is at most"),
        ({"lr": 10**400}, "training.lr is 2 ** 1328 or more; no machine has such a number"),
    ],
)
def test_every_number_of_a_training_has_a_bound_in_a_recipe_and_in_an_arm(changes, said):
    with pytest.raises(ConfigError) as caught:
        parse(WHOLE | {"training": {"epochs": 1} | changes})
    refused(caught.value)
    assert said in str(caught.value)
    arm = {"method": "lth", "rate": 0.2, "training": changes}
    with pytest.raises(ConfigError) as caught:
        parse(WHOLE | {"arms": {"lth": arm}})
    refused(caught.value)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (
            {"method": "colt", "rate": 0.2, "split_by": "seeds", "partitions": 10**9},
            "partitions is 1000000000; it is at most",
        ),
        (
            {"method": "colt", "rate": 0.2, "train_on": [1] * 2000},
            "arms.a.train_on lists 2,000 entries; it may have at most",
        ),
        (
            {"method": "lth", "reach": {"density": 0.1, "rounds": 10**9}},
            "rounds are from 1 to 10,000",
        ),
        (
            {"method": "lth", "reach": {"density": 0.1, "rounds": 10**9}, "exact": True},
            "rounds are from 1 to 10,000",
        ),
        ({"method": "lth", "densities": [0.5] * 2000}, "arms.a.densities lists 2,000 entries"),
        (
            {"method": "lth", "rate": 0.2, "evaluate_at": [0.5] * 2000},
            "arms.a.evaluate_at lists 2,000 entries",
        ),
        ({"method": "fine_tune", "rate": 0.2, "lr": 1e300}, "arms.a.lr is 1e+300; it is at most"),
        (
            {"method": "lth", "rate": 0.2, "score": ["magnitude"] * 2000},
            "arms.a.score lists 2,000 entries",
        ),
    ],
)
def test_every_number_of_an_arm_has_a_bound(arm, said):
    with pytest.raises(ConfigError) as caught:
        parse(WHOLE | {"arms": {"a": arm}})
    refused(caught.value)
    assert said in str(caught.value)


def test_what_is_generous_stays_a_recipe():
    whole = WHOLE | {
        "training": {"epochs": 1e5, "batch_size": 10**9, "momentum": 1, "lr": 1e30, "threads": 512},
        "replicates": 100,
        "until": {"rounds": 9999, "density": 1e-9},
    }
    assert parse(whole).training.lr == 1e30
    rates = {
        "method": "lth",
        "scope": "per_kind",
        "rate": {"conv": 0.1, "linear": 1.0},
        "allow_collapse": True,
    }
    assert parse(WHOLE | {"arms": {"a": rates}}).arms["a"].rate["linear"] == 1.0


def test_a_chain_of_a_hundred_arms_is_resolved_in_either_order():
    for ahead in (False, True):
        made = parse(from_yaml(HEAD + chain(101, ahead) + "name: x", "x"))
        assert arms.order(made.arms) == [f"a{i}" for i in range(101)]
        assert arms.leading(made.arms["a100"], made.arms) == made.arms["a0"]


def test_overrides_and_plain_data_are_bounded_too(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    endless = []
    endless.append(endless)
    bombs = [
        lambda: read(path, ["--data" + ".a" * 5000, "1"]),
        lambda: read(path, ["--seed", "[" * 5000]),
        lambda: read(path, ["--seed", laughing(9)]),
        lambda: read(path, ["--arms.x\n.rate", "1"]),
        lambda: read(path, ["\n" * 50]),
        lambda: parse(WHOLE | {"seed": 10**5000}),
        lambda: parse(WHOLE | {"data": {"name": "digits", "x": endless}}),
        lambda: parse(WHOLE | {"data": {"name": "digits", "x": object()}}),
        lambda: parse(WHOLE | {"data": {"name": "digits", "x": {5: 6}}}),
        lambda: parse(WHOLE | {"data": {"name": "digits", "x": math.nan}}),
        lambda: parse(WHOLE | {"a\nb" * 10**6: 1}),
    ]
    for bomb in bombs:
        with pytest.raises(InputError) as caught:
            bomb()
        refused(caught.value)


# ---- what is planned


def planned(**changes):
    made = {**WHOLE}
    for key, value in changes.items():
        made[key] = {**made[key], **value} if key == "training" else value
    return experiment.plan(parse(made))


SYNTHETIC = {"name": "synthetic", "image_shape": [3, 32, 32], "train": 20}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"training": {"threads": 1000}},
            "and a training takes at most 64 threads here: --training.threads 2",
        ),
        (
            {"arms": {"a": {"method": "lth", "rate": 1e-12}}},
            "its rate is 1e-12; a round would prune none of 1,280",
        ),
        (
            {"arms": {"a": {"method": "lth", "rate": 0.99999}}},
            "the first round would prune all 1,280 weights",
        ),
        (
            {"arms": {"a": {"method": "lth", "densities": [0.99999, 0.5]}}},
            "a round would prune none of 1,280 weights",
        ),
        (
            {"arms": {"a": {"method": "lth", "densities": [0.5, 0.49999]}}},
            "a round would prune none of 640 weights",
        ),
        (
            {"arms": {"a": {"method": "lth", "reach": {"density": 0.99, "rounds": 9999}}}},
            "a round would prune none",
        ),
        (
            {
                "arms": {"d": {"method": "dense"}},
                "data": {"name": "digits", "augment": {"crop": 8}},
            },
            "out of sight",
        ),
        (
            {
                "training": {"epochs": 1e6},
                "arms": {"g": {"method": "gradual", "densities": [0.5], "pace": {"every": 1}}},
            },
            "pace.every is 1, which makes 15,750,000 cuts",
        ),
        (
            {"model": {"name": "mlp", "hidden": [10**12]}},
            "model 'mlp' has 75,000,000,000,010 weights with these",
        ),
        ({"model": {"name": "mlp", "hidden": [10**18]}}, "'mlp' failed"),
        (
            {"model": {"name": "mlp", "hidden": [10] * 1001}},
            "hidden lists 1,001 layers; it may have at most 1,000",
        ),
        (
            {"model": {"name": "conv2", "dropout": 1e300}, "data": SYNTHETIC},
            "dropout is 1e+300; it is a fraction",
        ),
        ({"model": {"name": "mlp", "head": "x" * 10**5}}, "the model has no layer 'xxxx"),
        ({"model": {"name": "mlp", "weights": "x" * 10**5}}, "no file can have such a name"),
        (
            {"model": {"name": "mlp", "weights": "~nobody-of-that-name/x"}},
            "weights is '~nobody-of-that-name/x'",
        ),
        ({"model": "a\nb"}, r"no 'a\nb' in tombola.models"),
        (
            {"data": {"name": "synthetic", "train": 10**12}},
            "synthetic has 1,000,000,000,000 training and 200 test",
        ),
        (
            {"data": {"name": "synthetic", "image_shape": [1, 10**6, 10**6]}},
            "GiB of memory are free",
        ),
        (
            {"data": {"name": "synthetic", "classes": 10**10, "train": 10**10}},
            "GiB of memory are free",
        ),
        (
            {"data": {"name": "image_folder", "path": "x", "size": 10**9}},
            "it is a number of pixels, from 1 to 8,192",
        ),
        (
            {"data": {"name": "image_folder", "path": "x", "workers": 10**9}},
            "it is a number of processes, from 0 to",
        ),
        ({"data": {"name": "arrays", "path": "x" * 300}}, "no file can have such a name"),
        (
            {"data": {"name": "digits", "subset": 10**18}},
            "are more than the 1437 training examples there are",
        ),
        ({"data": {"name": "digits", "valid": 1e300}}, "valid is 1e+300; a fraction is below 1"),
        (
            {"data": {"name": "digits", "valid": 10**30}},
            "are more than the 1437 training examples there are",
        ),
        (
            {"data": {"name": "digits", "classes": 10**30}},
            "classes is 1000000000000000000000000000000; the data has",
        ),
    ],
    ids=range(26),
)
def test_what_cannot_run_is_refused_when_it_is_planned(monkeypatch, changes, said):
    monkeypatch.setattr("tombola.ground.devices.cores", lambda: 2)
    with pytest.raises(InputError) as caught:
        planned(**changes)
    refused(caught.value)
    assert said in str(caught.value)


def test_a_large_number_that_costs_nothing_is_planned():
    threads = planned(
        training={"threads": 64, "batch_size": 10**9, "evaluate_every": 10**9}, replicates=100
    )
    assert threads.recipe.training.threads == 64


@pytest.mark.parametrize("number", [0, 65, 10**9])
def test_workers_have_a_bound(monkeypatch, tmp_path, number):
    monkeypatch.setattr("tombola.ground.devices.cores", lambda: 2)
    with pytest.raises(ConfigError, match=f"workers is {number}; "):
        experiment.run(parse(WHOLE), runs=tmp_path, workers=number)


# ---- recipes of the whole schema with bombs in them

NAMES = tuple(methods.names())
KINDS = tuple(methods.shipped(name) for name in NAMES)


@dataclasses.dataclass
class Named:
    method: typing.Literal[NAMES]


SECTIONS = (
    recipe.Recipe,
    recipe.Data,
    recipe.Model,
    recipe.Until,
    recipe.Decision,
    Named,
    *KINDS,
    methods.Reach,
    methods.Match,
    Training,
    batches.Augment,
    partitions.Skew,
    schedules.PruningSchedule,
    profiles.Profile,
)
BOMBS = st.one_of(
    st.sampled_from(
        [
            *(
                None,
                True,
                False,
                0,
                1,
                -1,
                2,
                10**9,
                10**12,
                10**18,
                2**63,
                2**64,
                10**40,
                10**400,
                -(10**400),
            ),
            *(
                0.5,
                -0.0,
                1.0,
                1e-300,
                1e300,
                math.inf,
                -math.inf,
                math.nan,
                "",
                "x",
                "a\nb",
                "\x1b[2J",
                "\ud800",
            ),
            *(
                "x" * 300,
                "x" * 10**5,
                "../x",
                "/",
                "~x",
                "a:b",
                "json:loads",
                "torchvision:resnet0",
                "lth",
                "dense",
            ),
            *(
                [],
                {},
                [1] * 2000,
                ["x"],
                [[]],
                [0.5, 0.2],
                {"a": 1},
                {"a": {"b": []}},
                {1: 2},
                {None: None},
                b"x",
            ),
            *((), {"x" * 10**5: 1}, object(), {1, 2}, lambda: 0),
        ]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)
CHEAP_DATA = {"name": "synthetic", "train": 60, "test": 10}


def good(hint, depth=0):
    """Return a strategy of values of a type, so that some of what is drawn comes far."""
    of = typing.get_args(hint)
    if hint is methods.Method:
        return st.one_of(
            [st.tuples(section(Named, 0), section(kind, depth + 1)).map(joined) for kind in KINDS]
        )
    if dataclasses.is_dataclass(hint):
        return section(hint, depth + 1)
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(of)
    if typing.get_origin(hint) in (tuple, list):
        return st.lists(good(of[0], depth), max_size=3)
    if typing.get_origin(hint) is dict:
        return st.dictionaries(
            st.sampled_from(["lth", "colt-2", "x"]), good(of[1], depth), max_size=2
        )
    if of:  # a union
        return st.one_of([good(one, depth) for one in of])
    plain = {
        int: st.integers(0, 5), float: st.sampled_from([0.1, 0.5, 1.0, 3.0]), bool: st.booleans(),
        str: st.sampled_from(["lth", "magnitude", "synthetic", "mlp", "all", "no_head", "cpu"]), type(None): st.none(),
    }  # fmt: skip
    return plain.get(hint, BOMBS)


def joined(sections):
    """Return sections as one; a name that is drawn stands for its method, whatever else is
    there.
    """
    return {key: value for one in sections for key, value in one.items()}


def section(kind, depth=0):
    """Return a strategy of one section as plain data: some of its entries, and here and there a
    bomb or a new entry.
    """
    hints = hints_of(kind)
    entries = {
        field.name: good(hints[field.name], depth) | BOMBS for field in dataclasses.fields(kind)
    }
    some = st.fixed_dictionaries({}, optional=entries) if depth < 3 else st.just({})
    return some | st.tuples(some, st.text(max_size=5), BOMBS).map(
        lambda drawn: {**drawn[0], drawn[1]: drawn[2]}
    )


@st.composite
def recipes(draw):
    """Return a recipe of which most entries are good, so that bombs are met everywhere and not
    at the first entry.
    """
    whole = {
        "name": "x", "data": CHEAP_DATA, "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 1},
        "until": {"rounds": 2}, "arms": {"lth": {"method": "lth", "rate": 0.2}}, "device": "cpu",
    }  # fmt: skip
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(SECTIONS))
        field = draw(st.sampled_from(dataclasses.fields(kind)))
        value = draw(good(hints_of(kind)[field.name]) | BOMBS)
        where = {
            recipe.Data: ["data"],
            recipe.Model: ["model"],
            recipe.Until: ["until"],
            recipe.Decision: ["verdict"],
            methods.Reach: ["arms", "lth", "reach"],
            methods.Match: ["arms", "lth", "match"],
            Training: ["training"],
            batches.Augment: ["data", "augment"],
            partitions.Skew: ["data", "skew"],
            schedules.PruningSchedule: ["arms", "lth", "pace"],
            profiles.Profile: ["profile"],
        }.get(kind, ["arms", "lth"] if kind in (Named, *KINDS) else [])
        name = field.name
        if name == "options":
            name = draw(
                st.sampled_from(
                    ["hidden", "classes", "train", "test", "image_shape", "noise", "seed"]
                )
            )
        whole = put(whole, [*where, "except" if name == "but" else name], value)
    return whole


def put(whole, path, value):
    first, *rest = path
    inner = whole.get(first) if isinstance(whole, dict) else None
    return {
        **(whole if isinstance(whole, dict) else {}),
        first: put(inner, rest, value) if rest else value,
    }


def comes_to(whole):
    """Parse and plan a recipe; return whether it can run. Anything but a refusal in one line is
    an error.
    """
    try:
        experiment.plan(parse(whole))
    except InputError as error:
        refused(error)
        return False
    return True


MANY = {"suppress_health_check": list(HealthCheck), "max_examples": 60}


@given(recipes())
@settings(**MANY)
def test_a_recipe_with_bombs_is_planned_or_refused_in_one_line(whole):
    comes_to(whole)


@given(section(recipe.Recipe))
@settings(**MANY)
def test_anything_of_the_schemas_shape_is_parsed_or_refused_in_one_line(whole):
    try:
        parse(whole)
    except InputError as error:
        refused(error)


@given(
    st.recursive(
        BOMBS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
@settings(**MANY)
def test_anything_at_all_in_any_place_is_refused_in_one_line(value):
    for key in WHOLE:
        try:
            parse(WHOLE | {key: value})
        except InputError as error:
            refused(error)


@given(st.text(alphabet=st.sampled_from("[]{}:,&*!<>|-?#%@'\"\\ \n\tab01.~e_x")))
@settings(**MANY)
def test_any_text_is_yaml_or_refused_in_one_line_with_its_line(text):
    try:
        from_yaml(text, "x")
    except ConfigError as error:
        refused(error)
        told = str(error)
    else:
        return
    assert told.startswith("x")
    assert "line " in told


@pytest.mark.slow
@given(recipes() | section(recipe.Recipe))
@settings(suppress_health_check=list(HealthCheck), max_examples=5000)
def test_many_recipes_with_bombs_are_planned_or_refused_in_bounded_time(whole):
    began = time.process_time()
    comes_to(whole)
    assert time.process_time() - began < 20
