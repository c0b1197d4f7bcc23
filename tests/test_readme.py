"""The Python of the README, and the README's commands, run as they stand."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import tombola
from tombola.commands import cli
from tombola.commands.cli import main

ROOT = Path(__file__).parent.parent


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


BLOCKS = blocks("README.md")


def test_the_readme_shows_python():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("index", range(1, len(BLOCKS)))  # the first one has a test of its own
def test_the_python_of_the_readme_runs(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[index], f"README block {index}", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_the_searches_of_the_readme_are_at_most_ten_lines(index):
    code = [line for line in BLOCKS[index].split("# the search")[1].splitlines() if line.strip()]
    assert len(code) <= 10


def test_the_first_python_of_the_readme_prunes_a_net_in_ones_own_loop(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(BLOCKS[0], "README block 0", "exec"), {"__name__": "readme"})
    printed = re.findall(
        r"^ *([\d.]+)% of the weights: test accuracy ([\d.]+)%$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert [density for density, _ in printed] == ["100.0", "60.0", "36.0", "21.6", "13.0", "7.8"]
    assert all(float(accuracy) > 85 for _, accuracy in printed)
    ticket = tombola.Ticket.load("round-5.safetensors")
    assert tombola.density(ticket.mask) == pytest.approx(0.6**5, abs=1e-3)


def test_the_readme_begins_with_what_it_is_a_picture_two_commands_and_that_loop():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    begin = page.split("## ")[0]
    places = [
        begin.index("finds **lottery tickets**"),
        begin.index("](docs/report.png)"),
        begin.index("tombola demo"),
    ]
    assert places == sorted(places)
    commands = re.search(r"```\n(.*?)```", begin, re.DOTALL)[1].splitlines()
    assert [line.split("#")[0].split()[-1] for line in commands] == ["'.[all]'", "demo"]
    assert page.split("\n## ")[1].startswith("Around your own loop")


def test_what_the_readme_says_of_time_is_what_was_measured():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = json.loads(
        (ROOT / "docs/findings/cifar10-conv3/latency.json").read_text(encoding="utf-8")
    )["rows"]
    milliseconds = {row["arm"]: row["batch_100"]["ms"] for row in rows}
    dense, ticket = milliseconds["dense"], milliseconds["lth"]
    assert (
        f"100 images: {dense:.1f} ms with all weights, {ticket:.1f} ms with {100 * 0.8**8:.0f} % "
        "of them" in page
    )


def test_every_command_of_the_readme_is_understood(monkeypatch):
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
             if line.startswith("tombola ") and not line.startswith("tombola finds")]  # fmt: skip
    assert {"demo", "init"} <= {shlex.split(line)[1] for line in lines}
    for line in lines:
        command, *words = shlex.split(line)[1:]
        options, _ = cli.parse([command, *words])
        assert options.command == command


def test_the_python_of_the_page_on_evidence_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("docs/evidence.md")[0], "evidence", "exec"), {"__name__": "evidence"})
    assert "no verdict" in capsys.readouterr().out


@pytest.fixture
def shorter(tmp_path, monkeypatch):
    """Have a recipe `digits` whose small scale is smaller still, and one worker where a command
    names no number.
    """
    folder = tmp_path / "recipes"
    shutil.copytree(ROOT / "recipes", folder)
    text = (folder / "digits.yaml").read_text(encoding="utf-8")
    small = "{training.epochs: 4, until.density: 0.4, verdict.at: [0.5], replicates: 2}"
    assert small in text
    smaller = "{training.epochs: 1, until.density: 0.6, verdict.at: [0.6], replicates: 2}"
    (folder / "digits.yaml").write_text(text.replace(small, smaller), encoding="utf-8")
    monkeypatch.setattr("tombola.recipes._FOLDER", folder)
    monkeypatch.setattr("tombola.ground.devices.workers", lambda *_: 1)


def test_the_commands_of_the_readme_run(tmp_path, shorter, monkeypatch, capsys):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("## Commands")[1].split("\n## ")[0]
    )
    lines = [line for line in section.splitlines() if line.startswith("tombola ")]
    told = {shlex.split(line)[1] for line in lines}
    assert told == {"run", "runs", "report", "ticket", "transfer", "list", "doctor"}
    for line in lines:
        words = [
            sorted(map(str, Path().glob(word))) if "*" in word else [word]
            for word in shlex.split(line)[1:]
        ]
        assert all(words), f"{line}: no file is meant"
        assert main([word for found in words for word in found]) == 0, line
        printed = capsys.readouterr()
        assert printed.out, line
        assert "Traceback" not in printed.err
        shows_a_page = words[0] == ["report"] or words[0] == ["transfer"] or "--workers 2" in line
        if shows_a_page:  # the last line is its one path
            assert Path(printed.out.splitlines()[-1]).suffix == ".html", line
