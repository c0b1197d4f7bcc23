"""Tasks: every entry keeps the protocol, one's own is tried before anything is trained, and
rows are told by hand.
"""

import copy
import functools
import inspect
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.test_bombs import refused
from tests.test_own_code import own  # noqa: F401 - a fixture
from torch import nn

from tombola.data.batches import Batches
from tombola.data.partitions import WHOLE, Partition, by_classes
from tombola.data.splits import Split
from tombola.experiments import experiment
from tombola.folder import identity
from tombola.ground import catalogue
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, DataError
from tombola.ground.metrics import ACCURACY, Metric, metric_named
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.methods.fitting import check_partitions
from tombola.schema import arms
from tombola.schema.overrides import override
from tombola.schema.recipe import parse
from tombola.tasks.protocol import MEMBERS, Metrics, check_task
from tombola.tasks.rows import Rows
from tombola.tasks.settings import Data, Model, TaskChoice
from tombola.training.jobs import Job, measure, run_job

PERPLEXITY = Metric("perplexity", fraction=False, higher=False)
MADE = {"seed": 0, "device": "cpu", "root": None}
README = {"path": str(Path(__file__).parents[1] / "README.md"), "length": 16}
# A small task of each entry; one that is not named here is made by its defaults.
SMALL = {
    "detection": (
        Data("shapes", valid=4, options={"train": 16, "test": 4, "size": 32, "largest": 16}),
        Model("faster_rcnn_small", options={"size": 32, "widths": [8], "hidden": 8}),
    ),
    "classification": (Data("synthetic"), Model("mlp", options={"hidden": [8]})),
    "multi_label": (
        Data("shapes", options={"train": 40, "test": 10, "size": 24, "largest": 12}),
        Model("mlp", options={"hidden": [8]}),
    ),
    "segmentation": (
        Data("tests.squares:squares"),
        Model("small_unet", options={"width": 4, "depth": 1}),
    ),
    "regression": (Data("diabetes"), Model("mlp_regressor", options={"hidden": [8]})),
    "tokens": (
        Data("text", valid=50, subset=100, options=README),
        Model("tiny_gpt", options={"width": 8, "layers": 1, "heads": 2}),
    ),
}
# Options of the task, where it has some that make it smaller.
SMALLER = {"multi_label": {"size": 24}}


def squared(model, batch):
    inputs, targets = batch
    return (model(inputs) - targets).square().mean()


def rows(**changes):
    """A line through the origin: 40 points to train on, of which each is its number."""
    points = torch.arange(60.0)[:, None] / 40
    splits = {"train": (points[:40], 2 * points[:40]), "valid": (points[40:50], 2 * points[40:50])}
    splits["test"] = (points[50:], 2 * points[50:])
    rmse = Metric("rmse", fraction=False, higher=False)
    made = {"draw": lambda: nn.Linear(1, 1), "splits": splits, "seed": 0, "loss": squared, "metrics": (rmse,),
            "values": lambda loss: {"rmse": math.sqrt(loss)}}  # fmt: skip
    return Rows(**(made | changes))


# ---- every entry


