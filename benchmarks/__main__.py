"""``python -m benchmarks``: arguments to calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import figures, results, rows, table
from benchmarks.fresh import HOME
from benchmarks.harness import Settings
from tombola.ground.errors import InputError
from tombola.ground.files import write_whole


def parser() -> argparse.ArgumentParser:
    """Make the parser of all arguments."""
    parser = argparse.ArgumentParser(
        "benchmarks",
        description="Measure tombola against others; each row with its goal. Exits 0 whatever the "
        "result.",
    )
    add = parser.add_argument
    add("--rows", default="", metavar="A,B", help="only these rows (default: all)")
    add("--list", action="store_true", help="name the rows with their goals, and end")
    add("--open-lth", default="", metavar="DIR", help="a clone of facebookresearch/open_lth")
    add("--data-root", type=Path, metavar="DIR", help="root of the data sets (default: tombola's)")
    add("--repeats", type=int, metavar="N", help="repetitions of every row (default: its own)")
    add("--seed", type=int, default=0, metavar="N", help="of the order, the data and the intervals")
    add(
        "--quick",
        action="store_true",
        help="as small as possible: tries the rows, measures nothing",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where benchmarks.md and benchmarks/ go (default: docs)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and return the exit code: 2 for invalid input, else 0."""
    options = parser().parse_args(arguments)
    try:
        if options.repeats is not None and options.repeats < 1:
            raise InputError(f"--repeats is {options.repeats}; it is 1 or more")
        names = rows.chosen(list(filter(None, options.rows.replace(" ", "").split(","))))
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(map(listed, names)))
        return 0
    settings = Settings(
        repeats=options.repeats,
        quick=options.quick,
        seed=options.seed,
        data_root=_absolute(options.data_root),
        open_lth=_absolute(options.open_lth),
    )
    # Quick numbers mean nothing: they must not replace those of the page.
    out = options.out or HOME / ("build/benchmarks-quick" if options.quick else "docs")
    measured = results.run(
        names,
        settings,
        begun=lambda name: print(f"{name} ...", file=sys.stderr, flush=True),
        done=lambda result: print(table.terminal(result), flush=True),
    )
    print(table.summary(measured))
    for file in leave(measured, out):
        print(f"         {file}")
    return 0


def _absolute(path: str | Path | None) -> str | None:
    return str(Path(path).expanduser().resolve()) if path else None


def listed(name: str) -> str:
    """Write a row and its goals as one line."""
    row = rows.get(name).ROW
    goals = "; ".join(f"{goal.line} {goal}" for goal in row.goals) or "no goal"
    return f"{name:<22} {row.title}{f', against {row.against}' if row.against else ''}: {goals}"


def leave(new: Sequence[results.Result], out: Path) -> list[Path]:
    """Write raw numbers, figures and the page, new results over old ones; return the files."""
    folder = out / "benchmarks"
    numbers = folder / "results.json"
    merged = results.merged(results.read(numbers), new, rows.names())
    results.write(merged, numbers)
    files, titles = [numbers], {}
    for name, (title, svg) in figures.draw(merged).items():
        write_whole(folder / name, svg)
        files.append(folder / name)
        titles[f"benchmarks/{name}"] = title
    page = out / "benchmarks.md"
    write_whole(page, table.markdown(merged, titles))
    return [page, *files]


if __name__ == "__main__":
    sys.exit(main())
