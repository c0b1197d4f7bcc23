"""One contract for all tasks: every entry, and a task of its own, goes through a whole run and
keeps what searches, records and reports rest on.
"""

import functools
import itertools
import math

import pytest
import torch
from tests.layouts import kept_of_rounds
from tests.test_tasks import SMALL, SMALLER

from tombola.data.partitions import WHOLE, Partition, by_classes, by_examples, by_seeds
from tombola.experiments import experiment
from tombola.experiments.plans import make_task
from tombola.experiments.progress import Display
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, InputError
from tombola.ground.settings import Training
from tombola.masks.masks import nested, ones
from tombola.records.records import timeless
from tombola.schema.recipe import parse
from tombola.tasks.protocol import check_metrics, check_task
from tombola.tickets import Ticket
from tombola.training.jobs import Job, measure, run_job

OWN = "tests.outside.task:mirror"
NAMES = [*catalogue.entries("tombola.tasks"), OWN]


def recipe(name):
    """COLT-2, its matched arm and random tickets, two rounds, a few steps a training."""
    whole = {"name": "contract", "until": {"rounds": 2}}
    whole["task"] = {"name": name, **SMALLER.get(name, {})}
    if name == OWN:
        whole["prunable"] = "all"
    else:
        data, model = SMALL[name]
        whole["data"] = {"name": data.name, "valid": data.valid, **data.options}
        if data.subset is not None:
            whole["data"]["subset"] = data.subset
        whole["model"] = {"name": model.name, **model.options}
    colt = {"method": "colt", "rate": 0.15, "partitions": 2}
    if task_of(name).classes is None:
        colt["split_by"] = "examples"
    whole["arms"] = {
        "colt-2": colt,
        "matched": {"match": "colt-2"},
        "random": {"method": "random_ticket", "source": "colt-2"},
    }
    whole["training"] = {"steps": 6, "lr": 0.01, "batch_size": 8, "optimizer": "adam"}
    return parse(whole)


@functools.cache
def task_of(name):
    """The small task of an entry, made once."""
    assert name == OWN or name in SMALL, f"give {name} a small recipe: SMALL of test_tasks.py"
    given = {"task": name, "name": "x", "arms": {"dense": {"method": "dense"}}}
    if name != OWN:
        data, model = SMALL[name]
        make = catalogue.entry("tombola.tasks", name)
        return make(data, model, seed=0, device="cpu", root=None, **SMALLER.get(name, {}))
    return make_task(parse(given | {"training": {"steps": 1}}), None)


@pytest.fixture(params=NAMES)
def task(request):
    return task_of(request.param)


@pytest.fixture(scope="module", params=NAMES)
def undisturbed(request, tmp_path_factory):
    """A whole run with one worker."""
    made = recipe(request.param)
    done = experiment.run(made, runs=tmp_path_factory.mktemp("undisturbed"), workers=1)
    assert done.complete, done.notes
    return made, done


# ---- a training


def job_of(task, part=WHOLE, seed=0):
    training = Training(steps=2, lr=0.01, batch_size=8, optimizer="adam")
    mask = ones(task.model, "all" if task.head is None else "no_head", head=task.head)
    return Job(task.initial_state(), mask, training, seed=seed, part=part)


def test_a_task_keeps_the_protocol_and_two_steps_change_a_model_that_can_be_measured(task):
    check_task(task, "contract")
    start = task.initial_state()
    one, two = (run_job(job_of(task), task) for _ in range(2))
    moved = [name for name in start if not torch.equal(start[name], one.final[name])]
    assert moved
    assert all(torch.equal(one.final[name], two.final[name]) for name in start)
    assert all(torch.equal(start[name], value) for name, value in task.initial_state().items())
    found = measure(job_of(task), one, task)
    for metrics in (found.test, found.train):
        check_metrics(metrics, task.metrics, raises)
        assert list(metrics.values)[: len(task.metrics)] == [each.name for each in task.metrics]
        assert math.isfinite(metrics.loss)


def raises(member, what):
    raise AssertionError(f"{member} {what}")


