"""Answers: what a run has found, in plain English, and once what keeps it from saying more.

    verdicts and comparisons -> [ answers, hindrances ] -> page, summary, terminal

A number in brackets behind "at least" or "at most" is the one-sided confidence limit that the
verdict tests; two numbers in brackets are the interval of the mean difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tombola.evidence.comparisons import DENSE, Comparison, Shows
from tombola.evidence.verdicts import LEAST, Condition, Verdict, Word
from tombola.ground.metrics import ACCURACY, STEPS, Metric
from tombola.reports.grids import difference, listed, percent

_MOST = 4  # arms that get their own sentences


def answers(
    verdicts: Sequence[Verdict],
    comparisons: Sequence[Comparison],
    arms: Sequence[str],
    matched: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """Say of each arm whether its tickets train as well as the dense network, winners first.

    Returns:
        For each arm its sentences; the first one of the first arm is the answer in short.

    Args:
        verdicts: Of all tickets that are judged; none where no margin is set.
        comparisons: All comparisons, those with the dense network among them.
        arms: The arms to tell of.
        matched: By arm, those that keep as many weights as it does after every round.
    """
    matched = matched or {}
    ranked: list[tuple[int, list[str]]] = []
    for arm in arms:
        judged = [v for v in verdicts if v.arm == arm and v.word != "no verdict"]
        with_dense = _pair(comparisons, arm, DENSE)
        if judged:
            rank, sentences = _judged(arm, judged)
        elif with_dense:
            rank, sentences = 3, [_beside_dense(arm, with_dense)]
        else:
            continue
        for other in matched.get(arm, ()):
            sentences += _beside_matched(arm, other, _pair(comparisons, arm, other))
        ranked.append((rank, sentences))
    ranked.sort(key=lambda entry: entry[0])
    answer = [sentences for _, sentences in ranked[:_MOST]]
    more = len(ranked) - _MOST
    if more > 0:
        answer.append([f"{more} more {'arm is' if more == 1 else 'arms are'} in the tables."])
    return answer


def _pair(comparisons: Sequence[Comparison], arm: str, other: str) -> list[Comparison]:
    return [c for c in comparisons if (c.arm, c.other) == (arm, other)]


def hindrances(
    verdicts: Sequence[Verdict],
    comparisons: Sequence[Comparison],
    margin: float | None,
    metric: Metric = ACCURACY,
) -> list[str]:
    """Say what keeps a run from saying more, each once and with its cure.

    Args:
        verdicts: Of the tickets that the answer tells of.
        comparisons: All comparisons.
        margin: What still counts as "as accurate as dense"; ``None`` if the recipe sets none.
        metric: What the margin is of.
    """
    sentences = []
    if margin is None and comparisons:
        sentences.append(
            f"No verdicts: the recipe sets no margin for {metric.title} (verdict.margin). The same "
            f"command with --verdict.margin {_MARGIN[metric.fraction]} and trains nothing again."
        )
    too_few = [v for v in verdicts if v.word == "no verdict"]
    if too_few:
        fewest = min(v.replicates for v in too_few)
        sentences.append(
            f"No verdict for {_arms(too_few)}: it takes {LEAST} replicates, and there "
            f"{'is' if fewest == 1 else 'are'} {fewest}. The same command with --replicates 5 adds "
            "those that are missing."
        )
    for cause, cure in _CURES.items():
        hindered: list[Verdict] = []
        arms, controls = dict[str, None](), dict[str, None]()  # in order, each once
        for verdict in verdicts:
            for condition in verdict.conditions:
                if condition.cause == cause:
                    hindered.append(verdict)
                    arms[verdict.arm] = controls[condition.other] = None
        if hindered:
            sentence = cure.format(
                arms=listed(list(arms)),
                first=hindered[0].arm,
                arms_have="has" if len(arms) == 1 else "have",
                controls=listed(list(controls)),
                controls_have="has" if len(controls) == 1 else "have",
                at=_at(hindered),
            )
            sentences.append(sentence)
    return sentences


_MARGIN = {True: "0.01 allows one point", False: "NUMBER, in its own unit, allows that"}

_CURES = {
    "no control": "To give {arms} a control to beat, add an arm such as "
    "random-{first}: {{method: random_ticket, source: {first}}}.",
    "no result": "{controls}, which {arms} {arms_have} to beat, {controls_have} no result {at}: "
    "finish the run, or evaluate it there (evaluate_at).",
    "no validation": "Without validation data there are no early stops to compare, and no ticket "
    "can be shown to be winning: set data.valid, such as --data.valid 0.1.",
    "no interval": "The records do not say how often networks were evaluated, so early stops "
    "cannot be compared: set verdict.steps.",
    "censored": "Early stops of {arms} cannot be compared with those of dense {at}: training "
    "ended before the validation loss had risen again. Train longer to decide it "
    "(training.epochs or training.steps).",
}


def _judged(arm: str, verdicts: Sequence[Verdict]) -> tuple[int, list[str]]:
    """Return an arm's rank in the answer, 0 for the winners, and its sentences."""
    by_word: dict[Word, list[Verdict]] = {"winning": [], "losing": [], "inconclusive": []}
    for verdict in verdicts:
        by_word[verdict.word].append(verdict)
    winning, losing, inconclusive = by_word.values()
    if not winning and not losing:
        doubt = _doubt(inconclusive[-1], "its tickets")
        return 2, [f"It is inconclusive whether {arm} finds winning tickets: {doubt}."]
    if winning:
        rank = 0
        where = f"{_reach(winning, verdicts)} density"
        sentences = [f"{arm} finds winning tickets {where}: {_evidence(winning)}."]
        if losing:
            sentences.append(
                f"{_capital(_at(losing))} the tickets of {arm} lose: {_violation(losing)}."
            )
    else:
        rank = 1
        where = f"{_at(losing)} density"
        sentences = [f"{arm} finds no winning ticket {where}: {_violation(losing)}."]
    if inconclusive:
        # By the arm's name, for on the page this sentence does not stand behind the first one.
        sentences.append(f"{_capital(_doubt(inconclusive[-1], f'the tickets of {arm}'))}.")
    return rank, sentences


