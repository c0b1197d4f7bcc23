"""The transfer matrix: tickets of several replicates summed up, compared within them, and one
page of it.
"""

import shutil
import statistics

import pytest
from tests.test_reports import Loads

from tombola.reports import matrix as matrix_module
from tombola.reports.grids import Grid
from tombola.reports.matrix import (
    Matrix,
    difference_grid,
    legend,
    markdown,
    matrix_grid,
    question,
    sentences,
    write,
)

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


def record(
    arm,
    seed,
    data,
    accuracy,
    *,
    home="mnist",
    density=0.5,
    round=2,
    point="p",
    control=False,
    **more,
):
    return {
        "arm": f"{arm}-{round} from {home} on {data}", "of": arm, "found_on": home, "data": data, "seed": seed,
        "replicate": seed, "round": round, "density": density, "test_accuracy": accuracy, "model": "lenet5",
        "control": control, "rewind_digest": f"{point}{seed}", "ticket": f"{arm}{home}{density}{seed}",
    } | more  # fmt: skip


def records(dense=True):
    """Three replicates of lth and a random ticket found on mnist, and of lth found on fashion,
    all on fashion.
    """
    found = []
    for seed, base in enumerate((0.80, 0.82, 0.84)):
        found.append(record("lth", seed, "fashion", base + 0.03))
        found.append(record("random", seed, "fashion", base, control=True))
        found.append(
            record("lth", seed, "fashion", base + 0.02 + 0.01 * seed, home="fashion", point="home")
        )
        if dense:
            found.append(record("dense", seed, "fashion", base + 0.04, density=1.0, round=0))
            found.append(
                record(
                    "dense",
                    seed,
                    "fashion",
                    base + 0.05,
                    density=1.0,
                    round=0,
                    home="fashion",
                    point="home",
                )
            )
    return found


def pairs(found):
    return {
        (one.first.arm, one.first.home, one.second.arm, one.second.home)
        for one in found.differences
    }


def test_the_tickets_of_an_arm_are_one_row_with_mean_and_deviation_over_replicates():
    grid = matrix_grid(Matrix.of(records(dense=False)))
    assert grid.labels == ["ticket", "found on", "density %", "replicates"]
    assert grid.groups == [("", ["fashion"])]
    assert grid.rows == [
        ["lth", "mnist", "50.00", "3", "85.00 ± 2.00"],
        ["random", "mnist", "50.00", "3", "82.00 ± 2.00"],
        ["lth", "fashion", "50.00", "3", "85.00 ± 3.00"],
    ]


def test_each_is_compared_with_dense_with_those_found_there_and_with_chance():
    found = Matrix.of(records())
    assert pairs(found) == {
        ("lth", "mnist", "dense", "mnist"),
        ("lth", "mnist", "lth", "fashion"),
        ("lth", "mnist", "random", "mnist"),
        ("random", "mnist", "dense", "mnist"),
        ("lth", "fashion", "dense", "fashion"),
    }
    [home] = [
        one
        for one in found.differences
        if one.second.home == "fashion" and one.first.home == "mnist"
    ]
    assert home.paired.mean == pytest.approx(0.0)
    assert home.paired.n == 3
    # By hand: differences 0.01, 0, -0.01; t of two degrees of freedom at 97.5 % is 4.3027.
    assert home.paired.high == pytest.approx(
        4.3027 * statistics.stdev([0.01, 0, -0.01]) / 3**0.5, abs=1e-5
    )


def test_differences_are_within_replicates():
    """The tickets scatter by two points, and their differences not at all."""
    [[_, first, _, n, mean, interval]] = [
        row
        for row in difference_grid(Matrix.of(records())).rows
        if row[2] == "random 50 % from mnist"
    ]
    assert (first, n, mean) == ("lth 50 % from mnist", "3", "+3.00")
    assert interval == "[+3.00, +3.00]"


def test_a_replicate_that_one_of_two_lacks_is_left_out_of_their_difference_and_counted():
    some = [r for r in records(dense=False) if not (r["of"] == "random" and r["seed"] == 1)]
    found = Matrix.of(some)
    assert [row[-1] for row in matrix_grid(found).rows if row[0] == "random"] == ["82.00 ± 2.83"]
    [one] = [one for one in found.differences if one.second.arm == "random"]
    assert one.paired.n == 2


def test_dense_is_compared_only_with_tickets_that_start_where_it_starts():
    changed = [r | {"rewind_digest": "other"} if r["of"] == "random" else r for r in records()]
    assert ("random", "mnist", "dense", "mnist") not in pairs(Matrix.of(changed))


def test_tickets_are_compared_at_like_density_alone_the_nearest_of_each_arm():
    found = []
    for density, index in ((0.8, 1), (0.64, 2), (0.51, 3)):
        found.append(record("lth", 0, "fashion", density, density=density, round=index))
    for density, index in ((0.74, 1), (0.53, 2)):
        found.append(record("colt-2", 0, "fashion", density, density=density, round=index))
    compared = {(one.first.density, one.second.density) for one in Matrix.of(found).differences}
    assert compared == {(0.8, 0.74), (0.51, 0.53)}


