"""The glossary: its words of the code are those of the code, and each page that defines the field has its source."""

import re
from pathlib import Path
from typing import get_args

import pytest

import tombola
from tombola.evidence import verdicts
from tombola.ground import endings
from tombola.masks.scope_choices import ScopeName
from tombola.methods import cards

PAGE = (Path(__file__).parent.parent / "docs" / "glossary.md").read_text(encoding="utf-8")


def entry(word):
    """The text of one entry, on one line."""
    found = re.search(
        rf"^- \*\*{re.escape(word)}\*\*(.*?)(?=^- \*\*|^#|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    return " ".join(found[1].split())


def emphasised(text):
    """The words in italics that are no source."""
    return {word.lower() for word in re.findall(r"(?<!\*)\*([A-Za-z ]+)\*(?!\*)", text)}


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("verdict", get_args(verdicts.Word)),
        ("condition", get_args(verdicts.State)),
        ("role", get_args(cards.Role)),
    ],
)
def test_the_words_of_an_entry_are_those_of_the_code(word, values):
    assert emphasised(entry(word)) == set(values)


def test_scopes_and_what_is_prunable_are_those_of_the_code():
    assert set(re.findall(r"`(\w+)` ?\(", entry("scope"))) | {"per_kind"} == set(
        get_args(ScopeName)
    )
    for value in ("no_head", "conv", "all"):
        assert f"`{value}`" in entry("prunable")


def test_the_ends_and_states_of_an_arm_are_those_of_the_code():
    section = PAGE.split("## How an arm ends")[1]
    states = {"open", "finished", "failed", "skipped"}
    assert emphasised(section) == {cause for cause in get_args(endings.Cause) if cause} | states


def test_each_word_stands_once_and_the_public_verbs_are_there():
    words = re.findall(r"^- \*\*(.+?)\*\*", PAGE, re.MULTILINE)
    assert len(words) == len(set(words))
    assert {"prune", "intersect"} <= set(words) & set(tombola.__all__)


@pytest.mark.parametrize(
    "identifier", ["1803.03635", "2212.12770", "1912.05671", "1905.01067", "2003.02389"]
)
def test_the_papers_that_coined_the_words_are_named(identifier):
    assert f"https://arxiv.org/abs/{identifier}" in PAGE
