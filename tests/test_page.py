"""The page in a browser without a network: what its first screen has, folds and menu, dark and
narrow screens, print, and no scripts.
"""

import pytest
from tests.test_reports import record

from tombola.evidence.answers import Evidence
from tombola.ground.errors import ConfigError
from tombola.records.records import Cost
from tombola.reports import layout, page
from tombola.reports.decisions import Asked
from tombola.reports.section import OneRun

SIMILAR = {
    "arms": ["lth", "colt-2"], "replicate": 0, "rounds": [2, 1], "masks": ["a", "b"],
    "layers": {"layer1.weight": [1000, 640, 700, 500, 460, 450]},
}  # fmt: skip
FOUR = ("colt-2", "lth", "matched", "random")
IN_PAGE = {
    "accuracy", "differences", "density", "costs", "overlap", "similarity", "layers-colt-2",
    "layers-lth", "curves-50", "distance", "early-stop",
}  # fmt: skip
FILES_ALONE = {"accuracy-and-rounds", "rounds"}
SIZES = (1280, 390)
MENU = ["Answer", "Why", "Cost", "Layers", "Training", "All results", "Reproduce"]


def asked(arms):
    pairs = [(arm, "dense") for arm in arms]
    pairs += [("colt-2", "random"), ("lth", "colt-2")] if len(arms) > 1 else []
    return Asked(
        pairs=tuple(pairs),
        controls={arms[0]: tuple(arm for arm in arms if arm == "random")},
        drawn=frozenset(arms[:2]),
        at=(0.5,),
        margin=0.01,
        similar=[SIMILAR],
    )


def records(arms=FOUR):
    found = []
    for number, arm in enumerate(arms):
        kept, worse = (0.8, 0.001) if arm == "lth" else (0.7, 0.0)
        if arm == "random":
            worse = 0.05
        for k in range(3):
            for index in range(4):
                # Replicates scatter, and each ticket stops earlier than the dense network.
                accuracy = 0.95 - worse * index + 0.001 * k * (1 + index * (0.1 + worse))
                accuracy -= 0.001 * number * index
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
                cost = Cost(
                    "evaluation", f"{arm}{k}{index}", 1000, 1.0, 10, 10**12, 10**11, 1.0, 2**30
                )
                more = {"evaluate_every": 10, "layers": layers, "curve": curve}
                more |= {
                    "costs": [cost.to_dict()],
                    "test_accuracy_early": 0.94,
                    "train_accuracy": 0.99,
                    "distance": 0.01 * index,
                }
                found.append(one | more | (candidates if index else {}))
    return found


def wrote(folder, arms, formats=()):
    making = page.Making(
        "tombola run recipe.yaml", "name: x\n", [{"python": "3.11", "packages": {"torch": "2"}}]
    )
    facts = {
        "data": "digits: 1,221 training, 216 validation, 360 test examples",
        "training": "sgd, 4 epochs" * 5,
    }
    best = page.BestTicket("tickets/colt-2/round-2.safetensors", 0.49, 0.95)
    return page.write(
        folder, "The title", records(arms), ["a note"], facts, asked(arms), making, formats, best
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory, with_charts):
    """The files of a run of four arms."""
    files = wrote(tmp_path_factory.mktemp("page"), FOUR, ("pdf",))
    return {file.name: file for file in files}


@pytest.fixture(scope="module")
def pages(written, tmp_path_factory):
    """Pages of runs of 1, 4 and 20 arms."""
    one = wrote(tmp_path_factory.mktemp("one"), ("colt-2",))
    many = (*FOUR, *(f"variant-{number}" for number in range(16)))
    twenty = wrote(tmp_path_factory.mktemp("twenty"), many)
    return {1: one[-1], 4: written["report.html"], 20: twenty[-1]}


def test_every_chart_of_the_page_holds_to_the_schema_of_vega_lite(with_charts):
    """A page writes its charts without asking."""
    evidence = OneRun(Evidence(records()), asked(FOUR), title="The title")
    charts = {}
    for names in (page.LAYOUT.first, *page.LAYOUT.folds.values()):
        for name in names:
            section = layout.find(name, "run")
            charts |= section.chart(evidence) if section.applies(evidence) else {}
    assert charts.keys() == IN_PAGE | FILES_ALONE
    for figure in charts.values():
        figure.chart.to_dict(validate=True)


