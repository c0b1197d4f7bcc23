"""Changes to the files of a run that renew their digests, as only somebody who means to would
make them.
"""

import io
import json
import shutil

import numpy as np
import yaml
from safetensors.torch import load_file, save_file
from tests.layouts import as_before, place

from tombola.folder.runs import Run
from tombola.records.seals import KEY, Seals


def change_json(folder, name, change):
    """Rewrite a JSON file with what ``change`` makes of its value."""
    seals = Seals(folder) if name in ("run.json", "transfer.json") else Run(folder).seals
    path = place(folder, name)
    seals.write_json(path, change(seals.read_json(path)))


def records_of(folder):
    """The lines of records.jsonl as plain data, in the order of the file."""
    path = place(folder, "records.jsonl")
    return [Run(folder).seals.read_line(path, line) for line in path.read_bytes().splitlines()]


def write_records(folder, records):
    """Rewrite records.jsonl."""
    path = place(folder, "records.jsonl")
    seals = Run(folder).seals
    path.write_bytes(b"".join(seals.line(path, record) for record in records))


def unseal(folder):
    """Take the digests out of all files of a run: what it was before there were any, when all
    files lay at the top of the folder.
    """
    as_before(folder)
    seals = Run(folder).seals
    arrays = {path: seals.read_array(path) for path in folder.glob("predictions/**/*.npy")}
    packed = {path: seals.read_arrays(path) for path in folder.glob("*.npz")}
    for path in folder.glob("*.json"):
        value = json.loads(path.read_text())
        if isinstance(value, list):
            value.pop()
        else:
            value = {
                key: entry for key, entry in value.items() if key not in (KEY, "seals", "shared")
            }
        path.write_text(json.dumps(value, indent=2) + "\n")
    for path in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            del line[KEY]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()), sort_keys=False))
    for path, values in arrays.items():
        np.save(path, values)
    for path, members in packed.items():
        file = io.BytesIO()
        np.savez_compressed(file, **members)
        path.write_bytes(file.getvalue())
    for path in [
        *folder.glob("candidates/**/*.safetensors"),
        *folder.glob("trainings/*"),
    ]:
        tensors = {name: value.clone() for name, value in load_file(path).items()}
        save_file(tensors, path)
    return folder


def copied(folder, to):
    """Copy a run folder into another place, under its own name."""
    return shutil.copytree(folder, to / folder.name)
