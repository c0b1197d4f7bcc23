"""Whoever runs the trainings, and in whatever order, each is done once and gives the same bits."""

import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, OrderedDict
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest
import torch
from torch import nn

from tombola import Classification, devices, seeds
from tombola.data.dataset import from_tensors
from tombola.errors import TrainingError
from tombola.executors import Pool, _serial, pool, serial
from tombola.jobs import Job, measure, run_job
from tombola.masks import ones
from tombola.partitions import WHOLE, by_classes, by_seeds
from tombola.search import find
from tombola.settings import Training
from tombola.splits import split

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
    return Classification(model, split(from_tensors(images, labels, images[:12], labels[:12], 4), valid=12))


TASK = make_task()


def note_turn(folder) -> Classification:
    (folder / f"turn-{devices._turn}").touch()
    return make_task()


def job(seed=0, **settings) -> Job:
    settings = {"epochs": 2, "batch_size": 16, "lr": 0.1, "momentum": 0.9} | settings
    return Job(TASK.initial_state(), ones(TASK.model), Training(**settings), seed)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same(one, other):
    """Whether two trainings gave the same bits."""
    return (
        equal(one.final, other.final)
        and equal(one.early, other.early)
        and (one.early_step, one.history, one.samples) == (other.early_step, other.history, other.samples)
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


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A pool of two worker processes, for all tests: they take seconds to start."""
    made = Pool(TASK, tmp_path_factory.mktemp("two"), workers=2, make_task=make_task, progress=Progress())
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

    monkeypatch.setattr(_serial, "run_job", counting)
    monkeypatch.setattr(pool, "run_job", counting)
    return done


def test_one_and_two_workers_and_the_callers_own_thread_give_the_same_bits(one, two):
    parts = [*by_seeds(2), *by_classes(4, 2, seed=0)]
    jobs = [job(epochs=6 - index).on(part, job().mask) for index, part in enumerate(parts)]  # the first is the longest
    here = [run_job(each, TASK) for each in jobs]
    for results in (one.run_all(jobs), two.run_all(jobs), serial(TASK)(jobs)):
        assert all(map(same, results, here))


def test_a_search_on_a_pool_is_the_one_done_in_turn(two):
    parts = by_classes(4, 2, seed=0)
    rounds, expected = (
        list(find(job(), parts, [0.3, 0.3], run_all=run_all)) for run_all in (two.run_all, serial(TASK))
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
    assert two._progress.at(digest, 60, 60)
    assert Counter(two._progress)[digest, 1, 60] == 1


def test_a_pool_over_the_same_folder_finds_what_was_done(one, trainings):
    one.run_all([job()])
    again = Pool(TASK, one.store.folder, workers=1, make_task=make_task)
    again.run_all([job(), job(seed=1)])
    again.close()
    assert trainings == {one.digest(job()): 1, one.digest(job(seed=1)): 1}


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
    assert made._progress.at(digest, 6, 6)
    assert [event for event in made._progress if event[0] == digest] == [(digest, step, 6) for step in (2, 4, 6)]


def test_every_worker_process_has_a_turn_of_its_own(tmp_path):
    """By which it takes one of several GPUs."""
    made = Pool(TASK, tmp_path / "store", workers=2, make_task=functools.partial(note_turn, tmp_path))
    made.close()
    assert sorted(path.name for path in tmp_path.glob("turn-*")) == ["turn-0", "turn-1"]


def test_a_worker_that_is_killed_is_replaced_and_its_job_done_again(two):
    long = job(seed=8, epochs=None, steps=600, evaluate_every=1)
    digest = two.digest(long)
    future = two.evaluate(long)
    assert two._progress.at(digest, 1, 600)
    killed = [process.pid for process in multiprocessing.active_children()]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    trained, _ = future.result(PATIENCE)
    assert two._progress.at(digest, 400, 600)
    assert Counter(two._progress)[digest, 1, 600] == 2
    assert same(trained, run_job(long, TASK))
    assert not {process.pid for process in multiprocessing.active_children()} & set(killed)


class Dies:
    """An executor whose workers never live to tell."""

    submitted = 0

    def __init__(self, *_, **__):
        pass

    def submit(self, what, *_):
        Dies.submitted += what is pool._do
        future = Future()
        future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        return future

    def shutdown(self, **_):
        pass


def test_a_job_that_kills_every_worker_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "ProcessPoolExecutor", Dies)
    made = Pool(TASK, tmp_path, workers=2, make_task=make_task)
    with pytest.raises(TrainingError, match="a worker died or could not start, 3 times over one task"):
        made.run_all([job()])
    assert Dies.submitted == 3
    made.close()


class Poisoned(Dies):
    """An executor whose workers all die of one job, and that ends the others a little later."""

    running: set[Future] = set()  # noqa: RUF012

    def submit(self, what, *task):
        future = Future()
        if what is pool._ready:
            return future
        _, packed, _ = task
        self.running.add(future)
        poison = pickle.loads(packed).seed == 666
        threading.Timer(*((0.02, self._die) if poison else (0.05, self._finish, [future]))).start()
        return future

    def _die(self):
        for future in list(self.running):
            if not future.done():
                future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        self.running.clear()

    def _finish(self, future):
        if not future.done():
            future.set_result(None)


def test_a_job_that_kills_every_worker_does_not_fail_those_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "ProcessPoolExecutor", Poisoned)
    made = Pool(TASK, tmp_path, workers=2, make_task=make_task)
    tasks = {seed: made._once("train", job(seed=seed), str(seed)) for seed in (1, 2, 3, 666)}
    with pytest.raises(TrainingError, match="a worker died"):
        tasks[666].result(PATIENCE)
    for seed in (1, 2, 3):
        assert tasks[seed].result(PATIENCE) is None
    made.close()


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
