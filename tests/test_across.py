"""Across: figures of several runs beside each other, by hand."""

import pytest
from tests.test_decisions import record

from tombola.reports import across


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
    titled = [[layer["encoding"]["y"].get("title") for layer in panel["layer"] if "y" in layer["encoding"]]
              for row in spec["vconcat"] for panel in row["hconcat"]]  # fmt: skip
    firsts = [sum(rows[:index]) for index in range(len(rows))]
    assert [index for index, titles in enumerate(titled) if "Test accuracy (%)" in titles] == firsts
