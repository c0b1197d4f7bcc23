"""Arms: what an experiment compares, one method or control each, checked before anything runs.

    recipe -> [ arm ] -> plan -> search or control -> tickets -> records

An arm is a method with its options. It stands by itself (``lth``, ``colt``, ``one_shot`` ...) or
follows another one: it keeps as many weights (``match``), takes that one's tickets and changes them
(``source``), or trains as long (``as_long_as``). ``docs/arms.md`` is the page for readers.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tombola import methods
from tombola.evidence.comparisons import DENSE
from tombola.ground import catalogue
from tombola.ground.checking import check_most, filled
from tombola.ground.errors import ConfigError, OldNameWarning, near, shown
from tombola.methods import Method
from tombola.methods.method import OLD_NAMES, WRITTEN_OUT
from tombola.methods.own import Recorded

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# of a name that makes a folder: file systems take 255, and files are named after it
MOST_LETTERS = 100
_MOST_ARMS, _LONGEST_CHAIN = 1000, 100
_MOST = {
    "partitions": 1000,
    "train_on": 1000,
    "densities": 1,
    "evaluate_at": 1,
    "lr": 1e38,
    "score": 1,
}
MATCHED = "lth"  # the method of an arm that says no more than which other one it matches


def read(given: Any, where: str, recorded: Mapping[str, Any] | None = None) -> Method:
    """Make an arm of plain data: its method with the options that are given.

    An entry of another method is refused, unless it is one that every arm wrote out once and stands
    at the value that it had there when nobody gave another one.

    Args:
        given: The arm as a recipe writes it.
        where: What it is called in messages, ``arms.NAME``.
        recorded: What a run folder knows of methods of the user's own, by ``where``: they are not
            imported then.

    Raises:
        ConfigError: There is no such method, or it has no such option, or an option is of another
            type.

    >>> read({"match": "colt-2"}, "arms.matched").method
    'lth'
    >>> read({"method": "lth", "rate": 0.2, "partitions": 2}, "arms.lth")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: arms.lth.partitions has no meaning with method: lth, \
which takes match, rate, reach, densities, exact, scope, score, scored, training, \
allow_collapse; method: colt has it
    """
    if isinstance(given, Method):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {shown(given)}; it should be a mapping")
    entries, renamed = with_new_names(given, where, imports=recorded is None)
    if recorded is None:
        tell_old_names(renamed)
    name = entries.pop("method", None)
    if name is None and entries.get("match") is not None:
        name = MATCHED
    if name is None:
        raise ConfigError(f"{where} needs a method ({', '.join(methods.names())}) or match: ARM")
    if not isinstance(name, str):
        raise ConfigError(
            f"{where}.method is {shown(name)}; it should be one of {', '.join(methods.names())}."
        )
    # A stranger's run folder is read without running the code that it names.
    if recorded is not None and catalogue.is_own(name):
        return Recorded.read(name, entries, recorded.get(where, {}), where)
    kind = methods.named(name, f"{where}.method")
    with catalogue.own_code(name, "arms"):
        _take_out(entries, kind, where)
        arm: Method = filled(kind, entries, where)
    return arm


def with_new_names(
    given: Mapping[Any, Any], where: str, *, imports: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return an arm's entries under the names that they have today, and those that had others.

    Args:
        given: The arm as a recipe writes it.
        where: What it is called in messages.
        imports: Whether a method of the user's own may be imported to look at its options.

    Returns:
        The entries, and the new names of the renamed ones by their old names.

    Raises:
        ConfigError: An entry is given under both names.

    >>> with_new_names({"method": "random_ticket", "of": "lth"}, "arms.random")
    ({'method': 'random_ticket', 'source': 'lth'}, {'arms.random.of': 'source'})
    """
    entries: dict[str, Any] = {}
    for key, value in given.items():
        # The bare word `on` is true to readers of YAML 1.1.
        entries["on" if key is True else str(key)] = value
    kind = _kind_of(entries, where, imports)
    if kind is None:
        return entries, {}
    renamed = {}
    # Arms of before wrote out the entries of all methods, so there may be old names of others.
    for new, old in (OLD_NAMES if kind.written_out else kind.old_names).items():
        if old not in entries:
            continue
        if new in entries:
            raise ConfigError(f"{where} has {new} and {old}, which is its old name; take {old} out")
        entries = {new if key == old else key: value for key, value in entries.items()}
        if new in kind.old_names:
            renamed[f"{where}.{old}"] = new
    return entries, renamed


