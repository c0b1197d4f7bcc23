"""Annotated types and shapes hold in a real run: every function of tombola is checked while it
works.

In a process of its own, since the other tests give wrong types on purpose.
"""

import subprocess
import sys

CHECKED = """
import jaxtyping, sys, vl_convert
from beartype import BeartypeConf, beartype
# Charts are built by functions that are checked; turning them into images is a library's work.
vl_convert.vegalite_to_svg = lambda *_, **__: "<svg/>"
vl_convert.svg_to_png = lambda *_, **__: b""
vl_convert.javascript_bundle = lambda *_, **__: ""
sys.modules["shapes"] = type(sys)("shapes")
sys.modules["shapes"].check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a number
with jaxtyping.install_import_hook("tombola", "shapes.check"):
    from tombola.experiments.experiment import run
    from tombola.schema.recipe import parse
from pathlib import Path

recipe = parse({
    "name": "shapes",
    "data": {"name": "synthetic", "classes": 4, "train": 80, "test": 20, "image_shape": [3, 8, 8],
             "augment": {"crop": 1, "flip": True, "rotate": 15}},
    "model": "conv3",
    "training": {"optimizer": "adam", "lr": 1e-3, "epochs": 1, "batch_size": 16, "clip": 1.0, "schedule": "cosine"},
    "arms": {"colt-2": {"method": "colt", "rate": {"conv": 0.2}, "scope": "per_kind"}, "matched": {"match": "colt-2"},
             "random": {"method": "lth", "densities": [0.5], "score": "random", "scope": "per_layer"}},
    "until": {"rounds": 2},
})
outcome = run(recipe, runs=Path(sys.argv[1]), workers=1)
sys.exit("\\n".join(outcome.notes) if not outcome.complete else 0)
"""


def test_types_and_shapes_hold_while_a_search_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHECKED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
