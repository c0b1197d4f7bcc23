"""Holding: pruned weights stay at zero, or one line says that they cannot, whatever the loop
does.
"""

import copy
import gc
import io
import pickle
import re
import warnings
import weakref
from collections import defaultdict

import numpy as np
import pytest
import torch
from tests.toys import drawn, equal, random_mask
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim import optimizer as torchs
from torch.optim.swa_utils import AveragedModel

from tombola.ground.errors import InputError
from tombola.masks.holding import hold_
from tombola.masks.masks import apply_, masked_parameters, ones


class Mixing(torch.optim.Optimizer):
    """Turns the entries of a matrix into each other: a pruned weight moves though its gradient
    is zero.
    """

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight -= 0.01 * (weight.grad + weight.grad.mean()) + 0.001 * weight.flip(0)


def convnet():
    return drawn(
        nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 9, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )
    )


def matrices():
    return drawn(
        nn.Sequential(
            nn.Flatten(), nn.Linear(25, 12, bias=False), nn.ReLU(), nn.Linear(12, 3, bias=False)
        )
    )


IMAGES = torch.randn(16, 1, 5, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(16) % 3

OPTIMIZERS = {
    "sgd": (convnet, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
    "sgd, plain": (convnet, lambda p: torch.optim.SGD(p, 0.1)),
    "sgd, one by one": (
        convnet,
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, foreach=False),
    ),
    "sgd, foreach": (convnet, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True)),
    "sgd, fused": (convnet, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True)),
    "sgd, maximize": (convnet, lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, maximize=True)),
    "adam": (convnet, lambda p: torch.optim.Adam(p, 0.01)),
    "adam, amsgrad": (convnet, lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, foreach=True)),
    "adam, one by one": (convnet, lambda p: torch.optim.Adam(p, 0.01, foreach=False)),
    "adamw": (convnet, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
    "adamw, fused": (convnet, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True)),
    "adamax": (convnet, lambda p: torch.optim.Adamax(p, 0.01)),
    "adadelta": (convnet, lambda p: torch.optim.Adadelta(p, 1.0)),
    "adagrad": (convnet, lambda p: torch.optim.Adagrad(p, 0.05)),
    "adagrad, fused": (convnet, lambda p: torch.optim.Adagrad(p, 0.05, fused=True)),
    "adafactor": (matrices, lambda p: torch.optim.Adafactor(p, 0.05)),
    "asgd": (convnet, lambda p: torch.optim.ASGD(p, 0.1)),
    "nadam": (
        convnet,
        lambda p: torch.optim.NAdam(p, 0.01, decoupled_weight_decay=True, weight_decay=0.1),
    ),
    "radam": (convnet, lambda p: torch.optim.RAdam(p, 0.01)),
    "rmsprop": (convnet, lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True)),
    "rprop": (convnet, lambda p: torch.optim.Rprop(p, 0.01)),
    "lbfgs": (convnet, lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3)),
    "lbfgs, strong wolfe": (
        convnet,
        lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
    ),
    "muon": (matrices, lambda p: torch.optim.Muon(p, 0.02)),
    "mixing": (matrices, lambda p: Mixing(p, {})),
}
# These are the rest of torch.optim: the base, and one that takes sparse gradients alone and has a
# test of its own.
LEFT_OUT = {"Optimizer", "SparseAdam"}


def step(model, optimizer, clip=None, *, look=lambda: None):
    """One step of anybody's loop; ``look`` is called when the gradients are about to be clipped."""

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
        loss.backward()
        look()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def alive(model, mask):
    """Pruned weights that are not zero."""
    return sum(
        int(parameter[~keep].count_nonzero()) for parameter, keep in masked_parameters(model, mask)
    )


def steep(model, mask):
    """Pruned weights whose gradient is not zero."""
    pairs = masked_parameters(model, mask)
    return sum(
        int(weight.grad[~keep].count_nonzero()) for weight, keep in pairs if weight.grad is not None
    )


def check_held(model, mask, take_step, *, steps):
    """Take steps; no pruned weight, and no gradient of one, is other than zero at any time.

    ``take_step`` is called with what to call when the gradients are about to be clipped.
    """

    def look():
        assert (steep(model, mask), alive(model, mask)) == (0, 0)

    for _ in range(steps):
        take_step(look)
        assert alive(model, mask) == 0


def check_learnt(model, start, mask):
    """Most of the kept weights have moved; one into a dead unit may rest."""
    olds = masked_parameters(start, mask)
    for (weight, keep), (old, _) in zip(masked_parameters(model, mask), olds, strict=True):
        assert weight.isfinite().all()
        assert (weight != old)[keep].float().mean() > 0.5


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_weights_stay_at_zero_and_the_others_learn(name, clip):
    build, make = OPTIMIZERS[name]
    model = build()
    mask, start = random_mask(model), copy.deepcopy(model)
    optimizer = make(model.parameters())
    hold_(optimizer, model, mask)
    assert alive(model, mask) == 0  # at once, before any step

    check_held(model, mask, lambda look: step(model, optimizer, clip, look=look), steps=10)
    check_learnt(model, start, mask)


