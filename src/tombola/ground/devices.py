"""Devices: where a training runs and in which numbers.

The kind of device ("cpu" or "cuda") changes bits and stands in every digest; which of several GPUs
it is does not.
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
from typing import Any, Literal

import torch

from tombola.ground.errors import ConfigError, shown

Kind = Literal["cpu", "cuda"]
_FEW = 64  # workers or threads, which any machine can have, however few cores it has

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
    """Return the kind of device that a recipe means: "auto" is CUDA where there is a GPU that torch
    can use.

    Args:
        name: "auto", "cpu", "cuda", or one of several GPUs as "cuda:1".

    Raises:
        ConfigError: CUDA is asked for and is not there.

    >>> kind_of("cpu")
    'cpu'
    """
    check(name)
    there = torch.cuda.is_available()
    if name.startswith("cuda") and not there:
        raise ConfigError(
            f"device is {name}; torch finds no GPU here that it can use, so take cpu, or auto"
        )
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name}; torch finds {torch.cuda.device_count()} of them here, from cuda:0 "
            "on"
        )
    return "cuda" if name != "cpu" and there else "cpu"


def gpus(name: str) -> int:
    """Return over how many GPUs the trainings of a run can be spread: all, or the one that the name
    says; none is 0.

    >>> gpus("cpu")
    0
    """
    if kind_of(name) == "cpu":
        return 0
    return 1 if name.startswith("cuda:") else torch.cuda.device_count()


def take_turn(number: int) -> None:
    """Make the numbered worker process use a GPU of its own, where the name of its device
    leaves open which.
    """
    global _turn
    _turn = number


def device(name: str) -> torch.device:
    """Return the device that a name means in this process: of several GPUs the one whose turn
    it is.
    """
    if kind_of(name) == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(name[5:]) if name.startswith("cuda:") else _turn % gpus(name))


def workers(name: str, threads: int) -> int:
    """Return how many workers a run has unless it says so: one a GPU, or as many as the cores
    have threads for.
    """
    return gpus(name) or max(1, cores() // threads)


def most() -> int:
    """Return how many worker processes a run may have here, or a training threads: as many as there
    are cores, or 64.

    >>> most() >= 64
    True
    """
    return max(cores(), _FEW)


def check_workers(number: int) -> None:
    """Refuse a number of worker processes that no machine, or not this one, should be given.

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
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def autocast(kind: str, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context of a forward pass: bf16 where it is safe, or nothing.

    >>> with autocast("cpu", "float32")():
    ...     torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
    torch.float32
    """
    return (
        functools.partial(torch.autocast, kind, torch.bfloat16)
        if precision == "bf16"
        else nullcontext
    )


@contextlib.contextmanager
def numbers(kind: str, precision: str) -> Iterator[None]:
    """Run a block with the arithmetic that a training asks for, and put the process's own back.

    On CUDA float32 is float32: torch by itself lets convolutions round to tf32. Algorithms are the
    deterministic ones and are not chosen by timing, so that the same training gives the same bits.
    """
    if kind == "cpu":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, matmul.fp32_precision, cudnn.deterministic, cudnn.benchmark
    rounded = "tf32" if precision == "tf32" else "ieee"

    def put(conv: str, products: str, deterministic: bool, benchmark: bool) -> None:
        cudnn.conv.fp32_precision, matmul.fp32_precision = conv, products
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark

    try:
        put(rounded, rounded, True, False)
        yield
    finally:
        put(*before)


def wait(at: torch.device) -> None:
    """Return when all that a device was asked for is done: a GPU works on while the clock is
    read.
    """
    if at.type == "cuda":
        torch.cuda.synchronize(at)


def free_memory(at: torch.device) -> int:
    """Return the bytes that are free on a device; of the CPU, those that the system can give
    without swapping.
    """
    if at.type == "cuda":
        return int(torch.cuda.mem_get_info(at)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            return next(
                int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
            )
    except (OSError, StopIteration):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reset_peak_memory(at: torch.device) -> None:
    """Begin to look for the most memory that is used on a GPU; of the CPU a process's most is
    kept by the system.
    """
    if at.type == "cuda":
        torch.cuda.reset_peak_memory_stats(at)


def peak_memory(at: torch.device) -> int:
    """Return the most bytes in use: on a GPU since `reset_peak_memory`, on the CPU since the
    process began.
    """
    if at.type == "cuda":
        return int(torch.cuda.max_memory_allocated(at))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
