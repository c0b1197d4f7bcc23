"""Plans: what each arm of a recipe works with, worked out and checked before any training."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from tombola import catalogue, devices, names, rates, seeds, training
from tombola.arms import leading
from tombola.contracts import CONTRACTS
from tombola.data.loading import check_repeats
from tombola.errors import ConfigError, InputError, shown
from tombola.jobs import Job, Trained, try_kernel
from tombola.masks import (
    all_kept,
    count,
    density,
    from_zeros,
    head_weight,
    size,
    total_weights,
    unmasked,
    unmasked_in_words,
)
from tombola.methods import Method
from tombola.metrics import metric_named
from tombola.paces import Gradual, Pace, densities
from tombola.partitions import WHOLE, Partition, by_classes, by_examples, by_seeds, skewed, within
from tombola.pruning import removals
from tombola.rates import Amount, Count
from tombola.recipe import Recipe, training_with
from tombola.reports.decisions import TARGETS
from tombola.scopes import Group, Scope, by_group, by_name, per_layer
from tombola.scores.context import Context, Score
from tombola.search import selected
from tombola.selection import check_scores
from tombola.states import state_of
from tombola.tasks._classification import options_of
from tombola.tasks.protocol import Task
from tombola.training import Schedule, Training, fine_tuning
from tombola.types import State


def score_named(name: str) -> Score:
    """Return the score of that name, an entry of ``tombola.scores`` or the user's own.

    Raises:
        ConfigError: There is none.
    """
    return catalogue.guarded(name, catalogue.entry("tombola.scores", name))


def replicate_seed(recipe: Recipe, replicate: int) -> int:
    """Return the seed that every arm of a replicate shares."""
    return seeds.derive(recipe.seed, "replicate", replicate)


def make_task(recipe: Recipe, data_root: Path | None) -> Task:
    """Make the recipe's task: its data, and its model; a worker process does it for itself.

    Raises:
        InputError: There is no such task, or it cannot be made.
    """
    make = catalogue.entry("tombola.tasks", recipe.task)
    with catalogue.own_code(recipe.task, "tasks"):
        task: Task = make(recipe.data, recipe.model, seed=recipe.seed, device=recipe.device, root=data_root)
    return task


def make_model(recipe: Recipe, task: Task, replicate: int = 0, *, anew: bool = False) -> nn.Module:
    """Build a task's model in the initial state of a replicate; ``anew``: in that of re-initialised tickets."""
    seed = replicate_seed(recipe, replicate)
    if anew:
        return task.model_of(seeds.derive(seed, "reinitialised"), anew=True)
    return task.model_of(seed)


def check_seeded(recipe: Recipe, task: Task, data_root: Path | None) -> None:
    """Refuse a task, or a data set, of the user's own that is another one each time it is made.

    Every worker process makes it for itself, and so does a run that goes on.

    Raises:
        ConfigError: Two calls gave different tasks.
        DataError: Two calls gave different data.
    """
    if catalogue.is_own(recipe.task):
        if make_task(recipe, data_root).digest != task.digest:
            raise ConfigError(f"{shown(recipe.task)} is another task each time it is made, and every worker makes it "
                              "for itself: draw from the seed that it is given")  # fmt: skip
    else:
        check_repeats(recipe.data.name, task.fingerprint, root=data_root, options=options_of(recipe.data))


def settle(recipe: Recipe, task: Task) -> Recipe:
    """Fill in what a recipe leaves open and what hangs on its model and the kind of device alone.

    Raises:
        ConfigError: A setting does not go with the model or the device.
    """
    kind = devices.kind_of(recipe.device)
    device = recipe.device if ":" in recipe.device else kind
    return replace(recipe, training=training.settle(recipe.training, task.model, kind), device=device)


def compared_at(recipe: Recipe) -> tuple[float, ...]:
    """Return the densities at which the report of a recipe compares arms, highest first unless they are given."""
    exact = sorted({d for arm in recipe.arms.values() for d in arm.evaluate_at or arm.densities}, reverse=True)
    return recipe.verdict.at or tuple(exact) or TARGETS


