"""Results: what a record says, entry by entry, each with its unit and its meaning.

    evaluation of a ticket -> [ Result ] -> one line of records.jsonl -> tables, figures, verdicts

A line of ``records.jsonl`` is a `Result` as plain data, in this order. ``docs/results.md`` is made
of this file: ``python -m tombola.records.results docs/results.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, no_type_check

from tombola.ground.errors import ConfigError
from tombola.ground.files import write_whole
from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.ground.notebooks import one_line, percent

Record = Mapping[str, Any]

# What records of every run have today, and those of the first versions had not.
_ADDED = (
    "costs",
    "training_digest",
    "layers",
    "inference_flops",
    "curve",
    "distance",
    "cut_seconds",
)
CLOCKS = ("seconds", "seconds_search", "round_seconds", "cut_seconds", "invariant_seconds")


def _part(meaning: str, unit: str = "", **default: None) -> Any:
    """Declare a field of a cost, with what the page of fields says of it."""
    metadata = {"meaning": meaning, "unit": unit}
    return field(metadata=metadata, **default)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Cost:
    """What one training cost; ``None`` where a part was not counted yet."""

    role: str = _part(
        '"search" (on a partition), "evaluation" (of a ticket), "pretraining" (up to the rewind '
        'point), or "cut" (no training: what scores that need data went through).'
    )
    training: str = _part("Its digest; arms that share it say the same.")
    samples: int = _part("Training examples seen.", "examples")
    seconds: float = _part("Wall time.", "seconds")
    steps: int | None = _part(
        "Optimiser steps; null in records from before they were counted, as all below.",
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

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as records have it."""
        return asdict(self)

    def timeless(self) -> Cost:
        """Return it without what depends on the machine and its load."""
        return replace(self, seconds=0.0, process_seconds=None, peak_bytes=None)


def costs_of(record: Record) -> list[Cost]:
    """Return what a round needed that no round of its arm needed before.

    >>> costs_of({"costs": [["search", "ab", 600, 1.5]]})[0].samples
    600
    """
    costs = []
    for entry in record.get("costs", ()):
        costs.append(Cost(**entry) if isinstance(entry, dict) else Cost(*entry))
    return costs


def timeless(record: Record) -> dict[str, Any]:
    """Return what a record says that is the same on every machine: all but clocks and memory."""
    rest = dict(record)
    for clock in CLOCKS:
        rest.pop(clock, None)
    return rest | {"costs": [cost.timeless().to_dict() for cost in costs_of(record)]}


@dataclass(frozen=True)
class Kind:
    """What an entry must be.

    Attributes:
        holds: The test.
        described: What passes it, in words.
        part: What its parts must be, if it is a list or a mapping.
    """

    holds: Callable[[Any], bool]
    described: str
    part: Kind | None = None


def _or_null(kind: Kind) -> Kind:
    def holds(value: Any) -> bool:
        return value is None or kind.holds(value)

    return Kind(holds, f"{kind.described}, or null", kind.part)


def _list(part: Kind, described: str, lengths: range = range(1_000_000_000)) -> Kind:
    """Return the kind of a list, which has so many parts."""
    part_holds = part.holds

    def holds(value: Any) -> bool:
        return type(value) is list and len(value) in lengths and all(map(part_holds, value))

    return Kind(holds, described, part)


def _mapping(part: Kind, described: str) -> Kind:
    part_holds = part.holds

    def holds(value: Any) -> bool:
        return type(value) is dict and all(map(part_holds, value.values()))

    return Kind(holds, described, part)


# By type, since true is an int to isinstance. Comparisons are false of NaN, and take integers of
# any length.
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

_COST_PARTS: dict[str, Kind] = {}
_NEEDED_PARTS: set[str] = set()
for _field in fields(Cost):
    _COST_PARTS[_field.name] = _or_null(_NUMBER)
    if _field.default is MISSING:
        _COST_PARTS[_field.name] = _NUMBER
        _NEEDED_PARTS.add(_field.name)
_COST_PARTS |= {"role": _TEXT, "training": _TEXT, "samples": _COUNT}


def _is_cost(value: Any) -> bool:
    if type(value) is list:
        if len(value) > len(_COST_PARTS):
            return False
        value = dict(zip(_COST_PARTS, value, strict=False))
    return (
        type(value) is dict
        and _NEEDED_PARTS <= value.keys() <= _COST_PARTS.keys()
        and all(_COST_PARTS[name].holds(part) for name, part in value.items())
    )


