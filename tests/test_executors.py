"""Whoever runs the trainings, and in whatever order, each is done once and gives the same bits."""

import functools
import gc
import multiprocessing
import os
import signal
import threading
import weakref
from collections import Counter, OrderedDict
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import replace

import pytest
import torch
from tests.toys import equal
from torch import nn

from tombola import Classification
from tombola.data.dataset import from_tensors
from tombola.data.partitions import WHOLE, by_classes, by_seeds
from tombola.data.splits import split
from tombola.executors import Pool, here, serial
from tombola.executors.worker import Worker
from tombola.ground import devices, seeds
from tombola.ground.errors import ConfigError, TrainingError
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.records.storage import Store
from tombola.search import work as works
from tombola.search.rounds import find
from tombola.training.jobs import Job, measure, run_job

PATIENCE = 120  # seconds; spawning a worker takes a few on a busy machine


def make_task() -> Classification:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 4
    images = torch.rand(60, 1, 4, 4, generator=draw) + labels.view(-1, 1, 1, 1) / 4
    with seeds.seeded(0, "init"):
        model = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(1, 4, 3, padding=1),
                norm=nn.BatchNorm2d(4),
                relu=nn.ReLU(),
                dropout=nn.Dropout(0.2),
                flat=nn.Flatten(),
                head=nn.Linear(64, 4),
            )
        )
    return Classification(
        model, split(from_tensors(images, labels, images[:12], labels[:12], 4), valid=12)
    )


TASK = make_task()


def note_turn(folder) -> Classification:
    (folder / f"turn-{devices._turn}").touch()
    return make_task()


def job(seed=0, **settings) -> Job:
    settings = {"epochs": 2, "batch_size": 16, "lr": 0.1, "momentum": 0.9} | settings
    return Job(TASK.initial_state(), ones(TASK.model), Training(**settings), seed)


def same(one, other):
    """Whether two trainings gave the same bits."""
    return (
        equal(one.final, other.final)
        and equal(one.early, other.early)
        and (one.early_step, one.history, one.samples)
        == (other.early_step, other.history, other.samples)
    )


class Progress(list):
    """What a pool told; `at` waits until a job has done a step."""

    def __init__(self):
        self.changed = threading.Condition()

    def __call__(self, *event):
        with self.changed:
            self.append(event)
            self.changed.notify_all()

    def at(self, *event):
        with self.changed:
            return self.changed.wait_for(lambda: event in self, PATIENCE)


