"""Estimates: a rehearsal counts what the run does, exactly where no result decides it."""

import math

import pytest
import torch

from tombola.experiments import estimate, rehearsal
from tombola.experiments.experiment import _states, foresee, outlook, plan, run
from tombola.experiments.plans import replicate_seed
from tombola.experiments.rehearsal import rehearse
from tombola.masks.digests import digest_state
from tombola.records.storage import Store
from tombola.schema.recipe import parse
from tombola.search.work import Connect, Measure, Train
from tombola.training.jobs import Job

COLT = {"method": "colt", "rate": 0.15}
LTH = {"method": "lth", "rate": 0.2}
ARMS = {"colt-2": COLT, "lth": LTH, "matched": {"match": "colt-2"}, "dense": {"method": "dense"}}
# Every method whose rounds no result decides, beside those that follow one.
EVERY = {
    "dense": {"method": "dense"},
    "lth": LTH,
    "one-shot": {"method": "one_shot", "densities": [0.5, 0.2]},
    "gradual": {"method": "gradual", "densities": [0.5, 0.2], "pace": {"every": 5}},
    "as-trained": {"method": "as_trained", "source": "gradual"},
    "fine-tune": {"method": "fine_tune", "match": "lth"},
    "lr-rewind": {"method": "lr_rewind", "rate": 0.3},
    "random": {"method": "random_ticket", "source": "lth"},
    "shuffled": {"method": "shuffled", "source": "fine-tune"},
    "reinitialised": {"method": "reinitialised", "source": "lth"},
    "reordered": {"method": "reordered", "source": "lth"},
    "exact": {"method": "colt", "partitions": 3, "densities": [0.6, 0.3]},
    "dense-long": {"method": "dense", "as_long_as": "exact"},
}


def recipe(**changes):
    whole = {
        "name": "e",
        "model": {"name": "mlp", "hidden": [20]},
        "training": {"epochs": 2},
        "arms": ARMS,
    }
    return parse(whole | {"until": {"rounds": 2}} | changes)


def keys(made):
    return [(arm, replicate) for replicate in range(made.replicates) for arm in made.arms]


def ahead(made, agreement="chance", so_far=None, todo=None):
    plans = plan(made)
    return rehearse(plans, todo or keys(made), _states(plans), so_far, agreement)


@pytest.fixture
def done(monkeypatch):
    """What runs train, measure and connect from now on, by digest: the steps and examples of
    trainings, and a count.
    """
    found = {"trained": {}, "measured": [], "lines": []}
    honest = Store.keep

    def keep(self, kind, digest, result):
        if kind is Train:
            assert digest not in found["trained"]
            found["trained"][digest] = result.steps, result.samples
        else:
            found[{Measure: "measured", Connect: "lines"}[kind]].append(digest)
        honest(self, kind, digest, result)

    monkeypatch.setattr(Store, "keep", keep)
    return found


def counted(done):
    steps, samples = zip(*done["trained"].values(), strict=True)
    return len(steps), sum(steps), sum(samples), len(done["measured"]), len(done["lines"])


def told(found):
    return found.trainings, found.steps, found.examples, found.evaluations, found.lines


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rewind": 3, "training": {"epochs": 2, "batch_size": 48}},
        {"evaluate_at": [0.7], "until": {"rounds": 3}},
        {"data": {"name": "digits", "skew": {"most": 0.5}}, "replicates": 2, "arms": {"lth": LTH}},
    ],
    ids=["from step 0", "rewound to step 3", "few evaluations", "skewed"],
)
def test_a_rehearsal_counts_what_the_run_does(tmp_path, done, changes):
    made = recipe(**{"arms": EVERY} | changes)
    found = ahead(made)
    outcome = run(made, runs=tmp_path, workers=1)
    assert outcome.complete
    assert told(found) == counted(done)
    last = {record["arm"]: record for record in outcome.records}
    for arm, (rounds, density) in found.rounds.items():
        if made.arms[arm].method != "dense":
            assert (rounds, density) == (
                last[arm]["round"],
                pytest.approx(last[arm]["density"], abs=0.001),
            ), arm


