"""Every kernel trains as `eager` does, holds the mask, and says by name what it does not take."""

import copy
import shutil
from collections import OrderedDict

import pytest
import torch
from tests.outside.kernel import Elsewhere
from tests.test_bombs import WHOLE
from torch import nn
from torch.nn.functional import cross_entropy

import tombola
from tombola.data import synthetic
from tombola.data.batches import Batches
from tombola.data.splits import Split
from tombola.experiments import experiment
from tombola.ground import catalogue, seeds
from tombola.ground.errors import ConfigError
from tombola.ground.settings import Training
from tombola.kernels.finding import named, preferred
from tombola.kernels.protocol import Kernel
from tombola.kernels.recording import recordable
from tombola.masks.masks import ones
from tombola.schema.recipe import parse
from tombola.training.loop import resolve_defaults, train

NAMES = catalogue.entries("tombola.kernels")
OWN = "tests.outside.kernel:Elsewhere"


@recordable
def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def pictures():
    """Four batches an epoch: 5, 5, 5 and 2 pictures of 6 x 6 pixels in three classes."""
    draw = torch.Generator().manual_seed(5)
    split = Split(torch.rand(17, 1, 6, 6, generator=draw), torch.arange(17) % 3, torch.arange(17))
    mean, std = torch.full((1,), 0.5), torch.ones(1)
    return Batches(split, batch_size=5, seed=0, mean=mean, std=std, published=17)


def layers(**more):
    return nn.Sequential(
        OrderedDict(flat=nn.Flatten(), fc=nn.Linear(36, 8), relu=nn.ReLU(), **more)
    )


MODELS = {
    "mlp": lambda: layers(head=nn.Linear(8, 3)),
    "dropout": lambda: layers(dropout=nn.Dropout(0.5), head=nn.Linear(8, 3)),
    "batch norm": lambda: layers(norm=nn.BatchNorm1d(8), head=nn.Linear(8, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ),
    "frozen": lambda: frozen(layers(head=nn.Linear(8, 3))),
}
SETTINGS = {
    "sgd": {"lr": 0.1},
    "momentum, clip": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "clip": 0.5},
    "adam": {"lr": 0.01, "optimizer": "adam"},
}


def frozen(model):
    model.fc.weight.requires_grad_(False)
    return model


def made(what):
    with seeds.seeded(0, "init"):
        return MODELS[what]()


def half(model):
    """Prune every second weight."""
    return {
        name: torch.arange(keep.numel()).view(keep.shape) % 2 == 0
        for name, keep in ones(model, "all").items()
    }


def trained(what, kernel, mask, *, steps=6, visited=None, **settings):
    """Train for a few steps, the mask replaced before step 4; give the losses and the state."""
    model = made(what)
    training = Training(epochs=2, step=kernel, **settings)
    losses = []
    everything = {name: keep | True for name, keep in mask.items()}
    for step in train(
        model, pictures(), training, everything, loss=loss, seed=0, last=steps, visited=visited
    ):
        if step.loss is not None:
            losses.append(step.loss)
        if step.number == 3:
            step.handle.replace(mask)
    return losses, {name: value.clone() for name, value in model.state_dict().items()}


def check_alike(kernel, found, expected):
    """Compare losses and states to the last bit, or to the tolerance that the kernel names."""
    (losses, state), (wanted, right) = found, expected
    tolerance = named(kernel).tolerance
    for one, other in zip([*losses, *state.values()], [*wanted, *right.values()], strict=True):
        if tolerance:
            torch.testing.assert_close(
                one, other, rtol=tolerance, atol=tolerance * float(other.abs().max())
            )
        else:
            assert torch.equal(one, other)


def check_kernel(kernel, what, settings, visits=(None, lambda number: number == 3)):
    """What a kernel takes it trains as eager does; what it does not take it refuses by its name."""
    model = made(what)
    if refusal := named(kernel).refusal(model, Training(epochs=1, **settings), "cpu"):
        with pytest.raises(ConfigError, match=f"training.step is {kernel}; ") as caught:
            resolve_defaults(Training(epochs=1, step=kernel, **settings), model, "cpu")
        assert refusal in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    mask = half(model)
    expected = trained(what, "eager", mask, **settings)
    for visited in visits:
        found = trained(what, kernel, mask, visited=visited, **settings)
        check_alike(kernel, found, expected)
        assert all(not found[1][name][~keep].any() for name, keep in mask.items())


def needs_compiler(kernel):
    if kernel == "compiled" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("what", MODELS)
@pytest.mark.parametrize("kernel", [*(name for name in NAMES if name != "compiled"), OWN])
def test_a_kernel_trains_as_eager_does_or_refuses_by_its_name(kernel, what, settings):
    check_kernel(kernel, what, settings)


