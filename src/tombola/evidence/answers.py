"""Evidence: the results that a report is made of, and what follows from them, worked out once.

    records -> [ Evidence ] -> comparisons, verdicts, accounts, aggregates
            -> tables, figures, sentences

Tables, charts and sentences of a page rest on the same accounts and comparisons. A function that is
marked `once` keeps its answer with the evidence that it was asked about, so each section asks for
what it needs, and answers need not be passed around.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

Record = Mapping[str, Any]
_Options = ParamSpec("_Options")
_Records = TypeVar("_Records", bound=Iterable[Record])
_Answer = TypeVar("_Answer")


class Evidence(Sequence[Record]):
    """Results that do not change any more, in their order, with the answers worked out of them.

    >>> evidence = Evidence([{"arm": "lth", "round": 1}, {"arm": "dense", "round": 0}])
    >>> len(evidence), evidence[1]["arm"], Evidence.of(evidence) is evidence
    (2, 'dense', True)
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = tuple(records)
        self._answers: dict[Hashable, tuple[object, Any]] = {}

    @classmethod
    def of(cls, records: Iterable[Record]) -> Evidence:
        """Return records as evidence; evidence is returned as it is, with its answers."""
        return records if isinstance(records, cls) else cls(records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def _answer(self, work: Callable[..., _Answer], options: Mapping[str, Any]) -> _Answer:
        key = (work, *((name, _key(value)) for name, value in options.items()))
        if key not in self._answers:
            # Kept with the answer: an option that is known by its identity must not be let go of
            # for another one.
            self._answers[key] = options, work(self, **options)
        answer: _Answer = self._answers[key][1]
        return answer


def once(
    work: Callable[Concatenate[_Records, _Options], _Answer],
) -> Callable[Concatenate[_Records, _Options], _Answer]:
    """Make a function of records answer once for the same evidence and options.

    Of records that are no `Evidence` it answers each time. Nobody may change an answer, nor an
    option that was asked with.

    >>> calls = []
    >>> @once
    ... def number(records, arm):
    ...     calls.append(arm)
    ...     return sum(record["arm"] == arm for record in records)
    >>> evidence = Evidence([{"arm": "lth"}, {"arm": "lth"}])
    >>> number(evidence, "lth"), number(evidence, "lth"), number(list(evidence), "lth"), calls
    (2, 2, 2, ['lth', 'lth'])
    """

    signature = inspect.signature(work)

    @functools.wraps(work)
    def answer(records: _Records, *options: _Options.args, **named: _Options.kwargs) -> _Answer:
        if not isinstance(records, Evidence):
            return work(records, *options, **named)
        # However they are given, by place, by name or not at all, the same options are the same
        # question.
        bound = signature.bind(records, *options, **named)
        bound.apply_defaults()
        _, *options_by_name = bound.arguments.items()
        return records._answer(work, dict(options_by_name))

    return cast(Callable[Concatenate[_Records, _Options], _Answer], answer)


def _key(option: Any) -> Hashable:
    """Return what an option is known by: its value, or its identity where it has no hash."""
    if isinstance(option, list):
        return tuple(map(_key, option))
    try:
        hash(option)
    except TypeError:
        return "object", id(option)
    return type(option), option
