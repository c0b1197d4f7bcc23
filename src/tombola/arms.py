"""Arms: what an experiment compares, one method or control each, as plain data checked before anything runs.

    recipe -> [ arm ] -> plan -> search or control -> tickets -> records

An arm stands by itself (``lth``, ``colt``, ``one_shot`` ...) or follows another one: it keeps as many weights
(``match``), takes that one's tickets and changes them (``of``), or trains as long (``as_long_as``). `CATALOGUE` lists
every kind of arm with its YAML; ``docs/arms.md`` is the page for readers.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from tombola.checking import check_most
from tombola.errors import ConfigError, near, shown
from tombola.paces import Pace

Method = Literal[
    "dense", "lth", "colt", "one_shot", "gradual", "fine_tune", "lr_rewind", "random_ticket", "shuffled",
    "reinitialised", "as_trained", "reordered",
]  # fmt: skip

_AMOUNTS = ("rate", "reach", "densities", "match")
_SEARCH = (*_AMOUNTS, "exact", "scope", "score", "scored", "allow_collapse")
# Which entries of an arm have a meaning with which method.
METHODS: dict[str, tuple[str, ...]] = {
    "dense": ("as_long_as",),
    "lth": (*_SEARCH, "training"),
    "colt": (*_SEARCH, "training", "partitions", "by", "head", "remainder", "on", "combine"),
    "one_shot": ("densities", "match", "scope", "score", "scored", "allow_collapse", "training"),
    "gradual": ("densities", "pace", "scope", "score", "allow_collapse", "training"),
    "fine_tune": (*_SEARCH, "lr"),
    "lr_rewind": _SEARCH,
    "random_ticket": ("of",),
    "shuffled": ("of", "shuffle"),
    "reinitialised": ("of",),
    "as_trained": ("of",),
    "reordered": ("of",),
}

# Where the tickets of a method start, unless all start at the shared rewind point and those of a
# control where its source's do; see `Arm.starts`.
_STARTS: dict[str, Literal["shared", "own"]] = {
    "fine_tune": "own",
    "lr_rewind": "own",
    "reinitialised": "own",
    "random_ticket": "shared",
    "as_trained": "shared",
}

CONTROLS = ("random_ticket", "shuffled", "reinitialised")  # what a found ticket must beat
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MOST_LETTERS = 100  # of a name that makes a folder: file systems take 255, and files are named after it
MOST_ROUNDS = 10_000
_MOST_ARMS, _LONGEST_CHAIN = 1000, 100
_MOST = {
    "partitions": 1000, "on": 1000, "densities": 1, "evaluate_at": 1, "lr": 1e38, "score": 1,
}  # fmt: skip


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
        per: "group": as many in each group of that arm's scope; "layer": as many in every layer, which tells *how many
            where* from *which*.
    """

    arm: str
    per: Literal["group", "layer"] = "group"


