"""``python -m tombola`` and the command ``tombola``."""

import os
import sys

from tombola.cli import main as command_line


def main() -> None:
    """Run the command line and leave with its exit code."""
    code = command_line()
    if code == 130:
        # A training thread cannot be interrupted; all that is on disk is whole, so leave at once.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
