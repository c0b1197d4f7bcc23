"""Rankings: a score with its options as a recipe names it, as plain data."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tombola.ground import catalogue
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, ScoreError, shown
from tombola.ground.types import Mask, Scores, State
from tombola.masks.selection import check_scores
from tombola.scores.context import Context, Score

NEEDS = ("weights", "data", "history")


@dataclass(frozen=True)
class Ranking:
    """A score and its options, by which weights are ranked.

    Attributes:
        name: The score: an entry of ``tombola.scores`` or ``package.module:function``.
        options: The score's options.

    >>> Ranking.of("magnitude")
    Ranking(name='magnitude', options={})
    >>> Ranking.of({"name": "magnitude", "power": 2}).check()
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: 'magnitude' has no option 'power'; it has none.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: str | Mapping[str, Any]) -> Ranking:
        """Read an entry of a recipe: a name, or a mapping with a name and options."""
        if isinstance(entry, str):
            return cls(entry)
        options = dict(entry)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(
                f"score is {shown(dict(entry))}; it is a name, or a mapping with a name and options"
            )
        return cls(name, options)

    @property
    def _function(self) -> Any:
        return catalogue.entry("tombola.scores", self.name)

    @property
    def needs(self) -> str:
        """What the score needs: "weights"; "data", the partition's model and batches; or "history",
        what its training has gathered.
        """
        needs: str = getattr(self._function, "needs", "weights")
        return needs

    @property
    def examples(self) -> int:
        """How many training examples the score needs; 0 if none."""
        if self.needs != "data":
            return 0
        parameter = inspect.signature(self._function).parameters.get("examples")
        default = 0
        if parameter is not None and parameter.default is not parameter.empty:
            default = parameter.default
        return int(self.options.get("examples", default))

    def on_examples(self, most: int) -> Ranking:
        """Return the same score on at most so many training examples.

        >>> Ranking("snip").on_examples(2).options
        {'examples': 2}
        """
        if not self.examples:
            return self
        return replace(self, options={**self.options, "examples": min(most, self.examples)})

    @property
    def probes(self) -> int:
        """How many examples that are not from the data the score sends through the model.

        A score declares it as its attribute ``probes``.
        """
        return int(getattr(self._function, "probes", 0))

    def passes(self, outputs: int) -> int | None:
        """Return how many forward and backward passes the score takes for an example that it reads.

        A score declares it as its attribute ``passes``: a number, or a function of its options and
        of ``outputs``. ``None`` for a score that declares nothing: one for each time that it reads
        the example.

        Args:
            outputs: How many the model has; 0 where that is not known.
        """
        declared = getattr(self._function, "passes", None)
        if callable(declared):
            declared = declared(self.options, outputs)
        return None if declared is None else int(declared)

    def check(self) -> None:
        """Refuse options that the score does not have, and needs that are unknown.

        Raises:
            ConfigError: There is no such score or option.
        """
        if self.needs not in NEEDS:
            raise ConfigError(
                f"the score {shown(self.name)} needs {shown(self.needs)}; a score needs "
                f"{' or '.join(NEEDS)}"
            )
        catalogue.checked_options(self._function, self.name, 3, self.options)

    def score(self) -> Score:
        """Return the score, with its options."""
        # The first three arguments are state, mask and context; the others are options.
        function = self._function
        options = catalogue.checked_options(function, self.name, 3, self.options)
        if catalogue.is_own(self.name):
            return _checked(self.name, functools.partial(function, **options))
        return functools.partial(function, **options) if options else function


@contextlib.contextmanager
def naming(score: Score) -> Iterator[None]:
    """Name a score in errors about the values that it gives; what ranks them knows no score.

    Args:
        score: The function that gave them.

    Raises:
        ScoreError: They cannot be ranked.

    >>> from tombola.scores import magnitude
    >>> with naming(magnitude):
    ...     raise ScoreError("3 scores of 'fc1.weight' are NaN")
    Traceback (most recent call last):
    tombola.ground.errors.ScoreError: score 'magnitude': 3 scores of 'fc1.weight' are NaN
    """
    try:
        yield
    except ScoreError as error:
        function = score.func if isinstance(score, functools.partial) else score
        name = getattr(function, "__name__", type(function).__name__)
        raise ScoreError(f"score {shown(name)}: {error}") from error


def _checked(name: str, function: Score) -> Score:
    """Wrap a user-defined score: any failure, in any round, becomes one line that names it."""

    def score(state: State, mask: Mask, context: Context) -> Scores:
        with catalogue.own_code(name, "scores"):
            scores = function(state, mask, context)
        # Checked here, where the score can be named; `prune` only sees the values.
        try:
            check_scores(scores, mask)
        except ScoreError as error:
            contract = CONTRACTS["scores"].in_words()
            raise ConfigError(
                f"{shown(name)}: {error}; {contract} (tombola list scores)"
            ) from error
        return scores

    return score