@dataclass(frozen=True)
class Arm:
    """One method or control of an experiment.

    Attributes:
        method: What it does; "lth" if only ``match`` is given.
            Searches: "lth" (iterative magnitude pruning), "colt", "one_shot" (the dense network cut once to each
            density), "gradual" (pruned while it trains, once to each density), "fine_tune" (pruned and trained on
            without reset), "lr_rewind" (trained on without reset, the learning rate begins anew). Controls of another
            arm's tickets: "random_ticket" (as many weights in each layer, drawn), "shuffled", "reinitialised".
            "as_trained" is no ticket: the network that a "gradual" arm pruned and trained on. "reordered" trains the
            tickets of another arm once more, in another order of the data, and tests what lies between. "dense" trains
            only.
        match: Keep exactly as many weights after every round as that arm does.
        of: The arm whose tickets a control takes.
        as_long_as: Of "dense": train as long as that arm's whole search and the evaluation of its last ticket.
        partitions: Number of models of "colt".
        by: What its partitions divide: "classes" at random, "classes_in_order", "examples", or "seeds" (nothing is
            divided; all data, other data orders).
        head: Of class partitions: "own", a head of their size; or "full", labels kept and all outputs.
        remainder: Of classes that do not divide evenly: "kept", or "dropped" as the authors' code does.
        on: Which partition each candidate's model is trained on, from 1; ``[1, 1]`` cuts one model twice.
        combine: What makes the next mask: the weights that "all" candidates keep (COLT), that "any" keeps, or
            "all_at_end": each partition searches by itself, and the finished tickets are intersected.
        rate: Fraction of the kept weights that each partition removes in a round; one, or one per group of the scope.
        reach: Instead, a density to reach in a number of rounds.
        densities: Instead, the density after each round, by exact counts.
        pace: Of "gradual": when weights go.
        exact: With ``reach``: exact counts instead of a rate.
        scope: Which weights compete: "whole_model", "per_layer", "per_kind" or "half_output".
        score: What weights are ranked by: an entry of ``tombola.scores`` or ``package.module:function``; of several,
            one for each candidate.
        scored: Which weights of a training are scored: those it "selected", the "last", or "selected_then_last", the
            selected in round 1 and the last from then on.
        lr: Of "fine_tune": the rate the training ended with ("last"), "decayed" from it to zero, or a number.
        shuffle: Of "shuffled": the "weights" that are kept, the "mask", or "both" together, within each layer.
        training: What is other in the trainings of the search; evaluations never differ between arms.
        evaluate_at: Evaluate only the rounds on both sides of these densities, of none (``[]``) every round; the
            recipe's if not given.
        allow_collapse: Go on when a layer has no weight left.
    """

    method: Method | None = None
    match: Match | None = None
    of: str | None = None
    as_long_as: str | None = None
    partitions: int | None = None
    by: Literal["classes", "classes_in_order", "examples", "seeds"] = "classes"
    head: Literal["own", "full"] = "own"
    remainder: Literal["kept", "dropped"] = "kept"
    on: tuple[int, ...] = ()
    combine: Literal["all", "any", "all_at_end"] = "all"
    rate: float | dict[str, float] | None = None
    reach: Reach | None = None
    densities: tuple[float, ...] = ()
    pace: Pace | None = None
    exact: bool = False
    scope: Literal["whole_model", "per_layer", "per_kind", "half_output"] = "whole_model"
    score: str | tuple[str, ...] = "magnitude"
    scored: Literal["selected", "last", "selected_then_last"] = "selected"
    lr: Literal["last", "decayed"] | float = "last"
    shuffle: Literal["both", "weights", "mask"] = "both"
    training: dict[str, Any] = field(default_factory=dict)
    evaluate_at: tuple[float, ...] | None = None
    allow_collapse: bool = False

    def __post_init__(self) -> None:
        if self.method is None and self.match is not None:
            object.__setattr__(self, "method", "lth")

    @property
    def width(self) -> int:
        """Number of candidates in a round, 1 for all methods but "colt"."""
        return len(self.on) or (self.partitions or 2) if self.method == "colt" else 1

    @property
    def divides(self) -> bool:
        """Whether its partitions share the data out, so that together they see all of it once."""
        return self.method == "colt" and self.by != "seeds"

    @property
    def searches(self) -> bool:
        """Whether the arm scores and prunes; the others only train, or take their tickets from another arm."""
        return "score" in METHODS.get(self.method or "", ())

    @property
    def by_itself(self) -> bool:
        """Whether each of its tickets needs nothing of the rounds before."""
        return self.method in ("gradual", "as_trained")

    @property
    def starts(self) -> Literal["shared", "source", "own"]:
        """Where its tickets start.

        "shared": at the rewind point of the replicate; "source": where the tickets that it takes do;
        "own": at states of its own. A control that says nothing starts where its source's tickets do.
        """
        if self.method in _STARTS:
            return _STARTS[self.method]
        return "source" if self.of else "shared"

    @property
    def rewinds(self) -> bool:
        """Whether its tickets start from the rewind point that the whole replicate shares."""
        return self.starts == "shared"

    @property
    def source(self) -> str | None:
        """The arm that it follows, if any."""
        return self.match.arm if self.match else self.of or self.as_long_as

    def definition(self) -> dict[str, Any]:
        """Return what decides the arm's tickets, as plain data; which of them are evaluated does not."""
        whole = dataclasses.asdict(self)
        del whole["evaluate_at"]
        if self.pace is None:  # arms of before there was one stay what they were
            del whole["pace"]
        return whole


def check(arms: Mapping[str, Arm]) -> None:
    """Refuse arms that have no meaning, alone or together.

    Raises:
        ConfigError: The first thing that is wrong, with the value seen and what would be right.

    >>> check({"lth": Arm("lth", rate=0.2), "control": Arm("random_ticket", of="lth")})
    >>> check({"control": Arm("random_ticket", of="lht"), "lth": Arm("lth", rate=0.2)})
    Traceback (most recent call last):
    tombola.errors.ConfigError: arms.control.of is 'lht'; the other arms are: lth. Did you mean 'lth'?
    """
    if len(arms) > _MOST_ARMS:
        raise ConfigError(f"the recipe has {len(arms):,} arms; it may have at most {_MOST_ARMS:,}")
    for name, arm in arms.items():
        check_name(name, "an arm's name", "its folder")
        check_most(arm, _MOST, f"arms.{name}")
        _check_entries(name, arm)
        _check_source(name, arm, arms)
        if arm.searches:
            _check_amounts(f"arms.{name}", arm)
        if arm.method == "colt":
            _check_partitions(f"arms.{name}", arm)
    order(arms)


