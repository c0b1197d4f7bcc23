"""Processes: code that tests run in a process of its own, where some modules cannot be imported."""

import subprocess
import sys

REFUSING = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name in {modules}:
            raise AssertionError(f"{{name}} is imported")

sys.meta_path.insert(0, Refuses())
"""
COMMAND = "from tombola.commands.cli import main; sys.exit(main(sys.argv[1:]))"


def run_without(modules, code, *arguments):
    """Run code with arguments in a process where importing any of the modules fails."""
    refusing = REFUSING.format(modules=tuple(modules))
    call = [sys.executable, "-c", f"{refusing}{code}", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False)
