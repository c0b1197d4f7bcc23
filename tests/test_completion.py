"""Completion: the scripts hold the words of the command line, and a shell completes what was
typed.
"""

import shutil
import subprocess
from dataclasses import fields

import pytest
from tests.test_cli import cli  # noqa: F401 - a fixture

from tombola.commands.cli import commands, parser
from tombola.commands.completion import SHELLS, script, words_of
from tombola.schema.recipe import Recipe


def test_the_words_are_those_of_the_parser():
    words = words_of(parser())
    assert set(commands()) <= set(words[""])
    assert {"--workers", "--dry-run"} <= set(words["run"])
    assert {"info", "verify", "export"} <= set(words["ticket"])
    assert "--to" in words["ticket export"]
    assert "arms" in words["list"]


def test_every_entry_of_a_recipe_can_be_completed(cli):  # noqa: F811
    text = cli("completion", "bash").stdout
    (run,) = [line for line in text.splitlines() if line.lstrip().startswith('"run "*')]
    assert {f"--{entry.name}" for entry in fields(Recipe)} <= set(run.split('"')[3].split())


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_accepted_by_its_shell(cli, shell, tmp_path):  # noqa: F811
    done = cli("completion", shell)
    assert done.returncode == 0
    for word in (
        "run",
        "--training.lr",
        "--verdict.margin",
        "fashion_mnist",
        "lenet5",
        "state_dict",
        "digits",
    ):
        assert word in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here; its script was made and not tried")
    (tmp_path / "script").write_text(done.stdout)
    assert subprocess.run([shell, "-n", tmp_path / "script"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["tombola", "re"], {"report"}),
        (["tombola", "run", "mnist-lenet5-gr"], {"mnist-lenet5-gradual"}),
        (["tombola", "run", "x", "--training.l"], {"--training.lr", "--training.lr_end"}),
        (["tombola", "run", "x", "--data", "fash"], {"fashion_mnist"}),
        (["tombola", "run", "x", "--task", "class"], {"classification"}),
        (["tombola", "run", "x", "--executor", "th"], {"threads"}),
        (["tombola", "run", "x", "--training.step", "tr"], {"traced"}),
        (["tombola", "ticket", "ex"], {"export"}),
        (["tombola", "ticket", "info", "x", "--js"], {"--json"}),
        (["tombola", "ticket", "export", "x", "--to", "torch"], {"torch_prune"}),
        (["tombola", "list", "sc"], {"scopes", "scores"}),
        (["tombola", "report", "x", "--verdict.m"], {"--verdict.margin"}),
        (["tombola", "completion", "z"], {"zsh"}),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_what_was_typed(cli, tmp_path, typed, completed):  # noqa: F811
    (tmp_path / "script").write_text(cli("completion", "bash").stdout)
    (tmp_path / "empty").mkdir()
    call = 'source ../script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tombola; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", call, "_", *typed],
        capture_output=True,
        text=True,
        cwd=tmp_path / "empty",
        check=True,
    )
    assert set(done.stdout.split()) == completed


def test_values_stand_in_the_scripts_of_all_shells():
    for shell in SHELLS:
        text = script(shell, parser(), {"--data": ["digits"]}, {"run": ["mine"]})
        assert "digits" in text
        assert "mine" in text
