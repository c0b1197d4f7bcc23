"""Functions of the user's own: tried before anything is trained, and whatever they do is one
line that names them.
"""

import sys
import textwrap

import numpy as np
import pytest
import torch
from tests.test_bombs import WHOLE, refused
from tests.test_cli import cli  # noqa: F401 - a fixture

from tombola.data.dataset import from_tensors
from tombola.data.loading import load
from tombola.experiments import experiment
from tombola.exports.writing import export
from tombola.folder.environments import environment
from tombola.folder.runs import Run
from tombola.ground import catalogue
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, DataError, InputError
from tombola.masks.pruning import prune
from tombola.masks.scopes import Group
from tombola.models.building import build
from tombola.schema.recipe import parse
from tombola.tickets import Ticket

# In four lines: messages name the line of a function.
IMPORTS = (
    "import math, os, random, sys, warnings\nimport numpy as np\n"
    "import torch; from tombola.ground.metrics import Metric\n"
    "from torch import nn; from tombola.tasks.rows import Rows\n"
)
IMAGES = "torch.arange(64.).view(8, 1, 2, 4)"
GOOD = f"({IMAGES}, torch.arange(8) % 2, {IMAGES}, torch.arange(8) % 2)"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write functions into a module of the user's own and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = []

    def write(source, name="users_own"):
        (tmp_path / f"{name}.py").write_text(IMPORTS + textwrap.dedent(source))
        sys.modules.pop(name, None)
        made.append(name)
        return name

    yield write
    for name in made:
        sys.modules.pop(name, None)


# ---- data


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            f"({IMAGES}, torch.tensor([0, 1] * 3 + [0, 2**40]), {IMAGES}, torch.arange(8) % 2)",
            "class 2 has no training image (1099511627774 of 1099511627777 classes have none)",
        ),
        (
            f"({IMAGES}, torch.arange(8) % 2, {IMAGES}, torch.tensor([0] * 7 + [2**40]))",
            "class 2 has no training",
        ),
        (
            f"({IMAGES}, -torch.arange(8), {IMAGES}, torch.arange(8) % 2)",
            "training labels run from -7 to 0",
        ),
        (
            f"({IMAGES}, np.full(8, 2**64 - 1, np.uint64), {IMAGES}, [0] * 8)",
            "labels run up to 18446744073709551615",
        ),
        (
            f"({IMAGES}, torch.arange(8.) % 2, {IMAGES}, torch.arange(8) % 2)",
            "labels are float32; whole numbers",
        ),
        (
            f"({IMAGES}, [0, 1, [2]], {IMAGES}, torch.arange(8) % 2)",
            "training labels make no array of numbers",
        ),
        (
            "([[1.], [2., 3.]], [0, 1], [[1.], [2.]], [0, 1])",
            "training images make no array of numbers",
        ),
        (
            f"({IMAGES}.to_sparse(), [0, 1] * 4, {IMAGES}, [0, 1] * 4)",
            "training images are a tensor that is sparse",
        ),
        (
            f"({IMAGES}.to('meta'), [0, 1] * 4, {IMAGES}, [0, 1] * 4)",
            "images are a tensor that is on the device meta",
        ),
        (
            f"(torch.quantize_per_tensor({IMAGES}, .1, 0, torch.quint8), [0, 1] * 4, {IMAGES}, [0, "
            "1] * 4)",
            "training images are a tensor that is quantised",
        ),
        (
            f"({IMAGES} * 1j, [0, 1] * 4, {IMAGES}, [0, 1] * 4)",
            "images are complex64; real numbers are needed",
        ),
        (
            f"({IMAGES} * math.nan, [0, 1] * 4, {IMAGES}, [0, 1] * 4)",
            "training image 0 holds NaN or infinite values",
        ),
        (
            f"(np.full((8, 1, 2, 4), 1e300), [0, 1] * 4, {IMAGES}, [0, 1] * 4)",
            "image 0 holds NaN or infinite values",
        ),
        (f"({IMAGES}[:0], [], {IMAGES}, [0, 1] * 4)", "whole numbers are needed"),
        (
            f"({IMAGES}[:0], torch.arange(0), {IMAGES}, [0, 1] * 4)",
            "there are no training images; at least one",
        ),
        (
            f"({IMAGES}, [0, 1], {IMAGES}, [0, 1] * 4)",
            "8 training images but 2 training labels; there must be one",
        ),
        (
            f"({IMAGES}, [0, 1] * 4)",
            "'users_own:data' gives 2 values; it must give a Dataset, or training images",
        ),
        ("None", "'users_own:data' gives NoneType; it must give a Dataset"),
        ("(object(), object(), object(), object())", "labels are object; whole numbers are needed"),
        ("sys.exit()", "'users_own:data' failed: SystemExit"),
        ("sys.exit(0)", "'users_own:data' failed: SystemExit: 0 (users_own.py, line 6)"),
        ("1 / 0", "failed: ZeroDivisionError: division by zero (users_own.py, line 6)"),
        ("(_ for _ in ()).throw(GeneratorExit)", "'users_own:data' failed: GeneratorExit"),
        (
            "(_ for _ in ()).throw(BaseException('a\\nb'))",
            "'users_own:data' failed: BaseException: a b",
        ),
        ("next(iter(()))", "'users_own:data' failed: StopIteration"),
        ("data(1)", "'users_own:data' failed: TypeError: data() takes 0 positional arguments"),
    ],
    ids=range(26),
)
@pytest.mark.filterwarnings("ignore")  # quantised tensors are on their way out
def test_data_that_are_none_are_one_line_that_names_the_function(own, made, said):
    name = own(f"def data():\n    return {made}\n") + ":data"
    with pytest.raises(InputError) as caught:
        load(name)
    refused(caught.value)
    assert said in str(caught.value)
    assert name in str(caught.value)


