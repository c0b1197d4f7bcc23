"""Results: what a record says, entry by entry, each with its unit and its meaning.

    evaluation of a ticket -> [ Result ] -> one line of records.jsonl -> tables, figures, verdicts

A line of ``records.jsonl`` is a `Result` as plain data, in this order. ``docs/results.md`` is made
of this file: ``python -m tombola.records.results docs/results.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, no_type_check

from tombola.ground.errors import ConfigError
from tombola.ground.files import write_whole
from tombola.ground.metrics import CLASSIFIED, Metric

Record = Mapping[str, Any]

CLOCKS = ("seconds", "seconds_search", "round_seconds", "cut_seconds", "invariant_seconds")


def _part(meaning: str, unit: str = "", **default: None) -> Any:
    """Declare a field of a cost, with what the page of fields says of it."""
    return field(metadata={"meaning": meaning, "unit": unit}, **default)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Cost:
    """What one training cost, as a record has it; records of before a part was counted have
    ``None`` there.
    """

    role: str = _part(
        '"search" (on a partition), "evaluation" (of a ticket), "pretraining" (up to the rewind point), or "cut" '
        "(no training: what scores that need data went through)."
    )
    training: str = _part("Its digest; arms that share it say the same.")
    samples: int = _part("Training examples seen.", "examples")
    seconds: float = _part("Wall time.", "seconds")
    steps: int | None = _part(
        "Optimiser steps; null in records of before they were counted, as all below.",
        "steps",
        default=None,
    )
    flops: int | None = _part(
        "Of its steps, forward and backward, with all weights.", "FLOP", default=None
    )
    flops_sparse: int | None = _part(
        "Those that the kept weights alone would need.", "FLOP", default=None
    )
    process_seconds: float | None = _part("Processor time.", "seconds", default=None)
    peak_bytes: int | None = _part(
        "The most memory: on CUDA what the training took there, else what its process ever had.",
        "bytes",
        default=None,
    )

    def plain(self) -> dict[str, Any]:
        """Return it as it stands in a record."""
        return asdict(self)

    def timeless(self) -> Cost:
        """Return it without what hangs on the machine and its load."""
        return replace(self, seconds=0.0, process_seconds=None, peak_bytes=None)


def costs_of(record: Record) -> list[Cost]:
    """Return what a round needed that no round of its arm needed before.

    >>> costs_of({"costs": [["search", "ab", 600, 1.5]]})[0].samples
    600
    """
    return [Cost(**one) if isinstance(one, dict) else Cost(*one) for one in record.get("costs", ())]


def timeless(record: Record) -> dict[str, Any]:
    """Return what a record says that is the same on every machine: all but clocks and memory."""
    rest = {key: value for key, value in record.items() if key not in CLOCKS}
    return rest | {"costs": [cost.timeless().plain() for cost in costs_of(record)]}


@dataclass(frozen=True)
class Kind:
    """What an entry must be: the test, in words, and what its parts must be if it is a list or
    a mapping of them.
    """

    holds: Callable[[Any], bool]
    told: str
    part: Kind | None = None


def _or_null(kind: Kind) -> Kind:
    return Kind(
        lambda value: value is None or kind.holds(value), f"{kind.told}, or null", kind.part
    )


def _list(kind: Kind, told: str, numbers: range = range(1_000_000_000)) -> Kind:
    """Return the kind of a list of parts, of which there are so many."""
    holds = kind.holds
    return Kind(
        lambda value: type(value) is list and len(value) in numbers and all(map(holds, value)),
        told,
        kind,
    )


def _mapping(kind: Kind, told: str) -> Kind:
    holds = kind.holds
    return Kind(lambda value: type(value) is dict and all(map(holds, value.values())), told, kind)


# By type: true is an int to isinstance. A comparison is false of NaN, and holds integers of any
# length.
_TEXT = Kind(lambda value: type(value) is str, "a text")
_FACT = Kind(lambda value: type(value) is bool, "true or false")
_COUNT = Kind(lambda value: type(value) is int and value >= 0, "a whole number, 0 or above")
_SIZE = Kind(lambda value: type(value) is int and value > 0, "a whole number above 0")
_NUMBER = Kind(
    lambda value: type(value) in (int, float) and -math.inf < value < math.inf, "a finite number"
)
_FRACTION = Kind(
    lambda value: type(value) in (int, float) and 0 <= value <= 1, "a fraction from 0 to 1"
)

_COSTS = {field.name: _NUMBER if field.default is MISSING else _or_null(_NUMBER) for field in fields(Cost)} | {
    "role": _TEXT, "training": _TEXT, "samples": _COUNT,
}  # fmt: skip
_LEAST = {field.name for field in fields(Cost) if field.default is MISSING}


def _is_cost(value: Any) -> bool:
    if type(value) is list:
        if len(value) > len(_COSTS):
            return False
        value = dict(zip(_COSTS, value, strict=False))
    return (
        type(value) is dict
        and _LEAST <= value.keys() <= _COSTS.keys()
        and all(_COSTS[name].holds(part) for name, part in value.items())
    )


_TEXTS = _list(_TEXT, "a list of texts")
_BY_METRIC = "the metric's"
_COST = Kind(
    _is_cost,
    f"a training's cost: {', '.join(_COSTS)}, of which the first {len(_LEAST)} must be there",
)
_COLUMNS = _mapping(_list(_NUMBER, "a list of finite numbers"), "lists of finite numbers by name")


@dataclass(frozen=True)
class Selected:
    """Which weights of a training were tested, and on what they were chosen.

    Attributes:
        weights: "last", or the "best" of the evaluations.
        on: What the evaluations looked at: "validation" data; "test" data, which is a leak; or
            "nothing".

    >>> Selected("last", "nothing").told
    'last, selected without validation data'
    """

    weights: Literal["last", "best"]
    on: Literal["validation", "test", "nothing"] = "validation"

    @property
    def told(self) -> str:
        """As it stands in records."""
        return self.weights + _SELECTED_ON[self.on]

    @classmethod
    def of(cls, told: str | None) -> Selected | None:
        """Return what a record says; ``None`` of a ticket that was not evaluated.

        Raises:
            ConfigError: No record says so.

        >>> Selected.of("best, selected on test data")
        Selected(weights='best', on='test')
        """
        if told is None:
            return None
        for weights in ("last", "best"):
            for on in _SELECTED_ON:
                selected = cls(weights, on)  # type: ignore[arg-type]
                if selected.told == told:
                    return selected
        raise ConfigError(f"selected is {told!r}; it begins with last or best")


_SELECTED_ON = {
    "validation": "",
    "test": ", selected on test data",
    "nothing": ", selected without validation data",
}


class _Absent:
    """What stands for an entry that a record does not have; null is a value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()


