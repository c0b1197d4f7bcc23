"""Tasks whose examples have several classes each: how they are divided, what is recorded of it, and
what is refused.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tombola.data.partitions import WHOLE, Partition, within
from tombola.experiments.experiment import plan, run
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.schema.recipe import parse
from tombola.tasks.base import Base
from tombola.tasks.protocol import check_task
from tombola.tasks.rows import Rows

# The classes of four pictures; the last has none.
PICTURES = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
SHORT = {
    "name": "several", "task": "tests.test_several_classes:several", "prunable": "all",
    "training": {"lr": 0.05, "epochs": 1, "batch_size": 20}, "until": {"rounds": 1},
    "arms": {"colt": {"method": "colt", "head": "full", "rate": 0.3}, "lth": {"method": "lth", "rate": 0.3}},
}  # fmt: skip


def binary(network, batch):
    """The loss of each class by itself."""
    return binary_cross_entropy_with_logits(network(batch[0]), batch[1].float())


class Several(Rows):
    """Rows of several classes each."""

    classes = 4
    others = ("ignore", "exclude")

    def membership(self, which):
        return self.splits[which][1]

    def rows(self, part, which):
        rows = super().rows(part, which)
        if part.classes is None:
            return rows
        owned = torch.zeros(4, dtype=torch.bool)
        owned[list(part.classes)] = True
        membership = self.membership(which)[rows]
        taken = (membership & owned).any(1)
        if part.others == "exclude":
            taken &= ~(membership & ~owned).any(1)
        return rows[taken]

    def shares(self, part):
        return {"examples": self.size(part, "train"), "of": self.size(WHOLE, "train")}


def several(data, model, *, seed, device, root):
    """Draw rows and their classes."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(160, 8, generator=generator)
    classes = torch.rand(160, 4, generator=generator) < 0.4
    splits = {}
    for split, first, last in (("train", 0, 100), ("valid", 100, 130), ("test", 130, 160)):
        splits[split] = (rows[first:last], classes[first:last])
    metric = Metric("cost", fraction=False, higher=False)
    return Several(
        lambda: nn.Linear(8, 4), splits, seed, binary, (metric,), lambda loss: {"cost": loss}
    )


def test_an_example_is_in_every_partition_that_has_one_of_its_classes():
    available = Partition(examples=(0, 1, 2, 3))
    halves = [Partition((0, 1)), Partition((2, 3))]
    assert [part.examples for part in within(available, halves, PICTURES)] == [(0, 2), (0, 1)]


def test_the_membership_of_a_task_of_one_class_an_example_is_its_labels():
    class Labelled(Base):
        classes = 3

        def labels(self, which):
            return torch.tensor([2, 0])

    expected = [[False, False, True], [True, False, False]]
    assert Labelled().membership("train").tolist() == expected
    assert Base().membership("train") is None


def test_a_search_records_what_its_class_partitions_have(tmp_path):
    done = run(parse(SHORT), runs=tmp_path, workers=1)
    assert done.complete, done.notes
    task = several(None, None, seed=0, device="cpu", root=None)
    colt = parse(SHORT).arms["colt"]
    ground = SimpleNamespace(task=task, searched=WHOLE, seed=plan(parse(SHORT)).seed(0))
    sizes = [task.size(part, "train") for part in colt.division(ground)]
    records = {(record["arm"], record["round"]): record for record in done.records}
    assert records["colt", 0]["partition_shares"] == [{"examples": n, "of": 100} for n in sizes]
    assert "partition_shares" not in records["colt", 1]
    assert "partition_shares" not in records["lth", 0]
    assert sum(sizes) > 100


def test_what_partitions_do_about_other_classes_changes_what_they_train_on(tmp_path):
    arms = {}
    for others in (None, "ignore", "exclude"):
        arms[str(others)] = SHORT["arms"]["colt"] | ({"others": others} if others else {})
    done = run(parse(SHORT | {"arms": arms}), runs=tmp_path, workers=1)
    shares = {r["arm"]: r["partition_shares"] for r in done.records if r["round"] == 0}
    assert shares["None"] == shares["ignore"] != shares["exclude"]
    searched = {}
    for record in done.records:
        if record["round"] == 1:
            costs = [cost for cost in record["costs"] if cost["role"] == "search"]
            searched[record["arm"]] = {cost["training"] for cost in costs}
    # Equal trainings are done once, whether the policy is named or the task's first.
    assert searched["None"] == searched["ignore"]
    assert len(searched["None"] | searched["exclude"]) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"skew": {"most": 0.3}}}, "have several each"),
        (
            {"arms": {"colt": SHORT["arms"]["colt"] | {"others": "exlude"}}},
            "arm 'colt': others is 'exlude'; its task knows ignore, exclude. Did you mean 'exclude'",
        ),
    ],
)
def test_what_does_not_go_with_several_classes_is_refused(changes, said):
    with pytest.raises(ConfigError) as refusal:
        plan(parse(SHORT | changes))
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("membership", "said"),
    [
        (torch.ones(3, 4, dtype=torch.bool), r"membership has the shape \[3, 4\]; the training"),
        (torch.ones(100, 4), "membership is no tensor of booleans"),
    ],
)
def test_a_membership_that_is_none_is_refused(monkeypatch, membership, said):
    task = several(None, None, seed=0, device="cpu", root=None)
    check_task(task, "several")
    monkeypatch.setattr(Several, "membership", lambda *_: membership)
    with pytest.raises(ConfigError, match=said):
        check_task(task, "several")


def test_the_policy_of_a_search_is_said_where_it_divides_by_classes():
    arms = {
        "given": {"method": "colt", "head": "full", "rate": 0.3, "others": "exclude"},
        "default": {"method": "colt", "head": "full", "rate": 0.3},
        "halves": {"method": "colt", "split_by": "examples", "rate": 0.3},
        "lth": {"method": "lth", "rate": 0.3},
    }
    said = plan(parse(SHORT | {"arms": arms}), None).left_out
    assert "other classes: exclude" in said["arm given"]
    assert "other classes: ignore" in said["arm default"]
    assert not {"arm halves", "arm lth"} & said.keys()
