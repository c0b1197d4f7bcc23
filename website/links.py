"""Links: where those of a page lead, in the repository and in the built site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

# What a browser fetches by itself; a link that a reader clicks may lead anywhere.
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_NOT_FETCHED = {"canonical", "prev", "next", "edit", "author", "license", "alternate"}
_FETCHED_BY_CSS = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]*)")


class Link(NamedTuple):
    """A link of a page.

    Attributes:
        target: Where it leads, as it is written.
        fetched: Whether a browser fetches it without being asked.
    """

    target: str
    fetched: bool = False


# ---- Markdown in the repository


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them.

    >>> sorted(anchors("# A page\\n\\n## What `find` gives, and when\\n\\n## A page\\n"))
    ['a-page', 'a-page-1', 'what-find-gives-and-when']
    """
    names: set[str] = set()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, content in pairwise(tokens):
        if token.type != "heading_open":
            continue
        words = ""
        for part in content.children or []:
            if part.type in ("text", "code_inline"):
                words += part.content
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = 1
        unique = name
        while unique in names:
            unique = f"{name}-{number}"
            number += 1
        names.add(unique)
    return names


def markdown_links(text: str) -> list[str]:
    """Return where the links and pictures of a page lead; what stands in code is none.

    >>> markdown_links("[a](b.md#c), `[d](e)`, ![f](g.png)")
    ['b.md#c', 'g.png']
    """
    targets = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for part in token.children or []:
            target = part.attrGet("href") or part.attrGet("src")
            if target is not None:
                targets.append(str(target))
    return targets


def broken(page: Path) -> list[str]:
    """Return the links of a Markdown file that lead to no file, or to no heading of one."""
    problems = []
    for target in markdown_links(page.read_text(encoding="utf-8")):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        file = page.parent / unquote(parts.path) if parts.path else page
        if not file.exists():
            problems.append(f"{page.name}: no file {target}")
            continue
        if parts.fragment and file.suffix == ".md":
            headings = anchors(file.read_text(encoding="utf-8"))
            if parts.fragment not in headings:
                problems.append(f"{page.name}: no heading {target}")
    return problems


# ---- HTML of the site


class _Reader(HTMLParser):
    """What a page of HTML links to, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[Link] = []
        self.places: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places.update(values[name] for name in ("id", "name") if name in values)
        attribute = _FETCHED.get(tag, "href" if tag == "a" else "")
        if attribute in values:
            fetched = tag in _FETCHED and values.get("rel") not in _NOT_FETCHED
            self.links.append(Link(values[attribute], fetched))


def faults(site: Path) -> list[str]:
    """Return what is wrong with a built site, one line each.

    That is links that lead nowhere, and what a browser would fetch from another machine.
    """
    pages = {
        path.resolve(): _Reader(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    problems = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        problems += [f"{name}: {fault}" for fault in _faults(path, page, pages)]
    for sheet in site.rglob("*.css"):
        for address in _FETCHED_BY_CSS.findall(sheet.read_text(encoding="utf-8")):
            problems.append(f"{sheet.name}: fetches {address}")
    return problems


def _faults(path: Path, page: _Reader, pages: dict[Path, _Reader]) -> Iterator[str]:
    for link in page.links:
        parts = urlsplit(link.target)
        if parts.scheme == "data":
            continue
        if parts.scheme or parts.netloc:
            if link.fetched:
                yield f"fetches {link.target}"
            continue
        place = unquote(parts.path)
        if path.name == "404.html":  # served for any address, so its links begin at the top
            place = place.lstrip("/")
        file = (path.parent / place).resolve() if place else path
        if not file.is_file():
            yield f"no file {link.target}"
        elif file in pages and unquote(parts.fragment) not in pages[file].places:
            yield f"no place {link.target}"
