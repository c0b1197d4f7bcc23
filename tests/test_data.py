import hashlib
import importlib.util
import inspect
import pickle
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tombola import data
from tombola.data import published
from tombola.data.dataset import Dataset, from_tensors
from tombola.data.loading import load
from tombola.data.roots import data_root
from tombola.ground import catalogue
from tombola.ground.errors import ConfigError, DataError

FOLDERS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "tiny_imagenet": "tiny-imagenet-200",
}


def four(**changed):
    """The four arrays of a good little data set, some of them replaced."""
    good = {
        "train_images": np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2),
        "train_labels": np.array([0, 1, 2, 0]),
        "test_images": np.zeros((2, 1, 2, 2), dtype=np.uint8),
        "test_labels": np.array([2, 1]),
    }
    return good | changed


def refused(said: str, function, *args, error=DataError, **options) -> None:
    with pytest.raises(error, match=said) as raised:
        function(*args, **options)
    assert "\n" not in str(raised.value)


# the contract that every entry keeps


@pytest.fixture(params=catalogue.entries_for("tombola.data", "classification"))
def entry_and_dataset(request, needs_data, tmp_path):
    name = request.param
    options, root = {}, tmp_path
    if name in FOLDERS:
        root = needs_data(FOLDERS[name])
        # The copy of CIFAR-10 may be another one, that of Tiny ImageNet a part of it.
        options = {"download": False, "verify": name not in ("cifar10", "tiny_imagenet")}
    if name == "arrays":
        np.savez(tmp_path / "mine.npz", **four())
        options = {"path": "mine.npz"}
    if name == "image_folder":
        for place in ("train/a", "train/b", "val/b"):
            (tmp_path / place).mkdir(parents=True)
            Image.new("RGB", (5, 4)).save(tmp_path / place / "0.png")
        options = {"path": ".", "size": 4}
    return name, load(name, root=root, options=options)


def test_every_entry_gives_a_data_set_with_all_its_classes(entry_and_dataset):
    _, found = entry_and_dataset
    assert isinstance(found, Dataset)
    assert len(found.train_images) == len(found.train_labels)
    assert len(found.test_images) == len(found.test_labels) > 0
    assert found.train_images.dtype is torch.uint8
    assert found.train_images.shape[1:] == found.test_images.shape[1:] == found.image_shape
    assert found.train_labels.unique().tolist() == list(range(found.num_classes))
    assert len(found.fingerprint) == 64


@pytest.mark.parametrize("name", catalogue.entries("tombola.data"))
def test_every_entry_has_a_page_and_takes_options_by_name_only(name):
    function = getattr(data, name)
    assert function.__name__ == name
    assert inspect.getdoc(function)
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(function).parameters.values())


def test_the_catalogue_lists_its_entries_without_importing_torch():
    code = "import sys, tombola.data; print(*dir(tombola.data)); assert 'torch' not in sys.modules"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    sets = [
        "arrays",
        "cifar10",
        "cifar100",
        "digits",
        "fashion_mnist",
        "image_folder",
        "mnist",
        "synthetic",
        "tiny_imagenet",
    ]
    assert set(sets) <= set(listed)
    assert listed == sorted(listed)
    assert catalogue.entries_for("tombola.data", "classification") == sets


def test_data_of_another_task_is_refused_in_one_line_with_the_entries_of_this_one(monkeypatch):
    class Other:
        task = "ranking"

    refused("'digits' is for the task classification, and this one is ranking; it takes a",
            load, "digits", kind=Other, error=ConfigError)  # fmt: skip

    def other() -> Other: ...

    monkeypatch.setattr(data._digits, "digits", other)
    assert catalogue.task_of("tombola.data", "digits") == "ranking"
    refused("data 'digits' is for the task ranking, and this one is classification; it takes: arr",
            load, "digits", error=ConfigError)  # fmt: skip


# the data sets