def test_the_table_has_every_optimizer_of_torch():
    tried = {type(make(build().parameters())).__name__ for build, make in OPTIMIZERS.values()}
    there = {name for name, value in vars(torch.optim).items() if isinstance(value, type)}
    assert {
        name for name in there if issubclass(getattr(torch.optim, name), torch.optim.Optimizer)
    } - LEFT_OUT <= tried


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_that_has_trained_before_can_be_held_in_spite_of_its_momentum(name):
    build, make = OPTIMIZERS[name]
    model = build()
    optimizer = make(model.parameters())
    for _ in range(3):
        step(model, optimizer)
    mask = random_mask(model)
    handle = hold_(optimizer, model, mask)
    check_held(model, mask, lambda look: step(model, optimizer, look=look), steps=3)
    handle.remove()
    step(model, optimizer)
    assert alive(model, mask) > 0


def test_clipping_does_not_see_the_gradients_of_pruned_weights():
    # The gradient is (3, 4, 12): its norm is 13 with the pruned weight and 5 without.
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 1.0, 1.0]])
    sgd = torch.optim.SGD(layer.parameters(), lr=1.0)
    hold_(sgd, layer, {"weight": torch.tensor([[True, True, False]])})
    layer(torch.tensor([[3.0, 4.0, 12.0]])).sum().backward()
    assert layer.weight.grad.tolist() == [[3.0, 4.0, 0.0]]
    assert nn.utils.clip_grad_norm_(layer.parameters(), 1.0).item() == 5.0
    sgd.step()
    torch.testing.assert_close(
        layer.weight.data, torch.tensor([[0.4, 0.2, 0.0]]), rtol=1e-5, atol=1e-6
    )


def test_gradients_are_masked_when_they_are_accumulated_over_batches_too():
    layer = nn.Linear(2, 1, bias=False)
    hold_(
        torch.optim.SGD(layer.parameters(), 0.1), layer, {"weight": torch.tensor([[True, False]])}
    )
    for number in (1.0, 2.0):
        layer(torch.full((1, 2), number)).sum().backward()
        assert layer.weight.grad[0, 1] == 0
    assert layer.weight.grad.tolist() == [[3.0, 0.0]]


def test_a_weight_that_does_not_learn_is_held_too():
    model = convnet()
    model[0].weight.requires_grad_(False)
    mask = random_mask(model)
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
    hold_(sgd, model, mask)
    step(model, sgd)
    assert alive(model, mask) == 0


def test_a_held_dense_mask_trains_to_the_same_bits_as_none():
    for build, make in OPTIMIZERS.values():
        held, free = build(), build()
        optimizers = [make(model.parameters()) for model in (held, free)]
        hold_(optimizers[0], held, ones(held, "all"))
        for _ in range(5):
            step(held, optimizers[0], clip=1.0)
            step(free, optimizers[1], clip=1.0)
        assert equal(held.state_dict(), free.state_dict())


def test_a_removed_handle_lets_go_of_gradients_and_weights():
    layer = nn.Linear(2, 1, bias=False)
    sgd = torch.optim.SGD(layer.parameters(), 0.1)
    handle = hold_(sgd, layer, {"weight": torch.tensor([[True, False]])})
    handle.remove()
    handle.remove()  # twice does no harm
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]
    sgd.step()
    assert layer.weight[0, 1].item() == pytest.approx(-0.1)


def test_a_replaced_mask_is_held_from_then_on():
    model = convnet()
    dense, sparse = random_mask(model), {}
    for name, keep in dense.items():
        sparse[name] = keep & (
            torch.rand(keep.shape, generator=torch.Generator().manual_seed(5)) < 0.5
        )
    adamw = torch.optim.AdamW(model.parameters(), 0.01)
    handle = hold_(adamw, model, dense)
    step(model, adamw)
    handle.replace(sparse)
    assert alive(model, sparse) == 0  # at once
    assert handle.mask is sparse
    for _ in range(3):
        step(model, adamw)
        assert alive(model, sparse) == 0


def test_a_parameter_that_a_replaced_mask_leaves_out_is_let_go():
    model = convnet()
    mask = random_mask(model)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    handle = hold_(sgd, model, mask)
    handle.replace({"0.weight": mask["0.weight"]})
    step(model, sgd)
    assert alive(model, {"0.weight": mask["0.weight"]}) == 0
    assert alive(model, {"6.weight": mask["6.weight"]}) > 0


def test_two_models_are_held_apart():
    first, second = convnet(), convnet()
    masks = random_mask(first, seed=1), random_mask(second, seed=2)
    sgds = [torch.optim.SGD(model.parameters(), 0.1, momentum=0.9) for model in (first, second)]
    for model, sgd, mask in zip((first, second), sgds, masks, strict=True):
        hold_(sgd, model, mask)
    for model, sgd, mask in zip((first, second), sgds, masks, strict=True):
        step(model, sgd)
        assert alive(model, mask) == 0
    assert alive(first, masks[1]) > 0