@pytest.fixture
def shown(browser):
    """Open a page; gives the tab, what it said to the console, and what it asked for."""
    contexts = []

    def show(path, width=1280, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            offline=True,
            java_script_enabled=scripts,
        )
        contexts.append(context)
        tab = context.new_page()
        said, wanted = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: wanted.append(request.url))
        tab.goto(path.as_uri())
        if scripts:
            tab.wait_for_selector(".chart.vega-embed svg")
        return tab, said, wanted

    yield show
    for context in contexts:
        context.close()


def unfold_all(tab):
    """Open every fold, and wait until its charts are drawn."""
    tab.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    charts = tab.locator(".chart").count()
    tab.wait_for_function(f"document.querySelectorAll('.chart.vega-embed svg').length == {charts}")
    return charts


# Elements with text of their own that is wider than they are; tables scroll in a place of their
# own, and text of charts is measured by itself.
CUT_OFF = """[...document.querySelectorAll('h1, h2, h3, p, li, a, summary, figcaption, dt, dd, th, td')]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display != 'inline')
  .map(one => one.textContent)"""
# Text of charts that begins or ends outside of its drawing.
OUTSIDE = """[...document.querySelectorAll('.chart svg text')].filter(one => {
  const text = one.getBoundingClientRect();
  const drawing = one.ownerSVGElement.getBoundingClientRect();
  return text.width && (text.left < drawing.left - 1 || text.right > drawing.right + 1);
}).map(one => one.textContent)"""


def test_the_report_has_each_figure_as_a_file_and_one_page(written):
    figures = IN_PAGE | FILES_ALONE
    tables = {"summary.md", "results.csv", "table.tex", "report.html"}
    assert set(written) == {*tables, *(f"{name}.pdf" for name in figures)}
    for name in figures:
        assert written[f"{name}.pdf"].read_bytes().startswith(b"%PDF")
        assert written[f"{name}.pdf"].parent.name == "figures"
    assert written["report.html"].stat().st_size < 3_000_000


@pytest.mark.parametrize("arms", [1, 4, 20])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_a_page_is_whole_and_silent_at_every_size(shown, pages, arms, scheme, width):
    tab, said, wanted = shown(pages[arms], width, scheme)
    charts = unfold_all(tab)
    assert charts == {1: 8, 4: len(IN_PAGE), 20: len(IN_PAGE)}[arms]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(CUT_OFF) == []
    assert tab.evaluate(OUTSIDE) == []
    assert said == []
    assert [url for url in wanted if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in wanted if url.startswith("file:")]) == 1
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("arms", [1, 4])
def test_the_first_screen_has_question_answer_chart_table_and_what_they_rest_on(shown, pages, arms):
    tab, _, _ = shown(pages[arms])
    assert (
        tab.locator("h1").inner_text().startswith("Do" if arms == 4 else "Does colt-2 find tickets")
    )
    answer = tab.locator(".answer p").first
    chart, table = tab.locator(".chart").first, tab.locator("table").first
    rests_on = tab.locator(".small p").first
    assert rests_on.inner_text().startswith("3 replicates, paired by seed.")
    ends = []
    for part in (answer, chart, table, rests_on):
        box = part.bounding_box()
        assert box["y"] >= (ends[-1] if ends else 0)
        ends.append(box["y"] + box["height"])
    assert ends[-1] <= 800


def test_of_twenty_arms_the_first_screen_has_the_answer_and_the_chart(shown, pages):
    tab, _, _ = shown(pages[20])
    assert tab.locator("h1").inner_text().startswith("Do colt-2 and lth find tickets")
    box = tab.locator(".chart").first.bounding_box()
    assert box["y"] + box["height"] <= 800
    assert tab.locator("table").first.locator("tbody tr").count() == 20


def test_the_answer_is_the_first_sentence_and_nothing_else_is_bold(shown, pages):
    tab, _, _ = shown(pages[4])
    answer = tab.locator(".answer p").first.inner_text()
    assert answer.startswith(
        "colt-2 finds winning tickets at 50 % density: they are within 1 point"
    )
    bold = """[...document.querySelectorAll('main *')]
      .filter(one => one.childElementCount == 0 && one.textContent.trim())
      .filter(one => getComputedStyle(one).fontWeight > 400 && !one.closest('svg'))
      .map(one => one.textContent)"""
    assert tab.evaluate(bold) == [answer]


