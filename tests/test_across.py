"""Across: figures of several runs beside each other, by hand."""

import pytest
from tests.test_decisions import record

from tombola.reports import across


def titles_of_y(panel):
    """The titles of the y axis that a panel's layers give."""
    axes = [layer["encoding"]["y"] for layer in panel["layer"] if "y" in layer["encoding"]]
    return [axis.get("title") for axis in axes]


@pytest.mark.parametrize(
    ("runs", "rows"), [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [3, 2]), (7, [3, 3, 1])]
)
def test_panels_stand_in_rows_of_up_to_three_and_four_of_them_two_by_two(runs, rows):
    records = [record("lth", k, r, 0.5**r, 0.9) for k in range(2) for r in range(3)]
    spec = across.by_run({str(number): records for number in range(runs)}, ["lth"]).to_dict()
    assert [len(row["hconcat"]) for row in spec["vconcat"]] == rows
    widths = {panel["width"] for row in spec["vconcat"] for panel in row["hconcat"]}
    assert len(widths) == 1
    assert sum(widths) * max(rows) <= 726
    for row in spec["vconcat"]:
        first, *others = map(titles_of_y, row["hconcat"])
        assert "Test accuracy (%)" in first
        assert not any("Test accuracy (%)" in titles for titles in others)
