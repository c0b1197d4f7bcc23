"""Rehearsals of the recipes that ship: what is told before a run is what it does, to the last
training, step and FLOP.

The arms, densities and stops are the recipe's own. The network is small and a training has four
steps, so that a whole search takes seconds.
"""

import pytest
from tests.test_recipes import RECIPES, SHAPES

from tombola.experiments.experiment import foresee, plan, run
from tombola.schema.recipe import parse, read

QUICK = ("digits", "mnist-lenet5-gradual", "cifar10-resnet20-rewind")  # the others are slow tests
FOUR_STEPS = {
    "epochs": None, "steps": 4, "schedule": "constant", "milestones": [], "warmup": 0, "batch_size": 16,
    "milestone_steps": [], "warmup_steps": 0, "evaluate_every": None, "patience": None,
}  # fmt: skip


def shrunk(path, **changes):
    """Return a recipe's search on a small network and data of as many classes."""
    whole = read(path).to_dict()
    classes, _ = SHAPES[whole["data"]["name"]]
    whole["data"] = {
        "name": "synthetic",
        "classes": classes,
        "image_shape": [1, 8, 8],
        "train": 80,
        "test": 20,
    }
    whole["data"]["valid"] = classes
    # little of it is its output layer, as in a large one
    whole["model"] = {"name": "mlp", "hidden": [60, 4]}
    whole["prunable"] = whole["prunable"] if whole["prunable"] == "all" else "no_head"
    whole["training"] |= FOUR_STEPS
    whole |= {
        "profile": None,
        "replicates": 1,
        "keep": "none",
        "rewind": min(whole["rewind"], 1),
        "verdict": {},
    }
    whole["until"] |= {"accuracy_drop": None}
    if not any(whole["until"].values()):  # a result decided
        whole |= {"until": {"rounds": 3}, "evaluate_at": []}
        whole["arms"] = {name: arm | {"evaluate_at": []} for name, arm in whole["arms"].items()}
    for arm in whole["arms"].values():
        arm["allow_collapse"] = arm["method"] not in (
            "dense",
            "random_ticket",
            "shuffled",
            "reinitialised",
            "as_trained",
            "reordered",
        )
        arm["training"] = {"steps": 8} if arm["training"] else {}
        arm["pace"] = arm["pace"] and arm["pace"] | {"every": 1}
        if isinstance(arm["rate"], dict):
            arm["rate"], arm["scope"] = max(arm["rate"].values()), "whole_model"
    return parse(whole | changes)


def done_in(outcome):
    """Return what a run did, by its records: trainings, each once, and all steps, examples and
    FLOPs.
    """
    costs = {}
    for record in outcome.records:
        costs |= {cost["training"]: cost for cost in record["costs"]}
    trainings = sum(cost["role"] != "cut" for cost in costs.values())
    steps, samples, flops = (sum_of(what, costs.values()) for what in ("steps", "samples", "flops"))
    return trainings, steps, samples, flops


def sum_of(what, costs):
    return sum(cost[what] for cost in costs)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in RECIPES],
    ids=lambda path: path.stem,
)
def test_what_is_told_of_a_recipe_is_what_its_run_does(path, tmp_path):
    made = shrunk(path)
    told = foresee(plan(made), runs=tmp_path)
    done = run(made, runs=tmp_path, workers=1)
    assert done.complete, done.notes
    number, steps, examples, flops = done_in(done)
    if any(arm.varies for arm in made.arms.values()):
        # What partitions agree on decides when a density is reached, so a range is told.
        assert told.fewest <= number <= told.most
    else:
        assert (told.trainings, told.steps, told.examples, told.flops) == (
            number,
            steps,
            examples,
            flops,
        )
        assert told.fewest == told.most == number
