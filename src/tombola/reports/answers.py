"""Answers: what a run has found, in plain English, and once what keeps it from saying more.

    verdicts and comparisons -> [ answers, hindrances ] -> page, summary, terminal

A number in brackets behind "at least" or "at most" is the one-sided confidence limit that the verdict tests; two
numbers in brackets are the interval of the mean difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tombola.comparisons import DENSE, Comparison
from tombola.reports.grids import difference, listed, percent, signed
from tombola.verdicts import LEAST, Condition, Verdict

_MOST = 4  # arms that are told in a sentence each


def answers(
    verdicts: Sequence[Verdict],
    compared: Sequence[Comparison],
    arms: Sequence[str],
    matched: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """Answer for each arm whether its tickets train as well as the dense network: what wins first, then the rest.

    Returns:
        For each arm its sentences; the first one of the first arm is the answer in short.

    Args:
        verdicts: Of all tickets that are judged; none where no margin is set.
        compared: All comparisons, those with the dense network among them.
        arms: The arms to tell of.
        matched: By arm, those that keep as many weights as it does after every round.
    """
    matched = matched or {}
    told: list[tuple[int, list[str]]] = []
    for arm in arms:
        of_arm = [one for one in verdicts if one.arm == arm and one.word != "no verdict"]
        with_dense = [one for one in compared if (one.arm, one.other) == (arm, DENSE)]
        if of_arm:
            rank, sentences = _judged(arm, of_arm)
        elif with_dense:
            rank, sentences = 3, [_beside_dense(arm, with_dense)]
        else:
            continue
        beside = [_beside_matched(arm, other, compared) for other in matched.get(arm, ())]
        told.append((rank, [*sentences, *filter(None, beside)]))
    told.sort(key=lambda one: one[0])
    more = len(told) - _MOST
    return [sentences for _, sentences in told[:_MOST]] + (
        [[f"{more} more arms are in the tables."]] if more > 0 else []
    )


def hindrances(verdicts: Sequence[Verdict], compared: Sequence[Comparison], margin: float | None) -> list[str]:
    """Say what keeps a run from saying more, each once and with its cure.

    Args:
        verdicts: Of the tickets that the answer tells of.
        compared: All comparisons.
        margin: What still counts as "as accurate as dense"; ``None`` if it was not said.
    """
    said = []
    if margin is None and compared:
        said.append("No verdicts: the recipe does not say how much accuracy a ticket may lose (verdict.margin). The "
                    "same command with --verdict.margin 0.01 allows one point, and trains nothing again.")  # fmt: skip
    few = [one for one in verdicts if one.word == "no verdict"]
    if few:
        fewest = min(one.replicates for one in few)
        said.append(f"No verdict for {_arms(few)}: it takes {LEAST} replicates, and there {_are(fewest)}. The same "
                    "command with --replicates 5 adds those that are missing.")  # fmt: skip
    for cause in _CURES:
        stopped = [one for one in verdicts if any(condition.cause == cause for condition in one.conditions)]
        if stopped:
            others = [condition.other for one in stopped for condition in one.conditions if condition.cause == cause]
            arms = list(dict.fromkeys(one.arm for one in stopped))
            said.append(_CURES[cause].format(
                arms=listed(arms), first=arms[0], have="has" if len(arms) == 1 else "have",
                controls=listed(list(dict.fromkeys(others))), where=_at(stopped),
            ))  # fmt: skip
    return said


_CURES = {
    "no control": "{arms} {have} no control, and a winning ticket has to beat one: add an arm such as "
    "random-{first}: {{method: random_ticket, of: {first}}}.",
    "no result": "{controls}, which {arms} {have} to beat, has no result {where}: finish the run, or evaluate it there "
    "(evaluate_at).",
    "no validation": "Without validation data there are no early stops to compare, and no ticket can be shown to be "
    "winning: set data.valid, such as --data.valid 0.1.",
    "no interval": "The records do not say how often networks were evaluated, so early stops cannot be compared: set "
    "verdict.steps.",
    "censored": "Early stops of {arms} cannot be compared with those of dense {where}: trainings ended before their "
    "validation loss had risen again. Longer ones decide (training.epochs or training.steps).",
}


def _judged(arm: str, verdicts: Sequence[Verdict]) -> tuple[int, list[str]]:
    """Return an arm's rank in the answer, 0 for the winners, and its sentences."""
    by_word: dict[str, list[Verdict]] = {}
    for one in verdicts:
        by_word.setdefault(one.word, []).append(one)
    winning, losing, open_ = (by_word.get(word, []) for word in ("winning", "losing", "inconclusive"))
    if winning:
        rank = 0
        said = [f"{arm} finds winning tickets {_reach(winning, verdicts)} of the weights: {_evidence(winning)}."]
        if losing:
            said.append(f"{_capital(_at(losing))} they lose: {_violation(losing)}.")
    elif losing:
        rank = 1
        said = [f"{arm} finds no winning ticket {_at(losing)} of the weights: {_violation(losing)}."]
    else:
        rank = 2
        said = [f"Whether {arm} finds winning tickets is open: {_doubt(open_[-1], 'its tickets')}."]
    if open_ and rank < 2:
        said.append(f"{_capital(_doubt(open_[-1], 'they'))}.")
    return rank, said


