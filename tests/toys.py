"""Toys: the small models, masks and records that tests draw or change, and how masks are compared."""

import torch

from tombola.masks.masks import ones


def drawn(model, seed=0):
    """Give a model weights of its own seed, the same whatever torch has drawn before."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def random_mask(model, prunable="all", seed=0):
    """Keep about half of a model's weights."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(keep.shape, generator=generator) < 0.5
        for name, keep in ones(model, prunable).items()
    }


def keep_fraction(mask, fraction):
    """Keep the same fraction of each parameter, its first weights."""
    kept = {}
    for name, keep in mask.items():
        kept[name] = torch.zeros(keep.shape, dtype=torch.bool)
        kept[name].view(-1)[: round(fraction * keep.numel())] = True
    return kept


def without(entries, *names):
    """Return a record, or another mapping, without the entries of these names."""
    return {name: value for name, value in entries.items() if name not in names}


def equal(one, other):
    """Whether two masks or states have the same names and the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