def test_what_a_run_that_was_stopped_has_done_is_not_counted_again(tmp_path, done):
    run(recipe(until={"rounds": 1}, arms={"lth": LTH}), runs=tmp_path, workers=1)
    before = len(done["trained"])
    made = recipe(until={"rounds": 3})
    found = foresee(plan(made), runs=tmp_path)
    outcome = run(made, runs=tmp_path, workers=1)
    assert found.fewest <= len(done["trained"]) - before <= found.most
    assert foresee(plan(made), runs=tmp_path).trainings == 0
    # What is told of each arm does not hang on how much of it is done.
    arms = outlook(plan(made), foresee(plan(made), runs=tmp_path), tmp_path)["arms"]
    assert [arm["rounds"] for arm in arms] == [3, 3, 3, 0]
    assert outcome.complete


def test_a_training_that_is_on_the_disk_already_is_not_counted(tmp_path):
    made = recipe(arms={"lth": LTH}, until={"rounds": 1})
    plans = plan(made)
    initial = _states(plans)([0])[0, False]
    dense = Job(
        initial, plans.mask, plans.recipe.training, replicate_seed(made, 0), plans.full_partition(0)
    )

    class Killed:
        """A run that was killed after its first training."""

        begun = True

        def rounds_done(self, *_):
            return []

        def record(self, *_):
            return None

        def has_trained(self, digest):
            return digest == dense.digest(plans.task.digest)

    assert ahead(made).trainings == 2
    assert ahead(made, so_far=Killed()).trainings == 1
    # Another replicate has nothing behind it.
    both = recipe(arms={"lth": LTH}, until={"rounds": 1}, replicates=2)
    assert ahead(both, so_far=Killed()).trainings == 3


def test_where_partitions_decide_the_rounds_the_range_holds_what_is_done(tmp_path, done):
    made = recipe(until={"density": 0.3}, arms={"colt-2": COLT, "matched": {"match": "colt-2"}})
    found = foresee(plan(made), runs=tmp_path)
    least, most = found.fewest, found.most
    assert f"({least:,} to {most:,}, as partitions agree on what they prune)" in found.counted
    # Alike they prune 15 % a round, 8 rounds to 30 %; as little alike as they can, 30 %, 4 rounds;
    # two searches of halves and as many evaluations each, and matched IMP's one search, which is
    # its evaluation.
    assert (least, most) == (1 + 2 * 4 + 4 + 4, 1 + 2 * 8 + 8 + 8)
    run(made, runs=tmp_path, workers=1)
    assert least <= len(done["trained"]) <= most


@pytest.mark.parametrize(("agreement", "kept"), [("all", 850), ("least", 700), ("chance", 722)])
def test_partitions_agree_as_far_as_they_are_asked_to(agreement, kept):
    made = recipe(
        arms={"colt-2": COLT}, model={"name": "mlp", "hidden": [1000]}, until={"rounds": 1}
    )
    [(_, density)] = ahead(made, agreement).rounds.values()
    assert density == pytest.approx(kept / 1000, abs=0.005 if agreement == "chance" else 1e-4)


@pytest.mark.parametrize(
    ("arm", "until", "rounds"),
    [
        (LTH, {"density": 0.1}, 11),
        (COLT, {"density": 0.1}, 8),
        (COLT | {"partitions": 4}, {"rounds": 5, "density": 0.1}, 4),
        (LTH, {"density_total": 0.5}, 4),
        ({"method": "lth", "reach": {"density": 0.1, "rounds": 7}}, {}, 7),
        ({"method": "lth", "densities": [0.5, 0.2, 0.1]}, {"density": 0.3}, 2),
    ],
)
def test_rounds_follow_from_rate_and_stop(arm, until, rounds):
    made = recipe(arms={"a": arm}, until=until, model={"name": "mlp", "hidden": [40]})
    assert ahead(made).rounds["a"][0] == rounds