def test_a_label_of_a_slip_in_a_file_asks_for_no_memory(tmp_path):
    images, labels = np.zeros((4, 4, 4), np.uint8), np.array([0, 1, 2, 3])
    arrays = {
        "train_images": images,
        "train_labels": np.array([0, 1, 2, 2**40]),
        "test_images": images,
    }
    np.savez(tmp_path / "slip.npz", **arrays, test_labels=labels)
    with pytest.raises(DataError, match="class 3 has no training image"):
        load("arrays", options={"path": str(tmp_path / "slip.npz")})
    with pytest.raises(DataError, match="class 2 has no training image"):
        from_tensors(
            torch.zeros(4, 2, 2), [0, 1, 0, 1], torch.zeros(2, 2, 2), [0, 1], num_classes=2**50
        )


def test_an_interrupt_in_a_function_of_ones_own_stays_an_interrupt(own):
    with pytest.raises(KeyboardInterrupt):
        load(own("def data():\n    raise KeyboardInterrupt\n") + ":data")


@pytest.mark.filterwarnings("always")
def test_a_warning_in_a_function_of_ones_own_is_one_line_with_its_place(own, cli):  # noqa: F811
    name = own(f"def data():\n    warnings.warn('a\\nb', stacklevel=1)\n    return {GOOD}\n")
    done = cli(
        "run",
        "quick.yaml",
        "--dry-run",
        "--data",
        f"{{name: '{name}:data', valid: 0}}",
        "--until.rounds",
        "1",
        "--arms",
        "{lth: {method: lth, rate: 0.2}}",
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) == {r"tombola: users_own.py, line 6: UserWarning: a\nb"}


def test_data_that_are_drawn_unseeded_are_told_before_anything_is_trained(own):
    source = f"""
    def drawn():
        images = torch.rand(8, 1, 2, 4)
        return images, torch.arange(8) % 2, images, torch.arange(8) % 2
    def same():
        return {GOOD}
    """
    name = own(source)
    with pytest.raises(
        DataError,
        match=r"gives other data each time it is called .*draw from a generator with a seed",
    ):
        experiment.plan(parse(WHOLE | {"data": {"name": f"{name}:drawn", "valid": 0}}))
    experiment.plan(parse(WHOLE | {"data": {"name": f"{name}:same", "valid": 0}}))


