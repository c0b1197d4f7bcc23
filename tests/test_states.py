"""States: all that a model holds, as tensors by name, in every way into a search, a file and
back.
"""

import pytest
import torch
from tests.layers import SecondVersion
from torch import nn

from tombola import Classification, exports
from tombola.data import synthetic
from tombola.data.splits import split
from tombola.ground.errors import InputError, TicketError
from tombola.ground.settings import Training
from tombola.masks.masks import ones
from tombola.masks.states import copied, load_, lost, set_extra_, shared_names, state_of
from tombola.models.building import build
from tombola.records.storage import Store
from tombola.search.work import Train
from tombola.tickets import Ticket
from tombola.training.jobs import Job, measure, run_job


class Scaled(nn.Linear):
    """A layer that keeps plain data beside its weights, computes with it, and changes it in
    training.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.told = {"scale": 1.0, "history": [1, None, "a"]}

    def forward(self, x):
        if self.training:
            self.told = self.told | {"scale": self.told["scale"] + 0.5}
        return super().forward(x) * self.told["scale"]

    def get_extra_state(self):
        return self.told

    def set_extra_state(self, state):
        self.told = state


def scaled() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), Scaled(64, 20), nn.ReLU(), nn.Linear(20, 10))


def task_of(model: nn.Module, head: str) -> Classification:
    return Classification(model, split(synthetic()), head=head)


def test_plain_data_of_a_module_goes_through_a_training_a_store_and_a_test(tmp_path):
    task = task_of(scaled(), "3")
    job = Job(
        task.initial_state(),
        ones(task.model, head="3"),
        Training(lr=0.01, epochs=1, step="eager"),
        seed=0,
    )
    trained = run_job(job, task)
    assert task.model[1].told["scale"] == 1.0
    store = Store(tmp_path)
    store.keep(Train, "a" * 64, trained)
    again = store.trained("a" * 64)
    model = scaled()
    load_(model, again.final)
    assert model[1].told == {"scale": 1.0 + 0.5 * trained.steps, "history": [1, None, "a"]}
    # The network that is tested is the one that was trained: its scale with it.
    metrics = measure(job, again, task)
    assert metrics.test.values == measure(job, trained, task).test.values
    model.eval()
    raw = (task.splits.test.images - task.splits.mean.view(1, -1, 1, 1)) / task.splits.std.view(
        1, -1, 1, 1
    )
    assert torch.equal(model(raw).argmax(1), metrics.test.predictions)


def test_plain_data_of_a_module_goes_through_a_ticket_file_and_its_exports(tmp_path):
    model = scaled()
    model[1].told = {"scale": 3.0}
    mask = {"1.weight": torch.rand(20, 64) < 0.5}
    for point in (state_of(model), model.state_dict()):
        Ticket(mask, point, {}).save(tmp_path / "t.safetensors")
        ticket = Ticket.load(tmp_path / "t.safetensors")
        other = scaled()
        ticket.apply(other)
        assert other[1].told == {"scale": 3.0}
        plain = scaled()
        plain.load_state_dict(exports.state_dict(ticket))
        assert plain[1].told == {"scale": 3.0}


def test_extra_state_that_is_a_tensor_is_set_and_not_written_into_what_was_given():
    class Counting(nn.Linear):
        count = 0.0

        def get_extra_state(self):
            return torch.tensor([self.count])  # a new tensor: copying into it would change nothing

        def set_extra_state(self, state):
            self.count = state.item()

    model, other = Counting(2, 2), Counting(2, 2)
    model.count = 4.0
    Ticket({"weight": torch.eye(2) > 0}, model.state_dict(), {}).apply(other)
    assert other.count == 4.0


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"a": (1, 2)}, {"a": torch.ones(1)}, float("nan"), {1, 2}]
)
def test_extra_state_that_is_no_plain_data_is_refused_by_name(value, tmp_path):
    model = scaled()
    model[1].told = value
    said = "'1._extra_state' is a .* that is no plain data"
    with pytest.raises(InputError, match=said):
        task_of(model, "3").initial_state()
    with pytest.raises(TicketError, match=said):
        Ticket({}, model.state_dict(), {}).save(tmp_path / "t.safetensors")
    assert not list(tmp_path.iterdir())


def test_extra_state_that_cannot_be_set_is_refused_by_name():
    class Half(nn.Linear):
        def get_extra_state(self):
            return {}

    with pytest.raises(
        InputError, match=r"^'_extra_state' cannot be loaded again: Half has get_extra_state and no"
    ):
        state_of(Half(1, 1))


def test_a_tensor_of_bytes_is_not_taken_for_plain_data():
    class Bytes(nn.Linear):
        def get_extra_state(self):
            return torch.tensor(list(b'{"a": 1}'), dtype=torch.uint8)

        def set_extra_state(self, state):
            self.told = state

    model = Bytes(1, 1)
    load_(model, state_of(model))
    assert torch.equal(model.told, model.get_extra_state())
    set_extra_(model, "_extra_state", model.get_extra_state())
    assert torch.equal(model.told, model.get_extra_state())


def test_a_state_of_the_model_is_not_brought_up_to_date_once_more():
    model = nn.Sequential(nn.Flatten(), SecondVersion(64, 10))
    task = task_of(model, "1")
    built = task.build(
        task.initial_state(), Job(task.initial_state(), {}, Training(epochs=1), 0).part, 0
    )
    assert torch.equal(built[1].weight, model[1].weight)


def test_a_model_of_torchvision_that_asks_for_its_version_is_trained():
    model = build("torchvision:mnasnet0_5", 4, (3, 32, 32), seed=0)
    other = build("torchvision:mnasnet0_5", 4, (3, 32, 32), seed=1)
    load_(other, dict(model.state_dict()))
    assert torch.equal(other.state_dict()["layers.0.weight"], model.state_dict()["layers.0.weight"])


def test_names_share_a_tensor_by_their_memory_and_copies_keep_it():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    with torch.no_grad():
        model[1].weight.copy_(model[0].weight)
    for state in (
        model.state_dict(),
        state_of(model),
        copied(state_of(model)),
        state_of(model, keep_vars=True),
    ):
        assert shared_names(state) == {"2.weight": "0.weight"}
    assert shared_names({name: value.clone() for name, value in model.state_dict().items()}) == {}
    assert shared_names({"a": torch.empty(0), "b": torch.empty(0)}) == {}


@pytest.mark.parametrize(
    ("value", "dtype", "told"),
    [
        (torch.tensor([1.0, 1e6, 2e6]), torch.float16, "1e+06"),
        (torch.tensor([1.0, -1e39], dtype=torch.float64), torch.float32, "-1e+39"),
        (torch.tensor([1.0, 1e30]), torch.bfloat16, None),
        (torch.tensor([float("inf"), float("nan")]), torch.float16, None),
        (torch.tensor([1e-9]), torch.float16, None),
        (torch.tensor([300]), torch.uint8, "300"),
        (torch.tensor([255]), torch.uint8, None),
        (torch.tensor([3]), torch.bool, "3"),
        (torch.tensor([1e6]), torch.float32, None),
    ],
)
def test_what_a_dtype_cannot_hold_is_told(value, dtype, told):
    assert lost(value, dtype) == told


def test_a_ticket_whose_values_a_model_cannot_hold_is_refused_by_name_and_changes_nothing():
    point = {"weight": torch.tensor([[1.0, 1e6]]), "bias": torch.zeros(1)}
    model = nn.Linear(2, 1).half()
    before = model.weight.detach().clone()
    with pytest.raises(
        TicketError, match=r"'weight' holds 1e\+06, which torch.float16 cannot hold; a model of"
    ):
        Ticket({"weight": torch.tensor([[True, True]])}, point, {}).apply(model)
    assert torch.equal(model.weight, before)
    # What is pruned becomes zero, whatever it was.
    Ticket({"weight": torch.tensor([[True, False]])}, point, {}).apply(model)
    assert model.weight.tolist() == [[1.0, 0.0]]
