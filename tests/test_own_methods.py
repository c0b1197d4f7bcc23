"""Methods of the user's own: two of them, in a file outside the package, from a recipe to a
report; and what breaks.
"""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from tests import forks
from tests.layouts import ticket_file
from tests.test_bombs import refused
from tests.test_own_code import own  # noqa: F401 - a fixture

from tombola import methods
from tombola.experiments import experiment
from tombola.experiments.experiment import foresee, plan, run
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.methods.own import Recorded, facts_of
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

OUTSIDE = Path(__file__).parent / "outside"
SOURCE = (OUTSIDE / "method.py").read_text() + (OUTSIDE / "control.py").read_text()
WHOLE = {
    "name": "own", "data": {"name": "digits", "subset": 400}, "model": {"name": "mlp", "hidden": [20, 10]},
    "training": {"lr": 0.05, "epochs": 1}, "until": {"rounds": 3}, "rewind": 2, "verdict": {"margin": 0.05},
}  # fmt: skip


def recipe(module, **changes):
    arms = {
        "layers": {"method": f"{module}:LayerByLayer", "share": 0.4},
        "mirrored": {"method": f"{module}:Mirrored", "source": "layers"},
        "lth": {"method": "lth", "rate": 0.2},
    }
    return parse(WHOLE | {"arms": arms} | changes)


@pytest.fixture
def module(own):  # noqa: F811
    return own(SOURCE, "mine")


def ticket(done, arm, index):
    return Ticket.load(ticket_file(done.folder, arm, 0, index))


def own_masks(done):
    return [record["mask_digest"] for record in done.records if record["arm"] != "lth"]


def test_a_search_and_a_control_go_from_a_recipe_to_a_report(module, tmp_path):
    made = recipe(module)
    ahead = foresee(plan(made), runs=tmp_path)
    done = run(made, runs=tmp_path, workers=1)
    assert done.complete, done.notes
    found = [record for record in done.records if record["arm"] == "layers"]
    # By hand: 64 x 20, 20 x 10 weights; each layer in its turn keeps two fifths.
    assert [record["kept"] for record in found] == [1480, 1480 - 768, 1480 - 768 - 120]
    assert all(record["evaluated"] for record in found)
    assert [
        ticket(done, arm, 1).origin["rewind_step"] for arm in ("layers", "mirrored", "lth")
    ] == [2, 2, 2]
    first, turned = ticket(done, "layers", 2).mask, ticket(done, "mirrored", 2).mask
    assert all(torch.equal(first[name].flip(0), turned[name]) for name in first)
    # The rehearsal let the same method find its rounds.
    trained = {cost["training"] for record in done.records for cost in record["costs"]}
    assert ahead.trainings == len(trained)
    assert ahead.rounds["layers"][0] == 2
    assert done.asked.controls["layers"] == ("mirrored",)
    page = (done.folder / "report.html").read_text()
    assert "layers" in page
    assert "mirrored" in page
    assert "every layer is pruned" in " ".join(done.notes)


def test_its_definition_is_its_own_options_alone_and_the_run_goes_on(module, tmp_path):
    done = run(recipe(module, until={"rounds": 1}), runs=tmp_path, workers=1)
    definitions = Run(done.folder).definitions()
    assert definitions["layers"] == {"method": "mine:LayerByLayer", "share": 0.4}
    assert definitions["mirrored"] == {
        "method": "mine:Mirrored",
        "of": "layers",
        "source": definitions["layers"],
    }
    went = run(recipe(module), runs=tmp_path, workers=1)
    whole = run(recipe(module), runs=tmp_path / "whole", workers=1)
    assert own_masks(went) == own_masks(whole)
    again = run(recipe(module), runs=tmp_path, workers=2)
    assert again.complete
    changed = recipe(module, arms={"layers": {"method": f"{module}:LayerByLayer", "share": 0.3}})
    with pytest.raises(ConfigError, match=r"layers.*share was 0.4, is 0.3"):
        run(changed, runs=tmp_path, workers=1)


