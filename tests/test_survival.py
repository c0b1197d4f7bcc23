"""Survival: runs that are killed at any moment, on disks that fill up, come to the same end as
undisturbed ones.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests import forks
from tests.layouts import KINDS

from tombola.records.records import timeless
from tombola.records.seals import KEY

RECIPE = {
    "name": "tiny",
    "data": {"name": "digits", "subset": 500},
    "model": {"name": "mlp", "hidden": [60, 30]},
    "training": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "epochs": 2, "batch_size": 32},
    "arms": {
        "colt-2": {"method": "colt", "partitions": 2, "rate": 0.15},
        "lth": {"method": "lth", "rate": 0.3, "evaluate_at": [0.4]},
        "apart": {"method": "colt", "partitions": 2, "rate": 0.15, "combine": "all_at_end"},
        "on": {"method": "fine_tune", "rate": 0.3},
        "random": {"method": "random_ticket", "source": "colt-2"},
    },
    "until": {"rounds": 3},
}


def command(folder, *, workers=2):
    """Write the recipe, and return the arguments of its run: two workers write its trainings, one
    does so in the run's own process.
    """
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    return ["run", recipe, "--runs", folder / "runs", "--quiet", "--workers", workers]


def begin(folder, workers):
    nowhere = subprocess.DEVNULL
    return forks.begin(*command(folder, workers=workers), cwd=folder, stdout=nowhere, stderr=2)


def complete(folder):
    """Run to the end, with one worker."""
    done = forks.call(*command(folder, workers=1), cwd=folder)
    assert done.returncode == 0, done.stderr


def result(folder):
    """What a run leaves, without clocks: records in order, and every file that is not a clock's."""
    run = next((folder / "runs").glob("tiny-*"))
    records = [
        json.loads(line) for line in (run / "machine/records.jsonl").read_text().splitlines()
    ]
    latest = {}
    for record in records:
        del record[KEY]  # it is over the clocks, too
        latest[record["arm"], record["replicate"], record["round"]] = timeless(record)
    files = {
        str(p.relative_to(run)): p.read_bytes()
        for kind in KINDS
        for p in (run / kind).rglob("*")
        if p.is_file()
    }
    trainings = {path.name for path in (run / "machine/trainings").iterdir()}
    return latest, files, trainings, json.loads((run / "machine/state.json").read_text())


@dataclass
class Undisturbed:
    """A run that nothing has disturbed: its folder, what it left, and the seconds it took."""

    folder: Path
    result: tuple
    seconds: float


def left_alone(folder, workers):
    process = begin(folder, workers)
    begun = began(folder, process)
    assert process.wait() == 0
    return Undisturbed(folder, result(folder), time.monotonic() - begun)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return left_alone(tmp_path_factory.mktemp("undisturbed"), workers=1)


def began(folder, process):
    """Wait until a run works in its folder, and tell when that was."""
    while process.poll() is None and not list((folder / "runs").glob("*/machine/run.json")):
        time.sleep(0.005)
    return time.monotonic()


def kill(folder, process, moment, writing):
    """Kill a run after some seconds, or soon after them while it writes a file. Returns whether
    it was running.
    """
    until = began(folder, process) + moment
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    give_up = time.monotonic() + 2
    while writing and process.poll() is None and time.monotonic() < give_up:
        if any(
            path.name.startswith(".") and path.name != ".lock"
            for path in (folder / "runs").rglob(".*.????????")
        ):
            break
    running = process.poll() is None
    if running:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return running


def survive(tmp_path, undisturbed, *, kills, seed, workers):
    chance, killed, number = random.Random(seed), 0, 0
    while killed < kills:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        while killed < kills:
            process = begin(folder, workers)
            moment, writing = chance.uniform(0, undisturbed.seconds), chance.random() < 0.5
            if not kill(folder, process, moment, writing):
                assert process.returncode == 0
                break
            killed += 1
        complete(folder)
        assert result(folder) == undisturbed.result, (
            f"seed {seed}, run {number}, after {killed} kills"
        )


def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path, undisturbed):
    survive(tmp_path, undisturbed, kills=5, seed=9, workers=1)


@pytest.mark.slow
def test_a_run_of_two_workers_killed_at_fifty_random_moments_ends_as_if_undisturbed(tmp_path):
    (tmp_path / "alone").mkdir()
    survive(tmp_path, left_alone(tmp_path / "alone", workers=2), kills=50, seed=0, workers=2)


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of some size on a folder; gives the function that mounts it (again)."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options, remount=True):
        done = subprocess.run(
            [
                "mount",
                "-t",
                "tmpfs",
                "-o",
                f"{'remount,' * remount}{options}",
                "tmpfs",
                str(folder),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
        return folder

    mount("size=4m", remount=False)
    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def stopped_in_one_line(folder, what, workers):
    done = forks.call(*command(folder, workers=workers), cwd=folder)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert what in done.stderr
    assert done.stderr.startswith("tombola: cannot write '")


@pytest.mark.parametrize(("room", "workers"), [(120, 1), (400, 2)])
def test_a_full_disk_stops_a_run_in_one_line_and_loses_nothing(disk, undisturbed, room, workers):
    folder = disk(f"size={room}k")
    command(folder)  # the recipe is written while there is room
    stopped_in_one_line(folder, "No space left on device", workers)
    disk("size=60m")
    complete(folder)
    assert result(folder) == undisturbed.result


def test_a_folder_that_cannot_be_written_to_is_told_in_one_line(disk):
    folder = disk("size=4m")
    line = command(folder)
    disk("ro")
    done = forks.call(*line, cwd=folder)
    disk("rw")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"tombola: cannot write '{next_folder(done.stderr)}': Read-only file system\n"
    )


def next_folder(line):
    return Path(line.partition("'")[2].rpartition("'")[0])


def test_a_half_written_record_is_put_right_and_told(tmp_path, undisturbed):
    shutil.copytree(undisturbed.folder / "runs", tmp_path / "runs")
    records = next((tmp_path / "runs").glob("*/machine/records.jsonl"))
    records.write_bytes(records.read_bytes()[:-40])
    loud = [word for word in command(tmp_path, workers=1) if word != "--quiet"]
    done = forks.call(*loud, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the last record was half written; its round is done again" in done.stderr
    assert result(tmp_path) == undisturbed.result
