"""Skew: classes lose examples before anything is divided, alike in all arms, and nobody ever
trains on them.
"""

import re

import pytest
import torch
from tests.layouts import ticket_file
from tests.test_experiment import go, recipe, timeless
from tests.toys import without

from tombola.data.batches import Batches
from tombola.data.partitions import (
    WHOLE,
    Partition,
    Skew,
    by_classes,
    by_examples,
    by_seeds,
    skewed,
    within,
)
from tombola.experiments.experiment import facts, foresee, plan
from tombola.folder.identity import run_digest
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.ground.seeds import generator
from tombola.masks.masks import nested
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

LABELS = torch.arange(400) % 4
MEMBERSHIP = LABELS[:, None] == torch.arange(4)
DATA = {"name": "synthetic", "train": 400, "test": 40, "valid": 40, "skew": {"most": 0.5}}
ARMS = {
    "lth": {"method": "lth", "rate": 0.2},
    "colt-2": {"method": "colt", "rate": 0.15},
    "matched": {"match": "colt-2"},
}


def skewed_recipe(of="all", **changes):
    return recipe(
        **{"data": DATA | {"skew": {"most": 0.5, "of": of}}, "arms": ARMS, "until": {"rounds": 2}}
        | changes
    )


def counts(part, labels=LABELS):
    return torch.bincount(labels[list(part.examples)], minlength=4).tolist()


def test_each_class_loses_the_fraction_that_is_drawn_at_its_own_address():
    drawn = [
        0.3 * torch.rand((), dtype=torch.float64, generator=generator(7, "skew", c)).item()
        for c in range(4)
    ]
    assert counts(skewed(LABELS, Skew(0.3), seed=7)) == [
        100 - int(100 * fraction) for fraction in drawn
    ]
    assert [round(fraction, 3) for fraction in drawn] == [0.161, 0.134, 0.206, 0.05]
    assert counts(skewed(LABELS, Skew(0.3), seed=7)) == [84, 87, 80, 96]


def test_the_fractions_are_uniform_from_zero_to_the_most():
    lost = [
        1 - count / 100 for seed in range(100) for count in counts(skewed(LABELS, Skew(0.3), seed))
    ]
    assert 0 <= min(lost) < 0.01
    assert 0.28 < max(lost) <= 0.3
    assert sum(lost) / len(lost) == pytest.approx(0.145, abs=0.01)  # rounded down to whole examples


def test_what_remains_hangs_on_seed_and_class_alone():
    one = skewed(LABELS, Skew(0.3), seed=0)
    assert one == skewed(LABELS, Skew(0.3), seed=0) != skewed(LABELS, Skew(0.3), seed=1)
    assert list(one.examples) == sorted(set(one.examples))
    fewer = LABELS[LABELS < 3]  # without the last class the others keep their draws
    assert counts(skewed(fewer, Skew(0.3), seed=0), fewer) == [*counts(one)[:3], 0]


def test_no_class_loses_its_last_example():
    assert counts(skewed(torch.arange(4), Skew(0.999), seed=0), torch.arange(4)) == [1, 1, 1, 1]


@pytest.mark.parametrize("divide", [lambda _: by_classes(4, 2, 0), lambda n: by_examples(n, 3, 0)])
def test_partitions_divide_what_remains(divide):
    whole = skewed(LABELS, Skew(0.3), seed=0)
    parts = within(whole, divide(len(whole.examples)), MEMBERSHIP)
    assert sorted(e for part in parts for e in part.examples) == list(whole.examples)
    assert all(
        set(LABELS[list(part.examples)].tolist()) <= set(part.classes or range(4)) for part in parts
    )


def test_partitions_by_seeds_all_see_what_remains_and_the_first_is_the_whole():
    whole = skewed(LABELS, Skew(0.3), seed=0)
    first, second = within(whole, by_seeds(2), MEMBERSHIP)
    assert first == whole
    assert second == Partition(examples=whole.examples, order=1)


