"""What only reads and tells imports no torch, which takes a second or two: each command is run in a
process where importing it fails.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tombola.ground import catalogue

FINDINGS = Path(__file__).parent.parent / "docs" / "findings"
WITHOUT_TORCH = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuses())
"""
COMMANDS = [
    "--help",
    "list",
    "list --json",
    "list arms",
    "list entries",
    "list recipes",
    f"runs --runs {FINDINGS}",
    f"runs --runs {FINDINGS} --json",
    "completion bash",
    "schema",
    "run digits --print_config",
]


def without_torch(code, *arguments):
    """Run code in a process where torch cannot be imported."""
    call = [sys.executable, "-c", WITHOUT_TORCH + code, *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.partition(" /")[0])
def test_a_command_that_only_tells_needs_no_torch(command):
    code = "from tombola.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    done = without_torch(code, *command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_what_a_ticket_holds_is_told_without_torch(tmp_path):
    import torch

    from tombola.tickets import Ticket

    path = tmp_path / "mine.safetensors"
    mask = {"fc.weight": torch.tensor([[True, False]])}
    Ticket(mask, {"fc.weight": torch.ones(1, 2)}, {}).save(path)
    code = "from tombola.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    done = without_torch(code, "ticket", "info", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "fc.weight" in done.stdout


def test_neither_the_help_nor_a_ticket_pays_for_pydantic():
    code = "from tombola.commands.cli import main; main(['--help']); sys.exit('pydantic' in sys.modules)"
    assert without_torch(code).returncode == 0
    code = "import tombola.commands._ticket, tombola.ticket_format; from tombola.records import "
    code += "choosing, savings; sys.exit('pydantic' in sys.modules)"
    assert without_torch(code).returncode == 0


def test_every_method_is_imported_without_torch():
    modules = [f"tombola.methods._{name}" for name in catalogue.entries("tombola.methods")]
    code = "\n".join(f"import {module}" for module in modules)
    done = without_torch(f"{code}\nimport tombola.schema.recipe, tombola.tasks.settings")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_guard_itself_refuses_torch():
    assert "torch is imported" in without_torch("import tombola.masks.masks").stderr
