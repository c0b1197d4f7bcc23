"""Seeds: randomness is addressed, not stored.

Every random draw has an address such as ``(seed, "order", epoch)``. Nothing depends on the arm, the
round, the worker or what was drawn before, so replicate k of every arm sees the same draws and a
resumed run needs no random state.

Code of the user's own may draw from torch's global generators, from Python's ``random`` and from
numpy's global state; all three are set. A generator that such code makes for itself is its own
affair.
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

    >>> derive(0, "order", 3) == derive(0, "order", 3), derive(0, "order", 3) == derive(0, "order", 4)
    (True, False)
    """
    digest = hashlib.sha256(repr((int(seed), *address)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *address: object) -> torch.Generator:
    """Return a new CPU generator that stands at the beginning of its address.

    >>> torch.randperm(4, generator=generator(0, "order", 1)).tolist()
    [2, 1, 3, 0]
    """
    return torch.Generator().manual_seed(derive(seed, *address))


def remember() -> Callable[[], None]:
    """Look at the global generators, torch's, Python's and numpy's, and return what puts them back
    to where they are.

    >>> put_back = remember()
    >>> first = random.random(), float(torch.rand(()))
    >>> put_back()
    >>> (random.random(), float(torch.rand(()))) == first
    True
    """
    pythons, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def put_back() -> None:
        random.setstate(pythons)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)

    return put_back


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Run a block and put the global generators back afterwards."""
    put_back = remember()
    try:
        yield
    finally:
        put_back()


@contextlib.contextmanager
def seeded(seed: int, *address: object) -> Iterator[None]:
    """Run a block with the global generators, which initialisers draw from, at an address; then
    put them back.
    """
    with kept():
        reseed(seed, *address)
        reseed_python(seed, *address)
        yield


def reseed(seed: int, *address: object) -> None:
    """Set torch's global generators to an address, quickly enough for every step of a training."""
    # Not torch.manual_seed: where CUDA is compiled in but not begun, it queues a call with a
    # traceback each time, which costs 0.4 ms and memory that is never given back.
    value = derive(seed, *address)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(value)


def reseed_python(seed: int, *address: object) -> None:
    """Set Python's and numpy's global generators to an address: for where code of the user's own
    runs.

    By itself, for it takes 10 microseconds, and most steps of a small network run no such code.
    """
    value = derive(seed, *address)
    random.seed(value)
    np.random.seed(value % 2**32)
