"""One contract for all methods: every card of every file is an arm of one run, which keeps what
a method promises.
"""

import itertools
import json
from pathlib import Path

import pytest
import yaml
from tests.layouts import KINDS
from tests.test_rehearsal import done_in

from tombola import methods
from tombola.commands.cli import main
from tombola.experiments.experiment import foresee, outlook, plan, run
from tombola.folder.identity import definition_of
from tombola.ground.errors import TrainingError
from tombola.masks.digests import digest_json
from tombola.masks.masks import nested
from tombola.records.records import timeless
from tombola.schema import arms
from tombola.schema.recipe import from_yaml, parse
from tombola.tickets import Ticket
from tombola.training.jobs import run_job

REWIND = 2
FOLLOWED = {
    "colt-2": {"method": "colt", "rate": 0.15},
    "lth": {"method": "lth", "rate": 0.2},
    "gradual": {"method": "gradual", "densities": [0.5, 0.2], "pace": {"every": 2}},
}
CARDS = methods.every_card()
# Of the cards of these days, what their arms' definitions have always been; a later card needs none
# here.
DIGESTS = json.loads((Path(__file__).parent / "method_digests.json").read_text())


def recipe(**changes):
    whole = {
        "name": "contract", "data": {"name": "digits", "subset": 320}, "model": {"name": "mlp", "hidden": [20, 10]},
        "training": {"lr": 0.05, "epochs": 1, "batch_size": 32}, "until": {"rounds": 2}, "rewind": REWIND,
    }  # fmt: skip
    made = dict(FOLLOWED)
    for card in CARDS:
        entry = from_yaml(card.entry, card.name)
        made[card.name] = entry | (
            {"pace": {"every": 2}} if entry.get("method") in ("gradual", "set", "rigl") else {}
        )
    return parse(whole | {"arms": made} | changes)


def tickets(folder):
    """Return a run's tickets by arm, in the order of their rounds."""
    found = {}
    for path in sorted(folder.glob("tickets/*/replicate-0/*.safetensors")):
        found.setdefault(path.parent.parent.name, []).append(Ticket.load(path))
    return found


def files(folder):
    contents = {}
    for kind in KINDS:
        for path in (folder / kind).rglob("*"):
            if path.is_file():
                contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return foresee(plan(recipe()), runs=tmp_path_factory.mktemp("nothing"))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    outcome = run(recipe(), runs=tmp_path_factory.mktemp("contract"), workers=1)
    assert outcome.complete, outcome.notes
    return outcome


@pytest.fixture(scope="module")
def found(done):
    return tickets(done.folder)


def test_a_rehearsal_tells_what_the_run_does(done, told):
    assert (told.trainings, told.steps, told.examples, told.flops) == done_in(done)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_an_arm_has_the_rounds_that_were_told(done, found, told, card):
    rounds, _ = told.rounds[card.name]
    assert rounds == len(found.get(card.name, []))
    arm = recipe().arms[card.name]
    assert (rounds > 0) == arm.has_tickets
    records = [record for record in done.records if record["arm"] == card.name]
    assert [record["round"] for record in records][: rounds + 1] == list(range(rounds + 1))
    assert all(record["evaluated"] and record["test_accuracy"] is not None for record in records)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_dry_run_names_its_cost(told, card, tmp_path):
    said = outlook(plan(recipe()), told, tmp_path)
    [arm] = [arm for arm in said["arms"] if arm["name"] == card.name]
    assert arm["method"] == recipe().arms[card.name].method
    assert arm["rounds"] == told.rounds[card.name][0]
    assert f"{told.trainings:,} trainings" in said["trainings"]
    assert f"{told.examples:,} training examples" in said["compute"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_masks_lie_within_each_other_or_the_method_says_why_not(found, card):
    method = recipe().arms[card.name]
    pairs = list(itertools.pairwise(ticket.mask for ticket in found.get(card.name, [])))
    odd = [list(nested(later, earlier)) for earlier, later in pairs]
    assert method.not_nested or not any(odd)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_tickets_start_where_the_method_says(done, found, card):
    made = recipe()
    arm = made.arms[card.name]
    first = {ticket.origin["rewind_step"] for ticket in found.get(card.name, [])}
    start = REWIND if arms.rewinds(arm, made.arms) else 0
    assert first <= {start}
    if arm.rewinds:  # then all of them start at one state, which is LTH's
        shared = found["lth"][0].rewind_digest
        assert {ticket.rewind_digest for ticket in found.get(card.name, [])} <= {shared}
    if arm.starts == "own":  # then none of them starts at the replicate's initial state
        initial = {record["rewind_digest"] for record in done.records if record["round"] == 0}
        assert not initial & {ticket.rewind_digest for ticket in found[card.name]}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_definition_is_what_it_always_was(card):
    made = recipe(arms=FOLLOWED | {"gradual": {"method": "gradual", "densities": [0.5, 0.2]}})
    whole = recipe(arms=made.arms | {"x": from_yaml(card.entry, card.name)})
    definition = definition_of(whole, "x")
    assert definition == definition_of(parse(whole.to_dict()), "x")
    if card.name in DIGESTS:
        assert digest_json(definition)[:12] == DIGESTS[card.name]
    else:
        own = definition.keys() - {"source", "method", "evaluate"}
        assert own <= set(whole.arms["x"].options())


@pytest.mark.parametrize("after", [pytest.param(5, marks=pytest.mark.slow), 24])
def test_a_run_that_was_killed_ends_as_one_that_was_not(done, tmp_path, monkeypatch, after):
    """After so many trainings nothing can be trained any more; then the run goes on."""
    trained = []

    def breaking(job, *args, **options):
        trained.append(job)
        if len(trained) > after:
            raise TrainingError("killed")
        return run_job(job, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("tombola.search.work.run_job", breaking)
        killed = run(recipe(), runs=tmp_path, workers=1)
    assert not killed.complete
    assert len(trained) > after
    went = run(recipe(), runs=tmp_path, workers=1)
    assert went.complete, went.notes
    assert [timeless(record) for record in went.records] == [
        timeless(record) for record in done.records
    ]
    straight, mine = files(done.folder), files(went.folder)
    assert straight.keys() == mine.keys()
    assert [path for path in straight if straight[path] != mine[path]] == []


def test_the_command_names_every_arm_and_what_the_run_costs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("contract.yaml").write_text(yaml.safe_dump(recipe().to_dict()))
    assert main(["run", "contract.yaml", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert all(card.name in printed for card in CARDS)
    assert " trainings" in printed
    assert " FLOP" in printed