@pytest.mark.parametrize("name", catalogue.entries("tombola.tasks"))
def test_an_entry_keeps_the_protocol_and_is_the_same_task_each_time(name):
    make = catalogue.entry("tombola.tasks", name)
    data, model = SMALL.get(name, (Data(), Model()))
    make = functools.partial(make, **SMALLER.get(name, {}))
    task, again = (make(data, model, **MADE) for _ in range(2))
    check_task(task, name)
    assert task.digest == again.digest
    assert task.digest != make(data, model, **MADE | {"seed": 1}).digest
    one, other = (task.model_of(3).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert make.func.__doc__.splitlines()[0].endswith(".")


# ---- rows


def test_rows_are_trained_measured_and_divided_by_examples():
    task = rows()
    job = Job(
        task.initial_state(),
        ones(task.model, "all"),
        Training(lr=0.1, epochs=5, batch_size=8),
        seed=0,
    )
    trained = run_job(job, task)
    measured = measure(job, trained, task)
    weight, bias = trained.final["weight"].item(), trained.final["bias"].item()
    points = torch.arange(50, 60, dtype=torch.float64) / 40
    by_hand = ((weight - 2) * points + bias).square().mean().item()
    assert measured.test.loss == pytest.approx(by_hand, rel=1e-4)
    assert measured.test.values == {"rmse": math.sqrt(measured.test.loss)}
    assert measured.test.predictions is None
    assert trained.history[-1].keys() == {"step", "valid_loss", "valid_rmse"}
    assert trained.samples == 5 * 40
    half = Partition(examples=tuple(range(0, 40, 2)))
    seen = torch.cat([inputs for inputs, _ in task.batches(half, 8, 0).epoch(0)]).flatten()
    assert sorted((40 * seen).tolist()) == pytest.approx(list(range(0, 40, 2)))
    assert (task.size(half, "train"), task.size(half, "test")) == (20, 10)


def test_rows_come_in_the_order_in_which_images_would():
    numbers = torch.arange(23)
    images = Batches(
        Split(torch.zeros(23, 1, 2, 2), numbers, numbers),
        batch_size=5,
        seed=7,
        mean=torch.zeros(1),
        std=torch.ones(1),
        published=23,
    )
    splits = {"train": (numbers,), "valid": (numbers[:0],), "test": (numbers,)}
    found = rows(splits=splits).batches(WHOLE, 5, 7)
    for epoch in (0, 3):
        seen = [labels.tolist() for _, labels in images.epoch(epoch)]
        assert [values.tolist() for (values,) in found.epoch(epoch)] == seen
    assert len(images) == len(found) == 5
    for first, last in ((0, 5), (3, 12), (0, 1)):
        assert images.examples(first, last) == found.examples(first, last)


def test_classification_as_rows_trains_to_the_same_bits():
    """A second implementation: the same pictures as rows of tensors, the loss written out,
    steps that run eagerly.
    """
    task = catalogue.entry("tombola.tasks", "classification")(
        Data("synthetic"), Model("lenet_300_100"), **MADE
    )
    scale = [values.view(1, -1, 1, 1) for values in (task.splits.mean, task.splits.std)]
    splits = {
        which: (((split := getattr(task.splits, which)).images - scale[0]) / scale[1], split.labels)
        for which in ("train", "valid", "test")
    }

    def entropy(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    other = rows(draw=lambda: copy.deepcopy(task.model), splits=splits, loss=entropy, head="head")
    job = Job(
        task.initial_state(),
        ones(task.model),
        Training(lr=0.05, epochs=2, batch_size=64, momentum=0.9),
        seed=3,
    )
    one, two = (run_job(job, each) for each in (task, other))
    assert all(torch.equal(one.final[name], two.final[name]) for name in one.final)
    assert [look["valid_loss"] for look in two.history] == pytest.approx(
        [look["valid_loss"] for look in one.history]
    )
    assert task.steps_per_epoch(64) == other.steps_per_epoch(64)
    assert task.flops(WHOLE) == other.flops(WHOLE)


def test_a_task_without_classes_refuses_to_be_divided_by_them():
    with pytest.raises(
        ConfigError,
        match="partition 1 holds classes, and the task has none; take split_by: examples",
    ):
        rows().check(by_classes(4, 2, seed=0))


def test_the_best_state_is_the_one_of_the_lowest_where_lower_is_better():
    """The script says what each look measures: the loss falls all the time, the metric is best
    in the middle.
    """
    script = iter([(3.0, 5.0), (2.0, 4.0), (1.0, 4.5)])

    class Scripted(Rows):
        def measure(self, model, part, which):
            loss, value = next(script)
            return Metrics(loss, {"rmse": value})

    task = Scripted(**vars(rows()))
    training = Training(lr=0.1, epochs=3, batch_size=40, select="best", select_by="rmse")
    trained = run_job(Job(task.initial_state(), ones(task.model, "all"), training, seed=0), task)
    assert trained.early_step == 2


# ---- one's own


BREAKS = {
    "the task lacks a member": ("del self.flops", "flops is missing"),
    "no metric": ("self.metrics = ()", "metrics declares none: it is a tuple of tombola.Metric"),
    "a metric that is none": ("self.metrics = ('rmse',)", "metrics declares none"),
    "a metric declared twice": ("self.metrics = self.metrics * 2", "metrics declares 'rmse' twice"),
    "a head that is not there": ("self.head = 'top'", "head is 'top', and the model has no such layer"),
    "a size that is no number": ("self.size = lambda part, which: 3.5", "size is 3.5 of the train split"),
    "no test split": ("self.size = lambda part, which: 40 * (which == 'train')", "size is 0 of the test split"),
    "its own model": ("self.build = lambda *_: self.model", "build gives the task's own model, which is never"),
    "no model": ("self.model_of = lambda seed, anew=False: None", "model_of gives a NoneType, no torch.nn.Module"),
    "another model": ("self.model_of = lambda *_, anew=False: nn.Linear(3, 3, bias=False)", "with other weights"),
    "a loss for each row": ("self.loss = lambda *_: torch.ones(3)", "loss gives a tensor of shape [3]; it is a scalar"),
    "a loss that is a number": ("self.loss = lambda *_: 1.0", "loss gives a float; it is a scalar tensor"),
    "a loss that is NaN": ("self.loss = lambda m, b: squared(m, b) * math.nan", "loss is nan on the initial state"),
    "a measurement that lacks it": ("self.values = lambda loss: {}", "measure has no 'rmse', which metrics declares"),
    "one that is not finite": ("self.values = lambda loss: {'rmse': math.nan}", "measure gives nan as rmse; it is a f"),
    "no fraction": ("self.metrics = (Metric('rmse'),); self.values = lambda _: {'rmse': 3.0}", "declared a fraction"),
    "a number": ("self.measure = lambda *_: 0.5", "measure gives a float; it is to give tombola.Metrics"),
    "what raises": ("self.measure = lambda *_: [][1]", "measure raises IndexError: list index out of ra"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BREAKS.values(), ids=BREAKS)
def test_a_task_of_ones_own_that_breaks_the_protocol_is_one_line_with_the_member(own, change, said):  # noqa: F811
    name = own(
        CONTRACTS["tasks"].example
        + f"""
from tombola.tasks.protocol import Metrics

class Lacking:
    def __init__(self, task):
        for name in {MEMBERS}:
            setattr(self, name, getattr(task, name))
        self.values = task.values
        self.measure = lambda model, part, which: Metrics(1.0, self.values(1.0))
        {change}

def broken(data, model, **made):
    return Lacking(mirror(data, model, **made))
"""
    )
    with pytest.raises(ConfigError) as caught:
        experiment.plan(parse({"name": "x", "task": f"{name}:broken", **SHORT}))
    refused(caught.value)
    assert str(caught.value).startswith(f"'{name}:broken'")
    assert said in str(caught.value)
    assert CONTRACTS["tasks"].in_words() in str(caught.value)


def broken(member, how):
    """The task of the contract's example, with one member broken in one way."""
    space = {"torch": torch, "nn": nn, "Rows": Rows, "Metric": Metric}
    exec(CONTRACTS["tasks"].example, space)
    task = space["mirror"](None, None, seed=0, device="cpu", root=None)

    class Broken:
        def __getattr__(self, name):
            if name.startswith("_") or (name == member and how == "missing"):
                raise AttributeError(name)
            if name != member:
                return getattr(task, name)
            is_method = inspect.ismethod(getattr(task, name)) or name == "loss"
            if how == "raises" and not is_method:
                raise RuntimeError("broken")
            answer = object()

            def method(*_, **__):
                if how == "raises":
                    raise RuntimeError("broken")
                return answer

            return method if is_method else answer

    return Broken()


@pytest.mark.parametrize("how", ["missing", "raises", "gives something else"])
@pytest.mark.parametrize("member", MEMBERS)
def test_whatever_member_is_broken_the_message_names_it(member, how):
    with pytest.raises(ConfigError) as caught:
        check_task(broken(member, how), "mine:task")
    refused(caught.value)
    said = {"missing": "is missing", "raises": "raises RuntimeError: broken"}
    assert f"'mine:task': {member} {said.get(how, '')}" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            "{'rmse': loss**0.5 if loss > 0.2 else math.inf}",
            "the train rmse is inf after training; a lower",
        ),
        ("{'rmse': loss**0.5} if loss > 0.2 else {}", "the task measures no 'rmse' on the"),
        ("{'rmse': loss**0.5 if loss > 0.2 else 1 / 0}", "ZeroDivisionError: "),
    ],
)
def test_a_metric_that_comes_to_be_wrong_is_one_line_of_each_arm(own, tmp_path, values, said):  # noqa: F811
    """The untrained network's loss is about 1, and the trained one's is lower: it goes wrong
    when it has learnt.
    """
    source = CONTRACTS["tasks"].example.replace(
        'lambda loss: {"rmse": loss**0.5}', f"lambda loss: {values}"
    )
    assert values in source
    arms = {"lth": {"method": "lth", "rate": 0.2}, "dense": {"method": "dense"}}
    whole = {"name": "x", "task": f"{own(source)}:mirror", "prunable": "all", **SHORT, "arms": arms}
    whole["training"] = {"epochs": 20, "lr": 0.5, "evaluate_every": 1000}
    outcome = experiment.run(parse(whole), runs=tmp_path, workers=1)
    assert not outcome.complete
    told = [note for note in outcome.notes if said in note]
    assert len(told) == len(arms)
    assert all("\n" not in note for note in told)


