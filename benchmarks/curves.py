"""Curves: what was measured at several places, as points with the range of the repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def points(measured: Mapping[Any, Sequence[float]], name: str = "") -> list[dict[str, Any]]:
    """Turn numbers at places into points: the median, with the lowest and the highest.

    >>> points({2: [3.0, 1.0, 2.0]})
    [{'x': 2, 'y': 2.0, 'low': 1.0, 'high': 3.0, 'name': ''}]
    """
    curve = []
    for x, values in measured.items():
        low, high = min(values), max(values)
        curve.append(
            {"x": x, "y": statistics.median(values), "low": low, "high": high, "name": name}
        )
    return curve