def check_name(name: str, what: str, makes: str) -> None:
    """Refuse a name that cannot be a folder's.

    Args:
        name: The name.
        what: What it is called in the message.
        makes: What is named after it.

    Raises:
        ConfigError: It has other characters than a folder's name may have, or too many.

    >>> check_name("lth", "an arm's name", "its folder")
    """
    if not FOLDER_NAME.fullmatch(name):
        raise ConfigError(f"{what} is {shown(name)}; letters, digits, '.', '_' and '-' make {makes}")
    if len(name) > MOST_LETTERS:
        raise ConfigError(f"{what} is {shown(name)}, of {len(name)} letters; {makes} is named by at most "
                          f"{MOST_LETTERS}")  # fmt: skip


def order(arms: Mapping[str, Arm]) -> list[str]:
    """Return the arms so that each stands behind the one it follows.

    Raises:
        ConfigError: Arms follow each other in a circle.

    >>> order({"matched": Arm(match=Match("lth")), "lth": Arm("lth", rate=0.2)})
    ['lth', 'matched']
    """
    found: dict[str, int] = {}  # how many others each follows, one after the other
    for name in arms:
        path: dict[str, None] = {}
        at: str | None = name
        while at is not None and at not in found:
            if at in path:
                way = list(path)
                raise ConfigError(f"the arms {' -> '.join([*way[way.index(at) :], at])} follow each other in a "
                                  "circle; one of them must stand by itself")  # fmt: skip
            path[at] = None
            at = arms[at].source
        behind = -1 if at is None else found[at]
        for number, one in enumerate(reversed(path), behind + 1):
            found[one] = number
    furthest = max(found, key=lambda name: found[name], default="")
    if furthest and found[furthest] > _LONGEST_CHAIN:
        raise ConfigError(f"arms.{furthest} follows an arm that follows an arm and so on, {found[furthest]:,} of them; "
                          f"at most {_LONGEST_CHAIN} may follow each other")  # fmt: skip
    return list(found)


def leading(arm: Arm, arms: Mapping[str, Arm]) -> Arm:
    """Return the arm that stands by itself at the end of those that an arm follows; it may be the arm itself.

    >>> arms = {"lth": Arm("lth", rate=0.2), "drawn": Arm("random_ticket", of="lth")}
    >>> leading(arms["drawn"], arms).method
    'lth'
    """
    while arm.source is not None:
        arm = arms[arm.source]
    return arm


def starting(arm: Arm, arms: Mapping[str, Arm]) -> Arm:
    """Return the arm that decides what an arm's tickets start from; it may be the arm itself.

    >>> arms = {"lth": Arm("lth", rate=0.2), "moved": Arm("shuffled", of="lth")}
    >>> starting(arms["moved"], arms).method
    'lth'
    """
    while arm.starts == "source":
        arm = arms[arm.of or ""]
    return arm


def _check_entries(name: str, arm: Arm) -> None:
    where = f"arms.{name}"
    if arm.method is None:
        raise ConfigError(f"{where} needs a method ({', '.join(METHODS)}) or match: ARM")
    default, fitting, densities = Arm(), METHODS[arm.method], arm.evaluate_at or ()
    if name == "dense" and (arm.method != "dense" or arm.as_long_as):
        raise ConfigError("an arm named dense is the dense network, {method: dense}; give this one another name")
    for one in dataclasses.fields(Arm):
        if one.name in ("method", *fitting) or (
            one.name == "evaluate_at" and not (arm.method == "dense" and densities)
        ):
            continue
        if getattr(arm, one.name) != getattr(default, one.name):
            raise ConfigError(f"{where}.{one.name} has no meaning with method: {arm.method}, "
                              f"which takes {', '.join(fitting)}")  # fmt: skip
    if arm.exact and arm.reach is None:
        raise ConfigError(f"{where}.exact has no meaning without reach")
    if arm.match is not None and arm.scope != default.scope:
        raise ConfigError(f"{where}.scope has no meaning with match: {shown(arm.match.arm)}, whose scope it has")
    if not _falling(densities):
        raise ConfigError(f"{where}.evaluate_at is {shown(list(densities))}; densities fall, from below 1 to above 0")
    if isinstance(arm.lr, float | int) and not arm.lr > 0:
        raise ConfigError(f"{where}.lr is {arm.lr}; it must be above 0")


