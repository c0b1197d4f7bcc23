"""Whatever a recording of a step might freeze: a traced training is an eager one, bit for bit."""

import copy
import functools
import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels import gradients
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from tombola import Classification, models
from tombola.data.batches import Batches
from tombola.data.dataset import from_tensors
from tombola.data.partitions import WHOLE
from tombola.data.splits import Split, split
from tombola.ground import seeds
from tombola.ground.errors import ConfigError, InputError
from tombola.ground.settings import Training
from tombola.kernels import recording
from tombola.kernels.anatomy import traceable
from tombola.kernels.recording import recordable
from tombola.masks.masks import ones
from tombola.training.loop import resolve_defaults, train


@recordable
def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def batch(seed=0, size=6):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(size, 8, generator=draw), torch.randint(4, (size,), generator=draw)


def net(seed=0, *, frozen=(), tied=False, dropout=0.0, slope=0.01, inplace=False):
    """Linear layers of 8 to 8 to 8 to 4: those named are frozen, the first two may share a
    weight.
    """
    with seeds.seeded(seed, "init"):
        made = nn.Sequential(
            nn.Linear(8, 8),
            nn.LeakyReLU(slope, inplace=inplace),
            nn.Linear(8, 8),
            nn.Dropout(dropout),
            nn.Linear(8, 4),
        )
    if tied:
        made[2].weight = made[0].weight
    for name in frozen:
        made[int(name)].requires_grad_(False)
    return made


def step_of(model, traced, number=0, *, size=6, of=loss):
    """Do a step's forward and backward, and give the loss and all gradients."""
    return taken(gradients(model, of, traced=traced), model, number, size)


