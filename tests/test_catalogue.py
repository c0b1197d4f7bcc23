"""Catalogues: the files are the registry, and a user's own code can stand beside them."""

import re
import sys
from typing import Literal

import pytest

from tombola.ground import catalogue
from tombola.ground.errors import ConfigError

USERS = """
import math

def double(x, *, times=2):
    "Multiply."
    return x * times

def mlp_of(classes, width=4, *, depth=1, image_shape=None):
    return classes, width, depth, image_shape

def anything(x, **options):
    return x, options

SIZE = 3
_hidden = math.sqrt
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder that Python's search path does not have yet; what is imported from it is
    forgotten.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def users(folder):
    (folder / "users_own.py").write_text(USERS)
    return folder


# ---- entries


def test_entries_are_the_private_files_without_the_shared_ones():
    assert catalogue.entries("tombola.scores") == sorted(catalogue.entries("tombola.scores"))
    assert {"magnitude", "random"} <= set(catalogue.entries("tombola.scores"))
    assert not {"context", "__init__", "_init__"} & set(catalogue.entries("tombola.scores"))


def test_an_unknown_entry_gets_the_list_and_did_you_mean():
    with pytest.raises(
        ConfigError,
        match=r"no 'magnitud' in tombola.scores; it has: .*magnitude.* Did you mean 'magnitude'\?",
    ):
        catalogue.entry("tombola.scores", "magnitud")


def test_shared_files_of_a_catalogue_are_no_entries():
    with pytest.raises(ConfigError, match=r"no 'context' in tombola\.scores"):
        catalogue.entry("tombola.scores", "context")


def test_a_package_hands_out_its_entries_and_nothing_else():
    import tombola.scores

    assert tombola.scores.magnitude is catalogue.entry("tombola.scores", "magnitude")
    assert dir(tombola.scores) == catalogue.entries("tombola.scores")
    with pytest.raises(AttributeError, match=r"module 'tombola.scores' has no attribute 'nothing'"):
        _ = tombola.scores.nothing


# ---- the user's own


def test_a_users_own_function_is_found_in_the_working_folder(users):
    assert catalogue.entry("tombola.scores", "users_own:double")(4) == 8
    assert catalogue.own("users_own:double") is catalogue.own("users_own:double")


def test_a_users_own_function_may_stand_in_a_package(folder):
    (folder / "users_package" / "inner").mkdir(parents=True)
    (folder / "users_package" / "__init__.py").touch()
    (folder / "users_package" / "inner" / "__init__.py").write_text("def one():\n    return 1\n")
    assert catalogue.own("users_package.inner:one")() == 1
    with pytest.raises(
        ConfigError, match=r"cannot import 'users_package.outer' of 'users_package.outer:one'"
    ):
        catalogue.own("users_package.outer:one")


def test_a_missing_module_of_the_user_is_told_in_one_line(folder):
    with pytest.raises(
        ConfigError,
        match=r"cannot import 'not_there_at_all' of 'not_there_at_all:f': No module named",
    ):
        catalogue.own("not_there_at_all:f")


def test_a_missing_function_of_the_user_gets_did_you_mean(users):
    with pytest.raises(
        ConfigError, match=r"'users_own' has no function 'duoble'. Did you mean 'double'\?"
    ):
        catalogue.own("users_own:duoble")
    with pytest.raises(ConfigError, match="'users_own' has no function 'SIZE'"):  # not callable
        catalogue.own("users_own:SIZE")


@pytest.mark.parametrize("name", [":f", "users_own:", ":", ".users_own:f", "users_own.:f"])
def test_a_name_that_is_no_module_and_function_is_refused(name, users):
    message = f"'{name}' names no function; your own is named package.module:function"
    with pytest.raises(ConfigError, match=re.escape(message)):
        catalogue.own(name)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import not_there_at_all",
            "needs a module that is not there: No module named 'not_there_at_all' (users_broken",
        ),
        (
            "import users_bro",
            "needs a module that is not there: No module named 'users_bro' (users_broken.py, line "
            "1)",
        ),
        (
            "\n1 / 0",
            "cannot import 'users_broken' of 'users_broken:f': ZeroDivisionError: division by zero "
            "(users_br",
        ),
        ("from math import nothing", "ImportError: cannot import name 'nothing' from 'math'"),
        ("def f(:", "SyntaxError: invalid syntax (users_broken.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3 (users_broken.py, line 1)"),
        ("raise BaseException('a\\nb')", r"BaseException: a\nb (users_broken.py, line 1)"),
    ],
)
def test_an_error_inside_the_users_module_is_one_line_with_its_place(folder, source, said):
    (folder / "users_broken.py").write_text(source)
    with pytest.raises(ConfigError) as caught:
        catalogue.own("users_broken:f")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.__cause__ is not None  # who wants the whole traceback finds it there


# ---- options


def test_options_are_keyword_arguments(users):
    double = catalogue.own("users_own:double")
    assert catalogue.call(double, "double", 4, options={}) == 8
    assert catalogue.call(double, "double", 4, options={"times": 3}) == 12


def test_an_ordinary_parameter_is_an_option_too_unless_it_is_given_by_place(users):
    mlp_of = catalogue.own("users_own:mlp_of")
    assert catalogue.call(mlp_of, "mlp_of", 10, options={"width": 8, "depth": 2}) == (
        10,
        8,
        2,
        None,
    )
    with pytest.raises(
        ConfigError, match="'mlp_of' has no option 'classes'; it has: width, depth, image_shape"
    ):
        catalogue.call(mlp_of, "mlp_of", 10, options={"classes": 3})


def test_an_option_that_the_function_does_not_have_is_refused_with_its_real_ones(users):
    double = catalogue.own("users_own:double")
    with pytest.raises(
        ConfigError, match=r"'double' has no option 'tims'; it has: times. Did you mean 'times'\?"
    ):
        catalogue.call(double, "double", 4, options={"tims": 3})
    with pytest.raises(ConfigError, match="'magnitude' has no option 'power'; it has none"):
        catalogue.call(
            catalogue.entry("tombola.scores", "magnitude"),
            "magnitude",
            {},
            {},
            None,
            options={"power": 2},
        )


def test_what_tombola_gives_is_no_option_and_is_left_out_where_it_is_not_taken(users):
    mlp_of, double = catalogue.own("users_own:mlp_of"), catalogue.own("users_own:double")
    assert catalogue.call(mlp_of, "mlp_of", 10, options={}, image_shape=(1, 2, 2)) == (
        10,
        4,
        1,
        (1, 2, 2),
    )
    assert catalogue.call(double, "double", 4, options={}, image_shape=(1, 2, 2)) == 8
    with pytest.raises(
        ConfigError, match="'mlp_of' has no option 'image_shape'; it has: width, depth"
    ):
        catalogue.call(
            mlp_of, "mlp_of", 10, options={"image_shape": (1, 1, 1)}, image_shape=(1, 2, 2)
        )


def test_a_function_that_takes_anything_gets_everything(users):
    anything = catalogue.own("users_own:anything")
    assert catalogue.call(anything, "anything", 1, options={"a": 2}, b=3) == (1, {"a": 2, "b": 3})
    with pytest.raises(ConfigError, match="'anything' has no option 'x'"):
        catalogue.call(anything, "anything", 1, options={"x": 2})


def test_a_parameter_that_has_no_keyword_is_no_option():
    def by_place(x, y=1, /, *rest, z=2):
        return x, y, rest, z

    assert catalogue.call(by_place, "by_place", 5, options={"z": 3}) == (5, 1, (), 3)
    with pytest.raises(ConfigError, match="'by_place' has no option 'y'; it has: z"):
        catalogue.call(by_place, "by_place", 5, options={"y": 3})


def test_an_annotated_option_is_checked_and_one_without_annotation_is_not():
    def typed(
        x: str,
        *,
        width: "int" = 4,
        stem: Literal["cifar", "imagenet"] = "cifar",
        of: tuple[float, ...] = (),
        k=1,
    ):
        return x, width, stem, of, k

    assert catalogue.call(typed, "typed", 5, options={"of": [1, 2], "k": "any"}) == (
        5,
        4,
        "cifar",
        (1.0, 2.0),
        "any",
    )
    with pytest.raises(ConfigError, match=r"^typed.width is '5'; it should be a whole number.$"):
        catalogue.call(typed, "typed", 5, options={"width": "5"})
    with pytest.raises(
        ConfigError,
        match=r"typed.stem is 'cifra'; .* one of cifar, imagenet. Did you mean 'cifar'\?",
    ):
        catalogue.call(typed, "typed", 5, options={"stem": "cifra"})


def test_the_default_is_good_whatever_the_annotation_says_and_a_name_that_is_not_there_checks_nothing():
    def loose(*, width: int = None):  # noqa: RUF013
        return width

    def unresolved(*, width: "NotThere" = 1):  # noqa: F821
        return width

    assert catalogue.call(loose, "loose", options={"width": None}) is None
    assert catalogue.call(unresolved, "unresolved", options={"width": "x"}) == "x"


def test_options_of_a_catch_all_are_not_checked_by_its_annotation():
    def anything(**options: int):
        return options

    assert catalogue.call(anything, "anything", options={"options": "x", "a": "y"}) == {
        "options": "x",
        "a": "y",
    }
