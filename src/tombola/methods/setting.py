"""Settings: what an arm of a replicate works with.

plans -> ground -> [ may the method stand on it? ] -> setting -> rounds
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.data.partitions import Partition
    from tombola.ground.settings import Training
    from tombola.ground.types import Mask, State
    from tombola.masks.scopes import Scope
    from tombola.methods.method import Method
    from tombola.search.work import Cut, Pruned
    from tombola.tasks.protocol import Task
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job, Trained


@dataclass(frozen=True, eq=False)
class Ground:
    """What is known before anything runs.

    Attributes:
        task: The problem.
        mask: The weights that may be pruned; the search begins with those that it keeps.
        training: How everything is trained, unless a search says otherwise.
        rewind: The step of the dense training that tickets are rewound to.
        replicate: Its number.
        seed: The replicate's, which all its arms share.
        device: The kind of device.
        whole: What the dense network and tickets are trained on.
        searched: What the searches divide among their partitions.
        scope: Which weights compete: the method's own scope, or that of the arm that it follows.
        source: The method of the arm that it follows; ``None`` for one that stands by itself.
    """

    task: Task
    mask: dict[str, Tensor]
    training: Training
    rewind: int
    replicate: int
    seed: int
    device: str
    whole: Partition
    searched: Partition
    scope: Scope
    source: Method | None


@dataclass(frozen=True, eq=False)
class Found:
    """What a round leaves for the arms that follow: the ticket, and the examples that its search
    saw.

    Attributes:
        job: The ticket: its mask, where it starts, and the steps that it has behind it there.
        samples: Training examples.
    """

    job: Job
    samples: int


@dataclass(frozen=True, eq=False)
class Setting(Ground):
    """What a method works with while it runs.

    Attributes:
        point: The training from where tickets start, on all that tickets are trained on.
        run_all: Trains jobs and gives their results in order.
        cut: Cuts what jobs have trained where the data is, and gives the next mask.
        followed: The rounds of the arm that it follows, as they come.
        candidates: Gives the candidates of the last round that was done, where each partition
            stands.
        drawn_anew: Initial weights that are drawn anew, where the method asks for them.
    """

    point: Job
    run_all: Callable[[list[Job]], Sequence[Trained]]
    cut: Callable[[Cut], Pruned]
    followed: Iterator[Found]
    candidates: Callable[[], list[dict[str, Tensor]]]
    drawn_anew: State | None

    @classmethod
    def on(cls, ground: Ground, **running: Any) -> Setting:
        """Return a setting that stands on a ground."""
        known: Mapping[str, Any] = {
            field.name: getattr(ground, field.name) for field in fields(ground)
        }
        return cls(**known, **running)

    def ticket(self, mask: Mask, start: State | None = None, first: int | None = None) -> Job:
        """Return the training of a ticket on all data: from the rewind point, or from another
        start.

        Args:
            mask: What it keeps.
            start: Where it starts.
            first: The steps that it has behind it there.
        """
        job = replace(self.point, mask=mask)
        return job if start is None else replace(job, start=start, first=first or 0)

    def after(self, ticket: Ticket, training: Training) -> Job:
        """Return the training that goes on from a ticket which was found before."""
        from tombola.training.jobs import Job

        first = ticket.origin.get("rewind_step", 0)
        return Job(ticket.rewind_point, dict(ticket.mask), training, self.seed, self.whole, first)
