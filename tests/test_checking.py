"""Checking: a value is taken in its type, and nothing is guessed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from tombola.ground.checking import checked
from tombola.ground.errors import ConfigError


class Other:
    """A type that is not checked."""


@pytest.mark.parametrize(
    ("hint", "value", "becomes"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (int | float, 3, 3),
        (float | str, "0.2", "0.2"),
        (str | None, "null", "null"),
        (str | None, None, None),
        (Optional[int], 3, 3),  # noqa: UP045
        (bool | int, True, True),
        (tuple[float, float], [0.9, 1], (0.9, 1.0)),
        (tuple[int, ...], [], ()),
        (tuple, [1, "a"], (1, "a")),
        (list[float], (1, 2), [1.0, 2.0]),
        (Sequence[int], [1], [1]),
        (Sequence[int], (1,), (1,)),
        (Literal["a", "b"], "b", "b"),
        (dict[str, float], {"conv": 1}, {"conv": 1.0}),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (dict[str, Any], {1: "x"}, {"1": "x"}),
        (dict, {"a": [1]}, {"a": [1]}),
        (str | Path | None, "x", "x"),
        (Path, "x", Path("x")),
        (Any, "0.2", "0.2"),
        (Other, "x", "x"),
    ],
)
def test_a_value_of_its_type_is_taken_and_converted_where_nothing_is_guessed(hint, value, becomes):
    result = checked(hint, value, "x")
    assert (result, type(result)) == (becomes, type(becomes))
    assert repr(result) == repr(becomes)  # (1.0, 2.0) == (1, 2)


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (int, "3", "x is '3'; it should be a whole number."),
        (int, 2.0, "x is 2.0; it should be a whole number."),
        (int, True, "x is True; it should be a whole number."),
        (float, "0.2", "x is '0.2'; it should be a number."),
        (float, True, "x is True; it should be a number."),
        (float, None, "x is None; it should be a number."),
        (int | float | None, "0.2", "x is '0.2'; it should be a whole number or a number."),
        (bool, "no", "x is 'no'; it should be true or false."),
        (bool, 1, "x is 1; it should be true or false."),
        (str, 3, "x is 3; it should be a text."),
        (Path, 3, "x is 3; it should be a path."),
        (tuple[float, ...], [1, "2"], "x is [1, '2']; it should be a list of numbers."),
        (tuple[int, ...], [True], "x is [True]; it should be a list of whole numbers."),
        (tuple[int, ...], "12", "x is '12'; it should be a list of whole numbers."),
        (tuple[int, int], [1], "x is [1]; it should be a list of 2 whole numbers."),
        (Sequence[str], "abc", "x is 'abc'; it should be a list of texts."),
        (Sequence[int], 3, "x is 3; it should be a list of whole numbers."),
        (
            float | dict[str, float],
            {"conv": "1"},
            "it should be a number or a mapping from group to number.",
        ),
        (
            Literal["sgd", "adam"],
            "adm",
            "x is 'adm'; it should be one of sgd, adam. Did you mean 'adam'?",
        ),
        (Literal["a"] | None, [1], "x is [1]; it should be one of a."),
        (Literal[1, 2], True, "x is True; it should be one of 1, 2."),
    ],
)
def test_a_value_of_another_type_is_told_in_words(hint, value, said):
    with pytest.raises(ConfigError) as refused:
        checked(hint, value, "x")
    assert str(refused.value).endswith(said)
