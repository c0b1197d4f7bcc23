"""Packing: work and tasks on their way to another process.

    work -> [ pack ] -> bytes, and the start states that they name -> [ unpack ] -> work
    task -> [ flatten ] -> bytes, and the arrays that they name -----> [ restore ] -> task

What many pieces of work share is sent once and named after that: a start state by its digest, so
that a round of N partitions does not send it N times.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tombola.ground.types import State
from tombola.search.work import Work

_LARGE = 2**16  # bytes of a tensor that is worth a place of its own


def pack(work: Work[Any]) -> tuple[bytes, dict[str, State]]:
    """Return a piece of work as bytes, and the start states that stand in them by their digests
    alone.

    >>> import torch
    >>> from tombola.training.jobs import Job
    >>> from tombola.ground.settings import Training
    >>> from tombola.search.work import Train
    >>> mask = {"w": torch.tensor([True, True])}
    >>> job = Job({"w": torch.ones(2)}, mask, Training(epochs=1), seed=0)
    >>> packed, starts = pack(Train(job))
    >>> list(starts) == [job.start_digest]
    True
    >>> unpack(packed, starts.__getitem__).job.start["w"].tolist()
    [1.0, 1.0]
    """
    starts: dict[str, State] = {}
    digests: dict[int, str] = {}
    for job in work.jobs:
        starts[job.start_digest] = job.start
        digests[id(job.start)] = job.start_digest
    file = io.BytesIO()
    packer = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    packer.persistent_id = lambda value: digests.get(id(value))  # type: ignore[method-assign]
    packer.dump(work)
    return file.getvalue(), starts


def unpack(packed: bytes, state_of: Callable[[str], State]) -> Work[Any]:
    """Return the work that `pack` has packed.

    Args:
        packed: The bytes.
        state_of: Gives the start state of a digest.
    """
    unpacker = pickle.Unpickler(io.BytesIO(packed))
    unpacker.persistent_load = state_of  # type: ignore[method-assign]
    work: Work[Any] = unpacker.load()
    return work


def flatten(value: Any) -> tuple[bytes, list[NDArray[Any]]]:
    """Return anything that can be pickled as bytes, and its large tensors as the arrays that stand
    in their memory.

    >>> packed, arrays = flatten({"images": torch.zeros(1000, 100), "labels": torch.ones(3)})
    >>> len(packed) < 1000, [array.shape for array in arrays]
    (True, [(1000, 100)])
    >>> restore(packed, arrays)["images"].shape
    torch.Size([1000, 100])
    """
    arrays: list[NDArray[Any]] = []
    places: dict[int, int] = {}

    def place_of(candidate: Any) -> int | None:
        if type(candidate) is not Tensor or not _plain(candidate):
            return None
        if id(candidate) not in places:
            places[id(candidate)] = len(arrays)
            arrays.append(candidate.numpy())
        return places[id(candidate)]

    file = io.BytesIO()
    packer = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    packer.persistent_id = place_of  # type: ignore[method-assign]
    packer.dump(value)
    return file.getvalue(), arrays


def _plain(tensor: Tensor) -> bool:
    """Whether a tensor is large and has its memory to itself, as an array could."""
    alone = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    numbers = tensor.device.type == "cpu" and tensor.dtype not in (torch.bfloat16, torch.complex32)
    return alone and numbers and not tensor.requires_grad and tensor.nbytes >= _LARGE


def restore(packed: bytes, arrays: Sequence[NDArray[Any]]) -> Any:
    """Return what `flatten` has taken apart; its tensors stand in the memory of the arrays, and
    must not be changed.
    """
    tensors: dict[int, Tensor] = {}

    def tensor_at(place: int) -> Tensor:
        if place not in tensors:
            with warnings.catch_warnings():
                # an array that several processes share cannot be written to
                warnings.simplefilter("ignore")
                tensors[place] = torch.from_numpy(np.asarray(arrays[place]))
        return tensors[place]

    unpacker = pickle.Unpickler(io.BytesIO(packed))
    unpacker.persistent_load = tensor_at  # type: ignore[method-assign]
    return unpacker.load()
