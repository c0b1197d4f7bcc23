import csv
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import altair as alt
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from tombola.records.records import Cost
from tombola.reports import aggregate, figures, page, sheets, table, tabular
from tombola.reports.decisions import Asked
from tombola.reports.section import Figure


def record(arm, replicate, round, density, accuracy, *, trainings=1.0, stop=None):
    """A record as an experiment writes it; one full-data training sees 1000 examples and takes
    10 seconds.
    """
    return {
        "arm": arm,
        "replicate": replicate,
        "round": round,
        "density": density,
        "density_total": (1 + density) / 2,
        "test_accuracy": accuracy,
        "valid_accuracy": None,
        "early_stop_step": stop,
        "samples_seen": int(1000 * trainings),
        "seconds": 10.0 * trainings,
        "kept_fraction": None if round == 0 else 0.5,
    }


def tiny():
    """Two replicates of lth, of which the second stops after round 1; colt-2 lost its second
    replicate.
    """
    return [
        record("lth", 0, 0, 1.0, 0.96),
        record("dense", 0, 0, 1.0, 0.96),
        record("dense", 1, 0, 1.0, 0.94),
        record("lth", 1, 0, 1.0, 0.94),
        record("lth", 0, 1, 0.5, 0.97, trainings=2, stop=30),
        record("lth", 1, 1, 0.5, 0.93, trainings=2),
        record("lth", 0, 2, 0.25, 0.95, trainings=3),
        record("colt-2", 0, 0, 1.0, 0.96),
        record("colt-2", 0, 1, 0.4, 0.955, trainings=3),
    ]


# aggregate


def test_a_round_is_the_mean_and_sample_deviation_of_the_replicates_that_reached_it():
    rows = {(row.arm, row.round): row for row in aggregate.by_round(tiny())}
    first = rows["lth", 1]
    assert first.value.n == 2
    assert first.value.mean == pytest.approx(0.95)
    assert first.value.deviation == pytest.approx(0.02 * 2**0.5)  # sqrt((0.02² + 0.02²) / (2 - 1))
    assert (first.value.lowest, first.value.highest) == (0.93, 0.97)
    assert (first.density, first.density_total, first.kept_fraction) == (0.5, 0.75, 0.5)
    assert first.early_stop_step == 30.0  # the other replicate has none
    assert rows["lth", 2].value == aggregate.Spread(1, 0.95, None, 0.95, 0.95)
    assert rows["lth", 0].kept_fraction is None


def test_arms_keep_the_order_of_appearance_and_rounds_ascend():
    rows = aggregate.by_round(list(reversed(tiny())))
    assert [(row.arm, row.round) for row in rows] == [
        ("colt-2", 0),
        ("colt-2", 1),
        ("lth", 0),
        ("lth", 1),
        ("lth", 2),
    ]


def test_equal_accuracies_have_exactly_no_deviation():
    assert aggregate.spread([0.1, 0.1, 0.1]) == aggregate.Spread(3, 0.1, 0.0, 0.1, 0.1)


def test_a_target_takes_the_first_round_at_or_below_it_of_each_replicate():
    rows = {(row.arm, row.target): row for row in aggregate.by_target(tiny())}
    assert {target for _, target in rows} == {0.8, 0.5}  # 0.25 is not at or below 0.2
    half = rows["lth", 0.5]
    assert (half.reached, half.replicates, half.round, half.density) == (2, 2, 1.0, 0.5)
    assert half.value.mean == pytest.approx(0.95)
    assert (half.trainings, half.seconds) == (2.0, 20.0)


def test_replicates_that_reach_a_target_in_different_rounds_are_averaged():
    records = [
        record("lth", 0, 0, 1.0, 0.9),
        record("lth", 0, 1, 0.5, 0.8, trainings=2),
        record("lth", 1, 0, 1.0, 0.9, trainings=2),
        record("lth", 1, 1, 0.6, 0.9, trainings=4),
        record("lth", 1, 2, 0.4, 0.7, trainings=8),
    ]
    [_, half] = aggregate.by_target(records)
    assert (half.round, half.density, half.trainings, half.seconds) == (
        1.5,
        0.45,
        (2 / 1 + 8 / 2) / 2,
        (20 + 80) / 2,
    )


