"""Work: every kind of it is done once, kept, and charged; a score that needs data is scored
where the data is.
"""

import functools
import json
from dataclasses import replace

import pytest
import torch
from tests.outside import gradient_score
from tests.test_executors import TASK, equal, job, make_task, same
from torch import nn

from tombola import Classification, find, prune, split
from tombola.data.dataset import from_tensors
from tombola.data.partitions import by_classes, by_seeds
from tombola.executors import Pool
from tombola.experiments.experiment import foresee, plan, run
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError, InputError
from tombola.ground.settings import Training
from tombola.masks.masks import count, ones
from tombola.masks.rates import Count
from tombola.masks.scopes import per_layer, whole_model
from tombola.records.records import costs_of, timeless
from tombola.records.storage import Store
from tombola.schema.recipe import parse
from tombola.scores.context import Context
from tombola.scores.ranking import Ranking
from tombola.search import work as works
from tombola.search.cutting import keep_common
from tombola.search.work import KINDS, Cut, Pruned, Train
from tombola.training.jobs import Job, Trained, run_job

CONNECTION = "tests.outside.gradient_score:connection"


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    made = Pool(TASK, tmp_path_factory.mktemp("pool"), workers=1, make_task=make_task)
    yield made
    made.close()


# ---- the score, by hand

# f(x) = v . relu(W x): W = [[1, -1], [2, 1]], v = [1, -1], x = (2, 1), target -2, half the squared
# error. The residual is -2 and the gradients of W11 W12 W21 W22 v1 v2 are -4 -2 4 2 -2 -10.
HAND = {"w.weight": [[4.0, 2.0], [8.0, 2.0]], "v.weight": [[2.0, 10.0]]}


class HandProblem:
    def model(self):
        model = nn.Sequential()
        model.add_module("w", nn.Linear(2, 2, bias=False))
        model.add_module("relu", nn.ReLU())
        model.add_module("v", nn.Linear(2, 1, bias=False))
        with torch.no_grad():
            model.w.weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 1.0]]))
            model.v.weight.copy_(torch.tensor([[1.0, -1.0]]))
        return model

    def batches(self, examples):
        yield torch.tensor([[2.0, 1.0]]), torch.tensor([[-2.0]])

    def loss(self, model, batch):
        return ((model(batch[0]) - batch[1]) ** 2).sum() / 2


def test_the_gradient_score_has_the_values_worked_out_by_hand():
    mask = {
        name: torch.ones(torch.tensor(value).shape, dtype=torch.bool)
        for name, value in HAND.items()
    }
    scores = gradient_score.connection({}, mask, Context({}, 0, problems=[HandProblem()]))
    assert {name: value.tolist() for name, value in scores.items()} == HAND


# ---- the cut


def cut_of(jobs, mask, amount, scope=whole_model, **options):
    rankings = (Ranking(CONNECTION, {"examples": 32}),)
    return Cut(tuple(jobs), mask, amount, rankings, scope(mask), **options)


