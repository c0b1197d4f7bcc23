"""The machine: what a number depends on besides the code, and how much memory there is."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.fresh import HOME


def facts() -> dict[str, Any]:
    """Say what the numbers of a run depend on."""
    import numpy
    import torch

    from tombola.ground.devices import cores

    return {
        "processor": processor(),
        "cores": cores(),
        "memory_gb": round(_memory("MemTotal") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
        "load": load(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(HOME),
    }


def processor() -> str:
    """Name the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load() -> float | None:
    """Return the load average over the last minute; ``None`` where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit(folder: Path) -> str:
    """Name the commit of a checkout, with a star where files differ from it; "" outside of git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        name = git("rev-parse", "--short", "HEAD")
        changed = name and git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return ""
    return f"{name}*" if changed else name


def free_memory() -> float:
    """Return the bytes that a process can still have, infinite where the system does not say."""
    return _memory("MemAvailable") or float("inf")


def resident() -> float:
    """Return the bytes of memory that this process holds now."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Reset the peak of this process to what it holds now.

    Raises:
        OSError: The system has no such thing; it is Linux's.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float:
    """Return the most bytes of memory that this process has held since `forget_peak`."""
    return _status("VmHWM")


def _status(key: str) -> float:
    return _kilobytes(Path("/proc/self/status"), key)


def _memory(key: str) -> float:
    try:
        return _kilobytes(Path("/proc/meminfo"), key)
    except OSError:
        return 0.0


def _kilobytes(path: Path, key: str) -> float:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return 1024.0 * int(line.split()[1])
    return 0.0
