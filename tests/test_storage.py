"""What is stored comes back bit for bit, and half a file is none."""

from dataclasses import replace

import pytest
import torch

from tombola.records.storage import Store
from tombola.search.work import Measure, Train
from tombola.tasks.protocol import Metrics
from tombola.training.jobs import Measured, Trained

DIGEST = "ab" * 32


def trained(**changes) -> Trained:
    final = {
        "conv.weight": torch.tensor([[1.5, -0.0], [float("inf"), 1e-40]]),
        "norm.num_batches_tracked": torch.tensor(2**40),
        "half": torch.tensor([0.5], dtype=torch.bfloat16),
    }
    early = {name: value + 1 for name, value in final.items()}
    history = [{"step": 3, "valid_loss": 0.1 + 0.2, "valid_accuracy": 1 / 3}]
    return replace(Trained(final, early, 3, "best", history, 120, 1.25), **changes)


def metrics(loss: float) -> Metrics:
    return Metrics(loss, {"accuracy": 1 / 3}, torch.tensor([2, 0, 1]))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "made" / "when" / "needed")


def same_bits(one, other):
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].reshape(-1).view(torch.uint8).equal(other[name].reshape(-1).view(torch.uint8))
        for name in one
    )


def by_name(state):
    return dict(sorted(state.items()))


def test_a_training_comes_back_bit_for_bit(store):
    kept = trained()
    store.keep(Train, DIGEST, kept)
    back = store.trained(DIGEST)
    assert same_bits(by_name(back.final), by_name(kept.final))
    assert same_bits(by_name(back.early), by_name(kept.early))
    for name in ("early_step", "select", "history", "samples", "seconds"):
        assert getattr(back, name) == getattr(kept, name)
    assert back.state is back.early


def test_a_training_without_an_early_state_comes_back_without_one(store):
    store.keep(Train, DIGEST, trained(early=None, early_step=None, history=[], select="last"))
    back = store.trained(DIGEST)
    assert (back.early, back.early_step, back.history) == (None, None, [])
    assert back.state is back.final


@pytest.mark.parametrize("missing", [(), ("valid",), ("early",), ("valid", "early")])
def test_a_measurement_comes_back_with_what_it_had(store, missing):
    kept = Measured(metrics(0.1), metrics(0.2), metrics(0.3), metrics(0.1 + 0.3))
    kept = replace(kept, **dict.fromkeys(missing))
    store.keep(Measure, DIGEST, kept)
    back = store.read(Measure, DIGEST)
    for which in ("train", "valid", "test", "early"):
        one, other = getattr(back, which), getattr(kept, which)
        assert (one is None) == (other is None) == (which in missing)
        if one is not None:
            assert (one.loss, one.values) == (other.loss, other.values)
            assert torch.equal(one.predictions, other.predictions)


def test_a_measurement_whose_best_state_is_the_early_one_can_be_kept(store):
    # The two are one object then, and safetensors refuses to write one memory twice.
    test = metrics(0.3)
    store.keep(Measure, DIGEST, Measured(metrics(0.1), metrics(0.2), test, test))
    back = store.read(Measure, DIGEST)
    assert torch.equal(back.early.predictions, test.predictions)
    assert back.early.loss == back.test.loss == 0.3


def test_parameters_that_share_memory_can_be_kept(store):
    tied = torch.arange(4.0)
    store.keep(
        Train, DIGEST, trained(final={"in": tied, "out": tied, "part": tied[1:3]}, early=None)
    )
    assert store.trained(DIGEST).final["part"].tolist() == [1, 2]


def test_what_was_never_kept_is_absent(store):
    assert store.trained(DIGEST) is None
    assert store.read(Measure, DIGEST) is None
    store.keep(Train, DIGEST, trained())
    assert store.read(Measure, DIGEST) is None
    assert store.trained("cd" * 32) is None


def test_a_file_cut_off_anywhere_counts_as_absent_and_can_be_written_again(store):
    store.keep(Train, DIGEST, trained())
    (file,) = store.folder.iterdir()
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert store.trained(DIGEST) is None, f"{length} of {len(whole)} bytes"
    store.keep(Train, DIGEST, trained())
    assert file.read_bytes() == whole


def test_equal_contents_give_equal_files_and_nothing_else_is_left(store, tmp_path):
    other = Store(tmp_path / "other")
    kept = trained()
    turned = replace(kept, final=dict(reversed(kept.final.items())))
    for folder, one in ((store, kept), (other, turned)):
        folder.keep(Train, DIGEST, one)
        folder.keep(Measure, DIGEST, Measured(metrics(0.1), None, metrics(0.3), metrics(0.4)))
    names = {f"{DIGEST}.measured", f"{DIGEST}.training"}
    for folder in (store, other):
        assert {path.name for path in folder.folder.iterdir()} == names
    for name in names:
        assert (store.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_keeping_again_replaces_what_was_there(store):
    store.keep(Train, DIGEST, trained(samples=1))
    store.keep(Train, DIGEST, trained(samples=2))
    assert store.trained(DIGEST).samples == 2