# ---- models


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "def f(num_classes): sys.exit(1)",
            "'users_own:f' failed: SystemExit: 1 (users_own.py, line 5)",
        ),
        (
            "def f(): return nn.Linear(1, 1)",
            "'users_own:f' failed: TypeError: f() takes 0 positional arguments but 1 ",
        ),
        (
            "def f(num_classes): return 5",
            "'users_own:f' returned a int; a model is a torch.nn.Module",
        ),
        (
            "class f(nn.Module):\n    def __init__(self, n): self.x = nn.Linear(1, 1)",
            "cannot assign module before",
        ),
        (
            "class f(nn.Linear):\n    def __init__(self, n): super().__init__(4, n)\n"
            "    def forward(self, x): sys.exit(2)",
            "cannot take images of shape (1, 2, 2): SystemExit: 2",
        ),
        (
            "class f(nn.Linear):\n    def __init__(self, n): super().__init__(4, n)\n"
            "    def forward(self, x): return None",
            "model 'users_own:f' gives a NoneType for 2 images",
        ),
    ],
    ids=range(6),
)
def test_a_model_that_is_none_is_one_line_that_names_the_function(own, source, said):
    name = f"{own(source)}:f"
    with pytest.raises(ConfigError) as caught:
        build(name, 2, (1, 2, 2), seed=0)
    refused(caught.value)
    assert said in str(caught.value)


# ---- scores


def planned(score, method="lth"):
    arm = {"method": "lth", "rate": 0.2} if method == "lth" else {"method": "gradual", "densities": [0.5],
                                                                   "pace": {"every": 2}}  # fmt: skip
    return experiment.plan(parse(WHOLE | {"arms": {"a": arm | {"score": score}}}))


@pytest.mark.parametrize("method", ["lth", "gradual"])
@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "def f(state, mask): return {}",
            "'users_own:f' failed: TypeError: f() takes 2 positional arguments but 3 ",
        ),
        ("def f(state, mask, context): sys.exit()", "'users_own:f' failed: "),
        (
            "def f(state, mask, context): return None",
            "'users_own:f': scores are a NoneType; they are a mapping",
        ),
        (
            "def f(state, mask, context): return {}",
            "'users_own:f': there is no score for 'fc1.weight'",
        ),
        (
            "def f(state, mask, context): return {name: [1] for name in mask}",
            "scores of 'fc1.weight' are a list; they",
        ),
        (
            "def f(state, mask, context): return {name: torch.ones(1) for name in mask}",
            "have the shape (1,), its mask",
        ),
        (
            "def f(state, mask, context): return {name: state[name] * math.nan for name in mask}",
            "1280 scores of 'fc1.weight' are NaN",
        ),
        (
            "def f(state, mask, context): return {name: state[name] * 1j for name in mask}",
            "are complex64; an ordinary",
        ),
        (
            "def f(state, mask, context): return {name: state[name].to_sparse() for name in mask}",
            "are sparse float32",
        ),
        (
            "def f(state, mask, context): return {n: state[n + 'x'] for n in mask}",
            "KeyError: 'fc1.weightx' (users_own",
        ),
    ],
    ids=range(10),
)
def test_a_score_is_tried_before_anything_is_trained(own, source, said, method):
    with pytest.raises(ConfigError) as caught:
        planned(f"{own(source)}:f", method)
    refused(caught.value)
    assert said in str(caught.value)
    assert "a function of your own as score is called as score(state, mask, context)" in str(
        caught.value
    )


def test_trying_a_score_changes_nothing(own):
    source = """
    def f(state, mask, context):
        torch.rand(3)
        for name in mask:
            state[name].zero_()
            mask[name].zero_()
        return {name: torch.rand(mask[name].shape) for name in mask}
    """
    before = torch.get_rng_state()
    plans = planned(f"{own(source)}:f")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(bool(keep.all()) for keep in plans.mask.values())
    assert bool(plans.task.initial_state()["fc1.weight"].any())


