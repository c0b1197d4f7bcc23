"""Write docs/findings.md from the committed records: `make findings`."""

from findings.evidence import ROOT
from findings.page import page

if __name__ == "__main__":
    path = ROOT / "docs/findings.md"
    path.write_text(page(), encoding="utf-8")
    print(path)
