"""Partitions: everything is given to exactly one model, in shares as equal as can be."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tombola.data.partitions import WHOLE, Partition, by_classes, by_examples, by_seeds
from tombola.ground.errors import ConfigError
from tombola.masks.digests import digest_json
from tombola.schema import arms


def test_classes_in_order_are_dealt_in_runs_the_larger_first():
    assert [part.classes for part in by_classes(10, 4, None)] == [
        (0, 1, 2),
        (3, 4, 5),
        (6, 7),
        (8, 9),
    ]


@pytest.mark.parametrize(("classes", "n"), [(10, 3), (10, 4), (100, 3), (200, 3)])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_no_class_is_dropped_where_the_division_does_not_come_out_even(classes, n, seed):
    parts = [part.classes for part in by_classes(classes, n, seed)]
    sizes = [len(part) for part in parts]
    assert sorted(c for part in parts for c in part) == list(range(classes))
    assert len(parts) == n
    assert sorted(sizes, reverse=True) == sizes
    assert max(sizes) - min(sizes) == 1


@given(st.integers(2, 60), st.data(), st.one_of(st.none(), st.integers(0, 2**40)))
def test_class_partitions_are_disjoint_complete_ascending_and_equal_to_one_class(
    classes, data, seed
):
    n = data.draw(st.integers(1, classes // 2))
    parts = [part.classes or tuple(range(classes)) for part in by_classes(classes, n, seed)]
    assert sorted(c for part in parts for c in part) == list(range(classes))
    assert all(list(part) == sorted(part) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert min(map(len, parts)) >= 2


@given(st.integers(1, 200), st.data(), st.integers(0, 2**40))
def test_example_partitions_are_disjoint_complete_ascending_and_equal_to_one_example(
    examples, data, seed
):
    n = data.draw(st.integers(1, examples))
    parts = [part.examples or tuple(range(examples)) for part in by_examples(examples, n, seed)]
    assert len(parts) == n
    assert sorted(e for part in parts for e in part) == list(range(examples))
    assert all(list(part) == sorted(part) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_same_seed_divides_alike_and_another_seed_otherwise():
    for divide, number in ((by_classes, 100), (by_examples, 500)):
        assert divide(number, 3, 0) == divide(number, 3, 0)
        assert divide(number, 3, 0) != divide(number, 3, 1)


def test_one_partition_is_the_whole():
    assert by_classes(10, 1, 0) == by_examples(100, 1, 0) == by_seeds(1) == [WHOLE]
    assert Partition() == WHOLE


def test_partitions_by_seeds_hold_all_data_and_the_first_keeps_the_replicates_order():
    assert by_seeds(3) == [WHOLE, Partition(order=1), Partition(order=2)]


@pytest.mark.parametrize(
    ("classes", "n", "message"),
    [
        (10, 6, "partitions is 6; with 10 classes one would hold a single class"),
        (3, 2, "the data has 3 classes, and each partition needs at least two: divide by examples"),
        (1, 2, "partitions is 2; the data has 1 class, and each"),
        (10, 11, "partitions is 11; the data has 10 classes, so at most 5"),
        (10, 0, "partitions is 0; it must be 1 or more"),
    ],
)
def test_a_division_of_classes_that_leaves_one_or_none_is_refused(classes, n, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        by_classes(classes, n, 0)


def test_more_partitions_than_examples_are_refused():
    with pytest.raises(ConfigError, match="partitions is 4; the training split has 3 examples"):
        by_examples(3, 4, 0)
    with pytest.raises(ConfigError, match="partitions is -1"):
        by_examples(3, -1, 0)
    with pytest.raises(ConfigError, match="partitions is 0"):
        by_seeds(0)


def test_a_partitions_digest_tells_apart_what_it_holds():
    parts = [
        WHOLE,
        *by_seeds(3)[1:],
        *by_classes(10, 2, 0),
        *by_examples(10, 2, 0),
        Partition((0, 1), (0, 1)),
    ]
    assert len({part.digest for part in parts}) == len(parts)
    assert Partition((1, 2)).digest == Partition((1, 2)).digest
    assert Partition((1, 2)).digest != Partition(examples=(1, 2)).digest


def test_a_partition_describes_its_examples_by_number_and_digest():
    part = by_examples(1000, 2, 0)[0]
    assert part.describe() == {
        "classes": None, "examples": {"number": 500, "digest": part.digest}, "order": None, "full_head": False
    }  # fmt: skip
    assert Partition((3, 4)).describe()["classes"] == (3, 4)


@pytest.mark.parametrize(
    ("classes", "n", "kept"), [(10, 3, 9), (10, 4, 8), (10, 2, 10), (200, 3, 198)]
)
@pytest.mark.parametrize("seed", [None, 0])
def test_the_remainder_of_classes_may_be_dropped_so_that_all_are_as_large(classes, n, kept, seed):
    parts = [part.classes for part in by_classes(classes, n, seed, drop_remainder=True)]
    assert {len(part) for part in parts} == {classes // n}
    held = sorted(c for part in parts for c in part)
    assert len(set(held)) == len(held) == kept
    if seed is None:
        assert held == list(range(kept))


def test_a_full_head_is_told_in_partition_and_digest():
    own, full = by_classes(10, 2, 0), by_classes(10, 2, 0, full_head=True)
    assert [part.classes for part in own] == [part.classes for part in full]
    assert [part.own_head for part in own + full] == [True, True, False, False]
    assert len({part.digest for part in own + full}) == 4
    assert full[0].describe()["full_head"] is True
    assert not WHOLE.own_head


def test_what_is_done_about_other_classes_is_in_the_digest_only_where_it_is_set():
    plain = Partition((0, 1))
    # As it has been since before there was the field.
    assert plain.digest == digest_json([[0, 1], None, None, False])
    ignoring, hiding = Partition((0, 1), others="ignore"), Partition((0, 1), others="background")
    assert len({plain.digest, ignoring.digest, hiding.digest}) == 3
    assert "others" not in plain.describe()
    assert ignoring.describe()["others"] == "ignore"
    assert [part.others for part in by_classes(4, 2, 0, others="ignore")] == ["ignore"] * 2
    assert by_classes(4, 1, 0, others="ignore") == [WHOLE]


@pytest.mark.parametrize(
    ("known", "asked", "gives"),
    [
        ((), None, None),
        (("ignore", "exclude"), None, "ignore"),
        (("ignore", "exclude"), "exclude", "exclude"),
        ((), "ignore", "others is 'ignore', and each example of its task has one class"),
        (
            ("ignore", "exclude"),
            "ignored",
            "others is 'ignored'; its task knows ignore, exclude. Did you mean 'ignore'?",
        ),
    ],
)
def test_colt_asks_the_task_what_it_does_about_other_classes(known, asked, gives):
    method = arms.read({"method": "colt", "rate": 0.15, "others": asked}, "arms.colt")
    task = SimpleNamespace(others=known, classes=4)
    ground = SimpleNamespace(task=task, searched=WHOLE, seed=0)
    if gives is None or gives in known:
        assert {part.others for part in method.division(ground)} == {gives}
        return
    with pytest.raises(ConfigError) as refusal:
        method.division(ground)
    assert gives in str(refusal.value)


def test_an_option_that_came_later_is_written_only_where_it_is_set():
    given = {"method": "colt", "rate": 0.15}
    plain = arms.read(given, "arms.colt")
    asked = arms.read(given | {"others": "exclude"}, "arms.colt")
    assert "others" not in plain.to_dict()
    assert "others" not in plain.definition()
    assert asked.definition() == plain.definition() | {"others": "exclude"}
    with pytest.raises(
        ConfigError, match=r"arms\.colt\.others has no meaning with split_by: seeds"
    ):
        arms.read(given | {"split_by": "seeds", "others": "exclude"}, "arms.colt").check(
            "arms.colt"
        )