def taken(step, model, number, size=6):
    with seeds.seeded(0, "step", number):
        value = step(batch(number, size))
    return value, [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def alike(one, other):
    (value, grads), (wanted, expected) = one, other
    return torch.equal(value, wanted) and all(
        (a is None) == (b is None)
        and (a is None or (torch.equal(a, b) and a.stride() == b.stride()))
        for a, b in zip(grads, expected, strict=True)
    )


# ---- models that differ in one thing alone, one after another in one process


class Twice(nn.Sequential):
    """Looks like torch's own and is not."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


def shared(twice):
    with seeds.seeded(0, "init"):
        one, other, last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
    return nn.Sequential(one, nn.Tanh(), one if twice else other, last)


def with_setting(name, value):
    made = net(dropout=0.5)
    setattr(made[3], name, value)
    return made


def three(one, other):
    """Three layers alike, two of which share their weight."""
    with seeds.seeded(0, "init"):
        made = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)), nn.Linear(8, 4))
    made[other].weight = made[one].weight
    return made


DIFFERENT = {
    "as it is": net,
    "another seed": lambda: net(1),
    "first frozen": lambda: net(frozen="0"),
    "first frozen, another seed": lambda: net(1, frozen="0"),
    "second frozen": lambda: net(1, frozen="2"),
    "last frozen": lambda: net(frozen="4"),
    "tied": lambda: net(tied=True),
    "tied and frozen": lambda: net(1, tied=True, frozen="2"),
    "dropout": lambda: net(dropout=0.5),
    "more dropout": lambda: net(dropout=0.7),
    "dropout kept off": lambda: with_setting("training", False),
    "another slope": lambda: net(slope=0.3),
    "in place": lambda: net(inplace=True),
    "first and second tied": lambda: three(0, 1),
    "first and third tied": lambda: three(0, 2),
    "one layer twice": lambda: shared(True),
    "two layers": lambda: shared(False),
    "a subclass": lambda: Twice(*net()),
    "evaluation": lambda: net(dropout=0.5).eval(),
}


@pytest.mark.parametrize(
    "order", [list, lambda names: list(reversed(names))], ids=["there", "and back"]
)
def test_models_that_differ_in_one_thing_do_not_take_each_others_recording(order):
    recording._traces.clear()
    for name in order(list(DIFFERENT)):
        make = DIFFERENT[name]
        for number in (0, 1):
            assert alike(step_of(make(), True, number), step_of(make(), False, number)), name


def test_replicates_with_a_frozen_layer_train_with_their_own():
    recording._traces.clear()
    for frozen, seed in itertools.product(("0", "2"), (0, 1, 2)):
        assert alike(
            step_of(net(seed, frozen=frozen), True), step_of(net(seed, frozen=frozen), False)
        )
    assert len(recording._traces) == 2  # replicates share one


# ---- what may happen to a model between two steps


def change(model, what):
    """Do to a model between two of its steps what a user might do."""
    match what:
        case "freeze":
            model[2].weight.requires_grad_(False)
        case "thaw":
            model[0].weight.requires_grad_(True)
        case "another probability":
            model[3].p = 0.9
        case "mode":
            model[3].eval()
        case "evaluation":
            model.eval()
        case "forward":
            model[1].forward = lambda inputs: inputs.abs()
        case "hook":
            model[0].register_forward_hook(lambda _module, _inputs, output: 3 * output)
        case "pre-hook":
            model[0].register_forward_pre_hook(lambda _module, inputs: (2 * inputs[0],))
        case "backward hook":
            model[1].register_full_backward_hook(lambda _module, grads, _out: (5 * grads[0],))
        case "gradient hook":
            model[2].weight.register_hook(lambda grad: 2 * grad)
        case "late gradient hook":
            model[2].weight.register_post_accumulate_grad_hook(double)
        case "layer":
            model[1] = nn.Tanh()
        case "another layer":
            model.insert(2, nn.Sigmoid())
        case "kind":
            model[1].__class__ = nn.ReLU
        case "parametrization":
            nn.utils.parametrize.register_parametrization(model[2], "bias", Doubled())
        case "old weight norm":
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(model[2], dim=None)
        case "buffer":
            model[1].register_buffer("scale", torch.tensor(2.0))
        case "tensor":
            model[1].negative_slope = torch.tensor(0.4)
        case "values in place":
            torch.nn.init.constant_(model[2].weight, 0.1)
        case "values":
            model[2].weight.data = model[2].weight.data + 1
        case "layout":
            model[2].weight.data = model[2].weight.data.t()
        case "numbers":
            model.double()
        case "slope":
            model[1].negative_slope = 0.8


def double(weight):
    weight.grad.mul_(2)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


CHANGES = (
    "freeze",
    "thaw",
    "another probability",
    "mode",
    "evaluation",
    "forward",
    "hook",
    "pre-hook",
    "backward hook",
    "gradient hook",
    "late gradient hook",
    "layer",
    "another layer",
    "kind",
    "buffer",
    "tensor",
    "values in place",
    "values",
    "layout",
    "slope",
)


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_done_to_a_model_between_two_steps_is_done_to_its_recording(what):
    results = []
    for traced in (True, False):
        model = net(dropout=0.5, frozen="0")
        step = gradients(model, loss, traced=traced)
        before = [taken(step, model, number) for number in (0, 1)]
        change(model, what)
        results.append(before + [taken(step, model, number) for number in (2, 3)])
    assert all(map(alike, *results))


def test_what_is_undone_is_recorded_again(monkeypatch):
    model = net()
    step = gradients(model, loss, traced=True)
    expected = taken(step, model, 0)
    hook = model[0].register_forward_hook(lambda _module, _inputs, output: 3 * output)
    assert not alike(taken(step, model, 0), expected)
    hook.remove()
    assert traceable(model)
    assert alike(taken(step, model, 0), expected)


@pytest.mark.parametrize("what", ["parametrization", "old weight norm"])
@pytest.mark.parametrize("traced", [True, False])
def test_a_trained_parameter_that_is_replaced_is_told_in_one_line(what, traced):
    model = net()
    step = gradients(model, loss, traced=traced)
    taken(step, model, 0)
    if what == "parametrization":  # of torch's own, the parameter stays and has another name
        change(model, what)
        taken(step, model, 1)
        model[0].weight = nn.Parameter(torch.ones(8, 8))
    else:
        change(model, what)
    with pytest.raises(
        InputError, match=r"the parameter '\d.weight' is no longer part of the model"
    ) as caught:
        taken(step, model, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("traced", [True, False])
def test_a_frozen_parameter_may_be_replaced(traced):
    model = net(frozen="0")
    step = gradients(model, loss, traced=traced)
    taken(step, model, 0)
    with torch.no_grad():
        model[0].weight = nn.Parameter(torch.ones(8, 8), requires_grad=False)
    other = copy.deepcopy(model)
    assert alike(taken(step, model, 1), step_of(other, False, 1))


# ---- losses


class Weighted:
    """A loss with a state of its own."""

    def __init__(self):
        self.weight, self.smoothing = torch.tensor([1.0, 1.0, 1.0, 1.0]), 0.0

    def loss(self, model, batch):
        return cross_entropy(model(batch[0]), batch[1], self.weight, label_smoothing=self.smoothing)

    __call__ = loss


FACTOR = [1.0]


def losses(which, model, batch, scale):
    return scale() * loss(model, batch)


@pytest.mark.parametrize(
    "kind", ["method", "object", "closure", "global", "partial", "lambda", "subclass", "wrapped"]
)
def test_a_loss_with_a_state_of_its_own_is_called_in_every_step(kind, monkeypatch):
    def values(traced):
        state, model = Weighted(), net()
        factor = [1.0]

        def closure(model, batch):
            return factor[0] * loss(model, batch)

        def reads_a_global(model, batch):
            return FACTOR[0] * loss(model, batch)

        class Own(Classification):
            def loss(self, model, batch):
                return factor[0] * super().loss(model, batch)

        of = {
            "method": state.loss,
            "object": state,
            "closure": closure,
            "global": reads_a_global,
            "partial": functools.partial(Weighted.loss, state),
            "lambda": lambda model, batch: factor[0] * loss(model, batch),
            "subclass": Own.__new__(Own).loss,
            "wrapped": functools.wraps(loss)(closure),
        }[kind]
        step = gradients(model, of, traced=traced)
        found = [taken(step, model, 0)]
        factor[0] = 3.0
        monkeypatch.setitem(FACTOR, 0, 3.0) if isinstance(FACTOR, dict) else FACTOR.__setitem__(
            0, 3.0
        )
        state.weight, state.smoothing = torch.tensor([5.0, 1.0, 1.0, 1.0]), 0.3
        found.append(taken(step, model, 0))
        FACTOR[0] = 1.0
        return found

    traced, eager = values(True), values(False)
    assert all(map(alike, traced, eager))
    assert not alike(*eager)


def test_the_loss_of_a_task_is_recorded():
    recording._traces.clear()
    task = Classification.__new__(Classification)
    step_of(net(), True, of=task.loss)
    assert [trace is not None for trace in recording._traces.values()] == [True]


def test_a_tensor_that_a_declared_loss_brings_along_is_not_frozen():
    weights = [torch.ones(4)]

    @recordable  # wrongly
    def weighted(model, batch):
        return cross_entropy(model(batch[0]), batch[1], weights[0])

    step_of(net(), True, of=weighted)
    weights[0] = torch.tensor([9.0, 1.0, 1.0, 1.0])
    assert alike(step_of(net(), True, of=weighted), step_of(net(), False, of=weighted))


# ---- what torch is told about everything


def test_settings_of_torch_that_change_what_is_done_are_heeded():
    recording._traces.clear()

    def both():
        return alike(step_of(net(), True), step_of(net(), False))

    assert both()
    with torch.autocast("cpu", torch.bfloat16):
        assert both()
    with warnings.catch_warnings(action="ignore"), torch.autograd.set_detect_anomaly(True):
        assert both()
    handle = nn.modules.module.register_module_forward_hook(
        lambda _module, _inputs, output: 2 * output
    )
    try:
        assert both()
    finally:
        handle.remove()
    with torch.device("cpu"):
        assert both()
    assert both()


@pytest.mark.parametrize("change_", ["class", "instance"])
def test_a_layer_whose_forward_was_replaced_is_not_traced(change_, monkeypatch):
    model = net()
    assert traceable(model)
    monkeypatch.setattr(
        nn.LeakyReLU if change_ == "class" else model[1], "forward", lambda inputs, *_: inputs
    )
    assert not traceable(model)


UNTRACEABLE = {
    "a tensor": lambda model: setattr(model[1], "negative_slope", torch.tensor(0.1)),
    "a function": lambda model: setattr(model[1], "helper", print),
    "an object": lambda model: setattr(model[1], "helper", Weighted()),
    "a private object": lambda model: setattr(model[1], "_helper", Weighted()),
    "a mapping": lambda model: setattr(model[1], "helper", {"a": 1}),
    "a buffer": lambda model: model[1].register_buffer("b", torch.ones(1)),
    "a hidden buffer": lambda model: model[1].register_buffer("b", torch.ones(1), persistent=False),
    "a hook": lambda model: model[0].register_forward_hook(lambda *_: None),
    "a hook on a gradient": lambda model: model[0].weight.register_hook(lambda grad: grad),
    "attention": lambda model: model.append(nn.MultiheadAttention(4, 1)),
    "a transformer": lambda model: model.append(nn.TransformerEncoderLayer(4, 1)),
    "a recurrent layer": lambda model: model.append(nn.LSTM(4, 4)),
    "weight norm": lambda model: nn.utils.parametrizations.weight_norm(model[0]),
    "spectral norm": lambda model: nn.utils.parametrizations.spectral_norm(model[0]),
    "pruning": lambda model: prune.random_unstructured(model[0], "weight", 0.5),
    "a lazy layer": lambda model: model.append(nn.LazyLinear(4)),
    "a parameter of another class": lambda model: setattr(
        model[0], "weight", Own(model[0].weight.data)
    ),
    "own code": lambda model: model.append(Doubled()),
}


class Own(nn.Parameter):
    pass


@pytest.mark.parametrize("what", UNTRACEABLE)
def test_what_a_recording_would_freeze_makes_a_model_eager_and_traced_is_refused_by_name(what):
    model = net()
    assert resolve_defaults(Training(epochs=1), model, "cpu").step == "traced"
    UNTRACEABLE[what](model)
    assert resolve_defaults(Training(epochs=1), model, "cpu").step == "eager"
    with pytest.raises(ConfigError, match=r"training\.step is traced; ") as caught:
        resolve_defaults(Training(epochs=1, step="traced"), model, "cpu")
    assert "\n" not in str(caught.value)


# ---- the property: whatever the model, three replicates in one process, in any order


class Branch(nn.Module):
    """A branch on a flag of its own, which it turns in every step."""

    def __init__(self):
        super().__init__()
        self.flag = True

    def forward(self, inputs):
        self.flag = not self.flag
        return inputs.abs() if self.flag else inputs


class Scaled(nn.Module):
    """A buffer that moves with every step."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, inputs):
        self.scale += 0.1
        return inputs * self.scale


PIECES = {
    "linear": lambda: nn.Linear(6, 6),
    "no bias": lambda: nn.Linear(6, 6, bias=False),
    "relu": nn.ReLU,
    "in place": lambda: nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.2, inplace=True)),
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
    "dropout": lambda: nn.Dropout(0.4),
    "layer norm": lambda: nn.LayerNorm(6),
    "within": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()),
    "norm": lambda: nn.BatchNorm1d(6),
    "norm that is still": lambda: nn.BatchNorm1d(6).eval(),
    "norm of the batch": lambda: nn.BatchNorm1d(6, track_running_stats=False),
    "branch": Branch,
    "scaled": Scaled,
}
# Those that may be recorded are drawn more often: with one of the others in it, a whole model is
# eager.
DRAWN = [*list(PIECES)[:9] * 4, *list(PIECES)[9:]]