def _reach(winning: Sequence[Verdict], verdicts: Sequence[Verdict]) -> str:
    """Say where tickets win: "down to" a density if all denser ones win too, else at which."""
    lowest = min(v.density for v in winning)
    down_to_lowest = [v for v in verdicts if v.density >= lowest]
    if len(winning) > 1 and len(winning) == len(down_to_lowest):
        return f"down to {percent(lowest)} %"
    return _at(winning)


def _evidence(winning: Sequence[Verdict]) -> str:
    """Say by what the sparsest winning ticket wins."""
    sparsest = winning[-1]
    metric = sparsest.metric
    with_dense, _, *with_controls = sparsest.conditions
    beaten = [(c.paired.mean, c) for c in with_controls if c.paired is not None]
    mean, closest = min(beaten, key=lambda entry: metric.sign * entry[0])
    ahead = f"{metric.signed(abs(mean)).removeprefix('+')} {metric.points}".strip()
    above = f"{ahead} {'above' if metric.higher else 'below'} {closest.other}{_limit(closest)}"
    if len(with_controls) > 1:
        above += f", the closest of its {len(with_controls)} controls"
    where = "" if len(winning) == 1 else f"{_at([sparsest])} "
    within = f"within {metric.amount(sparsest.margin)} of dense ({number(with_dense)})"
    return f"{where}they are {within} and {above}"


# What a condition compares, and how it reads where it is violated, and where undecided.
_PHRASES = {
    "dense": ("are more than {points} {side} dense", "are within {points} of dense"),
    "early stop": ("stop later than dense", "stop no later than dense"),
    "control": ("are {worse} {other}", "are {better} {other}"),
}


def _phrase(condition: Condition, margin: float) -> str:
    """Say what a condition that is violated or undecided is about, with its number."""
    metric = condition.metric
    if metric == STEPS:
        compared = "early stop"
    else:
        compared = "dense" if condition.other == DENSE else "control"
    violated, undecided = _PHRASES[compared]
    words = violated if condition.state == "violated" else undecided
    words = words.format(
        points=metric.amount(margin),
        side="below" if metric.higher else "above",
        worse=metric.worse_than,
        better=metric.better_than,
        other=condition.other,
    )
    # The margin's unit is said already.
    unit = "" if compared == "dense" else f" {metric.points}".rstrip()
    return words if condition.paired is None else f"{words} ({number(condition)}{unit})"


def _violation(losing: Sequence[Verdict]) -> str:
    """Say by what the densest ticket that loses does so."""
    densest = losing[0]
    violated = [c for c in densest.conditions if c.state == "violated"]
    where = "" if len(losing) == 1 else f"{_at([densest])} "
    return f"{where}they {listed([_phrase(c, densest.margin) for c in violated])}"


def _doubt(verdict: Verdict, they: str) -> str:
    """Say what is known of an inconclusive ticket, and what is not."""
    known = ""
    with_dense = verdict.conditions[0]
    if with_dense.state == "shown":
        margin = verdict.metric.amount(verdict.margin)
        known = f"{they} are within {margin} of dense ({number(with_dense)})"
    doubts, has_control = [], True
    for condition in verdict.conditions:
        if condition.cause == "no control":
            has_control = False
        elif condition.state == "undecided":
            doubts.append(_phrase(condition, verdict.margin))
    parts = [known] if known else []
    if doubts:
        parts.append(f"it is undecided whether {'they' if known else they} {listed(doubts)}")
    text = f"{_at([verdict])} {', but '.join(parts)}"
    return text if has_control else f"{text}, and there is no control for them to beat"


