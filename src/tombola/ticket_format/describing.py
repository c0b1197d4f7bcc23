"""Describing: what a ticket says of itself, as text for people and as data for scripts."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Iterable
from typing import Any

from tombola.ticket_format.contents import TicketFile
from tombola.ticket_format.texts import file_name, printable

_WIDTH = 100
_LABEL = 16


def describe(file: TicketFile, more: Iterable[tuple[str, str]] = ()) -> str:
    """Return what a ticket is, as plain text of at most 100 columns: its origin, its densities and
    every layer.

    Args:
        file: The ticket.
        more: What else is to be said of it, label and text.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from tombola.ticket_format import encode, verify, write
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     _ = write(path, encode(mask, rewind, origin={"arm": "LTH", "round": 1, "seeds": {"replicate": 7}}))
    ...     lines = describe(verify(path)).splitlines()
    >>> print("\\n".join(lines[:5]))
    ticket          ticket.safetensors
    arm             LTH, round 1
    density         66.67 %: 2 of 3 prunable weights kept
    seeds           replicate=7
    digest          f1bda757190fa32263281ddf67f3d70752bcbc7cc8847e5b108a3ecea78f06ca
    >>> print("\\n".join(lines[-2:]))
    w            3     2   3  66.67 %
    1 layer            2   3  66.67 %
    """
    facts = [("ticket", file_name(file.path)), *_origin_facts(file), ("digest", file.digest)]
    facts += [("mask digest", file.mask_digest), ("rewind digest", file.rewind_digest)]
    facts += [("file", f"format {file.format}, {_bytes(file.size)}, {_rewind_fact(file)}")]
    if file.rewind_point is not None:
        # The digest stands two lines above; in full the path would not fit a line.
        short = (file.reference or "").replace(file.rewind_digest, f"{file.rewind_digest[:8]}…")
        facts += [("rewind file", f"{short}, {_bytes(file.rewind_point.size)}")]
    facts += more
    lines = []
    for label, value in facts:
        lines += _fact(label, value)
    return "\n".join([*lines, "", *_table(file)])


def _rewind_fact(file: TicketFile) -> str:
    if file.refers:
        return "the rewind point is in another file"
    return f"{len(file.rewind)} tensors in the rewind point"


def plain(file: TicketFile) -> dict[str, Any]:
    """Return all that a ticket file says, as JSON data for scripts; ``layers`` has every mask in
    the model's order.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from tombola.ticket_format import encode, verify, write
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     _ = write(path, encode(mask, rewind, origin={"arm": "LTH", "round": 1}))
    ...     said = plain(verify(path))
    >>> said["kept"], said["origin"], said["rewind_point"]["file"]
    (2, {'arm': 'LTH', 'round': 1}, None)
    >>> said["layers"]["w"]
    {'shape': [3], 'kept': 2, 'prunable': 3, 'density': 0.6666666666666666}
    """
    kept = file.kept_per_layer()
    sizes = {name: math.prod(shape) for name, shape in file.shapes.items()}
    return {
        "path": os.fspath(file.path),
        "size": file.size,
        "format": file.format,
        "digest": file.digest,
        "mask_digest": file.mask_digest,
        "rewind_digest": file.rewind_digest,
        "kept": file.kept,
        "prunable": file.prunable,
        "total": file.total,
        "density": file.density,
        "density_total": file.density_total,
        "layers": {
            name: {
                "shape": list(shape),
                "kept": kept[name],
                "prunable": sizes[name],
                "density": kept[name] / sizes[name] if sizes[name] else None,
            }
            for name, shape in file.shapes.items()
        },
        "rewind_point": {
            "file": file.reference,  # seen from the ticket's folder; null where the ticket holds it
            "size": file.rewind_point.size if file.rewind_point else None,
            "tensors": {
                name: {"dtype": e.dtype, "shape": list(e.shape)} for name, e in file.rewind.items()
            },
        },
        "origin": dict(file.origin),
    }


def _origin_facts(file: TicketFile) -> list[tuple[str, str]]:
    origin = dict(file.origin)
    arm, index = origin.pop("arm", None), origin.pop("round", None)
    stands = [] if arm is None else [_value(arm)]
    stands += [] if index is None else [f"round {_value(index)}"]
    density = f"{_percent(file.density)}: {file.kept:,} of {file.prunable:,} prunable weights kept"
    facts = [("arm", ", ".join(stands))] if stands else []
    facts += [(key, _thing(origin.pop(key))) for key in ("model", "data") if key in origin]
    if "inputs" in origin:
        facts += _inputs(origin.pop("inputs"))
    if "trained" in origin:
        facts += [("weights", _trained(origin.pop("trained")))]
    # What only a program needs is in `plain`.
    for key in ("versions", "inference_flops", *(["shared"] if origin.get("shared") == {} else [])):
        origin.pop(key, None)
    facts += [("density", density)]
    if file.density_total is not None:
        facts += [
            ("of all weights", f"{_percent(file.density_total)} of {file.total:,} are not pruned")
        ]
    if "partitions" in origin:
        facts += [("partitions", _partitions(origin.pop("partitions")))]
    first = [key for key in ("rewind_step", "seeds", "training") if key in origin]
    last = [key for key in ("parent",) if origin.get(key) is not None]
    rest = sorted(origin.keys() - {"parent", *first})
    return facts + [(key.replace("_", " "), _value(origin[key])) for key in [*first, *rest, *last]]


def _thing(value: Any) -> str:
    """Show a model or a data set: its name, its options in brackets, and what else is said of
    it.
    """
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return _value(value)
    options = value.get("options")
    text = value["name"] + (f" ({_value(options)})" if options else "")
    rest = {
        key: item
        for key, item in value.items()
        if key not in ("name", "options") and item is not None
    }
    return "; ".join([text, *(f"{key} {_value(item)}" for key, item in rest.items())])


def _inputs(value: Any) -> list[tuple[str, str]]:
    """Show how a model is given images, and what its outputs stand for."""
    known = ("shape", "mean", "std", "classes")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in known):
        return [("inputs", _value(value))]
    shape = " x ".join(map(_value, value["shape"]))
    mean, std = value["mean"], value["std"]
    if all(type(number) in (int, float) for number in [*mean, *std]):
        mean, std = [[f"{number:.6g}" for number in numbers] for numbers in (mean, std)]
    scale = f"mean {_listed(mean)}, std {_listed(std)}"
    how = f"{shape}, {_value(value.get('dtype'))}; the model takes (images - mean) / std, {scale}"
    classes = value["classes"]
    numbered = all(type(label) is int for label in classes)
    shown = _classes(classes) if numbered else _listed(classes)
    return [("inputs", how), ("classes", f"{len(classes)}: {shown}")]


def _listed(values: list[Any]) -> str:
    return ", ".join(map(_value, values))


def _trained(value: Any) -> str:
    """Say that a ticket's values are trained weights, and how good they are."""
    said = value if isinstance(value, dict) else {}
    measured = []
    for key, one in said.items():
        split, _, metric = key.partition("_")
        if split in ("test", "valid") and metric.isidentifier() and isinstance(one, int | float):
            shown = _percent(one) if metric == "accuracy" else f"{one:.6g}"
            measured.append(f"{split} {metric.replace('_', ' ')} {shown}")
    return ", ".join(["trained, no rewind point", *measured])


