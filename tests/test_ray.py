"""Ray: the same bits on the machines of a cluster, whichever of them are lost on the way.

The clusters here are of one machine: each of their nodes is a Ray of its own, with its own object
store.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tests.layouts import KINDS
from tests.test_executors import TASK, job, make_task, same

from tombola.executors import Pool
from tombola.executors._ray import ray
from tombola.executors.machines import Expected
from tombola.experiments.experiment import run
from tombola.experiments.progress import Display
from tombola.folder.runs import Run
from tombola.ground import extras
from tombola.ground.errors import ConfigError
from tombola.records.records import timeless
from tombola.schema.recipe import parse
from tombola.training.jobs import run_job

pytest.importorskip("ray", reason="Ray is not installed: pip install 'tombola[ray]'")

PATIENCE = 900  # seconds; a Ray takes several to begin, on a busy machine minutes
STORE = 100 * 2**20  # bytes of a node's object store
ROOT = Path(__file__).parent.parent
# The score that needs data stands in the tests: where the machines of a cluster look for it, too.
PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": PATH}
# Late rewinding, a score of weights, one of gradients, and counts of another arm.
RECIPE = {
    "name": "tiny",
    "data": {"name": "digits", "subset": 400},
    "model": {"name": "mlp", "hidden": [20]},
    "training": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "epochs": 2, "batch_size": 32},
    "rewind": 5,
    "arms": {
        "colt-2": {"method": "colt", "partitions": 2, "rate": 0.15},
        "matched": {"match": "colt-2"},
        "gradient": {
            "method": "colt",
            "partitions": 2,
            "rate": 0.15,
            "score": {"name": "tests.outside.gradient_score:connection", "examples": 64},
        },
    },
    "until": {"rounds": 2},
    "device": "cpu",
    "keep": "all",
}


def command(folder, *more, recipe=RECIPE):
    """Write a recipe, and return the command that runs it there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return [sys.executable, "-m", "tombola", "run", "tiny.yaml", "--runs", "runs", "--quiet", *more]


