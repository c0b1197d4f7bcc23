"""Fresh processes: a function is called in a Python process of its own and returns JSON.

A row in its own process cannot leave threads, memory or a peer's modules to the next one, and one
that is killed takes none with it.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from benchmarks.harness import NotRun

HOME = Path(__file__).resolve().parents[1]


def call(target: str, **arguments: Any) -> Any:
    """Call ``package.module:function`` with JSON arguments in a fresh process and return its JSON
    result.

    Raises:
        NotRun: The function raised it, failed, or its process was killed; one line says which.

    >>> call("math:hypot", args=[3.0, 4.0])
    5.0
    """
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as folder:
        result = Path(folder, "result.json")
        command = [sys.executable, "-m", "benchmarks.fresh", target, str(result)]
        # What a peer prints is not ours; errors still go to the terminal.
        done = subprocess.run(
            command,
            input=json.dumps(arguments),
            text=True,
            cwd=HOME,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if not result.exists():
            raise NotRun(f"its process {_ending(done.returncode)}")
        answer = json.loads(result.read_text())
    if "not_run" in answer:
        raise NotRun(answer["not_run"])
    return answer["value"]


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended {code}"
    # Signal 9 is what the system sends when memory is short.
    return f"was ended by signal {-code}" + ("; is there enough memory?" if code == -9 else "")


def one_line(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, NotRun) else f"{type(error).__name__}: {text}"[:300]


def _main(target: str, result: Path) -> None:
    from tombola.ground.errors import InputError

    arguments = json.load(sys.stdin)
    module, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        answer = {"value": function(*arguments.pop("args", []), **arguments)}
    except (NotRun, InputError) as error:
        answer = {"not_run": one_line(error)}
    except Exception as error:
        traceback.print_exc()
        answer = {"not_run": f"it failed: {one_line(error)}"}
    result.write_text(json.dumps(answer))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
