"""Faults: what may go wrong in a line, as changes of its syntax tree."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_WITHOUT_EFFECT = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr, ast.Assert)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        file: The module's file, seen from the package.
        line: Where it is.
        kind: "boundary", "arithmetic", "constant", "operand", "deleted" or "argument dropped".
        before: The source without the fault.
        after: The source with the fault.
        context: The line without the fault, and without its indentation.
        place: Number of the node among those of the tree, in the order of `ast.walk`.
        choice: Which of the faults that the node can have.
    """

    file: str
    line: int
    kind: str
    before: str
    after: str
    context: str
    place: int
    choice: int

    def __str__(self) -> str:
        change = f"`{_short(self.before)}` -> `{_short(self.after)}`"
        return f"{self.file}:{self.line} ({self.kind}) {change}"

    def code(self, path: Path) -> CodeType:
        """Compile the module with the fault in it."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        node = nodes[self.place]
        _, changed = list(_changes(node))[self.choice]
        _put(tree, node, changed)
        return compile(ast.fix_missing_locations(tree), str(path), "exec")


def draw(files: Sequence[Path], number: int, seed: int) -> list[Fault]:
    """Draw so many faults from the modules, the same for the same seed, each line at most once."""
    possible: list[Fault] = []
    for path in files:
        possible += faults_of(path)
    random.Random(seed).shuffle(possible)
    by_line: dict[tuple[str, int], Fault] = {}
    for fault in possible:
        by_line.setdefault((fault.file, fault.line), fault)
    drawn = list(by_line.values())[:number]
    return sorted(drawn, key=lambda fault: (fault.file, fault.line))


def faults_of(path: Path) -> Iterator[Fault]:
    """List all faults that a module can have."""
    text = path.read_text(encoding="utf-8")
    lines, tree = text.splitlines(), ast.parse(text)
    left_alone = _left_alone(tree)
    file = path.as_posix().rpartition("/tombola/")[2]
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in left_alone:
            continue
        for choice, (kind, changed) in enumerate(_changes(node)):
            line = getattr(node, "lineno", 0)
            before, after = ast.unparse(node), ast.unparse(changed)
            yield Fault(file, line, kind, before, after, lines[line - 1].strip(), place, choice)


def _left_alone(tree: ast.Module) -> set[int]:
    """Return the nodes that decide nothing: annotations, imports and messages of errors."""
    left_alone: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        # A fault in any of these cannot be seen by a test, or only by one that repeats the text.
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if typing or isinstance(node, _WITHOUT_EFFECT):
            parts = [node]
        elif isinstance(node, ast.FunctionDef):
            parts = [*node.decorator_list, node.returns]
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    parts.append(argument.annotation)
        elif isinstance(node, ast.ClassDef):
            parts = list(node.decorator_list)
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        for part in parts:
            if part is not None:
                left_alone |= {id(inner) for inner in ast.walk(part)}
    return left_alone


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the faults that a node can have, each as another node in its place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _BOUNDARIES:
        comparison = _BOUNDARIES[type(node.ops[0])]()
        yield "boundary", _with(node, lambda new: new.ops.__setitem__(0, comparison))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        operator = _ARITHMETIC[type(node.op)]()
        yield "arithmetic", _with(node, lambda new: setattr(new, "op", operator))
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "constant", ast.copy_location(ast.Constant(not node.value), node)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        incremented = node.value + 1
        another = incremented if incremented != node.value else 2 * node.value  # 1e38 + 1 is 1e38
        yield "constant", ast.copy_location(ast.Constant(another), node)
    if isinstance(node, ast.BoolOp):
        for index in range(len(node.values)):
            yield "operand", _with(node, lambda new, index=index: new.values.pop(index))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "operand", node.operand
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "deleted", ast.copy_location(ast.Pass(), node)
    if isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                dropped = _with(node, lambda new, index=index: new.keywords.pop(index))
                yield "argument dropped", dropped


def _with(node: ast.AST, change: Callable[..., object]) -> ast.AST:
    new = copy.deepcopy(node)
    change(new)
    if isinstance(new, ast.BoolOp) and len(new.values) == 1:
        return new.values[0]
    return new


def _put(tree: ast.AST, node: ast.AST, changed: ast.AST) -> None:
    """Replace a node by another one."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, changed)
                return
            for index, item in enumerate(value if isinstance(value, list) else ()):
                if item is node:
                    value[index] = changed
                    return
    raise AssertionError("the node is in no place of the tree")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."