def _beside_dense(arm: str, comparisons: Sequence[Comparison]) -> str:
    """Say at which densities an arm differs from dense, each with the number of the sparsest."""
    by_words: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        words = "" if comparison.p is None else _shown(comparison, DENSE)
        by_words.setdefault(words, []).append(comparison)
    parts = []
    for words, alike in by_words.items():
        sparsest = alike[-1]
        if not words:
            where = _at([sparsest])
            parts.append(f"{_difference(sparsest)} from dense {where}, {_replicates(sparsest)}")
            continue
        where = "" if len(alike) == 1 else f" {_at([sparsest])}"
        parts.append(f"{words} {_at(alike)} ({_difference(sparsest)}{where})")
    return f"{arm} is {listed(parts)}."


def compared_in_words(comparison: Comparison, arm: str = "", other: str = "") -> str:
    """Say in a sentence how two arms differ, and whether that is shown.

    Args:
        comparison: Of these arms.
        arm: What the first is called here, if not by its name.
        other: The same for the second.
    """
    arm, other = arm or comparison.arm, other or comparison.other
    where = f"{_at([comparison])} density"
    if comparison.p is None:
        return (
            f"{arm} is {_difference(comparison)} from {other} {where}, {_replicates(comparison)}."
        )
    words = f"{arm} is {_shown(comparison, other)} {where}: {_difference(comparison)}"
    if comparison.margin is not None and comparison.shows in _OF_MARGIN:
        margin = comparison.metric.amount(comparison.margin)
        words += f", {_OF_MARGIN[comparison.shows]} the margin of {margin}"
    return f"{words}."


# What a comparison shows of the margin.
_OF_MARGIN: Mapping[Shows, str] = {
    "different, within margin": "within",
    "unadjusted, within margin": "within",
    "equal": "equal within",
    "not worse": "not worse by more than",
}


def _shown(comparison: Comparison, other: str) -> str:
    """Say how an arm differs from another one."""
    metric = comparison.metric
    better = (comparison.side == "higher") == metric.higher
    words = f"{metric.better_than if better else metric.worse_than} {other}"
    if comparison.shows in _DIFFERENT:
        return words
    if comparison.shows in _UNADJUSTED:
        return f"{words} (before correction for {comparison.looks} densities)"
    return f"not detectably different from {other}"


_DIFFERENT: tuple[Shows, ...] = ("different", "different, within margin")
_UNADJUSTED: tuple[Shows, ...] = ("unadjusted", "unadjusted, within margin")


def _beside_matched(arm: str, other: str, comparisons: Sequence[Comparison]) -> list[str]:
    """Say how an arm differs from one that keeps as many weights, where that is shown."""
    tested = [c for c in comparisons if c.p is not None]
    if not tested:
        return []
    differing = [c for c in tested if c.shows in _DIFFERENT]
    sparsest = (differing or tested)[-1]
    words = f"{arm} is {_shown(sparsest, other)}, which keeps as many weights"
    return [f"{words}: {_difference(sparsest)} {_at([sparsest])}."]


def _difference(comparison: Comparison) -> str:
    paired = comparison.paired
    return difference(paired.mean, paired.low, paired.high, comparison.metric)


def _replicates(comparison: Comparison) -> str:
    n = len(comparison.values)
    return f"in {n} replicate{'s' if n > 1 else ''}"


def _arms(verdicts: Sequence[Verdict]) -> str:
    return listed(list(dict.fromkeys(v.arm for v in verdicts)))


def _at(results: Sequence[Verdict] | Sequence[Comparison]) -> str:
    densities = list(dict.fromkeys(percent(result.density) for result in results))
    return f"at {listed(densities)} %"


def number(condition: Condition, low: str = "at least", high: str = "at most") -> str:
    """Return a condition's mean difference and the confidence limit that its state rests on.

    Args:
        condition: One that was tested, or at least compared.
        low: What stands before a limit that the difference is not below.
        high: What stands before one that it is not above.

    >>> from tombola.evidence.statistics import Paired
    >>> paired = Paired(5, 0.01, 0.002, 0.0075, 0.0125, 0.95)
    >>> number(Condition(
    ...     "n", "test_accuracy", "dense", -0.02, paired, 0.0, 1.0, "shown", limits=(0.0081, 0.0119)
    ... ))
    '+1.00, at least +0.81'
    """
    if condition.paired is None:
        return condition.why
    metric = condition.metric
    mean = metric.signed(condition.paired.mean)
    if condition.limits is None:
        return mean
    # What is shown lies on the better side of its bound, what is violated on the other.
    at_most = metric.higher == (condition.state == "violated")
    limit = condition.limits[1] if at_most else condition.limits[0]
    return f"{mean}, {high if at_most else low} {metric.signed(limit)}"


def _limit(condition: Condition) -> str:
    """Return the limit alone, in brackets, where there is one."""
    _, comma, limit = number(condition).partition(", ")
    return f" ({limit})" if comma else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