def test_without_skew_partitions_stay_as_they_are():
    assert within(WHOLE, [Partition((0, 1)), Partition((2, 3))], MEMBERSHIP) == [
        Partition((0, 1)),
        Partition((2, 3)),
    ]


@pytest.mark.parametrize(
    ("skew", "message"),
    [
        ({"most": 0}, "data.skew.most is 0; it is a fraction between 0 and 1, so 30 % is 0.3"),
        ({"most": 30}, "data.skew.most is 30; it is a fraction"),
        ({"most": 1}, "data.skew.most is 1; it is a fraction"),
        ({}, "data.skew lacks 'most'"),
        ({"most": 0.3, "of": "train"}, "data.skew.of is 'train'; it should be one of all, search"),
        (
            {"most": 0.3, "off": "all"},
            "there is no 'data.skew.off'; data.skew has: most, of. Did you mean 'of'?",
        ),
        (0.3, "data.skew is 0.3; it should be a mapping"),
    ],
)
def test_a_skew_that_is_none_is_refused_in_one_line(skew, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        recipe(data=DATA | {"skew": skew})
    assert "\n" not in str(caught.value)


def test_a_recipe_with_skew_gives_itself_again_and_is_another_run():
    made = skewed_recipe()
    assert parse(made.to_dict()) == made
    assert made.to_dict()["data"]["skew"] == {"most": 0.5, "of": "all"}
    plain = recipe(data=without(DATA, "skew"))
    assert "skew" not in plain.to_dict()["data"]
    assert len({run_digest(one) for one in (made, skewed_recipe("search"), plain)}) == 3


@pytest.fixture(scope="module", autouse=True)
def no_page():
    """Figures take longer than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.experiments.reporting.page.write", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run whose batches were watched: the published positions that each split they were made
    of held.
    """
    folder, seen = tmp_path_factory.mktemp("skew"), []
    with pytest.MonkeyPatch.context() as patch:
        begin = Batches.__init__
        patch.setattr(
            Batches,
            "__init__",
            lambda self, split, **all_: (seen.append(split), begin(self, split, **all_))[1],
        )
        made = go(folder, skewed_recipe(replicates=1))
    return made, seen


def test_examples_that_are_missing_are_in_no_training_batch(done):
    plans = plan(skewed_recipe(replicates=1))
    train, whole = plans.task.splits.train, plans.full_partition(0)
    remaining = set(train.indices[list(whole.examples)].tolist())
    trained = [set(split.indices.tolist()) for split in done[1]]
    assert 180 < len(remaining) < 360
    assert remaining in trained
    assert all(indices <= remaining for indices in trained)


def test_all_arms_have_the_same_dense_network_and_say_what_remains_of_each_class(done):
    outcome = done[0]
    plans = plan(skewed_recipe(replicates=1))
    left = plans.task.split(plans.full_partition(0), "train")
    assert {tuple(record["class_examples"]) for record in outcome.records} == {
        tuple(left.labels.bincount().tolist())
    }
    dense = [record for record in outcome.records if record["round"] == 0]
    assert len({record["training_digest"] for record in dense}) == 1
    assert {record["samples_seen"] for record in dense} == {2 * len(left)}


def test_masks_nest_and_tickets_say_their_skew(done):
    one, two = (Ticket.load(ticket_file(done[0].folder, "colt-2", 0, index)) for index in (1, 2))
    assert list(nested(two.mask, one.mask)) == []
    assert two.origin["data"]["skew"] == {"most": 0.5, "of": "all"}
    held = [part["examples"]["number"] for part in two.origin["partitions"]]
    record = next(r for r in done[0].records if (r["arm"], r["round"]) == ("colt-2", 2))
    assert sum(held) == sum(record["class_examples"])


def test_the_search_of_a_round_is_the_evaluation_of_the_ticket_before(done):
    records = {(r["arm"], r["round"]): r for r in done[0].records}
    examples = sum(records["lth", 0]["class_examples"])
    # dense, round 1, and the evaluation of round 2
    assert records["lth", 2]["samples_seen"] == 3 * 2 * examples
    assert records["matched", 1]["samples_seen"] == 2 * 2 * examples


def test_one_partition_of_colt_equals_lth(tmp_path):
    arms = {
        "lth": {"method": "lth", "rate": 0.2},
        "one": {"method": "colt", "partitions": 1, "rate": 0.2},
    }
    for of in ("all", "search"):
        made = go(tmp_path / of, skewed_recipe(of, arms=arms, replicates=1))
        by_arm = {arm: [] for arm in arms}
        for record in timeless(made.records):
            by_arm[record["arm"]].append(without(record, "arm", "arm_digest"))
        assert by_arm["lth"] == by_arm["one"] != []


def test_a_skewed_search_is_charged_for_its_own_trainings_and_tested_on_all_data(tmp_path):
    made = go(tmp_path, skewed_recipe("search", arms={"lth": ARMS["lth"]}, replicates=1))
    dense, first, second = made.records
    examples = sum(dense["class_examples"])
    assert examples < 360
    assert dense["samples_seen"] == 2 * 360
    assert first["samples_seen_search"] == 2 * examples
    assert second["samples_seen_search"] == 2 * 2 * examples
    assert second["samples_seen"] == 2 * (2 * examples + 3 * 360)
    plans = plan(skewed_recipe("search", arms={"lth": ARMS["lth"]}, replicates=1))
    assert foresee(plans, runs=tmp_path / "elsewhere").trainings == 5


def test_a_skewed_run_goes_on_from_where_it_stopped_and_says_its_skew(done, tmp_path):
    go(tmp_path, skewed_recipe(replicates=1, until={"rounds": 1}))
    made = go(tmp_path, skewed_recipe(replicates=1))
    assert timeless(made.records) == timeless(done[0].records)
    missing = "up to 50 % of each class's training examples are missing, drawn anew each replicate"
    assert Run(made.folder).facts["skew"] == facts(plan(skewed_recipe()))["skew"] == missing
    assert facts(plan(skewed_recipe("search")))["skew"] == missing.replace(
        "missing,", "missing of the search,"
    )


@pytest.mark.parametrize("of", ["all", "search"])
def test_every_kind_of_arm_goes_with_skew(tmp_path, of):
    arms = {
        **ARMS,
        "by-examples": {"method": "colt", "split_by": "examples", "rate": 0.15},
        "by-seeds": {"method": "colt", "split_by": "seeds", "rate": 0.15},
        "union": {"method": "colt", "combine": "any", "match": "colt-2"},
        "fine-tune": {"method": "fine_tune", "lr": 0.01, "match": "lth"},
        "random": {"method": "random_ticket", "source": "colt-2"},
        "shuffled": {"method": "shuffled", "source": "lth"},
        "long": {"method": "dense", "as_long_as": "lth"},
        "gradual": {"method": "gradual", "densities": [0.5], "pace": {"every": 2}},
        "as-trained": {"method": "as_trained", "source": "gradual"},
    }
    made = go(tmp_path, skewed_recipe(of, arms=arms, until={"rounds": 1}, replicates=1, rewind=3))
    assert made.complete, made.notes
    by = {(r["arm"], r["round"]): r for r in made.records}
    assert by["as-trained", 1]["kept"] == by["gradual", 1]["kept"]
    assert {len(set(r["class_examples"])) > 1 for r in made.records} == {True}


def test_partitions_that_do_not_cover_what_remains_are_refused():
    task = plan(skewed_recipe()).task
    whole = skewed(task.splits.train.labels, Skew(0.5), seed=0)
    task.check([whole, Partition(examples=whole.examples, order=1)], whole=whole)
    task.check(within(whole, by_classes(10, 2, 0), task.membership("train")), whole=whole)
    with pytest.raises(ConfigError, match="each training example belongs to exactly one partition"):
        task.check(by_examples(len(task.splits.train), 2, 0), whole=whole)
