"""The command line: what it prints, where, and the exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests import forks

import tombola.commands
from tombola import recipes
from tombola.commands._list import PACKAGES
from tombola.commands.cli import commands, main
from tombola.ground.catalogue import entries, task_of
from tombola.ground.errors import InputError
from tombola.schema.recipe import parse, read

RECIPE = """
name: quick
data: digits
model: {name: mlp, hidden: [20]}
training: {lr: 0.1, epochs: 1}
arms:
  colt-2: {method: colt, rate: 0.15}
  lth: {method: lth, rate: 0.2}
until: {rounds: 1}
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Call the command line in a folder that holds ``quick.yaml`` and no data sets."""
    (tmp_path / "quick.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOMBOLA_DATA", str(tmp_path / "no-data"))
    # Commands add the folder that they are called in; later tests must not import from it.
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return call


@pytest.fixture
def process(cli, tmp_path):
    """Call ``tombola`` as a process of its own, in the same folder."""

    def call(*arguments):
        command = [sys.executable, "-m", "tombola", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    return call


@pytest.fixture
def ticket(tmp_path):
    path = tmp_path / "t.safetensors"
    mask = {"fc.weight": torch.tensor([[True, False], [True, True]])}
    tombola.Ticket(
        mask, {"fc.weight": torch.ones(2, 2), "fc.bias": torch.zeros(2)}, {"arm": "lth", "round": 1}
    ).save(path)
    return path


def refused(done, *said):
    """Check what every refusal has: exit code 2, one line on standard error, no traceback."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tombola: ")
    for text in said:
        assert text in lines[0], lines[0]
    assert "Traceback" not in done.stderr


