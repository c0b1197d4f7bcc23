"""Tokens: a text becomes windows, and perplexity is told by hand."""

import itertools
import math

import pytest
import torch
from tests.test_bombs import refused
from torch import nn

from tombola.data.loading import load
from tombola.data.partitions import WHOLE, Partition
from tombola.data.texts import Text
from tombola.ground import catalogue
from tombola.ground.errors import InputError
from tombola.masks.masks import ones
from tombola.models.building import build_for
from tombola.tasks._tokens import tokens
from tombola.tasks.settings import Augment, Data, Model

MODELS = catalogue.entries_for("tombola.models", "tokens")
SENTENCE = "the quick brown fox jumps over the lazy dog. "  # 45 characters, 28 of them different


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "fox.txt").write_text(SENTENCE * 20)
    (folder / "short.txt").write_text("too short")
    (folder / "latin1.txt").write_bytes("déjà vu ".encode("latin-1") * 50)
    return folder


def made(folder, *, model="lstm", seed=0, data=None, **options):
    options = {"path": "fox.txt", "length": 8, "unit": "character"} | options
    data = Data("text", options=options, **(data or {}))
    return tokens(data, Model(model), seed=seed, device="cpu", root=folder)


# ---- texts


def test_a_character_is_a_number_of_the_sorted_vocabulary_and_a_byte_is_itself(folder):
    read = load("text", root=folder, options={"path": "fox.txt", "unit": "character"}, kind=Text)
    vocabulary = sorted(set(SENTENCE))
    assert read.vocabulary == len(vocabulary) == 28
    whole = "".join(vocabulary[number] for number in torch.cat([read.train, read.test]).tolist())
    assert whole == SENTENCE * 20
    assert (len(read.train), len(read.test)) == (810, 90)
    as_bytes = load("text", root=folder, options={"path": "fox.txt"}, kind=Text)
    assert as_bytes.train.dtype is torch.uint8
    assert bytes(as_bytes.train[:45].tolist()).decode() == SENTENCE
    assert as_bytes.fingerprint != read.fingerprint


def test_a_second_file_is_the_test_text_and_has_the_same_vocabulary(folder):
    (folder / "other.txt").write_text("zebra zebra zebra !")
    options = {"path": "fox.txt", "test_path": "other.txt", "unit": "character", "length": 8}
    read = load("text", root=folder, options=options, kind=Text)
    vocabulary = sorted(set(SENTENCE) | {"!"})
    assert (len(read.train), read.vocabulary) == (900, 29)
    assert "".join(vocabulary[number] for number in read.test.tolist()) == "zebra zebra zebra !"


def test_windows_cover_the_text_once_and_validation_windows_are_its_last(folder):
    task = made(folder, data={"valid": 11})
    inputs, targets = (
        torch.cat(parts) for parts in zip(task.splits["train"], task.splits["valid"], strict=True)
    )
    text = task.source.train.long()
    assert inputs.shape == (101, 8)
    assert inputs.flatten().tolist() == text[:808].tolist()
    assert targets.flatten().tolist() == text[1:809].tolist()
    few = made(folder, data={"valid": 11, "subset": 40}, seed=3)
    assert torch.equal(few.splits["valid"][0], task.splits["valid"][0])
    assert (few.size(WHOLE, "train"), few.size(WHOLE, "test")) == (40, 11)
    assert few.digest != made(folder, data={"valid": 11, "subset": 40}, seed=4).digest
    assert made(folder, data={"valid": "test"}).leaks
    half = Partition(examples=tuple(range(0, 90, 2)))
    assert [len(batch[0]) for batch in task.batches(half, 20, 0).epoch(0)] == [20, 20, 5]


# ---- perplexity


class Bigram(nn.Module):
    """Knows for each token how often each other one follows it, and nothing else."""

    def __init__(self, logits):
        super().__init__()
        self.table = nn.Parameter(logits)

    def forward(self, inputs):
        return self.table[inputs]


