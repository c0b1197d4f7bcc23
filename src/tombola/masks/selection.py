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

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tombola.ground.devices import cores
from tombola.ground.errors import InputError, ScoreError
from tombola.ground.types import Mask, Scores
from tombola.masks import masks

T = TypeVar("T")

# All of these are numbers of weights.
SMALL = 1 << 15  # below, one vector is quicker
CHUNK = 1 << 18  # fits a core's cache, and calls are few enough for threads not to wait
QUIET = 1 << 15  # torch does not share out the work on so few among threads of its own
DEVICE_CHUNK = 1 << 24  # enough to fill a GPU, and few waits for its answers
SAMPLE = 3 << 18  # sampled for the bounds
_CELLS = 1 << 13  # sampled together
_NUMPY = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.uint8: np.dtype(np.uint8),
    torch.int8: np.dtype(np.int8),
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
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
    """Scores that are a function of one or more tensors, weight by weight, computed when read.

    Read by name it gives a full tensor, like any mapping; `prune` reads it in chunks and never
    holds a full one. It refers to the tensors and holds no copy: once one of them has changed, its
    scores can no longer be computed. ``dict(scores)`` keeps them.

    Args:
        function: Computes the scores of tensors of any shape, element by element.
        tensors: One or more mappings; the names are those of the first.

    Raises:
        InputError: On reading: a tensor has changed since.

    >>> weights, gradients = {"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([0.5, 3.0])}
    >>> scores = Elementwise(lambda weight, gradient: (weight * gradient).abs(), weights, gradients)
    >>> scores["w"].tolist()
    [1.0, 3.0]
    >>> scores.part("w", slice(1, 2)).tolist()
    [3.0]
    """

    def __init__(self, function: Callable[..., Tensor], *tensors: Mapping[str, Tensor]) -> None:
        self._function = function
        self._tensors: dict[str, tuple[Tensor, ...]] = {}
        self._versions: dict[str, list[int]] = {}
        for name in tensors[0]:
            arguments = [mapping[name].detach() for mapping in tensors]
            self._tensors[name] = tuple(arguments)
            self._versions[name] = _versions(arguments)

    def __getitem__(self, name: str) -> Tensor:
        return self._function(*self._unchanged(name))

    def __contains__(self, name: object) -> bool:  # a mapping's own would work the scores out
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def part(self, name: str, places: slice | Tensor) -> Tensor:
        """Return the scores at some places of a flattened parameter: a slice or indices."""
        return self._function(*(part(tensor, places) for tensor in self._unchanged(name)))

    def array(self, name: str, places: slice, room: Any) -> Any:
        """Return a slice of scores on the CPU as an array.

        They are written into ``room`` where they must be computed or converted.
        """
        if self._function in _TWINS:
            values = [part(tensor, places).numpy() for tensor in self._unchanged(name)]
            return _TWINS[self._function](*values, out=room)
        # In pieces, so that torch's threads and those that read chunks do not wait for each other.
        for start in range(0, len(room), QUIET):
            quiet = slice(places.start + start, min(places.start + start + QUIET, places.stop))
            room[start : start + QUIET] = self.part(name, quiet).numpy()
        return room

    def like(self, name: str) -> Tensor:
        """Return a tensor with the shape and device of a parameter's scores, not their values."""
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
    """Return some places of a flattened tensor, in any memory format, without copying the rest.

    Args:
        tensor: Of any shape.
        places: ``slice(start, stop)`` with both ends within the tensor, or a vector of indices.

    >>> part(torch.arange(6).view(2, 3).t(), slice(1, 4)).tolist()
    [3, 1, 4]
    """
    if tensor.is_contiguous():
        flat = tensor.view(-1)
        if isinstance(places, slice):
            return flat[places]
        return flat.index_select(0, places.to(tensor.device))
    if isinstance(places, Tensor):
        return tensor[torch.unravel_index(places.to(tensor.device), tensor.shape)]
    if tensor.dim() == 1:
        return tensor[places]

    # The rows from first to last lie within the slice; of those before and after it holds a part.
    row = tensor[0].numel()
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
    """Return the scores of a parameter's kept weights as a vector.

    Raises:
        ScoreError: They are missing, of another shape or device than the mask, or NaN.
    """
    check_fits(scores, mask, name)
    kept = scores[name].detach()[mask[name]]
    if kept.is_floating_point():
        _refuse_nan(name, int(torch.count_nonzero(torch.isnan(kept))))
    # torch.kthvalue does not rank booleans.
    return kept.to(torch.uint8) if kept.dtype == torch.bool else kept


