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
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
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
        f"import sys; sys.path.insert(0, {str(unpacked)!r}); from tombola.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*arguments):
        command = [sys.executable, "-P", "-c", code, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    listed = call("list", "recipes")
    assert all(name in listed for name in recipes.names())
    assert "name: digits-small" in call("run", "digits", "--scale", "small", "--print_config")
