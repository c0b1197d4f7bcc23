"""The Python of the README, and the README's commands, run as they stand."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tombola.cli import main

ROOT = Path(__file__).parent.parent


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


BLOCKS = blocks("README.md")


def test_the_readme_shows_python():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_the_python_of_the_readme_runs(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[index], f"README block {index}", "exec"), {"__name__": "readme"})


def test_the_search_of_the_readme_is_at_most_ten_lines():
    search = next(block for block in BLOCKS if "find(" in block)
    code = [line for line in search.split("# the search")[1].splitlines() if line.strip()]
    assert len(code) <= 10


def test_the_python_of_the_page_on_evidence_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    exec(compile(blocks("docs/evidence.md")[0], "evidence", "exec"), {"__name__": "evidence"})
    assert "no verdict" in capsys.readouterr().out


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    cells = json.loads((ROOT / "examples/is_it_true.ipynb").read_text(encoding="utf-8"))["cells"]
    names = {"__name__": "notebook"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "as accurate as dense: " in printed
    assert "by chance 0." in printed
    assert Path(printed.splitlines()[-1]).exists()


def test_the_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Commands")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith(".venv/bin/tombola ")]
    told = {shlex.split(line)[1] for line in lines}
    assert told == {"run", "runs", "report", "ticket", "transfer", "list", "doctor"}
    for line in lines:
        words = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in shlex.split(line)[1:]]
        assert all(words), f"{line}: no file is meant"
        assert main([word for found in words for word in found]) == 0, line
        printed = capsys.readouterr()
        assert printed.out, line
        assert "Traceback" not in printed.err
