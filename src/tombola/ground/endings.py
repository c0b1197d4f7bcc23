"""Endings: why a search, or an arm, stopped where it did, as data and in words."""

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
            method of the user's own said so; "error": a training or the method's own code failed;
            "source": the arm that it follows did. Empty where it came to its goal.
        text: The same in words.
        round: The round that it is about; ``None`` where it is about none.
        layers: Those that the cut left without a weight.
        missed: Densities of ``evaluate_at`` that no round came to.

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
        """Of a round that removed nothing."""
        return cls("unchanged", f"round {index} removes nothing: {kept} weights are kept", index)

    @classmethod
    def collapsed(cls, index: int, layers: list[str]) -> End:
        """Of a round that left layers without a weight."""
        text = f"layer collapse in round {index}: no weight is left in {', '.join(layers)}"
        return cls("collapsed", text, index, tuple(layers))

    @classmethod
    def of(cls, value: object) -> End:
        """Return what a generator of rounds returned: an end, or words of the user's own."""
        if isinstance(value, End):
            return value
        return cls("said", str(value)) if value else cls()

    def missing(self, missed: tuple[float, ...], last: float) -> End:
        """Return it with the densities that no round came to, as the last one leaves more."""
        if not missed:
            return self
        densities = ", ".join(f"{target:g}" for target in missed)
        told = f"no round reaches {densities} of evaluate_at; the last one leaves {last:.4g}"
        return replace(self, missed=missed, text="; ".join(filter(None, (self.text, told))))

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.text)

    def plain(self) -> dict[str, Any]:
        """Return what it says beside its words, as a run folder keeps it; nothing where there
        is nothing.
        """
        said = {
            "cause": self.cause,
            "round": self.round,
            "layers": [*self.layers],
            "missed": [*self.missed],
        }
        return {key: value for key, value in said.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Ending:
    """How an arm of a replicate ended.

    Attributes:
        state: "open", "finished", "failed" or "skipped".
        why: In words.
        rounds: After how many.
        goal: How far it was to go.
        packed: Whether it came from a packed run, without its tickets.
        end: The same as ``why``, as data, see `End`; empty in runs of before it was written.
    """

    state: str
    why: str
    rounds: int
    goal: Mapping[str, Any]
    packed: bool = False
    end: Mapping[str, Any] = field(default_factory=dict)

    @property
    def collapsed(self) -> tuple[int, tuple[str, ...]] | None:
        """The round whose cut left layers without a weight, which ended the arm, and these layers;
        else ``None``.

        >>> Ending("finished", "…", 6, {}, end={"cause": "collapsed", "round": 7, "layers": ["a.weight"]}).collapsed
        (7, ('a.weight',))
        """
        if self.end:
            return (
                (self.end["round"], tuple(self.end["layers"]))
                if self.end.get("cause") == "collapsed"
                else None
            )
        return _collapse_of_before(self.why)


def _collapse_of_before(why: str) -> tuple[int, tuple[str, ...]] | None:
    """Read a collapse from its sentence: runs of before there were ends as data have nothing else.

    >>> _collapse_of_before("layer collapse in round 7: no weight is left in a.weight, b.weight; no round reaches 0.1")
    (7, ('a.weight', 'b.weight'))
    """
    found = re.search(r"layer collapse in round (\d+): no weight is left in ([^;]+)", why)
    return None if found is None else (int(found[1]), tuple(found[2].split(", ")))
