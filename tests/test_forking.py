"""Workers as forks of a process that has imported what training needs, and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tombola

TRAINING = """
import importlib, json, sys
from tombola.executors import forking
for name in forking.IMPORTED:
    importlib.import_module(name)
imported = set(sys.modules)
from tombola.experiments.plans import Plans, make_task, resolve_defaults
from tombola.schema.recipe import parse
recipe = parse({"name": "x", "data": "synthetic", "model": "MODEL", "training": {"epochs": 1}, "arms":
                {"lth": {"method": "lth", "rate": 0.2}}, "until": {"rounds": 1}})
task = make_task(recipe, None)
recipe = resolve_defaults(recipe, task)
plans = Plans.of(recipe, task)
planned = set(sys.modules)
from tombola.training.jobs import Job, measure, run_job
job = Job(task.initial_state(), plans.mask, recipe.training, seed=0)
measure(job, run_job(job, task), task)
print(json.dumps([sorted(imported), sorted(planned), sorted(sys.modules)]))
"""

TORCH = """
import json, sys
import torch._inductor.config
import torch.fx.experimental.proxy_tensor
print(json.dumps(sorted(sys.modules)))
"""


def said(code):
    return json.loads(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )


@pytest.fixture(scope="module")
def with_torch():
    """What torch and its compiler import by themselves."""
    return set(said(TORCH))


@pytest.mark.parametrize(
    "model", ["lenet_300_100", "resnet20"]
)  # steps that are recorded, and steps that are not
def test_a_worker_has_imported_what_training_needs_and_nothing_else(model, with_torch):
    imported, planned, trained = map(set, said(TRAINING.replace("MODEL", model)))
    others = {name.partition(".")[0] for name in imported - with_torch} - sys.stdlib_module_names
    others = {name for name in others if not name.startswith("_")}  # parts of what is compiled
    assert others <= {"tombola", "torch", "jaxtyping", "numpy", "yaml", "safetensors"}
    no_worker_needs = (
        "cli",
        "experiment",
        "driver",
        "reports",
        "comparisons",
        "statistics",
        "progress",
        "merging",
        "exports",
        "rehearsal",
    )
    assert not {f"tombola.{name}" for name in no_worker_needs} & imported
    # Whatever the first training imports, every worker would import by itself.
    late = {name for name in trained - planned - imported if name.partition(".")[0] in others}
    assert not late


def test_the_server_can_be_begun_before_torch_is_imported():
    code = (
        "import sys\nfrom tombola.executors import forking\nforking.begin()\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_command_that_ends_takes_the_server_with_it(tmp_path):
    """Whoever reads what a command says would wait for the server, which holds the other end."""
    code = "from tombola.executors import forking\nforking.begin()\nprint('done')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
from concurrent.futures import ProcessPoolExecutor
from tombola.executors import forking
with ProcessPoolExecutor(1, mp_context=forking.context()) as executor:
    there = executor.submit(eval, "set(__import__('sys').modules)").result()
    print(executor.submit(eval, "__import__('tombola').__file__").result())
print(forking.context().get_start_method() == "spawn" or set(forking.IMPORTED) <= there)
"""


def test_a_worker_is_a_fork_of_a_process_that_has_imported_this_tombola_and_all_it_needs(tmp_path):
    """This one is found by a path of this process alone, and another one is installed."""
    home = shutil.copytree(Path(tombola.__file__).parent, tmp_path / "tombola")
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(home / "__init__.py"), "True"]
