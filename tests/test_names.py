"""Names: the same with and without a wrapper, on every public function that takes a model or a
state.
"""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

import tombola
from tombola.data import synthetic
from tombola.masks import names
from tombola.masks.rates import counts_for
from tombola.models.building import find_head, head_name, load_weights_, replace_head_
from tombola.models.flops import per_example
from tombola.scores import magnitude
from tombola.scores.context import Context


class Net(nn.Module):
    """A model with an attribute that is called ``module``, as the prefix of data parallel is."""

    def __init__(self):
        super().__init__()
        self.module = nn.Sequential(nn.Linear(64, 12), nn.ReLU())
        # Outside of what is wrapped below: a checkpointed batch norm takes its statistics twice.
        self.norm = nn.BatchNorm1d(12)
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Linear(12, 12), nn.ReLU()), nn.Sequential(nn.Linear(12, 12))
        )
        self.head = nn.Linear(12, 10)

    def forward(self, images):
        return self.head(self.blocks(self.norm(self.module(images.flatten(1)))))


def bare():
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A process group of this process alone."""
    folder = tmp_path_factory.mktemp("group")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
        )
    yield
    torch.distributed.destroy_process_group()


def fabric(model):
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup(model)


def compiled(model):
    return torch.compile(model, backend="eager")


def fabric_of_compiled(model):
    # Fabric wraps torch.compile when it is imported, and refuses what was compiled before.
    import lightning_fabric  # noqa: F401

    return fabric(compiled(model))


def in_a_block(wrap):
    """Wrap what lies inside of the model, and the head too."""

    def wrapped(model):
        model.module = wrap(model.module)
        model.blocks[0] = wrap(model.blocks[0])
        model.blocks[1][0] = wrap(model.blocks[1][0])
        model.head = wrap(model.head)
        return model

    return wrapped


class Nested(nn.DataParallel):
    """Somebody's own kind of data parallel."""


WRAPPERS = {
    "data parallel": nn.DataParallel,
    "ddp": nn.parallel.DistributedDataParallel,
    "compile": compiled,
    "fabric": fabric,
    "checkpointed blocks": in_a_block(checkpoint_wrapper),
    "compiled blocks": in_a_block(compiled),
}
NESTED = {
    "a class of its own": Nested,
    "checkpointed": checkpoint_wrapper,
    "averaged": AveragedModel,
    "fabric, compiled": fabric_of_compiled,
    "fabric, ddp": lambda model: fabric(nn.parallel.DistributedDataParallel(model)),
    "compile, ddp": lambda model: compiled(nn.parallel.DistributedDataParallel(model)),
    "compiled and checkpointed blocks": in_a_block(
        lambda block: checkpoint_wrapper(compiled(block))
    ),
    "data parallel of compiled blocks": lambda model: nn.DataParallel(in_a_block(compiled)(model)),
}
DATA = tombola.split(synthetic())
IMAGES = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(16) % 10
SHORT = tombola.Training(lr=0.05, steps=2, batch_size=32)


def half(model):
    """A mask of about half the weights."""
    chance = torch.Generator().manual_seed(2)
    return {
        name: torch.rand(keep.shape, generator=chance) < 0.5
        for name, keep in tombola.ones(model).items()
    }