def test_a_large_network_is_rehearsed_on_some_of_its_weights(monkeypatch):
    made = recipe(
        arms={"lth": LTH, "random": {"method": "random_ticket", "source": "lth"}},
        until={"density": 0.1},
    )
    whole = ahead(made)
    monkeypatch.setattr(rehearsal, "LARGEST", 300)
    assert told(ahead(made)) == told(whole)


def test_a_rehearsal_that_takes_too_long_is_cut_short_and_that_is_told(monkeypatch, tmp_path):
    made = recipe(arms={"lth": LTH})
    monkeypatch.setattr(rehearsal, "_SECONDS", -1.0)
    assert ahead(made).cut_short
    foreseen = foresee(plan(made), runs=tmp_path)
    assert not foreseen.bounded
    told_of = outlook(plan(made), foreseen, tmp_path)
    assert "and more: not all of the run could be rehearsed" in str(told_of)


def test_replicates_alike_are_rehearsed_once(monkeypatch):
    made = recipe(replicates=1000)
    assert ahead(made).trainings == 1000 * ahead(recipe()).trainings


@pytest.mark.parametrize(
    "training",
    [
        {"schedule": "cosine", "lr_end": 0.01},
        {"schedule": "multistep", "milestones": [1], "warmup": 1},
        {"optimizer": "adam", "lr": 1e-3, "schedule": "cosine", "clip": 1.0},
        {"patience": 1, "select": "best"},
    ],
)
def test_a_step_of_every_schedule_can_be_measured(training, monkeypatch):
    monkeypatch.setattr("tombola.experiments.estimate._MOST_STEPS", 1)
    measured = estimate.Measure.of(
        plan(recipe(training={"epochs": 3} | training, arms={"lth": LTH}))
    )
    assert math.isfinite(measured.step)
    assert math.isfinite(measured.example)


def test_what_a_task_does_not_measure_is_not_counted(monkeypatch, tmp_path):
    """By hand: two trainings of two steps, each measured on 6 + 4 + 4 pictures."""
    monkeypatch.setattr("tombola.experiments.estimate._measure", lambda _plans: (0.0, 1.0))
    sizes = {"train": 24, "test": 4, "size": 32, "largest": 16}
    made = recipe(
        task={"name": "detection", "measured": 6},
        data={"name": "shapes", "valid": 4, **sizes},
        model={"name": "faster_rcnn_small", "size": 32, "widths": [8], "hidden": 8},
        training={"steps": 2, "batch_size": 8, "evaluate_every": 2},
        arms={"lth": LTH},
        until={"rounds": 1},
    )
    assert foresee(plan(made), runs=tmp_path, workers=1).seconds == 2 * (4 + 6 + 4 + 4)


def test_the_time_told_counts_steps_and_looks_and_divides_by_the_workers(monkeypatch, tmp_path):
    monkeypatch.setattr("tombola.experiments.estimate._measure", lambda _plans: (0.01, 0.0001))
    made = recipe(training={"epochs": 3, "batch_size": 50}, until={"rounds": 4}, arms={"lth": LTH})
    plans = plan(made)
    train, valid, test = (
        len(getattr(plans.task.splits, which)) for which in ("train", "valid", "test")
    )
    found = foresee(plans, runs=tmp_path, workers=2)
    steps = 3 * math.ceil(train / 50)
    assert found.epochs == 3
    # Five trainings: each looks at the validation data after every epoch and is measured on all
    # data at its end.
    assert found.seconds == pytest.approx(
        5 * (steps * 0.01 + (3 * valid + train + valid + test) * 0.0001) / 2
    )


def test_what_a_rehearsal_learns_leaves_pruned_weights_at_zero():
    made = recipe(arms={"lth": LTH})
    plans = plan(made)
    pool = rehearsal._CountingPool(plans, None, {10: 1}, "chance")
    mask = {name: torch.rand(keep.shape) < 0.5 for name, keep in plans.mask.items()}
    job = Job(_states(plans)([0])[0, False], mask, plans.recipe.training, 0)
    [one] = pool.run_all([job])
    assert all(
        int(one.final[name].count_nonzero()) == int(keep.count_nonzero())
        for name, keep in mask.items()
    )
    assert digest_state(pool.run_all([job])[0].final) == digest_state(one.final)