def by_other_means(job_, trained, mask, examples):
    """Score as the entry does, with a model that is put together here and torch's own gradients."""
    model = make_task().model
    if job_.part.own_head:
        model.head = nn.Linear(64, len(job_.part.classes))
    model.load_state_dict(trained.state)
    model.eval()
    names = dict(model.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in names.items()}
    batches = list(
        zip(
            TASK.batches(job_.part, 16, job_.seed).epoch(0), range(-(-examples // 16)), strict=False
        )
    )
    for (inputs, labels), _ in batches:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        for name, gradient in zip(
            names, torch.autograd.grad(loss, list(names.values())), strict=True
        ):
            total[name] += gradient
    return {name: (names[name].detach() * total[name]).abs() for name in mask}


@pytest.mark.parametrize(
    "parts", [by_seeds(2), by_classes(4, 2, seed=0)], ids=["all classes", "two classes each"]
)
def test_a_partition_is_scored_with_the_model_that_it_trained(pool, parts):
    mask = ones(TASK.model)
    jobs = [job().on(part, mask) for part in parts]
    pruned = pool.cut(cut_of(jobs, mask, 0.3)).result()[0]
    trained = [run_job(each, TASK) for each in jobs]
    scores = [by_other_means(*each, mask, 32) for each in zip(jobs, trained, strict=True)]
    expected = [prune(each, mask, 0.3) for each in scores]
    assert all(map(equal, pruned.candidates, expected))
    assert equal(pruned.mask, {name: expected[0][name] & expected[1][name] for name in mask})
    # Batches of 16, and of a partition of two classes one epoch: 24 examples.
    assert pruned.samples == sum(min(32, TASK.size(part, "train")) for part in parts)


def test_a_cut_of_weights_alone_is_that_of_the_arms_own_thread(pool):
    mask = ones(TASK.model)
    jobs = [job().on(part, mask) for part in by_seeds(2)]
    work = Cut(
        tuple(jobs), mask, Count(20), (Ranking("magnitude"), Ranking("random")), whole_model(mask)
    )
    pruned = pool.cut(work).result()[0]
    trained = pool.run_all(jobs)
    scores = [ranking.score() for ranking in work.rankings]
    context = Context(jobs[0].start, jobs[0].seed)
    expected = keep_common(scores)(mask, [each.state for each in trained], Count(20), context)
    assert equal(pruned.mask, expected[0])
    assert all(map(equal, pruned.candidates, expected[1]))


def test_pruned_weights_are_zero_in_the_model_that_is_scored(pool):
    mask = ones(TASK.model)
    once = pool.cut(cut_of([job()], mask, 0.5)).result()[0].mask
    twice = pool.cut(cut_of([job().on(job().part, once)], once, 0.5)).result()[0].mask
    assert count(twice) == round(count(once) - 0.5 * count(once))
    assert all(not bool((twice[name] & ~once[name]).any()) for name in mask)


def test_a_cut_is_made_once_and_found_again(pool, monkeypatch):
    work = cut_of([job(seed=3)], ones(TASK.model), 0.4)
    first = pool.cut(work).result()[0]
    monkeypatch.setattr(Cut, "do", None)
    assert equal(pool.cut(work).result()[0].mask, first.mask)
    with Pool(TASK, pool.store.folder, workers=1, make_task=make_task) as again:
        assert equal(again.cut(work).result()[0].mask, first.mask)


def test_the_digest_of_a_cut_hangs_on_all_that_decides_it():
    mask = ones(TASK.model)
    other = {name: keep.clone() for name, keep in mask.items()}
    other["conv.weight"].view(-1)[0] = False
    one = cut_of([job()], mask, 0.3)
    others = [
        cut_of([job(seed=1)], mask, 0.3),
        cut_of([job(), job(seed=1)], mask, 0.3),
        cut_of([job()], other, 0.3),
        cut_of([job()], mask, 0.4),
        cut_of([job()], mask, Count(3)),
        cut_of([job()], mask, 0.3, per_layer),
        cut_of([job()], mask, 0.3, combine="any"),
        cut_of([job()], mask, 0.3, scored="last"),
        replace(one, rankings=(Ranking(CONNECTION, {"examples": 64}),)),
        replace(one, rankings=(Ranking("magnitude"),)),
    ]
    digests = [each.digest(TASK.digest) for each in (one, *others)]
    assert len(set(digests)) == len(digests)
    assert cut_of([job()], mask, 0.3).digest(TASK.digest) == digests[0]


def test_a_cut_comes_back_from_its_file_bit_for_bit(tmp_path):
    draw = torch.Generator().manual_seed(0)
    shapes = {"b": (3, 5), "a": (7,), "c": ()}
    masks = []
    for _ in range(3):
        masks.append(
            {name: torch.rand(shape, generator=draw) < 0.5 for name, shape in shapes.items()}
        )
    kept = Pruned(masks[0], masks[1:], 600, 1.5, 1.25, 4096)
    store = Store(tmp_path)
    store.keep(Cut, "ab" * 32, kept)
    back = store.read(Cut, "ab" * 32)
    assert all(map(equal, [back.mask, *back.candidates], masks))
    assert list(back.mask) == list(shapes)
    assert (back.samples, back.seconds, back.process_seconds, back.peak_bytes) == (
        600,
        1.5,
        1.25,
        4096,
    )


def test_training_data_alone_is_scored(tmp_path):
    looked_at = []

    class Watched(Classification):
        def measure(self, model, part, which):
            looked_at.append(which)
            return super().measure(model, part, which)

    task = Watched(TASK.model, TASK.splits, TASK.head)
    work = cut_of([job()], ones(TASK.model), 0.3)
    trained = run_job(job(), TASK)
    work.do(task, [trained], lambda *_: None)
    assert looked_at == []


def test_what_a_score_draws_is_the_same_whatever_was_drawn_before():
    work = cut_of([job()], ones(TASK.model), 0.3)
    trained = run_job(job(), TASK)
    masks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        masks.append(work.do(TASK, [trained], lambda *_: None).mask)
        assert torch.equal(torch.get_rng_state(), before)
    assert equal(*masks)


def test_a_score_that_needs_data_says_so_where_it_is_not(pool):
    with pytest.raises(
        InputError,
        match=r"a score that needs data must declare it with the attribute needs = 'data'",
    ):
        list(find(job(), by_seeds(1), [0.3], run_all=pool.run_all, score=gradient_score.connection))


# ---- zero steps


def test_a_training_of_no_steps_gives_what_it_starts_from(pool):
    [trained] = pool.run_all([replace(job(), last=0)])
    assert (trained.steps, trained.samples, trained.history, trained.early) == (0, 0, [], None)
    assert equal(trained.final, job().start)


def test_a_search_at_the_start_scores_what_it_starts_from_and_its_tickets_are_trained(pool):
    def cut_jobs(jobs, mask, amount, index):
        pruned = pool.cut(cut_of(jobs, mask, amount)).result()[0]
        return pruned.mask, pruned.candidates

    base = job(seed=9)
    rounds = list(
        find(
            base,
            [base.part],
            [0.5, 0.5],
            run_all=pool.run_all,
            cut_jobs=cut_jobs,
            untrained=True,
            keep=True,
        )
    )
    assert [found.trained[0].steps for found in rounds] == [0, 0]
    assert [found.job.last for found in rounds] == [None, None]
    start = Trained(dict(base.start), None, None, "last", [], 0, 0.0)
    first = base.on(base.part, ones(TASK.model))
    expected = prune(by_other_means(first, start, ones(TASK.model), 32), ones(TASK.model), 0.5)
    assert equal(rounds[0].mask, expected)
    assert same(*[pool.run_all([rounds[1].job])[0]] * 2)


# ---- in a recipe

ARMS = {
    "colt-2": {
        "method": "colt",
        "partitions": 2,
        "rate": 0.15,
        "score": {"name": CONNECTION, "examples": 100},
    },
    "matched": {"match": "colt-2"},
}


def recipe(**changes):
    whole = {
        "name": "scored", "data": {"name": "digits", "subset": 400}, "model": {"name": "mlp", "hidden": [20]},
        "training": {"lr": 0.1, "momentum": 0.9, "epochs": 2, "batch_size": 32}, "until": {"rounds": 2}, "rewind": 5,
        "device": "cpu", "arms": ARMS,
    }  # fmt: skip
    return parse(whole | changes)


@pytest.fixture(scope="module")
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tombola.experiments.reporting.page.write", lambda *_: []
        )  # figures are drawn elsewhere, and take long
        yield


@pytest.fixture(scope="module")
def scored(tmp_path_factory, undrawn):
    return run(recipe(), runs=tmp_path_factory.mktemp("scored"), workers=1)


def test_a_gradient_score_runs_through_colt_and_is_charged(scored):
    assert scored.complete, scored.notes
    of = {(record["arm"], record["round"]): record for record in scored.records}
    for index in (1, 2):
        cuts = [cost for cost in costs_of(of["colt-2", index]) if cost.role == "cut"]
        # 100 examples are asked for, and batches of 32 are whole: 128 in each of two partitions.
        assert [(cost.samples, cost.steps) for cost in cuts] == [(256, 0)]
        searches = [cost.samples for cost in costs_of(of["colt-2", index]) if cost.role == "search"]
        earlier = of["colt-2", index - 1]["samples_seen_search"] if index > 1 else 32 * 5
        assert of["colt-2", index]["samples_seen_search"] == earlier + sum(searches) + 256
        assert not [cost for cost in costs_of(of["matched", index]) if cost.role == "cut"]
    by_magnitude = {
        name: arm | {"score": "magnitude"} if name == "colt-2" else arm
        for name, arm in ARMS.items()
    }
    assert recipe(arms=by_magnitude).arms["colt-2"] != recipe().arms["colt-2"]


def test_processes_give_the_bits_of_threads_with_a_score_that_needs_data(scored, tmp_path, undrawn):
    other = run(recipe(), runs=tmp_path, workers=2, executor="processes")
    assert list(map(timeless, other.records)) == list(map(timeless, scored.records))
    for path in (scored.folder / "tickets").rglob("*.safetensors"):
        assert (other.folder / path.relative_to(scored.folder)).read_bytes() == path.read_bytes()


def test_the_score_stands_in_the_recipe_with_its_options_and_the_run_is_read_again(scored):
    arm = Run(scored.folder).recipe.arms["colt-2"]
    assert arm.score == {"name": CONNECTION, "examples": 100}
    assert (
        json.loads((scored.folder / "machine/arms.json").read_text())["colt-2"]["score"]
        == arm.score
    )


def test_a_cut_foretells_what_its_scores_go_through(tmp_path):
    made = recipe()
    told = foresee(plan(made), runs=tmp_path, workers=1)
    # pretraining, dense, both searches, both arms' tickets
    assert told.trainings == 1 + 1 + 2 * 2 + 2 + 2 + 2 - 1
    [jobs] = [[job(batch_size=16).on(part, ones(TASK.model)) for part in by_seeds(2)]]
    assert cut_of(jobs, ones(TASK.model), 0.3).foreseen(TASK) == 64


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (
            {"name": CONNECTION, "exmples": 3},
            "has no option 'exmples'; it has: examples. Did you mean 'examples'?",
        ),
        (
            {"name": CONNECTION, "examples": "many"},
            "examples is 'many'; it should be a whole number",
        ),
        (
            {"examples": 3},
            "score is {'examples': 3}; it is a name, or a mapping with a name and options",
        ),
        ({"name": "magnitude", "power": 2}, "'magnitude' has no option 'power'; it has none"),
        ({"name": "magnitdue"}, "no 'magnitdue' in tombola.scores"),
        (
            "tests.test_work:misled",
            "the score 'tests.test_work:misled' needs 'labels'; a score needs weights or data",
        ),
    ],
)
def test_a_score_that_cannot_be_is_told_in_one_line(score, told):
    with pytest.raises(ConfigError) as caught:
        plan(recipe(arms={"lth": {"method": "lth", "rate": 0.2, "score": score}}))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def misled(state, mask, context):
    return state