def test_a_failed_replicate_counts_as_not_reached():
    rows = {(row.arm, row.target): row for row in aggregate.by_target(tiny())}
    assert (rows["colt-2", 0.5].reached, rows["colt-2", 0.5].replicates) == (1, 2)


def test_an_arm_that_did_not_reach_a_target_has_a_row_without_numbers():
    records = [*tiny(), record("slow", 0, 0, 1.0, 0.9)]
    [row] = [row for row in aggregate.by_target(records) if row.arm == "slow" and row.target == 0.5]
    assert (row.reached, row.round, row.value, row.trainings, row.seconds) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_a_density_that_misses_its_target_by_rounding_to_whole_weights_has_reached_it():
    start = record("lth", 0, 0, 1.0, 0.9)
    assert aggregate.by_target([start, record("lth", 0, 1, 0.80003, 0.9)])[0].round == 1.0
    assert aggregate.by_target([start, record("lth", 0, 1, 0.801, 0.9)]) == []


def test_the_dense_accuracy_comes_from_the_arm_dense_or_else_from_round_0_once_per_replicate():
    assert aggregate.dense(tiny()).mean == pytest.approx(0.95)
    without = [each for each in tiny() if each["arm"] != "dense"]
    assert aggregate.dense(without) == aggregate.dense(tiny())
    assert aggregate.dense([]) is None


def costed(arm, round, density, *costs, mask="", seen=9000):
    """A record that lists its trainings: role, name and samples."""
    found = record(arm, 0, round, density, 0.9) | {
        "mask_digest": mask or f"{arm}{round}",
        "samples_seen": seen,
    }
    return found | {"costs": [Cost(*cost, seconds=10.0).to_dict() for cost in costs]}


def searched():
    """Two rounds of lth, one-shot pruning to the same densities, and a random ticket of lth's."""
    dense = ("evaluation", "dense", 1000)
    return [
        *(costed(arm, 0, 1.0, dense, seen=1000) for arm in ("lth", "one-shot", "random")),
        costed("lth", 1, 0.5, ("search", "dense", 1000), ("evaluation", "one", 1000)),
        costed("lth", 2, 0.2, ("search", "one", 1000), ("evaluation", "two", 1000)),
        costed("one-shot", 1, 0.5, ("search", "dense", 1000), ("evaluation", "once one", 1000)),
        costed("one-shot", 2, 0.2, ("evaluation", "once two", 1000)),
        costed("random", 1, 0.5, ("evaluation", "random one", 1000)),
        costed("random", 2, 0.2, ("evaluation", "random two", 1000)),
    ]


# By hand at 0.2: LTH has trained dense, one and two; the random ticket needs dense and one for its
# search, and has itself evaluated twice; one-shot pruning needs dense and one evaluation for each
# density.
def test_the_cost_of_a_target_is_that_of_the_ledger_with_the_search_that_found_a_controls_tickets():
    rows = {row.arm: row for row in aggregate.by_target(searched(), [0.2], {"random": "lth"})}
    assert {arm: row.trainings for arm, row in rows.items()} == {
        "lth": 3,
        "one-shot": 2,
        "random": 4,
    }
    assert {arm: row.seconds for arm, row in rows.items()} == {
        "lth": 30,
        "one-shot": 20,
        "random": 40,
    }


def test_densities_that_know_nothing_of_each_other_have_no_rate_per_round():
    [_, line] = table.summary(searched(), Asked(made_of={"random": "one-shot"}))
    assert line == "Weights kept per round: lth 44.72 %."  # the root of 0.2
    [_, line] = table.summary(searched())
    assert line == "Weights kept per round: lth 44.72, random 44.72 %."
    assert "where densities know nothing of each other" in table.legend(searched())[-1]


def test_notes_stand_below_their_table_in_all_three_forms(tmp_path):
    asked = Asked(at=(0.5, 0.2))
    note = "No search is charged to random: the records do not say whose tickets they take."
    assert f"|\n\n{note}\n\nTFLOP dense and TFLOP sparse: not recorded.\n\n## " in table.markdown(
        "t", searched(), [], asked
    )
    page.write(tmp_path, "t", searched(), [], {}, asked, formats=())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f'</table></div><p class="below">{note}</p><p class="below">TFLOP' in text
    assert "<h3>Accuracy at equal cost</h3>" in text
    assert 'colspan="2">2 full-data trainings</th>' in text