def test_run_prints_the_table_and_last_the_answer_and_where_the_page_is(cli, tmp_path):
    (tmp_path / "quick.yaml").write_text(RECIPE + "verdict: {at: [0.8]}\n")
    done = forks.call("run", "quick.yaml", "--workers", "1", cwd=tmp_path, drawn=True)
    assert done.returncode == 0, done.stderr
    assert "Test accuracy: difference from dense, points" in done.stdout
    assert "by round" not in done.stdout  # every round is on the page
    assert sum(set(line) == {"─"} for line in done.stdout.splitlines()) == 1  # one table
    assert re.search(r"Dense: \d\d\.\d\d %\.", done.stdout)
    # What is printed last is the answer and one path.
    *_, said, path = done.stdout.splitlines()
    assert path == str(next((tmp_path / "runs").iterdir()).relative_to(tmp_path) / "report.html")
    for name in (
        "summary.md",
        "results.csv",
        "table.tex",
        "figures/accuracy.svg",
        "figures/accuracy.png",
        "figures/density.svg",
        "figures/density.png",
        "report.html",
    ):
        assert ((tmp_path / path).parent / name).stat().st_size > 0
    assert re.fullmatch(
        r"colt-2 is [+-]\d+\.\d\d points from dense at 80 %, in 1 replicate\.", said
    )
    assert "trainings" in done.stderr.splitlines()[0]  # the estimate comes first
    progress = [line for line in done.stderr.splitlines() if "replicate 0" in line]
    assert len(progress) == 3
    assert sum("dense network" in line for line in progress) == 1  # not once an arm

    again = forks.call("run", "quick.yaml", "--workers", "1", "--quiet", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stderr == ""
    assert again.stdout == done.stdout


def test_every_private_file_of_the_folder_is_a_command_of_the_help(cli, capsys):
    files = {path.stem[1:] for path in Path(tombola.commands.__file__).parent.glob("_[a-z]*.py")}
    assert set(commands()) == files
    top = cli().stdout
    for name, command in commands().items():
        assert f"\n    {name}" in top
        with pytest.raises(SystemExit):
            main([name, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert " ".join((command.usage or f"usage: tombola {name}").split()) in text
        assert " ".join((command.epilog or "").split()) in text


def test_a_new_file_in_the_folder_is_a_new_command_with_overrides(cli, tmp_path, monkeypatch):
    (tmp_path / "_greet.py").write_text(
        """
from tombola.commands.command import Command

class Greet(Command):
    order = 35
    help = "greet somebody"
    description = "Greet somebody."
    takes_overrides = True

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("--times", type=int, default=1)

    def execute(self, options, overrides):
        print(options.name, options.times, overrides)
        return 3
"""
    )
    monkeypatch.setattr(tombola.commands, "__path__", [*tombola.commands.__path__, str(tmp_path)])
    names = list(commands())
    assert names[names.index("greet") - 1 : names.index("greet") + 2] == ["run", "greet", "runs"]
    done = cli("greet", "--training.lr", "0.1", "Ada", "--times=2", "--seed=3")
    assert (done.returncode, done.stdout) == (3, "Ada 2 ['--training.lr', '0.1', '--seed=3']\n")
    refused(cli("greet", "--tims", "2"), "there is no option '--tims'", "Did you mean '--times'")
    refused(cli("gret", "Ada"), "no command 'gret'", "Did you mean 'greet'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nothing.yaml"], ["there is no recipe 'nothing.yaml'"]),
        (["run"], ["run needs a recipe", "tombola run digits", "tombola list recipes"]),
        (
            ["run", "digit"],
            ["there is no recipe 'digit'", "tombola list recipes", "Did you mean 'digits'"],
        ),
        (
            ["run", "digits.yaml"],
            ["there is no recipe 'digits.yaml'", "ships with tombola is named 'digits'"],
        ),
        (["demo", "--worker", "2"], ["--worker"]),
        (["rum", "quick.yaml"], ["no command 'rum'", "Did you mean 'run'"]),
        (["run", "quick.yaml", "--arms.lth.rate", "20"], ["20 % is 0.2"]),
        (["run", "quick.yaml", "--arms.lth.rat", "0.2"], ["Did you mean 'rate'"]),
        (["run", "quick.yaml", "--workers", "0"], ["workers is 0"]),
        (["run", "quick.yaml", "--workers", "two"], ["two"]),
        (
            ["run", "quick.yaml", "--worker", "2"],
            ["there is no option '--worker'", "Did you mean '--workers'"],
        ),
        (
            ["run", "quick.yaml", "--arms.colt-2.partitions", "11"],
            ["partitions is 11", "10 classes"],
        ),
        (["run", "quick.yaml", "--arms.colt-2.partitions", "10"], ["one output", "at most 5"]),
        (["run", "quick.yaml", "--prunable", "all"], ["head.weight", "no_head"]),
        (["run", "quick.yaml", "--prunable", "conv"], ["no prunable weight"]),
        (["run", "quick.yaml", "--model", "lenet5"], ["lenet5", "8"]),
        (["run", "quick.yaml", "--model", "lenet"], ["no 'lenet'", "Did you mean"]),
        (["run", "quick.yaml", "--data", "minst"], ["Did you mean 'mnist'"]),
        (
            ["run", "quick.yaml", "--data", "{name: mnist, download: false}"],
            ["MNIST", "TOMBOLA_DATA"],
        ),
        (["run", "quick.yaml", "--data", "{name: arrays, path: x.npz}"], ["x.npz"]),
        (["run", "quick.yaml", "--until", "{density_total: 0.01}"], ["the cap is"]),
        (["run", "quick.yaml", "--data", "mymodule:data"], ["mymodule"]),
        (["run", "quick.yaml", "--model", "json:loads"], ["'json:loads' failed: TypeError"]),
        (
            ["run", "quick.yaml", "--only-replicates", "0-9999999999"],
            ["no recipe has that many replicates"],
        ),
        (["runs", "merge", "a", "b", "--runs", "c"], ["runs merge takes no --runs"]),
        (["runs", "pack", "a"], ["runs pack needs a run folder and the folder to pack it into"]),
        (["ticket"], ["ACTION"]),
        (["ticket", "info", "nothing.safetensors"], ["nothing.safetensors"]),
        (["ticket", "info", "quick.yaml"], ["quick.yaml"]),
        (["ticket", "verify", "quick.yaml", "--fast"], ["--fast"]),
        (["list", "model"], ["models"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, arguments, said):
    refused(cli(*arguments), *said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train_labels": np.array([0, 1, 2, 5])}, "class"),
        ({"train_labels": np.array([0, 1, 2])}, "3"),
        ({"test_labels": np.array([0, 1, 2, -1])}, "-1"),
        ({"train_images": np.full((4, 4, 4), np.nan, np.float32)}, "NaN"),
    ],
)
def test_data_that_are_wrong_are_one_line_and_exit_code_2(cli, tmp_path, change, said):
    images, labels = np.zeros((4, 4, 4), np.uint8), np.array([0, 1, 2, 3])
    arrays = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    np.savez(tmp_path / "d.npz", **(arrays | change))
    refused(
        cli("run", "quick.yaml", "--data", f"{{name: arrays, path: {tmp_path / 'd.npz'}}}"), said
    )


def test_an_arm_that_fails_is_told_and_the_exit_code_is_1(cli):
    done = cli("run", "quick.yaml", "--workers", "1", "--training.lr", "1e30")
    assert done.returncode == 1
    assert "replicate 0: failed: round" in done.stderr
    assert "at step" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_users_own_data_model_and_score_go_in_by_name(cli, tmp_path):
    (tmp_path / "mine.py").write_text(
        """
import torch
from torch import nn

def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    images = torch.rand(400, 1, 4, 4, generator=generator)
    images[torch.arange(400), 0, labels, labels] += 3
    return images[:300], labels[:300], images[300:], labels[300:]

def net(num_classes, *, image_shape, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, num_classes))

def negative(state, mask, context):
    return {name: -state[name].abs() for name in mask}
"""
    )
    done = cli(
        *(
            "run",
            "quick.yaml",
            "--data",
            "mine:data",
            "--model",
            "{name: 'mine:net', head: '3', width: 30}",
        ),
        *("--arms.lth.score", "mine:negative", "--training.epochs", "5"),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Dense network: test accuracy \d+\.\d\d %", done.stdout)


def test_what_masks_and_flops_leave_out_is_told_and_recorded_wherever_a_person_looks(cli, tmp_path):
    (tmp_path / "turning.py").write_text(
        """
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.turn, self.bilinear = orthogonal(nn.Linear(64, 64)), nn.Bilinear(64, 64, 8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.turn(x.flatten(1)).tanh()
        return self.head(self.bilinear(x, x))

def net(num_classes):
    return Net(num_classes)
"""
    )
    of = "turn.parametrizations.weight.original"
    not_pruned = (
        f"not pruned: 1 weight has no mask and is not pruned: {of} (_Orthogonal computes the weight"
    )
    only = "{lth: {method: lth, rate: 0.2}}"
    mine = (
        "quick.yaml",
        "--model",
        "turning:net",
        "--training.lr",
        "0.001",
        "--arms",
        only,
        "--workers",
        "1",
    )
    planned = json.loads(cli("run", *mine, "--dry-run", "--json").stdout)
    assert planned["not pruned"] == (
        f"1 weight has no mask and is not pruned: {of} (_Orthogonal computes the weight, and its "
        f"zeros need not stay zeros); prunable: ['{of}'] names it; init xavier leaves them as they "
        "are drawn"
    )
    assert planned["FLOP"] == "not counted: aten::_trilinear, what computes the weight of 'turn'"
    done = cli("run", *mine)
    assert done.returncode == 0, done.stderr
    assert not_pruned in done.stderr
    assert "FLOP: not counted: aten::_trilinear" in done.stderr
    (run,) = [path.parents[1] for path in tmp_path.glob("runs/*/machine/run.json")]
    assert {"not pruned", "FLOP"} <= json.loads((run / "machine/run.json").read_text())[
        "facts"
    ].keys()
    records = [
        json.loads(line) for line in (run / "machine/records.jsonl").read_text().splitlines()
    ]
    assert all(record["unmasked"] == [of] for record in records)
    assert all(
        record["uncounted"] == planned["FLOP"].removeprefix("not counted: ").split(", ")
        for record in records
    )
    assert of in (run / "report.html").read_text()
    path = next(run.glob("tickets/lth/*/*.safetensors"))
    told = cli("ticket", "info", path).stdout
    assert "unmasked" in told
    assert of in told


def test_ticket_info_says_what_a_ticket_holds(cli, ticket):
    done = cli("ticket", "info", ticket)
    assert done.returncode == 0
    assert "fc.weight" in done.stdout
    assert "75" in done.stdout
    assert "lth" in done.stdout


def test_a_process_leaves_with_the_exit_code(process, ticket):
    assert process("ticket", "verify", ticket).returncode == 0
    refused(process("ticket", "verify", "nothing.safetensors"), "nothing.safetensors")


def test_ticket_verify_takes_what_is_whole_and_refuses_what_is_altered(cli, ticket):
    assert cli("ticket", "verify", ticket).returncode == 0
    data = bytearray(ticket.read_bytes())
    data[-1] ^= 1
    ticket.write_bytes(data)
    done = cli("ticket", "verify", ticket)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tombola: {ticket} was altered or damaged")
    assert cli("ticket", "verify", ticket, "nothing").returncode == 2
    ticket.write_bytes(data[:40])
    refused(cli("ticket", "info", ticket), str(ticket))


@pytest.fixture
def unread(cli, tmp_path):
    """Call ``tombola`` as a process whose results nobody reads."""

    def call(*arguments):
        reading, writing = os.pipe()
        os.close(reading)
        with (tmp_path / "stderr").open("w") as stderr:
            process = forks.begin(*arguments, cwd=tmp_path, stdout=writing, stderr=stderr)
        os.close(writing)
        return Done(process.wait(), "", (tmp_path / "stderr").read_text())

    return call


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full"
)
@pytest.mark.parametrize(
    "command", [["list"], ["list", "arms"]]
)  # what print prints, and what rich does
def test_a_full_disk_is_told_in_one_line(command, tmp_path):
    with Path("/dev/full").open("w") as full:
        begun = [sys.executable, "-m", "tombola", *command]
        done = subprocess.run(
            begun, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    refused(done, "cannot be written: No space left on device")


def test_the_exit_code_says_what_was_done_and_not_what_was_read(cli, unread, ticket):
    run = ("run", "quick.yaml", "--workers", "1", "--quiet")
    assert cli(*run).returncode == 0
    for command in (run, ("runs",), ("list",), ("list", "arms"), ("--help",)):
        done = unread(*command)
        assert (done.returncode, done.stderr) == (0, "")
    done = unread(*run, "--training.lr", "1e30")
    assert (done.returncode, done.stderr) == (1, "")
    damaged = ticket.with_name("damaged.safetensors")
    damaged.write_bytes(ticket.read_bytes()[:-1])
    done = unread("ticket", "verify", ticket, damaged, "nothing")
    assert done.returncode == 2
    assert [line.split()[1] for line in done.stderr.splitlines()] == [str(damaged), "nothing"]


def test_run_says_what_to_do_about_a_damaged_ticket_of_its_folder(cli, tmp_path):
    run = (
        "run",
        "quick.yaml",
        "--workers",
        "1",
        "--arms",
        "{lth: {method: lth, rate: 0.2}}",
        "--until.rounds",
    )
    cli(*run, 2)
    (ticket,) = tmp_path.glob("runs/*/tickets/lth/replicate-0/round-001-*.safetensors")
    whole = ticket.read_bytes()
    ticket.write_bytes(whole[:-1])
    path = ticket.relative_to(tmp_path)
    refused(
        cli(*run, 3),
        f"{path} is truncated",
        "; move it away, and running the recipe does its round again",
    )
    ticket.rename(tmp_path / "damaged")
    assert cli(*run, 3).returncode == 0
    assert ticket.read_bytes() == whole


def test_ticket_verify_looks_at_every_file(cli, ticket):
    done = cli("ticket", "verify", "quick.yaml", ticket, "nothing")
    assert done.returncode == 2
    assert "t.safetensors: verified" in done.stdout
    assert len(done.stderr.strip().splitlines()) == 2


def test_overrides_may_stand_before_the_recipe(cli):
    refused(cli("run", "--arms.lth.rate", "20", "--workers", "1", "quick.yaml"), "20 % is 0.2")


def test_list_names_what_a_recipe_can_name(cli):
    done = cli("list")
    assert done.returncode == 0
    for name in ("digits", "cifar100", "lenet_300_100", "resnet18", "magnitude"):
        assert name in done.stdout


def test_without_arguments_the_help_is_shown(cli):
    done = cli()
    assert done.returncode == 0
    assert "COMMAND" in done.stdout


def test_json_is_json_alone(cli, ticket, tmp_path):
    told = json.loads(cli("run", "quick.yaml", "--print_config", "--json").stdout)
    assert parse(told) == read(tmp_path / "quick.yaml")
    found = json.loads(cli("run", "quick.yaml", "--workers", "1", "--json").stdout)
    assert found["answer"][-1].startswith(
        "colt-2 and lth have no results around 50, 20 and 10 % density"
    )
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads(cli("runs", "pack", folder, "packed", "--json").stdout) == {
        "folder": "packed"
    }
    json.loads(cli("runs", "merge", folder, "packed", "--json").stdout)
    exported = json.loads(cli("ticket", "export", ticket, "--to", "state_dict", "--json").stdout)
    assert (tmp_path / exported["path"]).exists()


def test_json_lists_names_and_no_contracts(cli):
    assert json.loads(cli("list", "scores", "--json").stdout) == {
        "scores": entries("tombola.scores")
    }


@pytest.mark.parametrize("catalogue", ["scores", "scopes", "methods", "models", "sections"])
def test_a_catalogue_says_in_one_line_what_each_entry_is(cli, catalogue):
    lines = cli("list", catalogue).stdout.splitlines()
    for name in entries(PACKAGES.get(catalogue, f"tombola.{catalogue}")):
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert len(line.split()) > 1


@pytest.mark.parametrize("catalogue", ["data", "models"])
def test_the_task_of_each_entry_is_listed_as_the_entry_itself_has_it(cli, catalogue):
    lines = cli("list", catalogue).stdout.splitlines()
    for name in entries(f"tombola.{catalogue}"):
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert line.split()[1] == task_of(f"tombola.{catalogue}", name)


def test_a_run_that_cannot_be_read_does_not_hide_the_others(cli, tmp_path):
    cli("run", "quick.yaml", "--workers", "1")
    cli("run", "quick.yaml", "--workers", "1", "--name", "other")
    (folder,) = (tmp_path / "runs").glob("other-*")
    with (folder / "machine/records.jsonl").open("a") as file:
        file.write('{"arm": "lth", "replicate": 0, "round": 7}\n')
    done = cli("runs")
    assert done.returncode == 0
    assert "unreadable" in done.stdout
    assert "complete" in done.stdout


def test_runs_counts_the_replicates_that_the_recipe_asks_for_and_those_that_it_does_not(cli):
    run = ("run", "quick.yaml", "--workers", "1", "--quiet", "--replicates")
    assert [cli(*run, replicates).returncode for replicates in (2, 1)] == [0, 0]
    assert "1 of 1, and 1 more" in cli("runs").stdout
    (line,) = json.loads(cli("runs", "--json").stdout)
    assert (line["replicates"], line["further"]) == ([1, 1], 1)


# As ``tombola``, but with so little memory that images are read from their files.
STREAMING = """
from tombola.__main__ import main
from tombola.data import folders
folders.free_memory = lambda _: 10
main()
"""


def test_a_run_that_is_interrupted_says_so_last_whoever_reads_its_images(cli, tmp_path):
    for number in range(8):
        for part in ("train", "test"):
            folder = tmp_path / "pets" / part / f"class-{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (30 * number,) * 3).save(folder / f"{number}.png")
    data = "{name: image_folder, path: pets, size: 4, valid: 0, workers: 1}"
    command = [
        sys.executable,
        "-c",
        STREAMING,
        "run",
        "quick.yaml",
        "--workers",
        "1",
        "--data",
        data,
    ]
    changes = ["--arms", "{lth: {method: lth, rate: 0.01}}", "--until.rounds", "300"]
    with subprocess.Popen(
        [*command, *changes], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        begun = next((line for line in process.stderr if "round 1 " in line), "")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().splitlines()
    assert begun
    assert process.returncode == 130
    assert said[-1] == "tombola: stopped; the same command goes on from here"


def test_a_recipe_that_ships_is_run_by_its_name_from_anywhere(cli):
    done = cli("run", "digits", "--scale", "small", "--print_config")
    assert (done.returncode, "name: digits-small" in done.stdout) == (0, True)


def test_a_file_comes_before_a_recipe_of_its_name(cli, tmp_path):
    (tmp_path / "digits").write_text(RECIPE)
    assert "name: quick" in cli("run", "digits", "--print_config").stdout


def test_list_recipes_says_what_each_is_and_costs(cli):
    table = cli("list", "recipes").stdout
    found = json.loads(cli("list", "recipes", "--json").stdout)["recipes"]
    assert [one["name"] for one in found] == recipes.names()
    assert all(one["summary"] and one["cost"] for one in found)
    for one in found:
        assert any(line.split()[:1] == [one["name"]] for line in table.splitlines())
    assert f"recipes: {', '.join(recipes.names())}" in cli("list").stdout


def test_the_demo_runs_the_recipe_of_the_digits(cli, monkeypatch):
    def run(recipe, **_):
        assert recipe == read("digits")
        raise InputError("nothing is trained here")

    monkeypatch.setattr("tombola.experiments.experiment.run", run)
    refused(cli("demo", "--quiet"), "nothing is trained here")


# ---- what was meant, and reports that judge again


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hepl"], "tombola does not take '--hepl'. Did you mean '--help'? (see tombola --help)"),
        (["runs", "--hepl"], "tombola runs does not take '--hepl'. Did you mean '--help'?"),
        (["run", "quick.yaml", "--hepl"], "there is no option '--hepl'. Did you mean '--help'?"),
        (
            ["ticket", "info", "x", "--jsn"],
            "tombola ticket info does not take '--jsn'. Did you mean '--json'?",
        ),
        (
            ["list", "Model"],
            "there is no CATALOGUE 'Model'; there are: data, models, tasks, scores, scopes, methods, kernels, "
            "exports, executors, sections, arms, entries, recipes. Did you mean 'models'?",
        ),
        (
            ["ticket", "inof"],
            "there is no ACTION 'inof'; there are: info, verify, export. Did you mean 'info'?",
        ),
        (["Runs"], "there is no command 'Runs'; "),
        (["a\nb"], r"there is no command 'a\nb'"),
        (["run", "quick.yaml", "--training.optimizer", "AdamW"], "Did you mean 'adamw'?"),
        (["run", "quick.yaml", "--data", "FashionMNIST"], "Did you mean 'fashion_mnist'?"),
        (["run", "quick.yaml", "--model", "resnet-18"], "Did you mean 'resnet18'?"),
        (["run", "quick.yaml", "--arms.lth.method", "imp"], "Did you mean 'lth'?"),
        (["run", "quick.yaml", "--arms.lth.score", "L1"], "Did you mean 'magnitude'?"),
        (["run", "quick.yaml", "--training.learning_rate", "1"], "Did you mean 'lr'?"),
        (
            ["run", "quick.yaml", "--only-replicates", "0-999999999"],
            "no recipe has that many replicates",
        ),
        (["run", "quick.yaml", "--only-replicates", "0-999," * 50 + "0"], "asked for is 1"),
        (["run", "x" * 300], "there is no recipe 'xxx"),
        (["report", "x" * 300], "File name too long"),
        (["runs", "--runs", "x" * 300], "File name too long"),
        (["report", "x", "--verdict.margin"], "--verdict.margin has no value"),
        (
            ["report", "x", "--training.lr", "1"],
            "report takes --verdict.NAME, such as --verdict.margin 0.01",
        ),
        (["completion", "bsh"], "Did you mean 'bash'?"),
    ],
    ids=range(22),
)
def test_what_was_meant_is_said_in_one_line(cli, arguments, said):
    refused(cli(*arguments), said)


def test_what_an_operating_system_or_the_memory_refuses_is_one_line(cli, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("tombola.folder.listing.runs", no_memory)
    refused(cli("runs"), "out of memory")


def test_a_report_judges_again_by_another_margin_and_changes_nothing_of_the_run(cli, tmp_path):
    more = [
        "--workers",
        "1",
        "--quiet",
        "--replicates",
        "3",
        "--arms",
        "{lth: {method: lth, rate: 0.2}}",
    ]
    assert cli("run", "quick.yaml", *more).returncode == 0
    [folder] = (tmp_path / "runs").iterdir()
    recipe = (folder / "recipe.yaml").read_bytes()
    without = cli("report", folder).stdout
    by_margin = cli("report", folder, "--verdict.margin", "0.01")
    assert by_margin.returncode == 0, by_margin.stderr
    assert "within 1 percentage point?" in by_margin.stdout
    assert "within" not in without
    note = "judged by verdict.margin 0.01; the recipe of the run has none"
    assert note in by_margin.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert note in page
    assert "margin: null" in page  # the recipe that the page shows is the run's own
    assert "judged by" not in cli("report", folder, "--verdict.margin", "null").stdout
    refused(
        cli("report", folder, "--verdict.margin", "1"), "verdict.margin is 1.0; it is a fraction"
    )
    refused(
        cli("report", folder, "--verdict.margn", "1"),
        "there is no 'verdict.margn'",
        "Did you mean 'margin'?",
    )
    assert (folder / "recipe.yaml").read_bytes() == recipe
    assert cli("report", folder).stdout == without
