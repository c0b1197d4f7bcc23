"""Checks of arguments that every model makes before it builds anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tombola.ground.checking import own_numbers
from tombola.ground.errors import ConfigError, near, shown


def check_classes(num_classes: int) -> None:
    """Refuse fewer than two classes: with one, the softmax is constant and nothing can be learnt.

    Raises:
        ConfigError: ``num_classes`` is not a whole number of at least 2.

    >>> check_classes(10)
    """
    if not isinstance(own_numbers(num_classes), int) or num_classes < 2:
        raise ConfigError(
            f"num_classes is {shown(num_classes)}; a classifier needs a whole number of at least 2"
        )


def check_arguments(
    model: str, num_classes: int, image_shape: Sequence[int], smallest: int = 1
) -> None:
    """Refuse fewer than two classes, and images that the model cannot take.

    Args:
        model: The model's name, for the message.
        num_classes: Number of outputs.
        image_shape: Channels, height and width of one image.
        smallest: Height and width, in pixels, below which a layer would have no output.

    Raises:
        ConfigError: One of them will not do.

    >>> check_arguments("lenet5", 10, (1, 28, 28), smallest=12)
    """
    check_classes(num_classes)
    # A layer would fail on these only in its first forward pass, with a message about tensors.
    shape = tuple(image_shape)
    valid = len(shape) == 3
    for size in shape:
        valid = valid and isinstance(own_numbers(size), int) and size >= 1
    if not valid:
        raise ConfigError(
            f"image_shape is {shape}; it is (channels, height, width), such as (3, 32, 32)"
        )
    if min(shape[1:]) < smallest:
        raise ConfigError(
            f"model '{model}' cannot take images of shape {shape}; they must be at least "
            f"{smallest} x {smallest} pixels"
        )


def check_sizes(**sizes: int) -> None:
    """Refuse sizes of a model that are not whole numbers of at least 1.

    Raises:
        ConfigError: One of them is none; the message names it.

    >>> check_sizes(width=64, layers=2)
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(own_numbers(size), int) or size < 1:
            raise ConfigError(f"{name} is {shown(size)}; it is a whole number of at least 1")


def check_dropout(dropout: float) -> None:
    """Refuse a dropout that is no fraction below 1.

    Raises:
        ConfigError: It is none.

    >>> check_dropout(0.5)
    """
    is_number = isinstance(own_numbers(dropout), int | float) and not isinstance(dropout, bool)
    if not is_number or not 0 <= dropout < 1:
        raise ConfigError(
            f"dropout is {shown(dropout)}; it is a fraction from 0 to below 1, such as 0.5"
        )


def check_choice(option: str, value: object, known: Iterable[str]) -> None:
    """Refuse a value that is none of those that an option has.

    Raises:
        ConfigError: It is none; the message names them.

    >>> check_choice("stem", "cifar", ("cifar", "imagenet"))
    """
    known = tuple(known)
    if value not in known:
        raise ConfigError(
            f"{option} is {shown(value)}; it is one of: "
            f"{', '.join(known)}.{near(str(value), known)}"
        )


def check_whole(option: str, value: object, *, least: int = 1, multiple: int = 1) -> None:
    """Refuse an option that is no whole number, too small, or not a multiple of a number.

    Raises:
        ConfigError: It is.

    >>> check_whole("size", 96, least=16)
    """
    number = own_numbers(value)
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or number < least or number % multiple:
        kind = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
        raise ConfigError(
            f"{option} is {shown(value)}; it is {kind}, at least {max(least, multiple)}"
        )
