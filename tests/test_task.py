"""A task gives every partition its own examples, labels and head, and every arm the same ones."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from tombola import Classification
from tombola.data.batches import Augment
from tombola.data.dataset import from_tensors
from tombola.data.partitions import WHOLE, Partition, by_classes, by_examples, by_seeds
from tombola.data.splits import split
from tombola.ground import seeds
from tombola.ground.errors import ConfigError


def data(train=40, pixel=0.0):
    """Four classes in turn; the pixels of an example are its number."""
    labels = torch.arange(train) % 4
    images = torch.arange(train).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) + pixel
    return from_tensors(images, labels, images[:8], labels[:8], 4)


def network(hidden=3, seed=0) -> nn.Module:
    with seeds.seeded(seed, "init"):
        return nn.Sequential(
            OrderedDict(
                flat=nn.Flatten(),
                fc=nn.Linear(4, hidden),
                norm=nn.BatchNorm1d(hidden),
                head=nn.Linear(hidden, 4),
            )
        )


@pytest.fixture
def task() -> Classification:
    return Classification(network(), split(data(), valid=8))


def test_the_labels_of_a_class_partition_are_renumbered_from_zero(task):
    own = task.split(Partition(classes=(1, 3)), "train")
    published = own.indices % 4  # the class of an example, by how the data was made
    assert sorted(set(published.tolist())) == [1, 3]
    assert torch.equal(own.labels, (published == 3).long())
    assert len(own) == 16


@pytest.mark.parametrize("which", ["train", "valid", "test"])
def test_class_partitions_divide_every_split_without_loss(task, which):
    whole = task.split(WHOLE, which)
    parts = [task.split(part, which) for part in by_classes(4, 2, seed=0)]
    assert sorted(torch.cat([part.indices for part in parts]).tolist()) == whole.indices.tolist()
    assert all(set(part.labels.tolist()) == {0, 1} for part in parts)


def test_a_class_partition_has_a_head_of_its_own_size_and_all_else_from_the_start(task):
    start = task.initial_state()
    model = task.build(start, Partition(classes=(1, 3)), seed=0)
    assert tuple(model.head.weight.shape) == (2, 3)
    for name, value in model.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, start[name])


def test_a_drawn_head_hangs_on_the_seed_and_the_classes_alone(task):
    def head(start, classes, seed):
        return task.build(start, Partition(classes=classes), seed).head.weight

    start = task.initial_state()
    first = head(start, (1, 3), 0)
    other_start = {name: torch.ones_like(value) for name, value in start.items()}
    assert torch.equal(first, head(start, (1, 3), 0))
    assert torch.equal(first, head(other_start, (1, 3), 0))
    assert not torch.equal(first, head(start, (0, 2), 0))
    assert not torch.equal(first, head(start, (1, 3), 1))


@pytest.mark.parametrize("part", [WHOLE, Partition(examples=tuple(range(10))), Partition(order=1)])
def test_all_other_partitions_share_the_full_head_and_keep_the_labels(task, part):
    start = task.initial_state()
    model = task.build(start, part, seed=0)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    own = task.split(part, "train")
    assert torch.equal(own.labels, own.indices % 4)


def test_a_model_that_is_built_shares_nothing_with_the_task_or_the_start(task):
    start = task.initial_state()
    with torch.no_grad():
        for value in task.build(start, WHOLE, seed=0).state_dict().values():
            value.zero_()
    assert task.model.fc.weight.any()
    assert start["norm.running_var"].all()


def test_the_initial_state_is_a_copy_with_the_buffers(task):
    state = task.initial_state()
    assert state.keys() == task.model.state_dict().keys()
    state["norm.running_var"].zero_()
    assert task.model.norm.running_var.all()


def test_examples_are_divided_in_the_training_split_only(task):
    one, other = by_examples(32, 2, seed=0)
    train = [task.split(part, "train") for part in (one, other)]
    assert (
        sorted(torch.cat([part.indices for part in train]).tolist())
        == task.splits.train.indices.tolist()
    )
    assert torch.equal(train[0].indices, task.splits.train.indices[list(one.examples)])
    for which in ("valid", "test"):
        assert torch.equal(task.split(one, which).indices, task.split(WHOLE, which).indices)


def test_examples_of_some_classes_are_both_chosen_and_renumbered(task):
    part = Partition(classes=(0, 2), examples=tuple(range(6)))
    indices = task.splits.train.indices[:6]
    expected = indices[indices % 2 == 0]
    own = task.split(part, "train")
    assert own.indices.tolist() == expected.tolist()
    assert own.labels.tolist() == (expected % 4 // 2).tolist()


def order(task, part, seed=0):
    return torch.cat([labels for _, labels in task.batches(part, 5, seed).epoch(0)]).tolist()


def test_partitions_by_seeds_see_the_data_in_other_orders_and_the_first_in_the_replicates():
    # As many classes as examples: a label says which example it is.
    images = torch.zeros(30, 1, 2, 2)
    model = nn.Sequential(OrderedDict(flat=nn.Flatten(), head=nn.Linear(4, 30)))
    task = Classification(
        model, split(from_tensors(images, torch.arange(30), images, torch.arange(30)), valid=0)
    )
    first, second, third = (order(task, part) for part in by_seeds(3))
    assert first == order(task, WHOLE)
    assert first != second != third != first
    assert sorted(first) == sorted(second) == sorted(third) == list(range(30))
    assert order(task, by_seeds(2)[1]) == second
    assert order(task, WHOLE, seed=1) != first


def test_batches_are_normalised_by_the_whole_training_split_in_every_partition(task):
    part = Partition(classes=(1, 3))
    own = task.split(part, "train")
    inputs = torch.cat([inputs for inputs, _ in task.batches(part, 100, seed=0).epoch(0)])
    expected = (own.images - task.splits.mean) / task.splits.std
    assert sorted(inputs[:, 0, 0, 0].tolist()) == pytest.approx(
        sorted(expected[:, 0, 0, 0].tolist())
    )


def test_an_epoch_of_the_full_split_is_counted_in_batches(task):
    assert [task.steps_per_epoch(size) for size in (32, 31, 30, 5)] == [1, 1, 2, 7]


def test_partitions_that_lose_or_double_a_class_or_an_example_are_refused(task):
    task.check(by_classes(4, 2, seed=0))
    task.check(by_examples(32, 3, seed=0))
    task.check(by_seeds(3))
    with pytest.raises(
        ConfigError, match=r"hold the classes \[0, 1, 3\]; each of the 4 classes belongs to exactly"
    ):
        task.check([Partition(classes=(0, 1, 3))])
    with pytest.raises(ConfigError, match=r"hold the classes \[0, 1, 1, 2, 3\]"):
        task.check([Partition(classes=(0, 1)), Partition(classes=(1, 2, 3))])
    with pytest.raises(
        ConfigError,
        match="each training example belongs to exactly one partition; some are missing",
    ):
        task.check([Partition(examples=(0, 1)), Partition(examples=(2,))])


def test_partitions_of_all_data_are_good_in_any_number(task):
    task.check([WHOLE])
    task.check((WHOLE, Partition(order=3), WHOLE))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "there are no partitions"),
        (
            [Partition((0, 1)), Partition((2, 7))],
            "partition 2 holds class 7; the training split has class 0 to 3",
        ),
        ([Partition((0, 1)), Partition((2, -1))], "partition 2 holds class -1"),
        ([Partition(tuple(range(4))), Partition(())], "partition 2 holds no class"),
        (
            [Partition(examples=()), Partition(examples=tuple(range(32)))],
            "partition 1 holds no example",
        ),
        (
            [Partition(examples=(32,))],
            "partition 1 holds example 32; the training split has example 0 to 31",
        ),
        (
            [Partition((0, 1, 2)), Partition((3,))],
            "partition 2 holds the single class 3, and a head of one output",
        ),
        (
            [Partition((0, 1)), WHOLE],
            "some partitions hold classes, examples or all data and others do not",
        ),
        ([Partition((0, 1)), Partition(examples=(1,))], "all divide alike"),
    ],
)
def test_partitions_that_cannot_work_are_refused_in_one_line(task, parts, message):
    with pytest.raises(ConfigError, match=message):
        task.check(parts)


def test_a_model_without_a_known_head_is_refused(task):
    with pytest.raises(ConfigError, match="has no Linear or Conv2d named 'head'"):
        Classification(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), task.splits)
    named = Classification(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), task.splits, head="1")
    assert tuple(
        named.build(named.initial_state(), Partition(classes=(0, 1)), 0)[1].weight.shape
    ) == (2, 4)


def test_equal_tasks_have_equal_digests_whatever_the_weights(task):
    assert Classification(network(seed=1), split(data(), valid=8)).digest == task.digest


@pytest.mark.parametrize(
    "other",
    [
        lambda: Classification(network(hidden=5), split(data(), valid=8)),
        lambda: Classification(network(), split(data(pixel=1.0), valid=8)),
        lambda: Classification(network(), split(data(), valid=8, seed=1)),
        lambda: Classification(network(), split(data(), valid=8, subset=20)),
        lambda: Classification(network(), split(data(), valid=8), augment=Augment(flip=True)),
        lambda: Classification(network(), split(data(), valid=8), augment=Augment(crop=1)),
        lambda: Classification(network(), split(data(), valid=8), augment=Augment(rotate=5)),
        lambda: Classification(network(), split(data(), valid=8), init="default"),
        lambda: Classification(network(), replace(split(data(), valid=8), mean=torch.ones(1))),
        lambda: Classification(
            nn.Sequential(*network(), nn.ReLU()), split(data(), valid=8), head="3"
        ),
    ],
    ids=[
        "width",
        "pixels",
        "split",
        "subset",
        "flip",
        "crop",
        "rotate",
        "init",
        "mean",
        "architecture",
    ],
)
def test_whatever_decides_a_training_changes_the_tasks_digest(task, other):
    assert other().digest != task.digest


def test_which_layer_is_the_head_changes_the_tasks_digest():
    wide, splits = network(hidden=4), split(data(), valid=8)
    assert Classification(wide, splits, head="fc").digest != Classification(wide, splits).digest


def test_a_head_with_fewer_outputs_than_classes_is_refused_before_anything_is_trained():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ConfigError, match=r"head '1' has 3 outputs for 4 classes"):
        Classification(model, split(data(), valid=8), head="1")


def test_with_a_full_head_labels_and_head_are_those_of_all_classes(task):
    part, start = Partition(classes=(1, 3), full_head=True), task.initial_state()
    own = task.split(part, "train")
    assert sorted(set(own.labels.tolist())) == [1, 3]
    assert torch.equal(own.indices, task.split(Partition(classes=(1, 3)), "train").indices)
    assert torch.equal(own.labels, own.indices % 4)
    model = task.build(start, part, seed=0)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


def test_partitions_that_need_not_cover_may_leave_out_and_may_not_hold_twice(task):
    task.check([Partition(classes=(0, 1)), Partition(classes=(2, 3))])
    with pytest.raises(ConfigError, match="belongs to exactly one"):
        task.check([Partition(classes=(0, 1))])
    task.check([Partition(classes=(0, 1))], covering=False)
    task.check([Partition(examples=(0, 1)), Partition(examples=(5,))], covering=False)
    for twice in (
        [Partition(classes=(0, 1)), Partition(classes=(1, 2))],
        [Partition(examples=(1,))] * 2,
    ):
        with pytest.raises(ConfigError, match="exactly one"):
            task.check(twice, covering=False)


def test_files_that_were_not_compared_with_their_checksums_are_told_in_one_line(task):
    assert task.notices == []
    told = Classification(task.model, replace(task.splits, verified=False), task.head).notices
    assert told == ["the checksums of the data's files were not verified (data.verify: false)"]
