"""The page of the architecture: its rooms and modules are those of the package."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from tests.test_contributing import layers, rooms

import tombola
from tombola.ground.catalogue import entries
from tombola.recipes import names

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = Path(tombola.__file__).parent
# Where the entries of a room are, if not in itself.
CATALOGUES = {"reports": "tombola.reports.sections"}
ROWS = re.findall(r"^\| `(\w+)(?:/|\.py)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)


def test_every_room_stands_in_the_table_in_its_order_with_the_sentence_of_its_docstring():
    assert [room for room, _, _ in ROWS] == layers()
    assert {room: sentence for room, sentence, _ in ROWS} == rooms()


def test_every_module_and_entry_that_the_table_names_exists():
    for room, _, contents in ROWS:
        for module in re.findall(r"`(\w+)`(?! \()", re.sub(r"\([^)]*\)", "", contents)):
            assert (PACKAGE / room / f"{module}.py").is_file() or hasattr(
                importlib.import_module(f"tombola.{room}"), module
            ), f"{room}/{module}"
        for listed in re.findall(r"(?<!\*)\*([^*]+)\*", contents):
            known = (
                names() if room == "recipes" else entries(CATALOGUES.get(room, f"tombola.{room}"))
            )
            assert set(re.findall(r"\w+", listed)) <= set(known), room


def test_every_module_that_the_text_names_exists():
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)(?:\.[A-Za-z_]+)?`", PAGE)) - {
        "records.jsonl",
        "tickets.py",
    }
    named = {name for name in named if name.partition(".")[0] in layers()}
    assert len(named) >= 6
    for name in named:
        assert importlib.util.find_spec(f"tombola.{name}"), name


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/decisions.md", "docs/evidence.md"]
)
def test_what_a_page_sets_as_code_is_a_word_of_the_repository(page):
    """A page that names a function which was renamed is found here."""
    folders = ("src", "tests", "website", "benchmarks", "findings")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    words = {""}
    for path in files:
        words |= set(re.findall(r"\w+", f"{path.as_posix()} {path.read_text(encoding='utf-8')}"))
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {
        word
        for code in re.findall(r"`([^`\n]+)`", text)
        for word in re.findall(r"[A-Za-z_]\w*", code)
    }
    others = {"deserialize", "venv", "python3"}  # of other projects
    assert {word for word in named if word.strip("_") not in words} <= others
