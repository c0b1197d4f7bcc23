"""Figures of several panels: what they hold, by hand."""

import pytest
from tests.test_decisions import record
from tests.toys import without

from tombola.evidence.comparisons import compare_over
from tombola.records.records import Cost
from tombola.reports import figures, panels, table


def data(spec, layer):
    """The rows of a layer; those that all layers of a panel share stand there."""
    [above] = [panel for panel in spec.get("vconcat", [spec]) if layer in panel["layer"]]
    return spec["datasets"][(layer.get("data") or above.get("data") or spec["data"])["name"]]


def layers(spec, mark):
    """All layers with that mark, of all panels."""
    return [
        layer
        for panel in spec.get("vconcat", [spec])
        for layer in panel["layer"]
        if layer.get("mark", {}).get("type") == mark
    ]


def arm(name, accuracy, spread=0.001, **more):
    # and 0.001 for each replicate
    rounds = ((0, 1.0, 0.9), (1, 0.5, accuracy), (2, 0.25, accuracy - 0.01))
    return [record(name, k, r, density, value + spread * k * (r > 0), **more)
            for k in range(3) for r, density, value in rounds]  # fmt: skip


RECORDS = arm("lth", 0.90) + arm("better", 0.91) + arm("wild", 0.905, spread=0.2)


def compared(**options):
    return [
        one
        for name in ("better", "wild")
        for one in compare_over(RECORDS, name, "lth", at=[0.5, 0.25], **options)
    ]


def test_differences_are_points_with_intervals_in_the_order_and_colours_of_the_arms():
    spec = panels.differences(compared(margin=0.01), ["lth", "better", "wild"]).to_dict()
    [points] = [layer for layer in layers(spec, "point") if "shape" in layer["encoding"]]
    rows = {(row["arms"], row["density"]): row for row in data(spec, points)}
    assert set(rows) == {
        (f"{name} - lth", at) for name in ("better", "wild") for at in ("50 %", "25 %")
    }
    assert rows["better - lth", "50 %"]["mean"] == pytest.approx(1.0)
    assert rows["wild - lth", "50 %"]["mean"] == pytest.approx(100 * (0.005 + 0.199))
    assert points["encoding"]["y"]["sort"] == ["better - lth", "wild - lth"]
    # Those of the second and the third arm, as in all figures.
    assert points["encoding"]["color"]["scale"] == {
        "domain": ["better", "wild"],
        "range": ["#D55E00", "#009E73"],
    }
    assert points["encoding"]["shape"]["scale"]["range"] == ["square", "triangle-up"]


def test_an_interval_without_room_is_cut_off_and_marked():
    spec = panels.differences(compared()).to_dict()
    [rule] = [layer for layer in layers(spec, "rule") if "y" in layer["encoding"]]
    low, high = rule["encoding"]["x"]["scale"]["domain"]
    for row in data(spec, rule):
        assert low <= row["from"] <= row["mean"] <= row["to"] <= high
        assert (row["from"] != row["low"]) == (row["arms"] == "wild - lth")
    arrows = [layer["mark"]["shape"] for layer in layers(spec, "point") if "shape" in layer["mark"]]
    assert arrows == ["triangle-left", "triangle-right"]


def test_the_margin_is_a_band_where_there_is_one():
    assert layers(panels.differences(compared()).to_dict(), "rect") == []
    spec = panels.differences(compared(margin=0.02)).to_dict()
    [band] = layers(spec, "rect")
    assert [(row["from"], row["to"]) for row in data(spec, band)] == [(-2.0, 2.0)]


def test_one_replicate_has_a_difference_without_an_interval():
    one = [each for each in RECORDS if each["replicate"] == 0]
    spec = panels.differences(compare_over(one, "better", "lth", at=[0.5])).to_dict()
    [rule] = [layer for layer in layers(spec, "rule") if "y" in layer["encoding"]]
    [row] = data(spec, rule)
    assert row["from"] == row["mean"] == row["to"]