def progress_of(made):
    return made._backend._setting.progress


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A pool of two worker processes, for all tests: they take seconds to start."""
    made = Pool(
        TASK, tmp_path_factory.mktemp("two"), workers=2, make_task=make_task, progress=Progress()
    )
    yield made
    made.close()


@pytest.fixture
def one(tmp_path):
    made = Pool(TASK, tmp_path, workers=1, make_task=make_task, progress=Progress())
    yield made
    made.close()


@pytest.fixture
def trainings(monkeypatch):
    """Count the trainings that this process does, by digest."""
    done = Counter()

    def counting(each, task, *rest, **options):
        done[each.digest(task.digest)] += 1
        return run_job(each, task, *rest, **options)

    monkeypatch.setattr(here, "run_job", counting)
    monkeypatch.setattr(works, "run_job", counting)
    return done


def test_one_and_two_workers_and_the_callers_own_thread_give_the_same_bits(one, two):
    parts = [*by_seeds(2), *by_classes(4, 2, seed=0)]
    # the first is the longest
    jobs = [job(epochs=6 - index).on(part, job().mask) for index, part in enumerate(parts)]
    here = [run_job(each, TASK) for each in jobs]
    for results in (one.run_all(jobs), two.run_all(jobs), serial(TASK)(jobs)):
        assert all(map(same, results, here))


def test_a_search_on_a_pool_is_the_one_done_in_turn(two):
    parts = by_classes(4, 2, seed=0)
    rounds, expected = (
        list(find(job(), parts, [0.3, 0.3], run_all=run_all, keep=True))
        for run_all in (two.run_all, serial(TASK))
    )
    assert len(rounds) == 2
    assert all(equal(r.mask, e.mask) for r, e in zip(rounds, expected, strict=True))
    assert all(map(same, rounds[1].trained, expected[1].trained))


@pytest.mark.parametrize("select", ["last", "best"])
@pytest.mark.parametrize("workers", ["one", "two"])
def test_an_evaluation_is_a_training_and_its_measurement(request, workers, select):
    each = job(seed=3, select=select, epochs=4, lr=1.0)
    trained, measured = request.getfixturevalue(workers).evaluate(each).result(PATIENCE)
    expected = run_job(each, TASK)
    assert same(trained, expected)
    assert measured.early is not None
    for which in ("train", "valid", "test", "early"):
        metrics, by_hand = (getattr(m, which) for m in (measured, measure(each, expected, TASK)))
        assert (metrics.loss, metrics.values) == (by_hand.loss, by_hand.values)
        assert torch.equal(metrics.predictions, by_hand.predictions)


def test_equal_jobs_are_trained_once_however_many_ask(one, trainings):
    results = one.run_all([job(), job(seed=1), job()])
    asking = [threading.Thread(target=one.run_all, args=([job(), job(seed=2)],)) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    one.evaluate(job()).result(PATIENCE)
    assert sorted(trainings.values()) == [1, 1, 1]
    assert same(results[0], results[2])


def test_equal_jobs_are_trained_once_by_worker_processes_too(two):
    each = job(seed=4, epochs=None, steps=60, evaluate_every=1)
    digest = two.digest(each)
    two.run_all([each, job(seed=4, epochs=None, steps=60, evaluate_every=1)])
    two.run_all([each])
    assert progress_of(two).at(digest, 60, 60)
    assert Counter(progress_of(two))[digest, 1, 60] == 1


def test_a_pool_over_the_same_folder_finds_what_was_done(one, trainings):
    one.run_all([job()])
    again = Pool(TASK, one.store.folder, workers=1, make_task=make_task)
    again.run_all([job(), job(seed=1)])
    again.close()
    assert trainings == {one.digest(job()): 1, one.digest(job(seed=1)): 1}


def kept(made):
    return {path.stem for path in made.store.folder.glob("*.training")}


def test_a_result_stays_as_long_as_somebody_needs_it(one):
    first, second, third = (one.digest(job(seed=seed)) for seed in range(3))
    one.needs("lth", [first, second])
    one.needs("colt", [second])
    one.run_all([job(), job(seed=1), job(seed=2)])
    one.needs("lth", [first])
    assert kept(one) == {first, second, third}  # colt still needs the second
    one.needs("colt", [])
    assert kept(one) == {first, third}
    one.needs("lth", [second])
    assert kept(one) == {third}  # nobody has said to need the third, and nobody to need it no more


def test_a_result_that_is_read_goes_only_afterwards(one):
    promise = one.evaluate(job())
    digest = one.digest(job())
    one.needs("lth", [digest])
    one.needs("lth", [])
    assert same(promise.result(PATIENCE)[0], run_job(job(), TASK))
    assert kept(one) == set()
    assert not list(one.store.folder.glob("*.measured"))


def test_a_result_that_was_dropped_is_had_again(one, trainings):
    digest = one.digest(job())
    one.needs("lth", [digest])
    one.run_all([job()])
    one.needs("lth", [])
    assert same(one.run_all([job()])[0], run_job(job(), TASK))
    assert trainings[digest] == 2


def test_what_a_pool_is_asked_for_is_not_held_by_it(one):
    """Masks and start states of work that is done: a run has thousands of them."""
    each = job(seed=3)
    watched = weakref.ref(each)
    one.run_all([each])
    one.evaluate(each).result(PATIENCE)
    del each
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("workers", ["one", "two"])
def test_an_exception_in_a_job_reaches_the_caller_and_the_pool_goes_on(request, workers):
    made = request.getfixturevalue(workers)
    diverges = job(seed=5, lr=1e30)
    for _ in range(2):
        with pytest.raises(TrainingError, match="a lower learning rate may help"):
            made.run_all([job(seed=6), diverges])
    with pytest.raises(TrainingError, match="a lower learning rate may help"):
        made.evaluate(diverges).result(PATIENCE)
    assert same(made.run_all([job(seed=6)])[0], run_job(job(seed=6), TASK))


@pytest.mark.parametrize("workers", ["one", "two"])
def test_progress_is_told_at_every_evaluation(request, workers):
    made = request.getfixturevalue(workers)
    each = job(seed=7, evaluate_every=2)
    made.run_all([each])
    digest = made.digest(each)
    assert progress_of(made).at(digest, 6, 6)
    assert [event for event in progress_of(made) if event[0] == digest] == [
        (digest, step, 6) for step in (2, 4, 6)
    ]


def test_every_worker_process_has_a_turn_of_its_own(tmp_path):
    """By which it takes one of several GPUs."""
    made = Pool(
        TASK, tmp_path / "store", workers=2, make_task=functools.partial(note_turn, tmp_path)
    )
    made.close()
    assert sorted(path.name for path in tmp_path.glob("turn-*")) == ["turn-0", "turn-1"]


def test_a_worker_that_is_killed_is_replaced_and_its_job_done_again(two):
    long = job(seed=8, epochs=None, steps=600, evaluate_every=1)
    digest = two.digest(long)
    future = two.evaluate(long)
    assert progress_of(two).at(digest, 1, 600)
    killed = [process.pid for process in multiprocessing.active_children()]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    trained, _ = future.result(PATIENCE)
    assert progress_of(two).at(digest, 400, 600)
    assert Counter(progress_of(two))[digest, 1, 600] == 2
    assert same(trained, run_job(long, TASK))
    assert not {process.pid for process in multiprocessing.active_children()} & set(killed)


class Dies:
    """A backend whose workers never live to tell."""

    slots = 2

    def __init__(self, setting):
        self.submitted = 0

    def submit(self, work, digest):
        self.submitted += 1
        future = Future()
        future.set_exception(BrokenExecutor("a worker was lost"))
        return future

    def close(self, *, now):
        pass


def test_a_job_that_kills_every_worker_is_given_up(tmp_path):
    made = Pool(
        TASK, tmp_path, workers=2, make_task=make_task, executor="tests.test_executors:Dies"
    )
    with pytest.raises(
        TrainingError, match="a worker died or could not start, 3 times over one task"
    ):
        made.run_all([job()])
    assert made._backend.own.submitted == 3
    made.close()


class Poisoned:
    """A backend whose workers all die of one job, and that ends the others a little later."""

    slots = 2

    def __init__(self, setting):
        self.running = set()
        self.together = []  # how many jobs that had lost a worker before were tried at once
        self.lost = set()
        self._worker = Worker(setting.task, setting.store, setting.progress)

    def submit(self, work, digest):
        future = Future()
        self.running.add((future, digest))
        self.together.append(sum(1 for _, one in self.running if one in self.lost))
        if work.job.seed == 666:
            threading.Timer(0.02, self._die).start()
        else:
            threading.Timer(0.05, self._finish, [future, work, digest]).start()
        return future

    def _die(self):
        for future, digest in list(self.running):
            self.running.discard((future, digest))
            self.lost.add(digest)
            if not future.done():
                future.set_exception(BrokenExecutor("a worker was lost"))

    def _finish(self, future, work, digest):
        if (future, digest) in self.running:
            self._worker.do(work, digest)
            self.running.discard((future, digest))
            if not future.done():
                future.set_result(None)

    def close(self, *, now):
        pass


def test_a_job_that_kills_every_worker_does_not_fail_those_beside_it(tmp_path):
    made = Pool(
        TASK, tmp_path, workers=2, make_task=make_task, executor="tests.test_executors:Poisoned"
    )
    seeds_of = (666, 1, 2, 3)  # it dies while the others are under way
    futures = {seed: made._ask(works.Train(job(seed=seed))) for seed in seeds_of}
    with pytest.raises(TrainingError, match="a worker died"):
        futures[666].result(PATIENCE)
    for seed in (1, 2, 3):
        assert futures[seed].result(PATIENCE) is None
    assert max(made._backend.own.together) == 1  # suspects are tried one by one
    made.close()


class Slow:
    """A backend that does nothing until it is told to, and says how much it was given at once."""

    slots = 2

    def __init__(self, setting):
        self.setting, self.given, self.order = setting, {}, []
        self.changed = threading.Condition()

    def submit(self, work, digest):
        with self.changed:
            self.given[digest] = future = Future()
            self.order.append((work.kind, digest))
            self.changed.notify_all()
        return future

    def wait_for(self, number):
        with self.changed:
            return self.changed.wait_for(lambda: len(self.order) >= number, PATIENCE)

    def close(self, *, now):
        for future in self.given.values():
            future.cancel()


@pytest.fixture
def slow(tmp_path):
    made = Pool(
        TASK, tmp_path, workers=2, make_task=make_task, executor="tests.test_executors:Slow"
    )
    yield made
    made.close(now=True)


def test_work_is_begun_in_the_order_in_which_it_is_asked_for_one_more_than_there_are_workers(slow):
    jobs = [job(seed=seed) for seed in range(6)]
    for each in jobs:
        slow.evaluate(each)
    backend, digests = slow._backend.own, [slow.digest(each) for each in jobs]
    assert backend.wait_for(3)
    assert backend.order == [("training", digest) for digest in digests[:3]]
    slow.store.keep(works.Train, digests[1], run_job(jobs[1], TASK))
    backend.given[digests[1]].set_result(None)
    assert backend.wait_for(4)
    assert backend.order[3:] == [("training", digests[3])]


def test_what_is_waited_for_when_a_pool_is_closed_at_once_is_cancelled(slow):
    promise = slow.evaluate(job())
    slow.close(now=True)
    with pytest.raises(CancelledError):
        promise.result(PATIENCE)
    with pytest.raises(CancelledError):
        slow.evaluate(job(seed=1)).result(PATIENCE)


def test_a_pool_has_as_many_threads_with_a_thousand_jobs_as_with_one(slow):
    slow.evaluate(job())
    before = threading.active_count()
    for seed in range(1, 1001):
        slow.evaluate(job(seed=seed))
    assert threading.active_count() == before


def test_a_result_that_a_backend_sends_back_goes_into_the_store(slow):
    each = job()
    promise = slow.evaluate(each)
    backend, digest = slow._backend.own, slow.digest(each)
    assert backend.wait_for(1)
    expected = run_job(each, TASK)
    file = b"".join(slow.store.pack(works.Train, digest, expected))
    backend.given[digest].set_result(file)
    assert backend.wait_for(2)
    assert same(slow.store.trained(digest), expected)
    assert backend.order[1] == ("measured", digest)
    assert not promise.done()


def test_what_a_training_waits_for_in_vain_fails_with_it(slow):
    promise = slow.evaluate(job())
    assert slow._backend.own.wait_for(1)
    slow._backend.own.given[slow.digest(job())].set_exception(
        TrainingError("the loss is nan at step 3")
    )
    for _ in range(2):
        with pytest.raises(TrainingError, match="the loss is nan at step 3"):
            promise.result(PATIENCE)
    assert [kind for kind, _ in slow._backend.own.order] == ["training"]


def test_an_executor_of_ones_own_gives_the_bits_of_those_that_ship(tmp_path):
    """It stands in one file outside of the package, and keeps what it does in a folder of its
    own.
    """
    expected = run_job(job(), TASK)
    name, options = "tests.outside.executor:Elsewhere", {"folder": str(tmp_path / "away")}
    own = Pool(
        TASK,
        tmp_path / "here",
        workers=1,
        make_task=make_task,
        executor=name,
        options=options,
    )
    with own:
        trained, measured = own.evaluate(job()).result(PATIENCE)
    assert same(trained, expected)
    assert measured.test.loss == measure(job(), expected, TASK).test.loss
    assert list((tmp_path / "away").rglob("*.measured*"))


def test_threads_train_one_network_at_a_time(tmp_path):
    with pytest.raises(
        ConfigError, match=r"executor threads trains one network at a time.*workers is 2: take"
    ):
        Pool(TASK, tmp_path, workers=2, make_task=make_task, executor="threads")


def test_an_executor_that_there_is_not_is_told_with_those_there_are(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"no 'procesess' in tombola.executors; it has: .*Did you mean 'processes'",
    ):
        Pool(TASK, tmp_path, workers=2, make_task=make_task, executor="procesess")
    with pytest.raises(ConfigError, match="'threads' has no option 'address'; it has none"):
        Pool(TASK, tmp_path, workers=1, make_task=make_task, options={"address": "auto"})


def test_serial_does_not_train_lths_evaluation_of_a_ticket_again(trainings):
    run_all = serial(TASK)
    tickets = run_all([job()])
    for found in find(job(), [WHOLE], [0.3] * 3, run_all=run_all):
        assert found.trained[0] is tickets[-1]
        tickets += run_all([found.job])
    assert len(trainings) == 4  # the dense network and three tickets
    assert set(trainings.values()) == {1}


def test_serial_keeps_the_order_and_trains_equal_jobs_once(trainings):
    results = serial(TASK)([job(seed=1), job(), job(seed=1)])
    assert results[0] is results[2]
    assert same(results[1], run_job(job(), TASK))
    assert sorted(trainings.values()) == [1, 1]
    assert serial(TASK)([]) == []


def test_serial_knows_jobs_by_their_contents(trainings):
    run_all = serial(TASK)
    run_all([job()])
    run_all([replace(job(), training=Training(epochs=2, batch_size=16, lr=0.1, momentum=0.8))])
    assert len(trainings) == 2


def test_results_of_many_jobs_are_read_one_at_a_time(one, monkeypatch):
    jobs = [job(seed=seed) for seed in range(3)]
    alive = weakref.WeakSet()
    honest = Store.read

    def watching(store, kind, digest):
        result = honest(store, kind, digest)
        alive.add(result)
        most.append(len(alive))
        return result

    most = []
    one.run_all(jobs)  # what trains them is done with them
    gc.collect()
    monkeypatch.setattr(Store, "read", watching)
    results = one.run_all(jobs)
    assert most == []
    for index, each in enumerate(jobs):
        assert same(results[index], run_job(each, TASK))
    assert max(most) == 1
    assert same(results[-1], results[2])
    assert [len(results), len(results[:2])] == [3, 2]
