"""Work: what a run asks its pool to do, as plain data; each piece is done once, kept and charged.

    Train(job) ---------------------> Measure(job)
    Train(first), Train(second) ----> Connect(first, second)
    Train(job) of each partition ---> Cut(jobs, mask, amount)

A piece of work has a digest, names the work whose results it needs, can be done, and says how its
result is written to a file. Pool, workers and store know no more about it, so another kind of work
is another class here and nothing else.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from tombola.ground import devices, seeds
from tombola.ground.checking import checked
from tombola.ground.errors import ConfigError, DamagedError
from tombola.ground.metrics import ACCURACY, Metric
from tombola.ground.types import Mask
from tombola.masks.digests import digest_json, digest_mask
from tombola.masks.rates import Amount, Count
from tombola.masks.scopes import Group
from tombola.scores.context import Context, Score
from tombola.scores.ranking import Ranking
from tombola.search import cutting
from tombola.search.connectivity import Line, connect
from tombola.search.problems import JobProblem
from tombola.tasks.protocol import Metrics, Task
from tombola.training.jobs import Job, Measured, Trained, alone, measure, run_job
from tombola.training.loop import resolve_defaults

Result = TypeVar("Result")
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, total steps) while a piece of work is under way."""
Tensors: TypeAlias = Mapping[str, Tensor]
Facts: TypeAlias = Mapping[str, Any]


class Work(ABC, Generic[Result]):
    """One piece of work: a pool does it once, however many ask for it.

    Attributes:
        kind: The name of its results; the suffix of their files.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def jobs(self) -> tuple[Job, ...]:
        """The trainings that it concerns; their start states are sent to a worker once."""

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """The work whose results `do` takes, in this order."""
        return ()

    @abstractmethod
    def digest(self, task: str) -> str:
        """Digest of all that the result depends on, on the task of that digest."""

    @abstractmethod
    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Result:
        """Do it.

        Args:
            task: The model and the data.
            results: Those of the work that it needs.
            progress: Called as it progresses.
        """

    @staticmethod
    @abstractmethod
    def to_file(result: Any) -> tuple[Tensors, Facts]:
        """Return a result as named tensors and plain facts."""

    @staticmethod
    @abstractmethod
    def from_file(tensors: Tensors, facts: Facts) -> Any:
        """Return the result that `to_file` has written.

        Raises:
            DamagedError: They are not those of a result; the message says what is wrong.
        """


@dataclass(frozen=True, eq=False)
class Train(Work[Trained]):
    """A training."""

    job: Job
    kind: ClassVar[str] = "training"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The training itself."""
        return (self.job,)

    def digest(self, task: str) -> str:
        """The job's own."""
        return self.job.digest(task)

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Trained:  # noqa: ARG002
        """Train."""
        return run_job(self.job, task, progress)

    # What a training records beside its tensors.
    _FACTS: ClassVar[dict[str, Any]] = {
        "early_step": int | None,
        "select": Literal["last", "best"],
        "history": list[dict[str, float]],
        "samples": int,
        "seconds": float,
        "steps": int,
        "process_seconds": float,
        "peak_bytes": int,
        "cuts": list[tuple[int, dict[str, int]]],
    }
    # Files of earlier versions lack these.
    _LATER: ClassVar[frozenset[str]] = frozenset({"steps", "process_seconds", "peak_bytes", "cuts"})

    @staticmethod
    def to_file(result: Trained) -> tuple[Tensors, Facts]:
        """Put both states and the mask under names of their own."""
        tensors: dict[str, Tensor] = {}
        states = {
            "final": result.final,
            "early": result.early,
            "mask": result.mask,
            "gathered": result.gathered,
        }
        for prefix, state in states.items():
            for name, value in (state or {}).items():
                tensors[f"{prefix}.{name}"] = value
        return tensors, _attributes(result, Train._FACTS)

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Trained:
        """Put the states together again; all of them must be those of one model."""
        states: dict[str, dict[str, Tensor]]
        states = {"final": {}, "early": {}, "mask": {}, "gathered": {}}
        for name, value in tensors.items():
            prefix, _, key = name.partition(".")
            if prefix not in states or not key:
                raise DamagedError(f"'{name}' is no tensor of a training")
            states[prefix][key] = value
        final, early = states["final"], states["early"]
        mask, gathered = states["mask"], states["gathered"]
        agree = not early or _layout(early) == _layout(final)
        if not final or not agree or not _fits(mask, final) or not _shaped_as(gathered, final):
            raise DamagedError("its tensors are not those of one model")

        # A file that another version has written, or that was altered.
        missing = Train._FACTS.keys() - Train._LATER - facts.keys()
        unknown = facts.keys() - Train._FACTS.keys()
        if missing or unknown:
            raise DamagedError(f"'{min(missing or unknown)}' is missing or no fact of a training")
        for name, value in facts.items():
            _check(Train._FACTS[name], value, name)
        return Trained(final, early or None, **facts, mask=mask or None, gathered=gathered)


