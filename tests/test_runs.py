"""Digests and defaults: what names a run and an arm, frozen, so that a change of either is seen
and told.
"""

import json
from dataclasses import replace

import pytest

from tombola.folder.identity import folder_of, run_digest, shared
from tombola.folder.run_folder import RunFolder
from tombola.folder.runs import Run
from tombola.ground.errors import ConfigError
from tombola.schema.recipe import FORMAT, parse

WHOLE = {
    "name": "frozen",
    "training": {"epochs": 3},
    "arms": {
        "colt-2": {"method": "colt", "rate": 0.15},
        "lth": {"method": "lth", "rate": 0.2},
        "matched": {"match": "colt-2"},
        "random": {"method": "random_ticket", "source": "matched"},
    },
    "until": {"rounds": 4},
    "device": "cpu",
}

DEFAULTS = {
    "name": "frozen",
    "training": {
        "optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False, "betas": [0.9, 0.999], "weight_decay": 0.0,
        "epochs": 3.0, "steps": None, "batch_size": 64, "schedule": "constant", "milestones": [],
        "milestone_steps": [], "gamma": 0.1, "warmup": 0.0, "warmup_steps": 0, "clip": None, "evaluate_every": None,
        "patience": None, "select": "last", "select_by": "loss", "threads": 1, "precision": "float32",
        "channels_last": None, "compile": False, "step": None,
    },
    "data": {
        "name": "digits", "valid": 0.1, "subset": None, "augment": {"crop": 0, "flip": False, "rotate": 0.0},
    },
    "model": {"name": "lenet_300_100", "head": None, "init": "xavier", "weights": None},
    "until": {"rounds": 4, "density": None, "density_total": None, "accuracy_drop": None},
    "densities": [], "evaluate_at": [],
    "verdict": {"margin": None, "at": [], "steps": None, "alpha": 0.05},
    "profile": None, "prunable": "no_head", "rewind": 0, "replicates": 1,
    "seed": 0, "device": "cpu", "keep": "best",  # what is kept is in no digest
}  # fmt: skip

ARM = {
    "method": "lth", "match": None, "source": None, "as_long_as": None, "partitions": None, "split_by": "classes",
    "head": "own",
    "remainder": "kept", "train_on": [], "combine": "all", "rate": 0.2, "reach": None, "densities": [], "pace": None,
    "exact": False,
    "scope": "whole_model", "score": "magnitude", "scored": "selected", "lr": "last", "shuffle": "both",
    "training": {}, "evaluate_at": [], "allow_collapse": False,
}  # fmt: skip


def frozen(**changes):
    return parse(WHOLE | changes)


def test_defaults_are_frozen_a_change_raises_the_format():
    plain = frozen().to_dict()
    assert plain.pop("arms")["lth"] == ARM
    assert plain == DEFAULTS
    assert FORMAT == 3


def test_the_digests_of_a_run_and_of_its_arms_are_frozen(tmp_path):
    assert run_digest(frozen())[:16] == "d4659dac8e219338"
    folder = RunFolder(frozen(), tmp_path, "f")
    folder.close()
    assert {name: folder.arm_digest(name)[:16] for name in WHOLE["arms"]} == {
        "colt-2": "ae79fdb77a8ffc60",
        "lth": "7354d212a48bc06a",
        "matched": "b634186ce02426ba",
        "random": "e25ba64b36c527d8",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"replicates": 7},
        {"until": {"density": 0.5}},
        {"keep": "all"},
        {"evaluate_at": [0.6]},
        {"arms": {"lth": {"method": "lth", "rate": 0.3}}},
        {"device": "cpu"},
    ],
)
def test_what_may_be_added_to_a_run_does_not_name_it(changes):
    assert run_digest(frozen(**changes)) == run_digest(frozen())


@pytest.mark.parametrize(
    ("name", "one", "same", "other"),
    [
        ("image_folder", {"path": "a"}, {"path": "/b"}, {"path": "a", "size": 8}),
        (
            "image_folder",
            {"path": "a"},
            {"path": "a", "workers": 8},
            {"path": "a", "normalise": "imagenet"},
        ),
        ("arrays", {"path": "a.npz"}, {"path": "/b.npz"}, {"path": "a.npz", "subset": 9}),
        ("mine:data", {"path": "a"}, {"path": "a"}, {"path": "b"}),
    ],
)
def test_where_images_of_ones_own_are_and_who_reads_them_does_not_name_the_run(
    name, one, same, other
):
    digests = [run_digest(frozen(data={"name": name, **options})) for options in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_run_goes_on_where_its_images_have_been_moved_and_keeps_their_new_place(tmp_path):
    for path, workers in (("old", 0), ("new", 2)):
        recipe = frozen(data={"name": "image_folder", "path": path, "workers": workers})
        folder = RunFolder(recipe, tmp_path, "f")
        folder.close()
        assert Run(folder.path).recipe == recipe
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ConfigError, match="the data differs from what"):
        RunFolder(recipe, tmp_path, "other images")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"rewind": 5},
        {"prunable": "all"},
        {"training": {"epochs": 4}},
        {"data": "mnist"},
        {"data": {"name": "digits", "subset": 500}},
        {"model": "mlp"},
        {"model": {"init": "default"}},
    ],
)
def test_what_decides_all_arms_names_the_run(changes):
    assert run_digest(frozen(**changes)) != run_digest(frozen())


def test_which_gpu_it_is_does_not_name_a_run_that_it_is_one_does():
    digests = {
        device: run_digest(replace(frozen(), device=device)) for device in ("cpu", "cuda", "cuda:1")
    }
    assert digests["cuda"] == digests["cuda:1"] != digests["cpu"]


def test_a_checkpoint_counts_by_what_is_in_it(tmp_path):
    one, same, other = (tmp_path / name for name in ("one.pt", "same.pt", "other.pt"))
    one.write_bytes(b"1"), same.write_bytes(b"1"), other.write_bytes(b"2")
    digests = [
        run_digest(frozen(model={"name": "mlp", "weights": str(path)}))
        for path in (one, same, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_definition_of_an_arm_holds_those_that_it_follows_and_not_what_is_evaluated(tmp_path):
    folder = RunFolder(frozen(evaluate_at=[0.6]), tmp_path, "f")
    folder.close()
    definition = folder.definition("random")
    assert definition["source"]["match"] == {"arm": "colt-2", "per": "group"}
    assert definition["source"]["source"]["method"] == "colt"
    assert "evaluate_at" not in json.dumps(definition)
    assert folder.path == folder_of(frozen(), tmp_path)
    assert set(shared(frozen())) == {
        "data",
        "model",
        "training",
        "prunable",
        "rewind",
        "seed",
        "device",
    }