def values(model):
    """The values of a model, whatever their names: with and without a wrapper in one order."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def applied(model):
    tombola.apply_(model, half(model))
    return values(model)


def from_zeros(model):
    tombola.apply_(model, half(model))
    return tombola.from_zeros(model.state_dict(), tombola.ones(model))


def held(model):
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    tombola.hold_(sgd, model, half(model))
    for _ in range(2):
        sgd.zero_grad()
        loss(model, (IMAGES, LABELS)).backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        sgd.step()
    return [values(model), gradients]


def trained(model):
    batches = tombola.Classification(bare(), DATA).batches(tombola.Partition(), 100, seed=0)
    steps = [
        step.number for step in tombola.train(model, batches, SHORT, half(model), loss=loss, seed=0)
    ]
    return [steps, *values(model)]


def evaluated(model):
    metrics = tombola.evaluate(model, [(IMAGES, LABELS)])
    return [metrics.loss, metrics.predictions]


def job_on(model):
    return tombola.Job(model.state_dict(), half(model), SHORT, seed=0), tombola.Classification(
        model, DATA
    )


def run(model):
    job, task = job_on(model)
    return tombola.run_job(job, task).final


def measured(model):
    job, task = job_on(model)
    done = tombola.measure(job, tombola.run_job(job, task), task)
    return [done.test.loss, done.test.predictions]


def connected(model):
    job, task = job_on(model)
    ends = [tombola.run_job(dataclasses.replace(job, seed=seed), task) for seed in (0, 1)]
    return tombola.connect(job, *ends, task, points=3).loss


def found(model):
    job, task = job_on(model)
    rounds = list(tombola.find(job, [tombola.Partition()], [0.3], run_all=tombola.serial(task)))
    return [rounds[-1].mask, tombola.density(rounds[-1].mask)]


def with_own_head(model):
    job, task = job_on(model)
    part = tombola.Partition(classes=(1, 4, 5))
    return tombola.run_job(job.on(part, job.mask), task).final


def classified(model):
    task = tombola.Classification(model, DATA, head="head")
    return [task.initial_state(), task.head]


def task_of_rows(model):
    bits = tombola.Metric("bits", fraction=False, unit="bits")
    rows = (IMAGES, LABELS)
    task = tombola.Rows(
        draw=lambda: model,
        splits={"train": rows, "valid": (IMAGES[:0], LABELS[:0]), "test": rows},
        seed=0,
        loss=task_loss,
        metrics=(bits,),
        values=lambda loss: {"bits": loss},
        head="head",
    )
    built = task.build(task.initial_state(), tombola.data.partitions.WHOLE, 0)
    return [task.initial_state(), task.measure(built, tombola.data.partitions.WHOLE, "test").loss]


def task_loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def applied_ticket(model):
    ticket = tombola.Ticket(half(bare()), bare().state_dict(), {})
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return [ticket.apply(model), *values(model)]


def saved(model, tmp_path):
    return tombola.Ticket(half(model), model.state_dict(), {}).save(tmp_path / "t.safetensors")


def pruned(model):
    scores = {
        name: value.abs() for name, value in model.state_dict().items() if value.is_floating_point()
    }
    return tombola.prune(scores, half(model), 0.3)


def divided(model, scope):
    [count] = counts_for(tombola.ones(model), [0.3], scope(model))
    return count.keep


def cut(model):
    return tombola.keep_common()(half(model), [model.state_dict()], 0.3, Context({}, seed=0))[0]


def loaded(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "net.pt")
    plain = bare()
    load_weights_(plain, tmp_path / "net.pt")
    torch.save(bare().state_dict(), tmp_path / "net.pt")
    load_weights_(model, tmp_path / "net.pt")
    return [values(plain), values(model)]


def new_head(model):
    replace_head_(model, "head", 4, 0)
    return [head_name(model), find_head(model, 4), names.modules(model)["head"].weight]


OF_A_MODEL = {
    "ones": tombola.ones,
    "total_weights": tombola.total_weights,
    "unmasked": tombola.unmasked,
    "apply_": applied,
    "from_zeros": from_zeros,
    "hold_": held,
    "per_kind": lambda model: tombola.per_kind(model)(half(model)),
    "half_output": lambda model: tombola.half_output(model)(half(model)),
    "erdos_renyi": lambda model: divided(model, tombola.erdos_renyi),
    "erk": lambda model: divided(model, tombola.erk),
    "n_of_m": lambda model: tombola.n_of_m(model, 1, 2)(half(model)),
    "train": trained,
    "evaluate": evaluated,
    "prune": pruned,
    "keep_common": cut,
    "magnitude": lambda model: dict(tombola.magnitude(model.state_dict(), half(model))),
    "Classification": classified,
    "Rows": task_of_rows,
    "Partition": with_own_head,
    "Job": lambda model: job_on(model)[0].digest("task"),
    "run_job": run,
    "measure": measured,
    "connect": connected,
    "find": found,
    "serial": found,
    "Ticket": saved,
}
# Not public by themselves, or a second way through a public name.
MORE = {
    "Ticket.apply": applied_ticket,
    "load_weights_": loaded,
    "per_example": lambda model: per_example(model, IMAGES),
    "replace_head_": new_head,
}
# Take neither a model nor its state: data, settings, masks, files of runs.
OF_NO_MODEL = {
    "__version__", "from_tensors", "split", "Augment", "by_classes", "by_examples", "by_seeds", "Training", "density",
    "intersect", "whole_model", "per_layer", "Count", "rate_to_reach", "Round", "read", "run", "Run", "report",
    "compare", "verdict", "Metric", "Metrics",
}  # fmt: skip


def test_every_public_name_is_one_of_a_model_or_not():
    assert OF_NO_MODEL.isdisjoint(OF_A_MODEL)
    assert OF_NO_MODEL | set(OF_A_MODEL) == set(tombola.__all__)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            same(value, other[name]) for name, value in one.items()
        )
    if isinstance(one, list | tuple) and not hasattr(one, "_fields"):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """What each function gives for the model in no wrapper, worked out once."""
    folder = tmp_path_factory.mktemp("bare")
    return {
        name: called(function, bare(), folder) for name, function in (OF_A_MODEL | MORE).items()
    }


def called(function, model, folder):
    wants_folder = "tmp_path" in getattr(function, "__code__", function).co_varnames
    return function(model, folder) if wants_folder else function(model)


# What torch's compiler says of itself; a person sees it once.
quietly = pytest.mark.filterwarnings(
    "ignore:Dynamo does not know how to trace:UserWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)
ALL = [*WRAPPERS, *(pytest.param(wrapper, marks=pytest.mark.slow) for wrapper in NESTED)]


@quietly
@pytest.mark.parametrize("function", OF_A_MODEL | MORE)
@pytest.mark.parametrize("wrapper", ALL)
def test_a_wrapper_changes_no_name_and_no_result(wrapper, function, wanted, group, tmp_path):
    wrapped = (WRAPPERS | NESTED)[wrapper](bare())
    assert same(called((OF_A_MODEL | MORE)[function], wrapped, tmp_path), wanted[function])


@pytest.mark.parametrize("wrapper", [*WRAPPERS, *NESTED])
def test_parameters_modules_and_states_are_those_of_the_model(wrapper, group):
    model, plain = (WRAPPERS | NESTED)[wrapper](bare()), bare()
    assert list(names.parameters(model)) == [name for name, _ in plain.named_parameters()]
    assert list(names.modules(model)) == [name for name, _ in plain.named_modules()]
    assert same(dict(names.state(model)), dict(plain.state_dict()))
    assert isinstance(names.unwrapped(model), Net)
    names.load_(model, {name: value + 1 for name, value in plain.state_dict().items()})
    assert torch.equal(names.parameters(model)["module.0.weight"], plain.module[0].weight + 1)


def test_a_sharded_weight_cannot_be_held_and_says_so_in_one_line(group):
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    layer = nn.Linear(4, 2)
    sharded = distribute_tensor(layer.weight.data, init_device_mesh("cpu", (1,)), [Shard(0)])
    layer.weight = nn.Parameter(sharded)
    with pytest.raises(
        tombola.ground.errors.InputError,
        match=r"^'weight' is a DTensor, of which this process may have a part",
    ):
        tombola.hold_(
            torch.optim.SGD(layer.parameters(), 0.1), layer, {"weight": torch.rand(2, 4) < 0.5}
        )


def test_data_parallel_of_the_features_alone_changes_no_name():
    def convnet():
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
        return nn.ModuleDict({"features": features, "head": nn.Linear(4 * 36, 10)})

    plain, wrapped = convnet(), convnet()
    wrapped["features"] = nn.DataParallel(wrapped["features"])
    assert same(tombola.ones(wrapped), tombola.ones(plain))
    tickets = [tombola.Ticket(half(model), model.state_dict(), {}) for model in (plain, wrapped)]
    assert tickets[0].rewind_digest == tickets[1].rewind_digest
    assert same(tickets[0].apply(wrapped), tickets[1].apply(plain))


def test_a_state_without_a_weight_of_the_mask_is_refused_by_name():
    with pytest.raises(
        tombola.ground.errors.InputError,
        match=r"the state has no 'fc\.weight'. Did you mean 'fd\.weight'",
    ):
        magnitude({"fd.weight": torch.ones(2)}, {"fc.weight": torch.ones(2).bool()})


def test_shared_parameters_and_modules_have_torchs_names():
    model = bare()
    model.blocks[1][0].weight = model.blocks[0][0].weight
    model.again = model.blocks[0]
    for shared in (False, True):
        torchs = [name for name, _ in model.named_parameters(remove_duplicate=not shared)]
        assert list(names.parameters(model, shared=shared)) == torchs
        torchs = [name for name, _ in model.named_modules(remove_duplicate=not shared)]
        assert list(names.modules(model, shared=shared)) == torchs


def test_an_averaged_model_has_the_names_of_its_model():
    averaged = AveragedModel(bare())
    assert list(tombola.ones(averaged)) == list(tombola.ones(bare()))
    assert same(dict(names.state(averaged)), dict(bare().state_dict()))


class Own(nn.Module):
    """No wrapper: it has the attributes of some."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(3, 3)
        self._orig_mod = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)


