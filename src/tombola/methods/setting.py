"""Settings: what an arm of one replicate works with.

plans -> ground -> [ does the method fit it? ] -> setting -> rounds
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
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
        mask: The weights that may be pruned, with which the search begins.
        training: How every training runs, unless a search says otherwise.
        rewind: The step of the dense training that tickets are rewound to.
        replicate: Its number.
        seed: The replicate's seed, which all its arms share.
        device: The kind of device.
        whole: What the dense network and tickets are trained on.
        searched: What the searches divide among their partitions.
        scope: Which weights compete: the method's own scope, or that of the arm it follows.
        source: The method of the arm it follows; ``None`` if it follows none.
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
    """What a round passes on to the arms that follow.

    Attributes:
        job: The ticket: its mask, its start, and the steps that were trained before that.
        samples: Number of training examples that its search used.
    """

    job: Job
    samples: int


@dataclass(frozen=True, eq=False)
class Setting(Ground):
    """What a method works with while it runs.

    Attributes:
        point: The training from the rewind point, on all data that tickets are trained on.
        run_all: Trains jobs and returns their results in order.
        cut: Scores and prunes trained models where the data is, and returns the next mask.
        followed: The rounds of the arm it follows, as they come.
        candidates: Returns the candidates of the last finished round, one per partition.
        drawn_anew: New initial weights, if the method asks for them.
        pace: The rounds of the arm that it is paced by, as they come.
    """

    point: Job
    run_all: Callable[[list[Job]], Sequence[Trained]]
    cut: Callable[[Cut], Pruned]
    followed: Iterator[Found]
    candidates: Callable[[], list[dict[str, Tensor]]]
    drawn_anew: State | None
    pace: Iterator[Found] = field(default_factory=lambda: iter(()))

    @classmethod
    def on(cls, ground: Ground, **running: Any) -> Setting:
        """Return a setting that extends what is known before anything runs."""
        facts: dict[str, Any] = {}
        for known in fields(ground):
            facts[known.name] = getattr(ground, known.name)
        return cls(**facts, **running)

    def ticket(self, mask: Mask, start: State | None = None, first: int | None = None) -> Job:
        """Return the training of a ticket on all data.

        Args:
            mask: The weights that it keeps.
            start: Where it starts; the rewind point if not given.
            first: The number of steps trained before that start.
        """
        job = replace(self.point, mask=mask)
        return job if start is None else replace(job, start=self.shared(start), first=first or 0)

    def shared(self, start: State) -> State:
        """Give all layers that share a weight the one that a start has for it."""
        from tombola.masks import states

        return states.sharing(start, self.task.model, self.mask)

    def after(self, ticket: Ticket, training: Training) -> Job:
        """Return the training that continues from a ticket of an earlier round."""
        from tombola.training.jobs import Job

        first = ticket.origin.get("rewind_step", 0)
        return Job(ticket.rewind_point, dict(ticket.mask), training, self.seed, self.whole, first)
