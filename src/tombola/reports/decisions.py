"""Decisions: what a run's replicates show, in words and tables.

records + what is asked -> [ verdicts, comparisons, costs, overlap ] -> table, page
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tombola.evidence import ledger, statistics
from tombola.evidence.answers import Evidence, once
from tombola.evidence.comparisons import (
    DENSE,
    Comparison,
    Shows,
    Value,
    compare_over,
    untrained_arms,
    values_at,
)
from tombola.evidence.overlap import Overlap, together
from tombola.evidence.overlap import overlaps as overlaps_of
from tombola.evidence.verdicts import Condition, Verdict, verdict
from tombola.ground.errors import ConfigError
from tombola.ground.metrics import ACCURACY, STEPS, Metric
from tombola.reports import aggregate
from tombola.reports.aggregate import Record
from tombola.reports.answers import answers, compared_in_words, hindrances, number
from tombola.reports.detections import Shown
from tombola.reports.grids import Grid, capitalised, chosen, listed, percent, with_unit
from tombola.reports.paper import Point, Printed

TARGETS = (0.5, 0.2, 0.1)
_BRIEF = {  # causes, where there is no number
    "no control": "no control",
    "no result": "no result there",
    "no validation": "no validation data",
    "no interval": "evaluation interval unknown",
}
STABLE = 0.02  # barrier, a fraction, below which a network counts as stable (Frankle et al. 2020)
DETECTABLE = "minimum detectable margin"  # head of a column
_MOST_NAMED = 6  # arms that the question names
_MOST_PAIRS = 6  # that are told in words
_SIGNS = {"shown": "✓", "violated": "✗", "undecided": "?"}


@dataclass(frozen=True)
class Asked:
    """What a report is to decide.

    Attributes:
        pairs: Arms to compare: each with the dense network, with its control, with its source.
        controls: By arm that is judged, what its tickets must beat; it may be nothing.
        matched: By arm, those that keep as many weights as it does after every round.
        made_of: By arm that does not search itself, whose tickets it takes.
        equal_cost: By arm whose tickets are trained longer, the arm that they cost as much as.
        networks: Arms that are no tickets but the networks that another arm pruned and trained on
            (``as_trained``).
        independent_partitions: Arms whose partitions search independently, so their candidates are
            cut from the dense network.
        metric: What tickets are compared by, the task's headline.
        at: Densities.
        drawn: Arms whose layers are drawn: those that search by themselves.
        margin: What still counts as "as accurate as"; ``None`` for no verdicts.
        steps: How many steps later an early stop may be; ``None`` for one evaluation interval.
        alpha: Level of the tests.
        right: By arm, replicate and round, whether each test example was predicted right; may be
            empty.
        printed: What a paper prints of the same experiment; ``None`` for nothing.
        similar: What was counted of pairs of tickets, lines of ``similarity.jsonl``.
        pruned: What tickets prune of the trained dense network, see
            `tombola.folder.weight_histograms`.
        latency: How long networks took for a batch, see `tombola.experiments.latency`; may be
            empty.
        shown: Test pictures with what networks find on them; ``None`` where there are none.
        collapsed: By arm and replicate, the round whose cut left layers without a weight and ended
            the arm, and these.
        chance: What guessing reaches by the metric; ``None`` where that is not known.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    controls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    matched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    made_of: Mapping[str, str] = field(default_factory=dict)
    equal_cost: Mapping[str, str] = field(default_factory=dict)
    networks: frozenset[str] = frozenset()
    independent_partitions: frozenset[str] = frozenset()
    metric: Metric = ACCURACY
    drawn: frozenset[str] = frozenset()
    at: tuple[float, ...] = TARGETS
    margin: float | None = None
    steps: float | None = None
    alpha: float = 0.05
    right: Mapping[tuple[str, int, int], NDArray[np.bool_]] = field(default_factory=dict)
    printed: Printed | None = None
    similar: Sequence[Mapping[str, Any]] = ()
    pruned: Sequence[dict[str, Any]] = ()
    latency: Mapping[str, Any] = field(default_factory=dict)
    shown: Shown | None = None
    collapsed: Mapping[tuple[str, int], tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    chance: float | None = None

    def searching(self, records: Sequence[Record]) -> list[str]:
        """Return the arms that search by themselves, all of them where nothing says which do; but
        not those whose tickets are tested untrained.
        """
        arms = aggregate.trained_arms(records)
        return [arm for arm in arms if arm in self.drawn or not self.drawn]


NOTHING = Asked()


@once
def verdicts(records: Sequence[Record], asked: Asked) -> list[Verdict]:
    """Judge every arm that is to be judged, with its own controls, at the densities it has; none
    without a margin. Tickets that are tested untrained are not judged, and are no controls.

    Args:
        records: Of the whole experiment.
        asked: Margin, densities and controls.
    """
    judged: list[Verdict] = []
    if asked.margin is None:
        return judged
    arms = aggregate.trained_arms(records)
    for arm, controls in asked.controls.items():
        if arm not in arms:
            continue
        for density in _shared_densities(records, arm, DENSE, asked.at, asked.metric):
            ticket = verdict(
                records,
                arm,
                at=density,
                margin=asked.margin,
                controls=[control for control in controls if control in arms],
                steps=asked.steps,
                alpha=asked.alpha,
                metric=asked.metric,
            )
            judged.append(ticket)
    return judged


@once
def comparisons(records: Sequence[Record], asked: Asked) -> list[Comparison]:
    """Compare the pairs at the densities that both arms have, those of one pair looked at
    together. What was trained is compared with what was trained, and what was not with what was
    not.
    """
    compared = []
    arms, untrained = {*aggregate.arms(records), DENSE}, untrained_arms(records)
    for arm, other in asked.pairs:
        if not {arm, other} <= arms or (arm in untrained) != (other in untrained):
            continue
        is_pruned = any(record["density"] < 1 for record in records if record["arm"] == arm)
        # A dense network, trained longer, is the same one at every density.
        densities = asked.at if is_pruned else (1.0,)
        at = _shared_densities(records, arm, other, densities, asked.metric)
        if not at:
            continue
        # A control is to be beaten; that it is nearly as good is no equality worth the word.
        margin = None if other in asked.controls.get(arm, ()) else asked.margin
        compared += compare_over(
            records,
            arm,
            other,
            at=at,
            metric=asked.metric,
            margin=margin,
            alpha=asked.alpha,
        )
    return compared


def _with_dense(records: Sequence[Record], asked: Asked) -> list[Comparison]:
    """Return the comparisons with the dense network."""
    compared = comparisons(records, asked)
    return [comparison for comparison in compared if comparison.other == DENSE]


def _shared_densities(
    records: Sequence[Record], arm: str, other: str, densities: Sequence[float], metric: Metric
) -> list[float]:
    """Return the densities at which a replicate has a value of both arms."""
    shared = []
    for density in densities:
        values = values_at(records, arm, density, metric.test)
        if values.keys() & values_at(records, other, density, metric.test).keys():
            shared.append(density)
    return shared


@once
def answer(records: Sequence[Record], asked: Asked) -> list[list[str]]:
    """Answer the question of the report: of each arm that searches by itself its sentences, what
    wins first.

    >>> answer([], Asked())
    []
    """
    # Those that the recipe has controls for come first.
    arms = sorted(asked.searching(records), key=lambda arm: not asked.controls.get(arm))
    return answers(verdicts(records, asked), comparisons(records, asked), arms, asked.matched)


def sentences(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say in words what is decided: the answer, what keeps it from saying more, the first few
    pairs, and stability.

    >>> sentences([], Asked())
    []
    """
    records = Evidence.of(records)
    said = [" ".join(of_arm) for of_arm in answer(records, asked)]
    said += hindered(records, asked)
    # Of each pair that the answer leaves out its lowest density, which comes last.
    lowest: dict[tuple[str, str], Comparison] = {}
    for comparison in comparisons(records, asked):
        if not _in_answer(comparison, asked):
            lowest[comparison.arm, comparison.other] = comparison
    said += map(compared_in_words, list(lowest.values())[:_MOST_PAIRS])
    more = len(lowest) - _MOST_PAIRS
    if more > 0:
        said.append(
            f"{more} more {'pair is' if more == 1 else 'pairs are'} in the table of differences."
        )
    return said + stability(records, asked) + untrained_note(records)


def untrained_note(records: Sequence[Record]) -> list[str]:
    """Say which arms' tickets are tested untrained and so not compared with trained networks, one
    line; nothing where there are none.

    >>> untrained_note([{"arm": "as-it-is", "round": 1, "untrained": True}])
    ['as-it-is is tested untrained: it is not judged, nor compared with trained networks.']
    """
    arms = aggregate.untrained(records)
    if not arms:
        return []
    words = "is tested untrained: it is" if len(arms) == 1 else "are tested untrained: they are"
    return [f"{listed(arms)} {words} not judged, nor compared with trained networks."]


def hindered(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say what keeps the run from saying more, each once and with its cure.

    >>> hindered([], Asked())
    []
    """
    compared = comparisons(records, asked)
    arms = asked.searching(records)
    judged = [ticket for ticket in verdicts(records, asked) if ticket.arm in arms]
    said = hindrances(judged, compared, asked.margin, asked.metric)
    return said + _out_of_reach(records, asked)


def stability(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say of each arm that trains tickets once more whether they are stable, one line each.

    >>> stability([], Asked())
    []
    """
    return [_stability(records, arm, asked) for arm in connected(records)]


def _out_of_reach(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say which arms have nothing at any density that is asked for; one line, or none."""
    with_results = {comparison.arm for comparison in _with_dense(records, asked)}
    missing = []
    for arm in aggregate.trained_arms(records):
        if (arm, DENSE) in asked.pairs and arm not in with_results:
            missing.append(arm)
    if not missing:
        return []
    where = f"{listed([percent(density) for density in asked.at])} %"
    have = "has" if len(missing) == 1 else "have"
    return [
        f"{listed(missing)} {have} no results around {where} density, so nothing is decided there: "
        "search further (until), or ask for densities that are reached, such as "
        "--verdict.at '[0.8]'."
    ]


def _in_answer(comparison: Comparison, asked: Asked) -> bool:
    """Whether the answer says what a comparison shows: with the dense network, a control, an
    arm of as many weights.
    """
    if asked.margin is None or comparison.p is None:
        return comparison.other == DENSE
    return comparison.other in (
        DENSE,
        *asked.controls.get(comparison.arm, ()),
        *asked.matched.get(comparison.arm, ()),
    )


def question(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say what the report answers, one line; nothing where no arm searches.

    >>> question([{"arm": "lth", "round": 1}], Asked(at=(0.5,)))
    ['Does lth find tickets that train as well as the dense network, at 50 % density?']
    >>> [text] = question([{"arm": "lth", "round": 1}], Asked(at=(0.5, 0.2), margin=0.01))
    >>> text.partition(", ")[2]
    'at 50 and 20 % density, within 1 percentage point?'
    """
    arms = asked.searching(records)
    if not arms:
        return []
    finds = "Do" if len(arms) > 1 else "Does"
    who = f"{finds} {listed(arms)}"
    if len(arms) > _MOST_NAMED:
        who = f"Which of {len(arms)} arms"
    where = f"at {listed([percent(density) for density in asked.at])} % density"
    text = f"{who} find tickets that train as well as the dense network, {where}"
    if asked.margin is None:
        return [f"{text}?"]
    points = "percentage point" if asked.metric.fraction else "point"
    return [f"{text}, within {asked.metric.amount(asked.margin).replace('point', points)}?"]


def legend(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say how verdicts and differences are to be read, one line each; nothing where there are
    none.
    """
    return verdict_legend(records, asked) + differences_legend(records, asked)


def differences_legend(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say how differences are to be read, one line each; nothing where there are none."""
    compared = comparisons(records, asked)
    if not compared:
        return []
    # The headline of some tasks, such as mAP, is no mean over examples.
    examples = ", ± examples that over test examples (bootstrap)" if asked.right else ""
    lines = [
        "Differences are within replicates, with t intervals; p-values are two-sided and "
        "adjusted over the densities of a pair (Holm). ~ marks densities at which a value is "
        "interpolated between two rounds. Intervals are about seeds, for the one test set that "
        f"there is: ± seeds is the standard error over the n replicates{examples}. The "
        f"{DETECTABLE} is the smallest margin that so many "
        "replicates can decide."
    ]
    n = min(len(comparison.values) for comparison in compared)
    if 3 <= n <= 8:
        lines.append(
            f"With {n} replicates a rank test (Wilcoxon) cannot come below {0.5**n:.3f} "
            f"one-sided, {0.5 ** (n - 1):.4g} two-sided."
        )
    unpaired = {}
    for comparison in compared:
        if comparison.unpaired:
            unpaired[comparison.arm, comparison.other] = comparison.unpaired
    for (arm, other), left_out in unpaired.items():
        numbers = ", ".join(map(str, left_out))
        lines.append(
            f"{arm} - {other}: replicates {numbers} are in one of them alone and left out."
        )
    return lines


def verdict_legend(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say how verdicts are to be read, one line; nothing where there are none."""
    if not verdicts(records, asked):
        return []
    return [
        f"A ticket is winning if it is {asked.metric.as_good_as} dense (to the margin), stops no "
        f"later, and is {asked.metric.better_than} each of its controls, each at the "
        f"{percent(asked.alpha)} % level; losing if one of these is violated (Holm over the "
        "conditions). ✓ yes, ✗ no, ? undecided. ≥ and ≤ stand before the one-sided "
        f"{percent(1 - asked.alpha)} % confidence limit, which is tested against the bound above "
        "the column."
    ]


def verdict_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return the verdicts, each condition with the limit that was tested, and its bound above
    it, as text.
    """
    metric = asked.metric
    rows = []
    bounds = {}  # of the conditions on the dense network, by what they compare
    for ticket in verdicts(records, asked):
        as_good, in_time, *than_controls = ticket.conditions
        rows.append(
            [
                ticket.arm,
                percent(ticket.density),
                ticket.word,
                _signed_off(as_good),
                _signed_off(in_time),
                "; ".join(map(_control, than_controls)),
            ]
        )
        for condition in (as_good, in_time):
            if condition.paired:
                bounds[condition.of] = condition.bound
    # The bounds are the same in every row, so they stand in the heads.
    first, second = f"{metric.title} - dense", "early stop - dense"
    beyond = ">" if metric.higher else "<"
    if metric.test in bounds:
        first += f" ({beyond} {metric.signed(bounds[metric.test])})"
    if STEPS.name in bounds:
        second += f" (< {STEPS.signed(bounds[STEPS.name])})"
    units = f"{capitalised(metric.plural)} in {metric.points}, early" if metric.points else "Early"
    title = "Verdicts"
    if asked.equal_cost:
        title += " at equal budget: every ticket has the recipe's training"
    return Grid(
        title=title,
        labels=["arm", "density %"],
        groups=[("", ["verdict", first, second, f"{metric.title} - controls ({beyond} 0)"])],
        rows=rows,
        notes=(f"{units} stops in steps; in brackets what is to be shown.",) if rows else (),
    )


def _signed_off(condition: Condition) -> str:
    if condition.paired is None:
        return _BRIEF[condition.cause]
    text = number(condition, "≥", "≤")
    if condition.p_shown is None:  # nothing was tested, so there is nothing to tick
        return text
    censored = ", censored" if condition.cause == "censored" else ""
    return f"{text}{censored} {_SIGNS[condition.state]}"


def _control(condition: Condition) -> str:
    return " ".join(filter(None, [condition.other, _signed_off(condition)]))


def _deviations(comparison: Comparison, asked: Asked) -> list[str]:
    """Return how much the mean difference would vary with the seeds and with the test examples,
    as text.
    """
    n, deviation = comparison.paired.n, comparison.paired.deviation
    by_seeds = "" if deviation is None else asked.metric.number(deviation / math.sqrt(n))
    right_of_arm, right_of_other = [], []
    for replicate, (value, other_value) in comparison.values.items():
        right = _right(asked, comparison.arm, replicate, value)
        other_right = _right(asked, comparison.other, replicate, other_value)
        if right is None or other_right is None:
            return [by_seeds, ""]
        right_of_arm.append(right)
        right_of_other.append(other_right)
    by_examples = statistics.deviation_by_examples(right_of_arm, right_of_other)
    return [by_seeds, asked.metric.number(by_examples)]


def _right(asked: Asked, arm: str, replicate: int, value: Value) -> NDArray[np.float64] | None:
    """Return whether each test example was right where a value stands; between two rounds a
    share of both.
    """
    parts = []
    for index, share in zip(value.rounds, value.shares, strict=True):
        right = asked.right.get((arm, replicate, index))
        if right is None:
            return None
        parts.append(share * right)
    # A value between two rounds has a share of each, and so has every example.
    weighted: NDArray[np.float64] = np.sum(parts, axis=0)
    return weighted


def against_dense_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return each arm's difference from the dense network at each density with its verdict, and
    what the arm took to come to the lowest of them, as text.
    """
    judged = {(ticket.arm, ticket.density): ticket for ticket in verdicts(records, asked)}
    cells: dict[tuple[str, float], tuple[str, str]] = {}  # difference and verdict
    for comparison in _with_dense(records, asked):
        key = comparison.arm, comparison.density
        cells[key] = _against_dense(comparison, judged.get(key), asked.metric)
    densities = sorted({density for _, density in cells}, reverse=True)
    # A dense network that was trained longer is the same at all densities.
    densities.sort(key=lambda density: density == 1)
    # Below three replicates there is no verdict.
    worded = any(word for _, word in cells.values())
    columns = 2 if worded else 1
    lowest, reached = _lowest_reached(records, asked)

    rows: list[list[str]] = []
    for arm in aggregate.trained_arms(records) if cells else ():
        if arm in asked.equal_cost:  # it is trained longer, see `equal_cost`
            continue
        row = [arm]
        for density in densities:
            row += cells.get((arm, density), ("", ""))[:columns]
        if lowest:
            cost = reached.get(arm)
            row += [_number(cost.rounds), _number(cost.search)] if cost else ["", ""]
        rows.append(row)

    heads = []
    for density in densities:
        heads += [f"at {percent(density)} %", ""][:columns]
    if lowest:
        heads += [f"rounds to {percent(lowest)} %", "search"]
    title = f"Test {asked.metric.title}: difference from dense"
    if asked.metric.points:
        title += f", {asked.metric.points}"
    if any("[" in row[1] for row in rows):
        title += f" [{percent(1 - asked.alpha)} % interval]"
    if worded:
        title += ", verdict"
    if lowest:
        title += "; search, in dense trainings"
    return Grid(title=title, labels=["arm"], groups=[("", heads)], rows=rows)


def _lowest_reached(
    records: Sequence[Record], asked: Asked
) -> tuple[float, Mapping[str, ledger.Reached]]:
    """Return the lowest density asked for that an arm reaches, and what each arm took to it."""
    for density in sorted(asked.at):
        reached = _reached(records, density, asked)
        if reached:
            return density, {cost.arm: cost for cost in reached}
    return 0.0, {}


def _reached(records: Sequence[Record], density: float, asked: Asked) -> list[ledger.Reached]:
    """Return what each arm took to come to a density, where the records say what a search took."""
    reached = []
    for cost in ledger.to_reach(records, density, asked.made_of):
        if cost.arm != DENSE and cost.search is not None:
            reached.append(cost)
    return reached


# What a comparison shows, as short as it stands in the table of all arms.
_SHORT: Mapping[Shows, str] = {
    "no verdict": "",
    "different": "{side}",
    "unadjusted": "{side}, unadjusted",
    "different, within margin": "{side}, within margin",
    "unadjusted, within margin": "{side}, within margin",
    "equal": "equal",
    "not worse": "not worse",
    "no difference": "inconclusive",
    "undecided": "inconclusive",
}


def _against_dense(
    comparison: Comparison, judged: Verdict | None, metric: Metric
) -> tuple[str, str]:
    """Return a difference with its interval, and the verdict, as text."""
    paired = comparison.paired
    between = "~" if comparison.interpolated else ""
    interval = metric.interval(paired.low, paired.high)
    text = f"{between}{metric.signed(paired.mean)} {interval}".rstrip()
    if judged is not None and judged.word != "no verdict":
        return text, judged.word
    return text, _SHORT[comparison.shows].format(side=comparison.side)


def basis(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say what the numbers of the answer rest on, one line; nothing where there are none.

    >>> basis([], Asked())
    []
    """
    compared = _with_dense(records, asked)
    if not compared:
        return []
    metric, n = asked.metric, max(len(comparison.values) for comparison in compared)
    lines = []
    if n == 1:
        lines.append("1 replicate, so there are no intervals and no verdicts.")
    else:
        lines.append(
            f"{n} replicates, paired by seed. Brackets: {percent(1 - asked.alpha)} % intervals "
            "over seeds, for this training, validation and test data."
        )
    dense = aggregate.dense(records, metric)
    if dense is not None:
        deviation = "" if dense.deviation is None else f" ± {metric.number(dense.deviation)}"
        mean = f"{metric.number(dense.mean)}{deviation} {metric.shown_unit}".strip()
        lines.append(f"Dense: {mean}.")
    if any(comparison.interpolated for comparison in compared):
        lines.append("~ interpolated between two rounds.")
    return [" ".join(lines)]


def tests_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return how certain the differences from the dense network are, as text; these stand in
    `against_dense_grid`.
    """
    complete = comparison_grid(records, asked, [DENSE])
    heads, columns = [], []
    for column, head in enumerate(complete.groups[0][1], start=len(complete.labels)):
        in_first_table = head in ("difference", "outcome") or head.endswith("% interval")
        # Why a column has nothing stands below the table of differences between arms.
        if not in_first_table and any(row[column] for row in complete.rows):
            heads.append(head)
            columns.append(column)
    rows = []
    for row in complete.rows if columns else ():
        arm = row[0].removesuffix(f" - {DENSE}")
        rows.append([arm, row[1], *chosen(row, columns)])
    return Grid(
        title="How certain the differences from dense are",
        labels=["arm", "density %"],
        groups=[("", heads)],
        rows=rows,
    )


def comparison_grid(
    records: Sequence[Record], asked: Asked, others: Sequence[str] | None = None
) -> Grid:
    """Return the paired differences as text; from ten replicates on with the bootstrap's
    interval over these.

    Args:
        records: Of the whole experiment.
        asked: What is compared.
        others: Only comparisons with these arms; with all if not given.
    """
    metric = asked.metric
    compared = list(comparisons(records, asked))
    if others is not None:
        compared = [comparison for comparison in compared if comparison.other in others]
    many = any(comparison.resampled is not None for comparison in compared)
    rows = []
    for comparison in compared:
        paired, decidable = comparison.paired, comparison.decidable
        row = [
            f"{comparison.arm} - {comparison.other}",
            f"{'~' if comparison.interpolated else ''}{percent(comparison.density)}",
            str(len(comparison.values)),
            metric.signed(paired.mean),
            metric.interval(paired.low, paired.high),
        ]
        if many:
            row.append(metric.interval(*(comparison.resampled or (None, None))))
        row += [
            comparison.verdict,
            "" if comparison.p is None else f"{comparison.p:.3f}",
            *_deviations(comparison, asked),
            "" if decidable is None else metric.number(decidable),
        ]
        rows.append(row)
    confidence = f"{percent(1 - asked.alpha)} % interval"
    heads = ["n", "difference", confidence]
    heads += ["by bootstrap"] if many else []
    heads += ["outcome", "p", "± seeds", "± examples", DETECTABLE]
    two = "needs two replicates"
    why = {confidence: two, "± seeds": two, DETECTABLE: two, "p": "needs three replicates"}
    if metric != ACCURACY:
        why["± examples"] = f"{metric.title} is not known of each example"
    return Grid(
        title=with_unit(f"Paired differences in test {metric.title}", metric.points),
        labels=["arms", "density %"],
        groups=[("", heads)],
        rows=rows,
        why=why,
    )


def cost_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what it costs each arm to come to each density, as text."""
    rows: list[list[str]] = []
    for density in asked.at:
        for index, cost in enumerate(_reached(records, density, asked)):
            label = "" if index else percent(density)
            rows.append(
                [
                    label,
                    cost.arm,
                    str(cost.replicates),
                    _number(cost.rounds),
                    _number(cost.search),
                    _number(cost.this_ticket),
                    _number(cost.so_far),
                    _teras(cost.flops),
                    _teras(cost.flops_sparse),
                ]
            )
    heads = [
        "replicates",
        "rounds",
        "search",
        "search + own evaluation",
        "search + all evaluations",
        "TFLOP dense",
        "TFLOP sparse",
    ]
    return Grid(
        title="Cost of reaching a density, in full-data trainings",
        labels=["density %", "arm"],
        groups=[("", heads)],
        rows=rows,
        notes=tuple(_charged(records, asked)),
    )


def _charged(records: Sequence[Record], asked: Asked) -> list[str]:
    """Say which arms have no search of their own, and what they are charged for it; one line
    each.
    """
    taken: dict[str, list[str]] = {}
    for arm, source in ledger.sources(records, asked.made_of).items():
        taken.setdefault(source, []).append(arm)
    lines = []
    if taken:
        whose = "; ".join(f"{listed(arms)} that of {source}" for source, arms in taken.items())
        lines.append(f"Controls are charged the search of their source arm: {whose}.")
    if missing := ledger.unsearched(records, asked.made_of):
        lines.append(
            f"No search is charged to {listed(missing)}: the records do not say whose tickets they "
            "take."
        )
    return lines


def budget_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what each arm has at equal cost, as text: its sparsest ticket within a budget, and how
    good it is.

    The budgets are what the first arm that searches round by round needs to come to the densities
    asked for, the last evaluation with it; beyond four thinned out. Where every arm's densities
    cost alike there are no rows: each density is at equal cost as it is.
    """
    metric = asked.metric
    first, budgets = _budgets(records, asked)
    groups = []
    tickets: dict[tuple[str, float], ledger.Afforded] = {}
    for budget in budgets:
        groups.append((f"{_number(budget)} full-data trainings", ["density %", metric.head]))
        for ticket in ledger.at_equal_cost(records, budget, asked.made_of, metric.test):
            tickets[ticket.arm, budget] = ticket
    total = aggregate.replicates(records)
    rows: list[list[str]] = []
    for arm in aggregate.trained_arms(records):
        row = [arm]
        for budget in budgets:
            row += _afforded(tickets.get((arm, budget)), total, metric)
        if any(row[1:]):
            rows.append(row)
    note = (
        "Each arm's sparsest evaluated ticket whose search and own evaluation cost no more; "
        "means over replicates, in brackets how many have one, if not all. The budgets are "
        f"what {first} needs to come to the densities."
    )
    return Grid(
        title=f"{capitalised(metric.title)} at equal cost",
        labels=["arm"],
        groups=groups,
        rows=rows,
        notes=(note,) if rows else (),
    )


def _budgets(records: Sequence[Record], asked: Asked) -> tuple[str, list[float]]:
    """Return the arm whose costs are the budgets, and these; "" and none where there is none."""
    independent = ledger.independent_arms(records, asked.made_of)
    for arm in asked.searching(records):
        if arm not in independent:
            budgets = ledger.budgets(records, arm, asked.at, asked.metric.test)
            if budgets:
                return arm, aggregate.few(budgets)
    return "", []


def _afforded(ticket: ledger.Afforded | None, replicates: int, metric: Metric) -> list[str]:
    if ticket is None:
        return ["", ""]
    some = "" if ticket.replicates == replicates else f" ({ticket.replicates})"
    return [f"{100 * ticket.density:.2f}", f"{metric.number(ticket.value)}{some}"]


def paper_points(records: Sequence[Record], asked: Asked) -> list[tuple[Point, float]]:
    """Return what the paper prints, each point with the density of the prunable weights that it
    has here.
    """
    with_counts = next((record for record in records if record.get("prunable")), None)
    if asked.printed is None or with_counts is None:
        return []
    prunable = with_counts["prunable"] / with_counts["total"]
    points = []
    for point in asked.printed.points:
        density = point.density(prunable)
        if density > 0:
            points.append((point, density))
    return points


def paper_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return what the paper prints beside what the same arm has here at that density, as text."""
    rows = []
    for point, density in paper_points(records, asked):
        try:
            ours = [value.value for value in values_at(records, point.arm, density).values()]
        except ConfigError:  # an arm that this run has not
            ours = []
        costs = {cost.arm: cost for cost in ledger.to_reach(records, density, asked.made_of)}
        cost = costs.get(point.arm)
        rows.append(
            [
                point.arm,
                f"{100 * density:.2f}",
                f"{100 * point.value:.1f}",
                f"{100 * _mean(ours):.2f}" if ours else "",
                str(point.rounds),
                "" if cost is None else _number(cost.rounds),
                "" if point.minutes is None else f"{point.minutes:,}",
                "" if cost is None else f"{cost.seconds / 60:,.1f}",
            ]
        )
    heads = [
        f"printed {asked.metric.head}",
        "ours",
        "printed rounds",
        "ours",
        "printed minutes",
        "ours",
    ]
    source = asked.printed.source if asked.printed else ""
    return Grid(
        title=f"Beside the paper: {source}",
        labels=["arm", "density %"],
        groups=[("", heads)],
        rows=rows,
        why={"printed minutes": "the paper has none", "ours": "no arm comes there"},
    )


def overlap_grid(records: Sequence[Record], asked: Asked) -> Grid:
    """Return, by arm and round, what the candidates have in common and what chance gives, as
    text.
    """
    rows: list[list[str]] = []
    above = None
    for agreement in _agreements(records, asked):
        overlaps = agreement.overlaps
        z, jaccard, jaccard_by_chance = [], [], []
        for overlap in overlaps:
            if overlap.z is not None:
                z.append(overlap.z)
            if overlap.jaccard is not None:
                jaccard.append(overlap.jaccard)
                jaccard_by_chance.append(overlap.jaccard_by_chance or 0.0)
        # What to expect if layers made no difference: the product of the candidates' shares.
        over_all = map(math.prod, map(_shares, overlaps))
        rows.append(
            [
                "" if above == agreement.arm else agreement.arm,
                str(agreement.round),
                f"{100 * agreement.kept:.2f}",
                f"{100 * agreement.expected:.2f}",
                f"{100 * _mean(over_all):.2f}",
                f"{_mean(z):+.1f}" if z else "",
                f"{_mean(jaccard):.3f}" if jaccard else "",
                f"{_mean(jaccard_by_chance):.3f}" if jaccard else "",
            ]
        )
        above = agreement.arm
    heads = [
        "kept %",
        "expected per layer %",
        "expected over all %",
        "z",
        "Jaccard of pruned",
        "expected",
    ]
    return Grid(
        title="Do the partitions prune the same weights?",
        labels=["arm", "round"],
        groups=[("", heads)],
        rows=rows,
    )


@once
def overlap_rows(records: Sequence[Record], asked: Asked) -> list[dict[str, Any]]:
    """Return what `figures.overlap` draws: means over replicates, in percent."""
    rows = []
    for agreement in _agreements(records, asked):
        shares = list(map(_shares, agreement.overlaps))
        rows.append(
            {
                "arm": agreement.arm,
                "round": agreement.round,
                "kept": 100 * agreement.kept,
                "chance": 100 * agreement.expected,
                "lowest": 100 * _mean(map(_least_in_common, shares)),
                "highest": 100 * _mean(map(min, shares)),
            }
        )
    return rows


def _shares(overlap: Overlap) -> list[float]:
    """Return which share of the weights before the round each candidate keeps."""
    return [kept / overlap.before for kept in overlap.kept]


def _least_in_common(shares: Sequence[float]) -> float:
    """Return what all candidates keep at least: what is left if no two prune the same weight."""
    return max(0.0, 1 - sum(1 - share for share in shares))


@dataclass(frozen=True)
class _Agreement:
    """What the candidates of a round of an arm keep in common, in each replicate."""

    arm: str
    round: int
    overlaps: Sequence[Overlap]

    @property
    def kept(self) -> float:
        """The fraction that all candidates keep, mean over replicates."""
        return _mean(overlap.fraction for overlap in self.overlaps)

    @property
    def expected(self) -> float:
        """The same by chance, in each layer by its own rates."""
        return _mean(overlap.expected / overlap.before for overlap in self.overlaps)


@once
def _agreements(records: Sequence[Record], asked: Asked) -> list[_Agreement]:
    """Return the rounds of several candidates, arm by arm and ascending."""
    agreements = []
    for arm in aggregate.arms(records):
        of_arm = {}
        for record in records:
            if record["arm"] == arm:
                of_arm[record["replicate"], record["round"]] = record
        by_round: dict[int, list[Overlap]] = {}
        for (replicate, index), record in of_arm.items():
            before = None
            # Partitions that search by themselves cut the dense network, not the round before.
            if arm not in asked.independent_partitions:
                before = of_arm.get((replicate, index - 1))
                if before is None:
                    continue
            layers = overlaps_of(before, record)
            if layers:
                by_round.setdefault(index, []).append(together(layers))
        for index, overlaps in sorted(by_round.items()):
            agreements.append(_Agreement(arm, index, overlaps))
    return agreements


def connected(records: Sequence[Record]) -> list[str]:
    """List the arms that train tickets once more, and so have lines between two trainings.

    >>> connected([{"arm": "again", "barrier": 0.01}, {"arm": "lth"}])
    ['again']
    """
    with_barrier = [record["arm"] for record in records if record.get("barrier") is not None]
    return list(dict.fromkeys(with_barrier))


def _lines_at(records: Sequence[Record], arm: str, asked: Asked) -> dict[float, list[Record]]:
    """Return the results of the dense network, and of the first ticket at or below each
    density, that have a line.
    """
    of_arm = [record for record in records if record["arm"] == arm]
    by_density: dict[float, list[Record]] = {}
    for target in (1.0, *asked.at):
        firsts = aggregate.firsts(of_arm, target)
        with_line = [record for record in firsts if record.get("line")]
        # A ticket may be the first one at or below several densities, and is drawn once.
        if with_line and with_line not in by_density.values():
            by_density[target] = with_line
    return by_density


def _stability(records: Sequence[Record], arm: str, asked: Asked) -> str:
    """Say where an arm's tickets come to one basin whatever the order of the data."""
    metric = asked.metric
    barriers, stable, stable_barriers, unstable = [], [], [], []
    for density, tickets in _lines_at(records, arm, asked).items():
        barrier = _mean(record["barrier"] for record in tickets)
        barriers.append(f"{metric.number(barrier)} at {percent(density)} %")
        if barrier < STABLE:
            stable.append(percent(density))
            stable_barriers.append(barrier)
        else:
            unstable.append(f"{percent(density)} % ({100 * barrier:.2f} points)")
    parts = []
    if not metric.fraction:  # what counts as stable was said of errors alone
        parts.append(f"barrier {listed(barriers)}")
    else:
        if stable:
            highest = f"{100 * max(stable_barriers):.2f} points"
            parts.append(f"stable at {listed(stable)} % (barrier at most {highest})")
        if unstable:
            parts.append(f"not stable at {listed(unstable)}")
    return f"{arm}, in another order of the data: {', '.join(parts)}."


def line_rows(records: Sequence[Record], arm: str, asked: Asked) -> list[dict[str, Any]]:
    """Return what `figures.line` draws: mean test errors over replicates, dense and at each
    density.
    """
    rows: list[dict[str, Any]] = []
    for density, tickets in _lines_at(records, arm, asked).items():
        lines = [_errors_along(record, asked.metric) for record in tickets]
        for place, at in enumerate(tickets[0]["line"]["at"]):
            rows.append(
                {
                    "density": f"{percent(density)} %",
                    "at": at,
                    "error": _mean(errors[place] for errors in lines),
                    "replicates": len(tickets),
                }
            )
    return rows


def _errors_along(record: Record, metric: Metric) -> list[float]:
    """Return the errors on the line between two trainings of a ticket, from one end to the
    other.
    """
    return [metric.error(value) for value in record["line"][metric.name]]


def barrier_grid(records: Sequence[Record], metric: Metric = ACCURACY) -> Grid:
    """Return, by arm and round, the error between two trainings of a ticket and whether it is
    stable, as text.
    """
    rows: list[list[str]] = []
    worst = min if metric.worst == "lowest" else max
    for arm in connected(records):
        by_round: dict[int, list[Record]] = {}
        for record in records:
            if record["arm"] == arm and record.get("line"):
                by_round.setdefault(record["round"], []).append(record)
        for place, (_, tickets) in enumerate(sorted(by_round.items())):
            lines = [_errors_along(record, metric) for record in tickets]
            at_ends = _mean((errors[0] + errors[-1]) / 2 for errors in lines)
            barrier = aggregate.spread(record["barrier"] for record in tickets)
            deviation = ""
            if barrier.deviation is not None:
                deviation = f" ± {metric.number(barrier.deviation)}"
            row = [
                "" if place else arm,
                percent(_mean(record["density"] for record in tickets)),
                str(len(tickets)),
                f"{at_ends:.{metric.digits}f}",
                f"{_mean(map(worst, lines)):.{metric.digits}f}",
                f"{metric.number(barrier.mean)}{deviation}",
            ]
            if metric.fraction:
                row.append("yes" if barrier.mean < STABLE else "no")
            rows.append(row)
    heads = [
        "n",
        f"{metric.error_title} at the ends {metric.shown_unit}".strip(),
        f"{metric.worst} {metric.error_title} {metric.shown_unit}".strip(),
        with_unit("barrier", metric.points),
    ]
    if metric.fraction:
        heads.append("stable")
    return Grid(
        title="Between two trainings of a ticket",
        labels=["arm", "density %"],
        groups=[("", heads)],
        rows=rows,
    )


def spent_lines(records: Sequence[Record], asked: Asked = NOTHING) -> list[str]:
    """Say what the arms are charged together and what was done in fact.

    >>> spent_lines([])
    []
    """
    charged, done = ledger.spent(records, asked.made_of)
    if not done.trainings:
        return []
    text = (
        f"As if each arm ran alone: {charged.trainings:,} trainings, {charged.samples:,} examples "
        f"seen. Done in fact, shared trainings once: {done.trainings:,} trainings, "
        f"{done.samples:,} examples"
    )
    if done.steps is not None:
        text += f", {done.steps:,} steps"
    if done.flops is not None and done.flops_sparse is not None:
        dense, sparse = _teras(done.flops), _teras(done.flops_sparse)
        text += f", {dense} TFLOP with all weights ({sparse} with the kept ones alone)"
    text += f", {done.seconds / 60:.1f} min of training one after the other"
    if done.process_seconds is not None:
        text += f" ({done.process_seconds / 60:.1f} min of processor time)"
    if done.peak_bytes:
        text += f"; at most {done.peak_bytes / 2**20:,.0f} MiB in a process"
    return [text + "."]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}".removesuffix(".0")


def _teras(value: float | None) -> str:
    if value is None:
        return ""
    digits = 2 if value < 1e14 else 0
    return f"{value / 1e12:,.{digits}f}"


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
