"""With one partition a search is iterative magnitude pruning; with N it is COLT; it says why it
ends.
"""

import copy
import itertools
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tests.toys import equal
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune as torch_prune

from tombola import Classification
from tombola.data.batches import Batches
from tombola.data.loading import load
from tombola.data.partitions import WHOLE, by_classes, by_examples, by_seeds
from tombola.data.splits import split
from tombola.executors import serial
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, InvariantError
from tombola.ground.settings import Training
from tombola.masks.holding import hold_
from tombola.masks.masks import count, intersect, nested, ones, size, union
from tombola.masks.rates import Count, kept_by_group
from tombola.masks.scopes import per_kind, per_layer
from tombola.scores import magnitude, random
from tombola.search.rounds import continue_from, find, find_at_once, find_independent, rewound
from tombola.training.jobs import Job, Trained


def network() -> nn.Module:
    with seeds.seeded(0, "init"):
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 6, 3, padding=1),
                norm=nn.BatchNorm2d(6),
                relu=nn.ReLU(),
                pool=nn.MaxPool2d(2),
                flat=nn.Flatten(),
                fc=nn.Linear(96, 20),
                relu2=nn.ReLU(),
                head=nn.Linear(20, 10),
            )
        )


@pytest.fixture(scope="module")
def task() -> Classification:
    return Classification(network(), split(load("digits"), valid=40, subset=210))


def start_of(task, **settings) -> Job:
    settings = {"epochs": 2, "batch_size": 50, "lr": 0.1, "momentum": 0.9} | settings
    return Job(task.initial_state(), ones(task.model), Training(**settings), seed=0)


def search(task, partitions, amounts, job=None, run_all=None, **options):
    # what each round's trainings gave is looked at when all are done
    options = {"keep": True} | options
    return find(
        job or start_of(task), partitions, amounts, run_all=run_all or serial(task), **options
    )


def to_the_end(rounds):
    """Return the rounds of a search and why it ended."""
    found = []
    while True:
        try:
            found.append(next(rounds))
        except StopIteration as stop:
            return found, stop.value


def same_rounds(one, other):
    """Whether two searches agree in every mask, candidate and trained bit."""
    return len(one) == len(other) and all(map(same_round, one, other))


def same_round(one, other):
    finals = [trained.final for trained in one.trained]
    other_finals = [trained.final for trained in other.trained]
    return (
        equal(one.mask, other.mask)
        and len(finals) == len(other_finals)
        and all(map(equal, one.candidates, other.candidates))
        and all(map(equal, finals, other_finals))
    )


def plain_imp(task, rate, rounds):
    """Iterative magnitude pruning as one would write it down: yield each round's mask and
    trained weights.
    """
    s = task.splits
    batches = Batches(s.train, batch_size=50, seed=0, mean=s.mean, std=s.std, published=s.published)
    start = copy.deepcopy(task.model.state_dict())
    mask = {
        name: torch.ones_like(start[name], dtype=torch.bool)
        for name in ("conv.weight", "fc.weight")
    }
    for _ in range(rounds):
        model = copy.deepcopy(task.model)
        model.load_state_dict(start)
        model.to(memory_format=torch.channels_last)
        weights = {name: model.get_parameter(name) for name in mask}
        for name, weight in weights.items():
            weight.data[~mask[name]] = 0
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
        for epoch in range(2):
            for inputs, labels in batches.epoch(epoch):
                sgd.zero_grad()
                cross_entropy(model(inputs), labels).backward()
                for name, weight in weights.items():
                    weight.grad[~mask[name]] = 0
                sgd.step()
                for name, weight in weights.items():
                    weight.data[~mask[name]] = 0
        flat = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
        kept = torch.cat([keep.flatten() for keep in mask.values()])
        flat[~kept] = float("inf")
        keep = kept.clone()
        keep[flat.argsort(stable=True)[: round(rate * int(kept.sum()))]] = False
        parts = keep.split([weight.numel() for weight in weights.values()])
        mask = {name: part.view_as(mask[name]) for name, part in zip(mask, parts, strict=True)}
        yield mask, model.state_dict()


