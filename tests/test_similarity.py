"""What two arms prune alike: by hand, against chance, and in real runs that are stopped, packed
and merged.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy import stats
from tests.charts import charts
from tests.test_experiment import go, recipe

from tombola.evidence.overlap import Overlap, by_chance, similarities, together
from tombola.experiments.experiment import report, run
from tombola.experiments.plans import make_model, make_task
from tombola.folder import similarity
from tombola.folder.merging import merge
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.folder.similarity import counted, measure, meeting
from tombola.ground.errors import ConfigError
from tombola.masks.masks import count
from tombola.masks.pruning import prune


# By hand: of 10 weights the first prunes 5, the second 6, both 4 (3 are kept by both), either 7.
# Most: all 5, of 6. One rate: 10 * 0.5 * 0.4 = 2 kept by both, so 3 pruned by both, of 8.
def test_jaccard_at_most_and_of_one_rate_by_hand():
    found = Overlap(10, (5, 4), 3, *by_chance(10, [5, 4]))
    assert found.jaccard == pytest.approx(4 / 7)
    assert found.jaccard_at_most == pytest.approx(5 / 6)
    assert found.jaccard_of_one_rate == pytest.approx(3 / 8)
    assert found.beyond_chance == pytest.approx((3 - 2) / (4 - 2))


# COLT's Fig. 7 prints 20 % at a sparsity of 28 % and 50 % at 48 %.
@pytest.mark.parametrize(
    ("sparsity", "printed", "chance"), [(0.28, 0.20, 0.163), (0.48, 0.50, 0.316)]
)
def test_the_printed_similarities_are_possible_as_jaccard_and_above_chance(
    sparsity, printed, chance
):
    kept = round(1000 * (1 - sparsity))
    found = Overlap(1000, (kept, kept), 0, *by_chance(1000, [kept, kept]))
    assert found.jaccard_by_chance == pytest.approx(chance, abs=5e-4)
    assert chance < printed < found.jaccard_at_most == 1


def test_masks_drawn_apart_agree_by_chance_in_each_layer_and_not_over_all():
    random = np.random.default_rng(0)
    rates, size = {"a": 0.9, "b": 0.3}, 20_000

    def drawn():
        return {name: torch.from_numpy(random.random(size) < rate) for name, rate in rates.items()}

    one, other = drawn(), drawn()
    start = {name: torch.from_numpy(random.standard_normal(size)) for name in rates}
    line = {"layers": counted(one, other, start)}
    whole = together(similarities(line))
    assert abs(whole.z) < 3
    assert whole.jaccard == pytest.approx(whole.jaccard_by_chance, abs=0.01)
    assert whole.jaccard_by_chance > whole.jaccard_of_one_rate + 0.1
    assert abs(together(similarities(line, by_start=0)).z) < 3
    for name, layer in similarities(line).items():
        law = stats.hypergeom(size, count({name: one[name]}), count({name: other[name]}))
        assert (layer.expected, layer.deviation) == pytest.approx((law.mean(), law.std()))


def test_masks_of_one_order_are_as_alike_as_can_be_and_known_from_the_start_alone():
    start = {"w": torch.randn(1000, generator=torch.Generator().manual_seed(0))}
    everything = {"w": torch.ones(1000, dtype=torch.bool)}
    one, other = (prune({"w": start["w"].abs()}, everything, rate) for rate in (0.3, 0.5))
    line = {"layers": counted(one, other, start)}
    found = similarities(line)["w"]
    assert found.beyond_chance == 1
    assert found.jaccard == found.jaccard_at_most == pytest.approx(300 / 500)
    assert similarities(line, by_start=0)["w"] == similarities(line, by_start=1)["w"] == found


def test_the_order_of_two_arms_changes_nothing_but_the_order():
    random = np.random.default_rng(1)
    one, other = ({"w": torch.from_numpy(random.random(500) < kept)} for kept in (0.4, 0.6))
    start = {"w": torch.from_numpy(random.standard_normal(500))}
    size, first, second, both, by_first, by_second = counted(one, other, start)["w"]
    assert counted(other, one, start)["w"] == [size, second, first, both, by_second, by_first]
    a, b = {r: 0.8**r for r in range(1, 20)}, {r: 0.7225**r for r in range(1, 14)}
    assert meeting(b, a) == [(two, one) for one, two in meeting(a, b)]


def test_rounds_meet_within_a_quarter_of_a_round_and_each_once():
    a, b = {r: 0.8**r for r in range(1, 20)}, {r: 0.7225**r for r in range(1, 14)}
    found = meeting(a, b)
    assert len(found) > 5
    assert all(abs(np.log(a[one] / b[two])) <= 0.25 * -np.log(0.7225) + 1e-12 for one, two in found)
    for rounds in zip(*found, strict=True):
        assert len(set(rounds)) == len(found)
    # all are near; one is the nearest
    assert meeting({1: 0.5, 2: 0.48, 3: 0.46}, {1: 0.47}) == [(2, 1)]
    assert meeting({1: 0.8}, {1: 0.4}) == meeting({}, {1: 0.4}) == meeting({1: 0.4}, {}) == []
    # densities that know nothing of each other
    assert meeting({1: 0.2, 2: 0.5}, {1: 0.5, 2: 0.2}) == [(1, 2), (2, 1)]


def test_two_arms_of_equal_counts_meet_in_every_round():
    same = {r: 0.7225**r for r in range(1, 9)}
    assert meeting(same, dict(same)) == [(r, r) for r in same]


SMALL = {"training": {"lr": 0.05, "momentum": 0.9, "epochs": 1, "batch_size": 64}, "device": "cpu"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return go(tmp_path_factory.mktemp("similarity"), recipe(**SMALL))


def densities(folder, arm, replicate):
    return {index: folder.record(arm, replicate, index)["density"] for index in (1, 2, 3)}


def test_a_run_counts_what_its_tickets_have_in_common(whole):
    folder = Run(whole.folder)
    lines = folder.similarities()
    assert [
        (*line["arms"], line["replicate"], *line["rounds"])
        for line in lines
        if line["arms"][0] == "matched"
    ] == [("matched", "colt-2", k, r, r) for k in (0, 1) for r in (1, 2, 3)]
    for k in (0, 1):
        lth, colt = (densities(folder, arm, k) for arm in ("lth", "colt-2"))
        there = [
            tuple(line["rounds"])
            for line in lines
            if line["arms"][0] == "lth" and line["replicate"] == k
        ]
        assert there == meeting(lth, colt) != []
    task = make_task(folder.recipe, None)
    for line in lines:
        tickets = [folder.rounds_done(arm, line["replicate"])[index - 1]
                   for arm, index in zip(line["arms"], line["rounds"], strict=True)]  # fmt: skip
        start = make_model(folder.recipe, task, line["replicate"]).state_dict()
        assert line["masks"] == [ticket.mask_digest for ticket in tickets]
        for name, (size, first, second, both, by_first, by_second) in line["layers"].items():
            one, other = (ticket.mask[name].flatten().numpy() for ticket in tickets)
            assert (size, first, second, both) == (
                one.size,
                one.sum(),
                other.sum(),
                (one & other).sum(),
            )
            order = np.argsort(start[name].abs().flatten().numpy(), kind="stable")[::-1]
            assert by_first == one[order[:second]].sum()
            assert by_second == other[order[:first]].sum()


def test_the_file_is_the_same_however_often_it_is_written_and_whatever_is_missing(whole, tmp_path):
    path = (
        shutil.copytree(whole.folder, tmp_path / "runs" / whole.folder.name)
        / "machine/similarity.jsonl"
    )
    before = path.read_bytes()
    lines, seals = Run(path.parents[1]).similarities(), Run(path.parents[1]).seals
    seals.write_lines(path, [lines[3], lines[0] | {"masks": ["x", "y"]}])
    go(tmp_path, recipe(**SMALL))
    assert path.read_bytes() == before
    path.unlink()
    go(tmp_path, recipe(**SMALL))
    assert path.read_bytes() == before


def test_what_is_there_is_not_counted_again(whole, tmp_path, monkeypatch):
    folder = Run(shutil.copytree(whole.folder, tmp_path / whole.folder.name))
    monkeypatch.setattr(similarity, "counted", lambda *_: pytest.fail("counted again"))
    measure(folder, lambda _: pytest.fail("drawn again"))


def test_a_packed_run_reports_what_the_run_reports(whole, tmp_path):
    packed = pack(whole.folder, tmp_path / "packed")
    assert packed.similarities() == Run(whole.folder).similarities()
    with charts(drawn=True):
        report(Run(whole.folder), formats=("svg",))
        again = report(packed, formats=("svg",))
    for name in ("figures/similarity.svg", "summary.md"):
        assert (again.folder / name).read_text() == (whole.folder / name).read_text()
    assert "Do the arms prune the same weights?" in (again.folder / "report.html").read_text()


def test_parts_merged_have_the_lines_of_the_whole(whole, tmp_path):
    parts = [
        run(recipe(**SMALL), runs=tmp_path / str(k), workers=1, replicates=[k]).folder
        for k in (0, 1)
    ]
    assert {line["replicate"] for line in Run(parts[1]).similarities()} == {1}
    packed = pack(parts[1], tmp_path / "packed").path
    merged = merge(parts[0], [packed])

    def by_text(lines):
        return sorted(map(json.dumps, lines))

    assert by_text(merged.similarities()) == by_text(Run(whole.folder).similarities())
    measure(merged, lambda _: pytest.fail("drawn again"))
    assert merged.similarities() == Run(whole.folder).similarities()
    assert report(merged, formats=()).complete


def test_counts_that_differ_are_not_merged(whole, tmp_path):
    one, other = (
        shutil.copytree(whole.folder, tmp_path / name / whole.folder.name)
        for name in ("one", "other")
    )
    path = other / "machine/similarity.jsonl"
    lines = Run(other).similarities()
    next(iter(lines[-1]["layers"].values()))[3] += 1
    Run(other).seals.write_lines(path, lines)
    with pytest.raises(
        ConfigError,
        match="have different similarities of lth and colt-2, replicate 1, rounds 3 and 3",
    ):
        merge(one, [other])


@pytest.mark.parametrize(
    "damage", ["no json", "[]", '{"arms": ["a", "b"], "rounds": [1, 1], "replicate": 0}']
)
def test_a_damaged_file_is_one_line(damage, whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    with (folder / "machine/similarity.jsonl").open("a") as file:
        file.write(damage + "\n")
    told = r"line 1 of .* or a line is missing or was added.*; take the file away"
    with pytest.raises(ConfigError, match=told) as caught:
        Run(folder).similarities()
    assert "\n" not in str(caught.value)
