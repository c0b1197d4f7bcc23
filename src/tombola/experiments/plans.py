"""Plans: what each arm of a recipe works with, computed and checked before any training."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from tombola.data.loading import check_repeats
from tombola.data.partitions import WHOLE, Partition, skewed
from tombola.ground import catalogue, devices, seeds
from tombola.ground.errors import ConfigError, InputError, shown
from tombola.ground.metrics import metric_named
from tombola.ground.settings import Schedule
from tombola.masks.masks import (
    all_kept,
    count,
    density,
    from_zeros,
    size,
    total_weights,
    unmasked,
    unmasked_in_words,
)
from tombola.masks.scopes import Scope, never_pruned
from tombola.masks.states import state_of
from tombola.methods import Ground, held
from tombola.models.flops import Flops
from tombola.schema.arms import leading
from tombola.schema.recipe import Recipe
from tombola.tasks.protocol import Task
from tombola.training import loop as training
from tombola.training.jobs import Job, try_kernel


def replicate_seed(recipe: Recipe, replicate: int) -> int:
    """Return the seed that every arm of a replicate shares."""
    return seeds.derive(recipe.seed, "replicate", replicate)


def make_task(recipe: Recipe, data_root: Path | None) -> Task:
    """Make the recipe's task: its data, and its model; a worker process does it for itself.

    Raises:
        InputError: There is no such task, or it cannot be made.
    """
    name = recipe.task.name
    make = catalogue.entry("tombola.tasks", name)
    with catalogue.own_code(name, "tasks"):
        given = {"seed": recipe.seed, "device": recipe.device, "root": data_root}
        options = catalogue.checked_options(make, name, 2, recipe.task.options, given)
        task: Task = make(recipe.data, recipe.model, **given, **options)
    return task


def make_model(recipe: Recipe, task: Task, replicate: int = 0, *, anew: bool = False) -> nn.Module:
    """Build a task's model in the initial state of a replicate; ``anew``: in that of
    re-initialised tickets.
    """
    seed = replicate_seed(recipe, replicate)
    if anew:
        return task.model_of(seeds.derive(seed, "reinitialised"), anew=True)
    return task.model_of(seed)


def check_seeded(recipe: Recipe, task: Task, data_root: Path | None) -> None:
    """Refuse a task or a data set of the user's own that differs each time it is made.

    Every worker process makes it for itself, and so does a run that is continued.

    Raises:
        ConfigError: Two calls gave different tasks.
        DataError: Two calls gave different data.
    """
    name = recipe.task.name
    if not catalogue.is_own(name) and not catalogue.is_own(recipe.data.name):
        return
    # The task knows how its data are loaded, so it is asked again, whichever it is.
    again = make_task(recipe, data_root)
    if not catalogue.is_own(name):
        check_repeats(recipe.data.name, task.fingerprint, again.fingerprint)
    elif again.digest != task.digest:
        raise ConfigError(
            f"{shown(name)} is another task each time it is made, and every worker makes it for "
            "itself: draw from the seed that it is given"
        )


def resolve_defaults(recipe: Recipe, task: Task) -> Recipe:
    """Resolve the defaults that depend on the model and the kind of device alone.

    Raises:
        ConfigError: A setting does not go with the model or the device.
    """
    kind = devices.kind_of(recipe.device)
    device = recipe.device if ":" in recipe.device else kind
    return replace(
        recipe, training=training.resolve_defaults(recipe.training, task.model, kind), device=device
    )


@dataclass(frozen=True)
class Plans:
    """What each arm of a recipe works with on its task, checked before any training.

    Attributes:
        recipe: The recipe, its defaults resolved.
        task: The data and the model.
        mask: The weights that may be pruned; a search begins with those that it keeps.
        total: All weights of the model, prunable or not.
    """

    recipe: Recipe
    task: Task
    mask: dict[str, Tensor]
    total: int

    @classmethod
    def of(cls, recipe: Recipe, task: Task) -> Plans:
        """Find the prunable weights and refuse what cannot work.

        Raises:
            ConfigError: A target cannot be reached, partitions cannot be made, a head cannot be
                pruned, or rates do not fit the groups of their scope.
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
        """The weights that are left out of masks, as it is not known how their layer uses them."""
        return list(unmasked(self.task.model, self.recipe.prunable))

    @functools.cached_property
    def left_out(self) -> dict[str, str]:
        """What masks, counted FLOPs and arms leave out of this model, in one line each."""
        lines = {}
        not_pruned = unmasked_in_words(self.task.model, self.recipe.prunable)
        if not_pruned:
            if self.recipe.model.init != "default":
                not_pruned += f"; init {self.recipe.model.init} leaves them as they are drawn"
            lines["not pruned"] = not_pruned
        arms_by_weights: dict[str, list[str]] = {}
        for arm, weights in self.never_pruned.items():
            if weights:
                arms_by_weights.setdefault(", ".join(weights), []).append(arm)
        if arms_by_weights:
            lines["stay dense"] = "; ".join(
                f"{weights} in {', '.join(arms)} (scope)"
                for weights, arms in arms_by_weights.items()
            )
        if self.task.uncounted:
            lines["FLOP"] = f"not counted: {', '.join(self.task.uncounted)}"
        for name in self.recipe.arms:
            remark = self.recipe.arm(name).remarks(self.ground(name, 0))
            if remark:
                lines[f"arm {name}"] = remark
        return lines

    @functools.cached_property
    def never_pruned(self) -> dict[str, list[str]]:
        """The weights that an arm's scope leaves out, by the arm."""
        return {name: never_pruned(self.scope(name), self.mask) for name in self.recipe.arms}

    def _without_zeros(self) -> dict[str, Tensor]:
        """Return the mask without the weights that are zero in the checkpoint."""
        if self.recipe.model.weights is None:
            raise ConfigError(
                f"model.mask is {self.recipe.model.mask}, and there are no weights to take it "
                "from; name a checkpoint with model.weights"
            )
        mask = from_zeros(state_of(self.task.model), self.mask)
        if count(mask) == size(mask):
            raise ConfigError(
                f"model.mask is {self.recipe.model.mask}, and no prunable weight in "
                f"{self.recipe.model.weights} is zero; leave model.mask out"
            )
        if not count(mask):
            raise ConfigError(
                f"model.mask is {self.recipe.model.mask}, and every prunable weight in "
                f"{self.recipe.model.weights} is zero: there is nothing to train"
            )
        return mask

    @property
    def zeros(self) -> str:
        """What is done about prunable weights that are zero in the checkpoint, in a line; empty
        where there are none.
        """
        if self.recipe.model.weights is None:
            return ""
        kept = from_zeros(state_of(self.task.model), self.mask)
        pruned = size(kept) - count(kept)
        if not pruned:
            return ""
        zeros = (
            f"{pruned:,} of {size(kept):,} prunable weights in {self.recipe.model.weights} are zero"
        )
        if self.recipe.model.mask is not None:
            rest = f"{density(self.mask):.2%}"
            return f"{zeros} and stay so: every arm begins with the {rest} that are not"
        return f"{zeros}; they are trained like all others, unless model.mask is from_weights"

    @functools.cached_property
    def compared_at(self) -> tuple[float, ...]:
        """The densities at which arms are compared, see `compared_at`."""
        return self.recipe.compared_at

    def seed(self, replicate: int) -> int:
        """Return the seed that every arm of a replicate shares."""
        return replicate_seed(self.recipe, replicate)

    def scope(self, name: str) -> Scope:
        """Return which weights of an arm compete; an arm without a scope has that of its source."""
        arm = self.recipe.arm(name)
        scope = arm.own_scope(self.task)
        if scope is not None:
            return scope
        assert arm.source is not None
        return self.scope(arm.source)

    def ground(self, name: str, replicate: int) -> Ground:
        """Return what an arm of a replicate works with, as far as it is known before it runs."""
        source = self.recipe.arms[name].source
        return Ground(
            task=self.task,
            mask=self.mask,
            training=self.recipe.training,
            rewind=self.recipe.rewind,
            replicate=replicate,
            seed=self.seed(replicate),
            device=devices.kind_of(self.recipe.device),
            whole=self.full_partition(replicate),
            searched=self.search_partition(replicate),
            scope=self.scope(name),
            source=None if source is None else self.recipe.arms[source],
        )

    def trained_on(self, keys: Iterable[tuple[str, int]]) -> list[Partition]:
        """Return what models of arms and replicates are trained on, one partition for each
        number of outputs.
        """
        by_outputs = {self.task.outputs(WHOLE): WHOLE}
        for name, replicate in keys:
            arm = self.recipe.arm(name)
            if not arm.searches:
                continue
            for part in arm.trained_on(self.ground(name, replicate)):
                by_outputs[self.task.outputs(part)] = part
        return list(by_outputs.values())

    def flops(self, keys: Iterable[tuple[str, int]]) -> dict[int, dict[str, Flops]]:
        """Count what an example costs the models of arms and replicates, layer by layer, by the
        number of outputs.
        """
        for part in self.trained_on(keys):
            outputs = self.task.outputs(part)
            if outputs not in self._flops:
                self._flops[outputs] = self.task.flops(part)
        return dict(self._flops)

    @functools.cached_property
    def _flops(self) -> dict[int, dict[str, Flops]]:
        """What was counted before: a model is run for it."""
        return {}

    def full_partition(self, replicate: int) -> Partition:
        """Return what a replicate's dense network and tickets are trained on."""
        skew = self.recipe.data.skew
        return self.search_partition(replicate) if skew is not None and skew.of == "all" else WHOLE

    def search_partition(self, replicate: int) -> Partition:
        """Return what the searches of a replicate divide among their partitions."""
        skew, seed = self.recipe.data.skew, replicate_seed(self.recipe, replicate)
        return WHOLE if skew is None else skewed(self._labels, skew, seed)

    @functools.cached_property
    def _labels(self) -> Tensor:
        """The class of each training example."""
        labels = self.task.labels("train")
        if labels is None:
            have = "none" if self.task.membership("train") is None else "several each"
            raise ConfigError(
                f"data.skew leaves out examples by their class, and the examples of the task "
                f"{shown(self.recipe.task.name)} have {have}"
            )
        return labels

    def _check(self) -> None:
        self._check_validation_data()
        self._check_metrics()
        self._check_targets()
        recipe, task = self.recipe, self.task
        steps = Schedule.of(recipe.training, task.steps_per_epoch(recipe.training.batch_size)).steps
        if recipe.rewind >= steps:
            raise ConfigError(f"rewind is {recipe.rewind}; a training has {steps} steps")
        # After what can be read off the recipe: a user's own kernel is tried with a training step.
        dense = Job(task.initial_state(), self.mask, recipe.training, recipe.seed)
        try_kernel(dense, task)
        for name in recipe.arms:
            try:
                self._check_arm(name, dense)
            except InputError as error:
                raise ConfigError(f"arm '{name}': {error}") from error

    def _check_arm(self, name: str, dense: Job) -> None:
        """Refuse an arm that cannot work; the dense training was tried before."""
        arm, training = self.recipe.arm(name), self.recipe.training
        search_training = arm.searching(training)
        metric_named(search_training.select_by, self.task.metrics, "training.select_by")
        if search_training.step != training.step:
            try_kernel(replace(dense, training=search_training), self.task)
        arm.check_ground(self.ground(name, 0))
        # In each replicate, as partitions are drawn anew.
        for replicate in range(self.recipe.replicates):
            arm.check_replicate(self.ground(name, replicate))

    def _check_validation_data(self) -> None:
        """Refuse settings that choose by validation data where there is none."""
        if self.task.size(WHOLE, "valid"):
            return
        recipe = self.recipe
        choosing = {
            "until.accuracy_drop": recipe.until.accuracy_drop is not None,
            "training.patience": recipe.training.patience is not None,
            "training.select: best": recipe.training.select == "best",
        }
        for name, is_set in choosing.items():
            if is_set:
                raise ConfigError(
                    f"{name} needs validation data; data.valid {recipe.data.valid} gives no example"
                )

    def _check_metrics(self) -> None:
        """Refuse a metric that the task does not declare, and a fraction given in points."""
        recipe, headline = self.recipe, self.task.metrics[0]
        metric_named(recipe.training.select_by, self.task.metrics, "training.select_by")
        asked = {
            "verdict.margin": recipe.verdict.margin,
            "until.accuracy_drop": recipe.until.accuracy_drop,
        }
        for name, value in asked.items():
            if value is not None and value >= 1 and headline.fraction:
                raise ConfigError(
                    f"{name} is {value:g}; {headline.title} is a fraction, so one point is 0.01"
                )

    def _check_targets(self) -> None:
        # Only prunable weights can go, so a density of all weights has a lower bound.
        most = size(self.mask) / self.total
        target = self.recipe.until.density_total
        if target is not None and target <= 1 - most:
            raise ConfigError(
                f"until.density_total is {target:g}: {1 - target:.2%} of all weights pruned is too "
                f"much, since only {size(self.mask):,} of {self.total:,} are prunable (prunable: "
                f"{self.recipe.prunable}); the cap is {most:.2%}"
            )
        targets = {"until.density": self.recipe.until.density}
        for name in self.recipe.arms:
            for entry, densities in self.recipe.arm(name).goals.items():
                targets[f"arms.{name}.{entry}"] = min(densities)
            self._check_evaluated(name)
        if self.recipe.model.mask is not None:
            self._check_begun(targets)
        for name, value in targets.items():
            if value is not None and value * size(self.mask) < 1:
                raise ConfigError(
                    f"{name} is {value:g}, which is less than one of {size(self.mask):,} prunable "
                    "weights"
                )

    def _check_begun(self, targets: Mapping[str, float | None]) -> None:
        """Refuse densities at or above that of the checkpoint's mask, which the run begins with."""
        begins = density(self.mask)
        asked = dict(targets)
        total = self.recipe.until.density_total
        if total is not None:
            asked["until.density_total"] = 1 - (1 - total) * self.total / size(self.mask)
        for name in self.recipe.arms:
            for entry, densities in self.recipe.arm(name).goals.items():
                asked[f"arms.{name}.{entry}"] = max(densities)
        for name, value in asked.items():
            if value is not None and value >= begins:
                raise ConfigError(
                    f"{name} asks for a density of {value:.4g}, and the checkpoint's mask begins "
                    f"with {begins:.4g}; ask for less"
                )

    def _check_evaluated(self, name: str) -> None:
        """Refuse a density in ``evaluate_at`` that no round can reach, as far as that is known."""
        arm, until = self.recipe.arms[name], self.recipe.until
        leader = held(leading(arm, self.recipe.arms))
        lowest = leader.lowest(until.rounds, until.density, density(self.mask))
        # As a product of many rates the lowest density has rounding errors.
        if arm.evaluate_at and min(arm.evaluate_at) < lowest * (1 - 1e-9):
            raise ConfigError(
                f"arms.{name}.evaluate_at names the density {min(arm.evaluate_at):g}, and no round "
                f"reaches it: the last one leaves {lowest:.4g} or more"
            )