SHORT = {
    "training": {"epochs": 2, "lr": 0.1},
    "arms": {"lth": {"method": "lth", "rate": 0.2}},
    "until": {"rounds": 1},
}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(data, model, *, seed, device, root): raise SystemExit(3)", "failed: SystemExit: 3"),
        ("def f(data, model, *, seed, device, root): return None", "batches is missing"),
        ("def f(): pass", "failed: TypeError: f() got an unexpected keyword argument 'seed'"),
        (
            "def f(data, model, **_):\n    x = torch.randn(40, 2)\n    return Rows(lambda: "
            "nn.Linear(2, 2), {w: (x,) for w in ('train', 'valid', 'test')}, 0,\n                "
            "lambda net, batch: net(batch[0]).square().mean(), (Metric('a', fraction=False),),\n   "
            "             lambda loss: {'a': loss})",
            "is another task each time it is made",
        ),
    ],
)
def test_a_function_that_gives_no_task_is_one_line(own, source, said):  # noqa: F811
    with pytest.raises(ConfigError) as caught:
        experiment.plan(parse({"name": "x", "task": f"{own(source)}:f", **SHORT}))
    refused(caught.value)
    assert said in str(caught.value)


# ---- recipes


def test_a_task_may_have_options_which_stand_beside_its_name(own):  # noqa: F811
    source = CONTRACTS["tasks"].example.replace(
        "def mirror(data, model, *, seed, device, root):",
        "def mirror(data, model, *, seed, device, root, width: int = 8):",
    )
    name = f"{own(source.replace('(400, 8', '(400, width').replace('(8, 8)', '(width, width)'))}:mirror"
    given = {"name": "x", "prunable": "all", **SHORT}
    short = parse(given | {"task": name})
    assert short.task == TaskChoice(name)
    assert short.to_dict()["task"] == name
    assert parse(given | {"task": {"name": name}}).to_dict() == short.to_dict()
    wide = parse(given | {"task": {"name": name, "width": 6}})
    assert wide.to_dict()["task"] == {"name": name, "width": 6}
    assert parse(wide.to_dict()).to_dict() == wide.to_dict()
    assert len({identity.run_digest(recipe) for recipe in (short, wide)}) == 2
    plans = experiment.plan(wide)
    assert plans.task.splits["train"][0].shape == (300, 6)
    origin = experiment._origin(plans)
    assert (origin["task"], origin["task_options"]) == (name, {"width": 6})
    for options, said in (
        ({"wdith": 6}, "has no option 'wdith'; it has: width. Did you mean 'width'?"),
        ({"width": "six"}, ".width is 'six'; it should be a whole number"),
        ({"seed": 1}, "has no option 'seed'; it has: width"),
    ):
        with pytest.raises(ConfigError) as caught:
            experiment.plan(parse(given | {"task": {"name": name, **options}}))
        refused(caught.value)
        assert said in str(caught.value)


