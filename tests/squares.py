"""Data for segmentation, for tests: squares of three kinds on noise, with their maps."""

import torch

from tombola.data.maps import MapData


def squares(count=40, size=12) -> MapData:
    """Draw pictures with up to three squares each, a class for each place."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(60, 120, (count, 3, size, size), generator=generator)
    maps = torch.zeros(count, size, size, dtype=torch.uint8)
    there = torch.rand(count, 4, generator=generator) < 0.4
    side = size // 2
    for picture in range(count):
        for kind in there[picture].nonzero().flatten().tolist():
            down, right = divmod(kind, 2)
            rows, columns = (
                slice(side * place + 1, side * place + side - 1) for place in (down, right)
            )
            maps[picture, rows, columns] = kind + 1
            pictures[picture, kind % 3, rows, columns] += 90
    pictures, border = pictures.to(torch.uint8), count - count // 4
    return MapData(
        pictures[:border], maps[:border], pictures[border:], maps[border:], ("a", "b", "c", "d")
    )
