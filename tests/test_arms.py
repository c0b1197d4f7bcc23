"""Arms: every kind in one run, its laws, and that a run which was stopped ends as one that was
not.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.layouts import KINDS, ticket_file
from tests.test_experiment import timeless

import tombola.training.jobs
from tombola.data.partitions import WHOLE
from tombola.experiments.experiment import plan, run
from tombola.experiments.plans import Plans, make_model, make_task, replicate_seed
from tombola.folder.runs import Run
from tombola.ground.errors import InputError
from tombola.ground.settings import Schedule
from tombola.masks.digests import digest_mask, digest_state
from tombola.masks.masks import count, intersect, nested
from tombola.masks.rates import kept_by_group
from tombola.masks.scopes import per_layer
from tombola.methods import every_card
from tombola.methods.following import Following
from tombola.records.records import costs_of
from tombola.schema.arms import rewinds
from tombola.schema.recipe import from_yaml, parse
from tombola.tickets import Ticket
from tombola.training.jobs import Job, run_job

STEPS = 20  # of one training: 600 examples in batches of 64, twice
REWIND = 7
ROUNDS = 3
ARMS = {
    "dense": {"method": "dense"},
    "colt-2": {"method": "colt", "partitions": 2, "rate": 0.15},
    "lth": {"method": "lth", "rate": 0.2},
    "matched": {"match": "colt-2"},
    "per-layer": {"match": {"arm": "colt-2", "per": "layer"}},
    "random": {"method": "random_ticket", "source": "colt-2"},
    "shuffled": {"method": "shuffled", "source": "colt-2"},
    "shuffled-weights": {"method": "shuffled", "source": "fine-tune", "shuffle": "weights"},
    "shuffled-mask": {"method": "shuffled", "source": "lth", "shuffle": "mask"},
    "reinitialised": {"method": "reinitialised", "source": "lth"},
    "dense-long": {"method": "dense", "as_long_as": "colt-2"},
    "by-examples": {"method": "colt", "split_by": "examples", "rate": 0.15},
    "by-seeds": {"method": "colt", "split_by": "seeds", "rate": 0.15},
    "full-head": {"method": "colt", "head": "full", "rate": 0.15},
    "equal-steps": {"method": "colt", "rate": 0.15, "training": {"epochs": 4}},
    "real-and-random": {
        "method": "colt",
        "train_on": [1, 1],
        "score": ["magnitude", "random"],
        "rate": 0.15,
    },
    "union": {"method": "colt", "combine": "any", "match": "colt-2"},
    "at-end": {"method": "colt", "combine": "all_at_end", "rate": 0.18},
    "fine-tune": {"method": "fine_tune", "match": "lth"},
    "fine-tune-decayed": {"method": "fine_tune", "rate": 0.25, "lr": "decayed"},
    "fine-tune-number": {"method": "fine_tune", "rate": 0.3, "lr": 0.003},
    "lr-rewind": {"method": "lr_rewind", "rate": 0.2},
    "one-shot": {"method": "one_shot", "densities": [0.7, 0.5, 0.3, 0.2]},
    "chain": {"match": "random", "score": "random"},
}
COLTS = [name for name, arm in ARMS.items() if arm.get("method") == "colt"]
TICKETS = [name for name, arm in ARMS.items() if arm.get("method") != "dense"]


def recipe(arms=ARMS, **changes):
    whole = {
        "name": "arms",
        "data": {"name": "digits", "subset": 600},
        "model": {"name": "mlp", "hidden": [40, 20]},
        "training": {"lr": 0.05, "momentum": 0.9, "epochs": 2, "batch_size": 64,
                     "schedule": "multistep", "milestones": [1, 1.5], "gamma": 0.5},
        "arms": arms,
        "until": {"rounds": ROUNDS},
    }  # fmt: skip
    return parse(copy.deepcopy(whole | changes))


@dataclass
class Done:
    """A run that was watched."""

    outcome: object
    jobs: list  # the trainings that were done
    told: object  # what was estimated

    @property
    def folder(self) -> Path:
        return self.outcome.folder

    def record(self, arm, index, replicate=0):
        (found,) = [r for r in self.outcome.records
                    if (r["arm"], r["replicate"], r["round"]) == (arm, replicate, index)]  # fmt: skip
        return found

    def of(self, arm, replicate=0):
        return [r for r in self.outcome.records if (r["arm"], r["replicate"]) == (arm, replicate)]

    def ticket(self, arm, index, replicate=0):
        return Ticket.load(ticket_file(self.folder, arm, replicate, index))

    def candidates(self, arm, index, replicate=0):
        return Run(self.folder).candidates(
            arm, replicate, index, self.ticket(arm, index, replicate).mask
        )


class Told:
    """Keeps what is told before a run."""

    def start(self, _name, ahead):
        self.estimate = ahead

    def other(self, *_):
        pass

    label = result = say = progress = stop = other


def go(runs, made, **options):
    """Run a recipe in this process and watch what is trained."""
    jobs, honest, told = [], tombola.training.jobs.run_job, Told()

    def counting(job, task, progress=None):
        jobs.append(job)
        return honest(job, task, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tombola.search.work.run_job", counting)
        patch.setattr(
            "tombola.experiments.reporting.page.write", lambda *_: []
        )  # figures are drawn elsewhere, and take long
        outcome = run(made, runs=runs, workers=1, display=told, **options)
    return Done(outcome, jobs, getattr(told, "estimate", None))


def files(folder):
    """The bytes of all that a run keeps of its tickets."""
    paths = [path for kind in KINDS for path in (folder / kind).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module", params=[0, REWIND], ids=["from the start", "from step 7"])
def done(request, tmp_path_factory):
    return go(tmp_path_factory.mktemp("arms"), recipe(rewind=request.param, keep="all"))


@pytest.fixture
def world(done):
    """The recipe that was run, its task, plans and dense mask."""
    made = Run(done.folder).recipe
    task = make_task(made, None)
    return made, task, Plans.of(made, task)


# ---- the whole


def test_every_arm_has_its_records_and_tickets(done):
    assert done.outcome.complete
    assert done.outcome.notes == []
    for arm in ARMS:
        rounds = {"dense": [0], "dense-long": [0, ROUNDS]}.get(arm, [*range(ROUNDS + 1)])
        assert [r["round"] for r in done.of(arm)] == rounds, arm
        assert all(r["evaluated"] for r in done.of(arm))


def test_every_kind_of_the_catalogue_is_here_and_its_yaml_is_read():
    for kind in every_card():
        gradual = {"method": "gradual", "densities": [0.5], "pace": {"every": 1}}
        others = {"colt-2": ARMS["colt-2"], "lth": ARMS["lth"], "gradual": gradual}
        arms = {**others, "x": from_yaml(kind.entry, kind.name)}
        assert recipe(arms=arms).arms["x"].method
    told = {
        (arm.get("method"), arm.get("split_by"), arm.get("combine"), bool(arm.get("match")))
        for arm in ARMS.values()
    }
    elsewhere = {
        *("gradual", "as-trained", "reordered"),  # test_gradual.py, test_connectivity.py
        "at-start",  # test_at_start.py
        *("edge-popup", "supermask", "signed-constants"),  # test_latent.py
        *("set", "rigl"),  # test_regrowth.py
        "stretched",  # test_stretched.py
    }
    for kind in [kind for kind in every_card() if kind.name not in elsewhere]:
        entry = from_yaml(kind.entry, kind.name)
        by = None if entry.get("split_by") == "classes" else entry.get("split_by")
        assert (entry.get("method"), by, entry.get("combine"), bool(entry.get("match"))) in told, (
            kind.name
        )


def test_the_trainings_told_are_those_that_are_done(done):
    assert done.told.trainings == len(done.jobs)
    steps = 0
    for job in done.jobs:
        share = len(done_batches(job)) / 10
        steps += (job.last or Schedule.of(job.training, 10).steps) * share - round(
            job.first * share
        )
    assert done.told.steps == pytest.approx(steps, rel=0.06)


def done_batches(job, cache={}):  # noqa: B006
    if "task" not in cache:
        cache["task"] = make_task(recipe(), None)
    return cache["task"].batches(job.part, 64, 0)


def onward(plans, arm):
    """Return how an arm's tickets are trained by themselves."""
    return plans.recipe.arms[arm].onward(plans.ground(arm, 0))


