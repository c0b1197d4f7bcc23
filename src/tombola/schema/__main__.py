"""Write the tables of entries anew in pages: ``python -m tombola.schema docs/recipes.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from tombola.schema.entries import page

if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
