"""What happens while a training runs is plain data: in the digest when it is set, done by
whoever it names.
"""

from dataclasses import replace

import pytest
import torch
from tests.outside.during import Factors, Swap, Tally
from tests.test_executors import TASK, job, make_task, same
from torch import nn

from tombola import Classification, Training, split
from tombola.data import synthetic
from tombola.executors import Pool
from tombola.executors.packing import pack, unpack
from tombola.ground.errors import ConfigError, DamagedError
from tombola.masks.masks import ones
from tombola.masks.schedules import Gradual, PruningSchedule
from tombola.search.work import Train
from tombola.training.jobs import Job, run_job
from tombola.training.loop import train


def half(**settings):
    """A job in which every second weight is pruned."""
    mask = {
        name: (torch.arange(keep.numel()) % 2 == 0).view(keep.shape)
        for name, keep in ones(TASK.model).items()
    }
    return job(**settings).on(job().part, mask)


def test_the_digest_says_what_happens_only_where_something_does():
    plain = half()
    digests = [
        replace(plain, during=during).digest("task")
        for during in (None, Swap(), Swap(2), Gradual(0.1))
    ]
    assert len(set(digests)) == 4
    assert digests[0] == plain.digest("task")


def test_gradual_pruning_has_the_digest_that_it_had_under_its_old_name():
    start = {"w": torch.arange(4.0)}
    each = replace(half(), start=start, mask={"w": torch.ones(4, dtype=torch.bool)}, seed=7)
    # Worked out at the commit before jobs had a `during`, with `gradual=` in its place.
    assert replace(each, during=Gradual(0.25, PruningSchedule(every=5))).digest("task") == OLD


OLD = "a83ebf343a570abff930d1cdf382f2038dc9fe0f3d69a6f97ccde24384b8f4ff"


def test_a_mask_may_grow_while_a_training_runs():
    each = replace(half(), during=Swap(3))
    trained = run_job(each, TASK)
    for name, keep in each.mask.items():
        after = trained.mask[name]
        assert int((keep & ~after).sum()) == int((after & ~keep).sum()) == 3
        assert not bool(trained.final[name][~after].any())
        assert bool(trained.final[name][after & ~keep].all())  # what came back has been trained
    assert trained.cuts == [(3, {"conv.weight": 18})]
    assert trained.early_step >= 3  # no state from before the change is the result


def test_what_happens_goes_to_the_workers_as_plain_data(tmp_path):
    each = replace(half(), during=Swap())
    packed, starts = pack(Train(each))
    back = unpack(packed, starts.__getitem__).job
    assert (back.during, back.digest("task")) == (each.during, each.digest("task"))
    with Pool(TASK, tmp_path, workers=1, make_task=make_task, executor="processes") as pool:
        [trained] = pool.run_all([each])
    here = run_job(each, TASK)
    assert same(trained, here)
    assert all(torch.equal(keep, here.mask[name]) for name, keep in trained.mask.items())


def test_a_driver_that_there_is_not_is_told_in_one_line():
    class Nobody(Swap):
        driver = "tests.outside.during:Nobody"

    with pytest.raises(ConfigError, match=r"'tests.outside.during' has no function 'Nobody'"):
        run_job(replace(half(), during=Nobody()), TASK)


@pytest.mark.parametrize("step", ["eager", "traced"])
def test_gradients_are_handed_out_before_the_update_whole_and_change_no_bit(step):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    task = Classification(model, split(synthetic()), head="1")
    mask = {"1.weight": (torch.arange(640) % 2 == 0).view(10, 64)}
    each = Job(task.initial_state(), mask, Training(epochs=1, step=step), seed=0)
    plain, summed = run_job(each, task), run_job(replace(each, during=Tally()), task)
    assert same(plain, summed)
    assert summed.mask is None
    # Those of pruned weights are there, too.
    assert bool(summed.gathered["1.weight"][~mask["1.weight"]].any())


def test_gradients_are_whole_though_they_are_clipped_afterwards():
    each = half()
    clipped = replace(each, training=replace(each.training, clip=1e-3), last=1, during=Tally())
    free = replace(each, last=1, during=Tally())
    sums = [run_job(which, TASK).gathered["conv.weight"] for which in (clipped, free)]
    assert torch.equal(*sums)


def test_a_step_whose_update_is_left_out_counts_and_moves_nothing():
    each = replace(half(), last=1, during=Tally(skip=1))
    trained = run_job(each, TASK)
    assert trained.steps == 1
    start = run_job(replace(half(), last=0), TASK)
    for name in dict(TASK.model.named_parameters()):  # batch norm has seen the batch
        assert torch.equal(trained.final[name], start.final[name])


def test_what_was_gathered_goes_through_workers_and_files(tmp_path):
    each = replace(half(), during=Tally())
    with Pool(TASK, tmp_path, workers=1, make_task=make_task, executor="processes") as pool:
        [trained] = pool.run_all([each])
    here = run_job(each, TASK).gathered
    assert all(torch.equal(value, trained.gathered[name]) for name, value in here.items())
    tensors, facts = Train.to_file(trained)
    back = Train.from_file(tensors, facts)
    assert all(torch.equal(value, back.gathered[name]) for name, value in here.items())
    tensors["gathered.conv.weight"] = torch.zeros(3)
    with pytest.raises(DamagedError):
        Train.from_file(tensors, facts)


def test_a_loop_that_hands_its_gradients_to_nobody_is_refused_in_one_line():
    def own_loop(model, batches, training, mask, *, loss, seed, schedule, first, last):
        return train(
            model, batches, training, mask, loss=loss, seed=seed, schedule=schedule, first=first
        )

    run_job(half(), TASK, loop=own_loop)
    with pytest.raises(ConfigError, match="'own_loop' has no argument 'listener'"):
        run_job(replace(half(), during=Tally()), TASK, loop=own_loop)


def test_weights_that_come_back_have_no_momentum_of_earlier_times():
    training = replace(half().training, optimizer="sgd", momentum=0.9)
    each = replace(half(), training=training, during=Swap(3))
    momenta = []

    def watching(*given, **more):
        for step in train(*given, **more):
            parameter = given[0].get_parameter("conv.weight")
            yield step
            state = step.optimizer.state.get(parameter)
            if state:
                momenta.append((step.number, state["momentum_buffer"].clone()))

    trained = run_job(each, TASK, loop=watching)
    grown = trained.mask["conv.weight"] & ~each.mask["conv.weight"]
    before, after = (value for number, value in momenta if number in (2, 3))
    # A pruned weight has a gradient, and so momentum, while it is pruned.
    assert bool(before[grown].any())
    assert not bool(after[grown].any())


def test_other_tensors_than_the_weights_may_be_trained():
    each = replace(job(), during=Factors())
    trained = run_job(each, TASK)
    for name in dict(TASK.model.named_parameters()):
        moved = not torch.equal(trained.final[name], each.start[name])
        assert moved == (name in trained.mask)
    assert trained.early_step in (None, trained.steps)
    assert same(trained, run_job(each, TASK))


def test_a_class_that_is_no_driver_is_told_in_one_line():
    class Wrong(Swap):
        driver = "tests.outside.during:Swap"

    with pytest.raises(ConfigError, match="is no driver of a training"):
        run_job(replace(half(), during=Wrong()), TASK)
