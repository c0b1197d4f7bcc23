"""COLT: one model per partition of the data; a round keeps the weights that all models keep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tombola.ground.errors import ConfigError, near, shown
from tombola.ground.plain import LATER
from tombola.methods.cards import Card
from tombola.methods.method import OLD_NAMES
from tombola.methods.searching import OwnTraining, Rounds

if TYPE_CHECKING:
    from tombola.data.partitions import Partition
    from tombola.methods.setting import Ground, Setting
    from tombola.search.rounds import Round
    from tombola.tasks.protocol import Task
    from tombola.tickets import Ticket


@dataclass(frozen=True, kw_only=True)
class Colt(Rounds, OwnTraining):
    """Train and prune a model on each partition, keep the weights that all keep, rewind, repeat.

    Attributes:
        partitions: Number of models trained in a round, each on its own partition; two if not
            given.
        split_by: What the partitions divide. ``classes``: the classes, at random.
            ``classes_in_order``: the classes as they are numbered. ``examples``: the examples, at
            random. ``seeds``: nothing; each model sees all data in a different order.
        head: The output layer with class partitions. ``own``: an output for each of the
            partition's classes. ``full``: labels and all outputs are kept.
        remainder: What happens to classes in order that do not divide evenly: they are ``kept``,
            or ``dropped`` as in the authors' code, which only ``profile: repo`` may do.
        train_on: Which partition each candidate's model is trained on, from 1; ``[1, 1]`` cuts one
            model twice. If not given, each is trained on its own partition.
        combine: How candidates become the next mask. ``all``: keep the weights that all candidates
            keep, as COLT does. ``any``: keep those that any candidate keeps. ``all_at_end``: each
            partition searches independently, and the finished tickets are intersected.
        others: What training on a class partition does about the objects of other classes in its
            examples, where an example may have several: one of the task's policies, such as
            ``ignore``; its first if not given.
    """

    partitions: int | None = None
    split_by: Literal["classes", "classes_in_order", "examples", "seeds"] = "classes"
    head: Literal["own", "full"] = "own"
    remainder: Literal["kept", "dropped"] = "kept"
    train_on: tuple[int, ...] = ()
    combine: Literal["all", "any", "all_at_end"] = "all"
    others: str | None = field(default=None, metadata=LATER)

    written_out: ClassVar[bool] = True
    old_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {name: OLD_NAMES[name] for name in ("split_by", "train_on")}
    )
    cards: ClassVar[tuple[Card, ...]] = (
        Card(
            "colt",
            "search",
            "N class partitions; keep the weights that all of them keep",
            "{method: colt, partitions: 2, rate: 0.15}",
            what="train the same network on each of N partitions of the classes, remove 15 % from "
            "each, keep the weights that all partitions keep, rewind, repeat. Two partitions "
            "remove about 27 % per round",
            question="does the overlap find better tickets, or find them in fewer rounds?",
            source="COLT, arXiv:2212.12770, section III-C and algorithm 1",
        ),
        Card(
            "by-examples",
            "cause",
            "partitions of examples instead of classes",
            "{method: colt, partitions: 2, split_by: examples, rate: 0.15}",
            what="the examples are divided at random, so each partition has all classes",
            question="is the division by classes the cause?",
            source="an alternative named in COLT, section III-C (a), which expects it to prune "
            "more slowly",
        ),
        Card(
            "by-seeds",
            "cause",
            "all data for every model, in different orders",
            "{method: colt, partitions: 2, split_by: seeds, rate: 0.15}",
            what="nothing is divided: each model sees all data, in a different order. The first "
            "training is the one that LTH does. One round costs N full trainings",
            question="is it because the models see different data?",
            source="introduced here",
        ),
        Card(
            "full-head",
            "cause",
            "class partitions that keep labels and all outputs",
            "{method: colt, partitions: 2, head: full, rate: 0.15}",
            what="class partitions that keep their labels and all outputs, where COLT gives each "
            "model a smaller head",
            question="is the smaller head the cause?",
            source="introduced here",
        ),
        Card(
            "equal-steps",
            "cause",
            "each of two partitions trains for twice the epochs, so as many steps as LTH",
            "{method: colt, partitions: 2, rate: 0.15, training: {epochs: 12}}",
            what="each of N partitions trains for N times the recipe's epochs (here 12 where the "
            "recipe has 6), so for as many steps as LTH. Otherwise half the data means half the "
            "steps",
            question="is the shorter training the cause?",
            source="introduced here",
        ),
        Card(
            "real-and-random",
            "cause",
            "one model cut twice: by magnitude and at random",
            "{method: colt, partitions: 2, train_on: [1, 1], score: [magnitude, random], "
            "rate: 0.15}",
            what="one model, that of partition 1, is cut twice: by magnitude and at random",
            question="does the second cut have to be informed? With two partitions the cuts agree "
            "about as much as chance predicts",
            source="introduced here",
        ),
        Card(
            "union",
            "cause",
            "keep the weights that any partition keeps, as many as COLT",
            "{method: colt, partitions: 2, combine: any, match: colt-2}",
            what="keep the weights that *any* partition keeps; each partition is cut so that as "
            "many weights remain as COLT has in that round",
            question="at the same count, is it better to keep what all partitions agree on?",
            source="introduced here",
        ),
        Card(
            "at-end",
            "cause",
            "each partition searches independently; the finished tickets are intersected",
            "{method: colt, partitions: 2, combine: all_at_end, rate: 0.15}",
            what="each partition searches independently; the ticket of a round is the intersection "
            "of their tickets of that round, and is not fed back",
            question="does it matter to intersect in every round?",
            source="COLT, Table I",
        ),
    )

    @property
    def width(self) -> int:
        return len(self.train_on) or (self.partitions or 2)

    @property
    def combining(self) -> Literal["all", "any"]:
        return "any" if self.combine == "any" else "all"

    @property
    def independent_partitions(self) -> bool:
        return self.combine == "all_at_end"

    @property
    def covering(self) -> bool:
        return self.remainder == "kept"

    @property
    def removing(self) -> int:
        return 1 if self.combine == "any" else self.width

    @property
    def lifts(self) -> str:
        if self.remainder == "kept":
            return ""
        return "remainder is dropped, so some classes are in no partition"

    def division(self, ground: Ground) -> list[Partition]:
        from tombola.data.partitions import WHOLE, by_classes, by_examples, by_seeds, within

        number, searched, task = self.partitions or 2, ground.searched, ground.task
        if number == 1:
            parts = [WHOLE]
        elif self.split_by == "seeds":
            parts = by_seeds(number)
        elif self.split_by == "examples":
            examples = searched.examples or range(task.size(WHOLE, "train"))
            parts = by_examples(len(examples), number, ground.seed)
        elif task.classes is None:
            raise ConfigError(
                "it divides by classes, but its task has none; use split_by: examples or "
                "split_by: seeds"
            )
        else:
            seed = None if self.split_by == "classes_in_order" else ground.seed
            full, drop = self.head == "full", self.remainder == "dropped"
            parts = by_classes(
                task.classes,
                number,
                seed,
                full_head=full,
                drop_remainder=drop,
                others=self._others(task),
            )
        # A search on part of the data divides only that part.
        if searched == WHOLE:
            return parts
        return within(searched, parts, task.membership("train"))

    def remarks(self, ground: Ground) -> str:
        by_classes = self.split_by.startswith("classes") and (self.partitions or 2) > 1
        if not by_classes or not ground.task.others:
            return ""
        policy = self._others(ground.task)
        return f"what a partition's examples show of other classes: {policy} (others)"

    def _others(self, task: Task) -> str | None:
        """Return what its class partitions do about objects of other classes."""
        known = task.others
        if self.others is None:
            return known[0] if known else None
        if not known:
            raise ConfigError(
                f"others is {shown(self.others)}, and each example of its task has one class; "
                "leave it out"
            )
        if self.others not in known:
            raise ConfigError(
                f"others is {shown(self.others)}; its task knows {', '.join(known)}."
                f"{near(self.others, known)}"
            )
        return self.others

    def trained_on(self, ground: Ground) -> list[Partition]:
        parts = self.division(ground)
        return [parts[index - 1] for index in self.train_on] or parts

    def rounds(self, setting: Setting, done: Sequence[Ticket]) -> Iterator[Round]:
        from tombola.masks.masks import intersect, union
        from tombola.search.rounds import find, find_independent

        job, parts = self.start(setting, done), self.trained_on(setting)
        options = self.options_of_find(setting, done)
        if self.independent_partitions:
            candidates = setting.candidates() if done else None
            return find_independent(job, parts, candidates=candidates, **options)
        combine = union if self.combine == "any" else intersect
        return find(job, parts, combine=combine, **options)

    def lowest(self, rounds: int | None, density: float | None, begins: float) -> float:
        if not self.independent_partitions:
            return super().lowest(rounds, density, begins)
        if rounds is None:
            return 0.0
        # Each partition removes that much, and in the worst case no two remove the same weight.
        removed = 1 - math.pow(1 - self.highest_rate, rounds)
        return begins * max(0.0, 1 - self.width * removed)

    @classmethod
    def of_profile(cls, entry: str, value: Any, given: Mapping[str, Any]) -> Any:
        split_by = str(given.get("split_by", cls.split_by))
        if entry == "scored":
            parts = given.get("train_on")
            number = given.get("partitions") or 2
            if isinstance(parts, list | tuple) and parts:
                number = len(parts)
            return value if isinstance(number, int) and number >= 3 else "selected"
        in_order = split_by == "classes_in_order"
        if not split_by.startswith("classes") or (entry == "remainder" and not in_order):
            return None
        return value

    def check(self, where: str) -> None:
        super().check(where)
        number = 2 if self.partitions is None else self.partitions
        if number < 1:
            raise ConfigError(
                f"{where}.partitions is {shown(self.partitions)}; it must be 1 or more"
            )
        outside = [index for index in self.train_on if not 1 <= index <= number]
        if outside:
            raise ConfigError(
                f"{where}.train_on names partition {shown(outside[0])}; there are 1 to {number}"
            )
        if self.combine != "all" and self.width == 1:
            raise ConfigError(
                f"{where}.combine is {self.combine}, but one partition has nothing to combine; "
                "use partitions: 2 or more"
            )
        # Exact counts need one common cut, which partitions that search independently never make.
        counted = self.match or self.asked_densities or self.reach
        if self.independent_partitions and (counted or isinstance(self.score, tuple)):
            raise ConfigError(
                f"{where}.combine is all_at_end, which takes a rate and one score: the partitions "
                "search independently, so how many weights they share cannot be chosen"
            )
        if self.head != "own" and not self.split_by.startswith("classes"):
            raise ConfigError(f"{where}.head has no meaning with split_by: {self.split_by}")
        if self.others is not None and not self.split_by.startswith("classes"):
            raise ConfigError(f"{where}.others has no meaning with split_by: {self.split_by}")
        if self.remainder != "kept" and self.split_by != "classes_in_order":
            raise ConfigError(f"{where}.remainder has no meaning with split_by: {self.split_by}")