def test_rounds_of_replicates_stand_for_each_other_by_their_density():
    """COLT comes to a density in another round in another replicate."""
    found = [
        record("colt-2", 0, "a", 0.9, density=0.52, round=2),
        record("colt-2", 1, "a", 0.8, density=0.5, round=3),
    ]
    assert matrix_grid(Matrix.of(found)).rows == [["colt-2", "mnist", "51.00", "2", "85.00 ± 7.07"]]
    # unequal numbers: by the round
    more = [*found, record("colt-2", 1, "a", 0.8, density=0.7, round=2)]
    assert [row[2:4] for row in matrix_grid(Matrix.of(more)).rows] == [
        ["61.00", "2"],
        ["50.00", "1"],
    ]


def test_one_replicate_claims_no_deviation_and_no_interval():
    found = Matrix.of([r for r in records() if r["seed"] == 0])
    assert {row[-1] for row in difference_grid(found).rows} == {""}
    assert not any("±" in cell for row in matrix_grid(found).rows for cell in row)
    assert (
        sentences(found)[0]
        == "On fashion, lth 50 % from mnist is -1.00 points from dense from mnist, in 1 replicate."
    )


def test_data_of_some_classes_and_other_models_have_columns_and_rows_of_their_own():
    found = Matrix.of(
        [
            record("lth", 0, "cifar100", 0.5, classes=10),
            record("lth", 0, "cifar100", 0.4, round=3, classes=50),
            record("lth", 0, "cifar100", 0.3, model="conv3"),
        ]
    )
    grid = matrix_grid(found)
    assert found.data == ("cifar100 (10 classes)", "cifar100 (50 classes)", "cifar100")
    assert grid.labels == ["ticket", "found on", "model", "density %", "replicates"]
    assert [row[2] for row in grid.rows] == ["lenet5", "lenet5", "conv3"]
    assert found.differences == ()


@pytest.mark.parametrize(
    ("chosen", "asked"),
    [
        (
            lambda _: True,
            "Do tickets found on mnist and fashion train as well on fashion as the dense network "
            "and as those found there?",
        ),
        (
            lambda r: r["found_on"] == "mnist",
            "Do tickets found on mnist train as well on fashion as the dense network?",
        ),
        (
            lambda r: r["of"] != "dense",
            "Do tickets found on mnist and fashion train as well on fashion as those found there?",
        ),
        (lambda r: r["of"] == "random", "How well do tickets found on mnist train on fashion?"),
    ],
)
def test_the_question_is_what_these_tickets_can_answer(chosen, asked):
    assert question(Matrix.of([r for r in records() if chosen(r)])) == [asked]


def test_what_is_told_in_words_is_of_found_tickets_away_from_home():
    said = sentences(Matrix.of(records()))
    assert said == [
        "On fashion, lth 50 % from mnist is less accurate than dense from mnist: -1.00 [-1.00, -1.00] "
        "points, in 3 replicates.",
        "On fashion, lth 50 % from mnist is not detectably different from lth 50 % from fashion: "
        "+0.00 [-2.48, +2.48] points, in 3 replicates.",
        "On fashion, lth 50 % from mnist is more accurate than random 50 % from mnist: +3.00 [+3.00, "
        "+3.00] points, in 3 replicates.",
        "2 more differences are in the table.",
    ]


def test_names_are_text_in_markdown_and_page_which_loads_nothing(tmp_path):
    bad = "<b>|</script><script>bad()</script>"
    files = write(
        tmp_path,
        bad,
        [r | {"of": bad} if r["of"] == "lth" else r for r in records()],
        [bad],
        {bad: bad},
    )
    assert [file.name for file in files] == ["summary.md", "transfer.html"]
    text = files[1].read_text()
    found = Loads(text)
    # Places on the page alone.
    assert all(address.startswith("#") for address in found.loads)
    assert found.tags.count("script") == 2
    assert "default-src 'none'" in text
    assert "<script>bad" not in text
    assert "b" not in found.tags
    assert "<b>" not in files[0].read_text()


def test_nothing_trained_is_said_and_draws_nothing(tmp_path):
    files = write(tmp_path, "transfer", [], ["it failed"], {})
    assert "No ticket has been trained." in files[1].read_text()
    assert (
        markdown("transfer", Matrix.of([]), ["it failed"], {})
        == files[0].read_text()
        == "# transfer\n\n- it failed\n"
    )
    assert legend(Matrix.of([])) == []
    assert isinstance(matrix_grid(Matrix.of([])), Grid)


def test_the_figure_is_coloured_by_the_difference_from_dense_or_else_by_accuracy():
    cells = matrix_module.cells(Matrix.of(records()))
    assert [(cell["ticket"], round(cell["difference"], 6)) for cell in cells] == [
        ("dense from mnist", 0), ("dense from fashion", 0), ("lth 50 % from mnist", -1), ("random 50 % from mnist", -4),
        ("lth 50 % from fashion", -2),
    ]  # fmt: skip
    assert {
        cell["difference"] for cell in matrix_module.cells(Matrix.of(records(dense=False)))
    } == {None}


def test_the_page_is_drawn_in_a_browser_without_a_word_or_a_request(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    page = write(tmp_path, "transfer", records(), ["a note"], {"training": "sgd"})[1]
    said, asked = [], []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        tab = opened.new_context(viewport={"width": 360, "height": 740}, offline=True).new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector(".chart.vega-embed .mark-rect path")
        assert tab.locator(".mark-rect.role-mark path").count() == 5
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        opened.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page.as_uri()]
