"""Rewrite the tables of cards in pages: ``python -m tombola.methods docs/arms.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from tombola.methods import every_card
from tombola.methods.cards import page

if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(page(path.read_text(encoding="utf-8"), every_card()), encoding="utf-8")
