"""``python -m mutants``: draw faults, and have each judged by the tests of its module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mutants import judging
from mutants.faults import Fault, draw
from mutants.reasons import REASONS


def parser() -> argparse.ArgumentParser:
    """Make the parser of all arguments."""
    parser = argparse.ArgumentParser(
        "mutants", description="Make faults on purpose, and see whether a test sees them."
    )
    add = parser.add_argument
    add("--number", type=int, default=60, metavar="N", help="how many (default: 60)")
    add("--seed", type=int, default=0, metavar="N", help="which are drawn (default: 0)")
    add("--modules", default="", metavar="A,B", help="only of these modules (default: the core)")
    add("--workers", type=int, default=2, metavar="N", help="how many at a time (default: 2)")
    add("--list", action="store_true", help="name the faults that are drawn, and end")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge what is drawn and return the exit code: 1 if a fault survives without a reason."""
    options = parser().parse_args(arguments)
    modules = list(filter(None, options.modules.replace(" ", "").split(","))) or [*judging.CORE]
    files = [judging.SOURCE / f"{module}.py" for module in modules]
    for module, file in zip(modules, files, strict=True):
        if not file.is_file():
            print(f"mutants: there is no module '{module}' in tombola", file=sys.stderr)
            return 2
    drawn = draw(files, options.number, options.seed)
    if options.list:
        print(*drawn, sep="\n")
        return 0

    # Before any fault: what imports torch now is not imported in each process.
    import torch

    torch.set_num_threads(1)
    with ThreadPoolExecutor(options.workers) as pool:
        # A test that fails without any fault would catch every one.
        failing = _failing(pool, drawn)
        if failing:
            names = ", ".join(failing)
            print(f"mutants: the tests of {names} fail without any fault", file=sys.stderr)
            return 2
        alive = []
        for verdict in pool.map(judging.verdict_on, drawn):
            print(f"{verdict.fault}: {verdict.how}, {verdict.seconds:.0f} s", flush=True)
            if not verdict.caught:
                alive.append(verdict.fault)

    caught = len(drawn) - len(alive)
    print(f"\n{len(drawn)} faults, seed {options.seed}: {caught} caught, {len(alive)} alive")
    for fault in alive:
        advice = "no test sees it; write one, or a reason in mutants/reasons.py"
        print(f"  {fault}: {_reason(fault) or advice}")
    return 1 if None in map(_reason, alive) else 0


def _failing(pool: ThreadPoolExecutor, drawn: Sequence[Fault]) -> list[str]:
    """Return the modules whose tests fail without any fault."""
    modules = list(dict.fromkeys(fault.file.removesuffix(".py") for fault in drawn))
    judged = pool.map(lambda module: judging.judge(module, None), modules)
    failing = []
    for module, (code, _) in zip(modules, judged, strict=True):
        if code != 0:
            failing.append(module)
    return failing


def _reason(fault: Fault) -> str | None:
    return REASONS.get((fault.file, fault.context, fault.after))


if __name__ == "__main__":
    sys.exit(main())