@dataclass(frozen=True, eq=False)
class Measure(Work[Measured]):
    """Measuring a trained ticket on the splits: the one time that its test split is touched."""

    job: Job
    kind: ClassVar[str] = "measured"
    _SPLITS: ClassVar[tuple[str, ...]] = ("train", "valid", "test", "early")
    _KEPT: ClassVar[str] = "kept."  # before the names of tensors that are no predictions

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The training whose result is tested."""
        return (self.job,)

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """The training."""
        return (Train(self.job),)

    def digest(self, task: str) -> str:
        """The job's own: there is one way to measure a training."""
        return self.job.digest(task)

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Measured:  # noqa: ARG002
        """Test the trained states."""
        measured = measure(self.job, results[0], task)
        declared = [metric.name for metric in task.metrics]
        # What is measured beside the declared metrics is recorded of the test split alone.
        return replace(
            measured,
            train=_declared(measured.train, declared),
            valid=measured.valid and _declared(measured.valid, declared),
            early=measured.early and _declared(measured.early, declared),
        )

    @staticmethod
    def to_file(result: Measured) -> tuple[Tensors, Facts]:
        """Keep the predictions, and what the task keeps of the test split, as tensors."""
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {}
        for split in Measure._SPLITS:
            metrics = getattr(result, split)
            facts[split] = metrics and {"loss": metrics.loss, **metrics.values}
            if metrics is not None and metrics.predictions is not None:
                tensors[split] = metrics.predictions
        for name, values in result.test.kept.items():
            tensors[f"{Measure._KEPT}{name}"] = values
        return tensors, facts

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Measured:
        """Put the metrics of each split together again."""
        # Without validation data two splits have no metrics, and stand in the file as null.
        measured = {split for split, fact in facts.items() if fact is not None}
        complete = facts.keys() == {*Measure._SPLITS} and measured >= {"train", "test"}
        kept, predictions = {}, {}
        for name, tensor in tensors.items():
            if name.startswith(Measure._KEPT):
                kept[name.removeprefix(Measure._KEPT)] = tensor
            else:
                predictions[name] = tensor
        # Predictions are of all splits or of none.
        if not complete or predictions.keys() not in (measured, set()):
            raise DamagedError("its splits are not those of a measurement")
        metrics: dict[str, Metrics | None] = dict.fromkeys(Measure._SPLITS)
        for split in measured:
            _check(dict[str, float], facts[split], split)
            values = dict(facts[split])
            # The test split may have more than the others, which have the same as each other.
            alike = values.keys() == facts["test" if split == "test" else "train"].keys()
            alike = alike and values.keys() <= facts["test"].keys()
            if "loss" not in values or len(values) < 2 or not alike:
                raise DamagedError(f"{split} is not a loss and the metrics of a task")
            of_split = kept if split == "test" else {}
            loss = values.pop("loss")
            metrics[split] = Metrics(loss, values, predictions.get(split), of_split)
        return Measured(**metrics)  # type: ignore[arg-type]