def divided(plans, arm):
    """Return the partitions that an arm divides the data of its first replicate into."""
    return plans.recipe.arms[arm].division(plans.ground(arm, 0))


def find_alone(task, job, part, rate, rounds):
    from tombola.executors import serial
    from tombola.search.rounds import find

    return list(find(job, [part], [rate] * rounds, run_all=serial(task)))


# ---- one law for each arm


def test_matched_arms_keep_what_their_sources_keep(done):
    for index in range(1, ROUNDS + 1):
        colt = done.ticket("colt-2", index).mask
        for arm in ("matched", "union", "random", "shuffled", "chain"):
            assert count(done.ticket(arm, index).mask) == count(colt), arm
        for arm in ("per-layer", "random", "shuffled"):
            assert kept_by_group(done.ticket(arm, index).mask, per_layer) == kept_by_group(
                colt, per_layer
            ), arm
        assert done.record("fine-tune", index)["kept"] == done.record("lth", index)["kept"]
        assert count(done.ticket("matched", index).mask) == done.record("colt-2", index)["kept"]


def test_as_many_weights_in_all_are_not_as_many_in_each_layer(done):
    def kept_by_layer(arm):
        masks = [done.ticket(arm, index).mask for index in range(1, ROUNDS + 1)]
        return [kept_by_group(mask, per_layer) for mask in masks]

    assert kept_by_layer("per-layer") == kept_by_layer("colt-2") != kept_by_layer("matched")


def test_the_union_keeps_what_any_partition_keeps(done):
    for index in range(1, ROUNDS + 1):
        one, two = done.candidates("union", index)
        mask = done.ticket("union", index).mask
        assert all(torch.equal(mask[name], one[name] | two[name]) for name in mask)
        assert count(mask) > count(one)
        assert digest_mask(mask) != done.record("colt-2", index)["mask_digest"]


