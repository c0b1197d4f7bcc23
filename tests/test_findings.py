"""The findings: the page is what its records say, by one rule, and the records are whole."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import stats
from tests.toys import without
from torch import nn

from findings import branches, claims, evidence, methods, sections
from findings.convert import convert
from findings.evidence import All, Statement, above, alike, answer, below, supported
from findings.page import anchor, page, wrapped
from findings.sections import SECTIONS
from tombola import Classification, Run
from tombola.data import synthetic
from tombola.data.partitions import WHOLE
from tombola.data.splits import split
from tombola.experiments.experiment import report
from tombola.folder.identity import run_digest
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.masks.schedules import PruningSchedule
from tombola.training.loop import train

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/findings"
PAGE = ROOT / "docs/findings.md"


# The page


def test_the_page_is_what_the_records_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "make findings writes it anew"


def test_every_link_of_the_page_leads_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    headings = {anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 40
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (ROOT / "docs" / link).exists(), link


def test_every_claim_is_asked_once_and_every_finding_is_on_the_page():
    found = [make() for make in (*claims.CLAIMS, *methods.CLAIMS)]
    assert len(found) == len({claim.name for claim in found}) == 43
    modules = {path.stem for path in Path(sections.__file__).parent.glob("[a-z]*.py")}
    assert {section.__name__.split(".")[-1] for section in SECTIONS} == modules


def test_a_filled_line_never_begins_like_an_item_of_a_list():
    text = " ".join(f"word{'x' * (number % 7)} - other" for number in range(60))
    lines = wrapped(text).splitlines()
    assert len(lines) > 5
    assert not any(line.lstrip().startswith(("- ", "+ ")) for line in lines)
    assert max(map(len, lines)) <= 120
    assert " ".join(lines) == text


# The rule


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        (above("", [1.0, 1.1, 1.2]), "shown"),
        (above("", [-1.0, -1.1, -1.2]), "contradicted"),
        (above("", [-1.0, 0.0, 1.0]), "undecided"),
        (above("", [-0.10, -0.11, -0.12], -0.2), "shown"),
        (above("", [-0.30, -0.31, -0.32], -0.2), "contradicted"),
        (below("", [-1.0, -1.1, -1.2]), "shown"),
        (below("", [1.0, 1.1, 1.2]), "contradicted"),
        (alike("", [0.10, 0.11, 0.12], 0.2), "shown"),
        (alike("", [0.30, 0.31, 0.32], 0.2), "contradicted"),
        (alike("", [-0.30, -0.31, -0.32], 0.2), "contradicted"),
        (alike("", [0.19, 0.20, 0.21], 0.2), "undecided"),
        (Statement("", (-1, -1, -2), "always below"), "shown"),
        (Statement("", (0, 0, 0), "always below"), "contradicted"),
        (Statement("", (0, -1, -1), "always below"), "undecided"),
        (Statement("", (1, 2, 3), "always above"), "shown"),
        (All((above("", [1.0, 1.1, 1.2]), above("", [-1.0, 0.0, 1.0]))), "undecided"),
        (All((above("", [1.0, 1.1, 1.2]), above("", [-1.0, -1.1, -1.2]))), "contradicted"),
        (All((above("", [1.0, 1.1, 1.2]), above("", [2.0, 2.1, 2.2]))), "shown"),
    ],
)
def test_a_statement_is_decided_by_its_interval(statement, state):
    assert statement.state == state


YES, NO, OPEN = (
    above("", [1.0, 1.1, 1.2]),
    above("", [-1.0, -1.1, -1.2]),
    above("", [-1.0, 0.0, 1.0]),
)


@pytest.mark.parametrize(
    ("statements", "word"),
    [
        ([YES, YES], "reproduced"),
        ([YES, OPEN], "reproduced in part"),
        ([YES, NO], "refuted in part"),
        ([YES, NO, OPEN], "refuted in part"),
        ([NO, OPEN], "refuted"),
        ([OPEN, OPEN], "not testable at this scale"),
    ],
)
def test_the_words_of_the_claims_follow_one_rule(statements, word):
    assert answer(statements) == word


def test_a_sentence_that_rests_on_something_is_refused_when_that_is_not_shown():
    assert supported("It is above.", YES) == "It is above."
    with pytest.raises(ValueError, match="undecided"):
        supported("It is above.", YES, OPEN)


# The numbers, worked out a second time: from the lines of JSON, without tombola


def raw(folder):
    # Runs that were packed later have what is for programs in a folder of its own.
    [path] = (FOLDER / folder).rglob("records.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def estimate(differences, digits=2):
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(len(differences))
    low, high = stats.t.interval(0.95, len(differences) - 1, mean, error)
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def interpolated(records, arm, density, of):
    """Give what each replicate has, linear in the logarithm of the density."""
    found = []
    for k in sorted({r["replicate"] for r in records}):
        own = {
            r["density"]: of(r)
            for r in records
            if (r["arm"], r["replicate"]) == (arm, k) and r["evaluated"]
        }
        at = sorted(own)
        found.append(np.interp(math.log(density), [math.log(d) for d in at], [own[d] for d in at]))
    return np.array(found)


def gap(record):
    return 100 * (record["train_accuracy"] - record["test_accuracy"])


@pytest.mark.parametrize(
    ("folder", "density", "expected"),
    [
        ("causes", 0.5, "+1.32 [+0.72, +1.92]"),
        ("cifar10-conv3", 0.2, "+0.66 [+0.34, +0.98]"),
        ("mnist-lenet5", 0.2, "+0.23 [+0.04, +0.42]"),
    ],
)
def test_h16_is_asked_of_convolutional_networks(folder, density, expected):
    records = raw(folder)
    difference = interpolated(records, "lth", density, gap) - interpolated(records, "lth", 1.0, gap)
    assert estimate(difference) == expected
    claim = claims.h16()
    assert expected in claim.seen
    assert claim.answer == "refuted"


@pytest.mark.parametrize(
    ("entry", "numbers"),
    [
        ("test_accuracy", ["+0.09 [-0.01, +0.19]", "+0.14 [-0.13, +0.41]"]),
        ("test_accuracy_early", ["-0.02 [-0.22, +0.18]", "-0.09 [-0.26, +0.07]"]),
    ],
)
def test_h4_compares_both_networks_by_the_same_rule(entry, numbers):
    of = {
        (r["arm"], r["replicate"], r["round"]): 100 * r[entry] for r in raw("mnist-lenet5-gradual")
    }
    for index, expected in enumerate(numbers, 1):
        difference = [of["as-trained", k, index] - of["gradual", k, 0] for k in range(5)]
        assert estimate(difference) == expected
        assert expected in claims.h4().seen
    assert claims.h4().answer == "not testable at this scale"


def test_c9_pools_both_directions():
    of = {
        (r["of"], r["found_on"], r["data"], r["replicate"]): 100 * r["test_accuracy"]
        for r in raw("lenet5-transfer/matrix")
    }
    ways = (("mnist", "fashion_mnist"), ("fashion_mnist", "mnist"))

    def ahead_of_random(k):
        """How far LTH is ahead of a random ticket, in points, over both directions."""
        return np.mean([of["lth", *way, k] - of["random-ticket", *way, k] for way in ways])

    ahead = [ahead_of_random(k) for k in range(3)]
    assert estimate(ahead) == "+0.77 [+0.19, +1.36]"
    claim = claims.c9()
    assert estimate(ahead) in claim.seen
    assert claim.answer == "reproduced in part"


def test_the_steps_of_h6_are_compared_by_their_logarithms():
    of = {
        (r["arm"], r["replicate"], r["round"]): r["early_stop_step"]
        for r in raw("mnist-lenet-300-100")
    }
    pairs = [(of["lth", k, 7], of["lth", k, 0]) for k in range(5)]
    assert max(dense for _, dense in pairs) == 8600
    assert all(ticket < dense for ticket, dense in pairs)
    logarithms = [math.log(ticket / dense) for ticket, dense in pairs]
    error = np.std(logarithms, ddof=1) / math.sqrt(5)
    ends = stats.t.interval(0.95, 4, np.mean(logarithms), error)
    expected = "{:.2f} [{:.2f}, {:.2f}]".format(*np.exp([np.mean(logarithms), *ends]))
    assert f"{expected}, fewer in 5 of 5 replicates" in claims.h6().seen


def test_h13_compares_rates_that_are_trained_out():
    short = {}
    for rate in sections.rates.RATES:
        dense = [r for r in raw(f"mnist-rates/{rate}") if (r["arm"], r["round"]) == ("lth", 0)]
        short[rate] = sum(r["early_stop_step"] >= r["curve"]["step"][-1] for r in dense)
    assert short == {"0.003": 3, "0.01": 2, "0.03": 0, "0.1": 0}
    assert "0.1 minus that at 0.03" in claims.h13().seen


def test_h14_has_a_margin():
    assert "with a margin of 0.2 points" in claims.h14().seen
    assert claims.h14().answer == "reproduced in part", "4,096 units may be 0.28 points below 1,024"


def test_s1_compares_each_number_of_examples_with_the_next():
    of = {(r["arm"], r["replicate"]): r for r in raw("mnist-snip-examples") if r["round"] == 1}
    accuracy = {key: 100 * record["test_accuracy"] for key, record in of.items()}
    claim = methods.s1()
    for few, many in ((1, 10), (10, 100), (100, 1000), (1000, 10000)):
        gained = [accuracy[f"snip-{many}", k] - accuracy[f"snip-{few}", k] for k in range(5)]
        assert f"{few:,} to {many:,} {estimate(gained)}" in claim.seen
    assert {record["kept"] for record in of.values()} == {26620}
    assert claim.answer == "reproduced in part"


def test_untrained_tickets_are_compared_round_by_round():
    records = [r for r in raw("untrained") if r["round"]]
    assert all(record["untrained"] for record in records)
    of = {(r["arm"], r["replicate"], r["round"]): 100 * r["test_accuracy"] for r in records}
    for index, density in enumerate(("50 %", "20 %", "10 %"), 1):

        def minus(arm, other, index=index):
            return estimate([of[arm, k, index] - of[other, k, index] for k in range(3)])

        assert f"{density} {minus('lth', 'random')}" in claims.h15().seen
        assert f"{density} {minus('large-final', 'random')}" in methods.z1().seen
        assert f"{density} {minus('same-sign', 'large-final')}" in methods.z1().seen
        assert f"{density} {minus('same-sign-constants', 'same-sign')}" in methods.z2().seen


def accuracy(record):
    return 100 * record["test_accuracy"]


def test_rigl_set_and_the_mask_that_stays_are_compared_as_they_were_trained():
    of = {
        (r["arm"], r["replicate"], r["round"]): accuracy(r)
        for r in raw("dynamic")
        if r["round"] and r["evaluated"]
    }
    for index, density in enumerate(("10 %", "5 %"), 1):
        for claim, arm, other in (
            (methods.r1(), "rigl-net", "set-net"),
            (methods.r2(), "set-net", "static"),
        ):
            difference = [of[arm, k, index] - of[other, k, index] for k in range(5)]
            assert f"at {density} {estimate(difference)}" in claim.seen


@pytest.mark.parametrize(
    ("folder", "density", "scores", "trained"),
    [
        ("at-start", 0.05, ("snip", "synflow", "magnitude"), "lth"),
        ("cifar10-at-start", 0.1, ("snip", "synflow", "magnitude"), "one-shot"),
    ],
)
def test_tickets_at_the_start_are_compared_with_what_is_made_of_them(
    folder, density, scores, trained
):
    records = raw(folder)
    of = {}
    for arm in {record["arm"] for record in records}:
        of[arm] = interpolated(records, arm, density, accuracy)
    for score in scores:
        assert estimate(of[score] - of["random"]) in methods.f1().seen
        assert estimate(of[score] - of[f"{score}-shuffled"]) in methods.f2().seen
        assert estimate(of[score] - of[f"{score}-reinitialised"]) in methods.f3().seen
        assert estimate(of[trained] - of[score]) in methods.f4().seen


def test_a_layer_counts_as_left_if_it_keeps_a_weight():
    for record in raw("layers-left"):
        if record["round"]:
            empty = {name for name, (kept, _) in record["layers"].items() if kept == 0}
            assert empty == set(record["collapsed"])
            emptied = sections.layers_left.layers() - len(empty)
            index = record["replicate"]
            density = f"{100 * record['density']:.1f} %".replace("1.0 %", "1 %")
            assert sections.layers_left.alive(record["arm"], density)[index] == emptied


def test_the_first_layer_is_never_the_one_that_is_empty():
    states = json.loads((FOLDER / "fashion-mnist-collapse/state.json").read_text(encoding="utf-8"))
    reasons = " ".join(state["why"] for state in states.values())
    assert reasons.count("conv2") == 5
    assert reasons.count("fc2") == 1
    assert "conv1" not in reasons
    said = "Of 6 searches that ended this way, conv2 was empty first in 5, fc2 in 1; the first layer in none."
    assert said in " ".join(sections.collapse.text().split())


# The records


RUNS = [path.parent for path in FOLDER.rglob("run.json")]
PACKED = sorted(
    (path.parent if path.name == "machine" else path).relative_to(FOLDER).as_posix()
    for path in RUNS
)


@pytest.mark.parametrize("folder", PACKED)
def test_a_committed_run_is_whole_and_what_it_says_it_is(folder):
    run = Run(FOLDER / folder)
    assert run.digest == run_digest(run.recipe)
    for record in run.records:
        assert record["arm_digest"] == run.arm_digest(record["arm"])
    assert all(
        run.finished(arm, k) for arm in run.recipe.arms for k in range(run.recipe.replicates)
    )
    labels = run.labels()
    for key, predicted in run.predictions().items() if labels is not None else ():
        arm, replicate, index = key.split("/")
        record = run.record(arm, int(replicate.partition("-")[2]), int(index.partition("-")[2]))
        assert (predicted == labels).mean() == pytest.approx(record["test_accuracy"], abs=1e-12), (
            key
        )


def test_every_finding_that_was_a_run_is_a_packed_one():
    runs = {path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("recipe.yaml")}
    assert runs == set(PACKED)
    assert "mnist-lenet5" in runs, "the first one, too"


def as_it_was(run, folder):
    """Write a converted run as it stood in format 1."""
    folder.mkdir()
    plain = run.recipe.to_dict()
    for name in ("step", "channels_last"):
        del plain["training"][name]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(run.environments()[0]), encoding="utf-8")
    new = ("run_digest", "arm_digest", "evaluated")
    lines = [json.dumps(without(record, *new)) for record in run.records]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    predictions = {
        key.replace("round-0", "round-"): values for key, values in run.predictions().items()
    }
    np.savez_compressed(folder / "predictions.npz", **predictions)


def test_a_run_of_format_1_is_converted_to_a_packed_one(tmp_path):
    committed = Run(FOLDER / "mnist-lenet5")
    as_it_was(committed, tmp_path / "old")
    run = convert(tmp_path / "old", tmp_path / "new", committed.labels(), committed.facts)
    assert (run.recipe.training.step, run.recipe.training.channels_last) == ("eager", False)
    assert run.digest == committed.digest == run_digest(run.recipe)
    assert run.records.all() == committed.records.all()
    assert run.predictions().keys() == committed.predictions().keys()


@pytest.mark.slow
def test_the_first_finding_can_be_reported(tmp_path):
    shutil.copytree(FOLDER / "mnist-lenet5", tmp_path / "run")
    found = report(Run(tmp_path / "run"), formats=())
    assert found.complete
    assert (tmp_path / "run/report.html").exists()


# Branches of one training


ADAM = Training(optimizer="adam", lr=1e-2, steps=40, batch_size=20)


def small_task():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    return Classification(model, split(synthetic()), head="3")


def test_a_branch_that_is_not_cut_is_the_training_it_was_branched_off():
    task = small_task()
    model = task.build(task.initial_state(), WHOLE, 7)
    mask = ones(model, "all")
    batches = task.batches(WHOLE, ADAM.batch_size, 7)
    for step in train(model, batches, ADAM, mask, loss=task.loss, seed=7, last=25):
        if step.number == 10:
            point = branches.point_of(10, model, step.optimizer, mask)
    [(_, branch)] = branches.train_on(task, point, mask, ADAM, 7, (15,))
    for name, value in model.state_dict().items():
        assert torch.equal(branch.state_dict()[name], value), name


def branches_of(trunk, pace, at):
    task = small_task()
    start = task.initial_state()
    return list(branches.branches_of(task, start, trunk, ADAM, pace, 7, at=at, after=(0, 5)))


def test_the_cut_of_a_branch_is_the_one_that_the_schedule_has_there():
    found = branches_of(
        branches.Trunk(branches.GRADUAL, (0.2,)), PruningSchedule(every=5), (10, 20)
    )
    whole = 64 * 12 + 12 * 10
    # Six cuts up to step 30, of Zhu & Gupta's schedule; these are its densities after steps 5, 10,
    # 15 and 20.
    wanted = [1 - 0.8 * (1 - (1 - number / 6) ** 3) for number in (1, 2, 3, 4)]
    assert [record["cut"] for record in found] == [False, True, False, True]
    for record, density in zip(found, wanted, strict=True):
        assert abs(record["kept"] - density * whole) <= 1, "half a weight a layer"


def test_a_dense_network_is_cut_to_each_density_at_once():
    found = branches_of(branches.Trunk(branches.DENSE, (0.5, 0.1)), PruningSchedule(), (10,))
    assert [record["to"] for record in found] == [None, 0.5, 0.1]
    assert [record["kept"] for record in found] == [888, 444, 77 + 12]


def test_every_branch_of_h17_is_recorded_once():
    recorded = [
        (r["replicate"], r["trunk"], r["to"], r["branch"], r["cut"])
        for r in evidence.lines(sections.branches.RECORDS)
    ]
    assert len(recorded) == len(set(recorded)) == 5 * len(branches.BRANCHES) * (1 + 4 + 2 * 4)


def test_h17_is_a_difference_between_branches_of_one_state():
    accuracy = {True: [], False: []}
    for record in raw("mnist-lenet5-branches"):
        if (record["trunk"], record["to"]) == ("gradual", 0.5):
            accuracy[record["cut"]].append(record["test_accuracy"])
    shape = (5, len(branches.BRANCHES), len(branches.AFTER))
    cut, uncut = (np.reshape(accuracy[which], shape) for which in (True, False))
    difference = 100 * (cut - uncut).mean(axis=1)
    soon, later = (estimate(difference[:, branches.AFTER.index(after)]) for after in (100, 300))
    claim = claims.h17()
    assert f"to 50 % {soon} and {later}" in claim.seen
    assert (soon, later) == ("+0.03 [-0.02, +0.08]", "+0.01 [-0.03, +0.05]")
    assert claim.answer == "not testable at this scale"


def test_the_whole_schedule_is_compared_with_dense_at_one_step():
    of = {(r["arm"], r["replicate"], r["round"]): r["curve"] for r in raw("mnist-lenet5-gradual")}

    def at_the_last_cut(arm, replicate, index):
        curve = of[arm, replicate, index]
        # A step with a cut is there twice, before the cut and after it; 3,300 is after the last
        # one.
        [accuracy] = [
            a for s, a in zip(curve["step"], curve["valid_accuracy"], strict=True) if s == 3300
        ]
        return 100 * accuracy

    numbers = [
        "+0.06 [-0.25, +0.36]",
        "-0.04 [-0.38, +0.31]",
        "-0.22 [-0.60, +0.16]",
        "-1.32 [-1.49, -1.15]",
    ]
    text = " ".join(sections.branches.text().split())
    for index, expected in enumerate(numbers, 1):
        difference = [
            at_the_last_cut("as-trained", k, index) - at_the_last_cut("gradual", k, 0)
            for k in range(5)
        ]
        assert estimate(difference) == expected
        assert f"{expected} to" in text
