"""Segmentation: what each partition sees of a map, mean IoU by hand, and Pascal VOC's maps."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.devkits import write_voc
from tests.test_bombs import refused
from torch import nn

from tombola.data.loading import load
from tombola.data.maps import MapData, classes_in
from tombola.data.partitions import WHOLE, Partition
from tombola.ground.errors import InputError
from tombola.tasks._segmentation import Segmentation, segmentation
from tombola.tasks.pictured import PictureSplit
from tombola.tasks.settings import Augment, Data, Model

# Background, the classes a, b, c, d, and a border.
MAP = torch.tensor([[[0, 1, 2, 255], [0, 3, 3, 4]]], dtype=torch.uint8)


def made(maps=MAP, augment=None):
    generator = torch.Generator().manual_seed(0)
    shape = (len(maps), 3, *maps.shape[1:])
    pictures = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    split = PictureSplit(pictures, maps, classes_in(maps, 4), torch.arange(len(maps)))
    model = nn.Sequential(nn.Conv2d(3, 5, 1))
    return Segmentation(
        model=model, splits=dict.fromkeys(("train", "valid", "test"), split), head="0",
        class_names=("a", "b", "c", "d"), fingerprint="", published=len(maps),
        draw=lambda *_: model, augment=augment or Augment(),
    )  # fmt: skip


# ---- partitions


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (WHOLE, [[0, 1, 2, 255], [0, 3, 3, 4]]),
        (Partition((0, 2)), [[0, 1, 255, 255], [0, 2, 2, 255]]),
        (Partition((0, 2), others="background"), [[0, 1, 0, 255], [0, 2, 2, 0]]),
        (Partition((1, 3), full_head=True), [[0, 255, 2, 255], [0, 255, 255, 4]]),
        (Partition((1, 3), full_head=True, others="background"), [[0, 0, 2, 255], [0, 0, 0, 4]]),
    ],
)
def test_pixels_of_other_classes_belong_to_nothing_or_the_background(part, expected):
    task = made()
    _, maps = task.batch(part, "train", torch.arange(1))
    assert maps.tolist() == [expected]
    assert task.outputs(part) == (3 if part.own_head else 5)
    model = task.build(task.initial_state(), part, 0)
    assert model(torch.zeros(2, 3, 4, 4)).shape == (2, task.outputs(part), 4, 4)


def test_pictures_with_other_classes_are_dropped_by_exclude():
    maps = torch.cat([MAP, torch.where(MAP == 1, 1, 0).to(torch.uint8), torch.zeros_like(MAP)])
    task = made(maps)
    assert task.membership("train").tolist() == [
        [True] * 4,
        [True, False, False, False],
        [False] * 4,
    ]
    assert task.rows(Partition((0, 1)), "train").tolist() == [0, 1]
    assert task.rows(Partition((0, 1), others="exclude"), "train").tolist() == [1]


# ---- loss and metric


def test_the_loss_is_the_mean_over_marked_pixels():
    task = made()
    logits = torch.randn(1, 5, 2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    batch = torch.zeros(1), MAP.long()
    loss = task.loss(lambda _: logits, batch)
    assert loss.item() == pytest.approx(
        nn.functional.cross_entropy(logits, batch[1], ignore_index=255).item()
    )
    loss.backward()
    assert logits.grad[0, :, 0, 3].tolist() == [0] * 5
    nothing = task.loss(lambda _: logits, (torch.zeros(1), torch.full((1, 2, 4), 255)))
    assert nothing.item() == 0


class Says(nn.Module):
    """Says the same maps whatever it sees."""

    def __init__(self, maps, outputs):
        super().__init__()
        self.logits = nn.functional.one_hot(maps.long(), outputs).permute(0, 3, 1, 2).float()

    def forward(self, pictures):
        return self.logits[: len(pictures)]


def test_mean_iou_by_hand():
    task = made()
    # Right: one background pixel, a, one of two c's. The border counts for nobody.
    said = torch.tensor([[[0, 1, 1, 4], [3, 3, 0, 0]]])
    found = task.measure(Says(said, 5), WHOLE, "test").values
    assert found == {
        "miou": pytest.approx((1 / 4 + 1 / 2 + 0 + 1 / 3 + 0) / 5),
        "iou_background": pytest.approx(1 / 4),
        "iou_a": 0.5, "iou_b": 0.0, "iou_c": pytest.approx(1 / 3), "iou_d": 0.0,
    }  # fmt: skip
    part = Partition((0, 2))
    said = torch.tensor([[[0, 1, 1, 0], [0, 2, 0, 1]]])
    found = task.measure(Says(said, 3), part, "test").values
    assert found == {
        "miou": pytest.approx((2 / 3 + 1 + 1 / 2) / 3), "iou_background": pytest.approx(2 / 3),
        "iou_a": 1.0, "iou_c": 0.5,
    }  # fmt: skip
    full = Partition((0, 2), full_head=True)
    said = torch.tensor([[[0, 1, 2, 0], [4, 3, 3, 2]]])
    assert list(task.measure(Says(said, 5), full, "test").values) == [
        "miou",
        "iou_background",
        "iou_a",
        "iou_c",
    ]
    with pytest.raises(InputError, match="no pixel of the test pictures belongs to a class"):
        made(torch.full_like(MAP, 255)).measure(Says(said, 5), WHOLE, "test")


def test_a_map_moves_with_its_picture_and_what_comes_in_belongs_to_nothing():
    numbers = torch.randint(1, 5, (30, 8, 8), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    task = made(numbers, Augment(crop=2, flip=True))
    # A picture that shows its own map, in all three channels.
    task.splits["train"].pictures.copy_(numbers[:, None].expand(-1, 3, -1, -1))
    rows = torch.arange(30)
    images, maps = task.varied(task.splits["train"].pictures, numbers, rows, 0, 0)
    assert maps.dtype is torch.uint8
    assert torch.equal(torch.where(maps == 255, 0, maps), images[:, 0])
    assert 0 < (maps == 255).float().mean() < 0.5
    assert (maps != numbers).flatten(1).any(1).sum() > 25
    again = task.batch(WHOLE, "train", rows, 0, 0)
    assert torch.equal(again[1], maps.long())


# ---- Pascal VOC's maps


@pytest.fixture
def voc(tmp_path):
    write_voc(tmp_path)
    return tmp_path


OPTIONS = {"size": 16, "download": False, "verify": False}


def test_maps_of_voc_are_read_by_their_colours_and_resized_to_the_nearest(voc):
    data = load("voc_segmentation", root=voc, options=OPTIONS, kind=MapData)
    assert (data.train_pictures.shape, data.test_maps.shape) == ((8, 3, 16, 16), (4, 16, 16))
    assert data.class_names[14] == "person"
    assert set(data.train_maps.unique().tolist()) == {0, 1, 2, 3, 15, 255}
    whole = load("voc_segmentation", root=voc, options=OPTIONS | {"size": 40}, kind=MapData)
    stored = np.array(Image.open(voc / "VOCdevkit/VOC2012/SegmentationClass/p3.png"))
    assert whole.train_maps[3, ::1, :].shape == (40, 40)
    # Each row of the file is at the place where the nearest row of the square is.
    nearest = ((np.arange(40) + 0.5) * 24 / 40).astype(int)
    assert np.array_equal(whole.train_maps[3].numpy(), stored[nearest])


def test_a_rearranged_palette_and_grey_levels_mean_the_same(voc):
    folder = voc / "VOCdevkit/VOC2012/SegmentationClass"
    before = load("voc_segmentation", root=voc, options=OPTIONS, kind=MapData)
    with Image.open(folder / "p0.png") as opened:
        in_colour, numbers = opened.convert("RGB"), np.array(opened)
    in_colour.save(folder / "p0.png")
    with Image.open(folder / "p1.png") as opened:
        grey = np.array(opened)
    Image.fromarray(grey).save(folder / "p1.png")
    assert numbers.max() == 255
    after = load("voc_segmentation", root=voc, options=OPTIONS, kind=MapData)
    assert after.fingerprint == before.fingerprint


FOLDER = "VOCdevkit/VOC2012"
MAP_FILE = f"{FOLDER}/SegmentationClass/p0.png"


def delete(name):
    return lambda root: (root / FOLDER / name).unlink()


def paint(change):
    """Change one map, in colour."""

    def painted(root):
        with Image.open(root / MAP_FILE) as opened:
            changed = change(opened.convert("RGB"))
        changed.save(root / MAP_FILE)

    return painted


DAMAGE = {
    "no map": (
        delete("SegmentationClass/p0.png"),
        "p0.png is missing; segmentation needs a map of every picture",
    ),
    "no picture": (delete("JPEGImages/p1.jpg"), "p1.jpg is missing"),
    "no list": (delete("ImageSets/Segmentation/val.txt"), "Segmentation/val.txt"),
    "no image": (lambda root: (root / MAP_FILE).write_text("?"), "p0.png as an image"),
    "another size": (
        paint(lambda map: map.crop((0, 0, 20, 24))),
        "p0.png has 20 x 24 pixels, and its picture has 40 x 24",
    ),
    "an unknown colour": (
        paint(lambda map: Image.new("RGB", map.size, (1, 2, 3))),
        "has the colour [1, 2, 3] in row 0, column 0, which stands for no class",
    ),
    "an unknown number": (
        paint(lambda map: Image.new("L", map.size, 77)),
        "has the number 77; it has 0 for the background",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_folder_that_is_not_what_it_should_be_is_one_line(voc, damage, said):
    damage(voc)
    with pytest.raises(InputError) as caught:
        load("voc_segmentation", root=voc, options=OPTIONS, kind=MapData)
    refused(caught.value)
    assert said in str(caught.value)


def test_files_that_tombola_did_not_download_are_not_taken_for_the_published_ones(voc):
    with pytest.raises(InputError, match="was not downloaded by tombola"):
        load("voc_segmentation", root=voc, options=OPTIONS | {"verify": True}, kind=MapData)


# ---- the task


def test_the_task_of_a_recipe_trains_on_the_maps(voc):
    data = Data("voc_segmentation", valid=2, options=OPTIONS, augment=Augment(flip=True))
    model = Model("small_unet", options={"width": 4, "depth": 2})
    task = segmentation(data, model, seed=0, device="cpu", root=voc)
    assert [task.size(WHOLE, which) for which in ("train", "valid", "test")] == [6, 2, 4]
    assert (task.classes, task.head, task.others[0]) == (20, "head", "ignore")
    assert task.uncounted == []
    # A 3x3 convolution at full size: 9 * 3 * 4 products for each of 256 pixels.
    assert task.flops(WHOLE)["down.0.0"].forward == 2 * 9 * 3 * 4 * 256
    assert task.notices
    leaking = segmentation(
        Data("voc_segmentation", valid="test", options=OPTIONS),
        model,
        seed=0,
        device="cpu",
        root=voc,
    )
    assert leaking.leaks
    assert leaking.digest != task.digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": Augment(rotate=5)}, "data.augment.rotate is 5; the task segmentation moves"),
        ({"augment": Augment(crop=16)}, "augment.crop is 16"),
        ({"classes": 3}, "data.classes is given, and the task segmentation has nothing"),
        ({"valid": "published"}, "'voc_segmentation' has no published validation split"),
        (
            {"valid": 8},
            "8 pictures to validate on and at least one to train on are more than the 8",
        ),
        (
            {"model": "lenet5"},
            "model 'lenet5' is for the task classification, and this one is seg",
        ),
        ({"depth": 5}, "depth is 5 and pictures have 16 x 16 pixels; they must have at least 32"),
    ],
)
def test_what_cannot_be_learnt_from_is_one_line(voc, changes, said):
    name, depth = changes.pop("model", "small_unet"), changes.pop("depth", None)
    with pytest.raises(InputError) as caught:
        segmentation(
            Data("voc_segmentation", options=OPTIONS, **changes),
            Model(name, options={} if depth is None else {"depth": depth}),
            seed=0, device="cpu", root=voc,
        )  # fmt: skip
    refused(caught.value)
    assert said in str(caught.value)
