"""Little folders of annotated pictures, as Pascal VOC and COCO have them."""

import json

from PIL import Image

SIZE = (40, 30)  # width and height of every picture


def picture(file, shade=100):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (shade, 0, 255 - shade)).save(file)


def voc_object(name="dog", box=(1, 1, 40, 30), difficult=0):
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    sides = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{sides}</bndbox></object>"
    )


def voc_annotation(*objects, width=SIZE[0], height=SIZE[1]):
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def voc_folder(root, year=2012, lists=None):
    """Pascal VOC under a root: two training pictures, a and b, and one to test on, c."""
    folder = root / "VOCdevkit" / f"VOC{year}"
    lists = lists or {"train": "ab", "val": "c", "trainval": "abc"}
    for name, pictures in lists.items():
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{picture}\n" for picture in pictures))
    for number, name in enumerate(sorted(set("".join(lists.values())))):
        picture(folder / "JPEGImages" / f"{name}.jpg", 30 * number)
        file = folder / "Annotations" / f"{name}.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(voc_annotation(voc_object()))
    return folder


def coco_content(**changed):
    """Three pictures, two classes; the first picture has two boxes, the last has none."""
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.png", "width": SIZE[0], "height": SIZE[1]}
            for number, name in ((5, "a"), (3, "b"), (9, "c"))
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 7, "bbox": [0, 0, 40, 30], "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 2, "bbox": [1.5, 2, 10, 20.25], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 2, "bbox": [30, 20, 10.005, 10.005]},
        ],
        "categories": [{"id": 7, "name": "cup"}, {"id": 2, "name": "pen"}],
    }
    return content | changed


def coco_folder(root, content=None, name="train"):
    """Write an annotation file and its pictures; returns the file."""
    for number, letter in enumerate("abc"):
        picture(root / "pictures" / f"{letter}.png", 40 * number)
    file = root / f"{name}.json"
    file.write_text(json.dumps(coco_content() if content is None else content))
    return file