# table

GOLDEN = """\
# Digits

Dense network: test accuracy 95.00 ± 1.41 % (mean of 2 replicates).

Weights kept per round: lth 50.00 ± 0.00, colt-2 40.00 %.

## Test accuracy by round

| round | lth: density % | lth: accuracy % | colt-2: density % | colt-2: accuracy % |
| ---: | ---: | ---: | ---: | ---: |
| 0 | 100.00 | 95.00 ± 1.41 | 100.00 | 96.00 (1) |
| 1 | 50.00 | 95.00 ± 2.83 | 40.00 | 95.50 (1) |
| 2 | 25.00 | 95.00 (1) |  |  |

## First round at or below each density

| target % | arm | reached | round | density % | accuracy % | full-data trainings | seconds |
| ---: | :--- | ---: | ---: | ---: | ---: | ---: | ---: |
| 80 | lth | 2 of 2 | 1 | 50.00 | 95.00 ± 2.83 | 2.0 | 20.0 |
|  | colt-2 | 1 of 2 | 1 | 40.00 | 95.50 | 3.0 | 30.0 |
| 50 | lth | 2 of 2 | 1 | 50.00 | 95.00 ± 2.83 | 2.0 | 20.0 |
|  | colt-2 | 1 of 2 | 1 | 40.00 | 95.50 | 3.0 | 30.0 |

± is the sample standard deviation over n = 2 replicates; a smaller n stands in brackets or under reached.

Costs are cumulative: all trainings that the arm needed up to there, as if it ran alone. Seconds are those of the \
trainings, one after the other; one full-data training is what the dense network saw in round 0.

- colt-2, replicate 1: stopped: layer collapse in conv1.weight
"""


def test_the_markdown_of_a_tiny_run_reads_like_this():
    note = "colt-2, replicate 1: stopped: layer collapse in conv1.weight"
    assert table.markdown("Digits", tiny(), [note]) == GOLDEN


def test_markdown_shows_names_as_they_were_typed():
    name = "<b>&amp; a|b *c* `d` _e_ [f](g) ~h~ \\ random_ticket"
    renamed = [{**each, "arm": name} if each["arm"] == "lth" else each for each in tiny()]
    html = (
        MarkdownIt("commonmark")
        .enable("table")
        .enable("strikethrough")
        .render(table.markdown(name, renamed, [name]))
    )
    texts = "".join(ElementTree.fromstring(f"<x>{html}</x>").itertext())
    # title, kept per round, two heads, two targets, note
    assert texts.count(name) == 1 + 1 + 2 + 2 + 1
    assert "random_ticket" in table.markdown("random_ticket", [], [])


def test_without_a_second_replicate_no_deviation_is_claimed():
    text = table.markdown("t", [each for each in tiny() if each["replicate"] == 0], [])
    assert "±" not in text
    assert "One replicate" in text


def test_with_round_0_only_the_second_table_gives_way_to_a_line():
    text = table.markdown("t", [each for each in tiny() if each["round"] == 0], [])
    assert "No arm has reached a density of 80 % yet." in text
    assert "First round" not in text


def printed(records, width, title="Digits", notes=()):
    file = io.StringIO()
    table.terminal(title, records, list(notes), Console(width=width, file=file))
    return file.getvalue()


