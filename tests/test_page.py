"""The page in a browser without a network: no error, no request, figures that react; and narrow
screens.
"""

import shutil

import pytest
from tests.test_reports import record

from tombola.records.records import Cost
from tombola.reports import page
from tombola.reports.decisions import Asked

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SIMILAR = {
    "arms": ["lth", "colt-2"], "replicate": 0, "rounds": [2, 1], "masks": ["a", "b"],
    "layers": {"layer1.weight": [1000, 640, 700, 500, 460, 450]},
}  # fmt: skip
ASKED = Asked(
    pairs=(("colt-2", "random"), ("lth", "colt-2")),
    controls={"colt-2": ("random",)},
    drawn=frozenset({"colt-2", "lth"}),
    at=(0.5,),
    margin=0.01,
    similar=[SIMILAR],
)


IN_PAGE = {
    "accuracy", "differences", "density", "costs", "rounds", "overlap", "similarity", "layers-colt-2", "layers-lth",
    "curves-50", "distance", "early-stop",
}  # fmt: skip


def records():
    found = []
    for arm, kept, worse in (("colt-2", 0.7, 0.0), ("lth", 0.8, 0.001), ("random", 0.7, 0.05)):
        for k in range(3):
            for index in range(4):
                # Replicates scatter, and each ticket stops earlier than the dense network.
                accuracy = 0.95 - worse * index + 0.001 * k * (1 + index * (0.1 + worse))
                stop = 90 - 30 * (index > 0) - k * index
                one = record(arm, k, index, kept**index, accuracy, trainings=index + 1, stop=stop)
                layers = {
                    f"layer{n}.weight": [int(1000 * kept ** (index * n)), 1000] for n in (1, 2)
                }
                before = {
                    name: int(1000 * kept ** ((index - 1) * n)) for n, name in enumerate(layers, 1)
                }
                halves = {name: [int(0.85 * was), int(0.83 * was)] for name, was in before.items()}
                candidates = {"candidate_layers": halves} if arm == "colt-2" else {}
                curve = {"step": [10, 100], "valid_loss": [0.5, 0.4], "valid_accuracy": [0.9, 0.95]}
                costs = [
                    Cost(
                        "evaluation", f"{arm}{k}{index}", 1000, 1.0, 10, 10**12, 10**11, 1.0, 2**30
                    ).plain()
                ]
                more = {"evaluate_every": 10, "layers": layers, "curve": curve, "costs": costs}
                more |= {
                    "test_accuracy_early": 0.94,
                    "train_accuracy": 0.99,
                    "distance": 0.01 * index,
                }
                found.append(one | more | (candidates if index else {}))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory, with_charts):
    folder = tmp_path_factory.mktemp("page")
    making = page.Making(
        "tombola run recipe.yaml", "name: x\n", [{"python": "3.11", "packages": {"torch": "2"}}]
    )
    facts = {
        "data": "digits: 1,221 training, 216 validation, 360 test examples",
        "training": "sgd, 4 epochs" * 5,
    }
    files = page.write(
        folder, "The title", records(), ["a note"], facts, ASKED, making, formats=("pdf",)
    )
    return {file.name: file for file in files}


def test_every_chart_of_the_page_holds_to_the_schema_of_vega_lite(with_charts):
    """A page writes its charts without asking."""
    charts = page._charts(records(), ASKED, "The title")
    assert charts.keys() == IN_PAGE | {"accuracy-and-rounds"}
    for chart, _ in charts.values():
        chart.to_dict(validate=True)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture
def shown(browser, written):
    """The page, opened; and what it said and asked for."""
    context = browser.new_context(viewport={"width": 1000, "height": 900}, offline=True)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(written["report.html"].as_uri())
    tab.wait_for_selector(".chart.vega-embed")
    yield tab, said, asked
    context.close()


def test_the_report_has_each_figure_as_a_file_and_one_page(written):
    figures = {"accuracy-and-rounds", *IN_PAGE}
    tables = {"summary.md", "results.csv", "table.tex"}
    assert set(written) == {"report.html", *tables, *(f"{name}.pdf" for name in figures)}
    assert {written[f"{name}.pdf"].parent.name for name in figures} == {"figures"}
    assert all(
        file.read_bytes().startswith(b"%PDF")
        for name, file in written.items()
        if name.endswith(".pdf")
    )
    assert written["report.html"].stat().st_size < 3_000_000


def test_the_page_says_nothing_to_the_console_and_asks_for_nothing(shown):
    _, said, asked = shown
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


def test_all_figures_are_drawn_and_the_verdict_stands_before_them(shown):
    tab, _, _ = shown
    assert tab.locator(".chart.vega-embed svg").count() == len(IN_PAGE)
    verdict = tab.locator(".verdicts li").first
    assert verdict.inner_text().startswith(
        "colt-2 finds winning tickets at 50 % of the weights: they are within 1 point"
    )
    assert verdict.bounding_box()["y"] < tab.locator(".chart").first.bounding_box()["y"]


def test_an_arm_is_switched_off_and_on_by_its_name_in_the_legend(shown):
    tab, said, _ = shown
    chart = tab.locator(".chart").first
    lines = chart.locator(".mark-line path")
    before = lines.count()
    name = chart.locator(".role-legend-label text", has_text="lth")
    number = "document.querySelector('.chart').querySelectorAll('.mark-line path').length"
    name.click()
    tab.wait_for_function(f"{number} == {before - 1}")
    name.click()
    tab.wait_for_function(f"{number} == {before}")
    assert said == []


def test_a_point_tells_its_values(shown):
    tab, _, _ = shown
    tab.locator(".chart").first.locator(".mark-symbol.role-mark path").last.hover()
    tab.wait_for_selector("#vg-tooltip-element.visible")
    assert "accuracy %" in tab.locator("#vg-tooltip-element").inner_text()


def test_panels_are_as_wide_as_their_place_and_follow_it(shown):
    tab, said, _ = shown
    for width in (1000, 500):
        tab.set_viewport_size({"width": width, "height": 900})
        place = "[...document.querySelectorAll('.chart')].filter(one => one.querySelectorAll('.mark-group').length > 2)"
        tab.wait_for_function(
            f"{place}.every(one => Math.abs(one.querySelector('svg').clientWidth - "
            "one.clientWidth) < 60)"
        )
        assert tab.evaluate(f"{place}.length") >= 3
    assert said == []


def test_a_phone_scrolls_no_sideways(browser, written):
    context = browser.new_context(viewport={"width": 360, "height": 740}, offline=True)
    tab = context.new_page()
    tab.goto(written["report.html"].as_uri())
    tab.wait_for_selector(".chart.vega-embed")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    # However long the title and the facts are, a figure takes its place.
    axis = tab.locator(".chart").first.locator(".role-axis-domain line").first.bounding_box()
    assert axis["width"] > 150
    context.close()
