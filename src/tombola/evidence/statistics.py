"""Statistics: what paired replicates can say, each answer with its number.

    records -> values at a density -> paired differences -> [ interval, test ] -> verdict

Replicate k of every arm starts from the same weights and sees the data in the same order, so arms
are compared by their differences within replicates. A test answers with a p-value: the probability
of what was seen, or more of it, if the truth were at the bound. scipy is imported when a function
needs it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_ROUNDING = 1e-12  # of accuracies, which are quotients: what differs by less is equal
_RESAMPLES = 2000
LEAST_RESAMPLED = 10  # replicates, below which resampling them is not reliable


@dataclass(frozen=True)
class Paired:
    """Differences over replicates.

    Attributes:
        n: How many.
        mean: Their mean.
        deviation: Their sample standard deviation (n - 1); ``None`` for one replicate.
        low: Lower end of the t interval of the mean; ``None`` for one replicate.
        high: Its upper end.
        level: Its confidence, such as 0.95.
    """

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    level: float

    @property
    def side(self) -> int:
        """On which side of zero the interval lies: -1, 1, or 0 if it includes zero."""
        return int((self.low or 0.0) > _ROUNDING) - int((self.high or 0.0) < -_ROUNDING)


def paired(differences: Sequence[float], level: float = 0.95) -> Paired:
    """Summarise paired differences: mean and t interval.

    The interval is about seeds alone, for the one test set that there is; see
    `deviation_by_examples`.

    Raises:
        ValueError: There is no difference, or one is not finite.

    >>> found = paired([0.01, 0.02, 0.03])
    >>> found.n, round(found.mean, 4), round(found.low, 4), round(found.high, 4)
    (3, 0.02, -0.0048, 0.0448)
    """
    known = _checked(differences, 1)
    mean = statistics.fmean(known)
    if len(known) == 1:
        return Paired(1, mean, None, None, None, level)
    deviation = statistics.stdev(known)
    half = half_width(deviation, len(known), level)
    return Paired(len(known), mean, deviation, mean - half, mean + half, level)


def half_width(deviation: float, n: int, level: float = 0.95) -> float:
    """Return half the width of the t interval of the mean of ``n`` values.

    Args:
        deviation: Their sample standard deviation.
        n: How many there are.
        level: Confidence of the interval.

    >>> round(half_width(0.01, 3), 4)  # 4.303 * 0.01 / sqrt(3)
    0.0248
    """
    return _quantile((1 + level) / 2, n) * deviation / math.sqrt(n)


def one_sided_limits(
    differences: Sequence[float], alpha: float = 0.05, resolution: float = 0.0
) -> tuple[float, float] | None:
    """Return a lower and an upper limit of the true mean difference, each at confidence 1 - alpha.

    These are the bounds that `p_above` and `p_below` test: p is at most alpha where the limit lies
    beyond the bound. Where all differences are equal a sign test decides instead, which has no
    limits: ``None``.

    Args:
        differences: One a replicate.
        alpha: Level of each of the two.
        resolution: As in `p_above`.

    Raises:
        ValueError: There are fewer than two differences.

    >>> low, high = one_sided_limits([0.01, 0.02, 0.03])
    >>> round(low, 4), round(high, 4)
    (0.0031, 0.0369)
    >>> round(p_above([0.01, 0.02, 0.03], bound=low), 4)
    0.05
    """
    known = _checked(differences, 2)
    if _alike(known):
        return None
    mean = statistics.fmean(known)
    half = half_width(max(resolution, statistics.stdev(known)), len(known), 1 - 2 * alpha)
    return mean - half, mean + half


def p_above(differences: Sequence[float], bound: float = 0.0, resolution: float = 0.0) -> float:
    """Test whether the true mean difference is above a bound: one-sided t test, small where it is.

    Where all differences are equal there is no spread to test against. That all n lie above the
    bound then says no more than a sign test: ``0.5 ** n``, so three show nothing at 0.05 and five
    do. Otherwise it is 1.

    Args:
        differences: One a replicate.
        bound: What the mean may be above, in the differences' unit.
        resolution: Distance of the values that the quantity can take, such as the steps between two
            evaluations for an early stop; 0 if it can take any. A smaller deviation is taken for
            this one, as few values on a lattice often fall on the same point by chance. A skewed
            lattice may still exceed the level: where the mean is at the bound and the differences
            are 0 or three intervals, with probabilities 2/3 and 1/3, five of them are all 0 in 13 %
            of all experiments.

    Raises:
        ValueError: There are fewer than two differences, or the resolution is below 0.

    >>> round(p_above([0.01, 0.02, 0.03]), 4)
    0.0371
    >>> p_above([0.01, 0.01, 0.01]), p_above([0.0, 0.0, 0.0])
    (0.125, 1.0)
    >>> round(p_above([10, 20, 20]), 4), round(p_above([10, 20, 20], resolution=10), 3)
    (0.0189, 0.051)
    """
    from tombola.ground.extras import scipy

    known = _checked(differences, 2)
    if not resolution >= 0:
        raise ValueError(f"the resolution is {resolution}; it must be 0 or above")
    n, above = len(known), statistics.fmean(known) - bound
    sign_test = 0.5**n
    if _alike(known):
        if above <= _ROUNDING:
            return 1.0
        if not resolution:
            return float(sign_test)
    # Values on a lattice fall on the same point by chance: they are not known more closely than its
    # steps.
    deviation = max(resolution, statistics.stdev(known))
    p = float(scipy.special.stdtr(n - 1, -above / (deviation / math.sqrt(n))))
    return max(p, sign_test) if _alike(known) else p


def p_below(differences: Sequence[float], bound: float = 0.0, resolution: float = 0.0) -> float:
    """Test whether the true mean difference is below a bound; as `p_above`."""
    return p_above([-difference for difference in differences], -bound, resolution)


def p_different(differences: Sequence[float]) -> float:
    """Test whether the true mean difference is other than zero: two-sided t test.

    >>> round(p_different([0.01, 0.02, 0.03]), 4)
    0.0742
    """
    return min(1.0, 2 * min(p_above(differences), p_below(differences)))


def p_non_inferior(differences: Sequence[float], margin: float) -> float:
    """Test whether the first arm is at most ``margin`` below the second.

    Args:
        differences: First minus second, one a replicate.
        margin: What still counts as "as good as", above 0, in the differences' unit.

    >>> round(p_non_inferior([-0.002, 0.001, 0.0], margin=0.01), 4)
    0.0041
    """
    return p_above(differences, -_positive(margin))


def p_equivalent(differences: Sequence[float], margin: float) -> float:
    """Test whether the arms differ by at most ``margin``: the larger p of two one-sided tests.

    >>> round(p_equivalent([-0.002, 0.001, 0.0], margin=0.01), 4)
    0.0041
    """
    return max(p_above(differences, -_positive(margin)), p_below(differences, margin))


def decidable_margin(differences: Sequence[float], alpha: float = 0.05) -> float:
    """Return the smallest margin that so many replicates, scattering so much, can decide.

    With a smaller one non-inferiority is not shown even where the arms are equal on average. It is
    infinite where no margin can be decided: all differences are equal, and too few for a sign test,
    see `p_above`.

    >>> round(decidable_margin([0.01, 0.02, 0.03]), 4)
    0.0169
    >>> decidable_margin([0.01] * 4), decidable_margin([0.01] * 5)
    (inf, 0.0)
    """
    known = _checked(differences, 2)
    if _alike(known):
        return 0.0 if 0.5 ** len(known) <= alpha else math.inf
    return _quantile(1 - alpha, len(known)) * statistics.stdev(known) / math.sqrt(len(known))


def p_wilcoxon(differences: Sequence[float]) -> float:
    """Test whether the first arm is above the second: one-sided exact signed-rank test.

    It assumes no normal distribution, and has few values: n replicates cannot come below
    ``0.5 ** n``, so that five give 0.03125 at best (two-sided 0.0625). Differences of zero are left
    out.

    >>> p_wilcoxon([0.01, 0.02, 0.03, 0.04, 0.05])
    0.03125
    """
    from tombola.ground.extras import scipy

    known = [difference for difference in _checked(differences, 1) if abs(difference) > _ROUNDING]
    if not known:
        return 1.0
    return float(scipy.stats.wilcoxon(known, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests, so that any false alarm has at most the level's
    probability.

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
        of Statistics 6.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(ascending):
        # No p-value falls below that of a smaller one.
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True)
class McNemar:
    """Two trained models on the same test examples.

    Attributes:
        first_only: Examples that the first alone has right.
        second_only: Examples that the second alone has right.
        p: Two-sided exact p-value of the two being as accurate.
    """

    first_only: int
    second_only: int
    p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Compare two trained models, not arms: it knows nothing of what another seed would give.

    Args:
        first: Whether the first model has each test example right, bool, shape [examples].
        second: The same of the second model.

    Raises:
        ValueError: They are not about the same examples.

    >>> mcnemar([True, True, True, False], [False, False, False, False])
    McNemar(first_only=3, second_only=0, p=0.25)
    """
    from tombola.ground.extras import scipy

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(
            f"the models are tested on {first.shape} and {second.shape} examples; they must be the "
            "same"
        )
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    differing = first_only + second_only
    p = float(scipy.stats.binomtest(first_only, differing).pvalue) if differing else 1.0
    return McNemar(first_only, second_only, p)