def test_a_held_model_keeps_its_state_dict_and_can_be_copied_pickled_and_saved():
    model = convnet()
    keys = list(model.state_dict())
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    hold_(sgd, model, random_mask(model))
    step(model, sgd)
    assert list(model.state_dict()) == keys
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    twins = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(saved, weights_only=False),
    ]
    for twin in twins:
        assert equal(twin.state_dict(), model.state_dict())
        step(twin, torch.optim.SGD(twin.parameters(), 0.1))
        assert alive(twin, random_mask(twin)) > 0  # a copy is free: nobody holds it


def test_a_mask_is_not_changed_by_what_is_done_with_it():
    model = convnet()
    mask = random_mask(model)
    before = {name: keep.clone() for name, keep in mask.items()}
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    apply_(model, mask)
    hold_(sgd, model, mask)
    step(model, sgd)
    assert equal(mask, before)


# ---- other numbers than finite ones


NO_EPSILON = {
    "adam": lambda p: torch.optim.Adam(p, 0.01, eps=0.0),
    "adam, fused": lambda p: torch.optim.Adam(p, 0.01, eps=0.0, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, eps=0.0),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01, eps=0.0),
    "radam": lambda p: torch.optim.RAdam(p, 0.01, eps=0.0),
    "adamax": lambda p: torch.optim.Adamax(p, 0.01, eps=0.0),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01, eps=0.0),
    "adadelta": lambda p: torch.optim.Adadelta(p, 0.1, eps=0.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, eps=0.0),
}


@pytest.mark.parametrize("name", NO_EPSILON)
def test_an_optimizer_that_divides_zero_by_zero_leaves_zeros(name):
    model = drawn(nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.Tanh(), nn.Linear(12, 3)))
    mask = random_mask(model, "1.weight")
    optimizer = NO_EPSILON[name](model.parameters())
    hold_(optimizer, model, mask)
    for _ in range(5):
        step(model, optimizer)
        assert alive(model, mask) == 0  # NaN would count
        assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.0])
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
)
def test_a_pruned_weight_is_zero_whatever_it_was(dtype, value):
    layer = nn.ParameterDict({"weight": torch.rand(1, 4).to(getattr(torch, dtype))})
    sgd = torch.optim.SGD(layer.parameters(), 0.1)
    handle = hold_(sgd, layer, {"weight": torch.tensor([[True, False, True, False]])})
    weight = layer["weight"]
    kept = weight.detach().clone()[:, ::2]
    weight.data[:, 1::2] = value
    weight.grad = torch.full_like(weight, value)
    handle.mask_weights()
    handle.mask_gradients()
    for tensor in (weight.detach(), weight.grad):
        assert torch.equal(tensor[:, 1::2], torch.zeros_like(kept))
    assert torch.equal(weight.detach()[:, ::2], kept)  # to the last bit
    assert torch.equal(weight.grad[:, ::2], torch.full_like(kept, value)) or value != value


def test_an_infinite_gradient_of_a_pruned_weight_does_no_harm():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, float("inf")]])
    sgd = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    hold_(sgd, layer, {"weight": torch.tensor([[True, False]])})
    for _ in range(3):
        layer(torch.tensor([[1.0, 3e38]])).mul(10).sum().backward()
        assert layer.weight.grad[0, 1] == 0
        sgd.step()
    assert layer.weight[0, 1] == 0
    assert layer.weight[0, 0].isfinite()


def test_sparse_gradients_are_masked_too():
    table = nn.Embedding(6, 3, sparse=True)
    adam = torch.optim.SparseAdam(table.parameters(), 0.1)
    keep = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    hold_(adam, table, {"weight": keep})
    start = table.weight.detach().clone()
    for _ in range(5):
        adam.zero_grad()
        table(torch.tensor([0, 1, 1, 5])).sum().backward()
        assert not table.weight.grad.to_dense()[~keep].any()
        adam.step()
        assert not table.weight[~keep].any()
    assert (table.weight != start)[[0, 1, 5]][keep[[0, 1, 5]]].all()


