"""Methods: what an arm does, one private file per method.

``tombola.methods._lth`` provides the method ``lth``. A method is a frozen dataclass derived from
`Method`: its fields are its options. A recipe names a user-defined one ``package.module:Name``.
"""

from __future__ import annotations

import importlib

from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, near, shown
from tombola.methods.cards import Card, in_order
from tombola.methods.following import Following as Following
from tombola.methods.method import Match as Match
from tombola.methods.method import Method as Method
from tombola.methods.method import Reach as Reach
from tombola.methods.method import name_of as name_of
from tombola.methods.own import held as held
from tombola.methods.own import load as load
from tombola.methods.searching import Rounds as Rounds
from tombola.methods.searching import Search as Search
from tombola.methods.setting import Ground as Ground
from tombola.methods.setting import Setting as Setting

_PACKAGE = "tombola.methods"


def names() -> list[str]:
    """List the methods that ship.

    >>> {"colt", "dense", "lth"} <= set(names())
    True
    """
    return catalogue.entries(_PACKAGE)


def shipped(name: str) -> type[Method] | None:
    """Return the shipped method of that name, if there is one; user code is never imported.

    >>> shipped("lth").searches, shipped("os:system")
    (True, None)
    """
    if name not in names():
        return None
    module = importlib.import_module(f"{_PACKAGE}._{name}")
    method: type[Method] = getattr(module, name.title().replace("_", ""))
    return method


def named(name: str, where: str = "method") -> type[Method]:
    """Return the method of that name, a shipped one or the user's ``package.module:Name``.

    Raises:
        ConfigError: There is none, or the user's method cannot be imported.
    """
    method = load(name, where) if catalogue.is_own(name) else shipped(name)
    if method is None:
        known = names()
        raise ConfigError(
            f"{where} is {shown(name)}; it should be one of {', '.join(known)}.{near(name, known)}"
        )
    return method


def every_card() -> list[Card]:
    """Return the cards of all methods that ship, by role and name."""
    cards: list[Card] = []
    for name in names():
        cards += named(name).cards
    return in_order(cards)