def _declared(metrics: Metrics, names: Sequence[str]) -> Metrics:
    """Return a measurement of the declared metrics alone."""
    values = {name: metrics.values[name] for name in names}
    return Metrics(metrics.loss, values, metrics.predictions)


@dataclass(frozen=True, eq=False)
class Connect(Work[Line]):
    """The line from one training of a ticket to another one."""

    first: Job
    second: Job
    kind: ClassVar[str] = "line"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The trainings at its ends."""
        return (self.first, self.second)

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """Both trainings."""
        return (Train(self.first), Train(self.second))

    def digest(self, task: str) -> str:
        """Digest of both trainings, in their order."""
        return digest_json({"line": [job.digest(task) for job in self.jobs]})

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Line:  # noqa: ARG002
        """Test the networks between the two."""
        return connect(self.first, results[0], results[1], task)

    @staticmethod
    def to_file(result: Line) -> tuple[Tensors, Facts]:
        """A line is only numbers."""
        return {}, result.to_dict() | {"metric": result.metric.to_dict()}

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Line:  # noqa: ARG004
        """Put the columns together again."""
        columns = dict(facts)
        try:
            # Files of earlier versions name no metric: there was only one.
            metric = Metric(**columns.pop("metric", ACCURACY.to_dict()))
        except (TypeError, ConfigError) as error:
            raise DamagedError("it has no metric") from error
        if columns.keys() != {"at", metric.name, "loss"}:
            raise DamagedError("its entries are not those of a line")
        for name, value in columns.items():
            _check(list[float], value, name)
        if len(set(map(len, columns.values()))) > 1 or not columns["at"]:
            raise DamagedError("its columns are empty or not as long as each other")
        return Line(columns["at"], columns[metric.name], columns["loss"], metric)


@dataclass(frozen=True, eq=False)
class Pruned:
    """The result of a cut.

    Attributes:
        mask: The next mask.
        candidates: The masks that it was combined from, one a training.
        samples: Training examples that the scores processed, one for each forward and backward
            pass of it.
        seconds: Wall time.
        process_seconds: Processor time of the process.
        peak_bytes: Peak memory, see `jobs.Trained`.
    """

    mask: dict[str, Tensor]
    candidates: list[dict[str, Tensor]]
    samples: int = 0
    seconds: float = 0.0
    process_seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Cut(Work[Pruned]):
    """The step from trained jobs to the next mask, where the data is: for scores that need it.

    Attributes:
        trainings: The trainings whose results are scored, one a candidate.
        mask: The mask so far.
        amount: A rate, or a `Count`.
        rankings: What weights are ranked by: one, or one a candidate.
        groups: Which weights compete.
        combine: Whether "all" candidates must keep a weight, or "any".
        scored: Which weights of a training are scored: the "selected", or the "last".
        before: Amounts that are cut to one after the other before that, each by scores taken anew.
    """

    trainings: tuple[Job, ...]
    mask: Mask
    amount: Amount
    rankings: tuple[Ranking, ...]
    groups: Mapping[str, Group]
    combine: Literal["all", "any"] = "all"
    scored: Literal["selected", "last"] = "selected"
    before: tuple[Amount, ...] = ()
    kind: ClassVar[str] = "cut"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The trainings whose results are scored."""
        return self.trainings

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """The trainings."""
        return tuple(map(Train, self.trainings))

    @property
    def ranked_by(self) -> list[list[Any]]:
        """What weights are ranked by, as plain data: names and options of the scores."""
        return [[ranking.name, dict(ranking.options)] for ranking in self.rankings]

    def digest(self, task: str) -> str:
        """Digest of the trainings, not of their states, and of everything done with them."""
        groups = {}
        for name, group in self.groups.items():
            groups[name] = [list(group.names), group.factor]
            # Budgets have done their part when the counts are known. A pattern decides which weights
            # compete.
            if group.pattern is not None:
                groups[name].append(list(group.pattern))
        entries: dict[str, Any] = {
            "cut": [job.digest(task) for job in self.trainings],
            "mask": digest_mask(self.mask),
            "amount": _digested(self.amount),
            "rankings": self.ranked_by,
            "groups": groups,
            "combine": self.combine,
            "scored": self.scored,
        }
        # Cuts that are older than the entry keep their digests.
        if self.before:
            entries["before"] = list(map(_digested, self.before))
        return digest_json(entries)

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Pruned:  # noqa: ARG002
        """Score and prune each candidate, and combine them."""
        # Charged to the arm, as a training is.
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        devices.reset_peak_memory(task.device)
        first = self.trainings[0]
        training = resolve_defaults(first.training, task.model, task.device.type)
        states = []
        for trained in results:
            states.append(trained.state if self.scored == "selected" else trained.final)
        histories = [trained.gathered for trained in results]
        cut = self.cut(list(map(Ranking.score, self.rankings)))
        mask, samples = dict(self.mask), 0
        with alone(training, task):
            # For what a model draws while it is scored, such as dropout.
            seeds.reseed(first.seed, "score")
            seeds.reseed_python(first.seed, "score")
            for amount in (*self.before, self.amount):
                problems = []
                for job, ranking, state in zip(
                    self.trainings, self._ranking_of_each, states, strict=True
                ):
                    passes = ranking.passes(task.outputs(job.part))
                    problems.append(_CountingProblem(JobProblem(job, state, mask, task), passes))
                context = Context(first.start, first.seed, problems=problems, histories=histories)
                mask, candidates = cut(mask, states, amount, context)
                samples += sum(problem.samples for problem in problems)
                if self.before:
                    states = [_without_pruned(state, mask) for state in states]
        return Pruned(
            mask,
            candidates,
            samples=samples,
            seconds=time.perf_counter() - wall_start,
            process_seconds=time.process_time() - cpu_start,
            peak_bytes=devices.peak_memory(task.device),
        )

    def cut(self, scores: Sequence[Score]) -> cutting.Cut:
        """Return the cut by one score, or by one a candidate."""
        make_cut = cutting.keep_common if self.combine == "all" else cutting.keep_any
        return make_cut(scores[0] if len(scores) == 1 else scores, lambda _: self.groups)

    def foreseen(self, task: Task) -> int:
        """Count the training examples that the scores will process, as far as they declare it."""
        total = 0
        for job, ranking in zip(self.trainings, self._ranking_of_each, strict=True):
            examples = JobProblem(job, job.start, self.mask, task).examples(ranking.examples)
            passes = ranking.passes(task.outputs(job.part))
            total += examples * (1 if passes is None else passes) + ranking.probes
        return total * (len(self.before) + 1)

    @property
    def _ranking_of_each(self) -> tuple[Ranking, ...]:
        """What each training's weights are ranked by; one ranking stands for all."""
        return self.rankings * len(self.trainings) if len(self.rankings) == 1 else self.rankings

    @staticmethod
    def to_file(result: Pruned) -> tuple[Tensors, Facts]:
        """Keep masks as packed bits, and their shapes."""
        tensors: dict[str, Tensor] = {}
        for number, mask in enumerate([result.mask, *result.candidates]):
            for name, keep in mask.items():
                bits = np.packbits(keep.cpu().numpy().reshape(-1))
                tensors[f"{number}.{name}"] = torch.from_numpy(bits)
        facts = _attributes(result, Cut._COSTS)
        facts["shapes"] = {name: list(keep.shape) for name, keep in result.mask.items()}
        return tensors, facts

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Pruned:
        """Unpack the masks again."""
        if facts.keys() != {*Cut._COSTS, "shapes"}:
            raise DamagedError("its facts are not those of a cut")
        costs = {name: facts[name] for name in Cut._COSTS}
        shapes = facts["shapes"]
        for name, value in costs.items():
            _check(Cut._COSTS[name], value, name)
        _check(dict[str, list[int]], shapes, "shapes")

        # The next mask has the number 0, candidates those that follow.
        masks: dict[int, dict[str, Tensor]] = {}
        for name, bits in tensors.items():
            number, _, layer = name.partition(".")
            if not number.isdecimal() or layer not in shapes or bits.dtype != torch.uint8:
                raise DamagedError(f"'{name}' is no mask of a cut")
            shape = shapes[layer]
            if bits.numel() != -(-math.prod(shape) // 8):
                raise DamagedError(f"'{name}' has another number of weights than its layer")
            keep = np.unpackbits(bits.numpy(), count=math.prod(shape)).astype(bool).reshape(shape)
            masks.setdefault(int(number), {})[layer] = torch.from_numpy(keep)

        ordered = []
        for place in range(len(masks)):
            if masks.get(place, {}).keys() != shapes.keys():
                raise DamagedError("its masks are not those of one model")
            # In the order of the model's own names, which the shapes have.
            ordered.append({name: masks[place][name] for name in shapes})
        if len(ordered) < 2:
            raise DamagedError("its masks are not those of one model")
        mask, *candidates = ordered
        return Pruned(mask, candidates, **costs)

    _COSTS: ClassVar[dict[str, Any]] = {
        "samples": int,
        "seconds": float,
        "process_seconds": float,
        "peak_bytes": int,
    }


class _CountingProblem:
    """A problem that counts the examples of its batches.

    Args:
        problem: The one that a score is given.
        passes: What the score takes for an example; ``None`` counts each time that it is read.
    """

    def __init__(self, problem: JobProblem, passes: int | None) -> None:
        self._problem, self._passes = problem, passes
        self.samples = 0
        self.model, self.loss = problem.model, problem.loss

    def batches(self, examples: int) -> Iterator[Any]:
        number = self._problem.examples(examples)
        if self._passes is None:
            self.samples += number
        else:
            # Whoever reads again reads the same examples, and has said how often.
            self.samples = max(self.samples, number * self._passes)
        return self._problem.batches(examples)

    def probe(self, examples: int) -> Any:
        self.samples += examples
        return self._problem.probe(examples)


def _without_pruned(state: Tensors, mask: Mask) -> dict[str, Tensor]:
    """Return a state with zeros where a mask keeps nothing, as a training leaves it."""
    kept = dict(state)
    for name, keep in mask.items():
        kept[name] = torch.where(keep, state[name], 0)
    return kept


def _digested(amount: Amount) -> dict[str, Any]:
    """Return an amount for a digest, which tells a count from a rate: both may be the number 1."""
    return {"count": amount.keep} if isinstance(amount, Count) else {"rate": amount}


KINDS: Mapping[str, type[Work[Any]]] = {kind.kind: kind for kind in (Train, Measure, Connect, Cut)}


def _attributes(result: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(result, name) for name in names}


def _layout(state: Tensors) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (value.dtype, value.shape) for name, value in state.items()}


def _fits(mask: Tensors, state: Tensors) -> bool:
    """Whether a mask names weights of a state."""
    boolean = all(keep.dtype == torch.bool for keep in mask.values())
    return boolean and _shaped_as(mask, state)


def _shaped_as(tensors: Tensors, state: Tensors) -> bool:
    """Whether tensors have names and shapes of a state."""
    shapes = {name: value.shape for name, value in state.items()}
    return all(shapes.get(name) == value.shape for name, value in tensors.items())


def _check(hint: Any, value: Any, name: str) -> None:
    """Refuse a fact that is not of its type."""
    try:
        checked(hint, _finite(value), name)
    except ConfigError as error:
        raise DamagedError(str(error)) from error


def _finite(value: Any) -> Any:
    """Replace what is not finite by 0: a loss may be infinite or NaN, and is a number still."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return 0.0 if isinstance(value, float) and not math.isfinite(value) else value