@pytest.mark.parametrize("needs", ["weights", "data"])
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (
            "sys.exit(7)",
            "'users_own:f' failed: SystemExit: 7 (users_own.py, line 10); a function of your own "
            "as sc",
        ),
        (
            "return {}",
            "'users_own:f': there is no score for 'fc1.weight'; a function of your own as score is "
            "called",
        ),
        ("return None", "'users_own:f': scores are a NoneType; they are a mapping"),
        (
            "return {n: k * math.nan for n, k in mask.items()}",
            "'users_own:f': 1280 scores of 'fc1.weight' are ",
        ),
        (
            "return {f'my.{n}': k for n, k in mask.items()}",
            "'users_own:f': there is no score for 'fc1.weight'",
        ),
    ],
    ids=["leaves", "nothing", "none", "NaN", "names"],
)
def test_a_score_that_breaks_its_promises_later_fails_its_arm_alone(
    own, tmp_path, does, said, needs
):
    source = f"""
    calls = []
    def f(state, mask, context):
        calls.append(1)
        if len(calls) > 1:
            {does}
        return {{name: state[name].abs() for name in mask}}
    f.needs = "{needs}"
    """
    arms = {
        "mine": {"method": "lth", "rate": 0.2, "score": f"{own(source)}:f"},
        "lth": WHOLE["arms"]["lth"],
    }
    done = experiment.run(
        parse(WHOLE | {"arms": arms, "until": {"rounds": 1}}), runs=tmp_path, workers=1
    )
    assert not done.complete
    assert {record["arm"] for record in done.records if record["round"] == 1} == {"lth"}
    [note] = [note for note in done.notes if note.startswith("arm mine, replicate 0: failed: ")]
    assert said in note
    assert "\n" not in note


# ---- kernels

KERNEL = """
from tombola.kernels.protocol import Kernel, Program

class K(Kernel):
    def prepare(self, model, handle, training, *, loss, optimizer, reseed):
        def gradients(batch):
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            return value.detach()

        def update():
            optimizer.step()
            handle.mask_weights()

        return Program(gradients, update)
"""


def with_kernel(own, *changes, name="users_own", **more):
    source = KERNEL
    for before, after in changes:
        assert before in source
        source = source.replace(before, after)
    return parse(WHOLE | {"training": {"epochs": 1, "step": f"{own(source, name)}:K"}} | more)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("class K(Kernel)", "class K"),
            "'users_own:K' gives a K; a function of your own as kernel is called as",
        ),
        (
            ("(Kernel):", "(Kernel):\n    def __init__(self): sys.exit(2)"),
            "'users_own:K' failed: SystemExit: 2",
        ),
        (
            ("def prepare", "def prepared"),
            "'users_own:K' failed: TypeError: Can't instantiate abstract class K",
        ),
        (
            ("return Program(gradients, update)", "pass"),
            "'users_own:K' prepares a NoneType; a Program of functions",
        ),
        (
            ("gradients, update)", "gradients, 5)"),
            "'users_own:K' prepares a Program; a Program of functions is needed",
        ),
        (("handle, training,", "handle,"), "'users_own:K' failed: TypeError: K.prepare() takes"),
        (
            ("value.backward()", "1 / 0"),
            "'users_own:K' failed: ZeroDivisionError: division by zero (users_own.py, lin",
        ),
        (
            ("value.detach()", "value.item()"),
            "'users_own:K' gives a float as the loss of a batch; a detached scalar",
        ),
        (
            ("value.detach()", "value"),
            "gives a tensor of shape [] with a gradient as the loss of a batch; a detached",
        ),
        (
            ("value.detach()", "value.detach()[None]"),
            "gives a tensor of shape [1] as the loss of a batch; a detached",
        ),
        (
            ("value.detach()", "value.detach() * math.nan"),
            "fails: the loss is nan at step 1 of the kernel 'users_own",
        ),
        (
            ("optimizer.step()", "sys.exit()"),
            "'users_own:K' failed: SystemExit (users_own.py, line ",
        ),
        (
            ("handle.mask_weights()", "[p.data.fill_(1.0) for p in model.parameters()]"),
            "1 pruned weights of 'fc1.weight' are not zero after training (after step 1 of the "
            "kernel 'users_own:K')",
        ),
        (("return Program(", "return print('') or Program("), None),
        (
            ("    def prepare", "    def inference(self, model): return 7\n    def prepare"),
            "'users_own:K' gives a int for inference; a torch.nn.Module is needed",
        ),
        (
            (
                "    def prepare",
                "    def refusal(self, *_): return 'that needs the weather'\n    def prepare",
            ),
            "training.step is users_own:K; that needs the weather",
        ),
    ],
    ids=range(16),
)
def test_a_kernel_is_tried_before_anything_is_trained(own, change, said):
    if said is None:
        experiment.plan(with_kernel(own, change))
        return
    with pytest.raises(InputError) as caught:
        experiment.plan(with_kernel(own, change))
    refused(caught.value)
    assert said in str(caught.value)


