"""Describing: the contents of a ticket, as text for people and as data for scripts."""

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
    """Return a ticket's origin, its densities and every layer as text of at most 100 columns.

    Args:
        file: The ticket.
        more: Further facts, label and text.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from tombola.ticket_format import encode, verify, write
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> origin = {"arm": "LTH", "round": 1, "seeds": {"replicate": 7}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     _ = write(path, encode(mask, rewind, origin=origin))
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
        # The digest is two lines above; with all of it the path would not fit a line.
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


def to_dict(file: TicketFile) -> dict[str, Any]:
    """Return all that a ticket file says, as JSON data; ``layers`` is in the model's order.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from tombola.ticket_format import encode, verify, write
    >>> mask, rewind = {"w": ([3], bytes([0b1010_0000]))}, {"w": ("F32", [3], bytes(12))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ticket.safetensors")
    ...     _ = write(path, encode(mask, rewind, origin={"arm": "LTH", "round": 1}))
    ...     data = to_dict(verify(path))
    >>> data["kept"], data["origin"], data["rewind_point"]["file"]
    (2, {'arm': 'LTH', 'round': 1}, None)
    >>> data["layers"]["w"]
    {'shape': [3], 'kept': 2, 'prunable': 3, 'density': 0.6666666666666666}
    """
    kept = file.kept_per_layer()
    layers = {}
    for name, shape in file.shapes.items():
        size = math.prod(shape)
        layers[name] = {
            "shape": list(shape),
            "kept": kept[name],
            "prunable": size,
            "density": kept[name] / size if size else None,
        }
    tensors = {}
    for name, entry in file.rewind.items():
        tensors[name] = {"dtype": entry.dtype, "shape": list(entry.shape)}
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
        "layers": layers,
        "rewind_point": {
            "file": file.reference,  # seen from the ticket's folder; null where the ticket holds it
            "size": file.rewind_point.size if file.rewind_point else None,
            "tensors": tensors,
        },
        "origin": dict(file.origin),
    }


def _origin_facts(file: TicketFile) -> list[tuple[str, str]]:
    facts = []
    origin = dict(file.origin)
    arm, index = origin.pop("arm", None), origin.pop("round", None)
    where = [] if arm is None else [_value(arm)]
    if index is not None:
        where.append(f"round {_value(index)}")
    if where:
        facts.append(("arm", ", ".join(where)))
    for key in ("model", "data"):
        if key in origin:
            facts.append((key, _thing(origin.pop(key))))
    if "inputs" in origin:
        facts += _inputs(origin.pop("inputs"))
    if "trained" in origin:
        facts.append(("weights", _trained(origin.pop("trained"))))

    density = f"{_percent(file.density)}: {file.kept:,} of {file.prunable:,} prunable weights kept"
    facts.append(("density", density))
    if file.density_total is not None:
        of_all = f"{_percent(file.density_total)} of {file.total:,} are not pruned"
        facts.append(("of all weights", of_all))
    if "partitions" in origin:
        facts.append(("partitions", _partitions(origin.pop("partitions"))))

    # What only a program needs is in `to_dict`.
    for key in ("versions", "inference_flops"):
        origin.pop(key, None)
    if origin.get("shared") == {}:
        del origin["shared"]
    first = [key for key in ("rewind_step", "seeds", "training") if key in origin]
    rest = sorted(origin.keys() - {"parent", *first})
    last = [] if origin.get("parent") is None else ["parent"]
    for key in [*first, *rest, *last]:
        facts.append((key.replace("_", " "), _value(origin[key])))
    return facts


def _thing(value: Any) -> str:
    """Show a model or a data set: its name, its options in brackets, and further entries."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return _value(value)
    options = value.get("options")
    parts = [value["name"] + (f" ({_value(options)})" if options else "")]
    for key, item in value.items():
        if key not in ("name", "options") and item is not None:
            parts.append(f"{key} {_value(item)}")
    return "; ".join(parts)


def _inputs(value: Any) -> list[tuple[str, str]]:
    """Show how a model is given images, and what its outputs stand for."""
    known = ("shape", "mean", "std", "classes")
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in known):
        return [("inputs", _value(value))]
    shape, dtype = " x ".join(map(_value, value["shape"])), _value(value.get("dtype"))
    scale = f"mean {_numbers(value['mean'])}, std {_numbers(value['std'])}"
    inputs = f"{shape}, {dtype}; the model takes (images - mean) / std, {scale}"
    classes = value["classes"]
    numbered = all(type(label) is int for label in classes)
    labels = _classes(classes) if numbered else _listed(classes)
    return [("inputs", inputs), ("classes", f"{len(classes)}: {labels}")]


def _numbers(values: list[Any]) -> str:
    if all(type(number) in (int, float) for number in values):
        values = [f"{number:.6g}" for number in values]
    return _listed(values)


def _listed(values: list[Any]) -> str:
    return ", ".join(map(_value, values))


def _trained(value: Any) -> str:
    """Say that a ticket's values are trained weights, and how good they are."""
    parts = ["trained, no rewind point"]
    results = value if isinstance(value, dict) else {}
    for key, number in results.items():
        split, _, metric = key.partition("_")
        if split in ("test", "valid") and metric.isidentifier() and isinstance(number, int | float):
            shown = _percent(number) if metric == "accuracy" else f"{number:.6g}"
            parts.append(f"{split} {metric.replace('_', ' ')} {shown}")
    return ", ".join(parts)


def _partitions(value: Any) -> str:
    if not isinstance(value, list):
        return _value(value)
    parts = []
    for part in value:
        has_classes = isinstance(part, dict) and "classes" in part
        parts.append(_classes(part["classes"] if has_classes else part))
    return f"{len(value)}: " + " | ".join(parts)


def _classes(part: Any) -> str:
    """Show classes as ranges, 0-4, 7, where they are numbers."""
    if part is None:
        return "all"
    if not (isinstance(part, list) and part and all(type(label) is int for label in part)):
        return _value(part)
    runs: list[list[int]] = []
    for label in sorted(part):
        if runs and label == runs[-1][-1] + 1:
            runs[-1][1:] = [label]
        else:
            runs.append([label])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        flat = not any(isinstance(item, (dict, list)) for item in value.values())
        if flat:
            return ", ".join(f"{key}={_value(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False)


def _fact(label: str, value: str) -> list[str]:
    first, *more = textwrap.wrap(printable(value, 600), _WIDTH - _LABEL) or [""]
    indent = " " * _LABEL
    return [f"{printable(label, 14):<{_LABEL}}{first}", *(f"{indent}{line}" for line in more)]


def _table(file: TicketFile) -> list[str]:
    kept = file.kept_per_layer()
    rows = [("layer", "shape", "kept", "of", "density")]
    for name, shape in file.shapes.items():
        size = math.prod(shape)
        sides = _shortened("x".join(map(str, shape)) or "1", 22)
        share = _percent(kept[name] / size) if size else "-"
        rows.append((_shortened(name), sides, f"{kept[name]:,}", f"{size:,}", share))
    layers = f"{len(kept)} layer{'' if len(kept) == 1 else 's'}"
    rows.append((layers, "", f"{file.kept:,}", f"{file.prunable:,}", _percent(file.density)))

    # Numbers to the right, so that their digits are aligned.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        lines.append("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]))
    return lines


def _shortened(name: str, limit: int = 36) -> str:
    """Return a name without its middle where it is too long."""
    name = printable(name, 1000)
    return name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _bytes(size: int) -> str:
    return f"{size:,} bytes" if size < 100_000 else f"{size:,} bytes ({size / 1e6:.1f} MB)"