def test_digits_are_scikit_learns_and_their_test_split_is_stratified():
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    found = data.digits()
    assert found.train_images.shape == (1437, 1, 8, 8)
    assert (int(found.train_images.min()), int(found.train_images.max())) == (0, 16)
    assert torch.bincount(found.test_labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    both = sorted(
        (label, *image)
        for images, labels in (
            (found.train_images, found.train_labels),
            (found.test_images, found.test_labels),
        )
        for image, label in zip(images.flatten(1).tolist(), labels.tolist(), strict=True)
    )
    assert both == sorted(
        (int(label), *map(int, image)) for image, label in zip(pixels, targets, strict=True)
    )


def test_digits_are_read_without_importing_scikit_learn_and_by_it_where_the_file_is_not(
    monkeypatch,
):
    code = "import sys, tombola.data; tombola.data.digits(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    there = data.digits().fingerprint
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "sklearn" else find(name)
    )
    assert data.digits().fingerprint == there


def test_digits_are_the_same_every_time():
    assert data.digits().fingerprint == data.digits().fingerprint


def test_synthetic_is_the_same_for_a_seed_and_another_for_another():
    first, again, other = (data.synthetic(seed=seed, train=50, test=10) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_synthetic_has_the_size_asked_for_and_balanced_classes():
    found = data.synthetic(classes=4, train=42, test=9, image_shape=[3, 5, 7])
    assert found.train_images.shape == (42, 3, 5, 7)
    assert torch.bincount(found.train_labels).tolist() == [11, 11, 10, 10]
    assert len(found.test_labels) == 9


def test_synthetic_can_be_learnt_from_its_class_means():
    found = data.synthetic()
    images, tests = found.train_images.float().flatten(1), found.test_images.float().flatten(1)
    means = torch.stack([images[found.train_labels == label].mean(0) for label in range(10)])
    accuracy = (torch.cdist(tests, means).argmin(1) == found.test_labels).float().mean()
    assert 0.8 < accuracy < 1


def test_synthetic_without_noise_is_one_picture_per_class():
    found = data.synthetic(classes=2, train=6, test=2, noise=0)
    assert torch.equal(found.train_images[0], found.train_images[4])
    assert not torch.equal(found.train_images[0], found.train_images[1])


@pytest.mark.parametrize(
    "wrong", [{"classes": 0}, {"train": 9}, {"test": 0}, {"image_shape": (8, 8)}, {"noise": -1}]
)
def test_synthetic_refuses_what_it_cannot_make(wrong):
    refused("synthetic", data.synthetic, **wrong, error=ConfigError)


@pytest.mark.parametrize(
    ("name", "shape", "train", "classes"),
    [
        ("mnist", (1, 28, 28), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], 10),
        ("fashion_mnist", (1, 28, 28), [6000] * 10, 10),
        ("cifar100", (3, 32, 32), [500] * 100, 100),
    ],
)
def test_the_published_sets_have_their_published_sizes(name, shape, train, classes, needs_data):
    found = load(name, root=needs_data(FOLDERS[name]), options={"download": False})
    assert (found.image_shape, found.num_classes, found.verified) == (shape, classes, True)
    assert torch.bincount(found.train_labels).tolist() == train
    assert len(found.test_labels) == 10_000


@pytest.mark.filterwarnings("ignore:dtype")  # some numpy warn of the old pickles
@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_images_and_labels_are_those_that_torchvision_reads(name, needs_data):
    import torchvision

    root = needs_data(FOLDERS[name])
    found = load(name, root=root, options={"download": False})
    theirs = {"mnist": torchvision.datasets.MNIST, "cifar100": torchvision.datasets.CIFAR100}[name]
    test = theirs(str(root), train=False)
    images = torch.as_tensor(test.data)
    images = images.unsqueeze(1) if name == "mnist" else images.permute(0, 3, 1, 2)
    assert torch.equal(found.test_images, images)
    assert found.test_labels.tolist() == torch.as_tensor(test.targets).tolist()


# published files: missing, altered, half written, hostile


