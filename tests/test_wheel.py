"""The wheel: what a stranger gets by pip alone, without a clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tombola import recipes

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel that is built from this clone, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    [wheel] = folder.glob("tombola-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_file_of_the_package(unpacked):
    source = ROOT / "src"
    files = {str(path.relative_to(source)) for path in source.rglob("*")
             if path.is_file() and path.suffix != ".pyc"}  # fmt: skip
    assert {f"tombola/recipes/{name}.yaml" for name in recipes.names()} <= files
    assert files <= {str(path.relative_to(unpacked)) for path in unpacked.rglob("*")}


def test_the_wheel_says_what_it_can_run_in_a_folder_of_its_own(unpacked, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r}); "
        "from tombola.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*arguments):
        command = [sys.executable, "-P", "-c", code, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    listed = call("list", "recipes")
    assert all(name in listed for name in recipes.names())
    assert "name: digits-small" in call("run", "digits", "--scale", "small", "--print_config")


# What a stranger's program does before its first line: it hides every module that the base install
# does not bring.
HIDING = """
import sys
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement

sys.path.insert(0, sys.argv[1])
known, open_ = set(), {"torch", "numpy", "safetensors", "jaxtyping", "pydantic", "pyyaml", "rich"}
while open_:
    name = open_.pop()
    known.add(name)
    for text in requires(name) or ():
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            open_ |= {needed.name.lower().replace("_", "-")} - known
hidden = {
    module
    for module, names in packages_distributions().items()
    if module != "tombola" and not {name.lower().replace("_", "-") for name in names} & known
}
hidden -= {"packaging"}  # what this very program has imported


class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


assert {"scipy", "altair", "sklearn", "torchvision", "pandas", "lightning_fabric"} <= hidden
sys.meta_path = [Hiding(finder) for finder in sys.meta_path]
"""

A_SEARCH = """
import torch
import tombola
from tombola.data.partitions import WHOLE

images, labels = torch.rand(200, 1, 4, 4), torch.arange(200) % 2
splits = tombola.split(tombola.from_tensors(images, labels, images, labels), valid=0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
task = tombola.Classification(net, splits, head="3")
job = tombola.Job(task.initial_state(), tombola.ones(net, head="3"), tombola.Training(epochs=1, lr=0.1), seed=0)
for round in tombola.find(job, [WHOLE], [0.5, 0.5], run_all=tombola.serial(task)):
    ticket = tombola.Ticket(round.mask, round.job.start, {"round": round.index})
    ticket.save("round.safetensors")
assert tombola.Ticket.load("round.safetensors").density == ticket.density == 0.25
handle = tombola.hold_(torch.optim.SGD(net.parameters(), lr=0.1), net, ticket.apply(net))
pruned = tombola.prune(tombola.magnitude(net.state_dict(), ticket.mask), ticket.mask, 0.5)
assert tombola.density(pruned) == 0.125
"""

THE_COMMAND = "from tombola.commands.cli import main; sys.exit(main(sys.argv[2:]))"


def base(unpacked, folder, code, *arguments):
    """Run a program as it would run after `pip install tombola`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", HIDING + code, str(unpacked), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_base_install_finds_prunes_saves_and_loads_tickets(unpacked, tmp_path):
    done = base(unpacked, tmp_path, A_SEARCH)
    assert done.returncode == 0, done.stderr
    told = base(unpacked, tmp_path, THE_COMMAND, "ticket", "info", "round.safetensors")
    assert "25.00 %" in told.stdout


def test_the_base_install_says_in_one_line_what_a_run_needs(unpacked, tmp_path):
    for arguments in (["--help"], ["list"], ["run", "digits", "--print_config"]):
        done = base(unpacked, tmp_path, THE_COMMAND, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stdout
    done = base(unpacked, tmp_path, THE_COMMAND, "run", "digits", "--scale", "small")
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert "pip install 'tombola[" in line
