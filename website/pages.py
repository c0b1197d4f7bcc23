"""Pages of the site: the repository's own Markdown, and those that are made from the code."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from website.generated import api_pages, catalogue_page, entry_pages, method_pages

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent

# Pages of the repository and where they stand on the site, in the order of the menu.
GUIDES = ("recipes", "tasks", "arms", "evidence", "results", "ticket-format", "clusters")
MEASURED = ("findings", "benchmarks", "speed")
PROJECT = ("architecture", "decisions", "glossary")
AT_THE_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}

_CODE = re.compile(r"(^```.*?^```$|^~~~.*?^~~~$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def stage(folder: Path) -> Path:
    """Write the site's Markdown and its configuration into a folder.

    Returns:
        The configuration's path.
    """
    documents = folder / "docs"
    sources = repository_pages()
    pages = {page: relinked(source, sources, documents) for source, page in sources.items()}
    # The first page has no neighbours in the menu.
    pages["index.md"] = f"---\nhide: [navigation]\n---\n\n{pages['index.md']}"
    methods, chosen, api = method_pages(), entry_pages(), api_pages()
    pages |= {**methods, **chosen, **api, "catalogues.md": catalogue_page()}
    for page, text in pages.items():
        path = documents / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(HERE / "assets", documents / "assets", dirs_exist_ok=True)

    config = yaml.safe_load((HERE / "zensical.yml").read_text(encoding="utf-8"))
    config |= {
        "docs_dir": "docs",
        "site_dir": "site",
        "nav": navigation(sources, methods, chosen, api),
    }
    for plugin in config["plugins"]:
        if "mkdocstrings" in plugin:
            python = plugin["mkdocstrings"]["handlers"]["python"]
            python["paths"] = [str(ROOT / "src")]
            python["options"]["extensions"] = [str(HERE / "doctests.py")]
    path = folder / "mkdocs.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def repository_pages() -> dict[Path, str]:
    """Return the repository's Markdown that is part of the site, each with its place there."""
    names = (*GUIDES, *MEASURED, *PROJECT)
    pages = {ROOT / "docs" / f"{name}.md": f"{name}.md" for name in names}
    pages |= {ROOT / name: place for name, place in AT_THE_ROOT.items()}
    return {path: place for path, place in pages.items() if path.exists()}


def navigation(
    sources: Mapping[Path, str],
    methods: Mapping[str, str],
    chosen: Mapping[str, str],
    api: Mapping[str, str],
) -> list[Any]:
    """Return the menu: pages by group, in order.

    Args:
        sources: The repository's own Markdown, with its places.
        methods: The pages of methods, by their places.
        chosen: Those of scores and scopes.
        api: Those of public names.
    """
    staged = set(sources.values())

    def group(names: Sequence[str]) -> list[str]:
        return [f"{name}.md" for name in names if f"{name}.md" in staged]

    return [
        {"Home": "index.md"},
        {"Guides": group(GUIDES)},
        {
            "Methods": [
                *methods,
                {"Scores": [page for page in chosen if "/scores/" in page]},
                {"Scopes": [page for page in chosen if "/scopes/" in page]},
            ]
        },
        {"API": [*api, "catalogues.md"]},
        {"Measured": group(MEASURED)},
        {"Project": group((*PROJECT, "contributing", "changelog"))},
    ]


def relinked(source: Path, sources: Mapping[Path, str], documents: Path) -> str:
    """Return a page of the repository with its links as they are on the site.

    Files that are no pages are copied beside them. A folder has no page: its path is named instead.
    """
    here = Path(sources[source])

    def changed(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        parts = urlsplit(target)
        if parts.scheme or not parts.path:
            return link[0]
        file = (source.parent / parts.path).resolve()
        if file.is_dir():
            return words if words.startswith("`") else f"`{file.relative_to(ROOT).as_posix()}`"
        if file in sources:
            place = sources[file]
        else:
            place = file.relative_to(ROOT).as_posix()
            copy = documents / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        fragment = f"#{parts.fragment}" if parts.fragment else ""
        return f"{picture}[{words}]({os.path.relpath(place, here.parent)}{fragment})"

    pieces = _CODE.split(source.read_text(encoding="utf-8"))
    text = ""
    for piece in pieces:
        is_code = piece.startswith(("```", "~~~"))
        text += piece if is_code else _LINK.sub(changed, piece)
    return text
