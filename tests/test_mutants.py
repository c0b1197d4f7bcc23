"""Faults made on purpose: which are drawn, and that the tests of a module are asked about them."""

import sys
from types import ModuleType

import pytest

from mutants import __main__ as command
from mutants import judging
from mutants.faults import draw, faults_of
from mutants.reasons import REASONS
from tombola.masks import rates


@pytest.mark.parametrize("module", judging.CORE)
def test_every_module_of_the_core_is_there_with_tests_of_its_own(module):
    assert (judging.SOURCE / f"{module}.py").is_file()
    for path in judging.tests_of(module):
        assert (judging.HOME / path).is_file(), path


def test_a_seed_draws_the_same_faults_each_on_a_line_of_its_own():
    files = [judging.SOURCE / "masks/rates.py", judging.SOURCE / "masks/pruning.py"]
    drawn = draw(files, 20, seed=3)
    assert drawn == draw(files, 20, seed=3)
    assert drawn != draw(files, 20, seed=4)
    assert len({(fault.file, fault.line) for fault in drawn}) == 20


def test_a_fault_is_put_where_it_says_and_changes_what_the_module_does(monkeypatch):
    path = judging.SOURCE / "masks/rates.py"
    fault = next(fault for fault in faults_of(path) if fault.before == "1 / rounds")
    assert fault.context in path.read_text()
    faulty = ModuleType("faulty_rates")
    # where dataclasses look for their types
    monkeypatch.setitem(sys.modules, faulty.__name__, faulty)
    exec(fault.code(path), vars(faulty))
    assert rates.rate_to_reach(0.1, 3) == 1 - 0.1 ** (1 / 3)
    assert faulty.rate_to_reach(0.1, 3) == 1 - 0.1**3


def test_a_fault_that_lives_needs_a_reason_for_its_own_line(monkeypatch, capsys):
    monkeypatch.setattr(judging, "judge", lambda *_: (0, 0.0))
    arguments = ["--modules", "masks/rates", "--number", "2"]
    assert command.main(arguments) == 1
    assert "2 faults, seed 0: 0 caught, 2 alive" in capsys.readouterr().out
    drawn = draw([judging.SOURCE / "masks/rates.py"], 2, 0)
    for fault in drawn:
        monkeypatch.setitem(REASONS, (fault.file, fault.context, fault.after), "it is only a test")
    assert command.main(arguments) == 0
    assert "it is only a test" in capsys.readouterr().out


def test_a_fault_that_a_test_sees_is_caught_and_none_is_seen_without_one():
    assert judging.judge("masks/scopes/_per_kind", None)[0] == 0
    faults = faults_of(judging.SOURCE / "masks/scopes/_per_kind.py")
    fault = next(fault for fault in faults if "kind.get(name) in" in fault.after)
    assert judging.verdict_on(fault).caught


def test_a_number_that_is_one_too_large_for_one_more_is_doubled(tmp_path):
    folder = tmp_path / "tombola"
    folder.mkdir()
    (folder / "large.py").write_text("most = 1e38\n")
    assert [fault.after for fault in faults_of(folder / "large.py")] == ["2e+38"]
