"""The public names: there, the same twice, never shadowed by a module, and quick to have."""

import importlib
import pkgutil
import subprocess
import sys
import types

import tombola


def test_every_public_name_is_the_same_twice_after_every_submodule_was_imported():
    for module in pkgutil.walk_packages(tombola.__path__, "tombola."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in tombola.__all__:
        first, second = getattr(tombola, name), getattr(tombola, name)
        assert first is second
        assert not isinstance(first, types.ModuleType), f"a module shadows tombola.{name}"
    assert set(tombola.__all__) <= set(dir(tombola))


def test_entries_of_catalogues_are_never_shadowed_by_their_modules():
    from tombola.catalogue import entries

    for package in ("tombola.data", "tombola.models", "tombola.scores"):
        module = importlib.import_module(package)
        for name in entries(package):
            assert callable(getattr(module, name)), f"{package}.{name}"
            assert getattr(module, name) is getattr(module, name)


def test_importing_tombola_imports_no_torch():
    code = "import sys, tombola, tombola.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_and_ticket_info_import_no_torch(tmp_path):
    import torch

    tombola.Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2)}, {}).save(tmp_path / "t.safetensors")
    for arguments in (
        ["--help"], ["run", "--help"], ["demo", "--help"], ["ticket", "info", str(tmp_path / "t.safetensors")],
        ["list"], ["list", "recipes"],
    ):  # fmt: skip
        code = (
            "import sys\nfrom tombola.cli import main\n"
            "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
            "sys.exit(7 if 'torch' in sys.modules else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stdout