def test_nothing_is_told_twice(shown, pages):
    tab, _, _ = shown(pages[4])
    captions = tab.locator("figcaption").all_text_contents()
    titles = tab.locator(".wide").evaluate_all("all => all.map(one => one.ariaLabel)")
    lines = tab.locator("main p, main li").all_text_contents()
    for told in (captions, titles, lines):
        assert len(told) == len(set(told))


def test_the_menu_opens_the_fold_that_it_names(shown, pages):
    tab, said, _ = shown(pages[4])
    links = tab.locator("nav a")
    assert links.all_inner_texts() == MENU
    assert tab.locator("main > details[open]").count() == 0
    for title in MENU[1:]:
        links.filter(has_text=title).first.click()
        fold = tab.locator("main > details", has=tab.locator(f"> summary:text-is('{title}')"))
        tab.wait_for_function("one => one.open", arg=fold.element_handle())
        tab.wait_for_function(
            "one => Math.abs(one.getBoundingClientRect().top) < 5 || "
            "scrollY + innerHeight > document.documentElement.scrollHeight - 5",
            arg=fold.element_handle(),
        )
    assert said == []


def test_a_chart_in_a_fold_is_drawn_when_the_fold_is_opened(shown, pages):
    tab, _, _ = shown(pages[4])
    assert tab.locator(".chart.vega-embed").count() == 1
    tab.locator("main > details > summary", has_text="Cost").click()
    tab.wait_for_function("document.querySelectorAll('.chart.vega-embed').length == 2")


def test_an_arm_has_one_colour_and_one_mark_in_tables_and_charts(shown, pages):
    tab, _, _ = shown(pages[4])
    unfold_all(tab)
    found = tab.evaluate(
        """[...document.querySelectorAll('.arm')].map(one =>
          [one.textContent, one.querySelector('path').getAttribute('d'),
           one.querySelector('path').getAttribute('fill')])"""
    )
    marks = {tuple(each) for each in found}
    assert {name for name, _, _ in marks} == set(FOUR)
    assert len(marks) == len(FOUR)
    colours = {name: fill for name, _, fill in marks}
    legend = tab.evaluate(
        """[...document.querySelectorAll('.chart .role-legend-entry')].flatMap(legend => {
          const names = [...legend.querySelectorAll('.role-legend-label text')];
          const marks = [...legend.querySelectorAll('.role-legend-symbol path')];
          return names.map((name, index) => [name.textContent, marks[index].getAttribute('stroke')]);
        })"""
    )
    drawn = [(name, fill) for name, fill in legend if name in colours]
    assert len(drawn) >= 8
    assert all(colours[name] == fill for name, fill in drawn)


def test_arms_have_one_order_everywhere(shown, pages):
    tab, _, _ = shown(pages[4])
    tables = tab.locator("table").evaluate_all(
        "all => all.map(one => [...one.querySelectorAll('.arm')].map(arm => arm.textContent))"
    )
    for names in tables:
        first = list(dict.fromkeys(names))
        assert first == [arm for arm in FOUR if arm in first]


def test_colours_of_the_charts_follow_the_system(shown, pages):
    drawn = []
    for scheme in ("light", "dark"):
        tab, _, _ = shown(pages[4], scheme=scheme)
        line = ".chart .mark-line path[stroke='#0072B2' i]"
        drawn.append(tab.locator(line).first.evaluate("one => getComputedStyle(one).stroke"))
        axis = tab.locator(".chart .role-axis-label text").first
        drawn.append(axis.evaluate("one => getComputedStyle(one).fill"))
    assert drawn == [
        "rgb(0, 114, 178)",
        "rgb(34, 34, 34)",
        "rgb(61, 142, 230)",
        "rgb(230, 230, 230)",
    ]


def test_an_arm_is_switched_off_and_on_by_its_name_in_the_first_chart(shown, pages):
    tab, said, _ = shown(pages[4])
    chart = tab.locator(".chart").first
    number = "document.querySelector('.chart').querySelectorAll('.mark-line path').length"
    before = tab.evaluate(number)
    name = chart.locator(".mark-text text", has_text="lth")
    name.click()
    tab.wait_for_function(f"{number} < {before}")
    name.click()
    tab.wait_for_function(f"{number} == {before}")
    assert said == []


