"""Editors: the JSON Schema of recipes, by which an editor completes entries and marks wrong ones.

    models of the dataclasses, methods -> [ json_schema ] -> tombola schema

It is made of the models that validate recipes. What a recipe may say beside its fields is added
here: scales and variants, methods of the user's own, and an arm that only says what it matches.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from tombola import methods
from tombola.ground.models import model_of
from tombola.schema.arms import MATCHED
from tombola.schema.recipe import Recipe

_OVERRIDES = {"type": "object", "additionalProperties": {"type": "object"}}
_OWN = {
    "type": "object",
    "description": "A method of your own, package.module:Name, with its options.",
    "properties": {"method": {"type": "string", "pattern": "^[^:]+:[^:]+$"}},
    "required": ["method"],
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe's file.

    >>> sorted(json_schema()["required"])
    ['arms', 'training']
    """
    models: dict[str, Any] = {}
    for name in methods.names():
        kind: Any = methods.named(name)
        models[name] = model_of(kind)
    # All models at once, so that the sections they share are defined once.
    inputs = [(model, "validation") for model in (model_of(Recipe), *models.values())]
    _, schema = models_json_schema(inputs, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    definitions = schema["$defs"]
    recipe = definitions.pop("Recipe")
    definitions.pop("Method")

    # An arm is one of the methods, or of a method of the user's own.
    for name, model in models.items():
        _add_method(definitions[model.__name__], name)
    arms = [{"$ref": f"#/$defs/{model.__name__}"} for model in models.values()]
    properties = recipe["properties"]
    properties["arms"] = {
        "description": properties["arms"]["description"],
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"oneOf": [*arms, _OWN]},
    }

    # Scales and variants are taken out before a recipe is made of its entries: no field has them.
    properties["scales"] = _OVERRIDES | {
        "description": "Named sets of dotted overrides, taken with --scale NAME."
    }
    properties["variants"] = _OVERRIDES | {
        "description": "Named sets of dotted overrides, each an experiment of its own."
    }
    recipe["required"].remove("name")  # a file without one is named after itself
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe of tombola",
        **recipe,
        "$defs": definitions,
    }


def _add_method(definition: dict[str, Any], name: str) -> None:
    """Put into an arm's schema the entry that says its method."""
    entry = {"const": name, "description": definition.get("description", "")}
    definition["properties"] = {"method": entry, **definition["properties"]}
    if "training" in definition["properties"]:
        changes = definition["properties"]["training"]["description"]
        definition["properties"]["training"] = {"$ref": "#/$defs/Training", "description": changes}
    if name == MATCHED:
        definition["anyOf"] = [{"required": ["method"]}, {"required": ["match"]}]
    else:
        definition["required"] = ["method", *definition.get("required", [])]
