"""A gradient score that stands outside the package: how much a loss would change if a weight
were scaled.
"""

import torch


def connection(state, mask, context, *, examples: int = 64):
    """Score a weight by |w * dL/dw|, the gradients of all batches summed first.

    Source:
        Lee et al. 2019, arXiv:1810.02340, equation 6.
    """
    model = context.problem.model()
    model.eval()
    weights = dict(model.named_parameters())
    for batch in context.problem.batches(examples):
        context.problem.loss(model, batch).backward()
    with torch.no_grad():
        return {name: (weights[name] * weights[name].grad).abs() for name in mask}


connection.needs = "data"