def test_a_kernel_that_fails_later_fails_its_arm_alone(own, tmp_path):
    # Its first two trainings are the trial and the dense network's.
    later = (
        "        def gradients(batch):",
        "        K.made = getattr(K, 'made', 0) + 1\n        def gradients(batch):",
    )
    broken = (
        "value = loss(model, batch)",
        "value = loss(model, batch) * (math.inf if K.made > 1 else 1)",
    )
    name = own(KERNEL.replace(*later).replace(*broken))
    arms = {
        "mine": {"method": "lth", "rate": 0.2, "training": {"step": f"{name}:K"}},
        "lth": WHOLE["arms"]["lth"],
    }
    done = experiment.run(
        parse(WHOLE | {"arms": arms, "until": {"rounds": 1}}), runs=tmp_path, workers=1
    )
    assert not done.complete
    assert {record["arm"] for record in done.records if record["round"] == 1} == {"lth"}
    [note] = [note for note in done.notes if note.startswith("arm mine, replicate 0: failed: ")]
    assert "the loss is inf at step 1 of the kernel 'users_own:K'" in note


# ---- executors

EXECUTOR = """
from concurrent.futures import Future
from tombola.executors.worker import Worker

class E:
    slots = 1

    def __init__(self, setting):
        self.worker = Worker(setting.task, setting.store, setting.progress)

    def submit(self, work, digest):
        future = Future()
        self.worker.do(work, digest)
        future.set_result(None)
        return future

    def close(self, *, now):
        pass
"""
BOTH = WHOLE | {
    "arms": {"lth": WHOLE["arms"]["lth"], "more": {"method": "lth", "rate": 0.3}},
    "until": {"rounds": 1},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("setting):", "):"),
            "'users_own:E' failed: TypeError: E.__init__() takes 1 positional argument but 2 were",
        ),
        (
            ("self.worker =", "sys.exit(4)\n        self.worker ="),
            "'users_own:E' failed: SystemExit: 4 (users_own.py, ",
        ),
        (("slots = 1", "pass"), "'users_own:E' gives a E, which lacks slots, submit or close"),
        (("slots = 1", "slots = 0"), "'users_own:E' has 0 slots; it is a whole number from 1 on"),
    ],
    ids=range(4),
)
def test_an_executor_that_is_none_is_one_line_that_names_it(own, tmp_path, change, said):
    name = own(EXECUTOR.replace(*change))
    with pytest.raises(ConfigError) as caught:
        experiment.run(parse(BOTH), runs=tmp_path, workers=1, executor=f"{name}:E")
    refused(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("future = Future()", "1 / 0"),
            "'users_own:E' failed: ZeroDivisionError: division by zero (users_own.py",
        ),
        (
            ("return future", "return 5"),
            "'users_own:E' submits work and gives a int; a concurrent.futures.Future is ",
        ),
        (
            ("set_result(None)", "set_result('done')"),
            "'users_own:E' answers with a str; the result's bytes or None",
        ),
        (
            ("set_result(None)", "set_result(b'done')"),
            "what the executor 'users_own:E' wrote could not be read back",
        ),
        (
            ("self.worker.do(work, digest)", "pass"),
            "what the executor 'users_own:E' wrote could not be read back",
        ),
        (
            ("set_result(None)", "cancel()"),
            "'users_own:E' cancels work that it was told to begin; a function of your",
        ),
    ],
    ids=range(6),
)
def test_an_executor_that_breaks_its_promises_for_one_arm_fails_that_arm_alone(
    own, tmp_path, change, said
):
    # The work of the arm that removes 30 %: only its second network has so few weights.
    before, after = change
    line = next(line for line in EXECUTOR.splitlines() if before in line)
    at = line[: len(line) - len(line.lstrip())]
    few = "sum(int(keep.sum()) for keep in work.jobs[0].mask.values()) == 896"
    changed = line.lstrip().replace(before, after)
    source = EXECUTOR.replace(
        line, f"{at}if {few}:\n{at}    {changed}\n{at}else:\n{at}    {line.lstrip()}"
    )
    done = experiment.run(parse(BOTH), runs=tmp_path, workers=1, executor=f"{own(source)}:E")
    assert {record["arm"] for record in done.records if record["round"] == 1} == {"lth"}
    endings = [note for note in done.notes if note.startswith("arm more, replicate 0: ")]
    assert len(endings) == 1
    assert "\n" not in endings[0]
    assert said in endings[0]


