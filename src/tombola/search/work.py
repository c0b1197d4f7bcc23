"""Work: what a run asks of its pool, as plain data; each piece is done once, kept and charged.

    Train(job) ---------------------> Measure(job)
    Train(job), Train(other) -------> Connect(job, other)
    Train(job) of each partition ---> Cut(jobs, mask, amount)

A piece of work has a digest, names the work whose results it needs, does itself, and says how its
result is written to a file. Pool, workers and store know no more of it than that, so that another
kind of work is another class here and nothing else.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from tombola.training.loop import settle

Result = TypeVar("Result")
Progress: TypeAlias = Callable[[int, int], None]
"""Told (steps done, steps in all) while a piece of work is under way."""
Tensors: TypeAlias = Mapping[str, Tensor]
Facts: TypeAlias = Mapping[str, Any]


class Work(ABC, Generic[Result]):
    """One piece of work: what a pool does once, however many ask for it.

    Attributes:
        kind: What its results are called; the suffix of their files.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def jobs(self) -> tuple[Job, ...]:
        """The trainings that it is about; their start states are sent to a worker once."""

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """The work whose results `do` is given, in this order."""
        return ()

    @abstractmethod
    def digest(self, task: str) -> str:
        """Digest of all that decides the result, on the task of that digest."""

    @abstractmethod
    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Result:
        """Do it.

        Args:
            task: The model and the data.
            results: Those of the work that it needs.
            progress: Told how far it is.
        """

    @staticmethod
    @abstractmethod
    def to_file(result: Any) -> tuple[Tensors, Facts]:
        """Return a result as named tensors and plain facts."""

    @staticmethod
    @abstractmethod
    def from_file(tensors: Tensors, facts: Facts) -> Any:
        """Return the result that `to_file` has taken apart.

        Raises:
            DamagedError: They are not what a result is made of; the message says what is wrong.
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

    # What a training says beside its tensors.
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
    # Of before there were steps, clocks and cuts, a training has none.
    _LATER: ClassVar[frozenset[str]] = frozenset({"steps", "process_seconds", "peak_bytes", "cuts"})

    @staticmethod
    def to_file(result: Trained) -> tuple[Tensors, Facts]:
        """Put both states and the mask under names of their own."""
        tensors: dict[str, Tensor] = {}
        states = {"final": result.final, "early": result.early, "mask": result.mask}
        for which, state in states.items():
            for name, value in (state or {}).items():
                tensors[f"{which}.{name}"] = value
        return tensors, {name: getattr(result, name) for name in Train._FACTS}

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Trained:
        """Put the states together again; all of them must be those of one model."""
        states: dict[str, dict[str, Tensor]] = {"final": {}, "early": {}, "mask": {}}
        for name, value in tensors.items():
            which, _, key = name.partition(".")
            if which not in states or not key:
                raise DamagedError(f"'{name}' is no tensor of a training")
            states[which][key] = value
        final, early, mask = (states[which] for which in ("final", "early", "mask"))
        if not final or (early and _layout(early) != _layout(final)) or not _fits(mask, final):
            raise DamagedError("its tensors are not those of one model")
        missing = Train._FACTS.keys() - Train._LATER - facts.keys()
        if odd := missing or facts.keys() - Train._FACTS.keys():
            raise DamagedError(f"'{min(odd)}' is missing or no fact of a training")
        for name, value in facts.items():
            _check(Train._FACTS[name], value, name)
        return Trained(final, early or None, **facts, mask=mask or None)


@dataclass(frozen=True, eq=False)
class Measure(Work[Measured]):
    """What a trained ticket does on the splits: the one time that its test split is touched."""

    job: Job
    kind: ClassVar[str] = "measured"
    _SPLITS: ClassVar[tuple[str, ...]] = ("train", "valid", "test", "early")

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The training whose result is tested."""
        return (self.job,)

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """The training."""
        return (Train(self.job),)

    def digest(self, task: str) -> str:
        """The job's own: a training is measured in one way."""
        return self.job.digest(task)

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Measured:  # noqa: ARG002
        """Test the trained states."""
        return measure(self.job, results[0], task)

    @staticmethod
    def to_file(result: Measured) -> tuple[Tensors, Facts]:
        """Keep the predictions as tensors."""
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {}
        for which in Measure._SPLITS:
            metrics = getattr(result, which)
            facts[which] = metrics and {"loss": metrics.loss, **metrics.values}
            if metrics is not None and metrics.predictions is not None:
                tensors[which] = metrics.predictions
        return tensors, facts

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Measured:
        """Put the metrics of each split together again."""
        there = {which for which, fact in facts.items() if fact is not None}
        complete = facts.keys() == {*Measure._SPLITS} and there >= {"train", "test"}
        # predictions, of all splits or of none
        if not complete or tensors.keys() not in (there, set()):
            raise DamagedError("its splits are not those of a measurement")
        metrics: dict[str, Metrics | None] = dict.fromkeys(Measure._SPLITS)
        for which in there:
            _check(dict[str, float], facts[which], which)
            values = dict(facts[which])
            if "loss" not in values or len(values) < 2 or values.keys() != facts["test"].keys():
                raise DamagedError(f"{which} is not a loss and the metrics of a task")
            metrics[which] = Metrics(values.pop("loss"), values, tensors.get(which))
        return Measured(**metrics)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Connect(Work[Line]):
    """The line from one training of a ticket to another one."""

    one: Job
    other: Job
    kind: ClassVar[str] = "line"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The trainings at its ends."""
        return (self.one, self.other)

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """Both trainings."""
        return (Train(self.one), Train(self.other))

    def digest(self, task: str) -> str:
        """Digest of both trainings, in their order."""
        return digest_json({"line": [job.digest(task) for job in self.jobs]})

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Line:  # noqa: ARG002
        """Test the networks between the two."""
        return connect(self.one, results[0], results[1], task)

    @staticmethod
    def to_file(result: Line) -> tuple[Tensors, Facts]:
        """A line is numbers alone."""
        return {}, result.plain() | {"metric": result.metric.plain()}

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Line:  # noqa: ARG004 - of the older files none has any
        """Put the columns together again."""
        columns = dict(facts)
        try:
            # of before there were others it says nothing
            metric = Metric(**columns.pop("metric", ACCURACY.plain()))
        except (TypeError, ConfigError) as error:
            raise DamagedError("it has no metric") from error
        if columns.keys() != {"at", metric.name, "loss"}:
            raise DamagedError("its entries are not those of a line")
        for name, value in columns.items():
            _check(list[float], value, name)
        if len({len(column) for column in columns.values()}) > 1 or not columns["at"]:
            raise DamagedError("its columns are empty or not as long as each other")
        return Line(columns["at"], columns[metric.name], columns["loss"], metric)


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a cut gave.

    Attributes:
        mask: The next mask.
        candidates: What it came from, one a training.
        samples: Training examples that the scores went through.
        seconds: Wall time.
        process_seconds: Processor time of the process meanwhile.
        peak_bytes: The most memory, see `jobs.Trained`.
    """

    mask: dict[str, Tensor]
    candidates: list[dict[str, Tensor]]
    samples: int = 0
    seconds: float = 0.0
    process_seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Cut(Work[Pruned]):
    """From what jobs have trained to the next mask, where the data is: for scores that need it.

    Attributes:
        trainings: What is scored, one a candidate.
        mask: The mask so far.
        amount: What is asked for.
        rankings: What weights are ranked by: one, or one a candidate.
        groups: Which weights compete.
        combine: Makes the next mask of the candidates: "all" keep, or "any".
        scored: Which weights of a training are scored: the "selected", or the "last".
    """

    trainings: tuple[Job, ...]
    mask: Mask
    amount: Amount
    rankings: tuple[Ranking, ...]
    groups: Mapping[str, Group]
    combine: Literal["all", "any"] = "all"
    scored: Literal["selected", "last"] = "selected"
    kind: ClassVar[str] = "cut"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What is scored."""
        return self.trainings

    @property
    def needs(self) -> tuple[Work[Any], ...]:
        """The trainings."""
        return tuple(Train(job) for job in self.trainings)

    def digest(self, task: str) -> str:
        """Digest of the trainings, not of their states, and of all that is done with them."""
        return digest_json(
            {
                "cut": [job.digest(task) for job in self.trainings],
                "mask": digest_mask(self.mask),
                "amount": {"count": self.amount.keep}
                if isinstance(self.amount, Count)
                else {"rate": self.amount},
                "rankings": [[ranking.name, dict(ranking.options)] for ranking in self.rankings],
                "groups": {
                    name: [list(group.names), group.factor] for name, group in self.groups.items()
                },
                "combine": self.combine,
                "scored": self.scored,
            }
        )

    def do(self, task: Task, results: Sequence[Any], progress: Progress) -> Pruned:  # noqa: ARG002
        """Score and prune each, and combine what is left."""
        began, busy, first = time.perf_counter(), time.process_time(), self.trainings[0]
        devices.reset_peak_memory(task.device)
        training = settle(first.training, task.model, task.device.type)
        states = [
            trained.state if self.scored == "selected" else trained.final for trained in results
        ]
        problems = [
            _Counted(JobProblem(job, state, self.mask, task))
            for job, state in zip(self.trainings, states, strict=True)
        ]
        context = Context(first.start, first.seed, problems=problems)
        with alone(training, task):
            seeds.reseed(first.seed, "score")  # what a model draws meanwhile, such as dropout
            seeds.reseed_python(first.seed, "score")
            mask, candidates = self.cut([ranking.score() for ranking in self.rankings])(
                self.mask, states, self.amount, context
            )
        return Pruned(
            mask,
            candidates,
            sum(problem.samples for problem in problems),
            time.perf_counter() - began,
            time.process_time() - busy,
            devices.peak_memory(task.device),
        )

    def cut(self, scores: Sequence[Score]) -> cutting.Cut:
        """Return the cut that is made, by some scores: one, or one a candidate."""
        make = cutting.keep_common if self.combine == "all" else cutting.keep_any
        return make(scores[0] if len(scores) == 1 else scores, lambda _: self.groups)

    def foreseen(self, task: Task) -> int:
        """Count the training examples that the scores will go through, as far as they say so
        beforehand.
        """
        rankings = self.rankings * len(self.trainings) if len(self.rankings) == 1 else self.rankings
        found = 0
        for job, ranking in zip(self.trainings, rankings, strict=True):
            found += JobProblem(job, job.start, self.mask, task).examples(ranking.examples)
        return found

    @staticmethod
    def to_file(result: Pruned) -> tuple[Tensors, Facts]:
        """Keep masks as packed bits, and their shapes."""
        tensors: dict[str, Tensor] = {}
        for number, mask in enumerate([result.mask, *result.candidates]):
            for name, keep in mask.items():
                bits = np.packbits(keep.cpu().numpy().reshape(-1))
                tensors[f"{number}.{name}"] = torch.from_numpy(bits)
        facts = {name: getattr(result, name) for name in Cut._FACTS if name != "shapes"}
        return tensors, facts | {
            "shapes": {name: list(keep.shape) for name, keep in result.mask.items()}
        }

    @staticmethod
    def from_file(tensors: Tensors, facts: Facts) -> Pruned:
        """Unpack the masks again."""
        if facts.keys() != Cut._FACTS.keys():
            raise DamagedError("its facts are not those of a cut")
        for name, value in facts.items():
            _check(Cut._FACTS[name], value, name)
        masks: dict[int, dict[str, Tensor]] = {}
        for name, bits in tensors.items():
            number, _, layer = name.partition(".")
            if not number.isdecimal() or layer not in facts["shapes"] or bits.dtype != torch.uint8:
                raise DamagedError(f"'{name}' is no mask of a cut")
            shape = facts["shapes"][layer]
            if bits.numel() != -(-math.prod(shape) // 8):
                raise DamagedError(f"'{name}' has another number of weights than its layer")
            keep = np.unpackbits(bits.numpy(), count=math.prod(shape)).astype(bool).reshape(shape)
            masks.setdefault(int(number), {})[layer] = torch.from_numpy(keep)
        complete = all(
            masks.get(place, {}).keys() == facts["shapes"].keys() for place in range(len(masks))
        )
        if len(masks) < 2 or not complete:
            raise DamagedError("its masks are not those of one model")
        ordered = []
        for place in range(len(masks)):
            # In the order of the model's own names, which the shapes have.
            ordered.append({name: masks[place][name] for name in facts["shapes"]})
        mask, *candidates = ordered
        return Pruned(
            mask, candidates, **{name: value for name, value in facts.items() if name != "shapes"}
        )

    _FACTS: ClassVar[dict[str, Any]] = {
        "samples": int,
        "seconds": float,
        "process_seconds": float,
        "peak_bytes": int,
        "shapes": dict[str, list[int]],
    }


class _Counted:
    """A problem that counts the examples which it gives."""

    def __init__(self, problem: JobProblem) -> None:
        self._problem, self.samples = problem, 0
        self.model, self.loss = problem.model, problem.loss

    def batches(self, examples: int) -> Iterator[Any]:
        self.samples += self._problem.examples(examples)
        return self._problem.batches(examples)


KINDS: Mapping[str, type[Work[Any]]] = {kind.kind: kind for kind in (Train, Measure, Connect, Cut)}


def _layout(state: Tensors) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (value.dtype, value.shape) for name, value in state.items()}


def _fits(mask: Tensors, state: Tensors) -> bool:
    """Whether a mask names weights of a state."""
    for name, keep in mask.items():
        if keep.dtype != torch.bool or name not in state or state[name].shape != keep.shape:
            return False
    return True


def _check(hint: Any, value: Any, name: str) -> None:
    """Refuse a fact that is not of its type."""
    try:
        checked(hint, _finite(value), name)
    except ConfigError as error:
        raise DamagedError(str(error)) from error


def _finite(value: Any) -> Any:
    """Put 0 in the place of what is no finite number: a loss may come to that, and its type is
    right.
    """
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return 0.0 if isinstance(value, float) and not math.isfinite(value) else value
