"""A kernel outside of the package: it keeps weights of its own, and the model has them when
somebody looks.
"""

import torch
from torch import nn
from torch.func import functional_call

from tombola.kernels.protocol import Kernel, Program


class Elsewhere(Kernel):
    """Train copies of the weights; in the model stands NaN until it is handed over."""

    calls: list[str] = []  # noqa: RUF012

    def refusal(self, model, training, kind):
        norms = any(isinstance(layer, nn.BatchNorm1d) for layer in model.modules())
        return "that needs a model without batch norm" if norms else ""

    def prepare(self, model, handle, training, *, loss, optimizer, reseed):
        named = dict(model.named_parameters())
        own = {
            name: nn.Parameter(torch.empty_like(p), p.requires_grad) for name, p in named.items()
        }
        live = [parameter for parameter in own.values() if parameter.requires_grad]
        mine = type(optimizer)(own.values(), **optimizer.defaults)
        keeps = {}

        def run(inputs):
            return functional_call(model, own, inputs)

        def gradients(batch):
            self.calls.append("gradients")
            reseed()
            value = loss(run, batch)
            for parameter, grad in zip(live, torch.autograd.grad(value, live), strict=True):
                parameter.grad = grad
            return value.detach()

        def update():
            self.calls.append("update")
            for group in mine.param_groups:
                group["lr"] = optimizer.param_groups[0]["lr"]
            if training.clip is not None:
                for name, keep in keeps.items():
                    if own[name].grad is not None:
                        own[name].grad.mul_(keep)
                nn.utils.clip_grad_norm_(own.values(), training.clip)
            mine.step()
            with torch.no_grad():
                for name, keep in keeps.items():
                    own[name].mul_(keep)

        @torch.no_grad()
        def upkeep():
            self.calls.append("upkeep")
            keeps.clear()
            keeps.update({name: keep.float() for name, keep in handle.mask.items()})
            for name, parameter in named.items():
                own[name].copy_(parameter)
                parameter.fill_(torch.nan)

        @torch.no_grad()
        def hand_over():
            self.calls.append("hand_over")
            for name, parameter in named.items():
                if parameter.isnan().any():
                    parameter.copy_(own[name])

        return Program(gradients, update, upkeep, hand_over)