def test_the_masks_of_every_arm_nest_but_those_of_one_shot_were_not_made_so(done):
    for arm in TICKETS:
        before = done.ticket(arm, 1).mask
        for index in range(2, ROUNDS + 1):
            mask = done.ticket(arm, index).mask
            assert list(nested(mask, before)) == [], (arm, index)
            assert count(mask) < count(before)
            before = mask


def test_shuffled_tickets_hold_the_values_of_their_source(done):
    for arm, of in (
        ("shuffled", "colt-2"),
        ("shuffled-weights", "fine-tune"),
        ("shuffled-mask", "lth"),
    ):
        for index in (1, ROUNDS):
            one, other = done.ticket(arm, index), done.ticket(of, index)
            assert one.mask.keys() == other.mask.keys()
            for name, value in other.rewind_point.items():
                if name not in other.mask:
                    assert torch.equal(one.rewind_point[name], value)
                    continue
                kept, was = one.rewind_point[name][one.mask[name]], value[other.mask[name]]
                assert len(kept) == len(was)
                if arm != "shuffled-mask":
                    assert torch.equal(kept.sort().values, was.sort().values)
                    assert not torch.equal(one.rewind_point[name], value)
            assert same(one.mask, other.mask) == (arm == "shuffled-weights")
            assert same(one.rewind_point, other.rewind_point) == (arm == "shuffled-mask")
            assert one.origin["rewind_step"] == other.origin["rewind_step"]


def test_reinitialised_tickets_have_the_masks_of_their_source_and_weights_of_their_own(done, world):
    made, task, _ = world
    for replicate in range(made.replicates):
        for index in range(1, ROUNDS + 1):
            one, of = (done.record(arm, index, replicate) for arm in ("reinitialised", "lth"))
            assert one["mask_digest"] == of["mask_digest"]
            assert one["rewind_digest"] != of["rewind_digest"]
        assert len({r["rewind_digest"] for r in done.of("reinitialised", replicate)[1:]}) == 1
        ticket = done.ticket("reinitialised", 1, replicate)
        assert same(ticket.rewind_point, make_model(made, task, replicate, anew=True).state_dict())
        assert ticket.origin["rewind_step"] == 0
    assert len(
        {
            r["rewind_digest"]
            for r in done.outcome.records
            if r["arm"] == "reinitialised" and r["round"]
        }
    ) == (made.replicates)


def test_what_every_ticket_starts_from_is_where_its_training_starts(done, world):
    made, task, _ = world
    jobs = {job.digest(task.digest): job for job in done.jobs}
    for arm in ARMS:
        for record in done.of(arm):
            job = jobs[record["training_digest"]]
            assert job.mask_digest == record["mask_digest"]
            assert job.part == WHOLE
            rewinds = made.arms[arm].rewinds or arm == "shuffled" or arm == "shuffled-mask"
            first = (
                made.rewind
                if rewinds and record["round"] and made.arms[arm].method != "dense"
                else 0
            )
            assert job.first == first, (arm, record["round"])
            if record["round"] and made.arms[arm].method != "dense":
                assert (
                    job.start_digest
                    == record["rewind_digest"]
                    == digest_state(done.ticket(arm, record["round"]).rewind_point)
                )


def test_a_control_that_says_nothing_starts_where_its_source_s_tickets_do():
    """A new control must not forget `rewind`, though no list knows of it."""

    class Mine(Following):
        pass

    made = recipe({"lth": ARMS["lth"], "tuned": {"method": "fine_tune", "rate": 0.2}}).arms
    assert rewinds(Mine(source="lth"), made)
    assert not rewinds(Mine(source="tuned"), made)


def test_evaluations_never_differ_between_arms_but_in_what_does_not_rewind(done, world):
    made, task, plans = world
    jobs = {job.digest(task.digest): job for job in done.jobs}
    for arm in TICKETS:
        own = {jobs[r["training_digest"]].training for r in done.of(arm)[1:]}
        assert own == {onward(plans, arm)}, arm
    rates = {arm: onward(plans, arm) for arm in TICKETS}
    assert (rates["fine-tune"].lr, rates["fine-tune"].schedule) == (0.0125, "constant")
    assert (rates["fine-tune-decayed"].lr, rates["fine-tune-decayed"].schedule) == (
        0.0125,
        "cosine",
    )
    assert (rates["fine-tune-number"].lr, rates["fine-tune-number"].schedule) == (0.003, "constant")
    assert rates["lr-rewind"] == made.training


def test_without_reset_a_ticket_starts_from_what_the_round_before_has_learnt(done, world):
    _, task, _ = world
    store = {job.digest(task.digest): job for job in done.jobs}
    for arm in ("fine-tune", "fine-tune-decayed", "fine-tune-number", "lr-rewind"):
        for index in range(1, ROUNDS + 1):
            ticket, before = done.ticket(arm, index), done.record(arm, index - 1)
            learnt = run_job(store[before["training_digest"]], task).state
            assert same(ticket.rewind_point, learnt), (arm, index)
            assert ticket.origin["rewind_step"] == 0
        assert len({r["rewind_digest"] for r in done.of(arm)}) == ROUNDS + 1
    assert done.record("fine-tune", 1)["mask_digest"] == (
        done.record("lth", 1)["mask_digest"]
        if not Run(done.folder).recipe.rewind
        else done.record("fine-tune", 1)["mask_digest"]
    )


