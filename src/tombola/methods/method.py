"""Method: what an arm does, as a frozen dataclass whose fields are its options.

    recipe -> [ method ] -> rounds -> tickets -> records

A file of this folder holds one method: its options, its cards, and what it does differently from
the methods that it derives from. Everything that the rest of tombola asks about an arm is asked
here, so nothing else needs to know a method by its name. Options and cards are read without torch:
what runs is imported where it runs.
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

# What every arm wrote out before each method had options of its own, with the defaults. Digests,
# tickets and recipes of those days have it, so the methods of those days go on writing it out.
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
# The names that some of them had in those days. YAML 1.1 reads a bare `on` as true.
OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {"source": "of", "split_by": "by", "train_on": "on"}
)


@dataclass(frozen=True)
class Reach:
    """A density to reach in a number of rounds; one round is one-shot pruning.

    Attributes:
        density: The fraction of the prunable weights that is left.
        rounds: In how many rounds.
    """

    density: float
    rounds: int


@dataclass(frozen=True)
class Match:
    """Another arm whose kept weights are counted after every round.

    Attributes:
        arm: The other arm's name.
        per: ``group``: as many weights in each group of that arm's scope. ``layer``: as many in
            every layer, which separates *how many where* from *which*.
    """

    arm: str = field(metadata={"short": True})
    per: Literal["group", "layer"] = "group"


@dataclass(frozen=True, kw_only=True)
class Method:
    """What an arm does.

    Attributes:
        evaluate_at: Evaluate only the rounds on both sides of these densities; ``[]``: every round.
            The recipe's if not given. Not for ``dense``.
    """

    evaluate_at: tuple[float, ...] | None = None

    # What the method is, for readers: one card for each use that has a name of its own.
    cards: ClassVar[tuple[Card, ...]] = ()
    # Whether it scores and prunes; the others only train, or take their tickets from another arm.
    searches: ClassVar[bool] = True
    # Whether its rounds leave tickets; without them they leave networks, evaluated beside the dense
    # one.
    has_tickets: ClassVar[bool] = True
    # Whether it is a control, which a winning ticket must beat.
    control: ClassVar[bool] = False
    # Whether each of its tickets is independent of the rounds before.
    by_itself: ClassVar[bool] = False
    # Why a ticket need not lie within the one before; empty where each does.
    not_nested: ClassVar[str] = ""
    # Whether its results are networks as they were trained and pruned, not tickets that are trained
    # again.
    network: ClassVar[bool] = False
    # Whether the report compares it with the arm that it follows.
    compared: ClassVar[bool] = True
    # Whether it starts from new initial weights, which are drawn before any arm begins.
    draws_anew: ClassVar[bool] = False
    # Whether it needs the trained weights of its source's evaluations until its own are recorded.
    retrains: ClassVar[bool] = False
    # Where its tickets start: at the rewind point that all arms of the replicate share, where its
    # source's tickets do (the default of a control), or at states of its own.
    starts: ClassVar[Literal["shared", "source", "own"]] = "shared"
    # Whether it writes out the entries that all arms once had in common.
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
        """The entry that names the arm which it follows, and that arm; ``None`` without one."""
        return None

    @property
    def source(self) -> str | None:
        """The arm that it follows, if any."""
        return None if self.followed is None else self.followed[1]

    @property
    def rewinds(self) -> bool:
        """Whether its tickets start from the rewind point that all arms of the replicate share."""
        return self.starts == "shared"

    @property
    def width(self) -> int:
        """Number of candidates in a round."""
        return 1

    @property
    def apart(self) -> bool:
        """Whether partitions search independently: a round needs the candidates of the last one."""
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
        """What it does, in words, that only the profile of the authors' code may do; else empty."""
        return ""

    @property
    def goals(self) -> Mapping[str, tuple[float, ...]]:
        """The densities that it is asked for, by the entry that asks."""
        return {}

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        """Find tickets, one a round, continuing after those that were found before.

        The caller stops asking when the recipe's ``until`` is reached. A generator may return, as
        its value, why it ended.

        Args:
            setting: What it works with.
            done: The tickets of the first rounds, which are not found again.
        """
        raise NotImplementedError(f"{self.method} has no rounds")

    def evaluation(self, setting: Setting, index: int, job: Job) -> Job:
        """Return the training that evaluates a ticket.

        Args:
            setting: What it works with.
            index: The round.
            job: The ticket.
        """
        return job

    def line(self, setting: Setting, index: int, job: Job) -> tuple[Job, Job] | None:
        """Return two trainings between whose ends networks are tested; ``None`` for no such test.

        Args:
            setting: What it works with.
            index: The round; 0 is the dense network.
            job: The ticket.
        """
        return None

    def trained_on(self, ground: Ground) -> list[Partition]:
        """Return what the model of each candidate is trained on."""
        return [ground.searched]

    def own_scope(self, task: Task) -> Scope | None:
        """Return which weights compete; ``None`` takes the scope of the arm that it follows."""
        from tombola.masks.scopes import whole_model

        return None if self.source else whole_model

    def searching(self, training: Training) -> Training:
        """Return how the trainings of its search run; evaluations never differ between arms."""
        return training

    def weights_scored(self, training: Training) -> tuple[str, ...]:
        """Name the weights of its trainings that it scores, such as "last", if any."""
        return ()

    def onward(self, ground: Ground) -> Training:
        """Return how a ticket is trained: as in all arms, unless the search does not rewind."""
        return ground.training

    def lowest(self, rounds: int | None, density: float | None, begins: float) -> float:
        """Return the lowest density that its rounds can come to, by arithmetic alone.

        Args:
            rounds: After how many the recipe ends a search; ``None`` where it does not say.
            density: In the first round at or below which it ends one, likewise.
            begins: The density of round 0.
        """
        return 0.0

    def check_ground(self, ground: Ground) -> None:
        """Refuse what does not fit the problem, before anything runs; called once, for replicate 0.

        Raises:
            ConfigError: The first thing that is wrong; the caller names the arm.
        """

    def check_replicate(self, ground: Ground) -> None:
        """Refuse what does not fit a replicate: how its data are divided, and how long that trains.

        Raises:
            ConfigError: The first thing that is wrong; the caller names the arm.
        """

    def check(self, where: str) -> None:
        """Refuse options that have no meaning, whatever the problem is.

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
        """Refuse to follow an arm that does not fit the method.

        Args:
            where: The entry that names it, such as ``arms.NAME.source``.
            source: That arm.

        Raises:
            ConfigError: It does not.
        """

    def followers(self) -> str:
        """Say why no arm can follow this one; empty where one can."""
        return ""

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:
        """Return the method with what the recipe says for all arms and it does not say itself."""
        return self if self.evaluate_at is not None else replace(self, evaluate_at=evaluate_at)

    @classmethod
    def of_profile(cls, entry: str, value: Any, given: Mapping[str, Any]) -> Any:
        """Return the value of a profile's entry for an arm; ``None`` where it does not apply.

        Args:
            entry: The entry, such as "split_by".
            value: What the profile says.
            given: The arm, as the recipe writes it.
        """
        return None

    @classmethod
    def options(cls) -> list[str]:
        """List the names of its options, without those that every arm has."""
        common = {field.name for field in dataclasses.fields(Method)}
        options = [field.name for field in dataclasses.fields(cls) if field.name not in common]
        order = list(WRITTEN_OUT)
        return sorted(options, key=lambda name: order.index(name) if name in order else len(order))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as it is written in a resolved recipe."""
        options = {"method": self.method} | dataclasses.asdict(self)
        if not self.written_out:
            return options
        defaults = dict(WRITTEN_OUT)
        defaults["training"] = {}
        return defaults | options

    def definition(self) -> dict[str, Any]:
        """Return what decides its tickets, as plain data; which of them are evaluated does not.

        Digests are made of it, so options keep the names here that they had first.
        """
        old_names = OLD_NAMES if self.written_out else self.old_names
        definition = {old_names.get(name, name): value for name, value in self.to_dict().items()}
        del definition["evaluate_at"]
        # Arms that are older than the entry keep their digests.
        if self.written_out and definition["pace"] is None:
            del definition["pace"]
        return definition


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
    inside = all(0 < density < 1 for density in densities)
    return inside and all(earlier > later for earlier, later in pairwise(densities))
