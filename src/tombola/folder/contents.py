"""Contents: what the files of a run folder must hold to be used.

A file that carries a digest is what was written. An older one, without a digest, may hold any JSON
or any array, and is checked here entry by entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tombola.evidence.comparisons import DENSE
from tombola.ground.checking import check_in_file, checked
from tombola.ground.errors import ConfigError, DamagedError
from tombola.records.layout import Round

if TYPE_CHECKING:
    from torch import Tensor

# What entries must be. Those that are not named here may be anything.
_ENVIRONMENT = {
    **dict.fromkeys(("python", "platform", "processor", "data_fingerprint"), str),
    "packages": dict[str, str],
    "cores": int,
    "own_code": dict[str, str],
}
_ENDING = {
    "state": Literal["open", "finished", "failed", "skipped"],
    "why": str,
    "rounds": int,
    "goal": dict[str, Any],
    "packed": bool,
    "end": dict[str, Any],
}
_END = {"cause": str, "round": int, "layers": list[str], "missed": list[float]}
_SIMILARITY = {
    "arms": tuple[str, str],
    "rounds": tuple[int, int],
    "replicate": int,
    "masks": tuple[str, str],
    "layers": dict[str, tuple[int, int, int, int, int, int]],
}
_LATENCY = {"device": str, "threads": int, "rows": list[dict[str, Any]]}
_LATENCY_ROW = {"arm": str, "mask_digest": str, "replicate": int, "round": int}
_CLOCK = {"ms": float, "quartiles": tuple[float, float]}
_PICTURE = ("image", "boxes", "labels", "difficult")  # what there is of each picture
_ARM_OF_REPLICATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/\d+")
_BATCH = re.compile(r"batch_\d{1,9}")


class TicketPair(NamedTuple):
    """Two tickets of a replicate that a line of ``similarity.jsonl`` is about."""

    first_arm: str
    second_arm: str
    replicate: int
    first_round: int
    second_round: int

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> TicketPair:
        """Return what a line is about."""
        (first_arm, second_arm), (first_round, second_round) = line["arms"], line["rounds"]
        return cls(first_arm, second_arm, line["replicate"], first_round, second_round)

    @property
    def arms(self) -> tuple[str, str]:
        """The two arms."""
        return self.first_arm, self.second_arm

    @property
    def tickets(self) -> tuple[Round, Round]:
        """Arm, replicate and round of each ticket."""
        return (
            (self.first_arm, self.replicate, self.first_round),
            (self.second_arm, self.replicate, self.second_round),
        )


def check_entries(path: Path, entries: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Refuse a mapping in a file if an entry is not of its type; entries without one may be
    anything.
    """
    for name, value in entries.items():
        if name in hints:
            check_in_file(path, name, value, hints[name])


def check_environments(path: Path, environments: Sequence[Mapping[str, Any]]) -> None:
    """Refuse entries of ``environment.json`` that do not say what a run was made with."""
    for entry in environments:
        check_entries(path, entry, _ENVIRONMENT)
        if "data_fingerprint" not in entry:
            raise DamagedError(f"'{path}' is damaged: an entry has no 'data_fingerprint'")


def check_endings(path: Path, endings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse entries of ``state.json`` that do not say how an arm of a replicate ended."""
    for key, ending in endings.items():
        check_entries(path, ending, _ENDING)
        end = ending.get("end", {})
        check_entries(path, end, _END)
        if end.get("cause") == "collapsed" and not {"round", "layers"} <= end.keys():
            raise DamagedError(
                f"'{path}' is damaged: '{key}' does not say which layers collapsed, and in which "
                "round"
            )
        in_order = "state" in ending and ending.get("rounds", 0) >= 0
        if not in_order or not _ARM_OF_REPLICATE.fullmatch(key):
            raise DamagedError(
                f"'{path}' is damaged: '{key}' is not how an arm of a replicate ended"
            )


def check_similarity(line: Mapping[str, Any], what: str) -> None:
    """Refuse a line of ``similarity.jsonl`` that is not what was counted of two tickets.

    Args:
        line: What it says.
        what: Which line it is, for the message.
    """
    if missing := _SIMILARITY.keys() - line.keys():
        raise DamagedError(f"{what}: it has no '{min(missing)}'")
    for name, hint in _SIMILARITY.items():
        try:
            checked(hint, line[name], name)
        except ConfigError as error:
            raise DamagedError(f"{what}: {error}") from error
    for name, (size, first, second, *common) in line["layers"].items():
        possible = 0 <= max(first, second) <= size
        if not possible or min(common) < 0 or max(common) > min(first, second):
            raise DamagedError(f"{what}: layer '{name}' has no such counts")


def check_latency(path: Path, measured: Mapping[str, Any]) -> None:
    """Refuse a ``latency.json`` that does not say how long networks took."""
    if not measured:
        return
    if missing := _LATENCY.keys() - measured.keys():
        raise DamagedError(f"'{path}' is damaged: it has no '{min(missing)}'")
    check_entries(path, measured, _LATENCY)
    for row in measured["rows"]:
        _check_latency_row(path, row)


def _check_latency_row(path: Path, row: Mapping[str, Any]) -> None:
    clocks = {key: value for key, value in row.items() if key.startswith("batch_")}
    if "arm" not in row or not clocks or not all(_BATCH.fullmatch(key) for key in clocks):
        raise DamagedError(f"'{path}' is damaged: a row has no arm or no time")
    check_entries(path, row, _LATENCY_ROW)
    if row["arm"] != DENSE and "mask_digest" not in row:
        raise DamagedError(f"'{path}' is damaged: a row has no mask_digest")
    for key, clock in clocks.items():
        check_in_file(path, key, clock, dict[str, Any])
        if missing := _CLOCK.keys() - clock.keys():
            raise DamagedError(f"'{path}' is damaged: {key} has no '{min(missing)}'")
        check_entries(path, clock, _CLOCK)


def wrong_with_pictures(tensors: Mapping[str, Tensor]) -> str:
    """Say what is wrong with pictures and their boxes, see `Task.examples_shown`; empty if nothing
    is.
    """
    names, entries = tensors.get("names"), set(tensors) - {"names"}
    if names is None or names.ndim != 1 or names.element_size() != 1:
        return "has no 'names', the class names as bytes"
    number = sum(entry.startswith("image_") for entry in entries)
    if entries != {f"{kind}_{index}" for kind in _PICTURE for index in range(number)}:
        return f"does not have {', '.join(f'{kind}_K' for kind in _PICTURE)} for K from 0 up"
    for index in range(number):
        image, boxes, *of_boxes = (tensors[f"{kind}_{index}"] for kind in _PICTURE)
        if image.ndim != 3 or image.shape[0] != 3 or str(image.dtype) != "torch.uint8":
            return f"has an image_{index} that is no uint8 tensor of shape [3, height, width]"
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not bool(boxes.isfinite().all()):
            return f"has boxes_{index} that are no numbers of shape [boxes, 4]"
        if any(values.shape != boxes.shape[:1] for values in of_boxes):
            return f"does not have a label and a mark for each of boxes_{index}"
    return ""


def checked_classes(path: Path, values: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Return an array that was read, if it can be the classes of examples."""
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise DamagedError(
            f"'{path}' is damaged: it holds {values.dtype} of {values.ndim} dimensions, not classes"
        )
    return values
