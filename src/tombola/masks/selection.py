"""Selection: which weights of a group have its lowest scores, exactly, at any size.

    trained models -> scores -> prune: [ threshold -> new mask ] -> intersect -> rewind

The threshold is the score that is n-th from below. A small group's scores are put into one vector.
A large group is never put together nor sorted: it is read in chunks, by several threads on the CPU.
A sample of its scores gives two bounds that most likely enclose the threshold. One pass writes the
mask for the lower bound and collects the few scores between the two; of these the threshold is
found exactly. Bounds that miss it are exact limits for the next sample, so neither the sample nor
the number of threads has a say in the result. A score that many weights share is never collected,
only counted.

Scores may be worked out while they are read, see `Elementwise`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import count, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tombola.ground.devices import cores
from tombola.ground.errors import InputError
from tombola.ground.types import Mask, Scores
from tombola.masks import masks

T = TypeVar("T")

SMALL = 1 << 15  # weights: below, one vector is quicker (and torch shares out no work, see QUIET)
# weights: they fit a core's cache, and calls are few enough for threads not to wait for each other
CHUNK = 1 << 18
QUIET = 1 << 15  # weights: torch does not share out the work on so few among threads of its own
DEVICE_CHUNK = 1 << 24  # weights: enough to fill a GPU, and few waits for its answers
_CELLS = 1 << 13  # weights looked at together for the bounds
SAMPLE = 3 << 18  # weights looked at for the bounds
_NUMPY = {
    getattr(torch, name): np.dtype(name)
    for name in ("float32", "float64", "uint8", "int8", "int16", "int32", "int64")
}


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _in_room(values: Any, out: Any) -> Any:
    if values.dtype == out.dtype:
        return values
    out[:] = values
    return out


# Functions that give the same bits in numpy, where one call may take a whole chunk.
_TWINS: dict[Any, Callable[..., Any]] = {_as_it_is: _in_room, torch.abs: np.abs}


class Elementwise(Mapping[str, Tensor]):
    """Scores that are a function of one or more tensors weight by weight, worked out where they are
    read.

    Read by name it gives the whole tensor, like any mapping; `prune` reads it in chunks and never
    holds a whole one. It holds the tensors themselves and no copy: once one of them has changed,
    its scores cannot be had any more. ``dict(scores)`` keeps them.

    Args:
        function: Gives the scores for tensors of any shape, each place by itself.
        tensors: One or more mappings; the first says which names there are.

    Raises:
        InputError: On reading: the tensors have changed since.

    >>> weights, gradients = {"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([0.5, 3.0])}
    >>> scores = Elementwise(lambda weight, gradient: (weight * gradient).abs(), weights, gradients)
    >>> scores["w"].tolist()
    [1.0, 3.0]
    >>> scores.part("w", slice(1, 2)).tolist()
    [3.0]
    """

    def __init__(self, function: Callable[..., Tensor], *tensors: Mapping[str, Tensor]) -> None:
        self._function = function
        self._tensors = {name: tuple(of[name].detach() for of in tensors) for name in tensors[0]}
        self._versions = {name: _versions(of) for name, of in self._tensors.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._function(*self._unchanged(name))

    def __contains__(self, name: object) -> bool:  # a mapping's own would work the scores out
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def part(self, name: str, places: slice | Tensor) -> Tensor:
        """Return the scores at some places of a flattened parameter, a run of them or a vector
        of indices.
        """
        return self._function(*(part(tensor, places) for tensor in self._unchanged(name)))

    def array(self, name: str, places: slice, room: Any) -> Any:
        """Return a run of scores on the CPU as an array, in a given one if they must be worked
        out or converted.
        """
        if self._function in _TWINS:
            values = [part(tensor, places).numpy() for tensor in self._unchanged(name)]
            return _TWINS[self._function](*values, out=room)
        for start in range(0, len(room), QUIET):
            quiet = slice(places.start + start, min(places.start + start + QUIET, places.stop))
            room[start : start + QUIET] = self.part(name, quiet).numpy()
        return room

    def like(self, name: str) -> Tensor:
        """Return a tensor that has the shape and the device of a parameter's scores; its values
        mean nothing.
        """
        return self._tensors[name][0]

    def _unchanged(self, name: str) -> tuple[Tensor, ...]:
        tensors = self._tensors[name]
        if _versions(tensors) != self._versions[name]:
            raise InputError(
                f"'{name}' has changed since it was scored; score it again, or keep dict(scores)"
            )
        return tensors


def _versions(tensors: Sequence[Tensor]) -> list[int]:
    return [-1 if tensor.is_inference() else tensor._version for tensor in tensors]


def part(tensor: Tensor, places: slice | Tensor) -> Tensor:
    """Return some places of a flattened tensor, whatever its memory format, without copying the
    rest.

    Args:
        tensor: Of any shape.
        places: A run, ``slice(start, stop)`` with both ends within the tensor, or a vector of
            indices.

    >>> part(torch.arange(6).view(2, 3).t(), slice(1, 4)).tolist()
    [3, 1, 4]
    """
    if tensor.is_contiguous():
        flat = tensor.view(-1)
        return (
            flat[places]
            if isinstance(places, slice)
            else flat.index_select(0, places.to(tensor.device))
        )
    if isinstance(places, Tensor):
        return tensor[torch.unravel_index(places.to(tensor.device), tensor.shape)]
    if tensor.dim() == 1:
        return tensor[places]
    row = tensor[0].numel()
    # the rows from first to last are whole
    first, last = -(-places.start // row), places.stop // row
    if first > last:
        return part(tensor[last], slice(places.start - last * row, places.stop - last * row))
    parts = [tensor[first:last].reshape(-1)]
    if places.start < first * row:
        parts.insert(0, part(tensor[first - 1], slice(places.start - (first - 1) * row, row)))
    if last * row < places.stop:
        parts.append(part(tensor[last], slice(0, places.stop - last * row)))
    return torch.cat(parts)


def kept_scores(scores: Scores, mask: Mask, name: str) -> Tensor:
    """Return the scores of a parameter's kept weights as a vector; what is missing, misshapen
    or NaN is refused.
    """
    check_fits(scores, mask, name)
    kept = scores[name].detach()[mask[name]]
    if kept.is_floating_point():
        _refuse_nan(name, int(torch.count_nonzero(torch.isnan(kept))))
    # booleans are not ranked by torch.kthvalue
    return kept.to(torch.uint8) if kept.dtype == torch.bool else kept


def _told(values: Tensor) -> str:
    dtype = str(values.dtype).removeprefix("torch.")
    return dtype if values.layout is torch.strided else f"sparse {dtype}"


def check_fits(scores: Scores, mask: Mask, name: str) -> None:
    """Refuse scores that are missing, or of another shape or on another device than the mask.

    >>> check_fits({"w": torch.rand(2)}, {"w": torch.tensor([True, True])}, "w")
    """
    if name not in scores:
        raise InputError(f"there is no score for '{name}'")
    values = scores.like(name) if isinstance(scores, Elementwise) else scores[name]
    keep = mask[name]
    if not isinstance(values, Tensor):
        raise InputError(f"scores of '{name}' are a {type(values).__name__}; they are a tensor")
    if values.layout is not torch.strided or values.is_quantized or values.is_complex():
        raise InputError(
            f"scores of '{name}' are {_told(values)}; an ordinary tensor of real numbers is needed"
        )
    if values.shape != keep.shape:
        raise InputError(
            f"scores of '{name}' have the shape {tuple(values.shape)}, its mask {tuple(keep.shape)}"
        )
    if values.device != keep.device:
        raise InputError(
            f"scores of '{name}' are on {values.device}, its mask on {keep.device}; move one of "
            "them"
        )


def check_scores(scores: object, mask: Mask) -> None:
    """Refuse what is no score for every weight that a mask keeps.

    Raises:
        InputError: The first thing that is wrong, with the parameter's name.

    >>> check_scores({"w": torch.rand(2)}, {"w": torch.tensor([True, True])})
    """
    if not isinstance(scores, Mapping):
        raise InputError(
            f"scores are a {type(scores).__name__}; they are a mapping from names to tensors"
        )
    for name in mask:
        kept_scores(scores, mask, name)


def _refuse_nan(name: str, number: int) -> None:
    if number:
        raise InputError(f"{number} scores of '{name}' are NaN; a score is a number, or infinite")


def lowest(values: Tensor, number: int) -> Tensor:
    """Mark exactly ``number`` of the lowest values of a vector; of equal ones, those that come
    first.

    Equal to the first ``number`` places of a stable sort, without sorting.

    >>> lowest(torch.tensor([2.0, 1.0, 1.0, 1.0]), 2).tolist()
    [False, True, True, False]
    """
    if number == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    threshold = torch.kthvalue(values, number).values
    marked = values < threshold
    tied = torch.nonzero(values == threshold).flatten()
    marked[tied[: number - int(torch.count_nonzero(marked))]] = True
    return marked


def keep_(result: dict[str, Tensor], mask: Mask, names: Sequence[str], keep: Tensor) -> None:
    """Write into a result which of a group's kept weights stay, one after the other over its
    parameters.
    """
    start = 0
    for name in names:
        kept = int(torch.count_nonzero(mask[name]))
        result[name][mask[name]] = keep[start : start + kept]
        start += kept


def without_lowest(
    scores: Scores, mask: Mask, names: Sequence[str], remove: int
) -> dict[str, Tensor]:
    """Return new masks for a group's parameters that have lost exactly ``remove`` of the lowest
    kept scores.

    Of equal scores those that come first are lost, by the order of the names, then by flat
    position.

    Raises:
        InputError: Scores are missing, of another shape, on another device, or NaN where the mask
            keeps.

    >>> scores = {"a": torch.ones(2), "b": torch.zeros(1)}
    >>> mask = {name: torch.isfinite(values) for name, values in scores.items()}
    >>> without_lowest(scores, mask, ["a", "b"], 2)
    {'a': tensor([False,  True]), 'b': tensor([False])}
    """
    if sum(mask[name].numel() for name in names) >= SMALL:
        return in_chunks(scores, mask, names, remove)
    result = {name: mask[name].clone() for name in names}
    values = torch.cat([kept_scores(scores, mask, name) for name in names])
    keep_(result, mask, names, ~lowest(values, remove))
    return result


def in_chunks(
    scores: Scores,
    mask: Mask,
    names: Sequence[str],
    remove: int,
    *,
    chunk: int = 0,
    sample: int = SAMPLE,
) -> dict[str, Tensor]:
    """Do what `without_lowest` does for a group of any size, in little more memory than the result.

    Args:
        scores: Those of an `Elementwise` are worked out chunk by chunk.
        mask: The weights kept so far.
        names: The group's parameters, in the order that breaks ties.
        remove: How many of the kept weights go.
        chunk: Weights looked at together; 0 is what suits the device.
        sample: Weights looked at for the bounds, at most.
    """
    group = _Group(scores, mask, names, chunk)
    kept = masks.count({name: mask[name] for name in names})
    if remove == 0:
        group.refuse_nan(group.each(lambda chunk: group.has_nan(*group.read(chunk))))
        return {name: mask[name].clone() for name in names}
    # The threshold lies strictly between floor and ceiling; so do `inside` weights, and `under` do
    # not reach the floor.
    floor, ceiling, under, inside = None, None, 0, kept
    for draw in count():
        seen = group.sample(sample, draw, floor, ceiling)
        low, high = _bounds(seen, (remove - under) / inside, floor, ceiling)
        del seen
        found = group.each(lambda chunk, low=low, high=high: group.between(chunk, low, high))  # type: ignore[misc]
        group.refuse_nan([of.has_nan for of in found])
        number = remove - (kept - sum(of.above for of in found))  # of those between the bounds
        if 0 < number <= sum(of.values.size for of in found):
            group.prune_(found, number)
            return group.result()
        pivot = low if number <= 0 else high
        tallies = group.each(lambda chunk, pivot=pivot: group.tally(chunk, pivot))  # type: ignore[misc]
        less, tied = sum(less for less, _ in tallies), sum(tied for _, tied in tallies)
        if less < remove <= less + tied:
            group.keep_from_(pivot, remove - less, [tied for _, tied in tallies])
            return group.result()
        if remove <= less:
            ceiling, inside = pivot, less - under
        else:
            floor, under, inside = pivot, less + tied, under + inside - less - tied
    raise AssertionError  # every round without a result narrows floor and ceiling


def _bounds(seen: Any, fraction: float, floor: Any, ceiling: Any) -> tuple[Any, Any]:
    """Return two scores of a sample that enclose its quantile but once in 2000 times; the
    limits where it ends.
    """
    width = 3.5 * (len(seen) * fraction * (1 - fraction)) ** 0.5 + 2
    first, last = int(len(seen) * fraction - width), int(len(seen) * fraction + width)
    inner = [place for place in (first, last) if 0 <= place < len(seen)]
    if inner:
        seen.partition(inner)
    return (seen[first].item() if first in inner else floor), (
        seen[last].item() if last in inner else ceiling
    )


class _Chunk(NamedTuple):
    name: str
    start: int
    stop: int


class _Found(NamedTuple):
    """What a pass found in one chunk: how many scores lie above, those between and their
    places, whether any is NaN.
    """

    chunk: _Chunk
    above: int
    values: Any
    places: Any
    has_nan: bool


class _Group:
    """The scores and the mask of a group's parameters, and the result, a chunk of them at a time.

    What is done to a chunk is written once, for numpy and for torch: numpy's comparisons are three
    times quicker on the CPU; torch knows half precision and the GPU.
    """

    def __init__(self, scores: Scores, mask: Mask, names: Sequence[str], chunk: int) -> None:
        for name in names:
            check_fits(scores, mask, name)
        if not isinstance(scores, Elementwise):
            scores = Elementwise(_as_it_is, {name: scores[name] for name in names})
        self.scores, self.mask = scores, mask
        dtypes = {scores.part(name, slice(0, 0)).dtype for name in names}
        self.dtype = reduce(
            torch.promote_types, (torch.uint8 if of == torch.bool else of for of in dtypes)
        )
        on_cpu = all(mask[name].device.type == "cpu" for name in names)
        self.xp: Any = _library(on_cpu, dtypes)
        self.threads = _cores() if on_cpu else 1
        self.rooms = threading.local()
        self.kept = {name: _empty(mask[name]) for name in names}
        self.sizes = {name: mask[name].numel() for name in names}
        step = chunk or (CHUNK if on_cpu else DEVICE_CHUNK)
        self.chunks = [
            _Chunk(name, start, min(start + step, size))
            for name, size in self.sizes.items()
            for start in range(0, size, step)
        ]

    def each(self, function: Callable[[_Chunk], T]) -> list[T]:
        """Return what a function gives for every chunk, in their order."""
        runs = [self.chunks[start : start + 16] for start in range(0, len(self.chunks), 16)]
        return [
            of
            for run in _in_threads(
                lambda run: [function(chunk) for chunk in run], runs, self.threads
            )
            for of in run
        ]

    def read(self, chunk: _Chunk) -> tuple[Any, Any]:
        places = slice(chunk.start, chunk.stop)
        keep = self._array(part(self.mask[chunk.name], places))
        if self.xp is torch:
            return self.scores.part(chunk.name, places).to(self.dtype), keep
        values, _ = self._room(len(keep))
        return self.scores.array(chunk.name, places, values), keep

    def _room(self, size: int) -> tuple[Any, Any]:
        # Each thread has its own, once: made anew for every chunk they would lie between what is
        # collected, and their memory could not be given back.
        if not hasattr(self.rooms, "values"):
            longest = max(chunk.stop - chunk.start for chunk in self.chunks)
            self.rooms.values, self.rooms.inner = (
                np.empty(longest, _NUMPY[self.dtype]),
                np.empty(longest, np.bool_),
            )
        return self.rooms.values[:size], self.rooms.inner[:size]

    def write(self, chunk: _Chunk) -> Any:
        return self._array(self.kept[chunk.name].view(-1)[chunk.start : chunk.stop])

    def _array(self, tensor: Tensor) -> Any:
        return tensor.numpy() if self.xp is np else tensor

    def has_nan(self, values: Any, keep: Any) -> bool:
        least = values.min()
        if least == least:  # the least of values of which one is NaN would be NaN
            return False
        return bool((self.xp.isnan(values) & keep).any())

    def refuse_nan(self, has_nan: Sequence[bool]) -> None:
        names = [chunk.name for chunk, has in zip(self.chunks, has_nan, strict=True) if has]
        if names:
            nans = (
                self.xp.isnan(values) & keep
                for values, keep in map(self.read, self.chunks_of(names[0]))
            )
            _refuse_nan(names[0], sum(int(self.xp.count_nonzero(nan)) for nan in nans))

    def chunks_of(self, name: str) -> list[_Chunk]:
        return [chunk for chunk in self.chunks if chunk.name == name]

    def between(self, chunk: _Chunk, low: Any, high: Any) -> _Found:
        """Keep in the result what is above a bound, and give what is strictly between it and
        another; None is none.
        """
        xp = self.xp
        values, keep = self.read(chunk)
        result = self.write(chunk)
        if low is None:
            result[:] = keep
        else:
            xp.logical_and(xp.greater(values, low, out=result), keep, out=result)
        inner = result
        if high is not None:
            inner = self._room(len(keep))[1] if xp is np else torch.empty_like(result)
            xp.logical_and(xp.less(values, high, out=inner), result, out=inner)
        places = xp.where(inner)[0]
        above, has_nan = int(xp.count_nonzero(result)), self.has_nan(values, keep)
        # Two bytes a place where they do: what is collected is the memory that is needed beside the
        # result.
        width = np.uint16 if len(values) <= 1 << 16 else np.int32
        return _Found(
            chunk, above, _numbers(values[places]), _numbers(places).astype(width), has_nan
        )

    def tally(self, chunk: _Chunk, pivot: Any) -> tuple[int, int]:
        """Count what is less than a score, and what is equal."""
        values, keep = self.read(chunk)
        less, tied = ((values < pivot) & keep), ((values == pivot) & keep)
        return int(self.xp.count_nonzero(less)), int(self.xp.count_nonzero(tied))

    def prune_(self, found: Sequence[_Found], number: int) -> None:
        """Prune the lowest of what was found between the bounds, of equal ones those that come
        first.
        """
        values = np.concatenate([of.values for of in found])
        values.partition(number - 1)
        threshold = values[number - 1]
        ties = number - int(np.count_nonzero(values < threshold))
        del values
        for of in found:
            tied = np.flatnonzero(of.values == threshold)
            gone = of.values < threshold
            gone[tied[:ties]] = True
            ties -= min(ties, len(tied))
            places = of.places[gone].astype(np.int64)
            if len(places):
                self.write(of.chunk)[places if self.xp is np else torch.from_numpy(places)] = False

    def keep_from_(self, pivot: Any, ties: int, tied: Sequence[int]) -> None:
        """Keep in the result what is above a score, and what is equal to it but for the first
        ``ties`` of these.
        """
        before = dict(zip(self.chunks, np.cumsum([0, *tied]).tolist(), strict=False))

        def write(chunk: _Chunk) -> None:
            values, keep = self.read(chunk)
            result = self.write(chunk)
            self.xp.logical_and(self.xp.greater(values, pivot, out=result), keep, out=result)
            equal = self.xp.where((values == pivot) & keep)[0]
            result[equal[max(0, ties - before[chunk]) :]] = True

        self.each(write)

    def sample(self, number: int, draw: int, floor: Any, ceiling: Any) -> Any:
        """Return kept scores strictly between two limits, one from a drawn place in every cell
        of equal length.
        """
        ends = np.cumsum([0, *self.sizes.values()])
        size = int(ends[-1])
        # At a fixed distance, scores that repeat (a filter's, a row's) would be sampled at one of
        # their places only.
        cell = max(16, -(-size // number))
        seen, end = np.empty(-(-size // cell), _numbers(torch.empty(0, dtype=self.dtype)).dtype), 0
        for start in range(0, size, _CELLS * cell):
            places = np.arange(start, min(start + _CELLS * cell, size), cell)
            places += _scattered(places, draw) % cell
            np.minimum(places, size - 1, out=places)  # the last cell may be cut short
            cuts = np.searchsorted(places, ends)
            for name, first, (a, b) in zip(self.sizes, ends, pairwise(cuts), strict=False):
                if a < b:
                    values = self._seen(name, torch.from_numpy(places[a:b] - first), floor, ceiling)
                    seen[end : end + len(values)] = values
                    end += len(values)
        return seen[:end]

    def _seen(self, name: str, places: Tensor, floor: Any, ceiling: Any) -> Any:
        values = _numbers(self.scores.part(name, places).to(self.dtype))
        values = values[_numbers(part(self.mask[name], places))]
        if floor is not None:
            values = values[values > floor]
        return values if ceiling is None else values[values < ceiling]

    def result(self) -> dict[str, Tensor]:
        """Return the masks, each in the memory format of the last one."""
        return {
            name: kept
            if self.mask[name].is_contiguous()
            else torch.empty_like(self.mask[name]).copy_(kept)
            for name, kept in self.kept.items()
        }


def _library(on_cpu: bool, dtypes: set[torch.dtype]) -> Any:
    return np if on_cpu and dtypes <= {*_NUMPY, torch.bool} else torch


def _empty(mask: Tensor) -> Tensor:
    # numpy asks for large pages, which are there sooner
    if mask.device.type == "cpu" and mask.numel():
        return torch.from_numpy(np.empty(mask.numel(), dtype=np.bool_)).view(mask.shape)
    return torch.empty(mask.shape, dtype=torch.bool, device=mask.device)


def _numbers(values: Any) -> Any:
    """Return a vector in numpy on the CPU; half precision, which numpy lacks in part, as
    single: no value changes.
    """
    if isinstance(values, np.ndarray):
        return values
    return (
        (values.float() if values.dtype in (torch.float16, torch.bfloat16) else values)
        .cpu()
        .numpy()
    )


def _scattered(numbers: Any, draw: int) -> Any:
    """Return whole numbers from 0 that have no pattern, by the mixing function of splitmix64."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(draw)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(33)).astype(np.int64)


def _cores() -> int:
    """Return how many cores this process may use, at most 8: more threads would wait for each
    other.
    """
    return min(cores(), 8)


def _in_threads(function: Callable[[Any], T], items: Sequence[Any], threads: int) -> list[T]:
    """Return what a function gives for every item, in their order; the GIL is let go where
    there is much to do.
    """
    if threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