def test_measuring_changes_nothing_and_gives_the_same_each_time(task):
    model = task.build(task.initial_state(), WHOLE, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(0)
    first = task.measure(model, WHOLE, "test")
    torch.manual_seed(1)
    second = task.measure(model, WHOLE, "test")
    assert (first.loss, first.values) == (second.loss, second.values)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_batches_are_addressed_by_seed_and_epoch_and_count_their_examples(task):
    batches = task.batches(WHOLE, 8, 3)
    assert len(batches) == task.steps_per_epoch(8)
    model = task.build(task.initial_state(), WHOLE, 0).eval()
    few = [list(itertools.islice(task.batches(WHOLE, 8, 3).epoch(epoch), 2)) for epoch in (1, 0, 1)]
    again = list(itertools.islice(batches.epoch(1), 2))
    assert len(leaves(few[0])) == len(leaves(again)) > 0
    assert all(map(torch.equal, leaves(few[0]), leaves(again)))
    assert all(map(torch.equal, leaves(few[0]), leaves(few[2])))
    assert not all(one.shape == two.shape and torch.equal(one, two)
                   for one, two in zip(leaves(few[0]), leaves(few[1]), strict=False))  # fmt: skip
    assert batches.examples(0, len(batches)) in (task.size(WHOLE, "train"), 8 * len(batches))
    assert isinstance(task.loss(model.train(), few[0][0]), torch.Tensor)


def leaves(batch):
    """Return the tensors of a batch, however they are nested."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    inside = batch.values() if isinstance(batch, dict) else batch
    return [leaf for each in inside for leaf in leaves(each)]


# ---- partitions


def test_examples_and_seeds_divide_every_task(task):
    examples = task.size(WHOLE, "train")
    for parts in (by_examples(examples, 2, 0), by_seeds(2)):
        task.check(parts)
        for part in parts:
            trained = run_job(job_of(task, part), task)
            assert all(value.isfinite().all() for value in trained.final.values())
    halves = by_examples(examples, 2, 0)
    assert sum(task.size(part, "train") for part in halves) == examples
    assert [task.size(part, "test") for part in halves] == [task.size(WHOLE, "test")] * 2


def test_classes_divide_a_task_by_each_of_its_policies_or_it_says_that_it_has_none(task):
    if task.classes is None:
        assert task.membership("train") is None
        assert task.others == ()
        with pytest.raises(ConfigError, match="the task has none; take split_by: examples"):
            task.check([Partition((0, 1))])
        return
    membership = task.membership("train")
    assert membership.shape == (task.size(WHOLE, "train"), task.classes)
    for policy in task.others or (None,):
        parts = by_classes(task.classes, 2, 0, others=policy)
        task.check(parts)
        for part in parts:
            own = membership[:, list(part.classes)].any(1)
            foreign = membership.any(1) & ~own | (
                membership.sum(1) > membership[:, list(part.classes)].sum(1)
            )
            expected = own & ~foreign if policy == "exclude" else own
            assert task.size(part, "train") == int(expected.sum())
            whole = task.build(task.initial_state(), WHOLE, 0)
            model, other = (task.build(task.initial_state(), part, seed) for seed in (0, 0))
            head = [name for name in model.state_dict() if name.startswith(task.head)]
            assert head
            for name, value in model.state_dict().items():
                assert torch.equal(value, other.state_dict()[name])
                assert name in head or torch.equal(value, whole.state_dict()[name])
            trained = run_job(job_of(task, part), task)
            assert all(value.isfinite().all() for value in trained.final.values())


# ---- a run


def test_a_run_measures_every_ticket_as_the_task_declares(undisturbed):
    made, done = undisturbed
    task = task_of(made.task.name)
    arms = {arm: [record for record in done.records if record["arm"] == arm] for arm in made.arms}
    assert all([record["round"] for record in records] == [0, 1, 2] for records in arms.values())
    for record in done.records:
        for metric in task.metrics:
            value = record[metric.test]
            assert math.isfinite(value)
            assert not metric.fraction or 0 <= value <= 1
    kept = {arm: [record["kept"] for record in records] for arm, records in arms.items()}
    assert kept["colt-2"] == kept["matched"] == kept["random"]
    assert kept["colt-2"][0] > kept["colt-2"][1] > kept["colt-2"][2]
    found = []
    for path in sorted(done.folder.glob("tickets/colt-2/replicate-0/*.safetensors")):
        found.append(Ticket.load(path).mask)
    assert not list(nested(found[1], found[0]))
    page = (done.folder / "report.html").read_text()
    assert task.metrics[0].title in page


class Interrupted(Display):
    """Interrupts the run when a ticket has been measured, as the user may with Ctrl-C."""

    def result(self, *args, **options):
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted_goes_on_with_two_workers_and_ends_as_one_that_was_not(
    undisturbed, tmp_path
):
    made, done = undisturbed
    with pytest.raises((KeyboardInterrupt, InputError)):
        experiment.run(made, runs=tmp_path, workers=1, display=Interrupted(quiet=True))
    folder = tmp_path / done.folder.name
    before = (folder / "machine" / "records.jsonl").read_text().splitlines()
    assert 0 < len(before) < len(done.records)
    went = experiment.run(made, runs=tmp_path, workers=2)
    assert went.complete, went.notes
    assert went.folder.name == done.folder.name
    assert [timeless(record) for record in went.records] == [
        timeless(record) for record in done.records
    ]
    assert kept_of_rounds(went.folder) == kept_of_rounds(done.folder)
