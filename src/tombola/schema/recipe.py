"""Recipes: an experiment as frozen dataclasses, read from YAML plus ``--dotted.overrides``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from tombola import recipes
from tombola.evidence.comparisons import DENSE
from tombola.ground import devices
from tombola.ground.catalogue import CLASSIFICATION
from tombola.ground.checking import (
    alias_of,
    check_most,
    check_plain,
    dataclass_in,
    filled,
    hints_of,
)
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.plain import LATER, plain
from tombola.ground.settings import Training
from tombola.methods import Method, held
from tombola.methods.method import MOST_ROUNDS, OLD_NAMES
from tombola.reports.decisions import TARGETS
from tombola.schema import arms, profiles
from tombola.schema.overrides import named_sets, override, take_set
from tombola.schema.overrides import pairs as pairs
from tombola.schema.plain_yaml import from_yaml as from_yaml
from tombola.tasks.settings import Data as Data
from tombola.tasks.settings import Model as Model
from tombola.tasks.settings import TaskChoice as TaskChoice
from tombola.ticket_format import canonical_json

_Kind = TypeVar("_Kind")

FORMAT = 3  # rises when a default changes, and stands in every digest
MOST_REPLICATES = 1000
_MOST_TOGETHER = 10_000  # arms x replicates: each of them is driven by a thread of its own
# of a recipe's file, which are read in a few seconds; the longest of ours has some thousands
_MOST_BYTES = 2**18


@dataclass(frozen=True)
class Until:
    """When a search stops; of several, whichever comes first.

    Attributes:
        rounds: After this many rounds.
        density: In the first round at or below this fraction of the prunable weights.
        density_total: In the first round at or below this fraction of all conv, linear and norm
            weights.
        accuracy_drop: When a ticket's headline metric on validation data is worse than the dense
            network's by more than this, such as an accuracy by 0.01. The ticket before it is the
            result.
    """

    rounds: int | None = None
    density: float | None = None
    density_total: float | None = None
    accuracy_drop: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is any stop at all."""
        return any(value is not None for value in dataclasses.astuple(self))


_A_POINT = "it is a fraction, so one point of accuracy is 0.01"


@dataclass(frozen=True)
class Decision:
    """What the report decides, and by what; it changes no training.

    Attributes:
        margin: What still counts as "as accurate as", in the unit of the task's headline metric:
            0.01 is one point of accuracy. Without it the report gives intervals and no verdicts.
        at: Densities at which arms are compared. If not given, ``evaluate_at`` or ``densities``,
            else 50, 20 and 10 %.
        steps: How many steps later than the dense network's a ticket's early stop may be; one
            evaluation interval if not given.
        alpha: Level of the tests.
    """

    margin: float | None = None
    at: tuple[float, ...] = ()
    steps: int | None = None
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ConfigError(f"verdict.margin is {shown(self.margin)}; {_A_POINT}")
        if not 0 < self.alpha < 0.5:
            raise ConfigError(
                f"verdict.alpha is {shown(self.alpha)}; it is the level of a test, such as 0.05"
            )
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"verdict.steps is {shown(self.steps)}; it must be 1 or more")
        check_most(self, {"at": 1, "steps": 1e9}, "verdict")
        outside = [density for density in self.at if not 0 < density < 1]
        if outside:
            raise ConfigError(
                f"verdict.at has {shown(outside[0])}; a density is a fraction between 0 and 1"
            )


