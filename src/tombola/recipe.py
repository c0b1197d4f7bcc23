"""Recipes: an experiment as frozen dataclasses, read from YAML plus ``--dotted.overrides``."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from tombola import arms, devices, profiles, recipes
from tombola.arms import Arm
from tombola.batches import Augment
from tombola.checking import checked
from tombola.errors import ConfigError, near
from tombola.partitions import Skew
from tombola.training import Training

_Kind = TypeVar("_Kind")

FORMAT = 3  # rises when a default changes, and stands in every digest


@dataclass(frozen=True)
class Data:
    """Which data set, and how it is split.

    Attributes:
        name: An entry of ``tombola.data``, or a function of the user's own, ``package.module:function``.
        valid: Validation examples carved from the training data: a number, or a fraction below 1; 0 for none. "test"
            selects on the test split, as the authors of COLT do: for comparison with them alone, and told everywhere.
        subset: Train on this many examples only, stratified; all if not given.
        classes: Take so many of the classes only, drawn by the recipe's seed; all if not given.
        augment: What is done to training images.
        skew: How unevenly the classes are represented in training; evenly as published if not given.
        options: The data set's own options; in YAML they stand beside ``name``.
    """

    name: str = "digits"
    valid: int | float | Literal["test"] = 0.1
    subset: int | None = None
    classes: int | None = None
    augment: Augment = field(default_factory=Augment)
    skew: Skew | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """Which model.

    Attributes:
        name: An entry of ``tombola.models``, ``torchvision:NAME``, or ``package.module:function``.
        head: Dotted name of the output layer, where the model has no attribute ``head``.
        init: "xavier" (the COLT paper's) or "default" (torch's own).
        weights: A local checkpoint that the initial state is taken from, instead of drawing it.
        options: The model's own options; in YAML they stand beside ``name``.
    """

    name: str = "lenet_300_100"
    head: str | None = None
    init: Literal["xavier", "default"] = "xavier"
    weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Until:
    """When a search stops; of several, whichever comes first.

    Attributes:
        rounds: After so many rounds.
        density: In the first round at or below this fraction of the prunable weights.
        density_total: In the first round at or below this fraction of all conv, linear and norm weights.
        accuracy_drop: When a ticket's validation accuracy is lower than the dense network's by more than this; the
            ticket before it is the result.
    """

    rounds: int | None = None
    density: float | None = None
    density_total: float | None = None
    accuracy_drop: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is any stop at all."""
        return any(value is not None for value in dataclasses.astuple(self))


@dataclass(frozen=True)
class Decision:
    """What the report decides, and by what; it changes no training.

    Attributes:
        margin: What still counts as "as accurate as": 0.01 is one point. Without it the report gives intervals and no
            verdicts.
        at: Densities at which arms are compared; ``evaluate_at`` or ``densities`` if not given, else 50, 20, 10 %.
        steps: How many steps later than the dense network's a ticket's early stop may be; one evaluation interval if
            not given.
        alpha: Level of the tests.
    """

    margin: float | None = None
    at: tuple[float, ...] = ()
    steps: int | None = None
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 < self.margin < 1:
            raise ConfigError(f"verdict.margin is {self.margin:g}; it is a fraction, so one point of accuracy is 0.01")
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"verdict.alpha is {self.alpha:g}; it is the level of a test, such as 0.05")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"verdict.steps is {self.steps}; it must be 1 or more")
        outside = [density for density in self.at if not 0 < density < 1]
        if outside:
            raise ConfigError(f"verdict.at has {outside[0]:g}; a density is a fraction between 0 and 1")