def test_a_run_is_reported_where_the_methods_are_not(module, tmp_path, monkeypatch):
    done = run(recipe(module), runs=tmp_path, workers=1)
    monkeypatch.delitem(sys.modules, module)
    Path(f"{module}.py").unlink()
    read = Run(done.folder)
    assert read.recipe.to_dict() == yaml.safe_load((done.folder / "recipe.yaml").read_text())
    report = experiment.report(read)
    assert report.asked.controls == done.asked.controls
    assert report.asked.made_of == {"mirrored": "layers"}
    assert report.notes == done.notes
    assert module not in sys.modules
    with pytest.raises(ConfigError, match="cannot import 'mine' of 'mine:LayerByLayer'"):
        parse(read.recipe.to_dict())


def test_a_folder_that_names_what_a_method_answered_as_it_was_once_called_is_read():
    old = {"by_itself": True, "apart": True}
    read = Recorded.read("mine:Method", {}, old, "arms.a")
    assert (read.independent_tickets, read.independent_partitions) == (True, True)
    read = Recorded.read("mine:Method", {}, facts_of(read), "arms.a")
    assert (read.independent_tickets, read.independent_partitions) == (True, True)
    with pytest.raises(ConfigError, match=r"arms\.a\.apart is 'yes'"):
        Recorded.read("mine:Method", {}, {"apart": "yes"}, "arms.a")