def _entry(
    kind: Kind, meaning: str, unit: str = "", *, group: str, optional: bool = False, name: str = ""
) -> Any:
    """Declare a field of a result.

    Args:
        kind: What it must be in a record.
        meaning: For the page of fields.
        unit: Of its values, where they have one.
        group: Under which heading of the page it stands.
        optional: Whether a record may be without it.
        name: Of a field that holds a number for each metric: what such an entry is called in a
            record.
    """
    metadata = {"kind": kind, "meaning": meaning, "unit": unit, "group": group, "name": name}
    return field(default=ABSENT, metadata=metadata) if optional else field(metadata=metadata)


_WHICH, _TICKET, _MEASURED = "Which result it is", "The ticket", "What was measured"
_COST_OF, _SOME, _TRANSFER = "What it cost", "Where it applies", "Of transfers alone"


@no_type_check  # while running: an entry may be ABSENT, which is no number and no text
@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What is known of a ticket: one line of ``records.jsonl``.

    Numbers of a ticket that was not evaluated are ``None``; entries that do not apply, or that the
    version which wrote the record did not know, are ``ABSENT``. Entries by metric are mappings
    here, and one entry each in a record: ``test["accuracy"]`` is ``test_accuracy``.

    >>> record = {"arm": "lth", "replicate": 0, "round": 1, "kept": 8, "density": 0.8, "mask_digest": "ab",
    ...           "evaluated": True, "samples_seen": 600, "test_accuracy": 0.9, "test_loss": 0.3}
    >>> result = Result.of_record(record)
    >>> result.test, result.valid, result.plain() == record
    ({'accuracy': 0.9, 'loss': 0.3}, {}, True)
    """

    arm: str = _entry(_TEXT, "Name of the arm.", group=_WHICH)
    run_digest: str = _entry(
        _TEXT, "Of the run, which names its folder.", group=_WHICH, optional=True
    )
    arm_digest: str = _entry(_TEXT, "Of the arm's definition.", group=_WHICH, optional=True)
    replicate: int = _entry(
        _COUNT, "Its number; replicates of one number share their seeds.", group=_WHICH
    )
    round: int = _entry(_COUNT, "After how many cuts; 0 is the dense network.", group=_WHICH)

    kept: int = _entry(_COUNT, "Weights that the ticket keeps.", "weights", group=_TICKET)
    prunable: int = _entry(
        _SIZE, "Weights that may be pruned.", "weights", group=_TICKET, optional=True
    )
    total: int = _entry(
        _SIZE, "All convolution, linear and norm weights.", "weights", group=_TICKET, optional=True
    )
    density: float = _entry(_FRACTION, "Kept / prunable.", "fraction", group=_TICKET)
    density_total: float = _entry(
        _FRACTION, "Not pruned / total.", "fraction", group=_TICKET, optional=True
    )
    layers: Mapping[str, Sequence[int]] = _entry(
        _mapping(
            _list(_COUNT, "two whole numbers, [kept, all]", range(2, 3)), "[kept, all] by layer"
        ),
        "Kept and all weights of each layer.",
        "weights",
        group=_TICKET,
        optional=True,
    )
    inference_flops: Sequence[int] = _entry(
        _list(_COUNT, "two whole numbers, [all weights, kept ones]", range(2, 3)),
        "Of one example: with all weights, and what the kept ones alone would need.",
        "FLOP",
        group=_TICKET,
        optional=True,
    )
    mask_digest: str = _entry(_TEXT, "Of the mask.", group=_TICKET)
    rewind_digest: str = _entry(
        _TEXT, "Of the state that the ticket starts from.", group=_TICKET, optional=True
    )
    cut_seconds: float = _entry(
        _NUMBER, "Scoring, pruning and combining.", "seconds", group=_TICKET, optional=True
    )
    invariant_seconds: float = _entry(
        _NUMBER, "Checking the invariants.", "seconds", group=_TICKET, optional=True
    )
    kept_fraction: float | None = _entry(
        _or_null(_FRACTION),
        "Kept of the weights before the round.",
        "fraction",
        group=_TICKET,
        optional=True,
    )
    unmasked: Sequence[str] = _entry(
        _TEXTS,
        "Weights that the rule leaves out, as nothing tells what they are for.",
        group=_TICKET,
        optional=True,
    )
    uncounted: Sequence[str] = _entry(
        _TEXTS, "Operations whose FLOPs are not counted.", group=_TICKET, optional=True
    )
    candidate_densities: Sequence[float] = _entry(
        _list(_FRACTION, "a list of fractions"),
        "Of each partition's candidate.",
        "fraction",
        group=_TICKET,
        optional=True,
    )
    candidate_layers: Mapping[str, Sequence[int]] = _entry(
        _mapping(
            _list(_COUNT, "whole numbers, one a candidate"), "lists of whole numbers by layer"
        ),
        "What each candidate keeps of each layer.",
        "weights",
        group=_TICKET,
        optional=True,
    )
    collapsed: Sequence[str] = _entry(
        _TEXTS, "Layers without a weight.", group=_TICKET, optional=True
    )
    by_itself: bool = _entry(
        _FACT,
        "Whether it needs nothing of the rounds before, as with gradual pruning.",
        group=_TICKET,
        optional=True,
    )

    evaluated: bool = _entry(
        _FACT, "Whether the ticket was trained on all data and tested.", group=_MEASURED
    )
    test: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER),
        "On the test split, with the selected weights.",
        _BY_METRIC,
        group=_MEASURED,
        name="test_{}",
    )
    valid: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER),
        "On the validation split; null without one.",
        _BY_METRIC,
        group=_MEASURED,
        name="valid_{}",
    )
    train: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER), "On the training split.", _BY_METRIC, group=_MEASURED, name="train_{}"
    )
    early_stop_step: int | None = _entry(
        _or_null(_COUNT),
        "Where the validation loss, or what training.select_by says, was best.",
        "steps",
        group=_MEASURED,
        optional=True,
    )
    evaluate_every: int | None = _entry(
        _or_null(_COUNT),
        "Between two looks at the validation split.",
        "steps",
        group=_MEASURED,
        optional=True,
    )
    curve: Mapping[str, Sequence[float]] | None = _entry(
        _or_null(_COLUMNS),
        "What those looks saw: step, loss and metrics, as columns.",
        group=_MEASURED,
        optional=True,
    )
    distance: float | None = _entry(
        _or_null(_NUMBER),
        "How far the kept weights went in the training, root of the mean square.",
        group=_MEASURED,
        optional=True,
    )
    early: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER),
        "The headline on the test split at the early stop.",
        _BY_METRIC,
        group=_MEASURED,
        name="test_{}_early",
    )
    selected: Selected | None = _entry(  # noqa: RUF009 - it gives a field
        _or_null(_TEXT),
        "Which weights were tested: the last or the best, and on what they were chosen.",
        group=_MEASURED,
        optional=True,
    )
    training_digest: str | None = _entry(
        _or_null(_TEXT),
        "Of the training that evaluated it, which names the file of its weights.",
        group=_MEASURED,
        optional=True,
    )

    samples_seen: int = _entry(
        _COUNT,
        "Of all trainings that the arm needed up to here, as if it ran alone.",
        "examples",
        group=_COST_OF,
    )
    samples_seen_search: int = _entry(
        _COUNT, "Of those of its search.", "examples", group=_COST_OF, optional=True
    )
    seconds: float = _entry(
        _NUMBER,
        "Of all those trainings, one after the other.",
        "seconds",
        group=_COST_OF,
        optional=True,
    )
    seconds_search: float = _entry(
        _NUMBER, "Of those of its search.", "seconds", group=_COST_OF, optional=True
    )
    round_seconds: float = _entry(
        _NUMBER,
        "Of those that no round before had needed.",
        "seconds",
        group=_COST_OF,
        optional=True,
    )
    costs: Sequence[Cost] = _entry(
        _list(_COST, "a list of costs"), "Each of those, see below.", group=_COST_OF, optional=True
    )

    profile: str = _entry(_TEXT, "The recipe's.", group=_SOME, optional=True)
    lifted: Sequence[str] = _entry(_TEXTS, "What the profile gives up.", group=_SOME, optional=True)
    class_examples: Sequence[int] = _entry(
        _list(_COUNT, "a list of whole numbers"),
        "Training examples that data.skew leaves of each class.",
        "examples",
        group=_SOME,
        optional=True,
    )
    line: Mapping[str, Sequence[float]] | None = _entry(
        _or_null(_COLUMNS),
        "Between two trainings of the ticket: place, headline and loss, as columns.",
        group=_SOME,
        optional=True,
    )
    barrier: float | None = _entry(
        _or_null(_NUMBER),
        "How much worse the worst place of that line is than its ends.",
        _BY_METRIC,
        group=_SOME,
        optional=True,
    )
    passes: bool | None = _entry(
        _or_null(_FACT),
        "Whether it is as good on validation data as until.accuracy_drop asks.",
        group=_SOME,
        optional=True,
    )

    of: str = _entry(_TEXT, "The arm that found the ticket.", group=_TRANSFER, optional=True)
    control: bool = _entry(_FACT, "Whether that is a control.", group=_TRANSFER, optional=True)
    ticket: str | None = _entry(
        _or_null(_TEXT),
        "Digest of its file; null of the dense network.",
        group=_TRANSFER,
        optional=True,
    )
    ticket_path: str = _entry(_TEXT, "Where that was.", group=_TRANSFER, optional=True)
    found_on: str = _entry(
        _TEXT, "The data set that it was found on.", group=_TRANSFER, optional=True
    )
    model: str = _entry(_TEXT, "The model.", group=_TRANSFER, optional=True)
    seed: int = _entry(_COUNT, "The replicate's.", group=_TRANSFER, optional=True)
    data: str = _entry(
        _TEXT, "The data set that it was trained on.", group=_TRANSFER, optional=True
    )
    data_fingerprint: str = _entry(_TEXT, "Of that data.", group=_TRANSFER, optional=True)
    classes: int = _entry(
        _SIZE, "Taken of that data set, if not all.", group=_TRANSFER, optional=True
    )
    training: Mapping[str, Any] = _entry(
        Kind(lambda value: type(value) is dict, "a mapping"),
        "Its settings.",
        group=_TRANSFER,
        optional=True,
    )
    notes: Sequence[str] = _entry(
        _TEXTS, "What was done to make it fit.", group=_TRANSFER, optional=True
    )

    @classmethod
    def of_record(cls, record: Record, metrics: Sequence[Metric] = CLASSIFIED) -> Result:
        """Read a record, whichever version wrote it.

        Args:
            record: A line of ``records.jsonl``.
            metrics: What its networks were measured by, the headline first.

        Raises:
            ConfigError: It says of a selection what no record says.
        """
        read: dict[str, Any] = {}
        for entry in fields(cls):
            if entry.metadata["name"]:
                names = _metrics_of(entry.name, metrics)
                keys = {name: entry.metadata["name"].format(name) for name in names}
                read[entry.name] = {
                    name: record[key] for name, key in keys.items() if key in record
                }
            elif entry.name in record:
                read[entry.name] = record[entry.name]
        if "costs" in read:
            read["costs"] = costs_of(record)
        if "selected" in read:
            read["selected"] = Selected.of(read["selected"])
        return cls(**read)

    def plain(self) -> dict[str, Any]:
        """Return it as it stands in a record."""
        said: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is ABSENT:
                continue
            if entry.metadata["name"]:
                said |= {
                    entry.metadata["name"].format(name): number for name, number in value.items()
                }
            elif entry.name == "costs":
                said["costs"] = [cost.plain() for cost in value]
            elif entry.name == "selected":
                said["selected"] = value and value.told
            else:
                said[entry.name] = value
        return said


def _metrics_of(entry: str, metrics: Sequence[Metric]) -> list[str]:
    """Name what an entry by metric has numbers of: at the early stop the headline alone."""
    names = [metric.name for metric in metrics]
    return names[:1] if entry == "early" else [*names, "loss"]


def kinds(metrics: Sequence[Metric]) -> dict[str, Kind]:
    """Return what each entry of a record must be, by its name; one that a record lacks its
    version did not write.
    """
    fractions = {metric.name for metric in metrics if metric.fraction}
    found: dict[str, Kind] = {}
    for entry in fields(Result):
        if not entry.metadata["name"]:
            found[entry.name] = entry.metadata["kind"]
            continue
        for name in _metrics_of(entry.name, metrics):
            kind = _or_null(_FRACTION) if name in fractions else entry.metadata["kind"]
            found[entry.metadata["name"].format(name)] = kind
    return found


def page() -> str:
    """Return the page of fields, as Markdown."""
    lines = [
        "# Results",
        "",
        "A line of `records.jsonl` says what is known of one ticket: a result. "
        "`tombola.records.results.Result` is its",
        "type; this page is made of it (`python -m tombola.records.results docs/results.md`).",
        "",
        "`METRIC` stands for each metric that the task declares, such as `accuracy`, and for "
        "`loss`. Numbers of a",
        "ticket that was not evaluated are null. An entry that does not apply, or that the version "
        "which wrote the",
        "record did not know, is left out.",
    ]
    groups = dict.fromkeys(entry.metadata["group"] for entry in fields(Result))
    for group in groups:
        lines += ["", f"## {group}", "", "| entry | is | unit | meaning |", "|---|---|---|---|"]
        for entry in fields(Result):
            about = entry.metadata
            if about["group"] == group:
                name = about["name"].format("METRIC") or entry.name
                lines.append(
                    f"| `{name}` | {about['kind'].told} | {about['unit']} | {about['meaning']} |"
                )
    lines += [
        "",
        "## A training's cost",
        "",
        "An entry of `costs`.",
        "",
        "| entry | unit | meaning |",
        "|---|---|---|",
    ]
    for part in fields(Cost):
        lines.append(f"| `{part.name}` | {part.metadata['unit']} | {part.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    write_whole(Path(sys.argv[1]), [page().encode()])
