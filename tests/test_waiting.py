"""Waiting: what takes long says so, on standard error, and what is done soon says nothing."""

import threading
import time

import pytest
import torch

from tombola import ticket_format
from tombola.commands.cli import main
from tombola.experiments import experiment
from tombola.experiments.progress import Display
from tombola.ground import waiting
from tombola.tickets import Ticket

PATIENCE = 60  # seconds; a busy machine is no fault


def until(condition):
    late = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < late:
        time.sleep(0.005)


@pytest.fixture
def at_once(monkeypatch):
    """Have every wait told of at once."""
    monkeypatch.setattr(waiting, "FIRST", 0.001)
    monkeypatch.setattr(waiting, "_PAUSE", 0.001)


def slow(function, told):
    """Return a function that takes until a line has been told."""

    def slowed(*arguments, **options):
        until(lambda: told)
        return function(*arguments, **options)

    return slowed


@pytest.mark.usefixtures("at_once")
def test_what_takes_long_is_told_again_and_again_and_not_afterwards():
    lines = []
    with waiting.told("reading large.npz", lines.append):
        until(lambda: len(lines) >= 3)
    told = len(lines)
    assert told >= 3
    assert set(lines) == {"reading large.npz: 0 s so far"}
    time.sleep(0.02)
    assert len(lines) == told


def test_what_is_done_soon_is_not_told():
    lines, before = [], threading.active_count()
    with waiting.told("adding", lines.append):
        pass
    assert not lines
    assert threading.active_count() == before


def test_a_wait_is_told_on_standard_error(capsys):
    waiting.say("reading")
    assert capsys.readouterr() == ("", "reading\n")


@pytest.mark.usefixtures("at_once")
def test_an_error_ends_the_wait_and_a_listener_that_fails_does_not_end_the_work():
    def deaf(_):
        heard.append(1)
        raise BrokenPipeError

    def divide():
        with waiting.told("dividing", deaf):
            until(lambda: heard)
            return 1 / 0

    heard = []
    with pytest.raises(ZeroDivisionError):
        divide()
    assert heard


@pytest.fixture
def told(monkeypatch):
    """Collect the lines that commands tell while they wait."""
    lines = []
    monkeypatch.setattr(waiting, "FIRST", 0.001)
    monkeypatch.setattr(waiting, "say", lines.append)
    monkeypatch.setattr(Display, "say", lambda _, text: lines.append(text))
    return lines


@pytest.mark.parametrize("action", ["info", "verify", "export"])
def test_a_large_ticket_says_that_it_is_being_read(action, tmp_path, monkeypatch, told):
    path = tmp_path / "ticket.safetensors"
    Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2)}, {"arm": "lth"}).save(path)
    monkeypatch.setattr(ticket_format, "verify", slow(ticket_format.verify, told))
    assert main(["ticket", action, str(path)]) == 0
    assert told[0].startswith(
        f"{'exporting' if action == 'export' else 'checking'} {path}: 0 s so far"
    )


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_large_data_says_that_it_is_being_loaded(more, tmp_path, monkeypatch, told):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\ndata: {name: synthetic, train: 60, test: 20}\nmodel: {name: mlp, hidden: [4]}\n"
        "training: {steps: 1}\narms: {dense: {method: dense}}\n"
    )
    monkeypatch.setattr(experiment, "make_task", slow(experiment.make_task, told))
    assert (
        main(["run", str(recipe), "--runs", str(tmp_path / "runs"), "--workers", "1", *more]) == 0
    )
    assert told[0].startswith("loading the data synthetic: 0 s so far")
