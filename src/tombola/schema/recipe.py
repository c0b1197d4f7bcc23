"""Recipes: an experiment as frozen dataclasses, read from YAML plus ``--dotted.overrides``."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from tombola import recipes
from tombola.evidence.comparisons import DENSE
from tombola.ground import devices
from tombola.ground.checking import (
    alias_of,
    check_most,
    check_plain,
    dataclass_in,
    filled,
    hints_of,
)
from tombola.ground.errors import ConfigError, InputError, near, shown
from tombola.ground.settings import Training
from tombola.methods import Method, held
from tombola.methods.method import MOST_ROUNDS, OLD_NAMES
from tombola.reports.decisions import TARGETS
from tombola.schema import arms, profiles
from tombola.tasks.settings import Data as Data
from tombola.tasks.settings import Model as Model
from tombola.ticket_format import canonical_json

_Kind = TypeVar("_Kind")

FORMAT = 3  # rises when a default changes, and stands in every digest
MOST_REPLICATES = 1000
# the task of a recipe that names none; in no digest, as runs of before had no other
CLASSIFICATION = "classification"
_MOST_TOGETHER = 10_000  # arms x replicates: each of them is driven by a thread of its own
# of a recipe's file, which are read in a few seconds; the longest of ours has some thousands
_MOST_BYTES = 2**18
_DEEPEST = 50  # lists and mappings in each other
_MOST_NODES = 100_000  # of a recipe, what an alias names counted wherever it stands


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
        task: What is learnt and how it is measured: an entry of `tombola.tasks`, or a function of
            your own, ``package.module:function``. The task declares its metrics; the first is the
            headline, by which tickets are compared.
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
            ``best``: of each arm's last ticket, of the one with the highest validation accuracy, of
            all and of those at most as dense as each density compared, and of the sparsest as
            accurate as the dense network. ``last``: of each arm's last ticket. ``none``. The dense
            network's always stay.
    """

    name: str
    training: Training
    arms: dict[str, Method]
    task: str = CLASSIFICATION
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
        object.__setattr__(self, "arms", self._with_common())
        arms.check_name(self.name, "name", "the run's folder")
        if not self.arms:
            raise ConfigError(
                "the recipe has no arms; such as: arms: {lth: {method: lth, rate: 0.2}}"
            )
        for what in ("replicates", "rewind", "seed"):
            least = 1 if what == "replicates" else 0
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
        return {
            name: held(arm).with_common(self.densities, self.evaluate_at)
            for name, arm in self.arms.items()
        }

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
        if margin is not None and margin >= 1 and self.task == CLASSIFICATION:
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
            if until.accuracy_drop < 0 or (
                until.accuracy_drop >= 1 and self.task == CLASSIFICATION
            ):
                raise ConfigError(
                    f"until.accuracy_drop is {until.accuracy_drop}; it is a fraction, so 1 point "
                    "is 0.01"
                )
            if self.data.valid == 0:
                raise ConfigError("until.accuracy_drop needs validation data; data.valid is 0")
            skipping = [name for name, arm in self.arms.items() if arm.evaluate_at]
            if skipping:
                raise ConfigError(
                    f"until.accuracy_drop looks at every round; arm {skipping[0]} has evaluate_at"
                )
        endless = [name for name in self.arms if self.arm(name).endless]
        if endless and not until.given:
            raise ConfigError(
                "the recipe needs until: rounds, density, density_total or accuracy_drop, since "
                f"arm {endless[0]} has no end of its own"
            )
        own = {
            f"arms.{name}.training": self.arm(name).searching(self.training) for name in self.arms
        }
        for where, training in (
            ({"training": self.training} | own).items() if self.data.valid == 0 else ()
        ):
            if training.patience is not None:
                raise ConfigError(f"{where}.patience looks at validation data; data.valid is 0")
            if training.select == "best":
                raise ConfigError(
                    f"{where}.select is best; without validation data (data.valid: 0) it must be "
                    "last"
                )

    def plain(self) -> dict[str, Any]:
        """Return the resolved recipe as plain data, every default written out; reading it gives
        this recipe again.
        """
        whole: dict[str, Any] = dataclasses.asdict(self)
        whole["arms"] = {name: arm.plain() for name, arm in self.arms.items()}
        whole = _listed(whole)
        for section in ("data", "model"):
            whole[section] |= whole[section].pop("options")
        if self.task == CLASSIFICATION:
            del whole["task"]
        for key in ("classes", "skew"):  # runs of before there were these keep their names
            if whole["data"][key] is None:
                del whole["data"][key]
        if whole["model"]["mask"] is None:
            del whole["model"]["mask"]
        if self.profile is not None:
            whole["profile"]["except"] = whole["profile"].pop("but")
        return whole

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