def test_an_option_of_a_task_may_be_overridden():
    content = {"task": "mine:f"}
    override(content, "task.detections", "all")
    assert content == {"task": {"name": "mine:f", "detections": "all"}}


def test_a_task_that_ships_is_asked_again_where_its_data_are_ones_own(own):  # noqa: F811
    source = """
import torch
from tombola.data.tables import Table
calls = []

def drawn(*, seeded: bool = True):
    calls.append(0)
    generator = torch.Generator().manual_seed(0 if seeded else len(calls))
    rows = torch.randn(60, 3, generator=generator)
    return Table(rows[:40], rows[:40, 0], rows[40:], rows[40:, 0])
"""
    name = f"{own(source)}:drawn"
    given = {
        "name": "x", "task": "regression", "model": {"name": "mlp_regressor", "hidden": [4]}, **SHORT
    }  # fmt: skip
    experiment.plan(parse(given | {"data": name}))
    with pytest.raises(DataError, match="gives other data each time it is called"):
        experiment.plan(parse(given | {"data": {"name": name, "seeded": False}}))


def test_a_published_validation_split_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match="this data set has no published validation split"):
        experiment.plan(parse({"name": "x", "data": {"valid": "published"}, **SHORT}))


def test_the_task_of_a_recipe_that_names_none_stands_nowhere():
    assert (
        parse({"name": "x", **SHORT}).to_dict()
        == parse({"name": "x", "task": "classification", **SHORT}).to_dict()
    )
    assert "task" not in parse({"name": "x", **SHORT}).to_dict()
    assert parse({"name": "x", "task": "mine:f", **SHORT}).to_dict()["task"] == "mine:f"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"task": "clasification"},
            "no 'clasification' in tombola.tasks; it has: classification, ",
        ),
        (
            {"training": {"epochs": 1, "select_by": "acuracy"}},
            "training.select_by is 'acuracy'; it is one of loss, accuracy. Did you mean "
            "'accuracy'?",
        ),
        ({"verdict": {"margin": 2}}, "verdict.margin is 2.0; it is a fraction"),
        ({"until": {"accuracy_drop": 1.5}}, "until.accuracy_drop is 1.5; it is a fraction"),
    ],
)
def test_what_a_recipe_asks_of_its_task_is_held_to_it(changes, said):
    with pytest.raises(ConfigError) as caught:
        experiment.plan(parse({"name": "x", **SHORT, **changes}))
    refused(caught.value)
    assert said in str(caught.value)