@dataclass(frozen=True)
class Recipe:
    """An experiment: arms x replicates on one data set, with one model and one way of training.

    Attributes:
        name: Begins the name of the run's folder.
        data: The data set.
        model: The model.
        training: How every training runs.
        arms: What is compared, by name.
        until: When the searches stop.
        densities: The density after each round, by exact counts, of every arm that has no rate or densities of its own:
            so all arms meet at the same densities.
        evaluate_at: Densities on both sides of which each arm's rounds are evaluated, unless an arm has its own; every
            round if not given.
        verdict: What the report decides, and by what margin.
        profile: "paper" or "repo" sets what the COLT paper, or its authors' code, does; see `profiles`.
        prunable: Which weights may be pruned: "no_head", "conv", "all", or patterns of parameter names.
        rewind: Step of the dense training that tickets are rewound to; 0 is the initial state.
        replicates: How often each arm runs, each time with other seeds; replicate k of all arms shares its seeds.
        seed: What all seeds are derived from.
        device: "cpu", "cuda" or "cuda:1", or "auto": CUDA where torch finds a GPU. Its kind changes bits and names the
            run; which one it is does not.
        keep: Which trained weights stay when the run is complete: of "all" evaluated tickets, of each arm's "last", or
            "none". The dense network's always stay.
    """

    name: str
    training: Training
    arms: dict[str, Arm]
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
    keep: Literal["all", "last", "none"] = "last"

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", {name: self._with_common(arm) for name, arm in self.arms.items()})
        if not arms.FOLDER_NAME.fullmatch(self.name):
            raise ConfigError(f"name is '{self.name}'; letters, digits, '.', '_' and '-' make the run's folder")
        if not self.arms:
            raise ConfigError("the recipe has no arms; such as: arms: {lth: {method: lth, rate: 0.2}}")
        for what in ("replicates", "rewind", "seed"):
            least = 1 if what == "replicates" else 0
            if getattr(self, what) < least:
                raise ConfigError(f"{what} is {getattr(self, what)}; it must be {least} or more")
        if self.seed >= 2**64:
            raise ConfigError(f"seed is {self.seed}; it must be below 2 ** 64, such as 0")
        devices.check(self.device)
        arms.check(self.arms)
        self._check_profile()
        self._check_until()

    def _with_common(self, arm: Arm) -> Arm:
        """Give an arm what the recipe says for all that do not say it themselves."""
        fitting = arms.METHODS.get(arm.method or "", ())
        if "densities" in fitting and not (arm.rate or arm.reach or arm.densities or arm.match):
            arm = replace(arm, densities=self.densities)
        if arm.evaluate_at is not None or not fitting:
            return arm
        return replace(arm, evaluate_at=() if arm.method == "dense" else self.evaluate_at)

    def _check_profile(self) -> None:
        """Refuse what only the authors' code does, outside the profile that is named after it."""
        repo = self.profile is not None and self.profile.name == "repo"
        for name, arm in self.arms.items():
            if arm.remainder == "dropped" and not repo:
                raise ConfigError(f"arms.{name}.remainder is dropped, so some classes are in no partition; only "
                                  "profile: repo allows it")  # fmt: skip
        if len({self._scored(arm) for arm in self.arms.values() if arm.searches}) > 1 and not repo:
            raise ConfigError("the arms do not score the same weights (scored, training.select); only profile: repo "
                              "allows it")  # fmt: skip
        if self.data.valid == "test" and not repo:
            raise ConfigError("data.valid is test, which selects on test data; only profile: repo allows it")

    def _scored(self, arm: Arm) -> tuple[str, ...]:
        """Say which weights of its trainings an arm scores."""
        own = training_with(self.training, arm.training)
        return ("last",) if "last" in (arm.scored, own.select) else (arm.scored, own.select, own.select_by)

    def _check_until(self) -> None:
        until = self.until
        for key in ("density", "density_total"):
            value = getattr(until, key)
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"until.{key} is {value}; a density is a fraction between 0 and 1")
        if until.rounds is not None and until.rounds < 1:
            raise ConfigError(f"until.rounds is {until.rounds}; it must be 1 or more")
        if until.accuracy_drop is not None:
            if not 0 <= until.accuracy_drop < 1:
                raise ConfigError(f"until.accuracy_drop is {until.accuracy_drop}; it is a fraction, so 1 point is 0.01")
            if self.data.valid == 0:
                raise ConfigError("until.accuracy_drop needs validation data; data.valid is 0")
            skipping = [name for name, arm in self.arms.items() if arm.evaluate_at]
            if skipping:
                raise ConfigError(f"until.accuracy_drop looks at every round; arm {skipping[0]} has evaluate_at")
        endless = [name for name, arm in self.arms.items() if arm.rate is not None]
        if endless and not until.given:
            raise ConfigError(f"the recipe needs until: rounds, density, density_total or accuracy_drop, since arm "
                              f"{endless[0]} has no end of its own")  # fmt: skip
        own = {f"arms.{name}.training": training_with(self.training, arm.training) for name, arm in self.arms.items()}
        for where, training in ({"training": self.training} | own).items() if self.data.valid == 0 else ():
            if training.patience is not None:
                raise ConfigError(f"{where}.patience looks at validation data; data.valid is 0")
            if training.select == "best":
                raise ConfigError(f"{where}.select is best; without validation data (data.valid: 0) it must be last")

    def plain(self) -> dict[str, Any]:
        """Return the resolved recipe as plain data, every default written out; reading it gives this recipe again."""
        whole: dict[str, Any] = _listed(dataclasses.asdict(self))
        for section in ("data", "model"):
            whole[section] |= whole[section].pop("options")
        for key in ("classes", "skew"):  # runs of before there were these keep their names
            if whole["data"][key] is None:
                del whole["data"][key]
        if self.profile is not None:
            whole["profile"]["except"] = whole["profile"].pop("but")
        return whole


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