class _Loader(yaml.SafeLoader):
    """YAML that gives plain data: texts, numbers, true, false and null, in lists and mappings with
    texts as keys.

    1e-3 is a number, a date is a text. A key given twice, what refers to itself, and what is nested
    too deep or is too much once its aliases are written out are errors with their line.
    """

    _depth = 0
    _line = 1  # of what is being made, for errors that do not say where they are

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        self._count(node, {})
        return self.construct_document(node)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _wrong(f"nested more than {_DEEPEST} deep", self.peek_event())  # type: ignore[no-untyped-call]
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _count(self, node: yaml.Node, known: dict[int, int]) -> int:
        """Count what there is of a node when its aliases are written out."""
        if id(node) in known:
            if known[id(node)] == 0:
                raise _wrong("what begins here refers to itself", node)
            return known[id(node)]
        known[id(node)] = 0  # under way
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            inner = [one for pair in node.value for one in pair]
        number = 1 + sum(self._count(one, known) for one in inner)
        if number > _MOST_NODES:
            raise _wrong(f"more than {_MOST_NODES:,} values once the aliases are written out", node)
        known[id(node)] = number
        return number

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        self._line = node.start_mark.line + 1
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:  # of a number, a date or a tag that is none
            if isinstance(error, InputError) or not isinstance(node, yaml.ScalarNode):
                raise
            raise _wrong(
                f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}", node
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self._line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise _wrong("a mapping is expected", node)
        self.flatten_mapping(node)
        pairs = []
        for key, value in node.value:  # a key is a name; to YAML 1.1 the bare word `on` is true
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a key is a text, not a list or a mapping", key)
            pairs.append(
                (
                    yaml.ScalarNode(
                        "tag:yaml.org,2002:str", key.value, key.start_mark, key.end_mark
                    ),
                    value,
                )
            )
        node.value = pairs
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put in what merge keys refer to; before that, refuse a key that is given twice."""
        merge, seen = "tag:yaml.org,2002:merge", set[str]()
        for key, _ in node.value if node not in self._flat else ():
            if key.tag != merge and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(
                        f"{shown(key.value)} is given twice in the mapping that begins in line "
                        f"{node.start_mark.line + 1}"
                    )
                seen.add(key.value)
        self._flat.add(node)
        super().flatten_mapping(node)

    @functools.cached_property
    def _flat(self) -> set[yaml.Node]:
        """The mappings whose merge keys are put in: what comes with them may stand there twice."""
        return set()


def _wrong(what: str, at: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=at.start_mark)  # type: ignore[arg-type]


def _as_text(_: yaml.SafeLoader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong("a date is a text, not a list or a mapping", node)
    return str(node.value)


def _no_plain_data(_: yaml.SafeLoader, node: yaml.Node) -> Any:
    raise _wrong(
        f"{node.tag.rpartition(':')[2]} is not for recipes, which hold texts, numbers, lists and "
        "mappings",
        node,
    )


for _kind in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _no_plain_data)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


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
    """List the variants that a recipe names; each is an experiment of its own, and they are
    reported together.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.yaml")
    ...     _ = path.write_text("variants: {low: {training.lr: 0.01}, high: {training.lr: 0.1}}")
    ...     variants(path)
    ['low', 'high']
    """
    return list(_sets(_load(Path(path), scale), "variants"))


def _load(path: Path, scale: str | None) -> dict[str, Any]:
    """Read a recipe as plain data, with the overrides of a scale put over it."""
    path = recipes.path_of(path)
    try:
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
    whole = from_yaml(text, str(path))
    if not isinstance(whole, dict):
        raise ConfigError(
            f"'{path}' holds no recipe; it should be a mapping with name, training and arms"
        )
    whole.setdefault("name", path.stem)
    _take(whole, "scales", scale)
    return whole


def _sets(
    whole: Mapping[str, Any], kind: Literal["scales", "variants"]
) -> dict[str, dict[str, Any]]:
    """Return a recipe's own named sets of overrides."""
    sets = whole.get(kind)
    if sets is None:
        return {}
    if not isinstance(sets, dict) or not all(isinstance(one, dict) for one in sets.values()):
        odd = (
            next(one for one in sets.values() if not isinstance(one, dict))
            if isinstance(sets, dict)
            else sets
        )
        raise ConfigError(
            f"{kind} has {shown(odd)}; it names sets of overrides, such as "
            f"{kind}: {{small: {{training.epochs: 1}}}}"
        )
    return sets


def _take(whole: dict[str, Any], kind: Literal["scales", "variants"], name: str | None) -> None:
    """Put one of a recipe's own named sets of overrides over it; such a run has a name of its
    own.
    """
    sets = _sets(whole, kind)
    whole.pop(kind, None)
    if name is None:
        return
    if name not in sets:
        raise ConfigError(
            f"the recipe has no {kind[:-1]} {shown(name)}; it has: {', '.join(sets) or 'none'}."
            f"{near(name, sets)}"
        )
    whole["name"] = f"{whole['name']}-{name}"
    for dotted, value in sets[name].items():
        _override(whole, str(dotted), value)


