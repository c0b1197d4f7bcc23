"""Savings: what a ticket's mask saves in theory, and what it takes on the clock. Needs no torch.

A mask alone saves no time: its zeros are multiplied like any other number. What it could save is
counted; what a ticket of a run took is in the run's ``latency.json``, see
`tombola.experiments.latency`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tombola.records.choosing import run_above, seals_of
from tombola.records.layout import Layout
from tombola.ticket_format import ITEMSIZE, TicketFile


def of_ticket(file: TicketFile) -> dict[str, Any]:
    """Return what a verified ticket's mask saves, as plain data.

    Returns:
        flops: [all weights, kept ones] of a forward pass of one example; ``None`` where the ticket
            does not say.
        bytes: [all prunable weights, the kept ones and a bit for each].
        latency: Milliseconds for a batch of one, dense and masked, on which device, and of which
            other ticket of its run where it was not this one; ``None`` where the ticket is in no
            run that measured any.
    """
    kept = file.kept_per_layer()
    dense_bytes = sparse_bytes = 0
    for name, shape in file.shapes.items():
        if name in file.rewind:
            weights, itemsize = math.prod(shape), ITEMSIZE[file.rewind[name].dtype]
            dense_bytes += weights * itemsize
            sparse_bytes += kept[name] * itemsize + -(-weights // 8)
    return {
        "flops": _flops(file.origin),
        "bytes": [dense_bytes, sparse_bytes],
        "latency": _latency(file),
    }


def in_words(savings: Mapping[str, Any]) -> str:
    """Say in one line what a mask saves and what saves time.

    >>> print(in_words({"flops": [200, 50], "bytes": [4000, 1500], "latency": None}))
    in theory 75 % of the FLOPs of a forward pass and, packed, 62 % of the bytes of the prunable \
weights; no time by itself, since zeros are multiplied like any other number; removing whole \
channels, kernels for sparse weights or a runtime that has them (ONNX) saves time
    """
    flops, latency = savings["flops"], savings["latency"]
    of_flops = f"{_saved(*flops)} of the FLOPs of a forward pass and, packed, " if flops else ""
    of_bytes = f"{_saved(*savings['bytes'])} of the bytes of the prunable weights"
    clock = "zeros are multiplied like any other number"
    if latency:
        of_which = f" of {latency['of']}" if latency["of"] else ""
        clock = (
            f"a batch of 1{of_which} took {latency['ticket_ms']:.3g} ms and dense "
            f"{latency['dense_ms']:.3g} ms ({latency['device']}, measured by its run)"
        )
    return (
        f"in theory {of_flops}{of_bytes}; no time by itself, since {clock}; removing whole "
        "channels, kernels for sparse weights or a runtime that has them (ONNX) saves time"
    )


def _saved(dense: int, left: int) -> str:
    return f"{100 * max(0.0, 1 - left / dense) if dense else 0:.0f} %"


def _flops(origin: Mapping[str, Any]) -> list[int] | None:
    flops = origin.get("inference_flops")
    if not isinstance(flops, list) or len(flops) != 2:
        return None
    return flops if all(type(number) is int and number > 0 for number in flops) else None


def _latency(file: TicketFile) -> dict[str, Any] | None:
    """Return what its run measured of a ticket's mask; ``None`` where it did not, or is damaged."""
    run = run_above(file.path)
    if run is None:
        return None
    try:
        table = seals_of(run).read_json(Layout.of(run).latency)
        by_mask = {row.get("mask_digest"): row for row in table["rows"]}
        dense = by_mask.pop(None)
        # Of one replicate of each arm the sparsest ticket is measured: another one has as many
        # zeros or fewer.
        row = by_mask.get(file.mask_digest) or next(iter(by_mask.values()))
        same = row["mask_digest"] == file.mask_digest
        latency = {
            "dense_ms": float(dense["batch_1"]["ms"]),
            "ticket_ms": float(row["batch_1"]["ms"]),
            "device": str(table["device"]),
            "of": "" if same else f"{row['arm']}, round {row['round']}",
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None  # the run itself says what is wrong with it
    return latency if f"{latency['device']}{latency['of']}".isprintable() else None
