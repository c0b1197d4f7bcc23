"""Method: what an arm does, as a frozen dataclass whose fields are its options.

    recipe -> [ method ] -> rounds -> tickets -> records

A file of this folder holds one method: its options, its cards, and what it does otherwise than the
methods that it derives from. All that anybody else asks about an arm is asked here, so nobody needs
to know a method by its name. Options and cards are read without torch: what runs is imported where
it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, shown
from tombola.methods.cards import Card

if TYPE_CHECKING:
    from tombola.data.partitions import Partition
    from tombola.ground.settings import Training
    from tombola.masks.scopes import Scope
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tasks.protocol import Task
    from tombola.tickets import Ticket
    from tombola.training.jobs import Job

MOST_ROUNDS = 10_000

# What every arm wrote out before each method had options of its own, with its value where nobody
# gave another one. It stands in the digests, tickets and recipes of those days, so the methods of
# those days go on writing it out.
WRITTEN_OUT: Mapping[str, Any] = MappingProxyType(
    {
        "method": None,
        "match": None,
        "source": None,
        "as_long_as": None,
        "partitions": None,
        "split_by": "classes",
        "head": "own",
        "remainder": "kept",
        "train_on": (),
        "combine": "all",
        "rate": None,
        "reach": None,
        "densities": (),
        "pace": None,
        "exact": False,
        "scope": "whole_model",
        "score": "magnitude",
        "scored": "selected",
        "lr": "last",
        "shuffle": "both",
        "training": MappingProxyType({}),
        "evaluate_at": None,
        "allow_collapse": False,
    }
)
# What these of them were called in those days. YAML 1.1 reads a bare `on` as true.
OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {"source": "of", "split_by": "by", "train_on": "on"}
)


@dataclass(frozen=True)
class Reach:
    """A density to reach in a number of rounds; one round is one-shot pruning."""

    density: float
    rounds: int


@dataclass(frozen=True)
class Match:
    """Another arm whose kept weights are counted after every round.

    Attributes:
        arm: Its name.
        per: "group": as many in each group of that arm's scope; "layer": as many in every layer,
            which tells *how many where* from *which*.
    """

    arm: str = field(metadata={"short": True})
    per: Literal["group", "layer"] = "group"


@dataclass(frozen=True, kw_only=True)
class Method:
    """What an arm does.

    Attributes:
        evaluate_at: Evaluate only the rounds on both sides of these densities, of none (``[]``)
            every round; the recipe's if not given.
    """

    evaluate_at: tuple[float, ...] | None = None

    # What the method is for readers; one card for each use that has a name of its own.
    cards: ClassVar[tuple[Card, ...]] = ()
    # Whether it scores and prunes; the others only train, or take their tickets from another arm.
    searches: ClassVar[bool] = True
    # Whether its rounds leave tickets; of a method without them they are networks, evaluated beside
    # the dense one.
    has_tickets: ClassVar[bool] = True
    # Whether it is a control, which a ticket that was found must beat to mean anything.
    control: ClassVar[bool] = False
    # Whether each of its tickets needs nothing of the rounds before.
    by_itself: ClassVar[bool] = False
    # Why a ticket need not lie within the one before; nothing where each does.
    not_nested: ClassVar[str] = ""
    # Whether its results are networks as they were trained and pruned, not tickets that are trained
    # again.
    network: ClassVar[bool] = False
    # Whether the report compares it with the arm that it follows.
    compared: ClassVar[bool] = True
    # Whether it starts from initial weights that are drawn anew: all are drawn before any arm
    # begins.
    draws_anew: ClassVar[bool] = False
    # Whether it needs what the evaluations of the tickets give that it takes, until its own are
    # written down.
    retrains: ClassVar[bool] = False
    # Where its tickets start: at the rewind point that the whole replicate shares, where those do
    # that it takes, or at states of its own. A control that says nothing starts where its source's
    # tickets do.
    starts: ClassVar[Literal["shared", "source", "own"]] = "shared"
    # Whether it writes out the entries that every arm had in common once.
    written_out: ClassVar[bool] = False
    # The former names of its options, by the names of today. Recipes may still use them, and they
    # stay in digests.
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @property
    def method(self) -> str:
        """Its name in a recipe: that of its file, or ``package.module:Name`` of the user's own."""
        return name_of(type(self))

    @property
    def followed(self) -> tuple[str, str] | None:
        """The entry that names the arm which it follows, and that arm; ``None`` where it stands
        by itself.
        """
        return None

    @property
    def source(self) -> str | None:
        """The arm that it follows, if any."""
        return None if self.followed is None else self.followed[1]

    @property
    def rewinds(self) -> bool:
        """Whether its tickets start from the rewind point that the whole replicate shares."""
        return self.starts == "shared"

    @property
    def width(self) -> int:
        """Number of candidates in a round."""
        return 1

    @property
    def apart(self) -> bool:
        """Whether each partition searches by itself, so that a round needs the candidates of
        the round before.
        """
        return False

    @property
    def endless(self) -> bool:
        """Whether its search has no end of its own, so that the recipe must say when it stops."""
        return False

    @property
    def varies(self) -> bool:
        """Whether what partitions agree on decides how many weights it keeps."""
        return self.endless and self.width > 1

    @property
    def own_code(self) -> set[str]:
        """The functions and classes of the user's own that it names."""
        return {self.method} if catalogue.is_own(self.method) else set()

    @property
    def lifts(self) -> str:
        """What it does that only the profile of the authors' code may do, in words; nothing
        where there is none.
        """
        return ""

    @property
    def goals(self) -> Mapping[str, tuple[float, ...]]:
        """The densities that it is asked for, by the entry that asks."""
        return {}

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        """Find tickets, one a round, going on after those that were found before.

        The caller asks no more when the recipe's ``until`` is reached. A generator may return, as
        its value, why it ended; nothing where there is nothing to say.

        Args:
            setting: What it works with.
            done: The tickets of the first rounds, which are not found again.
        """
        raise NotImplementedError(f"{self.method} has no rounds")

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:  # noqa: ARG002
        """Return the training that evaluates a ticket.

        Args:
            setting: What it works with.
            index: The round.
            job: The ticket.
        """
        return job

    def line(self, setting: Setting, index: int, job: Job) -> tuple[Job, Job] | None:  # noqa: ARG002
        """Return two trainings between which networks are tested, beside the evaluation; ``None``
        for no such thing.

        Args:
            setting: What it works with.
            index: The round; 0 is the dense network.
            job: The ticket.
        """
        return None

    def trained_on(self, ground: Ground) -> list[Partition]:
        """Return what the model of each candidate is trained on."""
        return [ground.searched]

    def own_scope(self, task: Task) -> Scope | None:  # noqa: ARG002
        """Return which weights compete; ``None`` leaves it to the arm that it follows."""
        from tombola.masks.scopes import whole_model

        return None if self.source else whole_model

    def searching(self, training: Training) -> Training:
        """Return how the trainings of its search run; evaluations never differ between arms."""
        return training

    def weights_scored(self, training: Training) -> tuple[str, ...]:  # noqa: ARG002
        """Say which weights of its trainings it scores, by everybody's training; nothing where
        it scores none.
        """
        return ()

    def onward(self, ground: Ground) -> Training:
        """Return how a ticket is trained by itself: as everybody's, unless the search does not
        rewind.
        """
        return ground.training

    def lowest(self, rounds: int | None, density: float | None, begins: float) -> float:  # noqa: ARG002
        """Return the lowest density that its rounds can come to, by arithmetic alone.

        Args:
            rounds: After how many the recipe ends a search; ``None`` where it does not say.
            density: In the first round at or below which it ends one, likewise.
            begins: The density of round 0.
        """
        return 0.0

    def check_ground(self, ground: Ground) -> None:
        """Refuse what does not go with the problem, before anything runs; asked once, of replicate
        0.

        Raises:
            ConfigError: The first thing that is wrong; the caller names the arm.
        """

    def check_replicate(self, ground: Ground) -> None:
        """Refuse what does not go with a replicate: how its data are divided, and how long that
        trains.

        Raises:
            ConfigError: The first thing that is wrong; the caller names the arm.
        """

    def check(self, where: str) -> None:
        """Refuse options that have no meaning, by themselves.

        Args:
            where: What the arm is called in messages, ``arms.NAME``.

        Raises:
            ConfigError: The first thing that is wrong, with the value seen and what would be right.
        """
        if not falling(self.evaluate_at or ()):
            raise ConfigError(
                f"{where}.evaluate_at is {shown(list(self.evaluate_at or ()))}; densities fall, "
                "from below 1 to above 0"
            )

    def check_source(self, where: str, source: Method) -> None:
        """Refuse an arm to follow that does not go with the method.

        Args:
            where: The entry that names it, such as ``arms.NAME.source``.
            source: That arm.

        Raises:
            ConfigError: It does not.
        """

    def followers(self) -> str:
        """Say why no arm can follow this one; an empty text where one can."""
        return ""

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:  # noqa: ARG002
        """Return the method with what its recipe says for all arms that do not say it
        themselves.
        """
        return self if self.evaluate_at is not None else replace(self, evaluate_at=evaluate_at)

    @classmethod
    def of_profile(cls, entry: str, value: Any, given: Mapping[str, Any]) -> Any:  # noqa: ARG003
        """Return what a profile's entry is to an arm that has it; ``None`` where it does not
        concern it.

        Args:
            entry: The entry, such as "split_by".
            value: What the profile says.
            given: The arm, as the recipe writes it.
        """
        return None

    @classmethod
    def options(cls) -> list[str]:
        """List the names of its options, those that every arm has left out."""
        common = {field.name for field in dataclasses.fields(Method)}
        own = [field.name for field in dataclasses.fields(cls) if field.name not in common]
        order = list(WRITTEN_OUT)
        return sorted(own, key=lambda name: order.index(name) if name in order else len(order))

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, as it stands in a resolved recipe."""
        own = {"method": self.method} | dataclasses.asdict(self)
        if not self.written_out:
            return own
        of_before = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in WRITTEN_OUT.items()
        }
        return of_before | own

    def definition(self) -> dict[str, Any]:
        """Return what decides its tickets, as plain data; which of them are evaluated does not.

        Digests are made of it, so options keep the names here that they had first.
        """
        old_names = OLD_NAMES if self.written_out else self.old_names
        whole = {old_names.get(name, name): value for name, value in self.plain().items()}
        del whole["evaluate_at"]
        # arms of before there was one stay what they were
        if self.written_out and whole["pace"] is None:
            del whole["pace"]
        return whole


def name_of(kind: type) -> str:
    """Return what a method is called in a recipe.

    >>> name_of(Method)
    'tombola.methods.method:Method'
    """
    package, _, module = kind.__module__.rpartition(".")
    if package == "tombola.methods" and module.startswith("_"):
        return module.removeprefix("_")
    return f"{kind.__module__}:{kind.__qualname__}"


def falling(densities: tuple[float, ...]) -> bool:
    """Whether densities are between 0 and 1, each below the one before.

    >>> falling((0.5, 0.2)), falling((0.5, 0.5)), falling((1.0,))
    (True, False, False)
    """
    return all(0 < d < 1 for d in densities) and all(a > b for a, b in pairwise(densities))
