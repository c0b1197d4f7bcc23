"""A score of the weights alone: how far a weight has come from where it started."""


def drift(state, mask, context):
    """Score a weight by |w - w at the rewind point|.

    Source:
        Zhou et al. 2019, arXiv:1905.01067, section 2.2: the criterion "movement".
    """
    start = context.rewind_point
    return {name: (state[name] - start[name]).abs() for name in mask}