# ---- optimizers around and beside the one that was given


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation, as it is published: the loop calls its two halves."""

    def __init__(self, params, base, rho=0.05, **settings):
        super().__init__(params, {"rho": rho, **settings})
        self.base_optimizer = base(self.param_groups, **settings)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        norm = torch.stack(
            [p.grad.norm() for group in self.param_groups for p in group["params"]]
        ).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.data.clone()
                p.add_(p.grad, alpha=group["rho"] / float(norm + 1e-12))

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old"]
        self.base_optimizer.step()

    def step(self, closure=None):
        raise NotImplementedError


def sam_step(model, optimizer, look):
    for half in (optimizer.first_step, optimizer.second_step):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
        look()
        half()


class Lookahead(torch.optim.Optimizer):
    """Slow weights behind those of another optimizer; as published, it does not begin as an
    optimizer of torch's.
    """

    def __init__(self, optimizer, k=2, alpha=0.5):
        self.optimizer, self.k, self.alpha, self.steps = optimizer, k, alpha, 0
        self.param_groups, self.state = optimizer.param_groups, defaultdict(dict)
        self.slow = []
        for group in self.param_groups:
            self.slow.append([fast.detach().clone() for fast in group["params"]])

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        self.optimizer.step(closure)
        self.steps += 1
        if self.steps % self.k == 0:
            for group, slows in zip(self.param_groups, self.slow, strict=True):
                for fast, slow in zip(group["params"], slows, strict=True):
                    slow.add_(fast.data - slow, alpha=self.alpha)
                    fast.data.copy_(slow)


class ScheduleFree(torch.optim.Optimizer):
    """SGD with an average in place of a schedule: training is at y, evaluation at x, both
    between z and x.
    """

    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta})
        self.number, self.training = 0, True
        for p in (p for group in self.param_groups for p in group["params"]):
            self.state[p]["z"] = p.detach().clone()

    @torch.no_grad()
    def _to(self, weight):
        for p in (p for group in self.param_groups for p in group["params"]):
            p.lerp_(self.state[p]["z"], weight)

    def eval(self):
        if self.training:
            self._to(1 - 1 / self.param_groups[0]["beta"])
        self.training = False

    def train(self):
        if not self.training:
            self._to(1 - self.param_groups[0]["beta"])
        self.training = True

    @torch.no_grad()
    def step(self, closure=None):
        self.number += 1
        for group in self.param_groups:
            for p in group["params"]:
                z = self.state[p]["z"]
                p.lerp_(z, 1 / self.number)
                p.add_(p.grad, alpha=-group["lr"] * (1 - group["beta"] * (1 - 1 / self.number)))
                z.sub_(p.grad, alpha=group["lr"])


class Accelerated(torch.optim.Optimizer):
    """An optimizer in a wrapper like accelerate's: of torch's class, but never begun as one."""

    def __init__(self, optimizer, scaler=None):
        self.optimizer, self.scaler = optimizer, scaler

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def state(self):
        return self.optimizer.state

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)

    def __getstate__(self):
        return dict(vars(self))

    def __setstate__(self, state):
        vars(self).update(state)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        self.optimizer.step(closure)


class Bare:
    """An optimizer that is nothing of torch's."""

    def __init__(self, params):
        self.param_groups = [{"params": list(params)}]

    def zero_grad(self):
        for p in self.param_groups[0]["params"]:
            p.grad = None

    def step(self):
        for p in self.param_groups[0]["params"]:
            p.data.sub_(0.1 * p.grad + 0.001)


def momentum(params):
    return torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=0.01)


def fabric(optimizer):
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup_optimizers(optimizer)


# From the parameters, what is given to hold_ and what the loop steps.
PAIRS = {
    "another one trains": lambda p: (torch.optim.Adam(p, 0.01), momentum(p)),
    "sam": lambda p: [SAM(p, torch.optim.SGD, lr=0.1, momentum=0.9)] * 2,
    "the base of sam": lambda p: (
        (sam := SAM(p, torch.optim.SGD, lr=0.1, momentum=0.9)).base_optimizer,
        sam,
    ),
    "lookahead": lambda p: [Lookahead(momentum(p))] * 2,
    "lookahead of fabric's": lambda p: [Lookahead(fabric(momentum(p)))] * 2,
    "the base of lookahead": lambda p: ((base := momentum(p)), Lookahead(base, k=5)),
    "another than the base of lookahead": lambda p: (
        torch.optim.Adam(p, 0.01),
        Lookahead(momentum(p), k=5),
    ),
    "schedule free": lambda p: [ScheduleFree(p)] * 2,
    "schedule free, the other's": lambda p: (momentum(p), ScheduleFree(p)),
    "accelerate": lambda p: [Accelerated(momentum(p))] * 2,
    "accelerate, the one inside": lambda p: ((outer := Accelerated(momentum(p))).optimizer, outer),
    "accelerate, the wrapper of another": lambda p: (
        Accelerated(torch.optim.Adam(p, 0.01)),
        momentum(p),
    ),
    "fabric": lambda p: [fabric(momentum(p))] * 2,
    "fabric, the one inside": lambda p: ((sgd := momentum(p)), fabric(sgd)),
    "nothing of torch's": lambda p: [Bare(p)] * 2,
    "several in a list": lambda p: ([momentum(p[:1]), (sgd := momentum(p))], sgd),
    "several in a dict": lambda p: ({"one": momentum(p[:1]), "two": (sgd := Bare(p))}, sgd),
}


@pytest.mark.parametrize("trained", [False, True], ids=["at once", "trained before"])
@pytest.mark.parametrize("pair", PAIRS)
def test_weights_are_held_whichever_optimizer_was_given(pair, trained):
    model = convnet()
    given, stepping = PAIRS[pair](list(model.parameters()))

    def take_step(look):
        if isinstance(stepping, SAM):
            sam_step(model, stepping, look)
        else:
            step(model, stepping, look=look)

    for _ in range(3 * trained):
        take_step(lambda: None)
    mask = random_mask(model)
    hold_(given, model, mask)
    start = copy.deepcopy(model)
    check_held(model, mask, take_step, steps=10)
    if isinstance(stepping, ScheduleFree):
        stepping.eval()
        assert alive(model, mask) == 0
        stepping.train()
        assert alive(model, mask) == 0
    check_learnt(model, start, mask)