def test_the_command_line_runs_a_recipe_of_the_folder_it_is_called_in(module, tmp_path):
    made = recipe(module, until={"rounds": 1}, verdict={}).to_dict()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made))
    done = forks.call("run", "recipe.yaml", "--workers", "2", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/tickets/mirrored/replicate-0/*"))) == 1


def test_a_ticket_s_word_for_its_method_runs_no_code(own, monkeypatch):  # noqa: F811
    name = own("raise SystemExit('imported')", "dangerous")
    assert methods.shipped(f"{name}:Control") is None
    assert name not in sys.modules


BROKEN = """
from dataclasses import dataclass
from tombola import Round
from tombola.methods import Following, Method

class NoMethod:
    pass

@dataclass(frozen=True, kw_only=True)
class OldName(Method):
    by_itself = True

def function(): ...

@dataclass(frozen=True, kw_only=True)
class Raises(Method):
    def rounds(self, setting, done):
        raise KeyError("here")

@dataclass(frozen=True, kw_only=True)
class Exits(Method):
    def rounds(self, setting, done):
        yield Round.of(1, setting.point)
        raise SystemExit(3)

@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    def rounds(self, setting, done):
        return iter(())

@dataclass(frozen=True, kw_only=True)
class NoRound(Method):
    def rounds(self, setting, done):
        yield setting.mask

@dataclass(frozen=True, kw_only=True)
class NoRounds(Method):
    pass

@dataclass(frozen=True, kw_only=True)
class Skips(Method):
    def rounds(self, setting, done):
        yield Round.of(2, setting.point)

@dataclass(frozen=True, kw_only=True)
class Names(Method):
    def rounds(self, setting, done):
        mask = {f"my_{name}": keep for name, keep in setting.mask.items()}
        yield Round(1, mask, [], [], [], setting.point, [], 0.0, 0.0)

@dataclass(frozen=True, kw_only=True)
class Numbers(Method):
    def rounds(self, setting, done):
        mask = {name: keep.float() for name, keep in setting.mask.items()}
        yield Round(1, mask, [], [], [], setting.point, [], 0.0, 0.0)

@dataclass(frozen=True, kw_only=True)
class Evaluates(Method):
    def rounds(self, setting, done):
        yield Round.of(1, setting.point)
    def evaluation(self, setting, index, job):
        return index

@dataclass(frozen=True, kw_only=True)
class Checks(Method):
    def check_ground(self, ground):
        ground.nothing

@dataclass(frozen=True, kw_only=True)
class Options(Method):
    strength: float = 0.5

@dataclass(frozen=True, kw_only=True)
class Followers(Method):
    def followers(self):
        return self.nothing

@dataclass(frozen=True, kw_only=True)
class Goals(Method):
    @property
    def goals(self):
        return self.nothing

@dataclass(frozen=True, kw_only=True)
class Lowest(Method):
    def lowest(self, rounds, density, begins):
        return self.nothing

@dataclass(frozen=True, kw_only=True)
class OwnScope(Method):
    def own_scope(self, task):
        return self.nothing

@dataclass(frozen=True, kw_only=True)
class TrainedOn(Method):
    def trained_on(self, ground):
        return self.nothing

@dataclass(frozen=True, kw_only=True)
class WeightsScored(Method):
    def weights_scored(self, training):
        return self.nothing
"""


PROMISES = {
    "Raises": "'mine:Raises' failed: KeyError: 'here' (mine.py, line ",
    "Exits": "'mine:Exits' failed: SystemExit: 3 (mine.py, line ",
    "Nothing": "'mine:Nothing' yields no rounds",
    "NoRound": "'mine:NoRound' yields 'dict'; a round must be a tombola.Round",
    "NoRounds": "'mine:NoRounds' failed: NotImplementedError: mine:NoRounds has no rounds",
    "Skips": "'mine:Skips' yields round 2 where round 1 is expected",
    "Names": "'mine:Names' yields a mask in round 1 that names other parameters: ",
    "Numbers": "'mine:Numbers' yields a mask in round 1 whose 'fc1.weight' is not a boolean tensor",
    "Evaluates": "'mine:Evaluates' returns 'int' as the evaluation of round 1; it must "
    "be a tombola.Job",
}


def test_methods_that_break_their_promises_fail_their_arms_alone(own, tmp_path):  # noqa: F811
    module = own(BROKEN, "mine")
    arms = {name.lower(): {"method": f"{module}:{name}"} for name in PROMISES} | {
        "lth": {"method": "lth", "rate": 0.2}
    }
    done = run(
        parse(WHOLE | {"arms": arms, "until": {"rounds": 2}, "rewind": 0}), runs=tmp_path, workers=1
    )
    for name, said in PROMISES.items():
        ending = Run(done.folder).ending(name.lower(), 0)
        assert ending.state == "failed", name
        assert said in ending.why
        assert ending.why.endswith("(tombola list arms)")
        assert "\n" not in ending.why
    assert Run(done.folder).ending("lth", 0).state == "finished"


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (
            {"method": "mine:Checks"},
            "'mine:Checks' failed: AttributeError: 'Ground' object has no attribute 'nothing'",
        ),
        ({"method": "mine:Option"}, "'mine' has no function 'Option'. Did you mean 'Options'?"),
        (
            {"method": "mine:NoMethod"},
            "is 'mine:NoMethod', which does not derive from tombola.methods.Method; ",
        ),
        (
            {"method": "mine:function"},
            "is 'mine:function', which does not derive from tombola.methods.Method; ",
        ),
        (
            {"method": "mine:OldName"},
            "is 'mine:OldName', which sets by_itself; it is now independent_tickets",
        ),
        ({"method": "nowhere:Method"}, "cannot import 'nowhere' of 'nowhere:Method'"),
        (
            {"method": "mine:Options", "strenght": 1},
            "there is no 'arms.a.strenght'; arms.a has: strength. Did you mean",
        ),
        (
            {"method": "mine:Options", "strength": "much"},
            "arms.a.strength is 'much'; it should be a number",
        ),
        (
            {"method": "mine:Options", "rate": 0.2},
            "arms.a.rate has no meaning with method: mine:Options, which takes",
        ),
    ],
)
def test_what_is_wrong_before_anything_runs_is_refused_in_one_line(own, arm, said):  # noqa: F811
    own(BROKEN, "mine")
    with pytest.raises(ConfigError) as caught:
        plan(parse(WHOLE | {"arms": {"a": arm}}))
    assert said in str(caught.value)
    refused(caught.value)


@pytest.mark.parametrize(
    "name", ["Followers", "Goals", "Lowest", "OwnScope", "TrainedOn", "WeightsScored"]
)
def test_whatever_is_asked_before_a_run_its_answer_is_held_to_one_line(own, tmp_path, name):  # noqa: F811
    own(BROKEN, "mine")
    arms = {"a": {"method": f"mine:{name}"}, "control": {"method": "random_ticket", "source": "a"}}
    with pytest.raises(ConfigError) as caught:
        foresee(plan(parse(WHOLE | {"arms": arms, "evaluate_at": [0.5]})), runs=tmp_path)
    assert (
        f"'mine:{name}' failed: AttributeError: '{name}' object has no attribute 'nothing'"
        in str(caught.value)
    )
    refused(caught.value)
