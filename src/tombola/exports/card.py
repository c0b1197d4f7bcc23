"""Card: a page beside each export that says what the file is, and how it is loaded in plain torch.

    ticket, its run's record -> [ card ] -> NAME.md

Its lines of Python can be run as they stand, from the folder of the export, by whoever has torch
and the model; those under "Check it" read the data set with tombola and give the accuracy that the
run reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.ground.metrics import ACCURACY, Metric
from tombola.records.best import trained_of
from tombola.records.records import Record
from tombola.tickets import Ticket

_TORCHVISION = "torchvision:"
_DTYPES = ("uint8", "float32")
_BATCH = 100  # images, as tombola tests on the CPU: the same sums in the same order
_WHAT = {
    "ticket": "one file of mask, weights and where they came from (safetensors); tombola reads it",
    "state_dict": "a state dict: the pruned weights are zero, and no mask keeps them so in further "
    "training",
    "torch_prune": "the state dict of a model that torch.nn.utils.prune has pruned: its masks hold "
    "in training, too",
}


def card(
    ticket: Ticket,
    to: str,
    file: Path,
    record: Record | None = None,
    saves: str = "",
    metric: Metric = ACCURACY,
) -> str:
    """Return the page of an export, as Markdown.

    Args:
        ticket: What was exported.
        to: The export's name.
        file: The file that it is in; the page names it, and is written beside it.
        record: What the ticket's run measured of it, where that is known.
        saves: What its mask saves, in words.
        metric: What its run measured by.
    """
    origin = ticket.origin
    trained = trained_of(origin)
    rows = [
        ("file", _WHAT.get(to, f"made by {to}")),
        ("weights", _weights(trained, record)),
        _quality(trained, record, metric),
        ("density", _density(ticket)),
        *_origin(origin),
        ("mask digest", ticket.mask_digest),
    ]
    if saves:
        rows.append(("saves", saves))
    lines = [f"# {_cell(file.name)}", "", f"{_which(origin)}, exported by tombola.", ""]
    lines += ["| | |", "|---|---|"]
    for label, text in rows:
        lines.append(f"| {label} | {_cell(text)} |")

    # How to load what a user's own function has made is known to that user alone.
    if to in _WHAT:
        lines += ["", "## Load it", "", _about_model(origin), "", "```python"]
        lines += [*_loading(origin, to, file), *_predicting(origin), "```"]
        check = _checking(origin)
        if trained is not None and check:
            lines += ["", "## Check it", "", "The test images of its data, read by tombola:", ""]
            lines += ["```python", *check]
            lines += [f"assert accuracy == {trained.get('test_accuracy')!r}", "```"]
    return "\n".join([*lines, ""])


def _which(origin: Mapping[str, Any]) -> str:
    arm, index, replicate = (origin.get(key) for key in ("arm", "round", "replicate"))
    if arm is None:
        return "A ticket"
    text = f"A ticket of `{_cell(arm)}`"
    if index is not None:
        text += f", round {_cell(index)}"
    if replicate is not None:
        text += f" of replicate {_cell(replicate)}"
    return text


def _weights(trained: Mapping[str, Any] | None, record: Record | None) -> str:
    if trained is None:
        return "the rewind point, **not trained**: what a training of the ticket begins with"
    if _is_untrained(record):
        return (
            "the ticket's own, **not trained**, as its run tested it; batch norm statistics are new"
        )
    return f"trained ({trained.get('selected') or 'as its run selected them'})"


def _quality(
    trained: Mapping[str, Any] | None, record: Record | None, metric: Metric
) -> tuple[str, str]:
    results = (trained if trained is not None else record) or {}
    shown = []
    for split, entry in (("test", metric.test), ("valid", metric.valid)):
        value = results.get(entry)
        if isinstance(value, int | float):
            shown.append(f"{split} {metric.shown(value)}")
    if not shown:
        return metric.title, "not known: the ticket was not in its run, or not evaluated there"
    of_what = "of these weights"
    if trained is None and _is_untrained(record):
        of_what += " **untrained**, with new batch norm statistics (as --trained exports them)"
    elif trained is None:
        of_what = "of the ticket **after training it** as its run did"
    return metric.title, f"{', '.join(shown)}: {of_what}, as its run reported it"


def _is_untrained(record: Record | None) -> bool:
    """Whether a run tested the ticket as it was found, and never trained it."""
    return record is not None and bool(record.get("untrained"))


def _density(ticket: Ticket) -> str:
    if not ticket.mask:
        return "nothing is pruned"
    text = f"{_percent(ticket.density)} of the prunable weights"
    if ticket.density_total is not None:
        of_all = _percent(ticket.density_total)
        text += f"; {of_all} of all {ticket.total:,} weights are not pruned"
    return text


def _origin(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key in ("model", "data"):
        if isinstance(origin.get(key), Mapping):
            rows.append((key, json.dumps(origin[key], ensure_ascii=False)))
    inputs = _inputs(origin)
    if inputs is not None:
        channels, height, width = inputs["shape"]
        images = (
            f"{inputs['dtype']} images of {channels} x {height} x {width}; the model takes "
            f"(images - mean) / std, mean {inputs['mean']}, std {inputs['std']}, in the units of "
            "the raw images"
        )
        rows += [("inputs", images), ("classes", ", ".join(map(str, inputs["classes"])))]
    return rows


def _about_model(origin: Mapping[str, Any]) -> str:
    task, name = origin.get("task"), _model(origin).get("name")
    if isinstance(task, str) and ":" not in task:
        return (
            f"The model is made by the task `{_cell(task)}` of tombola: put it in the place of the "
            "dots."
        )
    if isinstance(task, str):
        return (
            f"The model is made by the task `{_cell(task)}`, a user's own code: put it in the "
            "place of the dots."
        )
    if not isinstance(name, str):
        return "The ticket does not say which model it is of: put yours in the place of the dots."
    if name.startswith(_TORCHVISION):
        return "The model is torchvision's own."
    if ":" in name:
        return f"The model is a user's own code, `{_cell(name)}`: run it only if you trust it."
    return (
        f"The model is plain torch, of tombola's catalogue (`tombola.models.{_cell(name)}`); its "
        "file needs nothing else of tombola but the checks of its arguments."
    )


def _loading(origin: Mapping[str, Any], to: str, file: Path) -> list[str]:
    lines = ["import torch", *_making(origin)]
    if to == "ticket":
        lines += ["from tombola import Ticket"]
        lines += [f"mask = Ticket.load({file.name!r}).apply(model)  # True = kept"]
        return lines
    lines += [f"state = torch.load({file.name!r}, weights_only=True)"]
    if to == "torch_prune":
        lines += _PREPARING.splitlines()
    return [*lines, "model.load_state_dict(state)"]


_PREPARING = """\
from torch.nn.utils import prune
for name in state:
    weight = name.removesuffix('_mask')
    if weight != name and f'{weight}_orig' in state:
        module, _, parameter = weight.rpartition('.')
        prune.identity(model.get_submodule(module), parameter)