def test_a_task_without_classes_takes_no_skew_and_no_division_by_classes(own):  # noqa: F811
    name = own(CONTRACTS["tasks"].example)
    colt = {"colt": {"method": "colt", "rate": 0.2}}
    for changes, said in (
        ({"arms": colt}, "it divides by classes, but its task has none; use split_by: examples"),
        (
            {"data": {"skew": {"most": 0.3}}},
            "the examples of the task 'users_own:mirror' have none",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            experiment.plan(
                parse(
                    {"name": "x", "task": f"{name}:mirror", **SHORT, "prunable": "all", **changes}
                )
            )
        refused(caught.value)
        assert said in str(caught.value)


class InClasses(Rows):
    """Rows of four classes, and no head."""

    classes = 4


@pytest.mark.parametrize(("head", "said"), [("own", "names no head; use head: full"), ("full", "")])
def test_class_partitions_of_own_heads_need_a_task_that_names_its_head(head, said):
    task = InClasses(**vars(rows()))
    method = arms.read({"method": "colt", "rate": 0.15, "head": head}, "arms.colt")
    ground = SimpleNamespace(
        task=task, searched=WHOLE, seed=0, rewind=0, training=Training(epochs=1), mask={}
    )
    if not said:
        check_partitions(method, ground)
        return
    with pytest.raises(ConfigError, match=said):
        check_partitions(method, ground)


# ---- metrics


def test_a_metric_says_what_is_better_and_how_it_is_told():
    assert (ACCURACY.sign, PERPLEXITY.sign) == (1, -1)
    assert (ACCURACY.shown(0.5), PERPLEXITY.shown(12.0)) == ("50.00 %", "12.00")
    assert Metric("bits", fraction=False, unit="bits", digits=1).shown(1.5) == "1.5 bits"
    assert (ACCURACY.points, PERPLEXITY.points) == ("points", "")
    assert Metric("top_5").title == "top 5"
    assert metric_named("accuracy", (PERPLEXITY, ACCURACY), "x") is ACCURACY


@pytest.mark.parametrize("name", ["", "Top", "loss", "step", "a b", "1st", 3])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="a metric is called"):
        Metric(name)
