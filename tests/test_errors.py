"""Errors: one line whatever is told in it, values cut before they become text, and the name
that was meant.
"""

import time

import pytest

from tombola.ground.errors import DiskError, InputError, near, one_line, shown


class Odd:
    """A class of somebody's own that cannot even be shown."""

    def __repr__(self):
        raise RuntimeError("never")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mnist", "'mnist'"),
        ("a\nb\x1b[31m\ud800", r"'a\nb\x1b[31m\ud800'"),
        (None, "None"),
        (True, "True"),
        (1e300, "1e+300"),
        ([0.5, "x", [1]], "[0.5, 'x', [1]]"),
        ((1,), "(1,)"),
        ({"conv": 0.2, "x": {}}, "{'conv': 0.2, 'x': {}}"),
        (10**5000, "2 ** 16609 or more"),
        (-(10**50), "-2 ** 166 or more"),
        ("x" * 10**7, f"'{'x' * 59}…"),
        (Odd(), "a Odd"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_told_in_one_short_line(value, text):
    assert shown(value) == text


def test_a_value_is_cut_before_it_becomes_text():
    bomb = ["x"] * 9
    for _ in range(20):
        bomb = [bomb] * 9  # 9 ** 21 texts
    endless = {}
    endless["again"] = endless
    began = time.process_time()
    for value in (
        bomb,
        endless,
        {1: bomb},
        list(range(10**6)),
        "x" * 10**7,
        {"k" * 10**7: 1},
        1 << 10**7,
    ):
        assert len(shown(value)) <= 61
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", [InputError, DiskError])
def test_a_message_is_one_line_of_bounded_length_whatever_is_told_in_it(kind):
    told = str(kind(f"no model 'a\nb\r\x1b[2J\u2028\ud800' {'y' * 10**6} at the end"))
    assert told.isprintable()
    assert len(told) < 1000
    assert told.startswith(r"no model 'a\nb\r\x1b[2J\u2028\ud800' yyy")
    assert told.endswith("at the end")
    assert one_line("as it was: 20 % is 0.2 — µ") == "as it was: 20 % is 0.2 — µ"


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("AdamW", ["sgd", "adam", "adamw"], "adamw"),
        ("FashionMNIST", ["mnist", "fashion_mnist"], "fashion_mnist"),
        ("fmnist", ["mnist", "fashion_mnist"], "fashion_mnist"),
        ("imp", ["dense", "lth", "colt"], "lth"),
        ("resnet-18", ["resnet18", "resnet20"], "resnet18"),
        ("ResNet18", ["resnet18", "resnet20"], "resnet18"),
        ("cifar-10", ["cifar10", "cifar100"], "cifar10"),
        ("CIFAR 100", ["cifar10", "cifar100"], "cifar100"),
        ("L1", ["magnitude", "random"], "magnitude"),
        ("global", ["whole_model", "per_layer"], "whole_model"),
        ("learning_rate", ["lr", "momentum"], "lr"),
        ("--hepl", ["--help", "--json"], "--help"),
        ("MAGNITUDE", ["magnitude", "random"], "magnitude"),
        ("lennet5", ["lenet5", "conv3"], "lenet5"),
    ],
)
def test_what_was_meant_is_found_over_case_spelling_and_what_others_call_it(name, known, meant):
    assert near(name, known) == f" Did you mean '{meant}'?"


def test_what_is_like_nothing_is_not_guessed():
    assert near("zzz", ["lenet5", "conv3"]) == ""
    assert near("imp", ["conv3"]) == ""
    assert near("--", ["lenet5"]) == ""
    assert near("x" * 10**6, ["y" * 100] * 5000) == ""
