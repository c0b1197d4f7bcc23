"""The public names: there, the same twice, never shadowed by a module, and quick to have."""

import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from tests.processes import run_without

import tombola
from tombola.data.dataset import from_tensors
from tombola.ground import seeds
from tombola.ground.settings import fine_tuning, stretched
from tombola.masks import rates
from tombola.masks.digests import digest_mask, digest_state
from tombola.masks.schedules import Gradual, PruningSchedule
from tombola.models import mlp
from tombola.search.rounds import find


def test_every_public_name_is_the_same_twice_after_every_submodule_was_imported():
    for module in pkgutil.walk_packages(tombola.__path__, "tombola."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in tombola.__all__:
        first, second = getattr(tombola, name), getattr(tombola, name)
        assert first is second
        assert not isinstance(first, types.ModuleType), f"a module shadows tombola.{name}"
    assert set(tombola.__all__) <= set(dir(tombola))


def test_entries_of_catalogues_are_never_shadowed_by_their_modules():
    from tombola.ground.catalogue import entries

    for package in ("tombola.data", "tombola.models", "tombola.scores", "tombola.kernels"):
        module = importlib.import_module(package)
        for name in entries(package):
            assert callable(getattr(module, name)), f"{package}.{name}"
            assert getattr(module, name) is getattr(module, name)


def test_catalogues_and_modules_are_attributes_of_tombola_and_are_imported_when_they_are_used():
    code = (
        "import sys, tombola\nassert 'torch' not in sys.modules\nfor name in ('scores', 'data', "
        "'models', 'exports', 'executors', 'masks', 'kernels', 'ticket_format'):\n    assert name "
        "in dir(tombola)\n    assert getattr(tombola, name) is sys.modules[f'tombola.{name}']\n"
        "tombola.scores.magnitude, tombola.data.digits, tombola.models.mlp, "
        "tombola.exports.state_dict\nassert tombola.kernels.eager is tombola.kernels._eager.Eager\n"
        "assert not hasattr(tombola, 'scoers') and not hasattr(tombola, '_nothing')\nassert not "
        "isinstance(tombola.split, type(sys)) and not isinstance(tombola.measure, type(sys))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_nearly_one_is_suggested():
    with pytest.raises(AttributeError, match="module 'tombola' has no attribute 'scoers'"):
        _ = tombola.scoers
    assert {"scores", "data", "models"} <= set(dir(tombola))


NUMBERS = {
    "integers": lambda n: np.int64(n) if isinstance(n, int) else n,
    "small": lambda n: np.uint8(n) if isinstance(n, int) else n,
    "singles": lambda n: np.float32(n) if isinstance(n, float) else n,
    "doubles": lambda n: np.float64(n) if isinstance(n, float) else n,
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numpys_numbers_are_numbers_everywhere_and_give_the_same(kind):
    """Everything that takes a number takes numpy's; rates and fractions are exact in single
    precision here.
    """

    def everything(of):
        images = torch.arange(360.0).view(90, 1, 2, 2) % 7
        labels = torch.arange(90) % 3
        data = from_tensors(images, labels, images[:9], labels[:9], of(3))
        splits = tombola.split(data, valid=of(0.25), subset=of(40), seed=of(1))
        smaller = tombola.split(data, valid=of(6), classes=of(2), seed=of(1))
        model = mlp(of(3), image_shape=(of(1), of(2), of(2)), hidden=[of(8), of(4)])
        with seeds.seeded(of(0), "init"):
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter)
        task = tombola.Classification(
            model, splits, augment=tombola.Augment(crop=of(1), rotate=of(0.5))
        )
        training = tombola.Training(
            lr=of(0.25),
            momentum=of(0.5),
            weight_decay=of(0.125),
            epochs=of(1),
            batch_size=of(16),
            clip=of(2.0),
            schedule="multistep",
            milestone_steps=(of(1),),
            gamma=of(0.5),
            evaluate_every=of(2),
            threads=of(1),
            warmup_steps=of(1),
            patience=of(9),
        )
        mask = tombola.ones(model)
        job = tombola.Job(task.initial_state(), mask, training, of(3), first=of(0), last=of(3))
        parts = [
            *tombola.by_classes(of(9), of(2), of(4)),
            *tombola.by_examples(of(10), of(2), of(4)),
        ]
        parts += [*tombola.by_seeds(of(2)), tombola.Partition(classes=(of(0), of(2)), order=of(1))]
        gradual = Gradual(
            of(0.5), PruningSchedule(begin=of(0.0), end=of(0.5), every=of(1), initial=of(1.0))
        )
        found = find(
            job,
            [tombola.Partition()],
            [of(0.25), tombola.Count(of(9))],
            run_all=tombola.serial(task),
        )
        scores = {
            name: torch.arange(float(keep.numel())).view(keep.shape) for name, keep in mask.items()
        }
        pruned = [tombola.prune(scores, mask, of(0.25)), tombola.prune(scores, mask, count=of(5))]
        return [
            *map(digest_mask, [*(each.mask for each in found), *pruned]),
            *(part.digest for part in parts),
            job.digest(task.digest),
            dataclasses.replace(job, during=gradual).digest(task.digest),
            json.dumps(dataclasses.asdict(training)),
            smaller.classes,
            tombola.rate_to_reach(of(0.25), of(2)),
            list(rates.counts_for(mask, [of(0.5)], tombola.whole_model)),
            digest_state(stretched(training, of(1.5)) and tombola.run_job(job, task).final),
            fine_tuning(training, of(0.125)).lr,
        ]

    assert everything(NUMBERS[kind]) == everything(lambda number: number)


@pytest.mark.parametrize("rate", [True, np.True_, "0.2", None, torch.tensor(0.2), 1 + 2j])
def test_what_is_no_number_is_no_rate(rate):
    mask = {"w": torch.ones(4, dtype=torch.bool)}
    with pytest.raises(
        tombola.ground.errors.InputError,
        match=r"it is a number from 0 to 1|takes a rate or a count",
    ):
        tombola.prune({"w": torch.rand(4)}, mask, rate)


def test_importing_tombola_imports_no_torch():
    done = run_without(["torch", "numpy"], "import tombola, tombola.commands.cli")
    assert (done.returncode, done.stderr) == (0, "")
