"""Machine: what this computer is, as facts and as lines of text."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tombola.data.roots import data_root as root_of
from tombola.ground import devices, extras
from tombola.ground.devices import cores

_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")

DATA_FILES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "mnist": ("MNIST/raw", _MNIST_FILES),
    "fashion_mnist": ("FashionMNIST/raw", _MNIST_FILES),
    "cifar10": ("cifar-10-batches-py", _CIFAR10_FILES),
    "cifar100": ("cifar-100-python", ("train", "test")),
    "tiny_imagenet": ("tiny-imagenet-200", ("wnids.txt",)),
    "voc": (
        "VOCdevkit/VOC2007",
        ("ImageSets/Main/trainval.txt", "ImageSets/Main/val.txt", "ImageSets/Main/test.txt"),
    ),
    "voc_segmentation": (
        "VOCdevkit/VOC2012",
        ("ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"),
    ),
}
"""The folder and the files of each data set that can be downloaded."""


def facts(data_root: Path | None = None) -> dict[str, Any]:
    """Describe this machine as plain data; memory is in bytes.

    ``data_found`` says for every downloadable data set whether its files are under the data root;
    no file is read. ``load`` is the number of processes that want a core; ``busy`` is true if its
    average over the last minute is more than half of the cores. Unknown values are ``None``.

    >>> facts(Path("/nowhere"))["data_found"]["mnist"]
    False
    """
    root = root_of(data_root)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    data_found = {}
    for name, (folder, files) in DATA_FILES.items():
        data_found[name] = all((root / folder / file).is_file() for file in files)
    return {
        "versions": {
            **extras.versions(["tombola"]),
            "python": platform.python_version(),
            **extras.versions(["torch", "torchvision", "numpy"]),
        },
        "processor": _processor(),
        "cores": cores(),
        "memory_total": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_free": devices.free_memory(torch.device("cpu")),
        "gpus": _gpus(),
        "torch_threads": torch.get_num_threads(),
        "data_root": str(root),
        "data_found": data_found,
        "load": None if load is None else round(load, 2),
        # The load is that of the whole machine, and `cores` are those of this process.
        "busy": load is not None and load > 0.5 * (os.cpu_count() or 1),
    }


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    gpus = []
    for number in range(torch.cuda.device_count()):
        gpus.append(
            {
                "name": torch.cuda.get_device_name(number),
                "memory_total": torch.cuda.get_device_properties(number).total_memory,
                "memory_free": devices.free_memory(torch.device("cuda", number)),
            }
        )
    return gpus


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def fact_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts as pairs of a word and a line of text.

    >>> [word for word, _ in fact_lines(facts() | {"load": 0.1, "busy": False})]
    ['versions', 'processor', 'memory', 'GPUs', 'threads', 'data', 'load']
    """
    versions = [f"{name} {version}" for name, version in facts["versions"].items()]
    cores = f"{facts['cores']} core{'s' * (facts['cores'] != 1)} for this process"
    gpus = []
    for gpu in facts["gpus"]:
        total, free = _gib(gpu["memory_total"]), _gib(gpu["memory_free"])
        gpus.append(f"{gpu['name']}, {total}, {free} free")
    lines = [
        ("versions", ", ".join(versions)),
        ("processor", f"{facts['processor']}; {cores}"),
        ("memory", f"{_gib(facts['memory_total'])}, {_gib(facts['memory_free'])} free"),
        ("GPUs", "; ".join(gpus) or "none that torch can use"),
        (
            "threads",
            f"torch's default: {facts['torch_threads']}; a training uses its recipe's number",
        ),
        ("data", f"{facts['data_root']} has {_data_sets(facts['data_found'])}"),
    ]
    if facts["load"] is not None:
        load = f"{facts['load']:.1f} over the last minute"
        if facts["busy"]:
            load += "; the machine is busy, so measurements are unreliable"
        lines.append(("load", load))
    return lines


def _data_sets(data_found: Mapping[str, bool]) -> str:
    has: list[str] = []
    lacks: list[str] = []
    for name, is_there in data_found.items():
        (has if is_there else lacks).append(name)
    if not has:
        return "none of the downloadable sets"
    return ", ".join(has) + (f"; lacks {', '.join(lacks)}" if lacks else "")


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
