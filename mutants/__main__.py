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
    made = argparse.ArgumentParser(
        "mutants", description="Make faults on purpose, and see whether a test sees them."
    )
    made.add_argument("--number", type=int, default=60, metavar="N", help="how many (default: 60)")
    made.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which are drawn (default: 0)"
    )
    made.add_argument(
        "--modules", default="", metavar="A,B", help="of these modules alone (default: the core)"
    )
    made.add_argument(
        "--workers", type=int, default=2, metavar="N", help="how many at a time (default: 2)"
    )
    made.add_argument("--list", action="store_true", help="name the faults that are drawn, and end")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge what is drawn and return the exit code: 1 if a fault lives that nobody has given a
    reason for.
    """
    options = parser().parse_args(arguments)
    modules = [name for name in options.modules.replace(" ", "").split(",") if name] or list(
        judging.CORE
    )
    unknown = [name for name in modules if not (judging.SOURCE / f"{name}.py").is_file()]
    if unknown:
        print(f"mutants: there is no module '{unknown[0]}' in tombola", file=sys.stderr)
        return 2
    drawn = draw([judging.SOURCE / f"{name}.py" for name in modules], options.number, options.seed)
    if options.list:
        print(*drawn, sep="\n")
        return 0

    # Before any fault: what imports torch now is not imported in each process.
    import torch

    torch.set_num_threads(1)
    touched = list(dict.fromkeys(fault.file.removesuffix(".py") for fault in drawn))
    with ThreadPoolExecutor(options.workers) as several:
        codes = dict(
            zip(
                touched,
                several.map(lambda name: judging.judge(name, None)[0], touched),
                strict=True,
            )
        )
    failing = [name for name, code in codes.items() if code != 0]
    if failing:
        print(f"mutants: the tests of {', '.join(failing)} fail without any fault", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(options.workers) as several:
        verdicts = []
        for verdict in several.map(judging.verdict_on, drawn):
            verdicts.append(verdict)
            print(f"{verdict.fault}: {verdict.how}, {verdict.seconds:.0f} s", flush=True)
    alive = [verdict.fault for verdict in verdicts if not verdict.caught]
    without = [fault for fault in alive if _reason(fault) is None]
    print(
        f"\n{len(drawn)} faults, seed {options.seed}: {len(drawn) - len(alive)} caught, "
        f"{len(alive)} alive"
    )
    for fault in alive:
        print(
            f"  {fault}: "
            f"{_reason(fault) or 'no test sees it; write one, or a reason in mutants/reasons.py'}"
        )
    return 1 if without else 0


def _reason(fault: Fault) -> str | None:
    return REASONS.get((fault.file, fault.context, fault.after))


if __name__ == "__main__":
    sys.exit(main())