def _check_source(name: str, arm: Arm, arms: Mapping[str, Arm]) -> None:
    key = "match" if arm.match else "of" if "of" in METHODS[arm.method or ""] else "as_long_as"
    if key == "of" and arm.of is None:
        raise ConfigError(f"arms.{name} needs of: ARM, the arm whose tickets it takes")
    if arm.source is None:
        return
    if arm.source == name:
        raise ConfigError(f"arms.{name}.{key} is the arm itself; name another one")
    if arm.source not in arms:
        others = [other for other in arms if other != name]
        raise ConfigError(f"arms.{name}.{key} is {shown(arm.source)}; the other arms are: {', '.join(others)}."
                          f"{near(arm.source, others)}")  # fmt: skip
    if arms[arm.source].method == "dense":
        raise ConfigError(f"arms.{name}.{key} is '{arm.source}', which only trains; name an arm that has tickets")
    if arms[arm.source].method == "reordered":
        raise ConfigError(f"arms.{name}.{key} is '{arm.source}', which has no tickets of its own; name the arm whose "
                          f"tickets it takes, '{arms[arm.source].of}'")  # fmt: skip
    if arm.method == "reordered" and arms[arm.source].method == "as_trained":
        raise ConfigError(f"arms.{name}.of is '{arm.source}', whose networks are pruned while they train, each to its "
                          f"own mask; name the arm whose tickets they leave, '{arms[arm.source].of}'")  # fmt: skip
    if arm.method == "as_trained" and arms[arm.source].method != "gradual":
        raise ConfigError(f"arms.{name}.of is '{arm.source}', which leaves no network that was trained on; as_trained "
                          "takes an arm of method: gradual")  # fmt: skip
    if key == "as_long_as" and not arms[arm.source].searches:
        raise ConfigError(f"arms.{name}.as_long_as is '{arm.source}', which does not search; name the arm whose "
                          f"tickets it takes, '{arms[arm.source].source}'")  # fmt: skip


def _check_amounts(where: str, arm: Arm) -> None:
    from tombola.pruning import check_rate  # here, so that listing the arms needs no torch

    given = [key for key in _AMOUNTS if getattr(arm, key)]
    if not _falling(arm.densities):
        raise ConfigError(f"{where}.densities is {shown(list(arm.densities))}; densities fall, from below 1 to above 0")
    if arm.rate == 0:
        raise ConfigError(f"{where}.rate is 0; a round would prune nothing")
    if isinstance(arm.score, tuple) and len(arm.score) != arm.width:
        raise ConfigError(f"{where}.score names {len(arm.score)} scores for {arm.width} candidates; one each, or one")
    if len(given) != 1:
        fitting = [key for key in _AMOUNTS if key in METHODS[arm.method or ""]]
        needed = " or ".join(filter(None, [", ".join(fitting[:-1]), fitting[-1]]))
        raise ConfigError(f"{where} needs {needed}{', exactly one of them' if len(fitting) > 1 else ''}"
                          + (f"; it has {' and '.join(given)}" if given else ""))  # fmt: skip
    for group, rate in arm.rate.items() if isinstance(arm.rate, dict) else [("", arm.rate or 0)]:
        dotted = f"{where}.rate{group and '.' + group}"
        check_rate(rate, dotted)
        # A group that is pruned away whole is somebody's wish where collapse is allowed; the whole model is nobody's.
        if rate == 1 and not (group and arm.allow_collapse):
            raise ConfigError(f"{dotted} is 1; a round would prune every weight there is, so 20 % is 0.2")
    if arm.reach is not None and not (0 < arm.reach.density < 1 and 1 <= arm.reach.rounds <= MOST_ROUNDS):
        raise ConfigError(f"{where}.reach is density {arm.reach.density:g} in {shown(arm.reach.rounds)} rounds; a "
                          f"density is between 0 and 1, and rounds are from 1 to {MOST_ROUNDS:,}")  # fmt: skip
    if arm.reach is not None and arm.width > 1 and not arm.exact:
        raise ConfigError(f"{where}: what {arm.width} partitions leave is not known beforehand; "
                          "reach a density with exact: true")  # fmt: skip