@dataclass(frozen=True)
class Plans:
    """What each arm of a recipe works with on its task, checked before any training."""

    recipe: Recipe
    task: Task
    mask: dict[str, Tensor]
    total: int

    @classmethod
    def of(cls, recipe: Recipe, task: Task) -> Plans:
        """Work out the prunable weights and refuse what cannot work.

        Raises:
            ConfigError: A target cannot be reached, partitions cannot be made, a head cannot be pruned, or rates do
                not fit the groups of their scope.
        """
        prunable = recipe.prunable if isinstance(recipe.prunable, str) else list(recipe.prunable)
        mask = all_kept(task.model, prunable, head=task.head)
        plans = cls(recipe, task, mask, int(total_weights(task.model, mask)))
        if recipe.model.mask is not None:
            plans = replace(plans, mask=plans._without_zeros())
        plans._check()
        return plans

    @functools.cached_property
    def unmasked(self) -> list[str]:
        """Name the weights that the rule leaves out of masks, because nothing tells what they are for."""
        return list(unmasked(self.task.model, self.recipe.prunable))

    @functools.cached_property
    def left_out(self) -> dict[str, str]:
        """Say what masks and counted FLOPs leave out of this model, in one line each; nothing where nothing is."""
        said = {"not pruned": unmasked_in_words(self.task.model, self.recipe.prunable)}
        if said["not pruned"] and self.recipe.model.init != "default":
            said["not pruned"] += f"; init {self.recipe.model.init} leaves them as they are drawn"
        if self.task.uncounted:
            said["FLOP"] = f"not counted: {', '.join(self.task.uncounted)}"
        return {word: line for word, line in said.items() if line}

    def _without_zeros(self) -> dict[str, Tensor]:
        """Return the mask that the checkpoint's zeros make."""
        if self.recipe.model.weights is None:
            raise ConfigError(f"model.mask is {self.recipe.model.mask}, and there are no weights to take it from; name "
                              "a checkpoint with model.weights")  # fmt: skip
        mask = from_zeros(state_of(self.task.model), self.mask)
        if count(mask) == size(mask):
            raise ConfigError(f"model.mask is {self.recipe.model.mask}, and no prunable weight in "
                              f"{self.recipe.model.weights} is zero; leave model.mask out")  # fmt: skip
        if not count(mask):
            raise ConfigError(f"model.mask is {self.recipe.model.mask}, and every prunable weight in "
                              f"{self.recipe.model.weights} is zero: there is nothing to train")  # fmt: skip
        return mask

    @property
    def zeros(self) -> str:
        """Say what is done about prunable weights that are zero in the checkpoint; nothing where there are none."""
        if self.recipe.model.weights is None:
            return ""
        kept = from_zeros(state_of(self.task.model), self.mask)
        pruned = size(kept) - count(kept)
        if not pruned:
            return ""
        said = f"{pruned:,} of {size(kept):,} prunable weights in {self.recipe.model.weights} are zero"
        if self.recipe.model.mask is not None:
            return f"{said} and stay so: every arm begins with the {density(self.mask):.2%} that are not"
        return f"{said}; they are trained like all others, unless model.mask is from_weights"

    def scope(self, arm: Method) -> Scope:
        """Return an arm's scope; one that follows another has that arm's."""
        if arm.match is not None and arm.match.per == "layer":
            return per_layer
        if arm.source is not None:
            return self.scope(self.recipe.arms[arm.source])
        return by_name(arm.scope, self.task.model, self.task.head)

    def scores(self, arm: Method) -> Score | list[Score]:
        """Return what an arm ranks weights by: one score, or one for each candidate."""
        if isinstance(arm.score, str):
            return score_named(arm.score)
        return [score_named(name) for name in arm.score]

    def scored(self, arm: Method) -> Callable[[Trained, int], State]:
        """Return which weights of a training an arm scores."""
        if arm.scored == "selected":
            return selected
        always = arm.scored == "last"
        return lambda trained, index: trained.final if always or index > 1 else trained.state

    def search_training(self, arm: Method) -> Training:
        """Return how the trainings of an arm's search run; its evaluations run as everybody's."""
        return training_with(self.recipe.training, arm.search_changes())

    def onward_training(self, arm: Method) -> Training:
        """Return how an arm that does not rewind trains on, and with it one that trains its tickets once more."""
        t = self.recipe.training
        if arm.method == "reordered":
            return self.onward_training(self.recipe.arms[arm.of or ""])
        if arm.method != "fine_tune":
            return t
        # A milestone that the training never comes to has not lowered the rate that it ends with.
        batches = self.task.steps_per_epoch(t.batch_size)
        steps = Schedule.of(t, batches).steps
        epochs = tuple(epoch for epoch in t.milestones if epoch * batches < steps)
        single = tuple(step for step in t.milestone_steps if step < steps)
        shape = t.schedule if epochs or single or t.schedule != "multistep" else "constant"
        return fine_tuning(replace(t, milestones=epochs, milestone_steps=single, schedule=shape), arm.lr)

    def whole(self, replicate: int) -> Partition:
        """Return what a replicate's dense network and tickets are trained on: all, but for what skew takes away."""
        skew = self.recipe.data.skew
        return self.searched(replicate) if skew is not None and skew.of == "all" else WHOLE

    def searched(self, replicate: int) -> Partition:
        """Return what the searches of a replicate divide among their partitions."""
        skew, seed = self.recipe.data.skew, replicate_seed(self.recipe, replicate)
        return WHOLE if skew is None else skewed(self._labels, skew, seed)

    @functools.cached_property
    def _labels(self) -> Tensor:
        """The class of each training example."""
        labels = self.task.labels("train")
        if labels is None:
            raise ConfigError(f"data.skew leaves out examples by their class, and the examples of the task "
                              f"{shown(self.recipe.task)} have none")  # fmt: skip
        return labels

    def division(self, arm: Method, replicate: int) -> list[Partition]:
        """Divide the training data among an arm's partitions, once per replicate."""
        whole = self.searched(replicate)
        parts = self._parts(arm, replicate, len(whole.examples or range(self.task.size(WHOLE, "train"))))
        return parts if whole == WHOLE else within(whole, parts, self._labels)

    def _parts(self, arm: Method, replicate: int, examples: int) -> list[Partition]:
        number = arm.partitions or 2
        if arm.method != "colt" or number == 1:
            return [WHOLE]
        seed = replicate_seed(self.recipe, replicate)
        if arm.by == "seeds":
            return by_seeds(number)
        if arm.by == "examples":
            return by_examples(examples, number, seed)
        if self.task.classes is None:
            raise ConfigError(f"it divides by classes, and the task {shown(self.recipe.task)} has none; take by: "
                              "examples or by: seeds")  # fmt: skip
        return by_classes(
            self.task.classes,
            number,
            None if arm.by == "classes_in_order" else seed,
            full_head=arm.head == "full",
            drop_remainder=arm.remainder == "dropped",
        )

    def partitions(self, arm: Method, replicate: int) -> list[Partition]:
        """Return the partition that each candidate's model is trained on."""
        parts = self.division(arm, replicate)
        return [parts[index - 1] for index in arm.on] or parts

    def schedules(self, arm: Method) -> list[Gradual]:
        """Return how an arm prunes gradually, once to each of its densities."""
        assert isinstance(arm.score, str)
        return [Gradual(density, arm.pace or Pace(), arm.score, arm.scope) for density in arm.densities]

    def amounts(self, arm: Method) -> Iterable[Amount]:
        """Return what each round of an arm that follows no other is asked for."""
        if arm.rate is not None:
            return itertools.repeat(arm.rate)
        scope = self.scope(arm)
        if arm.densities:
            return rates.counts_for(self.mask, arm.densities, scope)
        assert arm.reach is not None
        begins = density(self.mask)  # 1, unless a checkpoint's zeros stay pruned
        rate = rates.rate_to_reach(arm.reach.density / begins, arm.reach.rounds)
        if not arm.exact:
            return itertools.repeat(rate, arm.reach.rounds)
        steps = [
            begins * (arm.reach.density / begins) ** (r / arm.reach.rounds) for r in range(1, arm.reach.rounds + 1)
        ]
        return rates.counts_for(self.mask, steps, scope)

    def _check(self) -> None:
        recipe, task = self.recipe, self.task
        looks = {
            "until.accuracy_drop": recipe.until.accuracy_drop is not None,
            "training.patience": recipe.training.patience is not None,
            "training.select: best": recipe.training.select == "best",
        }
        for name, needed in looks.items():
            if needed and not task.size(WHOLE, "valid"):
                raise ConfigError(f"{name} needs validation data; data.valid {recipe.data.valid:g} gives no example")
        self._check_metrics()
        self._check_targets()
        steps = Schedule.of(recipe.training, task.steps_per_epoch(recipe.training.batch_size)).steps
        if recipe.rewind >= steps:
            raise ConfigError(f"rewind is {recipe.rewind}; a training has {steps} steps")
        dense = Job(task.initial_state(), self.mask, recipe.training, recipe.seed)
        try_kernel(dense, task)
        for name, arm in recipe.arms.items():
            try:
                self._check_arm(arm)
                self._try_scores(arm)
                if "step" in arm.search_changes():
                    try_kernel(replace(dense, training=self.search_training(arm)), task)
            except InputError as error:
                raise ConfigError(f"arm '{name}': {error}") from error

    def _check_metrics(self) -> None:
        """Refuse what is asked of a metric that the task does not declare, or that is no number of its kind."""
        recipe, headline = self.recipe, self.task.metrics[0]
        metric_named(recipe.training.select_by, self.task.metrics, "training.select_by")
        for name, arm in recipe.arms.items():
            if arm.training:
                metric_named(self.search_training(arm).select_by, self.task.metrics, f"arms.{name}.training.select_by")
        asked = {"verdict.margin": recipe.verdict.margin, "until.accuracy_drop": recipe.until.accuracy_drop}
        for name, value in asked.items():
            if value is not None and value >= 1 and headline.fraction:
                raise ConfigError(f"{name} is {value:g}; {headline.title} is a fraction, so one point is 0.01")

    def _try_scores(self, arm: Method) -> None:
        """Call the user's own scores once on the initial state, so that what is wrong with them is told before hours.

        They see the model's own names and shapes: a score may know its layers.
        """
        named = [arm.score] if isinstance(arm.score, str) else arm.score
        for name in dict.fromkeys(one for one in named if arm.searches and catalogue.is_own(one)):
            # Copies: what a score does to them must not come into the experiment.
            state = {key: value.detach().clone() for key, value in names.state(self.task.model).items()}
            mask = {key: keep.clone() for key, keep in self.mask.items()}
            with catalogue.own_code(name, "scores"), seeds.seeded(self.recipe.seed, "tried"):
                scores = score_named(name)(state, mask, Context(state, self.recipe.seed))
                try:
                    check_scores(scores, self.mask)
                except InputError as error:
                    said = CONTRACTS["scores"].in_words()
                    raise ConfigError(f"{shown(name)}: {error}; {said} (tombola list scores)") from error

    def _check_targets(self) -> None:
        most = size(self.mask) / self.total
        target = self.recipe.until.density_total
        if target is not None and target <= 1 - most:
            raise ConfigError(
                f"until.density_total is {target:g}: {1 - target:.2%} of all weights pruned is too much, since only "
                f"{size(self.mask):,} of {self.total:,} are prunable (prunable: {self.recipe.prunable}); "
                f"the cap is {most:.2%}"
            )
        targets = {"until.density": self.recipe.until.density}
        for name, arm in self.recipe.arms.items():
            targets |= {f"arms.{name}.reach.density": arm.reach.density} if arm.reach else {}
            targets |= {f"arms.{name}.densities": min(arm.densities)} if arm.densities else {}
            self._check_evaluated(name, arm)
        if self.recipe.model.mask is not None:
            self._check_begun(targets)
        for name, value in targets.items():
            if value is not None and value * size(self.mask) < 1:
                raise ConfigError(
                    f"{name} is {value:g}, which is less than one of {size(self.mask):,} prunable weights"
                )

    def _check_begun(self, targets: Mapping[str, float | None]) -> None:
        """Refuse densities that a run which begins from a checkpoint's mask has left behind before its first round."""
        begins = density(self.mask)
        asked = dict(targets)
        total = self.recipe.until.density_total
        if total is not None:
            asked["until.density_total"] = 1 - (1 - total) * self.total / size(self.mask)
        for name, arm in self.recipe.arms.items():
            if arm.densities:
                asked[f"arms.{name}.densities"] = max(arm.densities)
            if arm.method == "gradual":
                raise ConfigError(f"arm '{name}' prunes gradually, which begins with all weights; it does not go with "
                                  "model.mask")  # fmt: skip
        for name, value in asked.items():
            if value is not None and value >= begins:
                raise ConfigError(f"{name} asks for a density of {value:.4g}, and the checkpoint's mask begins with "
                                  f"{begins:.4g}; ask for less")  # fmt: skip

    def _check_evaluated(self, name: str, arm: Method) -> None:
        """Refuse a density to be evaluated at that an arm's rounds cannot reach, as far as that is known beforehand."""
        lowest = lowest_density(leading(arm, self.recipe.arms), self.recipe, density(self.mask))
        if arm.evaluate_at and min(arm.evaluate_at) < lowest * (1 - 1e-9):
            raise ConfigError(f"arms.{name}.evaluate_at names the density {min(arm.evaluate_at):g}, and no round "
                              f"reaches it: the last one leaves {lowest:.4g} or more")  # fmt: skip

    def _check_rewind(self, arm: Method, parts: Iterable[Partition]) -> None:
        """Refuse a rewind point that leaves a search nothing to train, or is another one to it."""
        own, rewind = self.search_training(arm), self.recipe.rewind
        if rewind and own.batch_size != self.recipe.training.batch_size:
            raise ConfigError(f"its search has training.batch_size {own.batch_size}, and rewind is step {rewind} of a "
                              f"training with batches of {self.recipe.training.batch_size}")  # fmt: skip
        for number, part in enumerate(parts, 1):
            batches = self.task.steps_per_epoch(own.batch_size, part)
            share = batches / self.task.steps_per_epoch(own.batch_size)
            steps = Schedule.of(own, batches, share).steps
            if round(rewind * share) >= steps:
                raise ConfigError(f"rewind is {rewind}, which leaves partition {number} nothing to train in its "
                                  f"{steps} steps")  # fmt: skip

    def _steps(self, arm: Method, replicate: int) -> int:
        """Count the steps of a training on all that an arm's search has."""
        own, task = self.search_training(arm), self.task
        batches = task.steps_per_epoch(own.batch_size, self.searched(replicate))
        return Schedule.of(own, batches, batches / task.steps_per_epoch(own.batch_size)).steps

    def _check_rate(self, groups: Mapping[str, Group], rate: float | Mapping[str, float], allow_collapse: bool) -> None:
        """Refuse a rate whose first round would prune nothing, or all weights of a group."""
        gone, sizes = removals(self.mask, groups, rate, None), by_group(size, self.mask, groups)
        if not any(gone.values()):
            raise ConfigError(f"its rate is {shown(rate)}; a round would prune none of {sum(sizes.values()):,} weights")
        empty = [group for group in gone if gone[group] == sizes[group]]
        if empty and not (allow_collapse and len(empty) < len(gone)):
            which = f"of '{empty[0]}' " if len(gone) > 1 else ""
            raise ConfigError(f"its rate is {shown(rate)}; the first round would prune all {sizes[empty[0]]:,} weights "
                              f"{which}there are")  # fmt: skip

    def _check_amounts(self, arm: Method, groups: Mapping[str, Group]) -> None:
        """Refuse exact counts that a scope does not take, and rounds that would prune nothing, which end a search."""
        before = size(self.mask)
        for amount in itertools.islice(self.amounts(arm), 100):
            if not isinstance(amount, Count):
                self._check_rate(groups, amount, arm.allow_collapse)
                return  # it is the same in every round
            gone = sum(removals(self.mask, groups, None, amount.keep).values())
            left = size(self.mask) - gone
            if left == before:
                raise ConfigError(f"its densities lie too close to each other: a round would prune none of {before:,} "
                                  "weights")  # fmt: skip
            before = size(self.mask) if arm.method == "one_shot" else left

    def _check_arm(self, arm: Method) -> None:
        if arm.method == "fine_tune":
            self.onward_training(arm)
        if arm.method == "gradual":
            fewest = min(self._steps(arm, replicate) for replicate in range(self.recipe.replicates))
            for gradual in self.schedules(arm):
                densities(gradual, fewest)
        if not arm.searches:
            return
        training.settle(self.search_training(arm), self.task.model, devices.kind_of(self.recipe.device))
        head = None if self.task.head is None else head_weight(self.task.model, self.task.head)
        if arm.scope == "half_output":
            if head is None or head not in self.mask:
                raise ConfigError(f"scope half_output is per_layer where the output layer is not prunable (prunable: "
                                  f"{self.recipe.prunable}); take prunable: all")  # fmt: skip
            if arm.reach is not None:
                raise ConfigError("reach and half_output do not go together: the output layer has another rate")
        self.scores(arm)
        groups = self.scope(arm)(self.mask)
        if arm.rate is not None:
            self._check_rate(groups, arm.rate, arm.allow_collapse)
        if arm.densities or arm.reach is not None:
            self._check_amounts(arm, groups)
        for replicate in range(self.recipe.replicates):
            parts = self.division(arm, replicate)
            self.task.check(parts, covering=arm.remainder == "kept", whole=self.searched(replicate))
            self._check_rewind(arm, parts)
            if parts[0].own_head and head in self.mask:
                raise ConfigError(f"'{head}' is prunable, but class partitions renumber their labels and have heads of "
                                  "their own; take head: full, prunable: no_head, or by: examples")  # fmt: skip
            for number, part in enumerate(parts, 1):
                if self.search_training(arm).select == "best" and not self.task.size(part, "valid"):
                    raise ConfigError(
                        f"partition {number} has no validation example, which training.select: best needs"
                    )


