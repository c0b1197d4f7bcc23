"""Errors: one line for what the user can fix; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice

_WIDTH = 60  # characters of a value in a message
_LONGEST = 900  # characters of a message
_LARGEST = 10**40  # larger integers are shown by their size
_DEEPEST = 6  # lists in lists that a message shows

# Names that others use, without case and punctuation, and those that they have here.
_ALSO_CALLED = {
    "imp": ("lth",), "iterativemagnitudepruning": ("lth",), "lottery": ("lth",),
    "gmp": ("gradual",), "baseline": ("dense",), "unpruned": ("dense",),
    "oneshotpruning": ("one_shot",), "randomreinit": ("reinitialised",),
    "reinit": ("reinitialised",), "finetuning": ("fine_tune",),
    "l1": ("magnitude",), "l1norm": ("magnitude",), "abs": ("magnitude",), "weight": ("magnitude",),
    "global": ("whole_model",), "local": ("per_layer",), "layerwise": ("per_layer",),
    "uniform": ("per_layer",),
    "fmnist": ("fashion_mnist",), "imagenet": ("image_folder", "tiny_imagenet"), "npz": ("arrays",),
    "pascal": ("voc",), "pascalvoc": ("voc",), "voc2007": ("voc",), "voc2012": ("voc",),
    "coco": ("coco_folder",),
    "lenet": ("lenet5", "lenet_300_100"), "lenet300": ("lenet_300_100",), "fc": ("mlp",),
    "learningrate": ("lr",), "wd": ("weight_decay",), "bs": ("batch_size",),
    "batch": ("batch_size",), "iterations": ("steps",), "dataset": ("data",), "network": ("model",),
    "architecture": ("model",), "sparsity": ("densities", "density"), "ratio": ("rate",),
    "amount": ("rate",), "criterion": ("score",), "importance": ("score",),
    "seeds": ("replicates", "seed"), "repeats": ("replicates",), "gpu": ("cuda",),
    "fp32": ("float32",), "bfloat16": ("bf16",), "cosineannealing": ("cosine",),
    "pytorch": ("state_dict",), "verbose": ("--quiet",), "jobs": ("--workers",), "out": ("--runs",),
}  # fmt: skip


class InputError(ValueError):
    """Invalid input: the message says what is wrong, the value seen, and what would be right.

    A message is one line of at most 900 characters, whatever the values in it: line breaks and
    control characters are escaped, and a longer one loses its middle. The command line prints it
    and exits with code 2.

    >>> print(InputError("no model 'a\\nb'"))
    no model 'a\\nb'
    """

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(one_line(str(message)), *more)


class ConfigError(InputError):
    """A recipe, an option or a name in it is wrong."""


class DamagedError(ConfigError):
    """A file of a run is not what was written: it was altered, damaged, truncated or exchanged."""


class ScoreError(InputError):
    """Scores cannot be ranked: one is missing, has another form than its mask, or is no number."""


class DataError(InputError):
    """A data set is missing, incomplete or not what it should be."""


class TicketError(InputError):
    """A ticket file is truncated, altered or does not fit."""


class DiskError(InputError, OSError):
    """A result cannot be written, as the disk is full or read-only; the run stops, files stay."""


class TrainingError(RuntimeError):
    """A training diverged to NaN or infinity; its arm ends, the other arms continue."""


class InvariantError(RuntimeError):
    """A law of every search was broken: a bug of a score, a loop, a model or tombola."""


class SourceFailedError(RuntimeError):
    """The arm that another one follows has failed."""


class OldNameWarning(UserWarning):
    """A recipe uses earlier names of entries; it is read nevertheless."""


class UnmaskedWarning(UserWarning):
    """Weights of a model are left out of its masks, as their layer may use them in any way."""


def one_line(text: str) -> str:
    r"""Return a text as one line for any terminal: unprintable characters escaped, long ones cut.

    >>> one_line("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    cut = 2 * _LONGEST // 3
    # A huge text is cut before it is processed character by character.
    if len(text) > 2 * _LONGEST:
        text = text[:cut] + text[-_LONGEST:]
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return text if len(text) <= _LONGEST else f"{text[:cut]} … {text[cut - _LONGEST :]}"


def shown(value: object) -> str:
    """Return a value as messages show it: on one line, and cut *before* it becomes text.

    A list of a million entries, a number of a million digits and a list that holds itself take no
    longer than a short one.

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
    """Yield the text of a value piece by piece, so that the caller can stop when it is long."""
    # Containers with a repr of their own are shown as they wish.
    representation = type(value).__repr__
    if depth > _DEEPEST:
        yield "…"
    elif isinstance(value, str):
        yield repr(value[: _WIDTH + 1])
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LARGEST:
        sign = "-" if value < 0 else ""
        yield f"{sign}2 ** {abs(value).bit_length() - 1} or more"
    elif isinstance(value, list) and representation is list.__repr__:
        yield "["
        yield from _pieces_of_items(value, depth)
        yield "]"
    elif isinstance(value, tuple) and representation is tuple.__repr__:
        yield "("
        yield from _pieces_of_items(value, depth)
        yield ",)" if len(value) == 1 else ")"
    elif isinstance(value, dict) and representation is dict.__repr__:
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            if index:
                yield ", "
            yield from _pieces(key, depth + 1)
            yield ": "
            yield from _pieces(item, depth + 1)
        yield "}"
    else:
        yield _repr(value)


def _pieces_of_items(items: Iterable[object], depth: int) -> Iterator[str]:
    for index, item in enumerate(items):
        if index:
            yield ", "
        yield from _pieces(item, depth + 1)


def _repr(value: object) -> str:
    try:
        return one_line(" ".join(repr(value).split()))
    except Exception:  # by a class of the caller's own, or for an integer with too many digits
        return f"a {type(value).__name__}"


def near(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name closest to ``name``, or an empty string.

    Case, hyphens and underscores do not count, and names used elsewhere lead to those used here.

    >>> near("lennet5", ["lenet5", "conv3"]), near("FashionMNIST", ["mnist", "fashion_mnist"])
    (" Did you mean 'lenet5'?", " Did you mean 'fashion_mnist'?")
    >>> near("imp", ["dense", "lth"])
    " Did you mean 'lth'?"
    """
    choice = _closest(str(name)[:100], list(islice(known, 2000)))
    return f" Did you mean '{choice}'?" if choice is not None else ""


def _closest(name: str, choices: list[str]) -> str | None:
    plain_name = _plain(name)
    if not plain_name:
        return None
    by_plain_name: dict[str, str] = {}
    for choice in choices:
        by_plain_name.setdefault(_plain(choice), choice)
    # The same but for spelling; then another name for it; then a typing error.
    if plain_name in by_plain_name:
        return by_plain_name[plain_name]
    for choice in _ALSO_CALLED.get(plain_name, ()):
        if choice in choices:
            return choice
    for match in difflib.get_close_matches(name, choices, n=1):
        return match
    for match in difflib.get_close_matches(plain_name, by_plain_name, n=1):
        return by_plain_name[match]
    return None


def _plain(name: str) -> str:
    """Return a name in lower case and without hyphens, underscores, points and spaces."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
