"""What only reads and tells imports no torch, which takes a second or two: each command is run in a
process where importing it fails.
"""

from pathlib import Path

import pytest
from tests.processes import COMMAND, run_without

from tombola.ground import catalogue

FINDINGS = Path(__file__).parent.parent / "docs" / "findings"
COMMANDS = [
    "--help",
    "run --help",
    "demo --help",
    "list",
    "list --json",
    "list arms",
    "list data",
    "list entries",
    "list recipes",
    "list scores",
    "list scopes",
    f"runs --runs {FINDINGS}",
    f"runs --runs {FINDINGS} --json",
    "completion bash",
    "schema",
    "run digits --print_config",
]


def without_torch(code, *arguments):
    return run_without(["torch", "torchvision"], code, *arguments)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.partition(" /")[0])
def test_a_command_that_only_tells_needs_no_torch(command):
    done = without_torch(COMMAND, *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_what_a_ticket_holds_is_told_without_torch(tmp_path):
    import torch

    from tombola.tickets import Ticket

    path = tmp_path / "mine.safetensors"
    mask = {"fc.weight": torch.tensor([[True, False]])}
    Ticket(mask, {"fc.weight": torch.ones(1, 2)}, {}).save(path)
    done = without_torch(COMMAND, "ticket", "info", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fc.weight" in done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "from tombola.commands.cli import main; main(['--help'])",
        "import tombola.commands._ticket, tombola.ticket_format, tombola.records.savings; "
        "from tombola.records import choosing",
    ],
    ids=["help", "ticket"],
)
def test_neither_the_help_nor_a_ticket_pays_for_pydantic(code):
    done = run_without(["pydantic"], code)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_method_is_imported_without_torch():
    modules = [f"tombola.methods._{name}" for name in catalogue.entries("tombola.methods")]
    code = "\n".join(f"import {module}" for module in modules)
    done = without_torch(f"{code}\nimport tombola.schema.recipe, tombola.tasks.settings")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_guard_itself_refuses_torch():
    assert "torch is imported" in without_torch("import tombola.masks.masks").stderr