def tell_old_names(renamed: Mapping[str, str]) -> None:
    """Warn in one line of old names that a recipe uses.

    Args:
        renamed: The new names by the dotted old ones.
    """
    if renamed:
        names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
        warnings.warn(f"old names are read in this recipe: {names}", OldNameWarning, stacklevel=2)


def _kind_of(entries: Mapping[str, Any], where: str, imports: bool) -> type[Method] | None:
    """Return the method that an arm names; ``None`` where it is not known or not to be imported."""
    name = entries.get("method", MATCHED)
    if not isinstance(name, str):
        return None
    if catalogue.is_own(name):
        return methods.named(name, f"{where}.method") if imports else None
    return methods.shipped(name)


def _take_out(entries: dict[str, Any], kind: type[Method], where: str) -> None:
    """Take out the entries of other methods that stand where they always stood, and refuse
    those that do not.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for key in list(entries):
        if key in known:
            continue
        # An entry of another method, which every arm wrote out once with its default.
        default = _listed(WRITTEN_OUT.get(key))
        if kind.written_out and key in WRITTEN_OUT and _listed(entries[key]) == default:
            del entries[key]
        else:
            raise _unknown_option(key, kind, known, where)


def _unknown_option(key: str, kind: type[Method], known: Sequence[str], where: str) -> ConfigError:
    """Say whose option a key is that a method does not have, or what may have been meant."""
    options = ", ".join(kind.options())
    every_option = list(known)
    having = []
    for method in methods.names():
        options_of_method = methods.named(method).options()
        every_option += options_of_method
        if key in options_of_method:
            having.append(method)
    if not having:
        return ConfigError(
            f"there is no {shown(f'{where}.{key}')}; {where} has: {options}."
            f"{near(key, every_option)}"
        )
    words = f"methods {', '.join(having)} have it"
    if len(having) == 1:
        words = f"method: {having[0]} has it"
    return ConfigError(
        f"{where}.{key} has no meaning with method: {methods.name_of(kind)}, which takes "
        f"{options}; {words}"
    )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def check(arms: Mapping[str, Method]) -> None:
    """Refuse arms that have no meaning, alone or together.

    Raises:
        ConfigError: The first thing that is wrong, with the value seen and what would be right.

    >>> lth = read({"method": "lth", "rate": 0.2}, "lth")
    >>> check({"lth": lth, "control": read({"method": "shuffled", "source": "lth"}, "control")})
    >>> check({"lth": lth, "control": read({"method": "shuffled", "source": "lht"}, "control")})
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: arms.control.source is 'lht'; \
the other arms are: lth. Did you mean 'lth'?
    """
    if len(arms) > _MOST_ARMS:
        raise ConfigError(f"the recipe has {len(arms):,} arms; it may have at most {_MOST_ARMS:,}")
    for name, arm in arms.items():
        check_name(name, "an arm's name", "its folder")
        options = {field.name for field in dataclasses.fields(arm)}
        most = {option: bound for option, bound in _MOST.items() if option in options}
        check_most(arm, most, f"arms.{name}")
        arm = methods.held(arm)
        # Every comparison takes the arm of this name for the dense network.
        if name == DENSE and (arm.has_tickets or arm.source):
            raise ConfigError(
                "an arm named dense is the dense network, {method: dense}; give this one another "
                "name"
            )
        arm.check(f"arms.{name}")
        _check_sources(name, arm, arms)
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
        raise ConfigError(
            f"{what} is {shown(name)}; letters, digits, '.', '_' and '-' make {makes}"
        )
    if len(name) > MOST_LETTERS:
        raise ConfigError(
            f"{what} is {shown(name)}, of {len(name)} letters; {makes} is named by at most "
            f"{MOST_LETTERS}"
        )


def order(arms: Mapping[str, Method]) -> list[str]:
    """Return the arms so that each stands behind the one it follows.

    Raises:
        ConfigError: Arms follow each other in a circle.

    >>> lth, matched = {"method": "lth", "rate": 0.2}, {"match": "lth"}
    >>> order({"matched": read(matched, "matched"), "lth": read(lth, "lth")})
    ['lth', 'matched']
    """
    depths: dict[str, int] = {}  # how many others each follows, one after the other
    for name in arms:
        # From an arm to those that it follows, depth first; an arm is done when they are.
        chain: dict[str, None] = {}
        waiting = [name]
        while waiting:
            current = waiting[-1]
            followed = [source for _, source in arms[current].follows]
            unknown = [source for source in followed if source not in depths]
            if current in depths or not unknown:
                waiting.pop()
                chain.pop(current, None)
                if current not in depths:
                    depths[current] = max((depths[source] + 1 for source in followed), default=0)
                continue
            chain[current] = None
            if unknown[0] in chain:
                members = list(chain)
                circle = [*members[members.index(unknown[0]) :], unknown[0]]
                raise ConfigError(
                    f"the arms {' -> '.join(circle)} follow each other in a circle; one of them "
                    "must stand by itself"
                )
            waiting.append(unknown[0])
    deepest = max(depths, key=lambda name: depths[name], default="")
    if deepest and depths[deepest] > _LONGEST_CHAIN:
        raise ConfigError(
            f"arms.{deepest} follows an arm that follows an arm and so on, {depths[deepest]:,} of "
            f"them; at most {_LONGEST_CHAIN} may follow each other"
        )
    return list(depths)


def leading(arm: Method, arms: Mapping[str, Method]) -> Method:
    """Return the arm that stands by itself at the end of those that an arm follows; it may be the
    arm itself.

    >>> lth, drawn = {"method": "lth", "rate": 0.2}, {"method": "random_ticket", "source": "lth"}
    >>> arms = {name: read(given, name) for name, given in {"lth": lth, "drawn": drawn}.items()}
    >>> leading(arms["drawn"], arms).method
    'lth'
    """
    while arm.source is not None:
        arm = arms[arm.source]
    return arm


def rewinds(arm: Method, arms: Mapping[str, Method]) -> bool:
    """Whether an arm's tickets start from the rewind point that the whole replicate shares, whoever
    leads it there.

    >>> lth, moved = {"method": "lth", "rate": 0.2}, {"method": "shuffled", "source": "lth"}
    >>> arms = {name: read(given, name) for name, given in {"lth": lth, "moved": moved}.items()}
    >>> rewinds(arms["moved"], arms)
    True
    """
    while arm.starts == "source":
        arm = arms[arm.source or ""]
    return arm.rewinds


def _check_sources(name: str, arm: Method, arms: Mapping[str, Method]) -> None:
    """Refuse to follow arms that are not there or do not fit."""
    for entry in arm.follows:
        _check_followed(name, entry, arms)
    if arm.followed is not None:
        key, source = arm.followed
        arm.check_source(f"arms.{name}.{key}", arms[source])


def _check_followed(name: str, entry: tuple[str, str], arms: Mapping[str, Method]) -> None:
    key, source = entry
    where = f"arms.{name}.{key}"
    if source == name:
        raise ConfigError(f"{where} is the arm itself; name another one")
    if source not in arms:
        others = list(arms)
        others.remove(name)
        raise ConfigError(
            f"{where} is {shown(source)}; the other arms are: {', '.join(others)}."
            f"{near(source, others)}"
        )
    if reason := methods.held(arms[source]).followers():
        raise ConfigError(f"{where} is '{source}', {reason}")
