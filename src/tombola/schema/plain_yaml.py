"""Plain YAML: text to texts, numbers, lists and mappings, whatever somebody has written.

    text -> [ from_yaml ] -> plain data -> `tombola.schema.recipe.parse`

Everything that YAML can do beyond plain data is refused in one line with its place: it comes from
files and command lines, and must neither run code nor take for ever.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tombola.ground.checking import DEEPEST
from tombola.ground.errors import ConfigError, InputError, shown

_MOST_NODES = 100_000  # of a recipe, what an alias names counted wherever it stands
_TAGS = "tag:yaml.org,2002:"  # YAML's own tags begin so


def from_yaml(text: str, where: str) -> Any:
    """Read plain data from YAML, by the rules of a recipe.

    Args:
        text: The YAML.
        where: What it is called in the message, such as its file.

    Raises:
        ConfigError: It is no YAML, or no plain data; the message has its line.

    >>> from_yaml("{a: 1e-3, on: [2001-01-01]}", "mine.yaml")
    {'a': 0.001, 'on': ['2001-01-01']}
    """
    line = 1
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            line = loader._line
            loader.dispose()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = line if mark is None else mark.line + 1
        why = ", ".join(filter(None, (error.context, error.problem)))
    except yaml.reader.ReaderError as error:
        line, why = text.count("\n", 0, error.position) + 1, error.reason
    except Exception as error:
        # whatever the library meets in numbers, dates and tags that are none
        why = f"{type(error).__name__}: {error}"
    raise ConfigError(f"{where} is no valid YAML: line {line}: {why}")


class _Loader(yaml.SafeLoader):
    """YAML that gives plain data: texts, numbers, true, false and null, in lists and mappings with
    texts as keys.

    1e-3 is a number, a date is a text. A key given twice, what refers to itself, and what is nested
    too deep or is too much once its aliases are written out are errors with their line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._line = 1  # of what is being made, for errors that do not say where they are

    def get_single_data(self) -> Any:
        # Counted before anything is made of it: a few lines of aliases may stand for gigabytes.
        node = self.get_single_node()
        if node is None:
            return None
        self._count(node, {})
        return self.construct_document(node)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # Nodes are composed by recursion: refused before Python's own limit is met.
        self._depth += 1
        if self._depth > DEEPEST:
            raise _wrong(f"nested more than {DEEPEST} deep", self.peek_event())  # type: ignore[no-untyped-call]
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _count(self, node: yaml.Node, known: dict[int, int]) -> int:
        """Count what there is of a node when its aliases are written out."""
        if id(node) in known:
            if known[id(node)] == 0:
                raise _wrong("what begins here refers to itself", node)
            return known[id(node)]
        known[id(node)] = 0  # under way
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            for key_and_value in node.value:
                inner += key_and_value
        elif isinstance(node, yaml.CollectionNode):
            inner = node.value
        number = 1
        for child in inner:
            number += self._count(child, known)
        if number > _MOST_NODES:
            raise _wrong(f"more than {_MOST_NODES:,} values once the aliases are written out", node)
        known[id(node)] = number
        return number

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        self._line = node.start_mark.line + 1
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # of a number, a date or a tag that is none
            if isinstance(error, InputError) or not isinstance(node, yaml.ScalarNode):
                raise
            raise _wrong(
                f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}", node
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self._line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise _wrong("a mapping is expected", node)
        self.flatten_mapping(node)
        pairs = []
        for key, value in node.value:
            # A key is a name; to YAML 1.1 the bare word `on` is true.
            name = yaml.ScalarNode(f"{_TAGS}str", key.value, key.start_mark, key.end_mark)
            pairs.append((name, value))
        node.value = pairs
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put in what merge keys refer to, and refuse a key that is given twice.

        A mapping's own entries win over merged ones, and of the mappings in a list the first wins.
        The library's own function is not used, as versions of it differ in this.
        """
        merged: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        given: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a key is a text, not a list or a mapping", key)
            if key.tag == f"{_TAGS}merge":
                # The last first, so that the first one's entries replace those of all others.
                for mapping in reversed(_mappings_to_merge(value)):
                    self.flatten_mapping(mapping)
                    for entry in mapping.value:
                        merged[entry[0].value] = entry
            elif key.value in given:
                raise ConfigError(
                    f"{shown(key.value)} is given twice in the mapping that begins in line "
                    f"{node.start_mark.line + 1}"
                )
            else:
                given[key.value] = (key, value)
        node.value = list((merged | given).values())


def _mappings_to_merge(node: yaml.Node) -> list[yaml.MappingNode]:
    """Return the mappings that a merge key refers to: one, or those of a list."""
    expected = "a mapping or list of mappings"
    nodes = [node]
    if isinstance(node, yaml.SequenceNode):
        expected = "a mapping"
        nodes = node.value
    mappings = []
    for merged in nodes:
        if not isinstance(merged, yaml.MappingNode):
            kind = "scalar" if isinstance(merged, yaml.ScalarNode) else "sequence"
            raise _wrong(
                f"while constructing a mapping, expected {expected} for merging, but found {kind}",
                merged,
            )
        mappings.append(merged)
    return mappings


def _wrong(what: str, node: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)  # type: ignore[arg-type]


def _as_text(_: yaml.SafeLoader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong("a date is a text, not a list or a mapping", node)
    return str(node.value)


def _no_plain_data(_: yaml.SafeLoader, node: yaml.Node) -> Any:
    raise _wrong(
        f"{node.tag.rpartition(':')[2]} is not for recipes, which hold texts, numbers, lists and "
        "mappings",
        node,
    )


for _kind in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"{_TAGS}{_kind}", _no_plain_data)
_Loader.add_constructor(f"{_TAGS}timestamp", _as_text)
_Loader.add_implicit_resolver(
    f"{_TAGS}float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
