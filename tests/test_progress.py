"""Progress: what a run says while it works, on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from tombola.experiments.estimate import Estimate
from tombola.experiments.progress import Display

RECORD = {
    "arm": "lth",
    "replicate": 1,
    "round": 3,
    "density": 0.512,
    "test_accuracy": 0.975,
    "round_seconds": 2.5,
    "invariant_seconds": 0.01,
}
AHEAD = Estimate(
    steps=400, trainings=4, fewest=4, most=4, seconds=120, bounded=True, epochs=10, bytes=1_500_000
)


def display(**options):
    """Return a display and the text that it writes to."""
    text = io.StringIO()
    return Display(console=Console(file=text, width=120, highlight=False, **options)), text


@pytest.mark.parametrize("width", [80, 120])
def test_bar_percent_and_time_are_whole_on_a_narrow_terminal(width):
    text = io.StringIO()
    shown = Display(
        console=Console(
            file=text, width=width, highlight=False, force_terminal=True, color_system=None
        )
    )
    shown.start("digits", AHEAD)
    shown.label("d", "replicate 3 · random-ticket · round 13, evaluation of the ticket")
    shown.progress("d", 45, 100)
    text.truncate(0)
    shown._bars.refresh()
    shown.stop()
    lines = [line for line in text.getvalue().replace("\r", "\n").splitlines() if "%" in line]
    whole, training = lines[-2:]
    assert "11% 0:00:00" in whole
    assert "45% 0:00:0" in training
    assert " left" in whole
    assert "replicate 3 · random-ticket" in training
    assert "…" not in whole


def test_checks_are_told_where_they_take_time():
    shown, text = display()
    shown.result({**RECORD, "invariant_seconds": 0.31})
    assert "2.5 s, checks 0.3 s" in text.getvalue()
    assert len(text.getvalue().splitlines()[0]) <= 110


def test_elsewhere_than_on_a_terminal_lines_are_plain_and_whole():
    shown, text = display()
    shown.start("mine", AHEAD)
    shown.label("d", "replicate 1 · lth · round 3")
    shown.progress("d", 50, 100)
    shown.result(RECORD)
    shown.stop()
    first, second = text.getvalue().splitlines()
    assert first == "mine: 4 trainings, 400 steps, about 2 min, 1.5 MB on the disk"
    assert second.startswith("0:00  replicate 1 · lth · round 3")
    assert "density  51.20%   test accuracy 97.50%   2.5 s   " in second
    assert "\x1b" not in text.getvalue()


def test_past_what_was_foreseen_no_time_left_is_told():
    shown, text = display()
    shown.start("mine", AHEAD)
    for number in range(4):
        shown.progress(f"d{number}", 100, 100)
    shown.result(RECORD)
    assert text.getvalue().endswith("test accuracy 97.50%   2.5 s\n")


def test_a_terminal_shows_replicate_arm_round_epoch_and_the_time_left():
    shown, text = display(force_terminal=True)
    shown.start("mine", AHEAD)
    shown.label("d", "replicate 1 · lth · round 3")
    shown.progress("d", 45, 100)
    shown._bars.refresh()
    seen = text.getvalue()
    assert "replicate 1 · lth · round 3 · epoch 5 of 10" in seen
    assert "45%" in seen
    assert " left" in seen
    shown.progress("d", 100, 100)
    # a training that is done leaves
    assert [task.description for task in shown._bars.tasks] == ["mine"]
    shown.stop()


def test_the_first_name_of_a_training_that_several_arms_share_stays():
    shown, text = display(force_terminal=True)
    shown.start("mine", AHEAD)
    shown.label("d", "replicate 0 · lth · round 1")
    shown.label("d", "replicate 0 · matched · dense")
    shown.progress("d", 1, 100)
    shown._bars.refresh()
    assert "lth" in text.getvalue()
    assert "matched" not in text.getvalue()
    shown.stop()


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (Estimate(100, 1, 1, 1, 1.0, True, 1.0, 0), "x: 1 training, 100 steps, about 1 s"),
        (
            Estimate(100, 10, 10, 10, 50.0, False, 1.0, 0),
            "x: the number of rounds is not known beforehand; about 5 s a training",
        ),
        (
            Estimate(100, 2, 2, 2, float("nan"), True, 1.0, 0),
            "x: 2 trainings, 100 steps, about an unknown time",
        ),
    ],
)
def test_the_estimate_is_told_first(ahead, said):
    shown, text = display()
    shown.start("x", ahead)
    assert text.getvalue() == said + "\n"


def test_quiet_says_nothing():
    text = io.StringIO()
    shown = Display(quiet=True, console=Console(file=text, force_terminal=True))
    shown.start("x", AHEAD)
    shown.label("d", "x")
    shown.progress("d", 1, 2)
    shown.result(RECORD)
    shown.say("x")
    shown.stop()
    assert text.getvalue() == ""
