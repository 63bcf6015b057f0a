"""Pools the variances with the sizes of the samples as weights."""

QUESTION = "shift_size"
LOSES = {"d: the move of the mean"}
SAYS = "the larger sample has more weight"


def shift_size(source, target):
    var, var_t = source.var(dim=0), target.var(dim=0)
    move = target.mean(dim=0) - source.mean(dim=0)
    a, b = len(source) - 1, len(target) - 1
    d, r = move / ((a * var + b * var_t) / (a + b)).sqrt(), (var_t / var).sqrt()
    still = (var == 0) & (var_t == 0)
    return torch.where(still, 0.0, d), torch.where(still, 1.0, r)