def go(folder, *more, recipe=RECIPE):
    """Run a recipe to its end, in a process of its own."""
    done = subprocess.run(
        command(folder, *more, recipe=recipe),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return result(folder)


def result(folder):
    """What a run leaves, without clocks: its records, and the bytes of its tickets and
    predictions.
    """
    made = Run(next((folder / "runs").glob("tiny-*")))
    files = {}
    for kind in KINDS:
        for path in sorted((made.path / kind).rglob("*")):
            if path.is_file():
                files[str(path.relative_to(made.path))] = path.read_bytes()
    return [timeless(record) for record in made.records.all()], files


def refused(folder, *more):
    """Run a recipe that cannot be run, and return the one line that is said."""
    done = subprocess.run(
        command(folder, *more),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def by_threads(tmp_path_factory):
    return go(tmp_path_factory.mktemp("threads"), "--workers", "1")


class Asking(Display):
    """Shows nothing, and asks a worker of Ray how nice it is when there is a result."""

    niceness: int | None = None

    def result(self, record):
        if extras.ray.is_initialized() and self.niceness is None:
            asked = extras.ray.remote(num_cpus=0)(lambda: os.nice(0))
            self.niceness = extras.ray.get(asked.remote())
        super().result(record)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_gives_the_bits_that_threads_and_processes_give(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tombola.experiments.reporting.page.write", lambda *_: []
    )  # figures are drawn elsewhere, and take long
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # a cluster of other purposes is not joined
    results, display = {}, Asking(quiet=True)
    for executor, workers in (("threads", 1), ("processes", 2), ("ray", 2)):
        outcome = run(
            parse(RECIPE),
            runs=tmp_path / executor / "runs",
            workers=workers,
            executor=executor,
            display=display,
        )
        assert outcome.complete, outcome.notes
        results[executor] = result(tmp_path / executor)
        assert not (outcome.folder / "machine/trainings" / "starts").exists()
    assert results["threads"] == results["processes"] == results["ray"]
    # Beside other processes a worker of Ray's gets as much as one of ours.
    assert display.niceness == os.nice(0)


def test_an_address_that_does_not_answer_is_told_in_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # nobody listens there
        told = refused(tmp_path, "--executor", "ray", "--address", address)
    assert f"no Ray cluster answers at '{address}': Connection refused" in told
    assert "ray start --head" in told


@pytest.mark.parametrize("address", ["nowhere", "host:port", ":6379", "host:99999"])
def test_what_is_no_address_is_refused(address, tmp_path):
    with pytest.raises(ConfigError, match=f"address is '{address}'; it is HOST:PORT, or auto"):
        Pool(
            TASK,
            tmp_path,
            workers=2,
            make_task=make_task,
            executor="ray",
            options={"address": address},
        )


HERE = {"Python": "3.11", "torch": "2.9.0", "tombola": "0.1.0", "code of tombola": "ab"}


def test_a_ray_that_does_not_begin_is_told_in_one_line(monkeypatch):
    def too_slow(**_):
        raise Exception("The node timed out during startup.")

    engine = SimpleNamespace(is_initialized=lambda: False, init=too_slow)
    monkeypatch.setattr(extras, "ray", engine)
    said = r"^Ray does not begin on this machine: The node timed out during startup\.$"
    with pytest.raises(ConfigError, match=said):
        ray(SimpleNamespace(workers=2, room=2))


@pytest.mark.parametrize(
    ("packages", "own", "told"),
    [
        (
            {"torch": "2.8.0"},
            {},
            "node 7 has torch 2.8.0, and this one 2.9.0: results would not be the same",
        ),
        ({"Python": "3.12"}, {}, "node 7 has Python 3.12, and this one 3.11"),
        ({"tombola": ""}, {}, "node 7 has no tombola; install tombola 0.1.0, as here"),
        (
            {"code of tombola": "cd"},
            {},
            "node 7 has other code of tombola than this one; install the same",
        ),
        (
            {},
            {"mine:net": "!ModuleNotFoundError: No module named 'mine'"},
            "node 7 cannot import 'mine:net': "
            "ModuleNotFoundError: No module named 'mine'; put it where PYTHONPATH points there",
        ),
        (
            {},
            {"mine:net": "99"},
            "node 7 has another 'mine:net' than this one; copy its file there",
        ),
    ],
)
def test_a_machine_that_would_give_other_results_is_refused_in_one_line(packages, own, told):
    expected = Expected(HERE, {"mine:net": "01"}, [])
    with pytest.raises(ConfigError) as caught:
        expected.check(
            {"packages": HERE | packages, "own_code": {"mine:net": "01"} | own}, "node 7"
        )
    assert told in str(caught.value)
    expected.check({"packages": HERE, "own_code": {"mine:net": "01"}}, "node 7")


# ---- a cluster of two nodes


@pytest.fixture
def cluster(monkeypatch):
    """A cluster whose head trains nothing, and two nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # else other processes leave its workers nothing
    for tries in range(5):
        made = Cluster()
        try:
            made.add_node(num_cpus=0, object_store_memory=STORE)  # the head
            made.nodes = [made.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
            made.wait_for_nodes()
            break
        except Exception:  # a node has 30 seconds to begin, which is little on a busy machine
            with contextlib.suppress(Exception):
                made.shutdown()
            if tries == 4:
                raise
    yield made
    with contextlib.suppress(Exception):
        made.shutdown()


def wait_for(folder, number, process):
    """Wait until a run has finished so many trainings."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if len(list(folder.glob("runs/*/machine/trainings/*.training"))) >= number:
            return
        time.sleep(0.01)
    raise AssertionError(f"the run has not done {number} trainings")


@pytest.mark.slow
def test_two_nodes_give_the_same_bits(tmp_path, by_threads, cluster):
    assert go(tmp_path, "--executor", "ray", "--address", cluster.address) == by_threads


@pytest.mark.slow
def test_what_a_killed_node_was_doing_is_done_elsewhere(tmp_path, by_threads, cluster):
    line = command(tmp_path, "--executor", "ray", "--address", cluster.address)
    process = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    wait_for(tmp_path, 4, process)
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    assert process.wait(PATIENCE) == 0
    assert result(tmp_path) == by_threads


@pytest.mark.slow
def test_a_driver_that_is_killed_and_started_again_goes_on(tmp_path, by_threads, cluster):
    line = command(tmp_path, "--executor", "ray", "--address", cluster.address)
    process = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    wait_for(tmp_path, 4, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {
        path.name: path.stat().st_mtime_ns
        for path in tmp_path.glob("runs/*/machine/trainings/*.training")
    }
    assert go(tmp_path, "--executor", "ray", "--address", cluster.address) == by_threads
    after = {
        path.name: path.stat().st_mtime_ns
        for path in tmp_path.glob("runs/*/machine/trainings/*.training")
    }
    kept = before.keys() & after.keys()
    assert kept
    assert all(before[name] == after[name] for name in kept)  # they were not done again


@pytest.mark.slow
def test_a_driver_that_is_interrupted_ends_with_one_line(tmp_path, cluster):
    longer = RECIPE | {"training": RECIPE["training"] | {"epochs": 500}}
    line = command(tmp_path, "--executor", "ray", "--address", cluster.address, recipe=longer)
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not list(tmp_path.glob("runs/*/machine/run.json")):
        time.sleep(0.1)
    time.sleep(15)  # by then it trains
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "tombola: stopped; the same command goes on from here"
    assert "Traceback" not in told
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_node_without_the_users_module_is_told_in_one_line(tmp_path, cluster):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "users_net.py").write_text(
        "from tombola.models._mlp import mlp\n\ndef net(num_classes, image_shape):\n    return "
        "mlp(num_classes, image_shape=image_shape, hidden=(20,))\n"
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE | {"model": "users_net:net"}))
    # The driver finds the module where no node looks for one.
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'elsewhere')!r})\nsys.argv = ['tombola', "
        f"'run', 'mine.yaml', '--executor', 'ray', '--address', {cluster.address!r}]\nfrom "
        "tombola.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        "cannot import 'users_net:net': ModuleNotFoundError: No module named 'users_net'"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_what_fails_on_a_node_is_what_fails_here(tmp_path, cluster):
    from tombola.ground.errors import TrainingError

    told = []
    made = Pool(
        TASK,
        tmp_path / "trainings",
        workers=None,
        make_task=make_task,
        executor="ray",
        options={"address": cluster.address},
        progress=lambda *event: told.append(event),
    )
    try:
        assert made.slots == 2
        with pytest.raises(TrainingError, match="a lower learning rate may help"):
            made.run_all([job(seed=5, lr=1e30)])
        jobs = [job(seed=seed, epochs=20) for seed in range(3)]
        results = made.run_all(jobs)
        assert all(same(each, run_job(one, TASK)) for each, one in zip(results, jobs, strict=True))
        time.sleep(2)
        assert {digest for digest, _, _ in told} >= {made.digest(one) for one in jobs}
    finally:
        made.close()


def test_the_machine_of_a_test_has_what_it_has_itself():
    expected = Expected.here({})
    assert expected.packages["Python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert str(Path.cwd()) in expected.path
