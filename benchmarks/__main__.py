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
    made = argparse.ArgumentParser(
        "benchmarks",
        description="Measure tombola against others; each row with its goal. Exits 0 whatever the "
        "result.",
    )
    made.add_argument("--rows", default="", metavar="A,B", help="only these rows (default: all)")
    made.add_argument("--list", action="store_true", help="name the rows with their goals, and end")
    made.add_argument(
        "--open-lth", default="", metavar="DIR", help="a clone of facebookresearch/open_lth"
    )
    made.add_argument(
        "--data-root", type=Path, metavar="DIR", help="root of the data sets (default: tombola's)"
    )
    made.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="repetitions of every row (default: each row's own)",
    )
    made.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the order, the data and the intervals"
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="as small as it works: tries the rows, measures nothing",
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where benchmarks.md and benchmarks/ go (default: docs)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and return the exit code: 2 for an argument that is wrong, else
    0.
    """
    options = parser().parse_args(arguments)
    try:
        if options.repeats is not None and options.repeats < 1:
            raise InputError(f"--repeats is {options.repeats}; it is 1 or more")
        names = rows.chosen([name for name in options.rows.replace(" ", "").split(",") if name])
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
        data_root=str(options.data_root.expanduser().resolve()) if options.data_root else None,
        open_lth=str(Path(options.open_lth).expanduser().resolve()) if options.open_lth else None,
    )
    out = options.out or HOME / ("build/benchmarks-quick" if options.quick else "docs")
    found = results.run(
        names,
        settings,
        begun=lambda name: print(f"{name} ...", file=sys.stderr, flush=True),
        done=lambda result: print(table.terminal(result), flush=True),
    )
    print(table.summary(found))
    for file in leave(found, out):
        print(f"         {file}")
    return 0


def listed(name: str) -> str:
    """Write a row and its goals as one line."""
    row = rows.get(name).ROW
    goals = "; ".join(f"{goal.line} {goal}" for goal in row.goals) or "no goal"
    return f"{name:<22} {row.title}{f', against {row.against}' if row.against else ''}: {goals}"


def leave(found: Sequence[results.Result], out: Path) -> list[Path]:
    """Write raw numbers, figures and the page, the new results over the old ones; return the
    files.
    """
    folder = out / "benchmarks"
    together = results.merged(results.read(folder / "results.json"), found, rows.names())
    results.write(together, folder / "results.json")
    drawn = figures.draw(together)
    for name, (_, svg) in drawn.items():
        write_whole(folder / name, svg)
    page = out / "benchmarks.md"
    titles = {f"benchmarks/{name}": title for name, (title, _) in drawn.items()}
    write_whole(page, table.markdown(together, titles))
    return [page, folder / "results.json", *(folder / name for name in drawn)]


if __name__ == "__main__":
    sys.exit(main())