_TEXTS = _list(_TEXT, "a list of texts")
_BY_METRIC = "the metric's"
_COST = Kind(
    _is_cost,
    f"a training's cost: {', '.join(_COST_PARTS)}, of which the first {len(_NEEDED_PARTS)} must be "
    "there",
)
_COLUMNS = _mapping(_list(_NUMBER, "a list of finite numbers"), "lists of finite numbers by name")


@dataclass(frozen=True)
class Selected:
    """Which weights of a training were tested, and on what they were chosen.

    Attributes:
        weights: "last", or the "best" of the evaluations.
        on: What the evaluations looked at: "validation" data; "test" data, which is a leak; or
            "nothing".

    >>> Selected("last", "nothing").in_record
    'last, selected without validation data'
    """

    weights: Literal["last", "best"]
    on: Literal["validation", "test", "nothing"] = "validation"

    @property
    def in_record(self) -> str:
        """The text that records have."""
        return self.weights + _SELECTED_ON[self.on]

    @classmethod
    def of(cls, entry: str | None) -> Selected | None:
        """Read what a record says; ``None`` of a ticket that was not evaluated.

        Raises:
            ConfigError: No record says so.

        >>> Selected.of("best, selected on test data")
        Selected(weights='best', on='test')
        """
        if entry is None:
            return None
        for weights in ("last", "best"):
            for on in _SELECTED_ON:
                selected = cls(weights, on)  # type: ignore[arg-type]
                if selected.in_record == entry:
                    return selected
        raise ConfigError(f"selected is {entry!r}; it begins with last or best")


_SELECTED_ON = {
    "validation": "",
    "test": ", selected on test data",
    "nothing": ", selected without validation data",
}