"""


def _making(origin: Mapping[str, Any]) -> list[str]:
    """Return the lines that make the model; dots where its name is no safe Python."""
    model, inputs = _model(origin), _inputs(origin)
    name, options = model.get("name"), model.get("options")
    if not isinstance(name, str) or inputs is None or "task" in origin:
        return ["model = ..."]
    # Options that are no names of Python cannot be arguments; a ticket's texts are a stranger's.
    arguments = []
    for key, value in options.items() if isinstance(options, Mapping) else ():
        if key.isidentifier():
            arguments.append(f"{key}={value!r}")
    classes = len(inputs["classes"])
    if name.startswith(_TORCHVISION):
        first = [repr(name.removeprefix(_TORCHVISION)), "weights=None", f"num_classes={classes}"]
        call = f"get_model({', '.join(first + arguments)})"
        return ["from torchvision.models import get_model", f"model = {call}"]

    first = [str(classes)]
    if ":" in name:
        module, _, function = name.partition(":")
    else:
        module, function = "tombola.models", name
        first.append(f"image_shape={tuple(inputs['shape'])}")
    if not all(part.isidentifier() for part in [function, *module.split(".")]):
        return ["model = ..."]
    call = f"{function}({', '.join(first + arguments)})"
    return [f"from {module} import {function}", f"model = {call}"]


def _predicting(origin: Mapping[str, Any]) -> list[str]:
    """Return the lines that define ``predict``; none where nothing says how images are given.

    What the outputs of a model of another task mean is known to that task alone.
    """
    inputs = _inputs(origin)
    if inputs is None or "task" in origin:
        return []
    training = origin.get("training")
    settings = training if isinstance(training, Mapping) else {}
    shape = ", ".join(map(str, inputs["shape"]))
    lines = ["model.eval()"]
    # As the run tested it: the layout of memory and the precision change the last digits.
    if settings.get("channels_last") is True:
        lines.append("model.to(memory_format=torch.channels_last)")
    lines += [
        f"mean = torch.tensor({inputs['mean']}).view(1, -1, 1, 1)",
        f"std = torch.tensor({inputs['std']}).view(1, -1, 1, 1)",
        "",
        "@torch.inference_mode()",
        f"def predict(images):  # {inputs['dtype']} [n, {shape}], raw, to classes [n]",
    ]
    indent = "    "
    if settings.get("precision") == "bf16":
        lines.append(f"{indent}with torch.autocast('cpu', torch.bfloat16):")
        indent += "    "
    batches = f"images.split({_BATCH})"
    classes = f"[model((part - mean) / std).argmax(1) for part in {batches}]"
    return [*lines, f"{indent}return torch.cat({classes})"]


def _checking(origin: Mapping[str, Any]) -> list[str]:
    """Return the lines that test the network; none where nothing says on which data."""
    data, seeds = origin.get("data"), origin.get("seeds")
    if not isinstance(data, Mapping) or not isinstance(seeds, Mapping):
        return []
    if "task" in origin or not isinstance(data.get("name"), str):
        return []  # only classification has images and labels to show
    options, seed = data.get("options") or {}, seeds.get("recipe")
    classes = {} if data.get("classes") is None else {"classes": data["classes"]}
    return [
        "from tombola.data.loading import load, takes",
        "from tombola.data.splits import split",
        f"name, options, classes = {data['name']!r}, {options!r}, {classes!r}",
        "if takes(name, 'classes'):",
        "    options, classes = options | classes, {}",
        f"test = split(load(name, options=options), valid=0, seed={seed!r}, **classes).test",
        "accuracy = int((predict(test.images) == test.labels).sum()) / len(test)",
    ]


def _model(origin: Mapping[str, Any]) -> Mapping[str, Any]:
    model = origin.get("model")
    return model if isinstance(model, Mapping) else {}


def _inputs(origin: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how images are given; ``None`` where the ticket does not say, as older ones do not."""
    inputs = origin.get("inputs")
    if not isinstance(inputs, Mapping) or not isinstance(inputs.get("classes"), list):
        return None
    for name in ("shape", "mean", "std"):
        numbers = inputs.get(name)
        kinds: tuple[type, ...] = (int,) if name == "shape" else (int, float)
        if not isinstance(numbers, list) or not all(type(number) in kinds for number in numbers):
            return None
    return inputs if len(inputs["shape"]) == 3 and inputs.get("dtype") in _DTYPES else None


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _cell(value: Any) -> str:
    """Return text that stays in its cell of a table: a ticket's texts are a stranger's."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text.replace("|", "\\|").replace("`", "'")
