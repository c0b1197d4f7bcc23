"""Train one job after the other, here and now."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tombola.tasks.protocol import Task
from tombola.training.jobs import Job, Trained, run_job
from tombola.training.loop import Step, train


def serial(
    task: Task, *, loop: Callable[..., Iterator[Step]] = train
) -> Callable[[list[Job]], list[Trained]]:
    """Make the executor that trains in the caller's thread, one job after the other.

    Give it to `find` as ``run_all``. It has the last results at hand, so LTH's evaluation of a
    ticket is not trained again in the next round. A training loop of your own, with the parameters
    of `train`, goes in as ``loop``.

    >>> from tombola import Classification, Job, Training, ones, split
    >>> from tombola.data import synthetic
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    >>> task = Classification(model, split(synthetic()), head="1")
    >>> job = Job(task.initial_state(), ones(model, "all"), Training(lr=0.01, epochs=1), seed=0)
    >>> [trained.samples for trained in serial(task)([job])]
    [900]
    """
    latest: dict[str, Trained] = {}

    def run_all(jobs: list[Job]) -> list[Trained]:
        digests = [job.digest(task.digest) for job in jobs]
        known = {digest: latest[digest] for digest in digests if digest in latest}
        # Before others are made: each is as large as the model.
        latest.clear()
        for digest, job in zip(digests, jobs, strict=True):
            if digest not in known:
                known[digest] = run_job(job, task, loop=loop)
        latest.update(known)
        return [known[digest] for digest in digests]

    return run_all
