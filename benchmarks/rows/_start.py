"""Whole processes, as a user starts them: ``tombola --help`` and ``tombola ticket info FILE``
of a small ticket.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.harness import Goal, Measured, NotRun, Row, Settings, interleave, single
from tombola.tickets import Ticket

ROW = Row(
    110,
    "Start-up of the command line",
    "",
    [Goal("--help", "<", 0.3, "s"), Goal("ticket info", "<", 0.5, "s")],
)


def measure(settings: Settings) -> Measured:
    program = Path(sys.executable).with_name("tombola")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "tombola"]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "ticket.safetensors"))
        weights = torch.randn(300, 784, generator=torch.Generator().manual_seed(settings.seed))
        mask, point = {"fc1.weight": weights.abs() > 1}, {"fc1.weight": weights}
        Ticket(mask, point, {"arm": "lth"}).save(path)
        # As a user starts them: a process each, and nothing imported before.
        sides = {
            "--help": functools.partial(_seconds, [*command, "--help"]),
            "ticket info": functools.partial(_seconds, [*command, "ticket", "info", path]),
        }
        times = interleave(sides, settings.times(20), settings.seed)
    lines = [single(name, seconds, "s", seed=settings.seed) for name, seconds in times.items()]
    return Measured(lines)


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise NotRun(f"tombola ended with {done.returncode}: {' '.join(done.stderr.split())[:200]}")
    return seconds
