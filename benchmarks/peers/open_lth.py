"""open_lth (facebookresearch/open_lth): training loop, data sets and masked model of an unchanged
clone.

Two things in it do not work with current releases of torch and numpy, and are patched while it is
imported here: ``models/base.py`` lists ``abc.ABC`` before ``torch.nn.Module``, which no longer
gives an order of bases, and ``training/optimizers.py`` calls ``numpy.product``, which numpy 2
dropped.
"""

from __future__ import annotations

import abc
import importlib
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import NotRun
from benchmarks.machine import commit

_FILES = ("training/train.py", "models/base.py", "datasets/mnist.py")
_FILES += ("pruning/pruned_model.py", "platforms/base.py")
_NEEDED = ("cli.runner_registry", "training.train", "models.registry", "models.base")
_NEEDED += ("datasets.registry", "pruning.mask", "pruning.pruned_model")
_NEEDED += ("platforms.platform", "platforms.base", "foundations.hparams", "foundations.step")
_DATA = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_1",
}


class OpenLth:
    """A loaded clone: makes models and times its training loop.

    Args:
        folder: The clone.
        data_root: Where the data sets lie, as torchvision keeps them; nothing is downloaded.

    Raises:
        NotRun: The folder is not named, not there or no clone of open_lth; or its code cannot be
            imported.
    """

    def __init__(self, folder: str | None, data_root: Path) -> None:
        self.folder, self.data_root = check(folder), data_root
        sys.path.insert(0, str(self.folder))
        # A stand-in for abc.ABC, so that it does not stand before torch's own bases.
        numpy_ = {} if hasattr(np, "product") else {"product": np.prod}
        try:
            with mock.patch.object(abc, "ABC", abc.ABCMeta("ABC", (), {})):
                self._parts = {name: importlib.import_module(name) for name in _NEEDED}
        except Exception as error:
            text = " ".join(str(error).split())
            raise NotRun(
                f"open_lth: its code cannot be imported: {type(error).__name__}: {text}"
            ) from error
        vars(np).update(numpy_)
        self._work = tempfile.TemporaryDirectory(prefix="tombola-open-lth-")
        self._set_platform()

    @property
    def name(self) -> str:
        """The peer with the commit of its clone."""
        return f"open_lth {commit(self.folder)}".strip()

    def _set_platform(self) -> None:
        folder = self._work.name
        for name in _DATA:
            Path(folder, name).symlink_to(self.data_root.resolve(), target_is_directory=True)

        class Local(self._parts["platforms.base"].Platform):
            """Its own platform, on the CPU, with data and results where we say."""

            root = dataset_root = imagenet_root = folder
            device_str, is_parallel = "cpu", False

        self._parts["platforms.platform"]._PLATFORM = Local()

    def loader(self, data: str, batch_size: int) -> Any:
        """Make its data loader of a training set, augmented as it has it for this data set."""
        import torchvision

        if not (self.data_root / _DATA[data]).exists():
            raise NotRun(f"open_lth: the data root has no {_DATA[data]}")
        hparams = self._parts["foundations.hparams"].DatasetHparams(
            dataset_name=data, batch_size=batch_size
        )
        # It would download files whose checksum is not the published one.
        with mock.patch.object(torchvision.datasets.CIFAR10, "_check_integrity", return_value=True):
            return self._parts["datasets.registry"].get(hparams)

    def model(self, name: str) -> Any:
        """Make one of its own models."""
        hparams = self._parts["foundations.hparams"].ModelHparams(name, "kaiming_normal", "uniform")
        return self._parts["models.registry"].get(hparams)

    def wrapped(self, module: nn.Module, head: str) -> Any:
        """Make a model that its loop can train of a module of ours."""

        class Wrapped(self._parts["models.base"].Model):
            """What its ``Model`` asks for, around any module."""

            def __init__(self) -> None:
                super().__init__()
                self.module, self.criterion = module, nn.CrossEntropyLoss()

            def forward(self, inputs: Tensor) -> Any:
                return self.module(inputs)

            @property
            def output_layer_names(self) -> list[str]:
                return [f"module.{head}.weight", f"module.{head}.bias"]

            @property
            def loss_criterion(self) -> nn.Module:
                return self.criterion

            @staticmethod
            def is_valid_model_name(_model_name: str) -> bool:
                return False

            @staticmethod
            def get_model_from_name(*_: Any) -> Any:
                raise NotImplementedError

            @staticmethod
            def default_hparams() -> Any:
                raise NotImplementedError

        return Wrapped()

    def pruned(self, model: Any, keeps: Mapping[str, Tensor]) -> Any:
        """Put its masked model around one of its models."""
        mask = self._parts["pruning.mask"].Mask(
            {name: keep.float() for name, keep in keeps.items()}
        )
        return self._parts["pruning.pruned_model"].PrunedModel(model, mask)

    def seconds_per_step(
        self, model: Any, loader: Any, training: Mapping[str, Any], *, warm: int, steps: int
    ) -> float:
        """Time consecutive steps inside its own training loop, by its own callbacks.

        Args:
            model: Trained on from where it is.
            loader: Its data loader.
            training: Its training settings: optimizer_name, lr, momentum.
            warm: Steps before the time is taken.
            steps: Steps that are timed.
        """
        last = f"{warm + steps}it"
        hparams = self._parts["foundations.hparams"].TrainingHparams(
            training_steps=last, data_order_seed=0, **training
        )
        # Timed inside its own loop, by a callback: nothing of ours runs in between.
        times: dict[int, float] = {}

        def watch(_output: str, step: Any, *_: Any) -> None:
            if step.iteration in (warm, warm + steps):
                times[step.iteration] = time.perf_counter()

        self._parts["training.train"].train(
            hparams, model, loader, f"{self._work.name}/output", [watch]
        )
        if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
            raise NotRun("open_lth: the training diverged")
        return (times[warm + steps] - times[warm]) / steps


def check(folder: str | None) -> Path:
    """Return the folder of a clone, or say in one line what is wrong with it.

    Raises:
        NotRun: No folder is named, or it is not what it should be.
    """
    if not folder:
        raise NotRun(
            "needs a clone of facebookresearch/open_lth: make bench OPEN_LTH=/path/to/clone"
        )
    path = Path(folder)
    if not path.is_dir():
        raise NotRun("open_lth: the folder that was named is not there")
    missing = [file for file in _FILES if not (path / file).is_file()]
    if missing:
        raise NotRun(
            f"open_lth: the folder that was named is no clone of it: it has no {missing[0]}"
        )
    return path