def test_what_a_loop_writes_by_itself_is_told_once_and_the_network_computes_with_zeros():
    model = convnet()
    sgd = momentum(model.parameters())
    slow = [p.detach().clone() for p in model.parameters()]  # before anything is held
    mask = random_mask(model)
    hold_(sgd, model, mask)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(10):
            nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
            assert (alive(model, mask), steep(model, mask)) == (0, 0)  # since the forward pass
            sgd.step()
            sgd.zero_grad()
            for parameter, average in zip(model.parameters(), slow, strict=True):
                parameter.data.lerp_(average, 0.5)
    [line] = [str(one.message) for one in told]
    assert re.fullmatch(
        r"hold_: pruned weights of '0.weight' .* call handle.mask_weights\(\) after such writing",
        line,
    )
    model.state_dict()  # what is saved has zeros
    assert alive(model, mask) == 0


@pytest.mark.parametrize(
    ("before", "warns"), [(2, True), (63, True), (64, False), (127, True), (128, False)]
)
def test_of_many_forward_passes_the_first_are_looked_at_and_then_fewer_and_fewer(before, warns):
    layer = nn.Linear(4, 2)
    mask = random_mask(layer)
    hold_(momentum(layer.parameters()), layer, mask)
    for _ in range(before):
        layer(torch.ones(1, 4))
    layer.weight.data += 0.1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer(torch.ones(1, 4))
    assert bool(caught) == warns
    assert alive(layer, mask) == 0  # looked at or not


def test_a_lookahead_that_writes_at_the_last_step_alone_is_held_by_its_base():
    model = convnet()
    # its slow weights are older than the mask
    outer = Lookahead(momentum(model.parameters()), k=10)
    mask = random_mask(model)
    hold_(outer.optimizer, model, mask)
    for _ in range(10):
        step(model, outer)
    assert alive(model, mask) == 0


def test_optimizers_of_other_models_go_on_as_they_did():
    class Odd(torch.optim.Optimizer):
        def step(self, closure=None):
            self.param_groups[0].pop("params")

    model, other = convnet(), convnet()
    hold_(momentum(model.parameters()), model, random_mask(model))
    mask = random_mask(other)
    step(other, torch.optim.SGD(other.parameters(), 0.1))
    assert alive(other, mask) > 0
    Odd(other.parameters(), {}).step()


def test_the_loop_may_make_its_optimizer_anew():
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    adam = torch.optim.Adam(model.parameters(), 0.01, weight_decay=0.1)
    check_held(model, mask, lambda look: step(model, adam, look=look), steps=3)


def test_parameters_that_an_optimizer_takes_up_later_are_held():
    model = convnet()
    mask = random_mask(model)
    adam = torch.optim.Adam([model[6].weight], 0.01)
    hold_(adam, model, mask)
    adam.add_param_group({"params": [model[0].weight, model[4].weight], "weight_decay": 0.1})
    for _ in range(3):
        step(model, adam)
        assert alive(model, mask) == 0


@pytest.mark.parametrize(
    "make", [momentum, lambda p: Accelerated(momentum(p)), lambda p: fabric(momentum(p))]
)
def test_schedules_go_on_and_optimizers_can_be_copied_and_saved(make):
    model = convnet()
    mask = random_mask(model)
    optimizer = make(list(model.parameters()))
    hold_(optimizer, model, mask)
    schedule = torch.optim.lr_scheduler.StepLR(
        getattr(optimizer, "optimizer", optimizer), 1, gamma=0.5
    )
    step(model, optimizer)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    optimizer.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    step(model, optimizer)
    assert alive(model, mask) == 0


def test_a_copy_of_an_optimizer_and_its_model_is_free():
    model = convnet()
    mask = random_mask(model)
    optimizer = Accelerated(momentum(list(model.parameters())))
    hold_(optimizer, model, mask)
    for again, other in (
        copy.deepcopy((model, optimizer)),
        pickle.loads(pickle.dumps((model, optimizer))),
    ):
        before = copy.deepcopy(model.state_dict())
        step(again, other)
        assert alive(again, mask) > 0
        assert equal(model.state_dict(), before)