def test_a_compiled_training_is_the_training_up_to_rounding():
    needs_compiler("compiled")
    check_kernel("compiled", "batch norm", SETTINGS["momentum, clip"], visits=[None])


@pytest.mark.parametrize("kernel", [*NAMES, OWN])
def test_inference_gives_what_the_model_gives(kernel):
    for what in MODELS:
        model = made(what).eval()
        before = copy.deepcopy(model.state_dict())
        inputs = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(named(kernel).inference(model)(inputs), model(inputs))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kernel", NAMES)
def test_a_kernel_has_a_page_and_stands_in_a_resolved_recipe_by_one_name(kernel):
    kind = catalogue.entry("tombola.kernels", kernel)
    assert issubclass(kind, Kernel)
    assert kind.__doc__.strip()
    settled = resolve_defaults(Training(epochs=1, step=kernel), made("mlp"), "cpu")
    assert settled.kernel == kernel
    assert resolve_defaults(settled, made("mlp"), "cpu") == settled


def test_compiled_is_what_compile_says_so_that_digests_stay():
    assert Training(epochs=1, step="compiled") == Training(epochs=1, step="eager", compile=True)
    with pytest.raises(
        ConfigError, match=r"compile is true and training.step is 'a:B'; a model is run in one way"
    ):
        Training(epochs=1, step="a:B", compile=True)


def test_the_default_is_the_most_preferred_kernel_that_takes_the_model_on_the_device():
    training = Training(epochs=1)
    assert [preferred(made(what), training, "cpu") for what in MODELS] == [
        "traced", "traced", "eager", "traced", "traced",
    ]  # fmt: skip
    assert preferred(made("mlp"), training, "cuda") == "eager"
    assert preferred(made("mlp"), Training(epochs=1, precision="bf16"), "cpu") == "eager"


def test_a_kernel_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(
        ConfigError, match=r"is 'tracd'; it is one of .*traced.* Did you mean 'traced'\?"
    ):
        Training(epochs=1, step="tracd")


# ---- when it is looked at the model


def test_a_kernel_looks_at_the_model_before_the_first_step_and_after_visits_alone():
    def calls(visited, batches=None):
        Elsewhere.calls.clear()
        training = Training(epochs=2, step=OWN, lr=0.1)
        for _ in train(
            made("mlp"), batches or pictures(), training, {}, loss=loss, seed=0, visited=visited
        ):
            Elsewhere.calls.append("visit")
        return list(Elsewhere.calls)

    step, look = ["gradients", "update"], ["hand_over", "visit", "upkeep"]
    assert calls(None) == [*(look + step) * 8, "hand_over", "visit"]
    assert calls(lambda number: number == 2) == [
        *look, *step, "visit", *step, *look, *step, *(["visit", *step] * 5), "hand_over", "visit",
    ]  # fmt: skip


def test_batches_of_ones_own_may_have_the_model_in_hands_at_every_step():
    class Own(Batches):
        pass

    Elsewhere.calls.clear()
    own = copy.copy(pictures())
    own.__class__ = Own
    for _ in train(
        made("mlp"),
        own,
        Training(epochs=1, step=OWN),
        {},
        loss=loss,
        seed=0,
        visited=lambda _: False,
    ):
        pass
    assert Elsewhere.calls.count("upkeep") == 4


def test_a_run_has_the_model_in_hands_at_evaluations_alone_and_a_loop_of_ones_own_at_every_step():
    def upkeeps(**options):
        Elsewhere.calls.clear()
        tombola.run_job(job, task, **options)
        return Elsewhere.calls.count("upkeep")

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    task = tombola.Classification(model, tombola.split(synthetic()), head="1")
    training = Training(epochs=3, step=OWN, lr=0.01)
    job = tombola.Job(task.initial_state(), ones(model, "all"), training, seed=0)
    steps = 3 * task.steps_per_epoch(training.batch_size)
    assert upkeeps() == 3  # before the first step and after two of the three evaluations
    assert upkeeps(loop=lambda *given, **more: train(*given, **more)) == steps


def test_a_kernel_of_ones_own_runs_a_recipe_and_gives_the_masks_of_eager(tmp_path):
    """The kernel stands in one file outside of the package, and a recipe names it; its bits are
    those of eager.
    """
    found = {}
    for kernel in ("eager", OWN):
        whole = WHOLE | {
            "name": kernel.rpartition(":")[2].lower(),
            "training": {"epochs": 1, "step": kernel},
        }
        done = experiment.run(parse(whole), runs=tmp_path, workers=1)
        assert done.complete
        found[kernel] = [
            (record["mask_digest"], record["test_accuracy"]) for record in done.records
        ]
    assert found["eager"] == found[OWN]
    assert len({mask for mask, _ in found[OWN]}) == 3