def test_one_real_and_one_random_cut_come_from_one_training_on_the_first_partition(done, world):
    _, task, plans = world
    first = divided(plans, "colt-2")[0]
    jobs = {job.digest(task.digest): job for job in done.jobs}
    for index in range(1, ROUNDS + 1):
        record = done.record("real-and-random", index)
        searched = [cost.training for cost in costs_of(record) if cost.role == "search"]
        parts = [jobs[digest].part for digest in searched if jobs[digest].last is None]
        assert parts == [first]
        assert 0.7 <= record["kept_fraction"] <= 0.8
        assert record["kept_fraction"] == pytest.approx(0.85**2, abs=0.01)
        mine, drawn = done.candidates("real-and-random", index)
        assert count(mine) == count(drawn)
        assert not same(mine, drawn)
    one, two = done.candidates("real-and-random", 1)
    assert same(one, done.candidates("colt-2", 1)[0])
    assert same(done.ticket("real-and-random", 1).mask, intersect([one, two]))


def samples_to_evaluate(record):
    return [cost.samples for cost in costs_of(record) if cost.role == "evaluation"]


def searches(done, arm, index):
    return [cost.training for cost in costs_of(done.record(arm, index)) if cost.role == "search"]


def test_of_partitions_by_seeds_the_first_is_lths_training_in_round_1(done, world):
    _, task, _ = world
    jobs = {job.digest(task.digest): job for job in done.jobs}

    def to_the_end(arm):
        """The searches of round 1 that do not stop at the rewind point."""
        return [digest for digest in searches(done, arm, 1) if jobs[digest].last is None]

    lth, seeds = to_the_end("lth"), to_the_end("by-seeds")
    assert len(lth) == 1
    assert len(seeds) == 2
    assert seeds[0] == lth[0]
    assert [jobs[digest].part.order for digest in seeds] == [None, 1]


def test_equal_steps_train_twice_as_long_to_search_and_evaluate_as_everybody(done):
    for index in range(1, ROUNDS + 1):
        long, plain = done.record("equal-steps", index), done.record("colt-2", index)
        point = REWIND * 64 if Run(done.folder).recipe.rewind else 0
        if not point:
            assert long["samples_seen_search"] == 2 * plain["samples_seen_search"]
        assert long["samples_seen_search"] > 1.9 * (plain["samples_seen_search"] - point)
        assert samples_to_evaluate(long) == samples_to_evaluate(plain) != []
    assert done.record("equal-steps", 1)["mask_digest"] != done.record("colt-2", 1)["mask_digest"]
    assert done.record("equal-steps", 1)["arm_digest"] != done.record("colt-2", 1)["arm_digest"]


def test_partitions_that_search_apart_are_lth_on_each_and_meet_in_their_tickets(done, world):
    made, task, plans = world
    ticket = done.ticket("at-end", 1)
    job = Job(
        ticket.rewind_point, plans.mask, made.training, replicate_seed(made, 0), first=made.rewind
    )
    alone = [find_alone(task, job, part, 0.18, ROUNDS) for part in divided(plans, "at-end")]
    for index in range(1, ROUNDS + 1):
        candidates = done.candidates("at-end", index)
        assert all(
            same(c, rounds[index - 1].mask) for c, rounds in zip(candidates, alone, strict=True)
        )
        assert same(done.ticket("at-end", index).mask, intersect(candidates))


def test_one_shot_is_reaching_a_density_in_one_round_and_trains_once(done, tmp_path):
    made = Run(done.folder).recipe
    for index, density in enumerate([0.7, 0.5, 0.3], 1):
        assert done.record("one-shot", index)["kept"] == round(
            density * done.record("one-shot", 0)["prunable"]
        )
    search = {
        cost.training
        for r in done.of("one-shot")
        for cost in costs_of(r)
        if cost.role != "evaluation"
    }
    assert len(search) == 1 + bool(made.rewind)
    arm = {"method": "lth", "reach": {"density": 0.3, "rounds": 1}, "exact": True}
    once = go(tmp_path, recipe(arms={"a": arm}, rewind=made.rewind))
    assert same(once.ticket("a", 1).mask, done.ticket("one-shot", 3).mask)


def test_the_dense_network_is_trained_as_long_as_search_and_evaluation_together(done, world):
    _, task, _ = world
    jobs = {job.digest(task.digest): job for job in done.jobs}
    source, record = done.record("colt-2", ROUNDS), done.record("dense-long", ROUNDS)
    own = done.record("dense", 0)["samples_seen"]
    evaluation = next(cost.samples for cost in costs_of(source) if cost.role == "evaluation")
    job = jobs[record["training_digest"]]
    assert record["samples_seen"] == pytest.approx(
        source["samples_seen_search"] + evaluation, abs=64
    )
    factor = job.training.epochs / 2
    assert factor == pytest.approx(record["samples_seen"] / own, rel=0.05)
    assert job.training.milestones == pytest.approx((factor, 1.5 * factor))
    assert record["density"] == 1.0
    assert (
        done.record("dense-long", 0)["training_digest"]
        == done.record("dense", 0)["training_digest"]
    )