def _check_partitions(where: str, arm: Arm) -> None:
    number = 2 if arm.partitions is None else arm.partitions
    if number < 1:
        raise ConfigError(f"{where}.partitions is {shown(arm.partitions)}; it must be 1 or more")
    outside = [index for index in arm.on if not 1 <= index <= number]
    if outside:
        raise ConfigError(f"{where}.on names partition {shown(outside[0])}; there are 1 to {number}")
    if arm.combine != "all" and arm.width == 1:
        raise ConfigError(f"{where}.combine is {arm.combine} with one partition, which has nothing to combine; "
                          "take partitions: 2 or more")  # fmt: skip
    if arm.combine == "all_at_end" and (arm.match or arm.densities or arm.reach or isinstance(arm.score, tuple)):
        raise ConfigError(f"{where}.combine is all_at_end: each partition searches by itself, by a rate and one score; "
                          "how many weights they share is not chosen")  # fmt: skip
    for key, fitting in (("head", arm.by.startswith("classes")), ("remainder", arm.by == "classes_in_order")):
        if not fitting and getattr(arm, key) != getattr(Arm(), key):
            raise ConfigError(f"{where}.{key} has no meaning with by: {arm.by}")


def _falling(densities: tuple[float, ...]) -> bool:
    return all(0 < d < 1 for d in densities) and all(a > b for a, b in pairwise(densities))


@dataclass(frozen=True)
class Kind:
    """One kind of arm, for ``tombola list arms`` and the page of arms.

    Attributes:
        name: What it is called there; in a recipe an arm may have any name.
        role: "search", "control", "cause" (of COLT's effect), "baseline", or "stability" (to the order of the data).
        summary: What it is.
        entry: Its YAML, where arms named colt-2 and lth exist.
    """

    name: str
    role: str
    summary: str
    entry: str


CATALOGUE: tuple[Kind, ...] = (
    Kind("dense", "search", "the network itself, not pruned", "{method: dense}"),
    Kind("lth", "search", "iterative magnitude pruning, rewound", "{method: lth, rate: 0.2}"),
    Kind("colt", "search", "N class partitions, the weights that all keep",
         "{method: colt, partitions: 2, rate: 0.15}"),
    Kind("matched", "control", "IMP at another arm's counts, round by round", "{match: colt-2}"),
    Kind("matched-per-layer", "control", "the same in every layer: how many where, against which",
         "{match: {arm: colt-2, per: layer}}"),
    Kind("random-ticket", "control", "drawn at random, as many weights in each layer",
         "{method: random_ticket, of: colt-2}"),
    Kind("shuffled", "control", "weights and mask shuffled within each layer",
         "{method: shuffled, of: colt-2, shuffle: both}"),
    Kind("reinitialised", "control", "the same mask, other initial weights", "{method: reinitialised, of: colt-2}"),
    Kind("dense-long", "control", "dense, trained as long as a whole search", "{method: dense, as_long_as: lth}"),
    Kind("by-examples", "cause", "partitions of examples instead of classes",
         "{method: colt, partitions: 2, by: examples, rate: 0.15}"),
    Kind("by-seeds", "cause", "all data for every model, in other orders",
         "{method: colt, partitions: 2, by: seeds, rate: 0.15}"),
    Kind("full-head", "cause", "class partitions that keep labels and all outputs",
         "{method: colt, partitions: 2, head: full, rate: 0.15}"),
    Kind("equal-steps", "cause", "each of two partitions trains twice the epochs, so as many steps",
         "{method: colt, partitions: 2, rate: 0.15, training: {epochs: 12}}"),
    Kind("real-and-random", "cause", "one model cut twice: by magnitude and at random",
         "{method: colt, partitions: 2, on: [1, 1], score: [magnitude, random], rate: 0.15}"),
    Kind("union", "cause", "the weights that any partition keeps, as many as COLT",
         "{method: colt, partitions: 2, combine: any, match: colt-2}"),
    Kind("at-end", "cause", "each partition searches alone, the finished tickets are intersected",
         "{method: colt, partitions: 2, combine: all_at_end, rate: 0.15}"),
    Kind("fine-tune", "baseline", "pruned and trained on, not reset, at the last learning rate",
         "{method: fine_tune, lr: last, match: lth}"),
    Kind("lr-rewind", "baseline", "trained on, not reset, the learning rate begins anew",
         "{method: lr_rewind, rate: 0.2}"),
    Kind("gradual", "search", "pruned while it trains, along a cubic schedule, once to each density",
         "{method: gradual, densities: [0.5, 0.2, 0.1], scope: per_layer}"),
    Kind("as-trained", "baseline", "the network that was pruned and trained on, not reset",
         "{method: as_trained, of: gradual}"),
    Kind("one-shot", "baseline", "the dense network cut once to each density",
         "{method: one_shot, densities: [0.5, 0.2, 0.1]}"),
    Kind("reordered", "stability", "another arm's tickets in another data order, and the line between the two",
         "{method: reordered, of: lth}"),
)  # fmt: skip

assert set(typing.get_args(Method)) == set(METHODS)