def three_arms():
    pair = [each for each in tiny() if each["arm"] == "lth"]
    return [{**each, "arm": arm} for arm in ("colt-2", "lth", "matched") for each in pair]


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_shows_one_table_of_all_arms_and_not_every_round(width):
    text = printed(three_arms(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    rules = [line for line in text.splitlines() if set(line) == {"─"}]
    assert len(rules) == (1 if width == 100 else 2)  # cut in two where it is wider than that
    for arm in ("colt-2", "lth", "matched"):
        row = rf"^[ 850]+{arm} +2 of 2 +1 +50\.00 +95\.00 ± 2\.83"
        assert len(re.findall(row, text, re.M)) == 2  # at 80 and 50 %
    assert "by round" not in text


def test_brackets_in_titles_and_notes_are_printed_and_not_obeyed():
    text = printed(tiny(), 100, "a [bold] title", ["[red]note"])
    assert "a [bold] title" in text
    assert "- [red]note" in text


def test_output_that_is_no_terminal_is_plain_text(capsys):
    table.terminal("Digits", tiny(), [])
    assert "\x1b" not in capsys.readouterr().out


# figures


def values(chart, mark):
    """The data of the last layer with that mark that has rounds."""
    spec = chart.to_dict()
    layers = [layer for layer in spec["layer"] if layer["mark"]["type"] == mark]
    rows = [spec["datasets"][layer["data"]["name"]] for layer in layers]
    [found] = [each for each in rows if each and "round" in each[0]]
    return found


def test_the_lines_are_percents_of_the_means():
    points = values(figures.metric_over_density(tiny()), "line")
    assert [(p["arm"], p["density"], p["replicates"]) for p in points][:3] == [
        ("lth", 100.0, 2),
        ("lth", 50.0, 2),
        ("lth", 25.0, 1),
    ]
    assert points[1]["accuracy"] == pytest.approx(95.0)


def three(*accuracies):
    first = {"arm": "lth", "round": 0, "density": 1.0, "density_total": 1.0, "test_accuracy": 0.9}
    rest = [
        {**first, "round": 1, "density": 0.5, "density_total": 0.5, "test_accuracy": each}
        for each in accuracies
    ]
    return [
        {**each, "replicate": k, "early_stop_step": None, "kept_fraction": None}
        for k, each in [*enumerate([first] * len(rest)), *enumerate(rest)]
    ]


def dots(chart):
    """The rows of the dots at the densities asked for."""
    datasets = chart.to_dict()["datasets"].values()
    [rows] = [rows for rows in datasets if rows and "asked" in rows[0]]
    return rows


def test_dots_at_the_densities_asked_for_have_the_interval_of_three_or_more():
    chart = figures.metric_over_density(three(0.94, 0.95, 0.96), at=[0.5])
    [ticket] = dots(chart)
    half = 4.302653 / 3**0.5  # t(0.975, 2) times the deviation, one point, by the root of n
    assert (ticket["low"], ticket["high"]) == pytest.approx((95 - half, 95 + half))
    assert (ticket["asked"], ticket["interval"]) == ("50 %", "92.52 to 97.48")
    [two] = dots(figures.metric_over_density(three(0.94, 0.96), at=[0.5]))
    assert (two["accuracy"], two["interval"]) == (95.0, "")
    assert "low" not in two


def test_the_dense_network_is_a_band_over_the_whole_width():
    spec = figures.metric_over_density(three(0.94, 0.95, 0.96), at=[0.5]).to_dict()
    [band] = [layer for layer in spec["layer"] if layer["mark"]["type"] == "rect"]
    [row] = spec["datasets"][band["data"]["name"]]
    assert (row["low"], row["accuracy"], row["high"]) == (90.0, 90.0, 90.0)  # all replicates alike
    assert "x" not in band["encoding"]


def test_dots_of_one_density_stand_side_by_side_around_it():
    records = [one | {"arm": arm} for arm in ("a", "b", "c") for one in three(0.94, 0.95, 0.96)]
    rows = dots(figures.metric_over_density(records, at=[0.5]))
    places = [row["place"] for row in rows]
    assert places[0] > places[1] > places[2]  # density falls to the right
    assert places[1] == pytest.approx(50.0)
    assert places[0] / places[1] == pytest.approx(places[1] / places[2])


def test_names_at_the_ends_of_lines_never_lie_on_each_other():
    records = [one | {"arm": f"arm-{n}"} for n in range(20) for one in three(0.94, 0.95, 0.96)]
    spec = figures.metric_over_density(records, at=[0.5]).to_dict()
    low, high = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    [rows] = [rows for rows in spec["datasets"].values() if rows and "letters" in rows[0]]
    assert len(rows) == 20
    pixels = sorted(spec["height"] * (high - row["place"]) / (high - low) for row in rows)
    assert all(after - before > 13 for before, after in itertools.pairwise(pixels))
    assert 0 <= pixels[0] <= pixels[-1] <= spec["height"]


def test_an_arm_that_collapses_beyond_the_densities_asked_for_does_not_squeeze_the_others():
    records = [*tiny(), record("lth", 0, 3, 0.1, 0.1), record("lth", 1, 3, 0.1, 0.1)]
    spec = figures.metric_over_density(records, at=[0.5]).to_dict()
    low, _high = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert low > 90
    lines = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert any(layer["mark"].get("clip") for layer in lines)


def test_density_falls_to_the_right_and_accuracy_does_not_start_at_zero():
    line = next(
        layer
        for layer in figures.metric_over_density(tiny(), at=[]).to_dict()["layer"]
        if layer["mark"]["type"] == "line"
    )
    x, y = line["encoding"]["x"], line["encoding"]["y"]
    assert (x["scale"]["type"], x["scale"]["reverse"], x["scale"]["domain"][1]) == (
        "log",
        True,
        100,
    )
    assert 0 < x["scale"]["domain"][0] < 25
    assert y["scale"]["domain"] == pytest.approx(
        [94.94, 96.06]
    )  # means of 95 to 96 and 6 % of the range


def test_an_arm_has_the_same_colour_and_mark_in_both_figures():
    for chart in (figures.metric_over_density(tiny()), figures.density_over_round(tiny())):
        encodings = [layer["encoding"] for layer in chart.to_dict()["layer"]]
        colours = [one["color"]["scale"] for one in encodings if one.get("color", {}).get("scale")]
        marks = [one["shape"]["scale"] for one in encodings if "shape" in one]
        names = ["lth", "colt-2"]
        assert colours
        assert all(one == {"domain": names, "range": ["#0072B2", "#D55E00"]} for one in colours)
        assert all(one == {"domain": names, "range": ["circle", "square"]} for one in marks)


def test_rounds_are_labelled_with_whole_numbers_only():
    x = figures.density_over_round(tiny()).to_dict()["layer"][0]["encoding"]["x"]
    assert x["axis"]["values"] == [0, 1, 2]


def test_a_ticket_that_keeps_nothing_stays_off_the_logarithmic_axis():
    points = values(figures.metric_over_density([*tiny(), record("lth", 0, 3, 0.0, 0.1)]), "line")
    assert min(point["density"] for point in points) == 25.0


# page


class Loads(HTMLParser):
    """Collects what a browser would load, and all text outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags, self.text, self.inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        self.loads += [
            value for key, value in attributes if key in ("src", "href", "srcset", "data", "action")
        ]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory, with_charts):
    folder = tmp_path_factory.mktemp("report") / "new"
    bad = "<b>&</script><script>bad()</script>"
    records = [{**each, "arm": bad} if each["arm"] == "lth" else each for each in tiny()]
    files = page.write(folder, bad, records, [bad], {bad: bad})
    return folder, files, bad


def test_a_report_is_a_page_its_tables_and_its_figures_and_nothing_else(written):
    folder, files, _ = written
    names = [
        "summary.md",
        "figures/accuracy.svg",
        "figures/accuracy.png",
        "figures/density.svg",
        "figures/density.png",
        "results.csv",
        "table.tex",
        "report.html",
    ]
    assert files == [folder / name for name in names]
    there = [path for path in folder.rglob("*") if path.is_file()]
    assert sorted(there) == sorted(files)


def test_the_figures_of_an_older_report_do_not_stay_beside_the_page(tmp_path, with_charts):
    for name in ("accuracy.svg", "mine.svg"):
        (tmp_path / name).write_text("old")
    page.write(tmp_path, "t", tiny(), [], {}, formats=("svg",))
    assert not (tmp_path / "accuracy.svg").exists()  # it is in figures/ now
    assert (tmp_path / "mine.svg").read_text() == "old"


def test_the_spreadsheet_has_every_result_as_its_record_has_it(written):
    folder, _, bad = written
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    records = [{**each, "arm": bad} if each["arm"] == "lth" else each for each in tiny()]
    assert [row["arm"] for row in rows] == [record["arm"] for record in records]
    for row, record in zip(rows, records, strict=True):
        assert float(row["density"]) == record["density"]
        value = record["test_accuracy"]
        assert row["test_accuracy"] == ("" if value is None else str(value))


def test_the_latex_table_has_a_row_for_each_arm_and_escapes_their_names():
    records = [{**each, "arm": "a_b&c"} if each["arm"] == "lth" else each for each in tiny()]
    text = tabular.latex("50 % done", records, Asked(at=(0.8, 0.001)))
    assert text.startswith(r"% 50 \% done: test accuracy in %")
    rows = [line for line in text.splitlines() if line.startswith(r"a\_b\&c & ")]
    assert len(rows) == 1
    assert rows[0].endswith(r" &  \\")  # nobody reached 0.1 %
    assert rows[0].count("&") == 3  # one of them is the name's
    assert r"\pm" in rows[0]


def test_the_page_loads_nothing_from_anywhere(written):
    folder, _, _ = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    found = Loads(text)
    # Files beside the page, and places on it, are opened by a click alone.
    assert all(re.fullmatch(r"#[\w-]+|\./[\w./%-]+", address) for address in found.loads)
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(found.tags)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(\s*['\"]?https?:", text.split("</style>")[0])


def test_names_with_markup_appear_as_text_in_the_page(written):
    folder, _, bad = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    found = Loads(text)
    assert found.tags.count("script") == 2
    assert "b" not in found.tags
    assert "<script>bad" not in text
    assert "".join(found.text).count(bad) >= 6  # title twice, fact twice, note, tables and drawings


def test_the_charts_of_the_page_hold_the_records(written):
    folder, _, bad = written
    last = (folder / "report.html").read_text(encoding="utf-8").rsplit("<script>", 1)[1]
    start = last.index('chart("chart-0",') + len('chart("chart-0",')
    spec, _ = json.JSONDecoder().raw_decode(last[start:])
    arms = {row.get("arm") for rows in spec["datasets"].values() for row in rows}
    assert arms == {bad, "colt-2", "", None}


def test_drawings_are_xml_and_pictures_are_png_at_twice_the_size(written):
    folder, _, _ = written
    for name in ("accuracy", "density"):
        svg = ElementTree.parse(folder / "figures" / f"{name}.svg").getroot()
        png = (folder / "figures" / f"{name}.png").read_bytes()
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(png[16:20], "big") == pytest.approx(
            2 * float(svg.get("width")), abs=2
        )


def test_a_chart_is_drawn_the_same_whatever_was_drawn_before():
    chart = alt.Chart(alt.Data(values=[{"x": 1}])).mark_point(clip=True).encode(x="x:Q")
    figures = {name: Figure(chart, "A point.") for name in ("a", "b")}
    drawings = sheets.Sheet([sheets.Content("Points", figures=figures)]).drawings
    assert drawings == sheets.Sheet([sheets.Content("Points", figures=figures)]).drawings
    # Both stand in one page, where a number means one clip.
    clips = re.findall(r'<clipPath id="clip(\d+)"', "".join(drawings.values()))
    assert clips == re.findall(r"url\(#clip(\d+)\)", "".join(drawings.values())) == ["1", "2"]


def test_a_report_without_tickets_says_so_and_draws_nothing(tmp_path):
    files = page.write(tmp_path, "Empty", [], ["lth, replicate 0: stopped: not a number"], {})
    assert [path.name for path in files] == ["summary.md", "report.html"]
    assert "No ticket has been evaluated." in files[1].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "records",
    [
        [each for each in tiny() if each["replicate"] == 0],
        [each for each in tiny() if each["arm"] == "lth"],
        [each for each in tiny() if each["round"] == 0],
        [{**each, "test_accuracy": 0.5} for each in tiny()],
    ],
    ids=["one replicate", "one arm", "only round 0", "constant accuracy"],
)
def test_a_thin_run_gives_a_whole_report_without_a_nan(tmp_path, with_charts, records):
    for path in page.write(tmp_path, "Thin", records, [], {}):
        if path.suffix in (".md", ".svg"):
            assert "nan" not in path.read_text(encoding="utf-8").lower()
        assert path.stat().st_size > 0


def test_writing_again_replaces_and_leaves_the_old_file_whole_if_it_fails(tmp_path, monkeypatch):
    page.write(tmp_path, "First", [], [], {})
    page.write(tmp_path, "Second", [], [], {})
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("# Second")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        page.write(tmp_path, "Third", [], [], {})
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("# Second")
    assert len(list(tmp_path.iterdir())) == 2


def test_importing_the_reports_imports_neither_torch_nor_the_drawing_libraries():
    code = (
        "import sys, tombola.reports.page as p;print([m for m in ('torch', 'altair', 'rich', "
        "'vl_convert', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
