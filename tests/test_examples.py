"""Examples: a next-token task of forty lines runs from a recipe to a report that speaks of its
perplexity.
"""

import random
import re
from dataclasses import replace

import pytest
from tests.layouts import ticket_file

from tombola.commands.cli import main
from tombola.evidence.comparisons import compare
from tombola.evidence.verdicts import verdict
from tombola.experiments.experiment import report, run
from tombola.experiments.transfer import transfer
from tombola.exports.writing import export
from tombola.folder.packing import pack
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import Metric
from tombola.reports import figures, table
from tombola.schema.recipe import read

PERPLEXITY = Metric("perplexity", fraction=False, higher=False)
QUICK = {
    "training.epochs": 2, "until": "{rounds: 2}", "verdict": "{margin: 0.5, at: [0.7]}", "rewind": 2,
    "arms.again": "{method: reordered, source: lth}",
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory, request):
    """The example's recipe on a made text: words of a few letters, so that a little can be
    learnt in seconds.
    """
    folder = tmp_path_factory.mktemp("text")
    words = random.Random(0).choices(["mask", "prune", "rewind", "ticket"], k=120)
    (folder / "text").write_text(" ".join(words))
    options = [text for name, value in QUICK.items() for text in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(request.config.rootpath)
        recipe = read("examples/next_token.yaml", ["--data.path", str(folder / "text"), *options])
        yield run(recipe, runs=folder, workers=1)


def test_the_task_is_one_file_of_at_most_forty_lines(request):
    file = request.config.rootpath / "examples" / "next_token.py"
    assert len(file.read_text().splitlines()) <= 40


def test_every_arm_is_trained_and_measured_by_its_perplexity(done):
    assert done.complete
    assert {record["arm"] for record in done.records} == {"lth", "random-lth", "colt-2", "random-colt-2", "matched",
                                                           "again"}  # fmt: skip
    for record in done.records:
        assert not [name for name in record if "accuracy" in name]
        assert record["test_perplexity"] > 1
        assert record["curve"].keys() == {"step", "valid_loss", "valid_perplexity"}
    assert all(record["barrier"] >= 0 for record in done.records if record["arm"] == "again")


def test_the_report_speaks_of_the_perplexity_and_of_no_accuracy(done):
    summary = (done.folder / "summary.md").read_text()
    page = re.sub(
        r"<(script|style)\b.*?</\1>", "", (done.folder / "report.html").read_text(), flags=re.S
    )
    assert "Dense network: test perplexity " in summary
    assert "## Test perplexity by round" in summary
    assert "perplexity - dense (&lt;&nbsp;+0.50)" in page
    for text in (summary, page):
        assert set(re.findall(r"[Aa]ccura\w+", text)) <= {"accuracy_drop"}  # the recipe's own entry
        assert " points" not in text.replace("points: replicates", "").replace("small points", "")
    drawn = figures.metric_over_density(done.records, metric=PERPLEXITY).to_dict()
    assert {
        layer["encoding"]["y"]["title"]
        for layer in drawn["layer"]
        if "title" in layer["encoding"]["y"]
    } == {"Test perplexity"}


def test_lower_is_better_in_verdicts_comparisons_and_the_best_ticket(done):
    judged = verdict(
        done.records, "lth", at=0.7, margin=0.5, controls=["random-lth"], metric=PERPLEXITY
    )
    names = [condition.name for condition in judged.conditions]
    assert names == ["as good as dense", "stops no later than dense", "better than random-lth"]
    as_good = judged.conditions[0]
    assert as_good.bound == 0.5
    by_hand = compare(
        done.records, "lth", "dense", at=0.7, of="test_perplexity", metric=PERPLEXITY, margin=0.5
    )
    assert (as_good.paired.mean < 0.5) == (as_good.p_shown < 0.5)
    assert by_hand.gains == [-difference for difference in by_hand.differences]
    best = Run(done.folder).best()
    valid = [
        r["valid_perplexity"]
        for r in done.records
        if r["arm"] in ("lth", "colt-2", "matched") and r["round"]
    ]
    assert best.valid == min(valid)


def test_the_run_is_read_again_with_its_metric(done, capsys):
    again = Run(done.folder)
    assert again.metrics == (PERPLEXITY,)
    before = (done.folder / "summary.md").read_bytes()
    report(again, formats=())
    assert (done.folder / "summary.md").read_bytes() == before
    table.terminal("next token", done.records, [], asked=done.asked)
    assert "perplexity" in capsys.readouterr().out
    assert replace(done.asked, metric=PERPLEXITY) == done.asked


def test_what_is_told_of_its_tickets_is_of_this_task(done, tmp_path, capsys):
    export(done.folder, "state_dict", tmp_path / "best.pt", trained=True)
    card = (tmp_path / "best.md").read_text()
    assert "| perplexity | test " in card
    assert "made by the task `examples.next_token:next_token`" in card
    assert "Check it" not in card
    assert "accuracy" not in card
    export(done.folder, "ticket", tmp_path / "ticket.safetensors", trained=True)
    assert main(["ticket", "info", str(tmp_path / "ticket.safetensors")]) == 0
    assert "trained, no rewind point, test perplexity " in capsys.readouterr().out
    ticket = ticket_file(done.folder, "lth", 0, 1)
    with pytest.raises(
        ConfigError,
        match=r"was found on the task 'examples\.next_token:next_token'; transfer trains",
    ):
        transfer([ticket], ["digits"], runs=tmp_path)


def test_a_packed_run_and_a_merged_one_keep_the_metric(done, tmp_path):
    pack(done.folder, tmp_path / "packed")
    assert Run(tmp_path / "packed").metrics == (PERPLEXITY,)
    assert Run(tmp_path / "packed").records.results()[0].test.keys() == {"perplexity", "loss"}