def test_what_scalers_skip_and_what_they_scale_is_held():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    hold_(sgd, model, mask)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = model[6].weight.detach().clone()
    for number in range(6):
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
        scaler.scale(loss * (float("inf") if number == 0 else 1.0)).backward()
        scaler.unscale_(sgd)
        if number:
            assert steep(model, mask) == 0
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(sgd)
        scaler.update()
        assert alive(model, mask) == 0
        assert torch.equal(model[6].weight, before) == (number == 0)


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_are_kept_or_gathered_over_batches_stay_masked(to_none):
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    step(model, sgd)
    hold_(sgd, model, mask)  # between a backward pass and a step
    assert steep(model, mask) == 0
    for _ in range(2):
        sgd.zero_grad(set_to_none=to_none)
        for part in (slice(0, 8), slice(8, 16)):
            nn.functional.cross_entropy(model(IMAGES[part]), LABELS[part]).backward()
            assert steep(model, mask) == 0
        sgd.step()
        assert alive(model, mask) == 0


def test_two_forward_passes_and_one_backward_pass_go_together():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    hold_(sgd, model, mask)
    (model(IMAGES[:8]).sum() + model(IMAGES[8:]).pow(2).sum()).backward()
    assert steep(model, mask) == 0


# ---- parameters that change


def test_a_weight_that_is_thawed_does_not_count_in_the_clipped_norm():
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 1.0, 1.0]])
    layer.weight.requires_grad_(False)
    sgd = torch.optim.SGD([layer.weight], 1.0)
    hold_(sgd, layer, {"weight": torch.tensor([[True, True, False]])})
    assert not layer.weight.requires_grad
    layer.weight.requires_grad_(True)
    layer(torch.tensor([[3.0, 4.0, 12.0]])).sum().backward()
    assert nn.utils.clip_grad_norm_(layer.parameters(), 1.0).item() == 5.0


def test_a_layer_that_is_replaced_by_one_of_its_shape_is_held():
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    model[4] = nn.Linear(4 * 9, 8)
    sgd = momentum(model.parameters())
    check_held(model, mask, lambda look: step(model, sgd, look=look), steps=3)


def test_a_layer_that_is_replaced_by_one_of_another_shape_is_refused_in_one_line():
    model = convnet()
    mask = random_mask(model)
    handle = hold_(momentum(model.parameters()), model, mask)
    model[6] = nn.Linear(8, 5)
    with pytest.raises(
        InputError,
        match=r"hold_ cannot hold on, since a layer was replaced: '6.weight' has the shape",
    ):
        model(IMAGES)
    handle.replace({name: keep for name, keep in mask.items() if name != "6.weight"})
    model(IMAGES)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_that_is_moved_to_another_dtype_or_layout_is_held(dtype):
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    model.to(dtype).to(memory_format=torch.channels_last)
    sgd = momentum(model.parameters())
    for _ in range(3):
        sgd.zero_grad()
        model(IMAGES.to(dtype)).float().pow(2).mean().backward()
        assert steep(model, mask) == 0
        sgd.step()
        assert alive(model, mask) == 0


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_that_is_loaded_is_held(assign):
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    model.load_state_dict(drawn(convnet(), seed=3).state_dict(), assign=assign)
    assert alive(model, mask) == 0
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    sgd = momentum(model.parameters())
    check_held(model, mask, lambda look: step(model, sgd, look=look), steps=3)


def test_weights_that_are_written_by_hand_are_zero_in_the_next_forward_pass():
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data += 0.1
    with (
        pytest.warns(UserWarning, match=r"pruned weights of '0.weight' had been written outside"),
        torch.no_grad(),
    ):
        model(IMAGES)
    assert alive(model, mask) == 0


def test_tied_weights_are_held_under_either_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(self.one(x))

    first, second = torch.rand(4, 4) < 0.7, torch.rand(4, 4) < 0.7
    for mask in (
        {"one.weight": first},
        {"two.weight": first},
        {"one.weight": first, "two.weight": second},
    ):
        model = Tied()
        sgd = momentum(model.parameters())
        hold_(sgd, model, mask)
        for _ in range(2):
            model(torch.rand(3, 4)).sum().backward()
            sgd.step()
        assert all(not model.one.weight[~keep].any() for keep in mask.values())


def test_weights_are_zero_in_layers_that_are_never_called_themselves():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)  # reads the weights of its out_proj
    mask = {
        name: torch.rand(value.shape) < 0.5
        for name, value in attention.named_parameters()
        if value.ndim == 2
    }
    hold_(momentum(attention.parameters()), attention, mask)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.data += 0.1
    with pytest.warns(UserWarning, match="had been written outside"):
        attention(*[torch.rand(2, 3, 8)] * 3)
    assert alive(attention, mask) == 0


def test_a_part_of_a_model_that_is_called_alone_computes_with_zeros():
    parts = nn.ModuleDict({"inner": convnet(), "other": nn.Linear(3, 2)})
    mask = random_mask(parts)
    hold_(momentum(parts.parameters()), parts, mask)
    with torch.no_grad():
        parts["inner"][4].weight.data += 0.1
    with pytest.warns(
        UserWarning, match=r"pruned weights of 'inner\.4\.weight' had been written outside"
    ):
        parts["inner"](IMAGES)
    assert alive(parts, mask) == 0


def test_a_forward_pass_that_fails_does_not_end_the_hold():
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    with pytest.raises(RuntimeError):
        model(torch.rand(2, 7))
    with torch.no_grad():
        model[0].weight.data += 0.1
    with pytest.warns(UserWarning, match="had been written outside"):
        model(IMAGES)
    assert alive(model, mask) == 0


