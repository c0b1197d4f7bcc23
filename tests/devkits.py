"""Folders as the development kit of Pascal VOC lays them out, with pictures of our own."""

from PIL import Image, ImageDraw


def voc_palette():
    """The colours of VOC, written out for the numbers that are used here."""
    colours = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128),
               20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    flat = [0] * 768
    for number, colour in colours.items():
        flat[3 * number : 3 * number + 3] = colour
    return flat


def write_voc(root, *, train=8, test=4, year=2012):
    """Write a devkit: rectangles of the classes 1, 2, 3 and 15, with a border."""
    folder = root / "VOCdevkit" / f"VOC{year}"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    lists = {"train": range(train), "val": range(train, train + test)}
    for name, numbers in lists.items():
        names = "".join(f"p{number}\n" for number in numbers)
        (folder / "ImageSets/Segmentation" / f"{name}.txt").write_text(names)
    for number in range(train + test):
        picture = Image.new("RGB", (40, 24), (number * 9, 90, 120))
        map = Image.new("P", (40, 24), 0)
        map.putpalette(voc_palette())
        for index, kind in enumerate((1, 2, 3, 15)):
            if (number + index) % 3:
                left = 10 * index
                ImageDraw.Draw(picture).rectangle((left, 4, left + 8, 19), (60 * index, 200, 40))
                ImageDraw.Draw(map).rectangle((left, 4, left + 8, 19), kind, 255)
        picture.save(folder / "JPEGImages" / f"p{number}.jpg")
        map.save(folder / "SegmentationClass" / f"p{number}.png")
    return folder
