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
    found: set[str] = set()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, content in pairwise(tokens):
        if token.type != "heading_open":
            continue
        words = "".join(
            part.content for part in content.children or [] if part.type in ("text", "code_inline")
        )
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = 1
        unique = name
        while unique in found:
            unique = f"{name}-{number}"
            number += 1
        found.add(unique)
    return found


def markdown_links(text: str) -> list[str]:
    """Return where the links and pictures of a page lead; what stands in code is none.

    >>> markdown_links("[a](b.md#c), `[d](e)`, ![f](g.png)")
    ['b.md#c', 'g.png']
    """
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for part in token.children or []:
            target = part.attrGet("href") or part.attrGet("src")
            if target is not None:
                found.append(str(target))
    return found


def broken(page: Path) -> list[str]:
    """Return the links of a Markdown file that lead to no file, or to no heading of one."""
    found = []
    for target in markdown_links(page.read_text(encoding="utf-8")):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        file = page.parent / unquote(parts.path) if parts.path else page
        if not file.exists():
            found.append(f"{page.name}: no file {target}")
        elif (
            parts.fragment
            and file.suffix == ".md"
            and parts.fragment not in anchors(file.read_text("utf-8"))
        ):
            found.append(f"{page.name}: no heading {target}")
    return found


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
    """Return what is wrong with a built site: links that lead nowhere, and what is fetched from another machine."""
    pages = {
        path.resolve(): _Reader(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        found += [f"{name}: {fault}" for fault in _faults(path, page, pages)]
    for sheet in site.rglob("*.css"):
        for address in re.findall(
            r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]*)", sheet.read_text("utf-8")
        ):
            found.append(f"{sheet.name}: fetches {address}")
    return found


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
