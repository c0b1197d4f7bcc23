"""Endings: why a search or an arm stopped, as data and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Cause = Literal["", "unchanged", "collapsed", "worse", "said", "error", "source"]


@dataclass(frozen=True)
class End:
    """Why a search or an arm ended.

    Attributes:
        cause: "unchanged": a round removed nothing; "collapsed": its cut left layers without a
            weight; "worse": a ticket was worse on validation data than the recipe allows; "said": a
            user's own method said so; "error": a training or the method's own code failed;
            "source": the arm that it follows did. Empty where it reached its goal.
        text: The same in words.
        round: The round concerned; ``None`` if there is none.
        layers: Layers that the cut left without a weight.
        missed: Densities of ``evaluate_at`` that no round reached.

    >>> end = End.collapsed(7, ["a.weight"])
    >>> str(end), end.layers
    ('layer collapse in round 7: no weight is left in a.weight', ('a.weight',))
    >>> bool(End())
    False
    """

    cause: Cause = ""
    text: str = ""
    round: int | None = None
    layers: tuple[str, ...] = ()
    missed: tuple[float, ...] = ()

    @classmethod
    def unchanged(cls, index: int, kept: int) -> End:
        """The end by a round that removed nothing."""
        return cls("unchanged", f"round {index} removes nothing: {kept} weights are kept", index)

    @classmethod
    def collapsed(cls, index: int, layers: list[str]) -> End:
        """The end by a round that left layers without a weight."""
        text = f"layer collapse in round {index}: no weight is left in {', '.join(layers)}"
        return cls("collapsed", text, index, tuple(layers))

    @classmethod
    def of(cls, value: object) -> End:
        """Convert a generator's return value: an end, or a user's own words."""
        if isinstance(value, End):
            return value
        return cls("said", str(value)) if value else cls()

    def missing(self, missed: tuple[float, ...], last: float) -> End:
        """Add the densities that no round reached, as the last one leaves more."""
        if not missed:
            return self
        densities = ", ".join(f"{target:g}" for target in missed)
        text = f"no round reaches {densities} of evaluate_at; the last one leaves {last:.4g}"
        return replace(self, missed=missed, text="; ".join(filter(None, (self.text, text))))

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.text)

    def to_dict(self) -> dict[str, Any]:
        """Return the entries that are set, except the text, as a run folder keeps them."""
        entries = {
            "cause": self.cause,
            "round": self.round,
            "layers": [*self.layers],
            "missed": [*self.missed],
        }
        return {key: value for key, value in entries.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Ending:
    """How an arm of a replicate ended.

    Attributes:
        state: "open", "finished", "failed" or "skipped".
        why: In words.
        rounds: The number of rounds done.
        goal: How far it was to go.
        packed: Whether it came from a packed run, without its tickets.
        end: The same as ``why``, as data, see `End`; empty in older runs.
    """

    state: str
    why: str
    rounds: int
    goal: Mapping[str, Any]
    packed: bool = False
    end: Mapping[str, Any] = field(default_factory=dict)

    @property
    def collapsed(self) -> tuple[int, tuple[str, ...]] | None:
        """The round whose collapse ended the arm, and the empty layers; else ``None``.

        >>> end = {"cause": "collapsed", "round": 7, "layers": ["a.weight"]}
        >>> Ending("finished", "…", 6, {}, end=end).collapsed
        (7, ('a.weight',))
        """
        if not self.end:
            return _collapse_in_words(self.why)
        if self.end.get("cause") != "collapsed":
            return None
        return self.end["round"], tuple(self.end["layers"])


def _collapse_in_words(why: str) -> tuple[int, tuple[str, ...]] | None:
    """Read a collapse from its sentence: older runs have nothing else.

    >>> _collapse_in_words("layer collapse in round 7: no weight is left in a.weight, b.weight")
    (7, ('a.weight', 'b.weight'))
    """
    match = re.search(r"layer collapse in round (\d+): no weight is left in ([^;]+)", why)
    if match is None:
        return None
    return int(match[1]), tuple(match[2].split(", "))