def test_perplexity_is_told_by_hand(folder):
    task = made(folder)
    uniform = Bigram(torch.zeros(28, 28))
    found = task.measure(uniform, WHOLE, "test")
    assert found.values["perplexity"] == pytest.approx(28, rel=1e-5)
    logits = torch.randn(28, 28, generator=torch.Generator().manual_seed(0))
    text = task.source.test[: 88 + 1].tolist()
    chances = logits.double().softmax(1)
    nats = [-math.log(chances[one, two]) for one, two in itertools.pairwise(text)]
    found = task.measure(Bigram(logits), WHOLE, "test")
    assert found.loss == pytest.approx(sum(nats) / 88, rel=1e-5)
    assert found.values["perplexity"] == pytest.approx(math.exp(sum(nats) / 88), rel=1e-5)
    assert task.values(800.0) == {"perplexity": math.inf}


# ---- models


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_sees_nothing_of_what_follows_and_its_head_may_be_the_embedding(name, tied):
    drawn = torch.randint(30, (2, 12), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = build_for("tokens", name, 30, options={"width": 16, "tied": tied}, inputs=drawn,
                      outputs=(2, 12, 30), length=12)  # fmt: skip
    changed = drawn.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 30
    with torch.no_grad():
        one, other = model(drawn), model(changed)
    assert torch.equal(one[:, :7], other[:, :7])
    assert not torch.isclose(one[:, 7:], other[:, 7:]).all(-1).any()
    assert (model.head.weight is model.tokens.weight) == tied
    pruned = ones(model, "no_head", head="head")
    assert not any("head" in weight or "tokens" in weight for weight in pruned)
    assert len(ones(model, "all")) == len(pruned) + 1


@pytest.mark.parametrize("name", MODELS)
def test_every_product_of_a_model_is_counted(folder, name):
    task = made(folder, model=name)
    assert task.uncounted == []
    flops = task.flops(WHOLE)
    # Each weight is used once for each of the 8 tokens of an example.
    for weight, keep in ones(task.model, "no_head", head="head").items():
        layer = weight.rpartition(".")[0]
        if name != "lstm":
            assert flops[layer].forward == 2 * 8 * keep.numel(), weight


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": "none.txt"}, "none.txt; 'path' names a text file"),
        ({"path": "short.txt"}, "text has 8 tokens; a window takes 9"),
        ({"path": "latin1.txt"}, "'latin1.txt' is no UTF-8 text (byte 1); unit: byte takes any"),
        ({"test": 1.5}, "text.test is 1.5; it is the fraction"),
        ({"length": 0}, "text.length is 0; a window has at least 1 token"),
        ({"unit": "word"}, "text.unit is 'word'"),
        ({"data": {"classes": 3}}, "data.classes is given, and the task tokens has nothing"),
        ({"data": {"augment": Augment(flip=True)}}, "data.augment is given, and the task tokens"),
        ({"data": {"valid": 500}}, "500 windows to validate on and at least one to train on are m"),
        ({"model": "lenet5"}, "model 'lenet5' is for the task classification, and this one is tok"),
        ({"model": "torchvision:resnet18"}, "is a classifier; the task tokens takes: lstm, tiny_"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_one_line(folder, changes, said):
    with pytest.raises(InputError) as caught:
        made(folder, **changes)
    refused(caught.value)
    assert said in str(caught.value)


def test_data_of_images_is_refused_by_the_entries_there_are():
    with pytest.raises(
        InputError,
        match="'digits' is for the task classification, and this one is tokens; it takes: text",
    ):
        tokens(Data(), Model("lstm"), seed=0, device="cpu", root=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 10, "heads": 4}, "width is 10 and heads is 4; the heads divide the width"),
        ({"layers": 0}, "layers is 0; it is a whole number of at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; it is a fraction"),
    ],
)
def test_sizes_that_will_not_do_are_one_line(options, said):
    with pytest.raises(InputError, match=said):
        build_for(
            "tokens",
            "tiny_gpt",
            5,
            options=options,
            inputs=torch.zeros(2, 3).long(),
            outputs=(2, 3, 5),
        )
