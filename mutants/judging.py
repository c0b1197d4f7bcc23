"""Judging: whether the tests of a module see a fault in it.

Each fault has a process of its own, forked from one that has torch behind it: importing torch would
take longer than most tests do.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from mutants.faults import Fault

HOME = Path(__file__).resolve().parent.parent
SOURCE = HOME / "src" / "tombola"
PATIENCE = 180  # seconds of a processor; a fault that makes a loop endless is seen
# Modules of the core whose tests are in files of other names.
_TESTS = {
    "ground/files": ("test_digests", "test_storage"),
    "training/jobs": ("test_jobs", "test_training"),
    "kernels/_eager": ("test_kernels", "test_tracing"),
    "kernels/_traced": ("test_kernels", "test_tracing"),
    "kernels/anatomy": ("test_tracing",),
    "kernels/finding": ("test_kernels",),
    "kernels/recording": ("test_tracing",),
    "kernels/updates": ("test_steps", "test_tracing"),
    "masks/blocks": ("test_n_of_m",),
    "masks/schedules": ("test_gradual", "test_regrowth"),
    "masks/scopes/_erdos_renyi": ("test_scopes",),
    "masks/scopes/_erk": ("test_scopes",),
    "masks/scopes/_half_output": ("test_scopes",),
    "masks/scopes/_n_of_m": ("test_n_of_m",),
    "masks/scopes/_per_kind": ("test_scopes",),
    "masks/scopes/groups": ("test_scopes",),
    "masks/scopes/shapes": ("test_scopes",),
    "scores/_fisher": ("test_data_scores",),
    "scores/_grasp": ("test_data_scores",),
    "scores/_lamp": ("test_scores",),
    "scores/_min_rank": ("test_scores",),
    "scores/_obd": ("test_data_scores",),
    "scores/_snip": ("test_data_scores",),
    "scores/_synflow": ("test_data_scores",),
    "scores/_taylor": ("test_data_scores",),
    "scores/examples": ("test_data_scores",),
    "scores/gradients": ("test_data_scores",),
    "scores/lecun": ("test_data_scores",),
    "scores/weights": ("test_scores",),
    "training/gathering": ("test_movement",),
    "training/statistics": ("test_at_start", "test_connectivity"),
    "data/partitions": ("test_partitions", "test_task"),
    "masks/rates": ("test_rates", "test_pruning"),
    "records/records": ("test_experiment",),
    "search/rounds": ("test_search",),
    "training/loop": ("test_training",),
    "masks/selection": ("test_selection", "test_pruning"),
    "ground/settings": ("test_training",),
    "tasks/evaluation": ("test_evaluation",),
    "tickets": ("test_tickets", "test_states"),
    "ticket_format/bits": ("test_gaps",),
    "ticket_format/contents": ("test_tickets", "test_gaps"),
    "ticket_format/layout": ("test_tickets", "test_digests"),
    "ticket_format/reading": ("test_tickets",),
    "ticket_format/texts": ("test_tickets", "test_digests"),
    "ticket_format/writing": ("test_tickets",),
}
# The core: modules in which a fault changes a number that somebody reads, by room.
_ROOMS = {
    "ground": ("seeds", "settings"),
    "ticket_format": ("bits", "contents", "layout", "reading", "texts", "writing"),
    "masks": (
        "blocks",
        "controls",
        "digests",
        "masks",
        "pruning",
        "rates",
        "schedules",
        "scopes/_erdos_renyi",
        "scopes/_erk",
        "scopes/_half_output",
        "scopes/_n_of_m",
        "scopes/_per_kind",
        "scopes/groups",
        "scopes/shapes",
        "selection",
    ),
    "scores": (
        "_fisher",
        "_grasp",
        "_lamp",
        "_min_rank",
        "_obd",
        "_snip",
        "_synflow",
        "_taylor",
        "examples",
        "gradients",
        "lecun",
        "weights",
    ),
    "data": ("batches", "partitions", "splits"),
    "models": ("flops",),
    "kernels": ("_eager", "_traced", "anatomy", "finding", "recording", "updates"),
    "tasks": ("evaluation",),
    "training": (
        "during",
        "gathering",
        "gradual",
        "invariants",
        "jobs",
        "latent",
        "loop",
        "regrowth",
        "statistics",
    ),
    "search": ("connectivity", "cutting", "rounds"),
    "evidence": ("comparisons", "ledger", "overlap", "statistics", "verdicts"),
    "": ("tickets",),
}
CORE: tuple[str, ...] = ()
for _room, _modules in _ROOMS.items():
    CORE += tuple(f"{_room}/{module}".removeprefix("/") for module in _modules)


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: whether a test saw it, and the seconds that took."""

    fault: Fault
    caught: bool
    how: str
    seconds: float


def tests_of(module: str) -> list[str]:
    """Return the files whose tests a fault of a module must not pass: its own, and its examples."""
    names = _TESTS.get(module, (f"test_{module.rpartition('/')[2]}",))
    return [*(f"tests/{name}.py" for name in names), f"src/tombola/{module}.py"]


class _Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module with a fault in it; a plugin of pytest."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self._name, self._path, self._code = name, path, code

    def pytest_configure(self) -> None:
        """Come before pytest's own reader of modules, which is installed by now."""
        assert self._name not in sys.modules
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self._path))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(self._code, module.__dict__)


def _tests(module: str, fault: Fault | None) -> int:
    """Run the tests of a module, with a fault or without, and return pytest's exit code."""
    import pytest

    plugins = []
    if fault is not None:
        path = SOURCE / f"{module}.py"
        plugins.append(_Faulty(f"tombola.{module.replace('/', '.')}", path, fault.code(path)))
    options = ["-x", "-q", "--no-header", "-n", "0", "-m", "not slow and not gpu"]
    return int(pytest.main([*options, *tests_of(module)], plugins))


def _child(module: str, fault: Fault | None) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.chdir(HOME)
    os._exit(_tests(module, fault))


def judge(module: str, fault: Fault | None) -> tuple[int | None, float]:
    """Run a module's tests in a process of their own.

    Returns:
        Its exit code, ``None`` where they took too long; and the seconds.
    """
    began = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(module, fault))
    process.start()
    while process.is_alive() and _used(process.pid) < PATIENCE:
        process.join(0.2)
    too_long = process.is_alive()
    if too_long:
        process.kill()
        process.join()
    return None if too_long else process.exitcode, time.monotonic() - began


def _used(pid: int | None) -> float:
    """Return the processor seconds of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def verdict_on(fault: Fault) -> Verdict:
    """Say whether a test sees a fault."""
    code, seconds = judge(fault.file.removesuffix(".py"), fault)
    if code is None:
        how = "a test took too long"
    elif code < 0:
        how = f"the process died ({signal.Signals(-code).name})"
    else:
        how = "a test failed" if code else "alive"
    return Verdict(fault, code != 0, how, seconds)
