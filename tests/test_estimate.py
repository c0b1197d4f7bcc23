"""Estimates: the trainings ahead are counted right, and the time follows from them."""

import pytest

from tombola.estimate import estimate, expected_rounds
from tombola.experiment import run
from tombola.plans import Plans, make_task
from tombola.recipe import parse

pytestmark = pytest.mark.usefixtures("undrawn")

ARMS = {
    "colt-2": {"method": "colt", "rate": 0.15},
    "lth": {"method": "lth", "rate": 0.2},
    "matched": {"match": "colt-2"},
    "dense": {"method": "dense"},
}


def recipe(**changes):
    whole = {"name": "e", "model": {"name": "mlp", "hidden": [20]}, "training": {"epochs": 2}, "arms": ARMS}
    return parse(whole | {"until": {"rounds": 2}} | changes)


def test_the_trainings_and_steps_ahead_are_those_that_are_done(tmp_path):
    planned = recipe(replicates=2)
    task = make_task(planned, None)
    told = estimate(Plans.of(planned, task), {(arm, k): 0 for arm in ARMS for k in (0, 1)}, workers=1)
    done = []

    class Counts:
        def __init__(self):
            self.estimate = None

        def start(self, _name, ahead):
            self.estimate = ahead

        def progress(self, digest, steps, of):
            if steps == of:
                done.append((digest, of))

        def label(self, *_):
            pass

        result = say = label

        def stop(self):
            pass

    run(planned, runs=tmp_path, workers=1, display=Counts())
    assert told.trainings == len(done) == len(set(done)) == 2 * (1 + 2 * 3 + 2 + 2)
    # A half of an odd number of batches may be a batch more.
    assert told.steps == pytest.approx(sum(steps for _, steps in done), rel=0.05)


@pytest.mark.parametrize(
    ("arm", "until", "rounds"),
    [
        ({"method": "lth", "rate": 0.2}, {"density": 0.1}, 11),
        ({"method": "colt", "rate": 0.15}, {"density": 0.1}, 8),
        ({"method": "colt", "rate": 0.15, "partitions": 4}, {"rounds": 5, "density": 0.1}, 4),
        ({"method": "lth", "rate": 0.2}, {"density_total": 0.5}, 4),
        ({"method": "lth", "reach": {"density": 0.1, "rounds": 7}}, {}, 7),
        ({"method": "lth", "densities": [0.5, 0.2, 0.1]}, {"density": 0.3}, 2),
    ],
)
def test_rounds_are_estimated_from_rate_and_stop(arm, until, rounds):
    made = recipe(arms={"a": arm}, until=until)
    assert len(expected_rounds(made.arms["a"], made, most=0.9)) == rounds


def test_the_time_told_counts_steps_and_looks_and_divides_by_the_workers(monkeypatch):
    monkeypatch.setattr("tombola.estimate._measure", lambda _plans: (0.01, 0.0001))
    made = recipe(training={"epochs": 3, "batch_size": 50}, until={"rounds": 4})
    task = make_task(made, None)
    train, valid = len(task.splits.train), len(task.splits.valid)
    told = estimate(Plans.of(made, task), {("lth", 0): 0}, workers=2)
    steps = 3 * -(-train // 50)
    assert told.epochs == 3
    assert told.seconds == pytest.approx(5 * (steps * 0.01 + (3 * valid + train) * 0.0001) / 2)