def write_cifar10(root, labels=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)):
    """Six little batches in CIFAR-10's format; none has the published checksum."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        pixels = (
            np.arange(len(labels) * 3072, dtype=np.uint64)
            .astype(np.uint8)
            .reshape(len(labels), 3072)
        )
        (folder / name).write_bytes(
            pickle.dumps({"data": pixels, "labels": list(labels)}, protocol=4)
        )
    return folder


def write_mnist(root, labels=tuple(range(10))):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        count = len(labels).to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        pixels = bytes(i % 251 for i in range(len(labels) * 784))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + count + side + side + pixels
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count + bytes(labels))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def fail(*args, **options):
        raise OSError("<urlopen error\nno route to host>")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)


@pytest.mark.parametrize("name", FOLDERS)
def test_missing_files_without_network_are_told_in_one_line(name, tmp_path, no_network):
    root = tmp_path / "none"
    refused(
        rf"under {root} lacks .* in {FOLDERS[name]}.*download failed .*no route to host.*--data-root or TOMBOLA_DATA",
        load,
        name,
        root=root,
    )
    assert not list(root.rglob("*"))


@pytest.mark.parametrize("name", FOLDERS)
def test_missing_files_are_not_downloaded_when_that_is_not_wanted(name, tmp_path):
    refused(
        "and the option download is false", load, name, root=tmp_path, options={"download": False}
    )


def test_an_altered_file_is_refused_and_can_be_accepted(tmp_path, no_network):
    write_cifar10(tmp_path)
    refused(
        r"data_batch_1 has the md5 \w{32}, the published file has c99cafc\w+; .* verify: false",
        load,
        "cifar10",
        root=tmp_path,
    )
    found = load("cifar10", root=tmp_path, options={"verify": False})
    assert (found.verified, found.image_shape, len(found.train_labels)) == (False, (3, 32, 32), 50)
    assert found.train_images[1].flatten()[:3].tolist() == [0, 1, 2]  # 3072 is a multiple of 256


def test_altered_idx_files_are_refused_and_can_be_accepted(tmp_path, no_network):
    folder = write_mnist(tmp_path)
    refused("train-images-idx3-ubyte has the md5", load, "mnist", root=tmp_path)
    found = load("mnist", root=tmp_path, options={"verify": False})
    assert (found.verified, found.image_shape, found.test_labels.tolist()) == (
        False,
        (1, 28, 28),
        list(range(10)),
    )
    assert found.train_images[0].flatten()[:4].tolist() == [0, 1, 2, 3]

    whole = (folder / "t10k-images-idx3-ubyte").read_bytes()
    (folder / "t10k-images-idx3-ubyte").write_bytes(whole[:-1])
    refused(
        "is no whole idx file of 3 dimensions",
        load,
        "mnist",
        root=tmp_path,
        options={"verify": False},
    )


def test_a_pickle_that_names_code_is_refused_and_does_not_run_it(tmp_path):
    class Hostile:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    folder = write_cifar10(tmp_path)
    (folder / "test_batch").write_bytes(pickle.dumps(Hostile()))
    refused(
        "builtins.eval, which no data set needs",
        load,
        "cifar10",
        root=tmp_path,
        options={"verify": False},
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", pickle.dumps({"data": 3}), pickle.dumps([1])]
)
def test_a_broken_batch_is_told_in_one_line(content, tmp_path):
    (write_cifar10(tmp_path) / "data_batch_3").write_bytes(content)
    refused("cannot read .*data_batch_3", load, "cifar10", root=tmp_path, options={"verify": False})


def test_a_download_is_moved_into_place_whole_and_replaces_nothing(tmp_path, monkeypatch):
    content = {}

    def download(url, download_root, filename, md5):
        made = write_cifar10(published.Path(download_root))
        (made / "batches.meta").write_bytes(b"names")
        content.update({file.name: file.read_bytes() for file in made.iterdir()})

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", download)
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "test_batch").write_bytes(b"my own")
    with pytest.raises(DataError, match=r"cannot read .*test_batch"):
        load("cifar10", root=tmp_path / "root", options={"verify": False})
    assert (folder / "test_batch").read_bytes() == b"my own"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == content | {
        "test_batch": b"my own"
    }
    assert [file.name for file in (tmp_path / "root").iterdir()] == ["cifar-10-batches-py"]


def test_an_mnist_download_is_moved_into_place(tmp_path, monkeypatch):
    def download(url, download_root, filename, md5):
        folder = published.Path(download_root)
        source = write_mnist(published.Path(tmp_path / hashlib.md5(url.encode()).hexdigest()))
        name = filename.removesuffix(".gz")
        (folder / name).write_bytes((source / name).read_bytes())

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", download)
    found = load("mnist", root=tmp_path / "root", options={"verify": False})
    assert len(found.train_labels) == 10
    assert {file.name for file in (tmp_path / "root").iterdir()} == {"MNIST"}
    refused("has the md5", load, "mnist", root=tmp_path / "root")


def test_an_interrupted_download_leaves_no_file_behind(tmp_path, monkeypatch):
    def download(url, download_root, filename, md5):
        write_cifar10(published.Path(download_root))
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", download)
    with pytest.raises(KeyboardInterrupt):
        load("cifar10", root=tmp_path / "root")
    assert not list((tmp_path / "root").rglob("*"))


def test_a_copy_of_cifar10_with_other_checksums_is_accepted_only_unverified(needs_data):
    root = needs_data("cifar-10-batches-py")
    first = (root / "cifar-10-batches-py" / "data_batch_1").read_bytes()
    if hashlib.md5(first).hexdigest() == "c99cafc152244af753f735de768cd75f":
        assert load("cifar10", root=root, options={"download": False}).verified
        return
    refused(
        "data_batch_1 has the md5 .* verify: false",
        load,
        "cifar10",
        root=root,
        options={"download": False},
    )
    found = load("cifar10", root=root, options={"verify": False})
    assert not found.verified
    assert torch.bincount(found.train_labels).tolist() == [5000] * 10
    if (root / "cifar10.npz").exists():
        assert (
            load("arrays", root=root, options={"path": "cifar10.npz"}).fingerprint
            == found.fingerprint
        )


# arrays


def test_arrays_are_found_by_root_by_working_folder_and_absolutely(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    np.savez(tmp_path / "root" / "a.npz", **four())
    np.savez_compressed(tmp_path / "b.npz", **four())
    monkeypatch.chdir(tmp_path)
    prints = {
        load("arrays", root="root", options={"path": path}).fingerprint
        for path in ("a.npz", "b.npz", str(tmp_path / "b.npz"))
    }
    assert len(prints) == 1


@pytest.mark.parametrize(
    ("shape", "becomes"),
    [
        ((4, 5, 6), (1, 5, 6)),
        ((4, 7), (1, 1, 7)),
        ((4, 5, 6, 3), (3, 5, 6)),
        ((4, 5, 6, 1), (1, 5, 6)),
        ((4, 3, 6, 3), (3, 6, 3)),
        ((4, 1, 6, 4), (1, 6, 4)),
        ((4, 2, 5, 6), (2, 5, 6)),
    ],
)
def test_arrays_bring_channels_to_the_front(shape, becomes, tmp_path):
    images = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.savez(tmp_path / "a.npz", **four(train_images=images, test_images=images[:2]))
    found = load("arrays", root=tmp_path, options={"path": "a.npz"})
    assert found.image_shape == becomes
    if images.ndim == 4 and becomes != shape[1:]:
        assert np.array_equal(found.train_images.numpy(), images.transpose(0, 3, 1, 2))


def test_arrays_of_other_numbers_become_float32(tmp_path):
    images = np.linspace(0, 1, 16).reshape(4, 2, 2)
    np.savez(tmp_path / "a.npz", **four(train_images=images, test_images=images[:2]))
    assert (
        load("arrays", root=tmp_path, options={"path": "a.npz"}).train_images.dtype is torch.float32
    )


def test_a_file_that_is_no_data_set_is_told_in_one_line(tmp_path):
    def refuse(said: str, name: str) -> None:
        refused(said, load, "arrays", root=tmp_path, options={"path": name})

    refuse("no file .*none.npz", "none.npz")
    np.savez(tmp_path / "some.npz", train_images=four()["train_images"], other=1)
    refuse("has no train_labels, test_images, test_labels; it has: train_images, other", "some.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    refuse("holds a single array", "one.npy")
    (tmp_path / "text.npz").write_text("hello")
    refuse("cannot read .*text.npz", "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    refuse("cannot read .*empty.npz", "empty.npz")
    np.savez(tmp_path / "cut.npz", **four())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:200])
    refuse("cannot read .*cut.npz", "cut.npz")
    np.savez(tmp_path / "objects.npz", **four(train_labels=np.array([0, 1, 2, "a"], dtype=object)))
    refuse("cannot read .*objects.npz", "objects.npz")
    np.savez(tmp_path / "words.npz", **four(train_labels=np.array(["a", "b", "c", "d"])))
    refuse("training labels are <U1; whole numbers are needed", "words.npz")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as file:
        for key in four():
            file.writestr(key, "no array")
    refuse(r"training labels are \|S8", "zip.npz")


# from_tensors and what a data set refuses


def test_tensors_arrays_and_lists_make_the_same_data_set():
    arrays = from_tensors(**four())
    assert (
        from_tensors(**{key: torch.from_numpy(value) for key, value in four().items()}).fingerprint
        == arrays.fingerprint
    )
    assert from_tensors(**four(train_labels=[0, 1, 2, 0])).fingerprint == arrays.fingerprint
    assert arrays.num_classes == 3


def test_an_array_that_is_read_only_or_a_view_is_taken():
    images = four()["train_images"]
    images.setflags(write=False)
    found = from_tensors(**four(train_images=images[::-1]))
    assert found.train_images[0].flatten().tolist() == [12, 13, 14, 15]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_labels": np.array([0, 1, 2])}, "4 training images but 3 training labels"),
        ({"test_labels": np.array([0, 1, 2])}, "2 test images but 3 test labels"),
        (
            {"train_images": np.zeros((4, 1, 1, 2, 2))},
            "training images have shape 4 x 1 x 1 x 2 x 2",
        ),
        (
            {"train_images": np.zeros((4, 1, 2, 0), np.uint8)},
            "training images are 1 x 2 x 0; they have no pixel",
        ),
        ({"train_images": np.zeros((4, 1, 2, 2), complex)}, "training images are complex128"),
        (
            {"train_images": torch.zeros(4, 1, 2, 2, dtype=torch.complex64)},
            "training images are complex64",
        ),
        (
            {"test_images": np.zeros((2, 1, 3, 2), np.uint8)},
            "training images are 1 x 2 x 2 and test images are 1 x 3 x 2",
        ),
        (
            {"test_images": np.zeros((2, 1, 2, 2))},
            "training images are uint8 and test images are float32",
        ),
        ({"train_labels": np.array([0.0, 1, 2, 0])}, "training labels are float64; whole numbers"),
        ({"test_labels": torch.tensor([0.0, 1])}, "test labels are float32; whole numbers"),
        ({"train_labels": np.array([[0], [1], [2], [0]])}, "training labels have shape 4 x 1"),
        (
            {"train_labels": np.array([0, 1, -1, 0])},
            "training labels run from -1 to 1; with 3 classes .* 0 to 2",
        ),
        (
            {"test_labels": np.array([2, 3]), "num_classes": 3},
            "test labels run from 2 to 3; with 3 classes .* 0 to 2",
        ),
        ({"train_labels": np.array([0, 2, 2, 0])}, r"class 1 has no training image \(1 of 3"),
        ({"num_classes": 5}, r"class 3 has no training image \(2 of 5"),
        (
            {"test_images": np.zeros((0, 1, 2, 2), np.uint8), "test_labels": np.array([], int)},
            "there are no test images",
        ),
        ({"test_images": np.full((2, 1, 2, 2), np.nan)}, "test image 0 holds NaN or infinite"),
    ],
)
def test_what_makes_no_data_set_is_told_in_one_line(changed, said):
    refused(said, from_tensors, **four(**changed))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_image_that_is_not_finite_is_named(bad):
    images = torch.zeros(5000, 1, 1, 1)
    images[4321] = bad
    labels = torch.zeros(5000, dtype=torch.int64)
    refused("training image 4321 holds NaN", from_tensors, images, labels, images[:1], labels[:1])


def test_a_data_set_itself_takes_no_other_dtypes():
    good = from_tensors(**four())
    refused(
        "training images are float64",
        Dataset,
        good.train_images.double(),
        good.train_labels,
        good.test_images,
        good.test_labels,
        3,
    )
    refused(
        "training labels are int32",
        Dataset,
        good.train_images,
        good.train_labels.int(),
        good.test_images,
        good.test_labels,
        3,
    )


@given(
    st.sampled_from(["train_images", "train_labels", "test_images", "test_labels"]),
    st.integers(0, 15),
)
def test_another_byte_is_another_fingerprint(key, place):
    changed = four()[key].copy()
    flat = changed.reshape(-1)
    place %= len(flat)
    if key == "train_labels":
        place = 3  # the other three classes would be empty without theirs
    flat[place] = (flat[place] + 1) % 3 if "labels" in key else flat[place] + 1
    assert from_tensors(**four(**{key: changed})).fingerprint != from_tensors(**four()).fingerprint


def test_the_same_bytes_in_another_shape_or_dtype_are_another_fingerprint():
    wide = four(
        train_images=four()["train_images"].reshape(4, 1, 1, 4),
        test_images=np.zeros((2, 1, 1, 4), np.uint8),
    )
    assert from_tensors(**wide).fingerprint != from_tensors(**four()).fingerprint


def test_a_fingerprint_is_the_sha256_of_what_is_written_here():
    expected = hashlib.sha256()
    for array in four().values():
        expected.update(f"{array.dtype.str} {array.shape};".encode() + array.tobytes())
    assert from_tensors(**four()).fingerprint == expected.hexdigest()


def test_a_fingerprint_does_not_hang_on_how_the_numbers_lie_in_memory():
    turned = np.ascontiguousarray(four()["train_images"].transpose(3, 2, 1, 0)).transpose(
        3, 2, 1, 0
    )
    strided = torch.from_numpy(turned)
    assert not strided.is_contiguous()
    assert (
        from_tensors(**four(train_images=strided)).fingerprint == from_tensors(**four()).fingerprint
    )


# load and the root


def test_the_root_is_the_given_one_else_the_variable_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOMBOLA_DATA", "~/elsewhere")
    assert data_root("~/given") == tmp_path / "given"
    assert data_root() == tmp_path / "elsewhere"
    monkeypatch.setenv("TOMBOLA_DATA", "")
    assert data_root(None) == tmp_path / ".cache/tombola/datasets"


def test_a_name_or_an_option_that_there_is_not_is_refused_with_those_there_are():
    refused("no 'digit' in tombola.data.*Did you mean 'digits'", load, "digit", error=ConfigError)
    refused(
        "'digits' has no option 'size'; it has none",
        load,
        "digits",
        options={"size": 3},
        error=ConfigError,
    )
    refused("it has: download, verify", load, "mnist", options={"dowload": True}, error=ConfigError)
    refused("'arrays' needs the option 'path'", load, "arrays", error=ConfigError)


def test_a_function_of_ones_own_gives_a_data_set_or_four_arrays(tmp_path, monkeypatch):
    (tmp_path / "my_own_data.py").write_text(
        textwrap.dedent("""
            import numpy as np
            from tombola.data import synthetic

            def four(*, size=2):
                return np.zeros((2, size, size)), [0, 1], np.zeros((1, size, size)), [0]

            def made():
                return synthetic(classes=2, train=4, test=2)

            def nothing():
                return 3

            def fails(*, how="key"):
                if how == "config":
                    synthetic(classes=0)
                return {}["x"]
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("my_own_data:four", options={"size": 5}).image_shape == (1, 5, 5)
    assert load("my_own_data:made").num_classes == 2
    refused("'my_own_data:nothing' gives int; it must give a Dataset", load, "my_own_data:nothing")
    refused("'my_own_data:fails' failed: KeyError: 'x'", load, "my_own_data:fails")
    refused(
        "synthetic has 0 classes",
        load,
        "my_own_data:fails",
        options={"how": "config"},
        error=ConfigError,
    )


def test_an_error_inside_tombolas_own_data_function_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(catalogue, "call", lambda *_, **__: {}["x"])
    with pytest.raises(KeyError):
        load("digits")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "synthetic",
            {"classes": "ten"},
            "synthetic.classes is 'ten'; it should be a whole number",
        ),
        (
            "synthetic",
            {"image_shape": 3},
            "synthetic.image_shape is 3; it should be a list of whole numbers",
        ),
        ("synthetic", {"noise": [1]}, r"synthetic.noise is \[1\]; it should be a number"),
        ("arrays", {"path": 3}, "arrays.path is 3; it should be a text"),
        ("mnist", {"verify": "no"}, "mnist.verify is 'no'; it should be true or false"),
    ],
)
def test_an_option_of_another_type_is_told_in_one_line(name, options, said):
    refused(said, load, name, options=options, error=ConfigError)
