"""The documentation site: built once, strictly, and looked at; and the links of every Markdown file."""

import re
from pathlib import Path

import pytest

import tombola
from tombola import methods, scores
from tombola.ground.catalogue import entries
from tombola.masks import scopes

pytest.importorskip("zensical", reason="needs the extra docs")

from website import links
from website.__main__ import build
from website.doctests import fenced

ROOT = Path(__file__).parent.parent
COMMITTED = sorted(
    path
    for pattern in ("*.md", "docs/*.md", ".github/**/*.md", "examples/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", COMMITTED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page):
    assert links.broken(page) == []


def test_a_link_to_no_file_or_no_heading_is_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "# A `b`\n\n[x](a.md#a-b) [y](b.md) [z](#a-c) ![p](p.png) [web](https://a.b/c)\n"
    )
    assert links.broken(tmp_path / "a.md") == [
        "a.md: no file b.md",
        "a.md: no heading #a-c",
        "a.md: no file p.png",
    ]


def test_what_is_wrong_with_a_site_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h2 id="one">1</h2><a href="b.html#two"></a><a href="#none"></a><a href="https://a.b"></a>'
        '<a href="c.html"></a><script src="https://a.b/s.js"></script><link rel="stylesheet" href="//a.b/s.css">'
        '<link rel="canonical" href="https://a.b/">'
    )
    (tmp_path / "b.html").write_text('<a name="two" href="a.html#one"></a>')
    (tmp_path / "404.html").write_text('<a href="/a.html#one"></a><a href="/c.html"></a>')
    (tmp_path / "s.css").write_text(
        "@import url(a.css); @font-face { src: url('https://a.b/f.woff') }"
    )
    assert sorted(links.faults(tmp_path)) == [
        "404.html: no file /c.html",
        "a.html: fetches //a.b/s.css",
        "a.html: fetches https://a.b/s.js",
        "a.html: no file c.html",
        "a.html: no place #none",
        "s.css: fetches https://a.b/f.woff",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("website")
    found = build(folder / "website", folder / "site")
    assert found == []
    return folder / "site"


def test_every_public_name_and_every_method_has_its_place_on_the_site(site):
    api = {path.name: path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html")}
    for name in tombola._HOME:
        assert any(f'id="tombola.{name}"' in text for text in api.values()), name
        assert f'#tombola.{name}"' in api["index.html"], name
    for name in methods.names():
        page = (site / "methods" / f"{name}.html").read_text(encoding="utf-8")
        for card in methods.shipped(name).cards:
            assert f'<h2 id="{card.name}' in page
    for catalogue, package in (("scores", scores), ("scopes", scopes)):
        for name in entries(package.__name__):
            page = (site / "methods" / catalogue / f"{name}.html").read_text(encoding="utf-8")
            assert "Source" in page or name in ("random", "whole_model", "per_layer", "per_kind")


def test_an_example_is_fenced_up_to_the_next_empty_line():
    text = "Add.\n\n>>> 1 + 1\n2\n\nAs it is.\n\n>>> 2\n2"
    assert fenced(text) == (
        "Add.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nAs it is.\n\n```pycon\n>>> 2\n2\n```"
    )


def test_the_examples_of_docstrings_are_code_on_the_site(site):
    page = (site / "api" / "masks.html").read_text(encoding="utf-8")
    code = "".join(re.findall(r"<code>.*?</code>", page, re.DOTALL))
    assert page.count("&gt;&gt;&gt;") == code.count("&gt;&gt;&gt;") > 0


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_open_from_the_disk_without_a_request_an_error_or_a_line_that_runs_out_of_the_window(
    browser, site, width
):
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    for page in ("methods/colt.html", "api/masks.html", "index.html"):
        tab.goto((site / page).as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("file://")] == []


def test_the_search_works_on_pages_from_the_disk(browser, site):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto((site / "index.html").as_uri())
    tab.get_by_role("button", name="Search").first.click()
    box = tab.get_by_placeholder("Search")
    box.press_sequentially("supermask")
    tab.get_by_text("The hypothesis").wait_for()
    assert box.input_value() == "supermask"
    tab.close()