def check_fits(scores: Scores, mask: Mask, name: str) -> None:
    """Refuse scores that are missing, or of another shape or on another device than the mask.

    >>> check_fits({"w": torch.rand(2)}, {"w": torch.tensor([True, True])}, "w")
    """
    if name not in scores:
        raise ScoreError(f"there is no score for '{name}'")
    # An `Elementwise` is not computed for this.
    values = scores.like(name) if isinstance(scores, Elementwise) else scores[name]
    keep = mask[name]
    if not isinstance(values, Tensor):
        raise ScoreError(f"scores of '{name}' are a {type(values).__name__}; they are a tensor")
    if values.layout is not torch.strided or values.is_quantized or values.is_complex():
        sparse = "" if values.layout is torch.strided else "sparse "
        dtype = str(values.dtype).removeprefix("torch.")
        raise ScoreError(
            f"scores of '{name}' are {sparse}{dtype}; an ordinary tensor of real numbers is needed"
        )
    if values.shape != keep.shape:
        raise ScoreError(
            f"scores of '{name}' have the shape {tuple(values.shape)}, its mask {tuple(keep.shape)}"
        )
    if values.device != keep.device:
        raise ScoreError(
            f"scores of '{name}' are on {values.device}, its mask on {keep.device}; move one of "
            "them"
        )


def check_scores(scores: object, mask: Mask) -> None:
    """Refuse what is no score for every weight that a mask keeps.

    Raises:
        ScoreError: The first thing that is wrong, with the parameter's name.

    >>> check_scores({"w": torch.rand(2)}, {"w": torch.tensor([True, True])})
    """
    if not isinstance(scores, Mapping):
        raise ScoreError(
            f"scores are a {type(scores).__name__}; they are a mapping from names to tensors"
        )
    for name in mask:
        kept_scores(scores, mask, name)


def _refuse_nan(name: str, number: int) -> None:
    if number:
        raise ScoreError(f"{number} scores of '{name}' are NaN; a score is a number, or infinite")


def lowest(values: Tensor, number: int) -> Tensor:
    """Mark exactly ``number`` of the lowest values of a vector; of equal ones the first.

    Equal to the first ``number`` places of a stable sort, without sorting.

    >>> lowest(torch.tensor([2.0, 1.0, 1.0, 1.0]), 2).tolist()
    [False, True, True, False]
    """
    # torch.kthvalue counts from 1.
    if number == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    threshold = torch.kthvalue(values, number).values
    marked = values < threshold
    tied = torch.nonzero(values == threshold).flatten()
    marked[tied[: number - int(torch.count_nonzero(marked))]] = True
    return marked


def highest(values: Tensor, number: int) -> Tensor:
    """Mark exactly ``number`` of the highest values of a vector; of equal ones the last.

    What is left is what `lowest` marks, in a fraction of its time on the CPU. No value may be NaN.

    >>> highest(torch.tensor([2.0, 1.0, 1.0, 1.0]), 2).tolist()
    [True, False, False, True]
    """
    if number == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if values.device.type == "cpu" and values.dtype in _NUMPY:
        array = values.numpy()
        marked = torch.from_numpy(array >= _highest_threshold(array, number))
    else:
        # Of torch's selections this one has a deterministic form on a GPU.
        threshold = torch.topk(values, number, sorted=False).values.min()
        marked = values >= threshold
    surplus = masks.count({"": marked}) - number
    if surplus:
        lowest_marked = values[marked].min()
        marked[torch.nonzero(values == lowest_marked).flatten()[:surplus]] = False
    return marked