@st.composite
def descriptions(draw):
    """Describe a model: its pieces, which of them come twice, which parameters are tied and
    which are frozen.
    """
    pieces = draw(st.lists(st.sampled_from(DRAWN), min_size=1, max_size=5))
    first = draw(st.booleans())  # the batch itself is changed in place
    again = draw(st.lists(st.integers(0, 9), max_size=1))
    tied = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2))
    frozen = draw(st.lists(st.integers(0, 19), max_size=4))
    return pieces, first, again, tied, frozen


def described(description, seed):
    pieces, first, again, tied, frozen = description
    with seeds.seeded(seed, "init"):
        layers = [nn.Sequential(nn.Flatten(), nn.ELU(inplace=True)) if first else nn.Flatten()]
        layers += [*(PIECES[piece]() for piece in pieces)]
        layers += [layers[1 + number % len(pieces)] for number in again]
        model = nn.Sequential(*layers, nn.Linear(6, 3))
    weights = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.shape == (6, 6)]
    for one, other in tied if weights else ():
        weights[one % len(weights)].weight = weights[other % len(weights)].weight
    parameters = list(model.parameters())[:-1]  # something has to be trained
    for number in frozen:
        parameters[number % len(parameters)].requires_grad_(False)
    return model


def images():
    draw = torch.Generator().manual_seed(1)
    split = Split(torch.rand(9, 1, 2, 3, generator=draw), torch.arange(9) % 3, torch.arange(9))
    return Batches(
        split, batch_size=4, seed=0, mean=torch.full((1,), 0.5), std=torch.ones(1), published=9
    )


