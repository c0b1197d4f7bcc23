"""Results: the type of what records hold, its page, and that records of before are read and
written as they were.
"""

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from tests.toys import without

from tombola.ground.errors import ConfigError
from tombola.ground.metrics import CLASSIFIED, Metric
from tombola.records import results
from tombola.records.records import Records
from tombola.records.results import ABSENT, Result, Selected, costs_of, kinds

ROOT = Path(__file__).parent.parent
COMMITTED = sorted((ROOT / "docs" / "findings").rglob("records.jsonl"))
BRANCHES = "mnist-lenet5-branches"  # whose lines are of another kind
LEAST = {"arm": "lth", "replicate": 0, "round": 1, "kept": 8, "density": 0.8, "mask_digest": "ab", "evaluated": True,
         "samples_seen": 600, "test_accuracy": 0.9, "test_loss": 0.3}  # fmt: skip


def test_the_page_of_fields_is_made_of_the_type():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == results.page(), "python -m tombola.records.results docs/results.md"


def test_every_entry_has_a_meaning_and_every_number_of_something_its_unit():
    for entry in fields(Result):
        about = entry.metadata
        assert about["meaning"].endswith(".")
        assert about["group"]
        of_something = ("seconds", "samples", "density", "flops", "steps")
        if any(word in entry.name for word in of_something) and entry.name != "passes":
            assert about["unit"], entry.name
    for part in fields(results.Cost):
        assert part.metadata["meaning"].endswith(".")
        assert part.metadata["unit"] or part.name in ("role", "training")


@pytest.mark.parametrize(
    "path", COMMITTED, ids=lambda path: path.parent.relative_to(ROOT / "docs/findings").as_posix()
)
def test_a_committed_record_is_read_and_written_as_it_was(path):
    if BRANCHES in path.parts:
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        again = Result.of_record(record).to_dict()
        costs = [cost.to_dict() for cost in costs_of(record)]
        known = {key: value for key, value in record.items() if key in kinds(CLASSIFIED)}
        assert again == known | ({"costs": costs} if "costs" in record else {})


def test_entries_by_metric_are_one_each_in_a_record_and_those_that_do_not_apply_are_left_out():
    result = Result.of_record(LEAST)
    assert (result.test, result.valid, result.early) == ({"accuracy": 0.9, "loss": 0.3}, {}, {})
    assert result.line is ABSENT
    assert result.to_dict() == LEAST
    bits = Metric("bits", fraction=False, higher=False)
    other = LEAST | {
        "test_bits": 3.0,
        "test_bits_early": 3.5,
        "selected": "best, selected on test data",
    }
    read = Result.of_record(other, (bits,))
    assert (read.test, read.early) == ({"bits": 3.0, "loss": 0.3}, {"bits": 3.5})
    assert read.selected == Selected("best", "test")
    several = Result.of_record(
        other | {"test_top5": 0.5, "test_top5_early": 0.4}, (bits, Metric("top5"))
    )
    assert (several.test["top5"], several.early) == (0.5, {"bits": 3.5})  # there the headline alone


def test_a_result_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Result.of_record(LEAST).kept = 9


def test_what_was_selected_is_data_whatever_it_is_told_by():
    for weights in ("last", "best"):
        for on in ("validation", "test", "nothing"):
            selected = Selected(weights, on)
            assert Selected.of(selected.in_record) == selected
    assert Selected.of(None) is None
    with pytest.raises(ConfigError, match="selected is 'first'"):
        Selected.of("first")


def test_a_metric_that_is_no_fraction_may_be_any_number_and_a_fraction_may_not(tmp_path):
    bits = Metric("bits", fraction=False, higher=False)
    line = without(LEAST, "test_accuracy")
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(line | {"test_bits": 3.5}) + "\n")
    [result] = Records(path, metrics=(bits,)).results()
    assert result.test["bits"] == 3.5
    with pytest.raises(ConfigError, match="it has no 'test_accuracy'"):
        Records(path)
    path.write_text(json.dumps(LEAST | {"test_accuracy": 3.5}) + "\n")
    with pytest.raises(
        ConfigError, match=r"test_accuracy is 3.5; it must be a fraction from 0 to 1, or null"
    ):
        Records(path)
