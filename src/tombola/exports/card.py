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
# images that are tested together, as tombola does on the CPU: the same sums in the same order
_BATCH = 100
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
        file: The file that it is in; the page names it, and lies beside it.
        record: What the ticket's run measured of it, where that is known.
        saves: What its mask saves, in words.
        metric: What its run measured by.
    """
    trained = trained_of(ticket.origin)
    rows = [
        ("file", _WHAT.get(to, f"made by {to}")),
        ("weights", _weights(trained)),
        _quality(trained, record, metric),
    ]
    rows += [
        ("density", _density(ticket)),
        *_origin(ticket.origin),
        ("mask digest", ticket.mask_digest),
    ]
    rows += [("saves", saves)] if saves else []
    lines = [
        f"# {_cell(file.name)}",
        "",
        f"{_which(ticket.origin)}, exported by tombola.",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [f"| {label} | {_cell(text)} |" for label, text in rows]
    if to in _WHAT:
        lines += ["", "## Load it", "", *_told_of_model(ticket.origin), "", "```python"]
        lines += [*_loading(ticket.origin, to, file), *_predicting(ticket.origin), "```"]
        if trained is not None and (check := _checking(ticket.origin)):
            lines += [
                "",
                "## Check it",
                "",
                "The test images of its data, read by tombola:",
                "",
                "```python",
            ]
            lines += [*check, f"assert accuracy == {trained.get('test_accuracy')!r}", "```"]
    return "\n".join([*lines, ""])


def _which(origin: Mapping[str, Any]) -> str:
    arm, index, replicate = (origin.get(key) for key in ("arm", "round", "replicate"))
    if arm is None:
        return "A ticket"
    told = f"A ticket of `{_cell(arm)}`" + ("" if index is None else f", round {_cell(index)}")
    return told + ("" if replicate is None else f" of replicate {_cell(replicate)}")


def _weights(trained: Mapping[str, Any] | None) -> str:
    if trained is None:
        return "the rewind point, **not trained**: what a training of the ticket begins with"
    return f"trained ({trained.get('selected') or 'as its run selected them'})"


def _quality(
    trained: Mapping[str, Any] | None, record: Record | None, metric: Metric
) -> tuple[str, str]:
    said = trained if trained is not None else record
    known = [("test", said.get(metric.test)), ("valid", said.get(metric.valid))] if said else []
    shown = [
        f"{key} {metric.shown(value)}" for key, value in known if isinstance(value, int | float)
    ]
    if not shown:
        return metric.title, "not known: the ticket was not in its run, or not evaluated there"
    how = (
        "of these weights"
        if trained is not None
        else "of the ticket **after training it** as its run did"
    )
    return metric.title, f"{', '.join(shown)}: {how}, as its run reported it"


def _density(ticket: Ticket) -> str:
    total = ticket.density_total
    more = (
        ""
        if total is None
        else f"; {_percent(total)} of all {ticket.total:,} weights are not pruned"
    )
    return (
        f"{_percent(ticket.density)} of the prunable weights" + more
        if ticket.mask
        else "nothing is pruned"
    )


def _origin(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key in ("model", "data"):
        if isinstance(origin.get(key), Mapping):
            rows.append((key, json.dumps(origin[key], ensure_ascii=False)))
    known = _inputs(origin)
    if known is not None:
        channels, height, width = known["shape"]
        rows += [("inputs", f"{known['dtype']} images of {channels} x {height} x {width}; the model takes "
                  f"(images - mean) / std, mean {known['mean']}, std {known['std']}, in the units "
                  "of the raw images"),
                 ("classes", ", ".join(map(str, known["classes"])))]  # fmt: skip
    return rows


def _told_of_model(origin: Mapping[str, Any]) -> list[str]:
    name = _model(origin).get("name")
    if isinstance(origin.get("task"), str):
        return [f"The model is made by the task `{_cell(origin['task'])}`, code of somebody's own: put it in the place "
                "of the dots."]  # fmt: skip
    if not isinstance(name, str):
        return ["The ticket does not say which model it is of: put yours in the place of the dots."]
    if name.startswith(_TORCHVISION):
        return ["The model is torchvision's own."]
    if ":" in name:
        return [
            f"The model is code of somebody's own, `{_cell(name)}`: run it only where you trust it."
        ]
    return [f"The model is plain torch, of tombola's catalogue (`tombola.models.{_cell(name)}`); its file needs "
            "nothing else of tombola but the checks of its arguments."]  # fmt: skip


def _loading(origin: Mapping[str, Any], to: str, file: Path) -> list[str]:
    lines = ["import torch", *_making(origin)]
    if to == "ticket":
        return [
            *lines,
            "from tombola import Ticket",
            f"mask = Ticket.load({file.name!r}).apply(model)  # True = kept",
        ]
    lines += [f"state = torch.load({file.name!r}, weights_only=True)"]
    if to == "torch_prune":
        lines += [
            "from torch.nn.utils import prune",
            "for name in state:",
            "    weight = name.removesuffix('_mask')",
            "    if weight != name and f'{weight}_orig' in state:",
            "        module, _, parameter = weight.rpartition('.')",
            "        prune.identity(model.get_submodule(module), parameter)",
        ]
    return [*lines, "model.load_state_dict(state)"]


def _making(origin: Mapping[str, Any]) -> list[str]:
    model, known = _model(origin), _inputs(origin)
    name, options = model.get("name"), model.get("options")
    if not isinstance(name, str) or known is None:
        return ["model = ..."]
    given = (
        {key: value for key, value in options.items() if key.isidentifier()}
        if isinstance(options, Mapping)
        else {}
    )
    arguments = [str(len(known["classes"])), *(f"{key}={value!r}" for key, value in given.items())]
    if name.startswith(_TORCHVISION):
        arguments = [
            repr(name.removeprefix(_TORCHVISION)),
            "weights=None",
            f"num_classes={arguments[0]}",
            *arguments[1:],
        ]
        return [
            "from torchvision.models import get_model",
            f"model = get_model({', '.join(arguments)})",
        ]
    module, _, function = name.partition(":") if ":" in name else ("tombola.models", ":", name)
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return ["model = ..."]
    if ":" not in name:
        arguments.insert(1, f"image_shape={tuple(known['shape'])}")
    return [f"from {module} import {function}", f"model = {function}({', '.join(arguments)})"]


def _predicting(origin: Mapping[str, Any]) -> list[str]:
    known = _inputs(origin)
    if known is None:
        return []
    training = origin.get("training")
    settings = training if isinstance(training, Mapping) else {}
    lines = ["model.eval()"]
    lines += ["model.to(memory_format=torch.channels_last)"] * (
        settings.get("channels_last") is True
    )
    lines += [
        f"mean = torch.tensor({known['mean']}).view(1, -1, 1, 1)",
        f"std = torch.tensor({known['std']}).view(1, -1, 1, 1)",
        "",
        "@torch.inference_mode()",
        f"def predict(images):  # {known['dtype']} [n, {', '.join(map(str, known['shape']))}], "
        "raw, to classes [n]",
    ]
    lines += (
        ["    with torch.autocast('cpu', torch.bfloat16):"]
        if settings.get("precision") == "bf16"
        else []
    )
    indent = "        " if settings.get("precision") == "bf16" else "    "
    return [*lines, f"{indent}return torch.cat([model((part - mean) / std).argmax(1) for part in "
            f"images.split({_BATCH})])"]  # fmt: skip


def _checking(origin: Mapping[str, Any]) -> list[str]:
    data, seeds = origin.get("data"), origin.get("seeds")
    if (
        not isinstance(data, Mapping)
        or not isinstance(seeds, Mapping)
        or not isinstance(data.get("name"), str)
    ):
        return []
    if "task" in origin:  # there are no images to be shown
        return []
    options = data.get("options") or {}
    several = {} if data.get("classes") is None else {"classes": data["classes"]}
    return [
        "from tombola.data.loading import load, takes",
        "from tombola.data.splits import split",
        f"name, options, classes = {data['name']!r}, {options!r}, {several!r}",
        "made_so = classes if takes(name, 'classes') else {}",
        "test = split(load(name, options=options | made_so), valid=0, "
        f"seed={seeds.get('recipe')!r}, "
        "**({} if made_so else classes)).test",
        "accuracy = int((predict(test.images) == test.labels).sum()) / len(test)",
    ]


def _model(origin: Mapping[str, Any]) -> Mapping[str, Any]:
    said = origin.get("model")
    return said if isinstance(said, Mapping) else {}


def _inputs(origin: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how images are given, ``None`` where the ticket does not say: one of before this
    was kept.
    """
    said = origin.get("inputs")
    if not isinstance(said, Mapping):
        return None
    shape, numbers = said.get("shape"), [said.get("mean"), said.get("std")]
    fits = isinstance(shape, list) and len(shape) == 3 and all(type(side) is int for side in shape)
    fits = fits and all(
        isinstance(of, list) and all(type(one) in (int, float) for one in of) for of in numbers
    )
    fits = (
        fits and isinstance(said.get("classes"), list) and said.get("dtype") in ("uint8", "float32")
    )
    return said if fits else None


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _cell(value: Any) -> str:
    """Return text that stays in one cell of a table: a ticket's texts are somebody else's."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text.replace("|", "\\|").replace("`", "'")