def costed(name, k, index, *, searched, evaluated, density):
    costs = [Cost("search", f"{name}{k}{index}s{n}", 500, 1.0).to_dict() for n in range(searched)]
    costs += [Cost("evaluation", f"{name}{k}{index}e", 1000, 1.0).to_dict()] if evaluated else []
    return record(name, k, index, density, 0.9, costs=costs)


# By hand, two rounds of two half trainings: search 2, the accuracy of the second ticket 1, of the
# first and of dense 2.
def test_a_bar_is_search_then_its_accuracy_then_those_before():
    found = [
        costed("colt-2", 0, r, searched=2 * (r > 0), evaluated=True, density=0.5**r)
        for r in range(3)
    ]
    spec = panels.costs(found, [0.25, 0.1]).to_dict()
    assert len(spec["vconcat"]) == 1  # nobody comes to 10 %
    assert spec["vconcat"][0]["title"]["text"] == "To reach 25 % density"
    [bars] = layers(spec, "bar")
    assert [(row["part"], row["from"], row["to"]) for row in data(spec, bars)] == [
        ("search", 0, 2), ("its evaluation", 2, 3), ("evaluations before", 3, 5),
    ]  # fmt: skip
    assert {row["label"] for row in data(spec, bars)} == {"90.00 %"}


def test_the_picture_of_the_paper_has_two_scales_and_ours_two_panels_over_one_axis():
    paper = panels.metric_and_rounds(RECORDS, ["lth", "better"]).to_dict()
    assert paper["resolve"]["scale"]["y"] == "independent"
    assert {row["arm"] for rows in paper["datasets"].values() for row in rows} == {"lth", "better"}
    ours = panels.rounds(RECORDS, ["lth", "better"]).to_dict()
    above, below = ours["vconcat"]
    domains = [panel["layer"][1]["encoding"]["x"]["scale"]["domain"] for panel in (above, below)]
    assert domains[0] == domains[1]
    rounds = [row for row in data(ours, below["layer"][1]) if row["arm"] == "lth"]
    assert [(row["density"], row["mean"]) for row in rows_by_density(rounds)] == [
        (100, 0),
        (50, 1),
        (25, 2),
    ]


def rows_by_density(rows):
    return sorted(rows, key=lambda row: -row["density"])


STOPPED = arm(
    "lth", 0.90, test_accuracy_early=0.89, train_accuracy=0.99, valid_accuracy=0.92, distance=0.02
)


def test_early_stop_has_accuracy_step_and_gap_below_each_other():
    spec = panels.early_stop(STOPPED).to_dict()
    accuracy, step, gap = spec["vconcat"]
    assert [panel["layer"][-1]["encoding"]["y"]["title"] for panel in (accuracy, step, gap)] == [
        "Accuracy at early stop (%)", "Early stop (step)", "Train - test (points)",
    ]  # fmt: skip
    assert {row["mean"] for row in data(spec, accuracy["layer"][-1])} == {89.0}
    # 100 - 10 * round - replicate
    assert [row["mean"] for row in data(spec, step["layer"][-1])] == [99, 89, 79]
    [dashed] = [layer for layer in gap["layer"] if "strokeDash" in layer["mark"]]
    assert {round(row["mean"], 6) for row in data(spec, dashed)} == {7.0}
    assert {round(row["mean"], 2) for row in data(spec, gap["layer"][-1])} == {8.8, 8.9, 9.8}


def test_what_no_record_tells_has_no_panel():
    bare = [without(record, "train_accuracy") for record in STOPPED]
    assert len(panels.early_stop(bare).to_dict()["vconcat"]) == 2


def test_the_table_of_early_stops_begins_with_the_dense_network():
    dense, half, quarter = table.stop_grid(STOPPED, [0.5, 0.25, 0.1]).rows
    assert dense == [
        "100",
        "dense",
        "3",
        "90.10 ± 0.10",
        "89.00 ± 0.00",
        "99 ± 1",
        "8.90 ± 0.10",
        "7.00 ± 0.00",
    ]
    assert half[:2] == ["50", "lth"]
    assert quarter[5] == "79 ± 1"
    assert table.stop_grid(RECORDS, [0.5]).rows == []