SETTINGS = [
    {"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "clip": 0.1}, {"lr": 0.01, "optimizer": "adam", "clip": 0.1},
]  # fmt: skip


def trained(description, seed, step, options):
    model = described(description, seed)
    training = Training(epochs=2, step=step, **options)
    losses = [s.loss for s in train(model, images(), training, {}, loss=loss, seed=seed)][1:]
    return model, [*losses, *model.state_dict().values()]


def check_replicates(description, order, options):
    """Train three replicates, each as a recording and as it is written."""
    for seed in order:
        model, found = trained(description, seed, None, options)
        _, expected = trained(description, seed, "eager", options)
        assert all(map(torch.equal, found, expected))
        assert traceable(model) == (
            not {"norm", "norm that is still", "branch", "scaled"} & set(description[0])
        )
        for name, piece in zip(model[1:], description[0], strict=False):
            assert name.training == ("still" not in piece)


@given(descriptions(), st.permutations([0, 1, 2]), st.sampled_from(SETTINGS))
@settings(max_examples=12)
def test_a_traced_training_is_an_eager_one_bit_for_bit_whatever_the_model(
    description, order, options
):
    check_replicates(description, order, options)


@pytest.mark.slow
@given(descriptions(), st.permutations([0, 1, 2]), st.sampled_from(SETTINGS))
@settings(max_examples=100)
def test_a_traced_training_is_an_eager_one_for_many_models(description, order, options):
    check_replicates(description, order, options)


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet_300_100", (1, 28, 28)), ("lenet5", (1, 28, 28)), ("mlp", (1, 8, 8))]
)
def test_the_networks_that_a_recording_is_for_are_recorded_in_their_trainings(name, shape):
    """Images of one channel have strides of their own when the channels are innermost."""
    recording._traces.clear()
    images, labels = torch.zeros(40, *shape, dtype=torch.uint8), torch.arange(40) % 10
    data = split(from_tensors(images, labels, images[:10], labels[:10], 10), valid=0)
    task = Classification(getattr(models, name)(10, image_shape=shape), data)
    training = Training(epochs=2, batch_size=16)  # and a last batch of another size
    for _ in train(
        task.model, task.batches(WHOLE, 16, 0), training, ones(task.model), loss=task.loss, seed=0
    ):
        pass
    assert [trace is not None for trace in recording._traces.values()] == [True, True]
