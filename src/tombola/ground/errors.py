"""Errors: what a user can put right is told in one line; everything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice

_WIDTH = 60  # characters of a value in a message
_LONGEST = 900  # characters of a message
_LARGEST = 10**40  # whole numbers from there on are told by their size
_DEEPEST = 6  # lists in lists that a message opens

# What others call a thing that has another name here.
_ALSO_CALLED = {
    "imp": ("lth",), "iterativemagnitudepruning": ("lth",), "lottery": ("lth",), "gmp": ("gradual",),
    "baseline": ("dense",), "unpruned": ("dense",), "oneshotpruning": ("one_shot",),
    "randomreinit": ("reinitialised",), "reinit": ("reinitialised",), "finetuning": ("fine_tune",),
    "l1": ("magnitude",), "l1norm": ("magnitude",), "abs": ("magnitude",), "weight": ("magnitude",),
    "global": ("whole_model",), "local": ("per_layer",), "layerwise": ("per_layer",), "uniform": ("per_layer",),
    "fmnist": ("fashion_mnist",), "imagenet": ("image_folder", "tiny_imagenet"), "npz": ("arrays",),
    "lenet": ("lenet5", "lenet_300_100"), "lenet300": ("lenet_300_100",), "fc": ("mlp",),
    "learningrate": ("lr",), "wd": ("weight_decay",), "bs": ("batch_size",), "batch": ("batch_size",),
    "iterations": ("steps",), "dataset": ("data",), "network": ("model",), "architecture": ("model",),
    "sparsity": ("densities", "density"), "ratio": ("rate",), "amount": ("rate",), "criterion": ("score",),
    "importance": ("score",), "seeds": ("replicates", "seed"), "repeats": ("replicates",), "gpu": ("cuda",),
    "fp32": ("float32",), "bfloat16": ("bf16",), "cosineannealing": ("cosine",), "pytorch": ("state_dict",),
    "verbose": ("--quiet",), "jobs": ("--workers",), "out": ("--runs",),
}  # fmt: skip


class InputError(ValueError):
    """What the caller gave is wrong: the message says what, the value seen, and what would be
    right.

    A message is one line of at most 900 characters, whatever stands in the values that it tells:
    line breaks and control characters are escaped, and what is too long loses its middle. The
    command line prints it and exits with code 2.

    >>> print(InputError("no model 'a\\nb'"))
    no model 'a\\nb'
    """

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(one_line(str(message)), *more)


class ConfigError(InputError):
    """A recipe, an option or a name in it is wrong."""


class DamagedError(ConfigError):
    """A file of a run is not what was written there: it was altered, damaged, cut off or
    exchanged.
    """


class DataError(InputError):
    """A data set is missing, incomplete or not what it should be."""


class TicketError(InputError):
    """A ticket file is truncated, altered or does not fit."""


class DiskError(InputError, OSError):
    """A result cannot be written: the disk is full or read-only. The run stops, and what is
    written stays.
    """


class TrainingError(RuntimeError):
    """A training ran into something that no longer is a number; the arm ends, the other arms go
    on.
    """


class InvariantError(RuntimeError):
    """A law that every search obeys was broken while running: a bug of a score, a loop, a model
    or tombola.
    """


class SourceFailedError(RuntimeError):
    """The arm that another one follows has failed."""


class OldNameWarning(UserWarning):
    """A recipe has entries under names that they had before; it is read all the same."""


class UnmaskedWarning(UserWarning):
    """Weights of a model are left out of its masks, because nothing tells how their layer uses
    them.
    """


def one_line(text: str) -> str:
    r"""Return a text as one line that any terminal can show: what cannot be printed is escaped, a
    long one is cut.

    >>> one_line("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    cut = 2 * _LONGEST // 3
    if len(text) > 2 * _LONGEST:  # before anything is done letter by letter
        text = text[:cut] + text[-_LONGEST:]
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return text if len(text) <= _LONGEST else f"{text[:cut]} … {text[cut - _LONGEST :]}"


def shown(value: object) -> str:
    """Return how a message tells a value: on one line, and cut short *before* it becomes text.

    A list of a million entries, a number of a million digits and a list that holds itself cost no
    more than a short one.

    >>> shown("mnist"), shown([0.5, 20]), shown({"conv": 0.2})
    ("'mnist'", '[0.5, 20]', "{'conv': 0.2}")
    >>> shown(list(range(10**5)))
    '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1…'
    """
    text = ""
    for piece in _pieces(value, 0):
        text += piece
        if len(text) > _WIDTH:
            return f"{text[:_WIDTH]}…"
    return text


def _pieces(value: object, depth: int) -> Iterator[str]:
    """Yield the text of a value piece by piece, so that whoever has enough can stop."""
    if isinstance(value, str):
        yield repr(value[: _WIDTH + 1])
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LARGEST:
        yield f"{'-' * (value < 0)}2 ** {abs(value).bit_length() - 1} or more"
    elif isinstance(value, list | tuple) and type(value).__repr__ in (
        list.__repr__,
        tuple.__repr__,
    ):
        brackets = "[]" if isinstance(value, list) else "()"
        yield brackets[0]
        for index, item in enumerate(value):
            yield ", " * bool(index)
            yield from _pieces(item, depth + 1) if depth < _DEEPEST else ("…",)
        yield f"{',' * (brackets == '()' and len(value) == 1)}{brackets[1]}"
    elif isinstance(value, dict) and type(value).__repr__ is dict.__repr__:
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            yield ", " * bool(index)
            for inner in (key, item):
                yield from _pieces(inner, depth + 1) if depth < _DEEPEST else ("…",)
                yield ": " * (inner is key)
        yield "}"
    else:
        yield _repr(value)


def _repr(value: object) -> str:
    try:
        return one_line(" ".join(repr(value).split()))
    except Exception:  # of a class of the caller's own, or of a text with too many digits
        return f"a {type(value).__name__}"


def near(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name closest to ``name``, or an empty string.

    Case, hyphens and underscores do not count, and what a thing is called elsewhere leads to its
    name here.

    >>> near("lennet5", ["lenet5", "conv3"]), near("FashionMNIST", ["mnist", "fashion_mnist"])
    (" Did you mean 'lenet5'?", " Did you mean 'fashion_mnist'?")
    >>> near("imp", ["dense", "lth"])
    " Did you mean 'lth'?"
    """
    choices = list(islice(known, 2000))
    name = str(name)[:100]
    plain: dict[str, str] = {}
    for choice in choices:
        plain.setdefault(_plain(choice), choice)
    wanted = _plain(name)
    meant = [choice for choice in _ALSO_CALLED.get(wanted, ()) if choice in choices]
    close = (
        [plain[wanted]]
        if wanted in plain
        else meant or difflib.get_close_matches(name, choices, n=1)
    )
    if not close:
        close = [plain[found] for found in difflib.get_close_matches(wanted, plain, n=1)]
    return f" Did you mean '{close[0]}'?" if close and wanted else ""


def _plain(name: str) -> str:
    """Return a name without what people write in different ways: case, hyphens, underscores,
    points, spaces.
    """
    return "".join(letter for letter in name.casefold() if letter.isalnum())