def _reach(winning: Sequence[Verdict], verdicts: Sequence[Verdict]) -> str:
    """Say where tickets win: down to a density if at all that are denser too, else at which."""
    lowest = min(one.density for one in winning)
    to_there = [one for one in verdicts if one.density >= lowest]
    if len(winning) > 1 and len(winning) == len(to_there):
        return f"down to {percent(lowest)} %"
    return _at(winning)


def _evidence(winning: Sequence[Verdict]) -> str:
    """Say by what the sparsest winning ticket wins."""
    one = winning[-1]
    accurate, _, *controls = one.conditions
    beaten = [(condition.paired.mean, condition) for condition in controls if condition.paired is not None]
    mean, closest = min(beaten, key=lambda each: each[0])
    above = f"{signed(mean).removeprefix('+')} points above {closest.other}{_limit(closest)}"
    if len(controls) > 1:
        above += f", the closest of its {len(controls)} controls"
    where = "" if len(winning) == 1 else f"{_at([one])} "
    return f"{where}they are within {_points(one.margin)} of dense ({number(accurate)}) and {above}"


def _violation(losing: Sequence[Verdict]) -> str:
    """Say by what the densest ticket that loses does so."""
    one, said = losing[0], []
    for condition in one.conditions:
        if condition.state != "violated":
            continue
        if _is_stop(condition):
            said.append(f"stop later than dense ({number(condition)} steps)")
        elif condition.other == DENSE:
            said.append(f"are more than {_points(one.margin)} below dense ({number(condition)})")
        else:
            said.append(f"are less accurate than {condition.other} ({number(condition)} points)")
    where = "" if len(losing) == 1 else f"{_at([one])} "
    return f"{where}they {listed(said)}"


def _doubt(one: Verdict, they: str) -> str:
    """Say what is known of an inconclusive ticket, and what is not."""
    doubts = []
    for condition in one.conditions:
        if condition.state != "undecided" or condition.cause == "no control":
            continue
        if _is_stop(condition):
            doubts.append(f"stop no later than dense{_bracketed(condition, ' steps')}")
        elif condition.other == DENSE:
            doubts.append(f"be within {_points(one.margin)} of dense{_bracketed(condition)}")
        else:
            doubts.append(f"be more accurate than {condition.other}{_bracketed(condition, ' points')}")
    accurate = one.conditions[0]
    known = f"are within {_points(one.margin)} of dense ({number(accurate)})" if accurate.state == "shown" else ""
    unknown = f"are not shown to {_either(doubts)}" if doubts else ""
    if known and unknown:
        unknown = unknown.removeprefix("are ")
    text = f"{_at([one])} {they} {' but '.join(filter(None, [known, unknown]))}"
    if any(condition.cause == "no control" for condition in one.conditions):
        text += ", and there is no control for them to beat"
    return text


