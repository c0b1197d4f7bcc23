"""A control of its own: another arm's masks, turned upside down."""

from dataclasses import dataclass

from tombola.methods import Following


@dataclass(frozen=True, kw_only=True)
class Mirrored(Following):
    """Turn each layer's mask around; the weights stay where they were."""

    control = True

    def ticket(self, setting, job):
        return setting.ticket(
            {name: keep.flip(0) for name, keep in job.mask.items()}, job.start, job.first
        )