misled.needs = "labels"


def test_gradual_pruning_scores_weights_alone():
    arms = {
        "gradual": {
            "method": "gradual",
            "densities": [0.5],
            "score": CONNECTION,
            "pace": {"every": 5},
        }
    }
    with pytest.raises(
        ConfigError, match="needs data; gradual pruning can only use a score of the weights alone"
    ):
        plan(recipe(arms=arms))


# ---- every kind


def test_every_kind_of_work_has_a_file_of_its_own_and_its_needs_are_work():
    mask = ones(TASK.model)
    made = [
        Train(job()),
        works.Measure(job()),
        works.Connect(job(), job(seed=1)),
        cut_of([job()], mask, 0.3),
    ]
    assert {type(each) for each in made} == set(KINDS.values())
    assert len({each.kind for each in made}) == len(made)
    for each in made:
        assert all(isinstance(need, works.Work) for need in each.needs)
        assert each.digest("a") != each.digest("b")


def test_a_model_with_a_head_of_its_own_is_trained_on_its_own_labels_alone(pool):
    images = torch.rand(40, 1, 4, 4)
    labels = torch.arange(40) % 4
    data = split(from_tensors(images, labels, images[:8], labels[:8], 4), valid=8)
    task = Classification(TASK.model, data, TASK.head)
    part = by_classes(4, 2, seed=0)[1]
    each = Job(task.initial_state(), ones(task.model), Training(epochs=1, batch_size=8), 0, part)
    work = cut_of([each], each.mask, 0.3)
    trained = run_job(each, task)
    assert trained.state["head.weight"].shape[0] == 2
    seen = []
    honest = functools.partial(Classification.loss, task)

    class Looking(Classification):
        def loss(self, model, batch):
            seen.append(batch[1])
            return honest(model, batch)

    work.do(Looking(TASK.model, data, TASK.head), [trained], lambda *_: None)
    assert set(torch.cat(seen).tolist()) == {0, 1}