def from_yaml(text: str, where: str) -> Any:
    """Read plain data from YAML, by the rules of a recipe.

    Args:
        text: The YAML.
        where: What it is called in the message, such as its file.

    Raises:
        ConfigError: It is no YAML, or no plain data; the message has its line.

    >>> from_yaml("{a: 1e-3, on: [2001-01-01]}", "mine.yaml")
    {'a': 0.001, 'on': ['2001-01-01']}
    """
    line = 1
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            line = loader._line
            loader.dispose()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = line if mark is None else mark.line + 1
        why = ", ".join(filter(None, (error.context, error.problem)))
    except yaml.reader.ReaderError as error:
        line, why = text.count("\n", 0, error.position) + 1, error.reason
    except (
        Exception
    ) as error:  # whatever the library meets in numbers, dates and tags that are none
        why = f"{type(error).__name__}: {error}"
    raise ConfigError(f"{where} is no valid YAML: line {line}: {why}")


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


def pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Read overrides as they stand on a command line: dotted names and their values.

    >>> pairs(["--training.lr", "0.01", "--data=mnist"])
    [('training.lr', 0.01), ('data', 'mnist')]
    """
    found, rest = [], list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"{shown(flag)} stands alone; an override is --dotted.name VALUE")
        name, equals, value = flag[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"{flag} has no value; an override is --dotted.name VALUE")
            value = rest.pop(0)
        found.append((name, from_yaml(value, flag)))
    return found


def _override(whole: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    known = whole.get("arms")
    if (
        parents[:1] == ["arms"]
        and len(parents) > 1
        and isinstance(known, dict)
        and parents[1] not in known
    ):
        raise ConfigError(
            f"--{dotted}: there is no arm {shown(parents[1])}; the arms are: {', '.join(known)}."
            f"{near(parents[1], known)} A new one is given whole: "
            f"--arms.{parents[1]} '{{method: lth, rate: 0.2}}'"
        )
    place = whole
    for parent in parents:
        inner = place.get(parent, {})
        if isinstance(inner, str) and dotted.startswith(("data.", "model.")):  # data: digits
            inner = {"name": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"--{dotted}: {shown(parent)} is {shown(inner)}, not a mapping")
        # a copy: by an anchor of YAML other arms may hold the same mapping
        place[parent] = dict(inner)
        place = place[parent]
    place[last] = value


def parse(whole: Mapping[str, Any], recorded: Mapping[str, Any] | None = None) -> Recipe:
    """Make a recipe of plain data.

    Args:
        whole: The recipe.
        recorded: What a run folder knows of the arms with methods of the user's own, which are not
            imported then.

    >>> arms = {"lth": {"method": "lth", "rate": 0.2}}
    >>> recipe = parse({"name": "x", "training": {"epochs": 1}, "arms": arms, "until": {"rounds": 2}})
    >>> recipe.data.name, recipe.arms["lth"].rate
    ('digits', 0.2)
    """
    check_plain(whole, "the recipe")
    whole, renamed = _with_new_names(whole, imports=recorded is None)
    if recorded is None:
        arms.tell_old_names(renamed)
    whole = _spelled_out(whole)
    for section, kind in (("data", Data), ("model", Model)):
        given = whole.get(section)
        if isinstance(given, Mapping):
            own = {field.name for field in dataclasses.fields(kind)}
            options = {str(key): value for key, value in given.items() if key not in own}
            _check_options(options, section)
    given = whole.get("arms")
    if isinstance(given, Mapping):
        whole["arms"] = {
            str(name): arms.read(arm, f"arms.{name}", recorded) for name, arm in given.items()
        }
    recipe: Recipe = filled(Recipe, whole, "")
    return recipe


def without_arms(recipe: Recipe) -> Recipe:
    """Return a recipe with the dense network alone: a worker needs no more, nor the code of the
    user's own arms.
    """
    return replace(recipe, arms={DENSE: arms.read({"method": "dense"}, DENSE)})


def _check_options(options: Mapping[str, Any], where: str) -> None:
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
    made: _Kind = filled(kind, given, where)
    return made


@dataclass(frozen=True)
class Seeds:
    """The seeds of a ticket: its replicate's, which everything is drawn from, and the recipe's."""

    replicate: int
    recipe: int = 0


@dataclass(frozen=True)
class Origin:
    """Where a ticket says that it comes from, as far as it is trained again by it. It may be a
    stranger's.

    Attributes:
        model: The model; weights are the ticket's own.
        data: The data set, and how it was treated.
        training: How it was trained.
        seeds: What was drawn from.
        arm: The arm that found it; ``None`` where it does not say.
        method: That arm's own "method", where it says so.
        round: After how many cuts.
        replicate: Of which replicate.
        rewind_step: Steps behind the rewind point.
        fingerprint: Of the data.
        class_numbers: The published numbers of the classes that were taken, if not all.
    """

    model: Model
    data: Data
    training: Training
    seeds: Seeds
    arm: str | None = None
    method: str | None = None
    round: int = 0
    replicate: int = 0
    rewind_step: int = 0
    fingerprint: str | None = None
    class_numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.arm is not None:
            arms.check_name(self.arm, "arm", "a folder")
        most = {
            "round": MOST_ROUNDS,
            "replicate": MOST_REPLICATES,
            "rewind_step": 1e9,
            "class_numbers": 1e9,
        }
        check_most(self, most)
        numbers = {"round": self.round, "replicate": self.replicate, "rewind_step": self.rewind_step,
                   "seeds.replicate": self.seeds.replicate, "seeds.recipe": self.seeds.recipe}  # fmt: skip
        for name, number in numbers.items():
            if not 0 <= number < 2**64:
                raise ConfigError(
                    f"{name} is {shown(number)}; it must be 0 or more, and below 2 ** 64"
                )

    @classmethod
    def read(cls, given: Mapping[str, Any], where: str) -> Origin:
        """Read what a ticket says of its origin by the same rules as a recipe; what is not needed
        is not looked at.

        Args:
            given: The ticket's ``origin``.
            where: The ticket, for the message.

        Raises:
            ConfigError: Something is missing, of the wrong kind or out of its bounds.

        >>> said = {"model": {"name": "mlp"}, "data": {"name": "digits"}, "training": {"epochs": 1}}
        >>> Origin.read(said | {"seeds": {"replicate": 3}, "round": 2}, "mine.safetensors").round
        2
        >>> Origin.read(said | {"seeds": {"replicate": 3}, "round": "../x"}, "mine.safetensors")
        Traceback (most recent call last):
        tombola.ground.errors.ConfigError: mine.safetensors: round is '../x'; it should be a whole number.
        """
        lacking = [
            key
            for key in ("model", "data", "training", "seeds")
            if not isinstance(given.get(key), Mapping)
        ]
        if lacking:
            raise ConfigError(
                f"{where} does not say what it was found with ({lacking[0]}); transfer needs a "
                "ticket of a run"
            )
        model, data, seeds = given["model"], given["data"], given["seeds"]
        method = given.get("method")
        whole = {
            "model": {
                key: model[key] for key in ("name", "options", "head", "init") if key in model
            },
            "data": {
                field.name: data[field.name]
                for field in dataclasses.fields(Data)
                if field.name in data
            },
            "training": given["training"],
            "seeds": {key: seeds[key] for key in ("replicate", "recipe") if key in seeds},
            "method": method.get("method") if isinstance(method, Mapping) else method,
            **{
                key: given[key]
                for key in ("arm", "round", "replicate", "rewind_step")
                if key in given
            },
            **{key: data[key] for key in ("fingerprint", "class_numbers") if key in data},
        }
        try:
            check_plain(whole, "it")
            for section in ("model", "data"):
                options = whole[section].get("options", {})
                _check_options(options if isinstance(options, Mapping) else {}, section)
            origin: Origin = filled(cls, whole, "")
        except InputError as error:
            raise ConfigError(f"{where}: {error}") from error
        return origin


def _with_new_names(
    whole: Mapping[str, Any], *, imports: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return plain data with the names that entries have today, and the new names by the old ones."""
    whole = dict(whole)
    renamed: dict[str, str] = {}
    given = whole.get("arms")
    if isinstance(given, Mapping):
        whole["arms"] = dict(given)
        for name, arm in given.items():
            if isinstance(arm, Mapping):
                entries, old = arms.with_new_names(arm, f"arms.{name}", imports=imports)
                whole["arms"][name] = entries
                renamed |= old
    profile = whole.get("profile")
    excepted = profile.get("except") if isinstance(profile, Mapping) else None
    if isinstance(profile, Mapping) and isinstance(excepted, list | tuple):
        new_names = {f"arms.{old}": f"arms.{new}" for new, old in OLD_NAMES.items()}
        old = {entry: new_names[entry] for entry in map(str, excepted) if entry in new_names}
        renamed |= {f"profile.except: {entry}": new for entry, new in old.items()}
        new_entries = [old.get(str(entry), entry) for entry in excepted]
        whole["profile"] = {**profile, "except": new_entries}
    return whole, renamed


def _spelled_out(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data with its profile put in."""
    whole = dict(whole)
    profile = whole.get("profile")
    if profile is not None:
        whole["profile"] = filled(profiles.Profile, profile, "profile")
        whole = profiles.put_in(whole, whole["profile"])
    return whole
