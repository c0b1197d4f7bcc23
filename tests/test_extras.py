"""Libraries that only a part of tombola needs: who may import them, and what is said where one
is missing.
"""

import ast
import importlib.metadata
import sys
import tomllib
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tombola
from tombola.ground import extras
from tombola.ground.extras import EXTRAS, MissingExtraError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = [(extra, module) for extra, modules in EXTRAS.items() for module in modules]
DISTRIBUTIONS = {
    "PIL.Image": "pillow",
    "pycocotools.coco": "pycocotools",
    "pycocotools.cocoeval": "pycocotools",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
}


class Hiding:
    """A finder of modules that does not find those of some libraries."""

    def __init__(self, finder, libraries):
        self.finder, self.libraries = finder, libraries

    def find_spec(self, name, path=None, target=None):
        return (
            None
            if name.partition(".")[0] in self.libraries
            else self.finder.find_spec(name, path, target)
        )

    def __getattr__(self, name):
        return getattr(self.finder, name)


@pytest.fixture
def hide(monkeypatch):
    """Make libraries look as if they were not installed."""

    def hide(*libraries):
        for name in list(sys.modules):
            if name.partition(".")[0] in libraries:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(
            sys, "meta_path", [Hiding(finder, libraries) for finder in sys.meta_path]
        )

    return hide


def imported(tree):
    """Yield every import of a module with the names that it takes: (module, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module, alias.name


def test_nothing_but_extras_imports_what_the_base_install_lacks():
    base = {Requirement(text).name for text in PROJECT["dependencies"]}
    known = {"yaml" if name == "pyyaml" else name for name in base} | {
        "tombola",
        *sys.stdlib_module_names,
    }
    for path in (ROOT / "src/tombola").rglob("*.py"):
        if path.name == "extras.py":
            continue
        for module, _ in imported(ast.parse(path.read_text())):
            assert module.partition(".")[0] in known, (
                f"{path} imports {module}: from tombola.ground.extras import it"
            )


def test_whatever_is_imported_from_extras_is_in_its_table():
    names = {module.rpartition(".")[2] for _, module in MODULES}
    own = {"extras", "EXTRAS", "MissingExtraError", "require", "versions"}
    for path in (ROOT / "src/tombola").rglob("*.py"):
        for module, name in imported(ast.parse(path.read_text())):
            assert module != "tombola.ground.extras" or name in names | own, path


def test_the_table_and_the_project_name_the_same_libraries():
    declared = PROJECT["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        names = {DISTRIBUTIONS.get(module, module) for module in modules}
        assert {Requirement(text).name for text in declared[extra]} == names
    [everything] = declared["all"]
    assert Requirement(everything).extras == set(EXTRAS)
    [own] = [text for text in declared["dev"] if text.startswith("tombola[")]
    assert "all" in Requirement(own).extras


@pytest.mark.parametrize(("extra", "module"), MODULES)
def test_a_library_that_is_missing_is_told_in_one_line_with_its_extra(extra, module, hide):
    library = module.partition(".")[0]
    hide(library)
    with pytest.raises(MissingExtraError) as caught:
        getattr(extras, module.rpartition(".")[2])
    assert (
        str(caught.value)
        == f"{library} is not installed; it comes with: pip install 'tombola[{extra}]'"
    )
    with pytest.raises(MissingExtraError, match=rf"tombola\[{extra}\]"):
        extras.require(extra)


@pytest.mark.parametrize("module", [module for _, module in MODULES])
def test_a_library_that_is_there_is_the_library(module, monkeypatch):
    library = types.ModuleType(module)
    monkeypatch.setitem(sys.modules, module, library)
    assert getattr(extras, module.rpartition(".")[2]) is library


def test_what_a_library_itself_lacks_is_not_taken_for_the_library(tmp_path, monkeypatch):
    Path(tmp_path, "shaky.py").write_text("import what_shaky_needs")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXTRAS, "report", ("shaky",))
    with pytest.raises(ModuleNotFoundError, match="what_shaky_needs") as caught:
        extras.shaky  # noqa: B018
    assert not isinstance(caught.value, MissingExtraError)


def test_extras_has_no_other_attribute():
    with pytest.raises(AttributeError, match="nothing"):
        extras.nothing  # noqa: B018
    with pytest.raises(ImportError, match="nothing"):
        exec("from tombola.ground.extras import nothing")


def test_the_versions_of_what_is_installed_are_told():
    found = extras.versions(["tombola", "numpy", "nowhere"])
    assert found == {name: importlib.metadata.version(name) for name in ("tombola", "numpy")}


def test_functions_that_need_an_extra_name_it(hide, tmp_path):
    from tombola import data
    from tombola.evidence import statistics
    from tombola.models import building
    from tombola.records.records import Records

    hide("sklearn", "torchvision", "scipy", "pandas")
    for call, extra in (
        (data.digits, "data"),
        (lambda: data.mnist(root=tmp_path), "data"),
        (lambda: data.cifar10(root=tmp_path, download=False), "data"),
        (lambda: building.build("torchvision:resnet18", 10, (3, 32, 32), seed=0), "data"),
        (lambda: statistics.paired([1.0, 2.0, 3.0]), "report"),
        (Records(tmp_path / "records.jsonl").to_frame, "report"),
    ):
        with pytest.raises(MissingExtraError, match=rf"tombola\[{extra}\]"):
            call()


@pytest.mark.parametrize("library", ["altair", "scipy", "vl_convert"])
def test_a_run_without_the_report_extra_is_refused_before_anything_is_trained(
    library, hide, tmp_path
):
    from tombola.schema.recipe import parse

    recipe = parse(
        {
            "name": "x",
            "data": "synthetic",
            "training": {"epochs": 1},
            "arms": {"dense": {"method": "dense"}},
        }
    )
    hide(library)
    with pytest.raises(MissingExtraError, match=rf"^{library} is not installed"):
        tombola.run(recipe, runs=tmp_path / "runs")
    assert not Path(tmp_path, "runs").exists()