def test_a_full_head_keeps_the_labels_and_every_layer_may_be_pruned(tmp_path):
    arms = {"full": ARMS["full-head"]}
    made = go(tmp_path, recipe(arms=arms, prunable="all", until={"rounds": 1}))
    assert made.outcome.complete
    assert "head.weight" in made.ticket("full", 1).mask
    searching = [job for job in made.jobs if job.part.classes]
    assert all(job.part.full_head for job in searching)
    task = make_task(made.outcome and recipe(arms=arms, prunable="all"), None)
    labels = task.split(searching[1].part, "train").labels
    assert sorted(set(labels.tolist())) == list(searching[1].part.classes)
    model = task.build(searching[0].start, searching[0].part, 0)
    assert torch.equal(model.state_dict()["head.weight"], searching[0].start["head.weight"])
    with pytest.raises(
        InputError, match="use head: full, prunable: no_head, or split_by: examples"
    ):
        go(tmp_path, recipe(arms={"own": ARMS["colt-2"]}, prunable="all"))


# ---- stopped and gone on


@pytest.mark.parametrize("keep", ["none", "all"])
def test_a_run_stopped_after_two_rounds_ends_as_one_that_was_not(done, tmp_path, keep):
    rewind = Run(done.folder).recipe.rewind
    if (keep == "all") == bool(rewind):
        pytest.skip("each way of keeping weights goes with one rewind point")
    begun = go(tmp_path, recipe(keep=keep, rewind=rewind, until={"rounds": 2}))
    assert begun.outcome.complete
    went = go(tmp_path, recipe(keep=keep, rewind=rewind))
    assert went.outcome.complete
    # Trained for other lengths meanwhile: a record of its own, which a run at once has not.
    assert [r["round"] for r in went.of("dense-long")] == [0, 2, ROUNDS]
    assert timeless(
        r for r in went.outcome.records if (r["arm"], r["round"]) != ("dense-long", 2)
    ) == timeless(r for r in done.outcome.records if not r["replicate"])
    mine = files(went.folder)
    for path, content in files(done.folder).items():
        if "replicate-1" not in path and "rewind_points" not in path:
            assert mine[path] == content, path
    assert kept(went) == expected_to_stay(went, keep)


def kept(done):
    return {path.stem for path in (done.folder / "machine/trainings").iterdir()}


def expected_to_stay(done, keep):
    staying = set()
    for arm in Run(done.folder).recipe.arms:
        rounds = [r["training_digest"] for r in done.of(arm) if r["evaluated"]]
        staying |= {rounds[0]} | {"all": set(rounds), "last": {rounds[-1]}, "none": set()}[keep]
    return staying


FEW = (
    "dense",
    "colt-2",
    "lth",
    "random",
    "shuffled",
    "at-end",
    "fine-tune",
    "dense-long",
    "one-shot",
)


def few(**changes):
    arms = {name: ARMS[name] for name in FEW}
    return recipe(arms=arms, **({"until": {"rounds": 4}} | changes))


