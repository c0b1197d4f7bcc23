"""Movement: its value by hand, its law, what gathers it, and where it is refused."""

from dataclasses import replace

import pytest
import torch
from tests.test_executors import TASK, job, same
from tests.test_regrowth import recipe
from tests.test_rehearsal import done_in
from torch import nn

from tombola import Classification, Training, find, magnitude, split
from tombola.data import synthetic
from tombola.data.partitions import WHOLE
from tombola.executors import serial
from tombola.experiments.experiment import foresee, plan, run
from tombola.ground.errors import ConfigError, InputError
from tombola.masks.masks import ones
from tombola.scores import movement
from tombola.scores.context import Context
from tombola.training.gathering import Gather, Gatherer
from tombola.training.jobs import Job, run_job


def gathering(weight, gradients, rate):
    """Take steps of plain SGD with given gradients, and return the weights and the sums."""
    model = nn.Linear(1, 1, bias=False).double()
    model.weight.data.fill_(weight)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    mask = {"weight": torch.tensor([[True]])}
    gatherer = Gatherer(Gather(), model, None, mask, steps=2, first=0, context=Context({}, 0))
    weights = []
    for number, gradient in enumerate(gradients):
        model.weight.grad = torch.full_like(model.weight, gradient)
        assert gatherer.on_gradients(number, model, optimizer)
        optimizer.step()
        weights.append(float(model.weight.detach()))
    history = gatherer.gathered
    scores = movement({}, mask, Context({}, 0, histories=[history]))
    return weights, float(scores["weight"])


def test_the_case_by_hand():
    weights, score = gathering(1.0, [0.5, -1.0], 0.1)
    assert weights == pytest.approx([0.95, 1.05])
    assert score == pytest.approx(0.45)


def test_a_weight_that_shrinks_scores_below_zero_whatever_its_sign():
    assert gathering(1.0, [1.0], 0.1)[1] == gathering(-1.0, [-1.0], 0.1)[1] == -1.0
    assert gathering(-1.0, [1.0], 0.1)[1] == 1.0


# w_T^2 - w_0^2 = 2 lr S + lr^2 * (sum of the squared gradients): .1025 in the case by hand.
def test_the_law_of_plain_sgd():
    weights, score = gathering(1.0, [0.5, -1.0], 0.1)
    assert weights[-1] ** 2 - 1 == pytest.approx(0.1025)
    assert 2 * 0.1 * score + 0.01 * (0.25 + 1) == pytest.approx(0.1025)


@pytest.fixture(scope="module")
def plain_sgd():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    training = Training(optimizer="sgd", lr=0.05, momentum=0.0, epochs=2)
    mask = {"1.weight": (torch.arange(640) % 2 == 0).view(10, 64)}
    return Job(task.initial_state(), mask, training, seed=0, during=Gather()), task


def test_the_law_holds_in_a_training(plain_sgd):
    """A sum of squares is never negative, so a weight cannot shrink more than its score says."""
    gathered_job, task = plain_sgd
    trained = run_job(gathered_job, task)
    keep = gathered_job.mask["1.weight"]
    start, end = gathered_job.start["1.weight"][keep], trained.final["1.weight"][keep]
    score = trained.gathered["1.weight"]
    rest = (end**2 - start**2 - 2 * 0.05 * score[keep]) / 0.05**2
    assert bool((rest > -1e-4).all())
    assert float(rest.max()) > 1e-3
    assert not score[~keep].any()


@pytest.mark.parametrize("step", ["eager", "traced"])
def test_gathering_changes_no_bit_of_a_training(step):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    mask = {"1.weight": (torch.arange(640) % 2 == 0).view(10, 64)}
    training = Training(epochs=1, step=step, clip=0.1)
    each = Job(task.initial_state(), mask, training, seed=0)
    plain, gathered = run_job(each, task), run_job(replace(each, during=Gather()), task)
    assert same(plain, gathered)
    assert gathered.mask is None
    assert gathered.gathered.keys() == mask.keys()


def test_gathering_changes_no_bit_with_batch_norm():
    assert same(run_job(job(), TASK), run_job(replace(job(), during=Gather()), TASK))


# ---- where there is a history, and where there is none


def test_find_without_a_history_is_refused_in_one_line():
    task = TASK
    start = Job(task.initial_state(), ones(task.model), job().training, seed=0)
    rounds = find(start, [WHOLE], [0.5], run_all=serial(task), score=movement)
    with pytest.raises(InputError, match="needs the history of a training") as caught:
        next(rounds)
    assert "\n" not in str(caught.value)


def test_only_the_trainings_of_the_search_gather():
    task = TASK
    start = Job(task.initial_state(), ones(task.model), job().training, seed=0)
    [found] = find(start, [WHOLE], [0.5], run_all=serial(task), score=magnitude, during=Gather())
    assert [searching.during for searching in found.jobs] == [Gather()]
    assert found.job.during is None


ARMS = {
    "lth": {"method": "lth", "densities": [0.5, 0.2], "score": "movement"},
    "colt": {"method": "colt", "partitions": 2, "head": "full", "rate": 0.4, "score": "movement"},
    "apart": {"method": "colt", "partitions": 2, "head": "full", "rate": 0.4, "score": ["movement", "magnitude"]},
    "at-end": {"method": "colt", "head": "full", "rate": 0.4, "score": "movement", "combine": "all_at_end"},
    "once": {"method": "one_shot", "densities": [0.5, 0.2], "score": "movement"},
}  # fmt: skip


def test_it_prunes_in_every_search_that_trains_and_is_rehearsed(tmp_path):
    given = recipe(arms=ARMS, rewind=0, until={"rounds": 2})
    told = foresee(plan(given), runs=tmp_path / "nothing")
    done = run(given, runs=tmp_path, workers=1)
    assert done.complete, done.notes
    assert (told.trainings, told.steps, told.examples) == done_in(done)[:3]
    digests = {}
    for record in done.records:
        digests[record["arm"], record["round"]] = record["mask_digest"]
        if record["round"]:
            searched = {cost["training"] for cost in record["costs"] if cost["role"] == "search"}
            assert record["training_digest"] not in searched
    assert digests["lth", 1] == digests["once", 1]  # the same training, cut to the same density


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"method": "gradual", "densities": [0.5]}, "the score 'movement' needs history; gradual"),
        ({"method": "at_start", "densities": [0.5]}, "needs the history of a training, and before"),
    ],
)
def test_where_there_is_no_history_it_is_refused_in_one_line(arm, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(recipe(arms={"x": arm | {"score": "movement"}}), runs=tmp_path, workers=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