def lowest_density(arm: Method, recipe: Recipe, begins: float = 1.0) -> float:
    """Return the lowest density that an arm which follows no other can come to, by arithmetic alone.

    Args:
        arm: The arm.
        recipe: Its recipe.
        begins: The density of its round 0.

    >>> from tombola.recipe import parse
    >>> whole = {"name": "x", "training": {"epochs": 1}, "until": {"rounds": 2}}
    >>> recipe = parse(whole | {"arms": {"lth": {"method": "lth", "rate": 0.2}}})
    >>> round(lowest_density(recipe.arms["lth"], recipe), 4)
    0.64
    """
    rounds = recipe.until.rounds
    if arm.densities:
        return float(arm.densities[min(len(arm.densities), rounds or len(arm.densities)) - 1])
    if arm.reach:
        share = min(arm.reach.rounds, rounds or arm.reach.rounds) / arm.reach.rounds
        return begins * math.pow(float(arm.reach.density) / begins, share)
    if arm.rate is None:
        return 0.0
    rate = max(arm.rate.values()) if isinstance(arm.rate, dict) else arm.rate
    if arm.combine == "all_at_end":  # each partition removes that much by itself, and at worst none of it is shared
        return 0.0 if rounds is None else begins * max(0.0, 1 - arm.width * (1 - math.pow(1 - rate, rounds)))
    kept: float = max(0.0, 1 - rate * (1 if arm.combine == "any" else arm.width))
    reached = 0.0 if rounds is None else begins * math.pow(kept, rounds)
    # A search stops in the first round at or below its density, so it stood above that before.
    return max(reached, kept * (recipe.until.density or 0.0))
