"""Layers of a user's own that more than one test module needs."""

from torch import nn


class SecondVersion(nn.Linear):
    """A layer that takes a state without its version for an old one, whose weights were half as
    large.
    """

    _version = 2

    def _load_from_state_dict(self, state, prefix, versions, *rest):
        if versions.get("version") != 2:
            state[prefix + "weight"] = state[prefix + "weight"] * 2
        super()._load_from_state_dict(state, prefix, versions, *rest)
