"""Savings: what a ticket's mask saves in theory, and what it takes on the clock. Needs no torch.

A mask alone saves no time: its zeros are multiplied like any other number. What it could save is
counted; what a ticket of a run took is in the run's ``latency.json``, see
`tombola.experiments.latency`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.records.choosing import run_above, seals_of
from tombola.ticket_format import ITEMSIZE, TicketFile

LATENCY = "latency.json"


def of_ticket(file: TicketFile) -> dict[str, Any]:
    """Return what a verified ticket's mask saves, as plain data.

    Returns:
        flops: [all weights, kept ones] of a forward pass of one example; ``None`` where the ticket
            does not say.
        bytes: [all prunable weights, the kept ones and a bit for each]. latency: milliseconds for a
            batch of one,
        dense and masked, on which device, and of which other ticket of its run where it was not
        this one; ``None`` where the ticket lies in no run that measured any.
    """
    size = {name: ITEMSIZE[file.rewind[name].dtype] for name in file.shapes if name in file.rewind}
    kept = file.kept_per_layer()
    whole = sum(math.prod(file.shapes[name]) * each for name, each in size.items())
    packed = sum(
        kept[name] * each + -(-math.prod(file.shapes[name]) // 8) for name, each in size.items()
    )
    return {"flops": _flops(file.origin), "bytes": [whole, packed], "latency": _measured(file)}


def in_words(found: Mapping[str, Any]) -> str:
    """Say in one line what masks save and what saves time.

    >>> in_words({"flops": [200, 50], "bytes": [4000, 1500], "latency": None})
    'in theory 75 % of the FLOPs of a forward pass and, packed, 62 % of the bytes of the prunable weights; no time by \
itself, since zeros are multiplied like any other number; removing whole channels, kernels for sparse weights or a \
runtime that has them (ONNX) saves time'
    """
    flops, measured = found["flops"], found["latency"]
    saved = f"{_saved(*flops)} of the FLOPs of a forward pass and, packed, " if flops else ""
    clock = "zeros are multiplied like any other number"
    if measured:
        of = f" of {measured['of']}" if measured["of"] else ""
        clock = (
            f"a batch of 1{of} took {measured['ticket_ms']:.3g} ms and dense "
            f"{measured['dense_ms']:.3g} ms ({measured['device']}, measured by its run)"
        )
    return (
        f"in theory {saved}{_saved(*found['bytes'])} of the bytes of the prunable weights; no time "
        f"by itself, since {clock}; removing whole channels, kernels for sparse weights or a "
        "runtime that has them (ONNX) saves time"
    )


def _saved(whole: int, left: int) -> str:
    return f"{100 * max(0.0, 1 - left / whole) if whole else 0:.0f} %"


def _flops(origin: Mapping[str, Any]) -> list[int] | None:
    said = origin.get("inference_flops")
    fits = (
        isinstance(said, list)
        and len(said) == 2
        and all(type(one) is int and one > 0 for one in said)
    )
    return said if fits else None


def _measured(file: TicketFile) -> dict[str, Any] | None:
    """Return what the run that a ticket lies in measured of its mask, ``None`` where it did
    not, or is damaged.
    """
    run = run_above(file.path)
    if run is None:
        return None
    try:
        found = seals_of(run).read_json(Path(run, LATENCY))
        rows = {row.get("mask_digest"): row for row in found["rows"]}
        # Of one replicate of each arm the sparsest ticket is measured: another one has as many
        # zeros or fewer.
        row = rows.get(file.mask_digest) or next(
            row for digest, row in rows.items() if digest is not None
        )
        of = "" if row["mask_digest"] == file.mask_digest else f"{row['arm']}, round {row['round']}"
        times = {
            "dense_ms": float(rows[None]["batch_1"]["ms"]),
            "ticket_ms": float(row["batch_1"]["ms"]),
        }
        told = {**times, "device": str(found["device"]), "of": of}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None  # the run itself says what is wrong with it
    return told if f"{told['device']}{of}".isprintable() else None