# ---- wrappers, copies, handles


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # of torch's own
@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager", fullgraph=True),
        lambda model: (model.compile(backend="eager"), model)[1],
        lambda model: nn.Sequential(
            checkpoint_wrapper(model[:4]), torch.compile(model[4:], backend="eager")
        ),
        lambda model: nn.Sequential(*(checkpoint_wrapper(layer) for layer in model)),
    ],
    ids=["data parallel", "compile", "compile in place", "blocks", "checkpointed"],
)
@pytest.mark.parametrize("order", ["wrapped first", "held first"])
def test_wrapped_models_are_held(wrap, order):
    model = convnet()
    wrapped = wrap(model) if order == "wrapped first" else None
    mask = random_mask(model if wrapped is None else wrapped)
    sgd = momentum(model.parameters())
    hold_(sgd, model if wrapped is None else wrapped, mask)
    wrapped = wrap(model) if wrapped is None else wrapped
    check_held(model, random_mask(model), lambda look: step(wrapped, sgd, look=look), steps=3)


def test_a_compiled_step_of_an_optimizer_is_held():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    hold_(sgd, model, mask)
    compiled = torch.compile(lambda: sgd.step(), backend="eager")
    for _ in range(3):
        sgd.zero_grad()
        nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
        compiled()
        assert alive(model, mask) == 0


def hooks_of(model, optimizer):
    """All that anything could have hooked or patched."""
    module = [
        len(value)
        for m in model.modules()
        for name, value in vars(m).items()
        if name.endswith("hooks") and value
    ]
    gradient = [len(p._post_accumulate_grad_hooks or {}) for p in model.parameters()]
    steps = len(torchs._global_optimizer_post_hooks) + len(torchs._global_optimizer_pre_hooks)
    patched = [
        name
        for m in [optimizer, *model.modules()]
        for name in vars(m)
        if name in ("step", "eval", "__getstate__")
    ]
    return module, gradient, steps, patched


@pytest.mark.parametrize("make", [momentum, lambda p: Accelerated(momentum(p)), ScheduleFree])
def test_a_removed_handle_leaves_nothing_behind(make):
    gc.collect()
    model = convnet()
    optimizer = make(list(model.parameters()))
    # what models that are gone have left is cleared, too
    hold_(optimizer, model, random_mask(model)).remove()
    before = hooks_of(model, optimizer)
    handle = hold_(optimizer, model, random_mask(model))
    assert hooks_of(model, optimizer) != before
    handle.remove()
    assert hooks_of(model, optimizer) == before


def test_the_last_mask_holds_and_a_hundred_calls_leave_the_hooks_of_one():
    model = convnet()
    sgd = momentum(model.parameters())
    handles = [hold_(sgd, model, random_mask(model, seed=0))]
    before = hooks_of(model, sgd)
    handles += [hold_(sgd, model, random_mask(model, seed=seed)) for seed in range(1, 100)]
    assert hooks_of(model, sgd) == before
    last = random_mask(model, seed=99)
    step(model, sgd)
    assert alive(model, last) == 0
    assert alive(model, random_mask(model, seed=98)) > 0
    handles[0].remove()  # lets go of nothing that is another's
    step(model, sgd)
    assert alive(model, last) == 0
    handles[-1].remove()
    step(model, sgd)
    assert alive(model, last) > 0


def test_names_of_a_wrapper_in_a_mask_are_those_of_its_model():
    model = convnet()
    wrapped, mask = nn.DataParallel(model), random_mask(model)
    sgd = momentum(model.parameters())
    first = hold_(sgd, wrapped, {f"module.{name}": keep for name, keep in mask.items()})
    assert list(first.mask) == list(mask)
    hold_(sgd, model, random_mask(model, seed=1))
    assert first.mask == {}
    step(wrapped, sgd)
    assert alive(model, random_mask(model, seed=1)) == 0


def test_what_others_put_around_a_method_of_the_optimizer_stays():
    model = convnet()
    optimizer = Bare(model.parameters())
    handle = hold_(optimizer, model, random_mask(model))
    calls, held = [], optimizer.step
    optimizer.step = lambda: (calls.append(1), held())
    handle.remove()
    step(model, optimizer)
    assert calls == [1]
    assert alive(model, random_mask(model)) > 0


def test_two_handles_hold_a_part_of_the_weights_each():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    one = hold_(sgd, model, {"0.weight": mask["0.weight"]})
    hold_(sgd, model, {name: mask[name] for name in ("4.weight", "6.weight")})
    step(model, sgd)
    assert alive(model, mask) == 0
    one.remove()
    step(model, sgd)
    assert alive(model, {"0.weight": mask["0.weight"]}) > 0
    assert alive(model, {name: mask[name] for name in ("4.weight", "6.weight")}) == 0


