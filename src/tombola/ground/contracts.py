"""Contracts: what a user's own function, named ``package.module:function``, has to do.

There is one for every catalogue that takes such functions. They are shown by ``tombola list
scores`` and in error messages, and the tests run their examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Contract(NamedTuple):
    """How a user's own function is called, and what it returns.

    Attributes:
        kind: What it is, such as "score".
        call: How it is called.
        gives: What it returns.
        example: A working one, as it may stand in a user's module.
    """

    kind: str
    call: str
    gives: str
    example: str

    def in_words(self) -> str:
        """Say it in one sentence.

        >>> CONTRACTS["exports"].in_words()[:67]
        'a function of your own as export is called as export(ticket) and gi'
        """
        return (
            f"a function of your own as {self.kind} is called as {self.call} and gives {self.gives}"
        )


CONTRACTS: Mapping[str, Contract] = {
    "data": Contract(
        "data set",
        "data(**options)",
        "training images, training labels, test images and test labels, the same in every call, or "
        "the class of its task's data, such as BoxData for detection",
        """
def data(noise=1.0):
    drawn = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(400) % 4
    images = noise * drawn + labels[:, None, None, None]
    return images[:300], labels[:300], images[300:], labels[300:]
""",
    ),
    "models": Contract(
        "model",
        "model(num_classes, image_shape=(channels, height, width), **options)",
        "a torch.nn.Module with the output layer `head`, from images to logits",
        """
def net(num_classes, image_shape, width=32):
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), width), nn.ReLU())
    model.add_module("head", nn.Linear(width, num_classes))
    return model
""",
    ),
    "tasks": Contract(
        "task",
        "task(data, model, seed=..., device=..., root=...)",
        "a Task (tombola.tasks.protocol), such as tombola.tasks.rows.Rows",
        """
def squared(net, batch):
    return (net(batch[0]) - batch[0].flip(1)).square().mean()


def mirror(data, model, *, seed, device, root):
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(seed))
    rows = {"train": (x[:300],), "valid": (x[300:350],), "test": (x[350:],)}
    rmse = Metric("rmse", fraction=False, higher=False)
    values = lambda loss: {"rmse": loss**0.5}
    return Rows(lambda: nn.Linear(8, 8), rows, seed, squared, (rmse,), values)
""",
    ),
    "scores": Contract(
        "score",
        "score(state, mask, context)",
        "a tensor for every name in mask, larger means keep",
        """
def drift(state, mask, context):
    start = context.rewind_point
    return {name: (state[name] - start[name]).abs() for name in mask}
""",
    ),
    "kernels": Contract(
        "kernel",
        "Kernel()",
        "a tombola.kernels.protocol.Kernel, which says how a model is run",
        """
class Signs(kernels.eager):
    def prepare(self, model, handle, training, **parts):
        program = super().prepare(model, handle, training, **parts)
        signs = lambda: torch._foreach_sign_([weight.grad for weight in model.parameters()])
        return program._replace(update=lambda: (signs(), program.update()))
""",
    ),
    "arms": Contract(
        "method",
        "Name(**options)",
        "a dataclass of tombola.methods.Method, or of Rounds or Following there, whose rounds are "
        "its tickets",
        """
@dataclass(frozen=True, kw_only=True)
class Mirrored(Following):
    control = True

    def ticket(self, setting, job):
        return setting.ticket({name: keep.flip(0) for name, keep in job.mask.items()})
""",
    ),
    "executors": Contract(
        "executor",
        "executor(setting, **options)",
        "a tombola.executors.backend.Backend, which begins work when it is told to",
        """
def spoken(setting):
    backend = executors.threads(setting)
    begin = backend.submit
    backend.submit = lambda work, digest: print("begins", work.kind) or begin(work, digest)
    return backend
""",
    ),
    "sections": Contract(
        "section of a report",
        "Name()",
        "a tombola.reports.section.Section, which says what it shows",
        """
class Sparsest(Section):
    title = "The sparsest tickets"

    def sentence(self, evidence):
        kept = [record["density"] for record in evidence.records if record["round"]]
        return [f"At the end {100 * min(kept):.2f} % of the weights are kept."] if kept else []
""",
    ),
    "exports": Contract(
        "export",
        "export(ticket)",
        "a Ticket or a state_dict of tensors",
        """
def half(ticket):
    state = dict(ticket.rewind_point)
    state |= {name: state[name] * keep for name, keep in ticket.mask.items()}
    return {name: value.half() for name, value in state.items()}
""",
    ),
}