@dataclass(frozen=True)
class Recipe:
    """An experiment: arms x replicates on one data set, with one model and one way of training.

    Attributes:
        name: The run folder's name begins with it. If not given, the name of the file.
        task: What is learnt and how it is measured, by its name or as a section.
        data: The data set, by its name or as a section.
        model: The model, by its name or as a section.
        training: How every training runs.
        arms: What is compared, by name.
        until: When the searches stop.
        densities: The density after each round, by exact counts, of every arm that has no rate or
            densities of its own, so all arms meet at the same densities.
        evaluate_at: Evaluate only the rounds on both sides of these densities; every round if not
            given. An arm may have its own.
        verdict: What the report decides, and by what margin.
        profile: Do what the COLT paper does (``paper``), or what its authors' code does (``repo``).
        prunable: Which weights may be pruned. ``no_head``: convolutions and linear layers without
            the output layer. ``conv``: convolutions alone, as in COLT's recipes. ``all``: the
            output layer too. Or a list of patterns of parameter names.
        rewind: Step of the dense training that tickets are rewound to; 0 is the initial state.
        replicates: How often each arm runs, each time with other seeds. Replicate k of all arms
            shares initial weights, data order, augmentation and partitions.
        seed: What all seeds are derived from.
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``: CUDA where torch finds a GPU. The kind
            of device changes the last bits, so it names the run; which GPU it is does not. With
            ``cuda`` and several GPUs there is one worker for each.
        keep: Which trained weights stay when a run is complete. ``all``: of all evaluated tickets.
            ``best``: of each arm's last ticket, of the one with the best metric on validation data,
            of all and of those at most as dense as each density compared, and of the sparsest as
            good as the dense network. ``last``: of each arm's last ticket. ``none``. The dense
            network's always stay.
    """

    name: str
    training: Training
    arms: dict[str, Method]
    task: TaskChoice = field(default_factory=TaskChoice, metadata=LATER)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    until: Until = field(default_factory=Until)
    densities: tuple[float, ...] = ()
    evaluate_at: tuple[float, ...] = ()
    verdict: Decision = field(default_factory=Decision)
    profile: profiles.Profile | None = None
    prunable: str | tuple[str, ...] = "no_head"
    rewind: int = 0
    replicates: int = 1
    seed: int = 0
    device: str = "auto"
    keep: Literal["all", "best", "last", "none"] = "best"

    def __post_init__(self) -> None:
        # First of all, so that each arm is checked as it will run.
        object.__setattr__(self, "arms", self._with_common())
        arms.check_name(self.name, "name", "the run's folder")
        if not self.arms:
            raise ConfigError(
                "the recipe has no arms; such as: arms: {lth: {method: lth, rate: 0.2}}"
            )
        for what, least in (("replicates", 1), ("rewind", 0), ("seed", 0)):
            if getattr(self, what) < least:
                raise ConfigError(
                    f"{what} is {shown(getattr(self, what))}; it must be {least} or more"
                )
        if self.seed >= 2**64:
            raise ConfigError(f"seed is {shown(self.seed)}; it must be below 2 ** 64, such as 0")
        most = {
            "replicates": MOST_REPLICATES,
            "rewind": 1e9,
            "densities": 1,
            "evaluate_at": 1,
            "prunable": 1,
        }
        check_most(self, most)
        check_most(self.until, {"rounds": MOST_ROUNDS}, "until")
        if len(self.arms) * self.replicates > _MOST_TOGETHER:
            raise ConfigError(
                f"the recipe has {len(self.arms):,} arms x {self.replicates:,} replicates; a run "
                f"has at most {_MOST_TOGETHER:,} of these together"
            )
        devices.check(self.device)
        arms.check(self.arms)
        self._check_profile()
        self._check_until()

    def _with_common(self) -> dict[str, Method]:
        """Give each arm what the recipe says for all that do not say it themselves."""
        complete = {}
        for name, arm in self.arms.items():
            complete[name] = held(arm).with_common(self.densities, self.evaluate_at)
        return complete

    def arm(self, name: str) -> Method:
        """Return an arm to be asked: one of the user's own is held to what a method promises,
        see `held`.
        """
        return held(self.arms[name])

    def _check_profile(self) -> None:
        """Refuse what only the authors' code does, outside the profile that is named after it."""
        repo = self.profile is not None and self.profile.name == "repo"
        for name in self.arms:
            lifts = self.arm(name).lifts
            if lifts and not repo:
                raise ConfigError(f"arms.{name}.{lifts}; only profile: repo allows it")
        # Arms that score nothing, such as controls, say nothing of the others.
        scored = {self.arm(name).weights_scored(self.training) for name in self.arms} - {()}
        if len(scored) > 1 and not repo:
            raise ConfigError(
                "the arms do not score the same weights (scored, training.select); only profile: "
                "repo allows it"
            )
        if self.data.valid == "test" and not repo:
            raise ConfigError(
                "data.valid is test, which selects on test data; only profile: repo allows it"
            )

    def _check_until(self) -> None:
        until, margin = self.until, self.verdict.margin
        # What the headline of another task is, its metrics say: it is looked at where recipe and
        # task meet.
        if margin is not None and margin >= 1 and self.task.name == CLASSIFICATION:
            raise ConfigError(f"verdict.margin is {shown(margin)}; {_A_POINT}")
        for key in ("density", "density_total"):
            value = getattr(until, key)
            if value is not None and not 0 < value < 1:
                raise ConfigError(
                    f"until.{key} is {shown(value)}; a density is a fraction between 0 and 1"
                )
        if until.rounds is not None and until.rounds < 1:
            raise ConfigError(f"until.rounds is {shown(until.rounds)}; it must be 1 or more")
        if until.accuracy_drop is not None:
            self._check_accuracy_drop(until.accuracy_drop)
        endless = [name for name in self.arms if self.arm(name).endless]
        if endless and not until.given:
            raise ConfigError(
                "the recipe needs until: rounds, density, density_total or accuracy_drop, since "
                f"arm {endless[0]} has no end of its own"
            )
        if self.data.valid == 0:
            self._check_without_validation()

    def _check_accuracy_drop(self, drop: float) -> None:
        # As of the margin: only an accuracy is known here to end at 1.
        if drop < 0 or (drop >= 1 and self.task.name == CLASSIFICATION):
            raise ConfigError(
                f"until.accuracy_drop is {drop}; it is a fraction, so 1 point is 0.01"
            )
        if self.data.valid == 0:
            raise ConfigError("until.accuracy_drop needs validation data; data.valid is 0")
        for name, arm in self.arms.items():
            if arm.evaluate_at:
                raise ConfigError(
                    f"until.accuracy_drop looks at every round; arm {name} has evaluate_at"
                )

    def _check_without_validation(self) -> None:
        """Refuse trainings that look at validation data, which the recipe has none of."""
        trainings = {"training": self.training}
        for name in self.arms:
            trainings[f"arms.{name}.training"] = self.arm(name).searching(self.training)
        for where, training in trainings.items():
            if training.patience is not None:
                raise ConfigError(f"{where}.patience looks at validation data; data.valid is 0")
            if training.select == "best":
                raise ConfigError(
                    f"{where}.select is best; without validation data (data.valid: 0) it must be "
                    "last"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain data; reading it gives this recipe again.

        Every default is written out but those of later entries, see `tombola.ground.plain`.
        """
        content: dict[str, Any] = plain(self)
        content["arms"] = {name: arm.to_dict() for name, arm in self.arms.items()}
        content = _listed(content)
        # Options of a data set or a model stand beside the entries of their section.
        for section in ("data", "model"):
            content[section] |= content[section].pop("options")
        # In short where there are no options, as it was before a task could have any.
        if "task" in content:
            content["task"] = content["task"] | content["task"].pop("options")
            if content["task"].keys() == {"name"}:
                content["task"] = self.task.name
        if self.profile is not None:
            content["profile"]["except"] = content["profile"].pop("but")
        return content

    @property
    def compared_at(self) -> tuple[float, ...]:
        """The densities at which the report compares arms, highest first unless they are given."""
        evaluated: set[float] = set()
        for name in self.arms:
            arm = self.arm(name)
            evaluated.update(arm.evaluate_at or arm.goals.get("densities", ()))
        return self.verdict.at or tuple(sorted(evaluated, reverse=True)) or TARGETS


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def read(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    scale: str | None = None,
    variant: str | None = None,
) -> Recipe:
    """Read a recipe from a YAML file and put overrides over it.

    Args:
        path: The file, or the name of a recipe that ships, see `tombola.recipes`.
        scale: One of the recipe's ``scales``: overrides that stand in it by their dotted names, put
            over it first.
        variant: One of its ``variants``, put over that; the recipe as it stands if not given.
        overrides: As on the command line: ``["--until.rounds", "2", "--data=mnist"]``; values are
            YAML.

    Raises:
        ConfigError: The file is not there or no YAML, a key or name is not known, a value is of the
            wrong kind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.yaml")
    ...     arms = "arms: {lth: {method: lth, rate: 0.2}}"
    ...     _ = path.write_text(f"{{training: {{epochs: 1}}, {arms}, until: {{rounds: 5}}}}")
    ...     read(path, ["--until.rounds", "2"]).until.rounds
    2
    """
    # What is said later wins: the file, its scale, its variant, the command line.
    content = _load(Path(path), scale)
    take_set(content, "variants", variant)
    for dotted, value in pairs(overrides):
        override(content, dotted, value)
    return parse(content)


def variants(path: str | Path, *, scale: str | None = None) -> list[str]:
    """List the variants that a recipe names; each is an experiment of its own, and they are
    reported together.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.yaml")
    ...     _ = path.write_text("variants: {low: {training.lr: 0.01}, high: {training.lr: 0.1}}")
    ...     variants(path)
    ['low', 'high']
    """
    return list(named_sets(_load(Path(path), scale), "variants"))


def _load(path: Path, scale: str | None) -> dict[str, Any]:
    """Read a recipe as plain data, with the overrides of a scale put over it."""
    path = recipes.path_of(path)
    try:
        # Not the whole file, which may be anything that was named by mistake.
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise ConfigError(
                f"the recipe '{path}' has more than {_MOST_BYTES:,} bytes; is it one?"
            )
        text = raw.decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no recipe '{path}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe '{path}': {error}") from error
    content = from_yaml(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(
            f"'{path}' holds no recipe; it should be a mapping with name, training and arms"
        )
    content.setdefault("name", path.stem)
    take_set(content, "scales", scale)
    return content


def entry_names(*, dotted: bool = False) -> list[str]:
    """List the names of a recipe's entries.

    Args:
        dotted: List the entries inside its sections too, as they are overridden: ``training.lr``.

    >>> "training" in entry_names(), "training.lr" in entry_names(dotted=True)
    (True, True)
    """
    names: list[str] = []
    sections: list[tuple[str, Any]] = [("", Recipe)]
    while sections:
        prefix, kind = sections.pop(0)
        for entry in dataclasses.fields(kind):
            if "rest" in entry.metadata:
                continue
            names.append(f"{prefix}{alias_of(entry)}")
            inner = dataclass_in(hints_of(kind)[entry.name])
            if dotted and inner is not None and inner is not Method:
                sections.append((f"{names[-1]}.", inner))
    return names


def parse(content: Mapping[str, Any], recorded: Mapping[str, Any] | None = None) -> Recipe:
    """Make a recipe of plain data.

    Args:
        content: The recipe as plain data.
        recorded: What a run folder knows of the arms with methods of the user's own, which are not
            imported then.

    >>> arms = {"lth": {"method": "lth", "rate": 0.2}}
    >>> content = {"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 2}}
    >>> recipe = parse(content)
    >>> recipe.data.name, recipe.arms["lth"].rate
    ('digits', 0.2)
    """
    check_plain(content, "the recipe")
    content, renamed = _with_new_names(content, imports=recorded is None)
    if recorded is None:
        arms.tell_old_names(renamed)
    content = _with_profile(content)
    # What is no entry of its section is an option, of which only the entry itself knows more.
    for section, kind in (("task", TaskChoice), ("data", Data), ("model", Model)):
        given = content.get(section)
        if isinstance(given, Mapping):
            options = {str(key): value for key, value in given.items()}
            for field_of_section in dataclasses.fields(kind):
                options.pop(field_of_section.name, None)
            check_options(options, section)
    # Here and not by `filled`: which class an arm is of, its method says.
    given = content.get("arms")
    if isinstance(given, Mapping):
        content["arms"] = {}
        for name, arm in given.items():
            content["arms"][str(name)] = arms.read(arm, f"arms.{name}", recorded)
    recipe: Recipe = filled(Recipe, content, "")
    return recipe


def without_arms(recipe: Recipe) -> Recipe:
    """Return a recipe with the dense network alone: a worker needs no more, nor the code of the
    user's own arms.
    """
    return replace(recipe, arms={DENSE: arms.read({"method": "dense"}, DENSE)})


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Refuse options that are no plain data: they stand in digests and files."""
    for name, value in options.items():
        try:
            canonical_json(value)
        except InputError as error:
            raise ConfigError(f"{where}.{name}: {error}") from error


def section(kind: type[_Kind], given: Mapping[str, Any], where: str) -> _Kind:
    """Make one section of a recipe of plain data, such as what a ticket says of its data.

    Raises:
        ConfigError: A key is not known or a value is of the wrong kind.

    >>> from tombola.data.batches import Augment
    >>> section(Augment, {"crop": 4}, "data.augment").crop
    4
    """
    filled_in: _Kind = filled(kind, given, where)
    return filled_in


def _with_new_names(
    content: Mapping[str, Any], *, imports: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return plain data with the names that entries have today, and the new names by the old.

    What is of another type than it should be stays as it is: it is refused when it is checked.
    """
    content = dict(content)
    renamed: dict[str, str] = {}
    given = content.get("arms")
    if isinstance(given, Mapping):
        content["arms"] = dict(given)
        for name, arm in given.items():
            if isinstance(arm, Mapping):
                entries, renamed_here = arms.with_new_names(arm, f"arms.{name}", imports=imports)
                content["arms"][name] = entries
                renamed |= renamed_here

    # A profile names entries of arms, too: those that the recipe sets otherwise.
    profile = content.get("profile")
    excepted = profile.get("except") if isinstance(profile, Mapping) else None
    if isinstance(profile, Mapping) and isinstance(excepted, list | tuple):
        new_names = {f"arms.{old}": f"arms.{new}" for new, old in OLD_NAMES.items()}
        entries_now = []
        for entry in excepted:
            if str(entry) in new_names:
                renamed[f"profile.except: {entry}"] = new_names[str(entry)]
            entries_now.append(new_names.get(str(entry), entry))
        content["profile"] = {**profile, "except": entries_now}
    return content, renamed


def _with_profile(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data with its profile put in."""
    content = dict(content)
    profile = content.get("profile")
    if profile is not None:
        content["profile"] = filled(profiles.Profile, profile, "profile")
        content = profiles.put_in(content, content["profile"])
    return content
