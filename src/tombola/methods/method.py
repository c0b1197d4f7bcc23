"""Method: what an arm does, as a frozen dataclass whose fields are its options.

    recipe -> [ method ] -> rounds -> tickets -> records

A file of this folder holds one method: its options, its cards, and what it does differently from
the methods that it derives from. Everything that the rest of tombola needs to know about an arm
is asked here, so no other module knows a method by its name. Options and cards are read without
torch, which is imported only where a method runs.
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
from tombola.ground.plain import LATER, plain
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

# The entries that every arm wrote out, with their defaults, before each method had its own options.
# Digests, tickets and recipes of that time contain them, so the methods of that time still write
# them out.
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
# The names that some of them had then. YAML 1.1 reads a bare `on` as true.
OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {"source": "of", "split_by": "by", "train_on": "on"}
)


@dataclass(frozen=True)
class Reach:
    """A density to reach in a number of rounds; one round is one-shot pruning.

    Attributes:
        density: The fraction of the prunable weights that remains.
        rounds: The number of rounds.
    """

    density: float
    rounds: int


@dataclass(frozen=True)
class Match:
    """Another arm whose number of kept weights is matched after every round.

    Attributes:
        arm: The other arm's name.
        per: ``group``: as many weights in each group of that arm's scope. ``layer``: as many in
            every layer, so that the arms differ only in which weights of a layer they keep.
    """

    arm: str = field(metadata={"short": True})
    per: Literal["group", "layer"] = "group"


@dataclass(frozen=True, kw_only=True)
class Method:
    """What an arm does.

    Attributes:
        evaluate_at: Evaluate only the rounds on either side of these densities; ``[]``: every
            round. The recipe's if not given. Not for ``dense``.
        evaluate: Whether tickets are tested ``trained``, or ``untrained``, as they were found.
            Untrained networks with batch norm get new statistics, from 10,000 training examples.
    """

    evaluate_at: tuple[float, ...] | None = None
    evaluate: Literal["trained", "untrained"] = field(default="trained", metadata=LATER)

    # What the method is, for readers: one card for each use that has its own name.
    cards: ClassVar[tuple[Card, ...]] = ()
    # Whether it scores and prunes; other methods only train, or take tickets from another arm.
    searches: ClassVar[bool] = True
    # Whether its rounds yield tickets; otherwise they yield networks, evaluated beside the dense
    # one.
    has_tickets: ClassVar[bool] = True
    # Whether it is a control, which a winning ticket must beat.
    control: ClassVar[bool] = False
    # Whether each ticket is found independently of earlier rounds (`by_itself` in a record).
    independent_tickets: ClassVar[bool] = False
    # Why a ticket need not be a subset of the one before; empty where it always is.
    not_nested: ClassVar[str] = ""
    # Whether its results are the networks as they were pruned and trained, rather than tickets that
    # are trained again.
    network: ClassVar[bool] = False
    # Whether its searches leave networks that are results themselves, see `as_trained`.
    leaves_networks: ClassVar[bool] = False
    # Whether the report compares it with the arm that it follows.
    compared: ClassVar[bool] = True
    # Whether it starts from new initial weights, which are drawn before any arm begins.
    draws_anew: ClassVar[bool] = False
    # Whether it needs the trained weights of its source's evaluations until its own are recorded.
    retrains: ClassVar[bool] = False
    # Where its tickets start: at the rewind point that all arms of the replicate share, where its
    # source's tickets start (the default of a control), or at its own states.
    starts: ClassVar[Literal["shared", "source", "own"]] = "shared"
    # Whether it writes out the entries that all arms once had in common.
    written_out: ClassVar[bool] = False
    # The former names of its options, by their current names. Recipes may still use them, and they
    # stay in digests.
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @property
    def method(self) -> str:
        """Its name in a recipe: its file's name, or ``package.module:Name`` if user-defined."""
        return name_of(type(self))

    @property
    def followed(self) -> tuple[str, str] | None:
        """The entry that names the arm it follows, and that arm; ``None`` if it follows none."""
        return None

    @property
    def source(self) -> str | None:
        """The arm that it follows, if any."""
        return None if self.followed is None else self.followed[1]

    @property
    def paced_by(self) -> tuple[str, str] | None:
        """The entry that names a second arm, whose costs it reads, and that arm; usually none."""
        return None

    @property
    def follows(self) -> tuple[tuple[str, str], ...]:
        """All arms that it reads the rounds of, each behind the entry that names it."""
        return tuple(entry for entry in (self.followed, self.paced_by) if entry is not None)

    @property
    def rewinds(self) -> bool:
        """Whether its tickets start from the rewind point that all arms of the replicate share."""
        return self.starts == "shared"

    @property
    def width(self) -> int:
        """Number of candidates in a round."""
        return 1

    @property
    def independent_partitions(self) -> bool:
        """Whether partitions search independently, each continuing from its last candidate."""
        return False

    @property
    def endless(self) -> bool:
        """Whether its search never ends by itself, so the recipe must say when it stops."""
        return False

    @property
    def varies(self) -> bool:
        """Whether the agreement of partitions decides how many weights it keeps."""
        return self.endless and self.width > 1

    @property
    def own_code(self) -> set[str]:
        """The user-defined functions and classes that it names."""
        return {self.method} if catalogue.is_own(self.method) else set()

    @property
    def lifts(self) -> str:
        """What it does that only the profile of the authors' code may do, in words; else empty."""
        return ""

    @property
    def goals(self) -> Mapping[str, tuple[float, ...]]:
        """The densities that it is asked to reach, by the entry that asks."""
        return {}

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        """Find tickets, one per round, continuing after those that were already found.

        The caller stops asking when the recipe's ``until`` is reached. A generator may return the
        reason why it ended.

        Args:
            setting: What it works with.
            done: The tickets of the rounds that are already done.
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

    def resumed(self, setting: Setting, ticket: Ticket) -> Job:
        """Return a ticket of an earlier round as the training that it was."""
        return setting.after(ticket, self.onward(setting))

    def line(self, setting: Setting, index: int, job: Job) -> tuple[Job, Job] | None:
        """Return two trainings; networks on the line between their ends are tested.

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
        """Return how its search trains; evaluations never differ between arms."""
        return training

    def weights_scored(self, training: Training) -> tuple[str, ...]:
        """Name which weights of its trainings it scores, such as "last", if any."""
        return ()

    def onward(self, ground: Ground) -> Training:
        """Return how a ticket is trained: as in all arms, unless the search does not rewind."""
        return ground.training

    def lowest(self, rounds: int | None, density: float | None, begins: float) -> float:
        """Return the lowest density that its rounds can reach, by arithmetic alone.

        Args:
            rounds: The number of rounds after which the recipe stops a search, if it says so.
            density: The density at or below which the recipe stops a search, if it says so.
            begins: The density of round 0.
        """
        return 0.0

    def remarks(self, ground: Ground) -> str:
        """Say what of the problem it leaves as it is, in one line; empty where there is nothing."""
        return ""

    def check_ground(self, ground: Ground) -> None:
        """Refuse what does not fit the problem, before anything runs; called once, for replicate 0.

        Raises:
            ConfigError: The first thing that is wrong; the caller names the arm.
        """

    def check_replicate(self, ground: Ground) -> None:
        """Refuse what does not fit a replicate: how its data are divided, and how long parts train.

        Raises:
            ConfigError: The first thing that is wrong; the caller names the arm.
        """

    def check(self, where: str) -> None:
        """Refuse options that are invalid for any problem.

        Args:
            where: What the arm is called in messages, ``arms.NAME``.

        Raises:
            ConfigError: The first thing that is wrong, with the value seen and what would be right.
        """
        if self.evaluate == "untrained" and (self.network or not self.has_tickets):
            raise ConfigError(
                f"{where}.evaluate is untrained, and method: {self.method} leaves no tickets but "
                "trained networks"
            )
        if not falling(self.evaluate_at or ()):
            raise ConfigError(
                f"{where}.evaluate_at is {shown(list(self.evaluate_at or ()))}; densities must "
                "decrease and lie between 0 and 1"
            )

    def check_source(self, where: str, source: Method) -> None:
        """Refuse to follow an arm that does not fit this method.

        Args:
            where: The entry that names it, such as ``arms.NAME.source``.
            source: That arm.

        Raises:
            ConfigError: It does not fit.
        """

    def followers(self) -> str:
        """Say why no arm can follow this one; empty where one can."""
        return ""

    def with_common(self, densities: tuple[float, ...], evaluate_at: tuple[float, ...]) -> Method:
        """Return the method with the recipe's entries for all arms, where it has none itself."""
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
        """List the names of its options, without those that all arms share."""
        common = {field.name for field in dataclasses.fields(Method)}
        options = [field.name for field in dataclasses.fields(cls) if field.name not in common]
        order = list(WRITTEN_OUT)
        return sorted(options, key=lambda name: order.index(name) if name in order else len(order))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as written in a resolved recipe."""
        options: dict[str, Any] = {"method": self.method} | plain(self)
        if not self.written_out:
            return options
        defaults = dict(WRITTEN_OUT)
        defaults["training"] = {}
        return defaults | options

    def definition(self) -> dict[str, Any]:
        """Return what determines its tickets, as plain data; `evaluate_at` does not.

        Digests are computed from it, so options keep their first names here.
        """
        old_names = OLD_NAMES if self.written_out else self.old_names
        definition = {old_names.get(name, name): value for name, value in self.to_dict().items()}
        del definition["evaluate_at"]
        # Arms that are older than this entry keep their digests.
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
    """Whether densities are between 0 and 1, and each is below the one before.

    >>> falling((0.5, 0.2)), falling((0.5, 0.5)), falling((1.0,))
    (True, False, False)
    """
    inside = all(0 < density < 1 for density in densities)
    return inside and all(earlier > later for earlier, later in pairwise(densities))