def boxed(**more):
    """Accuracy at the end 0.001 more with each replicate, and 2 points higher at the early stop."""

    def early(one):
        return one | {"test_accuracy_early": one["test_accuracy"] + 0.02}

    tickets = [record(name, k, r, 0.5**r, 0.7 if r else 0.9) for name in ("gradual", "as-trained", "random")
               for k in range(3) for r in range(3)]  # fmt: skip
    long = [record("dense-long", k, r, 1.0, 0.9 + 0.01 * (r > 0)) for k in range(3) for r in (0, 2)]
    return [early(one) | more for one in tickets + long]


def of_panels(spec):
    """By title and arm, what a panel's boxes hold; data that all parts share stand above them."""
    found = {}
    for row in spec["vconcat"]:
        for panel in row["hconcat"]:
            data = next(
                part["data"] for part in (panel["layer"][0], panel, row, spec) if "data" in part
            )
            boxes = found.setdefault(panel["title"]["text"], {})
            for value in spec["datasets"][data["name"]]:
                box = boxes.setdefault(value["arm"], [])
                box.append((round(value["accuracy"], 1), value["at"]))
                box.sort()
    return found


def test_tickets_and_dense_networks_are_boxed_at_their_early_stop_and_networks_at_the_end():
    found = of_panels(figures.boxes(boxed(), [0.5, 0.25, 0.1], ["as-trained"]).to_dict())
    assert list(found) == ["50 % density", "25 % density"]  # nobody comes to 10 %
    for panel in found.values():
        assert set(panel) == {"dense", "gradual", "as-trained", "random", "dense-long"}
        assert panel["dense"] == [(at, "early stop") for at in (92.0, 92.1, 92.2)]
        assert panel["dense-long"] == [(at, "early stop") for at in (93.0, 93.1, 93.2)]
        assert (
            panel["gradual"] == panel["random"] == [(at, "early stop") for at in (72.0, 72.1, 72.2)]
        )
        assert panel["as-trained"] == [(at, "the end") for at in (70.0, 70.1, 70.2)]


def test_without_an_early_stop_the_accuracies_of_the_end_are_boxed():
    found = of_panels(figures.boxes(boxed(test_accuracy_early=None), [0.5]).to_dict())
    assert found["50 % density"]["dense"] == [(at, "the end") for at in (90.0, 90.1, 90.2)]


def test_each_density_has_a_scale_of_its_own():
    records = [one | {"test_accuracy_early": 0.3} if one["round"] == 2 and one["arm"] == "random" else one
               for one in boxed()]  # fmt: skip
    spec = figures.boxes(records, [0.5, 0.25]).to_dict()
    lows = [
        panel["layer"][0]["encoding"]["y"]["scale"]["domain"][0]
        for panel in spec["vconcat"][0]["hconcat"]
    ]
    assert lows[0] > 70
    assert lows[1] < 30
    panels_of_six = figures.boxes([*boxed()], [0.9, 0.8, 0.7, 0.6, 0.5, 0.25]).to_dict()
    assert [len(row["hconcat"]) for row in panels_of_six["vconcat"]] == [3, 3]


def test_training_curves_list_arms_in_the_order_of_every_other_chart():
    curve = {"step": [1, 2], "valid_accuracy": [0.5, 0.6]}
    records = []
    for index in (0, 1, 2):
        for arm, factor in (("lth", 0.8), ("colt-2", 0.5)):
            density = factor**index
            records.append(
                {"arm": arm, "replicate": 0, "round": index, "density": density, "curve": curve}
            )
    # colt-2 comes to half of the weights a round before lth comes near it.
    drawn = figures.curves(records, 0.7).to_dict()
    line, points = drawn["layer"]
    assert line["encoding"]["color"]["scale"]["domain"] == ["lth", "colt-2", "dense"]
    # Each with its mark, which it has in every chart; dense has none.
    assert points["encoding"]["shape"]["scale"]["range"] == ["circle", "square", "stroke"]