class _Loader(yaml.SafeLoader):
    """YAML whose 1e-3 is a number, and where a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":  # a key is a name; to YAML 1.1 the bare word `on` is true
                key.tag = "tag:yaml.org,2002:str"
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(
                    f"'{key}' is given twice in the mapping that begins in line {node.start_mark.line + 1}"
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read(
    path: str | Path, overrides: Sequence[str] = (), *, scale: str | None = None, variant: str | None = None
) -> Recipe:
    """Read a recipe from a YAML file and put overrides over it.

    Args:
        path: The file, or the name of a recipe that ships, see `tombola.recipes`.
        scale: One of the recipe's ``scales``: overrides that stand in it by their dotted names, put over it first.
        variant: One of its ``variants``, put over that; the recipe as it stands if not given.
        overrides: As on the command line: ``["--until.rounds", "2", "--data=mnist"]``; values are YAML.

    Raises:
        ConfigError: The file is not there or no YAML, a key or name is not known, a value is of the wrong kind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.yaml")
    ...     _ = path.write_text("{training: {epochs: 1}, arms: {lth: {method: lth, rate: 0.2}}, until: {rounds: 5}}")
    ...     read(path, ["--until.rounds", "2"]).until.rounds
    2
    """
    whole = _load(Path(path), scale)
    _take(whole, "variants", variant)
    for dotted, value in pairs(overrides):
        _override(whole, dotted, value)
    return parse(whole)


def variants(path: str | Path, *, scale: str | None = None) -> list[str]:
    """List the variants that a recipe names; each is an experiment of its own, and they are reported together.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.yaml")
    ...     _ = path.write_text("variants: {low: {training.lr: 0.01}, high: {training.lr: 0.1}}")
    ...     variants(path)
    ['low', 'high']
    """
    found = _load(Path(path), scale).get("variants", {})
    return [str(name) for name in found] if isinstance(found, dict) else []


def _load(path: Path, scale: str | None) -> dict[str, Any]:
    """Read a recipe as plain data, with the overrides of a scale put over it."""
    path = recipes.path_of(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no recipe '{path}'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe '{path}': {error}") from error
    whole = _yaml(text, str(path))
    if not isinstance(whole, dict):
        raise ConfigError(f"'{path}' holds no recipe; it should be a mapping with name, training and arms")
    whole.setdefault("name", path.stem)
    _take(whole, "scales", scale)
    return whole


def _take(whole: dict[str, Any], kind: Literal["scales", "variants"], name: str | None) -> None:
    """Put one of a recipe's own named sets of overrides over it; such a run has a name of its own."""
    sets = whole.pop(kind, {})
    if name is None:
        return
    if not isinstance(sets, dict) or not isinstance(sets.get(name), dict):
        known = ", ".join(map(str, sets)) if isinstance(sets, dict) and sets else "none"
        raise ConfigError(f"the recipe has no {kind[:-1]} '{name}'; it has: {known}")
    whole["name"] = f"{whole['name']}-{name}"
    for dotted, value in sets[name].items():
        _override(whole, str(dotted), value)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error


def pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Read overrides as they stand on a command line: dotted names and their values.

    >>> pairs(["--training.lr", "0.01", "--data=mnist"])
    [('training.lr', 0.01), ('data', 'mnist')]
    """
    found, rest = [], list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"'{flag}' stands alone; an override is --dotted.name VALUE")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"{flag} has no value; an override is --dotted.name VALUE")
            value = rest.pop(0)
        found.append((name, _yaml(value, flag)))
    return found


def _override(whole: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    known = whole.get("arms")
    if parents[:1] == ["arms"] and len(parents) > 1 and isinstance(known, dict) and parents[1] not in known:
        raise ConfigError(f"--{dotted}: there is no arm '{parents[1]}'; the arms are: {', '.join(known)}."
                          f"{near(parents[1], known)} A new one is given whole: "
                          f"--arms.{parents[1]} '{{method: lth, rate: 0.2}}'")  # fmt: skip
    place = whole
    for parent in parents:
        inner = place.get(parent, {})
        if isinstance(inner, str) and dotted.startswith(("data.", "model.")):  # data: digits
            inner = {"name": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"--{dotted}: '{parent}' is {inner}, not a mapping")
        place[parent] = dict(inner)  # a copy: by an anchor of YAML other arms may hold the same mapping
        place = place[parent]
    place[last] = value


def parse(whole: Mapping[str, Any]) -> Recipe:
    """Make a recipe of plain data.

    >>> arms = {"lth": {"method": "lth", "rate": 0.2}}
    >>> recipe = parse({"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 2}})
    >>> recipe.data.name, recipe.arms["lth"].rate
    ('digits', 0.2)
    """
    whole = _spelled_out(whole)
    for section, kind in (("data", Data), ("model", Model)):
        given = whole.get(section, {})
        given = {"name": given} if isinstance(given, str) else given
        if isinstance(given, Mapping):
            own = {f.name for f in dataclasses.fields(kind)} - {"options"}
            options = {key: value for key, value in given.items() if key not in own}
            whole[section] = {key: value for key, value in given.items() if key in own} | {"options": options}
    recipe: Recipe = _typed(Recipe, whole, "")
    return recipe


def section(kind: type[_Kind], given: Mapping[str, Any], where: str) -> _Kind:
    """Make one section of a recipe of plain data, such as what a ticket says of its data.

    Raises:
        ConfigError: A key is not known or a value is of the wrong kind.

    >>> section(Augment, {"crop": 4}, "data.augment").crop
    4
    """
    made: _Kind = _typed(kind, given, where)
    return made


def training_with(training: Training, changes: Mapping[str, Any]) -> Training:
    """Return a training with some of its settings changed, each checked against its type.

    Raises:
        ConfigError: There is no such setting, or its value is of another type or out of its range.

    >>> training_with(Training(epochs=6), {"epochs": 12}).epochs
    12.0
    """
    given = {f.name: getattr(training, f.name) for f in dataclasses.fields(training)}
    if "steps" in changes or "epochs" in changes:  # one takes the place of the other
        given |= {"steps": None, "epochs": None}
    changed: Training = _typed(Training, given | dict(changes), "training")
    return changed


def _spelled_out(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data with its short forms written out and its profile put in."""
    whole = dict(whole)
    given = whole.get("arms")
    if isinstance(given, Mapping):
        whole["arms"] = {
            name: {**arm, "match": {"arm": arm["match"]}} if _is_short(arm, "match") else arm
            for name, arm in given.items()
        }
    profile = whole.get("profile")
    if profile is not None:
        profile = {"name": profile} if isinstance(profile, str) else profile
        if isinstance(profile, Mapping):
            profile = {"but" if key == "except" else key: value for key, value in profile.items()}
        whole["profile"] = _typed(profiles.Profile, profile, "profile")
        whole = profiles.put_in(whole, whole["profile"])
    return whole


def _is_short(arm: Any, key: str) -> bool:
    return isinstance(arm, Mapping) and isinstance(arm.get(key), str)


def _typed(kind: Any, given: Any, where: str) -> Any:
    """Make a dataclass of plain data, every value checked against its type."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {given!r}; it should be a mapping")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in given.items():
        dotted = f"{where}.{key}" if where else str(key)
        if key not in fields:
            known = [name for name in fields if name != "options"]
            raise ConfigError(f"there is no '{dotted}'; {where or 'a recipe'} has: {', '.join(known)}."
                              f"{near(str(key), known)}")  # fmt: skip
        values[key] = _value(hints[key], value, dotted)
    for name, one in fields.items():
        missing = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if name not in values and missing:
            raise ConfigError(f"{where or 'the recipe'} lacks '{name}'")
    return kind(**values)


def _value(hint: Any, value: Any, dotted: str) -> Any:
    of = [one for one in typing.get_args(hint) if one is not type(None)]
    optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
    if optional and value is None:
        return None
    if optional and len(of) == 1:
        return _value(of[0], value, dotted)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _typed(hint, value, dotted)  # type: ignore[arg-type]
    if typing.get_origin(hint) is dict and dataclasses.is_dataclass(of[1]):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{dotted} is {value!r}; it should be a mapping")
        return {str(key): _typed(of[1], item, f"{dotted}.{key}") for key, item in value.items()}
    return checked(hint, value, dotted)
