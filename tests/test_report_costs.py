"""What a report says of the cost of scoring, and of layers that are left without weights."""

import pytest
from tests.test_ledger import HALF, WHOLE, cost, record

from tombola.evidence import ledger
from tombola.reports import alive, panels, scoring, together
from tombola.reports.decisions import Asked
from tombola.reports.layout import content_of, find
from tombola.reports.section import OneRun, SeveralRuns

AT = Asked(at=(0.5, 0.2))


def scored():
    """Two arms that score with data, at start and round by round, and one that does not."""
    found = [record("lth", 0, 1.0, [cost("evaluation", "0")])]
    found.append(record("lth", 1, 0.5, [cost("search", "0"), cost("evaluation", "1")]))
    for index, density in ((1, 0.5), (2, 0.2)):
        costs = [cost("cut", f"c{index}", 100, flops=10**9), cost("evaluation", f"s{index}")]
        found.append(record("snip", index, density, costs) | {"by_itself": True})
        of_round = [
            cost("search", f"h{index}", HALF, flops=10**12),
            cost("cut", f"hc{index}", 50, flops=10**9),
            cost("evaluation", f"e{index}"),
        ]
        found.append(record("lth-snip", index, density, of_round))
    return found


def test_a_ticket_is_charged_the_scoring_of_every_round_that_it_needed():
    snip, lth_snip = ledger.scored(scored(), 0.2)
    assert (snip.arm, snip.scoring.samples, snip.search.samples) == ("snip", 100, 0)
    assert (lth_snip.arm, lth_snip.scoring.samples) == ("lth-snip", 2 * 50)
    assert (lth_snip.search.samples, lth_snip.evaluation.samples) == (2 * HALF, WHOLE)
    assert lth_snip.search.flops == 2 * 10**12


def test_the_table_has_scoring_beside_trainings_and_evaluation():
    grid = scoring.scoring_grid(scored(), AT)
    first, second = grid.rows[:2]
    # 100 of 100 + 0 + 1000 examples; 10^9 FLOPs are 0.00 TFLOP beside the search's 10^12.
    assert first == ["50", "snip", "1", "9.1", "100", "0.00", "1.00", "0", "0.00", "0.00",
                     "1,000", "", "1.00"]  # fmt: skip
    assert second[:7] == ["", "lth-snip", "1", "3.2", "50", "0.00", "1.00"]
    assert scoring.scoring_lines(scored(), AT) == [
        "Scoring takes at most 9.1 % of the examples that a ticket costs with its search and "
        "evaluation (snip at 50 %: 100 examples)."
    ]


def test_without_scores_that_need_data_nothing_is_told():
    without = [one for one in scored() if one["arm"] == "lth"]
    assert scoring.scoring_grid(without, AT).rows == []
    assert content_of(find("scoring", "run"), OneRun(without, AT)) is None


def ticket(arm, replicate, index, kept, density):
    layers = {"conv": [kept[0], 50], "fc": [kept[1], 1000], "head": [min(kept[1], 5), 5]}
    return {
        "arm": arm,
        "replicate": replicate,
        "round": index,
        "density": density,
        "layers": layers,
    }


THIN = [
    ticket("snip", 0, 0, (50, 1000), 1.0),
    ticket("snip", 0, 1, (12, 500), 0.5),
    ticket("snip", 1, 1, (9, 500), 0.5),
    ticket("snip", 0, 2, (0, 200), 0.2),
    ticket("snip", 1, 2, (4, 200), 0.2),
    ticket("lth", 0, 1, (25, 500), 0.5),
]


def test_a_layer_is_nearly_empty_below_ten_weights_unless_it_has_no_more():
    assert [alive.is_thin(one) for one in THIN] == [False, False, True, True, True, False]


def test_the_table_says_how_many_layers_are_alive_and_which_is_the_thinnest():
    grid = alive.alive_grid(THIN, AT)
    # The head keeps all of its five weights, and is not thin.
    assert grid.rows == [
        ["50", "snip", "2", "3 of 3", "conv", "9 to 12"],
        ["", "lth", "1", "3 of 3", "conv", "25"],
        ["20", "snip", "2", "2.5 of 3", "conv", "0 to 4"],
    ]
    assert alive.alive_lines(THIN) == [
        "A layer keeps fewer than 10 weights from this density on: snip at 50 % (9 in conv)."
    ]


def test_where_no_layer_is_nearly_empty_nothing_is_told():
    full = [one for one in THIN if not alive.is_thin(one)]
    assert alive.alive_grid(full, AT).rows == []
    assert content_of(find("layers_alive", "run"), OneRun(full, AT)) is None
    part = together.Part("a", full, AT)
    assert together.layers_alive_grid([part]).rows == []


def test_layers_alive_are_drawn_over_density_with_an_axis_of_all_layers():
    drawn = panels.layers_alive(THIN, alive.FEW).to_dict()
    rows = [row for rows in drawn["datasets"].values() for row in rows]
    snip = {row["density"]: row for row in rows if row.get("arm") == "snip" and not row["dashed"]}
    assert snip[20.0]["mean"] == 2.5
    assert (snip[20.0]["lowest"], snip[20.0]["highest"]) == (2.0, 3.0)
    dashed = {row["density"]: row for row in rows if row.get("arm") == "snip" and row["dashed"]}
    assert dashed[50.0]["mean"] == pytest.approx(2.5)
    [panel] = drawn["vconcat"]
    domains = [layer["encoding"]["y"]["scale"].get("domain") for layer in panel["layer"]]
    assert domains == [[0.0, 3.0]] * len(domains)


def test_several_runs_have_a_column_each():
    fuller = [one for one in THIN if one["arm"] == "lth"]
    parts = [together.Part("thin", THIN, AT), together.Part("full", fuller, AT)]
    [grid] = find("runs_layers_alive", "several runs").grid(SeveralRuns(parts))
    assert grid.rows == [
        ["50", "snip", "3 of 3", ""],
        ["", "lth", "3 of 3", "3 of 3"],
        ["20", "snip", "2.5 of 3", ""],
    ]