def test_one_partition_equals_hand_written_imp_bit_for_bit(task):
    rounds, reason = to_the_end(search(task, [WHOLE], [0.3] * 4))
    assert not reason
    assert [r.index for r in rounds] == [1, 2, 3, 4]
    for found, (mask, trained) in zip(rounds, plain_imp(task, 0.3, 4), strict=True):
        assert equal(found.mask, mask)
        assert equal(found.trained[0].final, trained)  # batch norm's statistics too


def torchs_cut(state, before, rate):
    """Prune a trained state with torch.nn.utils.prune."""
    model = network()
    for name in before:
        model.get_parameter(name).data = state[name].clone()
    pairs = [(model.get_submodule(name.removesuffix(".weight")), "weight") for name in before]
    for (module, name), keep in zip(pairs, before.values(), strict=True):
        torch_prune.custom_from_mask(module, name, keep)
    torch_prune.global_unstructured(pairs, pruning_method=torch_prune.L1Unstructured, amount=rate)
    return {
        name: module.weight_mask.bool() for name, (module, _) in zip(before, pairs, strict=True)
    }


@pytest.mark.parametrize("partitions", [1, 2])
def test_torchs_own_pruning_agrees_mask_for_mask_over_several_rounds(task, partitions):
    before = ones(task.model)
    for found in search(task, by_seeds(partitions), [0.3, 0.2, 0.4, 0.3]):
        rate = [0.3, 0.2, 0.4, 0.3][found.index - 1]
        candidates = [torchs_cut(trained.final, before, rate) for trained in found.trained]
        assert all(map(equal, found.candidates, candidates))
        assert equal(found.mask, intersect(candidates))
        before = found.mask
    assert found.index == 4


def test_equal_partitions_equal_imp(task):
    alone = list(search(task, [WHOLE], [0.3] * 3))
    twice = list(search(task, [WHOLE, WHOLE], [0.3] * 3))
    assert all(equal(a.mask, b.mask) for a, b in zip(alone, twice, strict=True))
    assert all(
        equal(a.trained[0].final, t.final)
        for a, b in zip(alone, twice, strict=True)
        for t in b.trained
    )


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("divide", ["classes", "examples", "seeds"])
def test_colt_removes_at_least_the_rate_and_at_most_n_times_it_each_round(task, n, divide):
    partitions = {
        "classes": lambda: by_classes(10, n, seed=0),
        "examples": lambda: by_examples(210, n, seed=0),
        "seeds": lambda: by_seeds(n),
    }[divide]()
    before, rate = ones(task.model), 0.2
    for found in search(task, partitions, [rate] * 3):
        had, kept, removed = count(before), count(found.mask), round(rate * count(before))
        assert had - n * removed <= kept <= had - removed
        assert [count(candidate) for candidate in found.candidates] == [had - removed] * n
        assert equal(found.mask, intersect(found.candidates))
        assert equal(found.mask, intersect(found.candidates[::-1]))
        assert not any((keep & ~before[name]).any() for name, keep in found.mask.items())
        before = found.mask
    assert kept < had - removed  # the models do differ


