"""The command line beside its commands: what was meant, what completes, and reports that judge again."""

import json
import shutil
import subprocess

import pytest
from tests.test_cli import cli, refused  # noqa: F401 - a fixture

from tombola.cli import COMMANDS, parser
from tombola.completion import SHELLS, script, words_of


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hepl"], "tombola does not take '--hepl'. Did you mean '--help'? (see tombola --help)"),
        (["runs", "--hepl"], "tombola runs does not take '--hepl'. Did you mean '--help'?"),
        (["run", "quick.yaml", "--hepl"], "there is no option '--hepl'. Did you mean '--help'?"),
        (["ticket", "info", "x", "--jsn"], "tombola ticket info does not take '--jsn'. Did you mean '--json'?"),
        (["list", "Model"], "there is no CATALOGUE 'Model'; there are: data, models, scores, exports, arms, recipes. "
                            "Did you mean 'models'?"),
        (["ticket", "inof"], "there is no ACTION 'inof'; there are: info, verify, export. Did you mean 'info'?"),
        (["Runs"], "there is no command 'Runs'; "),
        (["a\nb"], r"there is no command 'a\nb'"),
        (["run", "quick.yaml", "--training.optimizer", "AdamW"], "Did you mean 'adamw'?"),
        (["run", "quick.yaml", "--data", "FashionMNIST"], "Did you mean 'fashion_mnist'?"),
        (["run", "quick.yaml", "--model", "resnet-18"], "Did you mean 'resnet18'?"),
        (["run", "quick.yaml", "--arms.lth.method", "imp"], "Did you mean 'lth'?"),
        (["run", "quick.yaml", "--arms.lth.score", "L1"], "Did you mean 'magnitude'?"),
        (["run", "quick.yaml", "--training.learning_rate", "1"], "Did you mean 'lr'?"),
        (["run", "quick.yaml", "--only-replicates", "0-999999999"], "so many replicates no recipe has"),
        (["run", "quick.yaml", "--only-replicates", "0-999," * 50 + "0"], "asked for is 1"),
        (["run", "x" * 300], "there is no recipe 'xxx"),
        (["report", "x" * 300], "File name too long"),
        (["runs", "--runs", "x" * 300], "File name too long"),
        (["report", "x", "--verdict.margin"], "--verdict.margin has no value"),
        (["report", "x", "--training.lr", "1"], "report takes --verdict.NAME, such as --verdict.margin 0.01"),
        (["completion", "bsh"], "Did you mean 'bash'?"),
    ],
    ids=range(22),
)  # fmt: skip
def test_what_was_meant_is_said_in_one_line(cli, arguments, said):  # noqa: F811
    refused(cli(*arguments), said)


def test_what_an_operating_system_or_the_memory_refuses_is_one_line(cli, monkeypatch):  # noqa: F811
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("tombola.overview.runs", no_memory)
    refused(cli("runs"), "this takes more memory than there is")


def test_a_report_judges_again_by_another_margin_and_changes_nothing_of_the_run(cli, tmp_path, undrawn):  # noqa: F811
    more = ["--workers", "1", "--quiet", "--replicates", "3", "--arms", "{lth: {method: lth, rate: 0.2}}"]
    assert cli("run", "quick.yaml", *more).returncode == 0
    [folder] = (tmp_path / "runs").iterdir()
    recipe = (folder / "recipe.yaml").read_bytes()
    without = cli("report", folder).stdout
    by_margin = cli("report", folder, "--verdict.margin", "0.01")
    assert by_margin.returncode == 0, by_margin.stderr
    assert by_margin.stdout != without
    assert "within 1 " in by_margin.stdout or "margin" in by_margin.stdout
    refused(cli("report", folder, "--verdict.margin", "1"), "verdict.margin is 1.0; it is a fraction")
    refused(cli("report", folder, "--verdict.margn", "1"), "there is no 'verdict.margn'", "Did you mean 'margin'?")
    assert (folder / "recipe.yaml").read_bytes() == recipe
    assert cli("report", folder).stdout == without


# ---- completion


def test_the_words_are_those_of_the_parser():
    words = words_of(parser())
    assert set(COMMANDS) <= set(words[""])
    assert {"--workers", "--dry-run"} <= set(words["run"])
    assert {"info", "verify", "export"} <= set(words["ticket"])
    assert "--to" in words["ticket export"]
    assert "arms" in words["list"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_accepted_by_its_shell(cli, shell, tmp_path):  # noqa: F811
    done = cli("completion", shell)
    assert done.returncode == 0
    for word in ("run", "--training.lr", "--verdict.margin", "fashion_mnist", "lenet5", "state_dict", "digits"):
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
        (["tombola", "run", "x", "--training.l"], {"--training.lr"}),
        (["tombola", "run", "x", "--data", "fash"], {"fashion_mnist"}),
        (["tombola", "ticket", "ex"], {"export"}),
        (["tombola", "ticket", "info", "x", "--js"], {"--json"}),
        (["tombola", "ticket", "export", "x", "--to", "torch"], {"torch_prune"}),
        (["tombola", "list", "sc"], {"scores"}),
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
        ["bash", "-c", call, "_", *typed], capture_output=True, text=True, cwd=tmp_path / "empty", check=True
    )
    assert set(done.stdout.split()) == completed


def test_what_json_says_is_not_changed_by_contracts(cli):  # noqa: F811
    assert "magnitude" in json.loads(cli("list", "scores", "--json").stdout)["scores"]


def test_values_stand_in_the_scripts_of_all_shells():
    for shell in SHELLS:
        text = script(shell, parser(), {"--data": ["digits"]}, {"run": ["mine"]})
        assert "digits" in text
        assert "mine" in text
