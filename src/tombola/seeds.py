"""Seeds: randomness is addressed, not stored.

Every random draw has an address such as ``(seed, "order", epoch)``. Nothing depends on the arm, the round, the
worker or what was drawn before, so replicate k of every arm sees the same draws and a resumed run needs no
random state.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def seeded(seed: int, *address: object) -> Iterator[None]:
    """Run a block with torch's global generator, which initialisers draw from, at an address; then put it back."""
    with torch.random.fork_rng():
        reseed(seed, *address)
        yield


def reseed(seed: int, *address: object) -> None:
    """Set torch's global generators to an address, quickly enough for every step of a training."""
    # Not torch.manual_seed: where CUDA is compiled in but not begun, it queues a call with a traceback
    # each time, which costs 0.4 ms and memory that is never given back.
    value = derive(seed, *address)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(value)
