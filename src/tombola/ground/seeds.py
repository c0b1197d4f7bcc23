"""Seeds: randomness is addressed, not stored.

Every random draw has an address such as ``(seed, "order", epoch)``. Nothing depends on the arm, the
round, the worker or what was drawn before, so replicate k of every arm sees the same draws and a
resumed run needs no random state.

A user's own code may draw from torch's global generators, from Python's ``random`` and from numpy's
global state; all three are set. A generator that such code creates is up to that code.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch


def derive(seed: int, *address: object) -> int:
    """Return the 63-bit seed that belongs to an address.

    >>> derive(0, "order", 3) == derive(0, "order", 3)
    True
    >>> derive(0, "order", 3) == derive(0, "order", 4)
    False
    """
    digest = hashlib.sha256(repr((int(seed), *address)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *address: object) -> torch.Generator:
    """Return a new CPU generator at the beginning of its address.

    >>> torch.randperm(4, generator=generator(0, "order", 1)).tolist()
    [2, 1, 3, 0]
    """
    return torch.Generator().manual_seed(derive(seed, *address))


def remember() -> Callable[[], None]:
    """Save the state of the global generators and return a function that restores it.

    They are those of torch, Python and numpy.

    >>> restore = remember()
    >>> first = random.random(), float(torch.rand(()))
    >>> restore()
    >>> (random.random(), float(torch.rand(()))) == first
    True
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    gpu_states: list[torch.Tensor] = []
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gpu_states = torch.cuda.get_rng_state_all()

    def restore() -> None:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if gpu_states:
            torch.cuda.set_rng_state_all(gpu_states)

    return restore


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Run a block and restore the global generators afterwards."""
    restore = remember()
    try:
        yield
    finally:
        restore()


@contextlib.contextmanager
def seeded(seed: int, *address: object) -> Iterator[None]:
    """Run a block with the global generators at an address, then restore them.

    Initialisers draw from these.
    """
    with kept():
        reseed(seed, *address)
        reseed_python(seed, *address)
        yield


def reseed(seed: int, *address: object) -> None:
    """Set torch's global generators to an address, fast enough for every step of a training."""
    # Not torch.manual_seed: where CUDA is available but not initialised, it queues a call with a
    # traceback each time, which costs 0.4 ms and memory that is never freed.
    value = derive(seed, *address)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(value)


def reseed_python(seed: int, *address: object) -> None:
    """Set Python's and numpy's global generators to an address, before a user's own code runs.

    Apart from `reseed`, as it takes 10 microseconds and most steps run no such code.
    """
    value = derive(seed, *address)
    random.seed(value)
    np.random.seed(value % 2**32)
