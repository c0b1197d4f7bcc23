"""The recipes that ship: each is read whole, and its small scale runs for two steps on data of
the same shape.
"""

import re
from pathlib import Path

import pytest
import yaml

from tombola.experiments.experiment import run
from tombola.methods import every_card, names
from tombola.schema.recipe import pairs, parse, read, variants

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SHAPES = {
    "synthetic": (10, [3, 32, 32]),
    "digits": (10, [1, 8, 8]),
    "mnist": (10, [1, 28, 28]),
    "fashion_mnist": (10, [1, 28, 28]),
    "cifar10": (10, [3, 32, 32]),
    "cifar100": (20, [3, 32, 32]),
    "tiny_imagenet": (20, [3, 64, 64]),
    "image_folder": (20, [3, 64, 64]),
}
DRAWN = ("shapes", "voc")  # pictures with boxes
# minutes with their own images, which `make test-all` gives them
ANY_SIZE = ("resnet18", "mobilenet_v2")
LARGE = {"cifar10-resnet18", "imagenet-resnet18", "layers-left", "tiny-imagenet-mobilenet-v2"}
# in model and arms like cifar10-resnet18, in task and arms like shapes-faster-rcnn
LIKE_OTHERS = ("cifar100-resnet18", "tiny-imagenet-resnet18", "voc-faster-rcnn")
TWO_STEPS = {"epochs": None, "steps": 2, "schedule": "constant", "milestones": [], "warmup": 0, "batch_size": 8,
             "milestone_steps": [], "warmup_steps": 0, "lr_end": None}  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", [None, "small"])
def test_a_recipe_is_read_and_gives_itself_again(path, scale):
    recipe = read(path, scale=scale)
    assert recipe.name == path.stem + (f"-{scale}" if scale else "")
    assert parse(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe
    for variant in variants(path, scale=scale):
        assert read(path, scale=scale, variant=variant).name == f"{recipe.name}-{variant}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_first_what_it_is_and_what_it_costs(path):
    head = re.match(r"(# .*\n|#\n)+", path.read_text(encoding="utf-8"))
    assert head, "it begins with a comment"
    assert re.search(r"[Cc]ost|minutes|core", head[0])
    assert "@" not in head[0]


def like_the_data_of(whole, *, shrunk):
    """Say which drawn images stand in for those of a recipe."""
    kept = {"augment": whole["data"]["augment"]}
    if whole["data"]["name"] in DRAWN:
        whole["model"]["size"] = 32
        return kept | {"name": "shapes", "train": 20, "test": 4, "valid": 4, "size": 32}
    classes, shape = SHAPES[whole["data"]["name"]]
    if shrunk and whole["model"]["name"] in ANY_SIZE:
        shape = [3, 16, 16]
    sizes = {"train": 60 + classes, "test": 20, "valid": classes}
    return kept | sizes | {"name": "synthetic", "classes": classes, "image_shape": shape}


def run_for_two_steps(path, runs, *, shrunk):
    """Run a small scale on synthetic images: one round, two steps a training, one replicate."""
    whole = read(path, scale="small").to_dict()
    whole["data"] = like_the_data_of(whole, shrunk=shrunk)
    whole["training"] |= TWO_STEPS | {"evaluate_every": None}
    whole |= {
        "profile": None,
        "replicates": 1,
        "until": {"rounds": 1},
        "evaluate_at": [],
        "keep": "none",
    }
    for arm in whole["arms"].values():
        arm["evaluate_at"] = []
        # Methods that came later write out what they are given alone.
        if arm.get("training"):
            arm["training"] = {"steps": 4}
        if arm.get("densities"):
            arm["densities"] = arm["densities"][:1]
        if arm.get("pace"):
            arm["pace"] = arm["pace"] | {"every": 1}
        if arm.get("cuts"):
            arm["cuts"] = min(arm["cuts"], 3)
        if isinstance(arm.get("score"), dict) and "examples" in arm["score"]:
            arm["score"] = arm["score"] | {"examples": 20}
    done = run(parse(whole), runs=runs, workers=1)
    assert done.complete, done.notes
    assert {record["arm"] for record in done.records} == set(whole["arms"])


def runnable():
    """Return the recipes to be run; those whose networks take most of a minute for two steps
    are slow tests.
    """
    paths = [path for path in RECIPES if path.stem not in LIKE_OTHERS]
    return [
        pytest.param(path, marks=pytest.mark.slow if path.stem in LARGE else ()) for path in paths
    ]


@pytest.mark.parametrize("path", runnable(), ids=lambda path: path.stem)
def test_a_recipe_runs_for_two_steps_on_images_like_its_own(path, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # what a crash would leave is not tested here
    run_for_two_steps(path, tmp_path, shrunk=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_for_two_steps_on_images_of_its_size(path, tmp_path):
    run_for_two_steps(path, tmp_path, shrunk=False)


def methods_of(name):
    recipe = read(ROOT / "recipes" / f"{name}.yaml")
    return {arm.method for arm in recipe.arms.values()}


def test_causes_has_an_arm_of_every_kind_that_prunes_trained_weights_round_by_round():
    recipe = read(ROOT / "recipes" / "causes.yaml")
    others = {"gradual", "as_trained", "reordered"}
    others |= {
        "at_start",
        "edge_popup",
        "supermask",
        "signed_constants",
        "set",
        "rigl",
        "stretched",
    }
    kinds = {kind.name for kind in every_card()} - {name.replace("_", "-") for name in others}
    assert kinds - {"colt"} <= set(recipe.arms)
    assert {arm.method for arm in recipe.arms.values()} == set(names()) - others
    gradual = read(ROOT / "recipes" / "mnist-lenet5-gradual.yaml")
    assert {"gradual", "as_trained"} <= {arm.method for arm in gradual.arms.values()}
    assert {"set", "rigl", "at_start"} <= methods_of("dynamic")
    assert {"edge_popup", "supermask", "signed_constants"} <= methods_of("untrained")
    rewind = read(ROOT / "recipes" / "cifar10-resnet20-rewind.yaml")
    assert "reordered" in {arm.method for arm in rewind.arms.values()}


def test_the_page_of_arms_shows_every_kind_with_its_yaml():
    page = (ROOT / "docs" / "arms.md").read_text(encoding="utf-8")
    (_, shown), *others = pairs(
        ["--arms", "".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))]
    )
    assert not others
    assert shown == dict(
        pairs([word for kind in every_card() for word in (f"--{kind.name}", kind.entry)])
    )
    arms = {"colt-2": {"method": "colt", "rate": 0.15}, **shown}
    whole = {"name": "all", "training": {"epochs": 6}, "arms": arms, "until": {"rounds": 3}}
    assert {arm.method for arm in parse(whole).arms.values()} == set(names())
