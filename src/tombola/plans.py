"""Plans: what each arm of a recipe works with, worked out and checked before any training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tombola import catalogue, devices, rates, seeds, training
from tombola.data.loading import load
from tombola.errors import ConfigError, InputError
from tombola.masks import head_weight, ones, size, total_weights
from tombola.models.building import TORCHVISION, build, head_name
from tombola.partitions import WHOLE, Partition, by_classes, by_examples, by_seeds
from tombola.pruning import removals
from tombola.rates import Amount, Count
from tombola.recipe import Arm, Recipe
from tombola.scopes import Scope, half_output, per_kind, per_layer, whole_model
from tombola.splits import Splits, split
from tombola.task import Classification
from tombola.training import Schedule


def replicate_seed(recipe: Recipe, replicate: int) -> int:
    """Return the seed that every arm of a replicate shares."""
    return seeds.derive(recipe.seed, "replicate", replicate)


def make_model(recipe: Recipe, splits: Splits, replicate: int = 0) -> torch.nn.Module:
    """Build the recipe's model for the data, in the initial state of a replicate."""
    m = recipe.model
    seed = replicate_seed(recipe, replicate)
    return build(m.name, splits.num_classes, splits.image_shape, options=m.options, init=m.init, head=m.head, seed=seed)


def make_task(recipe: Recipe, data_root: Path | None) -> Classification:
    """Load the recipe's data, build its model, and bring them together; a worker process does it for itself."""
    dataset = load(recipe.data.name, root=data_root, options=recipe.data.options)
    splits = split(dataset, valid=recipe.data.valid, subset=recipe.data.subset, seed=recipe.seed)
    model = make_model(recipe, splits)
    outputs = splits.num_classes if recipe.model.name.startswith(TORCHVISION) else None
    head = head_name(model, recipe.model.head, outputs=outputs)
    device = devices.device(devices.kind_of(recipe.device))
    return Classification(model, splits, head, recipe.data.augment, recipe.model.init, device)


def settle(recipe: Recipe, task: Classification) -> Recipe:
    """Fill in what a recipe leaves open and what hangs on its model and the kind of device alone.

    Raises:
        ConfigError: A setting does not go with the model or the device.
    """
    kind = devices.kind_of(recipe.device)
    return replace(recipe, training=training.settle(recipe.training, task.model, kind), device=kind)


@dataclass(frozen=True)
class Plans:
    """What each arm of a recipe works with on its task, checked before any training."""

    recipe: Recipe
    task: Classification
    mask: dict[str, Tensor]
    total: int

    @classmethod
    def of(cls, recipe: Recipe, task: Classification) -> Plans:
        """Work out the prunable weights and refuse what cannot work.

        Raises:
            ConfigError: A target cannot be reached, partitions cannot be made, a head cannot be pruned, or rates do
                not fit the groups of their scope.
        """
        prunable = recipe.prunable if isinstance(recipe.prunable, str) else list(recipe.prunable)
        plans = cls(recipe, task, ones(task.model, prunable, head=task.head), total_weights(task.model))
        plans._check()
        return plans

    def scope(self, arm: Arm) -> Scope:
        """Return an arm's scope; a matched arm has that of the arm it follows."""
        if arm.match is not None:
            return self.scope(self.recipe.arms[arm.match])
        model, head = self.task.model, self.task.head
        made = {"per_kind": lambda: per_kind(model), "half_output": lambda: half_output(model, head)}
        plain: dict[str, Scope] = {"whole_model": whole_model, "per_layer": per_layer}
        return plain[arm.scope] if arm.scope in plain else made[arm.scope]()

    def partitions(self, arm: Arm, replicate: int) -> list[Partition]:
        """Draw an arm's partitions, once per replicate."""
        if arm.width == 1:
            return [WHOLE]
        seed = replicate_seed(self.recipe, replicate)
        splits = self.task.splits
        if arm.by == "seeds":
            return by_seeds(arm.width)
        if arm.by == "examples":
            return by_examples(len(splits.train), arm.width, seed)
        return by_classes(splits.num_classes, arm.width, None if arm.by == "classes_in_order" else seed)

    def amounts(self, arm: Arm) -> Iterable[Amount]:
        """Return what each round of an arm with a method is asked for."""
        if arm.rate is not None:
            return itertools.repeat(arm.rate)
        scope = self.scope(arm)
        if arm.densities:
            return rates.counts_for(self.mask, arm.densities, scope)
        assert arm.reach is not None
        rate = rates.rate_to_reach(arm.reach.density, arm.reach.rounds)
        if not arm.exact:
            return itertools.repeat(rate, arm.reach.rounds)
        steps = [arm.reach.density ** (r / arm.reach.rounds) for r in range(1, arm.reach.rounds + 1)]
        return rates.counts_for(self.mask, steps, scope)

    def _check(self) -> None:
        recipe, task = self.recipe, self.task
        looks = {
            "until.accuracy_drop": recipe.until.accuracy_drop is not None,
            "training.patience": recipe.training.patience is not None,
            "training.select: best": recipe.training.select == "best",
        }
        for name, needed in looks.items():
            if needed and not task.splits.has_valid:
                raise ConfigError(f"{name} needs validation data; data.valid {recipe.data.valid:g} gives no example")
        self._check_targets()
        steps = Schedule.of(recipe.training, task.steps_per_epoch(recipe.training.batch_size)).steps
        if recipe.rewind >= steps:
            raise ConfigError(f"rewind is {recipe.rewind}; a training has {steps} steps")
        for name, arm in recipe.arms.items():
            try:
                self._check_arm(arm)
            except InputError as error:
                raise ConfigError(f"arm '{name}': {error}") from error

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
        for name, value in targets.items():
            if value is not None and value * size(self.mask) < 1:
                raise ConfigError(
                    f"{name} is {value:g}, which is less than one of {size(self.mask):,} prunable weights"
                )

    def _check_arm(self, arm: Arm) -> None:
        if not arm.searches:
            return
        if arm.scope == "half_output":
            if head_weight(self.task.model, self.task.head) not in self.mask:
                raise ConfigError(f"scope half_output is per_layer where the output layer is not prunable (prunable: "
                                  f"{self.recipe.prunable}); take prunable: all")  # fmt: skip
            if arm.reach is not None:
                raise ConfigError("reach and half_output do not go together: the output layer has another rate")
        catalogue.entry("tombola.scores", arm.score)
        scope = self.scope(arm)
        groups = scope(self.mask)
        if arm.rate is not None:
            removals(self.mask, groups, arm.rate, None)
        if arm.densities or arm.reach is not None:
            for amount in itertools.islice(self.amounts(arm), 100):
                fitting = amount.keep if isinstance(amount, Count) else None
                removals(self.mask, groups, None if fitting is not None else amount, fitting)  # type: ignore[arg-type]
        for replicate in range(self.recipe.replicates):
            parts = self.partitions(arm, replicate)
            self.task.check(parts)
            head = head_weight(self.task.model, self.task.head)
            if parts[0].classes is not None and head in self.mask:
                raise ConfigError(f"'{head}' is prunable, but class partitions renumber their labels and have heads of "
                                  "their own; take prunable: no_head, or by: examples")  # fmt: skip
            for number, part in enumerate(parts, 1):
                if self.recipe.training.select == "best" and not len(self.task.split(part, "valid")):
                    raise ConfigError(
                        f"partition {number} has no validation example, which training.select: best needs"
                    )
