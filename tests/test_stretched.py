"""Tickets that are trained as long as another arm's search has cost, and arms that follow two."""

import pytest
from tests.test_method_contracts import tickets
from tests.test_rehearsal import done_in

from tombola.evidence.ledger import accounts
from tombola.experiments import reporting
from tombola.experiments.experiment import foresee, plan, run
from tombola.experiments.feeds import feeds_of
from tombola.folder.identity import definition_of
from tombola.ground.errors import ConfigError
from tombola.reports import decisions
from tombola.reports.equal_cost import equal_cost_grids
from tombola.schema import arms
from tombola.schema.recipe import parse

BATCH = 32
ARMS = {
    "long": {"method": "stretched", "source": "snip", "as_long_as": "lth"},
    "limited": {"method": "stretched", "source": "snip", "as_long_as": "lth", "most": 1.5},
    "lth": {"method": "lth", "rate": 0.5},
    "snip": {"method": "at_start", "score": {"name": "snip", "examples": 64}},
}
RECIPE = {
    "name": "long",
    "data": {"name": "digits", "subset": 320},
    "model": {"name": "mlp", "hidden": [20, 10]},
    "training": {"lr": 0.05, "epochs": 2, "batch_size": BATCH},
    "densities": [0.5, 0.25],
    "until": {"rounds": 2},
    "rewind": 3,
    "verdict": {"at": [0.5, 0.25]},
}


def recipe(made=ARMS):
    return parse(RECIPE | {"arms": made})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    outcome = run(recipe(), runs=tmp_path_factory.mktemp("long"), workers=1)
    assert outcome.complete, outcome.notes
    return outcome


def of(done, arm):
    return [record for record in done.records if record["arm"] == arm and record["round"]]


def test_search_and_evaluation_together_cost_as_much_as_those_of_the_other_arm(done):
    seen = {}
    for account in accounts(done.records, {"long": "snip", "limited": "snip"}):
        record = account.record
        seen[record["arm"], record["round"]] = account.this_ticket.samples
    for index in (1, 2):
        # Trainings end with a whole step.
        assert abs(seen["long", index] - seen["lth", index]) <= BATCH
        assert seen["limited", index] < seen["lth", index]
        assert seen["snip", index] < seen["limited", index]


def test_records_have_the_length_and_what_an_equal_cost_would_take(done):
    [dense] = [one for one in done.records if one["arm"] == "lth" and not one["round"]]
    full = dense["costs"][0]["samples"]
    for index, (long, limited, snip, lth) in enumerate(
        zip(*(of(done, name) for name in ("long", "limited", "snip", "lth")), strict=True), 1
    ):
        dear = lth["samples_seen_search"] - snip["samples_seen_search"]
        assert long["length"] == [pytest.approx(1 + dear / full)] * 2
        assert limited["length"] == [1.5, long["length"][1]]
        assert long["length"][0] > index  # LTH has trained once a round
        assert "length" not in lth


def test_tickets_are_those_of_the_source_and_know_their_length(done):
    found = tickets(done.folder)
    for mine, source in zip(found["long"], found["snip"], strict=True):
        assert (mine.mask_digest, mine.rewind_digest) == (source.mask_digest, source.rewind_digest)
    lengths = [ticket.origin["length"] for ticket in found["long"]]
    assert lengths == [record["length"] for record in of(done, "long")]


def test_a_rehearsal_tells_what_it_costs(done, tmp_path):
    told = foresee(plan(recipe()), runs=tmp_path)
    assert (told.trainings, told.steps, told.examples, told.flops) == done_in(done)


def test_where_no_ticket_is_as_sparse_the_last_one_sets_the_length(tmp_path):
    made = {name: ARMS[name] for name in ("lth", "snip", "long")}
    shallow = made | {"lth": {"method": "lth", "rate": 0.1}}
    outcome = run(recipe(shallow), runs=tmp_path, workers=1)
    first, second = of(outcome, "long")
    assert first["length"] == second["length"]
    assert first["length"][0] > 2


def test_the_table_has_both_at_each_density_and_marks_a_limit(done):
    asked = reporting.asked(recipe())
    assert asked.equal_cost == {"long": "lth", "limited": "lth"}
    [grid] = equal_cost_grids(done.records, asked)
    assert grid.title.startswith("Accuracy at equal total cost: trained as long as lth costs")
    assert [row[:2] for row in grid.rows] == [
        ["50", "lth"], ["", "long"], ["", "limited"], ["25", "lth"], ["", "long"], ["", "limited"],
    ]  # fmt: skip
    lth, long, limited = grid.rows[:3]
    assert float(long[3]) == pytest.approx(float(lth[3]), abs=0.1)
    assert lth[4] == "1.00"
    assert limited[4] == "* 1.50"
    assert grid.notes[1].startswith("* an equal cost would take another length")


def test_what_is_trained_longer_does_not_stand_beside_dense_at_equal_budget(done):
    asked = reporting.asked(recipe())
    assert ("long", "dense") not in asked.pairs
    assert {("long", "lth"), ("snip", "long")} <= set(asked.pairs)
    rows = decisions.against_dense_grid(done.records, asked).rows
    assert [row[0] for row in rows] == ["lth", "snip"]
    title = decisions.verdict_grid(done.records, asked).title
    assert title == "Verdicts at equal budget: every ticket has the recipe's training"


def test_an_arm_may_follow_two_others():
    made = recipe().arms
    order = arms.order(made)
    assert order.index("long") > max(order.index("lth"), order.index("snip"))
    definition = definition_of(recipe(), "long")
    assert definition["source"]["method"] == "at_start"
    assert definition["as_long_as"]["method"] == "lth"
    # A round is kept until each of its readers has it.
    feeds = feeds_of(made, [(name, 0) for name in made])
    assert {name: feed._readers for (name, _), feed in feeds.items()} == {
        "long": 0, "limited": 0, "lth": 2, "snip": 2,
    }  # fmt: skip


def test_a_circle_through_the_second_arm_is_refused():
    made = {
        "a": {"method": "lth", "match": "c"},
        "b": {"method": "lth", "match": "a"},
        "c": {"method": "stretched", "source": "d", "as_long_as": "b"},
        "d": {"method": "lth", "rate": 0.5},
    }
    read = {name: arms.read(given, name) for name, given in made.items()}
    with pytest.raises(ConfigError, match="a -> c -> b -> a follow each other in a circle"):
        arms.order(read)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"as_long_as": None}, r"arms.long needs as_long_as: ARM"),
        ({"source": None}, r"arms.long needs source: ARM"),
        ({"as_long_as": "lht"}, r"arms.long.as_long_as is 'lht'; .* Did you mean 'lth'\?"),
        ({"as_long_as": "long"}, r"arms.long.as_long_as is the arm itself"),
        ({"source": "limited"}, r"arms.long.source is 'limited', which trains another arm's"),
        ({"most": 0.5}, r"arms.long.most is 0.5; it is how many times"),
        ({"evaluate": "untrained"}, r"arms.long.evaluate has no meaning"),
    ],
)
def test_bad_options_are_told_in_one_line(changes, said):
    with pytest.raises(ConfigError, match=said) as told:
        recipe(ARMS | {"long": ARMS["long"] | changes})
    assert "\n" not in str(told.value)
