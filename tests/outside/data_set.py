"""A data set of one's own: pictures of stripes."""

import torch

from tombola.data.dataset import Dataset, from_tensors


def stripes(*, train: int = 300, test: int = 100, noise: float = 0.5, seed: int = 0) -> Dataset:
    """8 x 8 pictures of horizontal or of vertical stripes, under noise: two classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(train + test) % 2
    horizontal = (torch.arange(8) % 2).float()[:, None].expand(8, 8)
    clean = torch.stack([horizontal, horizontal.T])[labels]
    images = (clean + noise * torch.randn(clean.shape, generator=generator))[:, None]
    return from_tensors(images[:train], labels[:train], images[train:], labels[train:])