class _Absent:
    """Marks an entry that a record does not have; null is a value."""

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
        group: Its heading on the page.
        optional: Whether a record may be without it.
        name: Of a field that holds a number for each metric: what such an entry is called in a
            record.
    """
    metadata = {"kind": kind, "meaning": meaning, "unit": unit, "group": group, "name": name}
    return field(default=ABSENT, metadata=metadata) if optional else field(metadata=metadata)


# The headings of the page of fields.
_WHICH, _TICKET, _MEASURED = "Which result it is", "The ticket", "What was measured"
_COST_OF, _SOME, _TRANSFER = "What it cost", "Where it applies", "Of transfers alone"


@no_type_check  # while running: an entry may be ABSENT, which is no number and no text
@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What is known of a ticket: one line of ``records.jsonl``.

    Numbers of a ticket that was not evaluated are ``None``; entries that do not apply, or that the
    version which wrote the record did not know, are ``ABSENT``. Entries by metric are mappings
    here, and one entry each in a record: ``test["accuracy"]`` is ``test_accuracy``.

    >>> record = {"arm": "lth", "replicate": 0, "round": 1, "kept": 8, "density": 0.8,
    ...           "mask_digest": "ab", "evaluated": True, "samples_seen": 600,
    ...           "test_accuracy": 0.9, "test_loss": 0.3}
    >>> result = Result.of_record(record)
    >>> result.test, result.valid, result.to_dict() == record
    ({'accuracy': 0.9, 'loss': 0.3}, {}, True)
    """

    arm: str = _entry(_TEXT, "Name of the arm.", group=_WHICH)
    run_digest: str = _entry(
        _TEXT, "Digest of the run, which is in the name of its folder.", group=_WHICH, optional=True
    )
    arm_digest: str = _entry(_TEXT, "Digest of the arm's definition.", group=_WHICH, optional=True)
    replicate: int = _entry(
        _COUNT, "Number of the replicate; replicates of the same number share seeds.", group=_WHICH
    )
    round: int = _entry(_COUNT, "Number of cuts before it; 0 is the dense network.", group=_WHICH)

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
        "Forward pass of one example: with all weights, and with the kept ones alone.",
        "FLOP",
        group=_TICKET,
        optional=True,
    )
    mask_digest: str = _entry(_TEXT, "Digest of the mask.", group=_TICKET)
    rewind_digest: str = _entry(
        _TEXT, "Digest of the state that the ticket starts from.", group=_TICKET, optional=True
    )
    cut_seconds: float = _entry(
        _NUMBER, "Time of scoring, pruning and combining.", "seconds", group=_TICKET, optional=True
    )
    invariant_seconds: float = _entry(
        _NUMBER, "Time of checking the invariants.", "seconds", group=_TICKET, optional=True
    )
    kept_fraction: float | None = _entry(
        _or_null(_FRACTION),
        "Share of the weights before the round that is kept.",
        "fraction",
        group=_TICKET,
        optional=True,
    )
    unmasked: Sequence[str] = _entry(
        _TEXTS,
        "Weights that are not pruned because their purpose is unknown.",
        group=_TICKET,
        optional=True,
    )
    never_pruned: Sequence[str] = _entry(
        _TEXTS,
        "Weights that stay dense because the arm's scope has no place for them.",
        group=_TICKET,
        optional=True,
    )
    uncounted: Sequence[str] = _entry(
        _TEXTS, "Operations whose FLOPs are not counted.", group=_TICKET, optional=True
    )
    candidate_densities: Sequence[float] = _entry(
        _list(_FRACTION, "a list of fractions"),
        "Density of each partition's candidate.",
        "fraction",
        group=_TICKET,
        optional=True,
    )
    candidate_layers: Mapping[str, Sequence[int]] = _entry(
        _mapping(
            _list(_COUNT, "whole numbers, one a candidate"), "lists of whole numbers by layer"
        ),
        "Weights of each layer that each candidate keeps.",
        "weights",
        group=_TICKET,
        optional=True,
    )
    collapsed: Sequence[str] = _entry(
        _TEXTS, "Layers that have no weight left.", group=_TICKET, optional=True
    )
    length: Sequence[float] = _entry(
        _list(_NUMBER, "two numbers, [trained, equal]", range(2, 3)),
        "Of a ticket that is trained longer: length of its training, and the length at which it "
        "costs as much as the arm that it is paced by; they differ where a limit was met.",
        "trainings of the recipe",
        group=_TICKET,
        optional=True,
    )
    by_itself: bool = _entry(
        _FACT,
        "Whether it is independent of earlier rounds, as with gradual pruning.",
        group=_TICKET,
        optional=True,
    )

    evaluated: bool = _entry(
        _FACT, "Whether the ticket was trained on all data and tested.", group=_MEASURED
    )
    untrained: bool = _entry(
        _FACT,
        "Whether it was tested as it was found, without training.",
        group=_MEASURED,
        optional=True,
    )
    test: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER),
        "Metric on the test split, with the selected weights.",
        _BY_METRIC,
        group=_MEASURED,
        name="test_{}",
    )
    valid: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER),
        "Metric on the validation split; null without one.",
        _BY_METRIC,
        group=_MEASURED,
        name="valid_{}",
    )
    train: Mapping[str, float | None] = _entry(
        _or_null(_NUMBER),
        "Metric on the training split.",
        _BY_METRIC,
        group=_MEASURED,
        name="train_{}",
    )
    test_more: Mapping[str, float] = _entry(
        _mapping(_NUMBER, "finite numbers by name"),
        "What the task measures on the test split beside its metrics, such as the AP of a class.",
        group=_MEASURED,
        optional=True,
    )
    early_stop_step: int | None = _entry(
        _or_null(_COUNT),
        "Step of the best validation loss, or of what training.select_by names.",
        "steps",
        group=_MEASURED,
        optional=True,
    )
    evaluate_every: int | None = _entry(
        _or_null(_COUNT),
        "Steps between two evaluations on the validation split.",
        "steps",
        group=_MEASURED,
        optional=True,
    )
    curve: Mapping[str, Sequence[float]] | None = _entry(
        _or_null(_COLUMNS),
        "Those evaluations: step, loss and metrics, as columns.",
        group=_MEASURED,
        optional=True,
    )
    distance: float | None = _entry(
        _or_null(_NUMBER),
        "Distance that the kept weights moved in training, root mean square.",
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
        "Weights that were tested: the last or the best, and how they were selected.",
        group=_MEASURED,
        optional=True,
    )
    training_digest: str | None = _entry(
        _or_null(_TEXT),
        "Digest of the training that evaluated it, which is the name of its file.",
        group=_MEASURED,
        optional=True,
    )

    samples_seen: int = _entry(
        _COUNT,
        "Examples of all trainings that the arm needed so far, as if it ran alone.",
        "examples",
        group=_COST_OF,
    )
    samples_seen_search: int = _entry(
        _COUNT,
        "Examples of the trainings of its search.",
        "examples",
        group=_COST_OF,
        optional=True,
    )
    seconds: float = _entry(
        _NUMBER,
        "Time of all those trainings, one after the other.",
        "seconds",
        group=_COST_OF,
        optional=True,
    )
    seconds_search: float = _entry(
        _NUMBER, "Time of the trainings of its search.", "seconds", group=_COST_OF, optional=True
    )
    round_seconds: float = _entry(
        _NUMBER,
        "Time of those that no earlier round needed.",
        "seconds",
        group=_COST_OF,
        optional=True,
    )
    costs: Sequence[Cost] = _entry(
        _list(_COST, "a list of costs"),
        "Each of the trainings that no earlier round needed, see below.",
        group=_COST_OF,
        optional=True,
    )

    profile: str = _entry(_TEXT, "Profile of the recipe.", group=_SOME, optional=True)
    lifted: Sequence[str] = _entry(
        _TEXTS, "Rules that the profile suspends.", group=_SOME, optional=True
    )
    class_examples: Sequence[int] = _entry(
        _list(_COUNT, "a list of whole numbers"),
        "Training examples of each class that data.skew leaves.",
        "examples",
        group=_SOME,
        optional=True,
    )
    partition_shares: Sequence[Mapping[str, float]] = _entry(
        _list(_mapping(_NUMBER, "finite numbers by name"), "a list of finite numbers by name"),
        "How much of the training data each class partition of the search has, where an example may "
        "have several classes; in the record of round 0.",
        group=_SOME,
        optional=True,
    )
    line: Mapping[str, Sequence[float]] | None = _entry(
        _or_null(_COLUMNS),
        "Line between two trainings of the ticket: place, headline and loss, as columns.",
        group=_SOME,
        optional=True,
    )
    barrier: float | None = _entry(
        _or_null(_NUMBER),
        "How much worse the worst place on that line is than its ends.",
        _BY_METRIC,
        group=_SOME,
        optional=True,
    )
    passes: bool | None = _entry(
        _or_null(_FACT),
        "Whether its validation metric satisfies until.accuracy_drop.",
        group=_SOME,
        optional=True,
    )

    of: str = _entry(_TEXT, "The arm that found the ticket.", group=_TRANSFER, optional=True)
    control: bool = _entry(_FACT, "Whether that is a control.", group=_TRANSFER, optional=True)
    ticket: str | None = _entry(
        _or_null(_TEXT),
        "Digest of the ticket's file; null for the dense network.",
        group=_TRANSFER,
        optional=True,
    )
    ticket_path: str = _entry(_TEXT, "Path of that file.", group=_TRANSFER, optional=True)
    found_on: str = _entry(_TEXT, "Data set that it was found on.", group=_TRANSFER, optional=True)
    model: str = _entry(_TEXT, "The model.", group=_TRANSFER, optional=True)
    seed: int = _entry(_COUNT, "Seed of the replicate.", group=_TRANSFER, optional=True)
    data: str = _entry(_TEXT, "Data set that it was trained on.", group=_TRANSFER, optional=True)
    data_fingerprint: str = _entry(
        _TEXT, "Fingerprint of that data.", group=_TRANSFER, optional=True
    )
    classes: int = _entry(
        _SIZE,
        "Number of classes taken from that data set, if not all.",
        group=_TRANSFER,
        optional=True,
    )
    training: Mapping[str, Any] = _entry(
        Kind(lambda value: type(value) is dict, "a mapping"),
        "Settings of the training.",
        group=_TRANSFER,
        optional=True,
    )
    notes: Sequence[str] = _entry(
        _TEXTS,
        "Changes that were made to fit the ticket to the data.",
        group=_TRANSFER,
        optional=True,
    )

    def __repr__(self) -> str:
        which = f"{self.arm}, replicate {self.replicate}, round {self.round}"
        measured = "not evaluated"
        if self.evaluated and self.test:
            name, value = next(iter(self.test.items()))
            measured = f"test {name} {value:.4g}"
        return one_line("Result", which, f"density {percent(self.density)}", measured)

    @classmethod
    def of_record(cls, record: Record, metrics: Sequence[Metric] = CLASSIFIED) -> Result:
        """Read a record, whichever version wrote it.

        Args:
            record: A line of ``records.jsonl``.
            metrics: What its networks were measured by, the headline first.

        Raises:
            ConfigError: Its ``selected`` is none that records have.
        """
        values: dict[str, Any] = {}
        for entry in fields(cls):
            pattern = entry.metadata["name"]
            if pattern:
                by_metric = {}
                for metric in _metrics_of(entry.name, metrics):
                    name = pattern.format(metric)
                    if name in record:
                        by_metric[metric] = record[name]
                values[entry.name] = by_metric
            elif entry.name in record:
                values[entry.name] = record[entry.name]
        # These two have types of their own; older records wrote costs as lists.
        if "costs" in values:
            values["costs"] = costs_of(record)
        if "selected" in values:
            values["selected"] = Selected.of(values["selected"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as records have it."""
        record: dict[str, Any] = {}
        for entry in fields(self):
            value, pattern = getattr(self, entry.name), entry.metadata["name"]
            if value is ABSENT:
                continue
            if pattern:
                for metric, number in value.items():
                    record[pattern.format(metric)] = number
            elif entry.name == "costs":
                record["costs"] = [cost.to_dict() for cost in value]
            elif entry.name == "selected":
                record["selected"] = value and value.in_record
            else:
                record[entry.name] = value
        return record


def lacking(records: Collection[Record]) -> list[str]:
    """Return the entries that every run has today and that none of these records has: they are of
    a version that did not write them.

    >>> lacking([{"arm": "lth", "layers": {}, "curve": None, "distance": None, "costs": []}])
    ['training_digest', 'inference_flops', 'cut_seconds']
    >>> lacking([])
    []
    """
    known = set().union(*records)
    return [name for name in _ADDED if name not in known] if records else []


def _metrics_of(entry: str, metrics: Sequence[Metric]) -> list[str]:
    """Name the metrics that an entry by metric has: at the early stop the headline alone."""
    names = [metric.name for metric in metrics]
    return names[:1] if entry == "early" else [*names, "loss"]


def kinds(metrics: Sequence[Metric]) -> dict[str, Kind]:
    """Return what each entry of a record must be, by its name.

    A record may lack entries that the version which wrote it did not know.
    """
    fractions = {metric.name for metric in metrics if metric.fraction}
    by_name: dict[str, Kind] = {}
    for entry in fields(Result):
        kind, pattern = entry.metadata["kind"], entry.metadata["name"]
        if not pattern:
            by_name[entry.name] = kind
            continue
        for metric in _metrics_of(entry.name, metrics):
            name = pattern.format(metric)
            by_name[name] = _or_null(_FRACTION) if metric in fractions else kind
    return by_name


_PAGE = """\
# Results

A line of `records.jsonl` says what is known of one ticket: a result. Its type is
`tombola.records.results.Result`, of which this page is made
(`python -m tombola.records.results docs/results.md`).

`METRIC` stands for each metric that the task declares, such as `accuracy`, and for `loss`. Numbers
of a ticket that was not evaluated are null. An entry that does not apply, or that the version which
wrote the record did not know, is left out.
"""


def page() -> str:
    """Return the page of fields, as Markdown."""
    lines = _PAGE.splitlines()
    entries = fields(Result)
    for group in dict.fromkeys(entry.metadata["group"] for entry in entries):
        lines += ["", f"## {group}", "", "| entry | is | unit | meaning |", "|---|---|---|---|"]
        for entry in entries:
            about = entry.metadata
            if about["group"] == group:
                name = about["name"].format("METRIC") or entry.name
                kind = about["kind"].described
                lines.append(f"| `{name}` | {kind} | {about['unit']} | {about['meaning']} |")
    lines += ["", "## A training's cost", "", "An entry of `costs`.", ""]
    lines += ["| entry | unit | meaning |", "|---|---|---|"]
    for part in fields(Cost):
        lines.append(f"| `{part.name}` | {part.metadata['unit']} | {part.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    write_whole(Path(sys.argv[1]), [page().encode()])