def _beside_dense(arm: str, compared: Sequence[Comparison]) -> str:
    """Say at which densities an arm differs from the dense network, each with the number of the sparsest."""
    groups: dict[str, list[Comparison]] = {}
    for one in compared:
        groups.setdefault("" if one.p is None else _shown(one, DENSE), []).append(one)
    said = []
    for shown, ones in groups.items():
        last = ones[-1]
        numbers = difference(last.paired.mean, last.paired.low, last.paired.high, last.of)
        if not shown:
            n = len(last.values)
            said.append(f"{numbers} from dense {_at([last])}, in {n} replicate{'s' if n > 1 else ''}")
            continue
        where = "" if len(ones) == 1 else f" {_at([last])}"
        said.append(f"{shown} {_at(ones)} ({numbers}{where})")
    return f"{arm} is {listed(said)}."


def _shown(one: Comparison, other: str) -> str:
    """Say how an arm differs from another one."""
    word = one.verdict.split(",")[0]
    if word in _MORE_OR_LESS:
        return f"{_MORE_OR_LESS[word]} {other}"
    if word.endswith(" by itself"):
        return f"{_MORE_OR_LESS[word.split()[0]]} {other} by itself (not over {one.looks} densities together)"
    return f"not shown to differ from {other}"


_MORE_OR_LESS = {"higher": "more accurate than", "lower": "less accurate than"}


def _beside_matched(arm: str, other: str, compared: Sequence[Comparison]) -> str:
    """Say how an arm differs from one that keeps as many weights, at the sparsest density where that is shown."""
    pairs = [one for one in compared if (one.arm, one.other) == (arm, other) and one.p is not None]
    if not pairs:
        return ""
    differing = [one for one in pairs if one.verdict.split(",")[0] in _MORE_OR_LESS]
    last = (differing or pairs)[-1]
    numbers = difference(last.paired.mean, last.paired.low, last.paired.high, last.of)
    return f"{arm} is {_shown(last, other)}, which keeps as many weights: {numbers} {_at([last])}."


def _arms(verdicts: Sequence[Verdict]) -> str:
    return listed(list(dict.fromkeys(one.arm for one in verdicts)))


def _are(number: int) -> str:
    return "is 1" if number == 1 else f"are {number}"


def _at(ones: Sequence[Verdict] | Sequence[Comparison]) -> str:
    densities = list(dict.fromkeys(percent(one.density) for one in ones))
    return f"at {listed(densities)} %"


def _either(words: Sequence[str]) -> str:
    return " or to ".join(filter(None, [", to ".join(words[:-1]), words[-1]]))


def _is_stop(condition: Condition) -> bool:
    return condition.of == "early_stop_step"


def number(condition: Condition, low: str = "at least", high: str = "at most") -> str:
    """Return a condition's mean difference and the confidence limit that its state rests on.

    Args:
        condition: One that was tested, or at least compared.
        low: What stands before a limit that the difference is not below.
        high: What stands before one that it is not above.

    >>> from tombola.statistics import Paired
    >>> paired = Paired(5, 0.01, 0.002, 0.0075, 0.0125, 0.95)
    >>> number(Condition("n", "test_accuracy", "dense", -0.02, paired, 0.0, 1.0, "shown", limits=(0.0081, 0.0119)))
    '+1.00, at least +0.81'
    """
    if condition.paired is None:
        return condition.why
    mean = signed(condition.paired.mean, condition.of)
    if condition.limits is None:
        return mean
    # Shown accuracies lie above their bound and shown stops below it; what is violated lies on the other side.
    at_most = _is_stop(condition) != (condition.state == "violated")
    limit = condition.limits[1] if at_most else condition.limits[0]
    return f"{mean}, {high if at_most else low} {signed(limit, condition.of)}"


def _limit(condition: Condition) -> str:
    """Return the limit alone, in brackets, where there is one."""
    _, comma, limit = number(condition).partition(", ")
    return f" ({limit})" if comma else ""


def _bracketed(condition: Condition, unit: str = "") -> str:
    return f" ({number(condition)}{unit})" if condition.paired is not None else ""


def _points(margin: float) -> str:
    return f"{percent(margin)} point{'' if percent(margin) == '1' else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