def test_colt_in_the_first_round_is_n_trainings_and_one_overlap(task):
    partitions = by_classes(10, 2, seed=0)
    found = next(search(task, partitions, [0.4]))
    assert [job.part for job in found.jobs] == partitions
    assert [len(trained.final["head.weight"]) for trained in found.trained] == [5, 5]
    kept = []
    for trained in found.trained:
        weights = torch.cat([trained.final[name].abs().flatten() for name in found.mask])
        kept.append(weights >= weights.sort().values[round(0.4 * len(weights))])
    assert torch.equal(
        torch.cat([keep.flatten() for keep in found.mask.values()]), kept[0] & kept[1]
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_schedule_of_counts_is_met_exactly_in_every_round(task, n):
    counts = [1500, 1499, 700, 30]
    rounds = list(search(task, by_seeds(n), map(Count, counts)))
    assert [count(found.mask) for found in rounds] == counts


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("scope", ["per_kind", "per_layer"])
def test_counts_are_exact_in_every_group(task, n, scope):
    scope, names = {
        "per_kind": (per_kind(task.model), ("conv", "linear")),
        "per_layer": (per_layer, ("conv.weight", "fc.weight")),
    }[scope]
    counts = [dict(zip(names, kept, strict=True)) for kept in [(50, 1500), (49, 800), (20, 101)]]
    rounds = list(search(task, by_seeds(n), map(Count, counts), scope=scope))
    assert [kept_by_group(found.mask, scope) for found in rounds] == counts


def test_rates_may_differ_by_group(task):
    scope = per_kind(task.model)
    rounds = list(search(task, [WHOLE], [{"conv": 0.5, "linear": 0.1}] * 2, scope=scope))
    assert [kept_by_group(found.mask, scope) for found in rounds] == [
        {"conv": 27, "linear": 1728},
        {"conv": 13, "linear": 1555},  # 27 - round(13.5) = 13, to even; 1728 - 173
    ]


def test_a_matched_search_has_the_counts_of_the_one_it_follows_round_by_round(task):
    colt = search(task, by_classes(10, 2, seed=0), [0.2] * 3)
    colts = []

    def counts():
        for found in colt:
            colts.append(count(found.mask))
            yield Count(colts[-1])

    matched = search(task, [WHOLE], counts())
    assert [count(found.mask) for found in matched] == colts
    assert len(colts) == 3


def test_one_shot_pruning_is_a_search_of_one_round(task):
    rounds, reason = to_the_end(search(task, [WHOLE], [0.9]))
    assert (len(rounds), str(reason)) == (1, "")
    assert count(rounds[0].mask) == size(rounds[0].mask) - round(0.9 * size(rounds[0].mask))
    assert equal(rounds[0].trained[0].final, serial(task)([start_of(task)])[0].final)


def test_every_round_starts_from_the_rewind_point_buffers_included(task):
    job = start_of(task)
    started = []

    def watching(jobs):
        started.extend(task.build(each.start, each.part, each.seed).state_dict() for each in jobs)
        return serial(task)(jobs)

    rounds = list(search(task, [WHOLE], [0.3] * 3, job, watching))
    assert all(equal(state, job.start) for state in started)
    assert len(started) == 3
    assert all(found.trained[0].final["norm.num_batches_tracked"] == 10 for found in rounds)
    assert job.start["norm.num_batches_tracked"] == 0


def test_a_search_may_rewind_to_step_k(task):
    job = start_of(task, momentum=0.0)
    point = serial(task)([replace(job, last=3)])[0].final
    rounds = list(search(task, [WHOLE], [0.3] * 2, replace(job, start=point, first=3)))
    assert all(found.trained[0].samples == 10 + 50 + 210 for found in rounds)
    assert all(found.job.first == 3 and found.job.start is point for found in rounds)
    # round 1 is the dense run
    assert equal(rounds[0].trained[0].final, serial(task)([job])[0].final)


def test_the_job_of_a_round_is_its_ticket_on_the_full_data(task):
    job = start_of(task)
    rounds = list(search(task, by_classes(10, 2, seed=0), [0.3] * 2, job))
    for found in rounds:
        assert found.job.part == WHOLE
        assert found.job.start is job.start
        assert equal(found.job.mask, found.mask)
    assert not equal(rounds[0].mask, rounds[1].mask)


def test_lths_evaluation_of_a_ticket_is_the_training_of_its_next_round(task):
    first, second = itertools.islice(search(task, [WHOLE], [0.3] * 2), 2)
    assert second.jobs[0].digest(task.digest) == first.job.digest(task.digest)


def test_the_job_that_starts_a_search_is_not_changed(task):
    job = start_of(task)
    list(search(task, [WHOLE], [0.3] * 2, job))
    assert count(job.mask) == size(job.mask)
    assert equal(job.start, task.initial_state())


def test_a_search_goes_on_from_a_mask_and_numbers_its_rounds_from_there(task):
    whole = list(search(task, [WHOLE], [0.3, 0.2, 0.4]))
    rest = list(search(task, [WHOLE], [0.2, 0.4], whole[0].job, first=2))
    assert [found.index for found in rest] == [2, 3]
    assert same_rounds(whole[1:], rest)


def test_a_round_that_removes_nothing_ends_the_search(task):
    rounds, reason = to_the_end(search(task, [WHOLE], [0.5, 0.0001, 0.5]))
    assert len(rounds) == 1
    assert str(reason) == f"round 2 removes nothing: {count(rounds[0].mask)} weights are kept"


def without_conv(state, mask, context):
    """Scores that rank the convolution below everything."""
    return {
        name: torch.full(keep.shape, float(name != "conv.weight")) for name, keep in mask.items()
    }


def test_layer_collapse_ends_the_search_and_names_the_layer(task):
    rounds, reason = to_the_end(
        search(task, [WHOLE], [Count(1930), Count(1920), Count(10)], score=without_conv)
    )
    assert [count(found.mask) for found in rounds] == [1930]  # ten weights of conv are left
    assert str(reason) == "layer collapse in round 2: no weight is left in conv.weight"
    assert (reason.cause, reason.round, reason.layers) == ("collapsed", 2, ("conv.weight",))


def test_a_collapsed_search_goes_on_if_it_is_allowed_to(task):
    amounts = [Count(1930), Count(1920), Count(10)]
    rounds, reason = to_the_end(
        search(task, [WHOLE], amounts, score=without_conv, allow_collapse=True)
    )
    assert [found.collapsed for found in rounds] == [[], ["conv.weight"], ["conv.weight"]]
    assert not reason


@pytest.mark.parametrize("n", [1, 2])
def test_random_scores_give_nested_masks_that_training_has_no_part_in(task, n):
    rounds = list(search(task, by_seeds(n), [Count(1200), Count(400)], score=random))
    within = ones(task.model)
    for found in rounds:
        assert not any((keep & ~within[name]).any() for name, keep in found.mask.items())
        within = found.mask
    longer = list(search(task, by_seeds(n), [Count(1200)], start_of(task, epochs=1), score=random))
    assert equal(longer[0].mask, rounds[0].mask)


def test_a_users_own_loop_may_stand_in(task):
    def own_loop(jobs):
        """Plain gradient descent on the whole split at once, with the mask held by hooks."""
        results = []
        for job in jobs:
            model = task.build(job.start, job.part, job.seed)
            adam = torch.optim.Adam(model.parameters(), 0.01)
            handle = hold_(adam, model, job.mask)
            images, labels = next(task.batches(job.part, 1000, job.seed).epoch(0))
            for _ in range(5):
                adam.zero_grad()
                cross_entropy(model(images), labels).backward()
                adam.step()
            handle.remove()
            results.append(
                Trained(dict(model.state_dict()), None, None, "last", [], 5 * len(labels), 0.0)
            )
        return results

    rounds = list(search(task, by_classes(10, 2, seed=0), [0.3, 0.3], run_all=own_loop))
    assert len(rounds) == 2
    cuts = [torchs_cut(trained.final, ones(task.model), 0.3) for trained in rounds[0].trained]
    assert equal(rounds[0].mask, intersect(cuts))
    assert rounds[1].trained[0].samples == 5 * len(task.split(rounds[1].jobs[0].part, "train"))


def test_a_users_own_cut_may_stand_in(task):
    def keep_conv(before, states, amount, context):
        mask = {name: keep.clone() for name, keep in before.items()}
        mask["fc.weight"][: round(20 * amount)] = False
        return mask, [mask]

    found = next(search(task, [WHOLE], [0.25], cut=keep_conv))
    assert kept_by_group(found.mask, per_layer) == {"conv.weight": 54, "fc.weight": 15 * 96}


def test_results_do_not_hang_on_the_order_in_which_jobs_finish(task):
    def backwards(jobs):
        return serial(task)(jobs[::-1])[::-1]

    partitions = by_classes(10, 3, seed=0)
    forwards = list(search(task, partitions, [0.2] * 2))
    assert same_rounds(forwards, list(search(task, partitions, [0.2] * 2, run_all=backwards)))


def test_the_selected_state_is_the_one_that_is_cut(task):
    job = start_of(task, select="best", epochs=4, lr=1.0)
    found = next(search(task, [WHOLE], [0.5], job))
    trained = found.trained[0]
    assert not equal(trained.final, trained.early)
    assert equal(found.mask, torchs_cut(trained.early, job.mask, 0.5))
    assert not equal(found.mask, torchs_cut(trained.final, job.mask, 0.5))


def test_without_rewinding_a_round_starts_from_what_the_one_before_has_learnt(task):
    further = Training(epochs=1, batch_size=50, lr=0.01)
    rounds, reason = to_the_end(search(task, [WHOLE], [0.2] * 3, next_start=continue_from(further)))
    assert not reason
    assert equal(rounds[0].mask, to_the_end(search(task, [WHOLE], [0.2]))[0][0].mask)
    for before, after in itertools.pairwise(rounds):
        assert before.job is after.jobs[0] or before.job.digest("t") == after.jobs[0].digest("t")
        assert equal(before.job.start, before.trained[0].state)
        assert before.job.training == further
        assert before.job.first == 0
        # What was pruned is in the start and not in the training.
        for name, keep in before.mask.items():
            assert not after.trained[0].final[name][~keep].any()


def test_without_rewinding_several_partitions_are_refused(task):
    with pytest.raises(
        ConfigError, match="2 partitions learn 2 states; without rewinding there is one"
    ):
        next(
            search(task, by_classes(10, 2, 0), [0.2], next_start=continue_from(Training(epochs=1)))
        )


def test_partitions_that_search_apart_are_as_many_searches_and_meet_in_their_tickets(task):
    parts = by_examples(len(task.splits.train), 2, 0)
    rounds, _ = to_the_end(
        find_independent(start_of(task), parts, [0.3] * 4, run_all=serial(task), keep=True)
    )
    alone = [to_the_end(search(task, [part], [0.3] * 4))[0] for part in parts]
    for found, *each in zip(rounds, *alone, strict=True):
        assert all(map(equal, found.candidates, [one.mask for one in each]))
        assert equal(found.mask, intersect(found.candidates))
        assert all(
            equal(t.final, one.trained[0].final) for t, one in zip(found.trained, each, strict=True)
        )
        assert equal(found.job.mask, found.mask)
    # It goes on from where each stands, not from what they share.
    known = {"candidates": rounds[1].candidates, "first": 3, "keep": True}
    goes_on = find_independent(rounds[1].job, parts, [0.3] * 2, run_all=serial(task), **known)
    assert same_rounds(to_the_end(goes_on)[0], rounds[2:])


def test_apart_every_partition_is_scored_as_if_it_stood_at_its_own_number(task):
    parts = by_seeds(2)
    (found,), _ = to_the_end(
        find_independent(start_of(task), parts, [0.3], run_all=serial(task), score=random)
    )
    (together,), _ = to_the_end(search(task, parts, [0.3], score=random))
    assert all(map(equal, found.candidates, together.candidates))


def test_a_search_by_the_union_keeps_what_is_asked_for_in_nested_rounds(task):
    total = size(start_of(task).mask)
    counts = [round(total * density) for density in (0.7, 0.5, 0.35)]
    rounds, _ = to_the_end(search(task, by_classes(10, 2, 0), map(Count, counts), combine=union))
    assert [count(found.mask) for found in rounds] == counts
    for found in rounds:
        assert equal(found.mask, union(found.candidates))
        assert not equal(found.mask, intersect(found.candidates))
    assert not any(list(nested(b.mask, a.mask)) for a, b in itertools.pairwise(rounds))


def test_pruned_at_once_every_ticket_is_a_search_of_one_round_and_one_training_serves_all(task):
    trained = []

    def run_all(jobs):
        trained.extend(jobs)
        return serial(task)(jobs)

    amounts = [0.3, 0.6, 0.9]
    rounds, reason = to_the_end(find_at_once(start_of(task), [WHOLE], amounts, run_all=run_all))
    assert not reason
    assert len(trained) == 1
    assert [found.index for found in rounds] == [1, 2, 3]
    for found, amount in zip(rounds, amounts, strict=True):
        (single,), _ = to_the_end(search(task, [WHOLE], [amount]))
        assert equal(found.mask, single.mask)
        assert equal(found.job.start, start_of(task).start)


def test_pruned_at_once_a_collapse_ends_it_with_the_reason(task):
    rounds, reason = to_the_end(
        find_at_once(
            start_of(task), [WHOLE], [Count(500), Count(3), Count(2)], run_all=serial(task)
        )
    )
    assert len(rounds) < 3
    assert str(reason).startswith(f"layer collapse in round {len(rounds) + 1}")


def test_earlier_names_of_arguments_go_on_working_with_a_warning(task):
    def last(trained, index):
        return trained.final

    with pytest.warns(FutureWarning, match="find: scored is now state_to_score"):
        rounds, _ = to_the_end(search(task, [WHOLE], [0.3], scored=last))
    assert equal(rounds[0].mask, to_the_end(search(task, [WHOLE], [0.3]))[0][0].mask)
    with pytest.raises(TypeError, match="find takes next_start; after is its earlier name"):
        search(task, [WHOLE], [0.3], after=rewound, next_start=rewound)


def test_which_state_is_scored_may_hang_on_the_round(task):
    job = start_of(task, epochs=3, select="best", lr=0.4)

    def by_round(trained, index):
        return trained.final if index > 1 else trained.state

    first, second = to_the_end(search(task, [WHOLE], [0.3] * 2, job, state_to_score=by_round))[0]
    state = [
        magnitude(first.trained[0].state, job.mask, None),
        magnitude(second.trained[0].final, first.mask, None),
    ]
    for found, scores, before in zip((first, second), state, (job.mask, first.mask), strict=True):
        lowest = min(float(scores[n][k].min()) for n, k in found.mask.items())
        highest = max(float(scores[n][before[n] & ~k].max()) for n, k in found.mask.items())
        assert highest <= lowest
    assert not equal(second.trained[0].state, second.trained[0].final)


def test_a_search_apart_that_goes_on_needs_a_candidate_of_every_partition(task):
    job = start_of(task)
    halves = by_classes(4, 2, seed=0)
    with pytest.raises(ConfigError, match="there are 1 candidates for 2 partitions"):
        next(find_independent(job, halves, [0.2], run_all=serial(task), candidates=[job.mask]))


def test_the_seconds_of_a_round_are_those_that_the_clock_told_between(task, monkeypatch):
    ticks = iter(range(0, 1000, 3))  # each look at the clock three seconds after the one before
    monkeypatch.setattr(
        "tombola.search.rounds.time", SimpleNamespace(perf_counter=lambda: next(ticks))
    )
    [found] = search(task, [WHOLE], [0.2])
    assert (found.cut_seconds, found.invariant_seconds) == (3, 3)


def test_a_partition_whose_training_moved_a_pruned_weight_is_named(task):
    train = serial(task)

    def careless(jobs):
        trained = train(jobs)
        for keep, weight in zip(
            jobs[1].mask.values(), (trained[1].final[name] for name in jobs[1].mask), strict=True
        ):
            weight[~keep] = 1.0
        return trained

    rounds = search(task, by_examples(210, 2, 0), [0.5, 0.5], run_all=careless)
    next(rounds)  # nothing is pruned yet
    with pytest.raises(InvariantError, match="round 2, partition 2"):
        next(rounds)
