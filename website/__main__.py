"""Build the documentation site into ``site/``: every warning and every broken link is an error."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from website.links import faults
from website.pages import ROOT, stage

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def build(staged: Path, site: Path) -> list[str]:
    """Build the site from the repository's pages.

    Returns:
        What is wrong with it, one line each.
    """
    for folder in (staged, site):
        shutil.rmtree(folder, ignore_errors=True)
    config = stage(staged)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(config)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=staged)
    if process.returncode:
        output = _COLOURS.sub("", process.stdout + process.stderr)
        return [line for line in output.splitlines() if line.strip()]
    # Zensical writes inside the folder of its configuration alone.
    shutil.move(staged / "site", site)
    return faults(site)


def main() -> int:
    """Build the site and say where it is."""
    site = ROOT / "site"
    problems = build(ROOT / "build" / "website", site)
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    print(site / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
