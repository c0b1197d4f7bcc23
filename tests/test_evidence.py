"""Evidence: what a page asks again and again is worked out once, and is what it was without
that.
"""

import pytest
from tests.test_decisions import ASKED, RECORDS, three
from tests.test_reports import searched

from tombola.evidence import comparisons, ledger, verdicts
from tombola.evidence.answers import Evidence, once
from tombola.records.records import Records, costs_of
from tombola.reports import aggregate, decisions, table

TAKEN = {"random": "lth"}
ANSWERS = {
    "accounts": lambda records: ledger.accounts(records, TAKEN),
    "sources": lambda records: ledger.sources(records, TAKEN),
    "apart": lambda records: ledger.independent_arms(records),
    "spent": lambda records: ledger.spent(records),
    "to reach": lambda records: ledger.to_reach(records, 0.5, TAKEN),
    "at equal cost": lambda records: ledger.at_equal_cost(records, 3.0, TAKEN),
    "budgets": lambda records: ledger.budgets(records, "lth", [0.5, 0.2]),
    "by round": aggregate.by_round,
    "by target": lambda records: aggregate.by_target(records, [0.5, 0.2], TAKEN),
    "kept per round": aggregate.kept_per_round,
    "dense": aggregate.dense,
    "rounds": lambda records: comparisons.rounds_of(records, "lth"),
    "values": lambda records: comparisons.values_at(records, "lth", 0.5),
    "compared": lambda records: comparisons.compare_over(records, "lth", "random", at=[0.5]),
    "verdict": lambda records: verdicts.verdict(
        records, "lth", at=0.5, margin=0.01, controls=["random"]
    ),
    "verdicts": lambda records: decisions.verdicts(records, ASKED),
    "comparisons": lambda records: decisions.comparisons(records, ASKED),
    "sentences": lambda records: decisions.sentences(records, ASKED),
}


@pytest.mark.parametrize("records", [RECORDS, searched()], ids=["three replicates", "two rounds"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_evidence_gives_the_answer_that_a_list_gives_the_first_time_and_the_second(answer, records):
    evidence = Evidence(records)
    assert answer(evidence) == answer(list(records)) == answer(evidence)


def test_other_options_and_other_evidence_are_asked_anew():
    calls = []

    @once
    def number(records, arm, *, at=(), of=None):
        calls.append((arm, at, of))
        return len(calls)

    evidence, same = Evidence(RECORDS), {"a": 1}
    assert [number(evidence, "lth"), number(evidence, "lth"), number(evidence, "random")] == [
        1,
        1,
        2,
    ]
    assert [number(evidence, arm="lth"), number(evidence, "lth", of=None)] == [1, 1]
    assert [number(evidence, "lth", at=[0.5, 0.2]), number(evidence, "lth", at=[0.5, 0.2])] == [
        3,
        3,
    ]
    assert [number(evidence, "lth", of=same), number(evidence, "lth", of=same)] == [4, 4]
    # A mapping has no hash and is known by which object it is, so one that is equal is asked with
    # anew.
    assert number(evidence, "lth", of=dict(same)) == 5
    assert number(Evidence(RECORDS), "lth") == 6
    assert number(evidence, 1) == number(evidence, 1) != number(evidence, True)


def test_an_answer_that_fails_fails_again():
    evidence = Evidence(RECORDS)
    for _ in range(2):
        with pytest.raises(ValueError, match="no record is of arm 'lht'"):
            comparisons.rounds_of(evidence, "lht")


def test_a_report_reads_each_records_costs_once(monkeypatch):
    read = []

    def counting(record):
        read.append((record["arm"], record["replicate"], record["round"]))
        return costs_of(record)

    monkeypatch.setattr(ledger, "costs_of", counting)
    records = RECORDS + three("other", 0.85)
    table.markdown("x", records, [], ASKED)
    assert sorted(read) == sorted((r["arm"], r["replicate"], r["round"]) for r in records)


def test_a_page_works_out_its_accounts_once(monkeypatch):
    """The tables of one page: what every arm is charged, and nothing charged a second time."""
    worked = []
    honest = ledger._sum
    monkeypatch.setattr(ledger, "_sum", lambda parts: worked.append(1) or honest(parts))
    table.markdown("x", RECORDS, [], ASKED)
    # Four sums for each result; with nothing taken from another arm, for the budgets, as many
    # again; twice what was spent in all.
    assert len(worked) <= 2 * 4 * len(RECORDS) + 2


def test_results_are_found_by_arm_and_replicate_in_the_recipes_order(tmp_path):
    records = Records(tmp_path / "records.jsonl", order=["b", "a"])
    line = {
        "arm": "a", "replicate": 0, "round": 0, "kept": 80, "density": 1.0, "mask_digest": "ab", "evaluated": True,
        "test_accuracy": 0.9, "samples_seen": 600,
    }  # fmt: skip
    written = [
        ("a", 1, 1),
        ("b", 0, 2),
        ("a", 0, 0),
        ("b", 0, 0),
        ("z", 0, 0),
        ("a", 1, 0),
        ("b", 1, 0),
    ]
    for number, (arm, replicate, index) in enumerate(written, 1):
        records.add(line | {"arm": arm, "replicate": replicate, "round": index})
        assert len(records) == len(records.all()) == number
    keys = [(record["arm"], record["replicate"], record["round"]) for record in records.all()]
    assert keys == [
        ("b", 0, 0),
        ("b", 0, 2),
        ("b", 1, 0),
        ("a", 0, 0),
        ("a", 1, 0),
        ("a", 1, 1),
        ("z", 0, 0),
    ]
    for arm, replicate in {key[:2] for key in keys} | {("none", 0)}:
        own = [
            record
            for record in records.all()
            if (record["arm"], record["replicate"]) == (arm, replicate)
        ]
        assert records.of(arm, replicate) == own
    # One that takes another's place stands in it, wherever results are asked for.
    records.add(line | {"arm": "b", "round": 2, "samples_seen": 900})
    assert records.of("b", 0)[-1] == records.all()[1] == records.get("b", 0, 2)
    assert records.all()[1]["samples_seen"] == 900
    # What is given is the caller's own.
    records.all().clear()
    records.of("b", 0).clear()
    assert len(records.all()) == len(written)
