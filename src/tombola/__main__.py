"""``python -m tombola`` and the command ``tombola``."""

import sys

from tombola.ground import interrupts


def main() -> None:
    """Run the command line and leave with its exit code."""
    further = "; the same command goes on from here" if sys.argv[1:2] in (["run"], ["demo"]) else ""
    interrupts.heed(f"tombola: stopped{further}")
    try:
        # from here on an interrupt is told in one line
        from tombola.commands.cli import main as command_line

        code = command_line()
    except KeyboardInterrupt:
        interrupts.leave()
    sys.exit(code)


if __name__ == "__main__":
    main()