def deviation_by_examples(first: ArrayLike, second: ArrayLike, seed: int = 0) -> float:
    """Return how much a mean difference in accuracy would vary with the test examples.

    It is a bootstrap over examples. Beside the deviation of the mean over seeds it says which of
    the two limits what can be known.

    Args:
        first: Whether the first arm has each example right, bool, shape [replicates, examples].
        second: The same of the second arm; replicates pair.
        seed: Of the resampling.

    Returns:
        Standard deviation of the mean difference, as a fraction.

    >>> right = [[True, True, False, True]]
    >>> deviation_by_examples(right, right)
    0.0
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"the arms have results of shape {first.shape} and {second.shape}; they must pair"
        )
    differences = (first - second).mean(axis=0)
    # Only a few values occur: how often each is drawn is all that a resample decides.
    values, counts = np.unique(differences, return_counts=True)
    total = counts.sum()
    drawn = np.random.default_rng(seed).multinomial(total, counts / total, size=_RESAMPLES)
    return float((drawn @ values / total).std(ddof=1))


def interval_by_replicates(
    differences: Sequence[float], level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return a bootstrap interval of the mean over replicates, bias-corrected and accelerated.

    Raises:
        ValueError: There are fewer than ten replicates, where resampling is not reliable.

    >>> low, high = interval_by_replicates([0.01 * k for k in range(10)])
    >>> low < 0.045 < high
    True
    """
    from tombola.ground.extras import scipy

    known = _checked(differences, LEAST_RESAMPLED)
    if _alike(known):
        return known[0], known[0]
    bootstrap = scipy.stats.bootstrap(
        (known,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=level,
        rng=np.random.default_rng(seed),
    )
    interval = bootstrap.confidence_interval
    return float(interval.low), float(interval.high)


def _alike(known: Sequence[float]) -> bool:
    return max(known) - min(known) < _ROUNDING


def _quantile(probability: float, n: int) -> float:
    from tombola.ground.extras import scipy

    return float(scipy.special.stdtrit(n - 1, probability))


def _positive(margin: float) -> float:
    if not margin > 0:
        raise ValueError(f"the margin is {margin}; it must be above 0")
    return margin


def _checked(differences: Sequence[float], least: int) -> list[float]:
    known = [float(difference) for difference in differences]
    if len(known) < least:
        raise ValueError(f"{least} replicates or more are needed, and there are {len(known)}")
    if not all(map(math.isfinite, known)):
        raise ValueError(f"a difference is not finite: {known}")
    return known
