"""Regrowing: what dynamic sparse training, `set` and `rigl`, has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tombola.ground.errors import ConfigError
from tombola.masks.schedules import RegrowthSchedule, exchanges
from tombola.masks.scope_choices import ScopeName
from tombola.methods.in_training import InTraining

if TYPE_CHECKING:
    from tombola.masks.rates import Count
    from tombola.methods.setting import Ground, Setting
    from tombola.training.during import During
    from tombola.training.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Regrowing(InTraining):
    """A method that trains sparse networks whose masks change and keep their counts.

    Attributes:
        pace: When weights are exchanged, and how many.
        scope: How a density is divided among the layers; the starting mask is drawn at random.
            ``erk`` is the literature's.
    """

    pace: RegrowthSchedule | None = None
    scope: ScopeName = "erk"

    def during(self) -> During:
        """Return what happens during its trainings."""
        raise NotImplementedError(f"{self.method} does not say how it grows weights")

    @property
    def paced(self) -> RegrowthSchedule:
        """The schedule, with its defaults."""
        return self.pace or RegrowthSchedule()

    def trainings(self, setting: Setting) -> list[Job]:
        from tombola.masks.controls import draw_count

        job = replace(self.search_job(setting), during=self.during())
        trainings = []
        for amount in self._counts(setting):
            # The same draw in all such arms, so that they differ only in what they grow.
            mask = draw_count(setting.mask, amount, setting.scope, setting.seed, "sparse start")
            trainings.append(job.on(job.part, mask))
        return trainings

    def remarks(self, ground: Ground) -> str:
        stuck: dict[str, None] = {}
        for amount in self._counts(ground):
            stuck |= dict.fromkeys(self._too_small(ground, amount))
        if not stuck:
            return ""
        return f"too few weights are kept to exchange one of them: {', '.join(stuck)}"

    def check_replicate(self, ground: Ground) -> None:
        super().check_replicate(ground)
        for density, amount in zip(self.densities, self._counts(ground), strict=True):
            stuck = self._too_small(ground, amount)
            if len(stuck) == len(ground.mask):
                raise ConfigError(
                    f"at the density {density:g} no layer keeps enough weights to exchange one of "
                    f"them: pace.fraction is {self.paced.fraction:g}, which must be more, or the "
                    "density"
                )

    def _counts(self, ground: Ground) -> list[Count]:
        from tombola.masks.rates import counts_for

        return list(counts_for(ground.mask, self.densities, ground.scope))

    def _too_small(self, ground: Ground, amount: Count) -> list[str]:
        """Name the layers that keep so few weights that none is ever exchanged."""
        from tombola.masks.masks import part_of, size

        most = max(self._fractions(ground).values())
        assert isinstance(amount.keep, Mapping)
        stuck = []
        for group_name, group in ground.scope(ground.mask).items():
            size_of_group = size(part_of(ground.mask, group.names))
            for name in group.names:
                # In a group of several layers each has its share, by the draw about so many.
                share = ground.mask[name].numel() / size_of_group
                if int(most * amount.keep[group_name] * share) == 0:
                    stuck.append(name)
        return stuck

    def _fractions(self, ground: Ground) -> dict[int, float]:
        """Return the fraction that each exchange replaces, by the number of steps before it."""
        from tombola.training.jobs import schedule_of

        training, task = self.searching(ground.training), ground.task
        steps = schedule_of(training, task, ground.searched).steps
        # A part of the data is trained on for its share of the steps.
        batches = task.steps_per_epoch(training.batch_size, ground.searched)
        share = batches / task.steps_per_epoch(training.batch_size)
        return exchanges(self.paced, round(ground.rewind * share), steps)