def _partitions(value: Any) -> str:
    if not isinstance(value, list):
        return _value(value)
    shown = (
        _classes(part["classes"] if isinstance(part, dict) and "classes" in part else part)
        for part in value
    )
    return f"{len(value)}: " + " | ".join(shown)


def _classes(part: Any) -> str:
    """Show classes as ranges, 0-4, 7, where they are numbers."""
    if not (isinstance(part, list) and part and all(type(c) is int for c in part)):
        return "all" if part is None else _value(part)
    runs: list[list[int]] = []
    for number in sorted(part):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and not any(
        isinstance(item, (dict, list)) for item in value.values()
    ):
        return ", ".join(f"{key}={_value(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False)


def _fact(label: str, value: str) -> list[str]:
    wrapped = textwrap.wrap(printable(value, 600), _WIDTH - _LABEL) or [""]
    return [
        f"{'' if row else printable(label, 14):<{_LABEL}}{line}" for row, line in enumerate(wrapped)
    ]


def _table(file: TicketFile) -> list[str]:
    kept = file.kept_per_layer()
    rows = [("layer", "shape", "kept", "of", "density")]
    for name, shape in file.shapes.items():
        size = math.prod(shape)
        sides = _middle("x".join(map(str, shape)) or "1", 22)
        share = _percent(kept[name] / size) if size else "-"
        rows.append((_middle(name), sides, f"{kept[name]:,}", f"{size:,}", share))
    layers = f"{len(kept)} layer{'' if len(kept) == 1 else 's'}"
    rows.append((layers, "", f"{file.kept:,}", f"{file.prunable:,}", _percent(file.density)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        lines.append("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]))
    return lines


def _middle(name: str, limit: int = 36) -> str:
    name = printable(name, 1000)
    return name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _bytes(size: int) -> str:
    return f"{size:,} bytes" if size < 100_000 else f"{size:,} bytes ({size / 1e6:.1f} MB)"
