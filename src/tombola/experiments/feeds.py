"""Feeds: the rounds of an arm on their way to the arms that follow it.

arm -> [ put ] -> rounds that wait, their masks packed -> each follower, in its own time
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tombola.ground.errors import SourceFailedError
from tombola.methods.method import Method
from tombola.methods.setting import Found
from tombola.training.jobs import Job


class Feed:
    """The rounds of an arm as they come, for the arms that follow it.

    A round is kept until all of them have read it; where nobody follows, none is kept.

    Args:
        readers: How many arms follow it; each goes through the rounds once.

    >>> from tombola.ground.settings import Training
    >>> mask = {"w": torch.tensor([True, False, True])}
    >>> job = Job({"w": torch.ones(3)}, mask, Training(epochs=1), seed=0)
    >>> feed = Feed(readers=1)
    >>> feed.put(Found(job, samples=600))
    >>> feed.end()
    >>> [(offered.job.mask["w"].tolist(), offered.samples) for offered in feed]
    [([True, False, True], 600)]
    """

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._waiting: dict[int, _Waiting] = {}  # by place
        self._number = 0
        self._changed = threading.Condition()
        self._failure: str | None = None  # empty where the arm has ended well

    def put(self, new: Found) -> None:
        """Give the next round."""
        with self._changed:
            if self._readers:
                self._waiting[self._number] = _Waiting.of(new, self._readers)
            self._number += 1
            self._changed.notify_all()

    def end(self, failure: str = "") -> None:
        """Say that no more rounds come; with a failure the arms that follow are skipped."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Found]:
        for index in itertools.count():
            with self._changed:
                while self._number <= index and self._failure is None:
                    self._changed.wait()
                if self._number <= index:
                    if self._failure:
                        raise SourceFailedError(self._failure)
                    return
                waiting = self._waiting[index]
                waiting.readers -= 1
                if not waiting.readers:
                    del self._waiting[index]
            # Not under the lock: the reader may take hours for a round.
            yield waiting.unpacked()


def feeds_of(
    arms: Mapping[str, Method], todo: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Feed]:
    """Make the feed of every arm of every replicate, for those among them that follow it."""
    keys = list(todo)
    readers: Counter[tuple[str, int]] = Counter()
    for name, replicate in keys:
        for _, source in arms[name].follows:
            readers[source, replicate] += 1
    return {key: Feed(readers[key]) for key in keys}


@dataclass
class _Waiting:
    """A round that waits to be read: its mask is packed to bits, an eighth of the memory."""

    job: Job  # without its mask
    bits: dict[str, tuple[NDArray[np.uint8], torch.Size]]
    digests: dict[str, Any]  # of the job, which are not computed again
    samples: int
    readers: int

    @classmethod
    def of(cls, new: Found, readers: int) -> _Waiting:
        bits = {}
        for name, keep in new.job.mask.items():
            bits[name] = np.packbits(keep.cpu().numpy().reshape(-1)), keep.shape
        # Cached properties, which are there if somebody has asked for them.
        digests = {}
        for name in ("start_digest", "mask_digest"):
            if name in vars(new.job):
                digests[name] = vars(new.job)[name]
        return cls(replace(new.job, mask={}), bits, digests, new.samples, readers)

    def unpacked(self) -> Found:
        mask = {}
        for name, (bits, shape) in self.bits.items():
            keep = np.unpackbits(bits, count=shape.numel()).astype(bool)
            mask[name] = torch.from_numpy(keep).view(shape)
        job = replace(self.job, mask=mask)
        vars(job).update(self.digests)
        return Found(job, self.samples)
