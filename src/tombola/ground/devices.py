"""Devices: where a training runs and with which arithmetic.

The kind of device ("cpu" or "cuda") changes bits and stands in every digest; which of several GPUs
is used does neither.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tombola.ground.errors import ConfigError, shown

if TYPE_CHECKING:
    import torch

Kind = Literal["cpu", "cuda"]
_ALWAYS_ALLOWED = 64  # workers or threads, however few cores the machine has

_turn = 0  # which of several GPUs this process uses


def check(name: str) -> None:
    """Refuse what names no device.

    >>> check("cuda:1")
    >>> check("gpu")
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: device is 'gpu'; it is auto, cpu, cuda or cuda:NUMBER
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", name):
        raise ConfigError(f"device is {shown(name)}; it is auto, cpu, cuda or cuda:NUMBER")


def kind_of(name: str) -> Kind:
    """Return the kind of device of a name: "auto" is CUDA where torch can use a GPU.

    Args:
        name: "auto", "cpu", "cuda", or one of several GPUs as "cuda:1".

    Raises:
        ConfigError: CUDA is asked for and not available.

    >>> kind_of("cpu")
    'cpu'
    """
    import torch

    check(name)
    # Never falls back to the CPU: the result would have another digest than was asked for.
    has_cuda = torch.cuda.is_available()
    if name.startswith("cuda") and not has_cuda:
        raise ConfigError(
            f"device is {name}; torch finds no GPU here that it can use, so take cpu, or auto"
        )
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name}; torch finds {torch.cuda.device_count()} of them here, from cuda:0 "
            "on"
        )
    return "cuda" if name != "cpu" and has_cuda else "cpu"


def gpus(name: str) -> int:
    """Return how many GPUs a run can use: all of them, the one that is named, or 0.

    >>> gpus("cpu")
    0
    """
    import torch

    if kind_of(name) == "cpu":
        return 0
    return 1 if name.startswith("cuda:") else torch.cuda.device_count()


def take_turn(number: int) -> None:
    """Make a numbered worker process use a GPU of its own, where the device's name allows any."""
    global _turn
    _turn = number


def device(name: str) -> torch.device:
    """Return the device of a name in this process: of several GPUs, the worker's own."""
    import torch

    if kind_of(name) == "cpu":
        return torch.device("cpu")
    index = int(name[5:]) if name.startswith("cuda:") else _turn % gpus(name)
    return torch.device("cuda", index)


def workers(name: str, threads: int) -> int:
    """Return the default number of workers: one per GPU, or as many as the cores have room for."""
    return gpus(name) or max(1, cores() // threads)


def most() -> int:
    """Return the most worker processes, or threads of a training: the number of cores, or 64.

    >>> most() >= 64
    True
    """
    return max(cores(), _ALWAYS_ALLOWED)


def check_workers(number: int) -> None:
    """Refuse a number of worker processes below 1, or too large for this machine.

    >>> check_workers(2)
    >>> check_workers(0)
    Traceback (most recent call last):
    tombola.ground.errors.ConfigError: workers is 0; it must be 1 or more
    """
    if number < 1:
        raise ConfigError(f"workers is {shown(number)}; it must be 1 or more")
    if number > most():
        raise ConfigError(
            f"workers is {shown(number)}; this machine has {cores()} cores, and at most {most()} "
            "make sense here"
        )


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def autocast(kind: str, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return a function that makes the context of a forward pass: autocast to bf16, or nothing.

    >>> import torch
    >>> with autocast("cpu", "float32")():
    ...     torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
    torch.float32
    """
    import torch

    if precision == "bf16":
        return functools.partial(torch.autocast, kind, torch.bfloat16)
    return nullcontext


@contextlib.contextmanager
def numbers(kind: str, precision: str) -> Iterator[None]:
    """Run a block with a training's arithmetic, then restore that of the process.

    On CUDA float32 is float32: by default torch rounds convolutions to tf32. Algorithms are
    deterministic and not chosen by timing, so that the same training gives the same bits.
    """
    import torch

    if kind == "cpu":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, matmul.fp32_precision, cudnn.deterministic, cudnn.benchmark
    rounded = "tf32" if precision == "tf32" else "ieee"

    # Convolutions and matrix products have settings of their own.
    def put(conv: str, products: str, deterministic: bool, benchmark: bool) -> None:
        cudnn.conv.fp32_precision, matmul.fp32_precision = conv, products
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark

    try:
        put(rounded, rounded, True, False)
        yield
    finally:
        put(*before)


def wait(device: torch.device) -> None:
    """Wait until a device has finished its work: a GPU runs asynchronously."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device; on the CPU, what the system has without swapping."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    # Not Linux: all of the memory.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reset_peak_memory(device: torch.device) -> None:
    """Begin to record the peak memory of a GPU; that of a process is always recorded."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: on a GPU since the reset, else since the process began."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
