"""Models: pydantic's view of the dataclasses that a recipe is made of.

    dataclass -> [ model_of ] -> plain data validated, JSON Schema

The dataclasses stay what code works with: frozen values that need no pydantic to be made, compared
or sent to a worker. A model is made of their fields when plain data is validated for the first
time. It is strict: a text is no number ("0.2"), and neither is True. Importing pydantic takes a
tenth of a second, so `tombola.ground.checking` imports this module when it has something to check.

What plain data may leave out or say in short stands in a field's metadata:

- ``alias``: the name of the entry, where it is not that of the field.
- ``short``: the entry that a bare text stands for: ``data: digits`` is ``data: {name: digits}``.
- ``rest``: the field takes all entries that have no field of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from tombola.ground.checking import (
    LISTS,
    MAPPINGS,
    MOST_BITS,
    UNIONS,
    RefusedError,
    alias_of,
    hints_of,
    short_of,
)

_PLAIN = (int, float, str, tuple, type(None))  # defaults that JSON has too
_CONFIG = ConfigDict(strict=True, allow_inf_nan=False)


@functools.cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    """Return what validates values of a type; a dataclass is made of a mapping."""
    if dataclasses.is_dataclass(hint):
        return TypeAdapter(type_of(hint))
    return TypeAdapter(type_of(hint), config=_CONFIG)


def type_of(hint: Any) -> Any:
    """Return the type that pydantic validates in the place of one that code is annotated with.

    Types are made of numbers, texts, booleans, None, paths, choices (``Literal``), lists, tuples,
    mappings and dataclasses; any other one takes every value. YAML knows no tuples, so a list is
    taken for one.
    """
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        return Annotated[model_of(kind), WrapValidator(functools.partial(_made, kind))]
    if origin is Annotated:
        return type_of(arguments[0])
    if origin in UNIONS:
        return typing.Union[tuple(map(type_of, arguments))]  # noqa: UP007 - of a tuple
    if origin is Literal:
        return Annotated[hint, BeforeValidator(functools.partial(_same_type, arguments))]
    if origin in LISTS:
        entries = [... if argument is ... else type_of(argument) for argument in arguments]
        validated = origin[tuple(entries)] if entries else hint
        return Annotated[validated, BeforeValidator(functools.partial(_as_list, origin))]
    if origin in MAPPINGS:
        key, value = map(type_of, arguments or (Any, Any))
        return Annotated[dict[key, value], BeforeValidator(functools.partial(_as_dict, key))]
    if origin is int:
        return Annotated[int, AfterValidator(_storable)]
    if origin is Path:
        return Annotated[Path, BeforeValidator(_as_path)]
    return hint if origin in (float, str, bool, type(None), Any) else Any


@functools.cache
def model_of(kind: Any) -> type[BaseModel]:
    """Return the model that validates plain data for a dataclass, with its docstring's texts."""
    described, hints = descriptions_of(kind), hints_of(kind)
    entries: dict[str, Any] = {}
    takes_rest = False
    for field in dataclasses.fields(kind):
        takes_rest |= "rest" in field.metadata
        settings: dict[str, Any] = {"alias": alias_of(field)}
        if field.name in described:
            settings["description"] = described[field.name]
        if isinstance(field.default, _PLAIN):
            settings["default"] = field.default
        elif not is_required(field):
            settings["default_factory"] = lambda: None  # the dataclass has its own
        # A prefix, because models have attributes of their own, such as copy.
        entries[f"entry_{field.name}"] = (type_of(hints[field.name]), Field(**settings))
    config = ConfigDict(
        **_CONFIG,
        extra="allow" if takes_rest else "forbid",
        json_schema_extra=functools.partial(_finish_schema, kind),
    )
    summary = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    model: type[BaseModel] = create_model(
        kind.__name__, __config__=config, __doc__=summary.replace("\n", " "), **entries
    )
    return model


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is field.default_factory is dataclasses.MISSING


@functools.cache
def descriptions_of(kind: type) -> dict[str, str]:
    """Return the descriptions of fields in the docstrings of a dataclass and of its bases.

    >>> from tombola.ground.settings import Training
    >>> descriptions_of(Training)["lr"]
    'Base learning rate.'
    """
    described: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        described |= _attributes(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
    return described


def _attributes(docstring: str) -> dict[str, str]:
    """Read the section "Attributes" of a docstring."""
    section = re.search(r"^Attributes:\n((?:(?: .*)?\n?)*)", docstring, re.MULTILINE)
    described: dict[str, str] = {}
    name = ""
    # Markdown has one backquote around code, docstrings have two.
    for line in section[1].replace("``", "`").splitlines() if section else ():
        entry = re.fullmatch(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            described[name] = entry[2]
        elif line.strip() and name:
            described[name] += " " + line.strip()
    return described


def _finish_schema(kind: Any, schema: dict[str, Any]) -> None:
    """Put into a JSON Schema what a model's fields do not say."""
    for entry in schema.get("properties", {}).values():
        entry.pop("title", None)
    for field in dataclasses.fields(kind):
        if "rest" in field.metadata:
            schema.get("properties", {}).pop(alias_of(field), None)
    if (short := short_of(kind)) is not None:
        section = dict(schema)
        schema.clear()
        schema["description"] = section.pop("description", "")
        section.pop("title", None)
        schema["anyOf"] = [{**section["properties"][short]}, section]


def _made(kind: Any, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Make a dataclass of validated plain data; one that is made already is returned as it is."""
    if isinstance(value, kind):
        return value
    short = short_of(kind)
    if isinstance(value, str) and short is not None:
        value = {short: value}
    model = validate(_as_dict(str, value))
    # The dataclass knows its defaults itself, so it is given only what was set.
    values = {}
    for name in model.model_fields_set:
        if name.startswith("entry_"):
            values[name.removeprefix("entry_")] = getattr(model, name)
    for field in dataclasses.fields(kind):
        if "rest" in field.metadata and model.model_extra:
            values[field.name] = {**values.get(field.name, {}), **model.model_extra}
    return kind(**values)


def _same_type(choices: Sequence[Any], value: Any) -> Any:
    """Refuse True where 1 is a choice, which Python counts as equal."""
    if any(value is choice or type(value) is type(choice) for choice in choices):
        return value
    raise RefusedError


def _as_list(origin: Any, value: Any) -> Any:
    """Take a list for a tuple and a tuple for a list."""
    if origin is tuple and isinstance(value, list):
        return tuple(value)
    if origin is list and isinstance(value, tuple):
        return list(value)
    return value


def _as_dict(key: Any, value: Any) -> Any:
    """Take any mapping; where its keys are texts, a number is one, too."""
    if not isinstance(value, Mapping):
        return value
    return {str(name) if key is str else name: item for name, item in value.items()}


def _as_path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


def _storable(value: int) -> int:
    if value.bit_length() > MOST_BITS:
        raise RefusedError
    return value
