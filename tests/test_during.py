"""What happens while a training runs is plain data: in the digest when it is set, done by
whoever it names.
"""

from dataclasses import replace

import pytest
import torch
from tests.outside.during import Swap
from tests.test_executors import TASK, job, make_task, same

from tombola.executors import Pool
from tombola.executors.packing import pack, unpack
from tombola.ground.errors import ConfigError
from tombola.masks.masks import ones
from tombola.masks.schedules import Gradual, PruningSchedule
from tombola.search.work import Train
from tombola.training.jobs import run_job


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