def places(done):
    """Which rounds of which arms were evaluated."""
    return {(r["arm"], r["round"]) for r in done.outcome.records if r["evaluated"]}


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A run whose rounds are all evaluated: which tickets it keeps changes no record."""
    return go(tmp_path_factory.mktemp("every"), few())


@pytest.mark.parametrize("keep", ["none", "last"])
def test_rounds_that_are_evaluated_later_are_trained_then_and_cost_as_if_they_had_been_at_once(
    tmp_path, keep, every
):
    straight = go(tmp_path / "a", few(evaluate_at=[0.6, 0.45], keep=keep))
    assert straight.told.trainings == len(straight.jobs)
    assert {(arm, i) for arm, i in places(straight) if arm == "lth"} == {
        ("lth", i) for i in (0, 2, 3, 4)
    }
    for arm in ("colt-2", "random", "at-end"):
        densities = [r["density"] for r in straight.of(arm)]
        expected = {0}
        for target in (0.6, 0.45):
            crossing = next(i for i, density in enumerate(densities) if density <= target)
            expected |= {crossing - 1, crossing}
        assert {i for name, i in places(straight) if name == arm} == expected
    assert kept(straight) == expected_to_stay(straight, keep)
    for record in straight.outcome.records:
        other = every.record(record["arm"], record["round"])
        assert record["mask_digest"] == other["mask_digest"]
        if record["evaluated"]:
            assert (record["test_accuracy"], record["test_loss"]) == (
                other["test_accuracy"],
                other["test_loss"],
            )
        else:
            assert (
                record["test_accuracy"] is record["training_digest"] is record["selected"] is None
            )
    # Other densities, and none: what is missing is evaluated.
    begun = go(tmp_path / "c", few(evaluate_at=[0.6], keep=keep))
    again = go(tmp_path / "c", few(evaluate_at=[0.6, 0.45], keep=keep))
    assert timeless(again.outcome.records) == timeless(straight.outcome.records)
    new = {r["training_digest"] for r in again.outcome.records if r["evaluated"]}
    new -= {r["training_digest"] for r in begun.outcome.records if r["evaluated"]}
    assert len(again.jobs) <= len(new)
    assert len(again.jobs) == len(set(again.jobs))
    whole = go(tmp_path / "c", few(keep=keep))
    assert timeless(whole.outcome.records) == timeless(every.outcome.records)
    lines = [
        json.loads(line)
        for line in (whole.folder / "machine/records.jsonl").read_text().splitlines()
    ]
    assert len({(r["arm"], r["round"]) for r in lines}) == len(whole.outcome.records) < len(lines)
    # Stopped after two rounds.
    go(tmp_path / "d", few(evaluate_at=[0.6], keep=keep, until={"rounds": 3}))
    went = go(tmp_path / "d", few(evaluate_at=[0.6, 0.45], keep=keep))
    assert timeless(
        r for r in went.outcome.records if (r["arm"], r["round"]) != ("dense-long", 3)
    ) == timeless(straight.outcome.records)


@pytest.mark.parametrize(
    ("hidden", "arm"),
    [
        ([20], {"densities": [0.6, 0.3, 0.15]}),
        # 345 and 365 weights: 103.5 and 36.5 are wanted, 104 and 36 kept, and floats are not exact.
        ([5, 5], {"densities": [0.6, 0.3, 0.15]}),
        ([5, 9], {"densities": [0.6, 0.1, 0.05]}),
        # 832 and 52 weights: 249.6 and 15.6 are wanted, 250 and 16 kept; 0.8 too many together.
        ([13, 4], {"densities": [0.6, 0.3, 0.15], "scope": "per_layer"}),
        # 396 weights: 79.2 are wanted, and a rate that is rounded three times leaves 80.
        ([6, 2], {"reach": {"density": 0.2, "rounds": 3}}),
    ],
)
def test_a_density_that_a_round_meets_as_nearly_as_it_can_evaluates_that_round_alone(
    tmp_path, hidden, arm
):
    arm = {"method": "lth", "allow_collapse": True} | arm
    met, at = (0.2, 3) if "reach" in arm else (arm["densities"][1], 2)
    model = {"name": "mlp", "hidden": hidden}
    done = go(tmp_path, recipe(arms={"a": arm}, model=model, evaluate_at=[met], until={}))
    assert len(done.of("a")) == 4
    assert places(done) == {("a", 0), ("a", at)}


@pytest.mark.parametrize("density", [0.299, 0.301])
def test_a_density_that_is_met_by_no_round_evaluates_those_on_both_sides(tmp_path, density):
    arms = {"a": {"method": "lth", "densities": [0.6, 0.3, 0.15]}}
    done = go(tmp_path, recipe(arms=arms, evaluate_at=[density], until={}))
    assert places(done) == {("a", 0), ("a", 2), ("a", 1 if density > 0.3 else 3)}


def test_roundings_of_many_rounds_are_no_reason_to_leave_one_side_of_a_density_out(tmp_path):
    arms = {"a": {"method": "lth", "rate": 0.2, "allow_collapse": True}}
    done = go(tmp_path, recipe(arms=arms, evaluate_at=[0.0343], until={"rounds": 16}))
    # 3,360 weights: 118 and 94 of them after 15 and 16 rounds, and 115.2 asked for.
    assert [r["kept"] for r in done.of("a")[-2:]] == [118, 94]
    assert places(done) == {("a", 0), ("a", 15), ("a", 16)}


def test_all_weights_stay_that_are_to_be_kept_though_each_round_waits_for_its_accuracy(tmp_path):
    arms = {"lth": ARMS["lth"], "fine-tune": {"method": "fine_tune", "rate": 0.2}}
    done = go(tmp_path, recipe(arms=arms, keep="all", until={"rounds": 3, "accuracy_drop": 0.9}))
    assert len(done.of("lth")) == 4
    assert kept(done) == expected_to_stay(done, "all")


def test_arms_with_common_densities_keep_exactly_as_many_weights_in_every_round(tmp_path):
    arms = {
        "lth": {"method": "lth"},
        "colt": {"method": "colt"},
        "one-shot": {"method": "one_shot"},
    }
    arms |= {"fine-tune": {"method": "fine_tune"}, "own": {"method": "lth", "densities": [0.9]}}
    densities = [0.8, 0.53, 0.21]
    done = go(tmp_path, recipe(arms=arms, densities=densities, until={}))
    for arm in arms:
        asked = [0.9] if arm == "own" else densities
        assert [r["kept"] for r in done.of(arm)] == [3360, *(round(d * 3360) for d in asked)]


# ---- what is refused, and what follows a failure


@pytest.mark.parametrize(
    ("arms", "changes", "message"),
    [
        (
            {"u": {"method": "colt", "partitions": 1, "combine": "any", "rate": 0.1}},
            {},
            "nothing to combine",
        ),
        (
            {"c": {"method": "colt", "partitions": 0, "rate": 0.1}},
            {},
            "partitions is 0; it must be 1 or more",
        ),
        (
            {"c": {"method": "colt", "train_on": [1, 3], "rate": 0.1}},
            {},
            "on names partition 3; there are 1 to 2",
        ),
        (
            {"c": {"method": "colt", "score": ["random"], "rate": 0.1}},
            {},
            "names 1 scores for 2 candidates",
        ),
        (
            {"l": {"method": "lth", "score": ["random", "magnitude"], "rate": 0.1}},
            {},
            "names 2 scores for 1 candid",
        ),
        ({"d": {"method": "dense"}, "m": {"match": "d"}}, {}, "m.match is 'd', which only trains"),
        (
            {"d": {"method": "dense"}, "m": {"method": "random_ticket", "source": "d"}},
            {},
            "m.source is 'd', which only trains",
        ),
        (
            {"m": {"match": "lht"}, "lth": {"method": "lth", "rate": 0.2}},
            {},
            "the other arms are: lth. Did you mean",
        ),
        (
            {"a": {"match": "b"}, "b": {"method": "random_ticket", "source": "a"}},
            {},
            "a -> b -> a follow each other",
        ),
        (
            {
                "a": {"method": "shuffled", "source": "b"},
                "b": {"method": "fine_tune", "match": "a"},
            },
            {},
            "in a circle",
        ),
        ({"a": {"method": "shuffled"}}, {}, "needs source: ARM"),
        (
            {"a": {"method": "colt", "combine": "all_at_end", "densities": [0.5]}},
            {},
            "the partitions search independently",
        ),
        (
            {"a": {"method": "colt", "split_by": "seeds", "head": "full", "rate": 0.1}},
            {},
            "head has no meaning with split_by: see",
        ),
        (
            {"a": {"method": "lth", "rate": 0.2, "evaluate_at": [0.3]}},
            {},
            "0.3, and no round reaches it: the last one",
        ),
        (
            {"a": {"method": "lth", "densities": [0.5, 0.4], "evaluate_at": [0.4, 0.3]}},
            {"until": {}},
            "no round reach",
        ),
        (
            {"a": {"method": "lth", "rate": 0.2}},
            {"until": {"accuracy_drop": 0.1}, "evaluate_at": [0.5]},
            "accuracy_drop looks at every round; arm a has evaluate_at",
        ),
        (
            {"a": {"method": "dense", "evaluate_at": [0.5]}},
            {},
            "evaluate_at has no meaning with method: dense",
        ),
        (
            {"a": {"method": "fine_tune", "rate": 0.2}},
            {"training": {"epochs": 1, "schedule": "cosine"}},
            "arm 'a': lr is last, but the cosine schedule ends at a rate of 0",
        ),
        (
            {"a": {"method": "colt", "rate": 0.2, "training": {"epoch": 3}}},
            {},
            "Did you mean 'epochs'",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_before_any_training(arms, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        plan(recipe(arms=arms, **changes))
    assert "\n" not in str(caught.value)


def test_arms_are_skipped_whose_source_failed_however_far_away(tmp_path, monkeypatch):
    # It works when it is tried, on the state that training begins with.
    (tmp_path / "breaking.py").write_text(
        "def score(state, mask, context):\n"
        "    if any((state[name] != context.rewind_point[name]).any() for name in mask):\n"
        "        raise KeyError('mine')\n"
        "    return {name: state[name].abs() for name in mask}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arms = {
        "bad": {"method": "lth", "rate": 0.2, "score": "breaking:score"},
        "random": {"method": "random_ticket", "source": "bad"},
        "after": {"match": "random"},
        "long": {"method": "dense", "as_long_as": "bad"},
        "lth": ARMS["lth"],
    }
    done = go(tmp_path, recipe(arms=arms))
    states = {name: Run(done.folder).ending(name, 0) for name in arms}
    assert {name: ending.state for name, ending in states.items()} == {
        "bad": "failed", "random": "skipped", "after": "skipped", "long": "skipped", "lth": "finished"
    }  # fmt: skip
    assert states["random"].why == "source failed: arm bad, replicate 0"
    assert states["after"].why == "source failed: arm random, replicate 0"


def test_a_fine_tuning_that_ends_before_a_milestone_has_not_come_down_to_its_rate():
    training = {
        "lr": 0.1,
        "epochs": 2,
        "batch_size": 64,
        "schedule": "multistep",
        "milestones": [1, 5],
        "gamma": 0.5,
    }
    plans = plan(recipe(arms={"a": {"method": "fine_tune", "rate": 0.2}}, training=training))
    assert onward(plans, "a").lr == 0.05
    training["milestones"] = [5]
    plans = plan(recipe(arms={"a": {"method": "fine_tune", "rate": 0.2}}, training=training))
    assert onward(plans, "a").lr == 0.1


def test_a_density_that_turns_out_not_to_be_reached_is_told(tmp_path):
    """Two partitions may come to 0.49 in two rounds, and do not: arithmetic alone cannot refuse
    it.
    """
    arms = {
        "colt-2": {"method": "colt", "rate": 0.15},
        "random": {"method": "random_ticket", "source": "colt-2"},
    }
    whole = {
        "name": "missed", "data": "digits", "model": {"name": "mlp", "hidden": [20]}, "training": {"epochs": 1},
        "arms": arms, "until": {"rounds": 2}, "evaluate_at": [0.65, 0.49],
    }  # fmt: skip
    for _ in range(2):  # and again when nothing is left to do
        done = run(parse(whole), runs=tmp_path, workers=1)
        assert done.complete
        assert len(done.notes) == 2
        for name, note in zip(arms, done.notes, strict=True):
            assert note.startswith(
                f"arm {name}, replicate 0: finished: no round reaches 0.49 of evaluate_at; the "
                "last "
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "arms": {"a": {"method": "lth", "rate": 0.2, "training": {"epochs": 1}}},
                "rewind": 12,
            },
            "arm 'a': rewind is 12, which leaves partition 1 no steps to train; it has 10",
        ),
        (
            {
                "arms": {"a": {"method": "colt", "partitions": 5, "rate": 0.2}},
                "rewind": 3,
                "training": {"lr": 0.05, "steps": 4, "batch_size": 64},
            },
            "arm 'a': rewind is 3, which leaves partition 1 no steps to train; it has 1",
        ),
        (
            {
                "arms": {"a": {"method": "lth", "rate": 0.2, "training": {"batch_size": 128}}},
                "rewind": 5,
            },
            "arm 'a': its search has training.batch_size 128, but rewind is step 5 of a training "
            "with batches of 64",
        ),
    ],
)
def test_a_rewind_point_that_leaves_a_search_nothing_to_train_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        plan(recipe(**changes))


def test_a_density_that_a_rate_comes_to_up_to_a_weight_is_evaluated_and_ends_the_search(tmp_path):
    """Two rounds of 20 % leave 64 %, here 533 of 832 weights or 64.06 %."""
    at = go(
        tmp_path / "at",
        few(model={"name": "mlp", "hidden": [13]}, evaluate_at=[0.64], until={"rounds": 3}),
    )
    assert [at.record("lth", index)["evaluated"] for index in range(4)] == [
        True,
        False,
        True,
        False,
    ]
    until = go(tmp_path / "to", few(model={"name": "mlp", "hidden": [13]}, until={"density": 0.64}))
    assert [r["kept"] for r in until.of("lth")] == [832, 666, 533]


def test_a_result_of_the_long_training_that_is_lost_is_had_again(tmp_path):
    arms = {"lth": ARMS["lth"], "long": {"method": "dense", "as_long_as": "lth"}}
    made = recipe(arms, until={"rounds": 2})
    first = go(tmp_path, made)
    path = first.folder / "machine/records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join(line for line in lines if '"long"' not in line or '"round": 2' not in line)
    )
    again = go(tmp_path, made)
    assert again.outcome.complete
    assert again.record("long", 2)["test_accuracy"] == first.record("long", 2)["test_accuracy"]


def test_trainings_that_two_arms_share_stay_as_each_of_them_says(tmp_path):
    arms = {"lth": ARMS["lth"], "some": {"method": "lth", "rate": 0.2, "evaluate_at": [0.6]}}
    done = go(tmp_path / "all", recipe(arms, keep="all"))
    assert kept(done) == {r["training_digest"] for r in done.outcome.records if r["evaluated"]}
    finished = go(tmp_path / "late", recipe({"lth": ARMS["lth"]}, keep="all"))
    later = go(tmp_path / "late", recipe(arms, keep="all"))
    assert later.folder == finished.folder
    assert kept(later) == kept(done)


def test_a_recipe_that_now_ends_earlier_says_what_is_there_from_before(tmp_path):
    go(tmp_path, recipe({"lth": ARMS["lth"]}))
    shorter = go(tmp_path, recipe({"lth": ARMS["lth"]}, until={"rounds": 2}))
    assert shorter.outcome.complete
    assert shorter.outcome.notes == [
        "arm lth, replicate 0: the recipe now ends with round 2; rounds up to 3 are here from "
        "before"
    ]


def test_whether_rounds_of_before_pass_is_said_by_the_recipe_of_now(tmp_path):
    before = go(tmp_path, recipe({"lth": ARMS["lth"]}))
    assert {r["passes"] for r in before.of("lth")} == {None}
    after = go(tmp_path, recipe({"lth": ARMS["lth"]}, until={"rounds": 3, "accuracy_drop": 0.9}))
    assert {r["passes"] for r in after.of("lth")} == {True}
    undisturbed = go(
        tmp_path / "fresh", recipe({"lth": ARMS["lth"]}, until={"rounds": 3, "accuracy_drop": 0.9})
    )
    assert timeless(after.outcome.records) == timeless(undisturbed.outcome.records)


def test_shuffled_tickets_are_charged_the_steps_to_their_rewind_point(tmp_path):
    arms = {"lth": ARMS["lth"], "random": {"method": "random_ticket", "source": "lth"},
            "shuffled": {"method": "shuffled", "source": "lth"}}  # fmt: skip
    done = go(tmp_path, recipe(arms, rewind=REWIND, until={"rounds": 1}))
    searched = {
        name: done.record(name, 1)["samples_seen_search"] for name in ("random", "shuffled")
    }
    assert searched["random"] == searched["shuffled"] > 0