def test_attributes_of_the_users_own_keep_their_names():
    own = Own()
    assert list(tombola.ones(own)) == ["module.weight", "_orig_mod.weight"]
    ticket = tombola.Ticket(tombola.ones(own), own.state_dict(), {})
    assert list(ticket.rewind_point) == list(own.state_dict())
    assert list(ticket.apply(copy.deepcopy(own))) == ["module.weight", "_orig_mod.weight"]


# ---- names without a model


def test_names_are_taken_as_they_are_where_they_fit():
    state = {"module.fc.weight": 1, "fc.weight": 2}
    assert names.covering(state, ["module.fc.weight"]) is state
    assert names.named_like(state, state) is state
    assert names.agreed({"module.fc.weight": 0}, state) == ({"module.fc.weight": 0}, state)


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("module.fc.weight", "fc.weight"),
        ("module._orig_mod.fc.weight", "fc.weight"),
        ("_orig_mod.module.fc.weight", "fc.weight"),
        ("_forward_module.module.fc.weight", "fc.weight"),
        ("blocks.0._orig_mod.fc.weight", "blocks.0.fc.weight"),
        ("blocks.0._checkpoint_wrapped_module.fc.weight", "blocks.0.fc.weight"),
        ("_fsdp_wrapped_module.fc.weight", "fc.weight"),
        ("module.module.fc.weight", "module.fc.weight"),
        ("module.module.fc.weight", "fc.weight"),
        ("features.module.0.weight", "features.0.weight"),
    ],
)
def test_what_wrappers_put_into_names_is_left_out_of_states(long, short):
    assert names.covering({long: 1}, [short]) == {short: 1}
    assert names.named_like({long: 1}, [short]) == {short: 1}
    assert names.agreed({short: 0}, {long: 1}) == ({short: 0}, {short: 1})


def test_a_mask_of_a_wrapper_and_a_state_of_another_agree():
    mask, state = names.agreed(
        {"_orig_mod.fc.weight": 0}, {"module.fc.weight": 1, "module.fc.bias": 2}
    )
    assert list(mask) == ["fc.weight"]
    assert list(state) == ["fc.weight", "fc.bias"]


def test_what_would_give_two_entries_one_name_is_not_done():
    state = {"module.fc.weight": 1, "fc.weight": 2, "module.fc.bias": 3}
    assert names.covering(state, ["fc.bias"]) is state
    assert names.agreed({"fc.bias": 0}, state) == ({"fc.bias": 0}, state)
    assert names.named_like(state, ["fc.weight", "fc.bias"]) is state


def test_a_name_that_nothing_brings_together_is_refused_as_it_is(tmp_path):
    with pytest.raises(
        tombola.ground.errors.TicketError,
        match=r"the mask names 'fc\.weight', which is not in the rewind",
    ):
        tombola.Ticket(
            {"fc.weight": torch.ones(2).bool()}, {"fd.weight": torch.ones(2)}, {}
        ).check()