def _highest_threshold(values: Any, number: int) -> Any:
    """Return the value that is ``number``-th from above; of many values by a sample of them."""
    if number * 4 < len(values) >= SMALL:
        # Somewhat more of the sample than its share, so that the bound rarely misses; then only
        # what is above the bound is searched. An odd step, as layers have even lengths: an even one
        # would meet the same inputs in every row.
        step = 17
        sampled = values[::step]
        share = min(number // step + number // (4 * step) + 32, len(sampled))
        bound = np.partition(sampled, len(sampled) - share)[len(sampled) - share]
        # By places: a boolean index takes several times as long.
        above = values[np.flatnonzero(values >= bound)]
        if len(above) >= number:
            values = above
    return np.partition(values, len(values) - number)[len(values) - number]


def keep_(result: dict[str, Tensor], mask: Mask, names: Sequence[str], keep: Tensor) -> None:
    """Write into a result which of a group's kept weights stay, parameter after parameter."""
    start = 0
    for name in names:
        kept = int(torch.count_nonzero(mask[name]))
        result[name][mask[name]] = keep[start : start + kept]
        start += kept


def without_lowest(
    scores: Scores, mask: Mask, names: Sequence[str], remove: int
) -> dict[str, Tensor]:
    """Return new masks of a group's parameters without exactly ``remove`` of the lowest scores.

    Of equal scores those that come first are removed, by the order of the names, then by flat
    position.

    Raises:
        ScoreError: Scores are missing, of another shape, on another device, or NaN where the mask
            keeps.

    >>> scores = {"a": torch.ones(2), "b": torch.zeros(1)}
    >>> mask = {name: torch.isfinite(values) for name, values in scores.items()}
    >>> without_lowest(scores, mask, ["a", "b"], 2)
    {'a': tensor([False,  True]), 'b': tensor([False])}
    """
    group = masks.part_of(mask, names)
    if masks.size(group) >= SMALL:
        return in_chunks(scores, mask, names, remove)
    result = masks.cloned(group)
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
        scores: An `Elementwise` is computed chunk by chunk.
        mask: The weights kept so far.
        names: The group's parameters, in the order that breaks ties.
        remove: How many of the kept weights to remove.
        chunk: Weights per chunk; 0 takes what suits the device.
        sample: Weights to sample for the bounds, at most.
    """
    group = _Group(scores, mask, names, chunk)
    kept = masks.count(masks.part_of(mask, names))
    if remove == 0:
        group.refuse_nan(group.map_chunks(lambda chunk: group.has_nan(*group.read(chunk))))
        return masks.cloned(masks.part_of(mask, names))

    # The threshold lies strictly between floor and ceiling, as do `inside` weights; `under` weights
    # lie at the floor or below.
    floor, ceiling, under, inside = None, None, 0, kept
    for draw in count():
        # Bounds that most likely enclose the threshold.
        sampled = group.sample(sample, draw, floor, ceiling)
        low, high = _bounds(sampled, (remove - under) / inside, floor, ceiling)
        del sampled

        # One pass keeps what is above the lower bound and collects what is between the bounds.
        passes = group.between(low, high)
        above = collected = 0
        for chunk_pass in passes:
            above += chunk_pass.above
            collected += chunk_pass.values.size
        # How many of the collected weights to remove: some, if the bounds enclose the threshold.
        number = remove - (kept - above)
        if 0 < number <= collected:
            group.prune_(passes, number)
            return group.result()

        # They do not. The threshold may be the missed bound itself, where many scores are equal to
        # it; else that bound is an exact limit for the next sample.
        pivot = low if number <= 0 else high
        less, tied_by_chunk = group.tally(pivot)
        tied = sum(tied_by_chunk)
        if less < remove <= less + tied:
            group.keep_from_(pivot, remove - less, tied_by_chunk)
            return group.result()
        if remove <= less:
            ceiling, inside = pivot, less - under
        else:
            floor, under, inside = pivot, less + tied, under + inside - less - tied
    raise AssertionError  # every round without a result narrows floor and ceiling


def _bounds(sampled: Any, fraction: float, floor: Any, ceiling: Any) -> tuple[Any, Any]:
    """Return two scores of a sample that enclose its quantile, except once in 2000 samples.

    Where the sample ends before, its limits take their place.
    """
    size = len(sampled)
    # 3.5 standard deviations of the number of sampled scores below the quantile.
    width = 3.5 * (size * fraction * (1 - fraction)) ** 0.5 + 2
    first, last = int(size * fraction - width), int(size * fraction + width)
    within = [place for place in (first, last) if 0 <= place < size]
    if within:
        sampled.partition(within)
    low = sampled[first].item() if first in within else floor
    high = sampled[last].item() if last in within else ceiling
    return low, high


class _Chunk(NamedTuple):
    name: str
    start: int
    stop: int


class _Pass(NamedTuple):
    """The result of one pass over a chunk with two bounds.

    Attributes:
        chunk: The chunk.
        above: How many kept scores lie above the lower bound and are not collected.
        values: The collected scores, strictly between the bounds.
        places: Where they are in the chunk.
        has_nan: Whether a kept score is NaN.
    """

    chunk: _Chunk
    above: int
    values: Any
    places: Any
    has_nan: bool


class _Group:
    """The scores, the mask and the new mask of a group's parameters, chunk by chunk.

    Every operation on a chunk is written once, for numpy and for torch: numpy's comparisons are
    three times quicker on the CPU; torch knows half precision and the GPU.
    """

    def __init__(self, scores: Scores, mask: Mask, names: Sequence[str], chunk: int) -> None:
        for name in names:
            check_fits(scores, mask, name)
        if not isinstance(scores, Elementwise):
            scores = Elementwise(_as_it_is, {name: scores[name] for name in names})
        self.scores, self.mask = scores, mask
        self.kept: dict[str, Tensor] = {}
        self.sizes: dict[str, int] = {}
        dtypes = set()
        on_cpu = True
        for name in names:
            self.kept[name] = _empty(mask[name])
            self.sizes[name] = mask[name].numel()
            dtypes.add(scores.part(name, slice(0, 0)).dtype)
            on_cpu = on_cpu and mask[name].device.type == "cpu"

        # Scores of all parameters are compared in one dtype; booleans have no order in torch.
        comparable = {torch.uint8 if dtype == torch.bool else dtype for dtype in dtypes}
        self.dtype = functools.reduce(torch.promote_types, comparable)
        self.xp: Any = _library(on_cpu, dtypes)
        self.threads = _cores() if on_cpu else 1
        self.rooms = threading.local()
        step = chunk or (CHUNK if on_cpu else DEVICE_CHUNK)
        self.chunks: list[_Chunk] = []
        for name, size in self.sizes.items():
            for start in range(0, size, step):
                self.chunks.append(_Chunk(name, start, min(start + step, size)))

    def map_chunks(self, function: Callable[[_Chunk], T]) -> list[T]:
        """Apply a function to every chunk, in threads; the results are in the chunks' order."""
        # Several chunks a task: handing out each by itself would take threads too long.
        runs = [self.chunks[start : start + 16] for start in range(0, len(self.chunks), 16)]
        results = _in_threads(lambda run: list(map(function, run)), runs, self.threads)
        return list(chain.from_iterable(results))

    def read(self, chunk: _Chunk) -> tuple[Any, Any]:
        """Return the scores and the mask of a chunk."""
        places = slice(chunk.start, chunk.stop)
        keep = self._array(part(self.mask[chunk.name], places))
        if self.xp is torch:
            return self.scores.part(chunk.name, places).to(self.dtype), keep
        values, _ = self._room(len(keep))
        return self.scores.array(chunk.name, places, values), keep

    def _room(self, size: int) -> tuple[Any, Any]:
        # Each thread allocates its own once: allocated for every chunk they would lie between what
        # is collected, and their memory could not be given back.
        if not hasattr(self.rooms, "values"):
            longest = max(chunk.stop - chunk.start for chunk in self.chunks)
            self.rooms.values = np.empty(longest, _NUMPY[self.dtype])
            self.rooms.inner = np.empty(longest, np.bool_)
        return self.rooms.values[:size], self.rooms.inner[:size]

    def write(self, chunk: _Chunk) -> Any:
        """Return a chunk of the new mask, to be written."""
        return self._array(self.kept[chunk.name].view(-1)[chunk.start : chunk.stop])

    def _array(self, tensor: Tensor) -> Any:
        return tensor.numpy() if self.xp is np else tensor

    def has_nan(self, values: Any, keep: Any) -> bool:
        least = values.min()
        if least == least:  # else it is NaN, as one of the values is
            return False
        return bool((self.xp.isnan(values) & keep).any())

    def refuse_nan(self, has_nan: Sequence[bool]) -> None:
        """Refuse NaN scores, given for each chunk whether it has any."""
        if not any(has_nan):
            return
        # The first parameter that has some is named, with the number in all of its chunks.
        name = self.chunks[list(has_nan).index(True)].name
        number = 0
        for chunk in self.chunks:
            if chunk.name == name:
                values, keep = self.read(chunk)
                number += int(self.xp.count_nonzero(self.xp.isnan(values) & keep))
        _refuse_nan(name, number)

    def between(self, low: Any, high: Any) -> list[_Pass]:
        """Keep what is above the lower bound, and collect what is strictly between the bounds.

        A bound of ``None`` excludes nothing. NaN scores are refused.
        """
        passes = self.map_chunks(functools.partial(self._between_in, low=low, high=high))
        self.refuse_nan([chunk_pass.has_nan for chunk_pass in passes])
        return passes

    def _between_in(self, chunk: _Chunk, low: Any, high: Any) -> _Pass:
        xp = self.xp
        # The new mask itself serves as scratch memory, so that nothing is allocated.
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
        # Two bytes a place where they suffice: what is collected is all the memory that is needed
        # beside the result.
        width = np.uint16 if len(values) <= 1 << 16 else np.int32
        return _Pass(
            chunk,
            above=int(xp.count_nonzero(result)),
            values=_numbers(values[places]),
            places=_numbers(places).astype(width),
            has_nan=self.has_nan(values, keep),
        )

    def tally(self, pivot: Any) -> tuple[int, list[int]]:
        """Count the kept scores that are less than a score, and those equal to it by chunk."""
        tallies = self.map_chunks(functools.partial(self._tally_in, pivot=pivot))
        less, tied = zip(*tallies, strict=True)
        return sum(less), list(tied)

    def _tally_in(self, chunk: _Chunk, pivot: Any) -> tuple[int, int]:
        values, keep = self.read(chunk)
        less, tied = ((values < pivot) & keep), ((values == pivot) & keep)
        return int(self.xp.count_nonzero(less)), int(self.xp.count_nonzero(tied))

    def prune_(self, passes: Sequence[_Pass], number: int) -> None:
        """Prune the lowest of the collected scores; of equal ones the first."""
        # The number-th lowest score is the threshold; of those equal to it the first are pruned.
        values = np.concatenate([chunk_pass.values for chunk_pass in passes])
        values.partition(number - 1)
        threshold = values[number - 1]
        ties = number - int(np.count_nonzero(values < threshold))
        del values
        for chunk, _, values, places, _ in passes:
            pruned = values < threshold
            tied = np.flatnonzero(values == threshold)
            pruned[tied[:ties]] = True
            ties -= min(ties, len(tied))
            indices = places[pruned].astype(np.int64)
            if len(indices):
                self.write(chunk)[indices if self.xp is np else torch.from_numpy(indices)] = False

    def keep_from_(self, pivot: Any, ties: int, tied: Sequence[int]) -> None:
        """Keep what is above a score, and what is equal to it except the first ``ties``.

        Args:
            pivot: The score.
            ties: How many of the scores equal to it are pruned.
            tied: How many scores of each chunk are equal to it.
        """
        tied_before = dict(zip(self.chunks, np.cumsum([0, *tied]).tolist(), strict=False))

        def write(chunk: _Chunk) -> None:
            values, keep = self.read(chunk)
            result = self.write(chunk)
            self.xp.logical_and(self.xp.greater(values, pivot, out=result), keep, out=result)
            equal = self.xp.where((values == pivot) & keep)[0]
            result[equal[max(0, ties - tied_before[chunk]) :]] = True

        self.map_chunks(write)

    def sample(self, number: int, draw: int, floor: Any, ceiling: Any) -> Any:
        """Return a sample of the kept scores strictly between two limits.

        The group is divided into cells of equal length, and each gives the score at one random
        place. At a fixed distance, scores that repeat (a filter's, a row's) would be sampled at one
        of their places only.
        """
        # Where each parameter begins in the group, and where the last one ends.
        ends = np.cumsum([0, *self.sizes.values()])
        size = int(ends[-1])
        cell = max(16, -(-size // number))
        dtype = _numbers(torch.empty(0, dtype=self.dtype)).dtype
        sampled = np.empty(-(-size // cell), dtype)
        filled = 0
        for start in range(0, size, _CELLS * cell):
            places = np.arange(start, min(start + _CELLS * cell, size), cell)
            places += _scattered(places, draw) % cell
            np.minimum(places, size - 1, out=places)  # the last cell may be cut short
            # Hand each parameter its share of the places.
            cuts = np.searchsorted(places, ends)
            for name, begin, (a, b) in zip(self.sizes, ends, pairwise(cuts), strict=False):
                if a < b:
                    indices = torch.from_numpy(places[a:b] - begin)
                    values = self._kept_within(name, indices, floor, ceiling)
                    sampled[filled : filled + len(values)] = values
                    filled += len(values)
        return sampled[:filled]

    def _kept_within(self, name: str, places: Tensor, floor: Any, ceiling: Any) -> Any:
        values = _numbers(self.scores.part(name, places).to(self.dtype))
        values = values[_numbers(part(self.mask[name], places))]
        if floor is not None:
            values = values[values > floor]
        return values if ceiling is None else values[values < ceiling]

    def result(self) -> dict[str, Tensor]:
        """Return the new masks, each in the memory format of the one before."""
        masks = {}
        for name, kept in self.kept.items():
            before = self.mask[name]
            masks[name] = kept if before.is_contiguous() else torch.empty_like(before).copy_(kept)
        return masks


def _library(on_cpu: bool, dtypes: set[torch.dtype]) -> Any:
    return np if on_cpu and dtypes <= {*_NUMPY, torch.bool} else torch


def _empty(mask: Tensor) -> Tensor:
    # numpy asks for large pages, which the system hands out sooner.
    if mask.device.type == "cpu" and mask.numel():
        return torch.from_numpy(np.empty(mask.numel(), dtype=np.bool_)).view(mask.shape)
    return torch.empty(mask.shape, dtype=torch.bool, device=mask.device)


def _numbers(values: Any) -> Any:
    """Return a vector as a numpy array on the CPU.

    Half precision, which numpy lacks in part, becomes single: no value changes.
    """
    if isinstance(values, np.ndarray):
        return values
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    return values.cpu().numpy()


def _scattered(numbers: Any, draw: int) -> Any:
    """Return integers from 0 without a pattern, by the mixing function of splitmix64."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(draw)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(33)).astype(np.int64)


def _cores() -> int:
    """Return how many cores to use, at most 8: more threads would wait for each other."""
    return min(cores(), 8)


def _in_threads(function: Callable[[Any], T], items: Sequence[Any], threads: int) -> list[T]:
    """Apply a function to every item, in threads; the results are in the items' order.

    The functions spend their time in numpy and torch, which release the GIL.
    """
    if threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
