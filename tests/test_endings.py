"""Endings: why an arm stopped stands in the run folder as data; folders of before have the
sentence alone.
"""

import json

import pytest
from tests.test_arms import recipe

from tombola.experiments.experiment import run
from tombola.folder.contents import check_endings
from tombola.folder.runs import Run
from tombola.ground.endings import End, Ending
from tombola.ground.errors import DamagedError

ARMS = {
    "lth": {"method": "lth", "rate": 0.2},
    "fast": {"method": "lth", "rate": 0.9, "scope": "per_layer"},
    "random": {"method": "random_ticket", "source": "lth"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run in which one arm cuts a layer away."""
    made = recipe(
        ARMS,
        until={"rounds": 4},
        data={"name": "digits", "subset": 200},
        model={"name": "mlp", "hidden": [6]},
        training={"lr": 0.05, "epochs": 1},
        prunable="all",
    )
    return run(made, runs=tmp_path_factory.mktemp("endings"), workers=1).folder


def test_a_collapse_is_written_down_with_its_round_and_layers(folder):
    ending = Run(folder).ending("fast", 0)
    said = json.loads((folder / "machine/state.json").read_text())["fast/0"]["end"]
    assert said["cause"] == "collapsed"
    assert ending.collapsed == (said["round"], tuple(said["layers"]))
    assert ending.why == str(End.collapsed(said["round"], said["layers"]))
    assert said["round"] == ending.rounds + 1


def test_an_arm_that_came_to_its_goal_says_nothing(folder):
    states = json.loads((folder / "machine/state.json").read_text())
    assert "end" not in states["lth/0"]
    assert Run(folder).ending("lth", 0).collapsed is None


def test_data_and_the_sentence_of_before_say_the_same():
    end = End.collapsed(7, ["a.weight", "b.weight"]).missing((0.1,), 0.25)
    now, before = (Ending("finished", str(end), 6, {}, end=data) for data in (end.to_dict(), {}))
    assert now.collapsed == before.collapsed == (7, ("a.weight", "b.weight"))
    assert Ending("finished", "", 3, {}, end=End("worse", "w", 3).to_dict()).collapsed is None
    assert str(end).endswith("; no round reaches 0.1 of evaluate_at; the last one leaves 0.25")
    assert (
        End(**end.to_dict() | {"layers": end.layers, "missed": end.missed, "text": str(end)}) == end
    )


def test_words_of_ones_own_are_an_end_and_nothing_is_none():
    assert End.of("enough") == End("said", "enough")
    assert not End.of(None)
    assert End.of(End("worse", "w", 3)).round == 3


@pytest.mark.parametrize(
    "end", [3, {"cause": 1}, {"layers": "a"}, {"cause": "collapsed", "round": 2}, {"round": "2"}]
)
def test_an_end_that_was_damaged_is_refused(end, tmp_path):
    with pytest.raises(DamagedError, match="damaged"):
        check_endings(tmp_path / "state.json", {"lth/0": {"state": "finished", "end": end}})