def test_a_point_tells_its_values(shown, pages):
    tab, _, _ = shown(pages[4])
    tab.locator(".chart").first.locator(".mark-symbol.role-mark path").nth(3).hover(force=True)
    tab.wait_for_selector("#vg-tooltip-element.visible")
    assert "accuracy %" in tab.locator("#vg-tooltip-element").inner_text()


def test_charts_follow_the_width_of_the_window(shown, pages):
    tab, said, _ = shown(pages[4])
    for width in (1000, 500):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_function(
            "(one => Math.abs(one.querySelector('svg').clientWidth - one.clientWidth) < 60)"
            "(document.querySelector('.chart'))"
        )
    assert said == []


def test_on_a_phone_a_table_scrolls_under_its_first_column(shown, pages):
    tab, _, _ = shown(pages[4], 390)
    table = tab.locator(".wide").first
    assert table.evaluate("one => one.scrollWidth > one.clientWidth + 50")
    name = table.locator("tbody th").first
    before = name.bounding_box()["x"]
    table.evaluate("one => one.scrollLeft = 200")
    assert name.bounding_box()["x"] == before
    # That it scrolls is seen: a shadow lies on the side where it goes on.
    assert "linear-gradient" in table.evaluate("one => getComputedStyle(one).backgroundImage")


def test_without_scripts_there_are_answer_pictures_tables_and_folds_that_open(shown, pages):
    tab, _, _ = shown(pages[4], scripts=False)
    assert tab.locator(".answer p").first.is_visible()
    assert tab.locator(".chart > svg").first.is_visible()
    assert tab.locator("table").first.is_visible()
    # The scripts that fold are off; those of the test are too, so its summary is clicked.
    tab.locator("main > details > summary", has_text="Cost").click()
    assert tab.locator("#fold-1 table").first.is_visible()


def test_print_has_everything_unfolded(shown, pages):
    tab, _, _ = shown(pages[4])
    closed = "document.querySelectorAll('details:not([open])').length"
    before = tab.evaluate(closed)
    assert before == len(MENU) - 1
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(closed) == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate(closed) == before
    # Without scripts the rules for print unfold them.
    plain, _, _ = shown(pages[4], scripts=False)
    plain.emulate_media(media="print")
    assert plain.locator("#fold-1 table").first.bounding_box()["height"] > 50


def test_links_lead_to_files_beside_the_page_alone(shown, pages):
    tab, _, _ = shown(pages[4])
    links = tab.locator(".links a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert links == ["./tickets/colt-2/round-2.safetensors", "./results.csv", "./table.tex"]
    text = tab.locator(".links a").first.inner_text()
    assert text == "Best ticket (95.00 %, 49 % density)"


OWN = """
from tombola.reports.section import Section


class Mine(Section):
    title = "A section of my own"

    def sentence(self, evidence):
        return ["<b>" + str(len(evidence.records))]


class Bad(Section):
    def sentence(self, evidence):
        return 1 / 0


class Other(Section):
    of = "transfer"


class NoSection:
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "of_my_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "of_my_own"


def test_a_section_of_ones_own_has_a_fold_and_is_escaped(tmp_path, own):
    files = page.write(tmp_path, "t", records(("lth",)), [], {}, sections=[f"{own}:Mine"])
    text = files[-1].read_text(encoding="utf-8")
    assert "<summary>More</summary>" in text
    assert "<h2>A section of my own</h2><p>&lt;b&gt;12</p>" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Bad", "'of_my_own:Bad' failed: ZeroDivisionError: division by zero (of_my_own.py, line"),
        ("Other", "the section 'of_my_own:Other' is made from a transfer, not from a run"),
        ("NoSection", "'of_my_own:NoSection' is no section"),
        ("Missing", "Missing"),
    ],
)
def test_a_section_of_ones_own_that_breaks_its_promises_is_one_line(tmp_path, own, name, said):
    with pytest.raises(ConfigError) as caught:
        page.write(tmp_path, "t", records(("lth",)), [], {}, sections=[f"{own}:{name}"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("*.html")) == []