def test_a_handle_is_a_context_and_can_be_looked_at():
    model = convnet()
    sgd = momentum(model.parameters())
    with hold_(sgd, model, {"0.weight": torch.zeros(4, 1, 3, 3).bool()}) as handle:
        step(model, sgd)
        assert not model[0].weight.any()
        assert repr(handle) == "HookedMaskHandle(36 pruned weights of 1 parameters)"
    step(model, sgd)
    assert model[0].weight.any()


def test_a_held_model_is_not_kept_alive():
    model = convnet()
    sgd = momentum(model.parameters())
    hold_(sgd, model, random_mask(model))
    step(model, sgd)
    gone = weakref.ref(model[0])
    del model, sgd
    gc.collect()
    assert gone() is None


def test_a_file_of_a_held_model_has_nothing_of_tombola_in_it():
    model = convnet()
    hold_(momentum(model.parameters()), model, random_mask(model))
    written = pickle.dumps(model)
    assert b"tombola" not in written
    twin = copy.deepcopy(model)
    for module in twin.modules():
        assert not any(value for name, value in vars(module).items() if "hooks" in name)
        assert "__getstate__" not in vars(module)
    assert model[0]._forward_pre_hooks


def test_a_copy_of_a_handle_holds_nothing():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    model.handle = hold_(sgd, model, mask)  # as trainers keep it
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert equal(twin.handle.mask, mask)
        with pytest.raises(
            InputError, match="this handle is a copy and holds no model; call hold_ again"
        ):
            twin.handle.replace(mask)
        twin.handle.remove()
    step(model, sgd)
    assert alive(model, mask) == 0


def test_an_average_of_a_held_model_has_its_zeros():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    hold_(sgd, model, mask)
    averaged = AveragedModel(model)
    for _ in range(3):
        step(model, sgd)
        averaged.update_parameters(model)
    assert alive(averaged, mask) == 0


def test_parameters_that_stand_in_for_a_call_are_left_alone():
    model = convnet()
    mask = random_mask(model)
    hold_(momentum(model.parameters()), model, mask)
    others = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    torch.func.functional_call(model, others, (IMAGES,))
    assert all((value == 1).all() for value in others.values())


# ---- what is refused


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (
            torch.ones(8, 36),
            "the mask of '4.weight' is float32; a mask is a boolean tensor, True = kept",
        ),
        (torch.ones(8, 36).byte(), "the mask of '4.weight' is uint8; a mask is a boolean"),
        (
            np.ones((8, 36)),
            "the mask of '4.weight' is float64 array of numpy's; a mask is a boolean",
        ),
        ([[True]], "the mask of '4.weight' is list; a mask is a boolean"),
        (
            torch.ones(8, 35).bool(),
            "'4.weight' has the shape (8, 35) in the mask and (8, 36) in the model",
        ),
    ],
)
def test_a_mask_that_is_none_is_refused_in_one_line(keep, said):
    model = convnet()
    for use in (
        lambda mask: hold_(momentum(model.parameters()), model, mask),
        lambda mask: apply_(model, mask),
    ):
        with pytest.raises(InputError, match=re.escape(said)) as refused:
            use({"4.weight": keep})
        assert "\n" not in str(refused.value)


def test_a_boolean_array_of_numpys_is_a_mask():
    model = convnet()
    sgd = momentum(model.parameters())
    keep = np.arange(8 * 36).reshape(8, 36) % 2 == 0
    handle = hold_(sgd, model, {"4.weight": keep})
    step(model, sgd)
    assert not model[4].weight[~torch.from_numpy(keep)].any()
    assert isinstance(handle.mask["4.weight"], torch.Tensor)


def test_what_cannot_be_held_is_refused_in_one_line():
    model, other = convnet(), convnet()
    mask = random_mask(model)
    cases = {
        "SGD trains no parameter of this model": (momentum(other.parameters()), model, mask),
        "the mask is empty": (momentum(model.parameters()), model, {}),
        "hold_ takes an optimizer, a model and a mask": (model, momentum(model.parameters()), mask),
        "hold_ cannot see what a dict trains": ({}, model, mask),
        "the mask names '9.weight'": (
            momentum(model.parameters()),
            model,
            {"9.weight": mask["0.weight"]},
        ),
        "'0.weight' has no shape yet": (
            momentum(model.parameters()),
            nn.Sequential(nn.LazyLinear(3), model),
            {"0.weight": mask["0.weight"]},
        ),
    }
    before = hooks_of(model, other)
    for said, arguments in cases.items():
        with pytest.raises(InputError, match=re.escape(said)) as refused:
            hold_(*arguments)
        assert "\n" not in str(refused.value)
    assert hooks_of(model, other) == before  # nothing is left of what was refused


def test_a_mask_that_does_not_fit_leaves_the_one_before():
    model = convnet()
    mask = random_mask(model)
    sgd = momentum(model.parameters())
    handle = hold_(sgd, model, mask)
    with pytest.raises(InputError, match="which the model has not"):
        handle.replace({"9.weight": mask["0.weight"]})
    step(model, sgd)
    assert alive(model, mask) == 0