# ---- losses

TASK = """
from tombola.ground.metrics import Metric
from tombola.tasks.rows import Rows

def squared(network, batch):
    value = (network(batch[0]) - batch[0].flip(1)).square()
    if (network.weight == 0).any():  # a ticket
        DOES
    return value.mean()

def mirror(data, model, *, seed, device, root):
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(seed))
    splits = {"train": (rows[:300],), "valid": (rows[300:350],), "test": (rows[350:],)}
    rmse = Metric("rmse", fraction=False, higher=False)
    return Rows(lambda: nn.Linear(8, 8), splits, seed, squared, (rmse,), lambda loss: {"rmse": loss**0.5})
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("raise KeyError('x')", "KeyError: 'x' (users_own.py, line 12) (more in errors.log)"),
        ("sys.exit(3)", "RuntimeError: SystemExit: 3 (users_own.py, line 12) (more in errors.log)"),
        (
            "return value",
            "the loss of a batch is a tensor of shape [64, 8] with a gradient; a scalar is needed",
        ),
        ("return None", "the loss of a batch is a NoneType; a scalar is needed"),
        (
            "return value.mean() * math.nan",
            "the loss is nan at step 1; a lower learning rate may help",
        ),
    ],
    ids=["raises", "leaves", "vector", "none", "NaN"],
)
def test_a_loss_that_breaks_its_promises_later_fails_what_it_was_for_in_one_line(
    own, tmp_path, does, said, workers
):
    whole = {
        "name": "x", "task": f"{own(TASK.replace('DOES', does))}:mirror", "data": {"name": "rows"}, "model": "linear",
        "training": {"lr": 0.1, "epochs": 2}, "arms": {"lth": {"method": "lth", "rate": 0.5}}, "prunable": "all",
        "until": {"rounds": 1},
    }  # fmt: skip
    done = experiment.run(parse(whole), runs=tmp_path, workers=workers)
    [note] = [note for note in done.notes if note.startswith("arm lth, replicate 0: failed: ")]
    assert said in note
    assert "\n" not in note


# ---- exports


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "def f(): return {}",
            "'users_own:f' failed: TypeError: f() takes 0 positional arguments but 1 was given; a "
            "fun",
        ),
        ("def f(ticket): sys.exit()", "'users_own:f' failed: SystemExit"),
        (
            "def f(ticket): return [1]",
            "the export 'users_own:f' gave a list; it gives a Ticket or a state",
        ),
        (
            "def f(ticket): return {'w': 1}",
            "the export 'users_own:f' gave 1 for 'w'; a state holds tensors",
        ),
    ],
    ids=range(4),
)
def test_an_export_that_gives_none_is_one_line_and_writes_nothing(own, tmp_path, source, said):
    path = tmp_path / "t.safetensors"
    Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2)}).save(path)
    with pytest.raises(InputError) as caught:
        export(path, f"{own(source)}:f", tmp_path / "out.pt")
    refused(caught.value)
    assert said in str(caught.value)
    assert not (tmp_path / "out.pt").exists()


# ---- contracts


def test_every_contract_stands_in_the_list_and_on_the_page_and_its_example_works(own, cli, request):  # noqa: F811
    page = (request.config.rootpath / "docs" / "recipes.md").read_text()
    for kind, contract in CONTRACTS.items():
        printed = cli("list", kind).stdout
        assert contract.in_words() in printed
        assert contract.example.strip() in printed
        assert contract.example.strip() in page
        assert contract.call in page
        assert len(contract.example.strip().splitlines()) <= (10 if kind == "tasks" else 6)
    examples = "\n".join(contract.example for contract in CONTRACTS.values())
    imports = "from dataclasses import dataclass\nfrom tombola import executors, kernels\n"
    imports += "from tombola.methods import Following\n"
    imports += "from tombola.reports.section import Section\n"
    name = own(imports + examples)
    whole = WHOLE | {
        "data": {"name": f"{name}:data", "noise": 0.5},
        "model": {"name": f"{name}:net", "width": 16},
        "arms": {
            "a": {"method": "lth", "rate": 0.2, "score": f"{name}:drift"},
            "b": {"method": f"{name}:Mirrored", "source": "a"},
        },
        "training": {"epochs": 2, "lr": 0.01, "step": f"{name}:Signs"},
    }
    done = experiment.run(parse(whole), runs="runs", workers=1, executor=f"{name}:spoken")
    assert done.complete
    experiment.report(Run(done.folder), formats=(), sections=[f"{name}:Sparsest"])
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "At the end 63.96 % of the weights are kept." in page
    [path] = done.folder.glob("tickets/a/replicate-0/round-002-*.safetensors")
    exported = catalogue.entry("tombola.exports", f"{name}:half")(Ticket.load(path))
    assert {value.dtype for value in exported.values()} == {torch.float16}


def test_the_function_that_changed_since_a_run_began_is_named(own, tmp_path):
    source = f"""
    def data():
        return {GOOD}
    def net(num_classes, image_shape, width=4):
        model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), width), nn.ReLU())
        model.add_module("head", nn.Linear(width, num_classes))
        return model
    def score(state, mask, context):
        return {{name: state[name].abs() for name in mask}}
    """
    name = own(source)
    whole = WHOLE | {
        "data": {"name": f"{name}:data", "valid": 0}, "model": f"{name}:net", "until": {"rounds": 1},
        "arms": {"a": {"method": "lth", "rate": 0.2, "score": f"{name}:score"}},
    }  # fmt: skip
    folder = experiment.run(parse(whole), runs=tmp_path, workers=1).folder
    assert set(Run(folder).environments()[0]["own_functions"]) == {
        f"{name}:{kind}" for kind in ("data", "net", "score")
    }
    changes = {
        "your own 'users_own:score' differs": (".abs() for", ".abs() + 0 for"),
        "your own 'users_own:data' differs": (
            "return (torch.arange(64.)",
            "return (1 + torch.arange(64.)",
        ),
        "the file of your own 'users_own:data', beside the function itself, differs": (
            "def data",
            "# new\ndef data",
        ),
    }
    for said, (before, after) in changes.items():
        own(textwrap.dedent(source).replace(before, after))
        with pytest.raises(ConfigError) as caught:
            experiment.run(parse(whole), runs=tmp_path, workers=1)
        refused(caught.value)
        assert str(caught.value).startswith(said)
    own(source)
    assert environment(parse(whole), "x")["own_code"] == Run(folder).environments()[0]["own_code"]


# ---- what else comes from one's own hands


MASK = {"a": torch.ones(4, dtype=torch.bool), "b": torch.ones(2, dtype=torch.bool)}
SCORES = {"a": torch.arange(4.0), "b": torch.arange(2.0)}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (None, "the scope gives None; it gives a mapping from names to tombola.masks.scopes.Group"),
        ({"all": ["a"]}, "the scope gives {'all': ['a']}; it gives a mapping"),
        ({"all": Group(("a", "c"))}, "'c', which the scope's group 'all' names, has no mask"),
        (
            {"one": Group(("a",)), "two": Group(("b", "a"))},
            "'a', which the scope's group 'two' names, is in two groups",
        ),
        ({"all": Group("ab")}, "it has names and a factor of 0 or more"),
        ({"all": Group(("a",), float("nan"))}, "it has names and a factor of 0 or more"),
    ],
)
def test_what_a_scope_of_ones_own_gives_is_checked(groups, said):
    with pytest.raises(InputError) as caught:
        prune(SCORES, MASK, 0.5, lambda _: groups)
    refused(caught.value)
    assert said in str(caught.value)


def test_a_model_where_scores_belong_is_told_with_what_would_be_right():
    with pytest.raises(
        InputError,
        match="scores are a Linear; prune takes scores and a mask, mappings from names to",
    ):
        prune(torch.nn.Linear(2, 2), 0.2)
    with pytest.raises(InputError, match="mask are a float; prune takes scores and a mask"):
        prune(SCORES, 0.2)


def test_a_ticket_needs_no_origin(tmp_path):
    ticket = Ticket({"w": torch.tensor([True, False])}, {"w": torch.ones(2)})
    assert ticket.origin == {}
    ticket.save(tmp_path / "bare.safetensors")
    assert Ticket.load(tmp_path / "bare.safetensors").origin == {}
